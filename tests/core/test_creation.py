# Functions that make tensors: values, layouts, and what they say about impossible arguments.
from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import infinicore as ic
from infinicore import _dtype

ALL = [dtype.name for dtype in _dtype.DTYPES]
CPU = {"device": "cpu"}


@pytest.mark.parametrize("name", ALL)
def test_zeros_ones_and_full_in_every_dtype(name, device):
    for make, value in ((ic.zeros, 0), (ic.ones, 1)):
        tensor = make((4, 3), dtype=name, device=device)
        assert tensor.shape == [4, 3]
        assert tensor.tolist() == [[value] * 3] * 4
    assert ic.full((2, 2), 1, dtype=name, device=device).tolist() == [[1, 1]] * 2
    assert ic.full((), 1, dtype=name, device=device).item() == 1


def test_memory_is_really_written(device):
    """Freed blocks come back dirty: zeros and ones must not count on fresh memory."""
    for _ in range(3):
        assert ic.full((64,), 7, dtype=ic.int32, device=device).tolist() == [7] * 64
        assert ic.zeros((64,), dtype=ic.int32, device=device).tolist() == [0] * 64
        assert ic.ones((64,), dtype=ic.int32, device=device).tolist() == [1] * 64


def test_likes():
    source = ic.from_list([[1, 2, 3], [4, 5, 6]], dtype=ic.int32)
    assert ic.empty_like(source).shape == [2, 3]
    assert ic.empty_like(source.T).stride() == [2, 1]
    other = ic.empty_like(source, dtype=ic.float16)
    assert (other.shape, other.dtype, other.device) == ([2, 3], ic.float16, ic.device("cpu"))
    assert ic.zeros_like(source).tolist() == [[0] * 3] * 2
    assert ic.ones_like(source, dtype=ic.bool).tolist() == [[True] * 3] * 2
    assert ic.full_like(source, 9).tolist() == [[9] * 3] * 2
    for make in (ic.empty_like, ic.zeros_like, ic.ones_like):
        with pytest.raises(TypeError, match=f"{make.__name__}: input must be an infinicore.Tensor, not list"):
            make([1])


@pytest.mark.parametrize("name", ["empty", "zeros", "ones"])
def test_dtype_and_device_are_required(name):
    make = getattr(ic, name)
    with pytest.raises(TypeError, match=f"{name}: dtype is required"):
        make((2, 2))
    with pytest.raises(TypeError, match=f"{name}: device is required"):
        make((2, 2), dtype=ic.float32)
    with pytest.raises(ic.DTypeError, match="does not name"):
        make((2, 2), dtype="float99", device="cpu")
    with pytest.raises(ic.UnknownDevice, match="nonsense"):
        make((2, 2), dtype=ic.float32, device="nonsense")


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        ((2, -1), ic.ShapeError, "size -1 of dimension 1 is negative"),
        ((2.5,), ic.ArgumentTypeError, "empty: size: expected an integer, got float 2.5"),
        ("ab", ic.ArgumentTypeError, "expected an integer, got str 'a'"),
        (None, ic.ArgumentTypeError, "empty: size: expected integers, got NoneType"),
        ((2**40, 2**40), ic.ShapeError, r"spans more than 2\*\*63 bytes"),
        ((2**64,), ic.InvalidArgument, "does not fit into 64 bits"),
        ((1,) * 65, ic.ShapeError, "65 dimensions, at most 64"),
    ],
)
def test_impossible_sizes(size, error, message):
    with pytest.raises(error, match=message):
        ic.empty(size, dtype=ic.float32, device="cpu")


def test_sizes_come_in_many_forms():
    for size in (
        (2, 3),
        [2, 3],
        ic.zeros((2, 3), dtype=ic.int8, device="cpu").shape,
        np.array([2, 3]),
        range(2, 4),
    ):
        assert ic.empty(size, dtype=ic.float32, device="cpu").shape == [2, 3]
    assert ic.empty(5, dtype=ic.float32, device="cpu").shape == [5]
    assert ic.empty((), dtype=ic.float32, device="cpu").shape == []


def test_more_memory_than_there_is(device):
    with pytest.raises(
        ic.OutOfMemory, match=r"out of memory: 4503599627370496 bytes requested; \d+ of \d+ bytes"
    ):
        ic.empty((2**50,), dtype=ic.float32, device=device)
    assert issubclass(ic.OutOfMemory, MemoryError)


def test_strided_empty():
    tensor = ic.strided_empty([2, 3], [1, 2], dtype=ic.float32, device="cpu")
    assert (tensor.shape, tensor.stride(), tensor.is_contiguous()) == ([2, 3], [1, 2], False)
    reverse = ic.strided_empty([4], [-1], dtype=ic.float32, device="cpu")
    reverse.copy_(ic.arange(4, dtype=ic.float32, device="cpu"))
    assert reverse.tolist() == [0, 1, 2, 3]
    with pytest.raises(ic.ShapeError, match="size has 2 entries, strides has 1"):
        ic.strided_empty([2, 3], [1], dtype=ic.float32, device="cpu")


