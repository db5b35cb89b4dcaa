# The grammar of operator signatures: what a signature says about slots, shapes, dtypes, values and the Python
# call, the messages users see word for word, fingerprints, and the headers that plug-ins compile against.

# ruff: noqa: F722, F821, UP037 ("F *s n" is a shape, not a name)
"""Operator schemas."""

from __future__ import annotations

import shutil
import subprocess
import sys
from enum import IntEnum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import infinicore
import infinicore.ops as ops
from infinicore import errors, schema
from infinicore.schema import (
    EMPTY,
    OPERATORS,
    CallParameter,
    DType,
    In,
    InOut,
    Out,
    Schema,
    Spec,
    Static,
    Tensor,
    TensorList,
    write_headers,
)


class Mode(IntEnum):
    SLOW = 0
    FAST = 3


def t(*shape, dtype="f32"):
    return Spec(shape, dtype)


def resolve(name, **values):
    """Resolve a call of operator `name`; slots that are not named are None or the default."""
    found = OPERATORS[name]
    return found.resolve(
        [values.get(p.name, None if p.default is EMPTY else p.default) for p in found.parameters]
    )


def shape_of(name, output, **values):
    return resolve(name, **values).specs[OPERATORS[name].by_name[output].index].shape


# ---- what a signature says ---------------------------------------------------------------------------------


def everything(
    out: Out[Tensor, "F *s n"],
    kept: InOut[Tensor, "i32 3"],
    x: In[Tensor, "F *s~ n"],
    weight: In[Tensor, "f16|bf16 n//2"] | None,
    parts: In[TensorList, "F *i"],
    *,
    flag: bool = False,
    count: int,
    scale: float = 1.0,
    mode: Static[Mode] = Mode.FAST,
    kind: DType = "f32",
    axes: Static[tuple[int, ...]] = (),
):
    """Documentation."""
    return out, kept


def test_parameters():
    found = Schema(everything)
    assert [(p.name, p.role, p.kind, p.index) for p in found.parameters] == [
        ("out", "out", "tensor", 0),
        ("kept", "inout", "tensor", 1),
        ("x", "in", "tensor", 2),
        ("weight", "in", "tensor", 3),
        ("parts", "in", "tensors", 4),
        ("flag", "scalar", "bool", 5),
        ("count", "scalar", "int", 6),
        ("scale", "scalar", "float", 7),
        ("mode", "scalar", "enum", 8),
        ("kind", "scalar", "dtype", 9),
        ("axes", "scalar", "ints", 10),
    ]
    weight = found.by_name["weight"]
    assert (weight.optional, weight.dtype, weight.shape_text) == (True, "f16|bf16", "n//2")
    assert weight.dtypes() == ("f16", "bf16")
    assert [p.name for p in found.static] == ["mode", "axes"]
    assert [p.name for p in found.outputs] == ["out", "kept"]
    assert found.by_name["count"].default is EMPTY
    assert found.by_name["mode"].enum is Mode
    assert found.name == "everything"
    assert found.doc == "Documentation."


def test_dims():
    star, n = Schema(everything).by_name["x"].dims
    assert (star.name, star.star, star.broadcast) == ("*s", True, True)
    assert (n.name, n.star, n.broadcast, n.number) == ("n", False, False, None)
    (half,) = Schema(everything).by_name["weight"].dims
    assert (half.name, half.divisor) == ("n", 2)
    (three,) = Schema(everything).by_name["kept"].dims
    assert three.number == 3


def test_a_size_joins_the_key():
    topk = OPERATORS["topkrouter"].by_name["topk"]
    assert (topk.static, topk.is_size, topk.keyed) == (False, True, True)
    pos = OPERATORS["attention"].by_name["pos"]
    assert (pos.static, pos.is_size, pos.keyed) == (False, False, False)
    axis = OPERATORS["softmax"].by_name["axis"]
    assert (axis.static, axis.is_size, axis.keyed) == (True, False, True)


@pytest.mark.parametrize(
    ("annotation", "options", "message"),
    [
        ('In[Tensor, "F *a *b"]', {}, "broken: x has more than one starred dimension"),
        ('In[Tensor, "f33 n"]', {}, "broken: x has dtype 'f33', which names no dtype"),
        ('In[Tensor, "F n-1"]', {}, "'n-1' is not a dimension"),
        ('In[TensorList, "F n~"]', {}, "broken: x broadcasts, which only a single input can"),
        ('InOut[Tensor, "F n"] | None', {}, "broken: x is optional, which only an input can be"),
        ('InOut[TensorList, "F n"]', {}, "broken: x is a list, which can only be an input"),
        ('In[Tensor, "F k"]', {}, "broken: nothing says how large out's n is; give shape="),
        ('In[Tensor, "F n"]', {"inplace": "y"}, "broken: inplace names y, which is no input"),
        ('In[Tensor, "F n"]', {"inplace": "out"}, "broken: inplace names out, which is no input"),
        ('In[Tensor, "F n"]', {"python": "broken(out=None)"},
         "broken: the call broken(out=None) fills no slot x"),
        ('In[Tensor, "F n"]', {"python": "broken(x, y, out=None)"},
         "broken: the call's y is no slot and has no default"),
        ("str", {}, "parameter x: <class 'str'> is not a type that a slot can hold"),
    ],
)  # fmt: skip
def test_bad_signatures(annotation, options, message):
    def broken(out: Out[Tensor, "F n"], x):
        pass

    broken.__annotations__["x"] = annotation
    with pytest.raises(TypeError) as caught:
        Schema(broken, **options)
    assert str(caught.value) == message


