// types.hpp -- element types of the CPU kernels, their conversions, and dispatch from a dtype to a type.
// Block conversions are written so that the compiler vectorises them; F16C and NEON are used where present.
#pragma once
#include <infinicore/plugin.hpp>

#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

#include "isa.hpp"

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace infini::cpu::INFINI_ISA {

template <class To, class From> inline To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

// ---- storage types: bits only; arithmetic happens in compute_t<T> --------------------------------

struct half {  // IEEE 754 binary16
  uint16_t bits;
};
struct bfloat16 {  // the upper half of a binary32
  uint16_t bits;
};
struct float8_e4m3 {  // 1-4-3 bits, no infinity, NaN is 0x7f (OCP "e4m3fn")
  uint8_t bits;
};
template <class T> struct complex {  // a pair, real part first
  T re, im;
};
struct boolean {  // one byte: zero or not
  uint8_t value;
};

// The type in which values of T are computed.
template <class T> struct compute { using type = T; };
template <> struct compute<half> { using type = float; };
template <> struct compute<bfloat16> { using type = float; };
template <> struct compute<float8_e4m3> { using type = float; };
template <class T> using compute_t = typename compute<T>::type;

// ---- one value ------------------------------------------------------------------------------------

inline float to_float(float x) {
  return x;
}
inline double to_float(double x) {
  return x;
}

inline float to_float(bfloat16 x) {
  return bit_cast<float>(uint32_t(x.bits) << 16);
}

inline float to_float(half x) {
#if defined(__F16C__)
  return _cvtsh_ss(x.bits);
#elif defined(__aarch64__)
  return float(bit_cast<__fp16>(x.bits));
#else
  // Shift the fields in place and let one multiplication repair the exponent; it also makes subnormals.
  uint32_t magnitude = uint32_t(x.bits & 0x7fff) << 13;
  uint32_t bits = bit_cast<uint32_t>(bit_cast<float>(magnitude) * 0x1p112f);
  bits |= magnitude >= 0x0f800000u ? 0x7f800000u : 0u;  // infinity and NaN
  return bit_cast<float>(bits | uint32_t(x.bits & 0x8000) << 16);
#endif
}

inline float to_float(float8_e4m3 x) {
  uint32_t magnitude = uint32_t(x.bits & 0x7f) << 20;
  uint32_t bits = bit_cast<uint32_t>(bit_cast<float>(magnitude) * 0x1p120f);
  bits = magnitude == 0x07f00000u ? 0x7fc00000u : bits;
  return bit_cast<float>(bits | uint32_t(x.bits & 0x80) << 24);
}

// Rounding is to nearest, ties to even; a NaN stays a quiet NaN.
inline void from_float(float x, float &out) {
  out = x;
}
inline void from_float(double x, double &out) {
  out = x;
}

inline void from_float(float x, bfloat16 &out) {
  uint32_t bits = bit_cast<uint32_t>(x);
  uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  out.bits = uint16_t((bits & 0x7fffffffu) > 0x7f800000u ? bits >> 16 | 0x40u : rounded);
}

inline void from_float(float x, half &out) {
#if defined(__F16C__)
  out.bits = uint16_t(_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__aarch64__)
  out.bits = bit_cast<uint16_t>(__fp16(x));
#else
  uint32_t bits = bit_cast<uint32_t>(x), sign = bits >> 16 & 0x8000u;
  bits &= 0x7fffffffu;
  uint32_t normal = ((bits + 0xfffu + (bits >> 13 & 1u)) >> 13) - (112u << 10);
  // 0.5's unit in the last place is the step of a subnormal half, so the addition rounds to it.
  uint32_t subnormal = bit_cast<uint32_t>(bit_cast<float>(bits) + 0.5f) - 0x3f000000u;
  uint32_t special = bits > 0x7f800000u ? 0x7e00u | (bits >> 13 & 0x3ffu) : 0x7c00u;
  uint32_t finite = bits < 0x38800000u ? subnormal : normal;
  out.bits = uint16_t((bits >= 0x47800000u ? special : finite) | sign);
#endif
}

inline void from_float(float x, float8_e4m3 &out) {
  uint32_t bits = bit_cast<uint32_t>(x), sign = bits >> 24 & 0x80u;
  bits &= 0x7fffffffu;
  uint32_t normal = ((bits + 0x7ffffu + (bits >> 20 & 1u)) >> 20) - (120u << 3);
  // 2**14 has the step of a subnormal (2**-9) as its unit in the last place.
  uint32_t subnormal = bit_cast<uint32_t>(bit_cast<float>(bits) + 0x1p14f) - 0x46800000u;
  uint32_t finite = bits < 0x3c800000u ? subnormal : normal;
  // Above 464, halfway between 448 and the pattern that means NaN, there is no value: NaN.
  out.bits = uint8_t((bits > 0x43e80000u ? 0x7fu : finite) | sign);
}

template <class T> inline T from_float(compute_t<T> x) {
  T out;
  from_float(x, out);
  return out;
}

// Narrow a double to float so that a second rounding (to half, say) gives the correctly rounded result:
// an inexact value gets an odd last bit, which no later tie can be mistaken for.
inline float round_to_odd(double x) {
  float nearest = float(x);
  uint32_t bits = bit_cast<uint32_t>(nearest);
  double back = double(nearest);
  // Step towards zero when the nearest float lies beyond x, then set the sticky bit.
  uint32_t toward_zero = (back < 0 ? -back : back) > (x < 0 ? -x : x) ? bits - 1u : bits;
  return bit_cast<float>(back == x || back != back ? bits : toward_zero | 1u);
}

// ---- blocks ---------------------------------------------------------------------------------------
// n values, contiguous; source and target do not overlap.

template <class T> inline void to_float(const T *__restrict in, compute_t<T> *__restrict out, int64_t n) {
  if constexpr (std::is_same_v<T, compute_t<T>>) {
    std::memcpy(out, in, size_t(n) * sizeof(T));
  } else {
    int64_t i = 0;
#if defined(__AVX512F__)
    if constexpr (std::is_same_v<T, half>)
      for (; i + 16 <= n; i += 16)
        _mm512_storeu_ps(out + i,
                         _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(in + i))));
#elif defined(__F16C__)
    if constexpr (std::is_same_v<T, half>)
      for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(out + i,
                         _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(in + i))));
