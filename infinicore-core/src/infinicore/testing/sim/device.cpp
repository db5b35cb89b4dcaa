// sim/device.cpp -- memory, streams, events and graph capture of the simulated accelerator.
// See device.hpp for what each class stands for.
#include "device.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

namespace infini::sim {

namespace {

constexpr uint64_t ALIGNMENT = 256;
constexpr uint64_t GIVE_BACK = 64 << 10;  // freed blocks from this size on return their pages to the system
constexpr auto POLL = std::chrono::milliseconds(50);

std::atomic<bool> process_ends{false};
thread_local int current_device[VENDORS];

std::string system_error(const char *what) {
  return std::string(what) + ": " + std::strerror(errno);
}

// The value of an environment variable between `low` and `high`.
uint64_t setting(const char *variable, uint64_t otherwise, uint64_t low, uint64_t high) {
  const char *text = std::getenv(variable);
  if (text == nullptr || *text == '\0') return otherwise;
  char *end = nullptr;
  errno = 0;
  const uint64_t value = std::strtoull(text, &end, 10);
  if (*end != '\0' || errno != 0 || *text == '-' || value < low || value > high)
    throw Error(INFINI_STATUS_UNAVAILABLE, std::string(variable) + "=" + text +
                                               " is not a whole number from " + std::to_string(low) + " to " +
                                               std::to_string(high));
  return value;
}

}  // namespace

// Never destroyed: threads and live handles may use it until the very end of the process.
Vendor *const vendors = new Vendor[VENDORS]{{0, "sim", "Simulated"}, {1, "sim2", "Simulated 2"}};

bool stopping() {
  return process_ends;
}

uint64_t element_bytes(int32_t dtype) {
  static const uint8_t bytes[] = {0, 1, 1, 1, 2, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 2, 4, 8, 16, 2};
  if (dtype <= INFINI_DTYPE_INVALID || dtype > INFINI_DTYPE_BF16)
    throw Error(INFINI_STATUS_BAD_TENSOR_DTYPE, "unknown dtype code " + std::to_string(dtype));
  return bytes[dtype];
}

// ---- memory ---------------------------------------------------------------------------------------------

Memory::Memory(std::string owner, uint64_t capacity)
    : owner(std::move(owner)), capacity(capacity), free_(capacity) {
  file = memfd_create(this->owner.c_str(), MFD_CLOEXEC);
  if (file < 0 || ftruncate(file, static_cast<off_t>(capacity)) != 0)
    throw Error(INFINI_STATUS_UNAVAILABLE, system_error("cannot reserve the simulated device's memory"));
  const auto map = [&](int protection) {
    void *address = mmap(nullptr, capacity, protection, MAP_SHARED | MAP_NORESERVE, file, 0);
    if (address == MAP_FAILED)
      throw Error(INFINI_STATUS_UNAVAILABLE, system_error("cannot map the simulated device's memory"));
    madvise(address, capacity, MADV_DONTFORK);
    return static_cast<char *>(address);
  };
  visible = map(PROT_NONE);
  alias = map(PROT_READ | PROT_WRITE);
  unused[0] = capacity;
}

void *Memory::allocate(uint64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex);
  const uint64_t size = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  const auto block = std::find_if(unused.begin(), unused.end(), [&](auto &b) { return b.second >= size; });
  if (size < bytes || block == unused.end())
    throw Error(INFINI_STATUS_OUT_OF_MEMORY, owner + " is out of memory: " + std::to_string(bytes) +
                                                 " bytes asked for, " + std::to_string(free_) + " of " +
                                                 std::to_string(capacity) + " bytes are free");
  const auto [offset, available] = *block;
  unused.erase(block);
  if (available > size) unused[offset + size] = available - size;
  used[offset] = size;
  free_ -= size;
  return visible + offset;
}

void Memory::release(void *address) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto block = contains(address) ? used.find(static_cast<char *>(address) - visible) : used.end();
  if (block == used.end())
    throw Error(INFINI_STATUS_BAD_PARAM, owner + ": freed memory that is not allocated");
  const auto [offset, size] = *block;
  used.erase(block);
  free_ += size;
  if (size >= GIVE_BACK)
    (void)fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                    static_cast<off_t>(size));
  auto merged = unused.emplace(offset, size).first;
  if (const auto next = std::next(merged); next != unused.end() && offset + size == next->first) {
    merged->second += next->second;
    unused.erase(next);
  }
  if (merged != unused.begin()) {
    const auto previous = std::prev(merged);
    if (previous->first + previous->second == offset) {
      previous->second += merged->second;
      unused.erase(merged);
    }
  }
}

