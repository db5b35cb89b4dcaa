// capi/runtime.cpp -- libinfinirt's public functions: each acts on the thread's device through its runtime
// table.
#include "graph.hpp"
#include "registry.hpp"

#include <infinirt.h>

#include <cstdio>

namespace infini::capi {
namespace {

infiniStatus_t null_pointer(const char *function, const char *argument) {
  return fail(INFINI_STATUS_NULL_POINTER, std::string(function) + ": " + argument + " is NULL");
}

// Call `body(runtime)` with this thread's device active.
template <class Body> infiniStatus_t on_device(Body &&body) {
  infini_entry *entry;
  int32_t device;
  const infiniStatus_t status = current(&entry, &device);
  return status == INFINI_STATUS_SUCCESS ? body(runtime(entry)) : status;
}

// Call `body(runtime)` with another device active, and this thread's own again afterwards.
template <class Body> infiniStatus_t on_other(infiniDevice_t number, int device, Body &&body) {
  infini_entry *mine, *entry;
  int32_t my_device;
  infiniStatus_t status = current(&mine, &my_device);
  if (status != INFINI_STATUS_SUCCESS) return status;
  const auto *registry = infini_registry();
  if ((entry = registry->by_device(int32_t(number), &status)) == nullptr) return status;
  status = registry->activate(entry, device);
  if (status == INFINI_STATUS_SUCCESS) status = body(runtime(entry));
  const std::string message = status == INFINI_STATUS_SUCCESS ? "" : last_message();
  registry->activate(mine, my_device);
  return status == INFINI_STATUS_SUCCESS ? status : fail(status, message);
}

}  // namespace
}  // namespace infini::capi

using namespace infini::capi;

