// cudalike/gemm.hpp -- gemm, linear, int8_gemm and conv, as one tiled product with any strides: what a vendor
// without a better library runs. Operands are gathered into shared memory, so a convolution needs no copy.
#pragma once
#include <infinicore/operators/conv.h>
#include <infinicore/operators/gemm.h>
#include <infinicore/operators/int8_gemm.h>
#include <infinicore/operators/linear.h>

#include "few_rows_kernel.hpp"
#include "int8.hpp"
#include "rows.hpp"

namespace infini::cudalike {

constexpr int tile_rows = 64, tile_columns = 64, tile_depth = 16;  // per block
constexpr int thread_rows = 4, thread_columns = 4;                 // per thread
constexpr unsigned product_threads = (tile_rows / thread_rows) * (tile_columns / thread_columns);

// Where element (i, j) of a matrix lies.
struct MatrixReader {
  MatrixStrides strides;
  __device__ bool operator()(int64_t i, int64_t j, int64_t &at) const {
    at = i * strides.row + j * strides.column;
    return true;
  }
};

// out = epilogue(sum over k of a(i, k) * b(k, j)); A and B say where elements lie, and whether they exist.
// The layout has places in out, a, b and in what the epilogue reads.
template <class T, class Sum, class A, class B, class Epilogue>
static __global__ void __launch_bounds__(product_threads, 2)
    product_kernel(const T *a, const T *b, A locate_a, B locate_b, Epilogue epilogue, Layout<4> batches,
                   int64_t rows, int64_t columns, int64_t depth) {
  INFINI_SHARED(Sum, left, tile_depth * (tile_rows + 4));
  INFINI_SHARED(Sum, right, tile_depth * (tile_columns + 4));
  constexpr int left_pitch = tile_rows + 4, right_pitch = tile_columns + 4;
  int64_t at[4];
  batches.locate(blockIdx.z, at);
  const int64_t first_row = int64_t(blockIdx.x) * tile_rows,
                first_column = int64_t(blockIdx.y) * tile_columns;
  const int my_row = int(threadIdx.x) / (tile_columns / thread_columns) * thread_rows;
  const int my_column = int(threadIdx.x) % (tile_columns / thread_columns) * thread_columns;
  Sum sums[thread_rows][thread_columns] = {};
  for (int64_t k = 0; k < depth; k += tile_depth) {
    for (int item = int(threadIdx.x); item < tile_rows * tile_depth; item += int(product_threads)) {
      const int i = item / tile_depth, d = item % tile_depth;
      int64_t place = 0;
      const bool exists = first_row + i < rows && k + d < depth && locate_a(first_row + i, k + d, place);
      left[d * left_pitch + i] = exists ? Sum(load(a[at[1] + place])) : Sum(0);
    }
    for (int item = int(threadIdx.x); item < tile_columns * tile_depth; item += int(product_threads)) {
      const int j = item % tile_columns, d = item / tile_columns;
      int64_t place = 0;
      const bool exists =
          first_column + j < columns && k + d < depth && locate_b(k + d, first_column + j, place);
      right[d * right_pitch + j] = exists ? Sum(load(b[at[2] + place])) : Sum(0);
    }
    __syncthreads();
    for (int d = 0; d < tile_depth; ++d) {
      Sum x[thread_rows], y[thread_columns];
      for (int i = 0; i < thread_rows; ++i) x[i] = left[d * left_pitch + my_row + i];
      for (int j = 0; j < thread_columns; ++j) y[j] = right[d * right_pitch + my_column + j];
      for (int i = 0; i < thread_rows; ++i)
        for (int j = 0; j < thread_columns; ++j) sums[i][j] += x[i] * y[j];
    }
    __syncthreads();
  }
  for (int i = 0; i < thread_rows; ++i)
    for (int j = 0; j < thread_columns; ++j) {
      const int64_t row = first_row + my_row + i, column = first_column + my_column + j;
      if (row < rows && column < columns) epilogue(sums[i][j], row, column, at[0], at[3]);
    }
}

inline dim3 product_grid(int64_t rows, int64_t columns, int64_t batches) {
  return dim3(unsigned(ceil_div(rows, tile_rows)), unsigned(ceil_div(columns, tile_columns)),
              unsigned(batches));
}

// A grid has at most 65535 blocks in its second and third dimension: larger products are cut.
constexpr int64_t most_batches = 65535, most_columns = int64_t(65535) * tile_columns;

inline void check_columns(const char *op, int64_t columns) {
  if (columns > most_columns)
    throw Error(INFINI_STATUS_NOT_IMPLEMENTED, std::string(op) + ": " + std::to_string(columns) +
                                                   " columns, but this backend takes at most " +
                                                   std::to_string(most_columns));
}

// Batches as layouts that the third dimension of a grid can count.
inline std::vector<Layout<4>> batch_parts(const char *op, const Space<4> &space) {
  if (space.count() <= most_batches) return space.parts(op);
  std::vector<Layout<4>> found;
  Space<4> part = space;
  const auto outer = space.dims.front();
  part.dims.front().size = 1;
  const int64_t step = std::max<int64_t>(most_batches / part.count(), 1);
  for (int64_t at = 0; at < outer.size; at += step) {
    part.dims.front().size = std::min(step, outer.size - at);
    for (Layout<4> layout : batch_parts(op, Space<4>(part).merge())) {
      for (int k = 0; k < 4; ++k) layout.first[k] += at * outer.strides[k];
      found.push_back(layout);
    }
  }
  return found;
}

// ---- gemm -----------------------------------------------------------------------------------------------

template <class T> struct ScaleAndAdd {
  T *c;
  MatrixStrides strides;
  compute_t<T> alpha, beta;
  __device__ void operator()(compute_t<T> sum, int64_t row, int64_t column, int64_t first, int64_t) const {
    T &target = c[first + row * strides.row + column * strides.column];
    compute_t<T> value = alpha * sum;
    if (beta != 0) value += beta * load(target);
    target = store<T>(value);
  }
};

class Gemm {
 public:
  explicit Gemm(const infini_gemm_args &call)
      : run_(dispatch<Floats>("gemm", call.c->dtype,
                              [](auto t) -> Run { return run<typename decltype(t)::type>; })) {
    const int32_t batch = call.c->ndim - 2;
    for (int32_t d = 0; d < batch; ++d)
      batches_.dims.push_back(
          {call.c->shape[d], {call.c->strides[d], call.a->strides[d], call.b->strides[d], 0}});
    batches_.merge();
    check_columns("gemm", call.c->shape[batch + 1]);
  }
  uint64_t workspace() const { return 0; }
  void execute(const infini_gemm_args &call, void *, infinirtStream_t stream) const {
    if (const FewRows few = few_rows(call); few.fits()) return few_rows_product(few, stream);
    run_(batches_, call, native(stream));
  }

