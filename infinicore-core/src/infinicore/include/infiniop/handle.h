/* infiniop/handle.h -- a handle names the device that operators are created for. */
#ifndef INFINIOP_HANDLE_H
#define INFINIOP_HANDLE_H

#include "../infinicore.h"

struct InfiniopHandle; /* begins with {int device; int device_id;} */
typedef struct InfiniopHandle *infiniopHandle_t;

#ifdef __cplusplus
extern "C" {
#endif

/* A handle for this thread's current device. Any thread may use it. */
INFINI_API infiniStatus_t infiniopCreateHandle(infiniopHandle_t *handle_ptr);
INFINI_API infiniStatus_t infiniopDestroyHandle(infiniopHandle_t handle);

#ifdef __cplusplus
}
#endif
#endif /* INFINIOP_HANDLE_H */
