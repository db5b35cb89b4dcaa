// cudalike/compare.hpp -- equal, not_equal, less, less_equal, greater, greater_equal, and the logical
// operators. NaN differs from everything and is ordered with nothing; a complex number has equality only.
#pragma once
#include <infinicore/operators/equal.h>
#include <infinicore/operators/greater.h>
#include <infinicore/operators/greater_equal.h>
#include <infinicore/operators/less.h>
#include <infinicore/operators/less_equal.h>
#include <infinicore/operators/logical_and.h>
#include <infinicore/operators/logical_not.h>
#include <infinicore/operators/logical_or.h>
#include <infinicore/operators/logical_xor.h>
#include <infinicore/operators/not_equal.h>

#include "elementwise.hpp"

namespace infini::cudalike {

struct Equal {
  static constexpr const char *name = "equal";
  template <class C> __device__ uint8_t operator()(C a, C b) const { return a == b; }
};
struct NotEqual {
  static constexpr const char *name = "not_equal";
  template <class C> __device__ uint8_t operator()(C a, C b) const { return a != b; }
};
struct Less {
  static constexpr const char *name = "less";
  template <class C> __device__ uint8_t operator()(C a, C b) const { return a < b; }
};
struct LessEqual {
  static constexpr const char *name = "less_equal";
  template <class C> __device__ uint8_t operator()(C a, C b) const { return a <= b; }
};

// `a > b` is run as `b < a`.
template <class Args, class F, bool swapped> class Comparison {
 public:
  explicit Comparison(const Args &call)
      : space_(Space<3>({call.out, first(call), second(call)}).reorder()),
        run_(call.input->dtype == INFINI_DTYPE_BOOL
                 ? &run_binary<F, boolean, uint8_t, uint8_t>
                 : dispatch<Set>(F::name, call.input->dtype, [](auto t) -> Run {
                     using T = typename decltype(t)::type;
                     return run_binary<F, boolean, T, T>;
                   })) {}

  uint64_t workspace() const { return 0; }
  void execute(const Args &call, void *, infinirtStream_t stream) const {
    run_(F::name, space_, F{}, call.out->data, first(call)->data, second(call)->data, native(stream));
  }

 private:
  using Run = void (*)(const char *, const Space<3> &, const F &, void *, const void *, const void *, Stream);
  using Set = std::conditional_t<std::is_same_v<F, Less> || std::is_same_v<F, LessEqual>, Reals, Modular>;
  static const infini_tensor *first(const Args &call) { return swapped ? call.other : call.input; }
  static const infini_tensor *second(const Args &call) { return swapped ? call.input : call.other; }

  Space<3> space_;
  Run run_;
};

using EqualKernel = Comparison<infini_equal_args, Equal, false>;
using NotEqualKernel = Comparison<infini_not_equal_args, NotEqual, false>;
using LessKernel = Comparison<infini_less_args, Less, false>;
using LessEqualKernel = Comparison<infini_less_equal_args, LessEqual, false>;
using GreaterKernel = Comparison<infini_greater_args, Less, true>;
using GreaterEqualKernel = Comparison<infini_greater_equal_args, LessEqual, true>;

INFINI_CUDALIKE_KERNEL(equal, EqualKernel)
INFINI_CUDALIKE_KERNEL(not_equal, NotEqualKernel)
INFINI_CUDALIKE_KERNEL(less, LessKernel)
INFINI_CUDALIKE_KERNEL(less_equal, LessEqualKernel)
INFINI_CUDALIKE_KERNEL(greater, GreaterKernel)
INFINI_CUDALIKE_KERNEL(greater_equal, GreaterEqualKernel)

// ---- truth of any dtype, and two that may differ --------------------------------------------------------

enum class Logic { conjunction, disjunction, exclusive, negation };

static __global__ void __launch_bounds__(elementwise_threads)
    logic_kernel(Logic logic, uint8_t *out, TruthReader a, TruthReader b, Layout<3> layout) {
  const uint32_t first = blockIdx.x * (blockDim.x * strided_items) + threadIdx.x;
  for (unsigned i = 0; i < strided_items; ++i) {
    const uint32_t index = first + i * blockDim.x;
    if (index >= layout.count) return;
    int64_t at[3];
    layout.locate(index, at);
    const bool x = a[at[1]], y = logic != Logic::negation && b[at[2]];
    out[at[0]] = logic == Logic::conjunction   ? x && y
                 : logic == Logic::disjunction ? x || y
                 : logic == Logic::exclusive   ? x != y
                                               : !x;
  }
}

template <class Args, Logic logic> class Logical {
 public:
  explicit Logical(const Args &call) : space_(Space<3>({call.out, call.input, other(call)}).reorder()) {}

  uint64_t workspace() const { return 0; }
  void execute(const Args &call, void *, infinirtStream_t stream) const {
    for (const auto &layout : space_.parts("logical operators"))
      launch(logic_kernel, strided_grid(layout.count), dim3(elementwise_threads), 0, native(stream), logic,
             static_cast<uint8_t *>(call.out->data), TruthReader(*call.input), TruthReader(*other(call)),
             layout);
  }

 private:
  static const infini_tensor *other(const Args &call) {
    if constexpr (logic == Logic::negation)
      return call.input;
    else
      return call.other;
  }
  Space<3> space_;
};

using LogicalAnd = Logical<infini_logical_and_args, Logic::conjunction>;
using LogicalOr = Logical<infini_logical_or_args, Logic::disjunction>;
using LogicalXor = Logical<infini_logical_xor_args, Logic::exclusive>;
using LogicalNot = Logical<infini_logical_not_args, Logic::negation>;

INFINI_CUDALIKE_KERNEL(logical_and, LogicalAnd)
INFINI_CUDALIKE_KERNEL(logical_or, LogicalOr)
INFINI_CUDALIKE_KERNEL(logical_xor, LogicalXor)
INFINI_CUDALIKE_KERNEL(logical_not, LogicalNot)

}  // namespace infini::cudalike