bool Memory::contains(const void *address) const {
  return static_cast<const char *>(address) >= visible &&
         static_cast<const char *>(address) < visible + capacity;
}

void *Memory::reach(const void *address, uint64_t bytes) const {
  const std::lock_guard<std::mutex> lock(mutex);
  if (contains(address)) {
    const uint64_t offset = static_cast<const char *>(address) - visible;
    auto block = used.upper_bound(offset);
    if (block != used.begin()) {
      --block;
      const uint64_t inside = offset - block->first;
      if (inside < block->second && bytes <= block->second - inside) return alias + offset;
    }
  }
  throw Error(INFINI_STATUS_BAD_PARAM, owner + ": illegal address: the " + std::to_string(bytes) +
                                           " bytes do not lie inside one allocation of this device");
}

uint64_t Memory::free_bytes() const {
  const std::lock_guard<std::mutex> lock(mutex);
  return free_;
}

// ---- events ---------------------------------------------------------------------------------------------

void Record::reach(const Failure &failure) {
  const std::lock_guard<std::mutex> lock(mutex);
  this->failure = failure;
  at = Clock::now();
  done = true;
  changed.notify_all();
}

bool Record::reached() const {
  const std::lock_guard<std::mutex> lock(mutex);
  if (done && failure) throw *failure;
  return done;
}

void Record::wait() const {
  std::unique_lock<std::mutex> lock(mutex);
  while (!changed.wait_for(lock, POLL, [&] { return done; }))
    if (stopping()) throw Error(INFINI_STATUS_INTERNAL_ERROR, "the process is ending");
  if (failure) throw *failure;
}

Clock::time_point Record::time() const {
  const std::lock_guard<std::mutex> lock(mutex);
  return at;
}

// ---- streams --------------------------------------------------------------------------------------------

Failure attempt(const Task &task, const Failure &earlier) noexcept {
  try {
    task(earlier);
  } catch (const Error &error) {
    return earlier ? earlier : std::make_shared<const Error>(error);
  } catch (const std::exception &error) {
    return earlier ? earlier : std::make_shared<const Error>(INFINI_STATUS_INTERNAL_ERROR, error.what());
  }
  return earlier;
}

void Stream::enqueue(Task task) {
  device.vendor.check_not_forked();
  {
    const std::lock_guard<std::mutex> lock(device.vendor.capturing);
    if (capture) {
      if (!capture->broken.empty())
        throw Error(INFINI_STATUS_BAD_PARAM, "the capture of this stream was broken by " + capture->broken);
      capture->tasks.push_back(std::move(task));
      if (this != capture->origin) capture->unjoined[this] = capture->tasks.size();
      return;
    }
  }
  std::unique_lock<std::mutex> lock(mutex);
  if (stopped || (!started && stopping())) {
    const Failure now = attempt(task, failure);
    if (now != failure) failure = now;
    return;
  }
  if (!started) {
    // Signals belong to the program's own threads: a worker starts with all of them blocked.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    std::thread([self = shared_from_this()] { self->work(); }).detach();
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    started = true;
  }
  queue.push_back(std::move(task));
  ++enqueued;
  changed.notify_all();
}

void Stream::work() {
  std::unique_lock<std::mutex> lock(mutex);
  for (;;) {
    changed.wait(lock, [&] { return !queue.empty() || closing; });
    if (queue.empty()) break;
    Task task = std::move(queue.front());
    queue.pop_front();
    const Failure earlier = failure;
    busy = true;
    lock.unlock();
    const Failure now = attempt(task, earlier);
    task = nullptr;  // lets go of what it held before anybody can learn that it is done
    lock.lock();
    busy = false;
    if (now != earlier)  // the earlier one may have been reported, and so be forgotten, meanwhile
      failure = now;
    ++finished;
    changed.notify_all();
  }
  lock.unlock();
  device.forget(this);
}

void Stream::drain() {
  {
    const std::lock_guard<std::mutex> lock(device.vendor.capturing);
    if (capture) {
      capture->broken = "a synchronization";
      throw Error(INFINI_STATUS_BAD_PARAM, "cannot synchronize a stream that is being captured");
    }
  }
  device.vendor.check_not_forked();
  std::unique_lock<std::mutex> lock(mutex);
  const uint64_t target = enqueued;
  changed.wait(lock, [&] { return finished >= target; });
}

void Stream::raise() {
  const std::lock_guard<std::mutex> lock(mutex);
  if (const Failure raised = std::exchange(failure, nullptr)) throw *raised;
}