 private:
  using Run = void (*)(const Space<4> &, const infini_gemm_args &, Stream);
  static MatrixStrides matrix(const infini_tensor *t) {
    return {t->strides[t->ndim - 2], t->strides[t->ndim - 1]};
  }
  template <class T> static void run(const Space<4> &batches, const infini_gemm_args &call, Stream stream) {
    using C = compute_t<T>;
    const int64_t rows = call.c->shape[call.c->ndim - 2], columns = call.c->shape[call.c->ndim - 1];
    const int64_t depth = call.a->shape[call.a->ndim - 1];
    if (rows == 0 || columns == 0) return;
    const ScaleAndAdd<T> epilogue = {static_cast<T *>(call.c->data), matrix(call.c), C(call.alpha),
                                     C(call.beta)};
    for (const Layout<4> &layout : batch_parts("gemm", batches))
      launch(product_kernel<T, C, MatrixReader, MatrixReader, ScaleAndAdd<T>>,
             product_grid(rows, columns, layout.count), dim3(product_threads), 0, stream,
             static_cast<const T *>(call.a->data), static_cast<const T *>(call.b->data),
             MatrixReader{matrix(call.a)}, MatrixReader{matrix(call.b)}, epilogue, layout, rows, columns,
             depth);
  }
  Space<4> batches_;
  Run run_;
};

// ---- linear: out = alpha * (input @ weight.T) + bias ----------------------------------------------------

template <class T> struct ScaleAndBias {
  T *out;
  MatrixStrides strides;
  compute_t<T> alpha;
  FloatReader bias;
  __device__ void operator()(compute_t<T> sum, int64_t row, int64_t column, int64_t first, int64_t) const {
    compute_t<T> value = alpha * sum;
    if (bias.data != nullptr) value += bias.get<compute_t<T>>(column);
    out[first + row * strides.row + column * strides.column] = store<T>(value);
  }
};

// The innermost leading dimension that holds rows; the others, where they do not merge into it, are batches.
class Linear {
 public:
  explicit Linear(const infini_linear_args &call)
      : run_(dispatch<Floats>("linear", call.out->dtype,
                              [](auto t) -> Run { return run<typename decltype(t)::type>; })) {
    for (int32_t d = 0; d + 1 < call.out->ndim; ++d)
      batches_.dims.push_back({call.out->shape[d], {call.out->strides[d], call.input->strides[d], 0, 0}});
    batches_.merge();
    if (!batches_.dims.empty()) {
      rows_ = batches_.dims.back().size;
      out_row_ = batches_.dims.back().strides[0];
      in_row_ = batches_.dims.back().strides[1];
      batches_.dims.pop_back();
    }
    check_columns("linear", call.weight->shape[0]);
  }
  uint64_t workspace() const { return 0; }
  void execute(const infini_linear_args &call, void *, infinirtStream_t stream) const {
    if (const FewRows few = few_rows(call); few.fits()) return few_rows_product(few, stream);
    run_(*this, call, native(stream));
  }

