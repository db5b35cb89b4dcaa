// cudalike/dialect.hpp -- what kernels assume of a CUDA-like compiler: a launch, a shuffle, a warp's width.
// A vendor whose compiler differs writes its own and defines INFINI_DIALECT="that_header.hpp"; the kernels
// use nothing else: no inline assembly, no asynchronous copies, no matrix instructions, no particular warp
// width.
#pragma once

#if defined(INFINI_DIALECT)
#include INFINI_DIALECT
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <infinicore/plugin.hpp>

#include <cmath>

// Lanes of a warp, when the kernels are compiled for it: 32, 64 or 128.
#ifndef INFINI_WARP_WIDTH
#define INFINI_WARP_WIDTH 32
#endif

// Before a loop whose every turn needs code of its own, so that what it indexes stays in registers. A dialect
// without such a hint leaves it out.
#define INFINI_UNROLL _Pragma("unroll")

// An array that the threads of a block share; its content is undefined when a block begins.
#define INFINI_SHARED(type, name, count) __shared__ type name[count]

namespace infini::cudalike {

constexpr unsigned warp_width = INFINI_WARP_WIDTH;

using Stream = cudaStream_t;

// Every lane takes part in each of these, and a block is a whole number of warps. T has 4 or 8 bytes.
#if INFINI_WARP_WIDTH == 32
constexpr unsigned every_lane = 0xffffffffu;
#else
constexpr unsigned long long every_lane = ~0ull;
#endif
template <class T> __device__ T shuffle(T value, unsigned lane) {
  return __shfl_sync(every_lane, value, int(lane), int(warp_width));
}
template <class T> __device__ T shuffle_xor(T value, unsigned mask) {
  return __shfl_xor_sync(every_lane, value, int(mask), int(warp_width));
}
template <class T> __device__ T shuffle_up(T value, unsigned delta) {  // lanes below delta keep theirs
  return __shfl_up_sync(every_lane, value, delta, int(warp_width));
}
__device__ inline void sync_warp() {  // orders memory among the lanes, which a shuffle does not
  __syncwarp();
}

template <class T> __device__ T atomic_add(T *target, T value) {  // int32_t, uint32_t, float
  return atomicAdd(target, value);
}
__device__ inline uint32_t atomic_cas(uint32_t *target, uint32_t expected, uint32_t value) {
  return atomicCAS(target, expected, value);
}
__device__ inline uint64_t atomic_cas(uint64_t *target, uint64_t expected, uint64_t value) {
  return atomicCAS(reinterpret_cast<unsigned long long *>(target), static_cast<unsigned long long>(expected),
                   static_cast<unsigned long long>(value));
}

// The memory whose size was given at launch, aligned to 16 bytes.
template <class T> __device__ T *dynamic_shared() {
  extern __shared__ __align__(16) unsigned char infini_dynamic_shared[];
  return reinterpret_cast<T *>(infini_dynamic_shared);
}

// Conversions in hardware; types.hpp has others for dialects without.
#define INFINI_HARDWARE_HALF
__device__ inline float half_bits_to_float(uint16_t bits) {
  return __half2float(__ushort_as_half(bits));
}
__device__ inline uint16_t float_to_half_bits(float value) {
  return __half_as_ushort(__float2half_rn(value));
}
#define INFINI_HARDWARE_BFLOAT
__device__ inline uint16_t float_to_bfloat_bits(float value) {
  return __bfloat16_as_ushort(__float2bfloat16_rn(value));
}

// Enqueue a kernel; throws what the vendor's runtime says against it.
template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, Stream stream, A... arguments) {
  // clang-format off
  kernel<<<grid, block, shared_bytes, stream>>>(arguments...);
  // clang-format on
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess)
    throw Error(error == cudaErrorMemoryAllocation         ? INFINI_STATUS_OUT_OF_MEMORY
                : error == cudaErrorNoKernelImageForDevice ? INFINI_STATUS_DEVICE_ARCHITECTURE_NOT_SUPPORTED
                                                           : INFINI_STATUS_INTERNAL_ERROR,
                std::string("a kernel was not launched: ") + cudaGetErrorString(error) + " (" +
                    cudaGetErrorName(error) + ")");
}

}  // namespace infini::cudalike
#endif
