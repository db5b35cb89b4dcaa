# Streams and events: owners of the vendor's handles, and the current stream of a thread.
# A handle keeps its device alive; streams are recycled rather than destroyed (see Stream).
cimport cython
from libc.stdint cimport uint32_t, uintptr_t
from posix.unistd cimport usleep

from infinicore._device cimport Context, as_device, thread_state
from infinicore._status cimport check
from infinicore.abi cimport (
    INFINI_STATUS_NOT_READY, INFINIRT_EVENT_BLOCKING_SYNC, INFINIRT_EVENT_DEFAULT,
    INFINIRT_EVENT_DISABLE_TIMING, infiniStatus_t, infinirtStream_t)

import os

from infinicore.errors import ArgumentTypeError, DeviceMismatch, Error, InvalidArgument

__all__ = ["DeviceEvent", "Stream", "current_stream", "stream"]

# Context -> idle handles. Memory may still be ordered on a stream whose owner is gone, and the allocator
# compares streams by address, so a handle is never destroyed while the process lives.
cdef dict _idle = {}

cdef bint LAUNCH_BLOCKING = os.environ.get("INFINICORE_LAUNCH_BLOCKING", "0") not in ("", "0")


cdef infinirtStream_t stream_handle(object value, Context context, str where) except? NULL:
    cdef Stream given
    if value is None:
        return thread_state().streams[context.slot]
    if isinstance(value, Stream):
        given = <Stream> value
        if given.context is not context:
            raise DeviceMismatch(
                f"{where}: stream is on {given.context.device}, but {context.device} was expected")
        return given.raw
    if isinstance(value, int):
        return <infinirtStream_t> <uintptr_t> value
    raise ArgumentTypeError(f"{where}: stream must be an infinicore.Stream, not {type(value).__name__}")


cdef DeviceEvent an_event(object value, str where):
    if not isinstance(value, DeviceEvent):
        raise ArgumentTypeError(f"{where}: expected an infinicore.DeviceEvent, got {type(value).__name__}")
    return <DeviceEvent> value


@cython.no_gc_clear  # the destructor needs the context
cdef class Stream:
    """A queue of work on one device; work on one stream runs in order.

    Parameters
    ----------
    device : device or str, optional
        Where the stream lives; the current device by default.

    Examples
    --------
    >>> import infinicore as ic
    >>> a = ic.ones((2,), dtype=ic.float32, device="cpu")
    >>> side = ic.Stream("cpu")
    >>> with ic.stream(side):
    ...     b = a + a
    >>> side.synchronize()
    >>> b.tolist()
    [2.0, 2.0]
    """

    def __init__(self, object device=None):
        cdef Context context = as_device(device).context()
        cdef infinirtStream_t raw = NULL
        cdef infiniStatus_t status
        if self.owned:
            raise InvalidArgument("Stream: __init__ was called twice")
        self.context = context
        idle = _idle.get(context)
        if idle:
            try:
                raw = <infinirtStream_t> <uintptr_t> idle.pop()
            except IndexError:  # another thread took the last one
                raw = NULL
        if raw == NULL:
            context.activate()
            with nogil:
                status = context.runtime.stream_create(0, &raw)
            check(status, "Stream")
        self.raw = raw
        self.owned = raw != NULL

    def __dealloc__(self):
        if self.owned and _idle is not None:
            _idle.setdefault(self.context, []).append(<uintptr_t> self.raw)

    @property
    def device(self):
        """The device this stream queues work on."""
        return self.context.device

    @property
    def handle(self):
        """The vendor's handle as an integer; 0 is the default stream."""
        return <uintptr_t> self.raw

    def synchronize(self):
        """Wait until everything queued so far is done."""
        cdef infiniStatus_t status
        self.context.activate()
        with nogil:
            status = self.context.runtime.stream_synchronize(self.raw)
        check(status, "Stream.synchronize")

    def query(self):
        """Whether everything queued so far is done.

        The ABI can only ask events, so this queues one and gives an idle stream a moment to reach it. True is
        certain; False may also come from a stream that has just become idle.

        Returns
        -------
        bool
        """
        cdef DeviceEvent event = self.record_event()
        cdef infiniStatus_t status = INFINI_STATUS_NOT_READY
        cdef int _attempt
        with nogil:
            for _attempt in range(10):
                status = self.context.runtime.event_query(event.raw)
                if status != INFINI_STATUS_NOT_READY:
                    break
                usleep(10)
        if status == INFINI_STATUS_NOT_READY:
            return False
        check(status, "Stream.query")
        return True

    def record_event(self, event=None):
        """Mark this point of the stream in `event` (a new one without timing by default) and return it."""
        if event is None:
            event = DeviceEvent(device=self.context.device)
        an_event(event, "Stream.record_event: event").record(self)
        return event

    def wait_event(self, event):
        """Let work queued from now on wait until `event` has happened. The host does not wait."""
        an_event(event, "Stream.wait_event: event").wait(self)

    def wait_stream(self, other):
        """Let work queued from now on wait for everything queued on `other` so far."""
        if not isinstance(other, Stream):
            raise ArgumentTypeError("Stream.wait_stream: other: expected an infinicore.Stream, got "
                                    f"{type(other).__name__}")
        other.record_event().wait(self)

    def __eq__(self, other):
        if not isinstance(other, Stream):
            return NotImplemented
        return self.context is (<Stream> other).context and self.raw == (<Stream> other).raw

    def __hash__(self):
        return hash((self.context.slot, <uintptr_t> self.raw))

    def __repr__(self):
        return f"Stream(device='{self.context.device}', handle={<uintptr_t> self.raw:#x})"


