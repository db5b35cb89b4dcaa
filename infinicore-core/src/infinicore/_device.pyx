# Devices: the public `device`, the Context of one that is open, and what is current on this thread.
"""Devices, and what is current on a thread."""

from cpython.object cimport PyObject
from libc.stdint cimport int32_t, uint64_t
from libc.string cimport memset
from infinicore.abi cimport *
from infinicore._backend cimport (
    Backend, canonical_name, cuda_vendor, find_backend, on_activation, resolve_backend,
)
from infinicore._status cimport check

import os
from _thread import allocate_lock  # all that is needed of threading, which takes long to import
from operator import index as as_index

from infinicore import discovery, errors

cdef extern from * nogil:
    """
    /* Cython has no thread-local variables. ThreadState is laid over this zero-initialised storage. */
    static _Thread_local union { void *alignment; char bytes[4096]; } infinicore_thread;
    static void *infinicore_thread_storage(void) { return &infinicore_thread; }
    enum { INFINICORE_THREAD_BYTES = sizeof infinicore_thread };
    """
    void *infinicore_thread_storage()
    enum: INFINICORE_THREAD_BYTES

if sizeof(ThreadState) > INFINICORE_THREAD_BYTES:
    raise errors.InternalError("ThreadState has outgrown its storage")


cdef ThreadState *thread_state() noexcept nogil:
    return <ThreadState *>infinicore_thread_storage()


# ---- device --------------------------------------------------------------------------------------

cdef class device:
    """A device, by name and index. Making one opens nothing and needs no hardware.

    Parameters
    ----------
    type : str or device, optional
        Name of a backend or one of its aliases, with or without an index (``"cuda"``, ``"cuda:1"``,
        ``"npu"``), or a device to copy; ``"cpu"`` by default. `torch.device` is understood too.
    index : int, optional
        Which of the backend's devices; 0 by default. Not beside an index in `type`.

    Attributes
    ----------
    type : str
        Name of the backend.
    index : int

    Raises
    ------
    infinicore.InvalidArgument
        The index is given twice, negative, or not a number. A `ValueError`.
    infinicore.UnknownDevice
        No backend that is present has this name. A `ValueError`.
    infinicore.ArgumentTypeError
        `type` is neither a string nor a device. A `TypeError`.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.device("cpu", 0)
    device(type='cpu', index=0)
    >>> str(ic.device("nvidia:1"))
    'cuda:1'
    """

    def __cinit__(self, type=None, index=None):
        cdef str name
        if type is None:
            name = "cpu"
        elif isinstance(type, str):
            name, index = split_name(type, index)
        else:
            name, index = from_other(type, index)
        self.type = canonical_name(name)
        self.index = checked_index(name, index)

    @property
    def torch_type(self):
        """What PyTorch calls this type of device: "cuda", "npu", "mlu", "musa", "cpu", ..."""
        known = discovery.TORCH_TYPES.get(self.type)
        if known is not None:
            return known
        record = find_backend(self.type).plugin
        return self.type if record is None else record.torch_type

    @property
    def _underlying(self):
        return NativeDevice(DeviceType.of(self.type), self.index)

    @staticmethod
    def _from_infinicore_device(native):
        return device(native)

    def __repr__(self):
        return f"device(type={self.type!r}, index={self.index})"

    def __str__(self):
        return f"{self.type}:{self.index}"

    def __eq__(self, other):
        if not isinstance(other, device):
            return NotImplemented
        cdef device right = <device>other
        return self.index == right.index and (
            self.type == right.type or meaning(self.type) == meaning(right.type))

    def __hash__(self):
        # Not of the type: "cuda" turns out to be another vendor's name only once that vendor is open.
        return hash(("infinicore.device", self.index))

    def __reduce__(self):
        return device, (self.type, self.index)

    cdef Context context(self):
        if self._context is None:
            self._context = context_of(resolve_backend(self.type), self.index)
        return self._context


cdef str meaning(str type):
    return (cuda_vendor() or type) if type == "cuda" else type


cdef tuple split_name(str text, object index):
    """("cuda", 1) from "cuda:1"; the index stays what it is when `text` has none."""
    name, colon, tail = text.partition(":")
    if not colon:
        return name, index
    if index is not None:
        raise errors.InvalidArgument("`index` should not be provided when `type` contains \":\"")
    if not (tail.isascii() and tail.isdigit()):
        raise errors.InvalidArgument(f"device {text!r}: the index after \":\" is {tail!r}, not a number")
    return name, int(tail)


cdef tuple from_other(object value, object index):
    """Name and index of an object that is a device: ours, PyTorch's, or a native one."""
    kind = getattr(value, "type", None)
    if isinstance(value, type) or not isinstance(kind, (str, int)):
        raise errors.ArgumentTypeError(f"device: type is {value!r}, neither a string nor a device")
    if index is not None:
        raise errors.InvalidArgument("`index` should not be provided when `type` is a device")
    return (kind if isinstance(kind, str) else name_of_number(kind)), value.index


