// cudalike/softmax.hpp -- softmax, logsoftmax, causal_softmax and cross_entropy: a block per row.
#pragma once
#include <infinicore/operators/causal_softmax.h>
#include <infinicore/operators/cross_entropy.h>
#include <infinicore/operators/logsoftmax.h>
#include <infinicore/operators/softmax.h>

#include "rows.hpp"

namespace infini::cudalike {

// What stands beyond a row, and beyond what a causal row sees, has no weight. A causal row number i of
// `cycle` sees the first i + 1 + (length - cycle) elements.
template <class T, int width, bool logarithm> static __global__ void __launch_bounds__(most_threads)
    softmax_kernel(T *out, const T *in, Layout<2> layout, int64_t length, int64_t out_stride,
                   int64_t in_stride, uint32_t first_row, uint32_t cycle) {
  using C = compute_t<T>;
  const C none = -math::infinity<C>();
  int64_t at[2];
  layout.locate(blockIdx.x, at);
  const int64_t seen = cycle == 0 ? length : (first_row + blockIdx.x) % cycle + 1 + (length - cycle);
  C items[row_items];
  const auto read = [&](int64_t base) {
    load_items<width>(in + at[1], in_stride, seen, base, none,
                      items);  // whole vectors, up to `seen` at least
    if (seen < length)
      for (int i = 0; i < row_items; ++i)
        if (item_place<width>(base, i) >= seen) items[i] = none;
  };
  C top = none;
  for_pieces(length, false, [&](int64_t base, bool) {
    read(base);
    for (int i = 0; i < row_items; ++i) top = MaxOf<C>{}.merge(top, items[i]);
  });
  top = block_max(top);
  C sum = 0;
  for_pieces(length, true, [&](int64_t base, bool loaded) {
    if (!loaded) read(base);
    for (int i = 0; i < row_items; ++i) {
      if (item_place<width>(base, i) >= seen) continue;
      const C power = math::exp(items[i] - top);
      sum += power;
      if (!logarithm && loaded) items[i] = power;
    }
  });
  sum = block_sum(sum);
  const C shift = logarithm ? math::log(sum) : C(1) / sum;
  for_pieces(length, true, [&](int64_t base, bool loaded) {
    if (!loaded) read(base);
    for (int i = 0; i < row_items; ++i) {
      if constexpr (logarithm)
        items[i] = (items[i] - top) - shift;
      else
        items[i] = item_place<width>(base, i) < seen ? (loaded ? items[i] : math::exp(items[i] - top)) * shift
                                                     : C(0);
    }
    store_items<width>(out + at[0], out_stride, length, base, items);
  });
}

template <class Args, bool logarithm> class SoftmaxKernel {
 public:
  explicit SoftmaxKernel(const Args &call)
      : rows_({out(call), in(call)}, axis(call)),
        run_(dispatch<Floats>("softmax", out(call)->dtype,
                              [](auto t) -> Run { return run<typename decltype(t)::type>; })) {
    if constexpr (std::is_same_v<Args, infini_causal_softmax_args>)
      cycle_ = uint32_t(call.y->shape[call.y->ndim - 2]);
  }

  uint64_t workspace() const { return 0; }
  void execute(const Args &call, void *, infinirtStream_t stream) const {
    if (!rows_.empty()) run_(*this, call, native(stream));
  }

 private:
  using Run = void (*)(const SoftmaxKernel &, const Args &, Stream);

  static const infini_tensor *out(const Args &call) {
    if constexpr (logarithm)
      return call.out;
    else
      return call.y;
  }
  static const infini_tensor *in(const Args &call) {
    if constexpr (logarithm)
      return call.input;
    else
      return call.x;
  }
  static int64_t axis(const Args &call) {
    if constexpr (std::is_same_v<Args, infini_causal_softmax_args>)
      return -1;
    else
      return call.axis;
  }

  template <class T> static void run(const SoftmaxKernel &plan, const Args &call, Stream stream) {
    constexpr int width = vector_width<T>();
    const Rows<2> &rows = plan.rows_;
    const bool vectors =
        rows.in_vectors(width) && is_aligned(out(call)->data, 16) && is_aligned(in(call)->data, 16);
    uint32_t first = 0;  // modulo the cycle
    for (const Layout<2> &layout : rows.parts("softmax")) {
      launch(vectors ? softmax_kernel<T, width, logarithm> : softmax_kernel<T, 1, logarithm>,
             blocks(layout.count), dim3(row_threads(rows.length)), 0, stream,
             static_cast<T *>(out(call)->data), static_cast<const T *>(in(call)->data), layout, rows.length,
             rows.strides[0], rows.strides[1], first, plan.cycle_);
      if (plan.cycle_ > 0) first = (first + layout.count) % plan.cycle_;
    }
  }

  Rows<2> rows_;
  uint32_t cycle_ = 0;
  Run run_;
};

using Softmax = SoftmaxKernel<infini_softmax_args, false>;
using CausalSoftmax = SoftmaxKernel<infini_causal_softmax_args, false>;
using LogSoftmax = SoftmaxKernel<infini_logsoftmax_args, true>;

// ---- cross_entropy --------------------------------------------------------------------------------------

// Each row's loss, and the weight that a mean divides by. losses, NULL where rows are not reduced, holds
// pairs.
template <class T> __global__ void __launch_bounds__(most_threads)
    cross_entropy_kernel(T *out, const T *in, IntegerReader target, FloatReader weight, Layout<3> layout,
                         int64_t length, int64_t stride, int64_t ignored, compute_t<T> *losses,
                         int64_t first_row) {
  using C = compute_t<T>;
  int64_t at[3];
  layout.locate(blockIdx.x, at);
  const T *row = in + at[1];
  C top = -math::infinity<C>();
  for (int64_t i = threadIdx.x; i < length; i += blockDim.x)
    top = MaxOf<C>{}.merge(top, load(row[i * stride]));
  top = block_max(top);
  C sum = 0;
  for (int64_t i = threadIdx.x; i < length; i += blockDim.x) sum += math::exp(load(row[i * stride]) - top);
  sum = block_sum(sum);
  if (threadIdx.x != 0) return;
  const int64_t chosen = target.at(at[2]);
  const bool counts = chosen != ignored && chosen >= 0 && chosen < length;
  const C scale = !counts ? C(0) : weight.data != nullptr ? weight.get<C>(chosen) : C(1);
  const C loss = counts ? (math::log(sum) - (load(row[chosen * stride]) - top)) * scale : C(0);
  if (losses == nullptr) {
    out[at[0]] = store<T>(loss);
  } else {
    losses[2 * (first_row + blockIdx.x)] = loss;
    losses[2 * (first_row + blockIdx.x) + 1] = scale;
  }
}

template <class T> static __global__ void __launch_bounds__(most_threads)
    reduce_losses(T *out, const compute_t<T> *losses, int64_t rows, bool mean) {
  using C = compute_t<T>;
  C loss = 0, scale = 0;
  for (int64_t i = threadIdx.x; i < rows; i += blockDim.x) {
    loss += losses[2 * i];
    scale += losses[2 * i + 1];
  }
  loss = block_sum(loss);
  scale = block_sum(scale);
  if (threadIdx.x == 0) out[0] = store<T>(mean ? loss / scale : loss);
}

class CrossEntropy {
 public:
  explicit CrossEntropy(const infini_cross_entropy_args &call)
      : reduction_(call.reduction), run_(dispatch<Floats>("cross_entropy", call.y->dtype, [](auto t) -> Run {
          return run<typename decltype(t)::type>;
        })) {
    const infini_tensor &x = *call.x, &target = *call.target;
    int32_t axis = std::min<int32_t>(1, x.ndim - 1);  // the second dimension where that fits, else the last
    for (int32_t d = 0, t = 0; d < x.ndim; ++d)
      if (d != axis && x.shape[d] != target.shape[t++]) {
        axis = x.ndim - 1;
        break;
      }
    length_ = x.shape[axis];
    stride_ = x.strides[axis];
    for (int32_t d = 0, t = 0; d < x.ndim; ++d) {
      if (d == axis) continue;
      rows_.dims.push_back(
          {x.shape[d], {reduction_ == 0 ? call.y->strides[t] : 0, x.strides[d], target.strides[t]}});
      ++t;
    }
    rows_.merge();
  }

