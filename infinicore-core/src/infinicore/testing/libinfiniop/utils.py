# What scripts that test operators through the C API share: tensors of PyTorch with a C descriptor, workspace,
# comparison, timing, the loop over devices, cases and dtypes. PyTorch is imported when it is first needed.
"""Tensors, checks and timing for scripts."""

from __future__ import annotations

import argparse
import ctypes
import functools
import importlib
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from infinicore.errors import Error
from infinicore.testing.libinfiniop import liboperators
from infinicore.testing.libinfiniop.datatypes import InfiniDtype, InfiniDtypeNames
from infinicore.testing.libinfiniop.devices import InfiniDeviceEnum, InfiniDeviceNames, torch_device_map
from infinicore.testing.libinfiniop.structs import infiniopHandle_t, infiniopTensorDescriptor_t

if TYPE_CHECKING:
    import torch

__all__ = [
    "CTensor",
    "TestTensor",
    "TestWorkspace",
    "check_error",
    "create_handle",
    "debug",
    "debug_all",
    "destroy_handle",
    "filter_tensor_dtypes_by_device",
    "get_args",
    "get_sync_func",
    "get_test_devices",
    "get_tolerance",
    "print_discrepancy",
    "profile_operation",
    "rearrange_tensor",
    "synchronize_device",
    "test_operator",
    "timed_op",
    "to_numpy_dtype",
    "to_torch_dtype",
]

# ---- status codes and handles ------------------------------------------------------------------------------

_STATUS = {
    1: "INTERNAL_ERROR",
    2: "NOT_IMPLEMENTED",
    3: "BAD_PARAM",
    4: "NULL_POINTER",
    5: "DEVICE_TYPE_NOT_SUPPORTED",
    6: "DEVICE_NOT_FOUND",
    7: "DEVICE_NOT_INITIALIZED",
    8: "DEVICE_ARCHITECTURE_NOT_SUPPORTED",
    10: "BAD_TENSOR_DTYPE",
    11: "BAD_TENSOR_SHAPE",
    12: "BAD_TENSOR_STRIDES",
    13: "INSUFFICIENT_WORKSPACE",
    100: "OUT_OF_MEMORY",
    101: "UNAVAILABLE",
    102: "NOT_READY",
    103: "TIMEOUT",
    104: "PEER_FAILED",
    105: "INDEX_OUT_OF_RANGE",
}


def check_error(status: int) -> None:
    """Raise unless a C function succeeded.

    Raises
    ------
    infinicore.Error
        Names the code, and says what the library said about it.
    """
    if status == 0:
        return
    said = ""
    library: Any = vars(liboperators).get("LIBINFINIOP")  # nothing can have failed before it was opened
    if hasattr(library, "infiniGetLastError"):
        said = (library.infiniGetLastError() or b"").decode(errors="replace")
    raise Error(f"Error code {status} ({_STATUS.get(status, 'unknown')}){': ' if said else ''}{said}")


def create_handle() -> Any:
    """Create a handle for the current device."""
    handle = infiniopHandle_t()
    check_error(liboperators.LIBINFINIOP.infiniopCreateHandle(ctypes.byref(handle)))
    return handle


def destroy_handle(handle: Any) -> None:
    """Destroy a handle."""
    check_error(liboperators.LIBINFINIOP.infiniopDestroyHandle(handle))


# ---- dtypes ------------------------------------------------------------------------------------------------

_TORCH = {
    InfiniDtype.BOOL: "bool",
    InfiniDtype.BYTE: "uint8",
    InfiniDtype.I8: "int8",
    InfiniDtype.I16: "int16",
    InfiniDtype.I32: "int32",
    InfiniDtype.I64: "int64",
    InfiniDtype.U8: "uint8",
    InfiniDtype.U16: "uint16",
    InfiniDtype.U32: "uint32",
    InfiniDtype.U64: "uint64",
    InfiniDtype.F8: "float8_e4m3fn",
    InfiniDtype.F16: "float16",
    InfiniDtype.F32: "float32",
    InfiniDtype.F64: "float64",
    InfiniDtype.BF16: "bfloat16",
}
_SIGNED = {InfiniDtype.U16: "int16", InfiniDtype.U32: "int32", InfiniDtype.U64: "int64"}