cdef str name_of_number(int number):
    for name, known in discovery.NUMBERS.items():
        if known == number:
            return name
    from infinicore._backend import backends
    for backend in backends.values():
        if backend.number == number:
            return backend.name
    raise errors.UnknownDevice(f"no backend has the device number {number}")


cdef int checked_index(str name, object index) except -1:
    if index is None:
        return 0
    try:
        number = as_index(index)
    except TypeError:
        raise errors.ArgumentTypeError(f"device {name!r}: index is {index!r}, not an integer") from None
    if not 0 <= number < 2**31:
        raise errors.InvalidArgument(f"device {name!r}: index is {number}, and must be 0 or greater")
    return number


class DeviceType(int):
    """A device type as the C API numbers it (``infiniDevice_t``): compares like that number.

    The attribute ``name`` is the enumerator's ("NVIDIA"), or the backend's outside the enumeration.
    """

    @classmethod
    def of(cls, str name):
        """The type of the backend called `name`."""
        self = cls(discovery.number_of(name))
        self.name = _ENUMERATORS.get(name, name).upper()
        return self

    def __repr__(self):
        return f"Device.Type.{self.name}"


# Where the public enumeration is called after the vendor and the backend after the stack.
_ENUMERATORS = {"cuda": "nvidia", "bang": "cambricon"}


class NativeDevice:
    """A device as the older bindings had it: a `type` that compares like its number, and an `index`.

    ``NativeDevice.Type`` has one member per public device: ``NativeDevice.Type.NVIDIA``.
    """

    __slots__ = ("index", "type")

    class Type:
        """The public enumeration of devices."""

    def __init__(self, type, index=0):
        self.type = type
        self.index = index

    def __eq__(self, other):
        if not isinstance(other, NativeDevice):
            return NotImplemented
        return self.type == other.type and self.index == other.index

    def __hash__(self):
        return hash((int(self.type), self.index))

    def __repr__(self):
        return f"Device({self.type!r}, {self.index})"


for _name in discovery.NUMBERS:
    _member = DeviceType.of(_name)
    setattr(NativeDevice.Type, _member.name, _member)


# ---- opened devices ------------------------------------------------------------------------------

cdef int _contexts = 0
cdef object _lock = allocate_lock()
# The context of each capture that is under way, whichever thread records. Devices refuse to be waited for as
# a whole meanwhile, and spoil the capture.
_captures = []
cdef list _immortal = []  # contexts are borrowed from thread states, which cannot hold references


cdef class Context:
    """A device that is open: one per backend and index, for the life of the process."""

    def __cinit__(self):
        self.slot = -1

    def __repr__(self):
        return f"<open device {self.device}>"

    cdef int activate(self) except -1:
        cdef int *active = &thread_state().active[self.backend.slot]
        if active[0] == self.index + 1:
            return 0
        self.backend.ensure_ready()  # it may have been lost to a fork
        cdef infiniStatus_t status
        with nogil:
            status = self.runtime.set_device(self.index)
        check(status, f"{self.device}: set_device")
        active[0] = self.index + 1
        return 0


cdef void note_active(int slot, int32_t device) noexcept nogil:
    # The C API activated it on this thread; -1: nobody knows which one is.
    thread_state().active[slot] = device + 1


on_activation(note_active)


cdef Context context_of(Backend backend, int index):
    """The opened device of a backend that is ready."""
    global _contexts
    cdef Context context
    if index >= backend.device_count:
        last = f" .. {backend.name}:{backend.device_count - 1}" if backend.device_count > 1 else ""
        raise errors.DeviceNotFound(
            f"{backend.name}:{index}: {backend.name} has {backend.device_count} device"
            f"{'s' if backend.device_count > 1 else ''} ({backend.name}:0{last})")
    with _lock:
        context = backend.contexts[index]
        if context is None:
            if _contexts == MAX_CONTEXTS:
                raise errors.BackendError(
                    f"{backend.name}:{index}: this process has {MAX_CONTEXTS} devices open already")
            context = Context()
            context.backend = backend
            context.index = index
            context.runtime = backend.runtime
            context.host_memory = backend.host_memory
            context.device = device(backend.name, index)
            context.device._context = context
            context.slot = _contexts
            _contexts += 1
            _immortal.append(context)
            backend.contexts[index] = context
    return context


# ---- what is current -----------------------------------------------------------------------------

cdef device _default = None


cdef device default_device():
    """What is current on a thread that has chosen nothing."""
    global _default
    if _default is None:
        text = os.environ.get("INFINICORE_DEVICE", "").strip() or "cpu"
        try:
            _default = device(text)
        except errors.Error as error:
            raise type(error)(f"INFINICORE_DEVICE={text}: {error}") from None
    return _default


cdef Context current_context():
    cdef PyObject *current = thread_state().current
    if current != NULL:
        return <Context>current
    return default_device().context()


cdef int set_current(Context context) except -1:
    context.activate()
    thread_state().current = <PyObject *>context
    return 0


