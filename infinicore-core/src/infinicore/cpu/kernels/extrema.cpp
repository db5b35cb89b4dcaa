// extrema.cpp -- amax and amin: the largest and the smallest value over any set of dimensions.
// A NaN is both, wherever it is.
#include <infinicore/operators/amax.h>
#include <infinicore/operators/amin.h>

#include "../reduce.hpp"

#include <limits>

namespace infini::cpu::INFINI_ISA {
namespace {

template <class T, bool kLargest> struct ExtremumFold
    : LaneFold<ExtremumFold<T, kLargest>, T, compute_t<T>, compute_t<T>> {
  using Result = T;
  using Lane = compute_t<T>;
  using Limits = std::numeric_limits<Lane>;

  Lane none() const { return start(); }
  Lane start() const {
    if constexpr (std::is_floating_point_v<Lane>)
      return kLargest ? -Limits::infinity() : Limits::infinity();
    else
      return kLargest ? Limits::min() : Limits::max();
  }
  // Once there is a NaN no comparison replaces it.
  template <class V> void fold(V &into, const V &x) const {
    if constexpr (std::is_floating_point_v<Lane>)
      into = ((kLargest ? x > into : x < into) | (x != x)) ? x : into;
    else
      into = (kLargest ? x > into : x < into) ? x : into;
  }
  Lane widen(Lane lane) const { return lane; }
  Lane join(Lane a, Lane b) const {
    fold(a, b);
    return a;
  }
  void load(const T *x, int64_t stride, Lane *out, int64_t n) const { to_float(x, stride, out, n); }
  void finish(Lane total, int64_t, T &out) const { store(total, out); }
};

template <class Fn> void dispatch_ordered(const char *op, int64_t dtype, Fn &&fn) {
  if (dtype == INFINI_DTYPE_BOOL)
    fn(tag<uint8_t>{});
  else
    dispatch_reals(op, dtype, fn);
}

struct Largest {
  static constexpr bool pairs = false;
  template <class T> using Fold = ExtremumFold<T, true>;
  template <class Fn> static void dispatch(int64_t dtype, Fn &&fn) { dispatch_ordered("amax", dtype, fn); }
};

struct Smallest {
  static constexpr bool pairs = false;
  template <class T> using Fold = ExtremumFold<T, false>;
  template <class Fn> static void dispatch(int64_t dtype, Fn &&fn) { dispatch_ordered("amin", dtype, fn); }
};

using Amax = ReductionKernel<infini_amax_args, Largest>;
using Amin = ReductionKernel<infini_amin_args, Smallest>;

}  // namespace

INFINI_CPU_KERNEL(amax, Amax)
INFINI_CPU_KERNEL(amin, Amin)

}  // namespace infini::cpu::INFINI_ISA
