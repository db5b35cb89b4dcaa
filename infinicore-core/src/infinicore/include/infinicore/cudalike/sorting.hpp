// cudalike/sorting.hpp -- rows of numbers brought into order, stably: for sort, topk and sampling.
// Numbers become unsigned keys; a block sorts 1024 of them in shared memory, then sorted runs are merged in
// pairs, of which only the first `keep` elements are kept. Equal keys are told apart by their index.
#pragma once
#include "elementwise.hpp"
#include "reduce.hpp"

namespace infini::cudalike {

// Unsigned numbers in the order of T: NaN above everything, both zeros equal.
template <class T> __device__ inline uint64_t order_key(T x) {
  using C = compute_t<T>;
  const C value = load(x);
  if constexpr (std::is_floating_point_v<C>) {
    using Bits = std::conditional_t<sizeof(C) == 8, uint64_t, uint32_t>;
    constexpr Bits sign = Bits(1) << (8 * sizeof(C) - 1);
    if (math::is_nan(value)) return ~Bits(0);
    const Bits bits = value == C(0) ? Bits(0) : bit_cast<Bits>(value);
    return Bits(bits & sign ? ~bits : bits | sign);
  } else if constexpr (std::is_signed_v<C>) {
    return uint64_t(int64_t(value)) ^ (uint64_t(1) << 63);
  } else {
    return value;
  }
}

struct Keyed {
  uint64_t key;
  uint32_t index;
  uint32_t unused;
};
__host__ __device__ inline bool precedes(const Keyed &a, const Keyed &b) {
  return a.key != b.key ? a.key < b.key : a.index < b.index;
}

constexpr int64_t run_length = 1024;

// How a row of `length` elements is cut into runs that cover `cover` elements each and keep `keep` at most.
struct Runs {
  int64_t length, cover, keep;
  __host__ __device__ int64_t stride() const { return cover < keep ? cover : keep; }
  __host__ __device__ int64_t count() const { return (length + cover - 1) / cover; }
  __host__ __device__ int64_t size(int64_t run) const {  // elements of one run
    const int64_t rest = length - run * cover, covered = rest < cover ? rest : cover;
    return covered <= 0 ? 0 : covered < keep ? covered : keep;
  }
};

// Blocks that share rows of `length` elements: one each, or more where rows are few. The y size counts those
// of a row, and first_of_row() and step_of_row() are how their threads walk it.
inline dim3 row_blocks(int64_t rows, int64_t length) {
  dim3 grid = blocks(rows);
  grid.y = unsigned(std::max<int64_t>(std::min<int64_t>(ceil_div(length, 2048), 1024 / int64_t(grid.x)), 1));
  return grid;
}
__device__ inline int64_t first_of_row() {
  return int64_t(blockIdx.y) * blockDim.x + threadIdx.x;
}
__device__ inline int64_t step_of_row() {
  return int64_t(gridDim.y) * blockDim.x;
}

template <class T> __global__ void __launch_bounds__(most_threads)
    key_kernel(Keyed *keys, const T *in, Layout<1> rows, int64_t first_row, int64_t length, int64_t stride,
               bool descending) {
  int64_t at[1];
  rows.locate(blockIdx.x, at);
  Keyed *mine = keys + (first_row + blockIdx.x) * length;
  for (int64_t i = first_of_row(); i < length; i += step_of_row()) {
    const uint64_t key = order_key(in[at[0] + i * stride]);
    mine[i] = {descending ? ~key : key, uint32_t(i), 0};
  }
}

// grid: runs of a row, rows. Bitonic sort of `size` elements, a power of two, in dynamic shared memory.
static __global__ void __launch_bounds__(elementwise_threads)
    run_kernel(const Keyed *in, Keyed *out, Runs runs, int64_t out_row, int size, int64_t first_row) {
  Keyed *shared = dynamic_shared<Keyed>();
  const int64_t row = first_row + blockIdx.y, begin = int64_t(blockIdx.x) * runs.cover;
  for (int i = int(threadIdx.x); i < size; i += int(blockDim.x))
    shared[i] = begin + i < runs.length && i < runs.cover ? in[row * runs.length + begin + i]
                                                          : Keyed{~uint64_t(0), ~uint32_t(0), 0};
  __syncthreads();
  for (int block = 2; block <= size; block *= 2)
    for (int distance = block / 2; distance > 0; distance /= 2) {
      for (int i = int(threadIdx.x); i < size / 2; i += int(blockDim.x)) {
        const int low = i / distance * 2 * distance + i % distance, high = low + distance;
        const bool ascending = (low & block) == 0;
        const Keyed a = shared[low], b = shared[high];
        if (precedes(b, a) == ascending) {
          shared[low] = b;
          shared[high] = a;
        }
      }
      __syncthreads();
    }
  Keyed *target = out + row * out_row + int64_t(blockIdx.x) * runs.stride();
  const int kept = int(runs.size(blockIdx.x));
  for (int i = int(threadIdx.x); i < kept; i += int(blockDim.x)) target[i] = shared[i];
}

// Each element of a pair of runs finds its place in the merged one: its own rank and its rank in the other
// run.
static __global__ void __launch_bounds__(elementwise_threads)
    merge_kernel(const Keyed *in, Keyed *out, Runs runs, Runs merged, int64_t in_row, int64_t out_row,
                 int64_t first_row) {
  const int64_t row = first_row + blockIdx.y, stride = runs.stride();
  const int64_t index = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t run = index / stride, i = index % stride;
  if (run >= runs.count() || i >= runs.size(run)) return;
  const Keyed *base = in + row * in_row, *other = base + (run ^ 1) * stride;
  const Keyed mine = base[run * stride + i];
  int64_t low = 0, high = (run ^ 1) < runs.count() ? runs.size(run ^ 1) : 0;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (precedes(other[middle], mine))
      low = middle + 1;
    else
      high = middle;
  }
  const int64_t place = i + low;
  if (place < merged.size(run / 2)) out[row * out_row + run / 2 * merged.stride() + place] = mine;
}

