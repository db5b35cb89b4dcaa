// simt/dialect.hpp -- the dialect of the host executor: what infinicore/cudalike/dialect.hpp describes.
// A double's build defines INFINI_DIALECT="simt/dialect.hpp" and, for other widths, INFINI_WARP_WIDTH.
#pragma once
#include <infinicore/plugin.hpp>

#include <cmath>
#include <type_traits>

#include "simt.hpp"

#ifndef INFINI_WARP_WIDTH
#define INFINI_WARP_WIDTH 32
#endif

// Each thread of a block that comes here gets the same array.
#define INFINI_SHARED(type, name, count)                                           \
  static ::simt::SharedArray name##_of_block(#name, sizeof(type) * size_t(count)); \
  type(&name)[count] = *static_cast<type(*)[count]>(name##_of_block.place())

namespace infini::cudalike {

constexpr unsigned warp_width = INFINI_WARP_WIDTH;

using Stream = infinirtStream_t;

// What a stream of the double does with a launch: run it now, or queue it. Defined by the double.
void enqueue(Stream stream, simt::Launch launch);

template <class T>
T shuffle(T value, unsigned lane, const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
  return simt::shuffle_from(value, lane, file, line);
}
template <class T>
T shuffle_xor(T value, unsigned mask, const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
  return simt::shuffle_from(value, (simt::linear_thread() % warp_width) ^ mask, file, line);
}
template <class T>
T shuffle_up(T value, unsigned delta, const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
  const unsigned lane = simt::linear_thread() % warp_width;
  return simt::shuffle_from(value, lane < delta ? lane : lane - delta, file, line);
}
inline void sync_warp(const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
  simt::warp_barrier(file, line);
}

// One launch at a time and no preemption: any operation is atomic. The check of accesses is told so, and does
// not see what the function itself reads and writes.
#define INFINI_ATOMIC __attribute__((noinline, no_sanitize("thread")))
template <class T> INFINI_ATOMIC T atomic_add(T *target, T value) {
  simt::note_atomic(target, sizeof(T), __builtin_return_address(0));
  const T old = *target;
  *target = T(old + value);
  return old;
}
template <class T>
INFINI_ATOMIC T atomic_cas(T *target, std::common_type_t<T> expected, std::common_type_t<T> value) {
  simt::note_atomic(target, sizeof(T), __builtin_return_address(0));
  const T old = *target;
  if (old == expected) *target = value;
  return old;
}
#undef INFINI_ATOMIC

template <class T> T *dynamic_shared() {
  return static_cast<T *>(simt::dynamic_shared());
}

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, Stream stream, A... arguments) {
  enqueue(stream, {grid, block, shared_bytes, warp_width,
                   simt::Kernel([=] { kernel(arguments...); }, reinterpret_cast<const void *>(kernel))});
}

}  // namespace infini::cudalike
