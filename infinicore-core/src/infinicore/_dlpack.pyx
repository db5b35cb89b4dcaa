# DLPack, both ways: capsules that lend a tensor's memory to another library, and tensors over memory that
# another library lends. The versioned form (1.x) and the older one; work is ordered between streams.
from cpython.pycapsule cimport (
    PyCapsule_GetName, PyCapsule_GetPointer, PyCapsule_IsValid, PyCapsule_New, PyCapsule_SetName,
)
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from infinicore._backend cimport Backend
from infinicore._device cimport Context, as_device, current_context, current_stream
from infinicore._device cimport device as Device
from infinicore._dtype cimport dtype as DType
from infinicore._dtype cimport dtype_of
from infinicore._status cimport check
from infinicore._storage cimport wrap
from infinicore._tensor cimport MAX_DIMS, Layout, Tensor, contiguous_layout, intern_layout, make_tensor
from infinicore.abi cimport *

from infinicore._backend import backends
from infinicore.errors import ArgumentTypeError, DTypeError, ExchangeError, ShapeError

cdef extern from "Python.h":
    int Py_IsInitialized() nogil

cdef extern from *:
    """
    #include <stdint.h>
    /* The structures of DLPack, as its specification lays them out. */
    typedef struct { int32_t type, index; } dl_device;
    typedef struct { uint8_t code, bits; uint16_t lanes; } dl_dtype;
    typedef struct {
      void *data;
      dl_device device;
      int32_t ndim;
      dl_dtype dtype;
      int64_t *shape, *strides; /* in elements; strides may be NULL: row-major */
      uint64_t byte_offset;
    } dl_tensor;
    typedef struct dl_managed {
      dl_tensor tensor;
      void *owner;
      void (*release)(struct dl_managed *);
    } dl_managed;
    typedef struct dl_versioned {
      uint32_t major, minor;
      void *owner;
      void (*release)(struct dl_versioned *);
      uint64_t flags;
      dl_tensor tensor;
    } dl_versioned;
    """
    ctypedef struct dl_device:
        int32_t type
        int32_t index
    ctypedef struct dl_dtype:
        uint8_t code
        uint8_t bits
        uint16_t lanes
    ctypedef struct dl_tensor:
        void *data
        dl_device device
        int32_t ndim
        dl_dtype dtype
        int64_t *shape
        int64_t *strides
        uint64_t byte_offset
    ctypedef struct dl_managed:
        dl_tensor tensor
        void *owner
        void (*release)(dl_managed *) noexcept nogil
    ctypedef struct dl_versioned:
        uint32_t major
        uint32_t minor
        void *owner
        void (*release)(dl_versioned *) noexcept nogil
        uint64_t flags
        dl_tensor tensor

cdef enum:
    CPU = 1
    CUDA = 2
    CUDA_HOST = 3
    CUDA_MANAGED = 13
    READ_ONLY = 1
    IS_COPIED = 2
    MINOR = 1                             # float8 types came with 1.1

# infiniDtype_t -> (code, bits). A pair of float8 has no name in DLPack.
cdef dict TO_DLPACK = {
    <int>INFINI_DTYPE_BYTE: (1, 8), <int>INFINI_DTYPE_BOOL: (6, 8),
    <int>INFINI_DTYPE_I8: (0, 8), <int>INFINI_DTYPE_I16: (0, 16), <int>INFINI_DTYPE_I32: (0, 32),
    <int>INFINI_DTYPE_I64: (0, 64), <int>INFINI_DTYPE_U8: (1, 8), <int>INFINI_DTYPE_U16: (1, 16),
    <int>INFINI_DTYPE_U32: (1, 32), <int>INFINI_DTYPE_U64: (1, 64), <int>INFINI_DTYPE_F8: (10, 8),
    <int>INFINI_DTYPE_F16: (2, 16), <int>INFINI_DTYPE_F32: (2, 32), <int>INFINI_DTYPE_F64: (2, 64),
    <int>INFINI_DTYPE_C32: (5, 32), <int>INFINI_DTYPE_C64: (5, 64), <int>INFINI_DTYPE_C128: (5, 128),
    <int>INFINI_DTYPE_BF16: (4, 16),
}
cdef dict FROM_DLPACK = {pair: code for code, pair in TO_DLPACK.items() if code != INFINI_DTYPE_BYTE}


