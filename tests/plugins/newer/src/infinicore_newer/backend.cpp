// backend.cpp -- a plug-in of a later minor: every table has a member that core's header does not know.
// Core must read what it knows and leave the rest alone.
#include "kernels.hpp"
#include "runtime.hpp"

namespace {

constexpr uint16_t MINOR = 99;

// A table of that minor: today's, and what was appended to it since.
template <class Table> struct Later {
  Table table;
  infiniStatus_t (*appended)(void);
};

infiniStatus_t must_not_be_called(void) {
  std::abort();
}

template <class Table> Later<Table> later(Table table) {
  table.header.struct_size = sizeof(Later<Table>);
  table.header.abi_minor = MINOR;
  return {table, must_not_be_called};
}

infiniStatus_t open(const infini_host *host, int32_t *device_count) {
  infini::host = host;
  *device_count = 1;
  return INFINI_STATUS_SUCCESS;
}

const Later<infini_runtime> runtime = later(example::runtime);
const Later<infini_operator> add = later(example::add);
const Later<infini_operator> neg = later(example::neg);
const infini_operator *const operators[] = {&add.table, &neg.table};

}  // namespace

const infini_backend *infinicore_backend(void) {
  static const Later<infini_backend> backend = [] {
    infini_backend table{};
    table.header = INFINI_HEADER(infini_backend);
    table.name = INFINI_NAME;
    table.vendor = INFINI_VENDOR;
    table.version = INFINI_VERSION;
    table.device_type = -1;
    table.dlpack_type = 12;  // kDLExtDev
    table.open = open;
    table.runtime = &runtime.table;
    table.operators = operators;
    table.operator_count = 2;
    table.flags = uint64_t{1} << 63;  // a flag that core does not know
    return later(table);
  }();
  return &backend.table;
}
