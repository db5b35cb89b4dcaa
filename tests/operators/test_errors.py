# What operators say to wrong arguments: an exception of infinicore that names operator, argument and both
# values. That no dtype ends the process, tests/conformance says.
"""Bad input to operators."""

from __future__ import annotations

from typing import Any

import pytest

import infinicore as ic
from infinicore.schema import DTYPES, OPERATORS, Parameter, Schema
from infinicore.testing.conformance import invoke

LONG = {short: long for short, (_, long) in DTYPES.items()}
# Sizes that fit every signature, all different, so that a message shows which one it means.
SIZES = {
    "kv": 3, "h": 6, "s": 5, "l": 19, "d": 14, "b": 2, "m": 11, "n": 13, "k": 7, "e": 32, "v": 17,
    "maxpos": 23, "nb": 9, "bs": 4, "mb": 8, "oc": 6, "ic": 3, "icg": 3, "topk": 4, "c": 3, "t": 15, "dv": 10,
    "*s": (5, 13), "*r": (11,), "*b": (2,), "*o": (5,), "*k": (3, 2), "*i": (5, 13), "*p": (5,),
}  # fmt: skip
SCALARS = {"pos": 2, "pads": (0, 0), "strides": (1, 1), "dilations": (1, 1), "dim": 1, "axis": 1, "topk": 4}
SCALARS |= {"random_val": 0.5, "topp": 0.9, "temperature": 1.0, "min_val": -0.5, "max_val": 0.5, "k": 4}
SCALARS |= {"scale": 1.0, "max_seqlen_q": 15, "max_seqlen_k": 32}
DIMS = {
    "causal_softmax": {"n": 11, "m": 13},
    "conv": {"*s": (7, 8)},
    "dequantize_awq": {"k": 8, "n": 16, "g": 2},
    "dequantize_gptq": {"k": 24, "n": 16, "g": 2},
    "gather": {"*o": (5, 13)},
    "index_add": {"*r": (5, 13)},
    "int8_gemm": {"*u": (), "*v": (1,)},
    "mha_varlen": {"*n": (9, 4)},
    "scaled_dot_product_attention": {"*n": (8, 6), "*g": (8, 6)},
    "scatter": {"*r": (5, 13)},
    "topkrouter": {"n": 5},
}


