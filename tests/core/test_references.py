# The NumPy bodies of the operators against PyTorch, in float64: what every kernel is compared with must be
# right itself. Shapes, dimensions and scalars are drawn; each operator has one witness.
"""Reference bodies agree with PyTorch."""

from __future__ import annotations

import copy
import warnings

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import infinicore.ops  # noqa: F401  (registers the operators)
from infinicore.errors import InvalidArgument, OutOfRange
from infinicore.schema import OPERATORS, Spec

WITNESSES = {}
SHORT = {"float64": "f64", "float32": "f32", "int64": "i64", "int32": "i32", "int8": "i8", "bool": "bool"}


def witness(name):
    """Register the witness of operator `name`: ``(draw, rng, torch) -> (slots, expected outputs)``."""

    def register(function):
        WITNESSES[name] = function
        return function

    return register


def sizes(draw, count, low=0, high=5):
    return [draw(st.integers(low, high)) for _ in range(count)]


def shapes(draw, low=0, max_dims=3):
    return tuple(draw(st.lists(st.integers(low, 5), max_size=max_dims)))


def tensor(torch, array):
    return torch.from_numpy(np.array(array, order="C"))


# ---- elementwise -------------------------------------------------------------------------------------------


def binary(name, function, values=None):
    """Two operands that broadcast, drawn from `values` or the normal distribution."""

    @witness(name)
    def check(draw, rng, torch):
        shape = shapes(draw)
        operands = []
        for _ in range(2):
            mine = tuple(1 if draw(st.booleans()) else size for size in shape)
            operands.append(
                np.asarray(rng.standard_normal(mine) if values is None else rng.choice(values, mine))
            )
        a, b = operands
        return {"input": a, "other": b}, [function(torch)(tensor(torch, a), tensor(torch, b))]


SPECIAL = [-np.inf, -2.0, -0.0, 0.0, 1.0, 3.5, np.inf, np.nan]
binary("add", lambda torch: torch.add, SPECIAL)
binary("sub", lambda torch: torch.sub, SPECIAL)
binary("mul", lambda torch: torch.mul, SPECIAL)
binary("div", lambda torch: torch.div, SPECIAL)
binary("pow", lambda torch: torch.pow, SPECIAL)
binary("equal", lambda torch: torch.eq, SPECIAL)
binary("not_equal", lambda torch: torch.ne, SPECIAL)
binary("less", lambda torch: torch.lt, SPECIAL)
binary("less_equal", lambda torch: torch.le, SPECIAL)
binary("greater", lambda torch: torch.gt, SPECIAL)
binary("greater_equal", lambda torch: torch.ge, SPECIAL)
binary("logical_and", lambda torch: torch.logical_and, SPECIAL)
binary("logical_or", lambda torch: torch.logical_or, SPECIAL)
binary("logical_xor", lambda torch: torch.logical_xor, SPECIAL)
binary("maximum", lambda torch: torch.maximum, SPECIAL)
binary("minimum", lambda torch: torch.minimum, SPECIAL)
binary("swiglu", lambda torch: lambda a, b: a * torch.nn.functional.silu(b))


def unary(name, function, slot="input", values=None):
    @witness(name)
    def check(draw, rng, torch):
        shape = shapes(draw)
        x = rng.standard_normal(shape) * 50 if values is None else rng.choice(values, shape)
        return {slot: np.asarray(x)}, [function(torch)(tensor(torch, np.asarray(x)))]


unary("neg", lambda torch: torch.neg, values=SPECIAL)
unary("abs", lambda torch: torch.abs, values=SPECIAL)
unary("gelu", lambda torch: torch.nn.functional.gelu)
unary("gelu_tanh", lambda torch: lambda x: torch.nn.functional.gelu(x, approximate="tanh"))
unary("hardswish", lambda torch: torch.nn.functional.hardswish, values=SPECIAL)
unary("quick_gelu", lambda torch: lambda x: x * torch.sigmoid(1.702 * x))
unary("relu", lambda torch: torch.relu, values=SPECIAL)
unary("sigmoid", lambda torch: torch.sigmoid)
unary("silu", lambda torch: torch.nn.functional.silu)
unary("tanh", lambda torch: torch.tanh)
unary("ceil", lambda torch: torch.ceil, values=[*SPECIAL, -0.5, 2.5])
unary("exp", lambda torch: torch.exp, values=SPECIAL)
unary("floor", lambda torch: torch.floor, values=[*SPECIAL, -0.5, 2.5])
unary("log", lambda torch: torch.log, values=SPECIAL)
unary("logical_not", lambda torch: torch.logical_not, values=SPECIAL)
unary("reciprocal", lambda torch: torch.reciprocal, values=SPECIAL)
unary("round", lambda torch: torch.round, values=[*SPECIAL, -0.5, 0.5, 1.5, 2.5])
unary("rsqrt", lambda torch: torch.rsqrt, values=SPECIAL)
unary("silu", lambda torch: torch.nn.functional.silu)
unary("sqrt", lambda torch: torch.sqrt, values=SPECIAL)
unary("zeros", lambda torch: torch.zeros_like, "x")
unary("ones", lambda torch: torch.ones_like, "x")
unary("rearrange", lambda torch: torch.clone, "src", SPECIAL)


def parametric(name, scalars):
    """An activation of torch.nn.functional with the same scalars, drawn from the values given for each."""

    @witness(name)
    def check(draw, rng, torch):
        x = np.asarray(rng.choice([*SPECIAL, -30.0, -0.4, 0.3, 0.7, 18.0, 45.0], shapes(draw)))
        said = {scalar: draw(st.sampled_from(values)) for scalar, values in scalars.items()}
        return {"input": x, **said}, [getattr(torch.nn.functional, name)(tensor(torch, x), **said)]


parametric("elu", {"alpha": [1.0, 0.25, -2.0]})
parametric("hardtanh", {"min_val": [-1.0, 0.0], "max_val": [0.5, 3.0]})
parametric("leaky_relu", {"negative_slope": [0.01, 0.0, -0.5]})
parametric("softplus", {"beta": [1.0, 0.5, 3.0], "threshold": [20.0, 1.0]})


@witness("silu_and_mul")
def check_silu_and_mul(draw, rng, torch):
    x = rng.standard_normal((*shapes(draw), 2 * draw(st.integers(0, 4))))
    gate, value = tensor(torch, x).chunk(2, -1)
    return {"input": x}, [torch.nn.functional.silu(gate) * value]


