# Tensor and Layout: strided views, indexing, copies between layouts, dtypes and devices, and the Python
# operators. Everything that moves no data is here and in C; interop, printing and creation build on it.
cimport cython
from cpython.bool cimport PyBool_Check
from cpython.buffer cimport (
    PyBUF_ANY_CONTIGUOUS, PyBUF_C_CONTIGUOUS, PyBUF_F_CONTIGUOUS, PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES,
)
from cpython.float cimport PyFloat_CheckExact
from cpython.list cimport PyList_Append, PyList_Check, PyList_GET_SIZE
from cpython.long cimport PyLong_CheckExact
from cpython.object cimport PyObject, Py_EQ, Py_NE
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.slice cimport PySlice_Check
from cpython.type cimport PyType_Modified
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport int64_t, uintptr_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset
from infinicore._device cimport Context, as_device, current_stream, thread_state
from infinicore._device cimport device as Device
from infinicore._dtype cimport as_dtype, decode, encode, scalar
from infinicore._dtype cimport dtype as DType
from infinicore._graph cimport refuse_host_read, stream_for_now
from infinicore._status cimport check
from infinicore._storage cimport (
    Allocator, Storage, allocate, allocate_pinned, infini_lock, infini_mutex, infini_unlock, wrap,
)
from infinicore.abi cimport *

from infinicore.errors import (
    ArgumentTypeError, DTypeError, ExchangeError, InvalidArgument, OperatorNotSupported, OutOfMemory,
    OutOfRange, ShapeError, StrideError,
)


cdef extern from "Python.h":
    ctypedef struct PyTypeObject:
        PyObject *tp_dict
    int PySlice_Unpack(object slice, Py_ssize_t *start, Py_ssize_t *stop, Py_ssize_t *step) except -1
    Py_ssize_t PySlice_AdjustIndices(Py_ssize_t length, Py_ssize_t *start, Py_ssize_t *stop, Py_ssize_t step)
    Py_ssize_t Py_REFCNT(PyObject *object)
    int PyIndex_Check(object value)

cdef extern from *:
    """
    /* Did it overflow? */
    #define infini_mul(a, b, out) __builtin_mul_overflow((int64_t)(a), (int64_t)(b), out)
    #define infini_add(a, b, out) __builtin_add_overflow((int64_t)(a), (int64_t)(b), out)
    """
    bint infini_mul(int64_t a, int64_t b, int64_t *out) noexcept nogil
    bint infini_add(int64_t a, int64_t b, int64_t *out) noexcept nogil


# ---- layouts -----------------------------------------------------------------------------------------

# The table of layouts: open addressing, strong references. Once it holds `_limit` layouts those that
# nobody else refers to are dropped, so identity holds for as long as anybody can observe it.
cdef PyObject **_table = NULL
cdef uint64_t _mask = 0
cdef uint64_t _count = 0
cdef uint64_t _limit = 1 << 16
cdef infini_mutex _table_mutex


@cython.final
@cython.no_gc
cdef class Layout:
    """Dtype, shape and strides of a tensor: one object for equal ones."""

    def __init__(self):
        raise ArgumentTypeError("Layout: made by tensors only")

    def __dealloc__(self):
        free(self.shape)

    def __repr__(self):
        return (f"Layout({self.dtype.name}, shape={ints(self.shape, self.ndim)}, "
                f"strides={ints(self.strides, self.ndim)})")

    def __reduce__(self):
        return _layout, (self.dtype.name, ints(self.shape, self.ndim), ints(self.strides, self.ndim))


def _layout(name, shape, strides):
    """Rebuild a pickled layout."""
    cdef int64_t[MAX_DIMS] sizes, steps
    cdef int ndim = parse_ints(shape, sizes, "Layout: shape")
    parse_ints(strides, steps, "Layout: strides")
    return intern_layout(as_dtype(name), ndim, sizes, steps)


cdef list ints(const int64_t *values, int count):
    cdef int i
    return [values[i] for i in range(count)]


cdef uint64_t mix(DType dtype, int ndim, const int64_t *shape, const int64_t *strides) noexcept nogil:
    cdef uint64_t h = <uint64_t>dtype.code * 64 + <uint64_t>ndim
    cdef int i
    for i in range(ndim):
        h = (h ^ <uint64_t>shape[i]) * <uint64_t>0x9E3779B97F4A7C15
        h = (h ^ (h >> 29) ^ <uint64_t>strides[i]) * <uint64_t>0xBF58476D1CE4E5B9
    return h ^ (h >> 32)


cdef int grow_table() except -1:
    """Twice the room; first drop what only the table refers to, once there is much of it."""
    global _table, _mask, _count, _limit
    cdef PyObject **old = _table
    cdef uint64_t size = _mask + 1 if old != NULL else 0
    cdef uint64_t room = max(size * 2, 1024)
    cdef PyObject **new = <PyObject **>calloc(room, sizeof(PyObject *))
    cdef uint64_t i, place, kept = 0
    cdef bint sweep = _count >= _limit
    if new == NULL:
        raise OutOfMemory("layout table: no host memory")
    for i in range(size):
        if old[i] == NULL:
            continue
        if sweep and Py_REFCNT(old[i]) == 1:
            Py_DECREF(<object>old[i])
            continue
        place = (<Layout>old[i]).hash & (room - 1)
        while new[place] != NULL:
            place = (place + 1) & (room - 1)
        new[place] = old[i]
        kept += 1
    free(old)
    _table = new
    _mask = room - 1
    _count = kept
    if sweep and kept > _limit // 2:
        _limit = 2 * kept
    return 0


cdef Layout intern_layout(DType dtype, int ndim, const int64_t *shape, const int64_t *strides):
    cdef uint64_t h = mix(dtype, ndim, shape, strides)
    cdef uint64_t place
    cdef size_t bytes = ndim * sizeof(int64_t)
    cdef Layout layout
    cdef PyObject *entry
    infini_lock(&_table_mutex)
    try:
        if _table != NULL:
            place = h & _mask
            while True:
                entry = _table[place]
                if entry == NULL:
                    break
                layout = <Layout>entry
                if (layout.hash == h and layout.ndim == ndim and layout.dtype is dtype
                        and memcmp(layout.shape, shape, bytes) == 0
                        and memcmp(layout.strides, strides, bytes) == 0):
                    return layout
                place = (place + 1) & _mask
        layout = new_layout(dtype, ndim, shape, strides)
        layout.hash = h
        enter(layout)
        return layout
    finally:
        infini_unlock(&_table_mutex)


cdef int enter(Layout layout) except -1:
    global _count
    cdef uint64_t place
    if _table == NULL or 2 * (_count + 1) > _mask:
        grow_table()
    place = layout.hash & _mask
    while _table[place] != NULL:
        place = (place + 1) & _mask
    Py_INCREF(layout)
    _table[place] = <PyObject *>layout
    _count += 1
    return 0


cdef Layout new_layout(DType dtype, int ndim, const int64_t *shape, const int64_t *strides):
    cdef Layout layout = Layout.__new__(Layout)
    cdef int64_t numel = 1, low = 0, high = 1, expected = 1, extent
    cdef bint contiguous = True, overflow = False
    cdef int i
    for i in range(ndim):
        if shape[i] < 0:
            raise ShapeError(f"shape: size {shape[i]} of dimension {i} is negative in {ints(shape, ndim)}")
        if shape[i] == 0:
            numel = 0
    if numel != 0:
        high = 0
        for i in range(ndim - 1, -1, -1):
            overflow = overflow or infini_mul(numel, shape[i], &numel)
            if shape[i] != 1:
                contiguous = contiguous and strides[i] == expected
                overflow = overflow or infini_mul(shape[i] - 1, strides[i], &extent)
                if not overflow:
                    overflow = (infini_add(high, extent, &high) if extent > 0
                                else infini_add(low, extent, &low))
            expected = numel
        overflow = (overflow or infini_mul(numel, dtype.itemsize, &extent)
                    or infini_mul(low, dtype.itemsize, &low)
                    or infini_add(high, 1, &high) or infini_mul(high, dtype.itemsize, &high)
                    or infini_add(high, -low, &extent))
        if overflow:
            raise ShapeError(f"shape: {ints(shape, ndim)} of {dtype} with strides {ints(strides, ndim)} "
                             "spans more than 2**63 bytes")
    else:
        high = 0
    layout.shape = <int64_t *>malloc(max(2 * ndim, 1) * sizeof(int64_t))
    if layout.shape == NULL:
        raise OutOfMemory("layout: no host memory")
    layout.strides = layout.shape + ndim
    memcpy(layout.shape, shape, ndim * sizeof(int64_t))
    memcpy(layout.strides, strides, ndim * sizeof(int64_t))
    layout.dtype = dtype
    layout.ndim = ndim
    layout.numel = numel
    layout.contiguous = contiguous
    layout.low = low
    layout.high = high
    return layout