def test_a_hook_names_slots():
    def other(y):
        pass

    with pytest.raises(TypeError, match=r"^everything: other names y, which is no slot$"):
        Schema(everything, errors=other)


def test_a_name_is_defined_once():
    def add(out: Out[Tensor, "F n"], x: In[Tensor, "F n"]):
        pass

    with pytest.raises(TypeError, match=r"^operator add is defined twice$"):
        schema.operator(add)


# ---- the Python call ---------------------------------------------------------------------------------------

CALLS = {
    "add": "add(input, other, *, out=None)",
    "all": "all(input, dim=None, keepdim=False, out=None)",
    "add_rms_norm": "add_rms_norm(a, b, weight, epsilon=1e-05, *, out=None, residual=None)",
    "attention": "attention(q, k, v, k_cache, v_cache, pos, *, out=None)",
    "cast": "cast(input, *, out)",
    "cat": "cat(tensors, dim=0, *, out=None)",
    "causal_softmax": "causal_softmax(input, out=None)",
    "conv": "conv(x, w, b=None, *, pads=0, strides=1, dilations=1, out=None)",
    "embedding": "embedding(input, weight, padding_idx=None, max_norm=None, norm_type=2.0, "
    "scale_grad_by_freq=False, sparse=False, *, out=None)",
    "equal": "equal(input, other, *, out=None)",
    "gather": "gather(input, dim, index, *, out=None)",
    "gemm": "gemm(c, a, b, *, alpha=1.0, beta=0.0)",
    "index_add": "index_add(input, dim, index, source, *, alpha=1.0, out=None)",
    "index_select": "index_select(input, dim, index, *, out=None)",
    "linear": "linear(input, weight, bias=None, *, alpha=1.0, out=None)",
    "paged_attention": "paged_attention(q, k_cache, v_cache, block_tables, cache_lens, alibi_slopes=None, "
    "scale=1.0, *, out=None)",
    "random_sample": "random_sample(logits, random_val, topp, topk, temperature, *, out=None)",
    "rearrange": "rearrange(input, other=None, *, out=None)",
    "rope": "rope(x, pos_ids, sin_table, cos_table, algo=GPT_NEOX, *, out=None)",
    "scatter": "scatter(input, index, src, dim, reduction=NONE, *, out=None)",
    "sort": "sort(input, dim=-1, descending=False, stable=True, *, out=None)",
    "sum": "sum(input, dim=None, keepdim=False, out=None)",
    "topk": "topk(input, k, dim, largest=True, sorted=True, out=None)",
    "var": "var(input, dim=None, unbiased=True, keepdim=False, out=None)",
}


@pytest.mark.parametrize("name", sorted(CALLS))
def test_calls(name):
    assert str(OPERATORS[name].call) == CALLS[name]


def test_call_parameters_fill_slots():
    found = OPERATORS["rearrange"]
    assert [(p.name, p.slot) for p in found.call.parameters] == [
        ("input", found.by_name["src"].index),
        ("other", CallParameter.RESERVED),
        ("out", CallParameter.OUT),
    ]
    assert found.call.outputs == found.call.returns == (found.by_name["dst"].index,)
    assert OPERATORS["gemm"].call.outputs == ()
    assert OPERATORS["gemm"].call.returns == (OPERATORS["gemm"].by_name["c"].index,)
    assert OPERATORS["layer_norm"].call.returns == (0, 1, 2)
    assert [p.required for p in OPERATORS["cast"].call.parameters] == [True, True]


def test_another_call_of_an_operator():
    gemm = OPERATORS["gemm"]
    matmul = gemm.spelled("matmul(input: a, other: b, *, alpha=1.0, out: c=None)", "Product.", {"beta": 0.0})
    assert str(matmul.call) == "matmul(input, other, *, alpha=1.0, out=None)"
    assert matmul.call.fixed == {gemm.by_name["beta"].index: 0.0}
    assert matmul.call.outputs == matmul.call.returns == (gemm.by_name["c"].index,)
    assert (matmul.name, matmul.fingerprint, matmul.doc) == ("gemm", gemm.fingerprint, "Product.")
    assert str(gemm.call) == CALLS["gemm"]
    with pytest.raises(errors.ShapeError) as caught:
        matmul.resolve([None, t(2, 3), t(4, 5), 1.0, 0.0])
    assert str(caught.value) == "matmul: other has k=4, but input has k=3"


def test_every_operator_is_listed():
    assert set(OPERATORS) <= set(ops.__all__)
    assert all(hasattr(ops, name) for name in ops.__all__)


