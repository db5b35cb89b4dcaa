// cudalike/quantization.hpp -- AWQ and GPTQ weights to floats, and int8 quantisation by row or by tensor.
// Scales are computed in f64, as the reference does, so that a value on the edge of two steps falls the same
// way.
#pragma once
#include <infinicore/operators/dequantize_awq.h>
#include <infinicore/operators/dequantize_gptq.h>
#include <infinicore/operators/per_channel_quant_int8.h>
#include <infinicore/operators/per_tensor_dequant_int8.h>
#include <infinicore/operators/per_tensor_quant_int8.h>

#include "rows.hpp"

namespace infini::cudalike {

// ---- four-bit weights -----------------------------------------------------------------------------------

struct PackedWeights {
  const int32_t *weight, *zeros;
  MatrixStrides weight_strides, zero_strides, scale_strides, out_strides;
  int64_t rows, columns, groups;
};

// AWQ packs eight columns into a word, in the order 0 2 4 6 1 3 5 7; GPTQ eight rows of weights, in order,
// and its zeros are one too small.
template <class T, bool gptq> static __global__ void __launch_bounds__(elementwise_threads)
    unpack_kernel(T *out, PackedWeights packed, const T *scales, IntegerReader group_index) {
  using C = compute_t<T>;
  const int64_t column = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (column >= packed.columns) return;
  for (int64_t row = blockIdx.y; row < packed.rows; row += gridDim.y) {
    const int64_t group = gptq ? group_index[row] : row / (packed.rows / packed.groups);
    T &target = out[row * packed.out_strides.row + column * packed.out_strides.column];
    if (group < 0 || group >= packed.groups) {
      target = store<T>(C(0));
      continue;
    }
    const int place = int(column % 8), nibble = gptq ? place : (place % 2) * 4 + place / 2;
    const int64_t word_row = gptq ? row / 8 : row, word_column = gptq ? column : column / 8;
    const uint32_t word = uint32_t(
        packed.weight[word_row * packed.weight_strides.row + word_column * packed.weight_strides.column]);
    const uint32_t zero_word =
        uint32_t(packed.zeros[group * packed.zero_strides.row + column / 8 * packed.zero_strides.column]);
    const int weight = int(word >> 4 * (gptq ? int(row % 8) : nibble) & 15u);
    const int zero = int(((zero_word >> 4 * nibble) + (gptq ? 1u : 0u)) & 15u);
    const C scale = load(scales[group * packed.scale_strides.row + column * packed.scale_strides.column]);
    target = store<T>(C(weight - zero) * scale);
  }
}

template <class Args, bool gptq> class Dequantize {
 public:
  explicit Dequantize(const Args &call)
      : run_(dispatch<Floats>(gptq ? "dequantize_gptq" : "dequantize_awq", call.out->dtype,
                              [](auto t) -> Run { return run<typename decltype(t)::type>; })) {}
  uint64_t workspace() const { return 0; }
  void execute(const Args &call, void *, infinirtStream_t stream) const { run_(call, native(stream)); }

 private:
  using Run = void (*)(const Args &, Stream);
  static MatrixStrides matrix(const infini_tensor *t) { return {t->strides[0], t->strides[1]}; }
  template <class T> static void run(const Args &call, Stream stream) {
    const int64_t rows = call.out->shape[0], columns = call.out->shape[1];
    if (rows == 0 || columns == 0) return;
    const PackedWeights packed = {static_cast<const int32_t *>(call.qweight->data),
                                  static_cast<const int32_t *>(call.zeros->data),
                                  matrix(call.qweight),
                                  matrix(call.zeros),
                                  matrix(call.scales),
                                  matrix(call.out),
                                  rows,
                                  columns,
                                  call.scales->shape[0]};
    IntegerReader groups = integers(nullptr);
    if constexpr (gptq) groups = integers(call.g_idx);
    dim3 grid = blocks(ceil_div(columns, elementwise_threads));
    grid.y = unsigned(std::min<int64_t>(rows, 65535));
    launch(unpack_kernel<T, gptq>, grid, dim3(elementwise_threads), 0, stream,
           static_cast<T *>(call.out->data), packed, static_cast<const T *>(call.scales->data), groups);
  }
  Run run_;
};

using DequantizeAwq = Dequantize<infini_dequantize_awq_args, false>;
using DequantizeGptq = Dequantize<infini_dequantize_gptq_args, true>;

INFINI_CUDALIKE_KERNEL(dequantize_awq, DequantizeAwq)
INFINI_CUDALIKE_KERNEL(dequantize_gptq, DequantizeGptq)

// ---- to int8 --------------------------------------------------------------------------------------------

// The range of some numbers, NaNs left out.
struct Range {
  double low, high, largest;
};
struct RangeOp {
  __device__ Range identity() const { return {math::infinity<double>(), -math::infinity<double>(), 0}; }
  __device__ Range merge(Range a, Range b) const {
    return {b.low < a.low ? b.low : a.low, b.high > a.high ? b.high : a.high,
            b.largest > a.largest ? b.largest : a.largest};
  }
  __device__ void take(Range &range, double x) const {
    const double size = math::abs(x);
    range.low = x < range.low ? x : range.low;
    range.high = x > range.high ? x : range.high;
    range.largest = size > range.largest ? size : range.largest;
  }
};

// A number x becomes rint((x - low) * steps) - shift.
struct Steps {
  double steps, low, shift, scale, zero;
};
__device__ inline Steps steps_of(const Range &range, bool symmetric) {
  if (symmetric) {
    const double largest = range.largest > 1e-10 ? range.largest : 1e-10;
    return {127 / largest, 0, 0, largest / 127, 0};
  }
  const double span = range.high - range.low > 1e-8 ? range.high - range.low : 1e-8;
  return {255 / span, range.low, 128, span / 255, -128 - range.low * (255 / span)};
}
__device__ inline int8_t to_int8(double x) {
  if (math::is_nan(x)) return 0;
  return int8_t(x < -128 ? -128 : x > 127 ? 127 : x);
}

// A block per row: places in x_packed, x, x_scale and x_zero.
template <class T> __global__ void __launch_bounds__(most_threads)
    quantize_rows(int8_t *packed, const T *x, float *scales, float *zeros, Layout<4> layout, int64_t length,
                  int64_t out_stride, int64_t in_stride, bool symmetric) {
  int64_t at[4];
  layout.locate(blockIdx.x, at);
  const RangeOp op;
  Range range = op.identity();
  for (int64_t i = threadIdx.x; i < length; i += blockDim.x) op.take(range, load(x[at[1] + i * in_stride]));
  const Steps steps = steps_of(block_reduce(op, range), symmetric);
  if (threadIdx.x == 0) {
    scales[at[2]] = float(steps.scale);
    zeros[at[3]] = float(steps.zero);
  }
  for (int64_t i = threadIdx.x; i < length; i += blockDim.x)
    packed[at[0] + i * out_stride] =
        to_int8(math::rint((double(load(x[at[1] + i * in_stride])) - steps.low) * steps.steps) - steps.shift);
}

class PerChannelQuantInt8 {
 public:
  explicit PerChannelQuantInt8(const infini_per_channel_quant_int8_args &call)
      : symmetric_(call.symmetric != 0),
        run_(dispatch<Floats>("per_channel_quant_int8", call.x->dtype,
                              [](auto t) -> Run { return run<typename decltype(t)::type>; })) {
    for (int32_t d = 0; d + 1 < call.x->ndim; ++d)
      rows_.dims.push_back({call.x->shape[d],
                            {call.x_packed->strides[d], call.x->strides[d], call.x_scale->strides[d],
                             call.x_zero->strides[d]}});
    rows_.merge();
  }
  uint64_t workspace() const { return 0; }
  void execute(const infini_per_channel_quant_int8_args &call, void *, infinirtStream_t stream) const {
    run_(*this, call, native(stream));
  }

