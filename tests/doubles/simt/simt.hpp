// simt.hpp -- runs the blocks of CUDA-dialect kernels on the CPU, warps of any width, no device needed.
// A thread of a block is a fiber that is only made when the thread has to wait; see simt.cpp for the order.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>

#ifndef SIMT_NO_DIM3  // for an SDK double that has its own
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
#endif

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

namespace simt {

// A kernel that would hang or be undefined on a device: threads of a block that wait at different barriers,
// or for threads that have returned; a block that no device runs.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

constexpr unsigned max_threads = 1024;          // per block
constexpr size_t max_shared_bytes = 227 << 10;  // per block

// In which order the threads of a block run between two barriers. What depends on it is a race.
enum class Order { forward, reverse, shuffled };
// The next launches' order; the environment variable SIMT_ORDER sets the first one.
void set_order(Order order);

// A kernel and copies of its arguments: what each thread calls. Lighter to compile than std::function, of
// which a kernel per dtype and operator would make thousands.
class Kernel {
 public:
  template <class Body> explicit Kernel(const Body &body)
      : state(new Body(body), [](void *made) { delete static_cast<Body *>(made); }),
        call([](void *made) { (*static_cast<Body *>(made))(); }) {}
  void operator()() const { call(state.get()); }

 private:
  std::unique_ptr<void, void (*)(void *)> state;
  void (*call)(void *);
};

struct Launch {
  dim3 grid, block;
  size_t dynamic_shared_bytes;
  unsigned warp_width;
  Kernel kernel;
};

// Run the kernel once per thread of every block, and return when all have. One launch runs at a time; others
// wait. Throws Error.
void run(const Launch &launch);

// ---- called by a running thread --------------------------------------------------------------------------

struct Index {
  dim3 thread, block, block_dim, grid_dim;
};
extern Index current;

unsigned linear_thread();
void *dynamic_shared();
void block_barrier(const char *file, int line);
// Wait for every lane of this warp, and return what each gave, by lane; how many lanes there are in `lanes`.
const uint64_t *exchange(uint64_t mine, unsigned *lanes, const char *file, int line);

// Memory of a block. It is known to the executor, which fills it with garbage before each block.
class SharedBase {
 public:
  SharedBase(void *memory, size_t bytes);

 private:
  friend struct Poison;
  void *memory;
  size_t bytes;
  SharedBase *next;
};
template <class T, size_t count> class Shared : SharedBase {
 public:
  Shared() : SharedBase(items, sizeof(items)) {}
  alignas(16) T items[count];
};

template <class T> T shuffle_from(T value, unsigned lane, const char *file, int line) {
  static_assert(sizeof(T) <= 8, "a lane hands over eight bytes at most");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  unsigned lanes;
  const uint64_t *all = exchange(bits, &lanes, file, line);
  if (lane < lanes) std::memcpy(&value, all + lane, sizeof(T));
  return value;
}

}  // namespace simt

#define threadIdx (::simt::current.thread)
#define blockIdx (::simt::current.block)
#define blockDim (::simt::current.block_dim)
#define gridDim (::simt::current.grid_dim)

inline void __syncthreads(const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
  ::simt::block_barrier(file, line);
}
