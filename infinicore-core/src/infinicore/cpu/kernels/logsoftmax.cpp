// kernels/logsoftmax.cpp -- logsoftmax along any axis.
// A row is shifted by its maximum before it is exponentiated, and by the logarithm of the sum after.
#include <infinicore/operators/logsoftmax.h>

#include "../rows.hpp"

#include <cmath>

namespace infini::cpu::INFINI_ISA {

namespace {

// A NaN, or a row of nothing but minus infinity, makes every value NaN.
template <class C> void logsoftmax_row(const C *x, C *y, int64_t n) {
  const C top = row_max(x, n), rest = std::log(row_sum_exp(x, n, top));
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] - top - rest;
}

// The same for rows beside each other.
template <class C> void logsoftmax_columns(const Panel<C> &panel) {
  C top[kPanelColumns], rest[kPanelColumns];
  double sums[kPanelColumns];
  panel.max(top);
  panel.sum(sums, [&](const C *x, C *terms) {
    for (int64_t j = 0; j < panel.width; ++j) terms[j] = vmath::exp(x[j] - top[j]);
  });
  for (int64_t j = 0; j < panel.width; ++j) rest[j] = std::log(C(sums[j]));
  for (int64_t i = 0; i < panel.n; ++i) {
    const C *x = panel.line(i);
    C *y = panel.result(i);
    INFINI_INDEPENDENT
    for (int64_t j = 0; j < panel.width; ++j) y[j] = x[j] - top[j] - rest[j];
  }
}

}  // namespace

class LogSoftmax {
 public:
  explicit LogSoftmax(const infini_logsoftmax_args &call)
      : dtype_(call.out->dtype), rows_("logsoftmax", *call.out, *call.input, call.axis) {
    dispatch_floats("logsoftmax", dtype_, [](auto) {});
  }

  uint64_t workspace() const { return 0; }

  void execute(const infini_logsoftmax_args &call, void *, infinirtStream_t) const {
    dispatch_floats("logsoftmax", dtype_, [&](auto tag) {
      using T = typename decltype(tag)::type;
      using C = compute_t<T>;
      rows_.each(static_cast<const T *>(call.input->data), static_cast<T *>(call.out->data),
                 logsoftmax_row<C>, logsoftmax_columns<C>);
    });
  }

 private:
  int32_t dtype_;
  Rows rows_;
};

INFINI_CPU_KERNEL(logsoftmax, LogSoftmax)

}  // namespace infini::cpu::INFINI_ISA
