// simt/check.hpp -- what the scheduler (simt.cpp) and the check of memory accesses (check.cpp) know of each
// other. Time is counted in intervals: a block begins one, and so does each barrier that all its threads have
// met at.
#pragma once
#include "simt.hpp"

#include <vector>

namespace simt {

struct Now {
  const Kernel *kernel;
  bool watched;                      // is the running block?
  uint32_t launch, block, interval;  // the first of the launch and of its running block, and the running one
  unsigned thread, warp, width;      // that run, and the lanes of a warp
  uint16_t warp_intervals[max_threads];  // of each warp: how often it met at sync_warp
};
extern Now now;

// All stacks of fibers lie here: who has another one is not a thread of a kernel.
constexpr size_t stack_bytes = 128 << 10;  // of which the lowest page faults
struct StackArea {
  uintptr_t begin, bytes;
};
extern StackArea stack_area;
uintptr_t own_stack();  // the lowest address of the running fiber's

// The memory of a block: what is dynamic first, then its arrays as threads come to them.
constexpr size_t shared_area_bytes = most_shared_bytes + max_shared_bytes;  // with room between arrays
extern char shared_area[shared_area_bytes];
struct Placed {
  const char *name;
  size_t begin, bytes;  // in the area
};
// The array that this byte of the area belongs to; NULL: none.
const Placed *placed_at(size_t offset);

// What the check tells of the access that stopped a launch; empty when there was none.
std::string fault_text();
void check_launch();             // one begins
[[noreturn]] void stop_block();  // what a thread does that must not go on

// "(x, y, z)" of the thread of a number, and of the block that an interval of this launch was one of.
std::string thread_name(unsigned thread);
std::string block_name(uint32_t interval);

}  // namespace simt
