// activation.cpp -- the rectifiers, sigmoids and gated units of ops/activation.py.
// Gates are written with a division by 1 + e**-x, whose limits at both infinities are right.
#include <infinicore/operators/elu.h>
#include <infinicore/operators/gelu.h>
#include <infinicore/operators/gelu_tanh.h>
#include <infinicore/operators/hardswish.h>
#include <infinicore/operators/hardtanh.h>
#include <infinicore/operators/leaky_relu.h>
#include <infinicore/operators/quick_gelu.h>
#include <infinicore/operators/relu.h>
#include <infinicore/operators/sigmoid.h>
#include <infinicore/operators/silu.h>
#include <infinicore/operators/silu_and_mul.h>
#include <infinicore/operators/softplus.h>
#include <infinicore/operators/swiglu.h>
#include <infinicore/operators/tanh.h>

#include "../usual.hpp"

namespace infini::cpu::INFINI_ISA {
namespace {

// Comparisons stand so that a NaN falls through to the result.

struct Relu {
  static constexpr const char *name = "relu";
  static constexpr int64_t grain = kCheap;
  template <class C> C operator()(C x) const { return x < C(0) ? C(0) : x; }
};

struct LeakyRelu {
  static constexpr const char *name = "leaky_relu";
  static constexpr int64_t grain = kCheap;
  double slope;
  explicit LeakyRelu(const infini_leaky_relu_args &call) : slope(call.negative_slope) {}
  template <class C> C operator()(C x) const { return x > C(0) ? x : C(slope) * x; }
};

struct Elu {
  static constexpr const char *name = "elu";
  static constexpr int64_t grain = kExpensive;
  double alpha;
  explicit Elu(const infini_elu_args &call) : alpha(call.alpha) {}
  template <class C> C operator()(C x) const { return x > C(0) ? x : C(alpha) * vmath::expm1(x); }
};

struct Softplus {
  static constexpr const char *name = "softplus";
  static constexpr int64_t grain = kExpensive;
  double beta, threshold;
  explicit Softplus(const infini_softplus_args &call) : beta(call.beta), threshold(call.threshold) {}
  template <class C> C operator()(C x) const {
    C z = C(beta) * x;
    C soft = (z > C(0) ? z : C(0)) + vmath::log1p(vmath::exp(z > C(0) ? -z : z));
    return z > C(threshold) ? x : soft / C(beta);
  }
};

struct Hardtanh {
  static constexpr const char *name = "hardtanh";
  static constexpr int64_t grain = kCheap;
  double low, high;
  explicit Hardtanh(const infini_hardtanh_args &call) : low(call.min_val), high(call.max_val) {}
  template <class C> C operator()(C x) const {
    x = x < C(low) ? C(low) : x;
    return x > C(high) ? C(high) : x;
  }
};

struct Sigmoid {
  static constexpr const char *name = "sigmoid";
  static constexpr int64_t grain = kExpensive;
  template <class C> C operator()(C x) const { return vmath::sigmoid(x); }
};

struct Tanh {
  static constexpr const char *name = "tanh";
  static constexpr int64_t grain = kExpensive;
  template <class C> C operator()(C x) const { return vmath::tanh(x); }
  // Of a float: what vmath::tanh and vmath::expm1 do, without bounds.
  bool usual(float x) const { return std::fabs(x) <= 20.0f; }
  float shortly(float x) const {
    const float a = 2.0f * std::fabs(x);
    const float shifted = vmath::fma(a, 1.44269504f, 0x1.8p23f), n = shifted - 0x1.8p23f;
    const float t = bit_cast<float>((bit_cast<int32_t>(shifted) - 0x4b400000 + 126) << 23);
    const float r = vmath::fma(n, 2.12194440e-4f, vmath::fma(n, -0.693359375f, a)), r2 = r * r;
    const float p0 = vmath::fma(r, 0.166666657f, 0.5f), p2 = vmath::fma(r, 8.33338965e-3f, 4.16663587e-2f);
    const float p4 = vmath::fma(r, 1.98459034e-4f, 1.39407197e-3f);
    const float p = vmath::fma(r2, vmath::fma(r2, vmath::fma(r2, p4, p2), p0), r);
    const float half = vmath::fma(t, p, t - 0.5f);  // of e**a - 1
    return std::copysign(half / (half + 1.0f), x);
  }
};

// x times the probability of less than x standard deviations.
struct Gelu {
  static constexpr const char *name = "gelu";
  static constexpr int64_t grain = kExpensive;
  template <class C> C operator()(C x) const { return of<false>(x); }
  template <class C> bool usual(C x) const { return std::fabs(x) <= (sizeof(C) == 8 ? C(37) : C(12)); }
  template <class C> C shortly(C x) const { return of<true>(x); }

