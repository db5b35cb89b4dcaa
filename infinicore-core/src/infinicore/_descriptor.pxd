# Descriptors: one operator planned for one set of layouts, and the bounded cache that finds them again.
from libc.stdint cimport int64_t, uint32_t, uint64_t
from infinicore.abi cimport infini_descriptor, infini_int_list, infini_operator, infini_slot
from infinicore._device cimport Context

# How a slot is filled, and so how it is copied.
cdef enum SlotKind:
    SLOT_TENSOR
    SLOT_TENSORS
    SLOT_INTS
    SLOT_I64
    SLOT_F64

# What core and the vendor worked out for one key. Immutable once made, shared between threads.
cdef class Descriptor:
    cdef readonly str name              # of the operator
    cdef readonly Context context
    cdef const infini_operator *kernel  # NULL: the NumPy body runs instead
    cdef infini_descriptor handle       # the vendor's plan, owned
    cdef readonly uint64_t workspace_bytes

    cdef uint64_t *key                  # owned copy
    cdef size_t words
    cdef uint64_t hash
    cdef tuple layouts                  # keeps the layouts alive whose addresses are in the key

    cdef int slot_count
    cdef infini_slot *slots             # canonical Static values in their slots, NULL elsewhere
    cdef list buffers                   # what those slots point at
    cdef tuple expanded                 # Layout per slot: a broadcast input as the kernel sees it; or None
    cdef bint expands                   # any of them is not None
    cdef tuple outputs                  # Layout per slot that is written
    cdef list specs                     # schema.Spec per slot, for checks and reference bodies
    cdef list values                    # final scalar per slot, as it was when this was planned
    cdef object refusal                 # why there is no kernel, as an exception; None where there is one

    cdef bint cached                    # still in the cache
    cdef bint used                      # found through Operator.last since the cache last looked
    cdef Descriptor bucket_next         # chain within a bucket
    cdef Descriptor newer               # least-recently-used list
    cdef Descriptor older

    # Ask the kernel for its plan and its workspace. `args` is a full call with NULL data allowed.
    cdef int create(self, const infini_operator *kernel, const infini_slot *args) except -1
    # Keep a copy of the key.
    cdef int set_key(self, const uint64_t *key, size_t words) except -1
    # Room for the slots of the signature.
    cdef int set_slots(self, int count) except -1
    # A Static tuple, copied into memory that lives as long as the descriptor.
    cdef const infini_int_list *hold_ints(self, object values) except NULL

# A bounded map from key to Descriptor; the least recently used one leaves first.
cdef class Cache:
    cdef list table
    cdef size_t mask
    cdef Descriptor newest
    cdef Descriptor oldest
    cdef readonly size_t size
    cdef size_t bound
    cdef readonly uint64_t hits
    cdef readonly uint64_t misses
    cdef readonly uint64_t evictions
    # The descriptor of a key, or None; counts a hit or a miss.
    cdef Descriptor find(self, const uint64_t *key, size_t words)
    # Remember a descriptor; the one that another thread stored for the same key wins.
    cdef Descriptor store(self, Descriptor descriptor)
    cdef Descriptor _lookup(self, const uint64_t *key, size_t words, uint64_t hash)
    cdef int _unlink(self, Descriptor descriptor) except -1
    cdef int _push(self, Descriptor descriptor) except -1
    cdef int _remove(self, Descriptor descriptor) except -1
    cdef list _shrink(self, size_t bound)
    cdef int _grow(self) except -1
