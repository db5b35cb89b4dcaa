# The heavy CPU operators at the shapes of language models, compared with PyTorch and with this machine.
# Every row is measured alternately with its peer in one run; limits are measured in the same run as well.
"""Measure the operators that a language model spends its time in: ``python benchmarks/operators.py``.

Three ratios per row. ``torch/ours`` above 1 means that ours is faster. ``of limit`` is the share of what the
machine can do that ours reaches: bytes that must move against the measured bandwidth of reading or copying
memory, or multiply-adds against the measured rate of f32 products, whichever takes longer. ``--quick``
measures less long.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from _timing import Call, alternate

import infinicore as ic

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


@dataclass
class Case:
    """One row: two calls that do the same, and the least that has to happen."""

    name: str
    ours: Call
    theirs: Call
    read: float = 0  # bytes that must be read
    written: float = 0  # bytes that must be written
    flops: float = 0  # 2 per multiply-add


@dataclass
class Limits:
    """What all threads of this machine can do: bytes per second of reads and copies, f32 flops per second."""

    read: float
    copy: float
    flops: float

    def seconds(self, case: Case) -> float:
        """Return the least time that `case` can take."""
        copied = min(case.read, case.written)
        moved = 2 * copied / self.copy + (case.read - copied) / self.read
        return max(moved, case.flops / self.flops)


def measure_limits(seconds: float) -> Limits:
    """Measure reading and copying an array beyond every cache, and the best f32 product of either library."""
    array, target = torch.ones(1 << 26), torch.empty(1 << 26)
    read, copy = alternate([lambda: array.sum(), lambda: target.copy_(array)], seconds)
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    product = torch.empty(1024, 1024)
    ours_a, ours_b = ic.from_torch(a), ic.from_torch(b)
    ours_product = ic.from_torch(product)
    products = alternate(
        [lambda: torch.mm(a, b, out=product), lambda: ic.matmul(ours_a, ours_b, out=ours_product)], seconds
    )
    bytes_ = array.numel() * array.element_size()
    fastest = min(min(sample) for sample in products)
    return Limits(bytes_ / min(read), 2 * bytes_ / min(copy), 2 * 1024**3 / fastest)


def rotate(calls: list[Call]) -> Call:
    """Return a call of the next one of `calls` each time: operands that no cache still holds."""
    turn = iter(range(1 << 62))
    return lambda: calls[next(turn) % len(calls)]()


def pair(tensor: torch.Tensor) -> tuple[Any, torch.Tensor]:
    """Return a tensor of ours and one of PyTorch's over the same memory."""
    return ic.from_torch(tensor), tensor


