// simt.hpp -- runs the blocks of CUDA-dialect kernels on the CPU, warps of any width, no device needed.
// A thread of a block is a fiber that is only made when the thread has to wait; see simt.cpp for the order.
// Kernels compiled with -fsanitize=thread are watched as well: check.cpp says what is found.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
// How many threads a kernel's blocks may have is kept where its address shows it. The compiler of a device
// leaves a kernel with these bounds so many registers that the block fits, and any other as many as it likes.
#define __launch_bounds__(...) __attribute__((aligned(::simt::power_of_two(__VA_ARGS__))))

namespace simt {

constexpr unsigned power_of_two(unsigned least, unsigned = 1) {
  unsigned power = 1;
  while (power < least) power *= 2;
  return power;
}

// A kernel that would hang or be undefined on a device: threads of a block that wait at different barriers,
// or for threads that have returned; a block that no device runs; an access that races, is out of bounds or
// misaligned.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

constexpr unsigned max_threads = 1024;  // per block
constexpr unsigned max_lanes = 128;     // per warp
// Per block: what a device gives to a kernel that asks for no more, and to one that does.
constexpr size_t max_shared_bytes = 48 << 10, most_shared_bytes = 227 << 10;
// Blocks of this kernel may have so much dynamic shared memory: what it asks a device for.
void allow_shared(const void *function, size_t bytes);

// In which order the threads of a block run between two barriers. What depends on it is a race.
enum class Order { forward, reverse, shuffled };
// The next launches' order; the environment variable SIMT_ORDER sets the first one.
void set_order(Order order);

// Where an address lies, as whoever owns the memory of the device knows it, and from where to where (the end
// exclusive) that is so.
enum class Owner {
  device,  // in memory that may be used
  nobody,  // in the device's memory, but in no allocation
  host,
};
struct Range {
  uintptr_t begin, end;
  Owner owner;
};
// How accesses to memory outside of a block are judged, in kernels that are watched; they are not without it.
// Called while a launch runs, by the thread that runs it.
void set_device_memory(Range (*find)(uintptr_t address));

// A kernel and copies of its arguments: what each thread calls. Lighter to compile than std::function, of
// which a kernel per dtype and operator would make thousands.
class Kernel {
 public:
  template <class Body> Kernel(const Body &body, const void *function)
      : function(function),
        bytes(sizeof(Body)),
        state(new Body(body), [](void *made) { delete static_cast<Body *>(made); }),
        call([](void *made) { (*static_cast<Body *>(made))(); }) {}
  void operator()() const { call(state.get()); }
  // Constants of the launch, which every thread may read.
  bool holds(uintptr_t address) const { return address - reinterpret_cast<uintptr_t>(state.get()) < bytes; }

  const void *const function;  // its code, for its name

 private:
  size_t bytes;
  std::unique_ptr<void, void (*)(void *)> state;
  void (*call)(void *);
};

struct Launch {
  dim3 grid, block;
  size_t dynamic_shared_bytes;
  unsigned warp_width;
  Kernel kernel;
};

// What a device refuses to launch: grids and blocks out of its range, blocks beyond the kernel's launch
// bounds, more shared memory than the kernel asked for. Throws Error.
void check(const Launch &launch);

// Run the kernel once per thread of every block, and return when all have. One launch runs at a time; others
// wait. Throws Error, as check() does.
void run(const Launch &launch);

// ---- called by a running thread --------------------------------------------------------------------------

struct Index {
  dim3 thread, block, block_dim, grid_dim;
};
extern Index current;

unsigned linear_thread();
void *dynamic_shared();
void block_barrier(const char *file, int line);
// Wait for every lane of this warp; what lanes wrote before, they all may read after it.
void warp_barrier(const char *file, int line);
// Wait for every lane of this warp, and return what lane number `source` gave. That orders no memory.
uint64_t exchange(uint64_t mine, unsigned source, const char *file, int line);
// An atomic operation on this memory, which races with no other one, and the code that asked for it.
void note_atomic(const void *memory, size_t bytes, const void *code);

// Let others run until ready(what) says that this thread may go on. Threads that all wait are a deadlock.
void wait_until(bool (*ready)(void *), void *what, const char *file, int line);
// What threads wrote before, all may read and write from here on: they met at a barrier of another kind.
void order_memory();
// This block is wrong.
[[noreturn]] void fail(const std::string &message);
// Another one for each block, of all launches.
uint32_t block_number();

// An array in the memory of a block. Arrays lie apart, so that what runs out of one does not run into the
// next, and hold garbage when a block begins. Each thread that comes to one asks where it is.
class SharedArray {
 public:
  constexpr SharedArray(const char *name, size_t bytes) : name(name), bytes(bytes) {}
  void *place();

 private:
  const char *name;
  size_t bytes;
  uint32_t block = 0;  // the last that had it
  void *at = nullptr;
};

template <class T> T shuffle_from(T value, unsigned lane, const char *file, int line) {
  static_assert(sizeof(T) <= 8, "a lane hands over eight bytes at most");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = exchange(bits, lane, file, line);
  std::memcpy(&value, &bits, sizeof(T));
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
