// doubles/cuda/runtime.cpp -- libcudart of the CUDA double: devices, memory, streams, events and graphs on
// the CPU. Device memory faults when the host touches it; a wrong pointer, kind or handle is the error that
// CUDA gives.
#include "device.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

using namespace double_cuda;

struct CUgraphNode_st {
  Node kind;
  Make make;
};
struct CUstream_st;
struct CUgraph_st {
  std::vector<CUgraphNode_st> nodes;
  bool broken = false;
  CUstream_st *origin = nullptr;  // whose capture it is
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread;
};
struct CUgraphExec_st {
  std::vector<CUgraphNode_st> nodes;
};
struct CUstream_st {
  int device = 0;
  std::deque<Step> queue;
  uint64_t queued = 0, done = 0;
  bool busy = false;  // a step of it is being run
  CUgraph_st *capture = nullptr;
  uint64_t captured = 0, joined = 0;  // nodes of the capture, and how many of them its origin waits for
};
struct CUevent_st {
  unsigned flags = 0;
  int device = 0;
  CUstream_st *stream = nullptr;
  uint64_t target = 0;                                          // reached when the stream has done so much
  std::shared_ptr<double> when = std::make_shared<double>(-1);  // milliseconds
  CUgraph_st *capture = nullptr;
  bool captured = false;  // recorded last while its stream was: it marks no point in time
};

namespace double_cuda {

std::mutex mutex;
std::condition_variable changed;
double patience = 20;

namespace {

constexpr int max_devices = 8;
constexpr size_t arena_bytes = size_t(8) << 30;
constexpr unsigned blocking_sync = 1, disable_timing = 2, non_blocking = 1;

struct Fault {
  std::string function;
  long calls;  // until it happens
  int error;
};

struct Block {
  size_t first;  // bytes
  int second;    // device
  bool pooled;   // of a stream-ordered pool, which alone takes it back on a stream
};

struct Machine {
  int running = 0;  // the device of the step that runs
  int devices = 2, driver = 13000, pools = 1, capability = 90;
  const int runtime = 13000;
  size_t memory = size_t(2) << 30;  // of each device
  std::vector<Fault> faults;
  int lost[max_devices] = {};  // the error that a device has for ever
  size_t used[max_devices] = {};
  CUstream_st standard[max_devices];
  std::set<CUstream_st *> streams;
  std::set<CUevent_st *> events;
  std::map<char *, Block> memory_blocks;
  std::map<char *, std::pair<size_t, int>> pinned;  // address -> size, device
  std::set<std::pair<int, int>> peers;
  std::map<std::string, int> live;
  char *arena = nullptr;
  int open = 0;  // steps that run now: only then may memory be touched