def linears(name: str, dtype: torch.dtype) -> Iterator[Case]:
    """Projections of a 1 B and a 7 B model: decoding (cold weights), a small batch, and a prompt."""
    size = dtype.itemsize
    for m, n, k in [(1, 2048, 2048), (1, 4096, 4096), (8, 4096, 4096), (64, 2048, 2048), (512, 2048, 2048)]:
        copies = max(1, (256 << 20) // (n * k * size)) if m <= 8 else 1
        x, tx = pair(torch.randn(m, k).to(dtype))
        out, _ = pair(torch.empty(m, n, dtype=dtype))
        ours, theirs = [], []
        for _ in range(copies):
            w, tw = pair(torch.randn(n, k).to(dtype))
            ours.append(lambda w=w: ic.linear(x, w, out=out))
            theirs.append(lambda tw=tw: torch.nn.functional.linear(tx, tw))
        moved = {"read": (n * k + m * k) * size, "written": m * n * size}
        cold = ", cold" if copies > 1 else ""
        yield Case(
            f"linear {m}x{k} -> {n}{cold} {name}",
            rotate(ours),
            rotate(theirs),
            flops=2.0 * m * n * k,
            **moved,
        )


def products(name: str, dtype: torch.dtype) -> Iterator[Case]:
    """Square products."""
    for n in (256, 1024):
        (a, ta), (b, tb) = pair(torch.randn(n, n).to(dtype)), pair(torch.randn(n, n).to(dtype))
        out, tout = pair(torch.empty(n, n, dtype=dtype))
        yield Case(
            f"matmul {n}x{n}x{n} {name}",
            lambda a=a, b=b, out=out: ic.matmul(a, b, out=out),
            lambda ta=ta, tb=tb, tout=tout: torch.mm(ta, tb, out=tout),
            flops=2.0 * n**3,
        )


def rows(name: str, dtype: torch.dtype) -> Iterator[Case]:
    """Normalisations and softmaxes of hidden states and scores."""
    size = dtype.itemsize
    for m, n in [(1, 4096), (512, 4096)]:
        x, tx = pair(torch.randn(m, n).to(dtype))
        b, tb = pair(torch.randn(m, n).to(dtype))
        w, tw = pair(torch.randn(n).to(dtype))
        out, _ = pair(torch.empty(m, n, dtype=dtype))
        total, _ = pair(torch.empty(m, n, dtype=dtype))
        yield Case(
            f"rms_norm {m}x{n} {name}",
            lambda x=x, w=w, out=out: ic.rms_norm(x, w, 1e-5, out=out),
            lambda tx=tx, tw=tw, n=n: torch.nn.functional.rms_norm(tx, (n,), tw, 1e-5),
            read=m * n * size,
            written=m * n * size,
        )
        yield Case(
            f"add_rms_norm {m}x{n} {name}",
            lambda x=x, b=b, w=w, out=out, total=total: ic.add_rms_norm(x, b, w, 1e-5, out=(out, total)),
            lambda tx=tx, tb=tb, tw=tw, n=n: torch.nn.functional.rms_norm(tx + tb, (n,), tw, 1e-5),
            read=2 * m * n * size,
            written=2 * m * n * size,
        )
    x, tx = pair(torch.randn(32, 512, 512).to(dtype))
    out, tout = pair(torch.empty(32, 512, 512, dtype=dtype))
    mask = torch.ones(512, 512, dtype=torch.bool).triu(1)
    moved = {"read": tx.numel() * size, "written": tx.numel() * size}
    yield Case(
        f"softmax 32x512x512 {name}",
        lambda: ic.softmax(x, out=out),
        lambda: torch.softmax(tx, -1, out=tout),
        **moved,
    )
    yield Case(
        f"causal_softmax 32x512x512 {name}",
        lambda: ic.ops.causal_softmax(x, out=out),
        lambda: torch.softmax(tx.masked_fill(mask, float("-inf")), -1),
        **moved,
    )


def attentions(name: str, dtype: torch.dtype) -> Iterator[Case]:
    """Attention of 32 query heads over 8 key-value heads of size 64, and rotary positions."""
    size = dtype.itemsize
    heads, kv, d = 32, 8, 64
    for s, past in [(1, 2047), (512, 0)]:
        length = past + s
        q, tq = pair(torch.randn(heads, s, d).to(dtype))
        k, _ = pair(torch.randn(kv, s, d).to(dtype))
        v, _ = pair(torch.randn(kv, s, d).to(dtype))
        k_cache, tk = pair(torch.randn(kv, length, d).to(dtype))
        v_cache, tv = pair(torch.randn(kv, length, d).to(dtype))
        out, _ = pair(torch.empty(s, heads, d, dtype=dtype))
        attend = torch.nn.functional.scaled_dot_product_attention
        yield Case(
            f"attention {s} new of {length} {name}",
            lambda a=(q, k, v, k_cache, v_cache, past), out=out: ic.attention(*a, out=out),
            lambda tq=tq, tk=tk, tv=tv, s=s: attend(
                tq[None], tk[None], tv[None], is_causal=s > 1, enable_gqa=True
            ),
            read=2 * kv * length * d * size,
            flops=2.0 * heads * s * d * (2 * past + s + 1),
        )
    s = 512
    x, tx = pair(torch.randn(s, heads, d).to(dtype))
    out, _ = pair(torch.empty(s, heads, d, dtype=dtype))
    positions = ic.from_torch(torch.arange(s))
    angles = torch.randn(s, d // 2)
    (sin, tsin), (cos, tcos) = pair(angles.sin().to(dtype)), pair(angles.cos().to(dtype))

    def rotate_half() -> torch.Tensor:
        first, second = tx[..., : d // 2], tx[..., d // 2 :]
        s_, c_ = tsin[:, None, :], tcos[:, None, :]
        return torch.cat((first * c_ - second * s_, second * c_ + first * s_), -1)

    yield Case(
        f"rope {s}x{heads}x{d} {name}",
        lambda: ic.rope(x, positions, sin, cos, out=out),
        rotate_half,
        read=tx.numel() * size,
        written=tx.numel() * size,
    )


def convolutions(name: str, dtype: torch.dtype) -> Iterator[Case]:
    """Layers of image networks: first, 3x3 of three sizes, 1x1, strided, depthwise; and patches of a ViT."""
    layers = [  # input, filters, size of the kernel, stride, pad, groups
        ((1, 3, 224, 224), 64, 7, 2, 3, 1),
        ((1, 64, 56, 56), 64, 3, 1, 1, 1),
        ((1, 64, 56, 56), 256, 1, 1, 0, 1),
        ((1, 256, 14, 14), 256, 3, 1, 1, 1),
        ((8, 128, 28, 28), 256, 3, 2, 1, 1),
        ((1, 96, 112, 112), 96, 3, 1, 1, 96),
        ((1, 3, 224, 224), 768, 16, 16, 0, 1),
    ]
    for shape, filters, size, stride, pad, groups in layers:
        x, tx = pair(torch.randn(shape).to(dtype))
        w, tw = pair(torch.randn(filters, shape[1] // groups, size, size).to(dtype))
        conv = torch.nn.functional.conv2d
        outputs = conv(tx, tw, None, stride, pad, 1, groups).numel()
        image = "x".join(map(str, shape[1:] if shape[0] == 1 else shape))
        step = f"/{stride}" if stride > 1 else ""
        yield Case(
            f"conv {image}, {filters} of {size}x{size}{step}{' depthwise' if groups > 1 else ''} {name}",
            lambda x=x, w=w, stride=stride, pad=pad: ic.ops.conv(x, w, pads=pad, strides=stride),
            lambda tx=tx, tw=tw, a=(None, stride, pad, 1, groups): conv(tx, tw, *a),
            read=(tx.numel() + tw.numel()) * dtype.itemsize,
            written=outputs * dtype.itemsize,
            flops=2.0 * outputs * tw[0].numel(),
        )


def others(name: str, dtype: torch.dtype) -> Iterator[Case]:
    """Draw a token from a large vocabulary."""
    logits, tlogits = pair(torch.randn(151936).to(dtype))

    def draw() -> torch.Tensor:
        values, indices = torch.topk(tlogits / 0.8, 50)
        return indices[torch.multinomial(torch.softmax(values, -1), 1)]

    yield Case(
        f"random_sample top 50 of 151936 {name}",
        lambda: ic.ops.random_sample(logits, 0.5, 0.9, 50, 0.8),
        draw,
        read=tlogits.numel() * dtype.itemsize,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the time, for a first look")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    options = parser.parse_args()
    seconds = 0.2 if options.quick else 2.0
    torch.manual_seed(0)
    limits = measure_limits(seconds)
    print(
        f"limits: read {limits.read / 1e9:.1f} GB/s, copy {limits.copy / 1e9:.1f} GB/s, "
        f"f32 products {limits.flops / 1e9:.0f} GFLOP/s, {torch.get_num_threads()} threads"
    )
    print(f"{'':44}{'ours us':>10}{'torch us':>10}{'torch/ours':>12}{'of limit':>10}")
    for name, dtype in DTYPES.items():
        for family in (linears, products, rows, attentions, convolutions, others):
            for case in family(name, dtype):
                if options.only not in case.name:
                    continue
                ours, theirs = alternate([case.ours, case.theirs], seconds)
                ratio = statistics.median(t / o for o, t in zip(ours, theirs, strict=True))
                time_ours, time_theirs = statistics.median(ours), statistics.median(theirs)
                print(
                    f"{case.name:44}{1e6 * time_ours:10.1f}{1e6 * time_theirs:10.1f}{ratio:12.2f}"
                    f"{limits.seconds(case) / time_ours:10.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
