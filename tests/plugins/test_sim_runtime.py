# The runtime table of the simulated accelerator, called as core calls it: memory, streams, events, graphs.
# What hardware only shows now and then (a missing wait, a host touch) has to show here every time.
from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from ctypes import byref, c_float, c_int32, c_uint64, c_void_p
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinicore.errors import DeviceNotFound, Error, InvalidArgument, OutOfMemory, PeerFailed
from infinicore.testing.tables import alone

H2D, D2H, D2D = 1, 2, 3
GLOBAL, THREAD_LOCAL, RELAXED = range(3)
DISABLE_TIMING = 1


# ---- memory ------------------------------------------------------------------------------------------


@alone
def test_copies_and_fills_arrive(runtime: Any) -> None:
    a, b = runtime.memory(1000), runtime.memory(1000)
    assert a.value % 256 == b.value % 256 == 0
    runtime.write(a, bytes(range(250)) * 4)
    runtime.memcpy_sync(b, a, c_uint64(1000), D2D)
    assert runtime.read(b, 1000) == bytes(range(250)) * 4
    runtime.fill(c_void_p(b.value + 10), 0xAB, 5, None)
    assert runtime.read(b, 16) == bytes([*range(10), *[0xAB] * 5, 15])
    runtime.memcpy_sync(b, a, c_uint64(0), D2D)  # nothing to do is not an error
    assert runtime.read(b, 16)[10] == 0xAB


@alone
def test_devices_have_memory_of_their_own_and_reach_each_other(runtime: Any) -> None:
    first = runtime.memory(64)
    before = runtime.free_bytes()
    runtime.set_device(1)
    free = runtime.free_bytes()
    second = runtime.memory(64)
    assert runtime.free_bytes() == free - 256
    reaches = c_int32()
    runtime.can_access_peer(0, 1, byref(reaches))
    assert reaches.value == 1
    runtime.write(first, b"x" * 64)
    runtime.memcpy_sync(second, first, c_uint64(64), D2D)
    assert runtime.read(second, 64) == b"x" * 64
    runtime.set_device(0)
    assert runtime.free_bytes() == before


@alone
def test_a_device_that_is_not_there(runtime: Any) -> None:
    for index in (-1, 2):
        with pytest.raises(DeviceNotFound, match=f"sim has 2 devices: there is no sim:{index}"):
            runtime.set_device(index)


@alone
def test_out_of_memory_says_how_much_there_is(runtime: Any) -> None:
    total = runtime.free_bytes()
    with pytest.raises(OutOfMemory, match=f"sim:0 is out of memory: {total + 1} bytes asked for, {total} of"):
        runtime.memory(total + 1)
    with pytest.raises(OutOfMemory, match=str(2**64 - 1)):
        runtime.memory(2**64 - 1)
    assert runtime.free_bytes() == total


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 1 << 20)), max_size=40))
def test_freed_memory_is_whole_again(runtime: Any, steps: list[tuple[bool, int]]) -> None:
    @alone
    def run() -> None:
        runtime.set_device(1)
        start = runtime.free_bytes()
        held: list[tuple[c_void_p, int]] = []
        for free, size in steps:
            if free and held:
                runtime.free_device(held.pop(size % len(held))[0])
            else:
                block = runtime.make("malloc_device", c_uint64(size))
                assert all(block.value + size <= b.value or b.value + s <= block.value for b, s in held)
                held.append((block, size))
        for block, _ in held:
            runtime.free_device(block)
        assert runtime.free_bytes() == start
        # In one piece: otherwise this does not fit.
        runtime.free_device(runtime.make("malloc_device", c_uint64(start)))

    run()


@alone
def test_addresses_that_are_not_what_they_should_be(runtime: Any) -> None:
    memory, host = runtime.memory(256), ctypes.create_string_buffer(256)
    beyond = c_void_p(memory.value + 200)
    cases = [
        (memory, memory, 8, H2D, "an address of sim:0 stands where the host's should"),
        (host, host, 8, H2D, "an address is not memory of sim"),
        (memory, host, 257, H2D, "257 bytes do not lie inside one allocation"),
        (host, beyond, 57, D2H, "57 bytes do not lie inside one allocation"),
        (memory, host, 8, 7, "unknown kind 7"),
    ]
    for target, source, size, kind, message in cases:
        with pytest.raises(InvalidArgument, match=message):
            runtime.memcpy_sync(target, source, c_uint64(size), kind)
    with pytest.raises(InvalidArgument, match="is not memory of sim"):
        runtime.free_device(host)
    with pytest.raises(InvalidArgument, match="memory that is not allocated"):
        runtime.free_device(beyond)
    with pytest.raises(InvalidArgument, match="malloc_host did not return"):
        runtime.free_host(host)


