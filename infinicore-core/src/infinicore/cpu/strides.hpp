// strides.hpp -- walk N tensors of one shape together, whatever their strides, one row at a time.
// Dimensions are dropped, reordered and merged first, so that most layouts become one long row.
#pragma once
#include <infinicore/plugin.hpp>

#include <cstdint>
#include <string>
#include <utility>

#include "isa.hpp"

namespace infini::cpu::INFINI_ISA {

constexpr int kMaxDims = 64;

inline int64_t numel(const infini_tensor &t) {
  int64_t count = 1;
  for (int32_t d = 0; d < t.ndim; ++d) count *= t.shape[d];
  return count;
}

// Are the elements of t adjacent in C order?
inline bool is_contiguous(const infini_tensor &t) {
  int64_t expected = 1;
  for (int32_t d = t.ndim - 1; d >= 0; --d) {
    if (t.shape[d] != 1 && t.strides[d] != expected) return false;
    expected *= t.shape[d];
  }
  return true;
}

// An iteration space with one stride per operand and dimension. Operand 0 is the one written, if any.
template <int N> struct Space {
  int ndim = 0;
  int64_t shape[kMaxDims];
  int64_t strides[N][kMaxDims];  // elements

  Space() = default;

  // The leading dims of all tensors; they agree in those shapes. dims < 0: all but -dims - 1 trailing ones
  // (so -1 is every dim, -2 all but the last).
  explicit Space(const infini_tensor *const (&tensors)[N], int dims = -1) {
    const infini_tensor &first = *tensors[0];
    int count = dims < 0 ? first.ndim + dims + 1 : dims;
    if (count > kMaxDims)
      throw Error(INFINI_STATUS_BAD_TENSOR_SHAPE, "the cpu backend takes at most " +
                                                      std::to_string(kMaxDims) + " dimensions, not " +
                                                      std::to_string(count));
    for (int d = 0; d < count; ++d) {
      int64_t step[N];
      for (int i = 0; i < N; ++i) step[i] = tensors[i]->strides[d];
      append(first.shape[d], step);
    }
  }

  // Add an innermost dimension.
  void append(int64_t extent, const int64_t (&step)[N]) {
    shape[ndim] = extent;
    for (int i = 0; i < N; ++i) strides[i][ndim] = step[i];
    ++ndim;
  }

  int64_t numel() const {
    int64_t count = 1;
    for (int d = 0; d < ndim; ++d) count *= shape[d];
    return count;
  }

  // Drop dimensions of extent 1 and merge neighbours that are one for every operand.
  Space &merge() {
    int kept = 0;
    for (int d = 0; d < ndim; ++d) {
      if (shape[d] == 1) continue;
      bool joins = kept > 0;
      for (int i = 0; i < N && joins; ++i) joins = strides[i][kept - 1] == strides[i][d] * shape[d];
      int at = joins ? kept - 1 : kept++;
      shape[at] = joins ? shape[at] * shape[d] : shape[d];
      for (int i = 0; i < N; ++i) strides[i][at] = strides[i][d];
    }
    ndim = kept;
    return *this;
  }

  // The same set of elements in the order that suits memory best: the smallest strides innermost, judged
  // by operand 0, then 1, .... Only for kernels to which the order of elements means nothing.
  Space &reorder() {
    auto inside = [this](int a, int b) {  // does dimension a belong further inside than b?
      for (int i = 0; i < N; ++i) {
        int64_t x = strides[i][a] < 0 ? -strides[i][a] : strides[i][a];
        int64_t y = strides[i][b] < 0 ? -strides[i][b] : strides[i][b];
        if (x != y && x != 0 && y != 0) return x < y;
      }
      return false;
    };
    merge();
    for (int d = 1; d < ndim; ++d)
      for (int e = d; e > 0 && inside(e - 1, e); --e) {
        std::swap(shape[e - 1], shape[e]);
        for (int i = 0; i < N; ++i) std::swap(strides[i][e - 1], strides[i][e]);
      }
    return merge();
  }

  // Take the innermost dimension out: the row that a kernel handles at once. Extent 1 when there is none.
  struct Row {
    int64_t extent = 1;
    int64_t strides[N] = {};
  };
  Row pop() {
    Row row;
    if (ndim == 0) return row;
    --ndim;
    row.extent = shape[ndim];
    for (int i = 0; i < N; ++i) row.strides[i] = strides[i][ndim];
    return row;
  }

  // Call fn(offsets) for the elements begin .. end-1 in C order; offsets[i] is operand i's, in elements.
  template <class Fn> void for_each(int64_t begin, int64_t end, Fn &&fn) const {
    if (begin >= end) return;
    int64_t index[kMaxDims], offsets[N] = {}, rest = begin;
    for (int d = ndim - 1; d >= 0; --d) {
      index[d] = rest % shape[d];
      rest /= shape[d];
      for (int i = 0; i < N; ++i) offsets[i] += index[d] * strides[i][d];
    }
    for (int64_t at = begin;;) {
      fn(static_cast<const int64_t(&)[N]>(offsets));
      if (++at == end) return;
      for (int d = ndim - 1; d >= 0; --d) {
        for (int i = 0; i < N; ++i) offsets[i] += strides[i][d];
        if (++index[d] < shape[d]) break;
        index[d] = 0;
        for (int i = 0; i < N; ++i) offsets[i] -= strides[i][d] * shape[d];
      }
    }
  }
};

// The usual shape of a row kernel: `Space<2> rows({&out, &x}, -2).merge()` once, at create, then at execute
//   parallel_for(0, rows.numel(), grain, [&](int64_t begin, int64_t end) {
//     rows.for_each(begin, end, [&](const int64_t (&at)[2]) { kernel(out + at[0], x + at[1], n); }); });

}  // namespace infini::cpu::INFINI_ISA
