# Communicator: one rank of a group of devices, over the collectives table of its backend.
# Calls only enqueue on the current stream; tensors live until the stream is past them.
cimport cython
from libc.stdint cimport int32_t, int64_t, uint64_t, uintptr_t
from libc.string cimport memcpy

from infinicore._device cimport Context, as_device, current_stream
from infinicore._graph cimport Recorder, recorder_for
from infinicore._status cimport check, settle, wait_begins
from infinicore._tensor cimport (
    MAX_DIMS, Layout, Tensor, contiguous_layout, copy_into, empty_tensor)
from infinicore.abi cimport (
    INFINI_STATUS_SUCCESS, infini_ccl, infini_unique_id, infinicclComm_t, infiniStatus_t, infinirtStream_t)

import threading

from infinicore.errors import (
    ArgumentTypeError, DeviceMismatch, DTypeError, Error, InvalidArgument, OperatorNotSupported, ShapeError)

__all__ = ["Communicator", "group"]

cdef tuple REDUCTIONS = ("sum", "prod", "max", "min", "avg")  # by infinicclReduceOp_t

# Per thread: what the calls of an open group use, and what to copy once it is closed.
_open = threading.local()


cdef const infini_ccl *table_of(Context context) except NULL:
    if context.backend.ccl == NULL:
        raise OperatorNotSupported(f"{context.device}: backend {context.backend.name!r} has no collectives")
    return context.backend.ccl


cdef int reduction(object op, str function) except -1:
    """The number of a reduction that is named, as infinicclReduceOp_t or as text."""
    if isinstance(op, str) and op.lower() in REDUCTIONS:
        return REDUCTIONS.index(op.lower())
    if isinstance(op, int) and not isinstance(op, bool) and 0 <= op < len(REDUCTIONS):
        return op
    raise InvalidArgument(f"{function}: op is {op!r}, expected one of {', '.join(REDUCTIONS)}")


cdef Layout with_rows(Layout like, int64_t rows):
    """The contiguous layout as `like`, with `rows` along the first axis."""
    cdef int64_t shape[MAX_DIMS]
    memcpy(shape, like.shape, like.ndim * sizeof(int64_t))
    shape[0] = rows
    return contiguous_layout(like.dtype, max(like.ndim, 1), shape)


cdef int64_t rows_of(Tensor tensor) noexcept:
    return tensor.layout.shape[0] if tensor.layout.ndim > 0 else 1


cdef tuple shape_of(Layout layout):
    cdef int axis
    return tuple([layout.shape[axis] for axis in range(layout.ndim)])


cdef Tensor packed(Tensor tensor):
    """What is sent for a tensor: itself, or a contiguous copy."""
    return tensor if tensor.layout.contiguous else tensor.clone()


cdef Tensor landing(Tensor result, Tensor given, Tensor send):
    """Where the result arrives: `result` itself where it is contiguous."""
    if result.layout.contiguous:
        return result
    if result is given:
        return send
    cdef Layout layout = result.layout
    return empty_tensor(result.context, contiguous_layout(layout.dtype, layout.ndim, layout.shape))


