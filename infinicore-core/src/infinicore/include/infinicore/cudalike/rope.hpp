// cudalike/rope.hpp -- rotary position embedding: pairs of elements turned by an angle of their position.
// A thread turns one pair of several heads, so that it looks up its sine and cosine once.
#pragma once
#include <infinicore/operators/rope.h>

#include "rows.hpp"

namespace infini::cudalike {

constexpr int rope_heads = 4;  // per thread

// rows: every dimension but heads and elements, for out, x and pos_ids.
template <class T> __global__ void rope_kernel(T *out, const T *x, IntegerReader positions, FloatReader sine,
                                               FloatReader cosine, int64_t table_rows, int64_t sine_column,
                                               int64_t cosine_column, Layout<3> rows, Divisor pairs,
                                               int64_t heads, Vector<int64_t, 2> head_strides,
                                               Vector<int64_t, 2> element_strides, bool interleaved) {
  using C = compute_t<T>;
  const uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
  const uint32_t row = pairs.quotient(index), pair = index - row * pairs.divisor;
  if (row >= rows.count) return;
  int64_t at[3];
  rows.locate(row, at);
  const int64_t position = positions.at(at[2]);
  const bool known = position >= 0 && position < table_rows;
  const C sin = known ? sine.at<C>(position * sine.stride + pair * sine_column) : math::nan<C>();
  const C cos = known ? cosine.at<C>(position * cosine.stride + pair * cosine_column) : math::nan<C>();
  const int64_t first = interleaved ? 2 * pair : pair,
                second = interleaved ? first + 1 : first + pairs.divisor;
  const int64_t begin = int64_t(blockIdx.y) * rope_heads;
  for (int64_t head = begin; head < begin + rope_heads && head < heads; ++head) {
    const T *from = x + at[1] + head * head_strides.items[1];
    T *to = out + at[0] + head * head_strides.items[0];
    const C a = load(from[first * element_strides.items[1]]),
            b = load(from[second * element_strides.items[1]]);
    to[first * element_strides.items[0]] = store<T>(a * cos - b * sin);
    to[second * element_strides.items[0]] = store<T>(a * sin + b * cos);
  }
}

class Rope {
 public:
  explicit Rope(const infini_rope_args &call)
      : run_(dispatch<Floats>("rope", call.out->dtype,
                              [](auto t) -> Run { return run<typename decltype(t)::type>; })) {
    for (int32_t d = 0; d + 2 < call.out->ndim; ++d)
      rows_.dims.push_back(
          {call.out->shape[d], {call.out->strides[d], call.x->strides[d], call.pos_ids->strides[d]}});
    rows_.merge();
  }

  uint64_t workspace() const { return 0; }
  void execute(const infini_rope_args &call, void *, infinirtStream_t stream) const {
    run_(rows_, call, native(stream));
  }

 private:
  using Run = void (*)(const Space<3> &, const infini_rope_args &, Stream);
  template <class T> static void run(const Space<3> &space, const infini_rope_args &call, Stream stream) {
    const infini_tensor &out = *call.out, &x = *call.x;
    const int32_t h = out.ndim - 2, e = out.ndim - 1;
    const int64_t heads = out.shape[h], pairs = out.shape[e] / 2;
    if (heads == 0 || pairs == 0) return;
    for (const Layout<3> &rows : space.parts("rope")) {
      dim3 grid = blocks(ceil_div(rows.count * pairs, 128));
      grid.y = unsigned(ceil_div(heads, rope_heads));
      launch(rope_kernel<T>, grid, dim3(128), 0, stream, static_cast<T *>(out.data),
             static_cast<const T *>(x.data), integers(call.pos_ids, 1), floats(call.sin_table),
             floats(call.cos_table), call.sin_table->shape[0], call.sin_table->strides[1],
             call.cos_table->strides[1], rows, Divisor(uint32_t(pairs)), heads,
             Vector<int64_t, 2>{out.strides[h], x.strides[h]},
             Vector<int64_t, 2>{out.strides[e], x.strides[e]}, call.algo == 0);
    }
  }
  Space<3> rows_;
  Run run_;
};

INFINI_CUDALIKE_KERNEL(rope, Rope)

}  // namespace infini::cudalike
