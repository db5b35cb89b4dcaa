// infinicore_cuda/sdk.cpp -- what driver, NVML and NCCL tell and do, called where they have been found.
// Names and numbers are those of NVIDIA's documentation; none of these libraries is needed to build.
#include "sdk.hpp"

#include <cstdio>
#include <mutex>

namespace infini::cuda {

namespace {

struct Utilization {  // nvmlUtilization_t: percent
  unsigned gpu, memory;
};
struct Memory {  // nvmlMemory_t: bytes
  unsigned long long total, free, used;
};
using Device = struct nvmlDevice_st *;

// NVML, where there is one: what it knows is nice to have, so nothing of it is required.
struct Nvml {
  int (*init)() = nullptr;
  int (*driver_version)(char *, unsigned) = nullptr;
  int (*handle)(const char *bus, Device *) = nullptr;
  int (*utilization)(Device, Utilization *) = nullptr;
  int (*memory)(Device, Memory *) = nullptr;
  bool ready = false;

  Nvml() {
    nvml().find("nvmlInit_v2", init);
    nvml().find("nvmlSystemGetDriverVersion", driver_version);
    nvml().find("nvmlDeviceGetHandleByPciBusId_v2", handle);
    nvml().find("nvmlDeviceGetUtilizationRates", utilization);
    nvml().find("nvmlDeviceGetMemoryInfo", memory);
    ready = init != nullptr && init() == 0;
  }

  // NVML counts devices in its own order, and does not know CUDA_VISIBLE_DEVICES.
  Device find(int device) const {
    char bus[32] = "";
    Device found = nullptr;
    if (!ready || handle == nullptr) return nullptr;
    cudalike::check<Sdk>(cudaDeviceGetPCIBusId(bus, sizeof(bus), device), "DeviceGetPCIBusId");
    return handle(bus, &found) == 0 ? found : nullptr;
  }
};

const Nvml &management() {
  static const Nvml library;
  return library;
}

template <size_t N> void put(char (&target)[N], const std::string &text) {
  std::snprintf(target, N, "%s", text.c_str());
}

}  // namespace

void Sdk::device_info(int device, infini_device_info &info) {
  // Of the driver: the runtime's function fills in a struct that changes from release to release.
  int (*get_name)(char *, int, int) = nullptr;
  int (*get_memory)(size_t *, int) = nullptr;
  driver().require("cuDeviceGetName", get_name);
  driver().require("cuDeviceTotalMem_v2", get_memory);
  size_t memory = 0;
  if (const int error = get_name(info.name, sizeof(info.name), device); error != 0)
    throw infini::Error(INFINI_STATUS_DEVICE_NOT_FOUND, "cuDeviceGetName: error " + std::to_string(error));
  if (const int error = get_memory(&memory, device); error != 0)
    throw infini::Error(INFINI_STATUS_DEVICE_NOT_FOUND, "cuDeviceTotalMem: error " + std::to_string(error));
  info.memory_bytes = memory;

  int driver_number = 0, runtime_number = 0;
  cudalike::check<Sdk>(cudaDriverGetVersion(&driver_number), "DriverGetVersion");
  cudalike::check<Sdk>(cudaRuntimeGetVersion(&runtime_number), "RuntimeGetVersion");
  char release[48] = "";
  const bool known = management().ready && management().driver_version != nullptr &&
                     management().driver_version(release, sizeof(release)) == 0;
  put(info.driver, (known ? std::string(release) + ", " : "") + "CUDA " + version(driver_number));
  put(info.runtime, "CUDA " + version(runtime_number));
  put(info.architecture, "sm_" + std::to_string(cudalike::attribute<Sdk>(attribute_major, device)) +
                             std::to_string(cudalike::attribute<Sdk>(attribute_minor, device)));
}

void Sdk::resources(int device, infini_resources &out) {
  out.valid = 0;
  const Device found = management().find(device);
  if (Memory memory{};
      found != nullptr && management().memory != nullptr && management().memory(found, &memory) == 0) {
    out.memory_used_bytes = memory.used;
    out.memory_total_bytes = memory.total;
  } else {  // what the runtime knows without NVML
    const cudalike::DeviceGuard<Sdk> current(device);
    size_t free = 0, total = 0;
    cudalike::check<Sdk>(cudaMemGetInfo(&free, &total), "MemGetInfo");
    out.memory_used_bytes = total - free;
    out.memory_total_bytes = total;
  }
  out.valid |= 1u | 2u;
  if (Utilization busy{}; found != nullptr && management().utilization != nullptr &&
                          management().utilization(found, &busy) == 0) {
    out.compute_utilization = busy.gpu / 100.0;
    out.memory_bandwidth_utilization = busy.memory / 100.0;
    out.valid |= 4u | 8u;
  }
}

void Sdk::set_up_device(int device) {
  // Freed memory of the stream-ordered pool stays ours: giving it back costs more than an operator takes.
  cudaMemPool_t pool = nullptr;
  if (cudaDeviceGetDefaultMemPool(&pool, device) != cudaSuccess) {
    cudaGetLastError();  // a device without memory pools
    return;
  }
  uint64_t threshold = UINT64_MAX;
  cudalike::check<Sdk>(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &threshold),
                       "MemPoolSetAttribute");
}

void Nccl::load() {
  static std::once_flag once;
  std::call_once(once, [] {
    const Library library = nccl();
    library.require("ncclGetErrorString", GetErrorString);
    library.find("ncclGetLastError", GetLastError);
    library.require("ncclGetUniqueId", GetUniqueId);
    library.require("ncclCommInitRank", CommInitRank);
    library.require("ncclCommInitAll", CommInitAll);
    library.require("ncclCommDestroy", CommDestroy);
    library.require("ncclCommCount", CommCount);
    library.require("ncclCommUserRank", CommUserRank);
    library.require("ncclCommGetAsyncError", CommGetAsyncError);
    library.require("ncclGroupStart", GroupStart);
    library.require("ncclGroupEnd", GroupEnd);
    library.require("ncclAllReduce", AllReduce);
    library.require("ncclReduce", Reduce);
    library.require("ncclBroadcast", Broadcast);
    library.require("ncclAllGather", AllGather);
    library.require("ncclReduceScatter", ReduceScatter);
    library.require("ncclSend", Send);
    library.require("ncclRecv", Recv);
  });
}

}  // namespace infini::cuda
