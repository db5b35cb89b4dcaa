// cudalike/layout.hpp -- from an element's number to its place in each of K strided tensors of one shape.
// The host drops, reorders and merges dimensions, and splits what 31 bits cannot count; kernels divide by
// multiplying.
#pragma once
#include <infinicore/plugin.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "dialect.hpp"

#ifndef INFINI_UNROLL
#define INFINI_UNROLL
#endif

namespace infini::cudalike {

inline int64_t numel(const infini_tensor &t) {
  int64_t count = 1;
  for (int32_t d = 0; d < t.ndim; ++d) count *= t.shape[d];
  return count;
}

// Are the elements of t adjacent in C order, from dimension `from` on?
inline bool is_contiguous(const infini_tensor &t, int32_t from = 0) {
  int64_t expected = 1;
  for (int32_t d = t.ndim - 1; d >= from; --d) {
    if (t.shape[d] != 1 && t.strides[d] != expected) return false;
    expected *= t.shape[d];
  }
  return true;
}

inline bool is_aligned(const void *pointer, size_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

// n / divisor for n < 2**31, as a multiplication (Granlund and Montgomery, 1994).
struct Divisor {
  uint32_t divisor = 1, multiplier = 1, shift = 0;

  Divisor() = default;
  explicit Divisor(uint32_t divisor) : divisor(divisor) {
    while (shift < 31 && (uint64_t(1) << shift) < divisor) ++shift;
    multiplier = uint32_t((uint64_t(1) << 32) * ((uint64_t(1) << shift) - divisor) / divisor + 1);
  }
  __device__ uint32_t quotient(uint32_t n) const {
    return (uint32_t(uint64_t(n) * multiplier >> 32) + n) >> shift;
  }
};

// What block number `block` takes of `count` elements that are dealt out in chunks: nothing beyond the end.
struct Stretch {
  uint32_t begin, end;
};
__host__ __device__ inline Stretch stretch(uint32_t block, uint32_t chunk, uint32_t count) {
  const uint64_t begin = uint64_t(block) * chunk, end = begin + chunk;
  return {uint32_t(begin < count ? begin : count), uint32_t(end < count ? end : count)};
}

constexpr int max_dims = 10;  // after merging; kernel arguments have a fixed size

// What a kernel gets: at most 2**31 - 1 elements, innermost dimension first.
template <int K> struct Layout {
  uint32_t count = 1;
  int ndim = 0;
  Divisor sizes[max_dims];
  int64_t strides[K][max_dims] = {};
  int64_t first[K] = {};  // where it begins in each tensor

  // Where element `index` lies, in elements from each tensor's first.
  __device__ void locate(uint32_t index, int64_t (&offsets)[K]) const {
    for (int k = 0; k < K; ++k) offsets[k] = first[k];
    for (int d = 0; d < ndim; ++d) {
      uint32_t place = index;  // the outermost dimension takes what is left, undivided
      if (d + 1 < ndim) {
        index = sizes[d].quotient(index);
        place -= index * sizes[d].divisor;
      }
      for (int k = 0; k < K; ++k) offsets[k] += int64_t(place) * strides[k][d];
    }
  }
};

// The host's side: dimensions outermost first.
template <int K> class Space {
 public:
  struct Dimension {
    int64_t size;
    std::array<int64_t, K> strides;  // in elements
  };

  Space() = default;
  // All dimensions of tensors that agree in shape.
  explicit Space(const std::array<const infini_tensor *, K> &tensors) {
    for (int32_t d = 0; d < tensors[0]->ndim; ++d) {
      Dimension dimension{tensors[0]->shape[d], {}};
      for (int k = 0; k < K; ++k) dimension.strides[k] = tensors[k]->strides[d];
      dims.push_back(dimension);
    }
  }

  int64_t count() const {
    int64_t product = 1;
    for (const Dimension &d : dims) product *= d.size;
    return product;
  }

  // Drop dimensions of size 1 and merge neighbours that are one for every tensor.
  Space &merge() {
    std::vector<Dimension> merged;
    for (const Dimension &d : dims) {
      if (d.size == 1) continue;
      bool joins = !merged.empty();
      for (int k = 0; k < K && joins; ++k) joins = merged.back().strides[k] == d.strides[k] * d.size;
      if (joins) {
        merged.back().size *= d.size;
        merged.back().strides = d.strides;
      } else {
        merged.push_back(d);
      }
    }
    dims = std::move(merged);
    return *this;
  }

  // The same elements in the order that suits memory best: the smallest strides innermost, judged by tensor
  // 0, then 1, .... Only for kernels to which the order of elements means nothing.
  Space &reorder() {
    merge();
    std::stable_sort(dims.begin(), dims.end(), [](const Dimension &a, const Dimension &b) {
      for (int k = 0; k < K; ++k) {
        const int64_t x = std::abs(a.strides[k]), y = std::abs(b.strides[k]);
        if (x != y) return x > y;
      }
      return false;
    });
    return merge();
  }

  // May the first `tensors` of them be moved in vectors of `width` elements? What is contiguous throughout
  // may leave a tail. Of the others one element belongs to each vector. Addresses are checked by the caller.
  bool in_vectors(int64_t width, int tensors = K) const {
    if (dims.empty() || dims.back().size < width || (dims.size() > 1 && dims.back().size % width != 0))
      return false;
    for (int k = 0; k < K; ++k) {
      if (dims.back().strides[k] != (k < tensors ? 1 : 0)) return false;
      for (size_t d = 0; k < tensors && d + 1 < dims.size(); ++d)
        if (dims[d].strides[k] % width != 0) return false;
    }
    return true;
  }

  // The same, counted in vectors; without the tail.
  Space vectors(int64_t width, int tensors = K) const {
    Space counted = *this;
    counted.dims.back().size /= width;
    for (size_t d = 0; d + 1 < dims.size(); ++d)
      for (int k = 0; k < tensors; ++k) counted.dims[d].strides[k] /= width;
    return counted;
  }

  // Parts that 31 bits can count: one, but for the largest tensors.
  std::vector<Layout<K>> parts(const char *op) const {
    std::vector<Layout<K>> found;
    if (count() == 0) return found;
    if (dims.size() > size_t(max_dims))
      throw Error(INFINI_STATUS_NOT_IMPLEMENTED,
                  std::string(op) + ": strides that leave " + std::to_string(dims.size()) +
                      " separate dimensions, but this backend takes at most " + std::to_string(max_dims));
    size_t split = dims.size();
    int64_t inner = 1;
    while (split > 0 && inner * dims[split - 1].size < limit) inner *= dims[--split].size;
    visit(0, split, inner, {}, found);
    return found;
  }

  std::vector<Dimension> dims;

 private:
  static constexpr int64_t limit = int64_t(1) << 31;

  void visit(size_t d, size_t split, int64_t inner, std::array<int64_t, K> first,
             std::vector<Layout<K>> &found) const {
    if (d == split) return found.push_back(layout(split, 0, first));
    const int64_t step = d + 1 == split ? std::max<int64_t>((limit - 1) / inner, 1) : 1;
    for (int64_t at = 0; at < dims[d].size; at += step) {
      std::array<int64_t, K> here = first;
      for (int k = 0; k < K; ++k) here[k] += at * dims[d].strides[k];
      if (d + 1 < split)
        visit(d + 1, split, inner, here, found);
      else
        found.push_back(layout(d, std::min(step, dims[d].size - at), here));
    }
  }

  // Dimensions from `begin` on; the first one cut to `size` where that is not 0.
  Layout<K> layout(size_t begin, int64_t size, const std::array<int64_t, K> &first) const {
    Layout<K> result;
    std::copy(first.begin(), first.end(), result.first);
    for (size_t d = dims.size(); d-- > begin;) {
      const int64_t extent = d == begin && size > 0 ? size : dims[d].size;
      result.sizes[result.ndim] = Divisor(uint32_t(extent));
      for (int k = 0; k < K; ++k) result.strides[k][result.ndim] = dims[d].strides[k];
      result.count *= uint32_t(extent);
      ++result.ndim;
    }
    return result;
  }
};

struct MatrixStrides {
  int64_t row, column;
};

// ceil(a / b) for positive numbers, and the number of blocks as launch() wants it.
inline int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}
inline dim3 blocks(int64_t count) {
  return dim3(static_cast<unsigned>(std::min<int64_t>(std::max<int64_t>(count, 1), 0x7fffffff)));
}

}  // namespace infini::cudalike
