// cudalike/math.hpp -- exp, log, sqrt, rsqrt, reciprocal, floor, ceil and round: functions of one number.
// The device library's functions, which are right to two units in the last place; no fast variants.
#pragma once
#include <infinicore/operators/ceil.h>
#include <infinicore/operators/exp.h>
#include <infinicore/operators/floor.h>
#include <infinicore/operators/log.h>
#include <infinicore/operators/reciprocal.h>
#include <infinicore/operators/round.h>
#include <infinicore/operators/rsqrt.h>
#include <infinicore/operators/sqrt.h>

#include "elementwise.hpp"

namespace infini::cudalike {

struct Exp {
  static constexpr const char *name = "exp";
  template <class C> __device__ C operator()(C x) const { return math::exp(x); }
};
struct Log {
  static constexpr const char *name = "log";
  template <class C> __device__ C operator()(C x) const { return math::log(x); }
};
struct Sqrt {
  static constexpr const char *name = "sqrt";
  template <class C> __device__ C operator()(C x) const { return math::sqrt(x); }
};
struct Rsqrt {
  static constexpr const char *name = "rsqrt";
  template <class C> __device__ C operator()(C x) const { return C(1) / math::sqrt(x); }
};
struct Reciprocal {
  static constexpr const char *name = "reciprocal";
  template <class C> __device__ C operator()(C x) const { return C(1) / x; }
};

// Integers and booleans are whole already.
struct Floor {
  static constexpr const char *name = "floor";
  template <class C> __device__ C operator()(C x) const {
    if constexpr (std::is_floating_point_v<C>)
      return math::floor(x);
    else
      return x;
  }
};
struct Ceil {
  static constexpr const char *name = "ceil";
  template <class C> __device__ C operator()(C x) const {
    if constexpr (std::is_floating_point_v<C>)
      return math::ceil(x);
    else
      return x;
  }
};
struct Round {
  static constexpr const char *name = "round";
  template <class C> __device__ C operator()(C x) const {
    if constexpr (std::is_floating_point_v<C>)
      return math::rint(x);
    else
      return x;
  }
};

using ExpKernel = Unary<infini_exp_args, Exp, Floats>;
using LogKernel = Unary<infini_log_args, Log, Floats>;
using SqrtKernel = Unary<infini_sqrt_args, Sqrt, Floats>;
using RsqrtKernel = Unary<infini_rsqrt_args, Rsqrt, Floats>;
using ReciprocalKernel = Unary<infini_reciprocal_args, Reciprocal, Floats>;
using FloorKernel = Unary<infini_floor_args, Floor, Reals>;
using CeilKernel = Unary<infini_ceil_args, Ceil, Reals>;
using RoundKernel = Unary<infini_round_args, Round, Reals>;

INFINI_CUDALIKE_KERNEL(exp, ExpKernel)
INFINI_CUDALIKE_KERNEL(log, LogKernel)
INFINI_CUDALIKE_KERNEL(sqrt, SqrtKernel)
INFINI_CUDALIKE_KERNEL(rsqrt, RsqrtKernel)
INFINI_CUDALIKE_KERNEL(reciprocal, ReciprocalKernel)
INFINI_CUDALIKE_KERNEL(floor, FloorKernel)
INFINI_CUDALIKE_KERNEL(ceil, CeilKernel)
INFINI_CUDALIKE_KERNEL(round, RoundKernel)

}  // namespace infini::cudalike
