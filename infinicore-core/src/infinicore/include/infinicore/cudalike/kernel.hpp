// cudalike/kernel.hpp -- how a family of kernels becomes entries of an operator table.
// One source file of a vendor includes one family (cudalike/norms.hpp, say) and is one object; the vendor's
// backend lists what was linked with table(). Instead of a family's kernel it may link a better one of its
// own that defines the same entry.
#pragma once
#include <infinicore/plugin.hpp>

#include "dialect.hpp"

namespace infini::cudalike {

// Core's opaque stream is the vendor's.
inline Stream native(infinirtStream_t stream) {
  return reinterpret_cast<Stream>(stream);
}

}  // namespace infini::cudalike

// Weak: where a vendor defines the same entry, its own is the one that is linked.
#define INFINI_CUDALIKE_KERNEL(operator_name, Class)                         \
  namespace entries {                                                        \
  extern const infini_operator operator_name __attribute__((weak));          \
  const infini_operator operator_name = INFINI_KERNEL(operator_name, Class); \
  }
