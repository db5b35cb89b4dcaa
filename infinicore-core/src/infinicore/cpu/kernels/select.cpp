// select.cpp -- maximum, minimum, where, clip and clip_scalar: results that are one of the operands.
// NaN wins every comparison here, as it does in NumPy and PyTorch.
#include <infinicore/operators/clip.h>
#include <infinicore/operators/clip_scalar.h>
#include <infinicore/operators/maximum.h>
#include <infinicore/operators/minimum.h>
#include <infinicore/operators/where.h>

#include "../loops.hpp"

namespace infini::cpu::INFINI_ISA {
namespace {

// The comparison leaves b where one of them is NaN: right unless it is a. In two steps, both of which
// vectorise.
struct LargerOf {
  template <class C> C operator()(C a, C b) const {
    C larger = a > b ? a : b;
    return a != a ? a : larger;
  }
};
struct SmallerOf {
  template <class C> C operator()(C a, C b) const {
    C smaller = a < b ? a : b;
    return a != a ? a : smaller;
  }
};
struct Between {
  template <class C> C operator()(C x, C low, C high) const { return LargerOf{}(SmallerOf{}(x, high), low); }
};

// The loop of `make(tag)` for dtypes with an order; a boolean is an integer here.
template <class Make> Apply ordered(const char *op, int64_t dtype, Make &&make) {
  return dtype == INFINI_DTYPE_BOOL ? make(tag<uint8_t>{}) : dispatch_reals(op, dtype, make);
}

template <class F> Elementwise extremum(const char *op, const infini_tensor *out, const infini_tensor *a,
                                        const infini_tensor *b) {
  int64_t size = dtype_size(out->dtype);
  Apply apply =
      ordered(op, out->dtype, [](auto t) -> Apply { return binary<typename decltype(t)::type, F>; });
  return Elementwise(apply, nullptr, kCheap, {out, size}, {{a, size}, {b, size}});
}

class Maximum : public ElementwiseKernel {
 public:
  explicit Maximum(const infini_maximum_args &call)
      : ElementwiseKernel(extremum<LargerOf>("maximum", call.out, call.input, call.other)) {}
};

class Minimum : public ElementwiseKernel {
 public:
  explicit Minimum(const infini_minimum_args &call)
      : ElementwiseKernel(extremum<SmallerOf>("minimum", call.out, call.input, call.other)) {}
};

// ---- where -------------------------------------------------------------------------------------------

template <class U> void choose(const void *, void *out, const void *const *in, int64_t n) {
  auto target = static_cast<U *>(out);
  auto condition = static_cast<const uint8_t *>(in[0]);
  auto a = static_cast<const U *>(in[1]), b = static_cast<const U *>(in[2]);
  INFINI_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) {
    U yes = a[i], no = b[i];  // both are read, which makes a blend of it rather than a branch
    target[i] = condition[i] ? yes : no;
  }
}

class Where {
  Elementwise plan_;

  static Elementwise plan(const infini_where_args &call) {
    int64_t size = dtype_size(call.out->dtype);
    Apply apply = dispatch_size("where", call.out->dtype,
                                [](auto t) -> Apply { return choose<typename decltype(t)::type>; });
    return Elementwise(apply, nullptr, kCheap, {call.out, size},
                       {{call.condition, 1}, {call.input, size}, {call.other, size}});
  }

 public:
  explicit Where(const infini_where_args &call) : plan_(plan(call)) {}
  uint64_t workspace() const { return 0; }
  void execute(const infini_where_args &call, void *, infinirtStream_t) const {
    plan_.run(call.out->data, call.condition->data, call.input->data, call.other->data);
  }
};

// ---- clip --------------------------------------------------------------------------------------------

class Clip {
  Elementwise plan_;

