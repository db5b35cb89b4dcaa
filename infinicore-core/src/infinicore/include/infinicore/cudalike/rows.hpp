// cudalike/rows.hpp -- rows along one axis of strided tensors, a block for each: read once into registers, 16
// bytes at a time where the memory allows, and in several pieces where a row is longer than a block holds.
#pragma once
#include "elementwise.hpp"
#include "reduce.hpp"

namespace infini::cudalike {

constexpr int row_items = 16;  // of a piece, per thread

// The host's side: the rows of K tensors of one shape. A row's number counts the other dimensions in C order.
template <int K> class Rows {
 public:
  Rows(const std::array<const infini_tensor *, K> &tensors, int64_t axis) {
    const infini_tensor &first = *tensors[0];
    if (axis < 0) axis += first.ndim;
    length = first.shape[axis];
    for (int k = 0; k < K; ++k) strides[k] = tensors[k]->strides[axis];
    Space<K> space(tensors);
    space.dims.erase(space.dims.begin() + axis);
    space_ = space.merge();
  }

  std::vector<Layout<K>> parts(const char *op) const { return space_.parts(op); }
  int64_t count() const { return space_.count(); }
  bool empty() const { return length == 0 || space_.count() == 0; }

  // May every row be read in vectors of `width` elements? The pointers are checked by the caller.
  bool in_vectors(int64_t width) const {
    if (length % width != 0) return false;
    for (int k = 0; k < K; ++k) {
      if (strides[k] != 1) return false;
      for (const auto &d : space_.dims)
        if (d.strides[k] % width != 0) return false;
    }
    return true;
  }

  int64_t length = 0;
  std::array<int64_t, K> strides{};  // along the rows

 private:
  Space<K> space_;
};

inline unsigned row_threads(int64_t length) {
  return threads_for(length, row_items / 2);
}

// Which elements of a row the items of a thread are: neighbours in groups of `width`.
template <int width> __device__ inline int64_t item_place(int64_t base, int item) {
  return base + (int64_t(item / width) * blockDim.x + threadIdx.x) * width + item % width;
}

// Read a piece that begins at `base`; `otherwise` stands beyond the end.
template <int width, class T> __device__ inline void load_items(const T *row, int64_t stride, int64_t length,
                                                                int64_t base, compute_t<T> otherwise,
                                                                compute_t<T> (&items)[row_items]) {
  for (int i = 0; i < row_items; i += width) {
    const int64_t at = item_place<width>(base, i);
    if constexpr (width > 1) {
      if (at < length) {
        const auto loaded = *reinterpret_cast<const Vector<T, width> *>(row + at);
        for (int j = 0; j < width; ++j) items[i + j] = load(loaded.items[j]);
      } else {
        for (int j = 0; j < width; ++j) items[i + j] = otherwise;
      }
    } else {
      items[i] = at < length ? load(row[at * stride]) : otherwise;
    }
  }
}

template <int width, class T> __device__ inline void store_items(T *row, int64_t stride, int64_t length,
                                                                 int64_t base,
                                                                 const compute_t<T> (&items)[row_items]) {
  for (int i = 0; i < row_items; i += width) {
    const int64_t at = item_place<width>(base, i);
    if (at >= length) continue;
    if constexpr (width > 1) {
      Vector<T, width> stored;
      for (int j = 0; j < width; ++j) stored.items[j] = store<T>(items[i + j]);
      *reinterpret_cast<Vector<T, width> *>(row + at) = stored;
    } else {
      row[at * stride] = store<T>(items[i]);
    }
  }
}

// Call f(base, loaded) for the pieces of a row; `loaded` tells that the items of the pass before are still
// there.
template <class F> __device__ inline void for_pieces(int64_t length, bool again, F &&f) {
  const int64_t piece = int64_t(blockDim.x) * row_items;
  for (int64_t base = 0; base < length; base += piece) f(base, again && length <= piece);
}

// A float whose dtype is only known at run time: weights and tables, which are small.
struct FloatReader {
  const void *data;
  int32_t dtype;
  int64_t stride;

  template <class C> __device__ C at(int64_t offset) const {
    switch (dtype) {
      case INFINI_DTYPE_F16:
        return C(load(static_cast<const float16 *>(data)[offset]));
      case INFINI_DTYPE_BF16:
        return C(load(static_cast<const bfloat16 *>(data)[offset]));
      case INFINI_DTYPE_F32:
        return C(static_cast<const float *>(data)[offset]);
      default:
        return C(static_cast<const double *>(data)[offset]);
    }
  }
  template <class C> __device__ C get(int64_t i) const { return at<C>(i * stride); }
};
inline FloatReader floats(const infini_tensor *t) {
  return {t != nullptr ? t->data : nullptr, t != nullptr ? t->dtype : int32_t(INFINI_DTYPE_F32),
          t != nullptr && t->ndim > 0 ? t->strides[0] : 0};
}

}  // namespace infini::cudalike
