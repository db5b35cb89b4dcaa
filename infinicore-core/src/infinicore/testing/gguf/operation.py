# One operator case as a call of the C API: operands in device memory, descriptors, workspace, and the
# function that executes it with them.
"""Calls of the C API."""

from __future__ import annotations

import ctypes
from contextlib import ExitStack
from typing import Any

import numpy as np

from infinicore.cforms import CArgument, CForm
from infinicore.schema import DTYPES
from infinicore.testing import libinfiniop
from infinicore.testing.elements import decode, encode, itemsize
from infinicore.testing.gguf import Case, CaseTensor
from infinicore.testing.libinfiniop.structs import infiniopOperatorDescriptor_t, infiniopTensorDescriptor_t
from infinicore.testing.libinfiniop.utils import check_error

__all__ = ["Operation"]

_HOST_TO_DEVICE, _DEVICE_TO_HOST = 1, 2


def _call(name: str, *arguments: Any) -> None:
    """Call a C function by its name."""
    check_error(getattr(libinfiniop.LIBINFINIOP, name)(*arguments))


class DeviceMemory:
    """Memory of the current device.

    Parameters
    ----------
    size : int
        In bytes.
    content : numpy.ndarray, optional
        What it holds at first.
    """

    def __init__(self, size: int, content: np.ndarray | None = None) -> None:
        self._size, self._pointer = size, ctypes.c_void_p()
        _call("infinirtMalloc", ctypes.byref(self._pointer), max(size, 1))
        if content is not None and size:
            _call("infinirtMemcpy", self._pointer, content.ctypes.data, size, _HOST_TO_DEVICE)

    @property
    def address(self) -> int:
        """Where it begins."""
        return self._pointer.value or 0

    def read(self, dtype: str) -> np.ndarray:
        """Copy it to the host, as elements of a dtype."""
        return _read(self.address, self._size, dtype)

    def free(self) -> None:
        """Give it back."""
        _call("infinirtFree", self._pointer)


def _read(address: int, size: int, dtype: str) -> np.ndarray:
    content = np.empty(size, np.uint8)
    if size:
        _call("infinirtMemcpy", content.ctypes.data, address, size, _DEVICE_TO_HOST)
    return content.view(f"V{itemsize(dtype)}")


class DeviceTensor:
    """An operand on the device: its memory and its descriptor, which live until `close`."""

    def __init__(self, tensor: CaseTensor) -> None:
        self.tensor, layout = tensor, tensor.layout
        image = np.zeros(layout.size, f"V{itemsize(tensor.dtype)}")
        if tensor.values is not None and layout.size:
            layout.of(image)[...] = encode(tensor.values, tensor.dtype)  # repeats by strides of 0
        self.memory = DeviceMemory(image.nbytes, image)
        self.address = self.memory.address + layout.offset * image.itemsize
        self.descriptor = infiniopTensorDescriptor_t()
        rank = len(tensor.shape)
        _call(
            "infiniopCreateTensorDescriptor",
            ctypes.byref(self.descriptor),
            rank,
            (ctypes.c_size_t * rank)(*tensor.shape),
            (ctypes.c_ssize_t * rank)(*tensor.strides),
            DTYPES[tensor.dtype][0],
        )

    def values(self) -> np.ndarray:
        """Read the elements."""
        dtype = self.tensor.dtype
        return decode(self.tensor.layout.of(self.memory.read(dtype)), dtype)

    def close(self) -> None:
        """Give memory and descriptor back."""
        _call("infiniopDestroyTensorDescriptor", self.descriptor)
        self.memory.free()