cdef Layout contiguous_layout(DType dtype, int ndim, const int64_t *shape):
    cdef int64_t[MAX_DIMS] strides
    if ndim > MAX_DIMS:
        raise ShapeError(f"shape: {ndim} dimensions, at most {MAX_DIMS} are possible")
    row_major(ndim, shape, strides)
    return intern_layout(dtype, ndim, shape, strides)


cdef inline Layout sized(DType dtype, int ndim, const int64_t *shape, const int64_t *strides, str where):
    """A layout from a caller's sizes: errors name the function that was called."""
    try:
        return intern_layout(dtype, ndim, shape, strides)
    except ShapeError as error:
        raise ShapeError(f"{where}: {error}") from None


cdef inline void row_major(int ndim, const int64_t *shape, int64_t *strides) noexcept nogil:
    """Strides of a contiguous tensor; where a size is 0 they count it as 1, as PyTorch does."""
    cdef uint64_t step = 1               # unsigned: an overflow wraps here and is reported by new_layout
    cdef int i
    for i in range(ndim - 1, -1, -1):
        strides[i] = <int64_t>step
        if shape[i] > 1:
            step *= <uint64_t>shape[i]


# ---- arguments ---------------------------------------------------------------------------------------

cdef object exact_int(object value, str what, str wanted):
    """A Python int of anything that is an integer; NumPy's arrays only seem to be."""
    try:
        if PyIndex_Check(value):
            return value.__index__()
    except TypeError:
        pass
    raise ArgumentTypeError(f"{what}: expected {wanted}, got {type(value).__name__} {value!r}")


cdef inline int64_t as_int(object value, str what) except? -1:
    if not PyLong_CheckExact(value):
        value = exact_int(value, what, "an integer")
    try:
        return value
    except OverflowError:
        raise InvalidArgument(f"{what}: {value} does not fit into 64 bits") from None


cdef int parse_ints(object value, int64_t *out, str what) except -1:
    cdef Py_ssize_t i, count
    if PyTuple_CheckExact(value):
        count = PyTuple_GET_SIZE(value)
        if count <= MAX_DIMS:
            for i in range(count):
                out[i] = as_int(<object>PyTuple_GET_ITEM(value, i), what)
    elif PyList_Check(value):
        count = PyList_GET_SIZE(value)
        if count <= MAX_DIMS:
            for i in range(count):
                out[i] = as_int(value[i], what)
    elif PyIndex_Check(value) and not hasattr(value, "__len__"):
        out[0] = as_int(value, what)
        return 1
    else:
        try:
            items = tuple(value)
        except TypeError:
            kind = type(value).__name__
            raise ArgumentTypeError(f"{what}: expected integers, got {kind} {value!r}") from None
        return parse_ints(items, out, what)
    if count > MAX_DIMS:
        raise ShapeError(f"{what}: {count} dimensions, at most {MAX_DIMS} are possible")
    return <int>count


cdef inline int parse_dim(object value, int ndim, str what) except -1:
    """A dimension, negative ones counted from the end."""
    cdef int64_t dim = as_int(value, what)
    if not -ndim <= dim < ndim:
        raise OutOfRange(f"{what}: {dim} is out of range for {ndim} dimensions")
    return <int>(dim + ndim if dim < 0 else dim)


cdef object one_argument(tuple values):
    """``f(2, 3)`` and ``f([2, 3])`` mean the same."""
    return values[0] if len(values) == 1 else values


cdef inline DType required_dtype(object value, str where):
    if isinstance(value, DType):
        return <DType>value
    if value is None:
        raise ArgumentTypeError(f"{where}: dtype is required, for example dtype=infinicore.float32")
    return as_dtype(value)


cdef inline Context required_context(object value, str where):
    if value is None:
        raise ArgumentTypeError(f"{where}: device is required, for example device=infinicore.device('cpu')")
    cdef Device device = <Device>value if isinstance(value, Device) else as_device(value)
    return device._context if device._context is not None else device.context()


cdef Context _cpu = None


cdef Context cpu_context():
    global _cpu
    if _cpu is None:
        _cpu = as_device("cpu").context()
    return _cpu


cdef dict _operators = {}


cdef object operator(str name):
    """The operator `name` or None; looked up at first use, because operators need tensors."""
    found = _operators.get(name)
    if found is None:
        try:
            from infinicore import ops
        except ImportError:
            return None
        found = getattr(ops, name, None)
        if found is not None:
            _operators[name] = found
    return found


cdef object required_operator(str name):
    found = operator(name)
    if found is None:
        raise OperatorNotSupported(f"{name}: infinicore has no such operator")
    return found


# ---- tensors -----------------------------------------------------------------------------------------

cdef class Shape(list):
    """A list of sizes or strides that also equals the tuple of the same numbers."""

    def __richcmp__(self, other, int operation):
        if isinstance(other, tuple):
            other = list(other)
        if operation == Py_EQ:
            return list.__eq__(self, other)
        if operation == Py_NE:
            return list.__ne__(self, other)
        return NotImplemented

    __hash__ = None

    def numel(self):
        """The product of the sizes."""
        product = 1
        for size in self:
            product *= size
        return product

    def __reduce__(self):
        return Shape, (list(self),)


cdef object to_shape(const int64_t *values, int count):
    cdef int i
    cdef Shape shape = Shape.__new__(Shape)
    for i in range(count):
        PyList_Append(shape, values[i])
    return shape


cdef Tensor make_tensor(Storage storage, Layout layout, void *data):
    cdef Tensor tensor = Tensor.__new__(Tensor)
    attach(tensor, storage, layout, data)
    return tensor


cdef inline void attach(Tensor tensor, Storage storage, Layout layout, void *data) noexcept:
    tensor.storage = storage
    tensor.layout = layout
    tensor.context = storage.context
    tensor.view.data = data
    tensor.view.shape = layout.shape
    tensor.view.strides = layout.strides
    tensor.view.ndim = layout.ndim
    tensor.view.dtype = layout.dtype.code


cdef Tensor empty_tensor(Context context, Layout layout):
    cdef Storage storage = allocate(context, layout.high - layout.low)
    return make_tensor(storage, layout, <char *>storage.data - layout.low)


cdef Tensor view_of(Tensor tensor, int ndim, const int64_t *shape, const int64_t *strides, int64_t offset):
    cdef Layout layout = intern_layout(tensor.layout.dtype, ndim, shape, strides)
    if layout.numel == 0:
        offset = 0
    return make_tensor(tensor.storage, layout, <char *>tensor.view.data + offset * layout.dtype.itemsize)


cdef Tensor broadcast_view(Tensor tensor, int ndim, const int64_t *shape):
    cdef int64_t[MAX_DIMS] strides
    cdef int i, missing = ndim - tensor.layout.ndim
    if missing < 0:
        return None
    for i in range(ndim):
        if i < missing:
            strides[i] = 0
        elif tensor.layout.shape[i - missing] == shape[i]:
            strides[i] = tensor.layout.strides[i - missing]
        elif tensor.layout.shape[i - missing] == 1:
            strides[i] = 0
        else:
            return None
    return view_of(tensor, ndim, shape, strides, 0)


cdef inline bint same_shape(Layout a, Layout b) noexcept:
    return a.ndim == b.ndim and memcmp(a.shape, b.shape, a.ndim * sizeof(int64_t)) == 0


cdef int inside(Storage storage, Layout layout, void *data, str where) except -1:
    """Check that every element lies within the storage."""
    cdef int64_t start = <char *>data - <char *>storage.data
    cdef int64_t end
    if layout.numel == 0:
        return 0
    if (start + layout.low < 0 or infini_add(start, layout.high, &end) or end > <int64_t>storage.bytes):
        raise InvalidArgument(
            f"{where}: size {ints(layout.shape, layout.ndim)} with strides "
            f"{ints(layout.strides, layout.ndim)} reaches "
            f"bytes {start + layout.low} to {start + layout.high} of a storage of {storage.bytes} bytes")
    return 0


# ---- copies ------------------------------------------------------------------------------------------

cdef void host_copy(char *target, const int64_t *target_strides,
                    const char *source, const int64_t *source_strides,
                    const int64_t *shape, int ndim, int64_t itemsize) noexcept nogil:
    """Copy between two strided views in host memory; strides in elements."""
    cdef int64_t i, count, to_step, from_step
    if ndim == 0:
        memcpy(target, source, itemsize)
        return
    count = shape[0]
    to_step = target_strides[0] * itemsize
    from_step = source_strides[0] * itemsize
    if ndim > 1:
        for i in range(count):
            host_copy(target + i * to_step, target_strides + 1, source + i * from_step, source_strides + 1,
                      shape + 1, ndim - 1, itemsize)
    elif to_step == itemsize and from_step == itemsize:
        memcpy(target, source, count * itemsize)
    elif itemsize == 4:                   # constant sizes let the compiler inline the copy
        for i in range(count):
            memcpy(target + i * to_step, source + i * from_step, 4)
    elif itemsize == 2:
        for i in range(count):
            memcpy(target + i * to_step, source + i * from_step, 2)
    elif itemsize == 8:
        for i in range(count):
            memcpy(target + i * to_step, source + i * from_step, 8)
    else:
        for i in range(count):
            memcpy(target + i * to_step, source + i * from_step, itemsize)


