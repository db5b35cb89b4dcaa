# The names of the native module that older programs import: native classes, positional creation functions
# and, for every operator, `op(inputs...)` and `op_(out, inputs...)`. Made from the registry in a loop.
"""The native module's names, over the same objects as `infinicore` itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import infinicore
from infinicore import _dtype, creation, ops, schema
from infinicore._device import NativeDevice as Device
from infinicore._stream import DeviceEvent
from infinicore._tensor import Tensor
from infinicore.context import (
    get_device,
    get_device_count,
    get_stream,
    is_graph_recording,
    set_device,
    start_graph_recording,
    stop_graph_recording,
    sync_device,
    sync_stream,
)
from infinicore.graph import Graph
from infinicore.ops import RopeAlgo as RoPEAlgo


class DataType:
    """The element types under the names of ``infiniDtype_t``: ``DataType.F16 is infinicore.float16``."""


for _entry in _dtype.DTYPES:
    setattr(DataType, _entry.short.upper(), _entry)


def _pick(device: Any) -> Any:
    return infinicore.device._from_infinicore_device(device) if isinstance(device, Device) else device


def empty(shape: Any, dtype: Any, device: Any, pin_memory: bool = False) -> Tensor:
    """Return an uninitialised tensor; see `infinicore.empty`."""
    return creation.empty(shape, dtype=dtype, device=_pick(device), pin_memory=pin_memory)


def strided_empty(shape: Any, strides: Any, dtype: Any, device: Any, pin_memory: bool = False) -> Tensor:
    """Return an uninitialised strided tensor; see `infinicore.strided_empty`."""
    return creation.strided_empty(shape, strides, dtype=dtype, device=_pick(device), pin_memory=pin_memory)


def zeros(shape: Any, dtype: Any, device: Any, pin_memory: bool = False) -> Tensor:
    """Return a tensor of zeros; see `infinicore.zeros`."""
    return creation.zeros(shape, dtype=dtype, device=_pick(device), pin_memory=pin_memory)


def ones(shape: Any, dtype: Any, device: Any, pin_memory: bool = False) -> Tensor:
    """Return a tensor of ones; see `infinicore.ones`."""
    return creation.ones(shape, dtype=dtype, device=_pick(device), pin_memory=pin_memory)


def from_blob(data_ptr: int, shape: Any, dtype: Any, device: Any) -> Tensor:
    """Return a tensor over memory at an address; see `infinicore.from_blob`."""
    return creation.from_blob(data_ptr, shape, dtype=dtype, device=_pick(device))


def strided_from_blob(data_ptr: int, shape: Any, strides: Any, dtype: Any, device: Any) -> Tensor:
    """Return a strided tensor over memory at an address; see `infinicore.strided_from_blob`."""
    return creation.strided_from_blob(data_ptr, shape, strides, dtype=dtype, device=_pick(device))


def _writing(name: str, operator: Callable[..., Any], outputs: int) -> Callable[..., Any]:
    def write(*arguments: Any) -> Any:
        out = arguments[0] if outputs == 1 else arguments[:outputs]
        return operator(*arguments[outputs:], out=out)

    write.__name__ = write.__qualname__ = name
    write.__doc__ = f"`{operator.__name__}` into existing tensors, which come first."
    return write


def _define() -> list[str]:
    """Add every operator in both forms; returns the names."""
    own = globals()
    names: list[str] = []
    for name in ops.__all__:
        operator = getattr(ops, name)
        if name in own or not callable(operator) or isinstance(operator, type):
            continue
        known = schema.OPERATORS.get(name)
        # Operators hide built-ins of this module as the loop goes on: no sum() or max() here.
        outputs = (
            len([1 for parameter in known.parameters if parameter.role == "out"]) if known is not None else 1
        )
        own[name] = operator
        own[name + "_"] = _writing(name + "_", operator, outputs or 1)
        names += [name, name + "_"]
    return names


# The operators follow what is listed: they come from the registry.
__all__ = [
    "DataType",
    "Device",
    "DeviceEvent",
    "Graph",
    "RoPEAlgo",
    "Tensor",
    "empty",
    "from_blob",
    "get_device",
    "get_device_count",
    "get_stream",
    "is_graph_recording",
    "ones",
    "set_device",
    "start_graph_recording",
    "stop_graph_recording",
    "strided_empty",
    "strided_from_blob",
    "sync_device",
    "sync_stream",
    "zeros",
]
__all__.extend(_define())
