// vmath.hpp -- exp, log, tanh, the tail of the normal distribution and their kin without branches or calls,
// so that loops over them vectorise. All are within a few units in the last place everywhere.
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

// e**r for |r| <= 0.35
inline float small_exp(float r) {
  float p = 1.3951717e-3f;  // (e**r - 1 - r) / r**2
  p = fma(p, r, 8.3695984e-3f);
  p = fma(p, r, 4.16661873e-2f);
  p = fma(p, r, 0.166665129f);
  p = fma(p, r, 0.500000010f);
  return fma(p * r, r, r) + 1.0f;
}

// e**(x - less) where that is a normal number, for a small less: what a rounding to x lost, say.
// e**x = 2**n * e**r with n = round(x / ln 2) and |r| <= ln(2) / 2.
inline float normal_exp(float x, float less = 0.0f) {
  float shifted = fma(x, 1.44269504f, 0x1.8p23f);  // rounds to an integer held in the low mantissa bits
  float n = shifted - 0x1.8p23f;
  float r = fma(n, -0.693359375f, x);  // ln 2 in two parts: the first product is exact
  r = fma(n, 2.12194440e-4f, r) - less;
  return small_exp(r) * bit_cast<float>((bit_cast<int32_t>(shifted) - 0x4b400000 + 127) << 23);
}