void Stream::synchronize() {
  drain();
  raise();
}

std::shared_ptr<Record> Stream::record() {
  auto record = std::make_shared<Record>();
  enqueue([record](const Failure &earlier) { record->reach(earlier); });
  return record;
}

void Stream::wait(std::shared_ptr<Record> record) {
  enqueue([record = std::move(record)](const Failure &earlier) {
    if (!earlier) record->wait();
  });
}

bool Stream::captured() const {
  const std::lock_guard<std::mutex> lock(device.vendor.capturing);
  return capture != nullptr;
}

bool Stream::closed() const {
  const std::lock_guard<std::mutex> lock(mutex);
  return closing;
}

void Stream::close() {
  if (captured()) throw Error(INFINI_STATUS_BAD_PARAM, "cannot destroy a stream that is being captured");
  const auto self = shared_from_this();
  std::unique_lock<std::mutex> lock(mutex);
  closing = true;
  changed.notify_all();
  if (!started || device.vendor.forked) {
    lock.unlock();
    device.forget(this);
  }
}

void Stream::stop() {
  std::unique_lock<std::mutex> lock(mutex);
  finished += queue.size();
  queue.clear();
  changed.notify_all();  // to those who wait for what will not be done any more
  changed.wait_for(lock, std::chrono::seconds(10), [&] { return !busy; });
  stopped = true;
}

// ---- devices and vendors ----------------------------------------------------------------------------------

Device::Device(Vendor &vendor, int index, uint64_t capacity)
    : vendor(vendor),
      index(index),
      name(std::string(vendor.name) + ":" + std::to_string(index)),
      memory(name, capacity),
      standard(create_stream().get()) {}

std::shared_ptr<Stream> Device::create_stream() {
  auto stream = std::make_shared<Stream>(*this);
  const std::lock_guard<std::mutex> lock(mutex);
  return streams_.emplace_back(std::move(stream));
}

void Device::forget(Stream *stream) {
  const std::lock_guard<std::mutex> lock(mutex);
  streams_.erase(std::remove_if(streams_.begin(), streams_.end(), [&](auto &s) { return s.get() == stream; }),
                 streams_.end());
}

Stream *Device::find(const void *handle) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found =
      std::find_if(streams_.begin(), streams_.end(), [&](auto &stream) { return stream.get() == handle; });
  return found != streams_.end() && !(*found)->closed() ? found->get() : nullptr;
}

std::vector<std::shared_ptr<Stream>> Device::streams() {
  const std::lock_guard<std::mutex> lock(mutex);
  return streams_;
}

void Device::synchronize() {
  const auto all = streams();
  for (const auto &stream : all) stream->drain();
  for (const auto &stream : all) stream->raise();
}

Device &Vendor::device(int32_t index) {
  if (index < 0 || index >= static_cast<int32_t>(devices.size()))
    throw Error(INFINI_STATUS_DEVICE_NOT_FOUND, std::string(name) + " has " + std::to_string(devices.size()) +
                                                    " devices: there is no " + name + ":" +
                                                    std::to_string(index));
  return *devices[index];
}

void Vendor::check_not_forked() const {
  if (forked)
    throw Error(INFINI_STATUS_DEVICE_NOT_INITIALIZED,
                std::string(name) + " was opened before fork(): this child cannot use its devices");
}

Device &Vendor::current() {
  check_not_forked();
  return device(current_device[id]);
}

void Vendor::set_current(int32_t index) {
  device(index);
  current_device[id] = index;
}

Stream &Vendor::stream(infinirtStream_t handle) {
  if (handle == nullptr) return *current().standard;
  for (const auto &device : devices)
    if (Stream *const stream = device->find(handle)) return *stream;
  throw Error(INFINI_STATUS_BAD_PARAM, std::string("no stream of ") + name +
                                           " has this handle: it was destroyed, "
                                           "or made elsewhere");
}

Device *Vendor::owner(const void *address) {
  for (const auto &device : devices)
    if (device->memory.contains(address)) return device.get();
  return nullptr;
}

void Vendor::open() {
  const uint64_t count = setting("INFINICORE_SIM_DEVICES", 2, 0, 64);
  const uint64_t capacity = setting("INFINICORE_SIM_MEMORY", uint64_t{4} << 30, 4096, uint64_t{1} << 40);
  for (uint64_t index = 0; index < count; ++index)
    devices.push_back(std::make_unique<Device>(*this, static_cast<int>(index), capacity / 4096 * 4096));
  // Workers run the CPU backend's kernels: they must be at rest before its statics go away. Handlers run in
  // reverse order, and that backend is loaded by now.
  static const bool once = [] {
    pthread_atfork(nullptr, nullptr, [] {
      for (int id = 0; id < VENDORS; ++id) vendors[id].forked = !vendors[id].devices.empty();
    });
    std::atexit(stop_all);
    return true;
  }();
  (void)once;
}

