// usual.hpp -- loops of functions that are shorter where no argument is unusual: huge, infinite or missing.
// A block of elements is looked at first, which takes less time than the cases that it then need not tell
// apart.
//
// Such a function object says, beside operator(), of as many numbers as it takes:
//   bool usual(C...) const;  // does the short way do for them? In comparisons that a NaN fails.
//   C shortly(C...) const;
#pragma once
#include "loops.hpp"

namespace infini::cpu::INFINI_ISA {

constexpr int64_t kUsualBlock = 512;  // elements
constexpr int64_t kUsualPart = 128;   // of which are computed before the next are prefetched

// Is every one of n results of test(i) true? Counted in integers as wide as C, which vectorises.
template <class C, class Test> inline bool all_of(int64_t n, Test &&test) {
  using Count = std::conditional_t<sizeof(C) == 8, int64_t, int32_t>;
  Count others = 0;
  for (int64_t i = 0; i < n; ++i) others += test(i) ? Count(0) : Count(1);
  return others == 0;
}

// n numbers from memory: where they lie, or widened in a buffer.
template <class T>
inline const compute_t<T> *widened(const void *in, int64_t at, compute_t<T> *buffer, int64_t n) {
  const T *from = static_cast<const T *>(in) + at;
  if constexpr (std::is_same_v<T, compute_t<T>>) {
    return from;
  } else {
    to_float(from, buffer, n);
    return buffer;
  }
}

// out[at + i] = f(i) for n of them, narrowed by way of a buffer. Meanwhile the next block comes from memory:
// the look at it would wait.
template <class T, int inputs, class F> inline void compute_block(void *out, const void *const *in,
                                                                  int64_t at, compute_t<T> *buffer, int64_t n,
                                                                  F &&f) {
  constexpr bool direct = std::is_same_v<T, compute_t<T>>;
  T *to = static_cast<T *>(out) + at;
  compute_t<T> *results = buffer;
  if constexpr (direct) results = to;
  for (int64_t begin = 0; begin < n; begin += kUsualPart) {
    const int64_t end = n - begin < kUsualPart ? n : begin + kUsualPart;
    for (int k = 0; k < inputs; ++k)
      for (int64_t line = 0; line < kUsualPart * int64_t(sizeof(T)); line += 64)
        __builtin_prefetch(
            reinterpret_cast<const char *>(static_cast<const T *>(in[k]) + at + begin + kUsualBlock) + line);
    INFINI_INDEPENDENT
    for (int64_t i = begin; i < end; ++i) results[i] = f(i);
  }
  if constexpr (!direct) from_float(buffer, to, n);
}

// out = f(a)
template <class T, class F> void unary_usually(const void *, void *out, const void *const *in, int64_t n) {
  using C = compute_t<T>;
  const F f{};
  alignas(64) C buffer[kUsualBlock];
  for (int64_t at = 0; at < n; at += kUsualBlock) {
    const int64_t count = n - at < kUsualBlock ? n - at : kUsualBlock;
    const C *x = widened<T>(in[0], at, buffer, count);
    if (all_of<C>(count, [&](int64_t i) { return f.usual(x[i]); }))
      compute_block<T, 1>(out, in, at, buffer, count, [&](int64_t i) { return f.shortly(x[i]); });
    else
      compute_block<T, 1>(out, in, at, buffer, count, [&](int64_t i) { return f(x[i]); });
  }
}

// out = f(a, b)
template <class T, class F> void binary_usually(const void *, void *out, const void *const *in, int64_t n) {
  using C = compute_t<T>;
  const F f{};
  alignas(64) C buffers[2][kUsualBlock];
  for (int64_t at = 0; at < n; at += kUsualBlock) {
    const int64_t count = n - at < kUsualBlock ? n - at : kUsualBlock;
    const C *x = widened<T>(in[0], at, buffers[0], count), *y = widened<T>(in[1], at, buffers[1], count);
    if (all_of<C>(count, [&](int64_t i) { return f.usual(x[i], y[i]); }))
      compute_block<T, 2>(out, in, at, buffers[0], count, [&](int64_t i) { return f.shortly(x[i], y[i]); });
    else
      compute_block<T, 2>(out, in, at, buffers[0], count, [&](int64_t i) { return f(x[i], y[i]); });
  }
}

}  // namespace infini::cpu::INFINI_ISA