def test_from_blob_sees_later_changes():
    buffer = np.arange(6, dtype=np.float32)
    tensor = ic.from_blob(buffer.ctypes.data, [2, 3], dtype=ic.float32, device="cpu")
    buffer[4] = 40
    assert tensor.tolist() == [[0, 1, 2], [3, 40, 5]]
    turned = ic.strided_from_blob(buffer.ctypes.data, [3, 2], [1, 3], dtype=ic.float32, device="cpu")
    assert turned.tolist() == [[0, 3], [1, 40], [2, 5]]
    tensor[0] = 9
    assert buffer[:3].tolist() == [9, 9, 9]


def test_from_blob_is_bounded():
    buffer = np.zeros(6, dtype=np.float32)
    tensor = ic.from_blob(buffer.ctypes.data, [6], dtype=ic.float32, device="cpu")
    with pytest.raises(ic.InvalidArgument, match="reaches bytes 0 to 28 of a storage of 24 bytes"):
        tensor.as_strided([7], [1])
    with pytest.raises(ic.InvalidArgument, match="data_ptr is 0 for 6 elements"):
        ic.from_blob(0, [6], dtype=ic.float32, device="cpu")
    with pytest.raises(ic.ArgumentTypeError, match="expected an address as an int, got ndarray"):
        ic.from_blob(buffer, [6], dtype=ic.float32, device="cpu")


@pytest.mark.parametrize("name", ALL)
def test_from_list_in_every_dtype(name, device):
    # Values that even float8 holds; a truth value keeps only whether it is zero.
    values = [[0, 1, 2], [3, 4, 5]]
    tensor = ic.from_list(values, dtype=name, device=device)
    expected = [[bool(value) for value in row] for row in values] if name == "bool" else values
    assert tensor.tolist() == expected
    assert (tensor.dtype.name, tensor.device) == (name, device)


def test_from_list_chooses_like_numpy():
    for values in ([True, False], [True, 2], [1, 2.5], [1, 2j], [[1], [2.0]], (1, 2)):
        assert ic.from_list(values).dtype is ic.utils.numpy_to_infinicore_dtype(np.array(values).dtype)
        assert ic.from_list(values).tolist() == np.array(values).tolist()


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ("abc", TypeError, "Input data must be a list or tuple, got str"),
        (np.ones(3), TypeError, "Input data must be a list or tuple, got ndarray"),
        ([], ValueError, "cannot be empty"),
        ([[], []], ValueError, "cannot be empty"),
        ([[1, 2], [3]], ValueError, "ragged: expected 2 elements in dimension 1, got 1"),
        ([[1, 2], 3], ValueError, "ragged: expected 2 elements in dimension 1, got the int 3"),
        ([1, [2]], ValueError, "ragged"),
        ([1, "two"], TypeError, "expected a number, got str"),
        ([1, None], TypeError, "expected a number, got NoneType"),
    ],
)
def test_from_list_of_the_wrong_thing(data, error, message):
    with pytest.raises(error, match=message) as caught:
        ic.from_list(data)
    assert isinstance(caught.value, ic.Error)


@given(start=st.integers(-50, 50), length=st.integers(0, 50), step=st.integers(-7, 7).filter(bool))
def test_arange_of_integers(start, length, step):
    end = start + length * (1 if step > 0 else -1)
    tensor = ic.arange(start, end, step, dtype=ic.int64, device="cpu")
    assert tensor.tolist() == list(range(start, end, step))


def test_arange(device):
    assert ic.arange(4, dtype=ic.int32, device=device).tolist() == [0, 1, 2, 3]
    floats = ic.arange(0, 1, 0.125, dtype=ic.float32, device=device)
    assert floats.tolist() == np.arange(0, 1, 0.125).tolist()
    with pytest.raises(ic.InvalidArgument, match="step is 0"):
        ic.arange(0, 3, 0, dtype=ic.int32, device=device)
    with pytest.raises(ic.InvalidArgument, match="end: inf is not finite"):
        ic.arange(float("inf"), dtype=ic.float32, device=device)
    with pytest.raises(TypeError, match="arange: dtype is required"):
        ic.arange(3)


def test_from_memory_of_ctypes():
    buffer = (ctypes.c_int32 * 4)(1, 2, 3, 4)
    assert ic.from_blob(ctypes.addressof(buffer), [4], dtype=ic.int32, device="cpu").tolist() == [1, 2, 3, 4]


def test_pinned_memory():
    tensor = ic.ones((3,), dtype=ic.float32, device="cpu", pin_memory=True)
    assert tensor.is_pinned()
    assert not ic.ones((3,), dtype=ic.float32, device="cpu").is_pinned()
    assert tensor.tolist() == [1, 1, 1]
    assert tensor.device == ic.device("cpu")


def test_the_example_of_the_specification():
    """The code block of A47: from_blob, copy, compare."""
    ones = ic.ones((4, 8), dtype=ic.float32, device="cpu")
    copied = ic.empty_like(ones)
    copied.copy_(ones)
    assert copied.tolist() == ones.tolist() == [[1.0] * 8] * 4