 private:
  using Run = void (*)(const Linear &, const infini_linear_args &, Stream);
  template <class T> static void run(const Linear &plan, const infini_linear_args &call, Stream stream) {
    using C = compute_t<T>;
    const int32_t last = call.out->ndim - 1;
    const int64_t columns = call.weight->shape[0], depth = call.weight->shape[1];
    if (plan.rows_ == 0 || columns == 0) return;
    const ScaleAndBias<T> epilogue = {static_cast<T *>(call.out->data),
                                      {plan.out_row_, call.out->strides[last]},
                                      C(call.alpha),
                                      floats(call.bias)};
    for (const Layout<4> &layout : batch_parts("linear", plan.batches_))
      launch(product_kernel<T, C, MatrixReader, MatrixReader, ScaleAndBias<T>>,
             product_grid(plan.rows_, columns, layout.count), dim3(product_threads), 0, stream,
             static_cast<const T *>(call.input->data), static_cast<const T *>(call.weight->data),
             MatrixReader{{plan.in_row_, call.input->strides[last]}},
             MatrixReader{{call.weight->strides[1], call.weight->strides[0]}}, epilogue, layout, plan.rows_,
             columns, depth);
  }
  Space<4> batches_;
  int64_t rows_ = 1, out_row_ = 0, in_row_ = 0;
  Run run_;
};

// ---- int8_gemm: exact sums, then a scale per row and per column -----------------------------------------

template <class T> struct Dequantise {
  T *out;
  MatrixStrides strides;
  FloatReader row_scale, column_scale, bias;
  __device__ void operator()(int32_t sum, int64_t row, int64_t column, int64_t, int64_t) const {
    using C = compute_t<T>;
    C value = C(sum) * row_scale.get<C>(row) * column_scale.get<C>(column);
    if (bias.data != nullptr) value += bias.get<C>(column);
    out[row * strides.row + column * strides.column] = store<T>(value);
  }
};

inline MatrixStrides matrix_of(const infini_tensor *t) {
  return {t->strides[0], t->strides[1]};
}

class Int8Gemm {
 public:
  explicit Int8Gemm(const infini_int8_gemm_args &call)
      : run_(dispatch<Floats>("int8_gemm", call.out->dtype,
                              [](auto t) -> Run { return run<typename decltype(t)::type>; })) {
    check_columns("int8_gemm", call.out->shape[1]);
  }
  uint64_t workspace() const { return 0; }
  void execute(const infini_int8_gemm_args &call, void *, infinirtStream_t stream) const {
    run_(call, native(stream));
  }