# ---- shapes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "output", "values", "shape"),
    [
        ("add", "out", {"input": t(4, 1, 3), "other": t(2, 1)}, (4, 2, 3)),
        ("add", "out", {"input": t(), "other": t(0)}, (0,)),
        ("gemm", "c", {"a": t(2, 3), "b": t(7, 1, 3, 4)}, (7, 1, 2, 4)),
        ("gemm", "c", {"a": t(5, 1, 2, 3), "b": t(6, 3, 4)}, (5, 6, 2, 4)),
        ("gemm", "c", {"c": t(9, 2, 4), "a": t(2, 3), "b": t(1, 3, 4)}, (9, 2, 4)),
        ("linear", "out", {"input": t(3), "weight": t(5, 3)}, (5,)),
        ("layer_norm", "input_std_deviation", {"input": t(4, 6, 8), "weight": t(8)}, (4, 6)),
        ("attention", "out", {"q": t(8, 2, 4), "k": t(2, 2, 4), "v": t(2, 2, 4), "k_cache": t(2, 9, 4),
                              "v_cache": t(2, 9, 4), "pos": 3}, (2, 8, 4)),
        ("embedding", "out", {"input": t(2, 3, dtype="i32"), "weight": t(9, 4)}, (2, 3, 4)),
        ("sum", "output", {"input": t(2, 3, 4), "dim": -2}, (2, 4)),
        ("sum", "output", {"input": t(2, 3, 4), "dim": [0, -1], "keepdim": True}, (1, 3, 1)),
        ("sum", "output", {"input": t(2, 3, 4), "dim": None}, ()),
        ("argmax", "output", {"input": t(2, 3), "dim": 0}, (3,)),
        ("max", "indices", {"input": t(2, 3), "dim": 0, "keepdim": True}, (1, 3)),
        ("amin", "output", {"input": t(0, 3), "dim": 1}, (0,)),
        ("cross_entropy", "y", {"x": t(4, 9, 5), "target": t(4, 5, dtype="i64")}, (4, 5)),
        ("cross_entropy", "y", {"x": t(4, 5, 9), "target": t(4, 5, dtype="i64")}, (4, 5)),
        ("cross_entropy", "y", {"x": t(4, 9), "target": t(4, dtype="i64"), "reduction": 1}, ()),
        ("cat", "out", {"tensors": [t(2, 3), t(0, 3), t(5, 3)], "dim": -2}, (7, 3)),
        ("conv", "y", {"x": t(1, 4, 9, 8), "w": t(6, 2, 3, 1), "pads": 1, "strides": (2, 1),
                       "dilations": (2, 1)}, (1, 6, 4, 10)),
        ("topkrouter", "indices", {"x": t(5, 64), "correction_bias": t(64), "topk": 8}, (5, 8)),
        ("random_sample_batch", "result", {"probs": t(3, 9), "random_val": t(3), "topp": t(3),
                                           "topk": t(3, dtype="i32"), "temperature": t(3)}, (3,)),
    ],
)  # fmt: skip
def test_output_shapes(name, output, values, shape):
    assert shape_of(name, output, **values) == shape


def test_output_dtypes():
    assert resolve("equal", input=t(2), other=t(2)).specs[0].dtype == "bool"
    assert resolve("add", input=t(2, dtype="bf16"), other=t(2, dtype="bf16")).specs[0].dtype == "bf16"
    assert resolve("argmax", input=t(2), dim=0).specs[0].dtype == "i64"
    assert resolve("all", input=t(2)).specs[0].dtype == "bool"
    assert resolve("all", input=t(2, dtype="u8")).specs[0].dtype == "u8"
    assert resolve("all", input=t(2, dtype="u8"), output=t(dtype="bool")).specs[0].dtype == "bool"
    values = {"probs": t(3), "random_val": 0.5, "topp": 1.0, "topk": 1, "temperature": 1.0}
    assert resolve("random_sample", **values).specs[0].dtype == "i32"
    assert resolve("random_sample", **values, result=t(dtype="u8")).specs[0].dtype == "u8"


def test_broadcasting_inputs_are_expanded():
    found = resolve("add", input=t(4, 1), other=t(1, 3))
    assert found.expand == (1, 2)
    assert found.specs == [t(4, 3)] * 3
    assert resolve("add", input=t(4, 3), other=t(3)).expand == (2,)
    assert resolve("add", input=t(4, 3), other=t(4, 3)).expand == ()
    found = resolve("rope", x=t(2, 5, 3, 4), pos_ids=t(5, dtype="i64"), sin_table=t(9, 2), cos_table=t(9, 2))
    assert found.expand == (2,)
    assert found.specs[2] == t(2, 5, dtype="i64")


def test_symbols():
    found = resolve("gemm", a=t(6, 2, 3, dtype="f16"), b=t(3, 4, dtype="f16"))
    assert found.symbols == {"F": "f16", "*b": (6,), "m": 2, "k": 3, "n": 4}


def test_items_of_a_list_have_symbols_of_their_own():
    def pairs(out: Out[Tensor, "F n"], parts: In[TensorList, "F m n"]):
        pass

    found = Schema(pairs)
    assert found.resolve([None, [t(2, 5), t(3, 5)]]).specs[0].shape == (5,)
    with pytest.raises(errors.ShapeError) as caught:
        found.resolve([None, [t(2, 5), t(3, 4)]])
    assert str(caught.value) == "pairs: parts[1] has n=4, but parts[0] has n=5"


def test_broadcasting_of_one_dimension():
    def scaled(out: Out[Tensor, "F n"], x: In[Tensor, "F n"], scale: In[Tensor, "F n~"]):
        pass

    found = Schema(scaled).resolve([None, t(4), t(1)])
    assert (found.specs[2].shape, found.expand) == ((4,), (2,))
    with pytest.raises(errors.ShapeError) as caught:
        Schema(scaled).resolve([None, t(1), t(4)])
    assert str(caught.value) == "scaled: scale has n=4, but x has n=1"


