# The runtime table, member by member, past infinicore's own layers: what <infinicore/abi.h> promises of
# devices, memory, copies, streams and events.
"""The runtime table."""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Callable
from ctypes import byref, c_float, c_int32, c_uint32, c_uint64, c_void_p

from infinicore.testing.suite import Skip, Target, check
from infinicore.testing.tables import Runtime, alone

TO_HOST, TO_DEVICE, ON_DEVICE = 2, 1, 3  # infinirtMemcpyKind_t
SIZES = (1, 63, 64, 4097, 1 << 20)

__all__ = ["pattern", "with_tables"]


def with_tables(body: Callable[[Runtime], None]) -> Callable[[Target], None]:
    """Make a check of a function of the tables: on a thread of its own, and with what it makes freed."""

    @functools.wraps(body)
    def run(target: Target) -> None:
        def inside() -> None:
            runtime = target.runtime
            runtime.set_device(target.device.index)
            try:
                body(runtime)
            finally:
                runtime.close()

        alone(inside)()

    return run


def pattern(size: int, seed: int = 0) -> bytes:
    """Make bytes that no shift of them resembles."""
    step = bytes((7 * i + i // 251 + seed) % 256 for i in range(min(size, 251 * 256)))
    return (step * (size // max(len(step), 1) + 1))[:size]


class _Info(ctypes.Structure):
    """``infini_device_info``."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("major", ctypes.c_uint16),
        ("minor", ctypes.c_uint16),
        ("name", ctypes.c_char * 128),
        ("driver", ctypes.c_char * 64),
        ("runtime", ctypes.c_char * 64),
        ("architecture", ctypes.c_char * 32),
        ("memory_bytes", c_uint64),
        ("compute_units", c_int32),
        ("warp_width", c_int32),
    ]


@check("basic", "runtime")
def devices(target: Target) -> None:
    """Every device says what it is."""

    @with_tables
    def body(runtime: Runtime) -> None:
        for index in range(target.backend.device_count):
            info = _Info(ctypes.sizeof(_Info), 1, 1)
            runtime.device_info(index, byref(info))
            assert info.name, f"device_info: device {index} has no name"
            assert info.memory_bytes > 0, f"device_info: device {index} has memory_bytes=0"
            assert info.warp_width >= 1, f"device_info: device {index} has warp_width={info.warp_width}"
            runtime.set_device(index)
            runtime.synchronize()

    assert target.backend.device_count > 0, "open: device_count=0, but the backend is ready"
    body(target)


@check("basic", "runtime")
@with_tables
def memory_info(runtime: Runtime) -> None:
    """No more memory is free than there is."""
    free, total = c_uint64(), c_uint64()
    runtime.memory_info(byref(free), byref(total))
    assert total.value > 0, "memory_info: total_bytes=0"
    assert free.value <= total.value, f"memory_info: free_bytes={free.value} of total_bytes={total.value}"


@check("basic", "runtime")
@with_tables
def allocations(runtime: Runtime) -> None:
    """Addresses are aligned, and allocations that live do not overlap."""
    places = []
    for size in (*SIZES, *SIZES):
        address = runtime.memory(size).value
        assert address, f"malloc_device: {size} bytes gave NULL"
        assert address % 64 == 0, f"malloc_device: address {address:#x} is not aligned to 64 bytes"
        places.append((address, size))
    places.sort()
    for (first, size), (second, _) in itertools.pairwise(places):
        assert first + size <= second, f"malloc_device: {size} bytes at {first:#x} reach beyond {second:#x}"


@check("basic", "runtime")
@with_tables
def copies(runtime: Runtime) -> None:
    """Bytes survive the way to the device, over it, and back, whole or in part."""
    for size in SIZES:
        content = pattern(size)
        first, second = runtime.memory(size), runtime.memory(size)
        runtime.write(first, content)
        runtime.memcpy_sync(second, first, c_uint64(size), ON_DEVICE)
        assert runtime.read(second, size) == content, f"memcpy_sync: {size} bytes changed on their way"
    whole, part = runtime.memory(4096), pattern(1001, seed=9)
    runtime.write(whole, bytes(4096))
    assert whole.value is not None
    runtime.write(c_void_p(whole.value + 13), part)
    expected = bytes(13) + part + bytes(4096 - 13 - len(part))
    assert runtime.read(whole, 4096) == expected, "memcpy_sync: 1001 bytes at offset 13 went elsewhere too"


@check("basic", "runtime")
@with_tables
def asynchronous_copies(runtime: Runtime) -> None:
    """Copies and fills of one stream happen in its order."""
    size, stream = 1 << 16, runtime.stream()
    source, target = runtime.pinned(size), runtime.pinned(size)
    source.raw = pattern(size)
    memory = runtime.memory(size)
    runtime.fill(memory, 0x5A, size, stream)
    assert memory.value is not None
    runtime.copy(c_void_p(memory.value + 64), source, size - 128, TO_DEVICE, stream)
    runtime.copy(target, memory, size, TO_HOST, stream)
    runtime.stream_synchronize(stream)
    expected = b"\x5a" * 64 + source.raw[: size - 128] + b"\x5a" * 64
    assert target.raw == expected, "memset_async, memcpy_async: the stream's work did not happen in its order"


@check("basic", "runtime")
@with_tables
def default_stream(runtime: Runtime) -> None:
    """NULL is a stream."""
    memory = runtime.memory(256)
    runtime.fill(memory, 7, 256, None)
    runtime.stream_synchronize(None)
    assert runtime.read(memory, 256) == b"\x07" * 256, (
        "memset_async: nothing came of it on the default stream"
    )


@check("basic", "runtime")
@with_tables
def streams_wait(runtime: Runtime) -> None:
    """A stream that waits for an event sees what was queued before it on another stream."""
    size = 1 << 20
    source, result = runtime.pinned(size), runtime.pinned(size)
    first, second = runtime.stream(), runtime.stream()
    one, two, event = runtime.memory(size), runtime.memory(size), runtime.event()
    for seed in range(8):
        source.raw = pattern(size, seed)
        runtime.copy(one, source, size, TO_DEVICE, first)
        runtime.event_record(event, first)
        runtime.stream_wait_event(second, event)
        runtime.copy(two, one, size, ON_DEVICE, second)
        runtime.copy(result, two, size, TO_HOST, second)
        runtime.stream_synchronize(second)
        assert result.raw == source.raw, "stream_wait_event: the second stream did not wait for the first"


@check("basic", "runtime")
@with_tables
def events(runtime: Runtime) -> None:
    """Events are reached in order, and the time between them is no less than nothing."""
    stream, start, end = runtime.stream(), runtime.event(), runtime.event()
    memory = runtime.memory(1 << 20)
    runtime.event_record(start, stream)
    runtime.fill(memory, 1, 1 << 20, stream)
    runtime.event_record(end, stream)
    runtime.event_synchronize(end)
    assert runtime.event_query(end), "event_query: not ready, after event_synchronize"
    assert runtime.event_query(start), "event_query: an earlier event of the stream is not ready"
    elapsed = c_float(-1.0)
    runtime.event_elapsed(start, end, byref(elapsed))
    assert 0.0 <= elapsed.value < 1e5, f"event_elapsed: {elapsed.value} milliseconds"


@check("basic", "runtime")
@with_tables
def pinned_memory(runtime: Runtime) -> None:
    """The host may read and write pinned memory."""
    for size in SIZES:
        memory = runtime.pinned(size)
        memory.raw = pattern(size)
        assert memory.raw == pattern(size), f"malloc_host: {size} bytes do not keep what is written there"


@check("basic", "runtime")
@with_tables
def stream_ordered_memory(runtime: Runtime) -> None:
    """Memory that a stream allocates is there for what follows on it."""
    if not hasattr(runtime.table, "malloc_async"):
        raise Skip("the table has no malloc_async")
    stream = runtime.stream()
    for size in SIZES:
        memory = c_void_p()
        runtime.malloc_async(c_uint64(size), stream, byref(memory))
        result = runtime.pinned(size)
        runtime.fill(memory, 0x33, size, stream)
        runtime.copy(result, memory, size, TO_HOST, stream)
        runtime.free_async(memory, stream)
        runtime.stream_synchronize(stream)
        assert result.raw == b"\x33" * size, f"malloc_async: {size} bytes do not keep what is written there"


@check("basic", "runtime")
@with_tables
def peers(runtime: Runtime) -> None:
    """Whether a device reaches another's memory is yes or no."""
    if not hasattr(runtime.table, "can_access_peer"):
        raise Skip("the table has no can_access_peer")
    answer = c_int32(-1)
    runtime.can_access_peer(0, 0, byref(answer))
    assert answer.value in (0, 1), f"can_access_peer: {answer.value}"