  Machine() {
    arena = static_cast<char *>(
        mmap(nullptr, arena_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    for (int d = 0; d < max_devices; ++d) standard[d].device = d;
    if (const char *text = std::getenv("CUDA_DOUBLE")) configure(text);
  }

  // "devices=2 driver=12020 pools=0 memory=1000000 fail=cudaMalloc:3:2": the third call from now
  // returns 2; a fault given twice hits the next call, too. "forget=faults" takes back what has not happened.
  void configure(const std::string &text) {
    size_t at = 0;
    while (at < text.size()) {
      const size_t end = std::min(text.find(' ', at), text.size()), equals = text.find('=', at);
      const std::string key = text.substr(at, equals - at), value = text.substr(equals + 1, end - equals - 1);
      if (key == "devices") devices = std::stoi(value);
      if (key == "driver") driver = std::stoi(value);
      if (key == "pools") pools = std::stoi(value);
      if (key == "capability") capability = std::stoi(value);
      if (key == "memory") memory = std::stoull(value);
      if (key == "patience") patience = std::stod(value);
      if (key == "forget") faults.clear();
      if (key == "fail") {
        const size_t one = value.find(':'), two = value.find(':', one + 1);
        faults.push_back(
            {value.substr(0, one), std::stol(value.substr(one + 1)), std::stoi(value.substr(two + 1))});
      }
      at = end + 1;
    }
  }
};

Machine &machine() {
  static auto *made = new Machine;  // never destroyed: calls come until the process ends
  return *made;
}

thread_local int device_of_thread = 0;
thread_local cudaError_t last_error = cudaSuccess;

double now() {
  using namespace std::chrono;
  return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

// Between these two the device works, and its memory exists.
struct Opened {
  Opened() {
    if (machine().open++ == 0) mprotect(machine().arena, arena_bytes, PROT_READ | PROT_WRITE);
  }
  ~Opened() {
    if (--machine().open == 0) mprotect(machine().arena, arena_bytes, PROT_NONE);
  }
};

CUstream_st *resolve(cudaStream_t stream) {
  if (stream == nullptr) return &machine().standard[device_of_thread];
  return machine().streams.count(stream) != 0 ? stream : nullptr;
}

// Ask the first step of a stream once. True when it went on.
bool advance(CUstream_st &stream) {
  if (stream.busy || stream.queue.empty()) return false;
  if (machine().lost[stream.device] != 0) {  // a lost device drops its work
    stream.done += stream.queue.size();
    stream.queue.clear();
    return true;
  }
  stream.busy = true;
  int result = 0;
  {
    const Opened opened;
    machine().running = stream.device;
    result = stream.queue.front()();
  }
  stream.busy = false;
  if (result == pending) return false;
  stream.queue.pop_front();
  ++stream.done;
  if (result != 0 && machine().lost[stream.device] == 0) machine().lost[stream.device] = result;
  changed.notify_all();
  return true;
}

// Let all streams work until one has done so much.
cudaError_t finish(CUstream_st &stream, uint64_t target, std::unique_lock<std::mutex> &lock) {
  while (stream.done < target) {
    bool went_on = advance(stream);
    if (!went_on) {
      std::vector<CUstream_st *> all(machine().streams.begin(), machine().streams.end());
      for (auto &standard : machine().standard) all.push_back(&standard);
      for (CUstream_st *other : all)
        if (other != &stream) went_on = advance(*other) || went_on;
    }
    if (!went_on &&
        changed.wait_for(lock, std::chrono::duration<double>(patience)) == std::cv_status::timeout) {
      machine().lost[stream.device] = cudaErrorLaunchTimeout;
      std::fprintf(stderr, "CUDA double: a stream waits for what never comes\n");
    }
  }
  return static_cast<cudaError_t>(machine().lost[stream.device]);
}

cudaError_t drain(int device, std::unique_lock<std::mutex> &lock) {
  std::vector<CUstream_st *> all{&machine().standard[device]};
  for (CUstream_st *stream : machine().streams)
    if (stream->device == device && stream->capture == nullptr) all.push_back(stream);
  for (CUstream_st *stream : all) finish(*stream, stream->queued, lock);
  return static_cast<cudaError_t>(machine().lost[device]);
}

// A block that holds all of these bytes.
template <class Blocks> bool inside(const Blocks &blocks, const void *memory, size_t bytes) {
  const char *address = static_cast<const char *>(memory);
  auto after = blocks.upper_bound(const_cast<char *>(address));
  if (after == blocks.begin()) return false;
  --after;
  return address + bytes <= after->first + after->second.first;
}

bool in_arena(const void *memory) {
  const char *address = static_cast<const char *>(memory);
  return address >= machine().arena && address < machine().arena + arena_bytes;
}

// The first gap in the arena; 512 bytes lie between blocks, so that none runs into the next unseen.
char *allocate(size_t bytes, int device, bool pooled = false) {
  if (machine().used[device] + bytes > machine().memory) return nullptr;
  char *place = machine().arena;
  for (const auto &[start, block] : machine().memory_blocks) {
    if (place + bytes + 512 <= start) break;
    place = start + (block.first + 1023) / 512 * 512;
  }
  if (place + bytes > machine().arena + arena_bytes) return nullptr;
  machine().memory_blocks[place] = {bytes, device, pooled};
  machine().used[device] += bytes;
  count("memory", 1);
  const Opened opened;
  std::memset(place, 0xff, std::min(bytes, size_t(1) << 20));  // NaN: what is not written shows
  return place;
}

bool release(void *memory) {
  const auto found = machine().memory_blocks.find(static_cast<char *>(memory));
  if (found == machine().memory_blocks.end()) return false;
  machine().used[found->second.second] -= found->second.first;
  // Whole pages go back to the system; neighbours may live in the first and the last one.
  const uintptr_t address = reinterpret_cast<uintptr_t>(found->first),
                  page = uintptr_t(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = (address + page - 1) / page * page,
                  end = (address + found->second.first) / page * page;
  if (begin < end) madvise(reinterpret_cast<void *>(begin), end - begin, MADV_DONTNEED);
  machine().memory_blocks.erase(found);
  count("memory", -1);
  return true;
}

// Is this a pointer that a copy of this kind may have on this side?
bool legal(const void *memory, size_t bytes, bool device) {
  return device ? on_device(memory, bytes) : memory != nullptr && !in_arena(memory);
}

cudaError_t check_copy(void *target, const void *source, size_t bytes, cudaMemcpyKind kind) {
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  return legal(target, bytes, to_device) && legal(source, bytes, from_device) ? cudaSuccess
                                                                              : cudaErrorInvalidValue;
}

// A copy as a step: pageable memory is read at once, everything else when the stream comes to it.
Make copy_step(void *target, const void *source, size_t bytes, cudaMemcpyKind kind) {
  if (kind == cudaMemcpyHostToDevice && !inside(machine().pinned, source, bytes)) {
    const auto staged = std::make_shared<std::string>(static_cast<const char *>(source), bytes);
    return [=] { return [=] { return std::memcpy(target, staged->data(), bytes), 0; }; };
  }
  return [=] { return [=] { return std::memmove(target, source, bytes), 0; }; };
}

// What every function does first and last.
template <class Body> cudaError_t api(const char *name, Body &&body) {
  std::unique_lock<std::mutex> lock(mutex);
  cudaError_t error = static_cast<cudaError_t>(injected(name));
  if (error == cudaSuccess) error = static_cast<cudaError_t>(machine().lost[device_of_thread]);
  if (error == cudaSuccess) error = body(lock);
  if (error != cudaSuccess) last_error = error;
  return error;
}

}  // namespace

cudaError_t enqueue(cudaStream_t handle, Make make, Node kind) {
  CUstream_st *stream = resolve(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (stream->capture != nullptr) {
    stream->capture->nodes.push_back({kind, std::move(make)});
    ++stream->captured;
    return cudaSuccess;
  }
  stream->queue.push_back(make());
  ++stream->queued;
  changed.notify_all();
  return cudaSuccess;
}

bool on_device(const void *memory, size_t bytes) {
  return inside(machine().memory_blocks, memory, bytes);
}

int current_device() {
  return device_of_thread;
}

void count(const char *what, int change) {
  machine().live[what] += change;
}

int injected(const char *function) {
  for (auto fault = machine().faults.begin(); fault != machine().faults.end(); ++fault)
    if (fault->function == function && --fault->calls == 0) {
      const int error = fault->error;
      machine().faults.erase(fault);
      return error;
    }
  return 0;
}

}  // namespace double_cuda

#define DOUBLE_API extern "C" __attribute__((visibility("default")))

// ---- what tests steer it by
// ----------------------------------------------------------------------------------

DOUBLE_API void cuda_double_configure(const char *text) {
  const std::lock_guard<std::mutex> lock(mutex);
  machine().configure(text);
}

// How many of these are alive: "memory", "pinned", "stream", "event", "graph", "exec", "communicator",
// "cublasLt"; and how often these happened: "heuristic", "matmul", "update".
DOUBLE_API int cuda_double_live(const char *what) {
  const std::lock_guard<std::mutex> lock(mutex);
  return machine().live[what];
}

// Whose memory an address is, and from where to where: the host's (0), a live allocation's (1), or that of a
// device which is in none (2), or in one that the running device cannot reach. Asked by a kernel that runs,
// so with `mutex` held.
DOUBLE_API int cuda_double_range(uintptr_t address, uintptr_t *begin, uintptr_t *end) {
  const auto number = [](const void *pointer) { return reinterpret_cast<uintptr_t>(pointer); };
  const uintptr_t arena = number(machine().arena);
  const bool before = address < arena;
  *begin = before ? 0 : arena + arena_bytes;
  *end = before ? arena : UINTPTR_MAX;
  if (before || address >= arena + arena_bytes) return 0;
  auto after = machine().memory_blocks.upper_bound(reinterpret_cast<char *>(address));
  *begin = arena;
  *end = after == machine().memory_blocks.end() ? arena + arena_bytes : number(after->first);
  if (after == machine().memory_blocks.begin()) return 2;
  --after;
  const uintptr_t start = number(after->first), past = start + after->second.first;
  *begin = address < past ? start : past;
  if (address < past) *end = past;
  // Another device's memory exists for those that were made its peers.
  const int owner = after->second.second, running = machine().running;
  const bool reachable = owner == running || machine().peers.count({running, owner}) != 0;
  return address < past && reachable ? 1 : 2;
}

// How many faults have not happened yet.
DOUBLE_API int cuda_double_pending() {
  const std::lock_guard<std::mutex> lock(mutex);
  return static_cast<int>(machine().faults.size());
}

// A kernel of the plug-in's: `run` returns 0, or the error that the device has from then on.
DOUBLE_API cudaError_t cuda_double_launch(cudaStream_t stream, int (*run)(void *), void (*destroy)(void *),
                                          void *kernel) {
  const std::shared_ptr<void> held(kernel, destroy);
  return api("cudaLaunchKernel", [&](auto &) {
    if (const CUstream_st *joined = resolve(stream); joined != nullptr && joined->device != device_of_thread)
      return cudaErrorInvalidResourceHandle;  // kernels run on the current device
    const int later = injected("kernel");
    return enqueue(stream, [=] { return [=] { return later != 0 ? later : run(held.get()); }; });
  });
}

// ---- the CUDA runtime
// ----------------------------------------------------------------------------------------

namespace {

struct Text {
  cudaError_t error;
  const char *name, *text;
};
constexpr Text TEXTS[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorLaunchTimeout, "cudaErrorLaunchTimeout", "the launch timed out and was terminated"},
    {cudaErrorPeerAccessAlreadyEnabled, "cudaErrorPeerAccessAlreadyEnabled",
     "peer access is already enabled"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
     "capture was not ended in the same stream as it began"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation",
     "dependency created on uncaptured work in another stream"},
    {cudaErrorCapturedEvent, "cudaErrorCapturedEvent",
     "operation not permitted on an event last recorded in a capturing stream"},
    {cudaErrorGraphExecUpdateFailure, "cudaErrorGraphExecUpdateFailure",
     "the graph update was not performed because it included changes which violated constraints specific to "
     "instantiated graph update"},
};
const Text &text_of(cudaError_t error) {
  static constexpr Text unknown = {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"};
  for (const Text &text : TEXTS)
    if (text.error == error) return text;
  return unknown;
}

cudaError_t valid_device(int device) {
  return device >= 0 && device < machine().devices ? cudaSuccess : cudaErrorInvalidDevice;
}

// Waiting for a stream that records a graph is an error, and spoils the graph.
cudaError_t may_wait(CUstream_st *stream) {
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (stream->capture == nullptr) return cudaSuccess;
  stream->capture->broken = true;
  return cudaErrorStreamCaptureUnsupported;
}

// Nor may one wait for all of a device.
cudaError_t may_wait_for_all(int device) {
  cudaError_t error = cudaSuccess;
  for (CUstream_st *stream : machine().streams)
    if (stream->device == device && stream->capture != nullptr) error = may_wait(stream);
  return error;
}

// What may wait for the device (memory that is allocated, copies that the host waits for) is refused unless
// the captures that are under way were begun as relaxed ones, or, thread-local, by other threads.
cudaError_t may_be_unsafe() {
  cudaError_t error = cudaSuccess;
  for (CUstream_st *stream : machine().streams) {
    CUgraph_st *graph = stream->capture;
    if (graph == nullptr || graph->mode == cudaStreamCaptureModeRelaxed) continue;
    if (graph->mode == cudaStreamCaptureModeThreadLocal && graph->thread != std::this_thread::get_id())
      continue;
    error = may_wait(stream);
  }
  return error;
}

}  // namespace

#define CHECKED(expression) \
  if (const cudaError_t failed = (expression); failed != cudaSuccess) return failed

DOUBLE_API const char *cudaGetErrorName(cudaError_t error) {
  return text_of(error).name;
}
DOUBLE_API const char *cudaGetErrorString(cudaError_t error) {
  return text_of(error).text;
}
DOUBLE_API cudaError_t cudaGetLastError() {
  return std::exchange(last_error, cudaSuccess);
}
DOUBLE_API cudaError_t cudaDriverGetVersion(int *version) {
  *version = machine().driver;
  return cudaSuccess;
}
DOUBLE_API cudaError_t cudaRuntimeGetVersion(int *version) {
  *version = machine().runtime;
  return cudaSuccess;
}
DOUBLE_API cudaError_t cudaGetDeviceCount(int *count) {
  return api("cudaGetDeviceCount", [&](auto &) {
    *count = machine().devices;
    return machine().driver / 1000 < machine().runtime / 1000 ? cudaErrorInsufficientDriver
           : machine().devices == 0                           ? cudaErrorNoDevice
                                                              : cudaSuccess;
  });
}
DOUBLE_API cudaError_t cudaGetDevice(int *device) {
  *device = device_of_thread;
  return cudaSuccess;
}
DOUBLE_API cudaError_t cudaSetDevice(int device) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (const cudaError_t error = valid_device(device); error != cudaSuccess) return last_error = error;
  device_of_thread = device;
  return cudaSuccess;
}
DOUBLE_API cudaError_t cudaDeviceSynchronize() {
  return api("cudaDeviceSynchronize", [&](auto &lock) {
    CHECKED(may_wait_for_all(device_of_thread));
    return drain(device_of_thread, lock);
  });
}
DOUBLE_API cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device) {
  return api("cudaDeviceGetAttribute", [&](auto &) {
    CHECKED(valid_device(device));
    switch (attribute) {
      case cudaDevAttrMaxThreadsPerBlock:
        return *value = 1024, cudaSuccess;
      case cudaDevAttrMaxSharedMemoryPerBlock:
        return *value = 48 << 10, cudaSuccess;
      case cudaDevAttrWarpSize:
        return *value = 32, cudaSuccess;
      case cudaDevAttrMultiProcessorCount:
        return *value = 4, cudaSuccess;
      case cudaDevAttrComputeCapabilityMajor:
        return *value = machine().capability / 10, cudaSuccess;
      case cudaDevAttrComputeCapabilityMinor:
        return *value = machine().capability % 10, cudaSuccess;
      case cudaDevAttrMemoryPoolsSupported:
        return *value = machine().pools, cudaSuccess;
    }
    return cudaErrorInvalidValue;
  });
}
DOUBLE_API cudaError_t cudaDeviceGetPCIBusId(char *bus, int length, int device) {
  return api("cudaDeviceGetPCIBusId", [&](auto &) {
    CHECKED(valid_device(device));
    std::snprintf(bus, static_cast<size_t>(length), "0000:%02X:00.0", device + 1);
    return cudaSuccess;
  });
}
DOUBLE_API cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer) {
  return api("cudaDeviceCanAccessPeer", [&](auto &) {
    CHECKED(valid_device(device));
    CHECKED(valid_device(peer));
    *can = device != peer;
    return cudaSuccess;
  });
}
DOUBLE_API cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags) {
  return api("cudaDeviceEnablePeerAccess", [&](auto &) {
    CHECKED(valid_device(peer));
    if (flags != 0 || peer == device_of_thread) return cudaErrorInvalidValue;
    return machine().peers.insert({device_of_thread, peer}).second ? cudaSuccess
                                                                   : cudaErrorPeerAccessAlreadyEnabled;
  });
}
DOUBLE_API cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *pool, int device) {
  return api("cudaDeviceGetDefaultMemPool", [&](auto &) {
    CHECKED(valid_device(device));
    if (machine().pools == 0) return cudaErrorNotSupported;
    *pool = reinterpret_cast<cudaMemPool_t>(&machine().used[device]);
    return cudaSuccess;
  });
}
DOUBLE_API cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void *value) {
  return api("cudaMemPoolSetAttribute", [&](auto &) {
    return pool != nullptr && attribute == cudaMemPoolAttrReleaseThreshold && value != nullptr
               ? cudaSuccess
               : cudaErrorInvalidValue;
  });
}

