# The element types: one object each, every name they answer to, and exact conversion of single elements.
from __future__ import annotations

import copy
import math
import pickle

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import infinicore as ic
from infinicore import _dtype, utils

NAMES = [
    *("byte bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float8 float16 float32 float64").split(),
    *("complex16 complex32 complex64 complex128 bfloat16").split(),
]
ALIASES = {
    "half": "float16",
    "float": "float32",
    "double": "float64",
    "short": "int16",
    "int": "int32",
    "long": "int64",
    "chalf": "complex32",
    "cfloat": "complex64",
    "cdouble": "complex128",
}
FLOATS = {
    "float8": ml_dtypes.float8_e4m3fn,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float32": np.float32,
    "float64": np.float64,
}


@pytest.mark.parametrize("name", NAMES)
def test_a_dtype_is_one_object(name):
    dtype = getattr(ic, name)
    assert isinstance(dtype, ic.dtype)
    assert str(dtype) == repr(dtype) == f"infinicore.{name}"
    assert _dtype.get(name) is _dtype.get(dtype.short) is _dtype.get(str(dtype)) is dtype
    assert pickle.loads(pickle.dumps(dtype)) is copy.copy(dtype) is copy.deepcopy(dtype) is dtype
    assert {dtype: 1}[ic.empty((2,), dtype=dtype, device="cpu").dtype] == 1
    assert ic.empty((2,), dtype=dtype, device="cpu").dtype is dtype
    assert dtype._underlying is dtype


@pytest.mark.parametrize("alias", ALIASES)
def test_aliases(alias):
    assert getattr(ic, alias) is getattr(ic, ALIASES[alias])
    assert _dtype.get(alias) is getattr(ic, alias)


def test_numbers_follow_the_public_enumeration():
    assert [dtype.code for dtype in _dtype.DTYPES] == list(range(1, 20))
    assert [dtype.name for dtype in _dtype.DTYPES] == NAMES
    assert [dtype.itemsize for dtype in _dtype.DTYPES] == [
        1,
        1,
        1,
        2,
        4,
        8,
        1,
        2,
        4,
        8,
        1,
        2,
        4,
        8,
        2,
        4,
        8,
        16,
        2,
    ]


def test_dtypes_cannot_be_made():
    with pytest.raises(ic.DTypeError, match="interned"):
        ic.dtype("float16")


@pytest.mark.parametrize("value", ["float17", "", None, 7, object(), str, np.str_, np.dtype("datetime64[s]")])
def test_what_names_no_dtype(value):
    with pytest.raises(ic.DTypeError, match="does not name an element type"):
        _dtype.get(value)