# ---- lending -----------------------------------------------------------------------------------------

cdef void forget(void *owner) noexcept with gil:
    Py_DECREF(<object>owner)


cdef void release_managed(dl_managed *managed) noexcept nogil:
    if managed != NULL:
        if Py_IsInitialized():            # a consumer may outlive the interpreter; the memory then stays
            forget(managed.owner)
        free(managed)


cdef void release_versioned(dl_versioned *managed) noexcept nogil:
    if managed != NULL:
        if Py_IsInitialized():
            forget(managed.owner)
        free(managed)


cdef void destroy_capsule(object capsule) noexcept:
    """Nobody took the capsule: release what it holds. A consumed one has another name."""
    cdef dl_managed *managed
    cdef dl_versioned *versioned
    if PyCapsule_IsValid(capsule, "dltensor"):
        managed = <dl_managed *>PyCapsule_GetPointer(capsule, "dltensor")
        if managed.release != NULL:
            managed.release(managed)
    elif PyCapsule_IsValid(capsule, "dltensor_versioned"):
        versioned = <dl_versioned *>PyCapsule_GetPointer(capsule, "dltensor_versioned")
        if versioned.release != NULL:
            versioned.release(versioned)


cdef int describe(dl_tensor *target, Tensor tensor) except -1:
    code = TO_DLPACK.get(tensor.layout.dtype.code)
    if code is None:
        raise ExchangeError(f"__dlpack__: DLPack has no name for {tensor.layout.dtype}")
    target.data = tensor.view.data if tensor.layout.numel else NULL
    target.device.type = tensor.context.backend.dlpack_type
    target.device.index = tensor.context.index
    target.ndim = tensor.layout.ndim
    target.dtype.code = code[0]
    target.dtype.bits = code[1]
    target.dtype.lanes = 1
    target.shape = tensor.layout.shape    # the tensor, and with it the layout, outlives the capsule
    target.strides = tensor.layout.strides
    target.byte_offset = 0
    return 0


cdef int order_after(Context context, Tensor tensor, infinirtStream_t consumer) except -1:
    """Let `consumer` wait for what this thread's stream has queued, and the memory wait for `consumer`."""
    cdef infinirtStream_t producer = current_stream(context)
    cdef infinirtEvent_t event = NULL
    cdef infiniStatus_t status
    if producer == consumer:
        return 0
    context.activate()
    with nogil:
        status = context.runtime.event_create(INFINIRT_EVENT_DISABLE_TIMING, &event)
        if status == INFINI_STATUS_SUCCESS:
            status = context.runtime.event_record(event, producer)
            if status == INFINI_STATUS_SUCCESS:
                status = context.runtime.stream_wait_event(consumer, event)
            context.runtime.event_destroy(event)
    check(status, "__dlpack__")
    return tensor.storage.record_stream(consumer)


