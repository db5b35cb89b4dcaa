# The collectives of the simulated accelerator, through its table: values, groups, order, and what goes wrong.
# Ranks are devices; every call is enqueued from one thread, which only works because none of them blocks.
from __future__ import annotations

import ctypes
import functools
import operator
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ctypes import byref, c_int32, c_uint64, c_void_p
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from infinicore.errors import DeviceNotFound, DTypeError, Error, InvalidArgument, PeerFailed
from infinicore.testing.tables import alone

SUM, PROD, MAX, MIN, AVG = range(5)
F32, F64, I32 = 13, 14, 5

# infiniDtype_t -> NumPy; complex numbers without a NumPy dtype are checked as their pairs.
DTYPES = {
    1: np.uint8, 2: np.bool_, 3: np.int8, 4: np.int16, 5: np.int32, 6: np.int64, 7: np.uint8, 8: np.uint16,
    9: np.uint32, 10: np.uint64, 11: ml_dtypes.float8_e4m3fn, 12: np.float16, 13: np.float32, 14: np.float64,
    17: np.complex64, 18: np.complex128, 19: ml_dtypes.bfloat16,
}  # fmt: skip
PAIRS = {15: ml_dtypes.float8_e4m3fn, 16: np.float16}


class Ranks:
    """Communicators of `sim`, rank r on device r mod 2, each with a stream of its own."""

    def __init__(self, runtime: Any, count: int) -> None:
        self.runtime, self.count = runtime, count
        devices = [rank % 2 for rank in range(count)]
        self.comms = (c_void_p * count)()
        runtime.ccl.init_all(count, (c_int32 * count)(*devices), self.comms)
        self.streams = []
        for device in devices:
            runtime.set_device(device)
            self.streams.append(runtime.stream())
        self.devices = devices

    def place(self, rank: int, array: np.ndarray) -> c_void_p:
        """The array in the memory of a rank's device."""
        self.runtime.set_device(self.devices[rank])
        memory = self.runtime.memory(max(array.nbytes, 1))
        self.runtime.write(memory, array.tobytes())
        return memory

    def __call__(self, member: str, rank: int, *arguments: object) -> None:
        """Call a member of the table for one rank."""
        getattr(self.runtime.ccl, member)(*arguments, c_void_p(self.comms[rank]), self.streams[rank])

    def results(self, memories: list[c_void_p], like: np.ndarray) -> list[np.ndarray]:
        """What is in a rank's memory once its stream has got there."""
        found = []
        for rank, memory in enumerate(memories):
            self.runtime.stream_synchronize(self.streams[rank])
            found.append(np.frombuffer(self.runtime.read(memory, like.nbytes), like.dtype))
        return found


@pytest.fixture
def ranks(runtime: Any) -> Callable[[int], Ranks]:
    return functools.partial(Ranks, runtime)


def sample(dtype: Any, rank: int, count: int = 37) -> np.ndarray:
    values = np.random.default_rng(rank).integers(0, 4, count)
    if np.dtype(dtype) == np.bool_:
        return values.astype(dtype)
    return (values + 1 + (1j * values[::-1] if np.dtype(dtype).kind == "c" else 0)).astype(dtype)


def reduced(arrays: list[np.ndarray], op: int) -> np.ndarray:
    """The reduction in NumPy: small floats in float32, rounded once."""
    dtype = arrays[0].dtype
    if dtype == np.bool_:
        return functools.reduce(operator.and_ if op in (PROD, MIN) else operator.or_, arrays)
    wide = np.float32 if dtype.itemsize < 4 and dtype.kind not in "iu" else dtype
    combine = {SUM: np.add, PROD: np.multiply, MAX: np.maximum, MIN: np.minimum, AVG: np.add}[op]
    total = functools.reduce(combine, [array.astype(wide) for array in arrays])
    if op == AVG and dtype.kind in "iu":
        total = total // len(arrays)
    elif op == AVG:  # a complex number by its parts: NumPy's division by a complex 3 + 0j rounds twice
        parts = total.view(total.real.dtype)
        total = (parts / np.array(len(arrays), parts.dtype)).view(total.dtype)
    return total.astype(dtype)


