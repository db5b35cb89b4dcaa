// shared_memory.hpp -- memory that the ranks of a communicator share, and how they wait for one another in
// it. Threads of one process share an anonymous mapping, processes of one host an object in /dev/shm.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace infini::cpu {

// Differs between any two processes that are alive, and between a process and its forked child.
uint64_t process_token();

// Sleep while `word` is `value`, for at most `milliseconds`. Wakes early now and then: check again.
void futex_wait(std::atomic<uint32_t> &word, uint32_t value, int64_t milliseconds);
void futex_wake(std::atomic<uint32_t> &word);

// Shared memory of `bytes` at `data`. What a process holds of it goes away with the process, however it ends.
class Segment {
 public:
  using Initialise = std::function<void(Segment &)>;

  // For threads of this process alone; zeros.
  static std::shared_ptr<Segment> anonymous(uint64_t bytes);

  // The segment that carries `name`: made of zeros and `initialise` by whoever comes first. All threads of a
  // process get the same object. It is visible under its name from the moment it is complete.
  static std::shared_ptr<Segment> named(const std::string &name, uint64_t bytes,
                                        const Initialise &initialise);

  ~Segment();
  Segment(const Segment &) = delete;
  Segment &operator=(const Segment &) = delete;

  // Take the name away: the memory lasts until the last process lets go of it. May be called by everybody.
  void unlink();

  // Claims are how others see that a rank's process is alive: the kernel gives them up when it ends. claim
  // returns whether no other process has it; claimed_elsewhere asks whether one has. An anonymous segment
  // has none.
  bool claim(int32_t rank);
  void release(int32_t rank);
  bool claimed_elsewhere(int32_t rank) const;

  char *data = nullptr;
  uint64_t bytes = 0;

 private:
  Segment() = default;
  static std::shared_ptr<Segment> open(const std::string &path);
  static std::shared_ptr<Segment> create(const std::string &path, uint64_t bytes,
                                         const Initialise &initialise);
  void map(int flags);

  std::string path;
  int file = -1;
  uint64_t owner = 0;  // process_token() of the process that mapped it
};

// Remove segments in /dev/shm whose processes all ended before they had met.
void sweep_segments();

constexpr char kSegmentPrefix[] = "infinicore-";

}  // namespace infini::cpu