def current_stream(device=None):
    """The stream that this thread queues work on.

    Parameters
    ----------
    device : device or str, optional
        The current device by default.

    Returns
    -------
    Stream

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.current_stream("cpu").handle
    0
    """
    cdef Context context = as_device(device).context()
    cdef Stream current = Stream.__new__(Stream)
    current.context = context
    current.raw = thread_state().streams[context.slot]
    return current


@cython.final
cdef class stream:
    """Queue this thread's work on `target` inside a ``with`` block; other devices are not affected.

    Parameters
    ----------
    target : Stream or None
        None changes nothing, so that an optional stream needs no branch.

    Examples
    --------
    >>> import infinicore as ic
    >>> side = ic.Stream("cpu")
    >>> with ic.stream(side):
    ...     ic.current_stream("cpu") == side
    True
    """
    cdef Stream target
    cdef list previous

    def __init__(self, target):
        if target is not None and not isinstance(target, Stream):
            raise ArgumentTypeError(f"stream: expected an infinicore.Stream, not {type(target).__name__}")
        self.target = target
        self.previous = []

    def __enter__(self):
        if self.target is not None:
            self.previous.append(<uintptr_t> thread_state().streams[self.target.context.slot])
            thread_state().streams[self.target.context.slot] = self.target.raw
        return self.target

    def __exit__(self, *exception):
        cdef uintptr_t before
        if self.target is not None:
            before = self.previous.pop()
            thread_state().streams[self.target.context.slot] = <infinirtStream_t> before


