/* infiniccl.h -- collective types of the public C API. */
#ifndef INFINICCL_H
#define INFINICCL_H

#include "infinirt.h"

typedef void *infinicclComm_t;

typedef enum {
  INFINICCL_SUM = 0,
  INFINICCL_PROD = 1,
  INFINICCL_MAX = 2,
  INFINICCL_MIN = 3,
  INFINICCL_AVG = 4,
} infinicclReduceOp_t;

#endif /* INFINICCL_H */
