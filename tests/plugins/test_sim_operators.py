# Operators, graphs and events on the simulated accelerator through infinicore's own interface: asynchronous,
# on memory of its own, with the results of the CPU.
from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import infinicore as ic
from infinicore.testing import sim
from infinicore.testing.sim import hold


@pytest.fixture(params=["sim:0", "sim:1", "sim2:0"])
def device(request: pytest.FixtureRequest) -> str:
    sim.enable()
    return str(request.param)


@pytest.fixture
def held() -> Iterator[tuple[Any, hold]]:
    """A busy stream of `sim`, made current, and what releases it."""
    sim.enable()
    stream = ic.Stream("sim:0")
    gate = hold(stream)
    try:
        with ic.stream(stream):
            yield stream, gate
    finally:
        gate.release()


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def on(device: str, array: np.ndarray) -> Any:
    return ic.from_numpy(array, device=device)


# One call per kind of slot: tensors, absent tensors, lists, ints, doubles, integers, in-out, and any stride.
CALLS = {
    "optional absent": lambda d: ic.linear(on(d, floats(3, 4)), on(d, floats(5, 4))),
    "optional present": lambda d: ic.linear(on(d, floats(3, 4)), on(d, floats(5, 4)), on(d, floats(5))),
    "list": lambda d: ic.cat([on(d, floats(2, 3, seed=s)) for s in range(4)], dim=1),
    "ints": lambda d: ic.sum(on(d, floats(2, 3, 4)), dim=(0, 2)),
    "many ints": lambda d: ic.conv(
        on(d, floats(1, 2, 6, 6)), on(d, floats(3, 2, 3, 3)), pads=(1, 1), strides=(2, 1)
    ),
    "double": lambda d: ic.rms_norm(on(d, floats(3, 8)), on(d, floats(8)), epsilon=0.5),
    "integer": lambda d: ic.softmax(on(d, floats(3, 8)), axis=0),
    "in-out": lambda d: ic.gemm(
        on(d, floats(2, 3)), on(d, floats(2, 4)), on(d, floats(4, 3)), alpha=2.0, beta=0.5
    ),
    "several outputs": lambda d: ic.add_rms_norm(
        on(d, floats(2, 4)), on(d, floats(2, 4, seed=1)), on(d, floats(4))
    )[1],
    "transposed": lambda d: ic.add(on(d, floats(4, 3)).permute([1, 0]), on(d, floats(3, 4))),
    "broadcast": lambda d: ic.mul(on(d, floats(4, 1)), on(d, floats(3))),
    "a view that starts later": lambda d: ic.neg(on(d, floats(10)).narrow(0, 3, 5)),
    "reversed": lambda d: ic.neg(on(d, floats(7))[::-1]),
    "empty": lambda d: ic.neg(ic.empty((0, 3), dtype=ic.float32, device=d)),
    "scalar": lambda d: ic.neg(on(d, np.array(2, np.float32))),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_every_kind_of_argument_reaches_the_kernel(device: str, call: Any) -> None:
    result = call(device)
    assert result.device == ic.device(device)
    np.testing.assert_array_equal(result.to("cpu").numpy(), call("cpu").numpy())


def test_an_operator_runs_when_its_stream_gets_there(held: tuple[Any, hold]) -> None:
    stream, gate = held
    side = ic.Stream("sim:0")
    with ic.stream(side):
        a = on("sim:0", floats(64))
        out = ic.zeros((64,), dtype=ic.float32, device="sim:0")
        side.synchronize()
    ic.add(a, a, out=out)
    done = stream.record_event()
    with ic.stream(side):  # another stream is not held up, and sees what is there now
        assert out.tolist() == [0.0] * 64
    assert not done.query()
    gate.release()
    done.synchronize()
    np.testing.assert_array_equal(out.numpy(), 2 * floats(64))


def test_queued_work_keeps_what_it_needs(held: tuple[Any, hold]) -> None:
    stream, gate = held
    with ic.stream(ic.Stream("sim:0")):
        parts = [on("sim:0", floats(2, 3, seed=seed)) for seed in range(3)]
        ic.synchronize("sim:1")
        ic.current_stream("sim:0").synchronize()
    joined = ic.cat(parts, dim=0)  # its argument list lives only during the call
    total = ic.sum(joined, dim=(0,))
    del parts, joined
    ic.cache_clear()  # and so may its descriptor
    gc.collect()
    gate.release()
    stream.synchronize()
    expected = np.concatenate([floats(2, 3, seed=seed) for seed in range(3)]).sum(axis=0)
    np.testing.assert_allclose(total.numpy(), expected, rtol=1e-6)


def test_a_missing_wait_is_seen_and_a_wait_helps(held: tuple[Any, hold]) -> None:
    stream, gate = held
    side = ic.Stream("sim:0")
    with ic.stream(side):
        a = ic.zeros((4,), dtype=ic.float32, device="sim:0")
        one = ic.ones((4,), dtype=ic.float32, device="sim:0")
        side.synchronize()
    ic.add(a, one, out=a)
    with ic.stream(side):
        early = ic.add(a, one)  # does not wait for the stream that writes a
        side.synchronize()
        side.wait_event(stream.record_event())
        late = ic.add(a, one)
        gate.release()
        side.synchronize()
        assert (early.tolist(), late.tolist()) == ([1.0] * 4, [2.0] * 4)


def test_an_asynchronous_failure_is_raised_by_the_next_wait(device: str) -> None:
    table, index = on(device, floats(4, 2)), on(device, np.array([1, 7], np.int64))
    out = ic.embedding(index, table)  # nobody on the host can know what the index holds
    with pytest.raises(ic.Error, match="embedding"):
        ic.synchronize(device)
    ic.synchronize(device)  # told once
    ic.embedding(on(device, np.array([1, 3], np.int64)), table, out=out)
    np.testing.assert_array_equal(out.to("cpu").numpy(), floats(4, 2)[[1, 3]])


def test_a_graph_is_captured_and_follows_its_inputs(device: str) -> None:
    a, b = on(device, floats(4, 4)), on(device, floats(4, 4, seed=1))
    with ic.graph(device) as graph:
        c = ic.softmax(ic.matmul(a, b) + a, axis=-1)
    assert graph.captured
    for seed in range(3):
        a.copy_(ic.from_numpy(floats(4, 4, seed=seed)))
        graph.run()
        expected = ic.softmax(ic.matmul(a.to("cpu"), b.to("cpu")) + a.to("cpu"), axis=-1)
        np.testing.assert_array_equal(c.to("cpu").numpy(), expected.numpy())


def test_a_graph_outlives_the_stream_and_the_descriptors_it_was_captured_with(runtime: Any) -> None:
    """Core recycles streams, so that only the table can destroy the one of a capture."""
    a = on("sim:0", np.ones(4, np.float32))
    ic.synchronize("sim:0")  # and makes it this thread's device
    stream = runtime.make("stream_create", 0)
    add = ic.add.describe(a, a, out=a)
    runtime.capture_begin(stream, 2)
    add(a, a, out=a, stream=stream.value)
    graph = runtime.make("capture_end", stream, free="graph_destroy")
    executable = runtime.make("graph_instantiate", graph, free="graph_exec_destroy")
    runtime.stream_destroy(stream)
    del add
    ic.cache_clear()
    gc.collect()
    for _ in range(3):
        runtime.graph_launch(executable, None)
    assert a.tolist() == [8.0] * 4


def test_a_graph_waits_in_its_stream(held: tuple[Any, hold]) -> None:
    stream, gate = held
    with ic.stream(ic.Stream("sim:0")):
        a = ic.ones((4,), dtype=ic.float32, device="sim:0")
        out = ic.zeros((4,), dtype=ic.float32, device="sim:0")
        with ic.graph("sim:0") as graph:
            ic.add(out, a, out=out)
        ic.current_stream("sim:0").synchronize()
    for _ in range(3):
        graph.run()
    with ic.stream(ic.Stream("sim:0")):
        assert out.tolist() == [0.0] * 4
    gate.release()
    stream.synchronize()
    assert out.tolist() == [3.0] * 4


def test_events_measure_the_time_between_them(held: tuple[Any, hold]) -> None:
    stream, gate = held
    start, end = (ic.DeviceEvent(enable_timing=True, device="sim:0") for _ in range(2))
    other = ic.Stream("sim:0")
    start.record(other)
    start.synchronize()
    end.record(stream)
    with pytest.raises(ic.Error):
        start.elapsed_time(end)  # not reached yet
    threading.Timer(0.03, gate.release).start()
    end.synchronize()
    assert start.elapsed_time(end) >= 20


def test_memory_of_two_vendors_is_told_apart() -> None:
    sim.enable()
    a, b = on("sim", floats(3)), on("sim2", floats(3))
    with pytest.raises(ic.DeviceMismatch, match="add"):
        ic.add(a, b)
    b.copy_(ic.add(a, a))
    np.testing.assert_array_equal(b.to("cpu").numpy(), 2 * floats(3))
    moved = b.to("sim:1").to("sim2:1").to("sim")
    np.testing.assert_array_equal(moved.to("cpu").numpy(), 2 * floats(3))


def test_threads_share_the_devices() -> None:
    sim.enable()
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            device = ["sim:0", "sim:1", "sim2:0", "sim2:1"][seed % 4]
            with ic.stream(ic.Stream(device)):
                total = on(device, floats(32, seed=seed))
                for _ in range(50):
                    total = ic.add(total, total) if seed % 2 else ic.mul(total, total)
                    total = ic.neg(total)
                expected = floats(32, seed=seed)
                with np.errstate(over="ignore"):
                    for _ in range(50):
                        expected = -(expected + expected) if seed % 2 else -(expected * expected)
                np.testing.assert_array_equal(total.to("cpu").numpy(), expected)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
