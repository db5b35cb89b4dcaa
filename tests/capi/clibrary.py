# Calls operators through libinfiniop as a C program would: any operator, from its C form alone.
# The tests compare what comes of it with the reference, and with what Python makes of the same call.
"""The C API through ctypes."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

import numpy as np

import infinicore as ic
from infinicore.cforms import CArgument, CForm
from infinicore.schema import DTYPES, OPERATORS, Schema
from infinicore.testing.conformance import PlacedTensor
from infinicore.testing.strategies import DrawnCall, DrawnTensor, Layout, itemsize

ROOT = Path(ic.__file__).parent
LIBRARIES = ROOT / "lib"

runtime = ctypes.CDLL(str(LIBRARIES / "libinfinirt.so"))
operators = ctypes.CDLL(str(LIBRARIES / "libinfiniop.so"))
collectives = ctypes.CDLL(str(LIBRARIES / "libinfiniccl.so"))
runtime.infiniGetLastError.restype = ctypes.c_char_p


class CError(Exception):
    """A C function returned `status`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{message} (status {status})")
        self.status, self.message = status, message


def check(status: int) -> None:
    """Raise what a status says."""
    if status:
        raise CError(status, runtime.infiniGetLastError().decode())


def tensor_descriptor(shape: tuple[int, ...], strides: tuple[int, ...] | None, dtype: str) -> ctypes.c_void_p:
    """A tensor descriptor; the caller destroys it."""
    made = ctypes.c_void_p()
    sizes = (ctypes.c_size_t * max(len(shape), 1))(*shape)
    steps = None if strides is None else (ctypes.c_ssize_t * max(len(shape), 1))(*strides)
    number = DTYPES[dtype][0]
    check(
        operators.infiniopCreateTensorDescriptor(
            ctypes.byref(made), ctypes.c_size_t(len(shape)), sizes, steps, number
        )
    )
    return made


def dense(drawn: DrawnTensor) -> DrawnTensor:
    """The same values in row-major order, as C has tensors whose layout it is not told."""
    shape = drawn.layout.shape
    strides, step = [], 1
    for size in reversed(shape):
        strides.insert(0, step)
        step *= max(size, 1)
    size = int(np.prod(shape, dtype=np.int64))
    return DrawnTensor(drawn.dtype, Layout(shape, tuple(strides), 0, max(size, 1)), drawn.values)


@functools.cache
def form_of(name: str) -> CForm:
    return CForm(OPERATORS[name])


def adapt(call: DrawnCall) -> DrawnCall:
    """Make of a drawn call one that C can say: floats of C's width, defaults, dense deferred tensors."""
    form = form_of(call.schema.name)
    slots = list(call.slots)
    for argument in (*form.create, *form.execute):
        p = argument.slot
        if p is not None and p.kind == "float" and argument.type == "float":
            value = call.resolved().values[p.index] if slots[p.index] is None else slots[p.index]
            slots[p.index] = float(np.float32(value))
    for p in form.defaulted:
        slots[p.index] = p.default
    for p in form.deferred:
        if slots[p.index] is not None:
            slots[p.index] = dense(slots[p.index])
    named = {a.slot.name for a in (*form.create, *form.execute) if a.slot is not None}
    for p in call.schema.tensors:
        if p.name not in named:
            slots[p.index] = None  # an optional input that the C form does not have
    alias = {o: i for o, i in call.alias.items() if call.schema.parameters[o] not in form.deferred}
    return DrawnCall(call.schema, slots, True, alias)


class Handle:
    """An infiniopHandle_t of one device."""

    def __init__(self, device: str = "cpu", index: int = 0) -> None:
        # What Python opened, C programs of the process see.
        check(runtime.infinirtSetDevice(ic.backends[device].open().number, index))
        self.value = ctypes.c_void_p()
        check(operators.infiniopCreateHandle(ctypes.byref(self.value)))

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *_: object) -> None:
        check(operators.infiniopDestroyHandle(self.value))


