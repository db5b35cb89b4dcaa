// prod.cpp -- products over any set of dimensions.
// Every float is multiplied in f64, so that what lies beyond its range on the way does no harm.
#include <infinicore/operators/prod.h>

#include "../reduce.hpp"

namespace infini::cpu::INFINI_ISA {
namespace {

// uint16_t would be multiplied as int, which overflows.
template <class U> using wide_t = std::conditional_t<sizeof(U) == 8, uint64_t, uint32_t>;
template <class C> using lane_t = std::conditional_t<std::is_floating_point_v<C>, double, C>;

template <class T> struct ProductFold
    : LaneFold<ProductFold<T>, T, lane_t<compute_t<T>>, lane_t<compute_t<T>>> {
  using Result = T;
  using Lane = lane_t<compute_t<T>>;
  Lane none() const { return 1; }
  Lane start() const { return 1; }
  template <class V> void fold(V &into, const V &x) const {
    if constexpr (std::is_integral_v<V>)
      into = V(wide_t<V>(into) * wide_t<V>(x));
    else
      into *= x;
  }
  Lane widen(Lane lane) const { return lane; }
  Lane join(Lane a, Lane b) const {
    fold(a, b);
    return a;
  }
  void load(const T *x, int64_t stride, Lane *out, int64_t n) const {
    if constexpr (kConvertsInBlocks<T>) {
      alignas(64) float wide[kBlock];
      for (int64_t at = 0; at < n; at += kBlock) {
        const int64_t some = std::min(kBlock, n - at);
        to_float(x + at * stride, stride, wide, some);
        for (int64_t i = 0; i < some; ++i) out[at + i] = wide[i];
      }
    } else if constexpr (std::is_integral_v<T>) {
      for (int64_t i = 0; i < n; ++i) out[i] = x[i * stride];
    } else {
      for (int64_t i = 0; i < n; ++i) out[i] = to_float(x[i * stride]);
    }
  }
  void finish(Lane total, int64_t, T &out) const { round_total(total, out); }
};

// Complex numbers multiply as wholes: one after the other.
template <class T> struct ComplexProductFold {
  using Element = complex<T>;
  using Result = complex<T>;
  using Total = complex<double>;

  Total none() const { return {1, 0}; }
  bool settled(Total) const { return false; }
  Total join(Total a, Total b) const { return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}; }
  static Total wide(Element x) { return {to_float(x.re), to_float(x.im)}; }
  Total row(const Element *x, int64_t stride, int64_t n) const {
    Total total = none();
    for (int64_t i = 0; i < n; ++i) total = join(total, wide(x[i * stride]));
    return total;
  }
  void columns(const Space<1> &rows, int64_t begin, int64_t end, const Element *x, int64_t stride, int64_t n,
               Total *totals) const {
    rows.for_each(begin, end, [&](const int64_t(&at)[1]) {
      for (int64_t i = 0; i < n; ++i) totals[i] = join(totals[i], wide(x[at[0] + i * stride]));
    });
  }
  void finish(Total total, int64_t, Result &out) const {
    round_total(total.re, out.re);
    round_total(total.im, out.im);
  }
};

class Prod {
  int64_t dtype_;
  Reduction plan_;

 public:
  explicit Prod(const infini_prod_args &call)
      : dtype_(call.input->dtype), plan_(*call.output, *call.input, *call.dim, call.keepdim != 0) {
    dispatch_modular("prod", part_dtype(dtype_) ? part_dtype(dtype_) : dtype_, [](auto) {});
  }
  uint64_t workspace() const { return 0; }
  void execute(const infini_prod_args &call, void *, infinirtStream_t) const {
    const void *in = call.input->data;
    void *out = call.output->data;
    switch (dtype_) {
      case INFINI_DTYPE_C16:
        return reduce(plan_, ComplexProductFold<float8_e4m3>{}, in, out);
      case INFINI_DTYPE_C32:
        return reduce(plan_, ComplexProductFold<half>{}, in, out);
      case INFINI_DTYPE_C64:
        return reduce(plan_, ComplexProductFold<float>{}, in, out);
      case INFINI_DTYPE_C128:
        return reduce(plan_, ComplexProductFold<double>{}, in, out);
      default:
        return dispatch_modular("prod", dtype_, [&](auto t) {
          reduce(plan_, ProductFold<typename decltype(t)::type>{}, in, out);
        });
    }
  }
};

}  // namespace

INFINI_CPU_KERNEL(prod, Prod)

}  // namespace infini::cpu::INFINI_ISA