cdef int host_move(Tensor target, Tensor source) except -1:
    """host_copy between tensors of one shape and dtype; the same storage may lie under both."""
    cdef Layout a = target.layout
    cdef Layout b = source.layout
    cdef Tensor temporary
    if overlap(target, source):
        temporary = empty_tensor(source.context, contiguous_layout(b.dtype, b.ndim, b.shape))
        host_move(temporary, source)
        source = temporary
        b = source.layout
    with nogil:
        host_copy(<char *>target.view.data, a.strides, <char *>source.view.data, b.strides, a.shape, a.ndim,
                  a.dtype.itemsize)
    return 0


cdef inline bint overlap(Tensor a, Tensor b) noexcept:
    return (<char *>a.view.data + a.layout.low < <char *>b.view.data + b.layout.high
            and <char *>b.view.data + b.layout.low < <char *>a.view.data + a.layout.high)


cdef int wait_for(Context context) except -1:
    """Wait for the work that this thread's stream has queued on `context`."""
    cdef infinirtStream_t stream = current_stream(context)
    cdef infiniStatus_t status
    if thread_state().recorder != NULL:
        refuse_host_read(context, "reading or writing values on the host")
    context.activate()
    with nogil:
        status = context.runtime.stream_synchronize(stream)
    return check(status, "stream_synchronize")


cdef int transfer(Context context, void *target, const void *source, uint64_t bytes,
                  infinirtMemcpyKind_t kind, bint wait) except -1:
    """Copy bytes in the order of this thread's stream on `context`."""
    cdef infinirtStream_t stream = current_stream(context)
    cdef infiniStatus_t status
    if wait and thread_state().recorder != NULL:
        if kind == INFINIRT_MEMCPY_D2H:
            refuse_host_read(context, "reading values on the host")
        stream = stream_for_now(context)  # constants of a recording: they are copied once, now
    context.activate()
    with nogil:
        status = context.runtime.memcpy_async(target, source, bytes, kind, stream)
        if wait and status == INFINI_STATUS_SUCCESS:
            status = context.runtime.stream_synchronize(stream)
    return check(status, "memcpy")


cdef int copy_on_device(Tensor target, Tensor source) except -1:
    """Same device, dtype and shape."""
    cdef Context context = target.context
    cdef Layout layout = target.layout
    cdef bint recording = thread_state().recorder != NULL
    if target.view.data == source.view.data and layout is source.layout:
        return 0
    if not recording:
        if layout.contiguous and source.layout.contiguous and not overlap(target, source):
            return transfer(context, target.view.data, source.view.data, layout.numel * layout.dtype.itemsize,
                            INFINIRT_MEMCPY_H2H if context.host_memory else INFINIRT_MEMCPY_D2D, False)
        if context.host_memory and (layout.numel * layout.dtype.itemsize <= SMALL
                                    or operator("rearrange") is None):
            wait_for(context)
            return host_move(target, source)
    required_operator("rearrange")(source, out=target)
    return 0


cdef enum:
    SMALL = 4096                          # bytes below which a plain loop beats a call of an operator
    CHUNK = 16 << 20                      # bytes of pinned memory between two devices


cdef int copy_across(Tensor target, Tensor source, bint non_blocking) except -1:
    """Different devices, same dtype and shape."""
    cdef Layout layout = source.layout
    cdef Tensor staged
    cdef uint64_t bytes = layout.numel * layout.dtype.itemsize
    if not target.context.host_memory and not target.layout.contiguous:
        staged = empty_tensor(target.context, contiguous_layout(layout.dtype, layout.ndim, layout.shape))
        copy_across(staged, source, False)
        return copy_on_device(target, staged)
    if source.context.host_memory:
        wait_for(source.context)
        if target.context.host_memory:
            wait_for(target.context)
            return host_move(target, source)
        if not layout.contiguous:
            staged = empty_tensor(source.context, contiguous_layout(layout.dtype, layout.ndim, layout.shape))
            copy_on_device(staged, source)
            wait_for(source.context)
            source = staged
        # Only memory pinned for this device outlives an asynchronous copy: its allocator waits before reuse.
        non_blocking = (non_blocking and source.storage.pinned
                        and (<Allocator>source.storage.allocator).context is target.context)
        transfer(target.context, target.view.data, source.view.data, bytes, INFINIRT_MEMCPY_H2D,
                 not non_blocking)
        if non_blocking:
            source.storage.record_stream(current_stream(target.context))
        return 0
    if target.context.host_memory:
        wait_for(target.context)
        if layout.contiguous and target.layout.contiguous:
            return transfer(source.context, target.view.data, source.view.data, bytes,
                            INFINIRT_MEMCPY_D2H, True)
        return host_move(target, on_host(source))
    return copy_between(target, source if layout.contiguous else source.contiguous(), bytes)


cdef int copy_between(Tensor target, Tensor source, uint64_t bytes) except -1:
    """Between two devices, both contiguous: directly where they reach each other, else through the host."""
    cdef const infini_runtime *runtime = source.context.runtime
    cdef int32_t reachable = 0
    cdef uint64_t done = 0, step
    cdef Storage buffer
    if source.context.backend is target.context.backend and runtime.can_access_peer != NULL:
        with nogil:
            runtime.can_access_peer(source.context.index, target.context.index, &reachable)
    if reachable:
        wait_for(target.context)          # the target's stream may still use what we overwrite
        return transfer(source.context, target.view.data, source.view.data, bytes, INFINIRT_MEMCPY_D2D, True)
    buffer = allocate_pinned(source.context, cpu_context(), min(bytes, <uint64_t>CHUNK))
    while done < bytes:
        step = min(bytes - done, <uint64_t>CHUNK)
        transfer(source.context, buffer.data, <char *>source.view.data + done, step,
                 INFINIRT_MEMCPY_D2H, True)
        transfer(target.context, <char *>target.view.data + done, buffer.data, step,
                 INFINIRT_MEMCPY_H2D, True)
        done += step
    return 0


cdef int copy_into(Tensor target, Tensor source, bint non_blocking) except -1:
    if not same_shape(target.layout, source.layout):
        raise ShapeError(f"copy_: src has shape {source.shape}, the tensor it is copied into has "
                         f"{target.shape}")
    if target.layout.numel == 0:
        return 0
    if target.layout.dtype is not source.layout.dtype:
        if target.context is source.context:
            required_operator("cast")(source, out=target)
            return 0
        source = converted(source, target.layout.dtype)
    if target.context is source.context:
        return copy_on_device(target, source)
    return copy_across(target, source, non_blocking)


cdef Tensor converted(Tensor source, DType dtype):
    """A contiguous copy with another dtype on the same device."""
    cdef Layout layout = source.layout
    cdef Tensor result = empty_tensor(source.context, contiguous_layout(dtype, layout.ndim, layout.shape))
    if layout.numel != 0:
        required_operator("cast")(source, out=result)
    return result


cdef Tensor on_host(Tensor tensor):
    cdef Layout layout = tensor.layout
    cdef Tensor result
    if tensor.context.host_memory:
        wait_for(tensor.context)
        return tensor
    if not layout.contiguous and layout.numel != 0:
        # A view that is small or has few gaps travels as it lies; any other is packed on the device first.
        if layout.high - layout.low <= max(2 * layout.numel * layout.dtype.itemsize, 16 * SMALL):
            result = empty_tensor(cpu_context(), layout)
            transfer(tensor.context, result.storage.data, <char *>tensor.view.data + layout.low,
                     layout.high - layout.low, INFINIRT_MEMCPY_D2H, True)
            return result
        tensor = tensor.contiguous()
        layout = tensor.layout
    result = empty_tensor(cpu_context(), layout)
    if layout.numel != 0:
        transfer(tensor.context, result.view.data, tensor.view.data, layout.numel * layout.dtype.itemsize,
                 INFINIRT_MEMCPY_D2H, True)
    return result


# ---- numbers as operands -----------------------------------------------------------------------------

cdef dict _scalars = {}                   # (context slot, dtype, bytes) -> 0-d tensor, never written again
cdef enum:
    MAX_SCALARS = 1024


