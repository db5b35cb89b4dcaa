# The NumPy bodies of the operators against PyTorch, in float64: what every kernel is compared with must be
# right itself. Shapes, dimensions and scalars are drawn; each operator has one witness.
"""Reference bodies agree with PyTorch."""

from __future__ import annotations

import copy

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import infinicore.ops  # noqa: F401  (registers the operators)
from infinicore.errors import InvalidArgument, OutOfRange
from infinicore.schema import OPERATORS, Spec

WITNESSES = {}
SHORT = {"float64": "f64", "float32": "f32", "int64": "i64", "int32": "i32", "bool": "bool"}


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
binary("swiglu", lambda torch: lambda a, b: a * torch.nn.functional.silu(b))


def unary(name, function, slot="input", values=None):
    @witness(name)
    def check(draw, rng, torch):
        shape = shapes(draw)
        x = rng.standard_normal(shape) * 50 if values is None else rng.choice(values, shape)
        return {slot: np.asarray(x)}, [function(torch)(tensor(torch, np.asarray(x)))]


unary("neg", lambda torch: torch.neg, values=SPECIAL)
unary("abs", lambda torch: torch.abs, values=SPECIAL)
unary("silu", lambda torch: torch.nn.functional.silu)
unary("zeros", lambda torch: torch.zeros_like, "x")
unary("ones", lambda torch: torch.ones_like, "x")
unary("rearrange", lambda torch: torch.clone, "src", SPECIAL)

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


@witness("sum")
def check_sum(draw, rng, torch):
    said = OPERATORS["sum"].draw(draw, st)
    x = np.asarray(rng.standard_normal(said["*s"]))
    expected = torch.sum(tensor(torch, x), said["dim"], keepdim=said["keepdim"])
    return {"input": x, "dim": said["dim"], "keepdim": said["keepdim"]}, [expected]


@witness("argmax")
def check_argmax(draw, rng, torch):
    said = OPERATORS["argmax"].draw(draw, st)
    x = rng.choice(SPECIAL, said["*s"])
    expected = torch.argmax(tensor(torch, x), said["dim"], keepdim=said["keepdim"])
    return {"input": x, "dim": said["dim"], "keepdim": said["keepdim"]}, [expected]


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


def test_narrow_floats_are_computed_in_single_precision():
    x = np.full(4, 0.1, np.float16)
    _, (result,) = run("add", {"input": x.astype(np.float32), "other": x.astype(np.float32)})
    schema = OPERATORS["add"]
    (widened,) = schema.run_reference([np.empty_like(x), x, x])
    assert widened.dtype == np.float32
    np.testing.assert_array_equal(widened, result)