class Operation:
    """A case on the current device, ready to be executed any number of times.

    Parameters
    ----------
    case : Case
    handle : infiniopHandle_t
        Of the current device.

    Attributes
    ----------
    allocates : bool
        Each execution allocates an output, which `results` gives back.
    """

    def __init__(self, case: Case, handle: Any) -> None:
        self.case, self._form = case, CForm(case.schema)
        self._resolved = case.schema.resolve(case.specs())
        self._found, self._count = ctypes.c_void_p(), ctypes.c_size_t()  # an output that C allocates
        self.allocates = any(argument.type == "void **" for argument in self._form.execute)
        self._descriptor = infiniopOperatorDescriptor_t()
        with ExitStack() as opened:
            self._operands = {slot: _placed(opened, operand) for slot, operand in case.operands.items()}
            self._create(opened, handle)
            workspace = self._workspace(opened)
            function = getattr(libinfiniop.LIBINFINIOP, f"infiniop{case.schema.c.base}")
            arguments = [self._argument(argument, "execute") for argument in self._form.execute]
            self._run = lambda: function(self._descriptor, *workspace, *arguments, None)
            self._opened = opened.pop_all()

    def execute(self) -> None:
        """Run the operator once; what its outputs hold then, `results` reads."""
        check_error(self._run())

    def results(self) -> dict[str, np.ndarray]:
        """Wait for the device and read every output."""
        _call("infinirtDeviceSynchronize")
        found = {}
        for p in self.case.schema.outputs:
            if self.allocates and p in self._form.deferred:
                dtype = self.case.operands[p.name].dtype
                size = self._count.value * itemsize(dtype)
                found[p.name] = decode(_read(self._found.value or 0, size, dtype), dtype)
                _call("infinirtFree", self._found)
            else:
                found[p.name] = self._operands[p.name].values()
        return found

    def close(self) -> None:
        """Give everything back."""
        self._opened.close()

    def _create(self, opened: ExitStack, handle: Any) -> None:
        c = self.case.schema.c
        arguments = [self._argument(argument, "create") for argument in self._form.create]
        _call(f"infiniopCreate{c.base}Descriptor", handle, ctypes.byref(self._descriptor), *arguments)
        opened.callback(_call, f"infiniopDestroy{c.of or c.base}Descriptor", self._descriptor)

    def _workspace(self, opened: ExitStack) -> tuple[int, ...]:
        """Return the arguments that stand for the workspace."""
        c, size = self.case.schema.c, ctypes.c_uint64()
        if not c.workspace:
            return ()
        _call(f"infiniopGet{c.of or c.base}WorkspaceSize", self._descriptor, ctypes.byref(size))
        memory = DeviceMemory(size.value)
        opened.callback(memory.free)
        return memory.address, size.value

    def _argument(self, argument: CArgument, function: str) -> Any:
        """Return what a C function is given for one of its arguments."""
        p = argument.slot
        if argument.count_of:
            name = argument.count_of[0].name
            return len(self._operands[name] if name in self._operands else self._value(name))
        if argument.type == "void **":
            return ctypes.byref(self._found)
        if argument.dimension and argument.type == "size_t *":
            return ctypes.byref(self._count)
        if argument.dimension:
            return self._resolved.symbols[argument.dimension]
        assert p is not None
        if p.is_tensor:
            placed = self._operands.get(p.name)
            if placed is None:
                return None
            if isinstance(placed, DeviceTensor):
                return placed.descriptor if function == "create" else placed.address
            if function == "create":
                return (infiniopTensorDescriptor_t * len(placed))(*(part.descriptor for part in placed))
            return (ctypes.c_void_p * len(placed))(*(part.address for part in placed))
        value = self._value(p.name)
        return (ctypes.c_int64 * len(value))(*value) if p.kind == "ints" else value

    def _value(self, name: str) -> Any:
        return self._resolved.values[self.case.schema.by_name[name].index]


def _placed(opened: ExitStack, operand: Any) -> Any:
    """Put an operand, or each of a list, on the device, until `opened` is closed."""
    if isinstance(operand, tuple):
        return tuple(_placed(opened, part) for part in operand)
    placed = DeviceTensor(operand)
    opened.callback(placed.close)
    return placed