@alone
@pytest.mark.parametrize("code", [*DTYPES, *PAIRS])
@pytest.mark.parametrize("op", [SUM, PROD, MAX, MIN, AVG], ids=["sum", "prod", "max", "min", "avg"])
def test_all_reduce_of_every_dtype(ranks: Callable[[int], Ranks], code: int, op: int) -> None:
    group = ranks(3)
    parts = [sample(DTYPES.get(code) or PAIRS[code], rank, 38) for rank in range(3)]
    count = c_uint64(parts[0].size // (2 if code in PAIRS else 1))
    memories = [group.place(rank, part) for rank, part in enumerate(parts)]
    if code in (15, 16, 17, 18) and op in (MAX, MIN):
        with pytest.raises(DTypeError, match="all_reduce: complex numbers have no order"):
            group("all_reduce", 0, memories[0], memories[0], count, code, op)
        return
    for rank in range(3):
        group("all_reduce", rank, memories[rank], memories[rank], count, code, op)
    expected = reduced(parts, op)
    if code in PAIRS and op == PROD:  # the product of complex numbers, on their pairs
        pairs = [part.astype(np.float32).view(np.complex64) for part in parts]
        expected = functools.reduce(np.multiply, pairs).view(np.float32).astype(parts[0].dtype)
    for found in group.results(memories, parts[0]):
        np.testing.assert_array_equal(found, expected)


@alone
def test_small_floats_are_reduced_in_float32(ranks: Callable[[int], Ranks]) -> None:
    group = ranks(4)
    parts = [np.array([value], np.float16) for value in (2048, 0.5, 0.25, 0.25)]
    memories = [group.place(rank, part) for rank, part in enumerate(parts)]
    for rank in range(4):
        group("all_reduce", rank, memories[rank], memories[rank], c_uint64(1), 12, SUM)
    assert [float(found[0]) for found in group.results(memories, parts[0])] == [2048.0] * 4
    parts[1][0] = 1.5  # 2050 needs all of them: one at a time they vanish in float16, where 2050 follows 2048
    memories = [group.place(rank, part) for rank, part in enumerate(parts)]
    for rank in range(4):
        group("all_reduce", rank, memories[rank], memories[rank], c_uint64(1), 12, SUM)
    assert [float(found[0]) for found in group.results(memories, parts[0])] == [2050.0] * 4


@alone
@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize("root", [0, 2])
def test_reduce_and_broadcast_have_a_root(ranks: Callable[[int], Ranks], count: int, root: int) -> None:
    group = ranks(3)
    parts = [sample(np.float32, rank, count) for rank in range(3)]
    sources = [group.place(rank, part) for rank, part in enumerate(parts)]
    targets = [group.place(rank, np.zeros(count, np.float32)) for rank in range(3)]
    for rank in range(3):  # only the root has a target, then only the root has a source
        target = targets[rank] if rank == root else None
        group("reduce", rank, sources[rank], target, c_uint64(count), F32, SUM, root)
    found = group.results(targets, parts[0])
    for rank in range(3):
        np.testing.assert_array_equal(found[rank], reduced(parts, SUM) if rank == root else np.zeros(count))
    for rank in range(3):
        source = sources[rank] if rank == root else None
        group("broadcast", rank, source, targets[rank], c_uint64(count), F32, root)
    for array in group.results(targets, parts[0]):
        np.testing.assert_array_equal(array, parts[root])


@alone
@pytest.mark.parametrize("counts", [(4, 4, 4), (2, 0, 5)], ids=["equal", "ragged"])
def test_gather_and_scatter(ranks: Callable[[int], Ranks], counts: tuple[int, ...]) -> None:
    group, total = ranks(3), sum(counts)
    ragged, shares = len(set(counts)) > 1, (c_uint64 * 3)(*counts)
    parts = [sample(np.int32, rank, count) for rank, count in enumerate(counts)]
    whole = np.concatenate(parts)
    sources = [group.place(rank, part) for rank, part in enumerate(parts)]
    targets = [group.place(rank, np.zeros(total, np.int32)) for rank in range(3)]
    for rank in range(3):
        if ragged:
            group("all_gather_v", rank, sources[rank], targets[rank], shares, I32)
        else:
            group("all_gather", rank, sources[rank], targets[rank], c_uint64(counts[rank]), I32)
    for found in group.results(targets, whole):
        np.testing.assert_array_equal(found, whole)
    for rank in range(3):  # back again: each rank's share of the sum over three equal arrays
        if ragged:
            group("reduce_scatter_v", rank, targets[rank], sources[rank], shares, I32, SUM)
        else:
            group("reduce_scatter", rank, targets[rank], sources[rank], c_uint64(counts[rank]), I32, SUM)
    for rank in range(3):
        found = group.results(sources, parts[rank])[rank]
        np.testing.assert_array_equal(found, 3 * parts[rank])


@alone
def test_all_to_all_may_be_in_place(ranks: Callable[[int], Ranks]) -> None:
    group = ranks(3)
    grid = np.arange(3 * 3 * 2, dtype=np.int32).reshape(3, 3, 2)
    memories = [group.place(rank, grid[rank]) for rank in range(3)]
    for rank in range(3):
        group("all_to_all", rank, memories[rank], memories[rank], c_uint64(2), I32)
    for rank, found in enumerate(group.results(memories, grid[0])):
        np.testing.assert_array_equal(found.reshape(3, 2), grid[:, rank])


@alone
def test_a_ring_of_sends_and_receives_in_a_group(ranks: Callable[[int], Ranks]) -> None:
    group = ranks(3)
    sources = [group.place(rank, np.full(5, rank, np.float64)) for rank in range(3)]
    targets = [group.place(rank, np.zeros(5)) for rank in range(3)]
    group.runtime.ccl.group_start()
    for rank in range(3):  # send first: outside a group every rank would wait for ever
        group("send", rank, sources[rank], c_uint64(5), F64, (rank + 1) % 3)
        group("receive", rank, targets[rank], c_uint64(5), F64, (rank - 1) % 3)
    group.runtime.ccl.group_end()
    for rank, found in enumerate(group.results(targets, np.zeros(5))):
        np.testing.assert_array_equal(found, np.full(5, (rank - 1) % 3))


@alone
def test_sends_arrive_in_their_order(ranks: Callable[[int], Ranks]) -> None:
    group = ranks(2)
    sources = [group.place(0, np.array([value], np.int32)) for value in (10, 20, 30)]
    targets = [group.place(1, np.zeros(1, np.int32)) for _ in range(3)]
    for source in sources:
        group("send", 0, source, c_uint64(1), I32, 1)
    for target in targets:
        group("receive", 1, target, c_uint64(1), I32, 0)
    group.runtime.stream_synchronize(group.streams[1])
    assert [np.frombuffer(group.runtime.read(target, 4), np.int32)[0] for target in targets] == [10, 20, 30]


@alone
def test_a_rank_waits_for_the_others(ranks: Callable[[int], Ranks]) -> None:
    group = ranks(2)
    runtime = group.runtime
    done = runtime.event()
    group("barrier", 0)
    runtime.event_record(done, group.streams[0])
    assert not runtime.event_query(done)
    group("barrier", 1)
    runtime.event_synchronize(done)


@alone
def test_calls_of_one_communicator_keep_their_order_across_streams(ranks: Callable[[int], Ranks]) -> None:
    group = ranks(2)
    runtime = group.runtime
    memories = [[group.place(rank, np.array([v], np.int32)) for v in (1, 10)] for rank in range(2)]
    runtime.set_device(0)
    other = runtime.stream()
    release = runtime.gate(group.streams[0])
    for rank in range(2):
        for step, memory in enumerate(memories[rank]):
            stream = other if (rank, step) == (0, 1) else group.streams[rank]
            comm = c_void_p(group.comms[rank])
            runtime.ccl.all_reduce(memory, memory, c_uint64(1), I32, SUM, comm, stream)
    release()  # the second call on the free stream must not have met the first one of the other rank
    for stream in (other, group.streams[1]):
        runtime.stream_synchronize(stream)
    values = [[np.frombuffer(runtime.read(memory, 4), np.int32)[0] for memory in pair] for pair in memories]
    assert values == [[2, 20], [2, 20]]


@alone
def test_collectives_in_a_graph(ranks: Callable[[int], Ranks]) -> None:
    group = ranks(2)
    runtime, memories = group.runtime, [group.place(rank, np.ones(3, np.float32)) for rank in range(2)]
    graphs = []
    for rank in range(2):
        runtime.capture_begin(group.streams[rank], 1)
        group("all_reduce", rank, memories[rank], memories[rank], c_uint64(3), F32, SUM)
        graphs.append(runtime.make("capture_end", group.streams[rank], free="graph_destroy"))
    executable = [runtime.make("graph_instantiate", graph, free="graph_exec_destroy") for graph in graphs]
    for _ in range(3):
        for rank in range(2):
            runtime.graph_launch(executable[rank], group.streams[rank])
    for found in group.results(memories, np.ones(3, np.float32)):
        np.testing.assert_array_equal(found, [8, 8, 8])


# ---- communicators ---------------------------------------------------------------------------------------


class UniqueId(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint32), ("bytes", ctypes.c_char * 4092)]


