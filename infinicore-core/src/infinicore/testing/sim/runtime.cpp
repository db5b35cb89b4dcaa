// sim/runtime.cpp -- the runtime table of the simulated accelerator.
// Each function finds the object that a handle or an address stands for and calls it; see device.hpp.
#include "device.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace infini::sim {

namespace {

constexpr size_t PAGE = 4096;

// Pinned host memory: transfers from and to it are asynchronous, others wait, as on hardware.
class PinnedMemory {
 public:
  void *allocate(uint64_t bytes) {
    void *address = std::aligned_alloc(PAGE, (bytes + PAGE - 1) / PAGE * PAGE);
    if (address == nullptr)
      throw Error(INFINI_STATUS_OUT_OF_MEMORY,
                  "no " + std::to_string(bytes) + " bytes of pinned host memory");
    const std::lock_guard<std::mutex> lock(mutex);
    blocks[static_cast<char *>(address)] = bytes;
    return address;
  }

  void release(void *address) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (blocks.erase(static_cast<char *>(address)) == 0)
      throw Error(INFINI_STATUS_BAD_PARAM, "freed host memory that malloc_host did not return");
    std::free(address);
  }

  bool contains(const void *address, uint64_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex);
    const char *begin = static_cast<const char *>(address);
    auto block = blocks.upper_bound(const_cast<char *>(begin));
    if (block == blocks.begin()) return false;
    --block;
    return begin + bytes <= block->first + block->second;
  }

 private:
  std::mutex mutex;
  std::map<char *, uint64_t> blocks;
};

PinnedMemory &pinned() {
  static auto *memory = new PinnedMemory;  // never destroyed, like the vendors
  return *memory;
}

// One end of a copy, as the device's threads address it.
void *reach(Vendor &vendor, const void *address, uint64_t bytes, bool on_device) {
  Device *owner = vendor.owner(address);
  if (on_device && owner == nullptr)
    throw Error(INFINI_STATUS_BAD_PARAM, std::string("copy: an address is not memory of ") + vendor.name);
  if (!on_device && owner != nullptr)
    throw Error(INFINI_STATUS_BAD_PARAM,
                "copy: an address of " + owner->name + " stands where the host's should");
  return on_device ? owner->memory.reach(address, bytes) : const_cast<void *>(address);
}

void copy(Vendor &vendor, Stream &stream, void *target, const void *source, uint64_t bytes,
          infinirtMemcpyKind_t kind) {
  if (kind < INFINIRT_MEMCPY_H2H || kind > INFINIRT_MEMCPY_D2D)
    throw Error(INFINI_STATUS_BAD_PARAM, "copy: unknown kind " + std::to_string(kind));
  if (bytes == 0) return;
  const bool to_device = kind == INFINIRT_MEMCPY_H2D || kind == INFINIRT_MEMCPY_D2D;
  const bool from_device = kind == INFINIRT_MEMCPY_D2H || kind == INFINIRT_MEMCPY_D2D;
  void *to = reach(vendor, target, bytes, to_device);
  const void *from = reach(vendor, source, bytes, from_device);
  // The caller may change a pageable source at once: it is staged. A captured copy reads it at each replay.
  std::shared_ptr<std::vector<char>> staged;
  if (!from_device && !stream.captured() && !pinned().contains(source, bytes)) {
    staged = std::make_shared<std::vector<char>>(static_cast<const char *>(from),
                                                 static_cast<const char *>(from) + bytes);
    from = staged->data();
  }
  stream.enqueue([=](const Failure &earlier) {
    if (!earlier) std::memmove(to, from, bytes);
    (void)staged;
  });
}

// A table's string member: cut, never left without its end.
template <size_t N> void put(char (&target)[N], const std::string &text) {
  std::snprintf(target, N, "%s", text.c_str());
}

