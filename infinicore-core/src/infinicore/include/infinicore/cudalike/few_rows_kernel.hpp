// cudalike/few_rows_kernel.hpp -- the kernel of few_rows.hpp: a warp reads some rows of b, 16 bytes per lane
// and row, and multiplies them by all rows of a, which caches hold. Sums are taken in an order that never
// changes.
#pragma once
#include "few_rows.hpp"
#include "rows.hpp"

namespace infini::cudalike {

constexpr unsigned few_rows_threads = 256;
constexpr int columns_per_warp = 4;  // rows of b

// Sum each of `count` values over the lanes of a warp; a lane is left with some of the sums. Returns which is
// its first: halves are exchanged, so that all sums take as many steps as one would.
template <int count, unsigned mask, class C> __device__ inline int sum_over_lanes(C *values) {
  if constexpr (mask == 0) {
    return 0;
  } else if constexpr (count == 1) {
    values[0] += shuffle_xor(values[0], mask);
    return sum_over_lanes<count, mask / 2>(values);
  } else {
    constexpr int half = count / 2;
    const bool upper = (threadIdx.x & mask) != 0;
    for (int i = 0; i < half; ++i) {
      const C mine = upper ? values[half + i] : values[i], other = upper ? values[i] : values[half + i];
      values[i] = mine + shuffle_xor(other, mask);
    }
    return (upper ? half : 0) + sum_over_lanes<half, mask / 2>(values);
  }
}

// Each `splits` warps of a block share columns, and take turns along the depth. `most` rows or fewer.
template <class T, int most> static __global__ void __launch_bounds__(few_rows_threads, most == 1   ? 3
                                                                                        : most <= 8 ? 2
                                                                                                    : 1)
    few_rows_kernel(T *c, const T *a, const T *b, FloatReader bias, int64_t rows, int64_t columns,
                    int64_t depth, MatrixStrides strides, int64_t a_row, int64_t b_row, float alpha,
                    float beta, unsigned splits) {
  constexpr int width = vector_width<T>(), count = most * columns_per_warp;
  constexpr unsigned warps = few_rows_threads / warp_width;
  constexpr int kept = count > int(warp_width) ? count / int(warp_width) : 1;
  constexpr unsigned lanes_per_sum = count < int(warp_width) ? warp_width / count : 1;
  INFINI_SHARED(float, partial, warps *count);
  const unsigned lane = threadIdx.x % warp_width, warp = threadIdx.x / warp_width;
  const unsigned groups = warps / splits;
  const int64_t first = (int64_t(blockIdx.x) * groups + warp / splits) * columns_per_warp;
  const T *weights[columns_per_warp];
  for (int r = 0; r < columns_per_warp; ++r) {
    const int64_t column = first + r < columns ? first + r : columns - 1;
    weights[r] = b + column * b_row;
  }
  float sums[count] = {};
  Vector<T, width> next[columns_per_warp] = {};
  const int64_t step = int64_t(splits) * warp_width * width;
  int64_t k = int64_t((warp % splits) * warp_width + lane) * width;
  if (k < depth)
    for (int r = 0; r < columns_per_warp; ++r) next[r] = *as_vectors<width>(weights[r] + k);
  for (; k < depth; k += step) {
    Vector<T, width> now[columns_per_warp];
    for (int r = 0; r < columns_per_warp; ++r) now[r] = next[r];
    if (k + step < depth)  // under way while these are multiplied
      for (int r = 0; r < columns_per_warp; ++r) next[r] = *as_vectors<width>(weights[r] + k + step);
    float weight[columns_per_warp][width];
    INFINI_UNROLL
    for (int r = 0; r < columns_per_warp; ++r) unpack(now[r], weight[r]);
    INFINI_UNROLL
    for (int m = 0; m < most; ++m) {
      float x[width];
      unpack(*as_vectors<width>(a + (m < rows ? m : rows - 1) * a_row + k), x);
      INFINI_UNROLL
      for (int r = 0; r < columns_per_warp; ++r) {
        INFINI_UNROLL
        for (int i = 0; i < width; ++i) sums[m * columns_per_warp + r] += x[i] * weight[r][i];
      }
    }
  }
  const int begin = sum_over_lanes<count, warp_width / 2>(sums);
  if (lane % lanes_per_sum == 0)
    for (int i = 0; i < kept; ++i) partial[warp * count + unsigned(begin + i)] = sums[i];
  __syncthreads();
  for (unsigned item = threadIdx.x; item < groups * count; item += few_rows_threads) {
    const unsigned group = item / count, place = item % count;
    float sum = 0;
    for (unsigned s = 0; s < splits; ++s) sum += partial[(group * splits + s) * count + place];
    const int64_t row = place / columns_per_warp;
    const int64_t column =
        (int64_t(blockIdx.x) * groups + group) * columns_per_warp + place % columns_per_warp;
    if (row >= rows || column >= columns) continue;
    T &target = c[row * strides.row + column * strides.column];
    float value = alpha * sum;
    if (beta != 0) value += beta * load(target);
    if (bias.data != nullptr) value += bias.get<float>(column);
    target = store<T>(value);
  }
}

template <class T> inline void run_few_rows(const FewRows &call, Stream stream) {
  constexpr int64_t warps = few_rows_threads / warp_width;
  // Enough blocks to keep the memory of large devices busy; but each reads all of a, so with rows not too
  // many.
  const int64_t enough = call.rows == 1 ? 512 : 256;
  unsigned splits = 1;  // of the depth, where there are few columns: each warp still reads a few vectors
  const int64_t vectors = ceil_div(call.depth, vector_width<T>() * int64_t(warp_width));
  const auto grid = [&] { return ceil_div(call.columns, columns_per_warp * warps / splits); };
  while (splits < warps && grid() < enough && vectors >= 4 * splits) splits *= 2;
  const auto kernel = call.rows == 1   ? few_rows_kernel<T, 1>
                      : call.rows <= 4 ? few_rows_kernel<T, 4>
                      : call.rows <= 8 ? few_rows_kernel<T, 8>
                                       : few_rows_kernel<T, 16>;
  launch(kernel, blocks(grid()), dim3(few_rows_threads), 0, stream, static_cast<T *>(call.c),
         static_cast<const T *>(call.a), static_cast<const T *>(call.b), floats(call.bias), call.rows,
         call.columns, call.depth, MatrixStrides{call.c_row, call.c_column}, call.a_row, call.b_row,
         float(call.alpha), float(call.beta), splits);
}

__attribute__((weak)) void few_rows_product(const FewRows &call, infinirtStream_t stream) {
  if (call.dtype == INFINI_DTYPE_F32)
    run_few_rows<float>(call, native(stream));
  else if (call.dtype == INFINI_DTYPE_F16)
    run_few_rows<float16>(call, native(stream));
  else
    run_few_rows<bfloat16>(call, native(stream));
}

}  // namespace infini::cudalike
