// infinicore/cudalike/runtime.hpp -- the runtime table of every vendor whose SDK is modelled on CUDA's.
// A vendor describes its SDK in a struct; what is written here once works for all of them.
//
// The struct, called Sdk below:
//   prefix                          how its functions begin: "cuda", "musa", "mc", ...
//   Error Stream Event Graph GraphExec                types
//   GetErrorName GetErrorString GetLastError GetDevice SetDevice DeviceSynchronize DeviceGetAttribute
//   MemGetInfo Malloc Free MallocHost FreeHost MallocAsync FreeAsync Memcpy MemcpyAsync MemsetAsync
//   StreamCreateWithFlags StreamDestroy StreamSynchronize StreamWaitEvent StreamBeginCapture StreamEndCapture
//   EventCreateWithFlags EventDestroy EventRecord EventQuery EventSynchronize EventElapsedTime
//   GraphDestroy GraphInstantiate GraphLaunch GraphExecDestroy DeviceCanAccessPeer DeviceEnablePeerAccess
//                                   functions with CUDA's arguments: addresses that the linker knows, or
//                                   pointers that dlsym filled in; all arguments are passed, none defaulted
//   GraphExecUpdate(exec, graph)    as CUDA's, without what describes a failure: that changed in CUDA 12
//   device_info(device, info)       fills in name, driver, runtime, architecture, memory
//   resources(device, out)          fills in what can be measured
//   set_up_device(device)           called once for each device, when a thread first makes it current
// and the numbers of Numbers below, of which it redeclares those that differ.
#pragma once
#include "../plugin.hpp"

#include <atomic>
#include <string>