  static Elementwise plan(const infini_clip_args &call) {
    const infini_tensor *x = call.x, *low = call.min_val, *high = call.max_val;
    const int64_t dtype = call.out->dtype, size = dtype_size(dtype);
    const Operand out{call.out, size};
    if (low && high) {
      Apply apply = ordered("clip", dtype,
                            [](auto t) -> Apply { return ternary<typename decltype(t)::type, Between>; });
      return Elementwise(apply, nullptr, kCheap, out, {{x, size}, {low, size}, {high, size}});
    }
    if (low) return extremum<LargerOf>("clip", call.out, x, low);
    if (high) return extremum<SmallerOf>("clip", call.out, x, high);
    Apply apply = dispatch_size("clip", dtype,
                                [](auto t) -> Apply { return unary<typename decltype(t)::type, Identity>; });
    return Elementwise(apply, nullptr, kCheap, out, {{x, size}});
  }

 public:
  explicit Clip(const infini_clip_args &call) : plan_(plan(call)) {}
  uint64_t workspace() const { return 0; }
  void execute(const infini_clip_args &call, void *, infinirtStream_t) const {
    const infini_tensor *low = call.min_val ? call.min_val : call.max_val;
    const infini_tensor *high = call.min_val ? call.max_val : nullptr;
    plan_.run(call.out->data, call.x->data, low ? low->data : nullptr, high ? high->data : nullptr);
  }
};

struct Bounds {
  double low, high;
};

// A bound in the dtype of the elements, as the type that these are compared in.
template <class T> compute_t<T> rounded(double bound) {
  if constexpr (std::is_same_v<T, compute_t<T>>)
    return T(bound);
  else
    return load(from_float<T>(round_to_odd(bound)));
}

// A value of T back from float: there is nothing to round.
template <class T> inline void narrow(compute_t<T> x, T &out) {
  if constexpr (std::is_same_v<T, bfloat16>)
    out.bits = uint16_t(bit_cast<uint32_t>(x) >> 16);
  else
    store(x, out);
}

template <class T> void keep_between(const void *context, void *out, const void *const *in, int64_t n) {
  const Bounds &bounds = *static_cast<const Bounds *>(context);
  const compute_t<T> low = rounded<T>(bounds.low), high = rounded<T>(bounds.high);
  const Between f{};
  auto target = static_cast<T *>(out);
  auto a = static_cast<const T *>(in[0]);
  if constexpr (kConvertsInBlocks<T>) {
    in_blocks(n, [&](int64_t at, auto count) {
      alignas(64) float x[kConvertBlock];
      to_float(a + at, x, count);
      for (int64_t i = 0; i < count; ++i) x[i] = f(x[i], low, high);
      from_float(x, target + at, count);
    });
  } else {
    INFINI_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) narrow(f(load(a[i]), low, high), target[i]);
  }
}

class ClipScalar {
  Elementwise plan_;

  static Elementwise plan(const infini_tensor *out, const infini_tensor *input) {
    int64_t size = dtype_size(out->dtype);
    Apply apply = dispatch_floats("clip_scalar", out->dtype,
                                  [](auto t) -> Apply { return keep_between<typename decltype(t)::type>; });
    return Elementwise(apply, nullptr, kCheap, {out, size}, {{input, size}});
  }

 public:
  explicit ClipScalar(const infini_clip_scalar_args &call) : plan_(plan(call.out, call.input)) {}
  uint64_t workspace() const { return 0; }
  void execute(const infini_clip_scalar_args &call, void *, infinirtStream_t) const {
    const Bounds bounds{call.min_val, call.max_val};
    plan_.run_with(&bounds, call.out->data, call.input->data);
  }
};

}  // namespace

INFINI_CPU_KERNEL(maximum, Maximum)
INFINI_CPU_KERNEL(minimum, Minimum)
INFINI_CPU_KERNEL(where, Where)
INFINI_CPU_KERNEL(clip, Clip)
INFINI_CPU_KERNEL(clip_scalar, ClipScalar)

}  // namespace infini::cpu::INFINI_ISA