#define REQUIRE(pointer) \
  if ((pointer) == nullptr) return null_pointer(__func__, #pointer)

extern "C" {

// ---- devices
// -----------------------------------------------------------------------------------------------

infiniStatus_t infinirtInit(void) {
  infini_entry *entry;
  int32_t device;
  return current(&entry, &device);
}

infiniStatus_t infinirtGetDeviceCount(infiniDevice_t number, int *count) {
  REQUIRE(count);
  infiniStatus_t status = INFINI_STATUS_SUCCESS;
  const infini_entry *entry = infini_registry()->by_device(int32_t(number), &status);
  *count = entry == nullptr ? 0 : device_count(entry);
  const bool known = entry != nullptr || (number >= 0 && number < INFINI_DEVICE_TYPE_COUNT);
  return known ? INFINI_STATUS_SUCCESS : status;  // no device is no error: the message still says why
}

infiniStatus_t infinirtGetAllDeviceCount(int *count_array) {
  REQUIRE(count_array);
  for (int number = 0; number < INFINI_DEVICE_TYPE_COUNT; ++number)
    if (auto status = infinirtGetDeviceCount(static_cast<infiniDevice_t>(number), count_array + number))
      return status;
  return INFINI_STATUS_SUCCESS;
}

infiniStatus_t infinirtSetDevice(infiniDevice_t number, int device_id) {
  infiniStatus_t status = INFINI_STATUS_SUCCESS;
  infini_entry *entry = infini_registry()->by_device(int32_t(number), &status);
  return entry == nullptr ? status : choose(entry, device_id);
}

infiniStatus_t infinirtGetDevice(infiniDevice_t *device_ptr, int *device_id_ptr) {
  infini_entry *entry;
  int32_t device;
  if (auto status = current(&entry, &device)) return status;
  if (device_ptr) *device_ptr = static_cast<infiniDevice_t>(number(entry));
  if (device_id_ptr) *device_id_ptr = device;
  return INFINI_STATUS_SUCCESS;
}

infiniStatus_t infinirtGetMemInfo(infiniDevice_t device, int device_id, size_t *free_bytes,
                                  size_t *total_bytes) {
  REQUIRE(free_bytes);
  REQUIRE(total_bytes);
  return on_other(device, device_id, [&](const infini_runtime &runtime) {
    uint64_t free = 0, total = 0;
    const infiniStatus_t status = runtime.memory_info(&free, &total);
    *free_bytes = size_t(free);
    *total_bytes = size_t(total);
    return status;
  });
}

infiniStatus_t infinirtGetDeviceResourceSnapshot(infiniDevice_t device, int device_id,
                                                 infinirtDeviceResourceSnapshot_t *snapshot) {
  REQUIRE(snapshot);
  *snapshot = {};
  return on_other(device, device_id, [&](const infini_runtime &runtime) {
    uint64_t free = 0, total = 0;
    if (auto status = runtime.memory_info(&free, &total)) return status;
    snapshot->valid_fields = INFINIRT_RESOURCE_FIELD_MEMORY_CAPACITY;
    snapshot->free_bytes = size_t(free);
    snapshot->total_bytes = size_t(total);
    if (runtime.resources == nullptr) return INFINI_STATUS_SUCCESS;
    infini_resources found{};
    found.header = infini_header INFINI_HEADER(infini_resources);
    if (auto status = runtime.resources(device_id, &found)) return status;
    // Bit i of `valid` is the i-th member; the first two are the memory's.
    const auto take = [&](int bit, double value, double &target, uint64_t field) {
      if (!(found.valid >> bit & 1)) return;
      target = value;
      snapshot->valid_fields |= field;
    };
    take(2, found.compute_utilization, snapshot->compute_utilization,
         INFINIRT_RESOURCE_FIELD_COMPUTE_UTILIZATION);
    take(3, found.memory_bandwidth_utilization, snapshot->memory_bandwidth_utilization,
         INFINIRT_RESOURCE_FIELD_MEMORY_BANDWIDTH_UTILIZATION);
    take(4, found.kernel_time_ratio, snapshot->kernel_time_ratio, INFINIRT_RESOURCE_FIELD_KERNEL_TIME_RATIO);
    take(5, found.communication_bytes_per_second, snapshot->communication_bytes_per_second,
         INFINIRT_RESOURCE_FIELD_COMMUNICATION);
    return INFINI_STATUS_SUCCESS;
  });
}

infiniStatus_t infinirtDeviceSynchronize(void) {
  return on_device([](const infini_runtime &runtime) { return runtime.synchronize(); });
}

// ---- streams and events
// ------------------------------------------------------------------------------------

infiniStatus_t infinirtStreamCreate(infinirtStream_t *stream_ptr) {
  REQUIRE(stream_ptr);
  return on_device([&](const infini_runtime &runtime) { return runtime.stream_create(0, stream_ptr); });
}

infiniStatus_t infinirtStreamDestroy(infinirtStream_t stream) {
  if (stream == nullptr) return INFINI_STATUS_SUCCESS;
  return on_device([&](const infini_runtime &runtime) { return runtime.stream_destroy(stream); });
}

infiniStatus_t infinirtStreamSynchronize(infinirtStream_t stream) {
  return on_device([&](const infini_runtime &runtime) { return runtime.stream_synchronize(stream); });
}

infiniStatus_t infinirtStreamWaitEvent(infinirtStream_t stream, infinirtEvent_t event) {
  REQUIRE(event);
  return on_device([&](const infini_runtime &runtime) {
    return enqueue(stream,
                   [=, &runtime](infinirtStream_t on) { return runtime.stream_wait_event(on, event); });
  });
}

infiniStatus_t infinirtEventCreateWithFlags(infinirtEvent_t *event_ptr, uint32_t flags) {
  REQUIRE(event_ptr);
  return on_device([&](const infini_runtime &runtime) { return runtime.event_create(flags, event_ptr); });
}

infiniStatus_t infinirtEventCreate(infinirtEvent_t *event_ptr) {
  return infinirtEventCreateWithFlags(event_ptr, INFINIRT_EVENT_DEFAULT);
}

infiniStatus_t infinirtEventRecord(infinirtEvent_t event, infinirtStream_t stream) {
  REQUIRE(event);
  return on_device([&](const infini_runtime &runtime) {
    return enqueue(stream, [=, &runtime](infinirtStream_t on) { return runtime.event_record(event, on); });
  });
}

infiniStatus_t infinirtEventQuery(infinirtEvent_t event, infinirtEventStatus_t *status_ptr) {
  REQUIRE(event);
  REQUIRE(status_ptr);
  return on_device([&](const infini_runtime &runtime) {
    const infiniStatus_t status = runtime.event_query(event);
    if (status == INFINI_STATUS_SUCCESS || status == INFINI_STATUS_NOT_READY) {
      *status_ptr = status == INFINI_STATUS_SUCCESS ? INFINIRT_EVENT_COMPLETE : INFINIRT_EVENT_NOT_READY;
      return INFINI_STATUS_SUCCESS;
    }
    return status;
  });
}

infiniStatus_t infinirtEventSynchronize(infinirtEvent_t event) {
  REQUIRE(event);
  return on_device([&](const infini_runtime &runtime) { return runtime.event_synchronize(event); });
}

infiniStatus_t infinirtEventDestroy(infinirtEvent_t event) {
  if (event == nullptr) return INFINI_STATUS_SUCCESS;
  return on_device([&](const infini_runtime &runtime) { return runtime.event_destroy(event); });
}

infiniStatus_t infinirtEventElapsedTime(float *ms_ptr, infinirtEvent_t start, infinirtEvent_t end) {
  REQUIRE(ms_ptr);
  REQUIRE(start);
  REQUIRE(end);
  return on_device([&](const infini_runtime &runtime) { return runtime.event_elapsed(start, end, ms_ptr); });
}

// ---- memory
// ------------------------------------------------------------------------------------------------

infiniStatus_t infinirtMalloc(void **p_ptr, size_t size) {
  REQUIRE(p_ptr);
  *p_ptr = nullptr;
  if (size == 0) return INFINI_STATUS_SUCCESS;
  return on_device([&](const infini_runtime &runtime) { return runtime.malloc_device(size, p_ptr); });
}

infiniStatus_t infinirtMallocHost(void **p_ptr, size_t size) {
  REQUIRE(p_ptr);
  *p_ptr = nullptr;
  if (size == 0) return INFINI_STATUS_SUCCESS;
  return on_device([&](const infini_runtime &runtime) { return runtime.malloc_host(size, p_ptr); });
}

infiniStatus_t infinirtFree(void *ptr) {
  if (ptr == nullptr) return INFINI_STATUS_SUCCESS;
  return on_device([&](const infini_runtime &runtime) { return runtime.free_device(ptr); });
}

infiniStatus_t infinirtFreeHost(void *ptr) {
  if (ptr == nullptr) return INFINI_STATUS_SUCCESS;
  return on_device([&](const infini_runtime &runtime) { return runtime.free_host(ptr); });
}

infiniStatus_t infinirtMallocAsync(void **p_ptr, size_t size, infinirtStream_t stream) {
  REQUIRE(p_ptr);
  *p_ptr = nullptr;
  if (size == 0) return INFINI_STATUS_SUCCESS;
  return on_device([&](const infini_runtime &runtime) {
    return runtime.malloc_async ? runtime.malloc_async(size, stream, p_ptr)
                                : runtime.malloc_device(size, p_ptr);
  });
}

infiniStatus_t infinirtFreeAsync(void *ptr, infinirtStream_t stream) {
  if (ptr == nullptr) return INFINI_STATUS_SUCCESS;
  return on_device([&](const infini_runtime &runtime) {
    if (runtime.free_async) return runtime.free_async(ptr, stream);
    // Work that still uses it must be over first.
    const infiniStatus_t status = runtime.stream_synchronize(stream);
    return status == INFINI_STATUS_SUCCESS ? runtime.free_device(ptr) : status;
  });
}

infiniStatus_t infinirtMemcpy(void *dst, const void *src, size_t size, infinirtMemcpyKind_t kind) {
  if (size == 0) return INFINI_STATUS_SUCCESS;
  REQUIRE(dst);
  REQUIRE(src);
  return on_device([&](const infini_runtime &runtime) { return runtime.memcpy_sync(dst, src, size, kind); });
}

infiniStatus_t infinirtMemcpyAsync(void *dst, const void *src, size_t size, infinirtMemcpyKind_t kind,
                                   infinirtStream_t stream) {
  if (size == 0) return INFINI_STATUS_SUCCESS;
  REQUIRE(dst);
  REQUIRE(src);
  return on_device([&](const infini_runtime &runtime) {
    return enqueue(stream, [=, &runtime](infinirtStream_t on) {
      return runtime.memcpy_async(dst, src, size, kind, on);
    });
  });
}

infiniStatus_t infinirtMemsetAsync(void *ptr, int value, size_t count, infinirtStream_t stream) {
  if (count == 0) return INFINI_STATUS_SUCCESS;
  REQUIRE(ptr);
  return on_device([&](const infini_runtime &runtime) {
    return enqueue(
        stream, [=, &runtime](infinirtStream_t on) { return runtime.memset_async(ptr, value, count, on); });
  });
}

infiniStatus_t infinirtMemset(void *ptr, int value, size_t count) {
  if (count == 0) return INFINI_STATUS_SUCCESS;
  REQUIRE(ptr);
  return on_device([&](const infini_runtime &runtime) {
    const infiniStatus_t status = runtime.memset_async(ptr, value, count, nullptr);
    return status == INFINI_STATUS_SUCCESS ? runtime.stream_synchronize(nullptr) : status;
  });
}

// ---- graphs
// ------------------------------------------------------------------------------------------------

infiniStatus_t infinirtStreamBeginCapture(infinirtStream_t stream, infinirtStreamCaptureMode_t mode) {
  return on_device([&](const infini_runtime &runtime) {
    return runtime.capture_begin ? runtime.capture_begin(stream, mode) : record_begin(stream);
  });
}

infiniStatus_t infinirtStreamEndCapture(infinirtStream_t stream, infinirtGraph_t *graph_ptr) {
  REQUIRE(graph_ptr);
  return on_device([&](const infini_runtime &runtime) {
    return runtime.capture_end ? runtime.capture_end(stream, graph_ptr) : record_end(stream, graph_ptr);
  });
}

infiniStatus_t infinirtGraphDestroy(infinirtGraph_t graph) {
  if (graph == nullptr) return INFINI_STATUS_SUCCESS;
  return on_device([&](const infini_runtime &runtime) {
    return runtime.graph_destroy ? runtime.graph_destroy(graph) : record_destroy(graph);
  });
}

infiniStatus_t infinirtGraphInstantiate(infinirtGraphExec_t *graph_exec_ptr, infinirtGraph_t graph,
                                        infinirtGraphNode_t *node_ptr, char *log_buffer, size_t buffer_size) {
  REQUIRE(graph_exec_ptr);
  REQUIRE(graph);
  if (node_ptr) *node_ptr = nullptr;  // plug-ins do not say which node failed
  const infiniStatus_t status = on_device([&](const infini_runtime &runtime) {
    return runtime.graph_instantiate ? runtime.graph_instantiate(graph, graph_exec_ptr)
                                     : record_instantiate(graph, graph_exec_ptr);
  });
  if (log_buffer && buffer_size)
    std::snprintf(log_buffer, buffer_size, "%s", status == INFINI_STATUS_SUCCESS ? "" : last_message());
  return status;
}

infiniStatus_t infinirtGraphExecDestroy(infinirtGraphExec_t graph_exec) {
  if (graph_exec == nullptr) return INFINI_STATUS_SUCCESS;
  return on_device([&](const infini_runtime &runtime) {
    return runtime.graph_exec_destroy ? runtime.graph_exec_destroy(graph_exec) : record_destroy(graph_exec);
  });
}

infiniStatus_t infinirtGraphLaunch(infinirtGraphExec_t graph_exec, infinirtStream_t stream) {
  REQUIRE(graph_exec);
  return on_device([&](const infini_runtime &runtime) {
    return runtime.graph_launch ? runtime.graph_launch(graph_exec, stream)
                                : record_launch(graph_exec, stream);
  });
}

infiniStatus_t infinirtGraphLuanch(infinirtGraphExec_t graph_exec, infinirtStream_t stream) {
  return infinirtGraphLaunch(graph_exec, stream);
}
}