cdef Tensor scalar_like(Tensor operand, object value, str name):
    cdef char[16] element
    cdef DType dtype = operand.layout.dtype
    number = scalar(value)
    if isinstance(number, complex) and dtype.kind != "c":
        raise DTypeError(f"{name}: other: the complex number {number!r} and a tensor of {dtype}: there is no "
                         "implicit promotion; convert the tensor with .to(infinicore.complex64)")
    if isinstance(number, float) and dtype.kind not in "fc":
        raise DTypeError(f"{name}: other: the float {number!r} and a tensor of {dtype}: there is no implicit "
                         "promotion; convert the tensor with .to(infinicore.float32)")
    encode(dtype, number, element, f"{name}: other")
    key = (operand.context.slot, dtype.code, element[:dtype.itemsize])
    found = _scalars.get(key)
    if found is None:
        found = element_tensor(operand.context, dtype, element)
        if len(_scalars) < MAX_SCALARS:
            _scalars[key] = found
    return found


cdef Tensor element_tensor(Context context, DType dtype, const void *element):
    """A 0-d tensor with the bytes of one element."""
    cdef int64_t[1] none
    cdef Tensor result = empty_tensor(context, contiguous_layout(dtype, 0, none))
    if context.host_memory:
        memcpy(result.view.data, element, dtype.itemsize)
    else:
        transfer(context, result.view.data, element, dtype.itemsize, INFINIRT_MEMCPY_H2D, True)
    return result


cdef bint is_number(object operand, str name) except -1:
    """Whether an operand is a number. Another library's array is an error: left alone it would convert us."""
    if scalar(operand) is not None:
        return True
    if hasattr(type(operand), "__array__"):
        kind = f"{type(operand).__module__}.{type(operand).__name__}"
        raise ArgumentTypeError(f"{name}: other: expected an infinicore.Tensor or a number, got {kind}; "
                                "infinicore.from_numpy and from_torch convert it")
    return False


cdef inline object binary(object left, object right, str name):
    """An operator between a tensor and a tensor or number, in either order."""
    if not isinstance(left, Tensor):
        if not is_number(left, name):
            return NotImplemented
        left = scalar_like(<Tensor>right, left, name)
    elif not isinstance(right, Tensor):
        if not is_number(right, name):
            return NotImplemented
        right = scalar_like(<Tensor>left, right, name)
    return required_operator(name)(left, right)


cdef inline object in_place(Tensor left, object right, str name):
    if not isinstance(right, Tensor):
        if not is_number(right, name):
            return NotImplemented
        right = scalar_like(left, right, name)
    required_operator(name)(left, right, out=left)
    return left


cdef Layout _nothing = contiguous_layout(as_dtype("float32"), 1, [0])
cdef Storage _nowhere = Storage.__new__(Storage)


