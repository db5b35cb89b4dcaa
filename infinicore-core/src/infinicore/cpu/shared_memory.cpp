// shared_memory.cpp -- shared segments whose names and claims do not outlive the processes that hold them.
// A claim is a POSIX record lock: the kernel drops it when its process ends, and a forked child has none.
#include "shared_memory.hpp"

#include <infinicore/plugin.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <map>
#include <mutex>

namespace infini::cpu {

namespace {

constexpr char kFolder[] = "/dev/shm/";

[[noreturn]] void fail(const std::string &what, int error) {
  const bool full = error == ENOSPC || error == ENOMEM;
  throw Error(full ? INFINI_STATUS_OUT_OF_MEMORY : INFINI_STATUS_INTERNAL_ERROR,
              "shared memory: " + what + ": " + std::strerror(error));
}

// Segments of this process by path. A process must open each at most once: to close any descriptor of a file
// is to give up every record lock that the process has on it.
std::mutex registry_mutex;
std::map<std::string, std::weak_ptr<Segment>> &registry() {
  static auto *all = new std::map<std::string, std::weak_ptr<Segment>>;  // never destroyed
  return *all;
}

struct flock lock_of(int32_t rank, short type) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = rank;
  lock.l_len = 1;
  return lock;
}

}  // namespace

uint64_t process_token() {
  static std::mutex mutex;
  static pid_t process = 0;
  static uint64_t token = 0;
  const std::lock_guard<std::mutex> lock(mutex);
  if (process != getpid()) {
    process = getpid();
    if (getrandom(&token, sizeof(token), 0) != sizeof(token)) token = uint64_t(process);
  }
  return token;
}

void futex_wait(std::atomic<uint32_t> &word, uint32_t value, int64_t milliseconds) {
  static_assert(sizeof(word) == sizeof(uint32_t) && std::atomic<uint32_t>::is_always_lock_free, "a futex");
  struct timespec limit = {time_t(milliseconds / 1000), long(milliseconds % 1000) * 1000000};
  syscall(SYS_futex, &word, FUTEX_WAIT, value, &limit, nullptr, 0);
}

void futex_wake(std::atomic<uint32_t> &word) {
  syscall(SYS_futex, &word, FUTEX_WAKE, INT32_MAX, nullptr, nullptr, 0);
}

void Segment::map(int flags) {
  void *memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, file, 0);
  if (memory == MAP_FAILED) fail("cannot map " + std::to_string(bytes) + " bytes", errno);
  data = static_cast<char *>(memory);
  owner = process_token();
}

Segment::~Segment() {
  if (data != nullptr) munmap(data, bytes);
  if (file >= 0) close(file);
}

std::shared_ptr<Segment> Segment::anonymous(uint64_t bytes) {
  std::shared_ptr<Segment> segment(new Segment);
  segment->bytes = bytes;
  segment->map(MAP_SHARED | MAP_ANONYMOUS);
  return segment;
}

// NULL: there is none.
std::shared_ptr<Segment> Segment::open(const std::string &path) {
  std::shared_ptr<Segment> segment(new Segment);
  segment->path = path;
  segment->file = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (segment->file < 0 && errno == ENOENT) return nullptr;
  struct stat facts;
  if (segment->file < 0 || fstat(segment->file, &facts) != 0) fail("cannot open " + path, errno);
  segment->bytes = uint64_t(facts.st_size);
  segment->map(MAP_SHARED);
  return segment;
}

// NULL: somebody else was faster.
std::shared_ptr<Segment> Segment::create(const std::string &path, uint64_t bytes,
                                         const Initialise &initialise) {
  std::shared_ptr<Segment> segment(new Segment);
  segment->path = path;
  segment->bytes = bytes;
  // Without a name until it is complete: nobody sees half of it, and if this process dies it is gone.
  segment->file = ::open(kFolder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (segment->file < 0) fail(std::string("cannot make a file in ") + kFolder, errno);
  // All of it now: later, a full /dev/shm would be a bus error.
  if (const int error = posix_fallocate(segment->file, 0, off_t(bytes)))
    fail(std::to_string(bytes) + " bytes in " + kFolder, error);
  segment->map(MAP_SHARED);
  initialise(*segment);
  const std::string self = "/proc/self/fd/" + std::to_string(segment->file);
  if (linkat(AT_FDCWD, self.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) != 0) {
    if (errno == EEXIST) return nullptr;
    fail("cannot name " + path, errno);
  }
  return segment;
}

std::shared_ptr<Segment> Segment::named(const std::string &name, uint64_t bytes,
                                        const Initialise &initialise) {
  const std::string path = kFolder + name;
  const std::lock_guard<std::mutex> lock(registry_mutex);
  std::weak_ptr<Segment> &known = registry()[path];
  std::shared_ptr<Segment> segment = known.lock();
  if (segment && segment->owner == process_token()) return segment;
  do {
    segment = open(path);
    if (!segment) segment = create(path, bytes, initialise);
  } while (!segment);
  known = segment;
  return segment;
}

void Segment::unlink() {
  if (file < 0) return;
  struct stat named, ours;  // a later segment may carry the name by now
  if (stat(path.c_str(), &named) == 0 && fstat(file, &ours) == 0 && named.st_ino == ours.st_ino)
    ::unlink(path.c_str());
  const std::lock_guard<std::mutex> lock(registry_mutex);
  const auto entry = registry().find(path);
  if (entry != registry().end() && entry->second.lock().get() == this) registry().erase(entry);
}

bool Segment::claim(int32_t rank) {
  if (file < 0) return true;
  struct flock lock = lock_of(rank, F_WRLCK);
  return fcntl(file, F_SETLK, &lock) == 0;
}

void Segment::release(int32_t rank) {
  if (file < 0) return;
  struct flock lock = lock_of(rank, F_UNLCK);
  fcntl(file, F_SETLK, &lock);
}

bool Segment::claimed_elsewhere(int32_t rank) const {
  if (file < 0) return false;
  struct flock lock = lock_of(rank, F_WRLCK);
  return fcntl(file, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

void sweep_segments() {
  DIR *folder = opendir(kFolder);
  if (folder == nullptr) return;
  const std::lock_guard<std::mutex> guard(registry_mutex);
  while (const dirent *entry = readdir(folder)) {
    const std::string path = std::string(kFolder) + entry->d_name;
    if (std::strncmp(entry->d_name, kSegmentPrefix, std::strlen(kSegmentPrefix)) != 0) continue;
    if (registry().count(path) != 0) continue;  // ours, see there
    const int file = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (file < 0) continue;
    struct flock lock = lock_of(0, F_WRLCK);
    lock.l_len = 0;  // of any rank
    if (fcntl(file, F_GETLK, &lock) == 0 && lock.l_type == F_UNLCK) ::unlink(path.c_str());
    close(file);
  }
  closedir(folder);
}

}  // namespace infini::cpu
