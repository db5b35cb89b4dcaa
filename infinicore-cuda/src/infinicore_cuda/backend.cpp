// infinicore_cuda/backend.cpp -- the table that infinicore gets, and the first look at driver and devices.
#include <infinicore/cudalike/table.hpp>

#include "sdk.hpp"

namespace infini::cuda {

namespace {

// Why there are no devices, in a sentence.
[[noreturn]] void no_devices(cudaError_t error) {
  const std::string text = std::string(cudaGetErrorString(error)) + " (" + cudaGetErrorName(error) + ")";
  if (error == cudaErrorInsufficientDriver) {
    int ours = 0, theirs = 0;
    cudaRuntimeGetVersion(&ours);
    cudaDriverGetVersion(&theirs);
    throw Error(INFINI_STATUS_UNAVAILABLE, "the NVIDIA driver is too old: it supports CUDA " +
                                               version(theirs) + ", this wheel needs " + version(ours) +
                                               ": " + text);
  }
  throw Error(INFINI_STATUS_UNAVAILABLE, "the NVIDIA driver has no usable device: " + text);
}

infiniStatus_t open(const infini_host *core, int32_t *device_count) {
  host = core;
  return guard([&] {
    driver().report();
    if (!driver())
      throw Error(INFINI_STATUS_UNAVAILABLE, "the NVIDIA driver is not installed: there is no libcuda.so.1");
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess) no_devices(error);
    if (count == 0) no_devices(cudaErrorNoDevice);
    *device_count = count;
  });
}

}  // namespace

}  // namespace infini::cuda

const infini_backend *infinicore_backend(void) {
  using namespace infini::cuda;
  static const std::vector<const infini_operator *> all = infini::cudalike::table();
  static const infini_backend table = {
      INFINI_HEADER(infini_backend),
      INFINI_NAME,
      INFINI_VENDOR,
      INFINI_VERSION,
      INFINI_DEVICE_NVIDIA,
      2,  // kDLCUDA
      open,
      &infini::cudalike::Runtime<Sdk>::table,
      &infini::cudalike::Collectives<Nccl>::table,
      all.size(),
      all.data(),
      0,
  };
  return &table;
}
