// infinicore_cuda/copy.hpp -- operands that no BLAS takes as they lie, copied to and from a place where it
// does. The copy is the kernel of `rearrange`, planned with the product that needs it.
#pragma once
#include <infinicore/operators/rearrange.h>

#include <vector>

#include "sdk.hpp"

namespace infini::cudalike::entries {
extern const infini_operator rearrange;
}

namespace infini::cuda {

// Places in a workspace begin at multiples of this.
constexpr uint64_t alignment = 256;
inline uint64_t aligned(uint64_t bytes) {
  return (bytes + alignment - 1) / alignment * alignment;
}

// Bytes of an element of the types that matrix products are made of.
inline uint64_t element_bytes(int32_t dtype) {
  switch (dtype) {
    case INFINI_DTYPE_I8:
      return 1;
    case INFINI_DTYPE_F64:
      return 8;
    case INFINI_DTYPE_F32:
      return 4;
    default:
      return 2;
  }
}

// Moves a tensor of any layout to or from a dense place. Its rows lie `pitch` elements apart there, or, where
// that is 0, right behind each other.
class Copy {
 public:
  explicit Copy(const infini_tensor &tensor, bool back = false, int64_t pitch = 0)
      : shape_(tensor.shape, tensor.shape + tensor.ndim),
        theirs_(tensor.strides, tensor.strides + tensor.ndim),
        ours_(shape_.size()),
        dtype_(tensor.dtype),
        back_(back) {
    int64_t stride = 1;
    for (size_t d = shape_.size(); d-- > 0;) {
      ours_[d] = stride;
      stride = d + 1 == shape_.size() && pitch > 0 ? pitch : stride * shape_[d];
    }
    bytes_ = static_cast<uint64_t>(stride) * element_bytes(dtype_);
    const infini_tensor strided = view(nullptr, theirs_), packed = view(nullptr, ours_);
    const infini_rearrange_args call = arguments(strided, packed);
    if (entry().create(reinterpret_cast<const infini_slot *>(&call), &descriptor_) != INFINI_STATUS_SUCCESS)
      fail();
  }
  ~Copy() { entry().destroy(descriptor_); }
  Copy(const Copy &) = delete;
  Copy &operator=(const Copy &) = delete;

  uint64_t bytes() const { return bytes_; }
  const std::vector<int64_t> &strides() const { return ours_; }

  void run(void *data, void *packed_data, infinirtStream_t stream) const {
    const infini_tensor strided = view(data, theirs_), packed = view(packed_data, ours_);
    const infini_rearrange_args call = arguments(strided, packed);
    const auto *slots = reinterpret_cast<const infini_slot *>(&call);
    if (entry().execute(descriptor_, nullptr, 0, slots, stream) != INFINI_STATUS_SUCCESS) fail();
  }

 private:
  static const infini_operator &entry() { return cudalike::entries::rearrange; }
  [[noreturn]] static void fail() {
    throw Error(INFINI_STATUS_INTERNAL_ERROR, std::string("copying an operand: ") + host->message());
  }
  infini_tensor view(void *data, const std::vector<int64_t> &strides) const {
    return {data, shape_.data(), strides.data(), static_cast<int32_t>(shape_.size()), dtype_};
  }
  infini_rearrange_args arguments(const infini_tensor &strided, const infini_tensor &packed) const {
    infini_rearrange_args call{};
    call.dst = back_ ? &strided : &packed;
    call.src = back_ ? &packed : &strided;
    return call;
  }

  std::vector<int64_t> shape_, theirs_, ours_;
  int32_t dtype_;
  bool back_;
  uint64_t bytes_ = 0;
  infini_descriptor descriptor_ = nullptr;
};

}  // namespace infini::cuda