def to_torch_dtype(dt: int, compatability_mode: bool = False) -> torch.dtype:
    """Translate a dtype number; `compatability_mode` has signed integers for unsigned ones that are wider."""
    name = _SIGNED.get(dt) if compatability_mode else None
    name = name or _TORCH.get(dt)
    if name is None:
        raise ValueError(f"Unsupported data type: {InfiniDtypeNames.get(dt, dt)}")
    return getattr(importlib.import_module("torch"), name)


def to_numpy_dtype(dt: int, compatability_mode: bool = False) -> np.dtype[Any]:
    """Translate a dtype number; `compatability_mode` has float32 for bfloat16, which NumPy itself lacks."""
    name = _TORCH.get(dt)
    if name is None:
        raise ValueError(f"Unsupported data type: {InfiniDtypeNames.get(dt, dt)}")
    if name == "bfloat16" and compatability_mode:
        return np.dtype(np.float32)
    if name in ("bfloat16", "float8_e4m3fn"):
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))
    return np.dtype(name)


# ---- tensors -----------------------------------------------------------------------------------------------


class CTensor:
    """A tensor descriptor of the C API.

    Parameters
    ----------
    dt : int
        Of `InfiniDtype`.
    shape, strides : sequence of int
        In elements; `strides` may be None, which means contiguous.
    """

    def __init__(self, dt: int, shape: Sequence[int], strides: Sequence[int] | None) -> None:
        self.ndim = len(shape)
        self.c_shape = (ctypes.c_size_t * self.ndim)(*shape)
        self.c_strides = (ctypes.c_ssize_t * self.ndim)(*(row_major(shape) if strides is None else strides))
        self.descriptor: Any = infiniopTensorDescriptor_t()
        check_error(
            liboperators.LIBINFINIOP.infiniopCreateTensorDescriptor(
                ctypes.byref(self.descriptor), self.ndim, self.c_shape, self.c_strides, dt
            )
        )

    def destroy_desc(self) -> None:
        """Destroy the descriptor; operators keep what they need of it."""
        if self.descriptor is not None:
            check_error(liboperators.LIBINFINIOP.infiniopDestroyTensorDescriptor(self.descriptor))
            self.descriptor = None

    def __del__(self) -> None:
        if not sys.is_finalizing() and getattr(self, "descriptor", None) is not None:
            self.destroy_desc()


