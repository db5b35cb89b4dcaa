// activation.cpp -- silu and swiglu.
// Written with a division by 1 + e**-x, whose limits at both infinities are right.
#include <infinicore/operators/silu.h>
#include <infinicore/operators/swiglu.h>

#include "../loops.hpp"

namespace infini::cpu::INFINI_ISA {
namespace {

struct SiluOf {
  template <class C> C operator()(C x) const { return vmath::silu(x); }
};
struct SwigluOf {
  template <class C> C operator()(C a, C b) const { return a * vmath::silu(b); }
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

}  // namespace

INFINI_CPU_KERNEL(silu, Silu)
INFINI_CPU_KERNEL(swiglu, Swiglu)

}  // namespace infini::cpu::INFINI_ISA