DOUBLE_API cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
  return api("cudaMemGetInfo", [&](auto &) {
    *total = machine().memory;
    *free = machine().memory - machine().used[device_of_thread];
    return cudaSuccess;
  });
}
DOUBLE_API cudaError_t cudaMalloc(void **memory, size_t bytes) {
  return api("cudaMalloc", [&](auto &) {
    CHECKED(may_be_unsafe());
    *memory = allocate(bytes, device_of_thread);
    return *memory != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
  });
}
DOUBLE_API cudaError_t cudaFree(void *memory) {
  return api("cudaFree", [&](auto &lock) {
    if (memory == nullptr) return cudaSuccess;
    CHECKED(may_be_unsafe());
    CHECKED(drain(device_of_thread, lock));
    return release(memory) ? cudaSuccess : cudaErrorInvalidValue;
  });
}
DOUBLE_API cudaError_t cudaMallocHost(void **memory, size_t bytes) {
  return api("cudaMallocHost", [&](auto &) {
    CHECKED(may_be_unsafe());
    *memory = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (*memory == nullptr) return cudaErrorMemoryAllocation;
    machine().pinned[static_cast<char *>(*memory)] = {bytes, device_of_thread};
    count("pinned", 1);
    return cudaSuccess;
  });
}
DOUBLE_API cudaError_t cudaFreeHost(void *memory) {
  return api("cudaFreeHost", [&](auto &lock) {
    CHECKED(may_be_unsafe());
    CHECKED(drain(device_of_thread, lock));
    if (machine().pinned.erase(static_cast<char *>(memory)) == 0) return cudaErrorInvalidValue;
    std::free(memory);
    count("pinned", -1);
    return cudaSuccess;
  });
}
DOUBLE_API cudaError_t cudaMallocAsync(void **memory, size_t bytes, cudaStream_t stream) {
  return api("cudaMallocAsync", [&](auto &) {
    if (resolve(stream) == nullptr) return cudaErrorInvalidResourceHandle;
    if (machine().pools == 0) return cudaErrorNotSupported;
    *memory = allocate(bytes, resolve(stream)->device, true);
    return *memory != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
  });
}
DOUBLE_API cudaError_t cudaFreeAsync(void *memory, cudaStream_t stream) {
  return api("cudaFreeAsync", [&](auto &) {
    const auto block = machine().memory_blocks.find(static_cast<char *>(memory));
    if (block == machine().memory_blocks.end() || !block->second.pooled) return cudaErrorInvalidValue;
    if (machine().pools == 0) return cudaErrorNotSupported;
    const auto step = [=] { return release(memory) ? 0 : static_cast<int>(cudaErrorIllegalAddress); };
    return enqueue(
        stream, [=] { return step; }, Node::free);
  });
}
DOUBLE_API cudaError_t cudaMemcpy(void *target, const void *source, size_t bytes, cudaMemcpyKind kind) {
  return api("cudaMemcpy", [&](auto &lock) {
    CHECKED(may_be_unsafe());
    CHECKED(check_copy(target, source, bytes, kind));
    CHECKED(enqueue(nullptr, copy_step(target, source, bytes, kind), Node::copy));
    CUstream_st *stream = resolve(nullptr);
    // To a device, real ones may return before the bytes have arrived; this one always does.
    const bool host_waits = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyHostToHost;
    return host_waits ? finish(*stream, stream->queued, lock) : cudaSuccess;
  });
}
DOUBLE_API cudaError_t cudaMemcpyAsync(void *target, const void *source, size_t bytes, cudaMemcpyKind kind,
                                       cudaStream_t stream) {
  return api("cudaMemcpyAsync", [&](auto &) {
    CHECKED(check_copy(target, source, bytes, kind));
    return enqueue(stream, copy_step(target, source, bytes, kind), Node::copy);
  });
}
DOUBLE_API cudaError_t cudaMemsetAsync(void *target, int value, size_t bytes, cudaStream_t stream) {
  return api("cudaMemsetAsync", [&](auto &) {
    if (!on_device(target, bytes)) return cudaErrorInvalidValue;
    const auto step = [=] { return std::memset(target, value, bytes), 0; };
    return enqueue(
        stream, [=] { return step; }, Node::set);
  });
}

