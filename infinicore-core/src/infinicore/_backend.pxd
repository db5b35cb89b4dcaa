# A backend: one plug-in's tables, its state, and why it is in that state.
from libc.stdint cimport int32_t, uint64_t
from infinicore.abi cimport infini_backend, infini_ccl, infini_operator, infini_runtime
from infinicore.registry cimport infini_entry

cdef class Backend:
    cdef readonly str name            # device string: "cuda"
    cdef readonly str vendor
    cdef readonly str version
    cdef readonly str distribution    # wheel or file that brought it
    cdef readonly int number          # infiniDevice_t, or >= 1000
    cdef readonly int slot            # dense id over all known backends, index into ThreadState.active
    cdef readonly str reason          # why it is not ready, "" when it is
    cdef readonly list trail          # [{"what", "where", "result"}]
    cdef readonly dict lost           # operator -> why its kernel is refused (fingerprint differs, ...)
    cdef readonly int device_count
    cdef readonly int dlpack_type
    cdef readonly uint64_t flags
    cdef readonly bint host_memory
    cdef bint ready
    cdef bint opened                  # open() was tried
    cdef bint disabled
    cdef object record                # the discovered Plugin
    cdef object library               # path of its library file, None where a module hands over a capsule
    cdef object capsule               # keeps the tables alive
    cdef infini_entry *entry          # what C programs of this process see of it; NULL until loaded
    cdef const infini_backend *table  # NULL until loaded
    cdef const infini_runtime *runtime
    cdef const infini_ccl *ccl
    cdef dict kernels                 # operator name -> address of its infini_operator, as int
    cdef list contexts                # Context per device index, once ready

    cdef str condition                # "found", "disabled", "unavailable", "ready" or "failed"
    cdef tuple abi                    # (major, minor) of the plug-in, None until loaded
    cdef object cause                 # exception behind a failure, chained to what ensure_ready() raises
    cdef dict unmatched               # kernels of operators core does not know (yet): name -> address

    # Load and open the plug-in; raise BackendUnavailable with the kept reason if it cannot.
    cdef int ensure_ready(self) except -1
    # The kernel for an operator, or NULL. Only after ensure_ready().
    cdef const infini_operator *find(self, str name) except? NULL

# The backend behind a device string (aliases resolved), not opened; unknown names raise.
cdef Backend find_backend(str name)

# The ready backend behind a device string; raises BackendUnavailable. "cuda" may be another vendor.
cdef Backend resolve_backend(str name)

# The device string behind an alias; public names are answered without a look at what is installed.
cpdef str canonical_name(str name)

# Name of the vendor that answers to "cuda" in place of infinicore-cuda; None while there is none.
cpdef str cuda_vendor()

# Whether INFINICORE_LOG_LEVEL asks for debug messages: of what is opened and planned, for example.
cdef bint explains() noexcept

# Whoever remembers which device of a backend (by slot) is active on a thread: told when the C API changes it.
ctypedef void (*activated_function)(int slot, int32_t device) noexcept nogil
cdef void on_activation(activated_function function) noexcept
