// kernels/softmax.cpp -- softmax along any axis and causal_softmax over the last.
// A row is widened into a line, shifted by its maximum, exponentiated and scaled; it is rounded once.
#include <infinicore/operators/causal_softmax.h>
#include <infinicore/operators/softmax.h>

#include "../rows.hpp"

namespace infini::cpu::INFINI_ISA {

namespace {

// out = exp(in - max) / sum; out may be in. A NaN, or a row of nothing but minus infinity, makes every value
// NaN.
template <class C> void softmax_row(const C *in, C *out, int64_t n) {
  const C top = row_max(in, n);
  for (int64_t i = 0; i < n; ++i) out[i] = vmath::exp(in[i] - top);
  const C scale = C(1) / row_sum(out, n);
  for (int64_t i = 0; i < n; ++i) out[i] *= scale;
}

// The same for rows beside each other.
template <class C> void softmax_columns(const Panel<C> &panel) {
  C top[kPanelColumns];
  double sums[kPanelColumns];
  panel.max(top);
  for (int64_t i = 0; i < panel.n; ++i) {
    const C *x = panel.line(i);
    C *y = panel.result(i);
    INFINI_INDEPENDENT
    for (int64_t j = 0; j < panel.width; ++j) y[j] = vmath::exp(x[j] - top[j]);
  }
  const Panel<C> done{panel.y, panel.y, panel.y_pitch, panel.y_pitch, panel.n, panel.width};
  done.sum(sums, [&](const C *y, C *terms) { std::copy(y, y + panel.width, terms); });
  for (int64_t j = 0; j < panel.width; ++j) top[j] = C(1 / sums[j]);
  for (int64_t i = 0; i < panel.n; ++i) {
    C *y = panel.result(i);
    for (int64_t j = 0; j < panel.width; ++j) y[j] *= top[j];
  }
}

// A row of T with any strides; line has room for n.
template <class T>
void softmax_row(const T *x, int64_t x_step, T *y, int64_t y_step, int64_t n, compute_t<T> *line) {
  if constexpr (std::is_same_v<T, compute_t<T>>)
    if (x_step == 1 && y_step == 1) return softmax_row(x, y, n);
  to_float(x, x_step, line, n);
  softmax_row(line, line, n);
  from_float(line, y, y_step, n);
}

int64_t row_grain(int64_t n) {
  return std::max<int64_t>(1, 8 * 1024 / (n + 1));
}

}  // namespace

class Softmax {
 public:
  explicit Softmax(const infini_softmax_args &call)
      : dtype_(call.x->dtype), rows_("softmax", *call.y, *call.x, call.axis) {
    dispatch_floats("softmax", dtype_, [](auto) {});
  }

  uint64_t workspace() const { return 0; }

  void execute(const infini_softmax_args &call, void *, infinirtStream_t) const {
    dispatch_floats("softmax", dtype_, [&](auto tag) {
      using T = typename decltype(tag)::type;
      using C = compute_t<T>;
      rows_.each(
          static_cast<const T *>(call.x->data), static_cast<T *>(call.y->data),
          [](const C *x, C *y, int64_t n) { softmax_row(x, y, n); }, softmax_columns<C>);
    });
  }

 private:
  int32_t dtype_;
  Rows rows_;
};

class CausalSoftmax {
 public:
  explicit CausalSoftmax(const infini_causal_softmax_args &call)
      : dtype_(call.x->dtype),
        rows_({call.y, call.x}, -2),
        queries_(call.x->shape[call.x->ndim - 2]),
        n_(call.x->shape[call.x->ndim - 1]),
        y_step_(call.y->strides[call.y->ndim - 1]),
        x_step_(call.x->strides[call.x->ndim - 1]) {
    dispatch_floats("causal_softmax", dtype_, [](auto) {});
  }

  uint64_t workspace() const { return 0; }

  void execute(const infini_causal_softmax_args &call, void *, infinirtStream_t) const {
    dispatch_floats("causal_softmax", dtype_, [&](auto tag) {
      using T = typename decltype(tag)::type;
      using C = compute_t<T>;
      const T *x = static_cast<const T *>(call.x->data);
      T *y = static_cast<T *>(call.y->data);
      parallel_for(0, rows_.numel(), row_grain(n_), [&](int64_t begin, int64_t end) {
        C *line = static_cast<C *>(scratch<Scratch::operands>(size_t(n_ + 1) * sizeof(C)));
        int64_t row = begin;  // rows are not merged: the innermost of them is the query
        rows_.for_each(begin, end, [&](const int64_t(&at)[2]) {
          const int64_t seen = std::min(n_, n_ - queries_ + row++ % queries_ + 1);
          T *out = y + at[0];
          if (seen > 0) softmax_row(x + at[1], x_step_, out, y_step_, seen, line);
          // The others weigh nothing; a query before every key has a softmax of nothing.
          const T rest = from_float<T>(seen > 0 ? C(0) : C(__builtin_nan("")));
          for (int64_t i = std::max<int64_t>(0, seen); i < n_; ++i) out[i * y_step_] = rest;
        });
      });
    });
  }

 private:
  int32_t dtype_;
  Space<2> rows_;  // y, x
  int64_t queries_, n_, y_step_, x_step_;
};

INFINI_CPU_KERNEL(softmax, Softmax)
INFINI_CPU_KERNEL(causal_softmax, CausalSoftmax)

}  // namespace infini::cpu::INFINI_ISA