 private:
  template <bool usual, class C> static C of(C x) {
    const C tail = vmath::normal_tail<usual>(std::fabs(x));
    return x * (x < C(0) ? tail : C(1) - tail);
  }
};

struct GeluTanh {
  static constexpr const char *name = "gelu_tanh";
  static constexpr int64_t grain = kExpensive;
  template <class C> C operator()(C x) const {
    // -2 u in Horner's form, with 2 sqrt(2 / pi) multiplied into its two coefficients
    C u = x * (C(-1.59576912160573071) + C(-0.0713548162726002529) * (x * x));
    return x / (C(1) + vmath::exp(u));
  }
};

struct QuickGelu {
  static constexpr const char *name = "quick_gelu";
  static constexpr int64_t grain = kExpensive;
  template <class C> C operator()(C x) const { return x / (C(1) + vmath::exp(C(-1.702) * x)); }
};

struct Hardswish {
  static constexpr const char *name = "hardswish";
  static constexpr int64_t grain = kCheap;
  template <class C> C operator()(C x) const {
    C gate = x + C(3);
    gate = gate < C(0) ? C(0) : gate;
    return x * ((gate > C(6) ? C(6) : gate) / C(6));
  }
};

// The kernel of a function of one tensor. It keeps the function object, whose members are the call's numbers.
template <class Args, class F> class Activation {
 public:
  explicit Activation(const Args &call)
      : function_(function(call)),
        plan_(dispatch_floats(F::name, call.out->dtype,
                              [](auto t) { return loop<typename decltype(t)::type>(); }),
              &function_, F::grain, {call.out, dtype_size(call.out->dtype)},
              {{call.input, dtype_size(call.out->dtype)}}) {}
  Activation(const Activation &) = delete;  // the plan points at the function

  uint64_t workspace() const { return 0; }

  void execute(const Args &call, void *, infinirtStream_t) const {
    plan_.run(call.out->data, call.input->data);
  }

 private:
  template <class T> static Apply loop() {
    if constexpr (std::is_same_v<F, Gelu> || (std::is_same_v<F, Tanh> && std::is_same_v<compute_t<T>, float>))
      return unary_usually<T, F>;
    else
      return unary<T, F>;
  }

  static F function(const Args &call) {
    if constexpr (std::is_constructible_v<F, const Args &>)
      return F(call);
    else
      return F{};
  }

  F function_;
  Elementwise plan_;
};

struct SiluOf {
  template <class C> C operator()(C x) const { return vmath::silu(x); }
};
struct SwigluOf {
  template <class C> C operator()(C a, C b) const { return vmath::swiglu(a, b); }
};

class Silu : public ElementwiseKernel {
  static Elementwise plan(const infini_tensor *out, const infini_tensor *input) {
    int64_t size = dtype_size(out->dtype);
    Apply apply = dispatch_floats("silu", out->dtype,
                                  [](auto t) -> Apply { return unary<typename decltype(t)::type, SiluOf>; });
    return Elementwise(apply, nullptr, kExpensive, {out, size}, {{input, size}});
  }