// The functions of one vendor's library.
template <int V> struct Runtime {
  static Vendor &vendor() { return vendors[V]; }

  static infiniStatus_t device_info(int32_t index, infini_device_info *info) {
    return guard([&] {
      Device &device = vendor().device(index);
      put(info->name, std::string(vendor().label) + " accelerator");
      put(info->driver, "simulated");
      put(info->runtime, "threads");
      put(info->architecture, "sim");
      info->memory_bytes = device.memory.capacity;
      info->compute_units = static_cast<int32_t>(std::max(1u, std::thread::hardware_concurrency()));
      info->warp_width = 1;
    });
  }

  static infiniStatus_t set_device(int32_t index) {
    return guard([&] { vendor().set_current(index); });
  }

  static infiniStatus_t synchronize() {
    return guard([] { vendor().current().synchronize(); });
  }

  static infiniStatus_t memory_info(uint64_t *free_bytes, uint64_t *total_bytes) {
    return guard([&] {
      *free_bytes = vendor().current().memory.free_bytes();
      *total_bytes = vendor().current().memory.capacity;
    });
  }

  static infiniStatus_t malloc_device(uint64_t bytes, void **out) {
    return guard([&] {
      vendor().forbid("malloc_device");
      *out = vendor().current().memory.allocate(bytes);
    });
  }

  // Waits for the device first, as drivers do: work that still uses the memory was enqueued before.
  static infiniStatus_t free_device(void *memory) {
    return guard([&] {
      vendor().forbid("free_device");
      Device *owner = vendor().owner(memory);
      if (owner == nullptr)
        throw Error(INFINI_STATUS_BAD_PARAM,
                    std::string("freed an address that is not memory of ") + vendor().name);
      for (const auto &stream : owner->streams())
        if (!stream->captured()) stream->drain();
      owner->memory.release(memory);
    });
  }

  static infiniStatus_t malloc_host(uint64_t bytes, void **out) {
    return guard([&] {
      vendor().forbid("malloc_host");
      *out = pinned().allocate(bytes);
    });
  }

  static infiniStatus_t free_host(void *memory) {
    return guard([&] {
      vendor().forbid("free_host");
      pinned().release(memory);
    });
  }

  // The address is known at once; the stream's order says when it may be used.
  static infiniStatus_t malloc_async(uint64_t bytes, infinirtStream_t stream, void **out) {
    return guard([&] {
      vendor().forbid("malloc_async");
      *out = vendor().stream(stream).device.memory.allocate(bytes);
    });
  }

  static infiniStatus_t free_async(void *memory, infinirtStream_t stream) {
    return guard([&] {
      vendor().forbid("free_async");
      Device &device = vendor().stream(stream).device;
      device.memory.reach(memory, 1);
      if (vendor().stream(stream).captured())
        throw Error(INFINI_STATUS_BAD_PARAM, "free_async: a replay would free the memory again");
      vendor().stream(stream).enqueue([&device, memory](const Failure &) { device.memory.release(memory); });
    });
  }

  static infiniStatus_t memcpy_sync(void *target, const void *source, uint64_t bytes,
                                    infinirtMemcpyKind_t kind) {
    return guard([&] {
      vendor().forbid("memcpy_sync");
      Stream &stream = *vendor().current().standard;
      copy(vendor(), stream, target, source, bytes, kind);
      stream.synchronize();
    });
  }

  static infiniStatus_t memcpy_async(void *target, const void *source, uint64_t bytes,
                                     infinirtMemcpyKind_t kind, infinirtStream_t handle) {
    return guard([&] {
      Stream &stream = vendor().stream(handle);
      copy(vendor(), stream, target, source, bytes, kind);
      if (kind == INFINIRT_MEMCPY_D2H && !stream.captured() && !pinned().contains(target, bytes))
        stream.drain();  // nobody could tell when a pageable target is filled
    });
  }

  static infiniStatus_t memset_async(void *target, int32_t value, uint64_t bytes, infinirtStream_t handle) {
    return guard([&] {
      Stream &stream = vendor().stream(handle);
      if (bytes == 0) return;
      void *to = reach(vendor(), target, bytes, true);
      stream.enqueue([=](const Failure &earlier) {
        if (!earlier) std::memset(to, value, bytes);
      });
    });
  }

  static infiniStatus_t stream_create(uint32_t, infinirtStream_t *out) {
    return guard([&] { *out = vendor().current().create_stream().get(); });
  }

  static infiniStatus_t stream_destroy(infinirtStream_t stream) {
    return guard([&] {
      if (stream == nullptr)
        throw Error(INFINI_STATUS_NULL_POINTER, "the default stream cannot be destroyed");
      vendor().stream(stream).close();
    });
  }

  static infiniStatus_t stream_synchronize(infinirtStream_t stream) {
    return guard([&] { vendor().stream(stream).synchronize(); });
  }

  static infiniStatus_t stream_wait_event(infinirtStream_t stream, infinirtEvent_t event) {
    return guard([&] { wait_event(vendor().stream(stream), *static_cast<Event *>(event)); });
  }

  static infiniStatus_t event_create(uint32_t flags, infinirtEvent_t *out) {
    return guard([&] {
      if (flags & ~static_cast<uint32_t>(INFINIRT_EVENT_DISABLE_TIMING | INFINIRT_EVENT_BLOCKING_SYNC))
        throw Error(INFINI_STATUS_BAD_PARAM, "unknown event flags " + std::to_string(flags));
      *out = new Event(flags);
    });
  }

  static infiniStatus_t event_destroy(infinirtEvent_t event) {
    delete static_cast<Event *>(event);
    return INFINI_STATUS_SUCCESS;
  }

  static infiniStatus_t event_record(infinirtEvent_t event, infinirtStream_t stream) {
    return guard([&] { record_event(*static_cast<Event *>(event), vendor().stream(stream)); });
  }

  // What the event last recorded; NULL if nothing, which counts as reached.
  static std::shared_ptr<Record> record_of(infinirtEvent_t handle, const char *caller) {
    vendor().forbid(caller);
    Event &event = *static_cast<Event *>(handle);
    const std::lock_guard<std::mutex> lock(event.mutex);
    if (event.capture)
      throw Error(INFINI_STATUS_BAD_PARAM, std::string(caller) + ": the event was recorded into a capture");
    return event.record;
  }

  static infiniStatus_t event_query(infinirtEvent_t event) {
    infiniStatus_t answer = INFINI_STATUS_SUCCESS;
    const infiniStatus_t status = guard([&] {
      const auto record = record_of(event, "event_query");
      if (record && !record->reached()) answer = INFINI_STATUS_NOT_READY;
    });
    return status != INFINI_STATUS_SUCCESS ? status : answer;
  }

  static infiniStatus_t event_synchronize(infinirtEvent_t event) {
    return guard([&] {
      if (const auto record = record_of(event, "event_synchronize")) record->wait();
    });
  }

  static infiniStatus_t event_elapsed(infinirtEvent_t start, infinirtEvent_t end, float *milliseconds) {
    return guard([&] {
      for (infinirtEvent_t event : {start, end})
        if (static_cast<Event *>(event)->flags & INFINIRT_EVENT_DISABLE_TIMING)
          throw Error(INFINI_STATUS_BAD_PARAM,
                      "event_elapsed: an event was created with its timing disabled");
      const auto first = record_of(start, "event_elapsed"), second = record_of(end, "event_elapsed");
      if (!first || !second)
        throw Error(INFINI_STATUS_BAD_PARAM, "event_elapsed: an event was never recorded");
      if (!first->reached() || !second->reached())
        throw Error(INFINI_STATUS_NOT_READY, "event_elapsed: an event is not reached yet");
      *milliseconds = std::chrono::duration<float, std::milli>(second->time() - first->time()).count();
    });
  }

  static infiniStatus_t capture_begin(infinirtStream_t stream, infinirtStreamCaptureMode_t mode) {
    return guard([&] { begin_capture(vendor().stream(stream), mode); });
  }

  static infiniStatus_t capture_end(infinirtStream_t stream, infinirtGraph_t *out) {
    return guard([&] { *out = new Graph(end_capture(vendor().stream(stream))); });
  }

  static infiniStatus_t graph_destroy(infinirtGraph_t graph) {
    delete static_cast<Graph *>(graph);
    return INFINI_STATUS_SUCCESS;
  }

  static infiniStatus_t graph_instantiate(infinirtGraph_t graph, infinirtGraphExec_t *out) {
    return guard([&] { *out = new Graph(*static_cast<Graph *>(graph)); });
  }

  static infiniStatus_t graph_launch(infinirtGraphExec_t exec, infinirtStream_t stream) {
    return guard([&] {
      if (exec == nullptr) throw Error(INFINI_STATUS_NULL_POINTER, "graph_launch: there is no graph");
      vendor().stream(stream).enqueue([graph = *static_cast<Graph *>(exec)](const Failure &earlier) {
        Failure failure = earlier;
        for (const Task &task : *graph) failure = attempt(task, failure);
        if (failure && !earlier) throw *failure;
      });
    });
  }

  static infiniStatus_t graph_exec_destroy(infinirtGraphExec_t exec) { return graph_destroy(exec); }

  // As on hardware, what may change is what the steps are given, not how many there are.
  static infiniStatus_t graph_update(infinirtGraphExec_t exec, infinirtGraph_t graph) {
    return guard([&] {
      Graph &old = *static_cast<Graph *>(exec);
      const Graph &now = *static_cast<Graph *>(graph);
      if (old->size() != now->size())
        throw Error(INFINI_STATUS_NOT_IMPLEMENTED,
                    "graph_update: the graph has " + std::to_string(now->size()) +
                        " steps, but the executable one " + std::to_string(old->size()));
      old = now;
    });
  }

  static infiniStatus_t resources(int32_t index, infini_resources *out) {
    return guard([&] {
      Device &device = vendor().device(index);
      const std::chrono::duration<double, std::nano> open = Clock::now() - device.opened;
      out->memory_total_bytes = device.memory.capacity;
      out->memory_used_bytes = device.memory.capacity - device.memory.free_bytes();
      out->kernel_time_ratio = std::min(1.0, static_cast<double>(device.kernel_nanoseconds) / open.count());
      out->valid = 1u << 0 | 1u << 1 | 1u << 4;
    });
  }

  static infiniStatus_t can_access_peer(int32_t device, int32_t peer, int32_t *out) {
    return guard([&] {
      vendor().device(device);
      vendor().device(peer);
      *out = 1;
    });
  }

  static constexpr infini_runtime table = {
      INFINI_HEADER(infini_runtime),
      device_info,
      set_device,
      synchronize,
      memory_info,
      malloc_device,
      free_device,
      malloc_host,
      free_host,
      malloc_async,
      free_async,
      memcpy_sync,
      memcpy_async,
      memset_async,
      stream_create,
      stream_destroy,
      stream_synchronize,
      stream_wait_event,
      event_create,
      event_destroy,
      event_record,
      event_query,
      event_synchronize,
      event_elapsed,
      capture_begin,
      capture_end,
      graph_destroy,
      graph_instantiate,
      graph_launch,
      graph_exec_destroy,
      resources,
      can_access_peer,
      graph_update,
  };
};

}  // namespace

const infini_runtime *runtime_table(int vendor) {
  return vendor == 0 ? &Runtime<0>::table : &Runtime<1>::table;
}

}  // namespace infini::sim
