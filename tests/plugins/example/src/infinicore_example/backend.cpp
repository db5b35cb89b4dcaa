// backend.cpp -- what infinicore-example hands over to core: one table, from the one function it exports.
// INFINI_NAME, INFINI_VENDOR and INFINI_VERSION come from setup.py.
#include "kernels.hpp"
#include "runtime.hpp"

// [open]
static infiniStatus_t open(const infini_host *host, int32_t *device_count) {
  infini::host = host;
  *device_count = 1;
  return INFINI_STATUS_SUCCESS;
}
// [open]

// [backend]
const infini_backend *infinicore_backend(void) {
  static const infini_backend table = [] {
    infini_backend backend{};
    backend.header = INFINI_HEADER(infini_backend);
    backend.name = INFINI_NAME;
    backend.vendor = INFINI_VENDOR;
    backend.version = INFINI_VERSION;
    backend.device_type = -1;  // outside the public enumeration
    backend.dlpack_type = 12;  // kDLExtDev
    backend.open = open;
    backend.runtime = &example::runtime;
    backend.operators = example::operators;
    backend.operator_count = sizeof example::operators / sizeof *example::operators;
    return backend;
  }();
  return &table;
}
// [backend]