// The host's side: sorts `rows` rows of `length` keys; the first `keep` of each are what is wanted.
class RowSort {
 public:
  RowSort() = default;
  RowSort(const char *op, int64_t rows, int64_t length, int64_t keep)
      : rows_(rows), length_(length), keep_(keep) {
    if (length >= int64_t(1) << 31)
      throw Error(INFINI_STATUS_NOT_IMPLEMENTED, std::string(op) + ": rows of 2**31 or more elements");
  }

  // Two buffers of keys.
  uint64_t workspace() const { return 2 * uint64_t(rows_ * length_) * sizeof(Keyed); }

  // Returns where the sorted keys are: row r begins at r * stride().
  template <class T> Keyed *run(const T *in, const std::vector<Layout<1>> &layouts, int64_t element_stride,
                                bool descending, void *workspace, Stream stream) const {
    auto from = static_cast<Keyed *>(workspace), to = from + rows_ * length_;
    int64_t first = 0;
    for (const Layout<1> &layout : layouts) {
      launch(key_kernel<T>, row_blocks(layout.count, length_), dim3(threads_for(length_)), 0, stream, from,
             in, layout, first, length_, element_stride, descending);
      first += layout.count;
    }
    return order(from, to, stream);
  }

  // The same for keys that are there already, in the first half of the workspace.
  Keyed *order(Keyed *from, Keyed *to, Stream stream) const {
    Runs runs = {length_, run_length, keep_};
    int size = 2;
    while (size < run_length && size < length_) size *= 2;
    int64_t row_size = runs.count() * runs.stride();  // at most length_, or the only run's capacity
    row_size = std::min(row_size, length_);
    const unsigned threads =
        unsigned(std::max<int64_t>(std::min<int64_t>(size / 2, elementwise_threads), warp_width));
    for_rows([&](int64_t first, unsigned count) {
      launch(run_kernel, dim3(unsigned(runs.count()), count), dim3(threads), size_t(size) * sizeof(Keyed),
             stream, static_cast<const Keyed *>(from), to, runs, row_size, size, first);
    });
    while (runs.count() > 1) {
      std::swap(from, to);
      const Runs merged = {length_, runs.cover * 2, keep_};
      const int64_t merged_row = std::min(merged.count() * merged.stride(), length_);
      for_rows([&](int64_t first, unsigned count) {
        dim3 grid = blocks(ceil_div(runs.count() * runs.stride(), elementwise_threads));
        grid.y = count;
        launch(merge_kernel, grid, dim3(elementwise_threads), 0, stream, static_cast<const Keyed *>(from), to,
               runs, merged, row_size, merged_row, first);
      });
      runs = merged;
      row_size = merged_row;
    }
    return to;
  }

  int64_t stride() const {
    Runs runs = {length_, run_length, keep_};
    while (runs.count() > 1) runs.cover *= 2;
    return std::min(runs.count() * runs.stride(), length_);
  }

 private:
  template <class Fn> void for_rows(Fn &&fn) const {
    for (int64_t first = 0; first < rows_; first += 65535)
      fn(first, unsigned(std::min<int64_t>(rows_ - first, 65535)));
  }
  int64_t rows_ = 0, length_ = 0, keep_ = 0;
};

}  // namespace infini::cudalike
