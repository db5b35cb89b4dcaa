# The collectives of infinicore-cuda through the double's NCCL: each member of the table against NumPy.
# Ranks are devices of one process; init_rank is tried from threads, as processes would call it.
from __future__ import annotations

import ctypes
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ctypes import byref, c_int32, c_uint64, c_void_p
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import infinicore as ic
from infinicore.errors import DTypeError, Error, InvalidArgument, PeerFailed
from infinicore.testing.tables import Tables, alone

SUM, PROD, MAX, MIN, AVG = range(5)
BOOL, I32, I16, F32, BF16, C64 = 2, 5, 4, 13, 19, 17
NUMPY = {
    BOOL: np.bool_, 3: np.int8, I32: np.int32, 6: np.int64, 7: np.uint8, 9: np.uint32, 10: np.uint64,
    12: np.float16, F32: np.float32, 14: np.float64, BF16: ml_dtypes.bfloat16, C64: np.complex64,
}  # fmt: skip
RANKS = 2


class Ranks:
    """Two communicators on two devices, a stream for each, and the memory that a test puts there."""

    def __init__(self, tables: Tables) -> None:
        self.runtime, self.ccl = tables.runtime, tables.ccl
        self.comms, self.streams, self.memory = (c_void_p * RANKS)(), [], []
        self.ccl.init_all(RANKS, (c_int32 * RANKS)(*range(RANKS)), self.comms)
        for rank in range(RANKS):
            self.runtime.set_device(rank)
            stream = c_void_p()
            self.runtime.stream_create(0, byref(stream))
            self.streams.append(stream)

    def put(self, rank: int, array: np.ndarray) -> c_void_p:
        self.runtime.set_device(rank)
        memory = c_void_p()
        self.runtime.malloc_device(c_uint64(max(array.nbytes, 1)), byref(memory))
        self.memory.append((rank, memory))
        if array.nbytes:
            self.runtime.memcpy_sync(memory, array.tobytes(), c_uint64(array.nbytes), 1)
        return memory

    def call(self, member: str, rank: int, *arguments: object) -> None:
        getattr(self.ccl, member)(*arguments, c_void_p(self.comms[rank]), self.streams[rank])

    def get(self, rank: int, memory: c_void_p, like: np.ndarray) -> np.ndarray:
        self.runtime.set_device(rank)
        self.runtime.stream_synchronize(self.streams[rank])
        content = ctypes.create_string_buffer(like.nbytes)
        self.runtime.memcpy_sync(content, memory, c_uint64(like.nbytes), 2)
        return np.frombuffer(content.raw, like.dtype).reshape(like.shape)

    def close(self) -> None:
        for rank, stream in enumerate(self.streams):
            self.runtime.set_device(rank)
            self.runtime.stream_synchronize(stream)
            self.runtime.stream_destroy(stream)
        for comm in self.comms:
            self.ccl.destroy(c_void_p(comm))
        for rank, memory in self.memory:
            self.runtime.set_device(rank)
            self.runtime.free_device(memory)
        self.runtime.set_device(0)


@pytest.fixture
def ranks(tables: Tables, double: ctypes.CDLL) -> Iterator[Any]:
    """Run a test's body with ranks of its own, on a thread of its own; everything is released after it."""
    kinds = (b"communicator", b"memory", b"stream")
    ic.empty_cache("cuda")
    before = [double.cuda_double_live(kind) for kind in kinds]

    @alone
    def run(body: Any) -> None:
        made = Ranks(tables)
        try:
            body(made)
        finally:
            made.close()

    yield run
    assert [double.cuda_double_live(kind) for kind in kinds] == before


def data(rank: int, count: int, dtype: int) -> np.ndarray:
    values = np.random.default_rng(rank).integers(0, 4, count)
    return values.astype(NUMPY[dtype])


@pytest.mark.parametrize("dtype", [d for d in NUMPY if d != C64])
@pytest.mark.parametrize("op", [SUM, PROD, MAX, MIN, AVG])
def test_all_reduce(ranks: Any, op: int, dtype: int) -> None:
    sent = [data(rank, 9, dtype) for rank in range(RANKS)]
    functions = {SUM: np.add, PROD: np.multiply, MAX: np.maximum, MIN: np.minimum, AVG: np.add}
    want = functions[op](*sent)
    if op == AVG and dtype != BOOL:
        want = want / 2 if want.dtype.kind in "fV" else want // 2

    def body(r: Ranks) -> None:
        memory = [r.put(rank, sent[rank]) for rank in range(RANKS)]
        for rank in range(RANKS):  # in place
            r.call("all_reduce", rank, memory[rank], memory[rank], c_uint64(9), dtype, op)
        for rank in range(RANKS):
            np.testing.assert_array_equal(r.get(rank, memory[rank], sent[0]), want.astype(NUMPY[dtype]))

    ranks(body)


