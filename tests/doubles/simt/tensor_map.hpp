// simt/tensor_map.hpp -- what a double keeps in the 128 bytes of a CUtensorMap, whose real content is
// NVIDIA's secret: cuTensorMapEncodeTiled() of the CUDA double writes it, the copies of simt/hopper.cpp read
// it.
#pragma once
#include <cstdint>

namespace simt::hopper {

struct TensorMapImage {
  static constexpr uint32_t magic_value = 0x54a90a00;

  uint32_t magic;
  uint16_t rank, element_bytes;
  char *address;
  uint64_t strides[4];  // bytes, of dimensions 1 ..
  uint32_t sizes[5];    // less one: 2**32 is legal
  uint16_t box[5];
  uint16_t swizzle_bytes;
};
static_assert(sizeof(TensorMapImage) <= 128, "fits where CUDA keeps its own");

}  // namespace simt::hopper