@pytest.mark.parametrize("touch", ["ctypes.string_at(address, 1)", "ctypes.memset(address, 0, 1)"])
@pytest.mark.parametrize("working", [False, True], ids=["idle", "working"])
def test_a_host_touch_faults(python: Callable[..., Any], touch: str, working: bool) -> None:
    done = python(
        f"""
        import ctypes, infinicore as ic
        from infinicore.testing.tables import Tables
        runtime = Tables.of("sim").runtime
        memory = ctypes.c_void_p()
        runtime.malloc_device(ctypes.c_uint64(1 << 26), ctypes.byref(memory))
        if {working}:  # the device's threads have the memory open meanwhile: the host still has not
            for value in range(100):
                runtime.memset_async(memory, value, ctypes.c_uint64(1 << 26), None)
        address = memory.value
        print("alive", flush=True)
        {touch}
        print("unreachable", flush=True)
        """,
        status=-11,
    )
    assert done.stdout == "alive\n"
    assert "Segmentation fault" in done.stderr


@alone
def test_stream_ordered_memory_is_free_when_the_stream_gets_there(runtime: Any) -> None:
    stream, start = runtime.stream(), runtime.free_bytes()
    memory = runtime.make("malloc_async", c_uint64(4096), stream)
    release = runtime.gate(stream)
    runtime.free_async(memory, stream)
    assert runtime.free_bytes() == start - 4096
    release()
    runtime.stream_synchronize(stream)
    assert runtime.free_bytes() == start


# ---- streams and events --------------------------------------------------------------------------------


@alone
def test_queued_work_waits_and_keeps_its_order(runtime: Any) -> None:
    memory, stream, target = runtime.memory(8), runtime.stream(), runtime.pinned(8)
    runtime.write(memory, b"\x01" * 8)
    release = runtime.gate(stream)
    done = runtime.event()
    runtime.fill(memory, 2, 8, stream)
    runtime.copy(target, memory, 8, D2H, stream)
    runtime.fill(memory, 3, 8, stream)
    runtime.event_record(done, stream)
    time.sleep(0.02)
    assert not runtime.event_query(done)
    assert runtime.read(memory, 8) == b"\x01" * 8  # the default stream overtakes it
    release()
    runtime.event_synchronize(done)
    assert runtime.event_query(done)
    assert target.raw == b"\x02" * 8
    assert runtime.read(memory, 8) == b"\x03" * 8


@alone
def test_a_pageable_source_may_be_reused_at_once_and_a_pinned_one_not(runtime: Any) -> None:
    stream, pageable, pinned = runtime.stream(), ctypes.create_string_buffer(b"old", 3), runtime.pinned(3)
    pinned.raw = b"old"
    a, b = runtime.memory(3), runtime.memory(3)
    release = runtime.gate(stream)
    runtime.copy(a, pageable, 3, H2D, stream)
    runtime.copy(b, pinned, 3, H2D, stream)
    pageable.raw = pinned.raw = b"new"
    release()
    runtime.stream_synchronize(stream)
    assert (runtime.read(a, 3), runtime.read(b, 3)) == (b"old", b"new")


@alone
def test_one_stream_waits_for_an_event_of_another(runtime: Any) -> None:
    memory, first, second = runtime.memory(4), runtime.stream(), runtime.stream()
    release = runtime.gate(first)
    written, done = runtime.event(), runtime.event()
    runtime.fill(memory, 1, 4, first)
    runtime.event_record(written, first)
    runtime.stream_wait_event(second, written)
    runtime.fill(memory, 2, 4, second)
    runtime.event_record(done, second)
    # What the event records later is not what the second stream waits for.
    later = runtime.gate(first)
    runtime.event_record(written, first)
    time.sleep(0.02)
    assert not runtime.event_query(done)
    release()
    runtime.event_synchronize(done)
    assert not runtime.event_query(written)
    assert runtime.read(memory, 4) == b"\x02" * 4
    later()


