// backend.cpp -- the table of the backend `cpu`, and the choice of the kernels that suit this machine.
// The build compiles the kernels once per instruction set and lists those sets, weakest first, in
// INFINI_CPU_ISAS.
#include "collectives.hpp"
#include "runtime.hpp"
#include "thread_pool.hpp"

#include <cstdlib>
#include <cstring>
#include <string>

// The linker delimits each section that INFINI_CPU_KERNEL fills. Weak: a build without kernels has none.
#define X(isa)                                             \
  extern "C" __attribute__((weak, visibility("hidden")))   \
  const infini_operator *const __start_infini_cpu_##isa[]; \
  extern "C" __attribute__((weak, visibility("hidden")))   \
  const infini_operator *const __stop_infini_cpu_##isa[];
INFINI_CPU_ISAS
#undef X

namespace infini::cpu {
namespace {

struct InstructionSet {
  const char *name;
  const infini_operator *const *begin;
  const infini_operator *const *end;
};

const InstructionSet sets[] = {
#define X(isa) {#isa, __start_infini_cpu_##isa, __stop_infini_cpu_##isa},
    INFINI_CPU_ISAS
#undef X
};

bool supported(const char *name) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  bool v2 = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
  bool v3 = v2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
            __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512vl");
  if (std::strcmp(name, "x86_64_v4") == 0) return v4;
  if (std::strcmp(name, "x86_64_v3") == 0) return v3;
  return v2;
#else
  return std::strcmp(name, "generic") == 0;
#endif
}

// Why open() must fail; empty when all is well.
std::string refusal;

// The set that INFINICORE_CPU_ISA asks for, else the strongest that this machine runs.
const InstructionSet &choose() {
  const char *wanted = std::getenv("INFINICORE_CPU_ISA");
  const InstructionSet *best = nullptr;
  std::string known;
  for (const InstructionSet &set : sets) {
    known += (known.empty() ? "" : ", ") + std::string(set.name);
    bool runs = supported(set.name);
    if (wanted != nullptr && *wanted != '\0') {
      if (std::strcmp(wanted, set.name) != 0) continue;
      if (runs) return set;
      refusal = "INFINICORE_CPU_ISA is '" + std::string(wanted) + "', which this processor does not have";
      return sets[0];
    }
    if (runs) best = &set;
  }
  if (best != nullptr) return *best;
  refusal = wanted != nullptr && *wanted != '\0'
                ? "INFINICORE_CPU_ISA is '" + std::string(wanted) + "': this build has " + known
                : std::string("this processor lacks SSE4.2, which every kernel here uses");
  return sets[0];
}

infiniStatus_t open(const infini_host *services, int32_t *count) {
  host = services;
  return guard([&] {
    if (!refusal.empty()) throw Error(INFINI_STATUS_DEVICE_ARCHITECTURE_NOT_SUPPORTED, refusal);
    num_threads();  // reports a bad INFINICORE_NUM_THREADS now, not in the middle of an operator
    *count = device_count();
  });
}

}  // namespace
}  // namespace infini::cpu

const infini_backend *infinicore_backend(void) {
  static const infini_backend table = [] {
    const infini::cpu::InstructionSet &set = infini::cpu::choose();
    infini::cpu::instruction_set = set.name;
    infini_backend backend{};
    backend.header = infini_header INFINI_HEADER(infini_backend);
    backend.name = "cpu";
    backend.vendor = "infinicore";
    backend.version = INFINI_VERSION;
    backend.device_type = INFINI_DEVICE_CPU;
    backend.dlpack_type = 1;  // kDLCPU
    backend.open = infini::cpu::open;
    backend.runtime = &infini::cpu::runtime;
    backend.ccl = &infini::cpu::collectives;
    backend.operators = set.begin;
    backend.operator_count = uint64_t(set.end - set.begin);
    backend.flags = INFINI_BACKEND_HOST_MEMORY;
    return backend;
  }();
  return &table;
}
