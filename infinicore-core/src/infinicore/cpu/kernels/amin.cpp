// amin.cpp -- the smallest value over any set of dimensions.
// The fold is that of extrema.hpp.
#include <infinicore/operators/amin.h>

#include "../extrema.hpp"

namespace infini::cpu::INFINI_ISA {
namespace {

struct Amin : Extremum<infini_amin_args, false> {
  explicit Amin(const infini_amin_args &call) : Extremum("amin", call) {}
};

}  // namespace

INFINI_CPU_KERNEL(amin, Amin)

}  // namespace infini::cpu::INFINI_ISA
