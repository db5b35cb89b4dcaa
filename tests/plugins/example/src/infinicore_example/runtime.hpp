// runtime.hpp -- the runtime table: one device, whose memory is malloc's and whose work is done at once,
// until the vendor's driver is called here. What each member must do is said in <infinicore/abi.h>.
#pragma once
#include <infinicore/plugin.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

namespace example {

using infini::Error;
using infini::guard;  // runs a function, turning what it throws into a status with a message

// [devices]
inline infiniStatus_t set_device(int32_t device) {
  return guard([&] {
    if (device != 0)
      throw Error(INFINI_STATUS_DEVICE_NOT_FOUND, "there is no device " + std::to_string(device));
  });
}

inline infiniStatus_t memory_info(uint64_t *free_bytes, uint64_t *total_bytes) {
  const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  *free_bytes = page * static_cast<uint64_t>(sysconf(_SC_AVPHYS_PAGES));
  *total_bytes = page * static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES));
  return INFINI_STATUS_SUCCESS;
}

inline infiniStatus_t device_info(int32_t, infini_device_info *info) {
  std::snprintf(info->name, sizeof info->name, "Example device");
  std::snprintf(info->architecture, sizeof info->architecture, "host");
  info->compute_units = info->warp_width = 1;
  uint64_t unused;
  return memory_info(&unused, &info->memory_bytes);
}
// [devices]

// [memory]
inline infiniStatus_t allocate(uint64_t bytes, void **out) {
  return guard([&] {
    *out = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (*out == nullptr)
      throw Error(INFINI_STATUS_OUT_OF_MEMORY, "no " + std::to_string(bytes) + " bytes are left");
  });
}

inline infiniStatus_t release(void *memory) {
  std::free(memory);
  return INFINI_STATUS_SUCCESS;
}

inline infiniStatus_t copy(void *target, const void *source, uint64_t bytes, infinirtMemcpyKind_t) {
  std::memmove(target, source, bytes);
  return INFINI_STATUS_SUCCESS;
}

inline infiniStatus_t copy_async(void *target, const void *source, uint64_t bytes, infinirtMemcpyKind_t kind,
                                 infinirtStream_t) {
  return copy(target, source, bytes, kind);
}

inline infiniStatus_t fill(void *target, int32_t value, uint64_t bytes, infinirtStream_t) {
  std::memset(target, value, bytes);
  return INFINI_STATUS_SUCCESS;
}
// [memory]

// [streams]
struct Stream {};
struct Event {
  std::chrono::steady_clock::time_point time;
};

inline infiniStatus_t nothing() {
  return INFINI_STATUS_SUCCESS;
}
inline infiniStatus_t create_stream(uint32_t, infinirtStream_t *out) {
  return guard([&] { *out = new Stream; });
}
inline infiniStatus_t destroy_stream(infinirtStream_t stream) {
  delete static_cast<Stream *>(stream);
  return INFINI_STATUS_SUCCESS;
}
inline infiniStatus_t synchronize_stream(infinirtStream_t) {
  return INFINI_STATUS_SUCCESS;
}
inline infiniStatus_t wait_event(infinirtStream_t, infinirtEvent_t) {
  return INFINI_STATUS_SUCCESS;
}

inline infiniStatus_t create_event(uint32_t, infinirtEvent_t *out) {
  return guard([&] { *out = new Event; });
}
inline infiniStatus_t destroy_event(infinirtEvent_t event) {
  delete static_cast<Event *>(event);
  return INFINI_STATUS_SUCCESS;
}
inline infiniStatus_t record_event(infinirtEvent_t event, infinirtStream_t) {
  static_cast<Event *>(event)->time = std::chrono::steady_clock::now();
  return INFINI_STATUS_SUCCESS;
}
inline infiniStatus_t event_done(infinirtEvent_t) {
  return INFINI_STATUS_SUCCESS;
}
inline infiniStatus_t elapsed(infinirtEvent_t start, infinirtEvent_t end, float *milliseconds) {
  const auto time = static_cast<Event *>(end)->time - static_cast<Event *>(start)->time;
  *milliseconds = std::chrono::duration<float, std::milli>(time).count();
  return INFINI_STATUS_SUCCESS;
}
// [streams]

// [table]
inline constexpr infini_runtime runtime = [] {
  infini_runtime table{};  // members left NULL are optional: core does without them
  table.header = INFINI_HEADER(infini_runtime);
  table.device_info = device_info;
  table.set_device = set_device;
  table.synchronize = nothing;
  table.memory_info = memory_info;
  table.malloc_device = table.malloc_host = allocate;
  table.free_device = table.free_host = release;
  table.memcpy_sync = copy;
  table.memcpy_async = copy_async;
  table.memset_async = fill;
  table.stream_create = create_stream;
  table.stream_destroy = destroy_stream;
  table.stream_synchronize = synchronize_stream;
  table.stream_wait_event = wait_event;
  table.event_create = create_event;
  table.event_destroy = destroy_event;
  table.event_record = record_event;
  table.event_query = table.event_synchronize = event_done;
  table.event_elapsed = elapsed;
  return table;
}();
// [table]

}  // namespace example