DOUBLE_API cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
  return api("cudaStreamCreateWithFlags", [&](auto &) {
    if (flags != non_blocking)
      return cudaErrorNotSupported;  // the double has no streams that the default blocks
    *stream = new CUstream_st;
    (*stream)->device = device_of_thread;
    machine().streams.insert(*stream);
    count("stream", 1);
    return cudaSuccess;
  });
}
DOUBLE_API cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return api("cudaStreamDestroy", [&](auto &lock) {
    if (machine().streams.count(stream) == 0) return cudaErrorInvalidResourceHandle;
    finish(*stream, stream->queued, lock);
    machine().streams.erase(stream);
    for (CUevent_st *event : machine().events)
      if (event->stream == stream) event->stream = nullptr;  // it is reached
    delete stream;
    count("stream", -1);
    return cudaSuccess;
  });
}
DOUBLE_API cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  return api("cudaStreamSynchronize", [&](auto &lock) {
    CUstream_st *stream = resolve(handle);
    CHECKED(may_wait(stream));
    return finish(*stream, stream->queued, lock);
  });
}
DOUBLE_API cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
  return api("cudaStreamWaitEvent", [&](auto &) {
    CUstream_st *stream = resolve(handle);
    if (stream == nullptr || machine().events.count(event) == 0) return cudaErrorInvalidResourceHandle;
    if (event->capture != nullptr) {  // the stream joins the capture, or waits for one that did
      if (stream->capture != event->capture) stream->captured = stream->joined = 0;
      stream->capture = event->capture;
      if (stream == event->capture->origin) event->stream->joined = event->target;
      return cudaSuccess;
    }
    if (event->captured) return cudaErrorCapturedEvent;
    CUstream_st *awaited = event->stream;
    if (stream->capture != nullptr && awaited != nullptr) {
      stream->capture->broken = true;
      return cudaErrorStreamCaptureIsolation;
    }
    if (awaited == nullptr || awaited == stream) return cudaSuccess;
    const uint64_t target = event->target;
    const auto reached = [=] {
      const CUstream_st *first = machine().standard;
      const bool standard = awaited >= first && awaited < first + max_devices;
      const bool gone = !standard && machine().streams.count(awaited) == 0;  // destroyed: its work is done
      return gone || awaited->done >= target ? 0 : pending;
    };
    return enqueue(
        handle, [=] { return reached; }, Node::event);
  });
}

