// truth.hpp -- folds that tell whether all or any of some elements are true.
// An element is false when all its bits but signs are zero: five sizes and a mask cover the dtypes.
#pragma once
#include "reduce.hpp"

namespace infini::cpu::INFINI_ISA {

// What -0.0 and 0.0 have in common, in each of the bytes that lanes of this dtype consist of.
inline uint64_t truth_mask(int64_t dtype) {
  switch (part_dtype(dtype) ? part_dtype(dtype) : dtype) {
    case INFINI_DTYPE_F8:
      return 0x7f7f7f7f7f7f7f7f;
    case INFINI_DTYPE_F16:
    case INFINI_DTYPE_BF16:
      return 0x7fff7fff7fff7fff;
    case INFINI_DTYPE_F32:
      return 0x7fffffff7fffffff;
    case INFINI_DTYPE_F64:
      return 0x7fffffffffffffff;
    default:
      return ~uint64_t(0);
  }
}

template <class U> using truth_lane = std::conditional_t<std::is_same_v<U, bytes16>, uint64_t, U>;

template <class U, bool kAll> struct TruthFold : LaneFold<TruthFold<U, kAll>, U, truth_lane<U>, uint8_t> {
  using Result = uint8_t;
  using Lane = truth_lane<U>;
  using Total = uint8_t;  // vectors of bool have no elements
  Lane mask;

  explicit TruthFold(uint64_t mask) : mask(Lane(mask)) {}
  Total none() const { return kAll; }
  Lane start() const { return kAll ? Lane(~Lane(0)) : Lane(0); }
  template <class V> void fold(V &into, const V &x) const {
    if constexpr (kAll) {  // the smallest of them is not zero
      const V bits = V(x & mask);
      into = bits < into ? bits : into;
    } else {
      into |= x;
    }
  }
  Total widen(Lane lane) const { return (lane & mask) != 0; }
  Total join(Total a, Total b) const { return kAll ? a && b : a || b; }
  bool settled(Total total) const { return total != Total(kAll); }
  // The first elements often decide a row, and whole vectors would take longer to tell.
  Total row(const U *x, int64_t stride, int64_t n) const {
    for (int64_t i = 0; i < std::min<int64_t>(n, 4); ++i)
      if (settled(widen(lane(x[i * stride])))) return !kAll;
    return LaneFold<TruthFold, U, Lane, Total>::row(x, stride, n);
  }
  static Lane lane(const U &x) {
    if constexpr (std::is_same_v<U, bytes16>)
      return x.lo | x.hi;
    else
      return x;
  }
  void load(const U *x, int64_t stride, Lane *out, int64_t n) const {
    for (int64_t i = 0; i < n; ++i) out[i] = lane(x[i * stride]);
  }
  void finish(Total total, int64_t, uint8_t &out) const { out = total; }
};

}  // namespace infini::cpu::INFINI_ISA
