// power.hpp -- pow without branches or calls, so that loops over it vectorise: 2**(y log2 |x|), with the
// cases that C's pow names apart, or without them where the arguments are usual. Beside vmath.hpp, which
// every kernel includes, for the one kernel that needs it.
#pragma once
#include "vmath.hpp"

namespace infini::cpu::INFINI_ISA::vmath {

// What pow makes of the magnitude of its result: signs, and whatever y or an infinite or missing x decides.
// (Conditions are joined by bits: && and || are branches to the vectoriser.)
template <class C> [[gnu::always_inline]] inline C power_cases(C x, C y, C magnitude) {
  const C infinity = C(HUGE_VAL), missing = C(__builtin_nan("")), half = y * C(0.5);
  const C a = x < C(0) ? -x : x, b = y < C(0) ? -y : y;
  const bool whole = std::rint(y) == y, odd = whole & (std::rint(half) != half);
  C result = odd ? std::copysign(magnitude, x) : magnitude;
  result = (x < C(0)) & (a < infinity) & (b < infinity) & !whole ? missing : result;
  result = (x != x) | (y != y) ? missing : result;
  return (x == C(1)) | (y == C(0)) | ((x == C(-1)) & (b == infinity)) ? C(1) : result;
}

// Normal positive bases and exponents near 0: the result is a matter of arithmetic alone. (A NaN is not.)
inline bool usual_power(float x, float y) {
  return (x >= 0x1p-126f) & (x < HUGE_VALF) & (__builtin_fabsf(y) <= 6.0f);
}
inline bool usual_power(double x, double y) {
  return (x >= 0x1p-128) & (x <= 0x1p128) & (__builtin_fabs(y) <= 7.0);
}

// In double, where nothing that a float can be underflows or overflows, and 33 bits of the logarithm do.
template <bool usual> [[gnu::always_inline]] inline float pow(float x, float y) {
  double a = 0, e, f;     // x is (1 + f) 2**e
  if constexpr (usual) {  // a float with all its bits: taken apart in registers of twice as many
    const uint32_t raised = bit_cast<uint32_t>(x) - 0x3f3504f3;
    e = double(int32_t(raised) >> 23);
    f = double(bit_cast<float>((raised & 0x7fffff) + 0x3f3504f3) - 1.0f);
  } else {
    a = __builtin_fabsf(x);
    const uint64_t bits = bit_cast<uint64_t>(a);
    const uint64_t raised = (bits - 0x3fe6a09e667f3bcd + (uint64_t(1023) << 52)) >> 52;
    e = bit_cast<double>(raised | bit_cast<uint64_t>(0x1p52)) - (0x1p52 + 1023.0);
    f = bit_cast<double>(bits - (raised << 52) + (uint64_t(1023) << 52)) - 1.0;
  }
  // log2(1 + f) / f on [sqrt(1/2) - 1, sqrt(2) - 1]; in pairs of terms, since one chain leaves units idle
  const double f2 = f * f, f4 = f2 * f2;
  const double p0 = fma(f, -0x1.71547678f1f39p-1, 0x1.715476530458ep+0);
  const double p2 = fma(f, -0x1.715438ed6131fp-2, 0x1.ec709b5b33e65p-2);
  const double p4 = fma(f, -0x1.ec8cbb22ca8cbp-3, 0x1.2777694c5048cp-2);
  const double p6 = fma(f, -0x1.6eb269ea80cc4p-3, 0x1.a608e4c6d27e3p-3);
  const double p8 = fma(f, -0x1.41fffa19095f2p-3, 0x1.4645e679ff4bfp-3);
  const double p10 = fma(f, -0x1.596fd97557a62p-4, 0x1.3a4579e54896cp-3);
  const double p = fma(f4, fma(f4, fma(f2, p10, p8), fma(f2, p6, p4)), fma(f2, p2, p0));
  double exponent = fma(f, p, e), t = double(y) * exponent;
  if constexpr (!usual) {
    exponent = a == 0.0 ? -HUGE_VAL : exponent;
    exponent = a == HUGE_VAL ? HUGE_VAL : exponent;
    t = double(y) * exponent;
    t = t > 200.0 ? 200.0 : t;  // comparisons this way round let a NaN through
    t = t < -200.0 ? -200.0 : t;
  }
  const double shifted = t + kShift, r = t - (shifted - kShift);
  const double r2 = r * r;  // 2**r on [-1/2, 1/2]
  const double q0 = fma(r, 0x1.62e430d034705p-1, 1.0);
  const double q2 = fma(r, 0x1.c6aecc669b492p-5, 0x1.ebfbe045f4e5bp-3);
  const double q4 = fma(r, 0x1.5f48c04f6db6ep-10, 0x1.3b2a1b7145b6cp-7);
  const double q = fma(r2, fma(r2, fma(r2, 0x1.443fffd249249p-13, q4), q2), q0);
  const float magnitude = float(q * power_of_two(shifted));
  return usual ? magnitude : power_cases(x, y, magnitude);
}

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
// The logarithm as a sum of two doubles, since up to 1024 times its error becomes relative: with
// s = f / (2 + f), ln(1 + f) = 2 s + 2 s**3 (1/3 + s**2/5 + ...), and what rounding s lost is added again.
template <bool usual> [[gnu::always_inline]] inline double pow(double x, double y) {
  const double a = usual ? x : __builtin_fabs(x);
  const bool subnormal = !usual && a < 0x1p-1022;
  const uint64_t bits = bit_cast<uint64_t>(subnormal ? a * 0x1p54 : a);
  const uint64_t raised = (bits - 0x3fe6a09e667f3bcd + (uint64_t(1023) << 52)) >> 52;
  const double power = bit_cast<double>(raised | bit_cast<uint64_t>(0x1p52)) - (0x1p52 + 1023.0);
  const double e = power - (subnormal ? 54.0 : 0.0);
  const double f = bit_cast<double>(bits - (raised << 52) + (uint64_t(1023) << 52)) - 1.0;
  const double u = 2.0 + f, u_low = f - (u - 2.0), inverse = 1.0 / u;
  const double s = f * inverse, s_low = (fma(-s, u, f) - s * u_low) * inverse, z = s * s;
  // (atanh(s) / s - 1) / z on [0, 0.0295], as for log; in pairs of terms again
  const double z2 = z * z;
  const double p0 = fma(z, 0x1.9999999999e06p-3, 0x1.5555555555555p-2);
  const double p2 = fma(z, 0x1.c71c7259a8e12p-4, 0x1.249249242ab0cp-3);
  const double p4 = fma(z, 0x1.3b20b4d0329bcp-4, 0x1.745cddffc48b2p-4);
  const double p6 = fma(z, 0x1.0f6a90076820cp-4, 0x1.0f5bf7373423ap-4);
  const double p = fma(z2 * z2, fma(z2, p6, p4), fma(z2, p2, p0));
  const double natural = 2.0 * s, natural_low = 2.0 * fma(s * z, p, s_low);
  constexpr double kHigh = 0x1.71547652b82fep0, kLow = 0x1.777d0ffda0d24p-56;  // 1 / ln 2
  const double part = natural * kHigh;
  const double part_low = fma(natural, kHigh, -part) + fma(natural, kLow, natural_low * kHigh);
  double exponent = e + part;
  const double exponent_low = part - (exponent - e) + part_low;
  if constexpr (!usual) {
    exponent = a == 0.0 ? -HUGE_VAL : exponent;
    exponent = a == HUGE_VAL ? HUGE_VAL : exponent;
  }
  double t = y * exponent;
  double t_low = fma(y, exponent, -t) + y * exponent_low;
  if constexpr (!usual) {
    const bool beyond = !(__builtin_fabs(t) < 1100.0);  // overflows, underflows, or is a NaN
    t_low = beyond ? 0.0 : t_low;
    t = t > 1100.0 ? 1100.0 : t;
    t = t < -1100.0 ? -1100.0 : t;
  }
  const double shifted = t + kShift, n = shifted - kShift, r = t - n + t_low;
  const double q = 1.0 + small_expm1(r * 0x1.62e42fefa39efp-1);
  if constexpr (usual) return q * power_of_two(shifted);
  const double some = fma(n, 0.5, kShift), rest = n - (some - kShift) + kShift;
  return power_cases(x, y, q * power_of_two(some) * power_of_two(rest));
}
#else  // without a fused product nothing says what a rounding lost
template <bool usual> [[gnu::always_inline]] inline double pow(double x, double y) {
  return std::pow(x, y);
}
#endif

}  // namespace infini::cpu::INFINI_ISA::vmath
