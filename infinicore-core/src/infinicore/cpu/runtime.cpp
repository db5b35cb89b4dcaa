// runtime.cpp -- the runtime table of the CPU backend: memory, copies, events, and facts about the machine.
// Everything executes at once on the calling thread and the pool, so a stream is only a token.
#include "runtime.hpp"

#include "isa.hpp"
#include "stream.hpp"
#include "thread_pool.hpp"

#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <mutex>

namespace infini::cpu {

const char *instruction_set = "generic";

namespace {

constexpr uint64_t kHugePage = uint64_t(2) << 20;
constexpr int64_t kCopyGrain = int64_t(256) << 10;  // bytes per thread: some ten microseconds
constexpr uint64_t kNearBytes = uint64_t(1) << 20;  // what a core's own cache may hold
constexpr int kMaxDevices = 64;

thread_local int32_t current_device = 0;

void require(const void *pointer, const char *function, const char *argument) {
  if (pointer == nullptr)
    throw Error(INFINI_STATUS_NULL_POINTER, std::string("cpu ") + function + ": " + argument + " is NULL");
}

void check_device(int32_t device, const char *function) {
  if (device < 0 || device >= device_count())
    throw Error(INFINI_STATUS_DEVICE_NOT_FOUND, std::string("cpu ") + function + ": device " +
                                                    std::to_string(device) + " does not exist, there are " +
                                                    std::to_string(device_count()));
}

// ---- facts about the machine -----------------------------------------------------------------------

// The text after the first line of `path` that starts with `key`, from past its colon; "" when there is none.
std::string field(const char *path, const char *key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (line.rfind(key, 0) == 0) {
      size_t start = line.find_first_not_of(" \t", line.find(':') + 1);
      return start == std::string::npos ? "" : line.substr(start);
    }
  return "";
}

// A number alone in a file; `otherwise` when the file is missing or says "max".
uint64_t number(const std::string &path, uint64_t otherwise) {
  std::ifstream file(path);
  uint64_t value;
  return file >> value ? value : otherwise;
}

struct Memory {
  uint64_t free, total;
};

// What the system has, or what the control group allows where that is less.
Memory memory() {
  uint64_t total = std::strtoull(field("/proc/meminfo", "MemTotal:").c_str(), nullptr, 10) << 10;
  uint64_t free = std::strtoull(field("/proc/meminfo", "MemAvailable:").c_str(), nullptr, 10) << 10;
  std::string group = "/sys/fs/cgroup" + [] {
    std::ifstream file("/proc/self/cgroup");
    for (std::string line; std::getline(file, line);)
      if (line.rfind("0::", 0) == 0) return line.substr(3);
    return std::string();
  }();
  // In a container the group's own folder may be mounted as the root.
  if (access((group + "/memory.max").c_str(), R_OK) != 0) group = "/sys/fs/cgroup";
  uint64_t limit = number(group + "/memory.max", UINT64_MAX);
  if (limit < total) {
    uint64_t used = number(group + "/memory.current", 0);
    total = limit;
    free = std::min(free, limit > used ? limit - used : 0);
  }
  return {free, total};
}

template <size_t size> void put(char (&target)[size], const std::string &text) {
  std::snprintf(target, size, "%s", text.c_str());
}

infiniStatus_t device_info(int32_t device, infini_device_info *info) {
  return guard([&] {
    require(info, "device_info", "info");
    check_device(device, "device_info");
    infini_device_info facts{};
    utsname system{};
    uname(&system);
    std::string model = field("/proc/cpuinfo", "model name");
    std::string architecture = instruction_set;
    if (architecture == "generic")
      architecture = std::string(system.machine) == "x86_64" ? "x86-64-v2" : system.machine;
    else
      std::replace(architecture.begin(), architecture.end(), '_', '-'), architecture.replace(0, 6, "x86-64");
    put(facts.name, model.empty() ? system.machine : model);
    put(facts.driver, std::string(system.sysname) + " " + system.release);
    put(facts.runtime, "infinicore " INFINI_VERSION);
    put(facts.architecture, architecture);
    facts.memory_bytes = memory().total;
    facts.compute_units = num_threads();
    facts.warp_width = 1;
    // The caller may have been compiled with a shorter struct than ours.
    size_t size = std::min<size_t>(info->header.struct_size, sizeof(facts));
    if (size > sizeof(info->header))
      std::memcpy(reinterpret_cast<char *>(info) + sizeof(info->header),
                  reinterpret_cast<const char *>(&facts) + sizeof(info->header), size - sizeof(info->header));
  });
}

infiniStatus_t set_device(int32_t device) {
  return guard([&] {
    check_device(device, "set_device");
    current_device = device;
  });
}

infiniStatus_t synchronize() {
  return INFINI_STATUS_SUCCESS;
}

infiniStatus_t memory_info(uint64_t *free_bytes, uint64_t *total_bytes) {
  return guard([&] {
    require(free_bytes, "memory_info", "free_bytes");
    require(total_bytes, "memory_info", "total_bytes");
    Memory now = memory();
    *free_bytes = now.free;
    *total_bytes = now.total;
  });
}

// Share of processor time that was not idle since the last call (the first: since the machine started).
double utilization() {
  static std::mutex mutex;
  static uint64_t last_busy = 0, last_total = 0;
  std::ifstream file("/proc/stat");
  std::string label;
  uint64_t total = 0, idle = 0, value;
  file >> label;
  for (int column = 0; column < 8 && file >> value; ++column) {
    total += value;
    if (column == 3 || column == 4) idle += value;  // idle, waiting for input or output
  }
  std::lock_guard<std::mutex> lock(mutex);
  uint64_t busy = total - idle, span = total - last_total;
  double share = span > 0 ? double(busy - last_busy) / double(span) : 0.0;
  if (span > 0) last_busy = busy, last_total = total;
  return std::min(std::max(share, 0.0), 1.0);
}

infiniStatus_t resources(int32_t device, infini_resources *out) {
  return guard([&] {
    require(out, "resources", "out");
    check_device(device, "resources");
    Memory now = memory();
    out->valid = 7;  // the first three members
    out->memory_used_bytes = now.total - std::min(now.free, now.total);
    out->memory_total_bytes = now.total;
    out->compute_utilization = utilization();
  });
}

infiniStatus_t can_access_peer(int32_t device, int32_t peer, int32_t *out) {
  return guard([&] {
    require(out, "can_access_peer", "out");
    check_device(device, "can_access_peer");
    check_device(peer, "can_access_peer");
    *out = 1;
  });
}

// ---- memory ------------------------------------------------------------------------------------------

infiniStatus_t allocate(uint64_t bytes, void **out) {
  return guard([&] {
    require(out, "malloc", "out");
    // More than the machine has would be granted and then end the process when it is written to.
    static const uint64_t total = memory().total;
    void *memory_ = nullptr;
    bool large = bytes >= kHugePage;
    if (bytes > total ||
        posix_memalign(&memory_, large ? kHugePage : 64, std::max<uint64_t>(bytes, 1)) != 0) {
      Memory now = memory();
      throw Error(INFINI_STATUS_OUT_OF_MEMORY, "cpu: out of memory: " + std::to_string(bytes) +
                                                   " bytes asked for, " + std::to_string(now.free) + " of " +
                                                   std::to_string(now.total) + " bytes are free");
    }
#if defined(MADV_HUGEPAGE)
    // Advice only: without it a page fault every 4 KiB costs more than most kernels. Length in whole pages,
    // since the last one may be shared with the allocator's bookkeeping.
    if (large) madvise(memory_, bytes & ~uint64_t(4095), MADV_HUGEPAGE);
#endif
    *out = memory_;
  });
}

infiniStatus_t release(void *memory) {
  std::free(memory);
  return INFINI_STATUS_SUCCESS;
}

// ---- copies ------------------------------------------------------------------------------------------

infiniStatus_t copy(void *target, const void *source, uint64_t bytes, infinirtMemcpyKind_t) {
  return guard([&] {
    if (bytes == 0 || target == source) return;
    require(target, "memcpy", "target");
    require(source, "memcpy", "source");
    auto to = static_cast<char *>(target);
    auto from = static_cast<const char *>(source);
    if (to < from + bytes && from < to + bytes) {  // overlapping: the one order that is right
      std::memmove(target, source, bytes);
      return;
    }
    bool stream = int64_t(bytes) >= INFINI_ISA::kStreamBytes;
    parallel_for(0, int64_t(bytes), kCopyGrain, [&](int64_t begin, int64_t end) {
      if (stream) {
        INFINI_ISA::stream_copy(to + begin, from + begin, end - begin);
        INFINI_ISA::stream_fence();
      } else {
        std::memcpy(to + begin, from + begin, size_t(end - begin));
      }
    });
  });
}

infiniStatus_t copy_async(void *target, const void *source, uint64_t bytes, infinirtMemcpyKind_t kind,
                          infinirtStream_t) {
  return copy(target, source, bytes, kind);
}

infiniStatus_t set(void *target, int32_t value, uint64_t bytes, infinirtStream_t) {
  return guard([&] {
    if (bytes == 0) return;
    require(target, "memset", "target");
    auto to = static_cast<char *>(target);
    bool stream = int64_t(bytes) >= INFINI_ISA::kStreamBytes;
    alignas(64) char line[64];
    std::memset(line, value, sizeof(line));
    parallel_for(0, int64_t(bytes), kCopyGrain, [&](int64_t begin, int64_t end) {
      if (stream) {
        INFINI_ISA::stream_fill(to + begin, uint8_t(value), end - begin);
        INFINI_ISA::stream_fence();
      } else if (bytes > kNearBytes) {
        INFINI_ISA::repeat(to + begin, line, end - begin);
      } else {
        std::memset(to + begin, value, size_t(end - begin));
      }
    });
  });
}

// ---- streams and events --------------------------------------------------------------------------------

struct Stream {
  uint32_t flags;
};

struct Event {
  uint32_t flags;
  bool recorded = false;
  std::chrono::steady_clock::time_point time{};
  explicit Event(uint32_t flags) : flags(flags) {}
};

infiniStatus_t stream_create(uint32_t flags, infinirtStream_t *out) {
  return guard([&] {
    require(out, "stream_create", "out");
    *out = new Stream{flags};
  });
}

infiniStatus_t stream_destroy(infinirtStream_t stream) {
  delete static_cast<Stream *>(stream);
  return INFINI_STATUS_SUCCESS;
}

infiniStatus_t stream_synchronize(infinirtStream_t) {
  return INFINI_STATUS_SUCCESS;
}

// Everything before the record is done already.
infiniStatus_t stream_wait_event(infinirtStream_t, infinirtEvent_t event) {
  return guard([&] { require(event, "stream_wait_event", "event"); });
}

infiniStatus_t event_create(uint32_t flags, infinirtEvent_t *out) {
  return guard([&] {
    require(out, "event_create", "out");
    *out = new Event(flags);
  });
}

infiniStatus_t event_destroy(infinirtEvent_t event) {
  delete static_cast<Event *>(event);
  return INFINI_STATUS_SUCCESS;
}

infiniStatus_t event_record(infinirtEvent_t event, infinirtStream_t) {
  return guard([&] {
    require(event, "event_record", "event");
    auto self = static_cast<Event *>(event);
    self->time = std::chrono::steady_clock::now();
    self->recorded = true;
  });
}

infiniStatus_t event_query(infinirtEvent_t event) {
  return guard([&] { require(event, "event_query", "event"); });
}

infiniStatus_t event_synchronize(infinirtEvent_t event) {
  return guard([&] { require(event, "event_synchronize", "event"); });
}

infiniStatus_t event_elapsed(infinirtEvent_t start, infinirtEvent_t end, float *milliseconds) {
  return guard([&] {
    require(start, "event_elapsed", "start");
    require(end, "event_elapsed", "end");
    require(milliseconds, "event_elapsed", "milliseconds");
    auto from = static_cast<const Event *>(start), to = static_cast<const Event *>(end);
    for (const Event *event : {from, to}) {
      const char *which = event == from ? "start" : "end";
      if (event->flags & INFINIRT_EVENT_DISABLE_TIMING)
        throw Error(INFINI_STATUS_BAD_PARAM,
                    std::string("cpu event_elapsed: ") + which + " was created with timing disabled");
      if (!event->recorded)
        throw Error(INFINI_STATUS_BAD_PARAM,
                    std::string("cpu event_elapsed: ") + which + " was never recorded");
    }
    *milliseconds = std::chrono::duration<float, std::milli>(to->time - from->time).count();
  });
}

}  // namespace

int device_count() {
  static const int count = [] {
    const char *text = std::getenv("INFINICORE_CPU_DEVICES");
    if (text == nullptr || *text == '\0') return 1;
    char *end = nullptr;
    long value = std::strtol(text, &end, 10);
    if (*end != '\0' || value < 1 || value > kMaxDevices)
      throw Error(INFINI_STATUS_BAD_PARAM, "INFINICORE_CPU_DEVICES is '" + std::string(text) +
                                               "': expected a number from 1 to " +
                                               std::to_string(kMaxDevices));
    return int(value);
  }();
  return count;
}

// No stream-ordered allocation and no graphs: core has both on top of the rest.
const infini_runtime runtime = [] {
  infini_runtime table{};
  table.header = infini_header INFINI_HEADER(infini_runtime);
  table.device_info = device_info;
  table.set_device = set_device;
  table.synchronize = synchronize;
  table.memory_info = memory_info;
  table.malloc_device = allocate;
  table.free_device = release;
  table.malloc_host = allocate;
  table.free_host = release;
  table.memcpy_sync = copy;
  table.memcpy_async = copy_async;
  table.memset_async = set;
  table.stream_create = stream_create;
  table.stream_destroy = stream_destroy;
  table.stream_synchronize = stream_synchronize;
  table.stream_wait_event = stream_wait_event;
  table.event_create = event_create;
  table.event_destroy = event_destroy;
  table.event_record = event_record;
  table.event_query = event_query;
  table.event_synchronize = event_synchronize;
  table.event_elapsed = event_elapsed;
  table.resources = resources;
  table.can_access_peer = can_access_peer;
  return table;
}();

}  // namespace infini::cpu
