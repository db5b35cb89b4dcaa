// simt/hopper.hpp -- infinicore_cuda/hopper/primitives.hpp for the host executor. A double's build defines
// INFINI_HOPPER="simt/hopper.hpp"; hopper.cpp says how barriers, copies and products behave.
#pragma once
#include <cmath>

#include "simt.hpp"
#include "tensor_map.hpp"

#define INFINI_UNROLL
#define INFINI_LOOP
#define __grid_constant__

namespace simt::hopper {

enum class Type { f16, bf16 };

uint32_t shared_address(const void *shared);
void barrier_init(uint64_t *barrier, unsigned arrivals);
void barrier_arrive(uint64_t *barrier, int64_t expected_bytes);
void barrier_wait(uint64_t *barrier, unsigned parity, const char *file, int line);
void copy_box(void *shared, const TensorMapImage &map, uint64_t *barrier, const int (&at)[5]);
void named_arrive(int number, int threads, bool waits, const char *file, int line);
void product_fence();
void product_commit();
void product_wait(unsigned pending, const char *file, int line);
// `a_registers` or, where it is NULL, the matrix `a`.
void product(Type type, int n, float *d, const uint32_t *a_registers, uint64_t a, uint64_t b, bool add);

}  // namespace simt::hopper

namespace infini::cuda::hopper {

inline uint32_t shared_address(const void *shared) {
  return simt::hopper::shared_address(shared);
}
inline void *shared_memory() {
  return simt::dynamic_shared();
}
template <class... P> void allow_shared(void (*kernel)(P...), size_t bytes) {
  simt::allow_shared(reinterpret_cast<const void *>(kernel), bytes);
}

template <int> void keep_registers() {}
template <int> void take_registers() {}

inline void barrier_init(uint64_t *barrier, unsigned arrivals) {
  simt::hopper::barrier_init(barrier, arrivals);
}
inline void barriers_ready() {}
inline void barrier_arrive(uint64_t *barrier) {
  simt::hopper::barrier_arrive(barrier, 0);
}
inline void barrier_expect(uint64_t *barrier, unsigned bytes) {
  simt::hopper::barrier_arrive(barrier, bytes);
}
inline void barrier_wait(uint64_t *barrier, unsigned parity, const char *file = __builtin_FILE(),
                         int line = __builtin_LINE()) {
  simt::hopper::barrier_wait(barrier, parity, file, line);
}

inline void copy_box(void *shared, const TensorMap *map, uint64_t *barrier, int c0, int c1, int c2, int c3,
                     int c4) {
  simt::hopper::TensorMapImage image;
  std::memcpy(&image, map, sizeof(image));
  simt::hopper::copy_box(shared, image, barrier, {c0, c1, c2, c3, c4});
}
inline void prefetch_map(const TensorMap *) {}
inline void publish_stores() {}

inline void named_sync(int number, int threads, const char *file = __builtin_FILE(),
                       int line = __builtin_LINE()) {
  simt::hopper::named_arrive(number, threads, true, file, line);
}
inline void named_arrive(int number, int threads) {
  simt::hopper::named_arrive(number, threads, false, "", 0);
}

inline void product_fence() {
  simt::hopper::product_fence();
}
inline void product_commit() {
  simt::hopper::product_commit();
}
template <int pending> void product_wait(const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
  simt::hopper::product_wait(pending, file, line);
}
template <class R, int count> void hold(R (&)[count]) {}

template <class T, int n> struct Product {
  static constexpr auto type =
      std::is_same_v<T, cudalike::float16> ? simt::hopper::Type::f16 : simt::hopper::Type::bf16;
  static void of_shared(float (&d)[n / 2], uint64_t a, uint64_t b, bool add) {
    simt::hopper::product(type, n, d, nullptr, a, b, add);
  }
  static void of_registers(float (&d)[n / 2], const uint32_t *a, uint64_t b, bool add) {
    simt::hopper::product(type, n, d, a, 0, b, add);
  }
};

inline float exp2(float x) {
  return std::exp2(x);
}
template <class T> uint32_t pack(float low, float high) {
  return cudalike::store<T>(low).bits | uint32_t(cudalike::store<T>(high).bits) << 16;
}

}  // namespace infini::cuda::hopper
