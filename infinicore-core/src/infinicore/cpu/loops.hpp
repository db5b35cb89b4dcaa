// loops.hpp -- make the loop of an Elementwise kernel from a function of one, two or three values.
// Narrow floats are computed in float; where converting them does not vectorise inline, in small blocks.
#pragma once
#include "elementwise.hpp"

namespace infini::cpu::INFINI_ISA {

// half has conversion instructions on x86 that the compiler knows only as intrinsics.
#if defined(__F16C__)
template <class T> constexpr bool kConvertsInBlocks = std::is_same_v<T, half>;
#else
template <class T> constexpr bool kConvertsInBlocks = false;
#endif
constexpr int64_t kConvertBlock = 64;  // so few that converting and computing overlap

// Call body(at, count) for all of n elements in blocks. The compiler knows the count of all but the last.
template <class Body> inline void in_blocks(int64_t n, Body &&body) {
  int64_t at = 0;
  for (; at + kConvertBlock <= n; at += kConvertBlock)
    body(at, std::integral_constant<int64_t, kConvertBlock>{});
  if (at < n) body(at, n - at);
}

template <class T> inline compute_t<T> load(T x) {
  if constexpr (std::is_same_v<T, compute_t<T>>)
    return x;
  else
    return to_float(x);
}
template <class T> inline void store(compute_t<T> x, T &out) {
  if constexpr (std::is_same_v<T, compute_t<T>>)
    out = x;
  else
    from_float(x, out);
}

// What leaves a value as it is, for dtypes on which an operation has no effect.
struct Identity {
  template <class C> C operator()(C a) const { return a; }
};

// A function object without members is made on the spot; one with members is the context. By value, so that
// no store of a result can seem to change it.
template <class F> inline F function_of(const void *context) {
  if constexpr (std::is_empty_v<F>)
    return F{};
  else
    return *static_cast<const F *>(context);
}

// out = f(a) with f a function object on compute_t<T>.
template <class T, class F> void unary(const void *context, void *out, const void *const *in, int64_t n) {
  auto target = static_cast<T *>(out);
  auto a = static_cast<const T *>(in[0]);
  const F f = function_of<F>(context);
  if constexpr (kConvertsInBlocks<T>) {
    in_blocks(n, [&](int64_t at, auto count) {
      alignas(64) float x[kConvertBlock];
      to_float(a + at, x, count);
      for (int64_t i = 0; i < count; ++i) x[i] = f(x[i]);
      from_float(x, target + at, count);
    });
  } else {
    INFINI_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) store(compute_t<T>(f(load(a[i]))), target[i]);
  }
}

// out = f(a, b)
template <class T, class F> void binary(const void *, void *out, const void *const *in, int64_t n) {
  auto target = static_cast<T *>(out);
  auto a = static_cast<const T *>(in[0]), b = static_cast<const T *>(in[1]);
  const F f{};
  if constexpr (kConvertsInBlocks<T>) {
    in_blocks(n, [&](int64_t at, auto count) {
      alignas(64) float x[kConvertBlock], y[kConvertBlock];
      to_float(a + at, x, count);
      to_float(b + at, y, count);
      for (int64_t i = 0; i < count; ++i) x[i] = f(x[i], y[i]);
      from_float(x, target + at, count);
    });
  } else {
    INFINI_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) store(compute_t<T>(f(load(a[i]), load(b[i]))), target[i]);
  }
}

// out = f(a, b, c)
template <class T, class F> void ternary(const void *, void *out, const void *const *in, int64_t n) {
  auto target = static_cast<T *>(out);
  auto a = static_cast<const T *>(in[0]), b = static_cast<const T *>(in[1]),
       c = static_cast<const T *>(in[2]);
  const F f{};
  if constexpr (kConvertsInBlocks<T>) {
    in_blocks(n, [&](int64_t at, auto count) {
      alignas(64) float x[kConvertBlock], y[kConvertBlock], z[kConvertBlock];
      to_float(a + at, x, count);
      to_float(b + at, y, count);
      to_float(c + at, z, count);
      for (int64_t i = 0; i < count; ++i) x[i] = f(x[i], y[i], z[i]);
      from_float(x, target + at, count);
    });
  } else {
    INFINI_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) store(compute_t<T>(f(load(a[i]), load(b[i]), load(c[i]))), target[i]);
  }
}

