# Every collective on threads of one process, on the cpu's table and on the simulated vendor's: values for all
# dtypes and awkward sizes, layouts, groups, and what is refused.
"""Collectives between the devices of one process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import infinicore as ic
from infinicore import distributed
from infinicore.distributed import Communicator, group

Threads = Callable[..., list[Any]]
# Ranks share the CPU. Simulated devices, of which there are two, have one each: a copy to the host waits for
# all of a device's work, and so for the collective of another rank on it.
PLACES = [("cpu", 1), ("cpu", 2), ("cpu", 3), ("cpu", 4), ("sim", 2)]
BACKENDS = ["cpu", "sim"]
SIZES = [0, 1, 7, 1009, 40009]  # the last is more than what every rank reduces for itself
DTYPES = [entry.name for entry in ic.DTYPES]
OPS = ["sum", "prod", "max", "min", "avg"]


def values(dtype: str, count: int, rank: int) -> list[Any]:
    """Numbers of which a few add and multiply exactly in every dtype."""
    kind = getattr(ic, dtype).kind
    numbers = [1 + (i + rank) % 2 for i in range(count)]
    if kind == "b":
        return [number == 2 for number in numbers]
    if kind == "c":
        return [complex(number, -1) for number in numbers]
    return [float(number) for number in numbers] if kind == "f" else numbers


def make(comm: Communicator, dtype: str, numbers: list[Any]) -> ic.Tensor:
    return ic.from_list(numbers, dtype=getattr(ic, dtype), device=comm.device)


def listed(tensor: ic.Tensor) -> list[Any]:
    return tensor.to("cpu").tolist()  # type: ignore[no-any-return]


def folded(dtype: str, op: str, columns: list[list[Any]]) -> list[Any]:
    """The reduction of one list per rank."""
    kind = getattr(ic, dtype).kind
    results = []
    for entries in zip(*columns, strict=True):
        if kind == "b":
            result: Any = all(entries) if op in ("prod", "min") else any(entries)
        elif op == "prod":
            result = 1
            for entry in entries:
                result *= entry
        elif op in ("max", "min"):
            result = max(entries) if op == "max" else min(entries)
        else:
            result = sum(entries)
            if op == "avg":
                result = result / len(entries) if kind in "fc" else result // len(entries)
        results.append(result)
    return results


@pytest.mark.parametrize(("backend", "ranks"), PLACES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_reduction_of_every_dtype(threads: Threads, dtype: str, backend: str, ranks: int) -> None:
    ordered = getattr(ic, dtype).kind != "c"
    columns = [values(dtype, 67 * ranks, rank) for rank in range(ranks)]

    def check(comm: Communicator) -> None:
        mine = columns[comm.rank]
        for op in OPS:
            if op in ("max", "min") and not ordered:
                with pytest.raises(ic.DTypeError, match="no order"):
                    comm.all_reduce(make(comm, dtype, mine), op)
                continue
            # Thirds are rounded, to three bits in f8.
            exact = op != "avg" or ranks != 3
            expected = folded(dtype, op, columns)
            wanted = expected if exact else pytest.approx(expected, rel=0.07)
            x = make(comm, dtype, mine)
            assert comm.all_reduce(x, op) is x
            assert listed(x) == wanted
            shared = comm.reduce_scatter(make(comm, dtype, mine), op)
            start = 67 * comm.rank
            part = expected[start : start + 67]
            assert listed(shared) == (part if exact else pytest.approx(part, rel=0.07))
            y = make(comm, dtype, mine)
            result = comm.reduce(y, ranks - 1, op)
            assert result is y
            assert listed(y) == (wanted if comm.rank == ranks - 1 else mine)

    threads(backend, ranks, check)


@pytest.mark.parametrize(("backend", "ranks"), PLACES)
@pytest.mark.parametrize("count", SIZES)
def test_sizes(threads: Threads, count: int, backend: str, ranks: int) -> None:
    def check(comm: Communicator) -> None:
        def full(n: int, value: float) -> ic.Tensor:
            return ic.full((n,), value, dtype=ic.float32, device=comm.device)

        # Every element differs, so that one in a wrong place is seen.
        ramp = ic.arange(count, dtype=ic.float32, device=comm.device)
        reference = [float(i) for i in range(count)]
        mine = ramp + float(comm.rank)
        together = [ranks * i + sum(range(ranks)) for i in reference]
        assert listed(comm.all_reduce(mine.clone())) == together
        out = full(count, -1.0)
        assert listed(comm.all_reduce(mine, out=out)) == together
        assert listed(mine) == [i + comm.rank for i in reference]  # with `out` it is only read
        assert listed(comm.broadcast(mine.clone(), ranks - 1)) == [i + ranks - 1 for i in reference]
        everyone = [i + rank for rank in range(ranks) for i in reference]
        assert listed(comm.all_gather(mine)) == everyone
        assert listed(comm.all_to_all(comm.all_gather(ramp))) == reference * ranks
        shares = comm.all_gather(ramp) + float(comm.rank)
        assert listed(comm.reduce_scatter(shares)) == together
        # The last rank has nothing, the others have more and more.
        counts = [count * (rank + 1) for rank in range(ranks - 1)] + [0]
        own = full(counts[comm.rank], float(comm.rank))
        uneven = [float(rank) for rank in range(ranks) for _ in range(counts[rank])]
        gathered = comm.all_gather(own, counts=counts)
        assert listed(gathered) == uneven
        scattered = comm.reduce_scatter(gathered, counts=counts)
        assert listed(scattered) == [float(comm.rank * ranks)] * counts[comm.rank]
        comm.barrier()

    threads(backend, ranks, check)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("count", SIZES)
def test_send_and_receive(threads: Threads, count: int, backend: str) -> None:
    def check(comm: Communicator) -> None:
        if comm.rank == 0:
            comm.send(ic.arange(count, dtype=ic.float32, device=comm.device), 1)
            comm.send(ic.from_list([count], dtype=ic.int64, device=comm.device), 1)
        else:
            got = comm.recv(ic.empty((count,), dtype=ic.float32, device=comm.device), 0)
            assert listed(got) == [float(i) for i in range(count)]
            assert comm.recv(ic.empty((1,), dtype=ic.int64, device=comm.device), 0).item() == count

    threads(backend, 2, check)


@pytest.mark.parametrize(("dtype", "large"), [("float16", 2048.0), ("bfloat16", 256.0), ("float8", 16.0)])
def test_narrow_floats_are_reduced_in_f32(threads: Threads, dtype: str, large: float) -> None:
    """Four ranks add half of a last place each: nothing, one by one; two places, together."""

    def check(comm: Communicator) -> Any:
        return comm.all_reduce(make(comm, dtype, [large if comm.rank == 0 else 1.0])).item()

    assert threads("cpu", 5, check) == [large + 4.0] * 5


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_wins_and_integers_wrap(threads: Threads, backend: str) -> None:
    def check(comm: Communicator) -> None:
        for op in ("max", "min"):
            x = make(comm, "float32", [float("nan") if comm.rank == 0 else 1.0, 1.0, 2.0 - comm.rank])
            result = listed(comm.all_reduce(x, op))
            assert result[0] != result[0]
            assert result[1:] == [1.0, 2.0 if op == "max" else 1.0]
        assert listed(comm.all_reduce(make(comm, "int8", [100]))) == [-56]
        assert listed(comm.all_reduce(make(comm, "uint64", [2**63]))) == [0]
        assert listed(comm.all_reduce(make(comm, "int32", [-3 + 2 * comm.rank]), "avg")) == [-2]

    threads(backend, 2, check)


@pytest.mark.parametrize("backend", BACKENDS)
def test_any_layout(threads: Threads, backend: str) -> None:
    def check(comm: Communicator) -> None:
        base = ic.arange(24, dtype=ic.float32, device=comm.device).view((4, 6))
        plain = base.to("cpu").numpy()
        x = base.clone().permute((1, 0))
        assert comm.all_reduce(x) is x
        assert (x.to("cpu").contiguous().numpy() == 2 * plain.T).all()
        assert (comm.all_gather(base.permute((1, 0))).to("cpu").numpy()[6:] == plain.T).all()
        target = ic.zeros((6, 8), dtype=ic.float32, device=comm.device).permute((1, 0))
        comm.all_gather(base, out=target)
        assert (target.to("cpu").contiguous().numpy()[4:] == plain).all()
        scalar = ic.full((), 3.0, dtype=ic.float32, device=comm.device)
        assert listed(comm.all_gather(scalar)) == [3.0, 3.0]
        assert comm.all_reduce(scalar).item() == 6.0

    threads(backend, 2, check)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_group_may_send_first(threads: Threads, backend: str) -> None:
    """Both at once, and more than a ring buffer holds."""

    def check(comm: Communicator) -> None:
        right, left = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
        mine = ic.full((200_003,), float(comm.rank), dtype=ic.float32, device=comm.device)
        theirs = ic.empty((200_003,), dtype=ic.float32, device=comm.device).permute((0,))
        strided = ic.empty((7, 2), dtype=ic.float32, device=comm.device).permute((1, 0))
        with group(comm):
            comm.send(mine, right)
            comm.send(ic.full((2, 7), 5.0, dtype=ic.float32, device=comm.device), right)
            comm.recv(theirs, left)
            comm.recv(strided, left)
        assert set(listed(theirs)) == {float(left)}
        assert strided.to("cpu").contiguous().tolist() == [[5.0] * 7] * 2

    threads(backend, 2, check)


def test_one_thread_calls_all_ranks_in_a_group(device: ic.device) -> None:
    other = f"{device.type}:{ic.context.get_device_count(device.type) - 1}"
    comms = Communicator.all([device, other])
    tensors = [make(comm, "float32", [float(comm.rank)] * 5) for comm in comms]
    with group(comms[0]):
        for comm, tensor in zip(comms, tensors, strict=True):
            comm.all_reduce(tensor)
    assert [listed(tensor) for tensor in tensors] == [[1.0] * 5] * 2
    for comm in comms:
        comm.destroy()


def test_calls_that_do_not_match(threads: Threads) -> None:
    """Every rank is told the same, and they go on afterwards."""
    calls: list[tuple[str, Callable[[Communicator], object]]] = [
        ("count", lambda c: c.all_reduce(make(c, "float32", [1.0] * (c.rank + 3)))),
        ("dtype", lambda c: c.all_reduce(make(c, "float32" if c.rank else "int32", [1]))),
        ("reduction", lambda c: c.all_reduce(make(c, "float32", [1.0]), OPS[c.rank])),
        ("root", lambda c: c.broadcast(make(c, "float32", [1.0]), c.rank)),
        ("operation", lambda c: c.barrier() if c.rank else c.all_reduce(make(c, "float32", [1.0]))),
    ]

    def check(comm: Communicator) -> list[str]:
        told = []
        for what, call in calls:
            with pytest.raises(ic.InvalidArgument, match=f"{what} is .* on rank 0 and .* on rank 1") as error:
                call(comm)
            told.append(str(error.value).partition(": ")[2])
        assert listed(comm.all_reduce(make(comm, "float32", [1.0]))) == [2.0]
        return told

    first, second = threads("cpu", 2, check)
    assert first == second


def test_a_receiver_of_another_size(cpu: ic.device) -> None:
    comms = Communicator.all([cpu, cpu])
    comms[0].send(make(comms[0], "float32", [1.0] * 4), 1)
    wrong = ic.empty((5,), dtype=ic.float32, device=cpu)
    with pytest.raises(ic.InvalidArgument, match="receives 5 x f32 from rank 0, which sends 4 x f32"):
        comms[1].recv(wrong, 0)
    with pytest.raises(ic.PeerFailed, match="rank 1"):  # nothing can be repaired, so both know
        comms[0].barrier()


def test_a_rank_that_leaves(cpu: ic.device) -> None:
    comms = Communicator.all([cpu, cpu])
    comms[1].destroy()
    comms[1].destroy()
    with pytest.raises(ic.PeerFailed, match="rank 1 destroyed its communicator"):
        comms[0].all_reduce(make(comms[0], "float32", [1.0]))
    with pytest.raises(ic.InvalidArgument, match="destroyed"):
        comms[1].barrier()


def test_what_is_refused(cpu: ic.device, sim: ic.device) -> None:
    (comm,) = Communicator.all([cpu])
    x = make(comm, "float32", [1.0, 2.0])
    with pytest.raises(ic.ArgumentTypeError, match="all_reduce: tensor must be a Tensor, not list"):
        comm.all_reduce([1.0])  # type: ignore[arg-type]
    with pytest.raises(ic.DeviceMismatch, match="tensor is on sim:0, but the communicator is on cpu:0"):
        comm.all_reduce(ic.zeros((2,), dtype=ic.float32, device=sim))
    with pytest.raises(ic.InvalidArgument, match="op is 'mean', expected one of sum"):
        comm.all_reduce(x, "mean")
    with pytest.raises(ic.ShapeError, match=r"out has shape \(3,\), expected \(2,\)"):
        comm.all_reduce(x, out=ic.zeros((3,), dtype=ic.float32, device=cpu))
    with pytest.raises(ic.DTypeError, match="out is int32, expected float32"):
        comm.all_reduce(x, out=ic.zeros((2,), dtype=ic.int32, device=cpu))
    with pytest.raises(ic.InvalidArgument, match="no rank 1 of 1"):
        comm.broadcast(x, 1)
    with pytest.raises(ic.InvalidArgument, match="counts has 2 entries for 1 rank"):
        comm.all_gather(x, counts=[1, 1])
    with pytest.raises(ic.ShapeError, match=r"counts sum to 3, but tensor has shape \(2,\)"):
        comm.reduce_scatter(x, counts=[3])
    with pytest.raises(ic.InvalidArgument, match="no rank 2 of 2"):
        Communicator(2, 2, Communicator.unique_id("cpu"), "cpu")
    with pytest.raises(ic.InvalidArgument, match="none of the cpu backend's"):
        Communicator(1, 0, b"/etc/passwd", "cpu")
    two, _ = Communicator.all([cpu, cpu])
    with pytest.raises(ic.ShapeError, match="2 ranks cannot divide the first axis evenly"):
        two.all_to_all(make(two, "float32", [1.0] * 3))
    with pytest.raises(ic.Error, match="cannot replay collectives"), ic.graph():
        comm.all_reduce(x)


def test_threads_meet_by_a_unique_id(cpu: ic.device) -> None:
    name = Communicator.unique_id("cpu")
    results: dict[int, list[Any]] = {}

    def rank_main(rank: int) -> None:
        with Communicator(3, rank, name, cpu) as comm:
            results[rank] = listed(comm.all_gather(make(comm, "int32", [rank])))

    members = [threading.Thread(target=rank_main, args=(rank,)) for rank in range(3)]
    for member in members:
        member.start()
    for member in members:
        member.join()
    assert results == {rank: [0, 1, 2] for rank in range(3)}


def test_memory_lives_until_the_stream_is_past_it(sim: ic.device) -> None:
    """A call only enqueues; what it uses may go out of scope, and later work waits for it."""
    comms = Communicator.all([sim, "sim:1"])
    streams = [ic.Stream(sim), ic.Stream("sim:1")]
    with ic.stream(streams[0]):
        mine, seven = make(comms[0], "float32", [1.0] * 1000), make(comms[0], "float32", [7.0] * 1000)
        first = comms[0].all_reduce(mine.permute((0,)), out=ic.empty_like(mine))
        del mine
        assert not streams[0].query()  # the other rank has not called yet
        later = [seven.clone() for _ in range(4)]  # may take its memory, once that is free
    with ic.stream(streams[1]):
        second = comms[1].all_reduce(make(comms[1], "float32", [2.0] * 1000))
    for stream in streams:
        stream.synchronize()
    assert set(listed(first)) == set(listed(second)) == {3.0}
    assert all(set(listed(tensor)) == {7.0} for tensor in later)


def test_the_module_functions_use_the_default_group(cpu: ic.device) -> None:
    assert not distributed.is_initialized()
    with pytest.raises(ic.InvalidArgument, match="init_process_group"):
        distributed.get_rank()
    comm = distributed.init_process_group("cpu")
    try:
        assert (distributed.get_rank(), distributed.get_world_size()) == (0, 1)
        with pytest.raises(ic.InvalidArgument, match="there is a group already"):
            distributed.init_process_group("cpu")
        x = ic.from_list([1.0, 2.0])
        assert ic.AllReduce(x) is x
        for result in (
            distributed.all_reduce(x, out=ic.empty_like(x)), distributed.reduce(x, 0),
            distributed.broadcast(x, 0), distributed.all_gather(x), distributed.reduce_scatter(x, "max"),
            distributed.all_to_all(x, communicator=comm),
        ):  # fmt: skip
            assert result.tolist() == [1.0, 2.0]
        with distributed.group():
            distributed.send(x, 0)
            assert distributed.recv(ic.empty_like(x), 0) is not None
        distributed.barrier()
    finally:
        distributed.destroy_process_group()
    distributed.destroy_process_group()
    assert not distributed.is_initialized()
