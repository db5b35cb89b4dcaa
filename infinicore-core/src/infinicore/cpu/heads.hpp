// cpu/heads.hpp -- where the heads and tokens of queries, keys, values and caches lie, whatever the order of
// their dimensions; and appending tokens to a cache.
#pragma once
#include "strides.hpp"
#include "thread_pool.hpp"
#include "types.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>

namespace infini::cpu::INFINI_ISA {

// Element e of token t of head h in outer entry o lies o * outer + h * head + t * token + e * element
// elements behind data. What the outer dimension is (a batch, the pages of a cache, none) is its user's to
// say.
struct Heads {
  void *data = nullptr;
  int64_t outer = 0, head = 0, token = 0, element = 0;

  Heads() = default;

  // The last dimension of t holds elements; the others are named by number.
  Heads(const infini_tensor &t, int head_dim, int token_dim, int outer_dim = -1)
      : data(t.data),
        outer(outer_dim < 0 ? 0 : t.strides[outer_dim]),
        head(t.strides[head_dim]),
        token(t.strides[token_dim]),
        element(t.strides[t.ndim - 1]) {}

  template <class T> T *at(int64_t o, int64_t h, int64_t t) const {
    return static_cast<T *>(data) + o * outer + h * head + t * token;
  }
};

// Throws unless the query heads divide evenly among the key-value heads.
inline void check_groups(const char *op, int64_t heads, int64_t kv_heads) {
  if (kv_heads == 0 ? heads != 0 : heads % kv_heads != 0)
    throw Error(INFINI_STATUS_BAD_TENSOR_SHAPE, std::string(op) + ": q has " + std::to_string(heads) +
                                                    " heads, which is no multiple of the " +
                                                    std::to_string(kv_heads) + " heads of the keys");
}

template <class T>
inline void copy_elements(const T *from, int64_t from_step, T *to, int64_t to_step, int64_t count) {
  if (from_step == 1 && to_step == 1)
    std::memcpy(to, from, size_t(count) * sizeof(T));
  else
    for (int64_t i = 0; i < count; ++i) to[i * to_step] = from[i * from_step];
}

// cache[o, h, past(o) + t] = from[o, h, t] for all outer entries, heads and tokens.
template <class Past> inline void append_tokens(const char *op, int32_t dtype, const Heads &from,
                                                const Heads &cache, int64_t outer, int64_t heads,
                                                int64_t tokens, int64_t d, Past &&past) {
  const int64_t grain = std::max<int64_t>(1, 64 * 1024 / (d + 1));
  dispatch_size(op, dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    parallel_for(0, outer * heads * tokens, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t t = i % tokens, h = i / tokens % heads, o = i / tokens / heads;
        copy_elements(from.at<const T>(o, h, t), from.element, cache.at<T>(o, h, past(o) + t), cache.element,
                      d);
      }
    });
  });
}

}  // namespace infini::cpu::INFINI_ISA
