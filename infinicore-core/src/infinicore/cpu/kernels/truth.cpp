// truth.cpp -- all and any over any set of dimensions, of every dtype.
// The folds are those of truth.hpp; a kernel adds the layout.
#include <infinicore/operators/all.h>
#include <infinicore/operators/any.h>

#include "../truth.hpp"

namespace infini::cpu::INFINI_ISA {
namespace {

template <class Args, bool kAll> class Truth {
  int64_t dtype_;
  Reduction plan_;

 public:
  explicit Truth(const Args &call)
      : dtype_(call.input->dtype), plan_(*call.output, *call.input, *call.dim, call.keepdim != 0) {}
  uint64_t workspace() const { return 0; }
  void execute(const Args &call, void *, infinirtStream_t) const {
    dispatch_size(kAll ? "all" : "any", dtype_, [&](auto t) {
      using U = typename decltype(t)::type;
      reduce(plan_, TruthFold<U, kAll>(truth_mask(dtype_)), call.input->data, call.output->data);
    });
  }
};

using All = Truth<infini_all_args, true>;
using Any = Truth<infini_any_args, false>;

}  // namespace

INFINI_CPU_KERNEL(all, All)
INFINI_CPU_KERNEL(any, Any)

}  // namespace infini::cpu::INFINI_ISA
