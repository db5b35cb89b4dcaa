// var.cpp -- variances over any set of dimensions.
// Blocks are centred on their own mean; their moments are joined in f64 (Chan, Golub, LeVeque 1979).
#include <infinicore/operators/var.h>

#include "../reduce.hpp"

namespace infini::cpu::INFINI_ISA {
namespace {

struct Moments {
  double count, mean, squares;  // squares: of the deviations from the mean, added up

  // Of count numbers, given the sums of their deviations d from some number near their mean, and of d*d.
  static Moments of(int64_t count, double near, double d, double dd) {
    const double n = double(count);
    return {n, near + d / n, dd - d * d / n};
  }
};

template <class T> struct VarianceFold {
  using Element = T;
  using Result = T;
  using Total = Moments;
  using C = compute_t<T>;
  int64_t correction;

  Moments none() const { return {0, 0, 0}; }
  bool settled(const Moments &) const { return false; }

  Moments join(const Moments &a, const Moments &b) const {
    if (a.count == 0) return b;
    if (b.count == 0) return a;
    const double count = a.count + b.count, delta = b.mean - a.mean, share = b.count / count;
    return {count, a.mean + delta * share, a.squares + b.squares + delta * delta * a.count * share};
  }

  Moments row(const T *x, int64_t stride, int64_t n) const {
    alignas(64) C block[kBlock];
    Moments total = none();
    for (int64_t at = 0; at < n; at += kBlock) {
      const int64_t some = std::min(kBlock, n - at);
      if constexpr (std::is_same_v<T, C>) {
        if (stride == 1) {
          total = join(total, of_block(x + at, some));
          continue;
        }
      }
      to_float(x + at * stride, stride, block, some);
      total = join(total, of_block(block, some));
    }
    return total;
  }

  void columns(const Space<1> &rows, int64_t begin, int64_t end, const T *x, int64_t stride, int64_t n,
               Moments *totals) const {
    alignas(64) C mean[kColumns<T>], d[kColumns<T>], dd[kColumns<T>], wide[kColumns<T>];
    auto each_row = [&](auto &&use) {
      rows.for_each(begin, end, [&](const int64_t(&at)[1]) {
        if constexpr (std::is_same_v<T, C>)
          if (stride == 1) return use(x + at[0]);
        to_float(x + at[0], stride, wide, n);
        use(static_cast<const C *>(wide));
      });
    };
    std::fill(mean, mean + n, C(0));
    std::fill(d, d + n, C(0));
    std::fill(dd, dd + n, C(0));
    each_row([&](const C *row) {
      for (int64_t i = 0; i < n; ++i) mean[i] += row[i];
    });
    for (int64_t i = 0; i < n; ++i) mean[i] /= C(end - begin);
    each_row([&](const C *row) {
      for (int64_t i = 0; i < n; ++i) {
        const C deviation = row[i] - mean[i];
        d[i] += deviation;
        dd[i] += deviation * deviation;
      }
    });
    for (int64_t i = 0; i < n; ++i)
      totals[i] = join(totals[i], Moments::of(end - begin, mean[i], d[i], dd[i]));
  }

  // Without degrees of freedom there is no variance: 0 / 0.
  void finish(const Moments &total, int64_t count, T &out) const {
    round_total(total.squares / double(std::max<int64_t>(count - correction, 0)), out);
  }

 private:
  // n adjacent numbers, in the lanes of one of the widest registers.
  static Moments of_block(const C *x, int64_t n) {
    typedef C Vector __attribute__((vector_size(64)));
    constexpr int64_t width = 64 / sizeof(C);
    const int64_t whole = n / width * width;
    Vector v, sums{};
    for (int64_t i = 0; i < whole; i += width) {
      std::memcpy(&v, x + i, sizeof(v));
      sums += v;
    }
    double sum = 0;
    for (int64_t lane = 0; lane < width; ++lane) sum += double(sums[lane]);
    for (int64_t i = whole; i < n; ++i) sum += double(x[i]);
    const C mean = C(sum / double(n));
    Vector d{}, dd{};
    for (int64_t i = 0; i < whole; i += width) {
      std::memcpy(&v, x + i, sizeof(v));
      const Vector deviation = v - mean;
      d += deviation;
      dd += deviation * deviation;
    }
    double d_sum = 0, dd_sum = 0;
    for (int64_t lane = 0; lane < width; ++lane) {
      d_sum += double(d[lane]);
      dd_sum += double(dd[lane]);
    }
    for (int64_t i = whole; i < n; ++i) {
      const double deviation = double(x[i] - mean);
      d_sum += deviation;
      dd_sum += deviation * deviation;
    }
    return Moments::of(n, double(mean), d_sum, dd_sum);
  }
};

class Var {
  int64_t dtype_, correction_;
  Reduction plan_;

 public:
  explicit Var(const infini_var_args &call)
      : dtype_(call.input->dtype),
        correction_(call.unbiased != 0),
        plan_(*call.var_output, *call.input, *call.dim, call.keepdim != 0) {
    dispatch_floats("var", dtype_, [](auto) {});
  }
  uint64_t workspace() const { return 0; }
  void execute(const infini_var_args &call, void *, infinirtStream_t) const {
    dispatch_floats("var", dtype_, [&](auto t) {
      using T = typename decltype(t)::type;
      reduce(plan_, VarianceFold<T>{correction_}, call.input->data, call.var_output->data);
    });
  }
};

}  // namespace

INFINI_CPU_KERNEL(var, Var)

}  // namespace infini::cpu::INFINI_ISA