namespace infini::cudalike {

// CUDA's enumerators, since CUDA 10.1.
struct Numbers {
  static constexpr int success = 0, invalid_value = 1, out_of_memory = 2, unloading = 4,
                       insufficient_driver = 35, no_device = 100, invalid_device = 101, no_kernel_image = 209,
                       invalid_handle = 400, not_ready = 600, peer_access_already_enabled = 704,
                       not_supported = 801, capture_unsupported = 900, graph_update_failure = 910;
  static constexpr int host_to_host = 0, host_to_device = 1, device_to_host = 2, device_to_device = 3;
  static constexpr unsigned event_blocking_sync = 1, event_disable_timing = 2, stream_non_blocking = 1;
  static constexpr int attribute_warp_size = 10, attribute_multiprocessors = 16, attribute_major = 75,
                       attribute_minor = 76, attribute_memory_pools = 115;
};

// What the functions of an SDK return, as a status and as text.
template <class Sdk> infiniStatus_t status_of(typename Sdk::Error error) {
  switch (static_cast<int>(error)) {
    case Sdk::success:
      return INFINI_STATUS_SUCCESS;
    case Sdk::out_of_memory:
      return INFINI_STATUS_OUT_OF_MEMORY;
    case Sdk::not_ready:
      return INFINI_STATUS_NOT_READY;
    case Sdk::insufficient_driver:
      return INFINI_STATUS_UNAVAILABLE;
    case Sdk::no_device:
    case Sdk::invalid_device:
      return INFINI_STATUS_DEVICE_NOT_FOUND;
    case Sdk::no_kernel_image:
      return INFINI_STATUS_DEVICE_ARCHITECTURE_NOT_SUPPORTED;
    case Sdk::invalid_value:
    case Sdk::invalid_handle:
      return INFINI_STATUS_BAD_PARAM;
    case Sdk::not_supported:
    case Sdk::graph_update_failure:
      return INFINI_STATUS_NOT_IMPLEMENTED;
    default:
      return INFINI_STATUS_INTERNAL_ERROR;
  }
}

// Throw what function `call` (without the SDK's prefix) reported, in the SDK's own words.
template <class Sdk> void check(typename Sdk::Error error, const char *call) {
  if (static_cast<int>(error) == Sdk::success) return;
  Sdk::GetLastError();  // or the next kernel launch would be blamed for it
  throw Error(status_of<Sdk>(error), std::string(Sdk::prefix) + call + ": " + Sdk::GetErrorString(error) +
                                         " (" + Sdk::GetErrorName(error) + ")");
}

// Makes a device current until the end of a block.
template <class Sdk> class DeviceGuard {
 public:
  explicit DeviceGuard(int device) {
    check<Sdk>(Sdk::GetDevice(&previous_), "GetDevice");
    if (device == previous_)
      previous_ = -1;
    else
      check<Sdk>(Sdk::SetDevice(device), "SetDevice");
  }
  ~DeviceGuard() {
    if (previous_ >= 0) Sdk::SetDevice(previous_);
  }
  DeviceGuard(const DeviceGuard &) = delete;
  DeviceGuard &operator=(const DeviceGuard &) = delete;

 private:
  int previous_ = -1;
};

template <class Sdk> int attribute(int number, int device) {
  int value = 0;
  check<Sdk>(Sdk::DeviceGetAttribute(&value, static_cast<typename Sdk::DeviceAttribute>(number), device),
             "DeviceGetAttribute");
  return value;
}

template <class Sdk> class Runtime {
  using Stream = typename Sdk::Stream;
  using Event = typename Sdk::Event;
  using Graph = typename Sdk::Graph;
  using GraphExec = typename Sdk::GraphExec;
  using Kind = typename Sdk::MemcpyKind;

  static constexpr int max_devices = 64;  // of which set_up_device remembers that it was called

// Call a function of the SDK, and throw what it reports under its name.
#define INFINI_SDK(function, ...) check<Sdk>(Sdk::function(__VA_ARGS__), #function)

  // What releases a thing at the end of the process comes too late for some SDKs, and that is no error.
  static void released(typename Sdk::Error error, const char *call) {
    if (static_cast<int>(error) != Sdk::unloading) check<Sdk>(error, call);
  }

  static Kind kind_of(infinirtMemcpyKind_t kind) {
    switch (kind) {
      case INFINIRT_MEMCPY_H2H:
        return static_cast<Kind>(Sdk::host_to_host);
      case INFINIRT_MEMCPY_H2D:
        return static_cast<Kind>(Sdk::host_to_device);
      case INFINIRT_MEMCPY_D2H:
        return static_cast<Kind>(Sdk::device_to_host);
      case INFINIRT_MEMCPY_D2D:
        return static_cast<Kind>(Sdk::device_to_device);
    }
    throw Error(INFINI_STATUS_BAD_PARAM, "memcpy: unknown kind " + std::to_string(kind));
  }

  static infiniStatus_t device_info(int32_t device, infini_device_info *info) {
    return guard([&] {
      Sdk::device_info(device, *info);
      info->compute_units = attribute<Sdk>(Sdk::attribute_multiprocessors, device);
      info->warp_width = attribute<Sdk>(Sdk::attribute_warp_size, device);
    });
  }

  static infiniStatus_t set_device(int32_t device) {
    return guard([&] {
      static std::atomic<bool> known[max_devices];
      INFINI_SDK(SetDevice, device);
      if (device < max_devices && !known[device].exchange(true)) Sdk::set_up_device(device);
    });
  }

  static infiniStatus_t synchronize() {
    return guard([] { INFINI_SDK(DeviceSynchronize); });
  }

  static infiniStatus_t memory_info(uint64_t *free_bytes, uint64_t *total_bytes) {
    return guard([&] {
      size_t free = 0, total = 0;
      INFINI_SDK(MemGetInfo, &free, &total);
      *free_bytes = free;
      *total_bytes = total;
    });
  }

  static infiniStatus_t malloc_device(uint64_t bytes, void **out) {
    return guard([&] { INFINI_SDK(Malloc, out, bytes); });
  }

  static infiniStatus_t free_device(void *memory) {
    return guard([&] { released(Sdk::Free(memory), "Free"); });
  }

  static infiniStatus_t malloc_host(uint64_t bytes, void **out) {
    return guard([&] { INFINI_SDK(MallocHost, out, bytes); });
  }

  static infiniStatus_t free_host(void *memory) {
    return guard([&] { released(Sdk::FreeHost(memory), "FreeHost"); });
  }

  // Some devices (of virtual machines, of small boards) have no memory that streams allocate.
  static bool has_memory_pools() {
    static std::atomic<int> known[max_devices];  // 0: not asked yet, 1: no, 2: yes
    int device = 0;
    INFINI_SDK(GetDevice, &device);
    if (device >= max_devices) return attribute<Sdk>(Sdk::attribute_memory_pools, device) != 0;
    if (known[device] == 0) known[device] = attribute<Sdk>(Sdk::attribute_memory_pools, device) != 0 ? 2 : 1;
    return known[device] == 2;
  }

  static infiniStatus_t malloc_async(uint64_t bytes, infinirtStream_t stream, void **out) {
    return guard([&] {
      if (has_memory_pools())
        INFINI_SDK(MallocAsync, out, bytes, static_cast<Stream>(stream));
      else
        INFINI_SDK(Malloc, out, bytes);
    });
  }

  static infiniStatus_t free_async(void *memory, infinirtStream_t stream) {
    return guard([&] {
      if (has_memory_pools())
        return released(Sdk::FreeAsync(memory, static_cast<Stream>(stream)), "FreeAsync");
      released(Sdk::StreamSynchronize(static_cast<Stream>(stream)), "StreamSynchronize");
      released(Sdk::Free(memory), "Free");
    });
  }

  static infiniStatus_t memcpy_sync(void *target, const void *source, uint64_t bytes,
                                    infinirtMemcpyKind_t kind) {
    return guard([&] {
      INFINI_SDK(Memcpy, target, source, bytes, kind_of(kind));
      // From pageable memory, and between devices, the call may return while the bytes are still under way.
      if (kind == INFINIRT_MEMCPY_H2D || kind == INFINIRT_MEMCPY_D2D)
        INFINI_SDK(StreamSynchronize, static_cast<Stream>(nullptr));
    });
  }

  static infiniStatus_t memcpy_async(void *target, const void *source, uint64_t bytes,
                                     infinirtMemcpyKind_t kind, infinirtStream_t stream) {
    return guard(
        [&] { INFINI_SDK(MemcpyAsync, target, source, bytes, kind_of(kind), static_cast<Stream>(stream)); });
  }

  static infiniStatus_t memset_async(void *target, int32_t value, uint64_t bytes, infinirtStream_t stream) {
    return guard([&] { INFINI_SDK(MemsetAsync, target, value, bytes, static_cast<Stream>(stream)); });
  }

  static infiniStatus_t stream_create(uint32_t, infinirtStream_t *out) {
    // Non-blocking: the default stream would otherwise wait for all others, and they for it.
    return guard([&] {
      Stream stream{};
      INFINI_SDK(StreamCreateWithFlags, &stream, Sdk::stream_non_blocking);
      *out = stream;
    });
  }

  static infiniStatus_t stream_destroy(infinirtStream_t stream) {
    return guard([&] { released(Sdk::StreamDestroy(static_cast<Stream>(stream)), "StreamDestroy"); });
  }

  static infiniStatus_t stream_synchronize(infinirtStream_t stream) {
    return guard([&] { INFINI_SDK(StreamSynchronize, static_cast<Stream>(stream)); });
  }

  static infiniStatus_t stream_wait_event(infinirtStream_t stream, infinirtEvent_t event) {
    return guard(
        [&] { INFINI_SDK(StreamWaitEvent, static_cast<Stream>(stream), static_cast<Event>(event), 0); });
  }

  static infiniStatus_t event_create(uint32_t flags, infinirtEvent_t *out) {
    return guard([&] {
      Event event{};
      const unsigned ours = ((flags & INFINIRT_EVENT_DISABLE_TIMING) != 0 ? Sdk::event_disable_timing : 0u) |
                            ((flags & INFINIRT_EVENT_BLOCKING_SYNC) != 0 ? Sdk::event_blocking_sync : 0u);
      INFINI_SDK(EventCreateWithFlags, &event, ours);
      *out = event;
    });
  }

  static infiniStatus_t event_destroy(infinirtEvent_t event) {
    return guard([&] { released(Sdk::EventDestroy(static_cast<Event>(event)), "EventDestroy"); });
  }

  static infiniStatus_t event_record(infinirtEvent_t event, infinirtStream_t stream) {
    return guard([&] { INFINI_SDK(EventRecord, static_cast<Event>(event), static_cast<Stream>(stream)); });
  }

  static infiniStatus_t event_query(infinirtEvent_t event) {
    infiniStatus_t answer = INFINI_STATUS_SUCCESS;
    const infiniStatus_t status = guard([&] {
      const typename Sdk::Error error = Sdk::EventQuery(static_cast<Event>(event));
      if (static_cast<int>(error) != Sdk::not_ready) return check<Sdk>(error, "EventQuery");
      Sdk::GetLastError();  // "not ready" is no error, though some SDKs remember it as one
      answer = INFINI_STATUS_NOT_READY;
    });
    return status == INFINI_STATUS_SUCCESS ? answer : status;
  }

  static infiniStatus_t event_synchronize(infinirtEvent_t event) {
    return guard([&] { INFINI_SDK(EventSynchronize, static_cast<Event>(event)); });
  }

  static infiniStatus_t event_elapsed(infinirtEvent_t start, infinirtEvent_t end, float *milliseconds) {
    return guard([&] {
      INFINI_SDK(EventElapsedTime, milliseconds, static_cast<Event>(start), static_cast<Event>(end));
    });
  }

  static infiniStatus_t capture_begin(infinirtStream_t stream, infinirtStreamCaptureMode_t mode) {
    return guard([&] {  // the modes have CUDA's numbers
      INFINI_SDK(StreamBeginCapture, static_cast<Stream>(stream),
                 static_cast<typename Sdk::CaptureMode>(mode));
    });
  }

  static infiniStatus_t capture_end(infinirtStream_t stream, infinirtGraph_t *out) {
    return guard([&] {
      Graph graph{};
      INFINI_SDK(StreamEndCapture, static_cast<Stream>(stream), &graph);
      *out = graph;
    });
  }

  static infiniStatus_t graph_destroy(infinirtGraph_t graph) {
    return guard([&] { released(Sdk::GraphDestroy(static_cast<Graph>(graph)), "GraphDestroy"); });
  }

  static infiniStatus_t graph_instantiate(infinirtGraph_t graph, infinirtGraphExec_t *out) {
    return guard([&] {
      GraphExec exec{};
      INFINI_SDK(GraphInstantiate, &exec, static_cast<Graph>(graph), 0);
      *out = exec;
    });
  }

  static infiniStatus_t graph_launch(infinirtGraphExec_t exec, infinirtStream_t stream) {
    return guard([&] { INFINI_SDK(GraphLaunch, static_cast<GraphExec>(exec), static_cast<Stream>(stream)); });
  }

  static infiniStatus_t graph_exec_destroy(infinirtGraphExec_t exec) {
    return guard([&] { released(Sdk::GraphExecDestroy(static_cast<GraphExec>(exec)), "GraphExecDestroy"); });
  }

  static infiniStatus_t graph_update(infinirtGraphExec_t exec, infinirtGraph_t graph) {
    return guard(
        [&] { INFINI_SDK(GraphExecUpdate, static_cast<GraphExec>(exec), static_cast<Graph>(graph)); });
  }

  static infiniStatus_t resources(int32_t device, infini_resources *out) {
    return guard([&] { Sdk::resources(device, *out); });
  }

  // Whoever asks means to use it: where devices reach each other, that is switched on at once.
  static infiniStatus_t can_access_peer(int32_t device, int32_t peer, int32_t *out) {
    return guard([&] {
      int possible = device == peer;
      if (device != peer) INFINI_SDK(DeviceCanAccessPeer, &possible, device, peer);
      *out = possible;
      if (possible == 0 || device == peer) return;
      const DeviceGuard<Sdk> current(device);
      const typename Sdk::Error error = Sdk::DeviceEnablePeerAccess(peer, 0);
      if (static_cast<int>(error) == Sdk::peer_access_already_enabled)
        Sdk::GetLastError();
      else
        check<Sdk>(error, "DeviceEnablePeerAccess");
    });
  }

#undef INFINI_SDK

 public:
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

}  // namespace infini::cudalike
