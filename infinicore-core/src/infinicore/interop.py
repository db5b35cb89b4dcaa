# Other libraries: NumPy and torch arrays from tensors and back, without copies where memory can be shared.
# Nothing here imports NumPy or torch before it is asked for an array of theirs.
"""Exchange with NumPy and PyTorch.

Examples
--------
>>> import infinicore as ic
>>> import numpy as np
>>> x = ic.interop.from_numpy(np.array([1.0, 2.0]))
>>> ic.interop.to_numpy(x + x)
array([2., 4.])
"""

from __future__ import annotations

import sys

from infinicore import _dtype, utils
from infinicore._dlpack import from_dlpack
from infinicore._tensor import Tensor, from_memory, host_tensor, reinterpret
from infinicore.arguments import require_tensors
from infinicore.errors import ArgumentTypeError, DTypeError, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from infinicore._device import _AnyDevice
    from infinicore._dtype import _AnyDType

__all__ = ["from_dlpack", "from_numpy", "from_torch", "to_numpy", "to_torch"]

_CUDA = 2  # kDLCUDA
# Integers of the same size: every library has them, and a view of the same bytes costs nothing.
_CARRIERS = {1: "uint8", 2: "int16", 4: "int32", 8: "int64"}
# What NumPy's side of the buffer protocol does not know.
_CARRIED = ("bfloat16", "float8", "complex16", "complex32")


def to_numpy(tensor: Tensor) -> Any:
    """Return a NumPy array with the tensor's values.

    Returns
    -------
    numpy.ndarray
        A view of the tensor's memory where the host may read that, else a copy.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.ones((2,), dtype=ic.float32, device="cpu").to_numpy()
    array([1., 1.], dtype=float32)
    """
    import numpy

    require_tensors("to_numpy", tensor=tensor)
    host = host_tensor(tensor)
    if host.dtype.name not in _CARRIED:
        return numpy.asarray(memoryview(host))
    carrier = numpy.asarray(memoryview(reinterpret(host, _CARRIERS[host.itemsize])))
    return carrier.view(utils.infinicore_to_numpy_dtype(host.dtype))


def array(tensor: Tensor, dtype: Any, copy: bool | None) -> Any:
    """``Tensor.__array__``."""
    import numpy

    shared = host_tensor(tensor) is tensor
    if copy is False and not shared:
        raise InvalidArgument(f"__array__: copy=False, but the tensor is on {tensor.device}")
    result = to_numpy(tensor)
    if dtype is not None and numpy.dtype(dtype) != result.dtype:
        if copy is False:
            raise InvalidArgument(f"__array__: copy=False, but {result.dtype} must be converted to {dtype}")
        return result.astype(dtype)
    return result.copy() if copy and shared else result


def to_torch(tensor: Tensor) -> Any:
    """Return a torch tensor with the tensor's values, in host memory.

    Returns
    -------
    torch.Tensor
        Shares the tensor's memory where the host may read that and no stride is negative (torch has no
        negative strides), else a copy.

    Raises
    ------
    DTypeError
        If torch has no such type.

    Examples
    --------
    >>> import infinicore as ic
    >>> import torch
    >>> ic.ones((2,), dtype=ic.float32, device="cpu").to_torch()
    tensor([1., 1.])
    """
    import torch

    require_tensors("to_torch", tensor=tensor)
    try:
        target = utils.to_torch_dtype(tensor.dtype)
    except ValueError as error:
        raise DTypeError(f"to_torch: {error}") from None
    host = host_tensor(tensor)
    if any(stride < 0 for stride in host.strides):
        host = host.contiguous()
    if host.itemsize == 16:
        return torch.from_dlpack(host)
    return torch.from_dlpack(reinterpret(host, _CARRIERS[host.itemsize])).view(target)


