# The registry of backends inside libinfinirt.so, as capi/registry.h declares it.
from libc.stdint cimport int32_t, uint64_t
from infinicore.abi cimport infini_backend, infini_host, infini_operator, infiniStatus_t

cdef extern from "registry.h" nogil:
    ctypedef struct infini_entry:
        pass

    ctypedef struct infini_listener:
        void (*log)(int32_t, const char *) noexcept nogil
        void (*activated)(const infini_entry *, int32_t) noexcept nogil
        int32_t (*interrupted)() noexcept nogil

    ctypedef struct infini_registry_api:
        const infini_host *host
        void (*listen)(const infini_listener *) noexcept nogil
        infini_entry *(*adopt)(const infini_backend *, const char *) noexcept nogil
        infiniStatus_t (*open)(infini_entry *, int32_t *) noexcept nogil
        const infini_operator *(*find)(const infini_entry *, const char *) noexcept nogil
        int32_t (*step)(const infini_entry *, uint64_t, const char **) noexcept nogil
        const char *(*take_message)(infiniStatus_t) noexcept nogil