void stop_all() {
  process_ends = true;
  for (int id = 0; id < VENDORS; ++id)
    if (!vendors[id].forked)
      for (const auto &device : vendors[id].devices)
        for (const auto &stream : device->streams()) stream->stop();
}

// ---- capture --------------------------------------------------------------------------------------------

void Vendor::forbid(const char *what) {
  const std::lock_guard<std::mutex> lock(capturing);
  for (const auto &capture : captures) {
    const bool ours = capture->thread == std::this_thread::get_id();
    if (capture->mode == INFINIRT_STREAM_CAPTURE_MODE_GLOBAL ||
        (capture->mode == INFINIRT_STREAM_CAPTURE_MODE_THREAD_LOCAL && ours)) {
      capture->broken = what;
      throw Error(INFINI_STATUS_BAD_PARAM,
                  std::string(what) + " is not permitted while a stream is being captured");
    }
  }
}

void begin_capture(Stream &stream, infinirtStreamCaptureMode_t mode) {
  Vendor &vendor = stream.device.vendor;
  vendor.check_not_forked();
  const std::lock_guard<std::mutex> lock(vendor.capturing);
  if (stream.capture) throw Error(INFINI_STATUS_BAD_PARAM, "the stream is being captured already");
  stream.capture = std::make_shared<Capture>();
  stream.capture->mode = mode;
  stream.capture->thread = std::this_thread::get_id();
  stream.capture->origin = &stream;
  stream.capture->streams = {&stream};
  vendor.captures.push_back(stream.capture);
}

Graph end_capture(Stream &stream) {
  Vendor &vendor = stream.device.vendor;
  const std::lock_guard<std::mutex> lock(vendor.capturing);
  const auto capture = stream.capture;
  if (!capture || capture->origin != &stream)
    throw Error(INFINI_STATUS_BAD_PARAM, "no capture began on this stream");
  if (capture->mode != INFINIRT_STREAM_CAPTURE_MODE_RELAXED && capture->thread != std::this_thread::get_id())
    throw Error(INFINI_STATUS_BAD_PARAM,
                "a capture ends on the thread on which it began, unless it is relaxed");
  capture->ended = true;
  for (Stream *member : capture->streams) member->capture = nullptr;
  vendor.captures.erase(std::find(vendor.captures.begin(), vendor.captures.end(), capture));
  if (!capture->broken.empty())
    throw Error(INFINI_STATUS_BAD_PARAM, "the capture was broken by " + capture->broken);
  if (!capture->unjoined.empty())
    throw Error(INFINI_STATUS_BAD_PARAM, "a stream that joined the capture was never waited for");
  return std::make_shared<const std::vector<Task>>(std::move(capture->tasks));
}

void record_event(Event &event, Stream &stream) {
  {
    const std::scoped_lock lock(stream.device.vendor.capturing, event.mutex);
    event.capture = stream.capture;
    if (event.capture) {
      event.stream = &stream;
      event.position = event.capture->tasks.size();
      event.record = nullptr;
      return;
    }
  }
  auto record = stream.record();
  const std::lock_guard<std::mutex> lock(event.mutex);
  event.record = std::move(record);
}

void wait_event(Stream &stream, Event &event) {
  std::shared_ptr<Record> record;
  {
    const std::scoped_lock lock(stream.device.vendor.capturing, event.mutex);
    const auto capture = event.capture;
    if (capture) {
      if (stream.capture != nullptr ? stream.capture != capture : capture->ended)
        throw Error(INFINI_STATUS_BAD_PARAM,
                    "the event belongs to a capture that the stream takes no part in");
      stream.capture = capture;
      capture->streams.insert(&stream);
      const auto waited = capture->unjoined.find(event.stream);
      if (waited != capture->unjoined.end() && waited->second <= event.position)
        capture->unjoined.erase(waited);
      if (&stream != capture->origin) capture->unjoined[&stream] = capture->tasks.size();
      return;
    }
    record = event.record;
    if (stream.capture && record) {
      stream.capture->broken = "a wait for an event of work outside of it";
      throw Error(INFINI_STATUS_BAD_PARAM,
                  "a captured stream cannot wait for an event recorded outside the capture");
    }
  }
  if (record) stream.wait(std::move(record));
}

}  // namespace infini::sim
