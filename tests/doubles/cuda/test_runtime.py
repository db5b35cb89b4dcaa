# The runtime table of infinicore-cuda, called as core would: on streams that work only when waited for.
# What needs a particular state of the device runs in a process of its own.
from __future__ import annotations

import ctypes
from ctypes import byref, c_float, c_int32, c_uint64, c_void_p
from typing import Any

import numpy as np
import pytest

import infinicore as ic
from infinicore.errors import Error, InvalidArgument
from infinicore.testing.tables import Tables, alone

H2D, D2H, D2D = 1, 2, 3
KINDS = ("memory", "pinned", "stream", "event", "graph", "exec")


@pytest.fixture
def runtime(tables: Tables, double: ctypes.CDLL) -> Any:
    """The table; what a test makes it has to release."""
    ic.empty_cache("cuda")
    before = {kind: double.cuda_double_live(kind.encode()) for kind in KINDS}
    yield tables.runtime
    assert {kind: double.cuda_double_live(kind.encode()) for kind in KINDS} == before


def make(member: Any, *arguments: object) -> c_void_p:
    out = c_void_p()
    member(*arguments, byref(out))
    return out


def test_a_device_says_what_it_is() -> None:
    said = ic.backends["cuda"].devices
    assert [device["name"] for device in said] == ["CUDA double 0", "CUDA double 1"]
    assert {device["memory_bytes"] for device in said} == {2 << 30}


def test_device_info(runtime: Any) -> None:
    info = (ctypes.c_char * 1024)()
    ctypes.c_uint32.from_buffer(info).value = 1024
    runtime.device_info(1, info)
    text = bytes(info)
    assert text[8:].startswith(b"CUDA double 1\0")
    for part in (b"580.00.00, CUDA 13.0\0", b"\0CUDA 13.0\0", b"\0sm_90\0"):
        assert part in text


@alone
def test_memory_and_copies(runtime: Any) -> None:
    runtime.set_device(0)
    free, total = c_uint64(), c_uint64()
    runtime.memory_info(byref(free), byref(total))
    stream = make(runtime.stream_create, 0)
    one, two = make(runtime.malloc_device, c_uint64(64)), make(runtime.malloc_async, c_uint64(64), stream)
    left = c_uint64()
    runtime.memory_info(byref(left), byref(total))
    assert free.value - left.value == 128
    pinned = make(runtime.malloc_host, c_uint64(64))
    content = bytes(range(64))
    runtime.memcpy_sync(one, content, c_uint64(64), H2D)
    runtime.memcpy_async(two, one, c_uint64(64), D2D, stream)
    runtime.memset_async(two, 7, c_uint64(8), stream)
    runtime.memcpy_async(pinned, two, c_uint64(64), D2H, stream)
    runtime.stream_synchronize(stream)
    assert ctypes.string_at(pinned, 64) == b"\x07" * 8 + content[8:]
    back = ctypes.create_string_buffer(64)
    runtime.memcpy_sync(back, two, c_uint64(64), D2H)
    assert back.raw == ctypes.string_at(pinned, 64)
    runtime.free_async(two, stream)
    runtime.free_device(one)
    runtime.free_host(pinned)
    runtime.stream_destroy(stream)


@alone
def test_a_copy_of_another_kind_is_refused_in_cudas_words(runtime: Any) -> None:
    runtime.set_device(0)
    memory, host = make(runtime.malloc_device, c_uint64(64)), ctypes.create_string_buffer(64)
    for arguments in ((host, memory, c_uint64(64), H2D), (memory, host, c_uint64(65), H2D)):
        with pytest.raises(Error, match=r"cudaMemcpy: invalid argument \(cudaErrorInvalidValue\)"):
            runtime.memcpy_sync(*arguments)
    with pytest.raises(InvalidArgument, match="unknown kind 9"):
        runtime.memcpy_sync(memory, host, c_uint64(64), 9)
    runtime.free_device(memory)
    with pytest.raises(Error, match="cudaFree: invalid argument"):
        runtime.free_device(memory)


