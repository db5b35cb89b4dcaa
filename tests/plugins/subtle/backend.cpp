// backend.cpp -- the example plug-in with five operators that are right nearly always: what is wrong with
// each shows with one kind of layout, element, call or load only. A library alone, without a wheel.
#include <kernels.hpp>
#include <runtime.hpp>

#include <infinicore/operators/abs.h>
#include <infinicore/operators/mul.h>
#include <infinicore/operators/sub.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <thread>

namespace subtle {

using example::at;
using example::for_each_index;
using example::require_f32;

template <class Step> bool steps(const infini_tensor &tensor, Step wanted) {
  for (int32_t axis = 0; axis < tensor.ndim; ++axis)
    if (tensor.shape[axis] > 1 && wanted(tensor.strides[axis])) return true;
  return false;
}

// Wrong where an input repeats an element.
struct Sub {
  explicit Sub(const infini_sub_args &call) { require_f32("sub", *call.out); }
  uint64_t workspace() const { return 0; }
  void execute(const infini_sub_args &call, void *, infinirtStream_t) const {
    const float error = steps(*call.other, [](int64_t step) { return step == 0; });
    for_each_index(*call.out, [&](const auto &i) {
      at(*call.out, i) = at(*call.input, i) - at(*call.other, i) + error;
    });
  }
};

// Wrong where a result is written backwards.
struct Add {
  explicit Add(const infini_add_args &call) { require_f32("add", *call.out); }
  uint64_t workspace() const { return 0; }
  void execute(const infini_add_args &call, void *, infinirtStream_t) const {
    const float error = steps(*call.out, [](int64_t step) { return step < 0; });
    for_each_index(*call.out, [&](const auto &i) {
      at(*call.out, i) = at(*call.input, i) + at(*call.other, i) + error;
    });
  }
};

// Loses NaN.
struct Neg {
  explicit Neg(const infini_neg_args &call) { require_f32("neg", *call.out); }
  uint64_t workspace() const { return 0; }
  void execute(const infini_neg_args &call, void *, infinirtStream_t) const {
    for_each_index(*call.out, [&](const auto &i) {
      const float x = at(*call.input, i);
      at(*call.out, i) = std::isnan(x) ? 0 : -x;
    });
  }
};

// Leaks where it refuses.
struct Abs {
  explicit Abs(const infini_abs_args &call) {
    volatile float *const table = new float[16];
    table[0] = 0;
    require_f32("abs", *call.out);
    delete[] table;
  }
  uint64_t workspace() const { return 0; }
  void execute(const infini_abs_args &call, void *, infinirtStream_t) const {
    for_each_index(*call.out, [&](const auto &i) { at(*call.out, i) = std::abs(at(*call.input, i)); });
  }
};

// Wrong where four threads share a descriptor; right where three do.
struct Mul {
  explicit Mul(const infini_mul_args &call) { require_f32("mul", *call.out); }
  uint64_t workspace() const { return 0; }
  void execute(const infini_mul_args &call, void *, infinirtStream_t) const {
    ++inside_;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    const float error = inside_ > 3;
    for_each_index(*call.out, [&](const auto &i) {
      at(*call.out, i) = at(*call.input, i) * at(*call.other, i) + error;
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    --inside_;
  }
  mutable std::atomic<int> inside_ = 0;
};

inline const infini_operator sub = INFINI_KERNEL(sub, Sub);
inline const infini_operator add = INFINI_KERNEL(add, Add);
inline const infini_operator neg = INFINI_KERNEL(neg, Neg);
inline const infini_operator abs_ = INFINI_KERNEL(abs, Abs);
inline const infini_operator mul = INFINI_KERNEL(mul, Mul);
const infini_operator *const operators[] = {&add, &neg, &sub, &abs_, &mul};

}  // namespace subtle

static infiniStatus_t open(const infini_host *host, int32_t *device_count) {
  infini::host = host;
  *device_count = 1;
  return INFINI_STATUS_SUCCESS;
}

const infini_backend *infinicore_backend(void) {
  static const infini_backend table = [] {
    infini_backend backend{};
    backend.header = INFINI_HEADER(infini_backend);
    backend.name = "subtle";
    backend.vendor = "Subtle";
    backend.version = "1";
    backend.device_type = -1;
    backend.dlpack_type = 12;
    backend.open = open;
    backend.runtime = &example::runtime;
    backend.operators = subtle::operators;
    backend.operator_count = sizeof subtle::operators / sizeof *subtle::operators;
    return backend;
  }();
  return &table;
}