def shape_of(schema: Schema, parameter: Parameter) -> tuple[int, ...]:
    sizes = {**SIZES, **DIMS.get(schema.name, {})}
    shape: tuple[int, ...] = ()
    for dim in parameter.dims:
        size = dim.number if dim.number is not None else sizes[dim.name]
        shape += size if isinstance(size, tuple) else (size // dim.divisor,)
    return shape


def dtype_of(parameter: Parameter) -> ic.dtype:
    choices = parameter.dtypes()
    return getattr(ic, LONG["f32" if "f32" in choices else choices[0]])


def arguments(schema: Schema) -> list[Any]:
    """Make a call that works: an entry per slot, outputs absent."""
    slots: list[Any] = []
    for p in schema.parameters:
        if p.role == "out":
            slots.append(None)
        elif p.kind == "tensors":
            slots.append([ic.zeros(shape_of(schema, p), dtype=ic.float32, device="cpu") for _ in range(2)])
        elif p.is_tensor:
            slots.append(ic.ones(shape_of(schema, p), dtype=dtype_of(p), device="cpu"))
        else:
            slots.append(SCALARS.get(p.name, p.default))
    return slots


def call(schema: Schema, slots: list[Any]) -> tuple[Any, ...]:
    return invoke(
        schema,
        getattr(ic.ops, schema.call.name),
        slots,
        give_out=any(slots[i] is not None for i in schema.call.outputs),
    )


# An output of any dtype has to be given: allocation would have to guess.
CALLABLE = [name for name in sorted(OPERATORS) if name != "cast"]
TENSORS = [
    (name, p.name)
    for name in CALLABLE
    for p in OPERATORS[name].tensors
    if p.role != "out" and p.kind == "tensor"
]


@pytest.mark.parametrize("name", CALLABLE)
def test_the_arguments_are_right_before_they_are_wrong(name: str) -> None:
    call(OPERATORS[name], arguments(OPERATORS[name]))


RANKED = [(n, t) for n, t in TENSORS if not all(dim.star for dim in OPERATORS[n].by_name[t].dims)]
TYPED = [(n, t) for n, t in TENSORS if set(OPERATORS[n].by_name[t].dtypes()) != set(DTYPES)]


def named(schema: Schema, slot: str) -> str:
    """Return the name under which a Python call passes a slot."""
    index = schema.by_name[slot].index
    return next(p.name for p in schema.call.parameters if p.slot == index)


@pytest.mark.parametrize(("name", "tensor"), RANKED)
def test_wrong_rank(name: str, tensor: str) -> None:
    schema = OPERATORS[name]
    parameter, slots = schema.by_name[tensor], arguments(schema)
    needed = sum(not dim.star for dim in parameter.dims)
    shape = (2,) * (needed - 1 if any(dim.star for dim in parameter.dims) else needed + 1)
    slots[parameter.index] = ic.ones(shape, dtype=dtype_of(parameter), device="cpu")
    with pytest.raises(ic.ShapeError) as caught:
        call(schema, slots)
    message = str(caught.value)
    assert message.startswith(f"{name}: {named(schema, tensor)} ") and str(len(shape)) in message


SHARED = [
    (name, p.name, dim.name, position)
    for name, tensor in TENSORS
    for p in [OPERATORS[name].by_name[tensor]]
    for position, dim in enumerate(p.dims)
    if dim.number is None and not dim.star and not dim.broadcast
    and not any(d.star for d in p.dims[:position])
    and sum(dim.name in [d.name for d in q.dims] for q in OPERATORS[name].tensors
            if q.role != "out" and not q.optional) > 1
]  # fmt: skip


@pytest.mark.parametrize(("name", "tensor", "symbol", "position"), SHARED)
def test_wrong_size(name: str, tensor: str, symbol: str, position: int) -> None:
    schema = OPERATORS[name]
    parameter, slots = schema.by_name[tensor], arguments(schema)
    shape = list(shape_of(schema, parameter))
    right, shape[position] = shape[position], 29
    slots[parameter.index] = ic.ones(tuple(shape), dtype=dtype_of(parameter), device="cpu")
    with pytest.raises(ic.ShapeError) as caught:
        call(schema, slots)
    message = str(caught.value)
    assert message.startswith(f"{name}:") and symbol in message
    assert "29" in message or str(29 * parameter.dims[position].divisor) in message
    # The other tensor may have said it in words of several elements.
    divisors = {dim.divisor for p in schema.tensors for dim in p.dims if dim.name == symbol}
    whole = right * parameter.dims[position].divisor
    assert any(str(whole // divisor) in message for divisor in divisors)


@pytest.mark.parametrize(("name", "tensor"), TYPED)
def test_wrong_dtype(name: str, tensor: str) -> None:
    schema = OPERATORS[name]
    parameter, slots = schema.by_name[tensor], arguments(schema)
    wrong = [short for short in DTYPES if short not in parameter.dtypes()]
    slots[parameter.index] = ic.empty(
        shape_of(schema, parameter), dtype=getattr(ic, LONG[wrong[0]]), device="cpu"
    )
    with pytest.raises(ic.DTypeError) as caught:
        call(schema, slots)
    message = str(caught.value)
    assert message.startswith(f"{name}: {named(schema, tensor)} ") and LONG[wrong[0]] in message


@pytest.mark.parametrize(("name", "tensor"), TENSORS)
@pytest.mark.parametrize("wrong", ["3", 7, object()], ids=["str", "int", "object"])
def test_wrong_type(name: str, tensor: str, wrong: object) -> None:
    schema = OPERATORS[name]
    slots = arguments(schema)
    slots[schema.by_name[tensor].index] = wrong
    with pytest.raises(ic.ArgumentTypeError) as caught:
        call(schema, slots)
    message = str(caught.value)
    assert name in message and type(wrong).__name__ in message


@pytest.mark.parametrize("name", [name for name in CALLABLE if sum(n == name for n, _ in TENSORS) > 1])
def test_two_devices(name: str, sim: ic.device) -> None:
    schema = OPERATORS[name]
    slots = arguments(schema)
    last = [p for p in schema.tensors if p.role != "out"][-1]
    slots[last.index] = slots[last.index].to(sim)
    with pytest.raises(ic.DeviceMismatch) as caught:
        call(schema, slots)
    message = str(caught.value)
    assert message.startswith(f"{name}:") and "cpu" in message and "sim" in message


@pytest.mark.parametrize(
    ("name", "tensor", "limit"),
    [
        ("cross_entropy", "target", 13),
        ("dequantize_gptq", "g_idx", 2),
        ("embedding", "input", 17),
        ("gather", "index", 13),
        ("index_add", "index", 13),
        ("index_select", "index", 13),
        ("kv_caching", "past_kv_lengths", 19),
        ("mha_kvcache", "block_table", 9),
        ("mha_kvcache", "seqlens_k", 32),
        ("mha_varlen", "cum_seqlens_q", 15),
        ("paged_attention", "block_tables", 9),
        ("paged_attention", "cache_lens", 32),
        ("paged_attention_prefill", "cu_seqlens_q", 15),
        ("paged_attention_prefill", "history_lens", 32),
        ("rope", "pos_ids", 23),
        ("scatter", "index", 13),
    ],
)
@pytest.mark.parametrize("wrong", [99, -1])
def test_index_out_of_range(name: str, tensor: str, limit: int, wrong: int) -> None:
    schema = OPERATORS[name]
    parameter, slots = schema.by_name[tensor], arguments(schema)
    dtype = ic.int64 if "i64" in parameter.dtypes() else ic.int32
    slots[parameter.index] = ic.full(shape_of(schema, parameter), wrong, dtype=dtype, device="cpu")
    with pytest.raises(IndexError) as caught:
        call(schema, slots)
    message = str(caught.value)
    assert isinstance(caught.value, ic.Error)
    assert name in message and str(wrong) in message and str(limit) in message


PIXEL = ic.ones((1, 1, 1, 1), dtype=ic.float32, device="cpu")
STRANGERS = (None, "x", 1.5, object(), [None], ic.float16)
#: Functions over operators, and constructors, that look at an argument before an operator does.
FUNCTIONS = {
    "baddbmm": lambda x: ic.baddbmm(x, PIXEL[0], PIXEL[0]),
    "baddbmm, out": lambda x: ic.baddbmm(PIXEL[0], PIXEL[0], PIXEL[0], out=x if x is not None else 1),
    "clip": lambda x: ic.clip(x, 0, 1),
    "max": ic.max,
    "min": ic.min,
    "split": lambda x: ic.split(x, 2),
    "split, sizes": lambda n: ic.split(ic.zeros((4,), dtype=ic.float32, device="cpu"), n),
    "stack": ic.stack,
    "to_numpy": ic.interop.to_numpy,
    "to_torch": ic.interop.to_torch,
    "zeros_like": ic.zeros_like,
    "Conv1d": lambda n: ic.nn.Conv1d(n, 4, 3),
    "Conv2d, groups": lambda n: ic.nn.Conv2d(4, 4, 3, groups=n),
    "Conv2d, kernel": lambda n: ic.nn.Conv2d(4, 4, n),
    "conv2d, groups": lambda n: ic.nn.functional.conv2d(PIXEL, PIXEL, groups=n),
    "conv2d, out": lambda x: ic.nn.functional.conv2d(PIXEL, PIXEL, out=x if x is not None else 1),
    "Embedding": lambda x: ic.nn.Embedding(2, 2, _weight=x if x is not None else 1),
    "LayerNorm": ic.nn.LayerNorm,
    "RMSNorm": ic.nn.RMSNorm,
    "RoPE": lambda n: ic.nn.RoPE(n, 1e4, 2),
    "TransformerBlock": lambda n: ic.nn.TransformerBlock(n, 8, 2),
}


@pytest.mark.parametrize("stranger", STRANGERS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_over_operators_name_what_is_wrong(name: str, stranger: object) -> None:
    if name == "to_torch":
        pytest.importorskip("torch")
    with pytest.raises(ic.Error, match=name.partition(",")[0]):
        FUNCTIONS[name](stranger)


def test_output_that_overlaps_itself() -> None:
    x = ic.ones((4, 4), dtype=ic.float32, device="cpu")
    out = ic.empty((4,), dtype=ic.float32, device="cpu").expand((4, 4))
    with pytest.raises(ic.StrideError, match=r"^neg: out .*\(0, 1\)"):
        ic.neg(x, out=out)


def test_unknown_keyword_and_too_many_arguments() -> None:
    x = ic.ones((4,), dtype=ic.float32, device="cpu")
    with pytest.raises(ic.ArgumentTypeError, match=r"add.*where"):
        ic.add(x, x, where=None)
    with pytest.raises(ic.ArgumentTypeError, match="add"):
        ic.add(x, x, x, x)
    with pytest.raises(ic.ArgumentTypeError, match=r"add.*other"):
        ic.add(x)
