// doubles/cuda/launch.cpp -- linked into the plug-in instead of nvcc's launches: a kernel joins its stream,
// where the host executor runs it when somebody waits.
#include <cuda_runtime_api.h>

#include <cstdio>

#include "simt/dialect.hpp"

extern "C" {
cudaError_t cuda_double_launch(cudaStream_t stream, int (*run)(void *), void (*destroy)(void *),
                               void *kernel);
int cuda_double_range(uintptr_t address, uintptr_t *begin, uintptr_t *end);
}

namespace infini::cudalike {

namespace {

simt::Range find_memory(uintptr_t address) {
  uintptr_t begin = 0, end = 0;
  const int owner = cuda_double_range(address, &begin, &end);
  return {begin, end,
          owner == 0   ? simt::Owner::host
          : owner == 1 ? simt::Owner::device
                       : simt::Owner::nobody};
}

}  // namespace

void enqueue(Stream stream, simt::Launch launch) {
  try {
    simt::check(launch);  // CUDA refuses at once, too
  } catch (const simt::Error &error) {
    throw Error(INFINI_STATUS_INTERNAL_ERROR, std::string("a kernel was not launched: ") + error.what());
  }
  const auto run = [](void *kernel) -> int {
    try {
      simt::set_device_memory(find_memory);
      simt::run(*static_cast<simt::Launch *>(kernel));
      return 0;
    } catch (const simt::Error &error) {
      std::fprintf(stderr, "CUDA double: %s\n", error.what());
      return cudaErrorLaunchFailure;
    }
  };
  const auto destroy = [](void *kernel) { delete static_cast<simt::Launch *>(kernel); };
  const cudaError_t error = cuda_double_launch(static_cast<cudaStream_t>(stream), run, destroy,
                                               new simt::Launch(std::move(launch)));
  if (error != cudaSuccess)
    throw Error(error == cudaErrorNoKernelImageForDevice ? INFINI_STATUS_DEVICE_ARCHITECTURE_NOT_SUPPORTED
                                                         : INFINI_STATUS_INTERNAL_ERROR,
                std::string("a kernel was not launched: ") + cudaGetErrorString(error) + " (" +
                    cudaGetErrorName(error) + ")");
}

}  // namespace infini::cudalike