@cython.no_gc
@cython.freelist(64)
cdef class Tensor:
    """A strided n-dimensional array on one device.

    ``Tensor(other)`` is a second handle on the same memory. Make tensors with `empty`, `zeros`,
    `from_list`, `from_numpy`, `from_torch` and the like.

    Notes
    -----
    Views (`view`, `permute`, indexing, ...) share memory. Comparison operators work element by element
    and hashing goes by identity, as in PyTorch. There is no implicit dtype promotion: a number takes the
    dtype of the tensor it meets, and a number that this dtype cannot hold is an error.

    Examples
    --------
    >>> import infinicore as ic
    >>> a = ic.arange(6, dtype=ic.float32, device="cpu").view(2, 3)
    >>> a.shape, a.stride(), a.dtype, str(a.device)
    ([2, 3], [3, 1], infinicore.float32, 'cpu:0')
    >>> (2 * a.T + 1)[0].tolist()
    [1.0, 7.0]
    """

    # Element-wise operators win over NumPy's when an array stands on the left.
    __array_priority__ = 1000

    def __cinit__(self):
        attach(self, _nowhere, _nothing, NULL)

    def __init__(self, other):
        if not isinstance(other, Tensor):
            raise ArgumentTypeError("Tensor: other: expected an infinicore.Tensor, got "
                                    f"{type(other).__name__}; "
                                    "use infinicore.from_list, from_numpy or from_torch")
        cdef Tensor tensor = <Tensor>other
        attach(self, tensor.storage, tensor.layout, tensor.view.data)

    # ---- what it is ----

    @property
    def shape(self):
        """Sizes, a list."""
        return to_shape(self.layout.shape, self.layout.ndim)

    @property
    def strides(self):
        """Steps between neighbours along each dimension, in elements, a list."""
        return to_shape(self.layout.strides, self.layout.ndim)

    @property
    def ndim(self):
        """Number of dimensions."""
        return self.layout.ndim

    @property
    def dtype(self):
        """Element type."""
        return self.layout.dtype

    @property
    def device(self):
        """The device that holds it."""
        if self.context is None:
            raise InvalidArgument("tensor: used before it was initialised")
        return self.context.device

    @property
    def itemsize(self):
        """Bytes of one element."""
        return self.layout.dtype.itemsize

    @property
    def nbytes(self):
        """Bytes of all elements."""
        return self.layout.numel * self.layout.dtype.itemsize

    @property
    def _underlying(self):
        """The native tensor: this object (kept for programs written for the old bindings)."""
        return self

    @property
    def _torch_ref(self):
        """The object whose memory this tensor shares, such as a torch tensor; None for our own memory."""
        return self.storage.owner

    def dim(self):
        """Number of dimensions."""
        return self.layout.ndim

    def size(self, dim=None):
        """All sizes, or that of one dimension."""
        if dim is None:
            return to_shape(self.layout.shape, self.layout.ndim)
        return self.layout.shape[parse_dim(dim, self.layout.ndim, "size: dim")]

    def stride(self, dim=None):
        """All strides, or that of one dimension, in elements."""
        if dim is None:
            return to_shape(self.layout.strides, self.layout.ndim)
        return self.layout.strides[parse_dim(dim, self.layout.ndim, "stride: dim")]

    def numel(self):
        """Number of elements."""
        return self.layout.numel

    def element_size(self):
        """Bytes of one element."""
        return self.layout.dtype.itemsize

    def is_contiguous(self):
        """Whether the elements lie in row-major order without gaps."""
        return self.layout.contiguous

    def is_pinned(self):
        """Whether it lies in host memory that a device copies asynchronously."""
        return self.storage.pinned

    def is_floating_point(self):
        """Whether the dtype is a real floating-point type."""
        return self.layout.dtype.kind == "f"

    def data_ptr(self):
        """The address of element 0, as an integer."""
        return <uintptr_t>self.view.data

    def storage_offset(self):
        """Elements from the start of the storage to element 0."""
        return (<char *>self.view.data - <char *>self.storage.data) // self.layout.dtype.itemsize

    def info(self):
        """One line: shape, strides, dtype and device."""
        from infinicore import printing
        return printing.info(self)

    # ---- views ----

    def narrow(self, dim, start, length):
        """Elements `start` to ``start + length - 1`` along `dim`, a view."""
        return narrow(self, dim, start, length)

    def reshape(self, *shape):
        """The same elements in another shape: a view where possible, else a copy."""
        cdef int64_t[MAX_DIMS] sizes, strides
        cdef int ndim = parse_shape(one_argument(shape), sizes, self.layout, "reshape")
        cdef Tensor source = self
        if not view_strides(self.layout, ndim, sizes, strides):
            source = self.contiguous()
            row_major(ndim, sizes, strides)
        return view_of(source, ndim, sizes, strides, 0)

    def flatten(self, start_dim=0, end_dim=-1):
        """Dimensions `start_dim` to `end_dim` merged into one: a view where possible, else a copy."""
        cdef int ndim = self.layout.ndim
        if ndim == 0:
            return self.reshape([1])
        cdef int first = parse_dim(start_dim, ndim, "flatten: start_dim")
        cdef int last = parse_dim(end_dim, ndim, "flatten: end_dim")
        cdef int64_t merged = 1
        cdef int i
        if first > last:
            raise InvalidArgument(f"flatten: start_dim {first} comes after end_dim {last}")
        for i in range(first, last + 1):
            merged *= self.layout.shape[i]
        shape = ints(self.layout.shape, ndim)
        return self.reshape(shape[:first] + [merged] + shape[last + 1:])

    def permute(self, *dims):
        """Dimensions in another order, a view."""
        cdef int64_t[MAX_DIMS] order, sizes, strides
        cdef Layout layout = self.layout
        cdef int count = parse_ints(one_argument(dims), order, "permute: dims")
        cdef uint64_t seen = 0
        cdef int i, dim
        if count != layout.ndim:
            raise ShapeError(f"permute: dims {ints(order, count)} has {count} entries for {layout.ndim} "
                             "dimensions")
        for i in range(count):
            dim = parse_dim(order[i], count, "permute: dims")
            if seen >> dim & 1:
                raise InvalidArgument(f"permute: dims {ints(order, count)} names dimension {dim} twice")
            seen |= <uint64_t>1 << dim
            sizes[i] = layout.shape[dim]
            strides[i] = layout.strides[dim]
        return view_of(self, count, sizes, strides, 0)

    def transpose(self, dim0, dim1):
        """Two dimensions exchanged, a view."""
        cdef int64_t[MAX_DIMS] sizes, strides
        cdef Layout layout = self.layout
        cdef int a = parse_dim(dim0, layout.ndim, "transpose: dim0")
        cdef int b = parse_dim(dim1, layout.ndim, "transpose: dim1")
        memcpy(sizes, layout.shape, layout.ndim * sizeof(int64_t))
        memcpy(strides, layout.strides, layout.ndim * sizeof(int64_t))
        sizes[a], sizes[b] = sizes[b], sizes[a]
        strides[a], strides[b] = strides[b], strides[a]
        return view_of(self, layout.ndim, sizes, strides, 0)

    def t(self):
        """The transpose of a matrix, a view; a vector or a number stays as it is."""
        if self.layout.ndim > 2:
            raise ShapeError(f"t: expected at most 2 dimensions, got {self.layout.ndim}")
        return self if self.layout.ndim < 2 else self.transpose(0, 1)

    @property
    def T(self):
        """Dimensions in reverse order, a view."""
        cdef int64_t[MAX_DIMS] sizes, strides
        cdef Layout layout = self.layout
        cdef int i
        for i in range(layout.ndim):
            sizes[i] = layout.shape[layout.ndim - 1 - i]
            strides[i] = layout.strides[layout.ndim - 1 - i]
        return view_of(self, layout.ndim, sizes, strides, 0)

    @property
    def mT(self):
        """The last two dimensions exchanged, a view."""
        return self.transpose(-2, -1)

    def as_strided(self, size, stride, storage_offset=None):
        """A view with any sizes and strides, checked against the storage.

        Parameters
        ----------
        size, stride : sequence of int
            Strides in elements, negative ones too.
        storage_offset : int, optional
            Elements from the start of the storage; where this tensor starts if omitted.
        """
        cdef int64_t[MAX_DIMS] sizes, strides
        cdef int ndim = parse_ints(size, sizes, "as_strided: size")
        cdef int count = parse_ints(stride, strides, "as_strided: stride")
        cdef int64_t offset
        cdef void *data = self.view.data
        cdef Layout layout
        if ndim != count:
            raise ShapeError(f"as_strided: size has {ndim} entries, stride has {count}")
        layout = sized(self.layout.dtype, ndim, sizes, strides, "as_strided")
        if storage_offset is not None:
            offset = as_int(storage_offset, "as_strided: storage_offset")
            if (infini_mul(offset, layout.dtype.itemsize, &offset)
                    or not 0 <= offset <= <int64_t>self.storage.bytes):
                raise InvalidArgument(f"as_strided: storage_offset {storage_offset} lies outside a storage "
                                      f"of {self.storage.bytes} bytes")
            data = <char *>self.storage.data + offset
        inside(self.storage, layout, data, "as_strided")
        return make_tensor(self.storage, layout, data)

    def squeeze(self, dim=None):
        """Without the dimension `dim` if its size is 1, or without all of size 1; a view."""
        cdef int64_t[MAX_DIMS] sizes, strides
        cdef Layout layout = self.layout
        cdef int only = -1, count = 0, i
        if dim is not None:
            if layout.ndim == 0:
                parse_dim(dim, 1, "squeeze: dim")
            else:
                only = parse_dim(dim, layout.ndim, "squeeze: dim")
        for i in range(layout.ndim):
            if layout.shape[i] == 1 and (dim is None or i == only):
                continue
            sizes[count] = layout.shape[i]
            strides[count] = layout.strides[i]
            count += 1
        return view_of(self, count, sizes, strides, 0)

    def unsqueeze(self, dim):
        """With a new dimension of size 1 before `dim`, a view."""
        cdef int64_t[MAX_DIMS] sizes, strides
        cdef Layout layout = self.layout
        cdef int at = parse_dim(dim, layout.ndim + 1, "unsqueeze: dim"), i
        if layout.ndim == MAX_DIMS:
            raise ShapeError(f"unsqueeze: the tensor already has {MAX_DIMS} dimensions")
        for i in range(at):
            sizes[i] = layout.shape[i]
            strides[i] = layout.strides[i]
        sizes[at] = 1
        strides[at] = layout.shape[at] * layout.strides[at] if at < layout.ndim else 1
        for i in range(at, layout.ndim):
            sizes[i + 1] = layout.shape[i]
            strides[i + 1] = layout.strides[i]
        return view_of(self, layout.ndim + 1, sizes, strides, 0)

    def expand(self, *shape):
        """Dimensions of size 1 repeated without copying, a view; -1 keeps a size."""
        cdef int64_t[MAX_DIMS] sizes
        cdef Layout layout = self.layout
        cdef int ndim = parse_ints(one_argument(shape), sizes, "expand: shape")
        cdef int i, missing = ndim - layout.ndim
        for i in range(max(missing, 0), ndim):
            if sizes[i] == -1 and missing >= 0:
                sizes[i] = layout.shape[i - missing]
        result = broadcast_view(self, ndim, sizes)
        if result is None:
            raise ShapeError(f"expand: a tensor of shape {self.shape} does not broadcast to "
                             f"{ints(sizes, ndim)}")
        return result

    def broadcast_to(self, *shape):
        """Same as `expand`."""
        return self.expand(*shape)

    def unbind(self, dim=0):
        """A tuple of the slices along `dim`, views."""
        cdef int axis = parse_dim(dim, self.layout.ndim, "unbind: dim")
        return tuple([select(self, axis, i) for i in range(self.layout.shape[axis])])

    # ---- indexing ----

    def __len__(self):
        if self.layout.ndim == 0:
            raise ArgumentTypeError("len: a 0-d tensor has no length")
        return self.layout.shape[0]

    def __iter__(self):
        if self.layout.ndim == 0:
            raise ArgumentTypeError("iter: a 0-d tensor cannot be iterated over")
        return iter(self.unbind(0))

    def __getitem__(self, key):
        if PyLong_CheckExact(key) and self.layout.ndim > 0:
            return select(self, 0, as_int(key, "indexing"))
        return index(self, key)

    def __setitem__(self, key, value):
        cdef Tensor target = index(self, key), source
        if isinstance(value, Tensor):
            source = broadcast_view(<Tensor>value, target.layout.ndim, target.layout.shape)
            if source is None:
                raise ShapeError(f"indexing: a value of shape {value.shape} does not broadcast to "
                                 f"{target.shape}")
            copy_into(target, source, False)
        elif scalar(value) is not None:
            target.fill_(value)
        else:
            raise ArgumentTypeError("indexing: value: expected a tensor or a number, got "
                                    f"{type(value).__name__}")

    def __contains__(self, value):
        raise ArgumentTypeError("in: not defined for tensors; compare and reduce, or use tolist()")

    # ---- copies ----

    def copy_(self, src, non_blocking=False):
        """Overwrite the elements with those of `src`; converts the dtype and crosses devices.

        Parameters
        ----------
        src : Tensor
            Same shape.
        non_blocking : bool
            Do not wait for a copy out of pinned host memory. Copies to the host always wait.

        Returns
        -------
        Tensor
            This tensor.
        """
        if not isinstance(src, Tensor):
            raise ArgumentTypeError(f"copy_: src: expected an infinicore.Tensor, got {type(src).__name__}")
        copy_into(self, <Tensor>src, non_blocking)
        return self

    def fill_(self, value):
        """Overwrite every element with a number. Returns this tensor."""
        cdef char[16] element
        cdef int64_t[MAX_DIMS] none
        cdef Layout layout = self.layout
        cdef Context context = self.context
        cdef int itemsize = layout.dtype.itemsize, i
        cdef bint uniform = True
        cdef infinirtStream_t stream
        cdef infiniStatus_t status
        encode(layout.dtype, value, element, "fill_: value")
        if layout.numel == 0:
            return self
        if thread_state().recorder == NULL:
            for i in range(1, itemsize):
                uniform = uniform and element[i] == element[0]
            if uniform and layout.contiguous:
                stream = current_stream(context)
                context.activate()
                with nogil:
                    status = context.runtime.memset_async(self.view.data, <unsigned char>element[0],
                                                          layout.numel * itemsize, stream)
                check(status, "memset")
                return self
            if context.host_memory and (layout.numel * itemsize <= 16 * SMALL
                                        or operator("rearrange") is None):
                wait_for(context)
                memset(none, 0, sizeof(none))
                with nogil:
                    host_copy(<char *>self.view.data, layout.strides, element, none, layout.shape,
                              layout.ndim, itemsize)
                return self
        source = broadcast_view(scalar_like(self, decode(layout.dtype.code, element), "fill_"), layout.ndim,
                                layout.shape)
        required_operator("rearrange")(source, out=self)
        return self

    def zero_(self):
        """Overwrite every element with zero. Returns this tensor."""
        return self.fill_(0)

    def contiguous(self):
        """This tensor if it is contiguous, else a contiguous copy."""
        if self.layout.contiguous:
            return self
        return self.clone()

    def clone(self):
        """A contiguous copy on the same device."""
        cdef Layout layout = self.layout
        cdef Tensor result = empty_tensor(
            self.context, contiguous_layout(layout.dtype, layout.ndim, layout.shape))
        copy_into(result, self, False)
        return result

    def to(self, *args, dtype=None, device=None, copy=False, non_blocking=False):
        """The tensor with another dtype, on another device, or both.

        Parameters
        ----------
        *args : dtype, device, str or Tensor
            A dtype, a device (or its name), both, or a tensor whose dtype and device are taken.
        dtype, device : optional
            The same by keyword.
        copy : bool
            Copy even if nothing changes; this tensor itself is returned otherwise.
        non_blocking : bool
            Do not wait for a copy out of pinned host memory.
        """
        cdef Context context = self.context
        cdef DType target = self.layout.dtype
        cdef Tensor result
        for argument in args:
            if isinstance(argument, Tensor):
                target = (<Tensor>argument).layout.dtype
                context = (<Tensor>argument).context
            elif isinstance(argument, Device) or isinstance(argument, str) and not names_dtype(argument):
                context = required_context(argument, "to")
            elif argument is not None:
                target = as_dtype(argument)
        if dtype is not None:
            target = as_dtype(dtype)
        if device is not None:
            context = required_context(device, "to")
        if context is self.context and target is self.layout.dtype:
            return self.clone() if copy else self
        result = self if target is self.layout.dtype else converted(self, target)
        if context is result.context:
            return result
        result = empty_tensor(context, contiguous_layout(target, result.layout.ndim, result.layout.shape))
        copy_into(result, self if target is self.layout.dtype else converted(self, target), non_blocking)
        return result

    def cpu(self):
        """The tensor in host memory."""
        return self.to(device="cpu")

    def pin_memory(self):
        """A copy in host memory that the current accelerator copies asynchronously."""
        result = empty(self.shape, dtype=self.layout.dtype, device="cpu", pin_memory=True)
        return result.copy_(self)

    def record_stream(self, stream):
        """Tell the allocator that work on `stream` uses this memory, so that it is not reused too early.

        Parameters
        ----------
        stream : Stream or int
            A stream, or the handle of another library's, which must then live as long as this memory.
        """
        handle = getattr(stream, "handle", stream)
        if handle is not None:
            handle = exact_int(handle, "record_stream: stream", "a Stream or its handle")
        try:
            self.storage.record_stream(<infinirtStream_t><uintptr_t>(handle or 0))
        except OverflowError:
            raise InvalidArgument(f"record_stream: stream: {handle} is no handle") from None

    # ---- values ----

    def item(self):
        """The only element as a Python number."""
        cdef Layout layout = self.layout
        cdef char[16] element
        if layout.numel != 1:
            raise ShapeError(f"item: the tensor has {layout.numel} elements in shape {self.shape}, not 1")
        if self.context.host_memory:
            wait_for(self.context)
            return decode(layout.dtype.code, self.view.data)
        transfer(self.context, element, self.view.data, layout.dtype.itemsize, INFINIRT_MEMCPY_D2H, True)
        return decode(layout.dtype.code, element)

    def tolist(self):
        """Nested lists of Python numbers; a number for a 0-d tensor."""
        cdef Tensor host = on_host(self)
        return nested(host.layout, 0, <char *>host.view.data)

    def tobytes(self):
        """The elements in row-major order as bytes."""
        cdef Tensor host = on_host(self).contiguous()
        wait_for(host.context)
        return (<char *>host.view.data)[:host.layout.numel * host.layout.dtype.itemsize]

    def __bool__(self):
        if self.layout.numel != 1:
            raise ShapeError(f"bool: a tensor of shape {self.shape} has no truth value; only one element has")
        return bool(self.item())

    def __int__(self):
        return int(self.item())

    def __float__(self):
        return float(self.item())

    def __complex__(self):
        return complex(self.item())

    def __index__(self):
        if self.layout.dtype.kind not in "iub":
            raise DTypeError("index: only an integer tensor can be an index, this one is "
                             f"{self.layout.dtype}")
        return int(self.item())

    # ---- operators ----

    def __hash__(self):
        return <Py_ssize_t>(<uintptr_t><PyObject *>self >> 4)

    def __add__(self, other):
        return binary(self, other, "add")

    def __radd__(self, other):
        return binary(other, self, "add")

    def __iadd__(self, other):
        return in_place(self, other, "add")

    def __sub__(self, other):
        return binary(self, other, "sub")

    def __rsub__(self, other):
        return binary(other, self, "sub")

    def __isub__(self, other):
        return in_place(self, other, "sub")

    def __mul__(self, other):
        return binary(self, other, "mul")

    def __rmul__(self, other):
        return binary(other, self, "mul")

    def __imul__(self, other):
        return in_place(self, other, "mul")

    def __truediv__(self, other):
        return binary(self, other, "div")

    def __rtruediv__(self, other):
        return binary(other, self, "div")

    def __itruediv__(self, other):
        return in_place(self, other, "div")

    def __pow__(self, other, modulo):
        if modulo is not None:
            return NotImplemented
        return binary(self, other, "pow")

    def __rpow__(self, other, modulo):
        return binary(other, self, "pow")

    def __ipow__(self, other):
        return in_place(self, other, "pow")

    def __matmul__(self, other):
        if not isinstance(other, Tensor):
            is_number(other, "matmul")    # another library's array is an error
            return NotImplemented
        return required_operator("matmul")(self, other)

    def __neg__(self):
        return required_operator("neg")(self)

    def __pos__(self):
        return self

    def __abs__(self):
        return required_operator("abs")(self)

    def __eq__(self, other):
        return binary(self, other, "equal")

    def __ne__(self, other):
        return binary(self, other, "not_equal")

    def __lt__(self, other):
        return binary(self, other, "less")

    def __le__(self, other):
        return binary(self, other, "less_equal")

    def __gt__(self, other):
        return binary(self, other, "greater")

    def __ge__(self, other):
        return binary(self, other, "greater_equal")

    def add(self, other):
        """``self + other``."""
        return self + other

    def sub(self, other):
        """``self - other``."""
        return self - other

    def mul(self, other):
        """``self * other``."""
        return self * other

    def div(self, other):
        """``self / other``."""
        return self / other

    def matmul(self, other):
        """``self @ other``."""
        return self @ other

    # ---- other libraries, printing, pickling ----

    def numpy(self):
        """A NumPy array: a view of host memory, a copy of device memory."""
        from infinicore import interop
        return interop.to_numpy(self)

    def to_numpy(self):
        """Same as `numpy`."""
        from infinicore import interop
        return interop.to_numpy(self)

    def to_torch(self):
        """A torch tensor: a view of host memory, a copy of device memory."""
        from infinicore import interop
        return interop.to_torch(self)

    def __array__(self, dtype=None, copy=None):
        from infinicore import interop
        return interop.array(self, dtype, copy)

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        from infinicore import _dlpack
        return _dlpack.export(self, stream, max_version, dl_device, copy)

    def __dlpack_device__(self):
        return self.context.backend.dlpack_type, self.context.index

    @property
    def __cuda_array_interface__(self):
        """The CUDA array interface, version 3; an AttributeError on devices that are not CUDA."""
        from infinicore import interop
        return interop.cuda_array_interface(self)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        """Share host memory through the buffer protocol."""
        cdef Layout layout = self.layout
        cdef Py_ssize_t *numbers
        cdef int i
        if not self.context.host_memory:
            raise ExchangeError(f"buffer: the memory of {self.context.device} cannot be read by the host; "
                                "use numpy()")
        form = BUFFER_FORMATS.get(layout.dtype.code)
        if form is None:
            raise ExchangeError(f"buffer: the buffer protocol has no format for {layout.dtype}; use numpy()")
        cdef bint simple = flags & PyBUF_ND != PyBUF_ND
        cdef bint rows = layout.contiguous, columns = (<Tensor>self.T).layout.contiguous
        if (not rows and (flags & PyBUF_STRIDES != PyBUF_STRIDES or flags & C_ORDER)
                or not columns and flags & F_ORDER or not rows and not columns and flags & ANY_ORDER):
            raise ExchangeError(f"buffer: the tensor of shape {self.shape} with strides {self.strides} is "
                                "not contiguous as the consumer needs it")
        wait_for(self.context)
        numbers = <Py_ssize_t *>malloc((2 * layout.ndim + 1) * sizeof(Py_ssize_t))
        if numbers == NULL:
            raise OutOfMemory("buffer: no host memory")
        for i in range(layout.ndim):
            numbers[i] = layout.shape[i]
            numbers[layout.ndim + i] = layout.strides[i] * layout.dtype.itemsize
        buffer.internal = numbers
        buffer.buf = self.view.data
        buffer.obj = self
        buffer.len = layout.numel * layout.dtype.itemsize
        buffer.itemsize = layout.dtype.itemsize
        buffer.readonly = 0
        buffer.ndim = 1 if simple else layout.ndim
        buffer.format = <char *>(<bytes>form) if flags & PyBUF_FORMAT else NULL
        buffer.shape = NULL if simple else numbers
        buffer.strides = numbers + layout.ndim if flags & PyBUF_STRIDES == PyBUF_STRIDES else NULL
        buffer.suboffsets = NULL

    def __releasebuffer__(self, Py_buffer *buffer):
        free(buffer.internal)

    def debug(self, filename=None):
        """Print a summary and all values, or write the raw bytes in row-major order to a file."""
        from infinicore import printing
        printing.debug(self, filename)

    def __repr__(self):
        from infinicore import printing
        return printing.format_tensor(self)

    def __reduce__(self):
        return _restore, (
            type(self), self.tobytes(), list(self.shape), self.layout.dtype.name, str(self.device))

    def __deepcopy__(self, memo):
        result = self.clone()
        return result if type(self) is Tensor else type(self)(result)


