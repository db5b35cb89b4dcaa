// infinicore/timeout.hpp -- how long a rank waits for one that is alive and does not come.
// For plug-ins that wait themselves: all backends obey the same variable.
#pragma once
#include "plugin.hpp"

#include <chrono>
#include <cstdlib>
#include <string>

namespace infini {

// INFINICORE_CCL_TIMEOUT in seconds, 600 by default; throws Error where it is no positive number.
inline std::chrono::steady_clock::duration ccl_timeout() {
  const char *text = std::getenv("INFINICORE_CCL_TIMEOUT");
  double seconds = 600;
  if (text != nullptr && *text != '\0') {
    char *end = nullptr;
    seconds = std::strtod(text, &end);
    if (*end != '\0' || !(seconds > 0) || seconds > 1e8)
      throw Error(INFINI_STATUS_BAD_PARAM, "INFINICORE_CCL_TIMEOUT is '" + std::string(text) +
                                               "': expected a positive number of seconds");
  }
  return std::chrono::duration_cast<std::chrono::steady_clock::duration>(
      std::chrono::duration<double>(seconds));
}

}  // namespace infini
