// cudalike/activation.hpp -- the rectifiers, sigmoids and gated units of ops/activation.py.
// Gates divide by 1 + e**-x, whose limits at both infinities are right; comparisons let a NaN through.
#pragma once
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

#include "elementwise.hpp"

namespace infini::cudalike {

struct Relu {
  static constexpr const char *name = "relu";
  template <class C> __device__ C operator()(C x) const { return x < C(0) ? C(0) : x; }
};

struct LeakyRelu {
  static constexpr const char *name = "leaky_relu";
  double slope;
  explicit LeakyRelu(const infini_leaky_relu_args &call) : slope(call.negative_slope) {}
  template <class C> __device__ C operator()(C x) const { return x > C(0) ? x : C(slope) * x; }
};

struct Elu {
  static constexpr const char *name = "elu";
  double alpha;
  explicit Elu(const infini_elu_args &call) : alpha(call.alpha) {}
  template <class C> __device__ C operator()(C x) const { return x > C(0) ? x : C(alpha) * math::expm1(x); }
};

struct Softplus {
  static constexpr const char *name = "softplus";
  double beta, threshold;
  explicit Softplus(const infini_softplus_args &call) : beta(call.beta), threshold(call.threshold) {}
  template <class C> __device__ C operator()(C x) const {
    const C z = C(beta) * x;
    const C soft = (z > C(0) ? z : C(0)) + math::log1p(math::exp(z > C(0) ? -z : z));
    return z > C(threshold) ? x : soft / C(beta);
  }
};

struct Hardtanh {
  static constexpr const char *name = "hardtanh";
  double low, high;
  explicit Hardtanh(const infini_hardtanh_args &call) : low(call.min_val), high(call.max_val) {}
  template <class C> __device__ C operator()(C x) const {
    x = x < C(low) ? C(low) : x;
    return x > C(high) ? C(high) : x;
  }
};

struct Sigmoid {
  static constexpr const char *name = "sigmoid";
  template <class C> __device__ C operator()(C x) const { return C(1) / (C(1) + math::exp(-x)); }
};

struct Tanh {
  static constexpr const char *name = "tanh";
  template <class C> __device__ C operator()(C x) const { return math::tanh(x); }
};

struct Gelu {
  static constexpr const char *name = "gelu";
  template <class C> __device__ C operator()(C x) const {
    return x * (C(0.5) * math::erfc(x * C(-0.70710678118654752440)));
  }
};

struct GeluTanh {
  static constexpr const char *name = "gelu_tanh";
  template <class C> __device__ C operator()(C x) const {
    // -2 u in Horner's form, with 2 sqrt(2 / pi) multiplied into its two coefficients
    const C u = x * (C(-1.59576912160573071) + C(-0.0713548162726002529) * (x * x));
    return x / (C(1) + math::exp(u));
  }
};

struct QuickGelu {
  static constexpr const char *name = "quick_gelu";
  template <class C> __device__ C operator()(C x) const { return x / (C(1) + math::exp(C(-1.702) * x)); }
};

struct Hardswish {
  static constexpr const char *name = "hardswish";
  template <class C> __device__ C operator()(C x) const {
    C gate = x + C(3);
    gate = gate < C(0) ? C(0) : gate;
    return x * ((gate > C(6) ? C(6) : gate) / C(6));
  }
};

struct Silu {
  static constexpr const char *name = "silu";
  template <class C> __device__ C operator()(C x) const { return x / (C(1) + math::exp(-x)); }
};

// value * silu(gate). Where the gate underflows an infinite value stays infinite, unless the gate is -inf.
struct Swiglu {
  static constexpr const char *name = "swiglu";
  template <class C> __device__ C operator()(C value, C gate) const {
    const C gated = value * (gate / (C(1) + math::exp(-gate)));
    const bool infinite = math::abs(value) == math::infinity<C>();
    return infinite && gate > -math::infinity<C>() ? value * gate : gated;
  }
};

struct GateFirst {
  static constexpr const char *name = "silu_and_mul";
  template <class C> __device__ C operator()(C gate, C value) const { return Swiglu{}(value, gate); }
};

// The two halves of the last axis are operands of their own, with the same strides.
class SiluAndMul {
 public:
  explicit SiluAndMul(const infini_silu_and_mul_args &call)
      : space_(halves(call)), run_(dispatch<Floats>("silu_and_mul", call.out->dtype, [](auto t) -> Run {
          using T = typename decltype(t)::type;
          return run_binary<GateFirst, T, T, T>;
        })) {
    const int32_t last = call.input->ndim - 1;
    half_ = call.out->shape[last] * call.input->strides[last] * dtype_size(call.out->dtype);
  }

  uint64_t workspace() const { return 0; }
  void execute(const infini_silu_and_mul_args &call, void *, infinirtStream_t stream) const {
    auto input = static_cast<const char *>(call.input->data);
    run_(GateFirst::name, space_, GateFirst{}, call.out->data, input, input + half_, native(stream));
  }

 private:
  using Run = decltype(&run_binary<GateFirst, float, float, float>);
  static Space<3> halves(const infini_silu_and_mul_args &call) {
    return Space<3>({call.out, call.input, call.input}).reorder();
  }
  Space<3> space_;
  Run run_;
  int64_t half_;
};

using ReluKernel = Unary<infini_relu_args, Relu, Floats>;
using LeakyReluKernel = Unary<infini_leaky_relu_args, LeakyRelu, Floats>;
using EluKernel = Unary<infini_elu_args, Elu, Floats>;
using SoftplusKernel = Unary<infini_softplus_args, Softplus, Floats>;
using HardtanhKernel = Unary<infini_hardtanh_args, Hardtanh, Floats>;
using SigmoidKernel = Unary<infini_sigmoid_args, Sigmoid, Floats>;
using TanhKernel = Unary<infini_tanh_args, Tanh, Floats>;
using GeluKernel = Unary<infini_gelu_args, Gelu, Floats>;
using GeluTanhKernel = Unary<infini_gelu_tanh_args, GeluTanh, Floats>;
using QuickGeluKernel = Unary<infini_quick_gelu_args, QuickGelu, Floats>;
using HardswishKernel = Unary<infini_hardswish_args, Hardswish, Floats>;
using SiluKernel = Unary<infini_silu_args, Silu, Floats>;
using SwigluKernel = Binary<infini_swiglu_args, Swiglu, Floats>;

INFINI_CUDALIKE_KERNEL(relu, ReluKernel)
INFINI_CUDALIKE_KERNEL(leaky_relu, LeakyReluKernel)
INFINI_CUDALIKE_KERNEL(elu, EluKernel)
INFINI_CUDALIKE_KERNEL(softplus, SoftplusKernel)
INFINI_CUDALIKE_KERNEL(hardtanh, HardtanhKernel)
INFINI_CUDALIKE_KERNEL(sigmoid, SigmoidKernel)
INFINI_CUDALIKE_KERNEL(tanh, TanhKernel)
INFINI_CUDALIKE_KERNEL(gelu, GeluKernel)
INFINI_CUDALIKE_KERNEL(gelu_tanh, GeluTanhKernel)
INFINI_CUDALIKE_KERNEL(quick_gelu, QuickGeluKernel)
INFINI_CUDALIKE_KERNEL(hardswish, HardswishKernel)
INFINI_CUDALIKE_KERNEL(silu, SiluKernel)
INFINI_CUDALIKE_KERNEL(swiglu, SwigluKernel)
INFINI_CUDALIKE_KERNEL(silu_and_mul, SiluAndMul)

}  // namespace infini::cudalike
