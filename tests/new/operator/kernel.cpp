// squareplus.cpp -- the CPU kernel of squareplus, compiled once per instruction set.
// Layouts, threads and narrow floats are the matter of loops.hpp: here stands what happens to one element.
#include <infinicore/operators/squareplus.h>

#include "../loops.hpp"

namespace infini::cpu::INFINI_ISA {
namespace {

struct SquareplusOf {
  // C is float or double; f16 and bf16 arrive as float and are rounded once.
  template <class C> C operator()(C x) const { return (x + std::sqrt(x * x + 4)) / 2; }
};

class Squareplus : public ElementwiseKernel {
  static Elementwise plan(const infini_tensor *out, const infini_tensor *input) {
    int64_t size = dtype_size(out->dtype);
    auto loop = [](auto t) -> Apply { return unary<typename decltype(t)::type, SquareplusOf>; };
    Apply apply = dispatch_floats("squareplus", out->dtype, loop);
    return Elementwise(apply, nullptr, kCheap, {out, size}, {{input, size}});
  }

 public:
  explicit Squareplus(const infini_squareplus_args &call) : ElementwiseKernel(plan(call.out, call.input)) {}
};

}  // namespace

INFINI_CPU_KERNEL(squareplus, Squareplus)

}  // namespace infini::cpu::INFINI_ISA
