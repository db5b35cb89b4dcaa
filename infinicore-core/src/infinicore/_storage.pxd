# Memory: an allocation (Storage) and the caching allocator it came from.
cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t
from infinicore.abi cimport infinirtStream_t
from infinicore._device cimport Context

cdef extern from *:
    """
    /* A lock that costs nothing where the GIL already is one. */
    #ifdef Py_GIL_DISABLED
    typedef PyMutex infini_mutex;
    #define infini_lock(mutex) PyMutex_Lock(mutex)
    #define infini_unlock(mutex) PyMutex_Unlock(mutex)
    #else
    typedef char infini_mutex;
    #define infini_lock(mutex) ((void)(mutex))
    #define infini_unlock(mutex) ((void)(mutex))
    #endif
    """
    ctypedef struct infini_mutex:
        pass
    void infini_lock(infini_mutex *mutex) noexcept nogil
    void infini_unlock(infini_mutex *mutex) noexcept nogil

cdef enum:
    FINE = 16            # size classes per power of two
    POWERS = 44          # powers of two, in granules
    QUICK = 65           # blocks of fewer granules are kept by exact size, neither split nor merged

cdef struct Segment
cdef struct Pool

# A piece of a segment: in use, or in one of its pool's free lists.
cdef struct Block:
    char *data
    uint64_t size        # in granules
    Segment *segment
    Block *before        # neighbours in the segment
    Block *after
    Block *next          # in a free list
    Block *prev
    int state            # 0 in use, 1 quick list, 2 size class

# Memory as the runtime gave it.
cdef struct Segment:
    char *data
    uint64_t bytes
    Pool *pool
    Block *first
    Segment *next

# The free memory of one stream, for small or for large requests.
cdef struct Pool:
    infinirtStream_t stream
    bint large
    Segment *segments
    Block *quick[QUICK]
    uint64_t powers      # bit p: classes of power p are not all empty
    uint32_t fine[POWERS]
    Block *classes[POWERS][FINE]
    Pool *next

@cython.final
cdef class Storage:
    cdef void *data
    cdef readonly uint64_t bytes
    cdef readonly Context context
    cdef readonly bint pinned
    cdef infinirtStream_t stream    # the stream it was allocated for; reuse is ordered on it
    cdef object owner               # foreign memory: keeps its owner alive; None for our own
    cdef object allocator           # returns the block here; None for foreign memory
    cdef list used_on               # other streams that used it (addresses), or None
    cdef Block *block               # NULL for foreign memory
    # Note that work on `stream` uses this memory, so that a free waits for it.
    cdef int record_stream(self, infinirtStream_t stream) except -1

# The memory of one device, or the pinned host memory of one backend: segments from the runtime, split
# into blocks that are reused in the order of the stream they were allocated for.
@cython.final
cdef class Allocator:
    cdef Context context
    cdef bint pinned
    cdef bint abandoned             # a forked child: the device is not ours, nothing may be freed
    cdef int shift                  # log2 of the granule: every block is a multiple of it
    cdef infini_mutex mutex
    cdef Pool *pools
    cdef list pending               # [(Block address, [event addresses])]: freed, in use on other streams
    cdef uint64_t allocated, allocated_peak, reserved, reserved_peak, cache_limit
    cdef uint64_t allocations, frees, segment_allocations, segment_frees, retries, live
    cdef Storage take(self, uint64_t bytes, infinirtStream_t stream)
    cdef void give(self, Block *block) noexcept
    cdef void give_after(self, Block *block, list streams)
    cdef Pool *pool(self, infinirtStream_t stream, bint large) except NULL
    cdef Block *grow(self, Pool *pool, uint64_t bytes, uint64_t requested) except NULL
    cdef Block *cut(self, Pool *pool, uint64_t size) noexcept nogil
    cdef object exhausted(self, uint64_t requested, uint64_t segment)
    cdef int settle(self, bint wait) except -1
    cdef uint64_t trim(self) except? 0xFFFFFFFFFFFFFFFF

# Device memory for `bytes` (>= 0) on the context's current stream of this thread.
cdef Storage allocate(Context context, uint64_t bytes)

# Host memory that the context's device copies from and to fastest; the tensor on it belongs to `host`.
cdef Storage allocate_pinned(Context context, Context host, uint64_t bytes)

# Wrap memory that somebody else owns.
cdef Storage wrap(Context context, void *data, uint64_t bytes, object owner)

# The allocator of a context, made on first use.
cdef Allocator allocator_of(Context context)