 private:
  using Run = void (*)(const PerChannelQuantInt8 &, const infini_per_channel_quant_int8_args &, Stream);
  template <class T> static void run(const PerChannelQuantInt8 &plan,
                                     const infini_per_channel_quant_int8_args &call, Stream stream) {
    const int32_t last = call.x->ndim - 1;
    for (const Layout<4> &layout : plan.rows_.parts("per_channel_quant_int8"))
      launch(quantize_rows<T>, blocks(layout.count), dim3(threads_for(call.x->shape[last])), 0, stream,
             static_cast<int8_t *>(call.x_packed->data), static_cast<const T *>(call.x->data),
             static_cast<float *>(call.x_scale->data), static_cast<float *>(call.x_zero->data), layout,
             call.x->shape[last], call.x_packed->strides[last], call.x->strides[last], plan.symmetric_);
  }
  bool symmetric_;
  Space<4> rows_;
  Run run_;
};

// The range of a tensor in two steps, of at most range_blocks partial results.
constexpr int64_t range_blocks = 512, range_chunk = 4096;

template <class T> static __global__ void __launch_bounds__(elementwise_threads)
    range_kernel(const T *x, Layout<2> layout, Range *partials, unsigned first, uint32_t chunk) {
  const RangeOp op;
  Range range = op.identity();
  const Stretch mine = stretch(blockIdx.x, chunk, layout.count);
  for (uint32_t i = mine.begin + threadIdx.x; i < mine.end; i += blockDim.x) {
    int64_t at[2];
    layout.locate(i, at);
    op.take(range, load(x[at[1]]));
  }
  range = block_reduce(op, range);
  if (threadIdx.x == 0) partials[first + blockIdx.x] = range;
}
static __global__ void __launch_bounds__(most_threads)
    range_steps(const Range *partials, unsigned count, Steps *steps, float *scale, float *zero,
                bool symmetric) {
  const RangeOp op;
  Range range = op.identity();
  for (unsigned i = threadIdx.x; i < count; i += blockDim.x) range = op.merge(range, partials[i]);
  range = block_reduce(op, range);
  if (threadIdx.x != 0) return;
  *steps = steps_of(range, symmetric);
  *scale = float(steps->scale);
  *zero = float(steps->zero);
}
// With the steps just found, or, where `steps` is NULL, with a scale and a zero that were given.
template <class T> __global__ void __launch_bounds__(elementwise_threads)
    quantize_kernel(int8_t *packed, const T *x, Layout<2> layout, const Steps *steps, const float *scale,
                    const float *zero, bool symmetric) {
  const uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= layout.count) return;
  int64_t at[2];
  layout.locate(index, at);
  const double value = load(x[at[1]]);
  packed[at[0]] =
      to_int8(steps != nullptr ? math::rint((value - steps->low) * steps->steps) - steps->shift
                               : math::rint(value / double(*scale) + (symmetric ? 0.0 : double(*zero))));
}