def test_complex_numbers_are_added_and_not_ordered(ranks: Any) -> None:
    sent = [np.array([1 + 2j, 3 - 1j], np.complex64) * (rank + 1) for rank in range(RANKS)]

    def body(r: Ranks) -> None:
        memory = [r.put(rank, sent[rank]) for rank in range(RANKS)]
        with pytest.raises(DTypeError, match="all_reduce: nccl has no max of dtype 17"):
            r.call("all_reduce", 0, memory[0], memory[0], c_uint64(2), C64, MAX)
        with pytest.raises(DTypeError, match="all_reduce: nccl has no sum of dtype 4"):
            r.call("all_reduce", 0, memory[0], memory[0], c_uint64(2), I16, SUM)
        for rank in range(RANKS):
            r.call("all_reduce", rank, memory[rank], memory[rank], c_uint64(2), C64, SUM)
        np.testing.assert_array_equal(r.get(1, memory[1], sent[0]), sent[0] + sent[1])

    ranks(body)


@pytest.mark.parametrize("root", range(RANKS))
def test_reduce_and_broadcast(ranks: Any, root: int) -> None:
    sent = [data(rank, 5, I32) for rank in range(RANKS)]

    def body(r: Ranks) -> None:
        send = [r.put(rank, sent[rank]) for rank in range(RANKS)]
        receive = [r.put(rank, np.zeros(5, np.int32)) for rank in range(RANKS)]
        for rank in range(RANKS):
            r.call("reduce", rank, send[rank], receive[rank], c_uint64(5), I32, SUM, root)
        assert r.get(root, receive[root], sent[0]).tolist() == (sent[0] + sent[1]).tolist()
        assert r.get(1 - root, receive[1 - root], sent[0]).tolist() == [0] * 5
        for rank in range(RANKS):
            r.call("broadcast", rank, send[rank], receive[rank], c_uint64(5), I32, root)
        for rank in range(RANKS):
            assert r.get(rank, receive[rank], sent[0]).tolist() == sent[root].tolist()

    ranks(body)


@pytest.mark.parametrize("counts", [(3, 3), (1, 4), (0, 2)])
@pytest.mark.parametrize("dtype", [I32, BF16])
def test_gather_and_scatter(ranks: Any, counts: tuple[int, int], dtype: int) -> None:
    even = counts[0] == counts[1]
    parts = [data(rank, counts[rank], dtype) for rank in range(RANKS)]
    whole = [data(rank + 7, sum(counts), dtype) for rank in range(RANKS)]
    shares = (c_uint64 * RANKS)(*counts)

    def body(r: Ranks) -> None:
        gathered = [r.put(rank, np.zeros(sum(counts), NUMPY[dtype])) for rank in range(RANKS)]
        scattered = [r.put(rank, np.zeros(counts[rank], NUMPY[dtype])) for rank in range(RANKS)]
        for rank in range(RANKS):
            source, target = r.put(rank, parts[rank]), gathered[rank]
            if even:
                r.call("all_gather", rank, source, target, c_uint64(3), dtype)
            else:
                r.call("all_gather_v", rank, source, target, shares, dtype)
            source, target = r.put(rank, whole[rank]), scattered[rank]
            if even:
                r.call("reduce_scatter", rank, source, target, c_uint64(3), dtype, MAX)
            else:
                r.call("reduce_scatter_v", rank, source, target, shares, dtype, MAX)
        best, start = np.maximum(*whole), 0
        for rank in range(RANKS):
            found = r.get(rank, gathered[rank], whole[0])
            np.testing.assert_array_equal(found, np.concatenate(parts))
            if counts[rank]:
                share = r.get(rank, scattered[rank], parts[rank])
                np.testing.assert_array_equal(share, best[start : start + counts[rank]])
            start += counts[rank]

    ranks(body)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_all_to_all(ranks: Any, in_place: bool, grouped: bool) -> None:
    sent = [data(rank, 6, F32) for rank in range(RANKS)]

    def body(r: Ranks) -> None:
        send = [r.put(rank, sent[rank]) for rank in range(RANKS)]
        receive = send if in_place else [r.put(rank, sent[0] * 0) for rank in range(RANKS)]
        if grouped:
            r.ccl.group_start()
        for rank in range(RANKS):
            r.call("all_to_all", rank, send[rank], receive[rank], c_uint64(3), F32)
        if grouped:
            r.ccl.group_end()
        for rank in range(RANKS):
            want = np.concatenate([part[3 * rank : 3 * rank + 3] for part in sent])
            np.testing.assert_array_equal(r.get(rank, receive[rank], want), want)

    ranks(body)


