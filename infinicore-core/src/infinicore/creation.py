# Functions that make tensors. `empty`, `strided_empty` and `narrow` are called so often that they live
# in _tensor; everything here is built from them.
"""Making tensors."""

from __future__ import annotations

from infinicore import _dtype
from infinicore._tensor import (
    Tensor,
    empty,
    empty_named,
    from_memory,
    from_nested,
    narrow,
    store_range,
    strided_empty,
)
from infinicore.arguments import require_tensors
from infinicore.errors import ArgumentTypeError, InvalidArgument
from infinicore.interop import from_dlpack, from_numpy, from_torch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from infinicore._device import _AnyDevice
    from infinicore._dtype import _AnyDType
    from infinicore._tensor import _Ints, _Number

__all__ = [
    "arange",
    "empty",
    "empty_like",
    "from_blob",
    "from_dlpack",
    "from_list",
    "from_numpy",
    "from_torch",
    "full",
    "full_like",
    "narrow",
    "ones",
    "ones_like",
    "strided_empty",
    "strided_from_blob",
    "zeros",
    "zeros_like",
]


def zeros(
    size: _Ints, *, dtype: _AnyDType | None = None, device: _AnyDevice | None = None, pin_memory: bool = False
) -> Tensor:
    """Return a tensor of zeros; the parameters are those of `empty`.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.zeros((2, 3), dtype=ic.float32, device="cpu").tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    return empty_named("zeros", size, dtype, device, pin_memory).fill_(0)


def ones(
    size: _Ints, *, dtype: _AnyDType | None = None, device: _AnyDevice | None = None, pin_memory: bool = False
) -> Tensor:
    """Return a tensor of ones; the parameters are those of `empty`.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.ones((3,), dtype=ic.int32, device="cpu").tolist()
    [1, 1, 1]
    """
    return empty_named("ones", size, dtype, device, pin_memory).fill_(1)


def full(
    size: _Ints,
    fill_value: _Number,
    *,
    dtype: _AnyDType | None = None,
    device: _AnyDevice | None = None,
    pin_memory: bool = False,
) -> Tensor:
    """Return a tensor with `fill_value` everywhere; the other parameters are those of `empty`.

    Raises
    ------
    InvalidArgument, DTypeError
        If `dtype` cannot hold the value: an integer that does not fit, a fraction in an integer tensor.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.full((2,), 0.5, dtype=ic.float32, device="cpu").tolist()
    [0.5, 0.5]
    """
    return empty_named("full", size, dtype, device, pin_memory).fill_(fill_value)


def _like(name: str, input: Tensor, dtype: _AnyDType | None, device: _AnyDevice | None) -> Tensor:
    require_tensors(name, input=input)
    dtype, device = (input.dtype if dtype is None else dtype), (input.device if device is None else device)
    return empty_named(name, input.shape, dtype, device, False)


def empty_like(input: Tensor, *, dtype: _AnyDType | None = None, device: _AnyDevice | None = None) -> Tensor:
    """Return undefined values with the shape, and unless given the dtype and device, of `input`.

    Examples
    --------
    >>> import infinicore as ic
    >>> a = ic.zeros((2, 3), dtype=ic.float32, device="cpu")
    >>> b = ic.empty_like(a, dtype=ic.float16)
    >>> b.shape, b.dtype
    ([2, 3], infinicore.float16)
    """
    return _like("empty_like", input, dtype, device)


def zeros_like(input: Tensor, *, dtype: _AnyDType | None = None, device: _AnyDevice | None = None) -> Tensor:
    """Return zeros with the shape, and unless given the dtype and device, of `input`.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.zeros_like(ic.ones((2,), dtype=ic.int8, device="cpu")).tolist()
    [0, 0]
    """
    return _like("zeros_like", input, dtype, device).fill_(0)


def ones_like(input: Tensor, *, dtype: _AnyDType | None = None, device: _AnyDevice | None = None) -> Tensor:
    """Return ones with the shape, and unless given the dtype and device, of `input`.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.ones_like(ic.zeros((2,), dtype=ic.int8, device="cpu")).tolist()
    [1, 1]
    """
    return _like("ones_like", input, dtype, device).fill_(1)


def full_like(
    input: Tensor, fill_value: _Number, *, dtype: _AnyDType | None = None, device: _AnyDevice | None = None
) -> Tensor:
    """Return `fill_value` everywhere with the shape, and unless given the dtype and device, of `input`.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.full_like(ic.zeros((2,), dtype=ic.int8, device="cpu"), 7).tolist()
    [7, 7]
    """
    return _like("full_like", input, dtype, device).fill_(fill_value)


def arange(
    start: float,
    end: float | None = None,
    step: float = 1,
    *,
    dtype: _AnyDType | None = None,
    device: _AnyDevice | None = None,
) -> Tensor:
    """Return ``start, start + step, ...`` up to but not including `end`.

    Parameters
    ----------
    start, end, step : int or float
        ``arange(n)`` counts from 0 to ``n - 1``.
    dtype : dtype
        Element type; required.
    device : device or str
        Where; required.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.arange(4, dtype=ic.int64, device="cpu").tolist()
    [0, 1, 2, 3]
    >>> ic.arange(1, 0, -0.25, dtype=ic.float32, device="cpu").tolist()
    [1.0, 0.75, 0.5, 0.25]
    """
    if end is None:
        start, end = 0, start
    for name, value in (("start", start), ("end", end), ("step", step)):
        if not isinstance(value, (int, float)):
            raise ArgumentTypeError(f"arange: {name}: expected an int or float, got {type(value).__name__}")
        if value != value or value in (float("inf"), float("-inf")):
            raise InvalidArgument(f"arange: {name}: {value} is not finite")
    if step == 0:
        raise InvalidArgument("arange: step is 0")
    # Rounded up without floats where all three are integers; those are exact at any size.
    count = max(0, int(-((start - end) // step)))
    checked = empty_named("arange", count, dtype, device, False)
    host = checked if checked.device.type == "cpu" else empty_named("arange", count, dtype, "cpu", False)
    store_range(host, start, step)
    return checked if host is checked else checked.copy_(host)


def from_blob(
    data_ptr: int, size: _Ints, *, dtype: _AnyDType | None = None, device: _AnyDevice | None = None
) -> Tensor:
    """Return a contiguous tensor over memory at an address, without owning it.

    Parameters
    ----------
    data_ptr : int
        Address of element 0. The memory must outlive the tensor.
    size : sequence of int
        Shape.
    dtype : dtype
        Element type; required.
    device : device or str
        Whose memory it is; required.

    Examples
    --------
    >>> import infinicore as ic
    >>> import array
    >>> numbers = array.array("f", [1.0, 2.0, 3.0])
    >>> address, count = numbers.buffer_info()
    >>> t = ic.from_blob(address, (count,), dtype=ic.float32, device="cpu")
    >>> numbers[1] = 9.0
    >>> t.tolist()
    [1.0, 9.0, 3.0]
    """
    return from_memory(data_ptr, size, None, dtype, device, None, "from_blob")


def strided_from_blob(
    data_ptr: int,
    size: _Ints,
    strides: _Ints,
    *,
    dtype: _AnyDType | None = None,
    device: _AnyDevice | None = None,
) -> Tensor:
    """Return a strided tensor over memory at an address; see `from_blob`. Strides are in elements.

    Examples
    --------
    >>> import infinicore as ic
    >>> import array
    >>> numbers = array.array("f", range(6))
    >>> address, _ = numbers.buffer_info()
    >>> ic.strided_from_blob(address, (2, 2), (3, 1), dtype=ic.float32, device="cpu").tolist()
    [[0.0, 1.0], [3.0, 4.0]]
    """
    return from_memory(data_ptr, size, strides, dtype, device, None, "strided_from_blob")


def from_list(data: Any, *, dtype: _AnyDType | None = None, device: _AnyDevice | None = None) -> Tensor:
    """Return a tensor with the numbers of nested lists or tuples.

    Parameters
    ----------
    data : list or tuple
        Rectangular, not empty.
    dtype : dtype, optional
        As NumPy would choose if omitted: bool, int64, float64 or complex128.
    device : device or str, optional
        The CPU if omitted.

    Raises
    ------
    TypeError
        If `data` is no list or tuple.
    ValueError
        If it is empty or ragged.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.from_list([[1, 2], [3, 4]], dtype=ic.float16, device="cpu").tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    >>> ic.from_list([1, 2]).dtype
    infinicore.int64
    """
    if not isinstance(data, (list, tuple)):
        raise ArgumentTypeError(f"from_list: Input data must be a list or tuple, got {type(data).__name__}")
    shape = []
    level = data
    while isinstance(level, (list, tuple)):
        shape.append(len(level))
        if not level:
            raise InvalidArgument(f"from_list: Input data cannot be empty, got {data!r:.80}")
        level = level[0]
    result = from_nested(data, shape, _common_dtype(data) if dtype is None else dtype)
    return result if device is None else result.to(device=device)


def _common_dtype(data: Any) -> _dtype.dtype:
    """The dtype that holds every number of nested sequences."""
    ranks = {bool: 0, int: 1, float: 2, complex: 3}
    highest = 0
    stack = [data]
    while stack:
        for item in stack.pop():
            if isinstance(item, (list, tuple)):
                stack.append(item)
                continue
            rank = ranks.get(type(item))
            if rank is None:
                kind = getattr(getattr(item, "dtype", None), "kind", "")
                rank = {"b": 0, "i": 1, "u": 1, "c": 3}.get(kind, 2)
            highest = max(highest, rank)
    return _dtype.get(("bool", "int64", "float64", "complex128")[highest])
