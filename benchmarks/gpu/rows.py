# The rows of the table: what is called, on which tensors, what it must move or multiply at least, and which
# ratio it has to reach. Shapes are those of a Llama of 8 billion parameters.
"""Rows of the GPU benchmark."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from measuring import Maker, Pair

import infinicore as ic

COPY, TORCH = "copy", "torch"  # what a target is a share of: the bandwidth of a copy, PyTorch's speed


@dataclass(frozen=True)
class Sizes:
    """How large everything is."""

    mib: int = 256  # of the largest tensor of a memory-bound row
    hidden: int = 4096
    vocabulary: int = 128256
    heads: int = 32
    kv_heads: int = 8
    head: int = 128
    products: tuple[int, ...] = (4096, 8192)
    weights: tuple[tuple[int, int], ...] = (
        (6144, 4096),
        (4096, 4096),
        (28672, 4096),
        (4096, 14336),
        (128256, 4096),
    )
    tokens: tuple[int, ...] = (1, 2, 4, 8, 16)
    sequences: int = 64
    context: int = 4096
    page: int = 16
    prompts: tuple[int, int] = (8, 2048)
    layers: int = 32
    step_sequences: int = 8
    step_context: int = 1024
    working_set: int = 512 << 20
    flush: int = 256 << 20
    host_calls: int = 16

    @property
    def numbers(self) -> int:
        """How many 2-byte elements the largest tensor has."""
        return (self.mib << 20) // 2


SMOKE = Sizes(
    mib=0, hidden=64, vocabulary=50, heads=4, kv_heads=2, head=16, products=(48,), weights=((40, 64),),
    tokens=(1, 3), sequences=3, context=40, page=8, prompts=(2, 24), layers=2, step_sequences=2,
    step_context=24, working_set=1 << 16, flush=1 << 12,
)  # fmt: skip


@dataclass
class Row:
    """One row of the table.

    Attributes
    ----------
    group, name, size : str
        Where it belongs, what is called, and on what.
    tensors : callable
        Makes one set of arguments.
    ours, theirs : callable
        The call, with our tensors; and what PyTorch does instead, with `torch` and its tensors.
    moved, flops : float
        The fewest bytes of memory traffic; two per multiply-add.
    target : tuple
        A share of COPY or TORCH.
    results : tuple of int
        Which arguments hold the result.
    prepare : callable, optional
        Makes of PyTorch's tensors what `theirs` gets: what belongs to its data's layout, not to the call.
    """

    group: str
    name: str
    size: str
    tensors: Callable[[Maker], list[Pair]]
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    moved: float = 0
    flops: float = 0
    target: tuple[str, float] | None = None
    results: tuple[int, ...] = (-1,)
    prepare: Callable[..., tuple[Any, ...]] | None = None
    slack: float = 1.0
    notes: str = field(default="", repr=False)

    def peer_arguments(self, torch: Any, tensors: list[Any]) -> tuple[Any, ...]:
        """Return what `theirs` gets besides `torch`."""
        return tuple(tensors) if self.prepare is None else self.prepare(torch, *tensors)


def rows(sizes: Sizes) -> Iterator[Row]:
    """Yield all rows, the quickest lesson first."""
    yield from elementwise(sizes)
    yield from row_wise(sizes)
    yield from moving(sizes)
    yield from products(sizes)
    yield from decoding(sizes)
    yield from attention(sizes)


# ---- bound by memory ---------------------------------------------------------------------------------------


def turned(t: Any, x: Any, positions: Any, sine: Any, cosine: Any, _out: Any = None) -> Any:
    """Rotate as models in eager PyTorch do."""
    cos, sin = (table[positions][:, None, :].to(x.dtype) for table in (cosine, sine))
    first, second = x.chunk(2, -1)
    return t.cat((first * cos - second * sin, first * sin + second * cos), -1)


def elementwise(s: Sizes) -> Iterator[Row]:
    n = s.hidden
    shape = max(3, s.numbers // n), n
    size, bytes_ = f"{shape[0]}x{n}", 2.0 * shape[0] * n

    def row(name: str, inputs: int, ours: Any, theirs: Any, passes: float, dtype: str = "") -> Row:
        tensors = lambda m: [*(m.random(*shape) for _ in range(inputs)), m.empty(*shape, dtype=dtype)]
        return Row("memory", name, size, tensors, ours, theirs, passes * bytes_, target=(COPY, 0.9))

    yield row("add", 2, lambda a, b, o: ic.add(a, b, out=o), lambda t, a, b, o: t.add(a, b), 3)
    yield row("mul", 2, lambda a, b, o: ic.mul(a, b, out=o), lambda t, a, b, o: t.mul(a, b), 3)
    yield row("silu", 1, lambda a, o: ic.silu(a, out=o), lambda t, a, o: t.nn.functional.silu(a), 2)
    yield row("swiglu", 2, lambda up, gate, o: ic.swiglu(up, gate, out=o),
              lambda t, up, gate, o: t.nn.functional.silu(gate) * up, 3)  # fmt: skip
    yield row("cast to f32", 1, lambda a, o: ic.cast(a, out=o), lambda t, a, o: a.to(t.float32), 3, "float32")
    half = shape[0] // 2 + 1
    halves: dict[str, Any] = {
        "swiglu of the halves of rows": lambda x, o: ic.swiglu(x.narrow(1, n, n), x.narrow(1, 0, n), out=o),
        "silu_and_mul": lambda x, o: ic.silu_and_mul(x, o),
    }
    for name, ours in halves.items():
        yield Row(
            "memory",
            name,
            f"{half}x{2 * n}",
            lambda m: [m.random(half, 2 * n), m.empty(half, n)],
            ours,
            lambda t, x, o: t.nn.functional.silu(x[:, :n]) * x[:, n:],
            2.0 * half * n * 3,
            target=(COPY, 0.9),
        )
    yield Row(
        "memory",
        "cast from f32",
        size,
        lambda m: [m.random(*shape, dtype="float32"), m.empty(*shape)],
        lambda x, o: ic.cast(x, out=o),
        lambda t, x, o: x.to(o.dtype),
        3 * bytes_,
        target=(COPY, 0.9),
    )


def row_wise(s: Sizes) -> Iterator[Row]:
    n = s.hidden
    shape = max(3, s.numbers // n), n
    size, bytes_ = f"{shape[0]}x{n}", 2.0 * shape[0] * n
    norm = lambda t, x, w: t.nn.functional.rms_norm(x, (n,), w, 1e-5)
    yield Row(
        "memory",
        "rms_norm",
        size,
        lambda m: [m.random(*shape), m.random(n), m.empty(*shape)],
        lambda x, w, o: ic.rms_norm(x, w, 1e-5, out=o),
        lambda t, x, w, o: norm(t, x, w),
        2 * bytes_,
        target=(COPY, 0.9),
    )

    def add_then_norm(t: Any, a: Any, b: Any, w: Any, *_outs: Any) -> tuple[Any, Any]:
        total = a + b
        return norm(t, total, w), total

    yield Row(
        "memory",
        "add_rms_norm",
        size,
        lambda m: [m.random(*shape), m.random(*shape), m.random(n), m.empty(*shape), m.empty(*shape)],
        lambda a, b, w, o, r: ic.add_rms_norm(a, b, w, 1e-5, out=(o, r)),
        add_then_norm,
        4 * bytes_,
        target=(COPY, 0.9),
        results=(-2, -1),
    )
    yield Row(
        "memory",
        "layer_norm, with the standardised input",
        size,
        lambda m: [
            *(m.random(*shape), m.random(n), m.random(n)),
            *(m.empty(*shape), m.empty(*shape), m.empty(shape[0])),
        ],
        lambda x, w, b, o, standard, deviation: ic.layer_norm(x, w, b, 1e-5, out=(o, standard, deviation)),
        lambda t, x, w, b, *_outs: t.nn.functional.layer_norm(x, (n,), w, b, 1e-5),
        3 * bytes_,
        target=(COPY, 0.9),
        results=(-3,),
    )
    yield Row(
        "memory",
        "softmax",
        size,
        lambda m: [m.random(*shape), m.empty(*shape)],
        lambda x, o: ic.softmax(x, -1, out=o),
        lambda t, x, o: t.softmax(x, -1),
        2 * bytes_,
        target=(COPY, 0.9),
    )
    square = max(1, s.numbers // (n * n)), n, n
    yield Row(
        "memory",
        "causal_softmax",
        "x".join(map(str, square)),
        lambda m: [m.random(*square), m.empty(*square)],
        lambda x, o: ic.causal_softmax(x, o),
        lambda t, x, hidden: t.softmax(x.masked_fill(hidden, -math.inf), -1),
        1.5 * 2 * math.prod(square),  # what a row sees is read, all is written
        target=(COPY, 0.9),
        prepare=lambda t, x, o: (x, t.ones((n, n), dtype=t.bool, device=x.device).triu(1)),
    )


def moving(s: Sizes) -> Iterator[Row]:
    n, heads, d = s.hidden, s.heads, s.head
    tokens = max(3, s.numbers // (heads * d))
    yield Row(
        "memory",
        "rope",
        f"{tokens}x{heads}x{d}",
        lambda m: [
            m.random(tokens, heads, d),
            m.array(np.arange(tokens) % 4096),
            *(m.random(4096, d // 2, dtype="float32", scale=0.5) for _ in range(2)),
            m.empty(tokens, heads, d),
        ],
        lambda x, positions, sine, cosine, o: ic.rope(x, positions, sine, cosine, out=o),
        turned,
        2.0 * tokens * heads * d * 2,
        target=(COPY, 0.9),
    )
    rows_ = max(3, s.numbers // n)
    yield Row(
        "memory",
        "embedding",
        f"{rows_} of {s.vocabulary}x{n}",
        lambda m: [
            m.array(m.random_.integers(0, s.vocabulary, rows_)),
            m.random(s.vocabulary, n),
            m.empty(rows_, n),
        ],
        lambda i, table, o: ic.embedding(i, table, out=o),
        lambda t, i, table, o: t.nn.functional.embedding(i, table),
        2.0 * rows_ * n * 2,
        target=(COPY, 0.9),
    )
    kv, past, batch = s.kv_heads, 16, min(64, max(1, rows_))
    new = max(2, s.numbers // (batch * kv * d * 2))

    def append(_t: Any, k_cache: Any, v_cache: Any, k: Any, v: Any, _past: Any) -> tuple[Any, Any]:
        k_cache[:, :, past : past + new] = k
        v_cache[:, :, past : past + new] = v
        return k_cache, v_cache

    yield Row(
        "memory",
        "kv_caching",
        f"{batch}x{kv}x{new}x{d}",
        lambda m: [
            *(m.random(batch, kv, new + 2 * past, d) for _ in range(2)),
            *(m.random(batch, kv, new, d) for _ in range(2)),
            m.array(np.full(batch, past, np.int32)),
        ],
        lambda k_cache, v_cache, k, v, lengths: ic.kv_caching(k_cache, v_cache, k, v, lengths),
        append,
        2.0 * batch * kv * new * d * 4,
        target=(COPY, 0.9),
        results=(0, 1),
    )
    count = max(5, s.numbers // (kv * d * 2))
    pages = -(-count // s.page) + 2

    def scatter(_t: Any, k_cache: Any, v_cache: Any, k: Any, v: Any, slots: Any) -> tuple[Any, Any]:
        page, place = slots // s.page, slots % s.page
        k_cache[page, :, place] = k
        v_cache[page, :, place] = v
        return k_cache, v_cache

    yield Row(
        "memory",
        "paged_caching",
        f"{count}x{kv}x{d}",
        lambda m: [
            *(m.random(pages, kv, s.page, d) for _ in range(2)),
            *(m.random(count, kv, d) for _ in range(2)),
            m.array(m.random_.permutation(pages * s.page)[:count]),
        ],
        lambda k_cache, v_cache, k, v, slots: ic.paged_caching(k_cache, v_cache, k, v, slots),
        scatter,
        2.0 * count * kv * d * 4,
        target=(COPY, 0.9),
        results=(0, 1),
    )
    yield Row(
        "other",
        "rearrange: a transposed copy",
        f"{n}x{rows_}",
        lambda m: [m.random(rows_, n), m.empty(n, rows_)],
        lambda x, o: ic.rearrange(x.t(), out=o),
        lambda t, x, o: x.t().contiguous(),
        2.0 * rows_ * n * 2,
    )


# ---- matrix products ---------------------------------------------------------------------------------------


def products(s: Sizes) -> Iterator[Row]:
    for n in s.products:
        yield Row(
            "gemm",
            "matmul",
            f"{n}x{n}x{n}",
            lambda m, n=n: [m.random(n, n), m.random(n, n), m.empty(n, n)],
            lambda a, b, o: ic.matmul(a, b, out=o),
            lambda t, a, b, o: t.matmul(a, b, out=o),
            flops=2.0 * n**3,
            target=(TORCH, 0.97),
        )


def decoding(s: Sizes) -> Iterator[Row]:
    for n, k in s.weights:
        for m in s.tokens:
            yield Row(
                "decode",
                f"linear, m={m}",
                f"{n}x{k}",
                lambda make, m=m, n=n, k=k: [
                    make.random(m, k),
                    make.random(n, k, scale=k**-0.5),
                    make.empty(m, n),
                ],
                lambda x, w, o: ic.linear(x, w, out=o),
                lambda t, x, w, o: t.nn.functional.linear(x, w),
                2.0 * (n * k + m * k + m * n),
                2.0 * m * n * k,
                (COPY, 0.85),
            )


# ---- attention ---------------------------------------------------------------------------------------------


def dense(cache: Any, table: Any) -> Any:
    """Gather the pages of each sequence: (sequences, heads, tokens, size)."""
    pages = cache[table].permute(0, 2, 1, 3, 4)
    return pages.reshape(pages.shape[0], pages.shape[1], -1, pages.shape[-1])


def page_table(m: Maker, s: Sizes, sequences: int, context: int) -> np.ndarray:
    each = -(-context // s.page)
    return m.random_.permutation(sequences * each).reshape(sequences, each)


def attention(s: Sizes) -> Iterator[Row]:
    b, heads, kv, d, scale = s.sequences, s.heads, s.kv_heads, s.head, s.head**-0.5
    pages = b * -(-s.context // s.page)
    attend = lambda t, q, k, v, **how: t.nn.functional.scaled_dot_product_attention(
        q, k, v, enable_gqa=True, **how
    )
    yield Row(
        "decode attention",
        "paged_attention",
        f"{b} sequences of {s.context}, {heads}/{kv} heads of {d}",
        lambda m: [
            m.random(b, heads, d),
            *(m.random(pages, kv, s.page, d) for _ in range(2)),
            m.array(page_table(m, s, b, s.context)),
            m.array(np.full(b, s.context, np.int64)),
            m.empty(b, heads, d),
        ],
        lambda q, k, v, table, lengths, o: ic.paged_attention(q, k, v, table, lengths, None, scale, out=o),
        lambda t, q, k, v: attend(t, q, k, v)[:, :, 0],
        2.0 * (2 * b * s.context * kv * d + 2 * b * heads * d),
        target=(COPY, 0.85),
        prepare=lambda t, q, k, v, table, lengths, o: (q[:, :, None], dense(k, table), dense(v, table)),
    )
    b, length = s.prompts
    size, flops = f"{b} prompts of {length}, {heads}/{kv} heads of {d}", 2.0 * b * heads * length**2 * d
    yield Row(
        "prefill",
        "scaled_dot_product_attention, causal",
        size,
        lambda m: [
            m.random(b, heads, length, d),
            *(m.random(b, kv, length, d) for _ in range(2)),
            m.empty(b, heads, length, d),
        ],
        lambda q, k, v, o: ic.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True, out=o),
        lambda t, q, k, v, o: attend(t, q, k, v, is_causal=True),
        flops=flops,
        target=(TORCH, 0.9),
    )
    pages = b * -(-length // s.page)
    yield Row(
        "prefill",
        "paged_attention_prefill",
        size,
        lambda m: [
            m.random(b * length, heads, d),
            *(m.random(pages, kv, s.page, d) for _ in range(2)),
            m.array(page_table(m, s, b, length)),
            m.array(np.zeros(b, np.int64)),
            m.array(np.arange(b + 1) * length),
            m.empty(b * length, heads, d),
        ],
        lambda q, k, v, table, past, cuts, o: ic.paged_attention_prefill(
            q, k, v, table, past, cuts, None, scale, out=o
        ),
        lambda t, q, k, v: attend(t, q, k, v, is_causal=True).transpose(1, 2).reshape(-1, heads, d),
        flops=flops,
        target=(TORCH, 0.9),
        prepare=lambda t, q, k, v, table, *_: (
            q.view(b, length, heads, d).transpose(1, 2),
            *(dense(cache, table)[:, :, :length] for cache in (k, v)),
        ),
    )


# ---- the host ----------------------------------------------------------------------------------------------


def calls(sizes: Sizes) -> Iterator[Row]:
    """Yield calls on so little that only the host's time counts."""
    n = sizes.host_calls
    three = lambda m: [m.random(n, n), m.random(n, n), m.empty(n, n)]
    target = (TORCH, 2.0)
    yield Row("host", "add(a, b, out=c)", f"{n}x{n}", three, lambda a, b, o: ic.add(a, b, out=o),
              lambda t, a, b, o: t.add(a, b, out=o), target=target)  # fmt: skip
    yield Row("host", "matmul(a, b, out=c)", f"{n}x{n}x{n}", three, lambda a, b, o: ic.matmul(a, b, out=o),
              lambda t, a, b, o: t.matmul(a, b, out=o), target=target)  # fmt: skip
    yield Row(
        "host",
        "rms_norm(x, w)",
        f"{n}x{n}",
        lambda m: [m.random(n, n), m.random(n), m.empty(n, n)],
        lambda x, w, o: ic.rms_norm(x, w, 1e-5, out=o),
        lambda t, x, w, o: t.nn.functional.rms_norm(x, (n,), w, 1e-5),
        target=target,
    )