@alone
def test_streams_wait_for_events_and_events_tell_the_time(runtime: Any) -> None:
    runtime.set_device(1)
    first, second = (make(runtime.stream_create, 0) for _ in range(2))
    start, end = (make(runtime.event_create, 0) for _ in range(2))
    untimed = make(runtime.event_create, 1 | 2)  # whoever waits for it sleeps
    memory = make(runtime.malloc_device, c_uint64(8))
    runtime.event_record(start, first)
    runtime.memset_async(memory, 1, c_uint64(8), first)
    runtime.event_record(untimed, first)
    runtime.stream_wait_event(second, untimed)
    runtime.memset_async(memory, 2, c_uint64(4), second)
    runtime.event_record(end, second)
    assert not runtime.event_query(end)  # nothing ran: nobody waited
    runtime.event_synchronize(end)
    assert runtime.event_query(end)
    back = ctypes.create_string_buffer(8)
    runtime.memcpy_sync(back, memory, c_uint64(8), D2H)
    assert back.raw == b"\x02" * 4 + b"\x01" * 4
    elapsed = c_float(-1)
    runtime.event_elapsed(start, end, byref(elapsed))
    assert elapsed.value >= 0
    with pytest.raises(Error, match="cudaEventElapsedTime: invalid resource handle"):
        runtime.event_elapsed(start, untimed, byref(elapsed))
    runtime.free_device(memory)
    for event in (start, end, untimed):
        runtime.event_destroy(event)
    for stream in (first, second):
        runtime.stream_destroy(stream)
    runtime.synchronize()


@alone
def test_a_graph_replays_what_was_captured(runtime: Any) -> None:
    runtime.set_device(0)
    stream, other = (make(runtime.stream_create, 0) for _ in range(2))
    fork, join = (make(runtime.event_create, 1) for _ in range(2))
    memory = make(runtime.malloc_device, c_uint64(4))
    runtime.capture_begin(stream, 2)
    runtime.memset_async(memory, 5, c_uint64(4), stream)
    runtime.event_record(fork, stream)
    runtime.stream_wait_event(other, fork)
    runtime.memset_async(memory, 6, c_uint64(2), other)
    runtime.event_record(join, other)
    runtime.stream_wait_event(stream, join)
    graph = make(runtime.capture_end, stream)
    exec_ = make(runtime.graph_instantiate, graph)
    runtime.graph_destroy(graph)
    back = ctypes.create_string_buffer(4)
    for _ in range(2):
        runtime.memset_async(memory, 0, c_uint64(4), stream)
        runtime.graph_launch(exec_, stream)
        runtime.stream_synchronize(stream)
        runtime.memcpy_sync(back, memory, c_uint64(4), D2H)
        assert back.raw == b"\x06\x06\x05\x05"
    runtime.graph_exec_destroy(exec_)
    runtime.capture_begin(stream, 2)
    with pytest.raises(Error, match="operation not permitted when stream is capturing"):
        runtime.stream_synchronize(stream)
    with pytest.raises(Error, match="cudaStreamEndCapture: operation failed due to a previous error"):
        runtime.capture_end(stream, byref(c_void_p()))
    runtime.free_device(memory)
    for event in (fork, join):
        runtime.event_destroy(event)
    for made in (stream, other):
        runtime.stream_destroy(made)


