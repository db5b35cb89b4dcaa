/* infinirt.h -- runtime of the public C API: devices, memory, streams, events, graphs, copies. */
#ifndef INFINIRT_H
#define INFINIRT_H

#include "infinicore.h"

typedef void *infinirtStream_t; /* NULL: the device's default stream */
typedef void *infinirtEvent_t;
typedef void *infinirtGraph_t;
typedef void *infinirtGraphExec_t;
typedef void *infinirtGraphNode_t;

typedef enum {
  INFINIRT_EVENT_COMPLETE = 0,
  INFINIRT_EVENT_NOT_READY = 1,
} infinirtEventStatus_t;

typedef enum {
  INFINIRT_EVENT_DEFAULT = 0x0,
  INFINIRT_EVENT_DISABLE_TIMING = 0x1,
  INFINIRT_EVENT_BLOCKING_SYNC = 0x2,
} infinirtEventFlags_t;

typedef enum {
  INFINIRT_MEMCPY_H2H = 0,
  INFINIRT_MEMCPY_H2D = 1,
  INFINIRT_MEMCPY_D2H = 2,
  INFINIRT_MEMCPY_D2D = 3,
} infinirtMemcpyKind_t;

typedef enum {
  INFINIRT_STREAM_CAPTURE_MODE_GLOBAL = 0,
  INFINIRT_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1,
  INFINIRT_STREAM_CAPTURE_MODE_RELAXED = 2,
} infinirtStreamCaptureMode_t;

#endif /* INFINIRT_H */

#if !defined(INFINI_TYPES_ONLY) && !defined(INFINIRT_FUNCTIONS)
#define INFINIRT_FUNCTIONS
#include "infinicore.h"

/* What a snapshot may hold, in the order of its members. */
typedef enum {
  INFINIRT_RESOURCE_FIELD_NONE = 0,
  INFINIRT_RESOURCE_FIELD_MEMORY_CAPACITY = 1 << 0,
  INFINIRT_RESOURCE_FIELD_COMPUTE_UTILIZATION = 1 << 1,
  INFINIRT_RESOURCE_FIELD_MEMORY_BANDWIDTH_UTILIZATION = 1 << 2,
  INFINIRT_RESOURCE_FIELD_KERNEL_TIME_RATIO = 1 << 3,
  INFINIRT_RESOURCE_FIELD_COMMUNICATION = 1 << 4,
} infinirtResourceField_t;

typedef struct {
  uint64_t valid_fields; /* infinirtResourceField_t, joined: the others below are 0 and mean nothing */
  size_t free_bytes;
  size_t total_bytes;
  double compute_utilization;          /* 0..1 */
  double memory_bandwidth_utilization; /* 0..1 */
  double kernel_time_ratio;            /* 0..1 */
  double communication_bytes_per_second;
} infinirtDeviceResourceSnapshot_t;

