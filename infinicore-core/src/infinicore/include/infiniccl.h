/* infiniccl.h -- collectives of the public C API. */
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

#if !defined(INFINI_TYPES_ONLY) && !defined(INFINICCL_FUNCTIONS)
#define INFINICCL_FUNCTIONS
#include "infinirt.h"

#define INFINICCL_UNIQUE_ID_BYTES 128

typedef struct { /* made by one rank, carried to the others by the user */
  char internal[INFINICCL_UNIQUE_ID_BYTES];
} infinicclUniqueId_t;

#ifdef __cplusplus
extern "C" {
#endif

/* Counts are elements. Collectives only enqueue on the stream; sendbuf == recvbuf is allowed where both have
 * the same size. Where a vendor has no such collective, INFINI_STATUS_NOT_IMPLEMENTED. */

INFINI_API infiniStatus_t infinicclCommInitAll(infiniDevice_t device_type, infinicclComm_t *comms,
                                               int ndevice, const int *device_ids);
/* Of this thread's device: the id that one rank makes, and the communicator that every rank makes of it. */
INFINI_API infiniStatus_t infinicclGetUniqueId(infinicclUniqueId_t *unique_id);
INFINI_API infiniStatus_t infinicclCommInitRank(infinicclComm_t *comm, int nranks,
                                                infinicclUniqueId_t comm_id, int rank);
INFINI_API infiniStatus_t infinicclCommDestroy(infinicclComm_t comm); /* NULL is allowed */
INFINI_API infiniStatus_t infinicclGroupStart(infinicclComm_t comm);
INFINI_API infiniStatus_t infinicclGroupEnd(infinicclComm_t comm);
INFINI_API infiniStatus_t infinicclAllReduce(void *sendbuf, void *recvbuf, size_t count,
                                             infiniDtype_t dataype, infinicclReduceOp_t op,
                                             infinicclComm_t comm, infinirtStream_t stream);
INFINI_API infiniStatus_t infinicclReduce(const void *sendbuf, void *recvbuf, size_t count,
                                          infiniDtype_t datatype, infinicclReduceOp_t op, int root,
                                          infinicclComm_t comm, infinirtStream_t stream);
INFINI_API infiniStatus_t infinicclBroadcast(const void *sendbuf, void *recvbuf, size_t count,
                                             infiniDtype_t datatype, int root, infinicclComm_t comm,
                                             infinirtStream_t stream);
INFINI_API infiniStatus_t infinicclSend(const void *sendbuf, size_t count, infiniDtype_t datatype, int peer,
                                        infinicclComm_t comm, infinirtStream_t stream);
INFINI_API infiniStatus_t infinicclRecv(void *recvbuf, size_t count, infiniDtype_t datatype, int peer,
                                        infinicclComm_t comm, infinirtStream_t stream);
INFINI_API infiniStatus_t infinicclAllGather(void *sendbuf, void *recvbuf, size_t send_count,
                                             infiniDtype_t dataype, infinicclComm_t comm,
                                             infinirtStream_t stream);
INFINI_API infiniStatus_t infinicclAllGatherV(void *sendbuf, void *recvbuf, const size_t *recv_counts,
                                              int nranks, infiniDtype_t dataype, infinicclComm_t comm,
                                              infinirtStream_t stream);
INFINI_API infiniStatus_t infinicclReduceScatter(void *sendbuf, void *recvbuf, size_t recv_count,
                                                 infiniDtype_t dataype, infinicclReduceOp_t op,
                                                 infinicclComm_t comm, infinirtStream_t stream);
INFINI_API infiniStatus_t infinicclReduceScatterV(void *sendbuf, void *recvbuf, const size_t *send_counts,
                                                  int nranks, infiniDtype_t dataype, infinicclReduceOp_t op,
                                                  infinicclComm_t comm, infinirtStream_t stream);
INFINI_API infiniStatus_t infinicclAllToAll(const void *sendbuf, void *recvbuf, size_t count_per_peer,
                                            infiniDtype_t datatype, infinicclComm_t comm,
                                            infinirtStream_t stream);
INFINI_API infiniStatus_t infinicclBarrier(infinicclComm_t comm, infinirtStream_t stream);

#ifdef __cplusplus
}
#endif
#endif /* INFINICCL_FUNCTIONS */
