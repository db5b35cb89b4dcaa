# The collectives table between the devices of this process, against NumPy. One thread queues the calls of all
# ranks, inside a group where the table has groups: that is how one process drives several devices.
"""The collectives table."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ctypes import byref, c_int32, c_uint64, c_void_p
from typing import Any

import ml_dtypes
import numpy as np

from infinicore.schema import DTYPES
from infinicore.testing.checks.runtime import with_tables
from infinicore.testing.suite import Skip, Target, check
from infinicore.testing.tables import Runtime

COUNT = 1000  # elements per rank
MOST = 4  # ranks
PUBLIC_ID = 128  # bytes of infinicclUniqueId_t
NUMPY: dict[str, Any] = {
    "f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16, "f64": np.float64, "i32": np.int32,
    "i64": np.int64,
}  # fmt: skip
REDUCTIONS = {"sum": 0, "prod": 1, "max": 2, "min": 3, "avg": 4}
F32 = DTYPES["f32"][0]


class _UniqueId(ctypes.Structure):
    """``infini_unique_id``."""

    _fields_ = [("size", ctypes.c_uint32), ("bytes", ctypes.c_char * 4092)]


class Ranks:
    """A communicator of `count` ranks, which take the `devices` of a backend in turn."""

    def __init__(self, runtime: Runtime, count: int, devices: int) -> None:
        self.runtime, self.count, self.ccl = runtime, count, runtime.ccl
        self.devices = [rank % devices for rank in range(count)]
        self.comms = (c_void_p * count)()
        self.ccl.init_all(count, (c_int32 * count)(*self.devices), self.comms)
        runtime.undo.append(self._destroy)
        self.streams = []
        for device in self.devices:
            runtime.set_device(device)
            self.streams.append(runtime.stream())

    def _destroy(self) -> None:
        for comm in self.comms:
            self.ccl.destroy(c_void_p(comm))

    def place(self, arrays: Sequence[np.ndarray]) -> list[c_void_p]:
        """Put an array into the memory of each rank's device."""
        memories = []
        for rank, array in enumerate(arrays):
            self.runtime.set_device(self.devices[rank])
            memories.append(self.runtime.memory(max(array.nbytes, 1)))
            self.runtime.write(memories[-1], array.tobytes())
        return memories

    @contextmanager
    def group(self) -> Iterator[None]:
        """Queue the calls of all ranks together."""
        grouped = hasattr(self.ccl, "group_start")
        if grouped:
            self.ccl.group_start()
        yield
        if grouped:
            self.ccl.group_end()

    def call(self, member: str, rank: int, *arguments: object) -> None:
        """Queue one rank's part of a collective."""
        self.runtime.set_device(self.devices[rank])
        getattr(self.ccl, member)(*arguments, c_void_p(self.comms[rank]), self.streams[rank])

    def results(self, memories: list[c_void_p], like: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Read what is there when the streams have got so far: of each rank an array like its own."""
        found = []
        for rank, (memory, array) in enumerate(zip(memories, like, strict=True)):
            self.runtime.set_device(self.devices[rank])
            self.runtime.stream_synchronize(self.streams[rank])
            found.append(np.frombuffer(self.runtime.read(memory, array.nbytes), array.dtype))
        return found


def collective(*members: str) -> Callable[[Callable[[Ranks], None]], Callable[[Target], None]]:
    """Register a check of members of the table; a table without them has nothing to check."""

    def register(body: Callable[[Ranks], None]) -> Callable[[Target], None]:
        @check("basic", "collectives")
        @functools.wraps(body)
        def run(target: Target) -> None:
            def inside(runtime: Runtime) -> None:
                if runtime.ccl is None:
                    raise Skip(f"{target.name} has no collectives")
                for member in ("init_all", *members):
                    if not hasattr(runtime.ccl, member):
                        raise Skip(f"the table has no {member}")
                devices = target.backend.device_count
                # Ranks may share a CPU, but no accelerator.
                body(Ranks(runtime, MOST if target.name == "cpu" else min(devices, MOST), devices))

            with_tables(inside)(target)

        return run

    return register


def parts(ranks: Ranks, dtype: Any = np.float32, count: int = COUNT) -> list[np.ndarray]:
    """Make an array per rank of small numbers, so that sums and products of them are exact."""
    return [np.random.default_rng(r).integers(1, 4, count).astype(dtype) for r in range(ranks.count)]


def reduced(arrays: Sequence[np.ndarray], name: str) -> np.ndarray:
    """Reduce in NumPy, in float64, rounded once; an average of integers is cut."""
    wide: list[Any] = [array.astype(np.int64 if array.dtype.kind == "i" else np.float64) for array in arrays]
    functions: dict[str, Any] = {"prod": np.multiply, "max": np.maximum, "min": np.minimum}
    total = functools.reduce(functions.get(name, np.add), wide)
    if name == "avg":
        total = total // len(arrays) if total.dtype.kind == "i" else total / len(arrays)
    return np.asarray(total).astype(arrays[0].dtype)


def compare(member: str, found: Sequence[np.ndarray], wanted: Sequence[np.ndarray], what: str = "") -> None:
    """Compare every rank's result."""
    for rank, (got, want) in enumerate(zip(found, wanted, strict=True)):
        wrong = np.flatnonzero(got != want)
        assert not wrong.size, (
            f"{member}{what}: rank {rank} of {len(found)} has {wrong.size} wrong elements of {want.size}, "
            f"first at {wrong[0]}: got {got[wrong[0]]!r}, want {want[wrong[0]]!r}"
        )


@collective("unique_id", "init_rank")
def unique_id(ranks: Ranks) -> None:
    """An id fits infinicclUniqueId_t, and makes a communicator with the zeros that come behind it there."""
    for padded in (False, True):
        identity, comm = _UniqueId(), c_void_p()
        ranks.ccl.unique_id(byref(identity))
        assert 0 < identity.size <= PUBLIC_ID, (
            f"unique_id has {identity.size} bytes, but infinicclUniqueId_t carries {PUBLIC_ID}: where the "
            "vendor's own is larger, the plug-in exchanges the rest itself (infinicore/rendezvous.hpp)"
        )
        identity.size = PUBLIC_ID if padded else identity.size
        ranks.runtime.set_device(ranks.devices[0])
        ranks.ccl.init_rank(1, 0, byref(identity), byref(comm))
        ranks.ccl.destroy(comm)


@collective("unique_id", "init_rank", "all_reduce")
def init_rank(ranks: Ranks) -> None:
    """Ranks that meet by an id, each on a thread of its own as each may be a process, are who they say."""
    if ranks.count < 2:
        raise Skip("there is one device")
    identity = _UniqueId()
    ranks.runtime.set_device(ranks.devices[0])
    ranks.ccl.unique_id(byref(identity))
    arrays = [np.arange(COUNT, dtype=np.float32) * rank for rank in range(ranks.count)]
    memories, whole = ranks.place(arrays), np.concatenate(arrays)
    gathered = ranks.place([np.zeros_like(whole)] * ranks.count)

    def work(rank: int) -> None:
        comm, stream = c_void_p(), ranks.streams[rank]
        ranks.runtime.set_device(ranks.devices[rank])
        ranks.ccl.init_rank(ranks.count, rank, byref(identity), byref(comm))
        if hasattr(ranks.ccl, "all_gather"):
            ranks.ccl.all_gather(memories[rank], gathered[rank], c_uint64(COUNT), F32, comm, stream)
        ranks.ccl.all_reduce(memories[rank], memories[rank], c_uint64(COUNT), F32, 0, comm, stream)
        ranks.runtime.stream_synchronize(stream)
        ranks.ccl.destroy(comm)

    with ThreadPoolExecutor(ranks.count) as pool:
        list(pool.map(work, range(ranks.count)))
    wanted = [np.asarray(sum(arrays))] * ranks.count
    compare("init_rank, then all_reduce", ranks.results(memories, arrays), wanted)
    if hasattr(ranks.ccl, "all_gather"):
        found = ranks.results(gathered, [whole] * ranks.count)
        compare("init_rank, then all_gather", found, [whole] * ranks.count)


@collective("all_reduce")
def all_reduce(ranks: Ranks) -> None:
    """Every reduction of every common dtype, in place and not."""
    for dtype, kind in NUMPY.items():
        for name, code in REDUCTIONS.items():
            arrays = parts(ranks, kind)
            sends, receives = ranks.place(arrays), ranks.place([np.zeros_like(a) for a in arrays])
            for targets in (receives, sends):  # the second time in place
                with ranks.group():
                    for rank in range(ranks.count):
                        ranks.call("all_reduce", rank, sends[rank], targets[rank], c_uint64(COUNT),
                                   DTYPES[dtype][0], code)  # fmt: skip
                wanted = [reduced(arrays, name)] * ranks.count
                compare("all_reduce", ranks.results(targets, arrays), wanted, f" {name} of {dtype}")


@collective("reduce")
def reduce(ranks: Ranks) -> None:
    """The root has the sum."""
    root, arrays = ranks.count - 1, parts(ranks)
    sends, receives = ranks.place(arrays), ranks.place([np.zeros_like(a) for a in arrays])
    with ranks.group():
        for rank in range(ranks.count):
            ranks.call("reduce", rank, sends[rank], receives[rank], c_uint64(COUNT), F32, 0, root)
    found = ranks.results(receives, arrays)
    compare("reduce", [found[root]], [reduced(arrays, "sum")])


@collective("broadcast")
def broadcast(ranks: Ranks) -> None:
    """Everybody has what the root has."""
    root, arrays = ranks.count - 1, parts(ranks)
    sends, receives = ranks.place(arrays), ranks.place([np.zeros_like(a) for a in arrays])
    with ranks.group():
        for rank in range(ranks.count):
            ranks.call("broadcast", rank, sends[rank], receives[rank], c_uint64(COUNT), F32, root)
    compare("broadcast", ranks.results(receives, arrays), [arrays[root]] * ranks.count)


@collective("all_gather")
def all_gather(ranks: Ranks) -> None:
    """Everybody has everybody's elements, in the order of the ranks."""
    arrays = parts(ranks)
    whole = np.concatenate(arrays)
    sends, receives = ranks.place(arrays), ranks.place([np.zeros_like(whole)] * ranks.count)
    with ranks.group():
        for rank in range(ranks.count):
            ranks.call("all_gather", rank, sends[rank], receives[rank], c_uint64(COUNT), F32)
    compare("all_gather", ranks.results(receives, [whole] * ranks.count), [whole] * ranks.count)


@collective("all_gather_v")
def all_gather_v(ranks: Ranks) -> None:
    """The same, where every rank gives another number of elements."""
    counts = [COUNT + 7 * rank for rank in range(ranks.count)]
    arrays = [np.random.default_rng(r).random(n).astype(np.float32) for r, n in enumerate(counts)]
    whole, sizes = np.concatenate(arrays), (c_uint64 * ranks.count)(*counts)
    sends, receives = ranks.place(arrays), ranks.place([np.zeros_like(whole)] * ranks.count)
    with ranks.group():
        for rank in range(ranks.count):
            ranks.call("all_gather_v", rank, sends[rank], receives[rank], sizes, F32)
    compare("all_gather_v", ranks.results(receives, [whole] * ranks.count), [whole] * ranks.count)


@collective("reduce_scatter")
def reduce_scatter(ranks: Ranks) -> None:
    """Every rank has its part of the sum."""
    arrays = parts(ranks, count=COUNT * ranks.count)
    pieces = np.split(reduced(arrays, "sum"), ranks.count)
    sends, receives = ranks.place(arrays), ranks.place([np.zeros_like(piece) for piece in pieces])
    with ranks.group():
        for rank in range(ranks.count):
            ranks.call("reduce_scatter", rank, sends[rank], receives[rank], c_uint64(COUNT), F32, 0)
    compare("reduce_scatter", ranks.results(receives, pieces), pieces)


@collective("reduce_scatter_v")
def reduce_scatter_v(ranks: Ranks) -> None:
    """The same, where every rank has another number of elements."""
    counts = [COUNT + 7 * rank for rank in range(ranks.count)]
    arrays = parts(ranks, count=sum(counts))
    pieces = np.split(reduced(arrays, "sum"), np.cumsum(counts)[:-1])
    sizes = (c_uint64 * ranks.count)(*counts)
    sends, receives = ranks.place(arrays), ranks.place([np.zeros_like(piece) for piece in pieces])
    with ranks.group():
        for rank in range(ranks.count):
            ranks.call("reduce_scatter_v", rank, sends[rank], receives[rank], sizes, F32, 0)
    found = ranks.results(receives, pieces)
    compare("reduce_scatter_v", found, pieces)


@collective("all_to_all")
def all_to_all(ranks: Ranks) -> None:
    """Rank r has the r-th part of everybody."""
    arrays = [a + 10 * r for r, a in enumerate(parts(ranks, count=COUNT * ranks.count))]
    wanted = [
        np.concatenate([a[rank * COUNT : (rank + 1) * COUNT] for a in arrays]) for rank in range(ranks.count)
    ]
    sends, receives = ranks.place(arrays), ranks.place([np.zeros_like(a) for a in arrays])
    with ranks.group():
        for rank in range(ranks.count):
            ranks.call("all_to_all", rank, sends[rank], receives[rank], c_uint64(COUNT), F32)
    compare("all_to_all", ranks.results(receives, arrays), wanted)


@collective("send", "receive", "group_start")
def send_and_receive(ranks: Ranks) -> None:
    """Every rank sends to the next one, around the ring."""
    if ranks.count < 2:
        raise Skip("there is one device")
    arrays = [a + 10 * r for r, a in enumerate(parts(ranks))]
    sends, receives = ranks.place(arrays), ranks.place([np.zeros_like(a) for a in arrays])
    with ranks.group():
        for rank in range(ranks.count):
            ranks.call("send", rank, sends[rank], c_uint64(COUNT), F32, (rank + 1) % ranks.count)
            ranks.call("receive", rank, receives[rank], c_uint64(COUNT), F32, (rank - 1) % ranks.count)
    wanted = [arrays[(rank - 1) % ranks.count] for rank in range(ranks.count)]
    compare("send, receive", ranks.results(receives, arrays), wanted)


@collective("barrier")
def barrier(ranks: Ranks) -> None:
    """A barrier that everybody reaches lets everybody go on."""
    with ranks.group():
        for rank in range(ranks.count):
            ranks.call("barrier", rank)
    ones = [np.ones(1, np.float32)] * ranks.count
    compare("barrier", ranks.results(ranks.place(ones), ones), ones)
