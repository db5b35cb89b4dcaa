/* infinicore/abi.h as it was at minor 0, without its comments: what a plug-in of that time was compiled with.
 * Frozen. A plug-in built with it has to work for as long as the major is 1. */
#ifndef INFINICORE_ABI_H
#define INFINICORE_ABI_H

#include <infiniccl.h>

#ifdef __cplusplus
extern "C" {
#endif

#define INFINI_ABI_MAJOR 1
#define INFINI_ABI_MINOR 0
#define INFINI_BACKEND_CAPSULE "infinicore.backend.v1"

typedef struct infini_header {
  uint32_t struct_size;
  uint16_t abi_major;
  uint16_t abi_minor;
} infini_header;

#define INFINI_HEADER(table_type) \
  { (uint32_t)sizeof(table_type), INFINI_ABI_MAJOR, INFINI_ABI_MINOR }

#define INFINI_REACHES(table_type, table, member) \
  ((table)->header.struct_size >= offsetof(table_type, member) + sizeof((table)->member))

#define INFINI_HAS(table_type, table, member) \
  (INFINI_REACHES(table_type, table, member) && (table)->member != NULL)

typedef struct infini_tensor {
  void *data;
  const int64_t *shape;
  const int64_t *strides;
  int32_t ndim;
  int32_t dtype;
} infini_tensor;

typedef struct infini_tensor_list {
  int64_t count;
  const infini_tensor *items;
} infini_tensor_list;

typedef struct infini_int_list {
  int64_t count;
  const int64_t *items;
} infini_int_list;

typedef union infini_slot {
  const infini_tensor *tensor;
  const infini_tensor_list *tensors;
  const infini_int_list *ints;
  int64_t i64;
  double f64;
} infini_slot;

typedef struct infini_descriptor_ *infini_descriptor;

struct infini_backend;

enum { INFINI_LOG_DEBUG = 10, INFINI_LOG_INFO = 20, INFINI_LOG_WARNING = 30, INFINI_LOG_ERROR = 40 };

typedef struct infini_host {
  infini_header header;

  infiniStatus_t (*fail)(infiniStatus_t code, const char *message);

  void (*log)(int32_t level, const char *message);

  void (*trail)(const char *what, const char *where, const char *result);

  const struct infini_backend *(*backend)(const char *name);
} infini_host;

typedef struct infini_device_info {
  infini_header header;
  char name[128];
  char driver[64];
  char runtime[64];
  char architecture[32];
  uint64_t memory_bytes;
  int32_t compute_units;
  int32_t warp_width;
} infini_device_info;

typedef struct infini_runtime {
  infini_header header;

  infiniStatus_t (*device_info)(int32_t device, infini_device_info *info);
  infiniStatus_t (*set_device)(int32_t device);
  infiniStatus_t (*synchronize)(void);
  infiniStatus_t (*memory_info)(uint64_t *free_bytes, uint64_t *total_bytes);

  infiniStatus_t (*malloc_device)(uint64_t bytes, void **out);
  infiniStatus_t (*free_device)(void *memory);
  infiniStatus_t (*malloc_host)(uint64_t bytes, void **out);
  infiniStatus_t (*free_host)(void *memory);

  infiniStatus_t (*malloc_async)(uint64_t bytes, infinirtStream_t stream, void **out);
  infiniStatus_t (*free_async)(void *memory, infinirtStream_t stream);

  infiniStatus_t (*memcpy_sync)(void *target, const void *source, uint64_t bytes, infinirtMemcpyKind_t kind);
  infiniStatus_t (*memcpy_async)(void *target, const void *source, uint64_t bytes, infinirtMemcpyKind_t kind,
                                 infinirtStream_t stream);
  infiniStatus_t (*memset_async)(void *target, int32_t value, uint64_t bytes, infinirtStream_t stream);

  infiniStatus_t (*stream_create)(uint32_t flags, infinirtStream_t *out);
  infiniStatus_t (*stream_destroy)(infinirtStream_t stream);
  infiniStatus_t (*stream_synchronize)(infinirtStream_t stream);
  infiniStatus_t (*stream_wait_event)(infinirtStream_t stream, infinirtEvent_t event);

  infiniStatus_t (*event_create)(uint32_t flags, infinirtEvent_t *out);
  infiniStatus_t (*event_destroy)(infinirtEvent_t event);
  infiniStatus_t (*event_record)(infinirtEvent_t event, infinirtStream_t stream);
  infiniStatus_t (*event_query)(infinirtEvent_t event);
  infiniStatus_t (*event_synchronize)(infinirtEvent_t event);
  infiniStatus_t (*event_elapsed)(infinirtEvent_t start, infinirtEvent_t end, float *milliseconds);

  infiniStatus_t (*capture_begin)(infinirtStream_t stream, infinirtStreamCaptureMode_t mode);
  infiniStatus_t (*capture_end)(infinirtStream_t stream, infinirtGraph_t *out);
  infiniStatus_t (*graph_destroy)(infinirtGraph_t graph);
  infiniStatus_t (*graph_instantiate)(infinirtGraph_t graph, infinirtGraphExec_t *out);
  infiniStatus_t (*graph_launch)(infinirtGraphExec_t exec, infinirtStream_t stream);
  infiniStatus_t (*graph_exec_destroy)(infinirtGraphExec_t exec);
} infini_runtime;

typedef struct infini_unique_id {
  uint32_t size;
  char bytes[4092];
} infini_unique_id;

typedef struct infini_ccl {
  infini_header header;
  infiniStatus_t (*unique_id)(infini_unique_id *out);
  infiniStatus_t (*init_rank)(int32_t ranks, int32_t rank, const infini_unique_id *id, infinicclComm_t *out);
  infiniStatus_t (*init_all)(int32_t count, const int32_t *devices, infinicclComm_t *out);
  infiniStatus_t (*destroy)(infinicclComm_t comm);
  infiniStatus_t (*group_start)(void);
  infiniStatus_t (*group_end)(void);
  infiniStatus_t (*all_reduce)(const void *send, void *receive, uint64_t count, infiniDtype_t dtype,
                               infinicclReduceOp_t op, infinicclComm_t comm, infinirtStream_t stream);
  infiniStatus_t (*reduce)(const void *send, void *receive, uint64_t count, infiniDtype_t dtype,
                           infinicclReduceOp_t op, int32_t root, infinicclComm_t comm,
                           infinirtStream_t stream);
  infiniStatus_t (*broadcast)(const void *send, void *receive, uint64_t count, infiniDtype_t dtype,
                              int32_t root, infinicclComm_t comm, infinirtStream_t stream);
  infiniStatus_t (*all_gather)(const void *send, void *receive, uint64_t send_count, infiniDtype_t dtype,
                               infinicclComm_t comm, infinirtStream_t stream);
  infiniStatus_t (*all_gather_v)(const void *send, void *receive, const uint64_t *receive_counts,
                                 infiniDtype_t dtype, infinicclComm_t comm, infinirtStream_t stream);
  infiniStatus_t (*reduce_scatter)(const void *send, void *receive, uint64_t receive_count,
                                   infiniDtype_t dtype, infinicclReduceOp_t op, infinicclComm_t comm,
                                   infinirtStream_t stream);
  infiniStatus_t (*reduce_scatter_v)(const void *send, void *receive, const uint64_t *receive_counts,
                                     infiniDtype_t dtype, infinicclReduceOp_t op, infinicclComm_t comm,
                                     infinirtStream_t stream);
  infiniStatus_t (*all_to_all)(const void *send, void *receive, uint64_t count_per_peer, infiniDtype_t dtype,
                               infinicclComm_t comm, infinirtStream_t stream);
  infiniStatus_t (*send)(const void *buffer, uint64_t count, infiniDtype_t dtype, int32_t peer,
                         infinicclComm_t comm, infinirtStream_t stream);
  infiniStatus_t (*receive)(void *buffer, uint64_t count, infiniDtype_t dtype, int32_t peer,
                            infinicclComm_t comm, infinirtStream_t stream);
  infiniStatus_t (*barrier)(infinicclComm_t comm, infinirtStream_t stream);
} infini_ccl;

typedef struct infini_operator {
  infini_header header;
  const char *name;
  uint64_t fingerprint;

  infiniStatus_t (*create)(const infini_slot *args, infini_descriptor *out);
  infiniStatus_t (*workspace)(infini_descriptor descriptor, uint64_t *bytes);

  infiniStatus_t (*execute)(infini_descriptor descriptor, void *workspace, uint64_t bytes,
                            const infini_slot *args, infinirtStream_t stream);
  void (*destroy)(infini_descriptor descriptor);
} infini_operator;

typedef struct infini_backend {
  infini_header header;
  const char *name;
  const char *vendor;
  const char *version;
  int32_t device_type;
  int32_t dlpack_type;

  infiniStatus_t (*open)(const infini_host *host, int32_t *device_count);
  const infini_runtime *runtime;
  const infini_ccl *ccl;
  uint64_t operator_count;
  const infini_operator *const *operators;
} infini_backend;

#if defined(__GNUC__)
#define INFINI_EXPORT __attribute__((visibility("default")))
#else
#define INFINI_EXPORT
#endif
INFINI_EXPORT const infini_backend *infinicore_backend(void);

#ifdef __cplusplus
}
#endif
#endif
