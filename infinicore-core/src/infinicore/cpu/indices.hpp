// indices.hpp -- tensors of integers that say where something lies: read whatever their dtype, and checked.
// One value at a time, or a whole tensor before anything is written, so that an index out of range leaves
// every tensor as it was.
#pragma once
#include "kernel.hpp"
#include "runs.hpp"
#include "types.hpp"

#include <cstdint>
#include <string>

namespace infini::cpu::INFINI_ISA {

// ---- one value ------------------------------------------------------------------------------------------

// The integer `offset` elements behind the first. A u64 beyond i64 reads as negative: out of range either
// way.
inline int64_t index_at(const infini_tensor &t, int64_t offset) {
  const auto as = [&](auto tag) {
    return int64_t(static_cast<const typename decltype(tag)::type *>(t.data)[offset]);
  };
  switch (t.dtype) {  // the usual ones without a call
    case INFINI_DTYPE_I64:
      return as(tag<int64_t>{});
    case INFINI_DTYPE_I32:
      return as(tag<int32_t>{});
    default:
      return dispatch_ints("index", t.dtype, as);
  }
}

// Element i of one dimension.
inline int64_t index_of(const infini_tensor &t, int64_t i) {
  return index_at(t, i * t.strides[0]);
}

// "op: name holds value, but limit".
[[noreturn]] inline void out_of_range(const char *op, const char *name, int64_t value,
                                      const std::string &limit) {
  throw Error(INFINI_STATUS_INDEX_OUT_OF_RANGE,
              std::string(op) + ": " + name + " holds " + std::to_string(value) + ", but " + limit);
}

// Throws unless 0 <= index < size; `of` names what has that size, as in "k_cache has nb".
inline void check_index(const char *op, const char *name, int64_t index, int64_t size, const char *of) {
  if (index < 0 || index >= size) out_of_range(op, name, index, std::string(of) + "=" + std::to_string(size));
}

// ---- a tensor of them -------------------------------------------------------------------------------------

constexpr int64_t kIndexBlock = 1024;  // indices converted at a time

// The elements of one index tensor. They point along dimension `dim`, of size `extent`, of the tensor that
// the caller knows as `of`; `op`, `name` and `of` are what errors say.
class Indices {
 public:
  Indices(const char *op, const char *name, const infini_tensor &index, const char *of, int64_t dim,
          int64_t extent);

  // Throws INDEX_OUT_OF_RANGE unless every element lies in 0 .. extent-1.
  void check(const void *data) const;

  // The n elements from element `at` on, `stride` apart: in place where they are that already, else in
  // buffer.
  const int64_t *read(const void *data, int64_t at, int64_t stride, int64_t n, int64_t *buffer) const;

 private:
  const char *op_, *name_, *of_;
  int64_t dim_, extent_, dtype_;
  Space<1> elements_, outer_;  // in C order, and all but the row in the order that suits memory
  Space<1>::Row row_;
};

}  // namespace infini::cpu::INFINI_ISA