cdef class Communicator:
    """One rank of a group of devices that work together.

    Every rank makes one, with the same `unique_id` and `size` and a `rank` of its own; each waits until all
    are there. All ranks of a group make the same calls in the same order. A call only enqueues on the current
    stream of the device; on the CPU, whose streams run at once, it returns when the rank's part is done.

    Parameters
    ----------
    size : int
        How many ranks there are.
    rank : int
        Which one this is, from 0 on.
    unique_id : bytes
        What `unique_id` returned on one of them.
    device : device or str, optional
        The device of this rank; the current one by default.

    Attributes
    ----------
    rank, size : int

    Raises
    ------
    infinicore.PeerFailed
        By any call: another rank ended or failed. The message has its number.
    infinicore.Timeout
        By any call: another rank did not come (on the CPU within ``INFINICORE_CCL_TIMEOUT`` seconds).

    Examples
    --------
    >>> one = Communicator(1, 0, Communicator.unique_id("cpu"), "cpu")
    >>> one.all_reduce(infinicore.from_list([1.0, 2.0])).tolist()
    [1.0, 2.0]
    """

    def __init__(self, int size, int rank, bytes unique_id not None, device=None):
        cdef Context context = as_device(device).context()
        cdef infini_unique_id identity
        cdef infiniStatus_t status
        cdef size_t length = len(unique_id)
        if self.raw != NULL:
            raise InvalidArgument("Communicator: __init__ was called twice")
        if length > sizeof(identity.bytes):
            raise InvalidArgument(
                f"Communicator: unique_id has {length} bytes, at most {sizeof(identity.bytes)} are possible")
        self.ccl = table_of(context)
        identity.size = length
        memcpy(identity.bytes, <const char *> unique_id, length)
        context.activate()
        wait_begins()
        with nogil:
            status = self.ccl.init_rank(size, rank, &identity, &self.raw)
        settle(status, "Communicator")
        self.context, self.rank, self.size = context, rank, size

    @staticmethod
    def unique_id(device=None):
        """What names a new group; one rank asks for it and gives it to the others.

        Parameters
        ----------
        device : device or str, optional
            A device of the backend that the group will use; the current one by default.

        Returns
        -------
        bytes
        """
        cdef Context context = as_device(device).context()
        cdef const infini_ccl *ccl = table_of(context)
        cdef infini_unique_id identity
        cdef infiniStatus_t status
        context.activate()
        with nogil:
            status = ccl.unique_id(&identity)
        check(status, "Communicator.unique_id")
        return (<char *> identity.bytes)[:identity.size]

    @staticmethod
    def all(devices):
        """Make the communicators of all ranks of a group that is within this process.

        Parameters
        ----------
        devices : sequence of device or str
            One per rank, all of one backend.

        Returns
        -------
        list of Communicator
            In the order of the ranks. Each is for a thread of its own; calls for several of them on one
            thread belong into a `group`.
        """
        cdef int32_t indices[MAX_RANKS]
        cdef infinicclComm_t raw[MAX_RANKS]
        cdef const infini_ccl *ccl
        cdef infiniStatus_t status
        cdef int32_t count
        cdef Communicator one
        contexts = [as_device(device).context() for device in devices]
        count = len(contexts)
        if not 1 <= count <= MAX_RANKS:
            raise InvalidArgument(f"Communicator.all: {count} devices, expected 1 to {MAX_RANKS}")
        for place in range(count):
            if (<Context> contexts[place]).backend is not (<Context> contexts[0]).backend:
                raise DeviceMismatch(f"Communicator.all: device {place} is {contexts[place].device}, but "
                                     f"device 0 is {contexts[0].device}: a group has one backend")
            indices[place] = (<Context> contexts[place]).index
        ccl = table_of(contexts[0])
        with nogil:
            status = ccl.init_all(count, indices, raw)
        check(status, "Communicator.all")
        made = []
        for place in range(count):
            one = Communicator.__new__(Communicator)
            one.context, one.ccl, one.raw, one.rank, one.size = contexts[place], ccl, raw[place], place, count
            made.append(one)
        return made

    @property
    def device(self):
        """The device of this rank."""
        return self.context.device

    @property
    def handle(self):
        """The ``infinicclComm_t`` as an integer; 0 once it is destroyed."""
        return <uintptr_t> self.raw

    def destroy(self):
        """Leave the group. Ranks that still wait for this one are told; a second call does nothing."""
        cdef infinicclComm_t raw = self.raw
        cdef infiniStatus_t status
        if raw == NULL:
            return
        self.raw = NULL
        self.context.activate()
        with nogil:
            status = self.ccl.destroy(raw)
        check(status, "Communicator.destroy")

    def __dealloc__(self):
        if self.raw != NULL and self.context is not None:
            try:
                self.context.activate()
            except BaseException:
                return
            with nogil:
                self.ccl.destroy(self.raw)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.destroy()

    def __repr__(self):
        if self.context is None or self.raw == NULL:
            return "<Communicator: destroyed>"
        return f"<Communicator: rank {self.rank} of {self.size} on {self.context.device}>"

    # ---- collectives -------------------------------------------------------------------------------------

    def all_reduce(self, tensor, op="sum", *, out=None):
        """Reduce the tensors of all ranks element by element; every rank gets the result.

        Parameters
        ----------
        tensor : Tensor
            The same shape and dtype on every rank. It gets the result, unless `out` is given.
        op : {"sum", "prod", "max", "min", "avg"}
            On the CPU f16, bf16 and f8 are reduced in f32, in the order of the ranks; integers wrap around.
        out : Tensor, optional
            Gets the result; of the same shape and dtype.

        Returns
        -------
        Tensor
            The one that got the result.
        """
        cdef Tensor given = self.operand(tensor, "all_reduce", "tensor")
        cdef Tensor result = self.output(out, given.layout, given, "all_reduce")
        cdef Tensor send = packed(given), receive = landing(result, given, send)
        cdef int number = reduction(op, "all_reduce")
        cdef infinirtStream_t stream = self.ready("all_reduce", self.ccl.all_reduce != NULL)
        cdef infiniStatus_t status
        with nogil:
            status = self.ccl.all_reduce(send.view.data, receive.view.data, send.layout.numel,
                                         send.view.dtype, number, self.raw, stream)
        return self.finish("all_reduce", status, stream, send, receive, result)

    def reduce(self, tensor, int root, op="sum", *, out=None):
        """Reduce the tensors of all ranks element by element; `root` gets the result.

        Parameters
        ----------
        tensor : Tensor
            The same shape and dtype on every rank. On `root` it gets the result, unless `out` is given; on
            the others it stays as it is.
        root : int
        op : {"sum", "prod", "max", "min", "avg"}
        out : Tensor, optional
            On `root`: gets the result.

        Returns
        -------
        Tensor
            On `root` the one that got the result, elsewhere `tensor`.
        """
        cdef Tensor given = self.operand(tensor, "reduce", "tensor")
        cdef Tensor send = packed(given), receive = send, result = send
        cdef int number = reduction(op, "reduce")
        cdef infinirtStream_t stream
        cdef infiniStatus_t status
        if self.rank == root:
            result = self.output(out, given.layout, given, "reduce")
            receive = landing(result, given, send)
        stream = self.ready("reduce", self.ccl.reduce != NULL)
        with nogil:
            status = self.ccl.reduce(send.view.data, receive.view.data, send.layout.numel,
                                     send.view.dtype, number, root, self.raw, stream)
        self.finish("reduce", status, stream, send, receive, result)
        return result if self.rank == root else given

    def broadcast(self, tensor, int root, *, out=None):
        """Give the tensor of `root` to all ranks.

        Parameters
        ----------
        tensor : Tensor
            The same shape and dtype on every rank. It gets the result, unless `out` is given.
        root : int
        out : Tensor, optional
            Gets the result; of the same shape and dtype.

        Returns
        -------
        Tensor
            The one that got the result.
        """
        cdef Tensor given = self.operand(tensor, "broadcast", "tensor")
        cdef Tensor result = self.output(out, given.layout, given, "broadcast")
        cdef Tensor send = packed(given), receive = landing(result, given, send)
        cdef infinirtStream_t stream = self.ready("broadcast", self.ccl.broadcast != NULL)
        cdef infiniStatus_t status
        with nogil:
            status = self.ccl.broadcast(send.view.data, receive.view.data, send.layout.numel,
                                        send.view.dtype, root, self.raw, stream)
        return self.finish("broadcast", status, stream, send, receive, result)

    def all_gather(self, tensor, *, counts=None, out=None):
        """Join the tensors of all ranks along the first axis, in the order of the ranks.

        Parameters
        ----------
        tensor : Tensor
            The same dtype and shape on every rank; with `counts` the first axis may differ. A 0-d tensor
            counts as one of one element.
        counts : sequence of int, optional
            The length of the first axis on every rank.
        out : Tensor, optional
            Gets the result.

        Returns
        -------
        Tensor
        """
        cdef Tensor given = self.operand(tensor, "all_gather", "tensor")
        cdef uint64_t elements[MAX_RANKS]
        cdef int64_t rows = self.shares(counts, given, "all_gather", elements)
        if counts is None:
            rows = rows_of(given) * self.size
        elif counts[self.rank] != rows_of(given):
            raise ShapeError(f"all_gather: counts[{self.rank}] is {counts[self.rank]}, but tensor has shape "
                             f"{shape_of(given.layout)}")
        cdef Tensor result = self.output(out, with_rows(given.layout, rows), None, "all_gather")
        cdef Tensor send = packed(given), receive = landing(result, given, send)
        cdef infinirtStream_t stream
        cdef infiniStatus_t status
        if counts is None:
            stream = self.ready("all_gather", self.ccl.all_gather != NULL)
            with nogil:
                status = self.ccl.all_gather(send.view.data, receive.view.data, send.layout.numel,
                                             send.view.dtype, self.raw, stream)
        else:
            stream = self.ready("all_gather_v", self.ccl.all_gather_v != NULL)
            with nogil:
                status = self.ccl.all_gather_v(send.view.data, receive.view.data, elements,
                                               send.view.dtype, self.raw, stream)
        return self.finish("all_gather", status, stream, send, receive, result)

    def reduce_scatter(self, tensor, op="sum", *, counts=None, out=None):
        """Reduce the tensors of all ranks element by element; every rank gets its share of the first axis.

        Parameters
        ----------
        tensor : Tensor
            The same shape and dtype on every rank; without `counts` the ranks divide the first axis evenly.
        op : {"sum", "prod", "max", "min", "avg"}
        counts : sequence of int, optional
            How much of the first axis each rank gets.
        out : Tensor, optional
            Gets the result.

        Returns
        -------
        Tensor
        """
        cdef Tensor given = self.operand(tensor, "reduce_scatter", "tensor")
        cdef uint64_t elements[MAX_RANKS]
        cdef int64_t rows
        cdef int64_t total = self.shares(counts, given, "reduce_scatter", elements)
        if counts is None:
            rows = self.even(given, "reduce_scatter")
        else:
            rows = counts[self.rank]
            if total != rows_of(given):
                raise ShapeError(f"reduce_scatter: counts sum to {total}, but tensor has shape "
                                 f"{shape_of(given.layout)}")
        cdef Tensor result = self.output(out, with_rows(given.layout, rows), None, "reduce_scatter")
        cdef Tensor send = packed(given), receive = landing(result, given, send)
        cdef int number = reduction(op, "reduce_scatter")
        cdef infinirtStream_t stream
        cdef infiniStatus_t status
        if counts is None:
            stream = self.ready("reduce_scatter", self.ccl.reduce_scatter != NULL)
            with nogil:
                status = self.ccl.reduce_scatter(send.view.data, receive.view.data, receive.layout.numel,
                                                 send.view.dtype, number, self.raw, stream)
        else:
            stream = self.ready("reduce_scatter_v", self.ccl.reduce_scatter_v != NULL)
            with nogil:
                status = self.ccl.reduce_scatter_v(send.view.data, receive.view.data, elements,
                                                   send.view.dtype, number, self.raw, stream)
        return self.finish("reduce_scatter", status, stream, send, receive, result)

    def all_to_all(self, tensor, *, out=None):
        """Give share r of the first axis to rank r, and get one from each, in the order of the ranks.

        Parameters
        ----------
        tensor : Tensor
            The same shape and dtype on every rank; the ranks divide the first axis evenly.
        out : Tensor, optional
            Gets the result; of the same shape and dtype.

        Returns
        -------
        Tensor
        """
        cdef Tensor given = self.operand(tensor, "all_to_all", "tensor")
        self.even(given, "all_to_all")
        cdef Tensor result = self.output(out, given.layout, None, "all_to_all")
        cdef Tensor send = packed(given), receive = landing(result, given, send)
        cdef uint64_t count = send.layout.numel // self.size
        cdef infinirtStream_t stream = self.ready("all_to_all", self.ccl.all_to_all != NULL)
        cdef infiniStatus_t status
        with nogil:
            status = self.ccl.all_to_all(send.view.data, receive.view.data, count, send.view.dtype, self.raw,
                                         stream)
        return self.finish("all_to_all", status, stream, send, receive, result)

    def send(self, tensor, int peer):
        """Send a tensor to rank `peer`, which calls `recv` with one of the same size and dtype.

        Two ranks that both send before they receive wait for each other, unless the calls stand in a `group`.
        """
        cdef Tensor given = self.operand(tensor, "send", "tensor")
        cdef Tensor send = packed(given)
        cdef infinirtStream_t stream = self.ready("send", self.ccl.send != NULL)
        cdef infiniStatus_t status
        with nogil:
            status = self.ccl.send(send.view.data, send.layout.numel, send.view.dtype, peer, self.raw, stream)
        self.finish("send", status, stream, send, send, send)

    def recv(self, tensor, int peer):
        """Receive what rank `peer` sends into `tensor`, and return it."""
        cdef Tensor result = self.operand(tensor, "recv", "tensor")
        cdef Tensor receive = landing(result, None, None)
        cdef infinirtStream_t stream = self.ready("recv", self.ccl.receive != NULL)
        cdef infiniStatus_t status
        with nogil:
            status = self.ccl.receive(receive.view.data, receive.layout.numel, receive.view.dtype, peer,
                                      self.raw, stream)
        return self.finish("recv", status, stream, receive, receive, result)

    def barrier(self):
        """Let later work on the current stream wait until every rank has come here."""
        cdef infinirtStream_t stream = self.ready("barrier", self.ccl.barrier != NULL)
        cdef infiniStatus_t status
        with nogil:
            status = self.ccl.barrier(self.raw, stream)
        settle(status, "barrier")

    # ---- what the calls share ----------------------------------------------------------------------------

    cdef Tensor operand(self, object value, str function, str argument):
        if not isinstance(value, Tensor):
            raise ArgumentTypeError(f"{function}: {argument} must be a Tensor, not {type(value).__name__}")
        if self.raw == NULL:
            raise InvalidArgument(f"{function}: the communicator is destroyed")
        cdef Tensor tensor = <Tensor> value
        if tensor.context is not self.context:
            raise DeviceMismatch(f"{function}: {argument} is on {tensor.context.device}, but the "
                                 f"communicator is on {self.context.device}")
        return tensor

    cdef Tensor output(self, object out, Layout expected, Tensor otherwise, str function):
        if out is None:
            if otherwise is not None:
                return otherwise
            return empty_tensor(
                self.context, contiguous_layout(expected.dtype, expected.ndim, expected.shape))
        cdef Tensor tensor = self.operand(out, function, "out")
        if tensor.layout.dtype is not expected.dtype:
            raise DTypeError(f"{function}: out is {tensor.layout.dtype.name}, expected {expected.dtype.name}")
        if shape_of(tensor.layout) != shape_of(expected):
            raise ShapeError(f"{function}: out has shape {shape_of(tensor.layout)}, expected "
                             f"{shape_of(expected)}")
        return tensor

    cdef int64_t even(self, Tensor given, str function) except -1:
        cdef int64_t rows = rows_of(given)
        if rows % self.size:
            raise ShapeError(f"{function}: tensor has shape {shape_of(given.layout)}, of which {self.size} "
                             "ranks cannot divide the first axis evenly")
        return rows // self.size

    cdef int64_t shares(self, object counts, Tensor given, str function, uint64_t *elements) except -1:
        cdef int64_t total = 0, width = 1, count
        cdef int axis
        if counts is None:
            return 0
        if len(counts) != self.size or self.size > MAX_RANKS:
            raise InvalidArgument(f"{function}: counts has {len(counts)} entries for {self.size} ranks")
        for axis in range(1, given.layout.ndim):
            width *= given.layout.shape[axis]
        for place in range(self.size):
            count = counts[place]
            if count < 0:
                raise InvalidArgument(f"{function}: counts[{place}] is {count}")
            elements[place] = <uint64_t> (count * width)
            total += count
        return total

    cdef infinirtStream_t ready(self, str function, bint offered) except? NULL:
        cdef Recorder recorder
        if self.raw == NULL:
            raise InvalidArgument(f"{function}: the communicator is destroyed")
        if not offered:
            raise OperatorNotSupported(
                f"{function}: backend {self.context.backend.name!r} has no such collective")
        recorder = recorder_for(self.context, function)
        if recorder is not None and not recorder.capturing:
            raise Error(f"{function}: this thread records a graph on {self.context.device}, which cannot "
                        "replay collectives")
        self.context.activate()
        cdef infinirtStream_t stream = current_stream(self.context)
        wait_begins()
        return stream

    cdef Tensor finish(self, str function, infiniStatus_t status, infinirtStream_t stream,
                       Tensor send, Tensor receive, Tensor result):
        settle(status, function)
        cdef Recorder recorder = recorder_for(self.context, function)
        cdef Tensor tensor
        for tensor in (send, receive):
            tensor.storage.record_stream(stream)
            if recorder is not None:
                recorder.hold(tensor.storage)
        pending = getattr(_open, "pending", None)
        if pending is not None:  # nothing is enqueued before the group is closed
            pending.append((send, receive, result))
        elif receive is not result:
            copy_into(result, receive, True)
        return result