def test_a_star_may_stand_in_the_middle():
    def middle(out: Out[Tensor, "F a *s b"], x: In[Tensor, "F b *s a"]):
        pass

    assert Schema(middle).resolve([None, t(2, 3, 4, 5)]).specs[0].shape == (5, 3, 4, 2)
    assert Schema(middle).resolve([None, t(2, 5)]).specs[0].shape == (5, 2)


def test_quotients():
    def halves(out: Out[Tensor, "F n//2"], x: In[Tensor, "F n//4"]):
        pass

    assert Schema(halves).resolve([None, t(3)]).specs[0].shape == (6,)
    with pytest.raises(errors.ShapeError) as caught:
        Schema(halves).resolve([t(5), t(3)])
    assert str(caught.value) == "halves: out has n//2=5, but x has n=12"

    def half(out: Out[Tensor, "F n//2"], x: In[Tensor, "F n"]):
        pass

    assert Schema(half).resolve([None, t(6)]).specs[0].shape == (3,)
    with pytest.raises(errors.ShapeError) as caught:
        Schema(half).resolve([None, t(5)])
    assert str(caught.value) == "half: x has n=5, no multiple of 2"


def test_numbers():
    def triples(out: Out[Tensor, "F n 3"], x: In[Tensor, "F n 3"]):
        pass

    assert Schema(triples).resolve([None, t(5, 3)]).specs[0].shape == (5, 3)
    with pytest.raises(errors.ShapeError) as caught:
        Schema(triples).resolve([None, t(5, 4)])
    assert str(caught.value) == "triples: x has a size of 4, but it must be 3"


@given(st.data())
def test_any_broadcast_that_numpy_does(data):
    import numpy as np
    from hypothesis.extra import numpy as arrays

    both = data.draw(arrays.mutually_broadcastable_shapes(num_shapes=2, min_side=0))
    left, right = both.input_shapes
    found = resolve("add", input=t(*left), other=t(*right))
    assert found.specs[0].shape == np.broadcast_shapes(left, right)


@given(st.lists(st.integers(0, 3), max_size=3), st.lists(st.integers(0, 3), max_size=3))
def test_no_broadcast_that_numpy_refuses(left, right):
    import numpy as np

    try:
        shape = np.broadcast_shapes(tuple(left), tuple(right))
    except ValueError:
        with pytest.raises(errors.ShapeError):
            resolve("add", input=t(*left), other=t(*right))
    else:
        assert resolve("add", input=t(*left), other=t(*right)).specs[0].shape == shape


# ---- messages, word for word -------------------------------------------------------------------------------

ATTENTION = {
    "q": t(8, 2, 4),
    "k": t(2, 2, 4),
    "v": t(2, 2, 4),
    "k_cache": t(2, 9, 4),
    "v_cache": t(2, 9, 4),
    "pos": 0,
}
ROPE = {"x": t(5, 3, 4), "pos_ids": t(5, dtype="i64"), "sin_table": t(9, 2), "cos_table": t(9, 2)}
SAMPLE = {"probs": t(3), "random_val": 0.5, "topp": 1.0, "topk": 1, "temperature": 1.0}

