// doubles/cuda/driver.cpp -- libcuda.so.1 and libnvidia-ml.so.1 of the double: what the plug-in asks of them.
// Both come with a driver; a test takes one away by taking away its file.
#include "device.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "simt/tensor_map.hpp"

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

// Of a tensor of five dimensions, f16 (6) or bf16 (9), with the limits that NVIDIA documents.
DOUBLE_API int cuTensorMapEncodeTiled(void *map, int type, uint32_t rank, void *address,
                                      const uint64_t *sizes, const uint64_t *strides, const uint32_t *box,
                                      const uint32_t *steps, int interleave, int swizzle, int, int fill) {
  constexpr int invalid_value = 1, swizzle_128 = 3;
  const auto multiple = [](uint64_t value, uint64_t of) { return value % of == 0; };
  const std::lock_guard<std::mutex> lock(double_cuda::mutex);
  if (const int error = double_cuda::injected("cuTensorMapEncodeTiled"); error != 0) return error;
  if (!multiple(reinterpret_cast<uintptr_t>(map), 64) || (type != 6 && type != 9) || rank != 5 ||
      !multiple(reinterpret_cast<uintptr_t>(address), 16) || interleave != 0 || swizzle != swizzle_128 ||
      fill != 0 || !multiple(box[0] * 2, 16) || box[0] * 2 > 128)
    return invalid_value;
  simt::hopper::TensorMapImage image{};
  image.magic = simt::hopper::TensorMapImage::magic_value;
  image.rank = uint16_t(rank);
  image.element_bytes = 2;
  image.swizzle_bytes = 128;
  image.address = static_cast<char *>(address);
  for (uint32_t d = 0; d < rank; ++d) {
    if (sizes[d] == 0 || sizes[d] > uint64_t(1) << 32 || box[d] == 0 || box[d] > 256 || steps[d] != 1)
      return invalid_value;
    if (d > 0 && (!multiple(strides[d - 1], 16) || strides[d - 1] >= uint64_t(1) << 40)) return invalid_value;
    image.sizes[d] = uint32_t(sizes[d] - 1);
    image.box[d] = uint16_t(box[d]);
    if (d > 0) image.strides[d - 1] = strides[d - 1];
  }
  double_cuda::count("tensor map", 1);
  std::memset(map, 0xff, 128);
  std::memcpy(map, &image, sizeof(image));
  return 0;
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