# The bits of a buffer request that ask for one order of the elements.
cdef int C_ORDER = PyBUF_C_CONTIGUOUS & ~PyBUF_STRIDES
cdef int F_ORDER = PyBUF_F_CONTIGUOUS & ~PyBUF_STRIDES
cdef int ANY_ORDER = PyBUF_ANY_CONTIGUOUS & ~PyBUF_STRIDES
# What the buffer protocol calls each type; the others have no name there.
cdef dict BUFFER_FORMATS = {
    1: b"B", 2: b"?", 3: b"b", 4: b"h", 5: b"i", 6: b"q", 7: b"B", 8: b"H", 9: b"I", 10: b"Q",
    12: b"e", 13: b"f", 14: b"d", 17: b"Zf", 18: b"Zd",
}


def _restore(kind, data, shape, name, device):
    """Rebuild a pickled tensor on its device."""
    cdef Tensor host = empty(shape, dtype=name, device="cpu")
    memcpy(host.view.data, <const char *><bytes>data, len(data))
    result = host.to(device=device)
    return result if kind is Tensor else kind(result)


cdef bint names_dtype(str name):
    try:
        as_dtype(name)
    except DTypeError:
        return False
    return True


cdef object nested(Layout layout, int dim, const char *data):
    cdef int64_t i, step
    cdef list values
    if dim == layout.ndim:
        return decode(layout.dtype.code, data)
    step = layout.strides[dim] * layout.dtype.itemsize
    values = []
    for i in range(layout.shape[dim]):
        values.append(nested(layout, dim + 1, data + i * step))
    return values