def join(runtime: Any, name: UniqueId, ranks: int, rank: int, device: int) -> c_void_p:
    runtime.set_device(device)
    communicator = c_void_p()
    runtime.ccl.init_rank(ranks, rank, byref(name), byref(communicator))
    return communicator


@alone
def test_threads_meet_under_a_unique_id(runtime: Any) -> None:
    name, other = UniqueId(), UniqueId()
    runtime.ccl.unique_id(byref(name))
    runtime.ccl.unique_id(byref(other))
    assert name.bytes != other.bytes

    def work(rank: int) -> float:
        comm = join(runtime, name, 2, rank, rank)
        memory, stream = runtime.make("malloc_device", c_uint64(4)), runtime.make("stream_create", 0)
        runtime.write(memory, np.array([rank + 1], np.float32).tobytes())
        runtime.ccl.all_reduce(memory, memory, c_uint64(1), F32, SUM, comm, stream)
        runtime.stream_synchronize(stream)
        value = float(np.frombuffer(runtime.read(memory, 4), np.float32)[0])
        runtime.ccl.destroy(comm)
        runtime.stream_destroy(stream)
        runtime.free_device(memory)
        return value

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, range(2))) == [3.0, 3.0]


@alone
def test_ids_and_ranks_that_cannot_be(runtime: Any) -> None:
    name = UniqueId()
    with pytest.raises(InvalidArgument, match="not made by sim in this process"):
        join(runtime, name, 1, 0, 0)
    runtime.ccl.unique_id(byref(name))
    for ranks, rank in [(2, 2), (2, -1), (0, 0)]:
        with pytest.raises(InvalidArgument, match=f"there is no rank {rank} of {ranks}"):
            join(runtime, name, ranks, rank, 0)
    alive = join(runtime, name, 1, 0, 0)
    with pytest.raises(InvalidArgument, match="rank 0 joined twice"):
        join(runtime, name, 1, 0, 0)
    with pytest.raises(InvalidArgument, match="2 ranks, but others said 1"):
        join(runtime, name, 2, 1, 0)
    runtime.ccl.destroy(alive)
    with pytest.raises(DeviceNotFound, match="there is no sim:9"):
        runtime.ccl.init_all(1, (c_int32 * 1)(9), (c_void_p * 1)())
    with pytest.raises(InvalidArgument, match="group_end without group_start"):
        runtime.ccl.group_end()


