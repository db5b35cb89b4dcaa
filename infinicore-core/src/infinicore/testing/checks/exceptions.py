# What goes wrong must be said, as an exception of infinicore with words in it, and leave the device as it
# was: after each mistake it is used again.
"""Mistakes and what is said about them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import byref, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any

import numpy as np

import infinicore as ic
from infinicore.schema import DTYPES
from infinicore.testing.checks.runtime import with_tables
from infinicore.testing.suite import Skip, Target, check, check_each_operator
from infinicore.testing.tables import Runtime

if TYPE_CHECKING:
    from infinicore.testing.strategies import DrawnCall


def refused(action: Callable[[], Any], kind: type[ic.Error], what: str) -> str:
    """Return what a mistake raised, which must be of a kind and say something."""
    try:
        action()
    except ic.Error as error:
        assert isinstance(error, kind), f"{what} raised {type(error).__name__}, not {kind.__name__}: {error}"
        assert str(error).strip(), f"{what} raised {type(error).__name__} without a word"
        return str(error)
    raise AssertionError(f"{what} raised nothing")


def still_works(target: Target) -> None:
    """Use the device."""
    array = np.arange(100, dtype=np.float32)
    back = ic.from_numpy(array).to(target.device).to("cpu").numpy()
    assert (back == array).all(), "after the mistake copies change what they copy"


@check("exception", "exceptions")
def out_of_memory(target: Target) -> None:
    """More memory than there is raises OutOfMemory, and what fits is still to be had."""
    for size in (1 << 50, 1 << 60):
        refused(
            lambda size=size: ic.empty((size,), dtype=ic.uint8, device=target.device),  # type: ignore[misc]
            ic.OutOfMemory,
            f"asking {target.device} for {size} bytes",
        )
        still_works(target)


@check("exception", "exceptions")
def device_index(target: Target) -> None:
    """A device that is not there raises DeviceNotFound."""
    index = target.backend.device_count + 5
    message = refused(
        lambda: ic.empty((1,), dtype=ic.float32, device=f"{target.name}:{index}"),
        ic.DeviceNotFound,
        f"using {target.name}:{index}",
    )
    assert str(index) in message, (
        f"using {target.name}:{index} raised what does not name the device: {message}"
    )
    still_works(target)


@check("exception", "exceptions")
@with_tables
def table_says_why(runtime: Runtime) -> None:
    """A member that fails stores a message."""
    message = refused(lambda: runtime.set_device(1 << 20), ic.Error, "set_device(1048576)")
    assert message.partition(": ")[2].partition(" (status")[0].strip(), "set_device failed without a message"
    memory = c_void_p()
    refused(lambda: runtime.malloc_device(c_uint64(1 << 60), byref(memory)), ic.Error, "malloc_device(2**60)")
    assert ctypes.sizeof(memory) and runtime.read(runtime.memory(64), 0) == b""


@check_each_operator("exception", "exceptions")
def dtypes(target: Target, call: DrawnCall) -> None:
    """Whatever dtype an input has, allowed or not, the call works or raises; nothing dies."""
    from infinicore.testing.conformance import invoke

    schema = call.schema
    tensors = [p for p in schema.tensors if p.role != "out" and p.kind == "tensor"]
    function = getattr(ic.ops, schema.call.name)
    for p in tensors:
        if call.slots[p.index] is None:
            continue
        for dtype in DTYPES:
            if dtype in p.dtypes():
                continue
            slots = [_plain(target, value, None) for value in call.slots]
            slots[p.index] = _plain(target, call.slots[p.index], dtype)
            for out in schema.call.outputs:
                if schema.parameters[out].role == "out":
                    slots[out] = None
            refused(
                lambda slots=slots: invoke(schema, function, slots, give_out=False),  # type: ignore[misc]
                ic.Error,
                f"{schema.name} with {p.name} of dtype {DTYPES[dtype][1]}",
            )
    still_works(target)


def _plain(target: Target, value: Any, dtype: str | None) -> Any:
    """Make an undefined tensor of a drawn one's shape."""
    if isinstance(value, tuple):
        return [_plain(target, item, dtype) for item in value] if hasattr(value[:1], "layout") else value
    if not hasattr(value, "layout"):
        return value
    name = DTYPES[dtype or value.dtype][1]
    return ic.empty(value.layout.shape, dtype=getattr(ic, name), device=target.device)


@check("exception", "exceptions")
def operator_without_kernel(target: Target) -> None:
    """An operator that the device lacks raises what names a backend that has it."""
    missing = sorted({schema.name for schema in target.chosen()} - target.native)
    if target.name == "cpu" or not missing:
        raise Skip("there is a kernel for every operator")
    schema = ic.schema.OPERATORS[missing[0]]
    from infinicore.testing.conformance import Launch

    for call in target.drawn(schema.name):
        message = refused(lambda call=call: Launch(call, target.device)(), ic.Error, schema.name)  # type: ignore[misc]
        assert "cpu" in message, f"{schema.name}: the message names no backend that has it: {message}"
    still_works(target)
