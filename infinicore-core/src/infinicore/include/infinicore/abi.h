/* infinicore/abi.h -- everything a vendor plug-in shares with infinicore-core.
 *
 * C11, no Python, no C++, no allocation across the boundary, nothing to link.
 *
 * Rules
 *   - Tables are static const data owned by whoever publishes them; they live as long as the process.
 *   - Members are only ever appended (bump MINOR). Anything else bumps MAJOR and the capsule's name.
 *   - A reader tests a member with INFINI_HAS before it calls it, unless it is marked "required".
 *   - Unless it says otherwise a function is called without the GIL, from any thread, acts on the
 *     device that set_device chose on that thread, and reports failure with `return host->fail(...)`.
 *   - Pointers passed in are borrowed for the duration of the call; NULL is not allowed unless stated.
 *   - "since 1.n" gives the minor that added a member; members without it are from 1.0. */
#ifndef INFINICORE_ABI_H
#define INFINICORE_ABI_H
#define INFINI_TYPES_ONLY /* a plug-in links with nothing, so it sees no function of the C API */
#include "../infiniccl.h"
#undef INFINI_TYPES_ONLY
#ifdef __cplusplus
extern "C" {
#endif

#define INFINI_ABI_MAJOR 1
#define INFINI_ABI_MINOR 2
#define INFINI_BACKEND_CAPSULE "infinicore.backend.v1" /* v<MAJOR> */

/* First member of every table. struct_size is sizeof(table) as its author compiled it. */
typedef struct infini_header {
  uint32_t struct_size;
  uint16_t abi_major;
  uint16_t abi_minor;
} infini_header;

#define INFINI_HEADER(table_type) \
  { (uint32_t)sizeof(table_type), INFINI_ABI_MAJOR, INFINI_ABI_MINOR }

/* Does the other side's table reach this member? For data, which may legitimately be zero. */
#define INFINI_REACHES(table_type, table, member) \
  ((table)->header.struct_size >= offsetof(table_type, member) + sizeof((table)->member))

/* Does it reach this member, and is it filled in? */
#define INFINI_HAS(table_type, table, member) \
  (INFINI_REACHES(table_type, table, member) && (table)->member != NULL)

/* ---- data ---------------------------------------------------------------- */

/* A borrowed view of a tensor. Zero and negative strides are legal. */
typedef struct infini_tensor {
  void *data;             /* address of element (0, ..., 0); NULL only while a descriptor is created */
  const int64_t *shape;   /* ndim entries; never NULL, even for ndim 0 */
  const int64_t *strides; /* ndim entries, in elements */
  int32_t ndim;
  int32_t dtype; /* infiniDtype_t */
} infini_tensor;

typedef struct infini_tensor_list {
  int64_t count;
  const infini_tensor *items;
} infini_tensor_list;

typedef struct infini_int_list {
  int64_t count;
  const int64_t *items;
} infini_int_list;

/* One argument of one call: eight bytes, so that infini_<operator>_args overlays the array. */
typedef union infini_slot {
  const infini_tensor *tensor; /* NULL: optional tensor not given, or deferred to execute */
  const infini_tensor_list *tensors;
  const infini_int_list *ints;
  int64_t i64; /* int, bool, enumerators, dtypes */
  double f64;
} infini_slot;

typedef struct infini_descriptor_ *infini_descriptor; /* owned by core: one destroy per create */

/* ---- services that core lends to the plug-in ------------------------------ */

struct infini_backend;

enum { INFINI_LOG_DEBUG = 10, INFINI_LOG_INFO = 20, INFINI_LOG_WARNING = 30, INFINI_LOG_ERROR = 40 };

typedef struct infini_host {
  infini_header header;
  /* Store message (copied) for this thread and return code. */
  infiniStatus_t (*fail)(infiniStatus_t code, const char *message);
  /* Hand message (copied) to core's logger. */
  void (*log)(int32_t level, const char *message);
  /* Record one step of the plug-in's search for a vendor library, during open() only: what was
   * looked for ("libcuda.so.1"), where ("ld.so"), and the outcome ("not found"). All copied. */
  void (*trail)(const char *what, const char *where, const char *result);
  /* The table of a backend that is ready, or NULL. "cpu" always is. */
  const struct infini_backend *(*backend)(const char *name);
  /* What fail() last stored on this thread; valid until the next fail() on it. Since 1.1. */
  const char *(*message)(void);
  /* 1 where this thread's caller gave up waiting (Ctrl-C), else 0. What waits for others asks now and then,
   * on the thread that it was called on, and returns a failure; the caller then hears of Ctrl-C instead.
   * Since 1.2. */
  int32_t (*interrupted)(void);
} infini_host;

/* ---- runtime --------------------------------------------------------------- */

typedef struct infini_device_info { /* filled by the plug-in; the caller sets header */
  infini_header header;
  char name[128];
  char driver[64];
  char runtime[64];
  char architecture[32]; /* "sm_90", "Ascend910B3", "x86-64-v4", ... */
  uint64_t memory_bytes;
  int32_t compute_units;
  int32_t warp_width; /* 1 where the notion does not apply */
} infini_device_info;

typedef struct infini_resources { /* since 1.1; the caller sets header */
  infini_header header;
  uint64_t valid; /* bit i: the i-th member below is measured */
  uint64_t memory_used_bytes;
  uint64_t memory_total_bytes;
  double compute_utilization;          /* 0..1 */
  double memory_bandwidth_utilization; /* 0..1 */
  double kernel_time_ratio;            /* 0..1 */
  double communication_bytes_per_second;
} infini_resources;

typedef struct infini_runtime {
  infini_header header;
  /* devices: required. device is 0 .. device_count-1 of open(). */
  infiniStatus_t (*device_info)(int32_t device, infini_device_info *info);
  infiniStatus_t (*set_device)(int32_t device); /* thread-local */
  infiniStatus_t (*synchronize)(void);
  infiniStatus_t (*memory_info)(uint64_t *free_bytes, uint64_t *total_bytes);
  /* memory: required. bytes > 0; addresses are aligned to 64 bytes or more. */
  infiniStatus_t (*malloc_device)(uint64_t bytes, void **out);
  infiniStatus_t (*free_device)(void *memory);
  infiniStatus_t (*malloc_host)(uint64_t bytes, void **out); /* pinned */
  infiniStatus_t (*free_host)(void *memory);
  /* memory, stream-ordered: optional; core then uses the synchronous pair. */
  infiniStatus_t (*malloc_async)(uint64_t bytes, infinirtStream_t stream, void **out);
  infiniStatus_t (*free_async)(void *memory, infinirtStream_t stream);
  /* copies: required. memcpy_sync returns when the bytes are there. */
  infiniStatus_t (*memcpy_sync)(void *target, const void *source, uint64_t bytes, infinirtMemcpyKind_t kind);
  infiniStatus_t (*memcpy_async)(void *target, const void *source, uint64_t bytes, infinirtMemcpyKind_t kind,
                                 infinirtStream_t stream);
  infiniStatus_t (*memset_async)(void *target, int32_t value, uint64_t bytes, infinirtStream_t stream);
  /* streams: required. */
  infiniStatus_t (*stream_create)(uint32_t flags, infinirtStream_t *out);
  infiniStatus_t (*stream_destroy)(infinirtStream_t stream);
  infiniStatus_t (*stream_synchronize)(infinirtStream_t stream);
  infiniStatus_t (*stream_wait_event)(infinirtStream_t stream, infinirtEvent_t event);
  /* events: required. flags are infinirtEventFlags_t. */
  infiniStatus_t (*event_create)(uint32_t flags, infinirtEvent_t *out);
  infiniStatus_t (*event_destroy)(infinirtEvent_t event);
  infiniStatus_t (*event_record)(infinirtEvent_t event, infinirtStream_t stream);
  infiniStatus_t (*event_query)(infinirtEvent_t event); /* SUCCESS or NOT_READY */
  infiniStatus_t (*event_synchronize)(infinirtEvent_t event);
  infiniStatus_t (*event_elapsed)(infinirtEvent_t start, infinirtEvent_t end, float *milliseconds);
  /* graphs: optional, all or none; core then records and replays calls itself. */
  infiniStatus_t (*capture_begin)(infinirtStream_t stream, infinirtStreamCaptureMode_t mode);
  infiniStatus_t (*capture_end)(infinirtStream_t stream, infinirtGraph_t *out);
  infiniStatus_t (*graph_destroy)(infinirtGraph_t graph);
  infiniStatus_t (*graph_instantiate)(infinirtGraph_t graph, infinirtGraphExec_t *out);
  infiniStatus_t (*graph_launch)(infinirtGraphExec_t exec, infinirtStream_t stream);
  infiniStatus_t (*graph_exec_destroy)(infinirtGraphExec_t exec);
  /* optional, since 1.1 */
  infiniStatus_t (*resources)(int32_t device, infini_resources *out);
  infiniStatus_t (*can_access_peer)(int32_t device, int32_t peer, int32_t *out);
  /* optional, since 1.2, with graphs only. From its next launch on exec does what graph says; launches under
   * way go on as they are. NOT_IMPLEMENTED: the two differ too much; core then makes another exec of graph.
   */
  infiniStatus_t (*graph_update)(infinirtGraphExec_t exec, infinirtGraph_t graph);
} infini_runtime;

/* ---- collectives ----------------------------------------------------------- */

typedef struct infini_unique_id { /* made by one rank, carried to the others by the user */
  uint32_t size;                  /* bytes used: at most 128, which is what infinicclUniqueId_t carries */
  char bytes[4092];
} infini_unique_id;

/* Counts are elements. send == receive is allowed where both have the same size. Every call only
 * enqueues on the stream, and every member but init_*, destroy and unique_id may stand in a group. */
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

/* ---- operators: create -> workspace -> execute -> destroy ------------------- */

typedef struct infini_operator {
  infini_header header;
  const char *name;
  uint64_t fingerprint; /* INFINI_FINGERPRINT_<name> of <infinicore/operators.h> */
  /* Reads layouts, dtypes and Static values; never data pointers, never plain scalars. Returns
   * NOT_IMPLEMENTED or BAD_TENSOR_* for a combination it lacks. */
  infiniStatus_t (*create)(const infini_slot *args, infini_descriptor *out);
  infiniStatus_t (*workspace)(infini_descriptor descriptor, uint64_t *bytes);
  /* Re-entrant on one descriptor; only enqueues on the stream. workspace is 64-byte aligned device
   * memory, NULL when bytes is 0. Core guarantees what the signature says about shapes and dtypes. */
  infiniStatus_t (*execute)(infini_descriptor descriptor, void *workspace, uint64_t bytes,
                            const infini_slot *args, infinirtStream_t stream);
  void (*destroy)(infini_descriptor descriptor);
} infini_operator;

/* ---- the hand-off ------------------------------------------------------------ */

typedef struct infini_backend {
  infini_header header;
  const char *name;    /* "cuda": the device string users write */
  const char *vendor;  /* "NVIDIA" */
  const char *version; /* the plug-in's own version, for reports only */
  int32_t device_type; /* infiniDevice_t, or -1 outside the public enumeration */
  int32_t dlpack_type; /* DLDeviceType: kDLCUDA 2, kDLExtDev 12, ... */
  /* Load vendor libraries and count devices: at most once, on first use, never at import. On
   * UNAVAILABLE core keeps the message and reports it on demand. host lives as long as the process. */
  infiniStatus_t (*open)(const infini_host *host, int32_t *device_count);
  const infini_runtime *runtime;
  const infini_ccl *ccl; /* NULL: no collective library */
  uint64_t operator_count;
  const infini_operator *const *operators;
  /* since 1.1 */
  uint64_t flags; /* INFINI_BACKEND_* */
} infini_backend;

#define INFINI_BACKEND_HOST_MEMORY 1u     /* device memory is ordinary host memory */
#define INFINI_BACKEND_CUDA_COMPATIBLE 2u /* answers to "cuda" where infinicore-cuda is absent */

/* The one symbol that a plug-in library exports. */
#if defined(__GNUC__)
#define INFINI_EXPORT __attribute__((visibility("default")))
#else
#define INFINI_EXPORT
#endif
INFINI_EXPORT const infini_backend *infinicore_backend(void);

#ifdef __cplusplus
}
#endif
#endif /* INFINICORE_ABI_H */