class TestTensor(CTensor):
    """A tensor that PyTorch and the C API share.

    Parameters
    ----------
    shape, strides : sequence of int
        In elements; a stride of 0 repeats one element, and None means contiguous.
    dt, device : int
        Of `InfiniDtype` and `InfiniDeviceEnum`.
    mode : str
        ``"random"`` (floats in [0, 1), integers within `randint_low` and `randint_high`), ``"zeros"``,
        ``"ones"``, ``"randint"``, ``"float8_e4m3fn"`` (random), ``"manual"`` (`set_tensor`, of this shape and
        these strides) or ``"binary"`` (`set_tensor`, of this shape).
    scale, bias : float, optional
        The values become ``values * scale + bias``.
    set_tensor : torch.Tensor, optional
        The values of the modes that say so.
    randint_low, randint_high : int, optional
        Bounds of integers, -2e9 and 2e9 by default; the upper one is excluded.
    """

    __test__ = False  # pytest: this is no test case

    def __init__(
        self,
        shape: Sequence[int],
        strides: Sequence[int] | None,
        dt: int,
        device: int,
        mode: str = "random",
        scale: float | None = None,
        bias: float | None = None,
        set_tensor: torch.Tensor | None = None,
        randint_low: int | None = None,
        randint_high: int | None = None,
    ) -> None:
        super().__init__(dt, shape, strides)
        self.dt, self.device = dt, device
        self.shape = list(shape)
        self.strides = list(row_major(shape) if strides is None else strides)
        # Elements that share memory are one element.
        logical = [1 if stride == 0 else size for size, stride in zip(self.shape, self.strides, strict=True)]
        if mode in ("manual", "binary"):
            values = self._given(mode, set_tensor, strides)
        else:
            values = _generated(mode, logical, dt, randint_low, randint_high)
        values = values.to(torch_device_map[device])
        if scale is not None:
            values = values * scale
        if bias is not None:
            values = values + bias
        self._torch_tensor = values.to(self._torch_dtype(mode))
        self._data_tensor = (
            self._torch_tensor.contiguous()
            if strides is None
            else rearrange_tensor(self._torch_tensor, self.strides)
        )

    def _torch_dtype(self, mode: str) -> torch.dtype:
        return to_torch_dtype(InfiniDtype.F8 if mode == "float8_e4m3fn" else self.dt)

    def _given(self, mode: str, tensor: torch.Tensor | None, strides: Sequence[int] | None) -> torch.Tensor:
        assert tensor is not None, f"mode {mode!r} needs set_tensor"
        assert list(tensor.shape) == self.shape, (
            f"set_tensor has shape {list(tensor.shape)}, not {self.shape}"
        )
        if mode == "manual":
            assert strides is None or list(tensor.stride()) == self.strides, (
                f"set_tensor has strides {list(tensor.stride())}, not {self.strides}"
            )
        for axis, stride in enumerate(self.strides):
            if stride == 0:
                tensor = tensor.narrow(axis, 0, min(1, tensor.shape[axis]))
        return tensor

    def torch_tensor(self) -> torch.Tensor:
        """Return the tensor that PyTorch calculates with: size 1 where the stride is 0."""
        return self._torch_tensor

    def actual_tensor(self) -> torch.Tensor:
        """Return the tensor in the memory that the C API is given, with the strides that were asked for."""
        return self._data_tensor

    def update_torch_tensor(self, new_tensor: torch.Tensor) -> None:
        """Replace what `torch_tensor` returns, by what PyTorch calculated."""
        self._torch_tensor = new_tensor

    def data(self) -> int:
        """Return the address that the C API is given."""
        return self._data_tensor.data_ptr()

    def is_broadcast(self) -> bool:
        """Whether several indices share an element."""
        return 0 in self.strides

    @staticmethod
    def from_binary(
        binary_file: str, shape: Sequence[int], strides: Sequence[int] | None, dt: int, device: int
    ) -> TestTensor:
        """Read the contiguous values of a file."""
        values = np.fromfile(binary_file, to_numpy_dtype(dt)).reshape(tuple(shape))
        torch = importlib.import_module("torch")
        opaque = torch.from_numpy(values.reshape(-1).view(np.uint8))  # PyTorch knows fewer dtypes of NumPy
        tensor = opaque.view(to_torch_dtype(dt)).reshape(tuple(shape))
        return TestTensor(shape, strides, dt, device, mode="binary", set_tensor=tensor)

    @staticmethod
    def from_torch(torch_tensor: torch.Tensor, dt: int, device: int) -> TestTensor:
        """Take shape, strides and values of a tensor of PyTorch."""
        shape, strides = list(torch_tensor.shape), list(torch_tensor.stride())
        return TestTensor(shape, strides, dt, device, mode="manual", set_tensor=torch_tensor)


class TestWorkspace:
    """Memory that an operator works in.

    Parameters
    ----------
    size : int
        In bytes; nothing is allocated for 0.
    device : int
        Of `InfiniDeviceEnum`.
    """

    __test__ = False

    def __init__(self, size: int, device: int) -> None:
        self._size = size
        self.tensor = TestTensor((size,), None, InfiniDtype.U8, device, mode="ones") if size else None

    def data(self) -> int | None:
        """Return its address; None where the size is 0."""
        return self.tensor.data() if self.tensor is not None else None

    def size(self) -> ctypes.c_uint64:
        """Return its size as the C API takes it."""
        return ctypes.c_uint64(self._size)