DOUBLE_API cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
  return api("cudaEventCreateWithFlags", [&](auto &) {
    if ((flags & ~(blocking_sync | disable_timing)) != 0) return cudaErrorInvalidValue;
    *event = new CUevent_st;
    (*event)->flags = flags;
    (*event)->device = device_of_thread;
    machine().events.insert(*event);
    count("event", 1);
    return cudaSuccess;
  });
}
DOUBLE_API cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return api("cudaEventDestroy", [&](auto &) {
    if (machine().events.erase(event) == 0) return cudaErrorInvalidResourceHandle;
    delete event;
    count("event", -1);
    return cudaSuccess;
  });
}
DOUBLE_API cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
  return api("cudaEventRecord", [&](auto &) {
    CUstream_st *stream = resolve(handle);
    if (stream == nullptr || machine().events.count(event) == 0) return cudaErrorInvalidResourceHandle;
    if (event->device != stream->device) return cudaErrorInvalidResourceHandle;
    event->capture = stream->capture;
    event->captured = stream->capture != nullptr;
    if (event->captured) {
      event->stream = stream;
      event->target = stream->captured;
      return cudaSuccess;
    }
    const auto when = event->when = std::make_shared<double>(-1);
    const cudaError_t error = enqueue(
        handle, [=] { return [=] { return *when = now(), 0; }; }, Node::event);
    event->stream = stream;
    event->target = stream->queued;
    return error;
  });
}
DOUBLE_API cudaError_t cudaEventQuery(cudaEvent_t event) {
  return api("cudaEventQuery", [&](auto &) {
    if (machine().events.count(event) == 0) return cudaErrorInvalidResourceHandle;
    if (event->captured) return cudaErrorCapturedEvent;
    if (event->stream == nullptr || event->stream->done >= event->target) return cudaSuccess;
    advance(*event->stream);  // whoever asks often enough sees it come
    return cudaErrorNotReady;
  });
}
DOUBLE_API cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return api("cudaEventSynchronize", [&](auto &lock) {
    if (machine().events.count(event) == 0) return cudaErrorInvalidResourceHandle;
    if (event->captured) return cudaErrorCapturedEvent;
    return event->stream == nullptr ? cudaSuccess : finish(*event->stream, event->target, lock);
  });
}
DOUBLE_API cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end) {
  return api("cudaEventElapsedTime", [&](auto &) {
    for (cudaEvent_t event : {start, end})
      if (machine().events.count(event) == 0 || (event->flags & disable_timing) != 0 ||
          event->device != start->device)
        return cudaErrorInvalidResourceHandle;
    if (start->captured || end->captured) return cudaErrorCapturedEvent;
    if (*start->when < 0 || *end->when < 0)
      return start->stream != nullptr && end->stream != nullptr ? cudaErrorNotReady
                                                                : cudaErrorInvalidResourceHandle;
    *milliseconds = static_cast<float>(*end->when - *start->when);
    return cudaSuccess;
  });
}

