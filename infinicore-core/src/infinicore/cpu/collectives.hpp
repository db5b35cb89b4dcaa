// collectives.hpp -- what collectives.cpp offers to backend.cpp: the collectives table of the CPU backend.
#pragma once
#include <infinicore/plugin.hpp>

namespace infini::cpu {

extern const infini_ccl collectives;

}  // namespace infini::cpu