@alone
def test_synchronize_waits_for_every_stream_of_the_device_alone(runtime: Any) -> None:
    first, second = runtime.stream(), runtime.stream()
    releases = [runtime.gate(first), runtime.gate(second)]
    runtime.set_device(1)
    runtime.synchronize()  # does not wait for sim:0, or it would never return
    finished = threading.Event()

    def wait() -> None:
        runtime.set_device(0)
        runtime.synchronize()
        finished.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    for release in releases:
        assert not finished.wait(0.02)
        release()
    waiting.join()
    assert finished.is_set()


@alone
def test_events_measure_real_time(runtime: Any) -> None:
    stream, start, end, milliseconds = runtime.stream(), runtime.event(), runtime.event(), c_float()
    runtime.event_record(start, stream)
    runtime.stream_synchronize(stream)
    release = runtime.gate(stream)
    runtime.event_record(end, stream)
    began = time.monotonic()
    time.sleep(0.03)
    waited = time.monotonic() - began
    release()
    runtime.event_synchronize(end)
    runtime.event_elapsed(start, end, byref(milliseconds))
    assert milliseconds.value >= waited * 1000
    runtime.event_elapsed(end, start, byref(milliseconds))
    assert milliseconds.value < 0


@alone
def test_times_that_cannot_be_told(runtime: Any) -> None:
    stream, recorded, never = runtime.stream(), runtime.event(), runtime.event()
    silent = runtime.event(DISABLE_TIMING)
    assert runtime.event_query(never)  # nothing to wait for
    runtime.event_synchronize(never)
    runtime.stream_wait_event(stream, never)
    runtime.event_record(recorded, stream)
    runtime.event_record(silent, stream)
    runtime.stream_synchronize(stream)
    for pair, message in [((recorded, never), "never recorded"), ((recorded, silent), "timing disabled")]:
        with pytest.raises(InvalidArgument, match=message):
            runtime.event_elapsed(*pair, byref(c_float()))
    release = runtime.gate(stream)
    runtime.event_record(recorded, stream)
    assert not runtime.event_elapsed(recorded, recorded, byref(c_float()))  # not ready
    release()
    with pytest.raises(InvalidArgument, match="unknown event flags 64"):
        runtime.event(64)


@alone
def test_a_destroyed_stream_finishes_its_work(runtime: Any) -> None:
    memory, stream, done = runtime.memory(4), runtime.make("stream_create", 0), runtime.event()
    release = runtime.gate(stream)
    runtime.fill(memory, 7, 4, stream)
    runtime.event_record(done, stream)
    runtime.stream_destroy(stream)
    release()
    runtime.event_synchronize(done)
    assert runtime.read(memory, 4) == b"\x07" * 4


@alone
def test_a_failure_waits_for_the_next_synchronization_and_is_told_once(runtime: Any) -> None:
    memory, stream, other = runtime.memory(8), runtime.stream(), runtime.stream()
    runtime.write(memory, b"\x01" * 8)
    communicators = (c_void_p * 2)()
    runtime.ccl.init_all(2, (c_int32 * 2)(0, 0), communicators)
    done = runtime.event()
    runtime.ccl.barrier(c_void_p(communicators[0]), stream)
    runtime.fill(memory, 2, 8, stream)  # skipped: something before it failed
    runtime.event_record(done, stream)
    runtime.stream_wait_event(other, done)
    runtime.ccl.all_reduce(memory, memory, c_uint64(1), 13, 0, c_void_p(communicators[1]), None)
    message = "barrier of rank 0 meets all_reduce of rank 1 with another operation"
    with pytest.raises(InvalidArgument, match=message):
        runtime.stream_synchronize(None)
    for synchronize in (  # the peer is told who failed; so is whoever waits for its work
        lambda: runtime.event_synchronize(done),
        lambda: runtime.stream_synchronize(stream),
        lambda: runtime.stream_synchronize(other),
    ):
        with pytest.raises(PeerFailed, match=f"rank 1 failed: {message}"):
            synchronize()
    for each in (None, stream, other):
        runtime.stream_synchronize(each)
    assert runtime.read(memory, 8) == b"\x01" * 8
    runtime.fill(memory, 3, 8, stream)
    runtime.stream_synchronize(stream)
    assert runtime.read(memory, 8) == b"\x03" * 8


# ---- graphs ----------------------------------------------------------------------------------------------


def capture(runtime: Any, stream: c_void_p, mode: int, body: Callable[[], None]) -> c_void_p:
    runtime.capture_begin(stream, mode)
    body()
    graph = runtime.make("capture_end", stream, free="graph_destroy")
    return runtime.make("graph_instantiate", graph, free="graph_exec_destroy")