class PerTensorQuantInt8 {
 public:
  explicit PerTensorQuantInt8(const infini_per_tensor_quant_int8_args &call)
      : symmetric_(call.symmetric != 0),
        space_(Space<2>({call.x_packed, call.x}).reorder()),
        run_(dispatch<Floats>("per_tensor_quant_int8", call.x->dtype,
                              [](auto t) -> Run { return run<typename decltype(t)::type>; })) {
    parts_ = int64_t(space_.parts("per_tensor_quant_int8").size());
  }
  uint64_t workspace() const { return sizeof(Steps) + uint64_t(parts_ * range_blocks) * sizeof(Range); }
  void execute(const infini_per_tensor_quant_int8_args &call, void *workspace,
               infinirtStream_t stream) const {
    run_(*this, call, workspace, native(stream));
  }

 private:
  using Run = void (*)(const PerTensorQuantInt8 &, const infini_per_tensor_quant_int8_args &, void *, Stream);
  template <class T> static void run(const PerTensorQuantInt8 &plan,
                                     const infini_per_tensor_quant_int8_args &call, void *workspace,
                                     Stream stream) {
    auto x = static_cast<const T *>(call.x->data);
    auto steps = static_cast<Steps *>(workspace);
    auto partials = reinterpret_cast<Range *>(steps + 1);
    auto scale = static_cast<float *>(call.x_scale->data), zero = static_cast<float *>(call.x_zero->data);
    const auto parts = plan.space_.parts("per_tensor_quant_int8");
    if (call.is_static != 0) {
      steps = nullptr;
    } else {
      unsigned found = 0;
      for (const Layout<2> &layout : parts) {
        const int64_t chunk = std::max(range_chunk, ceil_div(layout.count, range_blocks));
        const int64_t count = ceil_div(layout.count, chunk);
        launch(range_kernel<T>, blocks(count), dim3(elementwise_threads), 0, stream, x, layout, partials,
               found, uint32_t(chunk));
        found += unsigned(count);
      }
      launch(range_steps, dim3(1), dim3(threads_for(found)), 0, stream, static_cast<const Range *>(partials),
             found, steps, scale, zero, plan.symmetric_);
    }
    for (const Layout<2> &layout : parts)
      launch(quantize_kernel<T>, blocks(ceil_div(layout.count, elementwise_threads)),
             dim3(elementwise_threads), 0, stream, static_cast<int8_t *>(call.x_packed->data), x, layout,
             static_cast<const Steps *>(steps), static_cast<const float *>(scale),
             static_cast<const float *>(zero), plan.symmetric_);
  }
  bool symmetric_;
  Space<2> space_;
  int64_t parts_;
  Run run_;
};