#ifdef __cplusplus
extern "C" {
#endif

/* Every function acts on the device that infinirtSetDevice chose on the calling thread (CPU 0 where none
 * was), and returns INFINI_STATUS_SUCCESS, or a status whose reason infiniGetLastError() says. */

INFINI_API infiniStatus_t infinirtInit(void);
/* count_array has INFINI_DEVICE_TYPE_COUNT entries; a vendor that cannot be used has 0 devices. */
INFINI_API infiniStatus_t infinirtGetAllDeviceCount(int *count_array);
INFINI_API infiniStatus_t infinirtGetDeviceCount(infiniDevice_t device, int *count);
INFINI_API infiniStatus_t infinirtSetDevice(infiniDevice_t device, int device_id);
INFINI_API infiniStatus_t infinirtGetDevice(infiniDevice_t *device_ptr, int *device_id_ptr);
INFINI_API infiniStatus_t infinirtGetMemInfo(infiniDevice_t device, int device_id, size_t *free_bytes,
                                             size_t *total_bytes);
INFINI_API infiniStatus_t infinirtGetDeviceResourceSnapshot(infiniDevice_t device, int device_id,
                                                            infinirtDeviceResourceSnapshot_t *snapshot);
INFINI_API infiniStatus_t infinirtDeviceSynchronize(void);

INFINI_API infiniStatus_t infinirtStreamCreate(infinirtStream_t *stream_ptr);
INFINI_API infiniStatus_t infinirtStreamDestroy(infinirtStream_t stream);
INFINI_API infiniStatus_t infinirtStreamSynchronize(infinirtStream_t stream);
INFINI_API infiniStatus_t infinirtStreamWaitEvent(infinirtStream_t stream, infinirtEvent_t event);

INFINI_API infiniStatus_t infinirtEventCreate(infinirtEvent_t *event_ptr);
INFINI_API infiniStatus_t infinirtEventCreateWithFlags(infinirtEvent_t *event_ptr, uint32_t flags);
INFINI_API infiniStatus_t infinirtEventRecord(infinirtEvent_t event, infinirtStream_t stream);
INFINI_API infiniStatus_t infinirtEventQuery(infinirtEvent_t event, infinirtEventStatus_t *status_ptr);
INFINI_API infiniStatus_t infinirtEventSynchronize(infinirtEvent_t event);
INFINI_API infiniStatus_t infinirtEventDestroy(infinirtEvent_t event);
INFINI_API infiniStatus_t infinirtEventElapsedTime(float *ms_ptr, infinirtEvent_t start, infinirtEvent_t end);

/* size 0 gives NULL, and NULL may be freed. */
INFINI_API infiniStatus_t infinirtMalloc(void **p_ptr, size_t size);
INFINI_API infiniStatus_t infinirtMallocHost(void **p_ptr, size_t size);
INFINI_API infiniStatus_t infinirtFree(void *ptr);
INFINI_API infiniStatus_t infinirtFreeHost(void *ptr);
INFINI_API infiniStatus_t infinirtMemcpy(void *dst, const void *src, size_t size, infinirtMemcpyKind_t kind);
INFINI_API infiniStatus_t infinirtMemcpyAsync(void *dst, const void *src, size_t size,
                                              infinirtMemcpyKind_t kind, infinirtStream_t stream);
INFINI_API infiniStatus_t infinirtMallocAsync(void **p_ptr, size_t size, infinirtStream_t stream);
INFINI_API infiniStatus_t infinirtFreeAsync(void *ptr, infinirtStream_t stream);
INFINI_API infiniStatus_t infinirtMemset(void *ptr, int value, size_t count);
INFINI_API infiniStatus_t infinirtMemsetAsync(void *ptr, int value, size_t count, infinirtStream_t stream);

INFINI_API infiniStatus_t infinirtStreamBeginCapture(infinirtStream_t stream,
                                                     infinirtStreamCaptureMode_t mode);
INFINI_API infiniStatus_t infinirtStreamEndCapture(infinirtStream_t stream, infinirtGraph_t *graph_ptr);
INFINI_API infiniStatus_t infinirtGraphDestroy(infinirtGraph_t graph);
/* node_ptr and log_buffer may be NULL; a failure is described in both log_buffer and infiniGetLastError(). */
INFINI_API infiniStatus_t infinirtGraphInstantiate(infinirtGraphExec_t *graph_exec_ptr, infinirtGraph_t graph,
                                                   infinirtGraphNode_t *node_ptr, char *log_buffer,
                                                   size_t buffer_size);
INFINI_API infiniStatus_t infinirtGraphExecDestroy(infinirtGraphExec_t graph_exec);
INFINI_API infiniStatus_t infinirtGraphLuanch(infinirtGraphExec_t graph_exec, infinirtStream_t stream);
INFINI_API infiniStatus_t infinirtGraphLaunch(infinirtGraphExec_t graph_exec, infinirtStream_t stream);

#ifdef __cplusplus
}
#endif
#endif /* INFINIRT_FUNCTIONS */
