// kernels.hpp -- the operators of example devices: each a class that plans once and executes often.
// infini_<operator>_args holds one field per parameter of the operator's signature, in its order.
#pragma once
#include <infinicore/operators/add.h>
#include <infinicore/operators/neg.h>
#include <infinicore/plugin.hpp>

#include <string>
#include <vector>

namespace example {

// [elements]
// Element `index` of a tensor: any stride is legal, zero and negative ones too.
inline float &at(const infini_tensor &tensor, const std::vector<int64_t> &index) {
  int64_t offset = 0;
  for (int32_t i = 0; i < tensor.ndim; ++i) offset += index[i] * tensor.strides[i];
  return static_cast<float *>(tensor.data)[offset];
}

// Call body(index) for every index of a tensor's shape.
template <class Body> void for_each_index(const infini_tensor &tensor, Body body) {
  int64_t count = 1;
  for (int32_t i = 0; i < tensor.ndim; ++i) count *= tensor.shape[i];
  std::vector<int64_t> index(static_cast<size_t>(tensor.ndim));
  for (; count > 0; --count) {
    body(index);
    for (int32_t i = tensor.ndim - 1; i >= 0 && ++index[i] == tensor.shape[i]; --i) index[i] = 0;
  }
}

inline void require_f32(const char *name, const infini_tensor &tensor) {
  if (tensor.dtype != INFINI_DTYPE_F32)
    throw infini::Error(INFINI_STATUS_BAD_TENSOR_DTYPE, std::string(name) + ": example has float32 only");
}
// [elements]

// [add]
class Add {
 public:
  explicit Add(const infini_add_args &call) { require_f32("add", *call.out); }
  uint64_t workspace() const { return 0; }
  void execute(const infini_add_args &call, void *, infinirtStream_t) const {
    for_each_index(*call.out,
                   [&](const auto &i) { at(*call.out, i) = at(*call.input, i) + at(*call.other, i); });
  }
};
// [add]

class Neg {
 public:
  explicit Neg(const infini_neg_args &call) { require_f32("neg", *call.out); }
  uint64_t workspace() const { return 0; }
  void execute(const infini_neg_args &call, void *, infinirtStream_t) const {
    for_each_index(*call.out, [&](const auto &i) { at(*call.out, i) = -at(*call.input, i); });
  }
};

// [operators]
inline const infini_operator add = INFINI_KERNEL(add, Add);
inline const infini_operator neg = INFINI_KERNEL(neg, Neg);
inline const infini_operator *const operators[] = {&add, &neg};
// [operators]

}  // namespace example