  uint64_t workspace() const { return reduction_ == 0 ? 0 : uint64_t(rows_.count()) * 2 * sizeof(double); }
  void execute(const infini_cross_entropy_args &call, void *workspace, infinirtStream_t stream) const {
    run_(*this, call, workspace, native(stream));
  }

 private:
  using Run = void (*)(const CrossEntropy &, const infini_cross_entropy_args &, void *, Stream);

  template <class T> static void run(const CrossEntropy &plan, const infini_cross_entropy_args &call,
                                     void *workspace, Stream stream) {
    using C = compute_t<T>;
    auto losses = plan.reduction_ == 0 ? nullptr : static_cast<C *>(workspace);
    int64_t first = 0;
    for (const Layout<3> &layout : plan.rows_.parts("cross_entropy")) {
      launch(cross_entropy_kernel<T>, blocks(layout.count), dim3(threads_for(plan.length_)), 0, stream,
             static_cast<T *>(call.y->data), static_cast<const T *>(call.x->data), integers(call.target, 1),
             floats(call.weight), layout, plan.length_, plan.stride_, call.ignore_index, losses, first);
      first += layout.count;
    }
    if (plan.reduction_ != 0)
      launch(reduce_losses<T>, dim3(1), dim3(threads_for(first)), 0, stream, static_cast<T *>(call.y->data),
             static_cast<const C *>(losses), first, plan.reduction_ == 1);
  }

  int64_t reduction_, length_ = 0, stride_ = 0;
  Space<3> rows_;
  Run run_;
};

INFINI_CUDALIKE_KERNEL(softmax, Softmax)
INFINI_CUDALIKE_KERNEL(causal_softmax, CausalSoftmax)
INFINI_CUDALIKE_KERNEL(logsoftmax, LogSoftmax)
INFINI_CUDALIKE_KERNEL(cross_entropy, CrossEntropy)

}  // namespace infini::cudalike
