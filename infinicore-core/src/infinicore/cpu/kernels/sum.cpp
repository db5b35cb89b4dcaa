// sum.cpp -- sum and mean over any set of dimensions.
// Floats are added in short runs of their compute type and the runs in f64; integers wrap around.
#include <infinicore/operators/mean.h>
#include <infinicore/operators/sum.h>

#include "../reduce.hpp"

namespace infini::cpu::INFINI_ISA {
namespace {

// What a total is kept in.
template <class C> using total_t = std::conditional_t<std::is_floating_point_v<C>, double, C>;

template <class Derived, class T> struct Adding : LaneFold<Derived, T, compute_t<T>, total_t<compute_t<T>>> {
  using Result = T;
  using Lane = compute_t<T>;
  using Total = total_t<Lane>;
  Total none() const { return 0; }
  Lane start() const { return 0; }
  template <class V> void fold(V &into, const V &x) const { into += x; }
  Total widen(Lane lane) const { return lane; }
  Total join(Total a, Total b) const { return a + b; }
  void load(const T *x, int64_t stride, Lane *out, int64_t n) const { to_float(x, stride, out, n); }
};

template <class T> struct SumFold : Adding<SumFold<T>, T> {
  void finish(typename SumFold::Total total, int64_t, T &out) const { round_total(total, out); }
};

template <class T> struct MeanFold : Adding<MeanFold<T>, T> {
  void finish(double total, int64_t count, T &out) const { round_total(total / double(count), out); }
};

struct Sums {
  static constexpr bool pairs = true;
  template <class T> using Fold = SumFold<T>;
  template <class Fn> static void dispatch(int64_t dtype, Fn &&fn) { dispatch_modular("sum", dtype, fn); }
};

struct Means {
  static constexpr bool pairs = false;
  template <class T> using Fold = MeanFold<T>;
  template <class Fn> static void dispatch(int64_t dtype, Fn &&fn) { dispatch_floats("mean", dtype, fn); }
};

using Sum = ReductionKernel<infini_sum_args, Sums>;
using Mean = ReductionKernel<infini_mean_args, Means>;

}  // namespace

INFINI_CPU_KERNEL(sum, Sum)
INFINI_CPU_KERNEL(mean, Mean)

}  // namespace infini::cpu::INFINI_ISA
