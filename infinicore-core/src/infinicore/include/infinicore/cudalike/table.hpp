// cudalike/table.hpp -- the operator table of a vendor: the entries of all families that were linked.
// Host code only; nothing here needs a device compiler.
#pragma once
#include <infinicore/operators.h>
#include <infinicore/plugin.hpp>

#include <vector>

namespace infini::cudalike {

namespace entries {
#define INFINI_ENTRY(name) extern const infini_operator name __attribute__((weak));
INFINI_OPERATORS(INFINI_ENTRY)
#undef INFINI_ENTRY
}  // namespace entries

// Valid as long as the library is loaded.
inline std::vector<const infini_operator *> table() {
  std::vector<const infini_operator *> linked;
#define INFINI_ENTRY(name) \
  if (&entries::name != nullptr) linked.push_back(&entries::name);
  INFINI_OPERATORS(INFINI_ENTRY)
#undef INFINI_ENTRY
  return linked;
}

}  // namespace infini::cudalike