@alone
@pytest.mark.parametrize("mode", [GLOBAL, THREAD_LOCAL, RELAXED])
def test_a_graph_runs_what_was_captured_when_it_is_launched(runtime: Any, mode: int) -> None:
    source, target, stream = runtime.memory(4), runtime.memory(4), runtime.stream()
    runtime.write(target, b"\0" * 4)
    graph = capture(runtime, stream, mode, lambda: runtime.copy(target, source, 4, D2D, stream))
    runtime.stream_synchronize(stream)
    assert runtime.read(target, 4) == b"\0" * 4  # captured is not run
    for content in (b"abcd", b"efgh"):
        runtime.write(source, content)
        runtime.graph_launch(graph, stream)
        runtime.stream_synchronize(stream)
        assert runtime.read(target, 4) == content


@alone
def test_an_update_changes_what_later_launches_do(runtime: Any) -> None:
    memory, stream = runtime.memory(4), runtime.stream()

    def filled(*values: int) -> c_void_p:
        runtime.capture_begin(stream, RELAXED)
        for value in values:
            runtime.fill(memory, value, 4, stream)
        return runtime.make("capture_end", stream, free="graph_destroy")

    one, two, longer = filled(1), filled(2), filled(3, 4)
    executable = runtime.make("graph_instantiate", one, free="graph_exec_destroy")
    runtime.graph_update(executable, two)
    runtime.graph_launch(executable, stream)
    runtime.stream_synchronize(stream)
    assert runtime.read(memory, 4) == b"\x02" * 4
    with pytest.raises(Error, match="the graph has 2 steps, but the executable one 1"):
        runtime.graph_update(executable, longer)


@alone
def test_a_graph_may_fork_and_must_join(runtime: Any) -> None:
    a, b, main, side = runtime.memory(4), runtime.memory(4), runtime.stream(), runtime.stream()
    forked, joined = runtime.event(), runtime.event()
    runtime.write(a, b"\0" * 4)
    runtime.write(b, b"\0" * 4)

    def fork() -> None:
        runtime.fill(a, 1, 4, main)
        runtime.event_record(forked, main)
        runtime.stream_wait_event(side, forked)
        runtime.copy(b, a, 4, D2D, side)

    def join() -> None:
        runtime.event_record(joined, side)
        runtime.stream_wait_event(main, joined)
        runtime.fill(a, 2, 4, main)

    graph = capture(runtime, main, GLOBAL, lambda: (fork(), join()))
    runtime.graph_launch(graph, main)
    runtime.stream_synchronize(main)
    assert runtime.read(a, 4) + runtime.read(b, 4) == b"\x02" * 4 + b"\x01" * 4
    with pytest.raises(InvalidArgument, match="a stream that joined the capture was never waited for"):
        capture(runtime, main, GLOBAL, fork)
    with pytest.raises(InvalidArgument, match="never waited for"):  # work after the event
        capture(runtime, main, GLOBAL, lambda: (fork(), join(), runtime.fill(b, 3, 4, side)))
    runtime.stream_synchronize(side)  # a failed capture lets go of its streams


@alone
def test_what_a_capture_forbids(runtime: Any) -> None:
    stream, event, memory = runtime.stream(), runtime.event(), runtime.memory(4)
    unsafe = {
        "malloc_device": lambda: runtime.memory(4),
        "free_device": lambda: runtime.free_device(memory),
        "memcpy_sync": lambda: runtime.read(memory, 4),
        "event_query": lambda: runtime.event_query(event),
        "event_synchronize": lambda: runtime.event_synchronize(event),
    }
    for mode in (GLOBAL, THREAD_LOCAL):
        for name, call in unsafe.items():
            runtime.capture_begin(stream, mode)
            with pytest.raises(InvalidArgument, match=f"{name} is not permitted while a stream is being"):
                call()
            with pytest.raises(InvalidArgument, match=f"the capture was broken by {name}"):
                runtime.make("capture_end", stream)
    # Another thread is not concerned by a thread-local capture, and nobody by a relaxed one.
    for mode, run in [(THREAD_LOCAL, alone(lambda: (runtime.set_device(0), runtime.memory(4)))),
                      (RELAXED, lambda: runtime.memory(4))]:  # fmt: skip
        capture(runtime, stream, mode, run)
    with pytest.raises(InvalidArgument, match="malloc_device is not permitted"):
        capture(runtime, stream, GLOBAL, alone(lambda: (runtime.set_device(0), runtime.memory(4))))
    with pytest.raises(InvalidArgument, match="broken by malloc_device"):
        runtime.make("capture_end", stream)


