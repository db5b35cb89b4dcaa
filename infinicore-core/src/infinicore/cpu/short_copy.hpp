// short_copy.hpp -- copy a number of bytes that is mostly small: a row of a few elements.
// A call of memcpy would take longer than such a copy.
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "isa.hpp"

namespace infini::cpu::INFINI_ISA {

// A few bytes, by the widest moves that fit, of which the last two may overlap.
inline void copy_bytes(char *to, const char *from, int64_t n) {
  auto ends = [&](auto width) {
    std::memcpy(to, from, width);
    std::memcpy(to + n - width, from + n - width, width);
  };
  if (n >= 256) {
    std::memcpy(to, from, size_t(n));
  } else if (n >= 16) {
    for (int64_t i = 0; i + 16 <= n; i += 16) std::memcpy(to + i, from + i, 16);
    std::memcpy(to + n - 16, from + n - 16, 16);
  } else if (n >= 8) {
    ends(std::integral_constant<int64_t, 8>{});
  } else if (n >= 4) {
    ends(std::integral_constant<int64_t, 4>{});
  } else {
    for (int64_t i = 0; i < n; ++i) to[i] = from[i];
  }
}

}  // namespace infini::cpu::INFINI_ISA