cdef int parse_shape(object value, int64_t *sizes, Layout layout, str where) except -1:
    """A shape for the elements of `layout`, with -1 filled in."""
    cdef int ndim = parse_ints(value, sizes, where + ": shape")
    cdef int unknown = -1, i
    cdef int64_t product = 1
    cdef bint overflow = False
    for i in range(ndim):
        if sizes[i] == -1:
            if unknown >= 0:
                raise ShapeError(f"{where}: shape {ints(sizes, ndim)} has more than one -1")
            unknown = i
        elif sizes[i] < 0:
            raise ShapeError(f"{where}: shape {ints(sizes, ndim)} has the negative size {sizes[i]}")
        else:
            overflow = infini_mul(product, sizes[i], &product) or overflow
    if unknown >= 0 and not overflow and product != 0 and layout.numel % product == 0:
        sizes[unknown] = layout.numel // product
        product = layout.numel
        unknown = -1
    if overflow or unknown >= 0 or product != layout.numel:
        raise ShapeError(f"{where}: shape {ints(sizes, ndim)} does not hold the {layout.numel} elements of "
                         f"shape {ints(layout.shape, layout.ndim)}")
    return ndim


cdef bint view_strides(Layout layout, int ndim, const int64_t *sizes, int64_t *strides) noexcept:
    """Strides that lay `sizes` over the layout without copying; False if there are none.

    Runs of dimensions that lie evenly behind one another act as one dimension; each must be filled by
    whole new dimensions.
    """
    cdef int old, new = ndim - 1
    cdef int64_t run = 1, base, filled = 1
    if layout.numel == 0 or layout.contiguous:
        row_major(ndim, sizes, strides)
        return True
    base = 1
    for old in range(layout.ndim - 1, -1, -1):
        if run == 1:
            base = layout.strides[old]
        run *= layout.shape[old]
        if old > 0 and layout.shape[old - 1] != 1 and run != 1 and layout.strides[old - 1] == run * base:
            continue
        if old > 0 and layout.shape[old - 1] == 1:
            continue                      # size 1 has no say: it joins any run
        while new >= 0 and (filled < run or sizes[new] == 1):
            strides[new] = filled * base
            filled *= sizes[new]
            new -= 1
        if filled != run:
            return False
        run = 1
        filled = 1
    while new >= 0 and sizes[new] == 1:
        strides[new] = 1
        new -= 1
    return new < 0


cdef inline Tensor select(Tensor tensor, int dim, int64_t at):
    """Index `at` of one dimension, which disappears."""
    cdef int64_t[MAX_DIMS] sizes, strides
    cdef Layout layout = tensor.layout
    cdef int64_t size = layout.shape[dim]
    cdef int i
    if not -size <= at < size:
        raise OutOfRange(f"indexing: index {at} is out of range for dimension {dim} of size {size}")
    if at < 0:
        at += size
    for i in range(dim):
        sizes[i] = layout.shape[i]
        strides[i] = layout.strides[i]
    for i in range(dim + 1, layout.ndim):
        sizes[i - 1] = layout.shape[i]
        strides[i - 1] = layout.strides[i]
    return view_of(tensor, layout.ndim - 1, sizes, strides, at * layout.strides[dim])


cdef Tensor index(Tensor tensor, object key):
    """Basic indexing: integers, slices, None and Ellipsis."""
    cdef int64_t[MAX_DIMS] sizes, strides
    cdef Layout layout = tensor.layout
    cdef int64_t offset = 0, at
    cdef Py_ssize_t start, stop, step, length
    cdef int dim = 0, count = 0, used = 0
    cdef bint ellipsis = False
    cdef tuple keys = <tuple>key if isinstance(key, tuple) else (key,)
    for part in keys:
        if part is Ellipsis:
            if ellipsis:
                raise InvalidArgument("indexing: more than one Ellipsis (...)")
            ellipsis = True
        elif part is None:
            count += 1
        elif PySlice_Check(part):
            used += 1
        elif (PyBool_Check(part) or not PyIndex_Check(part)
              or isinstance(part, Tensor) and (<Tensor>part).layout.ndim != 0):
            raise ArgumentTypeError(f"indexing: {type(part).__name__} is no index; integers, slices, None "
                                    "and ... are views, anything else would copy and is not supported")
        else:
            used += 1
    if used > layout.ndim:
        raise OutOfRange(f"indexing: {used} indices for {layout.ndim} dimensions")
    if count + layout.ndim > MAX_DIMS:
        raise ShapeError(f"indexing: more than {MAX_DIMS} dimensions")
    if not ellipsis:
        keys = keys + (Ellipsis,)
    count = 0
    for part in keys:
        if part is Ellipsis:
            for _ in range(layout.ndim - used):
                sizes[count] = layout.shape[dim]
                strides[count] = layout.strides[dim]
                count += 1
                dim += 1
        elif part is None:
            sizes[count] = 1
            strides[count] = layout.shape[dim] * layout.strides[dim] if dim < layout.ndim else 1
            count += 1
        elif PySlice_Check(part):
            try:
                PySlice_Unpack(part, &start, &stop, &step)
            except (TypeError, ValueError) as error:
                raise InvalidArgument(f"indexing: {part}: {error}") from None
            length = PySlice_AdjustIndices(layout.shape[dim], &start, &stop, step)
            sizes[count] = length
            # A step longer than the dimension has no second element: its stride must not overflow.
            strides[count] = layout.strides[dim] * step if length > 1 else layout.strides[dim]
            if length > 0:
                offset += start * layout.strides[dim]
            count += 1
            dim += 1
        else:
            at = as_int(part, "indexing")
            if not -layout.shape[dim] <= at < layout.shape[dim]:
                raise OutOfRange(f"indexing: index {at} is out of range for dimension {dim} of size "
                                 f"{layout.shape[dim]}")
            offset += (at + layout.shape[dim] if at < 0 else at) * layout.strides[dim]
            dim += 1
    return view_of(tensor, count, sizes, strides, offset)


def view(Tensor self not None, *shape):
    """The same elements in another shape, a view.

    Parameters
    ----------
    *shape : int or sequence of int
        Sizes; one of them may be -1 and is then computed.

    Raises
    ------
    ShapeError
        If the number of elements differs.
    StrideError
        If no strides exist for that shape; `reshape` copies then.
    """
    cdef int64_t[MAX_DIMS] sizes, strides
    cdef int ndim = parse_shape(one_argument(shape), sizes, self.layout, "view")
    if not view_strides(self.layout, ndim, sizes, strides):
        raise StrideError(f"view: shape {ints(sizes, ndim)} cannot be laid over shape {self.shape} with "
                          f"strides {self.strides}; use reshape, which copies")
    return view_of(self, ndim, sizes, strides, 0)


