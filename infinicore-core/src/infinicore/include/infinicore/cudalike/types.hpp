// cudalike/types.hpp -- element types of the kernels, their conversions, and dispatch from a dtype to a type.
// f16, bf16 and f8 are bits in memory and f32 in registers; rounding is to nearest, ties to even.
#pragma once
#include <infinicore/plugin.hpp>

#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

#include "dialect.hpp"

namespace infini::cudalike {

template <class To, class From> __host__ __device__ inline To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

// ---- storage types --------------------------------------------------------------------------------------

struct float16 {  // IEEE 754 binary16
  uint16_t bits;
};
struct bfloat16 {  // the upper half of a binary32
  uint16_t bits;
};
struct float8 {  // 1-4-3 bits, no infinity, NaN is 0x7f (OCP "e4m3fn")
  uint8_t bits;
};
struct boolean {  // one byte: zero or not
  uint8_t value;
};
template <class T> struct complex {  // a pair, real part first
  using part = T;
  T re, im;
};
struct alignas(16) bytes16 {
  uint64_t lo, hi;
};

// The type in which values of T are computed.
template <class T> struct compute { using type = T; };
template <> struct compute<float16> { using type = float; };
template <> struct compute<bfloat16> { using type = float; };
template <> struct compute<float8> { using type = float; };
template <> struct compute<boolean> { using type = uint8_t; };
template <class T> struct compute<complex<T>> { using type = complex<typename compute<T>::type>; };
template <class T> using compute_t = typename compute<T>::type;

template <class T> constexpr bool is_complex = false;
template <class T> constexpr bool is_complex<complex<T>> = true;

template <class C> __device__ inline complex<C> operator+(complex<C> a, complex<C> b) {
  return {a.re + b.re, a.im + b.im};
}
template <class C> __device__ inline complex<C> operator-(complex<C> a, complex<C> b) {
  return {a.re - b.re, a.im - b.im};
}
template <class C> __device__ inline complex<C> operator-(complex<C> a) {
  return {-a.re, -a.im};
}
template <class C> __device__ inline complex<C> operator*(complex<C> a, complex<C> b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
template <class C> __device__ inline bool operator==(complex<C> a, complex<C> b) {
  return a.re == b.re && a.im == b.im;
}
template <class C> __device__ inline bool operator!=(complex<C> a, complex<C> b) {
  return !(a == b);
}

// ---- one value ------------------------------------------------------------------------------------------

#ifndef INFINI_HARDWARE_HALF
__device__ inline float half_bits_to_float(uint16_t half) {
  // Shift the fields in place and let one multiplication repair the exponent; it also makes subnormals.
  uint32_t magnitude = uint32_t(half & 0x7fff) << 13;
  uint32_t bits = bit_cast<uint32_t>(bit_cast<float>(magnitude) * 5.192296858534828e33f);  // 2**112
  bits |= magnitude >= 0x0f800000u ? 0x7f800000u : 0u;                                     // infinity, NaN
  return bit_cast<float>(bits | uint32_t(half & 0x8000) << 16);
}
__device__ inline uint16_t float_to_half_bits(float x) {
  uint32_t bits = bit_cast<uint32_t>(x), sign = bits >> 16 & 0x8000u;
  bits &= 0x7fffffffu;
  uint32_t normal = ((bits + 0xfffu + (bits >> 13 & 1u)) >> 13) - (112u << 10);
  // 0.5's unit in the last place is the step of a subnormal half, so the addition rounds to it.
  uint32_t subnormal = bit_cast<uint32_t>(bit_cast<float>(bits) + 0.5f) - 0x3f000000u;
  uint32_t special = bits > 0x7f800000u ? 0x7e00u | (bits >> 13 & 0x3ffu) : 0x7c00u;
  uint32_t finite = bits < 0x38800000u ? subnormal : normal;
  return uint16_t((bits >= 0x47800000u ? special : finite) | sign);
}
#endif

#ifndef INFINI_HARDWARE_BFLOAT
__device__ inline uint16_t float_to_bfloat_bits(float x) {
  uint32_t bits = bit_cast<uint32_t>(x);
  uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  return uint16_t((bits & 0x7fffffffu) > 0x7f800000u ? bits >> 16 | 0x40u : rounded);
}
#endif

template <class T> __device__ inline compute_t<T> load(T x) {
  if constexpr (std::is_same_v<T, float16>) {
    return half_bits_to_float(x.bits);
  } else if constexpr (std::is_same_v<T, bfloat16>) {
    return bit_cast<float>(uint32_t(x.bits) << 16);
  } else if constexpr (std::is_same_v<T, float8>) {
    uint32_t magnitude = uint32_t(x.bits & 0x7f) << 20;
    uint32_t bits = bit_cast<uint32_t>(bit_cast<float>(magnitude) * 1.329227995784916e36f);  // 2**120
    bits = magnitude == 0x07f00000u ? 0x7fc00000u : bits;
    return bit_cast<float>(bits | uint32_t(x.bits & 0x80) << 24);
  } else if constexpr (std::is_same_v<T, boolean>) {
    return x.value != 0;
  } else if constexpr (is_complex<T>) {
    return {load(x.re), load(x.im)};
  } else {
    return x;
  }
}

template <class T> __device__ inline T store(compute_t<T> x) {
  if constexpr (std::is_same_v<T, float16>) {
    return {float_to_half_bits(x)};
  } else if constexpr (std::is_same_v<T, bfloat16>) {
    return {float_to_bfloat_bits(x)};
  } else if constexpr (std::is_same_v<T, float8>) {
    uint32_t bits = bit_cast<uint32_t>(x), sign = bits >> 24 & 0x80u;
    bits &= 0x7fffffffu;
    uint32_t normal = ((bits + 0x7ffffu + (bits >> 20 & 1u)) >> 20) - (120u << 3);
    // 2**14 has the step of a subnormal (2**-9) as its unit in the last place.
    uint32_t subnormal = bit_cast<uint32_t>(bit_cast<float>(bits) + 16384.0f) - 0x46800000u;
    uint32_t finite = bits < 0x3c800000u ? subnormal : normal;
    // Above 464, halfway between 448 and the pattern that means NaN, there is no value: NaN.
    return {uint8_t((bits > 0x43e80000u ? 0x7fu : finite) | sign)};
  } else if constexpr (std::is_same_v<T, boolean>) {
    return {uint8_t(x != 0)};
  } else if constexpr (is_complex<T>) {
    return {store<typename T::part>(x.re), store<typename T::part>(x.im)};
  } else {
    return x;
  }
}

// Narrow a double so that a second rounding gives the correctly rounded result: an inexact value gets an odd
// last bit, which no later tie can be mistaken for.
__host__ __device__ inline float round_to_odd(double x) {
  float nearest = float(x);
  uint32_t bits = bit_cast<uint32_t>(nearest);
  double back = double(nearest);
  uint32_t toward_zero = (back < 0 ? -back : back) > (x < 0 ? -x : x) ? bits - 1u : bits;
  return bit_cast<float>(back == x || back != back ? bits : toward_zero | 1u);
}

// A double or float to any real storage type, rounded once.
template <class T, class C> __device__ inline T store_as(C x) {
  if constexpr (std::is_same_v<C, double> && std::is_same_v<compute_t<T>, float> && !std::is_same_v<T, float>)
    return store<T>(round_to_odd(x));
  else
    return store<T>(compute_t<T>(x));
}

// ---- functions of f32 and f64, by the names that every vendor's device library has ----------------------

namespace math {
#define INFINI_MATH(name, c_name)           \
  __device__ inline float name(float x) {   \
    return c_name##f(x);                    \
  }                                         \
  __device__ inline double name(double x) { \
    return c_name(x);                       \
  }
INFINI_MATH(exp, ::exp)
INFINI_MATH(expm1, ::expm1)
INFINI_MATH(log, ::log)
INFINI_MATH(log1p, ::log1p)
INFINI_MATH(sqrt, ::sqrt)
INFINI_MATH(tanh, ::tanh)
INFINI_MATH(erfc, ::erfc)
INFINI_MATH(floor, ::floor)
INFINI_MATH(ceil, ::ceil)
INFINI_MATH(rint, ::rint)
INFINI_MATH(abs, ::fabs)
#undef INFINI_MATH
__device__ inline float pow(float x, float y) {
  return ::powf(x, y);
}
__device__ inline double pow(double x, double y) {
  return ::pow(x, y);
}
template <class C> __device__ inline C infinity() {
  return C(__builtin_huge_val());
}
template <class C> __device__ inline C nan() {
  return C(bit_cast<float>(0x7fc00000u));
}
template <class C> __device__ inline bool is_nan(C x) {
  return x != x;
}
}  // namespace math

// ---- dtypes ---------------------------------------------------------------------------------------------

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

[[noreturn]] inline void bad_dtype(const char *op, int64_t dtype, const char *supported) {
  throw Error(INFINI_STATUS_NOT_IMPLEMENTED, std::string(op) + ": this backend has no kernel for dtype " +
                                                 dtype_name(dtype) + ", only for " + supported);
}

template <class T> struct tag { using type = T; };

// Sets of dtypes. dispatch<Set>(op, dtype, fn) calls fn(tag<T>{}); op names the operator in errors.
struct Floats {};    // f16 bf16 f32 f64
struct Integers {};  // by value
struct Modular {};   // floats, f8, complex, and integers whose sign does not matter: i8 is u8
struct Reals {};     // floats, f8, integers, bool
struct Sizes {};     // unsigned integers of the size of an element: for what only moves

template <class Set, class Fn> auto dispatch(const char *op, int64_t dtype, Fn &&fn) {
  constexpr bool floats = !std::is_same_v<Set, Integers> && !std::is_same_v<Set, Sizes>;
  constexpr bool integers = std::is_same_v<Set, Integers> || std::is_same_v<Set, Reals>;
  constexpr bool modular = std::is_same_v<Set, Modular>, sizes = std::is_same_v<Set, Sizes>;
  using Result = decltype(fn(tag<std::conditional_t<floats, float, uint8_t>>{}));
  switch (sizes ? 100 + dtype_size(dtype) : dtype) {
    case INFINI_DTYPE_F16:
      if constexpr (floats) return fn(tag<float16>{});
      break;
    case INFINI_DTYPE_BF16:
      if constexpr (floats) return fn(tag<bfloat16>{});
      break;
    case INFINI_DTYPE_F32:
      if constexpr (floats) return fn(tag<float>{});
      break;
    case INFINI_DTYPE_F64:
      if constexpr (floats) return fn(tag<double>{});
      break;
    case INFINI_DTYPE_F8:
      if constexpr (std::is_same_v<Set, Reals> || modular) return fn(tag<float8>{});
      break;
    case INFINI_DTYPE_C16:
      if constexpr (modular) return fn(tag<complex<float8>>{});
      break;
    case INFINI_DTYPE_C32:
      if constexpr (modular) return fn(tag<complex<float16>>{});
      break;
    case INFINI_DTYPE_C64:
      if constexpr (modular) return fn(tag<complex<float>>{});
      break;
    case INFINI_DTYPE_C128:
      if constexpr (modular) return fn(tag<complex<double>>{});
      break;
    case INFINI_DTYPE_BOOL:
      if constexpr (std::is_same_v<Set, Reals>) return fn(tag<boolean>{});
      break;
    case INFINI_DTYPE_I8:
      if constexpr (integers) return fn(tag<int8_t>{});
      [[fallthrough]];
    case INFINI_DTYPE_BYTE:
    case INFINI_DTYPE_U8:
      if constexpr (integers || modular) return fn(tag<uint8_t>{});
      break;
    case INFINI_DTYPE_I16:
      if constexpr (integers) return fn(tag<int16_t>{});
      [[fallthrough]];
    case INFINI_DTYPE_U16:
      if constexpr (integers || modular) return fn(tag<uint16_t>{});
      break;
    case INFINI_DTYPE_I32:
      if constexpr (integers) return fn(tag<int32_t>{});
      [[fallthrough]];
    case INFINI_DTYPE_U32:
      if constexpr (integers || modular) return fn(tag<uint32_t>{});
      break;
    case INFINI_DTYPE_I64:
      if constexpr (integers) return fn(tag<int64_t>{});
      [[fallthrough]];
    case INFINI_DTYPE_U64:
      if constexpr (integers || modular) return fn(tag<uint64_t>{});
      break;
    case 101:
      if constexpr (sizes) return fn(tag<uint8_t>{});
      break;
    case 102:
      if constexpr (sizes) return fn(tag<uint16_t>{});
      break;
    case 104:
      if constexpr (sizes) return fn(tag<uint32_t>{});
      break;
    case 108:
      if constexpr (sizes) return fn(tag<uint64_t>{});
      break;
    case 116:
      if constexpr (sizes) return fn(tag<bytes16>{});
      break;
    default:
      break;
  }
  bad_dtype(op, dtype,
            floats ? (integers || modular ? "numbers" : "f16, bf16, f32 and f64")
                   : (sizes ? "the dtypes of infinicore.h" : "integers"));
  return Result();
}

// ---- elements whose dtype is only known at run time: is one not zero? -----------------------------------

struct TruthReader {
  const void *data;
  int32_t size;    // bytes of an element
  uint64_t signs;  // a bit that is set in a zero of a float: its sign

  explicit TruthReader(const infini_tensor &t)
      : data(t.data), size(int32_t(dtype_size(t.dtype))), signs(sign_bits(t.dtype)) {}

  __device__ bool operator[](int64_t i) const {
    switch (size) {
      case 1:
        return (static_cast<const uint8_t *>(data)[i] & ~signs & 0xff) != 0;
      case 2:
        return (static_cast<const uint16_t *>(data)[i] & ~signs & 0xffff) != 0;
      case 4:
        return (static_cast<const uint32_t *>(data)[i] & ~signs & 0xffffffff) != 0;
      case 8:
        return (static_cast<const uint64_t *>(data)[i] & ~signs) != 0;
      default:
        return ((static_cast<const uint64_t *>(data)[2 * i] |
                 static_cast<const uint64_t *>(data)[2 * i + 1]) &
                ~signs) != 0;
    }
  }

 private:
  // In each place of 64 bits where a number, or a part of a complex one, has its sign.
  static uint64_t sign_bits(int32_t dtype) {
    switch (dtype) {
      case INFINI_DTYPE_F8:
      case INFINI_DTYPE_C16:
        return 0x8080808080808080u;
      case INFINI_DTYPE_F16:
      case INFINI_DTYPE_BF16:
      case INFINI_DTYPE_C32:
        return 0x8000800080008000u;
      case INFINI_DTYPE_F32:
      case INFINI_DTYPE_C64:
        return 0x8000000080000000u;
      case INFINI_DTYPE_F64:
      case INFINI_DTYPE_C128:
        return 0x8000000000000000u;
      default:
        return 0;
    }
  }
};

// ---- integers whose dtype is only known at run time: positions, lengths, block tables -------------------

struct IntegerReader {
  const void *data;
  int32_t dtype;
  int64_t stride;

  // Element i of one dimension; a u64 beyond i64 reads as negative, which no check lets pass.
  __device__ int64_t operator[](int64_t i) const { return at(i * stride); }
  __device__ int64_t at(int64_t offset) const {
    switch (dtype) {
      case INFINI_DTYPE_I32:
        return static_cast<const int32_t *>(data)[offset];
      case INFINI_DTYPE_I64:
      case INFINI_DTYPE_U64:
        return static_cast<const int64_t *>(data)[offset];
      case INFINI_DTYPE_U32:
        return static_cast<const uint32_t *>(data)[offset];
      case INFINI_DTYPE_I16:
        return static_cast<const int16_t *>(data)[offset];
      case INFINI_DTYPE_U16:
        return static_cast<const uint16_t *>(data)[offset];
      case INFINI_DTYPE_I8:
        return static_cast<const int8_t *>(data)[offset];
      default:
        return static_cast<const uint8_t *>(data)[offset];
    }
  }
};

inline IntegerReader integers(const infini_tensor *t, int64_t stride) {
  return {t != nullptr ? t->data : nullptr, t != nullptr ? t->dtype : int32_t(INFINI_DTYPE_I32), stride};
}
// Of a one-dimensional tensor.
inline IntegerReader integers(const infini_tensor *t) {
  return integers(t, t != nullptr && t->ndim > 0 ? t->strides[0] : 0);
}

}  // namespace infini::cudalike
