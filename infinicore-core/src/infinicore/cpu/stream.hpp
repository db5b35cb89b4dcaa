// stream.hpp -- copy and fill that bypass the cache, for outputs too large to be read back from it; and fill
// that does not. A streaming store does not read the line it replaces, which saves a third to a half of the
// traffic.
#pragma once
#include <cstdint>
#include <cstring>

#include "isa.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace infini::cpu::INFINI_ISA {

// Outputs of this many bytes or more are streamed. Up to here a reader may still find them in a cache.
constexpr int64_t kStreamBytes = int64_t(16) << 20;

// Streaming stores are weakly ordered: every thread that made some calls this before it says it is done.
inline void stream_fence() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

inline void stream_copy(void *target, const void *source, int64_t bytes) {
#if defined(__SSE2__)
#if defined(__AVX512F__)
  constexpr int64_t width = 64;
  auto step = [](char *to, const char *from) {
    _mm512_stream_si512(reinterpret_cast<__m512i *>(to), _mm512_loadu_si512(from));
  };
#elif defined(__AVX__)
  constexpr int64_t width = 32;
  auto step = [](char *to, const char *from) {
    _mm256_stream_si256(reinterpret_cast<__m256i *>(to),
                        _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from)));
  };
#else
  constexpr int64_t width = 16;
  auto step = [](char *to, const char *from) {
    _mm_stream_si128(reinterpret_cast<__m128i *>(to),
                     _mm_loadu_si128(reinterpret_cast<const __m128i *>(from)));
  };
#endif
  auto to = static_cast<char *>(target);
  auto from = static_cast<const char *>(source);
  int64_t head =
      -reinterpret_cast<intptr_t>(to) & 63;  // whole lines are what the write-combining buffers want
  if (head > bytes) head = bytes;
  std::memcpy(to, from, size_t(head));
  int64_t at = head;
  for (; at + 64 <= bytes; at += 64)
    for (int64_t part = 0; part < 64; part += width) step(to + at + part, from + at + part);
  std::memcpy(to + at, from + at, size_t(bytes - at));
#else
  std::memcpy(target, source, size_t(bytes));
#endif
}

// The 64 bytes of `line` over and over, in stores as wide. Each waits for the line of memory that it goes to,
// so these are fetched ahead; memset takes longer to memory, and copies of a larger block read that as often.
inline void repeat(void *target, const void *line, int64_t bytes) {
  constexpr int64_t kAhead = 2048;
  typedef uint64_t Line __attribute__((vector_size(64)));
  Line value;
  std::memcpy(&value, line, sizeof(value));
  auto to = static_cast<char *>(target);
  int64_t at = 0;
  for (; at + 64 <= bytes; at += 64) {
    __builtin_prefetch(to + at + kAhead, 1);
    std::memcpy(to + at, &value, sizeof(value));
  }
  std::memcpy(to + at, line, size_t(bytes - at));
}

inline void stream_fill(void *target, uint8_t value, int64_t bytes) {
  alignas(64) uint8_t line[64];
  std::memset(line, value, sizeof(line));
  auto to = static_cast<char *>(target);
  int64_t head = -reinterpret_cast<intptr_t>(to) & 63;
  if (head > bytes) head = bytes;
  std::memset(to, value, size_t(head));
  int64_t at = head;
  for (; at + 64 <= bytes; at += 64) stream_copy(to + at, line, 64);
  std::memset(to + at, value, size_t(bytes - at));
}

}  // namespace infini::cpu::INFINI_ISA
