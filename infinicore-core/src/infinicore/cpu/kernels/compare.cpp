// compare.cpp -- equal, not_equal, less, less_equal, greater and greater_equal: booleans from two tensors.
// NaN differs from everything and is ordered with nothing; a complex number has equality only.
#include <infinicore/operators/equal.h>
#include <infinicore/operators/greater.h>
#include <infinicore/operators/greater_equal.h>
#include <infinicore/operators/less.h>
#include <infinicore/operators/less_equal.h>
#include <infinicore/operators/not_equal.h>

#include "../loops.hpp"

namespace infini::cpu::INFINI_ISA {
namespace {

struct Equal {
  template <class C> bool operator()(C a, C b) const { return a == b; }
};
struct NotEqual {
  template <class C> bool operator()(C a, C b) const { return a != b; }
};
struct Less {
  template <class C> bool operator()(C a, C b) const { return a < b; }
};
struct LessEqual {
  template <class C> bool operator()(C a, C b) const { return a <= b; }
};

template <class T, class F>
void complex_predicate(const void *, void *out, const void *const *in, int64_t n) {
  auto target = static_cast<uint8_t *>(out);
  auto a = static_cast<const complex<T> *>(in[0]), b = static_cast<const complex<T> *>(in[1]);
  for (int64_t i = 0; i < n; ++i) {
    bool equal = load(a[i].re) == load(b[i].re) && load(a[i].im) == load(b[i].im);
    target[i] = std::is_same_v<F, Equal> == equal;
  }
}

template <class F> Elementwise comparison(const char *op, const infini_tensor *out, const infini_tensor *a,
                                          const infini_tensor *b) {
  constexpr bool ordered = std::is_same_v<F, Less> || std::is_same_v<F, LessEqual>;
  auto loop = [](auto t) -> Apply { return predicate<typename decltype(t)::type, F>; };
  int64_t dtype = a->dtype, size = dtype_size(dtype);
  Apply apply;
  if (dtype == INFINI_DTYPE_BOOL) {
    apply = loop(tag<uint8_t>{});
  } else if constexpr (ordered) {
    apply = dispatch_reals(op, dtype, loop);
  } else {
    switch (dtype) {
      case INFINI_DTYPE_C16:
        apply = complex_predicate<float8_e4m3, F>;
        break;
      case INFINI_DTYPE_C32:
        apply = complex_predicate<half, F>;
        break;
      case INFINI_DTYPE_C64:
        apply = complex_predicate<float, F>;
        break;
      case INFINI_DTYPE_C128:
        apply = complex_predicate<double, F>;
        break;
      default:
        apply = dispatch_modular(op, dtype, loop);
    }
  }
  return Elementwise(apply, nullptr, kCheap, {out, 1}, {{a, size}, {b, size}});
}

// The kernel of one operator; `a > b` is planned as `b < a`, and swapped when it runs, too.
#define INFINI_COMPARISON(Class, op, F)                                              \
  class Class : public ElementwiseKernel {                                           \
   public:                                                                           \
    explicit Class(const infini_##op##_args &call)                                   \
        : ElementwiseKernel(comparison<F>(#op, call.out, call.input, call.other)) {} \
  };
#define INFINI_SWAPPED_COMPARISON(Class, op, F)                                    \
  class Class {                                                                    \
    Elementwise plan_;                                                             \
                                                                                   \
   public:                                                                         \
    explicit Class(const infini_##op##_args &call)                                 \
        : plan_(comparison<F>(#op, call.out, call.other, call.input)) {}           \
    uint64_t workspace() const { return 0; }                                       \
    void execute(const infini_##op##_args &call, void *, infinirtStream_t) const { \
      plan_.run(call.out->data, call.other->data, call.input->data);               \
    }                                                                              \
  };

INFINI_COMPARISON(EqualKernel, equal, Equal)
INFINI_COMPARISON(NotEqualKernel, not_equal, NotEqual)
INFINI_COMPARISON(LessKernel, less, Less)
INFINI_COMPARISON(LessEqualKernel, less_equal, LessEqual)
INFINI_SWAPPED_COMPARISON(GreaterKernel, greater, Less)
INFINI_SWAPPED_COMPARISON(GreaterEqualKernel, greater_equal, LessEqual)

}  // namespace

INFINI_CPU_KERNEL(equal, EqualKernel)
INFINI_CPU_KERNEL(not_equal, NotEqualKernel)
INFINI_CPU_KERNEL(less, LessKernel)
INFINI_CPU_KERNEL(less_equal, LessEqualKernel)
INFINI_CPU_KERNEL(greater, GreaterKernel)
INFINI_CPU_KERNEL(greater_equal, GreaterEqualKernel)

}  // namespace infini::cpu::INFINI_ISA