MESSAGES = [
    ("gemm", {"a": t(2, 3), "b": t(4, 5)}, "ShapeError", "gemm: b has k=4, but a has k=3"),
    ("gemm", {"c": t(3, 5), "a": t(2, 4), "b": t(4, 5)}, "ShapeError", "gemm: c has m=3, but a has m=2"),
    ("gemm", {"a": t(3), "b": t(3, 5)}, "ShapeError", "gemm: a has ndim=1, but [*b~ m k] needs at least 2"),
    ("gemm", {"c": t(2, 5), "a": t(2, 3), "b": t(7, 3, 5)}, "ShapeError",
     "gemm: b has *b=(7,), but c has *b=()"),
    ("gemm", {"a": t(2, 2, 3), "b": t(7, 3, 5)}, "ShapeError", "gemm: b has *b=(7,), but a has *b=(2,)"),
    ("gemm", {"a": t(2, 3, dtype="f16"), "b": t(3, 5)}, "DTypeError",
     "gemm: b has F=float32, but a has F=float16"),
    ("gemm", {"a": t(2, 3, dtype="i32"), "b": t(3, 5)}, "DTypeError",
     "gemm: a has F=int32, but it must be one of float16, bfloat16, float32, float64"),
    ("gemm", {"a": t(2, 3)}, "ArgumentTypeError", "gemm: b must be a tensor, got None"),
    ("gemm", {"a": t(2, 3), "b": t(3, 5), "alpha": "2"}, "ArgumentTypeError",
     "gemm: alpha must be a number, got '2' (str)"),
    ("add", {"input": t(4, 8), "other": t(4, 3)}, "ShapeError",
     "add: other has *s=(4, 3), but input has *s=(4, 8)"),
    ("add", {"input": t(4, 1), "other": t(1, 8), "out": t(4, 1)}, "ShapeError",
     "add: out has *s=(4, 1), but input and other have *s=(4, 8)"),
    ("add", {"input": t(1), "other": t(8), "out": t(1)}, "ShapeError",
     "add: out has *s=(1,), but other has *s=(8,)"),
    ("add", {"input": t(2), "other": t(2), "out": t(2, dtype="f64")}, "DTypeError",
     "add: out has N=float64, but input has N=float32"),
    ("equal", {"input": t(2), "other": t(2), "out": t(2)}, "DTypeError",
     "equal: out has dtype float32, but must be bool"),
    ("cast", {"input": t(2)}, "ArgumentTypeError",
     "cast: the dtype of out does not follow from the arguments; pass out"),
    ("rms_norm", {"x": t(2, 3), "weight": t(4)}, "ShapeError", "rms_norm: weight has n=4, but x has n=3"),
    ("softmax", {"x": t(2, 3), "axis": 2}, "OutOfRange",
     "softmax: axis=2 is out of range for input, which has ndim=2"),
    ("softmax", {"x": t(2, 3), "axis": 0.5}, "ArgumentTypeError",
     "softmax: axis must be an int, got 0.5 (float)"),
    ("causal_softmax", {"x": t(5, 3)}, "ShapeError",
     "causal_softmax: input has n=5 rows, but only m=3 columns"),
    ("attention", ATTENTION | {"q": t(7, 2, 4)}, "ShapeError",
     "attention: q has h=7 heads, which is no multiple of kv=2 of the cache"),
    ("attention", ATTENTION | {"k": t(2, 3, 4)}, "ShapeError", "attention: k has s=3, but q has s=2"),
    ("rope", ROPE | {"sin_table": t(9, 3)}, "ShapeError", "rope: sin_table has d//2=3, but x has d=4"),
    ("rope", ROPE | {"x": t(5, 3, 5)}, "ShapeError", "rope: sin_table has d//2=2, but x has d=5"),
    ("rope", ROPE | {"algo": 2}, "InvalidArgument",
     "rope: algo=2, but it must be one of GPT_J (0), GPT_NEOX (1)"),
    ("rope", ROPE | {"pos_ids": t(5)}, "DTypeError",
     "rope: pos_ids has I=float32, but it must be one of int32, int64, int8, int16, "
     "uint8, uint16, uint32, uint64"),
    ("topkrouter", {"x": t(5, 64), "correction_bias": t(64), "topk": 8, "values": t(5, 4)}, "ShapeError",
     "topkrouter: values has topk=4, but the call says topk=8"),
    ("topkrouter", {"x": t(5, 20), "correction_bias": t(20), "topk": 8}, "ShapeError",
     "topkrouter: x has e=20 experts, but must have 8 equal groups of at least 2"),
    ("topkrouter", {"x": t(5, 16), "correction_bias": t(16), "topk": 9}, "InvalidArgument",
     "topkrouter: topk=9, but e=16 experts allow 1 to 8"),
    ("random_sample", SAMPLE | {"probs": t(0)}, "ShapeError",
     "random_sample: logits has n=0, but a draw takes at least 1"),
    ("random_sample_batch", {name: t(2, dtype="i32" if name == "topk" else "f32") for name in SAMPLE}
     | {"probs": t(2, 0)}, "ShapeError",
     "random_sample_batch: logits has n=0, but a draw takes at least 1"),
    ("random_sample", SAMPLE | {"topk": 1.5}, "ArgumentTypeError",
     "random_sample: topk must be an int, got 1.5 (float)"),
    ("cat", {"tensors": []}, "InvalidArgument", "cat: tensors has 0 tensors, but must have at least 1"),
    ("cat", {"tensors": [t(2, 3), t(2, 4)]}, "ShapeError",
     "cat: tensors[1] has size 4 in dimension 1, but tensors[0] has 3"),
    ("cat", {"tensors": [t(2, 3), t(2)]}, "ShapeError",
     "cat: tensors[1] has ndim=1, but tensors[0] has ndim=2"),
    ("cat", {"tensors": [t(2), t(2, dtype="i8")]}, "DTypeError",
     "cat: tensors[1] has T=int8, but tensors[0] has T=float32"),
    ("cat", {"tensors": [t(2, 3), t(2, 3)], "out": t(3, 3)}, "ShapeError",
     "cat: out has shape (3, 3), but it must have shape (4, 3)"),
    ("sum", {"input": t(2, 3), "dim": (1, -1)}, "InvalidArgument",
     "sum: dim=(1, -1) names dimension 1 twice"),
    ("sum", {"input": t(2, 3), "dim": 5}, "OutOfRange",
     "sum: dim=5 is out of range for input, which has ndim=2"),
    ("sum", {"input": t(2, 3), "dim": 0, "keepdim": 2}, "ArgumentTypeError",
     "sum: keepdim must be a bool, got 2 (int)"),
    ("argmax", {"input": t(2, 0), "dim": 1}, "ShapeError",
     "argmax: input has size 0 in dimension 1, but a maximum takes at least 1"),
    ("argmin", {"input": t(2, 0), "dim": 1}, "ShapeError",
     "argmin: input has size 0 in dimension 1, but a minimum takes at least 1"),
    ("max", {"input": t(2, 0), "dim": -1}, "ShapeError",
     "max: input has size 0 in dimension 1, but a maximum takes at least 1"),
    ("amin", {"input": t(2, 0), "dim": None}, "ShapeError",
     "amin: input has size 0 in dimension 1, but a minimum takes at least 1"),
    ("var", {"input": t(2, 3), "dim": (1, 1)}, "InvalidArgument",
     "var: dim=(1, 1) names dimension 1 twice"),
    ("cumsum", {"input": t(), "dim": 0}, "OutOfRange",
     "cumsum: dim=0 is out of range for input, which has ndim=0"),
    ("cross_entropy", {"x": t(2, 3), "target": t(3, dtype="i64")}, "ShapeError",
     "cross_entropy: target has shape (3,), but logits of shape (2, 3) takes (2,)"),
    ("cross_entropy", {"x": t(2, 3, 4), "target": t(3, dtype="i64")}, "ShapeError",
     "cross_entropy: target has shape (3,), but logits of shape (2, 3, 4) takes (2, 4) or (2, 3)"),
    ("cross_entropy", {"x": t(), "target": t(dtype="i64")}, "ShapeError",
     "cross_entropy: logits has ndim=0, but must have a dimension of classes"),
    ("cross_entropy", {"x": t(2, 0), "target": t(2, dtype="i64")}, "ShapeError",
     "cross_entropy: logits has n=0 classes, but a target takes at least 1"),
    ("cross_entropy", {"x": t(2, 3), "target": t(2, dtype="i64"), "weight": t(4)}, "ShapeError",
     "cross_entropy: weight has n=4, but logits has n=3 classes"),
    ("cross_entropy", {"x": t(2, 3), "target": t(2)}, "DTypeError",
     "cross_entropy: target has I=float32, but it must be one of int32, int64, int8, int16, "
     "uint8, uint16, uint32, uint64"),
    ("conv", {"x": t(1, 4, 9), "w": t(6, 3, 3), "pads": 0, "strides": 1, "dilations": 1}, "ShapeError",
     "conv: x has ic=4, which is no multiple of icg=3 of w"),
    ("conv", {"x": t(1, 4, 9), "w": t(3, 2, 3), "pads": 0, "strides": 1, "dilations": 1}, "ShapeError",
     "conv: w has oc=3, which is no multiple of the 2 groups"),
    ("conv", {"x": t(1, 4, 9), "w": t(6, 2, 3), "pads": (1, 1), "strides": 1, "dilations": 1},
     "InvalidArgument", "conv: pads has length 2, but w has 1 spatial dimensions"),
    ("conv", {"x": t(1, 4, 9), "w": t(6, 2, 3), "pads": 0, "strides": 0, "dilations": 1}, "InvalidArgument",
     "conv: strides=(0,), but each value must be at least 1"),
    ("conv", {"x": t(1, 4, 9), "w": t(6, 2, 3), "pads": 0, "strides": 1, "dilations": 5}, "ShapeError",
     "conv: w reaches over 11 positions, but padded x has 9"),
    ("conv", {"x": t(1, 4, 9), "w": t(6, 2, 3), "pads": "ab", "strides": 1, "dilations": 1},
     "ArgumentTypeError", "conv: pads must be a sequence of ints, got ('ab',) (tuple)"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values", "kind", "message"), MESSAGES)
def test_messages(name, values, kind, message):
    with pytest.raises(errors.Error) as caught:
        resolve(name, **values)
    assert (type(caught.value).__name__, str(caught.value)) == (kind, message)


def test_guard():
    found = OPERATORS["attention"]
    resolved = resolve("attention", **ATTENTION)
    found.check_values(resolved.specs, [7 if p.name == "pos" else None for p in found.parameters])
    for pos in (8, -1):
        with pytest.raises(errors.InvalidArgument) as caught:
            found.check_values(resolved.specs, [pos if p.name == "pos" else None for p in found.parameters])
        assert str(caught.value) == f"attention: pos={pos} and s=2 new tokens do not fit l=9 of k_cache"


# ---- values ------------------------------------------------------------------------------------------------


class Index:
    def __index__(self):
        return 3


@pytest.mark.parametrize(
    ("slot", "value", "converted"),
    [
        ("flag", True, True),
        ("count", Index(), 3),
        ("scale", 2, 2.0),
        ("mode", 3, Mode.FAST),
        ("mode", Mode.SLOW, Mode.SLOW),
        ("kind", "bf16", "bf16"),
        ("kind", "float16", "f16"),
        ("axes", [1, Index()], (1, 3)),
    ],
)
def test_conversion(slot, value, converted):
    found = Schema(everything)
    result = found.convert(found.by_name[slot], value)
    assert (result, type(result)) == (converted, type(converted))


@pytest.mark.parametrize(
    ("slot", "value", "message"),
    [
        ("flag", 1, "everything: flag must be a bool, got 1 (int)"),
        ("count", True, "everything: count must be an int, got True (bool)"),
        ("count", 1.0, "everything: count must be an int, got 1.0 (float)"),
        ("scale", "1", "everything: scale must be a number, got '1' (str)"),
        ("scale", None, "everything: scale must be a number, got None (NoneType)"),
        ("mode", "FAST", "everything: mode must be a Mode, got 'FAST' (str)"),
        ("kind", "f33", "everything: kind must be a dtype, got 'f33' (str)"),
        ("axes", 1, "everything: axes must be a sequence of ints, got 1 (int)"),
        ("axes", [0.5], "everything: axes must be a sequence of ints, got [0.5] (list)"),
    ],
)
def test_wrong_types(slot, value, message):
    found = Schema(everything)
    with pytest.raises(errors.ArgumentTypeError) as caught:
        found.convert(found.by_name[slot], value)
    assert str(caught.value) == message


def test_values_reach_kernels_in_canonical_form():
    assert resolve("softmax", x=t(2, 3, 4), axis=-2).values == [None, None, 1]
    assert resolve("sum", input=t(2, 3, 4), dim=(-1, 0)).values == [None, None, (0, 2), False]
    assert resolve("sum", input=t(2, 3, 4), dim=None).values == [None, None, (), False]
    conv = resolve("conv", x=t(1, 1, 5, 5), w=t(1, 1, 3, 3), pads=1, strides=(1, 2), dilations=[1, 1])
    assert conv.values[-3:] == [(1, 1), (1, 2), (1, 1)]


def test_argmax_of_the_whole_tensor():
    a = infinicore.from_list([[1, 7], [7, 2]], dtype=infinicore.int32, device="cpu").permute((1, 0))
    assert infinicore.argmax(a).item() == 1
    assert infinicore.argmax(a, keepdim=True).tolist() == [[1]]
    out = infinicore.empty((1, 1), dtype=infinicore.int64, device="cpu")
    assert infinicore.argmax(a, keepdim=True, out=out) is out
    assert out.tolist() == [[1]]
    assert infinicore.argmax(a.as_strided((), ())).item() == 0
    with pytest.raises(errors.ShapeError) as caught:
        infinicore.argmax(a, out=out)
    assert str(caught.value) == "argmax: out has shape (1, 1), but it must have shape ()"


def test_max_of_the_whole_tensor_or_along_a_dimension():
    a = infinicore.from_list([[1, 7], [7, 2]], dtype=infinicore.int32, device="cpu")
    assert infinicore.max(a).item() == 7
    assert infinicore.min(a, keepdim=True).tolist() == [[1]]
    out = infinicore.empty((), dtype=infinicore.int32, device="cpu")
    assert infinicore.max(a, out=out) is out
    values, indices = infinicore.max(a, 1)
    assert (values.tolist(), indices.tolist(), indices.dtype) == ([7, 7], [1, 0], infinicore.int64)
    found = infinicore.min(a, 0, out=(values, indices))
    assert found[0] is values and found[1] is indices
    assert (values.tolist(), indices.tolist()) == ([1, 2], [0, 1])
    with pytest.raises(errors.ShapeError) as caught:
        infinicore.max(infinicore.empty((3, 0), dtype=infinicore.int32, device="cpu"))
    assert str(caught.value) == "max: input has size 0 in dimension 1, but a maximum takes at least 1"


def test_cross_entropy_takes_names_of_reductions():
    logits = infinicore.zeros((2, 4), dtype=infinicore.float32, device="cpu")
    target = infinicore.from_list([3, -100], dtype=infinicore.int64, device="cpu")
    log4 = pytest.approx(1.3862944)
    assert infinicore.cross_entropy(logits, target).tolist() == [log4, 0]
    assert infinicore.cross_entropy(logits, target, reduction="mean").item() == log4
    ignored = infinicore.from_list([3, 3], dtype=infinicore.int64, device="cpu")
    assert infinicore.cross_entropy(logits, ignored, ignore_index=3, reduction="sum").item() == 0
    with pytest.raises(errors.InvalidArgument) as caught:
        infinicore.cross_entropy(logits, target, reduction="average")
    assert str(caught.value) == ('cross_entropy: reduction=\'average\', it must be "none", "mean" or "sum"')


# ---- fingerprints ------------------------------------------------------------------------------------------


def test_fingerprints_are_stable():
    # A change here loses the operator in every plug-in that was built before: change the signature knowingly.
    assert OPERATORS["add"].signature == (
        'add(out: Out[Tensor, "N *s"], input: In[Tensor, "N *s~"], other: In[Tensor, "N *s~"])'
    )
    assert OPERATORS["add"].fingerprint == 0xFAE458CAABD36A31
    assert OPERATORS["rms_norm"].fingerprint == 0xB1900DE3F76CA7F9


def test_fingerprints_differ():
    assert len({found.fingerprint for found in OPERATORS.values()}) == len(OPERATORS)


BASE = {
    "out": 'Out[Tensor, "F n"]',
    "x": 'In[Tensor, "F n"]',
    "scale": "float",
}


def fingerprint(annotations, defaults=None, doc=None, **options):
    def varied(out, x, *, scale):
        pass

    def swapped(x, out, *, scale):
        pass

    function = varied if next(iter(annotations)) == "out" else swapped
    function.__name__, function.__doc__ = "varied", doc
    function.__annotations__ = annotations
    function.__kwdefaults__ = defaults
    function.__globals__["Mode"] = Mode
    return Schema(function, **options).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"x": 'In[Tensor, "W n"]'},  # dtype
        {"x": 'In[Tensor, "F n~"]'},  # dims
        {"x": 'In[Tensor, "F n"] | None'},  # optional
        {"x": 'In[TensorList, "F n"]'},  # kind
        {"x": 'InOut[Tensor, "F n"]'},  # role
        {"scale": "Static[float]"},  # static
        {"scale": "int"},  # kind
        {"scale": "Mode"},
    ],
)
def test_fingerprint_changes(change):
    assert fingerprint(BASE | change) != fingerprint(BASE)