// out = f(a, b) as a boolean
template <class T, class F> void predicate(const void *, void *out, const void *const *in, int64_t n) {
  auto target = static_cast<uint8_t *>(out);
  auto a = static_cast<const T *>(in[0]), b = static_cast<const T *>(in[1]);
  const F f{};
  if constexpr (kConvertsInBlocks<T>) {
    in_blocks(n, [&](int64_t at, auto count) {
      alignas(64) float x[kConvertBlock], y[kConvertBlock];
      to_float(a + at, x, count);
      to_float(b + at, y, count);
      for (int64_t i = 0; i < count; ++i) target[at + i] = f(x[i], y[i]);
    });
  } else {
    INFINI_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) target[i] = f(load(a[i]), load(b[i]));
  }
}

// A kernel whose whole plan is an Elementwise. Derive, choose the loop, and forward.
class ElementwiseKernel {
 public:
  uint64_t workspace() const { return 0; }

  template <class Args> void execute(const Args &call, void *, infinirtStream_t) const {
    if constexpr (sizeof(Args) == 2 * sizeof(infini_slot))
      plan_.run(call.out->data, call.input->data);
    else
      plan_.run(call.out->data, call.input->data, call.other->data);
  }

 protected:
  explicit ElementwiseKernel(Elementwise plan) : plan_(plan) {}

 private:
  Elementwise plan_;
};

// The dtype of the two parts of a complex dtype, 0 for any other.
inline int64_t part_dtype(int64_t dtype) {
  switch (dtype) {
    case INFINI_DTYPE_C16:
      return INFINI_DTYPE_F8;
    case INFINI_DTYPE_C32:
      return INFINI_DTYPE_F16;
    case INFINI_DTYPE_C64:
      return INFINI_DTYPE_F32;
    case INFINI_DTYPE_C128:
      return INFINI_DTYPE_F64;
    default:
      return 0;
  }
}

// Like dispatch_reals, with integers as unsigned ones of the same width: for arithmetic that wraps around,
// which is the same for both.
template <class Fn> decltype(auto) dispatch_modular(const char *op, int64_t dtype, Fn &&fn) {
  switch (dtype) {
    case INFINI_DTYPE_I8:
      return fn(tag<uint8_t>{});
    case INFINI_DTYPE_I16:
      return fn(tag<uint16_t>{});
    case INFINI_DTYPE_I32:
      return fn(tag<uint32_t>{});
    case INFINI_DTYPE_I64:
      return fn(tag<uint64_t>{});
    case INFINI_DTYPE_BYTE:
    case INFINI_DTYPE_U8:
      return fn(tag<uint8_t>{});
    case INFINI_DTYPE_U16:
      return fn(tag<uint16_t>{});
    case INFINI_DTYPE_U32:
      return fn(tag<uint32_t>{});
    case INFINI_DTYPE_U64:
      return fn(tag<uint64_t>{});
    case INFINI_DTYPE_F8:
      return fn(tag<float8_e4m3>{});
    case INFINI_DTYPE_F16:
      return fn(tag<half>{});
    case INFINI_DTYPE_BF16:
      return fn(tag<bfloat16>{});
    case INFINI_DTYPE_F32:
      return fn(tag<float>{});
    case INFINI_DTYPE_F64:
      return fn(tag<double>{});
    default:
      bad_dtype(op, dtype, "numbers");
  }
}

}  // namespace infini::cpu::INFINI_ISA