cdef device as_device(object value):
    cdef PyObject *current
    if value is None:
        current = thread_state().current
        return (<Context>current).device if current != NULL else default_device()
    if isinstance(value, device):
        return <device>value
    # `device="cuda:0"` in a hot loop: one device per text, which also remembers its open Context.
    found = _by_text.get(value) if isinstance(value, str) else None
    if found is None:
        found = device(value)
        if isinstance(value, str) and len(_by_text) < 1024:
            _by_text[value] = found
    return <device>found


cdef dict _by_text = {}


def forget_texts():
    """After a discovery: what a device string means may have changed."""
    _by_text.clear()


def forget_thread_after_fork():
    """In a child: no device is active on the one thread that is left, which holds no lock."""
    global _lock
    _lock = allocate_lock()
    memset(thread_state().active, 0, sizeof(thread_state().active))


def current_device():
    """The device that is current on this thread; opens nothing.

    Returns
    -------
    device
        What this thread gave to `set_device`, else ``INFINICORE_DEVICE``, else ``cpu:0``.
    """
    return as_device(None)


def set_device(value):
    """Make a device current on this thread, and open it.

    Parameters
    ----------
    value : device or str

    Raises
    ------
    infinicore.BackendUnavailable
        The backend cannot be used; the message says why.
    infinicore.DeviceNotFound
        The backend has no device of this index.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.set_device("cpu")
    >>> ic.get_device()
    device(type='cpu', index=0)
    """
    set_current(as_device(value).context())


def current_stream_handle():
    """The stream that is current on this thread for its current device; 0 is the default stream."""
    return <size_t>current_stream(current_context())


def synchronize_stream():
    """Wait for everything on this thread's current stream."""
    cdef Context context = current_context()
    cdef infinirtStream_t stream = current_stream(context)
    cdef infiniStatus_t status
    context.activate()
    with nogil:
        status = context.runtime.stream_synchronize(stream)
    check(status, f"{context.device}: stream_synchronize")


# ---- questions about devices ---------------------------------------------------------------------

cpdef int device_count(object value="cpu") except -1:
    """How many devices a backend has.

    Parameters
    ----------
    value : str or device, optional
        A backend.

    Returns
    -------
    int
        0 when the backend is not installed or cannot be used; ``infinicore.backends`` knows why.

    Raises
    ------
    infinicore.UnknownDevice
        The name is that of no backend at all.
    """
    cdef str name = as_device(value).type
    try:
        return resolve_backend(name).device_count
    except errors.BackendUnavailable:
        return 0


def device_info(value=None):
    """What a device says about itself.

    Parameters
    ----------
    value : device or str, optional
        By default the current device.

    Returns
    -------
    dict
        ``name``, ``driver``, ``runtime``, ``architecture`` (str), ``memory_bytes``, ``compute_units`` and
        ``warp_width`` (int).

    Examples
    --------
    >>> import infinicore as ic
    >>> sorted(ic.device_info("cpu"))[:3]
    ['architecture', 'compute_units', 'driver']
    """
    cdef Context context = as_device(value).context()
    cdef infini_device_info info
    cdef infiniStatus_t status
    memset(&info, 0, sizeof(info))
    info.header.struct_size = sizeof(info)
    info.header.abi_major = INFINI_ABI_MAJOR
    info.header.abi_minor = INFINI_ABI_MINOR
    context.activate()
    with nogil:
        status = context.runtime.device_info(context.index, &info)
    check(status, f"{context.device}: device_info")
    return {
        "name": text_of(info.name, sizeof(info.name)),
        "driver": text_of(info.driver, sizeof(info.driver)),
        "runtime": text_of(info.runtime, sizeof(info.runtime)),
        "architecture": text_of(info.architecture, sizeof(info.architecture)),
        "memory_bytes": info.memory_bytes,
        "compute_units": info.compute_units,
        "warp_width": info.warp_width,
    }


cdef str text_of(const char *field, size_t size):
    # A plug-in that fills the whole field leaves no room for the terminating zero.
    return (<bytes>field[:size]).split(b"\0", 1)[0].decode("utf-8", "replace")


def memory_info(value=None):
    """Memory of a device.

    Parameters
    ----------
    value : device or str, optional
        By default the current device.

    Returns
    -------
    free, total : int
        Bytes.

    Examples
    --------
    >>> import infinicore as ic
    >>> free, total = ic.memory_info("cpu")
    >>> 0 < free <= total
    True
    """
    cdef Context context = as_device(value).context()
    cdef uint64_t free_bytes = 0, total_bytes = 0
    cdef infiniStatus_t status
    context.activate()
    with nogil:
        status = context.runtime.memory_info(&free_bytes, &total_bytes)
    check(status, f"{context.device}: memory_info")
    return free_bytes, total_bytes


def synchronize(value=None):
    """Wait for everything on a device.

    Parameters
    ----------
    value : device or str, optional
        By default the current device.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.synchronize("cpu")
    """
    cdef Context context = as_device(value).context()
    cdef infiniStatus_t status
    if context in _captures:
        raise errors.Error(f"synchronize: a graph is being recorded on {context.device}, which cannot be "
                           "waited for as a whole meanwhile; wait for a stream instead")
    context.activate()
    with nogil:
        status = context.runtime.synchronize()
    check(status, f"{context.device}: synchronize")