@alone
def test_arguments_that_cannot_be(ranks: Callable[[int], Ranks]) -> None:
    group = ranks(2)
    memory = group.place(0, np.zeros(4, np.float32))
    four = c_uint64(4)
    for call, error, message in [
        (("broadcast", 0, memory, memory, four, F32, 2), InvalidArgument, "there is no rank 2 of 2"),
        (("all_reduce", 0, memory, memory, four, F32, 9), InvalidArgument, "unknown reduction 9"),
        (("all_reduce", 0, memory, memory, four, 99, SUM), DTypeError, "unknown dtype code 99"),
        (("all_gather", 0, memory, memory, c_uint64(1000), F32), InvalidArgument, "do not lie inside one"),
        (("all_reduce", 1, memory, memory, four, F32, SUM), InvalidArgument, "sim:1: illegal address"),
    ]:
        with pytest.raises(error, match=message):
            group(*call)
    with pytest.raises(InvalidArgument, match="the stream is of sim:1, the communicator of sim:0"):
        group.runtime.ccl.barrier(c_void_p(group.comms[0]), group.streams[1])


@alone
@pytest.mark.parametrize(
    ("second", "what"),
    [
        ((c_uint64(1), I32, SUM), "dtype"),
        ((c_uint64(2), F32, SUM), "count"),
        ((c_uint64(1), F32, MAX), "reduction"),
    ],
)
def test_ranks_that_disagree_are_told(
    ranks: Callable[[int], Ranks], second: tuple[object, ...], what: str
) -> None:
    group = ranks(2)
    memories = [group.place(rank, np.zeros(2, np.float32)) for rank in range(2)]
    group("all_reduce", 0, memories[0], memories[0], c_uint64(1), F32, SUM)
    group("all_reduce", 1, memories[1], memories[1], *second)
    message = f"all_reduce of rank 0 meets all_reduce of rank 1 with another {what}"
    raised = []
    for stream in group.streams:
        with pytest.raises(Error, match=message) as caught:
            group.runtime.stream_synchronize(stream)
        raised.append(caught.type)
    assert raised == [PeerFailed, InvalidArgument]  # rank 0 is the measure, whoever came last
    group("barrier", 0)  # and the communicator is of no use any more
    with pytest.raises(PeerFailed, match=message):
        group.runtime.stream_synchronize(group.streams[0])


