// fold.cpp -- the reductions of collectives.cpp, compiled for each instruction set.
// No operator: collectives.cpp calls the one of the set that runs.
#include "../fold.hpp"

namespace infini::cpu::INFINI_ISA {

void fold_ranks(const char *const *sources, int64_t ranks, char *target, int64_t count, int32_t dtype,
                infinicclReduceOp_t op) {
  fold(sources, ranks, target, count, dtype, op);
}

}  // namespace infini::cpu::INFINI_ISA