# Tensor.view is a C member of the class as well (what kernels get), and Cython gives one name one
# meaning, so the method is put into the finished type by hand.
(<dict>(<PyTypeObject *>Tensor).tp_dict)["view"] = view
PyType_Modified(Tensor)


# ---- functions that are called too often to live in Python -------------------------------------------

def narrow(input, dim, start, length):
    """Elements `start` to ``start + length - 1`` of `input` along `dim`, a view.

    Parameters
    ----------
    input : Tensor
        Any shape but 0-d.
    dim : int
        The dimension; negative ones count from the end.
    start : int
        First index; a negative one counts from the end.
    length : int
        How many indices.

    Raises
    ------
    OutOfRange
        If the range leaves the dimension.

    Examples
    --------
    >>> import infinicore as ic
    >>> a = ic.arange(5, dtype=ic.int32, device="cpu")
    >>> ic.narrow(a, 0, 1, 3).tolist()
    [1, 2, 3]
    """
    cdef int64_t[MAX_DIMS] sizes
    cdef Layout layout
    cdef int64_t first, count, size
    cdef int axis
    if not isinstance(input, Tensor):
        raise ArgumentTypeError(f"narrow: input: expected an infinicore.Tensor, got {type(input).__name__}")
    layout = (<Tensor>input).layout
    axis = parse_dim(dim, layout.ndim, "narrow: dim")
    first = as_int(start, "narrow: start")
    count = as_int(length, "narrow: length")
    size = layout.shape[axis]
    if first < 0:
        first += size
    if count < 0 or first < 0 or first > size or count > size - first:
        raise OutOfRange(f"narrow: start {start} and length {length} leave dimension {axis} of size {size}")
    memcpy(sizes, layout.shape, layout.ndim * sizeof(int64_t))
    sizes[axis] = count
    return view_of(<Tensor>input, layout.ndim, sizes, layout.strides, first * layout.strides[axis])


def empty_named(str where, size, dtype, device, bint pin_memory):
    """`empty` for the function `where`, whose name errors are to carry. Not a public function."""
    cdef int64_t[MAX_DIMS] sizes, steps
    cdef int ndim = parse_ints(size, sizes, where + ": size")
    row_major(ndim, sizes, steps)
    cdef Layout layout = sized(required_dtype(dtype, where), ndim, sizes, steps, where)
    cdef Context context = required_context(device, where)
    return pinned(context, layout, where) if pin_memory else empty_tensor(context, layout)


def empty(size, *, dtype=None, device=None, pin_memory=False):
    """A tensor with undefined values.

    Parameters
    ----------
    size : int or sequence of int
        Shape.
    dtype : dtype
        Element type; required.
    device : device or str
        Where; required.
    pin_memory : bool
        On the CPU: memory from which the current accelerator copies asynchronously.

    Raises
    ------
    ArgumentTypeError
        If dtype or device is missing.
    OutOfMemory
        If the device has not that much memory.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.empty((4, 8), dtype=ic.float16, device="cpu").shape
    [4, 8]
    """
    cdef int64_t[MAX_DIMS] sizes, steps
    cdef int ndim = parse_ints(size, sizes, "empty: size")
    row_major(ndim, sizes, steps)
    cdef Layout layout = sized(required_dtype(dtype, "empty"), ndim, sizes, steps, "empty")
    cdef Context context = required_context(device, "empty")
    if pin_memory:
        return pinned(context, layout, "empty")
    return empty_tensor(context, layout)


cdef Tensor pinned(Context context, Layout layout, str where):
    """An uninitialised tensor in pinned host memory of the current device."""
    from infinicore._device import current_device
    if not context.host_memory:
        raise InvalidArgument(f"{where}: pin_memory=True makes host memory, device is {context.device}")
    cdef Context pinning = (<Device>current_device()).context()
    cdef Storage storage = allocate_pinned(pinning, context, layout.high - layout.low)
    return make_tensor(storage, layout, <char *>storage.data - layout.low)


def strided_empty(size, strides, *, dtype=None, device=None, pin_memory=False):
    """A tensor with undefined values and the given strides.

    Parameters
    ----------
    size, strides : sequence of int
        Shape, and steps in elements.
    dtype, device, pin_memory
        As in `empty`.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.strided_empty((2, 3), (1, 2), dtype=ic.float32, device="cpu").stride()
    [1, 2]
    """
    cdef int64_t[MAX_DIMS] sizes, steps
    cdef int ndim = parse_ints(size, sizes, "strided_empty: size")
    cdef int count = parse_ints(strides, steps, "strided_empty: strides")
    if ndim != count:
        raise ShapeError(f"strided_empty: size has {ndim} entries, strides has {count}")
    cdef Layout layout = sized(required_dtype(dtype, "strided_empty"), ndim, sizes, steps, "strided_empty")
    cdef Context context = required_context(device, "strided_empty")
    return pinned(context, layout, "strided_empty") if pin_memory else empty_tensor(context, layout)


def from_memory(data_ptr, size, strides, dtype, device, owner, str where):
    """A tensor over memory at an address; `owner` lives as long as it does. Not a public function."""
    cdef int64_t[MAX_DIMS] sizes, steps
    cdef int ndim = parse_ints(size, sizes, where + ": size")
    cdef int count
    cdef Layout layout
    cdef Context context
    cdef char *data
    if strides is None:
        row_major(ndim, sizes, steps)
    else:
        count = parse_ints(strides, steps, where + ": strides")
        if ndim != count:
            raise ShapeError(f"{where}: size has {ndim} entries, strides has {count}")
    layout = sized(required_dtype(dtype, where), ndim, sizes, steps, where)
    context = required_context(device, where)
    address = exact_int(data_ptr, where + ": data_ptr", "an address as an int")
    try:
        data = <char *><uintptr_t>address
    except OverflowError:
        raise InvalidArgument(f"{where}: data_ptr: {data_ptr} is no address") from None
    if data == NULL and layout.numel != 0:
        raise InvalidArgument(f"{where}: data_ptr is 0 for {layout.numel} elements")
    return make_tensor(wrap(context, data + layout.low, layout.high - layout.low, owner), layout, data)


def from_nested(data, shape, dtype):
    """A CPU tensor with the numbers of nested sequences of known shape. Not a public function."""
    cdef Tensor result = empty(shape, dtype=dtype, device="cpu")
    store_nested(result.layout, 0, <char *>result.view.data, data)
    return result


cdef int store_nested(Layout layout, int dim, char *target, object data) except -1:
    cdef int64_t i, step
    cdef float single
    cdef int code = layout.dtype.code
    if dim == layout.ndim:
        encode(layout.dtype, data, target, "from_list: data")
        return 0
    if not isinstance(data, (list, tuple)) or len(data) != layout.shape[dim]:
        got = f"the {type(data).__name__} {data!r}"
        if isinstance(data, (list, tuple)):
            got = f"{len(data)} elements"
        raise ShapeError(f"from_list: data is ragged: expected {layout.shape[dim]} elements in dimension "
                         f"{dim}, got {got}")
    step = layout.strides[dim] * layout.dtype.itemsize
    for i in range(layout.shape[dim]):
        item = data[i]
        if dim + 1 == layout.ndim:
            if isinstance(item, (list, tuple)):
                raise ShapeError(f"from_list: data is ragged: a {type(item).__name__} where a number is "
                                 f"expected in dimension {dim}")
            if code == 13 and PyFloat_CheckExact(item):
                single = <float><double>item
                memcpy(target + i * step, &single, 4)
                continue
        store_nested(layout, dim + 1, target + i * step, item)
    return 0


def store_range(Tensor target not None, start, step):
    """Fill a contiguous 1-d CPU tensor with ``start + i * step``. Not a public function."""
    cdef int64_t i
    cdef DType dtype = target.layout.dtype
    for i in range(target.layout.numel):
        encode(dtype, start + i * step, <char *>target.view.data + i * dtype.itemsize, "arange")


def reinterpret(Tensor tensor not None, dtype):
    """The same bytes as another dtype of the same size, a view. Not a public function."""
    cdef Layout layout = tensor.layout
    cdef DType target = as_dtype(dtype)
    if target.itemsize != layout.dtype.itemsize:
        raise DTypeError(f"reinterpret: {target} has {target.itemsize} bytes, {layout.dtype} has "
                         f"{layout.dtype.itemsize}")
    return make_tensor(tensor.storage, intern_layout(target, layout.ndim, layout.shape, layout.strides),
                       tensor.view.data)


def host_tensor(Tensor tensor not None):
    """The tensor itself if the host may read it, else a copy in host memory. Not a public function."""
    return on_host(tensor)


def layout_count():
    """How many layouts the table holds."""
    return _count
