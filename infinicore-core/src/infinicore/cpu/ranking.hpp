// cpu/ranking.hpp -- the order in which the best of several values are chosen.
#pragma once
#include "isa.hpp"

#include <cstdint>

namespace infini::cpu::INFINI_ISA {

// Compares indices by what they point at: larger first, a NaN last, equal ones by index.
template <class C> struct Descending {
  const C *value;
  bool operator()(int32_t a, int32_t b) const {
    const C x = value[a], y = value[b];
    if (x != x || y != y) return x == x || (y != y && a < b);
    return x > y || (x == y && a < b);
  }
};

}  // namespace infini::cpu::INFINI_ISA