@witness("where")
def check_where(draw, rng, torch):
    shape = shapes(draw)
    narrow = [tuple(1 if draw(st.booleans()) else size for size in shape) for _ in range(3)]
    condition = np.asarray(rng.integers(0, 2, narrow[0]).astype(bool))
    a, b = (np.asarray(rng.choice(SPECIAL, mine)) for mine in narrow[1:])
    expected = torch.where(*(tensor(torch, x) for x in (condition, a, b)))
    return {"condition": condition, "input": a, "other": b}, [expected]


@witness("clip")
def check_clip(draw, rng, torch):
    shape = shapes(draw)
    narrow = [tuple(1 if draw(st.booleans()) else size for size in shape) for _ in range(3)]
    x, low, high = (np.asarray(rng.choice(SPECIAL, mine)) for mine in narrow)
    low, high = np.minimum(low, 0.5), np.maximum(high, 0.5)  # where they cross, PyTorch returns the upper one
    low, high = low if draw(st.booleans()) else None, high if draw(st.booleans()) else None
    # A clamp without bounds is an error there.
    least, most = (None if bound is None else tensor(torch, bound) for bound in (low, high))
    given = tensor(torch, x)
    expected = given if low is None and high is None else torch.clamp(given, least, most)
    return {"x": x, "min_val": low, "max_val": high}, [expected]


@witness("clip_scalar")
def check_clip_scalar(draw, rng, torch):
    x = np.asarray(rng.choice(SPECIAL, shapes(draw)))
    low, high = draw(st.sampled_from([-np.inf, -1.5, 0.5])), draw(st.sampled_from([0.5, 1.5, np.inf, np.nan]))
    return {"input": x, "min_val": low, "max_val": high}, [torch.clamp(tensor(torch, x), low, high)]


KINDS = ["float64", "float32", "int64", "int32", "int8", "uint8", "bool", "complex64", "complex128"]


@witness("cast")
def check_cast(draw, rng, torch):
    source, target = draw(st.sampled_from(KINDS)), draw(st.sampled_from(KINDS))
    # Within int8: what a float outside an integer's range becomes is nobody's promise.
    shape = shapes(draw)
    x = np.asarray(rng.uniform(0, 127, shape)).astype(source)
    if x.dtype.kind == "c":
        x = np.where(rng.integers(0, 2, shape), x, 0) + np.asarray(rng.integers(0, 2, shape) * 1j, source)
    with np.errstate(all="ignore"):
        expected = tensor(torch, x).to(getattr(torch, target))
    return {"input": x, "out": np.empty(x.shape, target)}, [expected]


# ---- linear algebra ----------------------------------------------------------------------------------------


@witness("gemm")
def check_gemm(draw, rng, torch):
    m, k, n = sizes(draw, 3)
    batch = shapes(draw, low=1, max_dims=2)
    narrow = tuple(1 if draw(st.booleans()) else size for size in batch)
    a, b = rng.standard_normal((*narrow, m, k)), rng.standard_normal((*batch, k, n))
    alpha, beta = draw(st.sampled_from([1.0, -0.5])), draw(st.sampled_from([0.0, 2.0]))
    c = rng.standard_normal((*batch, m, n)) if beta else np.full((*batch, m, n), np.nan)
    product = alpha * (tensor(torch, a) @ tensor(torch, b))
    expected = product + beta * tensor(torch, c) if beta else product
    return {"c": c, "a": a, "b": b, "alpha": alpha, "beta": beta}, [expected]


@witness("linear")
def check_linear(draw, rng, torch):
    n, k = sizes(draw, 2)
    x, w = rng.standard_normal((*shapes(draw), k)), rng.standard_normal((n, k))
    b = rng.standard_normal(n) if draw(st.booleans()) else None
    alpha = draw(st.sampled_from([1.0, 0.25]))
    expected = torch.nn.functional.linear(alpha * tensor(torch, x), tensor(torch, w))
    expected = expected if b is None else expected + tensor(torch, b)
    return {"input": x, "weight": w, "bias": b, "alpha": alpha}, [expected]


@witness("conv")
def check_conv(draw, rng, torch):
    said = OPERATORS["conv"].draw(draw, st)
    x = rng.standard_normal((draw(st.integers(1, 2)), said["ic"], *said["*s"]))
    w = rng.standard_normal((said["oc"], said["icg"], *said["*k"]))
    b = rng.standard_normal(said["oc"]) if draw(st.booleans()) else None
    pads, strides, dilations = said["pads"], said["strides"], said["dilations"]
    function = getattr(torch.nn.functional, f"conv{len(pads)}d")
    bias = None if b is None else tensor(torch, b)
    groups = said["ic"] // said["icg"]
    expected = function(tensor(torch, x), tensor(torch, w), bias, strides, pads, dilations, groups)
    return {"x": x, "w": w, "b": b, "pads": pads, "strides": strides, "dilations": dilations}, [expected]


# ---- normalisation -----------------------------------------------------------------------------------------


@witness("rms_norm")
def check_rms_norm(draw, rng, torch):
    n = draw(st.integers(1, 6))
    x, w = rng.standard_normal((*shapes(draw), n)), rng.standard_normal(n)
    epsilon = draw(st.sampled_from([1e-5, 0.5]))
    expected = torch.nn.functional.rms_norm(tensor(torch, x), (n,), tensor(torch, w), epsilon)
    return {"x": x, "weight": w, "epsilon": epsilon}, [expected]


@witness("add_rms_norm")
def check_add_rms_norm(draw, rng, torch):
    n = draw(st.integers(1, 6))
    shape = (*shapes(draw), n)
    a, b, w = rng.standard_normal(shape), rng.standard_normal(shape), rng.standard_normal(n)
    total = tensor(torch, a) + tensor(torch, b)
    expected = torch.nn.functional.rms_norm(total, (n,), tensor(torch, w), 1e-3)
    return {"a": a, "b": b, "weight": w, "epsilon": 1e-3}, [expected, total]


@witness("layer_norm")
def check_layer_norm(draw, rng, torch):
    n = draw(st.integers(1, 6))
    x, w = rng.standard_normal((*shapes(draw), n)), rng.standard_normal(n)
    b = rng.standard_normal(n) if draw(st.booleans()) else None
    bias = None if b is None else tensor(torch, b)
    result, mean, scale = torch.native_layer_norm(tensor(torch, x), (n,), tensor(torch, w), bias, 1e-3)
    standard = (tensor(torch, x) - mean) * scale
    slots = {"input": x, "weight": w, "bias": b, "eps": 1e-3}
    return slots, [result, standard, scale[..., 0]]


