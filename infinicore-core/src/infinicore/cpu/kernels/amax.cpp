// amax.cpp -- the largest value over any set of dimensions.
// The fold is that of extrema.hpp.
#include <infinicore/operators/amax.h>

#include "../extrema.hpp"

namespace infini::cpu::INFINI_ISA {
namespace {

struct Amax : Extremum<infini_amax_args, true> {
  explicit Amax(const infini_amax_args &call) : Extremum("amax", call) {}
};

}  // namespace

INFINI_CPU_KERNEL(amax, Amax)

}  // namespace infini::cpu::INFINI_ISA