def test_fingerprint_changes_with_order_and_name():
    assert fingerprint({"x": BASE["x"], "out": BASE["out"], "scale": "float"}) != fingerprint(BASE)
    assert fingerprint(BASE, name="other") != fingerprint(BASE)


def test_fingerprint_stays():
    same = fingerprint(BASE)
    assert fingerprint(BASE, {"scale": 2.0}) == same
    assert fingerprint(BASE, doc="Documentation.") == same
    assert fingerprint(BASE, c=schema.C("Other", workspace=False)) == same
    assert fingerprint(BASE, python="varied(x, scale, out=None)") == same
    assert fingerprint(BASE, inplace="x") == same


# ---- headers -----------------------------------------------------------------------------------------------


def test_header():
    from infinicore.cforms import header

    found = Schema(everything)
    assert header(found) == (
        "/* infinicore/operators/everything.h -- "
        "generated from its signature in infinicore/ops; do not edit. */\n"
        "#ifndef INFINICORE_OPERATORS_EVERYTHING_H\n"
        "#define INFINICORE_OPERATORS_EVERYTHING_H\n"
        "\n"
        "#include <infinicore/abi.h>\n"
        "\n"
        f"#define INFINI_FINGERPRINT_everything 0x{found.fingerprint:016x}ull\n"
        "/* Slot by slot: t tensor, l list of tensors, n list of ints, d double, i int64_t. */\n"
        '#define INFINI_SLOTS_everything "ttttliidiin"\n'
        "\n"
        "/* One field per slot: an overlay of `const infini_slot *args`. */\n"
        "typedef struct infini_everything_args {\n"
        "  const infini_tensor *out; /* Out: F [*s n] */\n"
        "  const infini_tensor *kept; /* InOut: i32 [3] */\n"
        "  const infini_tensor *x; /* In: F [*s~ n] */\n"
        "  const infini_tensor *weight; /* In: f16|bf16 [n//2]; NULL when absent */\n"
        "  const infini_tensor_list *parts; /* In: F [*i] */\n"
        "  int64_t flag; /* bool: known at execute only */\n"
        "  int64_t count; /* int: known at execute only */\n"
        "  double scale; /* float: known at execute only */\n"
        "  int64_t mode; /* static SLOW = 0, FAST = 3: known at create */\n"
        "  int64_t kind; /* dtype: known at execute only */\n"
        "  const infini_int_list *axes; /* static ints: known at create */\n"
        "} infini_everything_args;\n"
        "\n"
        "#endif /* INFINICORE_OPERATORS_EVERYTHING_H */\n"
    )


