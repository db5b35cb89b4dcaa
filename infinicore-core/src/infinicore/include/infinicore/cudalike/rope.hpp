// cudalike/rope.hpp -- rotary position embedding: pairs of elements turned by an angle of their position.
// A thread turns the same pairs of several heads, so that it looks up their sines and cosines once.
#pragma once
#include <infinicore/operators/rope.h>

#include "rows.hpp"

namespace infini::cudalike {

constexpr unsigned rope_threads = 128;
constexpr int rope_heads = 4;  // per thread

// rows: every dimension but heads and elements, for out, x and pos_ids. A thread turns `width` pairs of
// neighbours, which lie in two vectors: half a head apart, or where pairs are interleaved one after the
// other.
template <class T, int width> static __global__ void __launch_bounds__(rope_threads)
    rope_kernel(T *out, const T *x, IntegerReader positions, FloatReader sine, FloatReader cosine,
                int64_t table_rows, int64_t sine_column, int64_t cosine_column, Layout<3> rows,
                Divisor groups, int64_t heads, Vector<int64_t, 2> head_strides,
                Vector<int64_t, 2> element_strides, bool interleaved) {
  using C = compute_t<T>;
  const uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
  const uint32_t row = groups.quotient(index), pair = (index - row * groups.divisor) * width;
  if (row >= rows.count) return;
  int64_t at[3];
  rows.locate(row, at);
  const int64_t lower = interleaved ? 2 * pair : pair,
                upper = interleaved ? lower + width : lower + int64_t(groups.divisor) * width;
  const int64_t begin = int64_t(blockIdx.y) * rope_heads;
  Vector<T, width> first[rope_heads], second[rope_heads];
  INFINI_UNROLL
  for (int h = 0; h < rope_heads; ++h) {
    const int64_t head = begin + h < heads ? begin + h : heads - 1;
    const T *from = x + at[1] + head * head_strides.items[1];
    first[h] = *as_vectors<width>(from + lower * element_strides.items[1]);
    second[h] = *as_vectors<width>(from + upper * element_strides.items[1]);
  }
  const int64_t position = positions.at(at[2]);
  const bool known = position >= 0 && position < table_rows;
  C sin[width], cos[width];
  if (known) {
    sine.read(position * sine.stride + pair * sine_column, sine_column, sin);
    cosine.read(position * cosine.stride + pair * cosine_column, cosine_column, cos);
  } else {
    INFINI_UNROLL
    for (int j = 0; j < width; ++j) sin[j] = cos[j] = math::nan<C>();
  }
  INFINI_UNROLL
  for (int h = 0; h < rope_heads; ++h) {
    if (begin + h >= heads) break;
    T elements[2 * width], low[width], high[width];
    INFINI_UNROLL
    for (int j = 0; j < width; ++j) {
      elements[j] = first[h].items[j];
      elements[width + j] = second[h].items[j];
    }
    INFINI_UNROLL
    for (int j = 0; j < width; ++j) {
      const C a = load(interleaved ? elements[2 * j] : elements[j]);
      const C b = load(interleaved ? elements[2 * j + 1] : elements[width + j]);
      low[j] = store<T>(a * cos[j] - b * sin[j]);
      high[j] = store<T>(a * sin[j] + b * cos[j]);
    }
    Vector<T, width> turned[2];
    INFINI_UNROLL
    for (int j = 0; j < 2 * width; ++j)
      turned[j / width].items[j % width] = !interleaved ? (j < width ? low[j % width] : high[j % width])
                                           : j % 2 == 0 ? low[j / 2]
                                                        : high[j / 2];
    T *to = out + at[0] + (begin + h) * head_strides.items[0];
    store_vector(to + lower * element_strides.items[0], turned[0]);
    store_vector(to + upper * element_strides.items[0], turned[1]);
  }
}

class Rope {
 public:
  explicit Rope(const infini_rope_args &call)
      : width_(16 / dtype_size(call.out->dtype)),
        run_(dispatch<Floats>("rope", call.out->dtype,
                              [](auto t) -> Run { return run<typename decltype(t)::type>; })) {
    const int32_t last = call.out->ndim - 1;
    bool vectors = call.out->shape[last] / 2 % width_ == 0;
    for (const infini_tensor *t : {call.out, call.x}) {
      vectors = vectors && t->strides[last] == 1;
      for (int32_t d = 0; d < last; ++d) vectors = vectors && t->strides[d] % width_ == 0;
    }
    if (!vectors) width_ = 1;
    for (int32_t d = 0; d + 2 < call.out->ndim; ++d)
      rows_.dims.push_back(
          {call.out->shape[d], {call.out->strides[d], call.x->strides[d], call.pos_ids->strides[d]}});
    rows_.merge();
  }

  uint64_t workspace() const { return 0; }
  void execute(const infini_rope_args &call, void *, infinirtStream_t stream) const {
    run_(*this, call, native(stream));
  }

 private:
  using Run = void (*)(const Rope &, const infini_rope_args &, Stream);
  template <class T> static void run(const Rope &plan, const infini_rope_args &call, Stream stream) {
    const infini_tensor &out = *call.out, &x = *call.x;
    const int32_t h = out.ndim - 2, e = out.ndim - 1;
    const int64_t heads = out.shape[h], pairs = out.shape[e] / 2;
    if (heads == 0 || pairs == 0) return;
    const bool vectors = plan.width_ > 1 && is_aligned(out.data, 16) && is_aligned(x.data, 16);
    const int64_t groups = vectors ? pairs / plan.width_ : pairs;
    for (const Layout<3> &rows : plan.rows_.parts("rope")) {
      dim3 grid = blocks(ceil_div(rows.count * groups, rope_threads));
      grid.y = unsigned(ceil_div(heads, rope_heads));
      launch(vectors ? rope_kernel<T, vector_width<T>()> : rope_kernel<T, 1>, grid, dim3(rope_threads), 0,
             stream, static_cast<T *>(out.data), static_cast<const T *>(x.data), integers(call.pos_ids, 1),
             floats(call.sin_table), floats(call.cos_table), call.sin_table->shape[0],
             call.sin_table->strides[1], call.cos_table->strides[1], rows, Divisor(uint32_t(groups)), heads,
             Vector<int64_t, 2>{out.strides[h], x.strides[h]},
             Vector<int64_t, 2>{out.strides[e], x.strides[e]}, call.algo == 0);
    }
  }
  Space<3> rows_;
  int64_t width_;  // pairs that a thread turns at once, where addresses allow
  Run run_;
};

INFINI_CUDALIKE_KERNEL(rope, Rope)

}  // namespace infini::cudalike
