// extrema.hpp -- the largest or smallest of some elements; a NaN is both, wherever it is.
// Shared by amax and amin, which are compiled apart since so many types take their time, and by argmax.cpp.
#pragma once
#include "truth.hpp"

#include <limits>

namespace infini::cpu::INFINI_ISA {

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
  // Nothing is beyond the last of the integers, nor a NaN ever replaced.
  bool settled(Lane total) const {
    if constexpr (std::is_floating_point_v<Lane>)
      return total != total;
    else
      return total == (kLargest ? Limits::max() : Limits::min());
  }
  Lane widen(Lane lane) const { return lane; }
  Lane join(Lane a, Lane b) const {
    fold(a, b);
    return a;
  }
  void load(const T *x, int64_t stride, Lane *out, int64_t n) const { to_float(x, stride, out, n); }
  void finish(Lane total, int64_t, T &out) const { store(total, out); }
};

// amax or amin of Args. Of booleans the largest is whether any is true, the smallest whether all are.
template <class Args, bool kLargest> class Extremum {
  int64_t dtype_;
  Reduction plan_;

 public:
  Extremum(const char *op, const Args &call)
      : dtype_(call.input->dtype), plan_(*call.output, *call.input, *call.dim, call.keepdim != 0) {
    if (dtype_ != INFINI_DTYPE_BOOL) dispatch_reals(op, dtype_, [](auto) {});  // refuse other dtypes now
  }
  uint64_t workspace() const { return 0; }
  void execute(const Args &call, void *, infinirtStream_t) const {
    const void *in = call.input->data;
    void *out = call.output->data;
    if (dtype_ == INFINI_DTYPE_BOOL)
      return reduce(plan_, TruthFold<uint8_t, !kLargest>(truth_mask(dtype_)), in, out);
    dispatch_reals("", dtype_, [&](auto t) {
      reduce(plan_, ExtremumFold<typename decltype(t)::type, kLargest>{}, in, out);
    });
  }
};

}  // namespace infini::cpu::INFINI_ISA