def test_a_group_lets_ranks_send_to_each_other_at_once(ranks: Any) -> None:
    def body(r: Ranks) -> None:
        send = [r.put(rank, data(rank, 4, I32)) for rank in range(RANKS)]
        receive = [r.put(rank, np.zeros(4, np.int32)) for rank in range(RANKS)]
        r.ccl.group_start()
        for rank in range(RANKS):  # each receives first: outside a group this would wait for ever
            r.call("receive", rank, receive[rank], c_uint64(4), I32, 1 - rank)
            r.call("send", rank, send[rank], c_uint64(4), I32, 1 - rank)
        r.ccl.group_end()
        for rank in range(RANKS):
            r.call("barrier", rank)
        for rank in range(RANKS):
            assert r.get(rank, receive[rank], data(0, 4, I32)).tolist() == data(1 - rank, 4, I32).tolist()

    ranks(body)


def test_ranks_join_by_a_unique_id(tables: Tables, double: ctypes.CDLL) -> None:
    before = double.cuda_double_live(b"communicator")
    identity = ctypes.create_string_buffer(4096)
    tables.ccl.unique_id(identity)

    def rank(index: int) -> list[float]:
        runtime, comm, stream, memory = tables.runtime, c_void_p(), c_void_p(), c_void_p()
        runtime.set_device(index)
        tables.ccl.init_rank(RANKS, index, identity, byref(comm))
        runtime.stream_create(0, byref(stream))
        runtime.malloc_device(c_uint64(8), byref(memory))
        runtime.memcpy_sync(memory, np.array([index + 1, 10], np.float32).tobytes(), c_uint64(8), 1)
        tables.ccl.all_reduce(memory, memory, c_uint64(2), F32, SUM, comm, stream)
        runtime.stream_synchronize(stream)
        content = ctypes.create_string_buffer(8)
        runtime.memcpy_sync(content, memory, c_uint64(8), 2)
        runtime.stream_destroy(stream)
        tables.ccl.destroy(comm)
        runtime.free_device(memory)
        return np.frombuffer(content.raw, np.float32).tolist()

    with ThreadPoolExecutor(RANKS) as pool:
        assert list(pool.map(rank, range(RANKS))) == [[3, 20], [3, 20]]
    assert double.cuda_double_live(b"communicator") == before


def test_errors_carry_the_librarys_text(ranks: Any, tables: Tables, double: ctypes.CDLL) -> None:
    identity = ctypes.create_string_buffer(4096)
    tables.ccl.unique_id(identity)
    with pytest.raises(Error, match="there is no rank 2 of 2"):
        tables.ccl.init_rank(RANKS, 2, identity, byref(c_void_p()))
    with pytest.raises(InvalidArgument, match="the unique id has 0 bytes, one of nccl has 128"):
        tables.ccl.init_rank(RANKS, 0, ctypes.create_string_buffer(4096), byref(c_void_p()))

    def body(r: Ranks) -> None:
        memory = r.put(0, np.zeros(4, np.float32))
        with pytest.raises(
            InvalidArgument, match=r"ncclReduce: invalid argument \(ncclReduce: no such rank\)"
        ):
            r.call("reduce", 0, memory, memory, c_uint64(4), F32, SUM, 5)
        with pytest.raises(InvalidArgument, match="unknown reduction 9"):
            r.call("all_reduce", 0, memory, memory, c_uint64(4), F32, 9)
        double.cuda_double_configure(b"fail=ncclCommGetAsyncError:1:6")
        with pytest.raises(PeerFailed, match="remote process exited"):
            r.call("all_reduce", 0, memory, memory, c_uint64(4), F32, SUM)
        double.cuda_double_configure(b"fail=ncclAllReduce:1:3")
        with pytest.raises(Error, match=r"ncclAllReduce: internal error \(injected into ncclAllReduce\)"):
            r.call("all_reduce", 0, memory, memory, c_uint64(4), F32, SUM)

    ranks(body)


def test_a_communicator_that_cannot_be_made_leaves_nothing(tables: Tables, double: ctypes.CDLL) -> None:
    kinds = (b"communicator", b"memory")
    before = [double.cuda_double_live(kind) for kind in kinds]

    @alone
    def make() -> None:
        tables.runtime.set_device(0)
        double.cuda_double_configure(b"fail=cudaMalloc:2:2")  # the second rank's token
        comms = (c_void_p * RANKS)()
        with pytest.raises(Error, match="cudaMalloc: out of memory"):
            tables.ccl.init_all(RANKS, (c_int32 * RANKS)(0, 1), comms)

    make()
    assert [double.cuda_double_live(kind) for kind in kinds] == before
