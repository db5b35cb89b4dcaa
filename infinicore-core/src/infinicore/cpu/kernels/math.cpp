// math.cpp -- exp, log, sqrt, rsqrt, reciprocal, floor, ceil and round.
// Integers are whole already: the last three copy them.
#include <infinicore/operators/ceil.h>
#include <infinicore/operators/exp.h>
#include <infinicore/operators/floor.h>
#include <infinicore/operators/log.h>
#include <infinicore/operators/reciprocal.h>
#include <infinicore/operators/round.h>
#include <infinicore/operators/rsqrt.h>
#include <infinicore/operators/sqrt.h>

#include "../usual.hpp"

#include <limits>

namespace infini::cpu::INFINI_ISA {
namespace {

struct ExpOf {
  template <class C> C operator()(C x) const { return vmath::exp(x); }
  template <class C> bool usual(C x) const { return std::fabs(x) <= (sizeof(C) == 8 ? C(700) : C(87)); }
  template <class C> C shortly(C x) const { return vmath::normal_exp(x); }
};
struct LogOf {
  template <class C> C operator()(C x) const { return vmath::log(x); }
  template <class C> bool usual(C x) const {
    return (x >= std::numeric_limits<C>::min()) & (x < C(HUGE_VAL));
  }
  template <class C> C shortly(C x) const { return vmath::normal_log(x); }
};
struct SqrtOf {
  template <class C> C operator()(C x) const { return std::sqrt(x); }
};
struct RsqrtOf {
  template <class C> C operator()(C x) const { return C(1) / std::sqrt(x); }
};
struct ReciprocalOf {
  template <class C> C operator()(C x) const { return C(1) / x; }
};
struct FloorOf {
  template <class C> C operator()(C x) const { return std::floor(x); }
};
struct CeilOf {
  template <class C> C operator()(C x) const { return std::ceil(x); }
};
struct RoundOf {  // the mode of every thread is the default: to nearest, ties to even
  template <class C> C operator()(C x) const { return std::rint(x); }
};

template <class F>
Elementwise floating(const char *op, int64_t grain, const infini_tensor *out, const infini_tensor *input) {
  int64_t size = dtype_size(out->dtype);
  Apply apply = dispatch_floats(op, out->dtype, [](auto t) -> Apply {
    using T = typename decltype(t)::type;
    if constexpr (std::is_same_v<F, LogOf> || std::is_same_v<F, ExpOf>)
      return unary_usually<T, F>;
    else
      return unary<T, F>;
  });
  return Elementwise(apply, nullptr, grain, {out, size}, {{input, size}});
}

template <class F>
Elementwise rounding(const char *op, int64_t grain, const infini_tensor *out, const infini_tensor *input) {
  int64_t size = dtype_size(out->dtype);
  auto loop = [](auto t) -> Apply {
    using T = typename decltype(t)::type;
    return unary<T, std::conditional_t<std::is_integral_v<T>, Identity, F>>;
  };
  Apply apply =
      out->dtype == INFINI_DTYPE_BOOL ? loop(tag<uint8_t>{}) : dispatch_modular(op, out->dtype, loop);
  return Elementwise(apply, nullptr, grain, {out, size}, {{input, size}});
}

#define INFINI_FUNCTION(Class, op, plan, F, grain)                        \
  class Class : public ElementwiseKernel {                                \
   public:                                                                \
    explicit Class(const infini_##op##_args &call)                        \
        : ElementwiseKernel(plan<F>(#op, grain, call.out, call.input)) {} \
  };

INFINI_FUNCTION(Exp, exp, floating, ExpOf, kExpensive)
INFINI_FUNCTION(Log, log, floating, LogOf, kExpensive)
INFINI_FUNCTION(Sqrt, sqrt, floating, SqrtOf, kCheap)
INFINI_FUNCTION(Rsqrt, rsqrt, floating, RsqrtOf, kCheap)
INFINI_FUNCTION(Reciprocal, reciprocal, floating, ReciprocalOf, kCheap)
INFINI_FUNCTION(Floor, floor, rounding, FloorOf, kCheap)
INFINI_FUNCTION(Ceil, ceil, rounding, CeilOf, kCheap)
INFINI_FUNCTION(Round, round, rounding, RoundOf, kCheap)

}  // namespace

INFINI_CPU_KERNEL(exp, Exp)
INFINI_CPU_KERNEL(log, Log)
INFINI_CPU_KERNEL(sqrt, Sqrt)
INFINI_CPU_KERNEL(rsqrt, Rsqrt)
INFINI_CPU_KERNEL(reciprocal, Reciprocal)
INFINI_CPU_KERNEL(floor, Floor)
INFINI_CPU_KERNEL(ceil, Ceil)
INFINI_CPU_KERNEL(round, Round)

}  // namespace infini::cpu::INFINI_ISA