@alone
def test_what_cuda_forbids_while_a_stream_is_captured(runtime: Any) -> None:
    runtime.set_device(0)
    stream, other = (make(runtime.stream_create, 0) for _ in range(2))
    event, memory = make(runtime.event_create, 1), make(runtime.malloc_device, c_uint64(4))
    everywhere, this_thread, relaxed = range(3)

    def spoilt(mode: int, words: str, function: Any, *arguments: object) -> None:
        runtime.capture_begin(stream, mode)
        runtime.memset_async(memory, 5, c_uint64(4), stream)
        with pytest.raises(Error, match=words):
            function(*arguments)
        with pytest.raises(Error, match="cudaStreamEndCapture: operation failed due to a previous error"):
            runtime.capture_end(stream, byref(c_void_p()))

    capturing = "operation not permitted when stream is capturing"
    for mode in (everywhere, this_thread):  # what may wait for the device
        spoilt(mode, f"cudaMalloc: {capturing}", runtime.malloc_device, c_uint64(4), byref(c_void_p()))
        spoilt(mode, f"cudaFree: {capturing}", runtime.free_device, memory)
        host = ctypes.create_string_buffer(4)
        spoilt(mode, f"cudaMemcpy: {capturing}", runtime.memcpy_sync, host, memory, c_uint64(4), D2H)
    spoilt(relaxed, f"cudaDeviceSynchronize: {capturing}", runtime.synchronize)
    runtime.event_record(event, other)
    spoilt(relaxed, "uncaptured work in another stream", runtime.stream_wait_event, stream, event)

    runtime.capture_begin(stream, relaxed)
    runtime.event_record(event, stream)
    for function in (runtime.event_query, runtime.event_synchronize):
        with pytest.raises(Error, match="an event last recorded in a capturing stream"):
            function(event)
    runtime.stream_wait_event(other, event)
    runtime.memset_async(memory, 5, c_uint64(4), other)
    with pytest.raises(Error, match="cudaStreamEndCapture: capture was not ended in the same stream"):
        runtime.capture_end(other, byref(c_void_p()))
    with pytest.raises(Error, match="cudaStreamEndCapture: capturing stream has unjoined work"):
        runtime.capture_end(stream, byref(c_void_p()))
    with pytest.raises(Error, match="an event last recorded in a capturing stream"):
        runtime.event_query(event)
    runtime.free_device(memory)
    runtime.event_destroy(event)
    for made in (stream, other):
        runtime.stream_destroy(made)


@alone
def test_what_belongs_to_a_device_stays_there(runtime: Any) -> None:
    runtime.set_device(0)
    event, memory = make(runtime.event_create, 0), make(runtime.malloc_device, c_uint64(4))
    with pytest.raises(Error, match="cudaFreeAsync: invalid argument"):  # of no pool
        runtime.free_async(memory, None)
    runtime.set_device(1)
    stream = make(runtime.stream_create, 0)
    with pytest.raises(Error, match="cudaEventRecord: invalid resource handle"):
        runtime.event_record(event, stream)
    runtime.set_device(0)
    runtime.event_destroy(event)
    runtime.free_device(memory)
    runtime.stream_destroy(stream)


def test_a_recording_is_not_spoilt_by_who_waits_for_the_device() -> None:
    a = ic.from_numpy(np.float32([2, 3])).to("cuda")
    out = ic.empty((2,), dtype=ic.float32, device="cuda")
    with ic.graph("cuda") as step:
        ic.add(a, a, out=out)
        with pytest.raises(ic.Error, match=r"a graph is being recorded on cuda:0.*wait for a stream instead"):
            ic.synchronize("cuda")
        ic.empty_cache("cuda")  # gives nothing back: that would wait, too
    step.run()
    assert out.tolist() == [4, 6]
    ic.synchronize("cuda")