 private:
  using Run = void (*)(const infini_int8_gemm_args &, Stream);
  template <class T> static void run(const infini_int8_gemm_args &call, Stream stream) {
    const int64_t rows = call.out->shape[0], columns = call.out->shape[1];
    if (rows == 0 || columns == 0) return;
    const Dequantise<T> epilogue = {static_cast<T *>(call.out->data), matrix_of(call.out),
                                    floats(call.x_scale), floats(call.weights_scale), floats(call.bias)};
    launch(product_kernel<int8_t, int32_t, MatrixReader, MatrixReader, Dequantise<T>>,
           product_grid(rows, columns, 1), dim3(product_threads), 0, stream,
           static_cast<const int8_t *>(call.x->data), static_cast<const int8_t *>(call.weights->data),
           MatrixReader{matrix_of(call.x)}, MatrixReader{matrix_of(call.weights)}, epilogue, Layout<4>(),
           rows, columns, call.x->shape[1]);
  }
  Run run_;
};

template <class T> __global__ void __launch_bounds__(elementwise_threads)
    dequantise_kernel(const int32_t *sums, int64_t pitch, Dequantise<T> epilogue, int64_t rows,
                      int64_t columns) {
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y)
    for (int64_t column = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; column < columns;
         column += int64_t(gridDim.x) * blockDim.x)
      epilogue(sums[row * pitch + column], row, column, 0, 0);
}

__attribute__((weak)) void dequantise_sums(const infini_int8_gemm_args &call, const int32_t *sums,
                                           int64_t pitch, infinirtStream_t stream) {
  dispatch<Floats>("int8_gemm", call.out->dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const int64_t rows = call.out->shape[0], columns = call.out->shape[1];
    const Dequantise<T> epilogue = {static_cast<T *>(call.out->data), matrix_of(call.out),
                                    floats(call.x_scale), floats(call.weights_scale), floats(call.bias)};
    launch(dequantise_kernel<T>,
           dim3(unsigned(std::min<int64_t>(ceil_div(columns, elementwise_threads), 1024)),
                unsigned(std::min<int64_t>(rows, most_batches))),
           dim3(elementwise_threads), 0, native(stream), sums, pitch, epilogue, rows, columns);
  });
}

// ---- conv: rows are filters of a group, columns output positions, depth the elements of a window --------

constexpr int max_spatial = 5;

struct Window {
  int ndim;
  Divisor out_size[max_spatial], kernel_size[max_spatial];  // innermost first
  int64_t in_size[max_spatial], in_stride[max_spatial], kernel_stride[max_spatial], out_stride[max_spatial];
  int64_t stride[max_spatial], dilation[max_spatial], pad[max_spatial];
};

struct FilterReader {
  Window window;
  int64_t filter_stride, channel_stride;
  __device__ bool operator()(int64_t filter, int64_t element, int64_t &at) const {
    at = filter * filter_stride;
    uint32_t rest = uint32_t(element);
    for (int d = 0; d < window.ndim; ++d) {
      const uint32_t next = window.kernel_size[d].quotient(rest);
      at += int64_t(rest - next * window.kernel_size[d].divisor) * window.kernel_stride[d];
      rest = next;
    }
    at += int64_t(rest) * channel_stride;
    return true;
  }
};

struct WindowReader {
  Window window;
  int64_t channel_stride;
  __device__ bool operator()(int64_t element, int64_t position, int64_t &at) const {
    at = 0;
    uint32_t k = uint32_t(element), o = uint32_t(position);
    bool inside = true;
    for (int d = 0; d < window.ndim; ++d) {
      const uint32_t next_k = window.kernel_size[d].quotient(k), next_o = window.out_size[d].quotient(o);
      const int64_t place = int64_t(o - next_o * window.out_size[d].divisor) * window.stride[d] +
                            int64_t(k - next_k * window.kernel_size[d].divisor) * window.dilation[d] -
                            window.pad[d];
      inside = inside && place >= 0 && place < window.in_size[d];
      at += place * window.in_stride[d];
      k = next_k;
      o = next_o;
    }
    at += int64_t(k) * channel_stride;
    return inside;
  }
};

template <class T> struct StorePosition {
  T *out;
  Window window;
  int64_t filter_stride;
  FloatReader bias;
  __device__ void operator()(compute_t<T> sum, int64_t filter, int64_t position, int64_t first,
                             int64_t first_filter) const {
    int64_t at = first + filter * filter_stride;
    uint32_t o = uint32_t(position);
    for (int d = 0; d < window.ndim; ++d) {
      const uint32_t next = window.out_size[d].quotient(o);
      at += int64_t(o - next * window.out_size[d].divisor) * window.out_stride[d];
      o = next;
    }
    if (bias.data != nullptr) sum += bias.get<compute_t<T>>(first_filter + filter);
    out[at] = store<T>(sum);
  }
};

