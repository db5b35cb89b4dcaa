// thread_pool.cpp -- workers that spin briefly for the next job, then sleep on a futex.
// One job runs at a time; a forked child starts with an empty pool, and nothing needs joining at exit.
#include "thread_pool.hpp"

#include <infinicore/plugin.hpp>

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <climits>
#include <cstdlib>
#include <exception>
#include <new>
#include <string>

namespace infini::cpu {
namespace {

constexpr int kMaxThreads = 1024;
constexpr int kChunksPerThread = 4;  // enough to even out a thread that another process delays
constexpr auto kIdleSpin = std::chrono::microseconds(100);

using Word = std::atomic<uint32_t>;

void futex_wait(Word &word, uint32_t expected) {
  syscall(SYS_futex, reinterpret_cast<uint32_t *>(&word), FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

void futex_wake(Word &word, int count) {
  syscall(SYS_futex, reinterpret_cast<uint32_t *>(&word), FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb");
#endif
}

int processors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
  long online = sysconf(_SC_NPROCESSORS_ONLN);
  return online > 0 ? int(online) : 1;
}

// True on a worker, and on a caller while it runs its own chunks: nested calls run inline.
thread_local bool inside = false;

struct Job {
  detail::Chunk chunk;
  void *context;
  int64_t begin, end, step;
  std::atomic<int64_t> next;  // first element not yet handed out
  std::atomic<bool> failed;
  std::exception_ptr error;  // written by the thread that set failed

  void run() noexcept {
    for (;;) {
      int64_t from = next.fetch_add(step, std::memory_order_relaxed);
      if (from >= end || failed.load(std::memory_order_relaxed)) return;
      try {
        chunk(context, from, from + step < end ? from + step : end);
      } catch (...) {
        if (!failed.exchange(true)) error = std::current_exception();
      }
    }
  }
};

// `gate` counts the workers inside the current job and says whether more may enter. A worker that wakes
// late finds the gate shut, so a caller never waits for threads that took no part.
class Pool {
  static constexpr uint32_t kOpen = 1u << 31, kCallerSleeps = 1u << 30, kCount = kCallerSleeps - 1;

  alignas(64) Word epoch_{0};     // number of jobs begun; workers sleep on it
  alignas(64) Word gate_{0};      // the caller sleeps on it
  alignas(64) Word sleepers_{0};  // workers asleep, or about to be
  alignas(64) std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
  Job job_{};
  int workers_ = 0;               // started
  std::atomic<bool> spin_{true};  // false when there are more threads than processors

  static void *work(void *self) {
    inside = true;
    static_cast<Pool *>(self)->serve();
    return nullptr;
  }

  [[noreturn]] void serve() {
    uint32_t seen = 0;
    for (;;) {
      seen = await(seen);
      uint32_t gate = gate_.load(std::memory_order_relaxed);
      while ((gate & kOpen) && !gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acquire)) {
      }
      if (!(gate & kOpen)) continue;
      job_.run();
      gate = gate_.fetch_sub(1, std::memory_order_acq_rel) - 1;
      if (gate == kCallerSleeps) futex_wake(gate_, 1);
    }
  }

  // Wait for an epoch other than seen and return it.
  uint32_t await(uint32_t seen) {
    auto asleep_at = std::chrono::steady_clock::now() + kIdleSpin;
    for (int turn = 0; spin_.load(std::memory_order_relaxed); ++turn) {
      uint32_t epoch = epoch_.load(std::memory_order_acquire);
      if (epoch != seen) return epoch;
      relax();
      if (turn % 64 == 63 && std::chrono::steady_clock::now() > asleep_at) break;
    }
    for (;;) {
      sleepers_.fetch_add(1);
      futex_wait(epoch_, seen);  // returns at once when a job began in between
      sleepers_.fetch_sub(1);
      uint32_t epoch = epoch_.load();
      if (epoch != seen) return epoch;
    }
  }

  // Start workers up to count; a system that refuses more threads leaves the ones there are.
  void grow(int count) {
    spin_ = count < processors();
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigset_t all, before;  // signals are the application's, and its own threads handle them
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (; workers_ < count; ++workers_) {
      pthread_t thread;
      if (pthread_create(&thread, &attributes, work, this) != 0) break;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    pthread_attr_destroy(&attributes);
  }

 public:
  bool try_lock() { return !busy_.test_and_set(std::memory_order_acquire); }
  void unlock() { busy_.clear(std::memory_order_release); }

  void run(int64_t begin, int64_t end, int64_t step, int threads, detail::Chunk chunk, void *context) {
    if (workers_ < threads - 1) grow(threads - 1);
    job_.chunk = chunk;
    job_.context = context;
    job_.begin = begin;
    job_.end = end;
    job_.step = step;
    job_.next.store(begin, std::memory_order_relaxed);
    job_.failed.store(false, std::memory_order_relaxed);

    gate_.store(kOpen, std::memory_order_release);
    epoch_.fetch_add(1);
    if (uint32_t sleepers = sleepers_.load()) {
      int64_t useful = (end - begin + step - 1) / step - 1;
      futex_wake(epoch_, useful < int64_t(sleepers) ? int(useful) : INT_MAX);
    }
    inside = true;
    job_.run();
    inside = false;

    uint32_t gate = gate_.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
    for (int turn = 0; gate & kCount; gate = gate_.load(std::memory_order_acquire)) {
      if (spin_.load(std::memory_order_relaxed) && ++turn < 4000) {
        relax();
      } else if (gate & kCallerSleeps || gate_.compare_exchange_strong(gate, gate | kCallerSleeps)) {
        futex_wait(gate_, gate | kCallerSleeps);
      }
    }
    std::exception_ptr error;
    if (job_.failed.load(std::memory_order_acquire)) std::swap(error, job_.error);
    if (error) {
      unlock();
      std::rethrow_exception(error);
    }
    unlock();
  }
};

// Never destroyed: workers may still look at it while the process exits.
alignas(Pool) unsigned char storage[sizeof(Pool)];
Pool *pool = nullptr;

// Only the thread that forked exists in a child: forget the workers and whatever they were doing.
void forget_workers() {
  pool = new (storage) Pool;
  inside = false;
}

Pool &the_pool() {
  static bool once = [] {
    pool = new (storage) Pool;
    pthread_atfork(nullptr, nullptr, forget_workers);
    return true;
  }();
  (void)once;
  return *pool;
}

}  // namespace

int num_threads() {
  static const int count = [] {
    const char *text = std::getenv("INFINICORE_NUM_THREADS");
    if (text == nullptr || *text == '\0') return processors();
    char *end = nullptr;
    long value = std::strtol(text, &end, 10);
    if (*end != '\0' || value < 1 || value > kMaxThreads)
      throw Error(INFINI_STATUS_BAD_PARAM, "INFINICORE_NUM_THREADS is '" + std::string(text) +
                                               "': expected a number from 1 to " +
                                               std::to_string(kMaxThreads));
    return int(value);
  }();
  return count;
}

void detail::parallel(int64_t begin, int64_t end, int64_t grain, Chunk chunk, void *context) {
  int threads = num_threads();
  int64_t total = end - begin;
  int64_t most = int64_t(threads) * kChunksPerThread;
  if (grain < 1) grain = 1;
  int64_t step = ((total + most - 1) / most + grain - 1) / grain * grain;  // whole grains keep alignment
  if (threads > 1 && !inside && the_pool().try_lock()) {
    the_pool().run(begin, end, step, threads, chunk, context);
    return;
  }
  // The same sub-ranges, in order, so that results do not depend on who else is running.
  for (int64_t from = begin; from < end; from += step)
    chunk(context, from, from + step < end ? from + step : end);
}

}  // namespace infini::cpu
