// cudalike/select.hpp -- maximum, minimum, where, clip and clip_scalar: one of several values.
// A NaN wins over every number.
#pragma once
#include <infinicore/operators/clip.h>
#include <infinicore/operators/clip_scalar.h>
#include <infinicore/operators/maximum.h>
#include <infinicore/operators/minimum.h>
#include <infinicore/operators/where.h>

#include "elementwise.hpp"

namespace infini::cudalike {

struct Maximum {
  static constexpr const char *name = "maximum";
  template <class C> __device__ C operator()(C a, C b) const { return a > b || math::is_nan(a) ? a : b; }
};
struct Minimum {
  static constexpr const char *name = "minimum";
  template <class C> __device__ C operator()(C a, C b) const { return a < b || math::is_nan(a) ? a : b; }
};

using MaximumKernel = Binary<infini_maximum_args, Maximum, Reals>;
using MinimumKernel = Binary<infini_minimum_args, Minimum, Reals>;

struct Choose {
  template <class T> __device__ T operator()(uint8_t condition, T a, T b) const { return condition ? a : b; }
};

class Where {
 public:
  explicit Where(const infini_where_args &call)
      : space_(Space<4>({call.out, call.condition, call.input, call.other}).reorder()),
        run_(dispatch<Sizes>("where", call.out->dtype, [](auto t) -> Run {
          using T = typename decltype(t)::type;
          return run_ternary<Choose, T, boolean, T, T>;
        })) {}

  uint64_t workspace() const { return 0; }
  void execute(const infini_where_args &call, void *, infinirtStream_t stream) const {
    run_("where", space_, Choose{}, call.out->data, call.condition->data, call.input->data, call.other->data,
         native(stream));
  }

 private:
  using Run = decltype(&run_ternary<Choose, uint8_t, boolean, uint8_t, uint8_t>);
  Space<4> space_;
  Run run_;
};

struct Between {
  bool has_low, has_high;
  template <class C> __device__ C operator()(C x, C low, C high) const {
    if (has_high) x = Minimum{}(x, high);
    return has_low ? Maximum{}(x, low) : x;
  }
};

class Clip {
 public:
  explicit Clip(const infini_clip_args &call)
      : space_(Space<4>({call.out, call.x, given(call.min_val, call), given(call.max_val, call)}).reorder()),
        run_(dispatch<Reals>("clip", call.out->dtype, [](auto t) -> Run {
          using T = typename decltype(t)::type;
          return run_ternary<Between, T, T, T, T>;
        })) {}

  uint64_t workspace() const { return 0; }
  void execute(const infini_clip_args &call, void *, infinirtStream_t stream) const {
    run_("clip", space_, Between{call.min_val != nullptr, call.max_val != nullptr}, call.out->data,
         call.x->data, given(call.min_val, call)->data, given(call.max_val, call)->data, native(stream));
  }

 private:
  using Run = decltype(&run_ternary<Between, float, float, float, float>);
  // An absent bound has somewhere to be read from, too.
  static const infini_tensor *given(const infini_tensor *bound, const infini_clip_args &call) {
    return bound != nullptr ? bound : call.x;
  }
  Space<4> space_;
  Run run_;
};

template <class T> struct BetweenNumbers {
  compute_t<T> low, high;
  BetweenNumbers(double low, double high) : low(bound(low)), high(bound(high)) {}
  __device__ compute_t<T> operator()(compute_t<T> x) const {
    x = x > high ? high : x;
    return x < low ? low : x;
  }

 private:
  // Rounded once when it is stored, not twice.
  static compute_t<T> bound(double number) {
    if constexpr (std::is_same_v<T, compute_t<T>>)
      return T(number);
    else
      return round_to_odd(number);
  }
};

class ClipScalar {
 public:
  explicit ClipScalar(const infini_clip_scalar_args &call)
      : space_(Space<2>({call.out, call.input}).reorder()),
        run_(dispatch<Floats>("clip_scalar", call.out->dtype,
                              [](auto t) -> Run { return run<typename decltype(t)::type>; })) {}

  uint64_t workspace() const { return 0; }
  void execute(const infini_clip_scalar_args &call, void *, infinirtStream_t stream) const {
    run_(space_, call, native(stream));
  }

 private:
  using Run = void (*)(const Space<2> &, const infini_clip_scalar_args &, Stream);
  template <class T>
  static void run(const Space<2> &space, const infini_clip_scalar_args &call, Stream stream) {
    run_unary<BetweenNumbers<T>, T, T>("clip_scalar", space, BetweenNumbers<T>(call.min_val, call.max_val),
                                       call.out->data, call.input->data, stream);
  }
  Space<2> space_;
  Run run_;
};

INFINI_CUDALIKE_KERNEL(maximum, MaximumKernel)
INFINI_CUDALIKE_KERNEL(minimum, MinimumKernel)
INFINI_CUDALIKE_KERNEL(where, Where)
INFINI_CUDALIKE_KERNEL(clip, Clip)
INFINI_CUDALIKE_KERNEL(clip_scalar, ClipScalar)

}  // namespace infini::cudalike
