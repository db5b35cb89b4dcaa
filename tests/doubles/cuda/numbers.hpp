// doubles/cuda/numbers.hpp -- elements of the types that NCCL and cuBLASLt know, as doubles and back.
// Rounding is to nearest, ties to even, from double at once, as a device's last conversion would.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

namespace double_cuda {

// A binary float of few bits: 1 + exponent + fraction.
template <int Exponent, int Fraction> struct Small {
  static constexpr int bias = (1 << (Exponent - 1)) - 1;

  static double decode(uint16_t bits) {
    const int exponent = bits >> Fraction & ((1 << Exponent) - 1);
    const int fraction = bits & ((1 << Fraction) - 1);
    const double sign = bits >> (Exponent + Fraction) & 1 ? -1.0 : 1.0;
    if (exponent == (1 << Exponent) - 1) return fraction != 0 ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - Fraction);
    return sign * std::ldexp((1 << Fraction) + fraction, exponent - bias - Fraction);
  }

  static uint16_t encode(double x) {
    const int top = (1 << Exponent) - 1;
    const uint16_t sign = static_cast<uint16_t>(std::signbit(x) ? 1 << (Exponent + Fraction) : 0);
    if (std::isnan(x)) return static_cast<uint16_t>(sign | top << Fraction | 1 << (Fraction - 1));
    if (x == 0) return sign;
    int exponent = std::isinf(x) ? top : std::max(std::ilogb(x), 1 - bias);
    if (exponent < top) {
      // A carry out of the fraction lands in the exponent, where it belongs.
      const double steps = std::nearbyint(std::ldexp(std::fabs(x), Fraction - exponent));
      const int64_t bits = static_cast<int64_t>(steps) + (int64_t(exponent + bias - 1) << Fraction);
      if (bits < int64_t(top) << Fraction) return static_cast<uint16_t>(sign | bits);
    }
    return static_cast<uint16_t>(sign | top << Fraction);
  }
};
using Half = Small<5, 10>;
using E5m2 = Small<5, 2>;
struct E4m3 {  // no infinities: what would be one is a number, and only all ones is NaN
  static double decode(uint8_t bits) {
    if ((bits & 0x7f) == 0x7f) return NAN;
    if ((bits & 0x78) != 0x78) return Small<4, 3>::decode(bits);
    return (bits & 0x80 ? -1.0 : 1.0) * std::ldexp(8 + (bits & 7), 15 - 7 - 3);
  }
};

// A float as TF32 has it: ten bits of fraction, the others cut off.
inline double tf32(double x) {
  float single = static_cast<float>(x);
  uint32_t bits;
  std::memcpy(&bits, &single, 4);
  bits &= 0xffffe000u;
  std::memcpy(&single, &bits, 4);
  return single;
}
using Bfloat = Small<8, 7>;

}  // namespace double_cuda
