// vmath.hpp -- exp, log, tanh, erf and sigmoid without branches or calls, so that loops over them vectorise.
// The float forms are within a few units in the last place everywhere; the double forms are the C library's.
#pragma once
#include <cmath>
#include <cstdint>

#include "isa.hpp"
#include "types.hpp"

// Polynomial coefficients are minimax fits of our own (weighted least squares, Lawson's iteration) over the
// interval named beside them.
namespace infini::cpu::INFINI_ISA::vmath {

// a * b + c in one rounding where the instruction set has it; a library call would cost more than it is
// worth.
inline float fma(float a, float b, float c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

// e**x = 2**n * e**r with n = round(x / ln 2) and |r| <= ln(2) / 2.
inline float exp(float x) {
  x = x > 89.0f ? 89.0f : x;  // overflows to infinity; comparisons this way round let a NaN through
  x = x < -104.0f ? -104.0f : x;
  float shifted = fma(x, 1.44269504f, 0x1.8p23f);  // rounds to an integer held in the low mantissa bits
  float n = shifted - 0x1.8p23f;
  int32_t power = bit_cast<int32_t>(shifted) - 0x4b400000;
  float r = fma(n, -0.693359375f, x);  // ln 2 in two parts: the first product is exact
  r = fma(n, 2.12194440e-4f, r);
  float p = 1.3951717e-3f;  // (e**r - 1 - r) / r**2 on [-0.35, 0.35]
  p = fma(p, r, 8.3695984e-3f);
  p = fma(p, r, 4.16661873e-2f);
  p = fma(p, r, 0.166665129f);
  p = fma(p, r, 0.500000010f);
  p = fma(p * r, r, r) + 1.0f;
  // 2**n in two factors, since n may lie beyond the exponents of normal numbers.
  int32_t some = power >> 1;
  float scale = bit_cast<float>((some + 127) << 23), rest = bit_cast<float>((power - some + 127) << 23);
  return p * scale * rest;
}

// ln x = e ln 2 + 2 atanh((m - 1) / (m + 1)) for x = m 2**e and m around 1.
inline float log(float x) {
  bool subnormal = x < 0x1p-126f;
  float y = subnormal ? x * 0x1p24f : x;
  int32_t bits = bit_cast<int32_t>(y);
  int32_t exponent = (bits - 0x3f3504f3) >> 23;  // m in [sqrt(1/2), sqrt(2))
  float f = bit_cast<float>(bits - (exponent << 23)) - 1.0f;
  float e = float(exponent) - (subnormal ? 24.0f : 0.0f);
  float s = f / (2.0f + f), z = s * s;
  float p = fma(fma(fma(fma(1.0f / 9, z, 1.0f / 7), z, 1.0f / 5), z, 1.0f / 3), z, 1.0f);
  float result = fma(e, 0.693359375f, fma(e, -2.12194440e-4f, 2.0f * s * p));
  result = x == HUGE_VALF ? HUGE_VALF : result;
  result = x == 0.0f ? -HUGE_VALF : result;
  return x >= 0.0f ? result : __builtin_nanf("");
}

inline float sigmoid(float x) {
  return 1.0f / (1.0f + exp(-x));
}

// x * sigmoid(x)
inline float silu(float x) {
  return x / (1.0f + exp(-x));
}

// A polynomial near zero, where 1 - 2 / (e**2x + 1) cancels.
inline float tanh(float x) {
  float a = __builtin_fabsf(x), z = x * x;
  float p = 2.1475370e-3f;  // (tanh(a) - a) / a**3 in z on [0, 0.39]
  p = fma(p, z, -8.1826741e-3f);
  p = fma(p, z, 2.17029672e-2f);
  p = fma(p, z, -5.39472043e-2f);
  p = fma(p, z, 0.1333320976f);
  p = fma(p, z, -0.3333333091f);
  float near = fma(p * z, a, a);
  float far = 1.0f - 2.0f / (exp(2.0f * a) + 1.0f);
  return __builtin_copysignf(a < 0.625f ? near : far, x);
}

// An odd polynomial up to 1; beyond, 1 - erfc with ln(erfc) as a polynomial.
inline float erf(float x) {
  float a = __builtin_fabsf(x), z = x * x;
  float p = 7.8891160e-5f;  // erf(a) / a in z on [0, 1]
  p = fma(p, z, -8.0208401e-4f);
  p = fma(p, z, 5.1895351976e-3f);
  p = fma(p, z, -2.6854444507e-2f);
  p = fma(p, z, 0.11283600174f);
  p = fma(p, z, -0.37612627136f);
  p = fma(p, z, 1.1283791659f);
  float near = p * a;
  float b = a > 4.0f ? 4.0f : a;  // erf(4) rounds to 1
  float q = 1.9150503127e-4f;     // ln(erfc(b)) on [0.95, 4]
  q = fma(q, b, -2.9995490366e-3f);
  q = fma(q, b, 2.2052029059e-2f);
  q = fma(q, b, -0.10356695459f);
  q = fma(q, b, -0.63759997064f);
  q = fma(q, b, -1.1274261249f);
  q = fma(q, b, -2.5643665641e-4f);
  float far = 1.0f - exp(q);
  return __builtin_copysignf(a < 1.0f ? near : far, x);
}

inline double exp(double x) {
  return std::exp(x);
}
inline double log(double x) {
  return std::log(x);
}
inline double tanh(double x) {
  return std::tanh(x);
}
inline double erf(double x) {
  return std::erf(x);
}
inline double sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}
inline double silu(double x) {
  return x / (1.0 + std::exp(-x));
}

}  // namespace infini::cpu::INFINI_ISA::vmath
