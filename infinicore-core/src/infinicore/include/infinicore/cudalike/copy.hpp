// cudalike/copy.hpp -- rearrange, zeros, ones and cast: elements that move, or only change their dtype.
// Pairs of float dtypes have loops of their own; other casts pass through one number that holds any.
#pragma once
#include <infinicore/operators/cast.h>
#include <infinicore/operators/ones.h>
#include <infinicore/operators/rearrange.h>
#include <infinicore/operators/zeros.h>

#include "moving.hpp"

namespace infini::cudalike {

class Rearrange {
 public:
  explicit Rearrange(const infini_rearrange_args &call)
      : space_(Space<2>({call.dst, call.src}).reorder()), run_(copy_of("rearrange", call.dst->dtype)) {}

  uint64_t workspace() const { return 0; }
  void execute(const infini_rearrange_args &call, void *, infinirtStream_t stream) const {
    run_("rearrange", space_, call.dst->data, call.src->data, native(stream));
  }

 private:
  Space<2> space_;
  RunCopy run_;
};

// ---- one value everywhere -------------------------------------------------------------------------------

template <class T> struct Constant {
  T value;
  __device__ T operator()(T) const { return value; }
};

// The bits of 1 in a dtype; a complex one has no imaginary part.
inline bytes16 one_of(int32_t dtype) {
  switch (dtype) {
    case INFINI_DTYPE_F8:
    case INFINI_DTYPE_C16:
      return {0x38, 0};
    case INFINI_DTYPE_F16:
    case INFINI_DTYPE_C32:
      return {0x3c00, 0};
    case INFINI_DTYPE_BF16:
      return {0x3f80, 0};
    case INFINI_DTYPE_F32:
    case INFINI_DTYPE_C64:
      return {0x3f800000, 0};
    case INFINI_DTYPE_F64:
    case INFINI_DTYPE_C128:
      return {0x3ff0000000000000, 0};
    default:
      return {1, 0};
  }
}

// The output stands for the input as well, which is not looked at.
template <class Args, bool ones> class Fill {
 public:
  explicit Fill(const Args &call)
      : space_(Space<2>({call.y, call.y}).reorder()),
        run_(dispatch<Sizes>(ones ? "ones" : "zeros", call.y->dtype,
                             [](auto t) -> Run { return run<typename decltype(t)::type>; })) {}

  uint64_t workspace() const { return 0; }
  void execute(const Args &call, void *, infinirtStream_t stream) const {
    run_(space_, call.y, native(stream));
  }

 private:
  using Run = void (*)(const Space<2> &, const infini_tensor *, Stream);
  template <class T> static void run(const Space<2> &space, const infini_tensor *y, Stream stream) {
    const bytes16 bits = ones ? one_of(y->dtype) : bytes16{0, 0};
    Constant<T> constant;
    std::memcpy(&constant.value, &bits, sizeof(T));
    run_unary<Constant<T>, T, T>("fill", space, constant, y->data, y->data, stream);
  }
  Space<2> space_;
  Run run_;
};

using Zeros = Fill<infini_zeros_args, false>;
using Ones = Fill<infini_ones_args, true>;

// ---- cast -----------------------------------------------------------------------------------------------

// Any number of any dtype, exactly.
struct Number {
  enum Kind : uint8_t { signed_integer, unsigned_integer, real } kind;
  int64_t integer;  // its bits when unsigned
  double re, im;
};

// A float to an integer: towards zero; a narrower integer takes the low bits of a wider one.
template <class T> __device__ inline T truncate(double x) {
  if constexpr (std::is_same_v<T, uint64_t>) {
    constexpr double half_range = 9223372036854775808.0;
    return x < half_range ? uint64_t(int64_t(x)) : uint64_t(int64_t(x - half_range)) ^ (uint64_t(1) << 63);
  } else if constexpr (sizeof(T) < 4 || std::is_same_v<T, int32_t>) {
    return T(int32_t(x));
  } else {
    return T(int64_t(x));
  }
}

template <class T> __device__ inline Number number_of(T x) {
  if constexpr (is_complex<T>)
    return {Number::real, 0, double(load(x.re)), double(load(x.im))};
  else if constexpr (std::is_same_v<T, uint64_t>)
    return {Number::unsigned_integer, int64_t(x), 0, 0};
  else if constexpr (std::is_integral_v<compute_t<T>>)
    return {Number::signed_integer, int64_t(load(x)), 0, 0};
  else
    return {Number::real, 0, double(load(x)), 0};
}

template <class T> __device__ inline T from_number(const Number &x) {
  if constexpr (is_complex<T>) {
    using Part = typename T::part;
    return {from_number<Part>(x), from_number<Part>(Number{Number::real, 0, x.im, 0})};
  } else if constexpr (std::is_same_v<T, boolean>) {
    return {uint8_t(x.kind == Number::real ? x.re != 0 || x.im != 0 : x.integer != 0)};
  } else if constexpr (std::is_integral_v<T>) {
    return x.kind == Number::real ? truncate<T>(x.re) : T(x.integer);
  } else if (x.kind == Number::real) {
    return store_as<T>(x.re);
  } else if constexpr (std::is_same_v<T, float> || std::is_same_v<T, double>) {
    return x.kind == Number::signed_integer ? T(x.integer) : T(uint64_t(x.integer));
  } else {
    return store_as<T>(x.kind == Number::signed_integer ? double(x.integer) : double(uint64_t(x.integer)));
  }
}

// f(T()) with the type of a dtype; on the device, where a table of functions would cost a call.
template <class F> __device__ inline void with_type(int32_t dtype, F &&f) {
  switch (dtype) {
    case INFINI_DTYPE_BOOL:
      return f(boolean{});
    case INFINI_DTYPE_I8:
      return f(int8_t{});
    case INFINI_DTYPE_I16:
      return f(int16_t{});
    case INFINI_DTYPE_I32:
      return f(int32_t{});
    case INFINI_DTYPE_I64:
      return f(int64_t{});
    case INFINI_DTYPE_BYTE:
    case INFINI_DTYPE_U8:
      return f(uint8_t{});
    case INFINI_DTYPE_U16:
      return f(uint16_t{});
    case INFINI_DTYPE_U32:
      return f(uint32_t{});
    case INFINI_DTYPE_U64:
      return f(uint64_t{});
    case INFINI_DTYPE_F8:
      return f(float8{});
    case INFINI_DTYPE_F16:
      return f(float16{});
    case INFINI_DTYPE_BF16:
      return f(bfloat16{});
    case INFINI_DTYPE_F32:
      return f(float{});
    case INFINI_DTYPE_F64:
      return f(double{});
    case INFINI_DTYPE_C16:
      return f(complex<float8>{});
    case INFINI_DTYPE_C32:
      return f(complex<float16>{});
    case INFINI_DTYPE_C64:
      return f(complex<float>{});
    default:
      return f(complex<double>{});
  }
}

static __global__ void __launch_bounds__(elementwise_threads)
    cast_any(void *out, int32_t to, const void *in, int32_t from, Layout<2> layout) {
  const uint32_t first = blockIdx.x * (blockDim.x * strided_items) + threadIdx.x;
  for (unsigned i = 0; i < strided_items; ++i) {
    const uint32_t index = first + i * blockDim.x;
    if (index >= layout.count) return;
    int64_t at[2];
    layout.locate(index, at);
    Number x{};
    with_type(from, [&](auto t) { x = number_of(static_cast<const decltype(t) *>(in)[at[1]]); });
    with_type(to, [&](auto t) { static_cast<decltype(t) *>(out)[at[0]] = from_number<decltype(t)>(x); });
  }
}

class Cast {
 public:
  explicit Cast(const infini_cast_args &call)
      : space_(Space<2>({call.out, call.input}).reorder()),
        run_(is_float(call.out->dtype) && is_float(call.input->dtype)
                 ? dispatch<Floats>("cast", call.out->dtype,
                                    [&](auto to) -> Run {
                                      using O = typename decltype(to)::type;
                                      return from<O>(call.input->dtype);
                                    })
                 : nullptr) {}

