// doubles/cuda/driver.cpp -- libcuda.so.1 and libnvidia-ml.so.1 of the double: what the plug-in asks of them.
// Both come with a driver; a test takes one away by taking away its file.
#include "device.hpp"

#include <cstdio>
#include <cstdlib>

#define DOUBLE_API extern "C" __attribute__((visibility("default")))

DOUBLE_API int cuDeviceGetName(char *name, int length, int device) {
  std::snprintf(name, static_cast<size_t>(length), "CUDA double %d", device);
  return 0;
}
DOUBLE_API int cuDeviceTotalMem_v2(size_t *bytes, int device) {
  int before = 0;
  size_t free = 0;
  cudaGetDevice(&before);
  int error = cudaSetDevice(device);
  if (error == 0) error = cudaMemGetInfo(&free, bytes);
  cudaSetDevice(before);
  return error;
}

// NVML: devices are told apart by their bus, "0000:<device + 1>:00.0".
DOUBLE_API int nvmlInit_v2() {
  return 0;
}
DOUBLE_API int nvmlSystemGetDriverVersion(char *text, unsigned length) {
  std::snprintf(text, length, "580.00.00");
  return 0;
}
DOUBLE_API int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **device) {
  *device = reinterpret_cast<void *>(std::strtoul(bus + 5, nullptr, 16));
  return 0;
}
DOUBLE_API int nvmlDeviceGetUtilizationRates(void *, unsigned *rates) {
  rates[0] = 25;
  rates[1] = 50;
  return 0;
}
DOUBLE_API int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *bytes) {
  int before = 0;
  size_t free = 0, total = 0;
  cudaGetDevice(&before);
  cudaSetDevice(static_cast<int>(reinterpret_cast<size_t>(device)) - 1);
  const int error = cudaMemGetInfo(&free, &total);
  cudaSetDevice(before);
  bytes[0] = total;
  bytes[1] = free;
  bytes[2] = total - free;
  return error;
}
