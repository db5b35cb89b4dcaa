# Tensor: a strided view of a storage; Layout: its interned (dtype, shape, strides).
cimport cython
from libc.stdint cimport int64_t, uint64_t
from infinicore.abi cimport infini_tensor
from infinicore._device cimport Context
from infinicore._dtype cimport dtype
from infinicore._storage cimport Storage

cdef enum:
    MAX_DIMS = 64

# Interned: equal layouts are one object while anybody holds it (identity may serve as cache key; hold
# a reference for as long as you keep the address).
@cython.final
cdef class Layout:
    cdef readonly dtype dtype
    cdef readonly int ndim
    cdef int64_t *shape          # ndim entries, owned
    cdef int64_t *strides        # in elements
    cdef readonly int64_t numel
    cdef readonly bint contiguous
    cdef int64_t low             # bytes from element 0 down to the lowest element (<= 0)
    cdef int64_t high            # bytes from element 0 to one past the highest element (0 if numel == 0)
    cdef uint64_t hash           # of dtype, shape and strides

# Both raise ShapeError for negative sizes and for more than int64 bytes.
cdef Layout intern_layout(dtype dtype, int ndim, const int64_t *shape, const int64_t *strides)
cdef Layout contiguous_layout(dtype dtype, int ndim, const int64_t *shape)

cdef class Tensor:
    cdef infini_tensor view      # shape and strides point into layout
    cdef Layout layout
    cdef Storage storage
    cdef Context context
    cdef object __weakref__

# A tensor of the base class over existing storage; `data` is the address of element 0.
cdef Tensor make_tensor(Storage storage, Layout layout, void *data)

# An uninitialised tensor of `layout` on `context`, allocated for this thread's current stream.
cdef Tensor empty_tensor(Context context, Layout layout)

# `tensor` seen with another shape and strides, `offset` elements further on; bounds are the caller's.
cdef Tensor view_of(Tensor tensor, int ndim, const int64_t *shape, const int64_t *strides, int64_t offset)

# `tensor` broadcast to a shape; None (no exception) where it does not broadcast.
cdef Tensor broadcast_view(Tensor tensor, int ndim, const int64_t *shape)

# Copy values; same shape. Converts the dtype and crosses devices.
cdef int copy_into(Tensor target, Tensor source, bint non_blocking) except -1

# One or several integers (int, tuple, list, iterable) into `out` (MAX_DIMS entries); returns how many.
cdef int parse_ints(object value, int64_t *out, str what) except -1

# The same memory in host memory: the tensor itself where the host may read it, else a contiguous copy.
cdef Tensor on_host(Tensor tensor)

# A 0-d tensor on the operand's device with its dtype, for an operator between a tensor and a number.
cdef Tensor scalar_like(Tensor operand, object value, str name)
