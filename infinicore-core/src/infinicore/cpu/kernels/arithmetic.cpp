// arithmetic.cpp -- add, sub, mul, div, pow, neg and abs.
// Integers wrap around; complex numbers are pairs of reals except where they are multiplied.
#include <infinicore/operators/abs.h>
#include <infinicore/operators/add.h>
#include <infinicore/operators/div.h>
#include <infinicore/operators/mul.h>
#include <infinicore/operators/neg.h>
#include <infinicore/operators/pow.h>
#include <infinicore/operators/sub.h>

#include "../loops.hpp"
#include "../power.hpp"
#include "../usual.hpp"

namespace infini::cpu::INFINI_ISA {
namespace {

struct Plus {
  template <class C> C operator()(C a, C b) const { return C(a + b); }
};
struct Minus {
  template <class C> C operator()(C a, C b) const { return C(a - b); }
};
struct Times {
  // uint16_t would be promoted to int, whose product may overflow.
  template <class C> C operator()(C a, C b) const {
    if constexpr (std::is_integral_v<C>)
      return C(uint64_t(a) * b);
    else
      return a * b;
  }
};
struct Over {
  template <class C> C operator()(C a, C b) const { return a / b; }
};
struct Power {
  template <class C> C operator()(C a, C b) const { return vmath::pow<false>(a, b); }
  template <class C> bool usual(C a, C b) const { return vmath::usual_power(a, b); }
  template <class C> C shortly(C a, C b) const { return vmath::pow<true>(a, b); }
};

// add and sub: parts of a complex number are added like reals.
template <class F> Elementwise additive(const char *op, const infini_tensor *out, const infini_tensor *a,
                                        const infini_tensor *b) {
  int64_t part = part_dtype(out->dtype), dtype = part ? part : out->dtype, size = dtype_size(dtype);
  Apply apply =
      dispatch_modular(op, dtype, [](auto t) -> Apply { return binary<typename decltype(t)::type, F>; });
  return Elementwise(apply, nullptr, kCheap, {out, size}, {{a, size}, {b, size}}, part != 0);
}

class Add : public ElementwiseKernel {
 public:
  explicit Add(const infini_add_args &call)
      : ElementwiseKernel(additive<Plus>("add", call.out, call.input, call.other)) {}
};

class Sub : public ElementwiseKernel {
 public:
  explicit Sub(const infini_sub_args &call)
      : ElementwiseKernel(additive<Minus>("sub", call.out, call.input, call.other)) {}
};

template <class T> void complex_product(const void *, void *out, const void *const *in, int64_t n) {
  auto target = static_cast<complex<T> *>(out);
  auto a = static_cast<const complex<T> *>(in[0]), b = static_cast<const complex<T> *>(in[1]);
  for (int64_t i = 0; i < n; ++i) {
    compute_t<T> ar = load(a[i].re), ai = load(a[i].im), br = load(b[i].re), bi = load(b[i].im);
    store(ar * br - ai * bi, target[i].re);
    store(ar * bi + ai * br, target[i].im);
  }
}

class Mul : public ElementwiseKernel {
  static Apply loop(int64_t dtype) {
    switch (dtype) {
      case INFINI_DTYPE_C16:
        return complex_product<float8_e4m3>;
      case INFINI_DTYPE_C32:
        return complex_product<half>;
      case INFINI_DTYPE_C64:
        return complex_product<float>;
      case INFINI_DTYPE_C128:
        return complex_product<double>;
      default:
        return dispatch_modular("mul", dtype,
                                [](auto t) -> Apply { return binary<typename decltype(t)::type, Times>; });
    }
  }

 public:
  explicit Mul(const infini_mul_args &call)
      : ElementwiseKernel(Elementwise(
            loop(call.out->dtype), nullptr, kCheap, {call.out, dtype_size(call.out->dtype)},
            {{call.input, dtype_size(call.out->dtype)}, {call.other, dtype_size(call.out->dtype)}})) {}
};

class Div : public ElementwiseKernel {
  static Elementwise plan(const infini_tensor *out, const infini_tensor *a, const infini_tensor *b) {
    const int64_t size = dtype_size(out->dtype);
    Apply apply = dispatch_floats("div", out->dtype,
                                  [](auto t) -> Apply { return binary<typename decltype(t)::type, Over>; });
    return Elementwise(apply, nullptr, kCheap, {out, size}, {{a, size}, {b, size}});
  }

