# The plug-in tables of a backend as Python objects, through ctypes: for tests of the tables themselves.
# Programs use infinicore's own interface; only a test wants to pass what core never would.
"""Call the members of a backend's plug-in tables directly."""

from __future__ import annotations

import ctypes
import functools
import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ctypes import byref, c_uint64, c_void_p
from typing import Any, NoReturn

import infinicore
from infinicore import _status, discovery, errors
from infinicore._backend import RUNTIME_MEMBERS

__all__ = ["CCL_MEMBERS", "Runtime", "Table", "Tables", "alone"]

# Members of infini_ccl in order.
CCL_MEMBERS = (
    "unique_id", "init_rank", "init_all", "destroy", "group_start", "group_end", "all_reduce", "reduce",
    "broadcast", "all_gather", "all_gather_v", "reduce_scatter", "reduce_scatter_v", "all_to_all", "send",
    "receive", "barrier",
)  # fmt: skip

_NOT_READY = 102
_EXCEPTIONS: dict[int, type[errors.Error]] = {
    3: errors.InvalidArgument,
    6: errors.DeviceNotFound,
    7: errors.BackendError,
    10: errors.DTypeError,
    100: errors.OutOfMemory,
    103: errors.Timeout,
    104: errors.PeerFailed,
}


class _Backend(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        ("abi_major", ctypes.c_uint16),
        ("abi_minor", ctypes.c_uint16),
        ("name", ctypes.c_char_p),
        ("vendor", ctypes.c_char_p),
        ("version", ctypes.c_char_p),
        ("device_type", ctypes.c_int32),
        ("dlpack_type", ctypes.c_int32),
        ("open", ctypes.c_void_p),
        ("runtime", ctypes.c_void_p),
        ("ccl", ctypes.c_void_p),
        ("operator_count", ctypes.c_uint64),
        ("operators", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
    ]


class Table:
    """A table of functions that return a status: each is a method that raises what the status stands for.

    Arguments are ctypes values, integers (for what C declares as ``int32_t``) or None. A member that may
    answer "not ready" returns False for that, and every member returns True when it succeeds. Members that
    the plug-in left out are no attributes.
    """

    def __init__(self, address: int, members: tuple[str, ...]) -> None:
        header, pointer = 8, ctypes.sizeof(ctypes.c_void_p)  # bytes of infini_header, and of each member
        reaches = (ctypes.c_uint32.from_address(address).value - header) // pointer
        pointers = (ctypes.c_void_p * min(len(members), reaches)).from_address(address + header)
        for name, function in zip(members, pointers, strict=False):  # an older plug-in's table is shorter
            if function is not None:
                setattr(self, name, self._method(name, function))

    @staticmethod
    def _method(name: str, pointer: int) -> Any:
        function = ctypes.CFUNCTYPE(ctypes.c_int)(pointer)

        def call(*arguments: Any) -> bool:
            status = function(*arguments)
            if status not in (0, _NOT_READY):
                _fail(name, status)
            return status == 0

        return call

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the table has no member {name!r}")


class Tables:
    """The tables of a backend that is ready.

    Attributes
    ----------
    runtime, ccl : Table
    operators : int
        How many operators it offers.
    """

    def __init__(self, backend: _Backend) -> None:
        self.runtime = Table(backend.runtime, RUNTIME_MEMBERS)
        self.ccl: Any = Table(backend.ccl, CCL_MEMBERS) if backend.ccl else None
        self.operators = backend.operator_count

    @classmethod
    def of(cls, name: str) -> Tables:
        """The tables of backend `name`, which is opened first."""
        backend = infinicore.backends[name].open()
        assert backend.plugin is not None  # it is ready
        if backend.plugin.module:
            address = _address(importlib.import_module(backend.plugin.module).capsule)
        else:  # core's own library, or one of INFINICORE_BACKEND_PATH
            own = f"{discovery.LIBRARIES}/libinfinicore_cpu.so"
            function = ctypes.CDLL(own if name == "cpu" else backend.distribution).infinicore_backend
            function.restype = ctypes.c_void_p
            address = function()
        return cls(_Backend.from_address(address))


class Runtime:
    """The tables of a backend with results instead of out parameters; `close` frees what was made through it.

    Attributes
    ----------
    tables : Tables
    table, ccl : Table
        The runtime and the collectives; `ccl` is None where the plug-in has none.
    undo : list of function
        What `close` calls, last one first.
    """

    def __init__(self, name: str) -> None:
        self.tables = Tables.of(name)
        self.table, self.ccl = self.tables.runtime, self.tables.ccl
        self.undo: list[Callable[[], object]] = []

    def __getattr__(self, member: str) -> Any:
        return getattr(self.table, member)

    def close(self) -> None:
        """Free everything, on the device 0."""
        self.set_device(0)
        while self.undo:
            self.undo.pop()()

    def make(self, member: str, *arguments: object, free: str | None = None) -> c_void_p:
        """Call a member whose last argument is where its result goes."""
        out = c_void_p()
        getattr(self.table, member)(*arguments, byref(out))
        if free is not None:
            self.undo.append(lambda: getattr(self.table, free)(out))
        return out

    def memory(self, size: int) -> c_void_p:
        """Allocate memory of the current device."""
        return self.make("malloc_device", c_uint64(size), free="free_device")

    def pinned(self, size: int) -> ctypes.Array[ctypes.c_char]:
        """Allocate pinned host memory."""
        address = self.make("malloc_host", c_uint64(size), free="free_host")
        assert address.value is not None
        return (ctypes.c_char * size).from_address(address.value)

    def stream(self) -> c_void_p:
        """Make a stream."""
        return self.make("stream_create", 0, free="stream_destroy")

    def event(self, flags: int = 0) -> c_void_p:
        """Make an event."""
        return self.make("event_create", flags, free="event_destroy")

    def write(self, target: c_void_p, content: bytes) -> None:
        """Copy bytes of the host to the device."""
        self.memcpy_sync(target, content, c_uint64(len(content)), 1)

    def read(self, source: c_void_p, size: int) -> bytes:
        """Copy bytes of the device to the host."""
        content = ctypes.create_string_buffer(size)
        self.memcpy_sync(content, source, c_uint64(size), 2)
        return content.raw

    def copy(self, target: object, source: object, size: int, kind: int, stream: c_void_p | None) -> None:
        """Queue a copy; `kind` is an ``infinirtMemcpyKind_t``."""
        self.memcpy_async(target, source, c_uint64(size), kind, stream)

    def fill(self, target: c_void_p, value: int, size: int, stream: c_void_p | None) -> None:
        """Queue the filling of memory with a byte."""
        self.memset_async(target, value, c_uint64(size), stream)

    def free_bytes(self) -> int:
        """Ask how much memory the device has left."""
        free, total = c_uint64(), c_uint64()
        self.memory_info(byref(free), byref(total))
        return free.value


def _address(capsule: object) -> int:
    get_name = ctypes.pythonapi.PyCapsule_GetName
    get_name.argtypes, get_name.restype = [ctypes.py_object], ctypes.c_char_p
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.argtypes, get_pointer.restype = [ctypes.py_object, ctypes.c_char_p], ctypes.c_void_p
    return int(get_pointer(capsule, get_name(capsule)))


# Where core keeps the message that the plug-in stored on this thread.
_last_message = ctypes.CFUNCTYPE(ctypes.c_char_p)(_address(vars(_status)["__pyx_capi__"]["last_message"]))


def _fail(name: str, status: int) -> NoReturn:
    message = (_last_message() or b"").decode()
    raise _EXCEPTIONS.get(status, errors.Error)(f"{name}: {message} (status {status})")


def alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run a function on a thread of its own.

    Core remembers which device it made current on a thread; what ``set_device`` of a table does there behind
    its back must not meet anything else.
    """

    @functools.wraps(function)
    def run(*arguments: Any, **keywords: Any) -> Any:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(function, *arguments, **keywords).result()

    return run