def test_python_types():
    assert [_dtype.get(kind).name for kind in (bool, int, float, complex)] == [
        "bool",
        "int64",
        "float64",
        "complex128",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_numpy_round_trip(name):
    dtype = getattr(ic, name)
    array = utils.infinicore_to_numpy_dtype(dtype)
    assert isinstance(array, np.dtype)
    assert array.itemsize == dtype.itemsize
    # NumPy has one type for a byte and an unsigned integer of 8 bits.
    assert utils.numpy_to_infinicore_dtype(array) is (ic.uint8 if name == "byte" else dtype)


def test_bfloat16_is_that_of_ml_dtypes():
    assert utils.infinicore_to_numpy_dtype(ic.bfloat16) == np.dtype(ml_dtypes.bfloat16)
    assert utils.numpy_to_infinicore_dtype(ml_dtypes.bfloat16) is ic.bfloat16
    assert utils.numpy_to_infinicore_dtype(np.float32) is ic.float32


@pytest.mark.torch
@pytest.mark.parametrize("name", [name for name in NAMES if name != "complex16"])
def test_torch_round_trip(name, torch):
    dtype = getattr(ic, name)
    other = utils.to_torch_dtype(dtype)
    assert isinstance(other, torch.dtype)
    assert other.itemsize == dtype.itemsize
    assert utils.to_infinicore_dtype(other) is (ic.uint8 if name == "byte" else dtype)


@pytest.mark.torch
def test_unknown_types_of_others(torch):
    with pytest.raises(ValueError, match=r"Unsupported torch dtype: torch.float8_e5m2"):
        utils.to_infinicore_dtype(torch.float8_e5m2)
    with pytest.raises(ValueError, match="Unsupported infinicore dtype"):
        utils.to_torch_dtype(ic.complex16)


def test_unsupported_numpy_types():
    with pytest.raises(ValueError, match="Unsupported numpy dtype"):
        utils.numpy_to_infinicore_dtype(np.dtype("datetime64[s]"))
    with pytest.raises(ValueError, match="Unsupported infinicore dtype"):
        utils.infinicore_to_numpy_dtype("no such type")


@pytest.mark.parametrize("name", FLOATS)
@given(value=st.floats())
def test_floats_round_to_nearest_even(name, value):
    # The witnesses round a double in one step, as we claim to.
    with np.errstate(over="ignore"):
        expected = float(np.float64(value).astype(FLOATS[name]))
    stored = ic.from_list([value], dtype=name).item()
    assert stored == expected or (math.isnan(stored) and math.isnan(expected))
    if stored == stored:
        assert math.copysign(1, stored) == math.copysign(1, expected)


@pytest.mark.parametrize("name", ["float8", "float16", "bfloat16"])
def test_every_bit_pattern_of_small_floats(name):
    kind = FLOATS[name]
    bits = np.arange(256 ** np.dtype(kind).itemsize).astype(f"u{np.dtype(kind).itemsize}")
    with np.errstate(invalid="ignore"):
        values = bits.view(kind).astype(np.float64)
    tensor = ic.from_numpy(bits.view(kind))
    decoded = np.array(tensor.tolist())
    np.testing.assert_array_equal(decoded, values)
    np.testing.assert_array_equal(np.signbit(decoded), np.signbit(values))
    # And back: what is exact stays, NaN apart, which has many patterns.
    again = ic.from_list(decoded.tolist(), dtype=name).numpy().view(bits.dtype)
    np.testing.assert_array_equal(again[~np.isnan(values)], bits[~np.isnan(values)])


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name.lstrip("u").startswith("int") or name == "byte"]
)
def test_integers_keep_their_limits(name):
    dtype = getattr(ic, name)
    bits = 8 * dtype.itemsize
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dtype.kind == "i" else (0, 2**bits - 1)
    assert ic.from_list([low, high], dtype=dtype).tolist() == [low, high]
    for outside in (low - 1, high + 1):
        with pytest.raises(ic.InvalidArgument, match=f"{outside} does not fit"):
            ic.from_list([outside], dtype=dtype)


def test_numbers_that_a_dtype_lacks():
    with pytest.raises(ic.DTypeError, match=r"float 1.5"):
        ic.from_list([1.5], dtype=ic.int32)
    with pytest.raises(ic.DTypeError, match="float nan"):
        ic.full((2,), float("nan"), dtype=ic.int32, device="cpu")
    with pytest.raises(ic.DTypeError, match="complex number"):
        ic.full((2,), 1j, dtype=ic.float32, device="cpu")
    with pytest.raises(ic.ArgumentTypeError, match="expected a number, got str"):
        ic.full((2,), "one", dtype=ic.float32, device="cpu")
    with pytest.raises(ic.InvalidArgument, match=r"too large for infinicore\.float32"):
        ic.full((2,), 10**400, dtype=ic.float32, device="cpu")


@pytest.mark.parametrize("name", ["complex16", "complex32", "complex64", "complex128"])
def test_complex_elements(name):
    value = complex(-1.5, 0.25)  # exact even in a pair of float8
    tensor = ic.from_list([value, 2], dtype=name)
    assert tensor.tolist() == [value, 2 + 0j]
    assert complex(tensor[0]) == value


def test_numpy_scalars_are_numbers():
    tensor = ic.from_list(
        [np.float32(1.5), np.int8(2), np.bool_(True), ml_dtypes.bfloat16(0.5)], dtype=ic.float32
    )
    assert tensor.tolist() == [1.5, 2, 1, 0.5]
