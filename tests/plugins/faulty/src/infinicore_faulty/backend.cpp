// backend.cpp -- the example plug-in with two right operators (add, neg) and three that are wrong in one way
// each: sub swaps its operands, abs leaks what it allocates, and mul keeps a call's state in its descriptor.
#include <kernels.hpp>
#include <runtime.hpp>

#include <infinicore/operators/abs.h>
#include <infinicore/operators/mul.h>
#include <infinicore/operators/sub.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <thread>

namespace faulty {

using example::at;
using example::for_each_index;
using example::require_f32;

struct Sub {
  explicit Sub(const infini_sub_args &call) { require_f32("sub", *call.out); }
  uint64_t workspace() const { return 0; }
  void execute(const infini_sub_args &call, void *, infinirtStream_t) const {
    for_each_index(*call.out,
                   [&](const auto &i) { at(*call.out, i) = at(*call.other, i) - at(*call.input, i); });
  }
};

// Right, but what it allocates when it is planned is never given back.
struct Abs {
  explicit Abs(const infini_abs_args &call) : lost_(new float[16]) {
    require_f32("abs", *call.out);
    lost_[0] = 0;
  }
  uint64_t workspace() const { return 0; }
  void execute(const infini_abs_args &call, void *, infinirtStream_t) const {
    for_each_index(*call.out, [&](const auto &i) { at(*call.out, i) = std::abs(at(*call.input, i)); });
  }
  volatile float *lost_;
};

// Right in one thread: where two share a descriptor, one multiplies what the other has put there.
struct Mul {
  explicit Mul(const infini_mul_args &call) { require_f32("mul", *call.out); }
  uint64_t workspace() const { return 0; }
  void execute(const infini_mul_args &call, void *, infinirtStream_t) const {
    input_ = call.input->data;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    infini_tensor input = *call.input;
    input.data = input_;
    for_each_index(*call.out, [&](const auto &i) { at(*call.out, i) = at(input, i) * at(*call.other, i); });
  }
  mutable std::atomic<void *> input_ = nullptr;
};

inline const infini_operator sub = INFINI_KERNEL(sub, Sub);
inline const infini_operator abs_ = INFINI_KERNEL(abs, Abs);
inline const infini_operator mul = INFINI_KERNEL(mul, Mul);
const infini_operator *const operators[] = {&example::add, &example::neg, &sub, &abs_, &mul};

}  // namespace faulty

static infiniStatus_t open(const infini_host *host, int32_t *device_count) {
  infini::host = host;
  *device_count = 1;
  return INFINI_STATUS_SUCCESS;
}

const infini_backend *infinicore_backend(void) {
  static const infini_backend table = [] {
    infini_backend backend{};
    backend.header = INFINI_HEADER(infini_backend);
    backend.name = INFINI_NAME;
    backend.vendor = INFINI_VENDOR;
    backend.version = INFINI_VERSION;
    backend.device_type = -1;
    backend.dlpack_type = 12;
    backend.open = open;
    backend.runtime = &example::runtime;
    backend.operators = faulty::operators;
    backend.operator_count = sizeof faulty::operators / sizeof *faulty::operators;
    return backend;
  }();
  return &table;
}
