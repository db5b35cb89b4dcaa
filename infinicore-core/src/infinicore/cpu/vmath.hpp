// vmath.hpp -- exp, log, tanh, erf and their kin without branches or calls, so that loops over them
// vectorise. All are within a few units in the last place everywhere; erf and erfc of a double are the C
// library's.
#pragma once
#include <cmath>
#include <cstdint>

#include "isa.hpp"
#include "types.hpp"

// Polynomial coefficients are minimax fits of our own (Lawson's iteration or Remez exchange) over the
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
inline double fma(double a, double b, double c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_fma(a, b, c);
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

// e**x - 1 = 2 (t (e**r - 1) + (t - 1/2)) with t = 2**(n - 1) and n, r as above: nothing cancels where n is
// 0.
inline float expm1(float x) {
  x = x > 89.0f ? 89.0f : x;
  x = x < -20.0f ? -20.0f : x;  // rounds to -1
  float shifted = fma(x, 1.44269504f, 0x1.8p23f);
  float n = shifted - 0x1.8p23f;
  float t = bit_cast<float>((bit_cast<int32_t>(shifted) - 0x4b400000 + 126) << 23);
  float r = fma(n, -0.693359375f, x);
  r = fma(n, 2.12194440e-4f, r);
  float p = 1.98459034e-4f;  // (e**r - 1 - r) / r**2 on [-0.35, 0.35]
  p = fma(p, r, 1.39407197e-3f);
  p = fma(p, r, 8.33338965e-3f);
  p = fma(p, r, 4.16663587e-2f);
  p = fma(p, r, 0.166666657f);
  p = fma(p, r, 0.5f);
  p = fma(p * r, r, r);
  return 2.0f * fma(t, p, t - 0.5f);
}

// ln x = e ln 2 + ln(1 + f) for x = (1 + f) 2**e. No division: on narrow floats it would take half the time.
inline float log(float x) {
  bool subnormal = x < 0x1p-126f;
  float y = subnormal ? x * 0x1p24f : x;
  int32_t bits = bit_cast<int32_t>(y);
  int32_t exponent = (bits - 0x3f3504f3) >> 23;  // 1 + f in [sqrt(1/2), sqrt(2))
  float f = bit_cast<float>(bits - (exponent << 23)) - 1.0f;
  float e = float(exponent) - (subnormal ? 24.0f : 0.0f);
  float z = f * f;
  float p = -7.63566494e-2f;  // (ln(1 + f) - f + f**2 / 2) / f**3 on [-0.293, 0.415]
  p = fma(p, f, 0.127633437f);
  p = fma(p, f, -0.131605864f);
  p = fma(p, f, 0.142015517f);
  p = fma(p, f, -0.166232973f);
  p = fma(p, f, 0.200012341f);
  p = fma(p, f, -0.250008225f);
  p = fma(p, f, 0.333333313f);
  float small = fma(-0.5f, z, fma(e, -2.12194440e-4f, f * z * p));
  float result = fma(e, 0.693359375f, f + small);
  result = x == HUGE_VALF ? HUGE_VALF : result;
  result = x == 0.0f ? -HUGE_VALF : result;
  return x >= 0.0f ? result : __builtin_nanf("");
}

// ln(1 + x): the logarithm of the rounded sum, and what the rounding lost.
inline float log1p(float x) {
  float y = 1.0f + x, lost = x - (y - 1.0f);
  return log(y) + (y > 0.0f && y < HUGE_VALF ? lost / y : 0.0f);
}

inline float sigmoid(float x) {
  return 1.0f / (1.0f + exp(-x));
}

// x * sigmoid(x)
inline float silu(float x) {
  return x / (1.0f + exp(-x));
}

// erf(x) for |x| <= 1: an odd polynomial.
inline float small_erf(float x) {
  float z = x * x;
  float p = 7.8891160e-5f;  // erf(x) / x in z on [0, 1]
  p = fma(p, z, -8.0208401e-4f);
  p = fma(p, z, 5.1895351976e-3f);
  p = fma(p, z, -2.6854444507e-2f);
  p = fma(p, z, 0.11283600174f);
  p = fma(p, z, -0.37612627136f);
  p = fma(p, z, 1.1283791659f);
  return p * x;
}

// Beyond 1, 1 - erfc with ln(erfc) as a polynomial.
inline float erf(float x) {
  float a = __builtin_fabsf(x);
  float b = a > 4.0f ? 4.0f : a;  // erf(4) rounds to 1
  float q = 1.9150503127e-4f;     // ln(erfc(b)) on [0.95, 4]
  q = fma(q, b, -2.9995490366e-3f);
  q = fma(q, b, 2.2052029059e-2f);
  q = fma(q, b, -0.10356695459f);
  q = fma(q, b, -0.63759997064f);
  q = fma(q, b, -1.1274261249f);
  q = fma(q, b, -2.5643665641e-4f);
  return a < 1.0f ? small_erf(x) : __builtin_copysignf(1.0f - exp(q), x);
}

// Beyond 0.7 e**(-a**2) q with q a polynomial in t = 1 / (1 + a / 2): small results keep their relative
// accuracy.
inline float erfc(float x) {
  float a = __builtin_fabsf(x);
  a = a > 10.5f ? 10.5f : a;  // underflows to zero
  float t = 1.0f / fma(0.5f, a, 1.0f);
  float q = -5.58339767e-2f;  // e**(a**2) erfc(a) for a on [0, 10.5]
  q = fma(q, t, 0.267974764f);
  q = fma(q, t, -0.450597703f);
  q = fma(q, t, 0.2327016f);
  q = fma(q, t, 8.08393676e-3f);
  q = fma(q, t, 0.185747162f);
  q = fma(q, t, 0.248358667f);
  q = fma(q, t, 0.281379282f);
  q = fma(q, t, 0.28219083f);
  q = fma(q, t, -4.6073792e-6f);
  // The exponential multiplies the error of its argument, so the square is taken in two parts.
  float high = bit_cast<float>(bit_cast<int32_t>(a) & ~0xfff), low = a - high;
  float tail = q * exp(-high * high) * exp(-low * (a + high));
  float far = x < 0.0f ? 2.0f - tail : tail;
  return a < 0.7f ? 1.0f - small_erf(x) : far;
}

// ---- double ---------------------------------------------------------------------------------------
// The same ways with longer polynomials. Integers stay in the low mantissa bits of 1.5 * 2**52 + n, since not
// every instruction set converts 64-bit integers or shifts them with their sign.

constexpr double kShift = 0x1.8p52;
constexpr double kLn2High = 0x1.62e42fefa38p-1;  // multiples of it up to 2**11 are exact
constexpr double kLn2Low = 0x1.ef35793c7673p-45;

// 2**n for n held as above, at least -1022 and at most 1023.
inline double power_of_two(double shifted) {
  return bit_cast<double>((bit_cast<uint64_t>(shifted) + 1023) << 52);
}

// e**r - 1 for |r| <= 0.35
inline double small_expm1(double r) {
  double p = 0x1.1ee881c633445p-29;  // (e**r - 1 - r) / r**2
  p = fma(p, r, 0x1.af5ee6a218ce4p-26);
  p = fma(p, r, 0x1.27e5366018784p-22);
  p = fma(p, r, 0x1.71ddf842ff026p-19);
  p = fma(p, r, 0x1.a01a017b97ffbp-16);
  p = fma(p, r, 0x1.a01a01afe93c7p-13);
  p = fma(p, r, 0x1.6c16c16c1f155p-10);
  p = fma(p, r, 0x1.111111110f6abp-7);
  p = fma(p, r, 0x1.555555555553ep-5);
  p = fma(p, r, 0x1.5555555555559p-3);
  p = fma(p, r, 0.5);
  return fma(p * r, r, r);
}

inline double exp(double x) {
  x = x > 710.0 ? 710.0 : x;
  x = x < -746.0 ? -746.0 : x;
  double n = fma(x, 0x1.71547652b82fep0, kShift) - kShift;
  double r = fma(n, -kLn2Low, fma(n, -kLn2High, x));
  double some = fma(n, 0.5, kShift), rest = n - (some - kShift) + kShift;
  return (1.0 + small_expm1(r)) * power_of_two(some) * power_of_two(rest);
}

inline double expm1(double x) {
  x = x > 710.0 ? 710.0 : x;
  x = x < -40.0 ? -40.0 : x;
  double n = fma(x, 0x1.71547652b82fep0, kShift) - kShift;
  double r = fma(n, -kLn2Low, fma(n, -kLn2High, x));
  double t = power_of_two(n - 1.0 + kShift);
  return 2.0 * fma(t, small_expm1(r), t - 0.5);
}

// With s = f / (2 + f), ln(1 + f) = 2 atanh(s) = f - s (f - 2 s**2 (1/3 + s**2/5 + ...)), where the rounding
// of s hardly counts.
inline double log(double x) {
  bool subnormal = x < 0x1p-1022;
  uint64_t bits = bit_cast<uint64_t>(subnormal ? x * 0x1p54 : x);
  uint64_t raised = (bits - 0x3fe6a09e667f3bcd + (uint64_t(1023) << 52)) >> 52;  // the exponent plus 1023
  double e = bit_cast<double>(raised | bit_cast<uint64_t>(0x1p52)) - (0x1p52 + 1023.0);
  double f = bit_cast<double>(bits - (raised << 52) + (uint64_t(1023) << 52)) - 1.0;
  e -= subnormal ? 54.0 : 0.0;
  double s = f / (2.0 + f), z = s * s;
  double p = 0x1.0f6a90076820cp-4;  // (atanh(s) / s - 1) / z on [0, 0.0295]
  p = fma(p, z, 0x1.0f5bf7373423ap-4);
  p = fma(p, z, 0x1.3b20b4d0329bcp-4);
  p = fma(p, z, 0x1.745cddffc48b2p-4);
  p = fma(p, z, 0x1.c71c7259a8e12p-4);
  p = fma(p, z, 0x1.249249242ab0cp-3);
  p = fma(p, z, 0x1.9999999999e06p-3);
  p = fma(p, z, 0x1.5555555555555p-2);
  double small = fma(e, kLn2Low, -s * (f - 2.0 * z * p));
  double result = fma(e, kLn2High, f + small);
  result = x == HUGE_VAL ? HUGE_VAL : result;
  result = x == 0.0 ? -HUGE_VAL : result;
  return x >= 0.0 ? result : __builtin_nan("");
}

inline double log1p(double x) {
  double y = 1.0 + x, lost = x - (y - 1.0);
  return log(y) + (y > 0.0 && y < HUGE_VAL ? lost / y : 0.0);
}

// (e**2a - 1) / (e**2a + 1), of a float or a double: one way for every argument, so that a vector goes no
// other.
template <class C> inline C tanh(C x) {
  const C a = x < C(0) ? -x : x;
  const C t = expm1(C(2) * (a > C(20) ? C(20) : a));  // beyond, it rounds to 1
  return std::copysign(t / (t + C(2)), x);
}

inline double erf(double x) {
  return std::erf(x);
}
inline double erfc(double x) {
  return std::erfc(x);
}
inline double sigmoid(double x) {
  return 1.0 / (1.0 + exp(-x));
}
inline double silu(double x) {
  return x / (1.0 + exp(-x));
}

// a * b * sigmoid(b). e**-|b| is multiplied in as two square roots, one to each factor, so that nothing
// underflows or overflows before the result does; what is left of an infinite a is infinite for any finite b.
template <class C> inline C swiglu(C a, C b) {
  C root = exp(b < 0 ? b / 2 : -b / 2);
  C weight = b < 0 ? root : C(1);
  C result = a * weight / (1 + root * root) * (b * weight);
  bool infinite = (a < 0 ? -a : a) == C(HUGE_VAL) && b > -C(HUGE_VAL);
  return infinite ? a * b : result;
}

}  // namespace infini::cpu::INFINI_ISA::vmath