@witness("softmax")
def check_softmax(draw, rng, torch):
    said = OPERATORS["softmax"].draw(draw, st)
    x = rng.standard_normal(said["*s"]) * 300
    return {"x": x, "axis": said["axis"]}, [torch.softmax(tensor(torch, x), said["axis"])]


@witness("logsoftmax")
def check_logsoftmax(draw, rng, torch):
    said = OPERATORS["logsoftmax"].draw(draw, st)
    x = rng.standard_normal(said["*s"]) * 300
    return {"input": x, "axis": said["axis"]}, [torch.log_softmax(tensor(torch, x), said["axis"])]


@witness("lp_norm")
def check_lp_norm(draw, rng, torch):
    said = OPERATORS["lp_norm"].draw(draw, st)
    axis, p, eps = said["axis"], said["p"], draw(st.sampled_from([1e-12, 4.0]))
    x = rng.standard_normal(said["*s"])
    expected = torch.nn.functional.normalize(tensor(torch, x), p, axis, eps)
    return {"input": x, "axis": axis, "p": p, "eps": eps}, [expected]


@witness("topksoftmax")
def check_topksoftmax(draw, rng, torch):
    said = OPERATORS["topksoftmax"].draw(draw, st)
    topk, norm = said["topk"], draw(st.booleans())
    x = rng.standard_normal((draw(st.integers(0, 4)), said["e"]))
    values, indices = torch.softmax(tensor(torch, x), -1).topk(topk, -1)
    values = values / values.sum(-1, keepdim=True) if norm else values
    return {"x": x, "topk": topk, "norm": norm}, [values, indices]


@witness("causal_softmax")
def check_causal_softmax(draw, rng, torch):
    said = OPERATORS["causal_softmax"].draw(draw, st)
    n, m = said["n"], said["m"]
    x = rng.standard_normal((*shapes(draw, max_dims=2), n, m))
    hidden = torch.ones(n, m, dtype=torch.bool).triu(m - n + 1)
    x[..., hidden.numpy()] = np.nan  # masked elements are not read
    return {"x": x}, [torch.softmax(tensor(torch, x).masked_fill(hidden, -torch.inf), -1)]


# ---- attention ---------------------------------------------------------------------------------------------


@witness("attention")
def check_attention(draw, rng, torch):
    said = OPERATORS["attention"].draw(draw, st)
    h, kv, s, length, pos = (said[name] for name in ("h", "kv", "s", "l", "pos"))
    d = draw(st.integers(1, 4))
    q, k, v = (rng.standard_normal((heads, s, d)) for heads in (h, kv, kv))
    caches = [rng.standard_normal((kv, length, d)) for _ in range(2)]
    slots = {"q": q, "k": k, "v": v, "k_cache": caches[0], "v_cache": caches[1], "pos": pos}
    after = [tensor(torch, cache.copy()) for cache in caches]
    for cache, new in zip(after, (k, v), strict=True):
        cache[:, pos : pos + s] = tensor(torch, new)
    visible = torch.ones(s, length, dtype=torch.bool).tril(pos)
    result = torch.nn.functional.scaled_dot_product_attention(
        tensor(torch, q)[None], after[0][None], after[1][None], attn_mask=visible, enable_gqa=True
    )
    return slots, [result[0].transpose(0, 1), *after]


