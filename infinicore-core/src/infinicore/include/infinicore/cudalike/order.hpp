// cudalike/order.hpp -- sort and topk along any dimension, with the indices that elements came from.
#pragma once
#include <infinicore/operators/sort.h>
#include <infinicore/operators/topk.h>

#include "kernel.hpp"
#include "sorting.hpp"

namespace infini::cudalike {

// Sorted indices instead of sorted values: keys of the first `count` elements of each row.
static __global__ void __launch_bounds__(most_threads)
    index_keys(const Keyed *sorted, int64_t row_stride, Keyed *keys, int64_t count, int64_t first_row) {
  const int64_t row = first_row + blockIdx.x;
  for (int64_t i = first_of_row(); i < count; i += step_of_row()) {
    const uint32_t index = sorted[row * row_stride + i].index;
    keys[row * count + i] = {index, index, 0};
  }
}

// rows: places in values, indices and the input.
template <class T> __global__ void __launch_bounds__(most_threads)
    ordered_kernel(T *values, void *indices, bool wide, const T *in, const Keyed *sorted, int64_t row_stride,
                   Layout<3> rows, int64_t first_row, int64_t count, Vector<int64_t, 4> strides) {
  int64_t at[3];
  rows.locate(blockIdx.x, at);
  for (int64_t i = first_of_row(); i < count; i += step_of_row()) {
    const int64_t index = sorted[(first_row + blockIdx.x) * row_stride + i].index;
    values[at[0] + i * strides.items[0]] = in[at[2] + index * strides.items[2]];
    const int64_t place = at[1] + i * strides.items[1];
    if (wide)
      static_cast<int64_t *>(indices)[place] = index;
    else
      static_cast<int32_t *>(indices)[place] = int32_t(index);
  }
}

// Both operators: the first `count` of each row in order, or, unless `ordered`, in the order of their
// indices.
class Ordered {
 public:
  Ordered(const char *op, const infini_tensor &values, const infini_tensor &indices,
          const infini_tensor &input, int64_t dim, int64_t count, bool descending, bool ordered)
      : op_(op), dim_(dim), count_(count), descending_(descending), ordered_(ordered) {
    for (int32_t d = 0; d < input.ndim; ++d) {
      if (d == dim) continue;
      rows_.dims.push_back({input.shape[d], {values.strides[d], indices.strides[d], input.strides[d]}});
      inputs_.dims.push_back({input.shape[d], {input.strides[d]}});
    }
    length_ = input.shape[dim];
    sort_ = RowSort(op, rows_.count(), length_, std::max<int64_t>(count, 1));
    indices_ = RowSort(op, rows_.count(), count, count);
    run_ = dispatch<Reals>(op, input.dtype, [](auto t) -> Run { return run<typename decltype(t)::type>; });
  }

  uint64_t workspace() const { return sort_.workspace() + (ordered_ ? 0 : indices_.workspace()); }
  void execute(const infini_tensor &values, const infini_tensor &indices, const infini_tensor &input,
               void *workspace, Stream stream) const {
    if (rows_.count() > 0 && count_ > 0) run_(*this, values, indices, input, workspace, stream);
  }

 private:
  using Run = void (*)(const Ordered &, const infini_tensor &, const infini_tensor &, const infini_tensor &,
                       void *, Stream);

  template <class T> static void run(const Ordered &plan, const infini_tensor &values,
                                     const infini_tensor &indices, const infini_tensor &input,
                                     void *workspace, Stream stream) {
    auto in = static_cast<const T *>(input.data);
    const Keyed *sorted = plan.sort_.run(in, plan.inputs_.parts(plan.op_), input.strides[plan.dim_],
                                         plan.descending_, workspace, stream);
    int64_t stride = plan.sort_.stride();
    if (!plan.ordered_) {
      auto from = reinterpret_cast<Keyed *>(static_cast<char *>(workspace) + plan.sort_.workspace());
      const int64_t rows = plan.rows_.count();
      for (int64_t first = 0; first < rows; first += 0x7fffffff)
        launch(index_keys, row_blocks(rows - first, plan.count_), dim3(threads_for(plan.count_)), 0, stream,
               sorted, stride, from, plan.count_, first);
      sorted = plan.indices_.order(from, from + rows * plan.count_, stream);
      stride = plan.indices_.stride();
    }
    int64_t first = 0;
    for (const Layout<3> &rows : plan.rows_.parts(plan.op_)) {
      launch(ordered_kernel<T>, row_blocks(rows.count, plan.count_), dim3(threads_for(plan.count_)), 0,
             stream, static_cast<T *>(values.data), indices.data, indices.dtype == INFINI_DTYPE_I64, in,
             sorted, stride, rows, first, plan.count_,
             Vector<int64_t, 4>{values.strides[plan.dim_], indices.strides[plan.dim_],
                                input.strides[plan.dim_], 0});
      first += rows.count;
    }
  }

  const char *op_;
  int64_t dim_, count_, length_;
  bool descending_, ordered_;
  Space<3> rows_;
  Space<1> inputs_;
  RowSort sort_, indices_;
  Run run_;
};

class Sort {
 public:
  explicit Sort(const infini_sort_args &call)
      : plan_("sort", *call.values, *call.indices, *call.input, call.dim, call.input->shape[call.dim],
              call.descending != 0, true) {}
  uint64_t workspace() const { return plan_.workspace(); }
  void execute(const infini_sort_args &call, void *workspace, infinirtStream_t stream) const {
    plan_.execute(*call.values, *call.indices, *call.input, workspace, native(stream));
  }

 private:
  Ordered plan_;
};

class Topk {
 public:
  explicit Topk(const infini_topk_args &call)
      : plan_("topk", *call.values, *call.indices, *call.input, call.dim, call.k, call.largest != 0,
              call.sorted != 0) {}
  uint64_t workspace() const { return plan_.workspace(); }
  void execute(const infini_topk_args &call, void *workspace, infinirtStream_t stream) const {
    plan_.execute(*call.values, *call.indices, *call.input, workspace, native(stream));
  }

 private:
  Ordered plan_;
};

INFINI_CUDALIKE_KERNEL(sort, Sort)
INFINI_CUDALIKE_KERNEL(topk, Topk)

}  // namespace infini::cudalike
