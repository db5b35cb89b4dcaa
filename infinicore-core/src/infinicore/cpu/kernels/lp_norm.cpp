// kernels/lp_norm.cpp -- lp_norm: rows along any axis divided by their p-norm.
// Powers are repeated products; where their sum leaves the range of the type, the row is scaled first.
#include <infinicore/operators/lp_norm.h>

#include "../rows.hpp"

#include <cmath>
#include <limits>
#include <vector>

namespace infini::cpu::INFINI_ISA {

namespace {

// power = |x / scale|**p, of at most kPanelColumns numbers.
template <class C> void powers(const C *x, int64_t n, int64_t p, C scale, C *power) {
  if (p == 1 && scale == C(1)) {
    for (int64_t i = 0; i < n; ++i) power[i] = std::fabs(x[i]);
  } else if (p == 2 && scale == C(1)) {
    for (int64_t i = 0; i < n; ++i) power[i] = x[i] * x[i];
  } else {
    C base[kPanelColumns];
    for (int64_t i = 0; i < n; ++i) base[i] = std::fabs(x[i]) / scale;
    for (int64_t i = 0; i < n; ++i) power[i] = p & 1 ? base[i] : C(1);
    for (int64_t rest = p >> 1; rest > 0; rest >>= 1) {
      for (int64_t i = 0; i < n; ++i) base[i] *= base[i];
      if (rest & 1)
        for (int64_t i = 0; i < n; ++i) power[i] *= base[i];
    }
  }
}

// Sum of |x / scale|**p.
template <class C> C sum_of_powers(const C *x, int64_t n, int64_t p, C scale) {
  C power[kPanelColumns], sum = 0;
  for (int64_t at = 0; at < n; at += kPanelColumns) {
    const int64_t count = std::min(kPanelColumns, n - at);
    powers(x + at, count, p, scale, power);
    sum += row_sum(power, count);
  }
  return sum;
}

template <class C> C root(C x, int64_t p) {
  return p == 1 ? x : p == 2 ? std::sqrt(x) : std::pow(x, C(1) / C(p));
}

// Is this sum of powers what it should be? Terms that underflow do not matter beside it, and none overflowed.
template <class C> bool in_range(C sum) {
  using Limits = std::numeric_limits<C>;
  return (sum >= Limits::min() / Limits::epsilon() / Limits::epsilon() && sum <= Limits::max()) || sum != sum;
}

template <class C> C norm(const C *x, int64_t n, int64_t p) {
  const C sum = sum_of_powers(x, n, p, C(1));
  if (in_range(sum)) return root(sum, p);
  C top = 0;
  for (int64_t i = 0; i < n; ++i) top = std::max(top, C(std::fabs(x[i])));
  if (top == C(0) || top > std::numeric_limits<C>::max()) return top;
  return top * root(sum_of_powers(x, n, p, top), p);
}

// The norm of one row of a panel.
template <class C> C norm_of_column(const Panel<C> &panel, int64_t column, int64_t p) {
  std::vector<C> row(static_cast<size_t>(panel.n));
  for (int64_t i = 0; i < panel.n; ++i) row[size_t(i)] = panel.line(i)[column];
  return norm(row.data(), panel.n, p);
}

// Divide rows beside each other by their norms; a NaN stays.
template <class C> void normalize_columns(const Panel<C> &panel, int64_t p, C epsilon) {
  double sums[kPanelColumns];
  C divisor[kPanelColumns];
  panel.sum(sums, [&](const C *x, C *terms) { powers(x, panel.width, p, C(1), terms); });
  for (int64_t j = 0; j < panel.width; ++j) {
    const C sum = C(sums[j]);
    const C length = in_range(sum) ? root(sum, p) : norm_of_column(panel, j, p);
    divisor[j] = length < epsilon ? epsilon : length;
  }
  for (int64_t i = 0; i < panel.n; ++i) {
    const C *x = panel.line(i);
    C *y = panel.result(i);
    INFINI_INDEPENDENT
    for (int64_t j = 0; j < panel.width; ++j) y[j] = x[j] / divisor[j];
  }
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
      rows_.each(
          static_cast<const T *>(call.input->data), static_cast<T *>(call.out->data),
          [this](const C *x, C *y, int64_t n) {
            const C length = norm(x, n, p_);
            const C divisor = length < C(epsilon_) ? C(epsilon_) : length;  // a NaN stays
            for (int64_t i = 0; i < n; ++i) y[i] = x[i] / divisor;
          },
          [this](const Panel<C> &panel) { normalize_columns(panel, p_, C(epsilon_)); });
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
