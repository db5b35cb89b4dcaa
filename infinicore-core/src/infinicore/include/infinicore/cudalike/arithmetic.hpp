// cudalike/arithmetic.hpp -- add, sub, mul, div, pow, neg and abs.
// Integers wrap around; their sign matters only to abs.
#pragma once
#include <infinicore/operators/abs.h>
#include <infinicore/operators/add.h>
#include <infinicore/operators/div.h>
#include <infinicore/operators/mul.h>
#include <infinicore/operators/neg.h>
#include <infinicore/operators/pow.h>
#include <infinicore/operators/sub.h>

#include "elementwise.hpp"

namespace infini::cudalike {

struct Add {
  static constexpr const char *name = "add";
  template <class C> __device__ C operator()(C a, C b) const { return C(a + b); }
};
struct Sub {
  static constexpr const char *name = "sub";
  template <class C> __device__ C operator()(C a, C b) const { return C(a - b); }
};
struct Mul {
  static constexpr const char *name = "mul";
  template <class C> __device__ C operator()(C a, C b) const {
    if constexpr (std::is_integral_v<C>)
      return C(uint64_t(a) * b);  // uint16_t would become int, whose product may overflow
    else
      return a * b;
  }
};
struct Div {
  static constexpr const char *name = "div";
  template <class C> __device__ C operator()(C a, C b) const { return a / b; }
};
struct Pow {
  static constexpr const char *name = "pow";
  template <class C> __device__ C operator()(C a, C b) const { return math::pow(a, b); }
};
struct Neg {
  static constexpr const char *name = "neg";
  template <class C> __device__ C operator()(C a) const {
    if constexpr (std::is_integral_v<C>)
      return C(uint64_t(0) - a);
    else
      return -a;
  }
};
struct Abs {
  static constexpr const char *name = "abs";
  template <class C> __device__ C operator()(C a) const {
    if constexpr (std::is_floating_point_v<C>)
      return math::abs(a);
    else if constexpr (std::is_signed_v<C>)
      return a < 0 ? C(uint64_t(0) - uint64_t(a)) : a;
    else
      return a;
  }
};

using AddKernel = Binary<infini_add_args, Add, Modular>;
using SubKernel = Binary<infini_sub_args, Sub, Modular>;
using MulKernel = Binary<infini_mul_args, Mul, Modular>;
using DivKernel = Binary<infini_div_args, Div, Floats>;
using PowKernel = Binary<infini_pow_args, Pow, Floats>;
using NegKernel = Unary<infini_neg_args, Neg, Modular>;
using AbsKernel = Unary<infini_abs_args, Abs, Reals>;

INFINI_CUDALIKE_KERNEL(add, AddKernel)
INFINI_CUDALIKE_KERNEL(sub, SubKernel)
INFINI_CUDALIKE_KERNEL(mul, MulKernel)
INFINI_CUDALIKE_KERNEL(div, DivKernel)
INFINI_CUDALIKE_KERNEL(pow, PowKernel)
INFINI_CUDALIKE_KERNEL(neg, NegKernel)
INFINI_CUDALIKE_KERNEL(abs, AbsKernel)

}  // namespace infini::cudalike