 public:
  explicit Silu(const infini_silu_args &call) : ElementwiseKernel(plan(call.out, call.input)) {}
};

class Swiglu : public ElementwiseKernel {
  static Elementwise plan(const infini_tensor *out, const infini_tensor *a, const infini_tensor *b) {
    int64_t size = dtype_size(out->dtype);
    Apply apply = dispatch_floats(
        "swiglu", out->dtype, [](auto t) -> Apply { return binary<typename decltype(t)::type, SwigluOf>; });
    return Elementwise(apply, nullptr, kExpensive, {out, size}, {{a, size}, {b, size}});
  }

 public:
  explicit Swiglu(const infini_swiglu_args &call)
      : ElementwiseKernel(plan(call.out, call.input, call.other)) {}
};

struct SiluAndMulOf {
  template <class C> C operator()(C gate, C value) const { return vmath::swiglu(value, gate); }
};

// The two halves of the last axis are operands of their own, with the same strides.
class SiluAndMul {
 public:
  explicit SiluAndMul(const infini_silu_and_mul_args &call)
      : size_(dtype_size(call.out->dtype)), plan_(plan(*call.out, *call.input)) {
    const int32_t last = call.input->ndim - 1;
    half_ = call.out->shape[last] * call.input->strides[last] * size_;
  }

  uint64_t workspace() const { return 0; }

  void execute(const infini_silu_and_mul_args &call, void *, infinirtStream_t) const {
    const char *input = static_cast<const char *>(call.input->data);
    plan_.run(call.out->data, input, input + half_);
  }

 private:
  static Elementwise plan(const infini_tensor &out, const infini_tensor &input) {
    infini_tensor half = input;
    half.shape = out.shape;
    int64_t size = dtype_size(out.dtype);
    Apply apply = dispatch_floats("silu_and_mul", out.dtype, [](auto t) -> Apply {
      return binary<typename decltype(t)::type, SiluAndMulOf>;
    });
    return Elementwise(apply, nullptr, kExpensive, {&out, size}, {{&half, size}, {&half, size}});
  }

  int64_t size_, half_;
  Elementwise plan_;
};

}  // namespace

using ReluKernel = Activation<infini_relu_args, Relu>;
using LeakyReluKernel = Activation<infini_leaky_relu_args, LeakyRelu>;
using EluKernel = Activation<infini_elu_args, Elu>;
using SoftplusKernel = Activation<infini_softplus_args, Softplus>;
using HardtanhKernel = Activation<infini_hardtanh_args, Hardtanh>;
using SigmoidKernel = Activation<infini_sigmoid_args, Sigmoid>;
using TanhKernel = Activation<infini_tanh_args, Tanh>;
using GeluKernel = Activation<infini_gelu_args, Gelu>;
using GeluTanhKernel = Activation<infini_gelu_tanh_args, GeluTanh>;
using QuickGeluKernel = Activation<infini_quick_gelu_args, QuickGelu>;
using HardswishKernel = Activation<infini_hardswish_args, Hardswish>;

INFINI_CPU_KERNEL(relu, ReluKernel)
INFINI_CPU_KERNEL(leaky_relu, LeakyReluKernel)
INFINI_CPU_KERNEL(elu, EluKernel)
INFINI_CPU_KERNEL(softplus, SoftplusKernel)
INFINI_CPU_KERNEL(hardtanh, HardtanhKernel)
INFINI_CPU_KERNEL(sigmoid, SigmoidKernel)
INFINI_CPU_KERNEL(tanh, TanhKernel)
INFINI_CPU_KERNEL(gelu, GeluKernel)
INFINI_CPU_KERNEL(gelu_tanh, GeluTanhKernel)
INFINI_CPU_KERNEL(quick_gelu, QuickGeluKernel)
INFINI_CPU_KERNEL(hardswish, HardswishKernel)
INFINI_CPU_KERNEL(silu_and_mul, SiluAndMul)
INFINI_CPU_KERNEL(silu, Silu)
INFINI_CPU_KERNEL(swiglu, Swiglu)

}  // namespace infini::cpu::INFINI_ISA