template <class T> __global__ void __launch_bounds__(elementwise_threads)
    dequantize_kernel(T *out, const int8_t *packed, Layout<2> layout, const float *scale, const float *zero) {
  using C = compute_t<T>;
  const uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= layout.count) return;
  int64_t at[2];
  layout.locate(index, at);
  out[at[0]] = store<T>((C(packed[at[1]]) - (zero != nullptr ? C(*zero) : C(0))) * C(*scale));
}

class PerTensorDequantInt8 {
 public:
  explicit PerTensorDequantInt8(const infini_per_tensor_dequant_int8_args &call)
      : space_(Space<2>({call.x, call.x_packed}).reorder()),
        run_(dispatch<Floats>("per_tensor_dequant_int8", call.x->dtype,
                              [](auto t) -> Run { return run<typename decltype(t)::type>; })) {}
  uint64_t workspace() const { return 0; }
  void execute(const infini_per_tensor_dequant_int8_args &call, void *, infinirtStream_t stream) const {
    run_(space_, call, native(stream));
  }

 private:
  using Run = void (*)(const Space<2> &, const infini_per_tensor_dequant_int8_args &, Stream);
  template <class T>
  static void run(const Space<2> &space, const infini_per_tensor_dequant_int8_args &call, Stream stream) {
    for (const Layout<2> &layout : space.parts("per_tensor_dequant_int8"))
      launch(dequantize_kernel<T>, blocks(ceil_div(layout.count, elementwise_threads)),
             dim3(elementwise_threads), 0, stream, static_cast<T *>(call.x->data),
             static_cast<const int8_t *>(call.x_packed->data), layout,
             static_cast<const float *>(call.x_scale->data),
             static_cast<const float *>(call.x_zero != nullptr ? call.x_zero->data : nullptr));
  }
  Space<2> space_;
  Run run_;
};

INFINI_CUDALIKE_KERNEL(per_channel_quant_int8, PerChannelQuantInt8)
INFINI_CUDALIKE_KERNEL(per_tensor_quant_int8, PerTensorQuantInt8)
INFINI_CUDALIKE_KERNEL(per_tensor_dequant_int8, PerTensorDequantInt8)

}  // namespace infini::cudalike
