// fold.hpp -- the reductions of collectives: one value out of each rank's, for every dtype.
// Ranks are folded in their order, so that all of them get the same bits.
#pragma once
#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "types.hpp"

namespace infini::cpu::INFINI_ISA {

constexpr int64_t kFoldBlock = 1024;  // elements: what is being folded stays in the nearest cache

// Integers wrap around, which only unsigned arithmetic may.
template <class V> using wrapping_t =
    std::conditional_t<!std::is_integral_v<V>, V, std::conditional_t<sizeof(V) == 8, uint64_t, uint32_t>>;

struct Sum {
  template <class V> static V combine(V a, V b) { return V(wrapping_t<V>(a) + wrapping_t<V>(b)); }
};
struct Product {
  template <class V> static V combine(V a, V b) { return V(wrapping_t<V>(a) * wrapping_t<V>(b)); }
};
struct Maximum {  // a NaN wins, as in an elementwise maximum
  template <class V> static V combine(V a, V b) { return (a < b) | (b != b) ? b : a; }
};
struct Minimum {
  template <class V> static V combine(V a, V b) { return (b < a) | (b != b) ? b : a; }
};

// T as stored, computed in compute_t<T>. The target may be one of the sources.
template <class T, class Op>
void fold_as(const char *const *sources, int64_t ranks, char *target, int64_t count, bool average) {
  using V = compute_t<T>;
  alignas(64) V folded[kFoldBlock], next[kFoldBlock];
  for (int64_t start = 0; start < count; start += kFoldBlock) {
    const int64_t n = std::min(kFoldBlock, count - start);
    const auto source = [&](int64_t rank) { return reinterpret_cast<const T *>(sources[rank]) + start; };
    to_float(source(0), folded, n);
    for (int64_t rank = 1; rank < ranks; ++rank) {
      const V *values = next;
      if constexpr (std::is_same_v<T, V>)
        values = source(rank);
      else
        to_float(source(rank), next, n);
      for (int64_t i = 0; i < n; ++i) folded[i] = Op::combine(folded[i], values[i]);
    }
    if (average)
      for (int64_t i = 0; i < n; ++i) folded[i] = V(folded[i] / V(ranks));
    from_float(folded, reinterpret_cast<T *>(target) + start, n);
  }
}

template <class T> void fold_reals(const char *const *sources, int64_t ranks, char *target, int64_t count,
                                   infinicclReduceOp_t op) {
  switch (op) {
    case INFINICCL_PROD:
      return fold_as<T, Product>(sources, ranks, target, count, false);
    case INFINICCL_MAX:
      return fold_as<T, Maximum>(sources, ranks, target, count, false);
    case INFINICCL_MIN:
      return fold_as<T, Minimum>(sources, ranks, target, count, false);
    default:
      return fold_as<T, Sum>(sources, ranks, target, count, op == INFINICCL_AVG);
  }
}

// Truth values: sum, average and max are "any", product and min are "all".
inline void fold_bool(const char *const *sources, int64_t ranks, char *target, int64_t count,
                      infinicclReduceOp_t op) {
  const bool all = op == INFINICCL_PROD || op == INFINICCL_MIN;
  for (int64_t i = 0; i < count; ++i) {
    const auto truth = [&](const char *source) { return source[i] != 0; };
    target[i] =
        all ? std::all_of(sources, sources + ranks, truth) : std::any_of(sources, sources + ranks, truth);
  }
}

// Sums and averages of a complex number are those of its parts; its products are not.
template <class T> void fold_complex(const char *const *sources, int64_t ranks, char *target, int64_t count,
                                     infinicclReduceOp_t op) {
  if (op != INFINICCL_PROD) return fold_as<T, Sum>(sources, ranks, target, 2 * count, op == INFINICCL_AVG);
  for (int64_t i = 0; i < count; ++i) {
    compute_t<T> re = 1, im = 0;
    for (int64_t rank = 0; rank < ranks; ++rank) {
      const auto pair = reinterpret_cast<const T *>(sources[rank]) + 2 * i;
      const compute_t<T> a = to_float(pair[0]), b = to_float(pair[1]), product = re * a - im * b;
      im = re * b + im * a;
      re = product;
    }
    from_float(re, reinterpret_cast<T *>(target)[2 * i]);
    from_float(im, reinterpret_cast<T *>(target)[2 * i + 1]);
  }
}

// Fold element i of every source into element i of target. Complex numbers have no order: MAX and MIN are
// refused before this.
inline void fold(const char *const *sources, int64_t ranks, char *target, int64_t count, int32_t dtype,
                 infinicclReduceOp_t op) {
  switch (dtype) {
    case INFINI_DTYPE_BOOL:
      return fold_bool(sources, ranks, target, count, op);
    case INFINI_DTYPE_C16:
      return fold_complex<float8_e4m3>(sources, ranks, target, count, op);
    case INFINI_DTYPE_C32:
      return fold_complex<half>(sources, ranks, target, count, op);
    case INFINI_DTYPE_C64:
      return fold_complex<float>(sources, ranks, target, count, op);
    case INFINI_DTYPE_C128:
      return fold_complex<double>(sources, ranks, target, count, op);
    default:
      dispatch_reals("reduction", dtype, [&](auto tag) {
        fold_reals<typename decltype(tag)::type>(sources, ranks, target, count, op);
      });
  }
}

}  // namespace infini::cpu::INFINI_ISA
