// infinicore_cuda/sdk.hpp -- NVIDIA's SDK as the templates of infinicore/cudalike want it described.
// The CUDA runtime is linked statically; driver, NVML, NCCL and cuBLASLt are opened where they are used.
#pragma once
#include <infinicore/cudalike/collectives.hpp>
#include <infinicore/cudalike/runtime.hpp>

#include <cuda_runtime_api.h>

#include "libraries.hpp"

namespace infini::cuda {

// A version of CUDA as its functions return it, 13000, as text, "13.0".
inline std::string version(int number) {
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

struct Sdk : cudalike::Numbers {
  static constexpr const char *prefix = "cuda";

  using Error = cudaError_t;
  using Stream = cudaStream_t;
  using Event = cudaEvent_t;
  using Graph = cudaGraph_t;
  using GraphExec = cudaGraphExec_t;
  using MemcpyKind = cudaMemcpyKind;
  using CaptureMode = cudaStreamCaptureMode;
  using DeviceAttribute = cudaDeviceAttr;

#define INFINI_FUNCTION(name) static constexpr auto name = &::cuda##name
  INFINI_FUNCTION(GetErrorName);
  INFINI_FUNCTION(GetErrorString);
  INFINI_FUNCTION(GetLastError);
  INFINI_FUNCTION(GetDevice);
  INFINI_FUNCTION(GetDeviceCount);
  INFINI_FUNCTION(SetDevice);
  INFINI_FUNCTION(DeviceSynchronize);
  INFINI_FUNCTION(DeviceGetAttribute);
  INFINI_FUNCTION(MemGetInfo);
  INFINI_FUNCTION(Malloc);
  INFINI_FUNCTION(Free);
  INFINI_FUNCTION(MallocHost);
  INFINI_FUNCTION(FreeHost);
  INFINI_FUNCTION(MallocAsync);
  INFINI_FUNCTION(FreeAsync);
  INFINI_FUNCTION(Memcpy);
  INFINI_FUNCTION(MemcpyAsync);
  INFINI_FUNCTION(MemsetAsync);
  INFINI_FUNCTION(StreamCreateWithFlags);
  INFINI_FUNCTION(StreamDestroy);
  INFINI_FUNCTION(StreamSynchronize);
  INFINI_FUNCTION(StreamWaitEvent);
  INFINI_FUNCTION(StreamBeginCapture);
  INFINI_FUNCTION(StreamEndCapture);
  INFINI_FUNCTION(EventCreateWithFlags);
  INFINI_FUNCTION(EventDestroy);
  INFINI_FUNCTION(EventRecord);
  INFINI_FUNCTION(EventQuery);
  INFINI_FUNCTION(EventSynchronize);
  INFINI_FUNCTION(EventElapsedTime);
  INFINI_FUNCTION(GraphDestroy);
  INFINI_FUNCTION(GraphLaunch);
  INFINI_FUNCTION(GraphExecDestroy);
  INFINI_FUNCTION(DeviceCanAccessPeer);
  INFINI_FUNCTION(DeviceEnablePeerAccess);
#undef INFINI_FUNCTION
  // CUDA 11's cudaGraphInstantiate takes other arguments than CUDA 12's; this one never changed.
  static constexpr auto GraphInstantiate = &::cudaGraphInstantiateWithFlags;
  static cudaError_t GraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph) {
    cudaGraphExecUpdateResultInfo why;  // which node of a capture it was says nothing to anybody
    return ::cudaGraphExecUpdate(exec, graph, &why);
  }

  static void device_info(int device, infini_device_info &info);
  static void resources(int device, infini_resources &out);
  static void set_up_device(int device);
};

// NCCL: the copy that this process has already (PyTorch's, say), else the one that is installed.
struct Nccl : cudalike::CclNumbers {
  static constexpr const char *prefix = "nccl";

  using Sdk = cuda::Sdk;
  using Result = int;  // ncclResult_t
  using Comm = struct ncclComm *;
  struct UniqueId {  // passed by value
    char internal[128];
  };

  static void load();

  static inline const char *(*GetErrorString)(Result) = nullptr;
  static inline const char *(*GetLastError)(Comm) = nullptr;  // since 2.13
  static inline Result (*GetUniqueId)(UniqueId *) = nullptr;
  static inline Result (*CommInitRank)(Comm *, int ranks, UniqueId, int rank) = nullptr;
  static inline Result (*CommInitAll)(Comm *, int count, const int *devices) = nullptr;
  static inline Result (*CommDestroy)(Comm) = nullptr;
  static inline Result (*CommCount)(Comm, int *) = nullptr;
  static inline Result (*CommUserRank)(Comm, int *) = nullptr;
  static inline Result (*CommGetAsyncError)(Comm, Result *) = nullptr;
  static inline Result (*GroupStart)() = nullptr;
  static inline Result (*GroupEnd)() = nullptr;
  static inline Result (*AllReduce)(const void *, void *, size_t, int type, int op, Comm,
                                    cudaStream_t) = nullptr;
  static inline Result (*Reduce)(const void *, void *, size_t, int type, int op, int root, Comm,
                                 cudaStream_t) = nullptr;
  static inline Result (*Broadcast)(const void *, void *, size_t, int type, int root, Comm,
                                    cudaStream_t) = nullptr;
  static inline Result (*AllGather)(const void *, void *, size_t, int type, Comm, cudaStream_t) = nullptr;
  static inline Result (*ReduceScatter)(const void *, void *, size_t, int type, int op, Comm,
                                        cudaStream_t) = nullptr;
  static inline Result (*Send)(const void *, size_t, int type, int peer, Comm, cudaStream_t) = nullptr;
  static inline Result (*Recv)(void *, size_t, int type, int peer, Comm, cudaStream_t) = nullptr;
};

}  // namespace infini::cuda
