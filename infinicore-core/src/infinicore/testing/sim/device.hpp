// sim/device.hpp -- a simulated accelerator: memory that the host cannot touch, streams, events and graphs.
// Minimal and authentic: what goes wrong on hardware (a host touch, a missing wait) goes wrong here too.
#pragma once
#include <infinicore/plugin.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace infini::sim {

using Clock = std::chrono::steady_clock;

class Device;
class Stream;
struct Vendor;

// Why asynchronous work failed; empty while nothing did.
using Failure = std::shared_ptr<const Error>;

// One piece of work of a stream. It learns of an earlier failure on its stream, which most work answers by
// doing nothing, and fails by throwing.
using Task = std::function<void(const Failure &earlier)>;

// Run a task after `earlier`; what the next one has to know: `earlier`, else what this one threw.
Failure attempt(const Task &task, const Failure &earlier) noexcept;

// The address range of one device. The same pages are mapped twice: `visible` is what callers hold and is
// never accessible; `alias` is what the device's own threads use. A host touch therefore faults even while a
// kernel runs.
class Memory {
 public:
  Memory(std::string owner, uint64_t capacity);
  Memory(const Memory &) = delete;

  void *allocate(uint64_t bytes);
  void release(void *address);
  bool contains(const void *address) const;
  // The alias of [address, address + bytes), which must lie inside one allocation.
  void *reach(const void *address, uint64_t bytes) const;
  uint64_t free_bytes() const;

  const std::string owner;  // "sim:0", for messages
  const uint64_t capacity;

 private:
  mutable std::mutex mutex;
  std::map<uint64_t, uint64_t> used, unused;  // offset -> bytes; both tile the range
  uint64_t free_ = 0;
  char *visible = nullptr, *alias = nullptr;
  int file = -1;
};

// One event_record: reached when the stream gets there.
class Record {
 public:
  void reach(const Failure &failure);
  bool reached() const;
  void wait() const;  // throws the failure of the stream that was recorded
  Clock::time_point time() const;

 private:
  mutable std::mutex mutex;
  mutable std::condition_variable changed;
  bool done = false;
  Clock::time_point at;
  Failure failure;
};

// Work that is recorded instead of run. Tasks stand in the order of their enqueueing, which respects every
// dependency between the streams that take part, so a replay runs them one after the other.
struct Capture {
  infinirtStreamCaptureMode_t mode;
  std::thread::id thread;
  Stream *origin;
  std::vector<Task> tasks;
  std::set<Stream *> streams;             // all that take part
  std::map<Stream *, uint64_t> unjoined;  // forked streams, and up to which task somebody must wait for them
  std::string broken;                     // the call that invalidated it
  bool ended = false;                     // no stream takes part any more; they may be gone
};

struct Event {
  explicit Event(uint32_t flags) : flags(flags) {}

  const uint32_t flags;
  std::mutex mutex;
  std::shared_ptr<Record> record;  // NULL until recorded outside a capture
  // Where it was last recorded, when that was into a capture.
  std::shared_ptr<Capture> capture;
  Stream *stream = nullptr;
  uint64_t position = 0;
};

using Graph = std::shared_ptr<const std::vector<Task>>;

// A queue with a thread that works it off.
class Stream : public std::enable_shared_from_this<Stream> {
 public:
  explicit Stream(Device &device) : device(device) {}

  void enqueue(Task task);
  // Wait for everything enqueued so far; throw, once, what failed since the last time.
  void synchronize();
  void drain();  // only wait
  void raise();  // only throw
  std::shared_ptr<Record> record();
  void wait(std::shared_ptr<Record> record);
  bool captured() const;
  bool closed() const;
  void close();  // finish what is queued, then end the thread
  void stop();   // drop what is queued, wait for what runs, and from now on run work where it is enqueued

  Device &device;
  std::shared_ptr<Capture> capture;  // NULL: work runs; guarded by the vendor's `capturing`

 private:
  void work();

  mutable std::mutex mutex;
  std::condition_variable changed;
  std::deque<Task> queue;
  uint64_t enqueued = 0, finished = 0;
  Failure failure;
  bool started = false, closing = false, busy = false, stopped = false;
};

class Device {
 public:
  Device(Vendor &vendor, int index, uint64_t capacity);

  std::shared_ptr<Stream> create_stream();
  void forget(Stream *stream);
  Stream *find(const void *handle);  // NULL: not one of this device, or destroyed
  std::vector<std::shared_ptr<Stream>> streams();
  void synchronize();

  Vendor &vendor;
  const int index;
  const std::string name;  // "sim:0"
  Memory memory;
  const Clock::time_point opened = Clock::now();
  std::atomic<int64_t> kernel_nanoseconds{0};

 private:
  std::mutex mutex;
  std::vector<std::shared_ptr<Stream>> streams_;

 public:
  Stream *const standard;  // the default stream; last, because it is made like any other
};

// A simulated vendor: what one plug-in library of a real vendor keeps in its globals.
struct Vendor {
  const int id;  // index into `current`
  const char *const name;
  const char *const label;
  std::vector<std::unique_ptr<Device>> devices = {};
  std::mutex capturing = {};
  std::vector<std::shared_ptr<Capture>> captures = {};  // in progress
  bool forked = false;  // this is a child of the process that opened the devices: their threads are not here

  Device &current();  // this thread's device
  void set_current(int32_t device);
  Device &device(int32_t index);
  Stream &stream(infinirtStream_t handle);  // NULL: the default one of the current device
  Device *owner(const void *address);       // NULL: not memory of this vendor
  void open();
  void check_not_forked() const;
  // Throw, and break the capture, where `what` is unsafe on this thread while a capture is in progress.
  void forbid(const char *what);
};

constexpr int VENDORS = 2;
extern Vendor *const vendors;

// Tables of a vendor; the functions in them are instantiated per vendor, as if each had its own library.
const infini_runtime *runtime_table(int vendor);
const infini_ccl *ccl_table(int vendor);
std::vector<const infini_operator *> operator_table(int vendor);
// Find the kernels of the CPU backend that the operators run.
void open_operators(const infini_backend &cpu);

void begin_capture(Stream &stream, infinirtStreamCaptureMode_t mode);
Graph end_capture(Stream &stream);
void record_event(Event &event, Stream &stream);
void wait_event(Stream &stream, Event &event);

// Bring every worker to rest, because the process is ending.
void stop_all();
bool stopping();

uint64_t element_bytes(int32_t dtype);  // throws on an unknown one

}  // namespace infini::sim
