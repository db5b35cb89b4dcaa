// cpu/vec.hpp -- one SIMD register as a value, for inner products that the compiler cannot vectorise well by
// itself. Built on the vector extensions of GCC and Clang: 64, 32 or 16 bytes by instruction set; f16 and
// bf16 widen to f32.
#pragma once
#include "types.hpp"

#include <cstdint>
#include <cstring>
#include <utility>
#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace infini::cpu::INFINI_ISA {

#if defined(__AVX512F__)
inline constexpr int vector_bytes = 64;
#elif defined(__AVX2__)
inline constexpr int vector_bytes = 32;
#else
inline constexpr int vector_bytes = 16;
#endif

// How many of them there are: what a tile of sums has to fit into.
#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr int vector_registers = 32;
#else
inline constexpr int vector_registers = 16;
#endif

template <class C> struct VecOf { typedef C type __attribute__((vector_size(vector_bytes))); };
template <class C> using vec = typename VecOf<C>::type;
template <class C> inline constexpr int64_t lanes = vector_bytes / sizeof(C);
// Half a register of 16-bit numbers: what widens to one register of f32.
typedef uint16_t vec_half_bits __attribute__((vector_size(vector_bytes / 2)));

// C is the type that sums are kept in: f32 for f16 and bf16.
template <class C> inline vec<C> splat(C value) {
  return value - vec<C>{};
}  // x - 0 is x for every x

inline vec<float> load(const float *p) {
  vec<float> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline vec<double> load(const double *p) {
  vec<double> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline vec<float> load(const bfloat16 *p) {
#if defined(__AVX512F__)  // what GCC makes of the portable form is twice as long
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(p));
  return (vec<float>)_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16);
#else
  vec_half_bits bits;
  std::memcpy(&bits, p, sizeof bits);
  return (vec<float>)(__builtin_convertvector(bits, vec<uint32_t>) << 16);
#endif
}

inline vec<float> load(const half *p) {
#if defined(__AVX512F__)
  return (vec<float>)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(p)));
#elif defined(__AVX2__) && defined(__F16C__)
  return (vec<float>)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p)));
#else
  vec_half_bits bits;
  std::memcpy(&bits, p, sizeof bits);
  vec<uint32_t> wide = __builtin_convertvector(bits, vec<uint32_t>);
  vec<uint32_t> magnitude = wide & 0x7fff;
  // Exponent and mantissa in f32's place are 2^-112 times the value, subnormals included.
  vec<float> value = (vec<float>)(magnitude << 13) * 0x1p112f;
  vec<uint32_t> special = (vec<uint32_t>)(magnitude > 0x7bff) & 0x7f800000u;  // infinity, NaN
  return (vec<float>)((vec<uint32_t>)value | special | ((wide & 0x8000) << 16));
#endif
}

// The first `count` lanes from memory, zero in the others; nothing beyond them is touched.
template <class T> inline auto load_first(const T *p, int64_t count) {
  using C = compute_t<T>;
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>)
    return (vec<C>)_mm512_maskz_loadu_ps(__mmask16((1u << count) - 1), p);
#endif
  T padded[lanes<C>] = {};
  std::memcpy(padded, p, size_t(count) * sizeof(T));
  return load(padded);
}

inline void store(float *p, vec<float> v) {
  std::memcpy(p, &v, sizeof v);
}
inline void store(double *p, vec<double> v) {
  std::memcpy(p, &v, sizeof v);
}

inline void store_first(float *p, vec<float> v, int64_t count) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, __mmask16((1u << count) - 1), (__m512)v);
#else
  std::memcpy(p, &v, size_t(count) * sizeof(float));
#endif
}
inline void store_first(double *p, vec<double> v, int64_t count) {
  std::memcpy(p, &v, size_t(count) * sizeof(double));
}

inline float reduce_add(vec<float> v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)v);
#elif defined(__AVX2__)
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
#else
  return (v[0] + v[2]) + (v[1] + v[3]);
#endif
}

inline double reduce_add(vec<double> v) {
  double sum = 0;
  for (int64_t i = 0; i < lanes<double>; ++i) sum += v[i];
  return sum;
}

// a0 b0 a1 b1 ... from the lower (Half 0) or upper (Half 1) lanes of a and b.
template <int Half, class V, int... I> inline V zip(V a, V b, std::integer_sequence<int, I...>) {
  constexpr int count = sizeof...(I);
  return __builtin_shufflevector(a, b, (Half * (count / 2) + I / 2 + (I % 2) * count)...);
}

// Registers as the rows of a square matrix: exchange rows and columns.
template <class C> inline void transpose(vec<C> (&rows)[lanes<C>]) {
  constexpr int L = int(lanes<C>);
  using lane_numbers = std::make_integer_sequence<int, L>;
#pragma GCC unroll 4
  for (int step = 1; step < L; step *= 2) {
    vec<C> next[L];
#pragma GCC unroll 8
    for (int i = 0; i < L / 2; ++i) {
      next[2 * i] = zip<0>(rows[i], rows[i + L / 2], lane_numbers{});
      next[2 * i + 1] = zip<1>(rows[i], rows[i + L / 2], lane_numbers{});
    }
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i) rows[i] = next[i];
  }
}

// Lane i of the result is the sum of the lanes of rows[i].
template <class C> inline vec<C> reduce_add_rows(vec<C> (&rows)[lanes<C>]) {
  constexpr int L = int(lanes<C>);
  using lane_numbers = std::make_integer_sequence<int, L>;
#pragma GCC unroll 4
  for (int half = L / 2; half > 0; half /= 2)
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i)
      rows[i] =
          zip<0>(rows[i], rows[i + half], lane_numbers{}) + zip<1>(rows[i], rows[i + half], lane_numbers{});
  return rows[0];
}

// fn(a register of x, registers[i]) over a contiguous row, folding it into independent partial results.
// Four of them hide the latency of an addition; the order of operations does not depend on the data.
template <class C, class Fn> inline vec<C> fold(const C *x, int64_t n, vec<C> start, Fn &&fn) {
  constexpr int64_t L = lanes<C>;
  vec<C> part[4] = {start, start, start, start};
  int64_t i = 0;
  for (; i + 4 * L <= n; i += 4 * L)
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) part[u] = fn(part[u], load(x + i + u * L));
  for (; i + L <= n; i += L) part[0] = fn(part[0], load(x + i));
  if (i < n) {
    C tail[L];
    store(tail, part[1]);
    vec<C> last = fn(part[1], load_first(x + i, n - i));
    C folded[L];
    store(folded, last);
    for (int64_t l = 0; l < n - i; ++l) tail[l] = folded[l];
    part[1] = load(tail);
  }
  return fn(fn(part[0], part[1]), fn(part[2], part[3]));
}

template <class C> inline C row_sum(const C *x, int64_t n) {
  return reduce_add(fold(x, n, vec<C>{}, [](vec<C> sum, vec<C> v) { return sum + v; }));
}

// Minus infinity when n is 0; a NaN is passed over.
template <class C> inline C row_max(const C *x, int64_t n) {
  const vec<C> top =
      fold(x, n, splat(C(-__builtin_huge_val())), [](vec<C> m, vec<C> v) { return v > m ? v : m; });
  C lane[lanes<C>], result = -__builtin_huge_val();
  store(lane, top);
  for (C v : lane) result = v > result ? v : result;
  return result;
}

inline void prefetch(const void *p) {
  __builtin_prefetch(p, 0, 3);
}

}  // namespace infini::cpu::INFINI_ISA