@cython.final
cdef class group:
    """Make calls of one or several communicators as one: none waits for another.

    A ``with`` block; what its calls are to do begins when the block ends, and results are valid from then on.
    Within it two ranks may both send before they receive, and one thread may call several ranks.

    Parameters
    ----------
    device : Communicator, device or str, optional
        Whose backend the calls go to; the current device by default.

    Examples
    --------
    >>> with group(comm):
    ...     comm.send(mine, right)
    ...     comm.recv(theirs, left)
    """
    cdef const infini_ccl *ccl
    cdef Context context
    cdef object outer

    def __init__(self, device=None):
        self.context = (<Communicator> device).context if isinstance(device, Communicator) \
            else as_device(device).context()
        self.ccl = table_of(self.context)

    def __enter__(self):
        cdef infiniStatus_t status
        self.context.activate()
        with nogil:
            status = self.ccl.group_start()
        check(status, "group")
        self.outer = getattr(_open, "pending", None)
        _open.pending = [] if self.outer is None else self.outer
        return self

    def __exit__(self, kind, error, trace):
        cdef infiniStatus_t status
        pending, _open.pending = _open.pending, self.outer
        wait_begins()
        with nogil:
            status = self.ccl.group_end()
        try:
            settle(status, "group")
        except Error:
            if kind is None:  # else what the block raised says more
                raise
        if self.outer is None and status == INFINI_STATUS_SUCCESS:
            for _, receive, result in pending:
                if receive is not result:
                    copy_into(result, receive, True)
