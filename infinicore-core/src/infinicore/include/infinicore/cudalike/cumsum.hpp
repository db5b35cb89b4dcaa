// cudalike/cumsum.hpp -- running sums along a dimension: a block per row, as many elements at a time as it
// has threads. Sums of floats are kept in f64.
#pragma once
#include <infinicore/operators/cumsum.h>

#include "rows.hpp"

namespace infini::cudalike {

template <class T> __device__ inline T shuffle_up_words(T value, unsigned delta) {
  if constexpr (std::is_arithmetic_v<T>) {
    return shuffle_up(value, delta);
  } else {
    constexpr int count = int(sizeof(T) / 8);
    double words[count];
    memcpy(words, &value, sizeof(T));
    for (int i = 0; i < count; ++i) words[i] = shuffle_up(words[i], delta);
    memcpy(&value, words, sizeof(T));
    return value;
  }
}

template <class T> struct running { using type = uint64_t; };
template <> struct running<float> { using type = double; };
template <> struct running<double> { using type = double; };
template <class C> struct running<complex<C>> { using type = complex<double>; };
template <class T> using running_t = typename running<compute_t<T>>::type;

template <class T> __device__ inline running_t<T> widen(T x) {
  if constexpr (is_complex<T>)
    return {double(load(x.re)), double(load(x.im))};
  else
    return running_t<T>(load(x));
}
template <class T> __device__ inline T narrow(running_t<T> x) {
  if constexpr (is_complex<T>)
    return {store_as<typename T::part>(x.re), store_as<typename T::part>(x.im)};
  else
    return store_as<T>(x);
}

template <class T> __global__ void __launch_bounds__(most_threads)
    cumsum_kernel(T *out, const T *in, Layout<2> layout, int64_t length, int64_t out_stride,
                  int64_t in_stride) {
  using Sum = running_t<T>;
  INFINI_SHARED(Sum, of_warps, max_warps);
  int64_t at[2];
  layout.locate(blockIdx.x, at);
  const unsigned lane = threadIdx.x % warp_width, warp = threadIdx.x / warp_width;
  Sum before{};  // of the pieces so far
  for (int64_t base = 0; base < length; base += blockDim.x) {
    const int64_t i = base + threadIdx.x;
    Sum sum = i < length ? widen(in[at[1] + i * in_stride]) : Sum{};
    for (unsigned delta = 1; delta < warp_width; delta *= 2) {
      const Sum below = shuffle_up_words(sum, delta);
      if (lane >= delta) sum = sum + below;
    }
    if (lane == warp_width - 1) of_warps[warp] = sum;
    __syncthreads();
    Sum earlier = before;
    for (unsigned w = 0; w < blockDim.x / warp_width; ++w) {
      if (w == warp) earlier = before;
      before = before + of_warps[w];
    }
    if (i < length) out[at[0] + i * out_stride] = narrow<T>(earlier + sum);
    __syncthreads();
  }
}

class Cumsum {
 public:
  explicit Cumsum(const infini_cumsum_args &call)
      : rows_({call.output, call.input}, call.dim),
        run_(dispatch<Modular>("cumsum", call.output->dtype,
                               [](auto t) -> Run { return run<typename decltype(t)::type>; })) {}
  uint64_t workspace() const { return 0; }
  void execute(const infini_cumsum_args &call, void *, infinirtStream_t stream) const {
    if (!rows_.empty()) run_(rows_, call, native(stream));
  }

 private:
  using Run = void (*)(const Rows<2> &, const infini_cumsum_args &, Stream);
  template <class T> static void run(const Rows<2> &rows, const infini_cumsum_args &call, Stream stream) {
    for (const Layout<2> &layout : rows.parts("cumsum"))
      launch(cumsum_kernel<T>, blocks(layout.count), dim3(threads_for(rows.length, 1)), 0, stream,
             static_cast<T *>(call.output->data), static_cast<const T *>(call.input->data), layout,
             rows.length, rows.strides[0], rows.strides[1]);
  }
  Rows<2> rows_;
  Run run_;
};

INFINI_CUDALIKE_KERNEL(cumsum, Cumsum)

}  // namespace infini::cudalike
