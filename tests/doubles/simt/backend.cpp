// simt/backend.cpp -- a backend whose devices are the host executor: the kernels of infinicore/cudalike on
// plain memory, its streams working at once. One library per warp width: simt32, simt64, simt128.
#include <infinicore/cudalike/table.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "dialect.hpp"

namespace infini::cudalike {

void enqueue(Stream, simt::Launch launch) {
  try {
    simt::run(launch);
  } catch (const simt::Error &error) {
    throw Error(INFINI_STATUS_INTERNAL_ERROR, error.what());
  }
}

}  // namespace infini::cudalike

namespace infini {

namespace {

constexpr uint64_t capacity = uint64_t(4) << 30;

// Where allocations begin, and how long they are; as much lies unused before and after each.
constexpr uint64_t around = 256;
std::map<uintptr_t, uint64_t> allocations;
uint64_t used;
std::mutex memory_mutex;

struct Event {
  std::chrono::steady_clock::time_point at;
};

infiniStatus_t device_info(int32_t, infini_device_info *info) {
  std::snprintf(info->name, sizeof(info->name), "host executor, warps of %u", cudalike::warp_width);
  std::snprintf(info->driver, sizeof(info->driver), "none");
  std::snprintf(info->runtime, sizeof(info->runtime), "simt");
  std::snprintf(info->architecture, sizeof(info->architecture), "simt%u", cudalike::warp_width);
  info->memory_bytes = capacity;
  info->compute_units = 1;
  info->warp_width = int32_t(cudalike::warp_width);
  return INFINI_STATUS_SUCCESS;
}

simt::Range find_memory(uintptr_t address) {
  const std::lock_guard<std::mutex> lock(memory_mutex);
  uintptr_t begin = 0, end = UINTPTR_MAX;  // of what is the host's
  auto after = allocations.upper_bound(address);
  if (after != allocations.end()) {
    if (address >= after->first - around) return {after->first - around, after->first, simt::Owner::nobody};
    end = after->first - around;
  }
  if (after != allocations.begin()) {
    const auto [start, bytes] = *--after;
    if (address < start + bytes) return {start, start + bytes, simt::Owner::device};
    begin = start + (bytes + around - 1) / around * around + around;
    if (address < begin) return {start + bytes, begin, simt::Owner::nobody};
  }
  return {begin, end, simt::Owner::host};
}

infiniStatus_t memory_info(uint64_t *free_bytes, uint64_t *total_bytes) {
  const std::lock_guard<std::mutex> lock(memory_mutex);
  *total_bytes = capacity;
  *free_bytes = capacity - used;
  return INFINI_STATUS_SUCCESS;
}

infiniStatus_t allocate(uint64_t bytes, void **out) {
  return guard([&] {
    const uint64_t rounded = (bytes + around - 1) / around * around;
    const std::lock_guard<std::mutex> lock(memory_mutex);
    char *memory = nullptr;
    if (bytes <= capacity - used)
      memory = static_cast<char *>(std::aligned_alloc(around, rounded + 2 * around));
    if (memory == nullptr)
      throw Error(INFINI_STATUS_OUT_OF_MEMORY,
                  "the host executor has no " + std::to_string(bytes) + " bytes");
    *out = memory + around;
    std::memset(*out, 0xff, rounded);  // NaN: what is not written shows
    allocations[reinterpret_cast<uintptr_t>(*out)] = bytes;
    used += bytes;
  });
}

infiniStatus_t release(void *memory) {
  const std::lock_guard<std::mutex> lock(memory_mutex);
  const auto found = allocations.find(reinterpret_cast<uintptr_t>(memory));
  used -= found->second;
  allocations.erase(found);
  std::free(static_cast<char *>(memory) - around);
  return INFINI_STATUS_SUCCESS;
}

infiniStatus_t copy(void *target, const void *source, uint64_t bytes, infinirtMemcpyKind_t) {
  std::memmove(target, source, bytes);
  return INFINI_STATUS_SUCCESS;
}

infiniStatus_t copy_async(void *target, const void *source, uint64_t bytes, infinirtMemcpyKind_t kind,
                          infinirtStream_t) {
  return copy(target, source, bytes, kind);
}

infiniStatus_t fill_async(void *target, int32_t value, uint64_t bytes, infinirtStream_t) {
  std::memset(target, value, bytes);
  return INFINI_STATUS_SUCCESS;
}

// Work is done when it is enqueued, so a stream is only a name.
infiniStatus_t stream_create(uint32_t, infinirtStream_t *out) {
  *out = reinterpret_cast<infinirtStream_t>(new char);
  return INFINI_STATUS_SUCCESS;
}
infiniStatus_t stream_destroy(infinirtStream_t stream) {
  delete reinterpret_cast<char *>(stream);
  return INFINI_STATUS_SUCCESS;
}

infiniStatus_t event_create(uint32_t, infinirtEvent_t *out) {
  *out = reinterpret_cast<infinirtEvent_t>(new Event{});
  return INFINI_STATUS_SUCCESS;
}
infiniStatus_t event_destroy(infinirtEvent_t event) {
  delete reinterpret_cast<Event *>(event);
  return INFINI_STATUS_SUCCESS;
}
infiniStatus_t event_record(infinirtEvent_t event, infinirtStream_t) {
  reinterpret_cast<Event *>(event)->at = std::chrono::steady_clock::now();
  return INFINI_STATUS_SUCCESS;
}
infiniStatus_t event_elapsed(infinirtEvent_t start, infinirtEvent_t end, float *milliseconds) {
  const auto between = reinterpret_cast<Event *>(end)->at - reinterpret_cast<Event *>(start)->at;
  *milliseconds = std::chrono::duration<float, std::milli>(between).count();
  return INFINI_STATUS_SUCCESS;
}

template <class... Arguments> infiniStatus_t nothing(Arguments...) {
  return INFINI_STATUS_SUCCESS;
}

constexpr infini_runtime runtime = {
    INFINI_HEADER(infini_runtime),
    device_info,
    nothing<int32_t>,
    nothing<>,
    memory_info,
    allocate,
    release,
    allocate,
    release,
    nullptr,
    nullptr,
    copy,
    copy_async,
    fill_async,
    stream_create,
    stream_destroy,
    nothing<infinirtStream_t>,
    nothing<infinirtStream_t, infinirtEvent_t>,
    event_create,
    event_destroy,
    event_record,
    nothing<infinirtEvent_t>,
    nothing<infinirtEvent_t>,
    event_elapsed,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
};

infiniStatus_t open(const infini_host *core, int32_t *device_count) {
  host = core;
  simt::set_device_memory(find_memory);
  *device_count = 1;
  return INFINI_STATUS_SUCCESS;
}

}  // namespace

}  // namespace infini

extern "C" {

// In which order threads run between barriers: simt::Order. For tests.
INFINI_EXPORT void infinicore_simt_order(int order);
void infinicore_simt_order(int order) {
  simt::set_order(simt::Order(order));
}

INFINI_EXPORT const infini_backend *infinicore_backend(void) {
  static const auto operators = infini::cudalike::table();
  static const std::string name = "simt" + std::to_string(infini::cudalike::warp_width);
  static const infini_backend table = {
      INFINI_HEADER(infini_backend),
      name.c_str(),
      "infinicore",
      "1",
      -1,  // outside the public enumeration
      12,  // kDLExtDev
      infini::open,
      &infini::runtime,
      nullptr,
      operators.size(),
      operators.data(),
      0,
  };
  return &table;
}
}