@alone
def test_a_rank_that_left_is_not_waited_for(ranks: Callable[[int], Ranks]) -> None:
    group = ranks(2)
    for rank in range(2):
        group("barrier", rank)
    group.runtime.ccl.destroy(c_void_p(group.comms[1]))
    group("barrier", 0)
    with pytest.raises(PeerFailed, match="barrier: rank 1 destroyed its communicator"):
        group.runtime.stream_synchronize(group.streams[0])


def test_a_rank_that_does_not_come_is_a_timeout(python: Callable[..., Any]) -> None:
    done = python(
        """
        import ctypes, infinicore as ic
        from ctypes import byref, c_int32, c_void_p
        from infinicore.testing.tables import Tables
        tables = Tables.of("sim2")
        comms = (c_void_p * 2)()
        tables.ccl.init_all(2, (c_int32 * 2)(0, 1), comms)
        tables.ccl.barrier(c_void_p(comms[0]), None)
        for attempt in range(2):
            try:
                tables.runtime.stream_synchronize(None)
                print("nothing left")
            except ic.errors.Timeout as error:
                print(error)
        tables.ccl.barrier(c_void_p(comms[1]), None)
        tables.runtime.set_device(1)
        try:
            tables.runtime.synchronize()
        except ic.errors.PeerFailed as error:
            print(error)
        name, comm = ctypes.create_string_buffer(4096), c_void_p()
        tables.ccl.unique_id(name)
        try:
            tables.ccl.init_rank(2, 0, name, byref(comm))
        except ic.errors.Timeout as error:
            print(error)
        """,
        INFINICORE_SIM_TIMEOUT="0.2",
    )
    late = "barrier: rank 1 did not come within 0.2 s"
    assert done.stdout.splitlines() == [
        f"stream_synchronize: {late} (status 103)",
        "nothing left",
        f"synchronize: rank 0 failed: {late} (status 104)",
        "init_rank: init_rank: 1 of 2 ranks came within 0.2 s (status 103)",
    ]