def cuda_array_interface(tensor: Tensor) -> dict[str, Any]:
    """``Tensor.__cuda_array_interface__``, version 3."""
    import numpy

    if tensor.__dlpack_device__()[0] != _CUDA:
        raise AttributeError(
            f"__cuda_array_interface__: the tensor is on {tensor.device}, which is not CUDA memory"
        )
    from infinicore._stream import current_stream

    described = utils.infinicore_to_numpy_dtype(tensor.dtype)
    if tensor.dtype.name in _CARRIED:
        raise AttributeError(f"__cuda_array_interface__: there is no type string for {tensor.dtype}")
    return {
        "shape": tuple(tensor.shape),
        "typestr": numpy.dtype(described).str,
        "data": (tensor.data_ptr(), False),
        "strides": None
        if tensor.is_contiguous()
        else tuple(step * tensor.itemsize for step in tensor.strides),
        "version": 3,
        "stream": current_stream(tensor.device).handle or 1,
    }


def from_numpy(data: Any, *, dtype: _AnyDType | None = None, device: _AnyDevice | None = None) -> Tensor:
    """Copy a NumPy array into a new tensor.

    Parameters
    ----------
    data : numpy.ndarray
        Any strides; not empty. Its memory is not shared: `from_dlpack` does that.
    dtype : dtype, optional
        Element type; that of the array if omitted.
    device : device or str, optional
        The CPU if omitted.

    Raises
    ------
    TypeError
        If `data` is no array.
    ValueError
        If it is empty.

    Examples
    --------
    >>> import infinicore as ic
    >>> import numpy as np
    >>> a = ic.from_numpy(np.arange(3, dtype=np.float32))
    >>> a.dtype, a.tolist()
    (infinicore.float32, [0.0, 1.0, 2.0])
    """
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(data, numpy.ndarray):
        raise ArgumentTypeError(f"from_numpy: Input data must be a np.ndarray, got {type(data).__name__}")
    if data.size == 0:
        raise InvalidArgument(f"from_numpy: Input data cannot be empty, got an array of shape {data.shape}")
    try:
        own = utils.numpy_to_infinicore_dtype(data.dtype)
    except ValueError as error:
        raise DTypeError(f"from_numpy: {error}") from None
    if not data.dtype.isnative:
        data = data.astype(data.dtype.newbyteorder("="))
    steps = [step // data.itemsize for step in data.strides]
    if any(step * data.itemsize != given for step, given in zip(steps, data.strides, strict=True)):
        data = numpy.ascontiguousarray(data)  # fields of a structure: strides between two elements
        return from_numpy(data, dtype=dtype, device=device)
    shared = from_memory(data.ctypes.data, data.shape, steps, own, "cpu", data, "from_numpy")
    dtype, device = (own if dtype is None else dtype), ("cpu" if device is None else device)
    return shared.to(dtype=dtype, device=device, copy=True)


def from_torch(torch_tensor: Any) -> Tensor:
    """Return a tensor over the memory of a torch tensor.

    Parameters
    ----------
    torch_tensor : torch.Tensor
        Any strides, on the CPU or a device that infinicore has; it is kept alive. Gradients are ignored.

    Raises
    ------
    TypeError
        If it is no dense torch tensor, or has a type that infinicore lacks.

    Examples
    --------
    >>> import infinicore as ic
    >>> import torch
    >>> t = torch.zeros(2, 3)
    >>> a = ic.from_torch(t.T)
    >>> t[0, 1] = 5
    >>> a.stride(), a.tolist()
    ([1, 3], [[0.0, 0.0], [5.0, 0.0], [0.0, 0.0]])
    """
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(torch_tensor, torch.Tensor):
        raise ArgumentTypeError(
            f"from_torch: Input data must be a torch.Tensor, got {type(torch_tensor).__name__}"
        )
    if torch_tensor.layout is not torch.strided or torch_tensor.is_meta:
        raise ArgumentTypeError(
            f"from_torch: Input data must be dense and have memory, got layout "
            f"{torch_tensor.layout} on {torch_tensor.device}"
        )
    source = torch_tensor.detach().resolve_conj().resolve_neg()
    try:
        dtype = _dtype.get(source.dtype)
    except TypeError as error:
        raise DTypeError(f"from_torch: {error}") from None
    where = source.device
    device = "cpu" if where.type == "cpu" else f"{where.type}:{where.index or 0}"
    return from_memory(source.data_ptr(), source.shape, source.stride(), dtype, device, source, "from_torch")
