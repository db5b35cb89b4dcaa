# Devices, and what is current on this thread.
from cpython.object cimport PyObject
from libc.stdint cimport int32_t
from infinicore.abi cimport infini_runtime, infinirtStream_t
from infinicore._backend cimport Backend

cdef enum:
    MAX_BACKENDS = 32
    MAX_CONTEXTS = 256

# One opened device. Interned per (backend, index) and immortal: compare by identity.
cdef class Context:
    cdef readonly Backend backend
    cdef readonly int index
    cdef readonly int slot             # dense id over all opened devices
    cdef const infini_runtime *runtime
    cdef readonly bint host_memory     # the host may read its memory
    cdef readonly device device        # the public device object
    cdef public object allocator       # _storage.Allocator, made on first use
    cdef public object pinned          # _storage.Allocator of pinned host memory, made on first use
    # set_device on this thread unless it is already active there.
    cdef int activate(self) except -1

cdef class device:
    cdef readonly str type
    cdef readonly int index
    cdef Context _context
    # The opened device; raises BackendUnavailable or DeviceNotFound.
    cdef Context context(self)

# What is current on one thread. Owned by _device, zero-initialised per thread.
ctypedef struct ThreadState:
    int active[MAX_BACKENDS]                      # 1 + device index last set on this thread; 0: none yet
    infinirtStream_t streams[MAX_CONTEXTS]        # current stream by Context.slot; NULL: default stream
    PyObject *recorder                            # graph being recorded on this thread (borrowed) or NULL
    PyObject *current                             # current Context (borrowed; contexts are immortal) or NULL

cdef ThreadState *thread_state() noexcept nogil

# The thread's current context (default: INFINICORE_DEVICE, else cpu:0).
cdef Context current_context()

# Anything that names a device (str, device, None for current) to a device.
cdef device as_device(object value)

cdef inline infinirtStream_t current_stream(Context context) noexcept:
    return thread_state().streams[context.slot]

# Make `context` this thread's current one.
cdef int set_current(Context context) except -1