@cython.no_gc_clear  # the destructor needs the context
cdef class DeviceEvent:
    """A point in the work of a stream, to wait for or to measure from.

    Parameters
    ----------
    enable_timing : bool, default False
        Whether `elapsed_time` can be asked.
    device : device or str, optional
        The current device by default.
    blocking : bool, default False
        `synchronize` sleeps instead of spinning, where the device can.
    interprocess : bool, default False
        Not supported by any backend: True raises.

    Examples
    --------
    >>> import infinicore as ic
    >>> a = ic.ones((64, 64), dtype=ic.float32, device="cpu")
    >>> start, end = (ic.DeviceEvent(enable_timing=True, device="cpu") for _ in range(2))
    >>> start.record()
    >>> b = ic.matmul(a, a)
    >>> end.record()
    >>> end.synchronize()
    >>> start.elapsed_time(end) >= 0  # milliseconds
    True
    """

    def __init__(
        self, bint enable_timing=False, device=None, *, bint blocking=False, bint interprocess=False
    ):
        cdef Context context
        cdef infiniStatus_t status
        cdef uint32_t flags = INFINIRT_EVENT_DEFAULT
        if interprocess:
            raise InvalidArgument(
                "DeviceEvent: interprocess=True is not supported; events are local to a process")
        if self.raw != NULL:
            raise InvalidArgument("DeviceEvent: __init__ was called twice")
        if not enable_timing:
            flags |= INFINIRT_EVENT_DISABLE_TIMING
        if blocking:
            flags |= INFINIRT_EVENT_BLOCKING_SYNC
        context = as_device(device).context()
        context.activate()
        with nogil:
            status = context.runtime.event_create(flags, &self.raw)
        check(status, "DeviceEvent")
        self.context = context
        self.enable_timing = enable_timing
        self.blocking = blocking

    def __dealloc__(self):
        if self.raw != NULL and self.context is not None:
            try:
                self.context.activate()
            except BaseException:
                return
            with nogil:
                self.context.runtime.event_destroy(self.raw)

    @property
    def device(self):
        """The device whose streams can record this event."""
        return self.context.device

    @property
    def handle(self):
        """The vendor's handle as an integer."""
        return <uintptr_t> self.raw

    def record(self, stream=None):
        """Mark the present end of `stream` (the current one by default); a second call moves the mark."""
        cdef infiniStatus_t status
        cdef infinirtStream_t target = stream_handle(stream, self.context, "DeviceEvent.record")
        self.context.activate()
        with nogil:
            status = self.context.runtime.event_record(self.raw, target)
        check(status, "DeviceEvent.record")
        self.is_recorded = True

    def synchronize(self):
        """Wait until the event has happened. Returns at once if it was never recorded."""
        cdef infiniStatus_t status
        if not self.is_recorded:
            return
        self.context.activate()
        with nogil:
            status = self.context.runtime.event_synchronize(self.raw)
        check(status, "DeviceEvent.synchronize")

    def query(self):
        """Whether the event has happened; True if it was never recorded.

        Returns
        -------
        bool
        """
        cdef infiniStatus_t status
        if not self.is_recorded:
            return True
        self.context.activate()
        with nogil:
            status = self.context.runtime.event_query(self.raw)
        if status == INFINI_STATUS_NOT_READY:
            return False
        check(status, "DeviceEvent.query")
        return True

    def wait(self, stream=None):
        """Let later work on `stream` (the current one by default) wait for the event; the host goes on."""
        cdef infiniStatus_t status
        cdef Context context = self.context
        if isinstance(stream, Stream) and (<Stream> stream).context.backend is self.context.backend:
            context = (<Stream> stream).context  # another device of the same vendor can wait too
        cdef infinirtStream_t target = stream_handle(stream, context, "DeviceEvent.wait")
        if not self.is_recorded:
            return
        context.activate()
        with nogil:
            status = context.runtime.stream_wait_event(target, self.raw)
        check(status, "DeviceEvent.wait")

    def elapsed_time(self, other):
        """Milliseconds from this event to `other`.

        Parameters
        ----------
        other : DeviceEvent
            A later event of the same device. Both have timing enabled, were recorded, and have happened.

        Returns
        -------
        float

        Raises
        ------
        Error
            Timing is disabled, or an event was not recorded or has not happened.
        """
        cdef infiniStatus_t status
        cdef float milliseconds = 0
        cdef DeviceEvent end = an_event(other, "DeviceEvent.elapsed_time: other")
        if not self.enable_timing or not end.enable_timing:
            raise Error("Cannot measure elapsed time when timing is disabled")
        if not self.is_recorded or not end.is_recorded:
            late = "start" if not self.is_recorded else "end"
            raise Error(f"DeviceEvent.elapsed_time: the {late} event was not recorded")
        if self.context is not end.context:
            raise DeviceMismatch(f"DeviceEvent.elapsed_time: events are on {self.context.device} "
                                 f"and {end.context.device}")
        self.context.activate()
        with nogil:
            status = self.context.runtime.event_elapsed(self.raw, end.raw, &milliseconds)
        if status == INFINI_STATUS_NOT_READY:
            raise Error("DeviceEvent.elapsed_time: both events must have happened; call synchronize() first")
        check(status, "DeviceEvent.elapsed_time")
        return milliseconds

    def __repr__(self):
        return (f"DeviceEvent(device='{self.context.device}', enable_timing={bool(self.enable_timing)}, "
                f"blocking={bool(self.blocking)}, interprocess={bool(self.interprocess)}, "
                f"is_recorded={bool(self.is_recorded)})")