@witness("paged_attention")
def check_paged_attention(draw, rng, torch):
    said = OPERATORS["paged_attention"].draw(draw, st)
    h, kv, nb, size, mb, scale = (said[name] for name in ("h", "kv", "nb", "bs", "mb", "scale"))
    b, d = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    q = rng.standard_normal((b, h, d))
    caches = [rng.standard_normal((nb, kv, size, d)) for _ in range(2)]
    lens = rng.integers(0, mb * size + 1, b)
    tables = rng.integers(0, nb, (b, mb))
    slopes = rng.standard_normal(h).astype(np.float32) if draw(st.booleans()) else None
    rows = []
    for i, length in enumerate(lens):
        positions = np.arange(length)
        picked = [
            tensor(torch, cache[tables[i, positions // size], :, positions % size]).transpose(0, 1)
            for cache in caches
        ]
        bias = torch.zeros(h, 1, length, dtype=torch.float64)
        if slopes is not None:
            bias += tensor(torch, slopes).double()[:, None, None] * tensor(torch, positions - (length - 1))
        row = torch.nn.functional.scaled_dot_product_attention(
            tensor(torch, q[i])[None, :, None],
            *(p[None] for p in picked),
            attn_mask=bias[None],
            scale=scale,
            enable_gqa=True,
        )
        rows.append(row[0, :, 0] if length else torch.zeros(h, d, dtype=torch.float64))
    tables = np.where(
        np.arange(mb) * size < lens[:, None], tables, -1
    )  # entries past the length are not read
    slots = {"q": q, "k_cache": caches[0], "v_cache": caches[1], "block_tables": tables, "cache_lens": lens}
    return slots | {"alibi_slopes": slopes, "scale": scale}, [torch.stack(rows)]


def attended(torch, q, k, v, scale, visible, slopes=None, own=None):
    """PyTorch's attention of ``(s, h, d)`` queries; rows of `visible` without a True give zeros."""
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    bias = torch.zeros(q.shape[1], *visible.shape, dtype=torch.float64)
    if slopes is not None:
        distance = (torch.arange(visible.shape[1]) - own[:, None]).abs()
        bias -= tensor(torch, slopes).double()[:, None, None] * distance
    bias = bias.masked_fill(~visible, -torch.inf)
    result = torch.nn.functional.scaled_dot_product_attention(q, k, v, bias, scale=scale, enable_gqa=True)
    return result[0].transpose(0, 1)


def causal(torch, s, length, diagonal):
    """``(visible, own position of each query)``."""
    own = torch.arange(s) + diagonal
    return torch.arange(length) <= own[:, None], own


def from_pages(torch, cache, table, length):
    """The first `length` rows of a cache ``(nb, bs, kv, d)`` in the order of a table."""
    positions = np.arange(length)
    return tensor(torch, cache[table[positions // cache.shape[1]], positions % cache.shape[1]])


def slopes_or_none(draw, rng, h):
    return rng.standard_normal(h).astype(np.float32) if draw(st.booleans()) else None


@witness("paged_attention_prefill")
def check_paged_attention_prefill(draw, rng, torch):
    said = OPERATORS["paged_attention_prefill"].draw(draw, st)
    h, kv, nb, size, scale, d = *(said[name] for name in ("h", "kv", "nb", "bs", "scale")), 3
    cuts, history = (np.array(said[name].items, np.int64) for name in ("cu_seqlens_q", "history_lens"))
    q, slopes = rng.standard_normal((said["t"], h, d)), slopes_or_none(draw, rng, h)
    caches = [rng.standard_normal((nb, kv, size, d)) for _ in range(2)]
    tables = rng.integers(0, nb, (said["b"], said["mb"]))
    expected = torch.zeros(q.shape, dtype=torch.float64)
    for i, past in enumerate(history):
        mine = slice(cuts[i], cuts[i + 1])
        s = cuts[i + 1] - cuts[i]
        k, v = (from_pages(torch, np.swapaxes(c, 1, 2), tables[i], past + s) for c in caches)
        visible, own = causal(torch, s, past + s, past)
        expected[mine] = attended(torch, tensor(torch, q[mine]), k, v, scale, visible, slopes, own)
    slots = {"q": q, "k_cache": caches[0], "v_cache": caches[1], "block_tables": tables, "scale": scale}
    return slots | {"history_lens": history, "cu_seqlens_q": cuts, "alibi_slopes": slopes}, [expected]


@witness("mha")
def check_mha(draw, rng, torch):
    said = OPERATORS["mha"].draw(draw, st)
    h, kv, scale, is_causal = said["h"], said["kv"], said["scale"], draw(st.booleans())
    b, s, length, d = sizes(draw, 4)
    q, slopes = rng.standard_normal((b, s, h, d)), slopes_or_none(draw, rng, h)
    k, v = (rng.standard_normal((b, length, kv, d)) for _ in range(2))
    visible, own = causal(torch, s, length, length - s)
    visible = visible if is_causal else torch.ones_like(visible)
    rows = [
        attended(torch, *(tensor(torch, x[i]) for x in (q, k, v)), scale, visible, slopes, own)
        for i in range(b)
    ]
    slots = {"q": q, "k": k, "v": v, "alibi_slopes": slopes, "scale": scale, "is_causal": is_causal}
    return slots, [torch.stack(rows) if rows else tensor(torch, q)]


@witness("mha_varlen")
def check_mha_varlen(draw, rng, torch):
    said = OPERATORS["mha_varlen"].draw(draw, st)
    h, kv, scale, d = said["h"], said["kv"], said["scale"], 3
    q_cuts, k_cuts = (np.array(said[name].items) for name in ("cum_seqlens_q", "cum_seqlens_k"))
    table = said["block_table"]
    table = table and np.array(table.items, np.int64).reshape(said["b"], said["mb"])
    q, slopes = rng.standard_normal((said["t"], h, d)), slopes_or_none(draw, rng, h)
    k, v = (rng.standard_normal((*said["*n"], kv, d)) for _ in range(2))
    expected = torch.zeros(q.shape, dtype=torch.float64)
    for i in range(said["b"]):
        mine, s, length = (
            slice(q_cuts[i], q_cuts[i + 1]),
            q_cuts[i + 1] - q_cuts[i],
            k_cuts[i + 1] - k_cuts[i],
        )
        if table is None:
            keys, values = (tensor(torch, x[k_cuts[i] : k_cuts[i + 1]]) for x in (k, v))
        else:
            keys, values = (from_pages(torch, x, table[i], length) for x in (k, v))
        visible, own = causal(torch, s, length, length - s)
        expected[mine] = attended(torch, tensor(torch, q[mine]), keys, values, scale, visible, slopes, own)
    slots = {"q": q, "k": k, "v": v, "cum_seqlens_q": q_cuts, "cum_seqlens_k": k_cuts, "block_table": table}
    slots |= {name: said[name] for name in ("max_seqlen_q", "max_seqlen_k", "scale")}
    return slots | {"alibi_slopes": slopes}, [expected]


@witness("mha_kvcache")
def check_mha_kvcache(draw, rng, torch):
    said = OPERATORS["mha_kvcache"].draw(draw, st)
    h, kv, nb, size, mb, scale = (said[name] for name in ("h", "kv", "nb", "bs", "mb", "scale"))
    b, s, d = sizes(draw, 3)
    q, slopes = rng.standard_normal((b, s, h, d)), slopes_or_none(draw, rng, h)
    caches = [rng.standard_normal((nb, size, kv, d)) for _ in range(2)]
    lens, table = rng.integers(0, mb * size + 1, b), rng.integers(0, nb, (b, mb))
    rows = []
    for i, length in enumerate(lens):
        k, v = (from_pages(torch, cache, table[i], length) for cache in caches)
        visible, own = causal(torch, s, length, length - s)
        rows.append(attended(torch, tensor(torch, q[i]), k, v, scale, visible, slopes, own))
    slots = {"q": q, "k_cache": caches[0], "v_cache": caches[1], "seqlens_k": lens, "block_table": table}
    slots |= {"alibi_slopes": slopes, "scale": scale}
    return slots, [torch.stack(rows) if rows else tensor(torch, q)]


@witness("scaled_dot_product_attention")
def check_scaled_dot_product_attention(draw, rng, torch):
    said = OPERATORS["scaled_dot_product_attention"].draw(draw, st)
    s, length, d, dv = sizes(draw, 4, low=1)
    q = rng.standard_normal((*said["*n"], s, d))
    k, v = (rng.standard_normal((*said["*g"], length, size)) for size in (d, dv))
    mask = None
    if not said["is_causal"] and draw(st.booleans()):
        kind = draw(st.sampled_from(["bool", "some", "float"]))
        mask = np.asarray(rng.standard_normal((s, length)))
        mask = (
            mask > 0 if kind == "bool" else np.where(mask < -0.5, -np.inf, mask) if kind == "some" else mask
        )
    expected = torch.nn.functional.scaled_dot_product_attention(
        *(tensor(torch, x) for x in (q, k, v)),
        None if mask is None else tensor(torch, mask),
        is_causal=said["is_causal"],
        scale=said["scale"],
        enable_gqa=said["enable_gqa"],
    )
    slots = {"query": q, "key": k, "value": v, "attn_mask": mask, "is_causal": said["is_causal"]}
    return slots | {"scale": said["scale"], "enable_gqa": said["enable_gqa"]}, [expected]


@witness("paged_caching")
def check_paged_caching(draw, rng, torch):
    said = OPERATORS["paged_caching"].draw(draw, st)
    slot_mapping = np.array(said["slot_mapping"].items, np.int64)
    kv, d = sizes(draw, 2)
    caches = [rng.standard_normal((said["nb"], kv, said["bs"], d)) for _ in range(2)]
    new = [rng.standard_normal((said["n"], kv, d)) for _ in range(2)]
    expected = []
    for cache, x in zip(caches, new, strict=True):
        flat = tensor(torch, cache).transpose(1, 2).flatten(0, 1)  # one row per slot
        kept = tensor(torch, slot_mapping >= 0)
        flat[tensor(torch, slot_mapping)[kept]] = tensor(torch, x)[kept]
        expected.append(flat.unflatten(0, (said["nb"], said["bs"])).transpose(1, 2))
    slots = {"k_cache": caches[0], "v_cache": caches[1], "k": new[0], "v": new[1]}
    return slots | {"slot_mapping": slot_mapping}, expected


@witness("kv_caching")
def check_kv_caching(draw, rng, torch):
    said = OPERATORS["kv_caching"].draw(draw, st)
    b, kv, d = sizes(draw, 3)
    past = rng.integers(0, said["past_kv_lengths"].high + 1, b)
    caches = [rng.standard_normal((b, kv, said["l"], d)) for _ in range(2)]
    new = [rng.standard_normal((b, kv, said["s"], d)) for _ in range(2)]
    expected = []
    for cache, x in zip(caches, new, strict=True):
        after = tensor(torch, cache)
        rows = (torch.arange(said["s"]) + tensor(torch, past)[:, None])[:, None, :, None]
        expected.append(after.scatter(2, rows.expand(x.shape), tensor(torch, x)))
    slots = {"k_cache": caches[0], "v_cache": caches[1], "k": new[0], "v": new[1], "past_kv_lengths": past}
    return slots, expected


@witness("rope")
def check_rope(draw, rng, torch):
    said = OPERATORS["rope"].draw(draw, st)
    shape = shapes(draw, low=1, max_dims=2)
    x = rng.standard_normal((*shape, draw(st.integers(1, 3)), said["d"]))
    positions = rng.integers(0, said["maxpos"], shape[draw(st.integers(0, len(shape))) :])
    angles = rng.standard_normal((said["maxpos"], said["d"] // 2))
    sin, cos = np.sin(angles), np.cos(angles)
    # Rotation is multiplication by exp(i * angle).
    turn = torch.polar(torch.ones(angles.shape, dtype=torch.float64), tensor(torch, angles))
    turn = turn[tensor(torch, positions)][..., None, :]
    t = tensor(torch, x)
    if said["algo"] == 0:
        result = torch.view_as_real(torch.view_as_complex(t.unflatten(-1, (-1, 2))) * turn).flatten(-2)
    else:
        product = torch.complex(*t.chunk(2, -1)) * turn
        result = torch.cat([product.real, product.imag], -1)
    slots = {"x": x, "pos_ids": positions, "sin_table": sin, "cos_table": cos, "algo": said["algo"]}
    return slots, [result]


@witness("topkrouter")
def check_topkrouter(draw, rng, torch):
    said = OPERATORS["topkrouter"].draw(draw, st)
    n, e, topk = draw(st.integers(0, 4)), said["e"], said["topk"]
    x, bias = rng.standard_normal((n, e)), rng.standard_normal(e).astype(np.float32)
    scores = tensor(torch, x).sigmoid()
    choice = scores + tensor(torch, bias)
    groups = choice.view(n, 8, e // 8)
    best = groups.topk(2, -1).values.sum(-1).topk(4, -1).indices
    keep = torch.zeros(n, 8, dtype=torch.bool).scatter(1, best, True)
    indices = groups.masked_fill(~keep[..., None], -torch.inf).flatten(1).topk(topk, -1).indices
    values = scores.gather(1, indices)
    values = values / values.sum(-1, keepdim=True) * 2.5
    slots = {"x": x, "correction_bias": bias, "routed_scaling_factor": 2.5, "topk": topk}
    return slots, [values, indices]


# ---- sampling ----------------------------------------------------------------------------------------------


def sampled(torch, logits, random_val, topp, topk, temperature):
    """Row A71 of the feature list, in PyTorch."""
    logits = tensor(torch, logits)
    if topp == 0 or topk == 1 or temperature == 0:
        return logits.argmax()
    values, order = logits.sort(descending=True, stable=True)
    mass = torch.softmax(values / temperature, 0).cumsum(0)
    kept = len(order) if topk <= 0 else min(topk, len(order))
    return order[torch.searchsorted(mass, random_val * min(mass[kept - 1].item(), topp))]


def sampling_logits(rng, shape):
    return rng.integers(-3, 4, shape).astype(float)  # with ties


@witness("random_sample")
def check_random_sample(draw, rng, torch):
    said = OPERATORS["random_sample"].draw(draw, st)
    logits = sampling_logits(rng, said.pop("n"))
    expected = sampled(torch, logits, *(said[k] for k in ("random_val", "topp", "topk", "temperature")))
    return {"probs": logits, **said, "result": np.empty((), np.int64)}, [expected]


@witness("random_sample_batch")
def check_random_sample_batch(draw, rng, torch):
    b, n = draw(st.integers(0, 5)), draw(st.integers(1, 20))
    logits = sampling_logits(rng, (b, n))
    single = np.float32
    random_val, topp = rng.uniform(0, 1, b).astype(single), rng.choice([0, 0.6, 1], b).astype(single)
    topk = rng.integers(-1, 9, b).astype(np.int32)
    temperature = rng.choice([0, 0.5, 1.5], b).astype(single)
    rows = [
        sampled(torch, *row)
        for row in zip(
            logits, random_val.tolist(), topp.tolist(), topk.tolist(), temperature.tolist(), strict=True
        )
    ]
    expected = torch.stack(rows) if rows else torch.empty(0, dtype=torch.int64)
    slots = {
        "probs": logits,
        "random_val": random_val,
        "topp": topp,
        "topk": topk,
        "temperature": temperature,
    }
    return slots | {"result": np.empty(b, np.int64)}, [expected]


# ---- indexing and reduction --------------------------------------------------------------------------------


@witness("embedding")
def check_embedding(draw, rng, torch):
    v, h = draw(st.integers(1, 5)), draw(st.integers(0, 4))
    ids, weight = rng.integers(0, v, shapes(draw)), rng.standard_normal((v, h))
    ids = np.asarray(ids)
    slots = {"input": ids, "weight": weight}
    return slots, [torch.nn.functional.embedding(tensor(torch, ids), tensor(torch, weight))]


@witness("cat")
def check_cat(draw, rng, torch):
    said = OPERATORS["cat"].draw(draw, st)
    tensors = [rng.standard_normal(shape) for shape in said["tensors"]]
    expected = torch.cat([tensor(torch, t) for t in tensors], said["dim"])
    return {"tensors": tensors, "dim": said["dim"]}, [expected]


# ---- quantisation ------------------------------------------------------------------------------------------


def packed(torch, numbers, axis, nibbles=(0, 1, 2, 3, 4, 5, 6, 7)):
    """Put eight 4-bit numbers along `axis` into each word: number ``nibbles[i]`` at bit ``4 * i``."""
    numbers = numbers.movedim(axis, -1).reshape(*numbers.movedim(axis, -1).shape[:-1], -1, 8)
    words = sum(numbers[..., c] << 4 * i for i, c in enumerate(nibbles))
    return words.movedim(-1, axis).to(torch.int32).numpy()


def grouped(draw, rng, torch):
    groups, k, n = draw(st.integers(1, 3)), 24, 8 * draw(st.integers(1, 3))
    numbers = [torch.from_numpy(rng.integers(0, 16, (rows, n))) for rows in (k, groups)]
    return groups, *numbers, rng.standard_normal((groups, n))


@witness("dequantize_awq")
def check_dequantize_awq(draw, rng, torch):
    groups, weight, zero, scales = grouped(draw, rng, torch)
    order = (0, 2, 4, 6, 1, 3, 5, 7)  # the order in which AWQ packs columns
    slots = {"qweight": packed(torch, weight, 1, order), "zeros": packed(torch, zero, 1, order)}
    group = torch.arange(groups).repeat_interleave(24 // groups)
    expected = (weight - zero[group]) * tensor(torch, scales)[group]
    return slots | {"scales": scales}, [expected]


@witness("dequantize_gptq")
def check_dequantize_gptq(draw, rng, torch):
    groups, weight, zero, scales = grouped(draw, rng, torch)
    g_idx = rng.integers(0, groups, 24).astype(np.int32)
    slots = {"qweight": packed(torch, weight, 0), "zeros": packed(torch, (zero - 1) % 16, 1), "g_idx": g_idx}
    group = tensor(torch, g_idx).long()
    expected = (weight - zero[group]) * tensor(torch, scales)[group]
    return slots | {"scales": scales}, [expected]


@witness("int8_gemm")
def check_int8_gemm(draw, rng, torch):
    m, n, k = sizes(draw, 3)
    x, w = (rng.integers(-128, 128, shape).astype(np.int8) for shape in ((m, k), (k, n)))
    by_row, by_column = (rng.random(size).astype(np.float32) for size in ((m, 1), n))
    bias = rng.standard_normal(n)
    total = tensor(torch, x).long() @ tensor(torch, w).long()
    expected = total * tensor(torch, by_row).double() * tensor(torch, by_column) + tensor(torch, bias)
    return {"x": x, "x_scale": by_row, "weights": w, "weights_scale": by_column, "bias": bias}, [expected]


def int8_of(torch, x, symmetric):
    """``(packed, scale, zero)`` of the last axis, as the formula says it."""
    if symmetric:
        scale = x.abs().amax(-1, keepdim=True) / 127
        zero = torch.zeros_like(scale)
    else:
        scale = (x.amax(-1, keepdim=True) - x.amin(-1, keepdim=True)).clamp(min=1e-8) / 255
        zero = -128 - x.amin(-1, keepdim=True) / scale
    return torch.round(x / scale + zero).clamp(-128, 127).to(torch.int8), scale, zero


@witness("per_channel_quant_int8")
def check_per_channel_quant_int8(draw, rng, torch):
    x, symmetric = rng.standard_normal((*shapes(draw), draw(st.integers(1, 9)))), draw(st.booleans())
    return {"x": x, "symmetric": symmetric}, [*int8_of(torch, tensor(torch, x), symmetric)]


@witness("per_tensor_quant_int8")
def check_per_tensor_quant_int8(draw, rng, torch):
    x = np.asarray(rng.standard_normal(shapes(draw, 1)))
    symmetric, is_static = draw(st.booleans()), draw(st.booleans())
    scale, zero = np.array([0.03], np.float32), np.array([rng.integers(-9, 9)], np.float32)
    slots = {"x": x, "x_scale": scale, "x_zero": zero, "symmetric": symmetric, "is_static": is_static}
    if is_static:
        moved = tensor(torch, x) / float(scale[0]) + (0 if symmetric else float(zero[0]))
        rounded = torch.round(moved).clamp(-128, 127).to(torch.int8)
        return slots, [rounded, tensor(torch, scale), tensor(torch, zero)]
    whole, scale, zero = int8_of(torch, tensor(torch, x).flatten(), symmetric)
    return slots, [whole.reshape(x.shape), scale, zero]


@witness("per_tensor_dequant_int8")
def check_per_tensor_dequant_int8(draw, rng, torch):
    codes = np.asarray(rng.integers(-128, 128, shapes(draw))).astype(np.int8)
    scale, zero = rng.random(1).astype(np.float32), rng.integers(-128, 128, 1).astype(np.float32)
    zero = zero if draw(st.booleans()) else None
    shifted = tensor(torch, codes).double() - (0 if zero is None else float(zero[0]))
    expected = shifted * float(scale[0])
    return {"x_packed": codes, "x_scale": scale, "x_zero": zero}, [expected]


@witness("gather")
def check_gather(draw, rng, torch):
    said = OPERATORS["gather"].draw(draw, st)
    x, index = rng.standard_normal(said["*s"]), rng.integers(0, said["index"].high + 1, said["*o"])
    slots = {"input": x, "index": index, "dim": said["dim"]}
    return slots, [torch.gather(tensor(torch, x), said["dim"], tensor(torch, index))]


@witness("index_select")
def check_index_select(draw, rng, torch):
    said = OPERATORS["index_select"].draw(draw, st)
    x, index = rng.standard_normal(said["*s"]), rng.integers(0, said["index"].high + 1, said["n"])
    slots = {"input": x, "index": index, "dim": said["dim"]}
    return slots, [torch.index_select(tensor(torch, x), said["dim"], tensor(torch, index))]


@witness("index_add")
def check_index_add(draw, rng, torch):
    said = OPERATORS["index_add"].draw(draw, st)
    x, source = rng.standard_normal(said["*s"]), rng.standard_normal(said["*r"])
    index = rng.integers(0, said["index"].high + 1, said["n"])
    slots = {"input": x, "index": index, "source": source, "dim": said["dim"], "alpha": said["alpha"]}
    into = tensor(torch, x)
    into.index_add_(said["dim"], tensor(torch, index), tensor(torch, source), alpha=said["alpha"])
    return slots, [into]


@witness("scatter")
def check_scatter(draw, rng, torch):
    said = OPERATORS["scatter"].draw(draw, st)
    x, src = rng.standard_normal(said["*s"]), rng.standard_normal(said["*r"])
    index = rng.integers(0, said["index"].high + 1, said["*i"])
    reduction = draw(st.sampled_from(list(OPERATORS["scatter"].by_name["reduction"].enum)))
    slots = {"input": x, "index": index, "src": src, "dim": said["dim"], "reduction": reduction}
    into, operands = tensor(torch, x), (said["dim"], tensor(torch, index), tensor(torch, src))
    if reduction.name == "NONE":
        return slots, [into.scatter(*operands)]
    return slots, [into.scatter_reduce(*operands, {"ADD": "sum", "MULTIPLY": "prod"}[reduction.name])]


@witness("count_nonzero")
def check_count_nonzero(draw, rng, torch):
    x = np.asarray(rng.choice(SPECIAL, shapes(draw)))
    return {"input": x}, [torch.count_nonzero(tensor(torch, x))]


@witness("masked_select")
def check_masked_select(draw, rng, torch):
    shape = shapes(draw)
    narrow = [tuple(1 if draw(st.booleans()) else size for size in shape) for _ in range(2)]
    x, mask = np.asarray(rng.standard_normal(narrow[0])), np.asarray(rng.integers(0, 2, narrow[1]) == 1)
    expected = torch.masked_select(tensor(torch, x), tensor(torch, mask))
    return {"input": x, "mask": mask, "out": np.empty(expected.shape)}, [expected]


@witness("sort")
def check_sort(draw, rng, torch):
    said = OPERATORS["sort"].draw(draw, st)
    x = rng.choice(SPECIAL, said["*s"])
    slots = {"input": x, "dim": said["dim"], "descending": said["descending"]}
    return slots, list(
        torch.sort(tensor(torch, x), dim=said["dim"], descending=said["descending"], stable=True)
    )


@witness("topk")
def check_topk(draw, rng, torch):
    said = OPERATORS["topk"].draw(draw, st)
    # All different, and one NaN at most: PyTorch does not say which of equal elements it takes.
    x = rng.permutation(np.prod(said["*s"], dtype=int)).astype(float).reshape(said["*s"])
    x[x == 3] = np.nan
    names = ("k", "dim", "largest", "sorted")
    slots = {"input": x} | {name: said[name] for name in names}
    values, indices = torch.topk(tensor(torch, x), said["k"], said["dim"], said["largest"], True)
    if not said["sorted"]:
        indices = torch.sort(indices, dim=said["dim"]).values
        values = torch.gather(tensor(torch, x), said["dim"], indices)
    return slots, [values, indices]


def reduction(name, values=None, **options):
    """Over any set of dimensions, of `values` or the normal distribution."""

    @witness(name)
    def check(draw, rng, torch):
        said = OPERATORS[name].draw(draw, st)
        x = np.asarray(rng.standard_normal(said["*s"]) if values is None else rng.choice(values, said["*s"]))
        dims = () if said["dim"] is None else said["dim"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about a variance of nothing
            expected = getattr(torch, name)(tensor(torch, x), dims, keepdim=said["keepdim"], **options)
        return {"input": x, "dim": said["dim"], "keepdim": said["keepdim"], **options}, [expected]


reduction("sum")
reduction("mean")
reduction("var", unbiased=False)
reduction("amax", SPECIAL)
reduction("amin", SPECIAL)


def truth(name):
    @witness(name)
    def check(draw, rng, torch):
        said = OPERATORS[name].draw(draw, st)
        x = np.asarray(rng.choice([0.0, -0.0, np.nan, 2.0], said["*s"]))
        # PyTorch takes an empty tuple as no dimension at all.
        dims = said["dim"] or tuple(range(x.ndim)) if said["dim"] != 0 else 0
        result = getattr(torch, name)(tensor(torch, x), dims, keepdim=said["keepdim"])
        return {"input": x, "dim": said["dim"], "keepdim": said["keepdim"]}, [result]


truth("all")
truth("any")


@witness("prod")
def check_prod(draw, rng, torch):
    said = OPERATORS["prod"].draw(draw, st)
    x = np.asarray(rng.standard_normal(said["*s"]))
    dims = (said["dim"],) if isinstance(said["dim"], int) else said["dim"] or range(x.ndim)
    expected = tensor(torch, x)
    for dim in sorted((d % x.ndim for d in dims), reverse=True):
        expected = expected.prod(dim, keepdim=said["keepdim"])
    return {"input": x, "dim": said["dim"], "keepdim": said["keepdim"]}, [expected]


def along(name):
    """Along one dimension; of indices only, or of values and indices."""

    @witness(name)
    def check(draw, rng, torch):
        said = OPERATORS[name].draw(draw, st)
        x = rng.choice(SPECIAL, said["*s"])
        expected = getattr(torch, name)(tensor(torch, x), said["dim"], keepdim=said["keepdim"])
        slots = {"input": x, "dim": said["dim"], "keepdim": said["keepdim"]}
        return slots, [expected] if isinstance(expected, torch.Tensor) else list(expected)


along("argmax")
along("argmin")
along("max")
along("min")


@witness("cumsum")
def check_cumsum(draw, rng, torch):
    said = OPERATORS["cumsum"].draw(draw, st)
    x = rng.standard_normal(said["*s"])
    return {"input": x, "dim": said["dim"]}, [torch.cumsum(tensor(torch, x), said["dim"])]


# ---- losses ------------------------------------------------------------------------------------------------


@witness("cross_entropy")
def check_cross_entropy(draw, rng, torch):
    n, places = draw(st.integers(1, 5)), shapes(draw, low=1)
    shape = (*places[:1], n, *places[1:])
    x, target = rng.standard_normal(shape) * 20, np.asarray(rng.integers(0, n, places))
    weight = rng.uniform(0.1, 2, n) if draw(st.booleans()) else None
    reduction, ignored = draw(st.sampled_from(["none", "mean", "sum"])), draw(st.integers(-1, 1))
    expected = torch.nn.functional.cross_entropy(
        tensor(torch, x),
        tensor(torch, target),
        None if weight is None else tensor(torch, weight),
        ignore_index=ignored,
        reduction=reduction,
    )
    number = ["none", "mean", "sum"].index(reduction)
    slots = {"x": x, "target": target, "weight": weight, "ignore_index": ignored, "reduction": number}
    return slots, [expected]


# ---- the tests ---------------------------------------------------------------------------------------------


def test_every_operator_has_a_witness():
    assert set(WITNESSES) == set(OPERATORS)


def spec_of(value):
    if isinstance(value, list):
        return [spec_of(item) for item in value]
    short = SHORT.get(value.dtype.name) or {"i": "i", "u": "u", "c": "c"}[value.dtype.kind] + str(
        value.dtype.itemsize * 8
    )
    return Spec(value.shape, short)


def run(name, slots):
    """Resolve and run the reference; outputs that a body looks at are in `slots`."""
    schema = OPERATORS[name]
    given = [slots.get(p.name) for p in schema.parameters]
    resolved = schema.resolve(
        [
            spec_of(v) if p.is_tensor and v is not None else v
            for p, v in zip(schema.parameters, given, strict=True)
        ]
    )
    final = [
        v if p.is_tensor else resolved.values[p.index] for p, v in zip(schema.parameters, given, strict=True)
    ]
    specs = [resolved.specs[p.index] for p in schema.outputs]
    return specs, schema.run_reference(final)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:Casting complex values to real")
@pytest.mark.parametrize("name", sorted(WITNESSES))
@given(data=st.data())
def test_body_agrees_with_torch(name, data):
    import torch

    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    slots, expected = WITNESSES[name](data.draw, rng, torch)
    before = copy.deepcopy(slots)
    specs, results = run(name, slots)
    np.testing.assert_equal(slots, before)  # a body writes nothing: its caller stores what it returns
    assert len(results) == len(expected) == len(specs)
    for spec, result, wanted in zip(specs, results, expected, strict=True):
        wanted = wanted.numpy()
        assert np.shape(result) == wanted.shape == spec.shape
        np.testing.assert_allclose(result, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "slots", "message"),
    [
        (
            "embedding",
            {"input": np.array([0, 7]), "weight": np.zeros((7, 2))},
            "embedding: input holds 7, but weight has v=7",
        ),
        (
            "gather",
            {"input": np.zeros((2, 3)), "index": np.array([[0, -1]]), "dim": 1},
            "gather: index holds -1, but input has shape[1]=3",
        ),
        (
            "index_select",
            {"input": np.zeros((2, 3)), "index": np.array([0, 2]), "dim": 0},
            "index_select: index holds 2, but input has shape[0]=2",
        ),
        (
            "rope",
            {
                "x": np.zeros((2, 1, 2)),
                "pos_ids": np.array([0, -1]),
                "sin_table": np.zeros((3, 1)),
                "cos_table": np.zeros((3, 1)),
                "algo": 1,
            },
            "rope: pos_ids holds -1, but sin_table has maxpos=3",
        ),
        (
            "cross_entropy",
            {
                "x": np.zeros((2, 3)),
                "target": np.array([-100, 3]),
                "weight": None,
                "ignore_index": -100,
                "reduction": 0,
            },
            "cross_entropy: target holds 3, but logits has n=3",
        ),
    ],
)
def test_bodies_check_indices(name, slots, message):
    with pytest.raises(OutOfRange) as caught:
        run(name, slots)
    assert str(caught.value) == message


def paged(tables, lens):
    cache = np.ones((3, 1, 2, 4))
    slots = {"q": np.ones((1, 1, 4)), "k_cache": cache, "v_cache": cache}
    return slots | {"block_tables": np.array([tables]), "cache_lens": np.array([lens]), "scale": 1.0}


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        (paged([0, 3], 3), "paged_attention: block_tables holds 3, but k_cache has nb=3"),
        (paged([0, 2], 5), "paged_attention: cache_lens holds 5, but block_tables has room for 4"),
        (paged([0, 2], -1), "paged_attention: cache_lens holds -1, but block_tables has room for 4"),
    ],
)
def test_paged_attention_checks_its_tables(slots, message):
    with pytest.raises(OutOfRange) as caught:
        run("paged_attention", slots)
    assert str(caught.value) == message


def test_a_negative_temperature_is_refused():
    slots = {"probs": np.ones(3), "random_val": 0.5, "topp": 1.0, "topk": 0, "temperature": -1.0}
    with pytest.raises(InvalidArgument) as caught:
        run("random_sample", slots | {"result": np.empty((), np.int64)})
    assert str(caught.value) == "random_sample: temperature is -1.0, but it must be at least 0"


@pytest.mark.parametrize(
    "dtype",
    [
        bool,
        np.int8,
        np.uint64,
        np.float16,
        ml_dtypes.bfloat16,
        ml_dtypes.float8_e4m3fn,
        np.float64,
        np.complex64,
    ],
)
def test_bodies_that_move_elements_take_every_dtype(dtype):
    x = np.array([[0, 1, 2], [2, 1, 0]]).astype(dtype)
    out = np.empty_like(x)

    def body(name, *values):
        (result,) = OPERATORS[name].run_reference(values)
        return np.asarray(result).astype(dtype)

    np.testing.assert_array_equal(body("rearrange", out, x.T), x.T)
    np.testing.assert_array_equal(body("zeros", out, x), np.zeros_like(x))
    np.testing.assert_array_equal(body("ones", out, x), np.ones_like(x))
    np.testing.assert_array_equal(body("cat", out, [x, x[:, :1]], 1), np.concatenate([x, x[:, :1]], axis=1))
    np.testing.assert_array_equal(body("embedding", out, np.array([1, 0, 1]), x), x[[1, 0, 1]])
    np.testing.assert_array_equal(body("cast", out, x.real.astype(np.float32)), x)
    (same,) = OPERATORS["equal"].run_reference([None, x, x[::-1]])
    np.testing.assert_array_equal(same, [[False, True, False]] * 2)
    mask = np.array([True, False, True])
    np.testing.assert_array_equal(body("where", out, mask, x, x[::-1]), np.where(mask, x, x[::-1]))


def test_narrow_floats_are_computed_in_single_precision():
    x = np.full(4, 0.1, np.float16)
    _, (result,) = run("add", {"input": x.astype(np.float32), "other": x.astype(np.float32)})
    schema = OPERATORS["add"]
    (widened,) = schema.run_reference([np.empty_like(x), x, x])
    assert widened.dtype == np.float32
    np.testing.assert_array_equal(widened, result)
