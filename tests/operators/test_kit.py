# The testing kit tested: it calls right what is right, and it sees what is wrong.
# A comparison that could not fail would let every kernel pass.
"""Tests of infinicore.testing."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import infinicore as ic
from infinicore.schema import DTYPES, OPERATORS
from infinicore.testing.conformance import check
from infinicore.testing.strategies import (
    NUMPY,
    DrawnCall,
    DrawnTensor,
    Layout,
    calls,
    decode,
    encode,
    itemsize,
    layouts,
    tensors,
)
from infinicore.testing.tolerance import EXACT, Tolerance, mismatches, spacing, tolerance


@given(data=st.data(), writable=st.booleans())
def test_layouts_stay_in_their_storage(data: st.DataObject, writable: bool) -> None:
    shape = tuple(data.draw(st.lists(st.integers(0, 5), max_size=4)))
    layout = data.draw(layouts(shape, writable=writable))
    touched = np.zeros(layout.size, int)
    indices = layout.of(np.arange(layout.size))
    np.add.at(touched, indices.reshape(-1), 1)
    assert indices.shape == shape
    assert not touched[:5].any() and not touched[-5:].any()  # the guards
    if writable:
        assert touched.max(initial=0) <= 1


@pytest.mark.parametrize("dtype", sorted(NUMPY))
@given(data=st.data())
def test_values_survive_memory(dtype: str, data: st.DataObject) -> None:
    drawn = data.draw(tensors((3, 2), dtype))
    memory = encode(drawn.values, dtype)
    assert memory.dtype.itemsize == itemsize(dtype)
    np.testing.assert_array_equal(decode(memory, dtype), drawn.values)


def test_spacing() -> None:
    values = np.array([1.0, 1.5, 2.0, 1000.0, 0.0])
    np.testing.assert_array_equal(spacing(values, np.float32), np.spacing(values.astype(np.float32)))
    assert spacing(np.array([1.0]), ml_dtypes.bfloat16)[0] == 2**-7


@pytest.mark.parametrize(
    ("got", "want", "allowed", "right"),
    [
        (1.0, 1.0, EXACT, True),
        (1.0 + 2**-10, 1.0, EXACT, False),
        (1.0 + 2**-10, 1.0, Tolerance(ulps=1), True),
        (1.0 + 2**-9, 1.0, Tolerance(ulps=1), False),
        (100.0, 101.0, Tolerance(rtol=0.02), True),
        (100.0, 101.0, Tolerance(atol=0.5), False),
        (np.nan, np.nan, EXACT, True),
        (np.nan, 1.0, Tolerance(ulps=1, atol=1), False),
        (1.0, np.nan, Tolerance(ulps=1, atol=1), False),
        (np.inf, np.inf, EXACT, True),
        (-np.inf, np.inf, Tolerance(atol=1e9), False),
        (np.inf, 1e6, EXACT, True),  # beyond the largest float16
        (np.inf, 60000.0, Tolerance(ulps=1), False),
        (65504.0, 65530.0, Tolerance(ulps=1), True),  # rounds to infinity, and lies next to it
        (65504.0, np.inf, Tolerance(ulps=1), False),
    ],
)
def test_what_counts_as_equal(got: float, want: float, allowed: Tolerance, right: bool) -> None:
    wrong = mismatches(np.array([got], np.float16), np.array([want]), allowed, "f16")
    assert wrong.tolist() == [not right]


def test_integers_are_exact() -> None:
    got, want = np.array([1, 2], np.int8), np.array([1, 258])
    assert mismatches(got, want, Tolerance(atol=5), "i8").tolist() == [False, False]  # 258 wraps to 2
    assert mismatches(got, np.array([1, 3]), Tolerance(atol=5), "i8").tolist() == [False, True]


@pytest.mark.parametrize("name", ["add", "div", "silu", "softmax", "linear", "rms_norm", "sum"])
@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_bits_that_are_cut_off_are_seen(name: str, dtype: str) -> None:
    """Rounding to nearest is right, the same number rounded towards zero is not."""
    want = np.random.default_rng(0).uniform(0.5, 1, 1000)
    allowed, step = tolerance(name, DTYPES[dtype][1]), spacing(want, NUMPY[dtype])
    cut = (np.floor(want / step) * step).astype(NUMPY[dtype])
    assert mismatches(cut, want, allowed, dtype).sum() > 100
    assert not mismatches(want.astype(NUMPY[dtype]), want, allowed, dtype).any()


def call_of_add(*, give_out: bool) -> DrawnCall:
    layout = Layout((2, 3), (3, 1), 5, 16)
    inputs = [DrawnTensor("f32", layout, np.full((2, 3), value, np.float32)) for value in (1, 2)]
    return DrawnCall(OPERATORS["add"], [DrawnTensor("f32", layout, None), *inputs], give_out, {})


@pytest.mark.parametrize("give_out", [True, False])
def test_check_sees_a_wrong_result(give_out: bool, cpu: ic.device, monkeypatch: pytest.MonkeyPatch) -> None:
    check(call_of_add(give_out=give_out), cpu)
    monkeypatch.setattr(ic.ops, "add", ic.ops.sub)
    with pytest.raises(
        AssertionError, match=r"out: 6 of 6 elements are wrong; first at \[0, 0\]: got .*-1.*want .*3"
    ):
        check(call_of_add(give_out=give_out), cpu)


def test_check_sees_a_stray_write(cpu: ic.device, monkeypatch: pytest.MonkeyPatch) -> None:
    right = ic.ops.add

    def add(input: ic.Tensor, other: ic.Tensor, *, out: ic.Tensor) -> ic.Tensor:
        result = right(input, other, out=out)
        ic.from_blob(out.data_ptr() + 6 * 4, (1,), dtype=ic.float32, device="cpu").fill_(0)
        return result

    monkeypatch.setattr(ic.ops, "add", add)
    with pytest.raises(AssertionError, match="out: memory was written that does not belong to a result"):
        check(call_of_add(give_out=True), cpu)


def test_check_sees_a_changed_input(cpu: ic.device, monkeypatch: pytest.MonkeyPatch) -> None:
    right = ic.ops.add

    def add(input: ic.Tensor, other: ic.Tensor, *, out: ic.Tensor) -> ic.Tensor:
        result = right(input, other, out=out)
        other.fill_(9)
        return result

    monkeypatch.setattr(ic.ops, "add", add)
    with pytest.raises(AssertionError, match="other: memory was written"):
        check(call_of_add(give_out=True), cpu)


def test_dtypes_can_be_fixed() -> None:
    @given(data=st.data())
    def draw(data: st.DataObject) -> None:
        call = data.draw(calls(OPERATORS["rms_norm"], dtypes={"F": "bf16", "W": "f32"}))
        assert [slot.dtype for slot in call.slots[:3]] == ["bf16", "bf16", "f32"]

    draw()


def test_one_tensor_may_stand_for_two_inputs(cpu: ic.device) -> None:
    """Also where the output is that very tensor, which then nothing but the result may change."""
    layout = Layout((2, 3), (3, 1), 5, 16)
    make = lambda dtype: np.full((2, 3), 2, NUMPY[dtype])
    twice = DrawnTensor("f32", layout, make("f32"), make)
    for alias in ({}, {0: 1}, {0: 2}):
        call = DrawnCall(OPERATORS["add"], [DrawnTensor("f32", layout, None), twice, twice], True, alias)
        assert "<other is input>" in repr(call)
        check(call, cpu)
        half = call.retyped({"N": "f16"})
        assert half.slots[1] is half.slots[2] and half.slots[1].dtype == "f16"
        check(half, cpu)


def test_every_kind_of_call_is_drawn() -> None:
    """Layouts, ranks, sizes, aliasing, one tensor for two inputs: all of them come, and not seldom."""
    seen: dict[str, int] = {}

    @settings(max_examples=1000, derandomize=True, database=None)
    @given(call=calls(OPERATORS["add"]))
    def draw(call: DrawnCall) -> None:
        _, input, other = call.slots
        strides = [stride for tensor in (input, other) for stride in tensor.layout.strides]
        row_major = sorted(input.layout.strides, reverse=True)
        for kind, holds in {
            "0-d": not input.layout.shape,
            "empty": 0 in input.layout.shape,
            "prime": bool({3, 5, 7, 13, 17, 31} & {*input.layout.shape}),
            "zero stride": 0 in strides,
            "negative stride": min(strides, default=1) < 0,
            "zero and negative": 0 in strides and min(strides) < 0,
            "transposed": list(input.layout.strides) != row_major and min(strides) > 0,
            "padded": input.layout.size > input.values.size + 10,
            "broadcast": input.layout.shape != other.layout.shape,
            "out is an input": bool(call.alias),
            "out is allocated": not call.give_out,
            "twins": input is other,
            "twins and out": input is other and bool(call.alias),
        }.items():
            seen[kind] = seen.get(kind, 0) + bool(holds)

    draw()
    assert min(seen.values()) >= 3, seen
