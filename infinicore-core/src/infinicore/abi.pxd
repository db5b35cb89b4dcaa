# The plug-in ABI as Cython sees it: a plain transcription of include/infinicore/abi.h.
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t

cdef extern from "infinicore/abi.h" nogil:
    ctypedef enum infiniStatus_t:
        INFINI_STATUS_SUCCESS
        INFINI_STATUS_INTERNAL_ERROR
        INFINI_STATUS_NOT_IMPLEMENTED
        INFINI_STATUS_BAD_PARAM
        INFINI_STATUS_NULL_POINTER
        INFINI_STATUS_DEVICE_TYPE_NOT_SUPPORTED
        INFINI_STATUS_DEVICE_NOT_FOUND
        INFINI_STATUS_DEVICE_NOT_INITIALIZED
        INFINI_STATUS_DEVICE_ARCHITECTURE_NOT_SUPPORTED
        INFINI_STATUS_BAD_TENSOR_DTYPE
        INFINI_STATUS_BAD_TENSOR_SHAPE
        INFINI_STATUS_BAD_TENSOR_STRIDES
        INFINI_STATUS_INSUFFICIENT_WORKSPACE
        INFINI_STATUS_OUT_OF_MEMORY
        INFINI_STATUS_UNAVAILABLE
        INFINI_STATUS_NOT_READY
        INFINI_STATUS_TIMEOUT
        INFINI_STATUS_PEER_FAILED
        INFINI_STATUS_INDEX_OUT_OF_RANGE

    ctypedef int infiniDtype_t
    enum:
        INFINI_DTYPE_INVALID
        INFINI_DTYPE_BYTE
        INFINI_DTYPE_BOOL
        INFINI_DTYPE_I8
        INFINI_DTYPE_I16
        INFINI_DTYPE_I32
        INFINI_DTYPE_I64
        INFINI_DTYPE_U8
        INFINI_DTYPE_U16
        INFINI_DTYPE_U32
        INFINI_DTYPE_U64
        INFINI_DTYPE_F8
        INFINI_DTYPE_F16
        INFINI_DTYPE_F32
        INFINI_DTYPE_F64
        INFINI_DTYPE_C16
        INFINI_DTYPE_C32
        INFINI_DTYPE_C64
        INFINI_DTYPE_C128
        INFINI_DTYPE_BF16

    ctypedef void *infinirtStream_t
    ctypedef void *infinirtEvent_t
    ctypedef void *infinirtGraph_t
    ctypedef void *infinirtGraphExec_t
    ctypedef void *infinicclComm_t

    ctypedef int infinicclReduceOp_t
    ctypedef enum infinirtMemcpyKind_t:
        INFINIRT_MEMCPY_H2H
        INFINIRT_MEMCPY_H2D
        INFINIRT_MEMCPY_D2H
        INFINIRT_MEMCPY_D2D
    ctypedef enum infinirtStreamCaptureMode_t:
        INFINIRT_STREAM_CAPTURE_MODE_GLOBAL
        INFINIRT_STREAM_CAPTURE_MODE_THREAD_LOCAL
        INFINIRT_STREAM_CAPTURE_MODE_RELAXED
    enum:
        INFINIRT_EVENT_DEFAULT
        INFINIRT_EVENT_DISABLE_TIMING
        INFINIRT_EVENT_BLOCKING_SYNC

    enum:
        INFINI_ABI_MAJOR
        INFINI_ABI_MINOR
        INFINI_BACKEND_HOST_MEMORY
        INFINI_BACKEND_CUDA_COMPATIBLE
        INFINI_LOG_DEBUG
        INFINI_LOG_INFO
        INFINI_LOG_WARNING
        INFINI_LOG_ERROR
    const char *INFINI_BACKEND_CAPSULE

    ctypedef struct infini_header:
        uint32_t struct_size
        uint16_t abi_major
        uint16_t abi_minor

    ctypedef struct infini_tensor:
        void *data
        const int64_t *shape
        const int64_t *strides
        int32_t ndim
        int32_t dtype

    ctypedef struct infini_tensor_list:
        int64_t count
        const infini_tensor *items

    ctypedef struct infini_int_list:
        int64_t count
        const int64_t *items

    ctypedef union infini_slot:
        const infini_tensor *tensor
        const infini_tensor_list *tensors
        const infini_int_list *ints
        int64_t i64
        double f64

    ctypedef void *infini_descriptor

    ctypedef struct infini_host:
        infini_header header
        infiniStatus_t (*fail)(infiniStatus_t code, const char *message) noexcept nogil
        void (*log)(int32_t level, const char *message) noexcept nogil
        void (*trail)(const char *what, const char *where, const char *result) noexcept nogil
        const infini_backend *(*backend)(const char *name) noexcept nogil
        const char *(*message)() noexcept nogil
        int32_t (*interrupted)() noexcept nogil

    ctypedef struct infini_device_info:
        infini_header header
        char name[128]
        char driver[64]
        char runtime[64]
        char architecture[32]
        uint64_t memory_bytes
        int32_t compute_units
        int32_t warp_width

    ctypedef struct infini_resources:
        infini_header header
        uint64_t valid
        uint64_t memory_used_bytes
        uint64_t memory_total_bytes
        double compute_utilization
        double memory_bandwidth_utilization
        double kernel_time_ratio
        double communication_bytes_per_second

    ctypedef struct infini_runtime:
        infini_header header
        infiniStatus_t (*device_info)(int32_t, infini_device_info *) noexcept nogil
        infiniStatus_t (*set_device)(int32_t) noexcept nogil
        infiniStatus_t (*synchronize)() noexcept nogil
        infiniStatus_t (*memory_info)(uint64_t *, uint64_t *) noexcept nogil
        infiniStatus_t (*malloc_device)(uint64_t, void **) noexcept nogil
        infiniStatus_t (*free_device)(void *) noexcept nogil
        infiniStatus_t (*malloc_host)(uint64_t, void **) noexcept nogil
        infiniStatus_t (*free_host)(void *) noexcept nogil
        infiniStatus_t (*malloc_async)(uint64_t, infinirtStream_t, void **) noexcept nogil
        infiniStatus_t (*free_async)(void *, infinirtStream_t) noexcept nogil
        infiniStatus_t (*memcpy_sync)(void *, const void *, uint64_t, infinirtMemcpyKind_t) noexcept nogil
        infiniStatus_t (*memcpy_async)(void *, const void *, uint64_t, infinirtMemcpyKind_t,
                                       infinirtStream_t) noexcept nogil
        infiniStatus_t (*memset_async)(void *, int32_t, uint64_t, infinirtStream_t) noexcept nogil
        infiniStatus_t (*stream_create)(uint32_t, infinirtStream_t *) noexcept nogil
        infiniStatus_t (*stream_destroy)(infinirtStream_t) noexcept nogil
        infiniStatus_t (*stream_synchronize)(infinirtStream_t) noexcept nogil
        infiniStatus_t (*stream_wait_event)(infinirtStream_t, infinirtEvent_t) noexcept nogil
        infiniStatus_t (*event_create)(uint32_t, infinirtEvent_t *) noexcept nogil
        infiniStatus_t (*event_destroy)(infinirtEvent_t) noexcept nogil
        infiniStatus_t (*event_record)(infinirtEvent_t, infinirtStream_t) noexcept nogil
        infiniStatus_t (*event_query)(infinirtEvent_t) noexcept nogil
        infiniStatus_t (*event_synchronize)(infinirtEvent_t) noexcept nogil
        infiniStatus_t (*event_elapsed)(infinirtEvent_t, infinirtEvent_t, float *) noexcept nogil
        infiniStatus_t (*capture_begin)(infinirtStream_t, infinirtStreamCaptureMode_t) noexcept nogil
        infiniStatus_t (*capture_end)(infinirtStream_t, infinirtGraph_t *) noexcept nogil
        infiniStatus_t (*graph_destroy)(infinirtGraph_t) noexcept nogil
        infiniStatus_t (*graph_instantiate)(infinirtGraph_t, infinirtGraphExec_t *) noexcept nogil
        infiniStatus_t (*graph_launch)(infinirtGraphExec_t, infinirtStream_t) noexcept nogil
        infiniStatus_t (*graph_exec_destroy)(infinirtGraphExec_t) noexcept nogil
        infiniStatus_t (*resources)(int32_t, infini_resources *) noexcept nogil
        infiniStatus_t (*can_access_peer)(int32_t, int32_t, int32_t *) noexcept nogil
        infiniStatus_t (*graph_update)(infinirtGraphExec_t, infinirtGraph_t) noexcept nogil

    ctypedef struct infini_unique_id:
        uint32_t size
        char bytes[4092]

    ctypedef struct infini_ccl:
        infini_header header
        infiniStatus_t (*unique_id)(infini_unique_id *) noexcept nogil
        infiniStatus_t (*init_rank)(int32_t, int32_t, const infini_unique_id *,
                                    infinicclComm_t *) noexcept nogil
        infiniStatus_t (*init_all)(int32_t, const int32_t *, infinicclComm_t *) noexcept nogil
        infiniStatus_t (*destroy)(infinicclComm_t) noexcept nogil
        infiniStatus_t (*group_start)() noexcept nogil
        infiniStatus_t (*group_end)() noexcept nogil
        infiniStatus_t (*all_reduce)(const void *, void *, uint64_t, infiniDtype_t, infinicclReduceOp_t,
                                     infinicclComm_t, infinirtStream_t) noexcept nogil
        infiniStatus_t (*reduce)(const void *, void *, uint64_t, infiniDtype_t, infinicclReduceOp_t, int32_t,
                                 infinicclComm_t, infinirtStream_t) noexcept nogil
        infiniStatus_t (*broadcast)(const void *, void *, uint64_t, infiniDtype_t, int32_t, infinicclComm_t,
                                    infinirtStream_t) noexcept nogil
        infiniStatus_t (*all_gather)(const void *, void *, uint64_t, infiniDtype_t, infinicclComm_t,
                                     infinirtStream_t) noexcept nogil
        infiniStatus_t (*all_gather_v)(const void *, void *, const uint64_t *, infiniDtype_t, infinicclComm_t,
                                       infinirtStream_t) noexcept nogil
        infiniStatus_t (*reduce_scatter)(const void *, void *, uint64_t, infiniDtype_t, infinicclReduceOp_t,
                                         infinicclComm_t, infinirtStream_t) noexcept nogil
        infiniStatus_t (*reduce_scatter_v)(const void *, void *, const uint64_t *, infiniDtype_t,
                                           infinicclReduceOp_t, infinicclComm_t,
                                           infinirtStream_t) noexcept nogil
        infiniStatus_t (*all_to_all)(const void *, void *, uint64_t, infiniDtype_t, infinicclComm_t,
                                     infinirtStream_t) noexcept nogil
        infiniStatus_t (*send)(const void *, uint64_t, infiniDtype_t, int32_t, infinicclComm_t,
                               infinirtStream_t) noexcept nogil
        infiniStatus_t (*receive)(void *, uint64_t, infiniDtype_t, int32_t, infinicclComm_t,
                                  infinirtStream_t) noexcept nogil
        infiniStatus_t (*barrier)(infinicclComm_t, infinirtStream_t) noexcept nogil

    ctypedef struct infini_operator:
        infini_header header
        const char *name
        uint64_t fingerprint
        infiniStatus_t (*create)(const infini_slot *, infini_descriptor *) noexcept nogil
        infiniStatus_t (*workspace)(infini_descriptor, uint64_t *) noexcept nogil
        infiniStatus_t (*execute)(infini_descriptor, void *, uint64_t, const infini_slot *,
                                  infinirtStream_t) noexcept nogil
        void (*destroy)(infini_descriptor) noexcept nogil

    ctypedef struct infini_backend:
        infini_header header
        const char *name
        const char *vendor
        const char *version
        int32_t device_type
        int32_t dlpack_type
        infiniStatus_t (*open)(const infini_host *, int32_t *) noexcept nogil
        const infini_runtime *runtime
        const infini_ccl *ccl
        uint64_t operator_count
        const infini_operator **operators
        uint64_t flags