class Conv {
 public:
  explicit Conv(const infini_conv_args &call)
      : run_(dispatch<Floats>("conv", call.y->dtype,
                              [](auto t) -> Run { return run<typename decltype(t)::type>; })) {
    const infini_tensor &x = *call.x, &w = *call.w, &y = *call.y;
    window_.ndim = x.ndim - 2;
    if (window_.ndim > max_spatial)
      throw Error(INFINI_STATUS_NOT_IMPLEMENTED, "conv: " + std::to_string(window_.ndim) +
                                                     " spatial dimensions, but this backend takes at most " +
                                                     std::to_string(max_spatial));
    for (int i = 0; i < window_.ndim; ++i) {
      const int d = x.ndim - 1 - i, s = window_.ndim - 1 - i;
      positions_ *= y.shape[d];
      depth_ *= w.shape[d];
      window_.out_size[i] = Divisor(uint32_t(std::max<int64_t>(y.shape[d], 1)));
      window_.kernel_size[i] = Divisor(uint32_t(w.shape[d]));
      window_.in_size[i] = x.shape[d];
      window_.in_stride[i] = x.strides[d];
      window_.kernel_stride[i] = w.strides[d];
      window_.out_stride[i] = y.strides[d];
      window_.stride[i] = call.strides->items[s];
      window_.dilation[i] = call.dilations->items[s];
      window_.pad[i] = call.pads->items[s];
    }
    depth_ *= w.shape[1];
    if (positions_ >= int64_t(1) << 31 || depth_ >= int64_t(1) << 31)
      throw Error(INFINI_STATUS_NOT_IMPLEMENTED, "conv: more positions of an image than 31 bits count");
    check_columns("conv", positions_);
    const int64_t groups = w.shape[1] > 0 ? x.shape[1] / w.shape[1] : 1;
    filters_ = groups > 0 ? w.shape[0] / groups : 0;
    batches_.dims.push_back({x.shape[0], {y.strides[0], 0, x.strides[0], 0}});
    batches_.dims.push_back(
        {groups, {filters_ * y.strides[1], filters_ * w.strides[0], w.shape[1] * x.strides[1], filters_}});
  }
  uint64_t workspace() const { return 0; }
  void execute(const infini_conv_args &call, void *, infinirtStream_t stream) const {
    if (filters_ > 0 && positions_ > 0) run_(*this, call, native(stream));
  }

 private:
  using Run = void (*)(const Conv &, const infini_conv_args &, Stream);
  template <class T> static void run(const Conv &plan, const infini_conv_args &call, Stream stream) {
    const StorePosition<T> epilogue = {static_cast<T *>(call.y->data), plan.window_, call.y->strides[1],
                                       floats(call.b)};
    for (const Layout<4> &layout : batch_parts("conv", plan.batches_))
      launch(product_kernel<T, compute_t<T>, FilterReader, WindowReader, StorePosition<T>>,
             product_grid(plan.filters_, plan.positions_, layout.count), dim3(product_threads), 0, stream,
             static_cast<const T *>(call.w->data), static_cast<const T *>(call.x->data),
             FilterReader{plan.window_, call.w->strides[0], call.w->strides[1]},
             WindowReader{plan.window_, call.x->strides[1]}, epilogue, layout, plan.filters_, plan.positions_,
             plan.depth_);
  }
  Window window_{};
  int64_t positions_ = 1, depth_ = 1, filters_ = 0;
  Space<4> batches_;
  Run run_;
};

INFINI_CUDALIKE_KERNEL(gemm, Gemm)
INFINI_CUDALIKE_KERNEL(linear, Linear)
INFINI_CUDALIKE_KERNEL(int8_gemm, Int8Gemm)
INFINI_CUDALIKE_KERNEL(conv, Conv)

extern const infini_operator tiled_int8_gemm __attribute__((weak));
const infini_operator tiled_int8_gemm = INFINI_KERNEL(int8_gemm, Int8Gemm);

}  // namespace infini::cudalike
