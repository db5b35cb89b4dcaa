// cpu/scratch.hpp -- memory of one thread that kernels keep between calls: packed panels, widened rows.
// It only grows, so a call that repeats allocates nothing; it is freed when the thread ends.
#pragma once
#include "isa.hpp"

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <new>

namespace infini::cpu::INFINI_ISA {

// At least `bytes` bytes, aligned to a cache line. Contents are lost at the next call with the same Slot on
// this thread: a caller that may run while another's buffer is in use takes another slot.
enum class Scratch { operands, panels, attention };

template <Scratch slot> inline void *scratch(size_t bytes) {
  struct Buffer {
    void *memory = nullptr;
    size_t size = 0;
    ~Buffer() { std::free(memory); }
  };
  static thread_local Buffer buffer;
  if (buffer.size < bytes) {
    std::free(buffer.memory);
    buffer.size = 0;
    // Large buffers take large pages where the system has them: packed panels are walked in many strides at
    // once.
    const size_t page = bytes >= (size_t(1) << 20) ? size_t(1) << 21 : 4096;
    const size_t rounded = (bytes + page - 1) / page * page;
    buffer.memory = std::aligned_alloc(page, rounded);
    if (!buffer.memory) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    if (page > 4096) madvise(buffer.memory, rounded, MADV_HUGEPAGE);
#endif
    buffer.size = rounded;
  }
  return buffer.memory;
}

}  // namespace infini::cpu::INFINI_ISA