@alone
def test_a_graph_is_updated_where_only_arguments_changed(runtime: Any, double: ctypes.CDLL) -> None:
    runtime.set_device(0)
    stream, memory = make(runtime.stream_create, 0), make(runtime.malloc_device, c_uint64(4))

    def capture(*values: int) -> c_void_p:
        runtime.capture_begin(stream, 2)
        for value in values:
            runtime.memset_async(memory, value, c_uint64(4), stream)
        return make(runtime.capture_end, stream)

    def result() -> bytes:
        back = ctypes.create_string_buffer(4)
        runtime.graph_launch(exec_, stream)
        runtime.stream_synchronize(stream)
        runtime.memcpy_sync(back, memory, c_uint64(4), D2H)
        return back.raw

    graphs = [capture(5), capture(6), capture(7, 8)]
    exec_, updates = make(runtime.graph_instantiate, graphs[0]), double.cuda_double_live(b"update")
    assert result() == b"\x05" * 4
    runtime.graph_update(exec_, graphs[1])
    assert result() == b"\x06" * 4
    with pytest.raises(
        Error, match=r"cudaGraphExecUpdate: .*\(cudaErrorGraphExecUpdateFailure\) \(status 2\)"
    ):
        runtime.graph_update(exec_, graphs[2])
    assert result() == b"\x06" * 4
    assert double.cuda_double_live(b"update") == updates + 1
    for graph in graphs:
        runtime.graph_destroy(graph)
    runtime.graph_exec_destroy(exec_)
    runtime.free_device(memory)
    runtime.stream_destroy(stream)


def test_graphs_of_users_are_updated(double: ctypes.CDLL) -> None:
    a, b = (ic.from_numpy(np.float32([2, 3])).to("cuda") for _ in range(2))
    out = ic.empty((2,), dtype=ic.float32, device="cuda")
    with ic.graph("cuda") as step:
        ic.add(a, b, out=out)
    with ic.graph("cuda") as other:
        ic.mul(a, b, out=out)
    with ic.graph("cuda") as longer:
        ic.sub(ic.mul(a, b), a, out=out)
    count = lambda: (double.cuda_double_live(b"update"), double.cuda_double_live(b"exec"))
    updates, executables = count()
    step.update(other)
    step.run()
    assert out.tolist() == [4, 9]
    assert count() == (updates + 1, executables)
    step.update(longer)  # in place is impossible: another one takes its place
    step.run()
    assert out.tolist() == [2, 6]
    assert count() == (updates + 1, executables)


@alone
def test_peers(runtime: Any) -> None:
    runtime.set_device(0)
    reachable = c_int32(-1)
    for peer, expected in ((1, 1), (1, 1), (0, 1)):  # switched on once, and no error the second time
        runtime.can_access_peer(0, peer, byref(reachable))
        assert reachable.value == expected
    with pytest.raises(Error, match=r"cudaDeviceCanAccessPeer: invalid device ordinal"):
        runtime.can_access_peer(0, 9, byref(reachable))


def test_resources_come_from_nvml(runtime: Any) -> None:
    class Resources(ctypes.Structure):
        _fields_ = [
            ("size", ctypes.c_uint32), ("version", ctypes.c_uint32), ("valid", c_uint64), ("used", c_uint64),
            ("total", c_uint64), ("compute", ctypes.c_double), ("bandwidth", ctypes.c_double),
            ("kernels", ctypes.c_double), ("communication", ctypes.c_double),
        ]  # fmt: skip

    found = Resources(size=ctypes.sizeof(Resources))
    runtime.resources(0, byref(found))
    assert (found.valid, found.total, found.compute, found.bandwidth) == (0b1111, 2 << 30, 0.25, 0.5)


def test_copies_between_devices() -> None:
    a = ic.from_numpy(np.arange(6, dtype=np.float32)).to("cuda:0")
    b = a.to("cuda:1")
    assert b.device.index == 1
    assert (b + b).tolist() == [0, 2, 4, 6, 8, 10]


def test_heuristics_are_asked_for_once(double: ctypes.CDLL) -> None:
    a = ic.from_numpy(np.ones((5, 37), np.float32)).to("cuda")
    b = ic.from_numpy(np.ones((37, 11), np.float32)).to("cuda")
    assert ic.matmul(a, b).tolist() == [[37.0] * 11] * 5
    before = double.cuda_double_live(b"heuristic")
    for _ in range(3):
        ic.matmul(a, b)
    assert double.cuda_double_live(b"heuristic") == before