def export(Tensor tensor not None, stream, max_version, dl_device, copy):
    """A capsule that lends `tensor`; the arguments are those of ``__dlpack__`` in the array API.

    Parameters
    ----------
    stream : int, optional
        The consumer's stream; the default stream if None, no synchronisation if -1. None on the CPU.
    max_version : tuple of int, optional
        The newest DLPack version that the consumer reads; before 1.0 if None.
    dl_device : tuple of int, optional
        Where the consumer wants it: this device, or the CPU ``(1, 0)``.
    copy : bool, optional
        True: always copy. False: never. None: only if needed.
    """
    cdef Context context = tensor.context
    cdef dl_managed *managed
    cdef dl_versioned *versioned
    cdef bint copied = False
    here = (context.backend.dlpack_type, context.index)
    if dl_device is not None and tuple([int(part) for part in dl_device]) != here:
        kind = int(dl_device[0])
        if kind != CPU:
            raise ExchangeError(f"__dlpack__: dl_device {tuple(dl_device)} asked for a tensor on "
                                f"{context.device} {here}; "
                                "only that or the CPU (1, 0) is possible")
        if copy is not None and not copy:
            raise ExchangeError(f"__dlpack__: copy=False, but the tensor is on {context.device}, not on the "
                                "CPU")
        tensor = tensor.to(device="cpu")
        context = tensor.context
        copied = True
        stream = None
    elif copy:
        tensor = tensor.clone()
        copied = True
    if context.backend.dlpack_type == CPU:
        if stream is not None and stream != -1:
            raise ExchangeError(f"__dlpack__: stream {stream!r} given for a tensor on {context.device}, "
                                "which has none")
        with_stream(tensor, context)
    elif stream is None or stream != -1:
        handle = 0 if stream is None else int(stream)
        # CUDA's API numbers the default stream 1 for consumers; everything else is an address.
        order_after(context, tensor, <infinirtStream_t><uintptr_t>(
            0 if handle == 1 and context.backend.dlpack_type == CUDA else handle))
    if max_version is not None and max_version[0] >= 1:
        versioned = <dl_versioned *>malloc(sizeof(dl_versioned))
        if versioned == NULL:
            raise MemoryError()
        try:
            describe(&versioned.tensor, tensor)
        except BaseException:
            free(versioned)
            raise
        versioned.major = 1
        versioned.minor = MINOR
        versioned.flags = IS_COPIED if copied else 0
        versioned.release = release_versioned
        versioned.owner = <void *>tensor
        Py_INCREF(tensor)
        return PyCapsule_New(versioned, "dltensor_versioned", <void (*)(object) noexcept>destroy_capsule)
    managed = <dl_managed *>malloc(sizeof(dl_managed))
    if managed == NULL:
        raise MemoryError()
    try:
        describe(&managed.tensor, tensor)
    except BaseException:
        free(managed)
        raise
    managed.release = release_managed
    managed.owner = <void *>tensor
    Py_INCREF(tensor)
    return PyCapsule_New(managed, "dltensor", <void (*)(object) noexcept>destroy_capsule)


cdef int with_stream(Tensor tensor, Context context) except -1:
    """The host has no streams to order by: wait for what is queued."""
    cdef infinirtStream_t stream = current_stream(context)
    cdef infiniStatus_t status
    context.activate()
    with nogil:
        status = context.runtime.stream_synchronize(stream)
    return check(status, "__dlpack__")


# ---- borrowing ---------------------------------------------------------------------------------------

cdef class Loan:
    """Keeps a lent tensor until nobody uses it any more."""
    cdef dl_managed *managed
    cdef dl_versioned *versioned

    def __dealloc__(self):
        if self.managed != NULL and self.managed.release != NULL:
            self.managed.release(self.managed)
        if self.versioned != NULL and self.versioned.release != NULL:
            self.versioned.release(self.versioned)


cdef Context context_of(int32_t kind, int32_t index, object wanted):
    """The device that DLPack calls (kind, index)."""
    cdef Context current
    if kind in (CPU, CUDA_HOST):
        return as_device("cpu").context()
    if wanted is not None:
        name = as_device(wanted).type
    else:
        current = current_context()
        names = [entry.name for entry in backends.values()
                 if (<Backend>entry).ready and entry.dlpack_type == kind]
        if current.backend.name in names:
            name = current.backend.name
        elif len(names) == 1:
            name = names[0]
        elif not names and kind in (CUDA, CUDA_MANAGED):
            name = "cuda"                 # opens it, or says why it cannot
        else:
            raise ExchangeError(f"from_dlpack: memory of DLPack device ({kind}, {index}): "
                                + (f"{', '.join(names)} all have it; say device=" if names
                                   else "no backend that is ready has it"))
    return (<Device>as_device(f"{name}:{index}")).context()


