// thread_pool.hpp -- the one thread pool of the CPU backend: parallel_for and how many threads run it.
// Library products are called single-threaded from inside it: two pools would oversubscribe the machine.
#pragma once
#include <cstdint>
#include <type_traits>

namespace infini::cpu {

// Threads that a parallel_for may use, the caller included: INFINICORE_NUM_THREADS, else the processors
// this process may run on. Throws infini::Error (BAD_PARAM) when the variable is not a number from 1 to 1024.
int num_threads();

namespace detail {
using Chunk = void (*)(void *context, int64_t begin, int64_t end);
void parallel(int64_t begin, int64_t end, int64_t grain, Chunk chunk, void *context);
}  // namespace detail

// Call fn(begin, end) on sub-ranges that cover [begin, end) once, in parallel.
//
// A sub-range has at least grain elements (but for the last), and there are at most four per thread, whose
// bounds depend on the arguments and num_threads() alone: what a kernel sums per sub-range is reproducible.
// Choose grain so that one takes several microseconds. The call returns when all are done. The first
// exception thrown is rethrown here and skips sub-ranges not yet begun. Calls made from inside fn, and
// calls while another thread's is running, execute on the calling thread.
template <class Fn> void parallel_for(int64_t begin, int64_t end, int64_t grain, Fn &&fn) {
  if (begin >= end) return;
  if (end - begin <= grain) {
    fn(begin, end);
    return;
  }
  using Body = std::remove_reference_t<Fn>;
  detail::parallel(
      begin, end, grain,
      [](void *context, int64_t from, int64_t to) { (*static_cast<Body *>(context))(from, to); },
      const_cast<void *>(static_cast<const void *>(&fn)));
}

}  // namespace infini::cpu
