// cudalike/reduce.hpp -- combining what the threads of a warp, or of a block, hold: for any width of a warp.
// An Op has identity() and merge(a, b), which is associative and commutative. Every thread gets the result.
#pragma once
#include "types.hpp"

namespace infini::cudalike {

// Shuffles values of any size, word by word.
template <class T> __device__ inline T shuffle_xor_words(T value, unsigned mask) {
  if constexpr (std::is_arithmetic_v<T>) {
    return shuffle_xor(value, mask);
  } else {
    static_assert(sizeof(T) % 4 == 0, "whole words");
    constexpr int count = int(sizeof(T) / 4);
    uint32_t words[count];
    memcpy(words, &value, sizeof(T));
    for (int i = 0; i < count; ++i) words[i] = shuffle_xor(words[i], mask);
    memcpy(&value, words, sizeof(T));
    return value;
  }
}

template <class Op, class T> __device__ inline T warp_reduce(const Op &op, T value) {
  for (unsigned mask = warp_width / 2; mask > 0; mask /= 2)
    value = op.merge(value, shuffle_xor_words(value, mask));
  return value;
}

// Of a block; the compiler leaves kernels so many registers that they fit, where __launch_bounds__ says so.
constexpr unsigned most_threads = 512;
constexpr unsigned max_warps = most_threads / warp_width;

// blockDim.x threads in whole warps, the y and z sizes 1. Begins and ends with what a barrier guarantees, so
// that it may be called again at once.
template <class Op, class T> __device__ inline T block_reduce(const Op &op, T value) {
  INFINI_SHARED(T, partial, max_warps);
  value = warp_reduce(op, value);
  const unsigned warps = blockDim.x / warp_width;
  if (warps == 1) {
    sync_warp();  // shuffles order no memory
    return value;
  }
  const unsigned lane = threadIdx.x % warp_width;
  __syncthreads();
  if (lane == 0) partial[threadIdx.x / warp_width] = value;
  __syncthreads();
  value = op.identity();
  for (unsigned i = lane; i < warps; i += warp_width) value = op.merge(value, partial[i]);
  return warp_reduce(op, value);
}

template <class C> struct SumOf {
  __device__ C identity() const { return C{}; }
  __device__ C merge(C a, C b) const { return C(a + b); }
};
// Of numbers; a NaN wins.
template <class C> struct MaxOf {
  __device__ C identity() const { return -math::infinity<C>(); }
  __device__ C merge(C a, C b) const { return a > b || math::is_nan(a) ? a : b; }
};
template <class C> struct MinOf {
  __device__ C identity() const { return math::infinity<C>(); }
  __device__ C merge(C a, C b) const { return a < b || math::is_nan(a) ? a : b; }
};

template <class C> __device__ inline C block_sum(C value) {
  return block_reduce(SumOf<C>{}, value);
}
template <class C> __device__ inline C block_max(C value) {
  return block_reduce(MaxOf<C>{}, value);
}

// Threads for a row of `count` elements, of which each takes about `each`: whole warps, most_threads at most.
inline unsigned threads_for(int64_t count, int64_t each = 4) {
  const int64_t warps = (count + each * warp_width - 1) / (each * warp_width);
  const int64_t most = max_warps;
  return unsigned((warps < 1 ? 1 : warps > most ? most : warps) * warp_width);
}

}  // namespace infini::cudalike
