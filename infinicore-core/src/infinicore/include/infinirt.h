/* infinirt.h -- runtime types of the public C API: streams, events, graphs, copies. */
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
