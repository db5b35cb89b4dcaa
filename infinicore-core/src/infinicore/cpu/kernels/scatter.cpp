// scatter.cpp -- a copy of input with elements replaced, added to or multiplied at an index of each update.
// Without a reduction only the size of an element matters; narrow floats are reduced in f32, line by line.
#include <infinicore/operators/scatter.h>

#include "../loops.hpp"
#include "../updates.hpp"

namespace infini::cpu::INFINI_ISA {
namespace {

enum Reduction { kNone = 0, kAdd = 1, kMultiply = 2 };

struct Replace {
  template <class T> void operator()(T &target, T update) const { target = update; }
};
struct Add {
  template <class T> void operator()(T &target, T update) const {
    target = T(arithmetic_t<T>(target) + arithmetic_t<T>(update));
  }
};
struct Multiply {
  template <class T> void operator()(T &target, T update) const {
    target = T(arithmetic_t<T>(target) * arithmetic_t<T>(update));
  }
};

using Run = void (*)(const Updates &, void *, const void *, const void *);

template <class Apply> Run reduction(int64_t dtype) {
  return dispatch_modular("scatter", dtype, [](auto t) -> Run {
    using T = typename decltype(t)::type;
    if constexpr (std::is_same_v<T, compute_t<T>>)
      return [](const Updates &plan, void *out, const void *index, const void *source) {
        plan.run<T>(out, index, source, Apply{});
      };
    else
      return [](const Updates &plan, void *out, const void *index, const void *source) {
        plan.run_wide<T>(out, index, source, Apply{});
      };
  });
}

Run replacement(int64_t dtype) {
  return dispatch_size("scatter", dtype, [](auto t) -> Run {
    return [](const Updates &plan, void *out, const void *index, const void *source) {
      plan.run<typename decltype(t)::type>(out, index, source, Replace{});
    };
  });
}

class Scatter {
  Copy copy_;
  Updates plan_;
  Run run_;

 public:
  explicit Scatter(const infini_scatter_args &call)
      : copy_(*call.out, *call.input), plan_("scatter", *call.out, *call.index, *call.src, call.dim, true) {
    const int64_t dtype = call.out->dtype;
    run_ = call.reduction == kAdd        ? reduction<Add>(dtype)
           : call.reduction == kMultiply ? reduction<Multiply>(dtype)
                                         : replacement(dtype);
  }
  uint64_t workspace() const { return 0; }
  void execute(const infini_scatter_args &call, void *, infinirtStream_t) const {
    plan_.indices.check(call.index->data);
    if (call.out->data != call.input->data) copy_.run(call.out->data, call.input->data);
    if (!plan_.empty()) run_(plan_, call.out->data, call.index->data, call.src->data);
  }
};

}  // namespace

INFINI_CPU_KERNEL(scatter, Scatter)

}  // namespace infini::cpu::INFINI_ISA
