// kernels/lp_norm.cpp -- lp_norm: rows along any axis divided by their p-norm.
// Powers are repeated products; where their sum leaves the range of the type, the row is scaled first.
#include <infinicore/operators/lp_norm.h>

#include "../rows.hpp"

#include <cmath>
#include <limits>

namespace infini::cpu::INFINI_ISA {

namespace {

// Sum of |x / scale|**p.
template <class C> C sum_of_powers(const C *x, int64_t n, int64_t p, C scale) {
  constexpr int64_t size = 512;
  C base[size], power[size], sum = 0;
  for (int64_t at = 0; at < n; at += size) {
    const int64_t count = std::min(size, n - at);
    for (int64_t i = 0; i < count; ++i) base[i] = std::fabs(x[at + i]);
    if (scale != C(1))
      for (int64_t i = 0; i < count; ++i) base[i] /= scale;
    for (int64_t i = 0; i < count; ++i) power[i] = p & 1 ? base[i] : C(1);
    for (int64_t rest = p >> 1; rest > 0; rest >>= 1) {
      for (int64_t i = 0; i < count; ++i) base[i] *= base[i];
      if (rest & 1)
        for (int64_t i = 0; i < count; ++i) power[i] *= base[i];
    }
    sum += row_sum(power, count);
  }
  return sum;
}

template <class C> C root(C x, int64_t p) {
  return p == 1 ? x : p == 2 ? std::sqrt(x) : std::pow(x, C(1) / C(p));
}

template <class C> C norm(const C *x, int64_t n, int64_t p) {
  using Limits = std::numeric_limits<C>;
  const C sum = sum_of_powers(x, n, p, C(1));
  const C least =
      Limits::min() / Limits::epsilon() / Limits::epsilon();  // terms that underflow do not matter
  if ((sum >= least && sum <= Limits::max()) || sum != sum) return root(sum, p);
  C top = 0;
  for (int64_t i = 0; i < n; ++i) top = std::max(top, C(std::fabs(x[i])));
  if (top == C(0) || top > Limits::max()) return top;
  return top * root(sum_of_powers(x, n, p, top), p);
}

}  // namespace

class LpNorm {
 public:
  explicit LpNorm(const infini_lp_norm_args &call)
      : dtype_(call.out->dtype),
        p_(call.p),
        epsilon_(call.eps),
        rows_("lp_norm", *call.out, *call.input, call.axis) {
    dispatch_floats("lp_norm", dtype_, [](auto) {});
    if (p_ < 1)
      throw Error(INFINI_STATUS_BAD_PARAM,
                  "lp_norm: p is " + std::to_string(p_) + ", but it must be at least 1");
  }

  uint64_t workspace() const { return 0; }

  void execute(const infini_lp_norm_args &call, void *, infinirtStream_t) const {
    dispatch_floats("lp_norm", dtype_, [&](auto tag) {
      using T = typename decltype(tag)::type;
      using C = compute_t<T>;
      rows_.each(static_cast<const T *>(call.input->data), static_cast<T *>(call.out->data),
                 [this](const C *x, C *y, int64_t n) {
                   const C length = norm(x, n, p_);
                   const C divisor = length < C(epsilon_) ? C(epsilon_) : length;  // a NaN stays
                   for (int64_t i = 0; i < n; ++i) y[i] = x[i] / divisor;
                 });
    });
  }

 private:
  int32_t dtype_;
  int64_t p_;
  double epsilon_;
  Rows rows_;
};

INFINI_CPU_KERNEL(lp_norm, LpNorm)

}  // namespace infini::cpu::INFINI_ISA