class Operation:
    """One operator with a descriptor of its own.

    `layouts` has an entry per slot: (shape, strides, dtype) of a tensor, a list of them, or None; `values`
    the scalars of create, in the form of their slots.
    """

    def __init__(self, handle: Handle, name: str, layouts: list[Any], values: list[Any]) -> None:
        self.schema: Schema = OPERATORS[name]
        self.form = form_of(name)
        self.values = values
        base = self.schema.c.base
        self.descriptor = ctypes.c_void_p()
        made: list[ctypes.c_void_p] = []

        def tensor(layout: Any) -> Any:
            if layout is None:
                return None
            made.append(tensor_descriptor(*layout))
            return made[-1]

        arguments = []
        for argument in self.form.create:
            p = argument.slot
            if p is None or not p.is_tensor:
                arguments.append(self._scalar(argument, layouts))
            elif p.kind == "tensors":
                items = [tensor(layout) for layout in layouts[p.index]]
                arguments.append((ctypes.c_void_p * len(items))(*items))
            else:
                arguments.append(tensor(layouts[p.index]))
        create = getattr(operators, f"infiniopCreate{base}Descriptor")
        try:
            check(create(handle.value, ctypes.byref(self.descriptor), *arguments))
        finally:
            for one in made:  # descriptors keep copies
                check(operators.infiniopDestroyTensorDescriptor(one))
        self.layouts = layouts

    def _scalar(self, argument: CArgument, layouts: list[Any]) -> Any:
        if argument.count_of:
            p = argument.count_of[0]
            listed = layouts if p.is_tensor else self.values
            return ctypes.c_size_t(len(listed[p.index]))
        if argument.dimension:
            for p in self.schema.tensors:
                if layouts[p.index] is not None:
                    for axis, dim in enumerate(p.dims):
                        if dim.text == argument.dimension:
                            return ctypes.c_int(layouts[p.index][0][axis])
            raise AssertionError(argument.dimension)
        value, type = self.values[argument.slot.index], argument.type.removeprefix("const ")
        if argument.slot.kind == "ints":
            kind = ctypes.c_int32 if type == "int *" else ctypes.c_int64
            return (kind * max(len(value), 1))(*value)
        kinds = {
            "float": ctypes.c_float,
            "double": ctypes.c_double,
            "size_t": ctypes.c_size_t,
            "bool": ctypes.c_bool,
        }
        kinds |= {"int64_t": ctypes.c_int64, "uint8_t": ctypes.c_uint8}
        return kinds.get(type, ctypes.c_int)(value)

    @property
    def workspace_bytes(self) -> int:
        """What the operator asks for."""
        if not self.schema.c.workspace:
            return 0
        base, size = self.schema.c.of or self.schema.c.base, ctypes.c_size_t()
        check(getattr(operators, f"infiniopGet{base}WorkspaceSize")(self.descriptor, ctypes.byref(size)))
        return size.value

    def __call__(
        self, pointers: list[Any], stream: int | None = None, workspace_bytes: int | None = None
    ) -> list[Any]:
        """Run it on addresses by slot; returns what the function hands back by reference, in its order."""
        arguments: list[Any] = []
        back: list[Any] = []
        memory = ctypes.c_void_p()
        if self.schema.c.workspace:
            size = self.workspace_bytes
            check(runtime.infinirtMalloc(ctypes.byref(memory), ctypes.c_size_t(size)))
            arguments += [memory, ctypes.c_size_t(size if workspace_bytes is None else workspace_bytes)]
        for argument in self.form.execute:
            p = argument.slot
            if argument.type == "void **" or (argument.dimension and argument.type.endswith("*")):
                back.append(ctypes.c_void_p() if p is not None else ctypes.c_size_t())
                arguments.append(ctypes.byref(back[-1]))
            elif p is None or not p.is_tensor:
                arguments.append(self._scalar(argument, self.layouts))
            elif p.kind == "tensors":
                arguments.append((ctypes.c_void_p * len(pointers[p.index]))(*pointers[p.index]))
            else:
                arguments.append(ctypes.c_void_p(pointers[p.index]))
        try:
            check(
                getattr(operators, f"infiniop{self.schema.c.base}")(
                    self.descriptor, *arguments, ctypes.c_void_p(stream)
                )
            )
            check(runtime.infinirtStreamSynchronize(ctypes.c_void_p(stream)))
        finally:
            check(runtime.infinirtFree(memory))
        return back

    def destroy(self) -> None:
        """Destroy the descriptor."""
        base = self.schema.c.of or self.schema.c.base
        check(getattr(operators, f"infiniopDestroy{base}Descriptor")(self.descriptor))


def layout_of(drawn: Any) -> Any:
    """What `Operation` takes for a slot of a drawn call."""
    if isinstance(drawn, DrawnTensor):
        return drawn.layout.shape, drawn.layout.strides, drawn.dtype
    if isinstance(drawn, tuple) and drawn and isinstance(drawn[0], DrawnTensor):
        return [layout_of(item) for item in drawn]
    return None


def address_of(placed: Any) -> Any:
    """The address of element (0, ..., 0) of a placed slot."""
    if isinstance(placed, tuple) and placed and isinstance(placed[0], PlacedTensor):
        return [address_of(item) for item in placed]
    if isinstance(placed, PlacedTensor):
        return placed.storage.data_ptr() + placed.drawn.layout.offset * itemsize(placed.drawn.dtype)
    return None