DOUBLE_API cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  return api("cudaStreamBeginCapture", [&](auto &) {
    CUstream_st *stream = resolve(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    if (handle == nullptr || stream->capture != nullptr) return cudaErrorStreamCaptureUnsupported;
    stream->capture = new CUgraph_st{{}, false, stream, mode, std::this_thread::get_id()};
    stream->captured = stream->joined = 0;
    count("graph", 1);
    return cudaSuccess;
  });
}
DOUBLE_API cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t *graph) {
  return api("cudaStreamEndCapture", [&](auto &) {
    CUstream_st *stream = resolve(handle);
    *graph = nullptr;
    if (stream == nullptr || stream->capture == nullptr) return cudaErrorInvalidValue;
    CUgraph_st *captured = stream->capture;
    if (captured->origin != stream) return cudaErrorStreamCaptureUnmatched;
    bool joined = true;
    for (CUstream_st *other : machine().streams)
      if (other->capture == captured) {
        joined = joined && (other == stream || other->joined == other->captured);
        other->capture = nullptr;
      }
    for (CUevent_st *event : machine().events)
      if (event->capture == captured) event->capture = nullptr;
    if (captured->broken || !joined) {
      const bool broken = captured->broken;
      delete captured;
      count("graph", -1);
      return broken ? cudaErrorStreamCaptureInvalidated : cudaErrorStreamCaptureUnjoined;
    }
    *graph = captured;
    return cudaSuccess;
  });
}
DOUBLE_API cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return api("cudaGraphDestroy", [&](auto &) {
    delete graph;
    count("graph", -1);
    return cudaSuccess;
  });
}
DOUBLE_API cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *exec, cudaGraph_t graph,
                                                     unsigned long long) {
  return api("cudaGraphInstantiate", [&](auto &) {
    *exec = new CUgraphExec_st{graph->nodes};
    count("exec", 1);
    return cudaSuccess;
  });
}
DOUBLE_API cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  return api("cudaGraphLaunch", [&](auto &) {
    for (const CUgraphNode_st &node : exec->nodes) CHECKED(enqueue(stream, node.make, node.kind));
    return cudaSuccess;
  });
}
DOUBLE_API cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph,
                                           cudaGraphExecUpdateResultInfo *info) {
  return api("cudaGraphExecUpdate", [&](auto &) {
    const auto same = [](const CUgraphNode_st &one, const CUgraphNode_st &two) {
      return one.kind == two.kind;
    };
    *info = {cudaGraphExecUpdateSuccess, nullptr, nullptr};
    if (exec->nodes.size() != graph->nodes.size())
      info->result = cudaGraphExecUpdateErrorTopologyChanged;
    else if (!std::equal(exec->nodes.begin(), exec->nodes.end(), graph->nodes.begin(), same))
      info->result = cudaGraphExecUpdateErrorNodeTypeChanged;
    if (info->result != cudaGraphExecUpdateSuccess) return cudaErrorGraphExecUpdateFailure;
    exec->nodes = graph->nodes;
    count("update", 1);
    return cudaSuccess;
  });
}
DOUBLE_API cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  return api("cudaGraphExecDestroy", [&](auto &) {
    delete exec;
    count("exec", -1);
    return cudaSuccess;
  });
}