  uint64_t workspace() const { return 0; }
  void execute(const infini_cast_args &call, void *, infinirtStream_t stream) const {
    if (run_ != nullptr)
      return run_("cast", space_, Identity{}, call.out->data, call.input->data, native(stream));
    for (const auto &layout : space_.parts("cast"))
      launch(cast_any, strided_grid(layout.count), dim3(elementwise_threads), 0, native(stream),
             call.out->data, call.out->dtype, call.input->data, call.input->dtype, layout);
  }

 private:
  using Run = decltype(&run_unary<Identity, float, float>);
  static bool is_float(int32_t dtype) {
    return dtype == INFINI_DTYPE_F16 || dtype == INFINI_DTYPE_BF16 || dtype == INFINI_DTYPE_F32 ||
           dtype == INFINI_DTYPE_F64;
  }
  template <class O> static Run from(int32_t dtype) {
    return dispatch<Floats>("cast", dtype,
                            [](auto t) -> Run { return run_unary<Identity, O, typename decltype(t)::type>; });
  }
  Space<2> space_;
  Run run_;
};

INFINI_CUDALIKE_KERNEL(rearrange, Rearrange)
INFINI_CUDALIKE_KERNEL(zeros, Zeros)
INFINI_CUDALIKE_KERNEL(ones, Ones)
INFINI_CUDALIKE_KERNEL(cast, Cast)

}  // namespace infini::cudalike