#endif
    for (; i < n; ++i) out[i] = to_float(in[i]);
  }
}

template <class T> inline void from_float(const compute_t<T> *__restrict in, T *__restrict out, int64_t n) {
  if constexpr (std::is_same_v<T, compute_t<T>>) {
    std::memcpy(out, in, size_t(n) * sizeof(T));
  } else {
    int64_t i = 0;
#if defined(__AVX512F__)
    if constexpr (std::is_same_v<T, half>)
      for (; i + 16 <= n; i += 16)
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(out + i),
                            _mm512_cvtps_ph(_mm512_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
    if constexpr (std::is_same_v<T, half>)
      for (; i + 8 <= n; i += 8)
        _mm_storeu_si128(reinterpret_cast<__m128i *>(out + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT));
#endif
    for (; i < n; ++i) from_float(in[i], out[i]);
  }
}

// The same from and to a strided row (stride in elements).
template <class T>
inline void to_float(const T *in, int64_t stride, compute_t<T> *__restrict out, int64_t n) {
  if (stride == 1) return to_float(in, out, n);
  for (int64_t i = 0; i < n; ++i) {
    if constexpr (std::is_same_v<T, compute_t<T>>)
      out[i] = in[i * stride];
    else
      out[i] = to_float(in[i * stride]);
  }
}

template <class T>
inline void from_float(const compute_t<T> *__restrict in, T *out, int64_t stride, int64_t n) {
  if (stride == 1) return from_float(in, out, n);
  for (int64_t i = 0; i < n; ++i) {
    if constexpr (std::is_same_v<T, compute_t<T>>)
      out[i * stride] = in[i];
    else
      from_float(in[i], out[i * stride]);
  }
}

// ---- dtypes ---------------------------------------------------------------------------------------

inline const char *dtype_name(int64_t dtype) {
  static constexpr const char *names[] = {"invalid", "byte", "bool", "i8",  "i16",  "i32", "i64",
                                          "u8",      "u16",  "u32",  "u64", "f8",   "f16", "f32",
                                          "f64",     "c16",  "c32",  "c64", "c128", "bf16"};
  return dtype >= 0 && dtype < int64_t(sizeof(names) / sizeof(*names)) ? names[dtype] : "unknown";
}

// Bytes of one element; 0 for a number that is no dtype.
inline int64_t dtype_size(int64_t dtype) {
  static constexpr int8_t sizes[] = {0, 1, 1, 1, 2, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 2, 4, 8, 16, 2};
  return dtype >= 0 && dtype < int64_t(sizeof(sizes)) ? sizes[dtype] : 0;
}

template <class T> struct tag { using type = T; };

[[noreturn]] inline void bad_dtype(const char *op, int64_t dtype, const char *supported) {
  throw Error(INFINI_STATUS_BAD_TENSOR_DTYPE, std::string(op) + ": the cpu backend has no kernel for dtype " +
                                                  dtype_name(dtype) + ", only for " + supported);
}

// fn(tag<T>{}) with the type of dtype; op names the operator in the error of a dtype outside the set.
template <class Fn> decltype(auto) dispatch_floats(const char *op, int64_t dtype, Fn &&fn) {
  switch (dtype) {
    case INFINI_DTYPE_F16:
      return fn(tag<half>{});
    case INFINI_DTYPE_BF16:
      return fn(tag<bfloat16>{});
    case INFINI_DTYPE_F32:
      return fn(tag<float>{});
    case INFINI_DTYPE_F64:
      return fn(tag<double>{});
    default:
      bad_dtype(op, dtype, "f16, bf16, f32 and f64");
  }
}

template <class Fn> decltype(auto) dispatch_ints(const char *op, int64_t dtype, Fn &&fn) {
  switch (dtype) {
    case INFINI_DTYPE_I8:
      return fn(tag<int8_t>{});
    case INFINI_DTYPE_I16:
      return fn(tag<int16_t>{});
    case INFINI_DTYPE_I32:
      return fn(tag<int32_t>{});
    case INFINI_DTYPE_I64:
      return fn(tag<int64_t>{});
    case INFINI_DTYPE_BYTE:
    case INFINI_DTYPE_U8:
      return fn(tag<uint8_t>{});
    case INFINI_DTYPE_U16:
      return fn(tag<uint16_t>{});
    case INFINI_DTYPE_U32:
      return fn(tag<uint32_t>{});
    case INFINI_DTYPE_U64:
      return fn(tag<uint64_t>{});
    default:
      bad_dtype(op, dtype, "integers");
  }
}

// Integers and floats.
template <class Fn> decltype(auto) dispatch_reals(const char *op, int64_t dtype, Fn &&fn) {
  switch (dtype) {
    case INFINI_DTYPE_F16:
    case INFINI_DTYPE_BF16:
    case INFINI_DTYPE_F32:
    case INFINI_DTYPE_F64:
      return dispatch_floats(op, dtype, fn);
    case INFINI_DTYPE_F8:
      return fn(tag<float8_e4m3>{});
    case INFINI_DTYPE_BYTE:
    case INFINI_DTYPE_I8:
    case INFINI_DTYPE_I16:
    case INFINI_DTYPE_I32:
    case INFINI_DTYPE_I64:
    case INFINI_DTYPE_U8:
    case INFINI_DTYPE_U16:
    case INFINI_DTYPE_U32:
    case INFINI_DTYPE_U64:
      return dispatch_ints(op, dtype, fn);
    default:
      bad_dtype(op, dtype, "integers and floats");
  }
}

// By element size alone, for kernels that only move elements: 1, 2, 4, 8 or 16 bytes.
struct bytes16 {
  uint64_t lo, hi;
};
template <class Fn> decltype(auto) dispatch_size(const char *op, int64_t dtype, Fn &&fn) {
  switch (dtype_size(dtype)) {
    case 1:
      return fn(tag<uint8_t>{});
    case 2:
      return fn(tag<uint16_t>{});
    case 4:
      return fn(tag<uint32_t>{});
    case 8:
      return fn(tag<uint64_t>{});
    case 16:
      return fn(tag<bytes16>{});
    default:
      bad_dtype(op, dtype, "the dtypes of infinicore.h");
  }
}

}  // namespace infini::cpu::INFINI_ISA
