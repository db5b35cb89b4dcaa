// backend.cpp -- a plug-in that looks for its driver library on first use, and says where it looked.
// Nothing of the vendor's is linked: the wheel installs, imports and reports on any machine.
#include "kernels.hpp"
#include "runtime.hpp"

#include <dlfcn.h>

// [search]
static constexpr const char *DRIVER = "libmissing_driver.so.4";

// The driver library from MISSING_HOME, else from the dynamic loader's path; every step goes into the trail.
static void *find_driver(const infini_host *host) {
  if (const char *home = std::getenv("MISSING_HOME")) {
    const std::string path = std::string(home) + "/lib/" + DRIVER;
    void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    host->trail(DRIVER, path.c_str(), library != nullptr ? "found" : "not found");
    if (library != nullptr) return library;
  } else {
    host->trail(DRIVER, "MISSING_HOME", "not set");
  }
  void *library = dlopen(DRIVER, RTLD_NOW | RTLD_LOCAL);
  host->trail(DRIVER, "the dynamic loader's path", library != nullptr ? "found" : "not found");
  return library;
}

static infiniStatus_t open(const infini_host *host, int32_t *device_count) {
  infini::host = host;
  return infini::guard([&] {
    if (find_driver(host) == nullptr)
      throw infini::Error(INFINI_STATUS_UNAVAILABLE,
                          std::string("the driver library ") + DRIVER + " is not installed");
    *device_count = 1;
  });
}
// [search]

const infini_backend *infinicore_backend(void) {
  static const infini_backend table = [] {
    infini_backend backend{};
    backend.header = INFINI_HEADER(infini_backend);
    backend.name = INFINI_NAME;
    backend.vendor = INFINI_VENDOR;
    backend.version = INFINI_VERSION;
    backend.device_type = -1;
    backend.dlpack_type = 12;  // kDLExtDev
    backend.open = open;
    backend.runtime = &example::runtime;
    backend.operators = example::operators;
    backend.operator_count = 2;
    return backend;
  }();
  return &table;
}