 public:
  explicit Div(const infini_div_args &call) : ElementwiseKernel(plan(call.out, call.input, call.other)) {}
};

class Pow : public ElementwiseKernel {
  static Elementwise plan(const infini_tensor *out, const infini_tensor *a, const infini_tensor *b) {
    const int64_t size = dtype_size(out->dtype);
    Apply apply = dispatch_floats(
        "pow", out->dtype, [](auto t) -> Apply { return binary_usually<typename decltype(t)::type, Power>; });
    return Elementwise(apply, nullptr, kExpensive, {out, size}, {{a, size}, {b, size}});
  }

 public:
  explicit Pow(const infini_pow_args &call) : ElementwiseKernel(plan(call.out, call.input, call.other)) {}
};

// Sign changes work on the bits, so that NaN and zero keep theirs: f(x) for floats is x op mask.
template <class U, bool clear> void sign_bit(const void *, void *out, const void *const *in, int64_t n) {
  constexpr U top = U(U(1) << (8 * sizeof(U) - 1));
  auto target = static_cast<U *>(out);
  auto a = static_cast<const U *>(in[0]);
  INFINI_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) target[i] = clear ? U(a[i] & U(~top)) : U(a[i] ^ top);
}

struct Negative {
  template <class C> C operator()(C a) const { return C(C(0) - a); }
};
struct Magnitude {
  template <class C> C operator()(C a) const { return a < 0 ? C(std::make_unsigned_t<C>(0) - a) : a; }
};

template <bool clear> Apply sign_loop(int64_t size) {
  switch (size) {
    case 1:
      return sign_bit<uint8_t, clear>;
    case 2:
      return sign_bit<uint16_t, clear>;
    case 4:
      return sign_bit<uint32_t, clear>;
    default:
      return sign_bit<uint64_t, clear>;
  }
}

bool is_float(int64_t dtype) {
  return dtype == INFINI_DTYPE_BF16 || (dtype >= INFINI_DTYPE_F8 && dtype <= INFINI_DTYPE_F64);
}

class Neg : public ElementwiseKernel {
  static Elementwise plan(const infini_tensor *out, const infini_tensor *input) {
    int64_t part = part_dtype(out->dtype), dtype = part ? part : out->dtype, size = dtype_size(dtype);
    Apply apply =
        is_float(dtype) ? sign_loop<false>(size) : dispatch_modular("neg", dtype, [](auto t) -> Apply {
          using T = typename decltype(t)::type;
          if constexpr (std::is_integral_v<T>)
            return unary<T, Negative>;
          else
            return nullptr;  // floats were handled
        });
    return Elementwise(apply, nullptr, kCheap, {out, size}, {{input, size}}, part != 0);
  }

 public:
  explicit Neg(const infini_neg_args &call) : ElementwiseKernel(plan(call.out, call.input)) {}
};

class Abs : public ElementwiseKernel {
  static Apply loop(int64_t dtype) {
    if (is_float(dtype)) return sign_loop<true>(dtype_size(dtype));
    if (dtype == INFINI_DTYPE_BOOL) return unary<uint8_t, Identity>;
    return dispatch_ints("abs", dtype, [](auto t) -> Apply {
      using T = typename decltype(t)::type;
      if constexpr (std::is_signed_v<T>)
        return unary<T, Magnitude>;
      else
        return unary<T, Identity>;
    });
  }

 public:
  explicit Abs(const infini_abs_args &call)
      : ElementwiseKernel(Elementwise(loop(call.out->dtype), nullptr, kCheap,
                                      {call.out, dtype_size(call.out->dtype)},
                                      {{call.input, dtype_size(call.out->dtype)}})) {}
};

}  // namespace

INFINI_CPU_KERNEL(add, Add)
INFINI_CPU_KERNEL(sub, Sub)
INFINI_CPU_KERNEL(mul, Mul)
INFINI_CPU_KERNEL(div, Div)
INFINI_CPU_KERNEL(pow, Pow)
INFINI_CPU_KERNEL(neg, Neg)
INFINI_CPU_KERNEL(abs, Abs)

}  // namespace infini::cpu::INFINI_ISA