def row_major(shape: Sequence[int]) -> list[int]:
    """Return the strides of a contiguous tensor."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return strides


def _generated(mode: str, shape: Sequence[int], dt: int, low: int | None, high: int | None) -> torch.Tensor:
    """Make the values of a mode that is given none."""
    torch = importlib.import_module("torch")
    dtype = to_torch_dtype(dt)
    if mode == "zeros":
        return torch.zeros(shape, dtype=dtype)
    if mode == "ones":
        return torch.ones(shape).to(dtype)
    if mode == "float8_e4m3fn":
        return torch.rand(shape).to(torch.float8_e4m3fn)
    if mode not in ("random", "randint"):
        raise ValueError(f"Unsupported mode: {mode!r}")
    if mode == "random" and dtype.is_floating_point:
        return torch.rand(shape).to(dtype) if dtype.itemsize == 1 else torch.rand(shape, dtype=dtype)
    low, high = -2_000_000_000 if low is None else low, 2_000_000_000 if high is None else high
    if dtype == torch.bool:
        low, high = max(low, 0), min(high, 2)
    elif not dtype.is_floating_point:
        whole = torch.iinfo(dtype)  # within it, where the bounds are not
        low, high = max(low, whole.min), min(high, whole.max + 1)
    return torch.randint(low, high, tuple(shape), dtype=torch.int64).to(dtype)


def rearrange_tensor(tensor: torch.Tensor, new_strides: Sequence[int]) -> torch.Tensor:
    """Copy a tensor into memory of its own with these strides; the gaps are 0.

    Raises
    ------
    ValueError
        A stride is negative.
    """
    if any(stride < 0 for stride in new_strides):
        raise ValueError("Negative strides are not supported yet")
    sizes = zip(tensor.shape, new_strides, strict=True)
    span = 1 + sum((size - 1) * stride for size, stride in sizes) if tensor.numel() else 0
    storage = tensor.new_zeros((span,))
    placed = storage.as_strided(tuple(tensor.shape), tuple(new_strides))
    placed.copy_(tensor)
    return placed


# ---- comparison --------------------------------------------------------------------------------------------


def get_tolerance(
    tolerance_map: dict[Any, dict[str, float]],
    tensor_dtype: Any,
    default_atol: float = 0,
    default_rtol: float = 1e-3,
) -> tuple[float, float]:
    """Look up ``(atol, rtol)`` of a dtype."""
    found = tolerance_map.get(tensor_dtype, {"atol": default_atol, "rtol": default_rtol})
    return found["atol"], found["rtol"]


def debug(
    actual: torch.Tensor,
    desired: torch.Tensor,
    atol: float = 0,
    rtol: float = 1e-2,
    equal_nan: bool = False,
    verbose: bool = True,
) -> None:
    """Print how two tensors differ.

    Raises
    ------
    AssertionError
        They differ by more than ``atol + rtol * abs(desired)``.
    """
    actual, desired = _comparable(actual), _comparable(desired)
    print_discrepancy(actual, desired, atol, rtol, equal_nan, verbose)
    np.testing.assert_allclose(actual.numpy(), desired.numpy(), rtol, atol, equal_nan)


def debug_all(
    actual_vals: Iterable[torch.Tensor],
    desired_vals: Iterable[torch.Tensor],
    condition: str,
    atol: float = 0,
    rtol: float = 1e-2,
    equal_nan: bool = False,
    verbose: bool = True,
) -> None:
    """Do as `debug` for several pairs, of which all (``condition="and"``) or one (``"or"``) must agree."""
    assert condition in ("or", "and"), "condition should be either 'or' or 'and'"
    agreed = []
    for actual, desired in zip(actual_vals, desired_vals, strict=True):
        actual, desired = _comparable(actual), _comparable(desired)
        wrong = print_discrepancy(actual, desired, atol, rtol, equal_nan, verbose)
        agreed.append(not wrong)
    passed = all(agreed) if condition == "and" else any(agreed)
    assert passed, f"condition {condition!r} is not met: agreement of the pairs is {agreed}"


def print_discrepancy(
    actual: torch.Tensor,
    expected: torch.Tensor,
    atol: float = 0,
    rtol: float = 1e-3,
    equal_nan: bool = True,
    verbose: bool = True,
) -> list[tuple[int, ...]]:
    """Print each difference, the tolerances, how many there are, and the range of the values.

    Returns
    -------
    list of tuple of int
        The indices where the tensors differ.
    """
    torch = importlib.import_module("torch")
    if actual.shape != expected.shape:
        raise ValueError(f"Tensors must have the same shape: {tuple(actual.shape)}, {tuple(expected.shape)}")
    actual, expected = _comparable(actual), _comparable(expected)
    close = torch.isclose(actual, expected, rtol=rtol, atol=atol, equal_nan=equal_nan)
    wrong = [tuple(index) for index in torch.nonzero(~close).tolist()]
    if not verbose:
        return wrong
    colours = ("\033[31m", "\033[32m", "\033[33m", "\033[0m") if sys.stdout.isatty() else ("",) * 4
    red, green, yellow, plain = colours
    for index in wrong:
        got, want = actual[index].item(), expected[index].item()
        print(
            f" > Index: {index!s:<16} actual: {red}{got:<14.8g}{plain} expected: {green}{want:<14.8g}{plain}"
            f" delta: {yellow}{got - want:.8g}{plain}"
        )
    count = actual.numel()
    print(f"  - Actual dtype:   {actual.dtype}")
    print(f"  - Desired dtype:  {expected.dtype}")
    print(f"  - Atol:           {atol}")
    print(f"  - Rtol:           {rtol}")
    print(f"  - Mismatched:     {len(wrong)} / {count} ({100 * len(wrong) / max(count, 1):.4g} %)")
    if count:
        print(f"  - Actual range:   min {actual.min().item():.8g}, max {actual.max().item():.8g}")
        print(f"  - Desired range:  min {expected.min().item():.8g}, max {expected.max().item():.8g}")
    return wrong


def _comparable(tensor: torch.Tensor) -> torch.Tensor:
    """Bring a tensor to the host, in a dtype that NumPy and comparisons know."""
    torch = importlib.import_module("torch")
    tensor = tensor.detach().cpu()
    if tensor.dtype.is_floating_point:
        return (
            tensor.to(torch.float32)
            if tensor.dtype.itemsize < 2 or tensor.dtype == torch.bfloat16
            else tensor
        )
    return tensor.to(torch.int64) if tensor.dtype in (torch.uint16, torch.uint32, torch.uint64) else tensor


# ---- the loop of a script ----------------------------------------------------------------------------------


def filter_tensor_dtypes_by_device(device: int, tensor_dtypes: Sequence[Any]) -> Sequence[Any]:
    """Leave ``torch.bfloat16`` out for devices whose PyTorch lacks it."""
    capable = (
        InfiniDeviceEnum.CPU,
        InfiniDeviceEnum.NVIDIA,
        InfiniDeviceEnum.METAX,
        InfiniDeviceEnum.ASCEND,
        InfiniDeviceEnum.ILUVATAR,
        InfiniDeviceEnum.CAMBRICON,
    )
    if device in capable:
        return tensor_dtypes
    return [dtype for dtype in tensor_dtypes if str(dtype) != "torch.bfloat16"]


def test_operator(
    device: int,
    test_func: Callable[..., Any],
    test_cases: Iterable[Sequence[Any]],
    tensor_dtypes: Sequence[Any],
) -> None:
    """Call ``test_func(handle, device, *case, dtype, sync)`` for every case and dtype on one device."""
    check_error(liboperators.LIBINFINIOP.infinirtSetDevice(device, ctypes.c_int(0)))
    handle = create_handle()
    try:
        dtypes = filter_tensor_dtypes_by_device(device, tensor_dtypes)
        for case in test_cases:
            for dtype in dtypes:
                test_func(handle, device, *case, dtype, get_sync_func(device))
    finally:
        destroy_handle(handle)


test_operator.__test__ = False  # type: ignore[attr-defined]  # pytest: this is no test


# Flag -> device, and the extension of PyTorch that it needs.
_FLAGS: dict[str, tuple[int, str | None]] = {
    "cpu": (InfiniDeviceEnum.CPU, None),
    "nvidia": (InfiniDeviceEnum.NVIDIA, None),
    "cambricon": (InfiniDeviceEnum.CAMBRICON, "torch_mlu"),
    "ascend": (InfiniDeviceEnum.ASCEND, "torch_npu"),
    "metax": (InfiniDeviceEnum.METAX, None),
    "moore": (InfiniDeviceEnum.MOORE, "torch_musa"),
    "iluvatar": (InfiniDeviceEnum.ILUVATAR, None),
    "kunlun": (InfiniDeviceEnum.KUNLUN, "torch_xmlir"),
    "hygon": (InfiniDeviceEnum.HYGON, None),
    "qy": (InfiniDeviceEnum.QY, None),
}


def get_args() -> argparse.Namespace:
    """Read the flags of a script: devices, ``--profile``, ``--debug`` and how often to run."""
    parser = argparse.ArgumentParser(description="Test an operator")
    parser.add_argument("--profile", action="store_true", help="time the operator and PyTorch's")
    parser.add_argument("--num_prerun", type=_count, default=10, help="runs before the clock starts")
    parser.add_argument("--num_iterations", type=_count, default=1000, help="runs that are timed")
    parser.add_argument("--debug", action="store_true", help="print every difference")
    for flag, (number, _) in _FLAGS.items():
        parser.add_argument(f"--{flag}", action="store_true", help=f"run on {InfiniDeviceNames[number]}")
    return parser.parse_args()


def _count(text: str) -> int:
    return max(0, int(text))


def get_test_devices(args: argparse.Namespace) -> list[int]:
    """List the devices that the flags name, the CPU where they name none; their PyTorch is made ready."""
    found = []
    for flag, (number, extension) in _FLAGS.items():
        if getattr(args, flag, False):
            if extension is not None:
                importlib.import_module(extension)
            if flag == "ascend":
                importlib.import_module("torch").npu.set_device(0)
            found.append(number)
    return found or [InfiniDeviceEnum.CPU]


# ---- time --------------------------------------------------------------------------------------------------


def get_sync_func(device: int) -> Callable[[], None] | None:
    """Return what waits for a device; None for the CPU and Cambricon."""
    if device in (InfiniDeviceEnum.CPU, InfiniDeviceEnum.CAMBRICON):
        return None
    return functools.partial(synchronize_device, device)


def synchronize_device(torch_device: str | int) -> None:
    """Wait for a device of PyTorch, by its type or its number; there is nothing to wait for on the CPU."""
    if isinstance(torch_device, int):
        torch_device = torch_device_map[torch_device]
    if torch_device in ("cuda", "npu", "mlu", "musa"):
        getattr(importlib.import_module("torch"), torch_device).synchronize()


def timed_op(func: Callable[[], Any], num_iterations: int, device: str | int) -> float:
    """Return the seconds of one call, over `num_iterations` of them."""
    synchronize_device(device)
    start = time.perf_counter()
    for _ in range(num_iterations):
        func()
    synchronize_device(device)
    return (time.perf_counter() - start) / max(num_iterations, 1)


def profile_operation(
    desc: str, func: Callable[[], Any], torch_device: str | int, NUM_PRERUN: int, NUM_ITERATIONS: int
) -> None:
    """Print the time of one call, after `NUM_PRERUN` calls that warm up."""
    for _ in range(NUM_PRERUN):
        func()
    elapsed = timed_op(func, NUM_ITERATIONS, torch_device)
    print(f" {desc} time: {elapsed * 1000:6f} ms")