def from_dlpack(x, *, device=None, copy=None):
    """A tensor over the memory of another library's array.

    Parameters
    ----------
    x : object
        Anything with ``__dlpack__`` and ``__dlpack_device__``, or a DLPack capsule.
    device : device or str, optional
        Where the result is to be; where `x` is if omitted.
    copy : bool, optional
        True: always copy. False: never, an error if that is impossible. None: only where needed, which is
        read-only memory and another device.

    Returns
    -------
    Tensor
        Shares memory with `x` unless it was copied, and keeps it alive.

    Raises
    ------
    ExchangeError
        A BufferError: the memory cannot be shared.

    Examples
    --------
    >>> import infinicore as ic
    >>> import numpy as np
    >>> array = np.zeros(2, np.float32)
    >>> tensor = ic.from_dlpack(array)
    >>> array[0] = 5
    >>> tensor.tolist()
    [5.0, 0.0]
    """
    cdef Context context = None
    cdef Tensor tensor
    cdef uintptr_t stream
    if device is not None:
        device = as_device(device)
    if hasattr(x, "__dlpack__") and hasattr(x, "__dlpack_device__"):
        kind, index = x.__dlpack_device__()
        arguments = {}
        if int(kind) not in (CPU, CUDA_HOST):
            if isinstance(x, Tensor):     # of two backends with one DLPack number, we know which it is
                context = (<Tensor>x).context
            else:
                context = context_of(int(kind), int(index), device if device is not None
                                     and device.type != "cpu" else None)
            stream = <uintptr_t>current_stream(context)
            arguments["stream"] = (stream or 1) if int(kind) == CUDA else (stream or None)
        try:
            capsule = x.__dlpack__(max_version=(1, MINOR), **arguments)
        except TypeError:                 # a producer from before version 1
            capsule = x.__dlpack__(**arguments)
    elif type(x).__name__ == "PyCapsule":
        capsule = x
    else:
        raise ArgumentTypeError(f"from_dlpack: x: {type(x).__name__} has no __dlpack__ and is no DLPack "
                                "capsule")
    tensor, read_only = borrow(capsule, context, device)
    if copy is not None and not copy:
        if read_only:
            raise ExchangeError("from_dlpack: copy=False, but the memory is read-only and tensors are "
                                "writable")
        if device is not None and device != tensor.device:
            raise ExchangeError(f"from_dlpack: copy=False, but x is on {tensor.device} and device is "
                                f"{device}")
    if device is not None and device != tensor.device:
        return tensor.to(device=device)
    return tensor.clone() if copy or read_only else tensor


cdef object borrow(object capsule, Context context, object wanted):
    """(tensor, read-only) from a capsule, which is used up."""
    cdef Loan loan = Loan.__new__(Loan)
    cdef dl_versioned *versioned
    cdef dl_tensor *source
    cdef Layout layout
    cdef DType dtype
    cdef int64_t[MAX_DIMS] strides
    cdef uint64_t flags = 0
    cdef char *data
    cdef int i
    if PyCapsule_IsValid(capsule, "dltensor_versioned"):
        versioned = <dl_versioned *>PyCapsule_GetPointer(capsule, "dltensor_versioned")
        if versioned.major != 1:
            raise ExchangeError(f"from_dlpack: the capsule is of DLPack {versioned.major}.{versioned.minor}; "
                                "this infinicore reads 1.x")
        source = &versioned.tensor
        flags = versioned.flags
        PyCapsule_SetName(capsule, "used_dltensor_versioned")
        loan.versioned = versioned
    elif PyCapsule_IsValid(capsule, "dltensor"):
        loan.managed = <dl_managed *>PyCapsule_GetPointer(capsule, "dltensor")
        source = &loan.managed.tensor
        PyCapsule_SetName(capsule, "used_dltensor")
    else:
        name = PyCapsule_GetName(capsule)
        raise ExchangeError(f"from_dlpack: a capsule named {name.decode() if name != NULL else None!r} "
                            "holds no tensor; one can be used only once")
    code = FROM_DLPACK.get((source.dtype.code, source.dtype.bits)) if source.dtype.lanes == 1 else None
    if code is None:
        raise DTypeError(f"from_dlpack: DLPack type (code {source.dtype.code}, {source.dtype.bits} bits, "
                         f"{source.dtype.lanes} lanes) has no counterpart")
    if not 0 <= source.ndim <= MAX_DIMS:
        raise ShapeError(f"from_dlpack: {source.ndim} dimensions, at most {MAX_DIMS} are possible")
    dtype = dtype_of(code)
    if source.strides == NULL:
        layout = contiguous_layout(dtype, source.ndim, source.shape)
    else:
        for i in range(source.ndim):
            strides[i] = source.strides[i]
        layout = intern_layout(dtype, source.ndim, source.shape, strides)
    if context is None:
        context = context_of(source.device.type, source.device.index,
                             wanted if wanted is not None and wanted.type != "cpu" else None)
    data = <char *>source.data + source.byte_offset
    tensor = make_tensor(wrap(context, data + layout.low, layout.high - layout.low, loan), layout, data)
    return tensor, flags & READ_ONLY