// The same for every x.
inline float exp(float x, float less = 0.0f) {
  x = x > 89.0f ? 89.0f : x;  // overflows to infinity; comparisons this way round let a NaN through
  x = x < -104.0f ? -104.0f : x;
  float shifted = fma(x, 1.44269504f, 0x1.8p23f);
  float n = shifted - 0x1.8p23f;
  int32_t power = bit_cast<int32_t>(shifted) - 0x4b400000;
  float r = fma(n, -0.693359375f, x);
  r = fma(n, 2.12194440e-4f, r) - less;
  // 2**n in two factors, since n may lie beyond the exponents of normal numbers.
  int32_t some = power >> 1;
  float scale = bit_cast<float>((some + 127) << 23), rest = bit_cast<float>((power - some + 127) << 23);
  return small_exp(r) * scale * rest;
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

// ln(x / 2**less) for a normal positive x: e ln 2 + ln(1 + f) with x / 2**less = (1 + f) 2**e. No division:
// on narrow floats it would take half the time.
inline float normal_log(float x, float less = 0.0f) {
  int32_t bits = bit_cast<int32_t>(x);
  int32_t exponent = (bits - 0x3f3504f3) >> 23;  // 1 + f in [sqrt(1/2), sqrt(2))
  float f = bit_cast<float>(bits - (exponent << 23)) - 1.0f;
  float e = float(exponent) - less;
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
  return fma(e, 0.693359375f, f + small);
}

inline float log(float x) {
  bool subnormal = x < 0x1p-126f;
  float result = normal_log(subnormal ? x * 0x1p24f : x, subnormal ? 24.0f : 0.0f);
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

// erfc(x / sqrt(2)) / 2 for x >= 0, the probability of more than x standard deviations: e**(-x**2 / 2) P(t) /
// (x + K) with P a polynomial in t = (x - K) / (x + K), which is smooth up to infinity (Shepherd and
// Laframboise, Mathematics of Computation 36, 1981). Small results keep their relative accuracy.
// Relative errors are at most 4 * 2**-23, of P alone 7e-9. usual: x is at most 12.
template <bool usual = false> inline float normal_tail(float x) {
  if constexpr (!usual) x = x > 14.5f ? 14.5f : x;  // underflows to zero
  float u = 1.0f / (x + 3.5f), t = fma(-7.0f, u, 1.0f);
  float p = 1.1068882e-4f;  // on [0, 14.5]
  p = fma(p, t, 4.218964e-4f);
  p = fma(p, t, -4.949441e-4f);
  p = fma(p, t, -3.1753096e-3f);
  p = fma(p, t, 6.4931163e-3f);
  p = fma(p, t, 1.7406378e-2f);
  p = fma(p, t, -1.1605304e-1f);
  p = fma(p, t, 3.1542504e-1f);
  p = fma(p, t, -5.655618e-1f);
  p = fma(p, t, 7.4441606e-1f);
  // The exponential multiplies the error of its argument, so the square is taken in two parts, the first
  // exact.
  float high = bit_cast<float>(bit_cast<int32_t>(x) & ~0xfff);
  float square = -0.5f * high * high, less = 0.5f * (x - high) * (x + high);
  return (usual ? normal_exp(square, less) : exp(square, less)) * (p * u);
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

inline double normal_exp(double x, double less = 0.0) {
  double shifted = fma(x, 0x1.71547652b82fep0, kShift), n = shifted - kShift;
  double r = fma(n, -kLn2Low, fma(n, -kLn2High, x)) - less;
  return (1.0 + small_expm1(r)) * power_of_two(shifted);
}

inline double exp(double x, double less = 0.0) {
  x = x > 710.0 ? 710.0 : x;
  x = x < -746.0 ? -746.0 : x;
  double n = fma(x, 0x1.71547652b82fep0, kShift) - kShift;
  double r = fma(n, -kLn2Low, fma(n, -kLn2High, x)) - less;
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
inline double normal_log(double x, double less = 0.0) {
  uint64_t bits = bit_cast<uint64_t>(x);
  uint64_t raised = (bits - 0x3fe6a09e667f3bcd + (uint64_t(1023) << 52)) >> 52;  // the exponent plus 1023
  double e = bit_cast<double>(raised | bit_cast<uint64_t>(0x1p52)) - (0x1p52 + 1023.0) - less;
  double f = bit_cast<double>(bits - (raised << 52) + (uint64_t(1023) << 52)) - 1.0;
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
  return fma(e, kLn2High, f + small);
}

inline double log(double x) {
  bool subnormal = x < 0x1p-1022;
  double result = normal_log(subnormal ? x * 0x1p54 : x, subnormal ? 54.0 : 0.0);
  result = x == HUGE_VAL ? HUGE_VAL : result;
  result = x == 0.0 ? -HUGE_VAL : result;
  return x >= 0.0 ? result : __builtin_nan("");
}

inline double log1p(double x) {
  double y = 1.0 + x, lost = x - (y - 1.0);
  return log(y) + (y > 0.0 && y < HUGE_VAL ? lost / y : 0.0);
}

// In two chains, since one leaves units idle. Errors: 5 * 2**-52, of P 5e-18. usual: x is at most 37.
template <bool usual = false> inline double normal_tail(double x) {
  if constexpr (!usual) x = x > 39.0 ? 39.0 : x;
  double u = 1.0 / (x + 5.5), t = fma(-11.0, u, 1.0), z = t * t;
  double even = -0x1.8475d61d4cf36p-28, odd = -0x1.6297dc97c819bp-29;  // on [0, 39]
  even = fma(even, z, 0x1.afa780a2b50b9p-25), odd = fma(odd, z, 0x1.8a1a30ac56824p-26);
  even = fma(even, z, -0x1.1f8592a0801fp-22), odd = fma(odd, z, -0x1.7d621168950a5p-23);
  even = fma(even, z, 0x1.df447c27614c1p-22), odd = fma(odd, z, 0x1.8e5277cd0514bp-20);
  even = fma(even, z, 0x1.11cdc7306ed51p-16), odd = fma(odd, z, -0x1.96a48d82e66bdp-17);
  even = fma(even, z, -0x1.544962c14f06p-12), odd = fma(odd, z, 0x1.2b891cc5e4159p-14);
  even = fma(even, z, 0x1.4034e561d06bdp-9), odd = fma(odd, z, 0x1.1ab345ddba6f7p-12);
  even = fma(even, z, 0x1.71707b5751f3dp-5), odd = fma(odd, z, -0x1.c83edf4336a17p-7);
  even = fma(even, z, 0x1.be33e6ee995f0p-3), odd = fma(odd, z, -0x1.c15806fa49132p-4);
  even = fma(even, z, 0x1.1239b3f8c06dap-1), odd = fma(odd, z, -0x1.77dbb5cdda96cp-2);
  even = fma(even, z, 0x1.8c2b8893b5c8dp-1), odd = fma(odd, z, -0x1.5ed05c7e41a2ep-1);
  double high = bit_cast<double>(bit_cast<uint64_t>(x) & ~uint64_t(0x7ffffff));
  double square = -0.5 * high * high, less = 0.5 * (x - high) * (x + high);
  return (usual ? normal_exp(square, less) : exp(square, less)) * (fma(odd, t, even) * u);
}

// (e**2a - 1) / (e**2a + 1), of a float or a double: one way for every argument, so that a vector goes no
// other.
template <class C> inline C tanh(C x) {
  const C a = x < C(0) ? -x : x;
  const C t = expm1(C(2) * (a > C(20) ? C(20) : a));  // beyond, it rounds to 1
  return std::copysign(t / (t + C(2)), x);
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
