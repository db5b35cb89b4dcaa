/* infinicore.h -- the vocabulary of the public C API: status codes, devices, dtypes.
 *
 * Every other header, the plug-in ABI and the Python package use these enumerators. */
#ifndef INFINICORE_H
#define INFINICORE_H

#include <stddef.h>
#include <stdint.h>

/* What a call returns. A value is never reused; new ones are appended from 100. */
typedef enum {
  INFINI_STATUS_SUCCESS = 0,
  INFINI_STATUS_INTERNAL_ERROR = 1,
  INFINI_STATUS_NOT_IMPLEMENTED = 2,
  INFINI_STATUS_BAD_PARAM = 3,
  INFINI_STATUS_NULL_POINTER = 4,
  INFINI_STATUS_DEVICE_TYPE_NOT_SUPPORTED = 5,
  INFINI_STATUS_DEVICE_NOT_FOUND = 6,
  INFINI_STATUS_DEVICE_NOT_INITIALIZED = 7,
  INFINI_STATUS_DEVICE_ARCHITECTURE_NOT_SUPPORTED = 8,
  INFINI_STATUS_BAD_TENSOR_DTYPE = 10,
  INFINI_STATUS_BAD_TENSOR_SHAPE = 11,
  INFINI_STATUS_BAD_TENSOR_STRIDES = 12,
  INFINI_STATUS_INSUFFICIENT_WORKSPACE = 13,
  INFINI_STATUS_OUT_OF_MEMORY = 100,
  INFINI_STATUS_UNAVAILABLE = 101, /* driver or library missing: the message says which */
  INFINI_STATUS_NOT_READY = 102,   /* event query only: not an error */
  INFINI_STATUS_TIMEOUT = 103,
  INFINI_STATUS_PEER_FAILED = 104,        /* another rank of a collective died: the message says which */
  INFINI_STATUS_INDEX_OUT_OF_RANGE = 105, /* an element of an index tensor: the message says which */
} infiniStatus_t;

/* Devices of the public enumeration. A plug-in outside it gets a stable number >= 1000. */
typedef enum {
  INFINI_DEVICE_CPU = 0,
  INFINI_DEVICE_NVIDIA = 1,
  INFINI_DEVICE_CAMBRICON = 2,
  INFINI_DEVICE_ASCEND = 3,
  INFINI_DEVICE_METAX = 4,
  INFINI_DEVICE_MOORE = 5,
  INFINI_DEVICE_ILUVATAR = 6,
  INFINI_DEVICE_KUNLUN = 7,
  INFINI_DEVICE_HYGON = 8,
  INFINI_DEVICE_QY = 9,
  INFINI_DEVICE_TYPE_COUNT
} infiniDevice_t;

typedef enum {
  INFINI_DTYPE_INVALID = 0,
  INFINI_DTYPE_BYTE = 1,
  INFINI_DTYPE_BOOL = 2,
  INFINI_DTYPE_I8 = 3,
  INFINI_DTYPE_I16 = 4,
  INFINI_DTYPE_I32 = 5,
  INFINI_DTYPE_I64 = 6,
  INFINI_DTYPE_U8 = 7,
  INFINI_DTYPE_U16 = 8,
  INFINI_DTYPE_U32 = 9,
  INFINI_DTYPE_U64 = 10,
  INFINI_DTYPE_F8 = 11, /* e4m3fn */
  INFINI_DTYPE_F16 = 12,
  INFINI_DTYPE_F32 = 13,
  INFINI_DTYPE_F64 = 14,
  INFINI_DTYPE_C16 = 15,  /* a pair of F8: the total width, as in every complex dtype */
  INFINI_DTYPE_C32 = 16,  /* a pair of F16 */
  INFINI_DTYPE_C64 = 17,  /* a pair of F32 */
  INFINI_DTYPE_C128 = 18, /* a pair of F64 */
  INFINI_DTYPE_BF16 = 19,
} infiniDtype_t;

#endif /* INFINICORE_H */

#if !defined(INFINI_TYPES_ONLY) && !defined(INFINICORE_FUNCTIONS)
#define INFINICORE_FUNCTIONS

#if defined(__GNUC__)
#define INFINI_API __attribute__((visibility("default")))
#else
#define INFINI_API
#endif

/* A device that programs may name and no plug-in serves: outside infiniDevice_t, whose count they rely on. */
#define INFINI_DEVICE_ALI ((infiniDevice_t)10)

#ifdef __cplusplus
extern "C" {
#endif

/* Why the last call on this thread failed: operator, argument and both values. Never NULL; valid until the
 * next failure on this thread. In libinfinirt. */
INFINI_API const char *infiniGetLastError(void);

#ifdef __cplusplus
}
#endif
#endif /* INFINICORE_FUNCTIONS */