def test_headers_are_written_once(tmp_path):
    written = write_headers(tmp_path)
    folder = tmp_path / "infinicore" / "operators"
    public = {tmp_path / "infiniop.h", *(tmp_path / "infiniop").rglob("*.h*")}  # tests/capi knows them
    assert set(written) - public == {*(folder / f"{n}.h" for n in OPERATORS), folder.parent / "operators.h"}
    assert write_headers(tmp_path) == []
    (folder / "add.h").write_text("changed")
    (folder / "gone.h").write_text("an operator that is no more")
    assert write_headers(tmp_path) == [folder / "add.h"]
    assert sorted(path.stem for path in folder.iterdir()) == sorted(OPERATORS)


@pytest.mark.parametrize(("language", "standard"), [("c", "c11"), ("c++", "c++17")])
def test_headers_compile(tmp_path, language, standard):
    compiler = shutil.which("g++" if language == "c++" else "gcc")
    if compiler is None:
        pytest.skip(f"no {language} compiler")
    write_headers(tmp_path)
    check = "static_assert" if language == "c++" else "_Static_assert"
    # Behind the structs: every operator is in the list that INFINI_OPERATORS(X) expands.
    sizes = [
        "#define COUNT(name) +1",
        f'{check}(INFINI_OPERATORS(COUNT) == {len(OPERATORS)}, "INFINI_OPERATORS");',
    ]
    sizes += [
        f'{check}(sizeof(infini_{name}_args) == {len(found.parameters)} * sizeof(infini_slot), "{name}");'
        for name, found in OPERATORS.items()
    ]
    source = tmp_path / "all.txt"
    source.write_text("\n".join(["#include <infinicore/operators.h>", *sizes, ""]))
    include = Path(infinicore.__file__).parent / "include"
    command = [compiler, "-x", language, f"-std={standard}", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    command += [f"-I{tmp_path}", f"-I{include}", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# ---- build scripts read this too ---------------------------------------------------------------------------


def test_signatures_need_nothing_compiled():
    program = f"""
import sys, types
package = types.ModuleType("infinicore")
package.__path__ = [{str(Path(infinicore.__file__).parent)!r}]
sys.modules["infinicore"] = package
before = set(sys.modules)
import infinicore.schema, infinicore.ops
new = set(sys.modules) - before
assert "numpy" not in new and "inspect" not in new and "typing" not in new and "dataclasses" not in new, new
ours = {{name.split(".")[1] for name in new if name.startswith("infinicore.")}}
assert ours == {{"schema", "ops", "errors", "arguments"}}, ours
assert infinicore.ops.add is infinicore.schema.OPERATORS["add"]
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
