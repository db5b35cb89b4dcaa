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

// Few threads with several vectors each: more rows are under way at once, and barriers have fewer to wait
// for.
inline unsigned row_threads(int64_t length) {
  return threads_for(length, row_items);
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
        compute_t<T> numbers[width];
        unpack(*as_vectors<width>(row + at), numbers);
        for (int j = 0; j < width; ++j) items[i + j] = numbers[j];
      } else {
        for (int j = 0; j < width; ++j) items[i + j] = otherwise;
      }
    } else {
      items[i] = at < length ? load(row[at * stride]) : otherwise;
    }
  }
}

// A piece as it lies in memory: it waits in fewer registers than its numbers would take, and of what all rows
// share, weights say, can be asked for early. Beyond the end stands the row's first element; there has to be
// one.
template <int width, class T> struct Piece {
  Vector<T, width> vectors[row_items / width];

  __device__ void read(const T *row, int64_t stride, int64_t length, int64_t base) {
    for (int i = 0; i < row_items / width; ++i) {
      const int64_t place = item_place<width>(base, i * width), at = place < length ? place : 0;
      vectors[i] = *as_vectors<width>(row + (width > 1 ? at : at * stride));
    }
  }
  __device__ compute_t<T> operator[](int item) const {
    return load(vectors[item / width].items[item % width]);
  }
};

// Write a piece whose item i is value(i).
template <int width, class T, class F>
__device__ inline void store_each(T *row, int64_t stride, int64_t length, int64_t base, F &&value) {
  for (int i = 0; i < row_items; i += width) {
    const int64_t at = item_place<width>(base, i);
    if (at >= length) continue;
    Vector<T, width> stored;
    for (int j = 0; j < width; ++j) stored.items[j] = store<T>(value(i + j));
    store_vector(row + (width > 1 ? at : at * stride), stored);
  }
}

template <int width, class T> __device__ inline void store_items(T *row, int64_t stride, int64_t length,
                                                                 int64_t base,
                                                                 const compute_t<T> (&items)[row_items]) {
  store_each<width>(row, stride, length, base, [&](int i) { return items[i]; });
}

// Is a row one piece, which is read once?
__device__ inline bool in_one_piece(int64_t length) {
  return length > 0 && length <= int64_t(blockDim.x) * row_items;
}

// Call f(base, loaded) for the pieces of a row; `loaded` tells that the items of the pass before are still
// there.
template <class F> __device__ inline void for_pieces(int64_t length, bool again, F &&f) {
  const int64_t piece = int64_t(blockDim.x) * row_items;
  for (int64_t base = 0; base < length; base += piece) f(base, again && in_one_piece(length));
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

  // Several, `step` apart.
  template <int count, class C> __device__ void read(int64_t offset, int64_t step, C (&values)[count]) const {
    switch (dtype) {
      case INFINI_DTYPE_F16:
        return read_as<float16>(offset, step, values);
      case INFINI_DTYPE_BF16:
        return read_as<bfloat16>(offset, step, values);
      case INFINI_DTYPE_F32:
        return read_as<float>(offset, step, values);
      default:
        return read_as<double>(offset, step, values);
    }
  }
  template <class T, int count, class C>
  __device__ void read_as(int64_t offset, int64_t step, C (&values)[count]) const {
    INFINI_UNROLL
    for (int i = 0; i < count; ++i) values[i] = C(load(static_cast<const T *>(data)[offset + i * step]));
  }
};
inline FloatReader floats(const infini_tensor *t) {
  return {t != nullptr ? t->data : nullptr, t != nullptr ? t->dtype : int32_t(INFINI_DTYPE_F32),
          t != nullptr && t->ndim > 0 ? t->strides[0] : 0};
}

}  // namespace infini::cudalike
