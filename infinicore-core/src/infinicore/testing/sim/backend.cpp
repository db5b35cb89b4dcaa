// sim/backend.cpp -- what the simulated vendors hand over to core: "sim", and "sim2" beside it.
// Two, because several vendors in one process is a promise of infinicore that has to be tested.
#include "device.hpp"

namespace infini::sim {

namespace {

template <int V> infiniStatus_t open(const infini_host *core, int32_t *device_count) {
  host = core;
  return guard([&] {
    const infini_backend *cpu = core->backend("cpu");
    if (cpu == nullptr) {
      core->trail("cpu", "backends of infinicore", "not ready");
      throw Error(INFINI_STATUS_UNAVAILABLE,
                  "the cpu backend, whose kernels a simulated device runs, is not ready");
    }
    open_operators(*cpu);
    vendors[V].open();
    *device_count = static_cast<int32_t>(vendors[V].devices.size());
  });
}

template <int V> const infini_backend *backend() {
  static const auto operators = operator_table(V);
  static const infini_backend table = {
      INFINI_HEADER(infini_backend),
      vendors[V].name,
      vendors[V].label,
      nullptr,  // the version is that of the wheel that registers it
      -1,       // outside the public enumeration
      12,       // kDLExtDev
      open<V>,
      runtime_table(V),
      ccl_table(V),
      operators.size(),
      operators.data(),
      0,
  };
  return &table;
}

}  // namespace

}  // namespace infini::sim

extern "C" {

INFINI_EXPORT const infini_backend *infinicore_backend(void) {
  return infini::sim::backend<0>();
}

// The second vendor; second.py hands it over.
INFINI_EXPORT const infini_backend *infinicore_backend_sim2(void);
const infini_backend *infinicore_backend_sim2(void) {
  return infini::sim::backend<1>();
}

// Python calls this before the process ends: libraries that the kernels opened must still be whole then.
INFINI_EXPORT void infinicore_sim_stop(void);
void infinicore_sim_stop(void) {
  infini::sim::stop_all();
}
}