@alone
def test_captured_streams_cannot_be_waited_for(runtime: Any) -> None:
    stream, other, event = runtime.stream(), runtime.stream(), runtime.event()
    for call, message in [
        (lambda: runtime.stream_synchronize(stream), "cannot synchronize a stream that is being captured"),
        (runtime.synchronize, "cannot synchronize a stream that is being captured"),
    ]:
        runtime.capture_begin(stream, RELAXED)
        with pytest.raises(InvalidArgument, match=message):
            call()
        with pytest.raises(InvalidArgument, match="broken by a synchronization"):
            runtime.make("capture_end", stream)
    runtime.event_record(event, other)
    runtime.capture_begin(stream, RELAXED)
    with pytest.raises(InvalidArgument, match="cannot wait for an event recorded outside the capture"):
        runtime.stream_wait_event(stream, event)
    with pytest.raises(InvalidArgument, match="broken by a wait"):
        runtime.make("capture_end", stream)
    with pytest.raises(InvalidArgument, match="no capture began on this stream"):
        runtime.make("capture_end", stream)
    runtime.capture_begin(stream, RELAXED)
    for call, message in [
        (lambda: runtime.capture_begin(stream, RELAXED), "being captured already"),
        (lambda: runtime.stream_destroy(stream), "cannot destroy a stream that is being captured"),
    ]:
        with pytest.raises(InvalidArgument, match=message):
            call()
    runtime.make("capture_end", stream, free="graph_destroy")


@alone
def test_an_event_of_a_capture_means_nothing_outside(runtime: Any) -> None:
    stream, other, event = runtime.stream(), runtime.stream(), runtime.event()
    capture(runtime, stream, RELAXED, lambda: runtime.event_record(event, stream))
    for call in (lambda: runtime.event_query(event), lambda: runtime.event_synchronize(event)):
        with pytest.raises(InvalidArgument, match="the event was recorded into a capture"):
            call()
    with pytest.raises(InvalidArgument, match="a capture that the stream takes no part in"):
        runtime.stream_wait_event(other, event)
    runtime.event_record(event, stream)  # and is an ordinary event again
    runtime.event_synchronize(event)


# ---- facts -----------------------------------------------------------------------------------------------


def test_the_environment_sets_devices_and_memory(python: Callable[..., Any]) -> None:
    code = """
        import infinicore as ic
        print([d["memory_bytes"] for d in ic.backends["sim"].devices], ic.backends["sim"].reason)
        """
    limited = {"INFINICORE_SIM_DEVICES": "3", "INFINICORE_SIM_MEMORY": "8192"}
    assert python(code, **limited).stdout == "[8192, 8192, 8192] \n"
    assert python(code, INFINICORE_SIM_DEVICES="0").stdout == "[] there is no device\n"
    for bad in ("many", "-1", "65", "1.5"):
        expected = f"[] INFINICORE_SIM_DEVICES={bad} is not a whole number from 0 to 64\n"
        assert python(code, INFINICORE_SIM_DEVICES=bad).stdout == expected


@alone
def test_resources_are_measured(runtime: Any) -> None:
    class Resources(ctypes.Structure):
        _fields_ = [
            ("struct_size", ctypes.c_uint32),
            ("abi_major", ctypes.c_uint16),
            ("abi_minor", ctypes.c_uint16),
            ("valid", c_uint64),
            ("memory_used_bytes", c_uint64),
            ("memory_total_bytes", c_uint64),
            ("compute_utilization", ctypes.c_double),
            ("memory_bandwidth_utilization", ctypes.c_double),
            ("kernel_time_ratio", ctypes.c_double),
            ("communication_bytes_per_second", ctypes.c_double),
        ]

    taken = Resources(struct_size=ctypes.sizeof(Resources), abi_major=1, abi_minor=1)
    runtime.resources(0, byref(taken))
    assert taken.valid == 0b10011
    before = taken.memory_used_bytes
    runtime.memory(1 << 20)
    runtime.resources(0, byref(taken))
    assert taken.memory_used_bytes == before + (1 << 20)
    assert taken.memory_total_bytes == 4 << 30
    assert 0 <= taken.kernel_time_ratio <= 1
