// cudalike/reduction.hpp -- sum, mean, prod, var, all, any, amax, amin, count_nonzero, and the extrema with
// their indices. A block or a warp per result; long reductions are split over blocks and combined afterwards.
#pragma once
#include <infinicore/operators/all.h>
#include <infinicore/operators/amax.h>
#include <infinicore/operators/amin.h>
#include <infinicore/operators/any.h>
#include <infinicore/operators/argmax.h>
#include <infinicore/operators/argmin.h>
#include <infinicore/operators/count_nonzero.h>
#include <infinicore/operators/max.h>
#include <infinicore/operators/mean.h>
#include <infinicore/operators/min.h>
#include <infinicore/operators/prod.h>
#include <infinicore/operators/sum.h>
#include <infinicore/operators/var.h>

#include "kernel.hpp"
#include "layout.hpp"
#include "reduce.hpp"

namespace infini::cudalike {

// ---- what is combined
// ------------------------------------------------------------------------------------------- An Op names the
// Value it reads and the State it keeps, and has
//   identity(), take(state, value, index), merge(a, b), put(state, at): at = places of both outputs.

// Integers wrap, so that 32 bits do for the narrow ones.
template <class T> using accumulator_t =
    std::conditional_t<std::is_integral_v<compute_t<T>> && sizeof(T) < 4, uint32_t, compute_t<T>>;

template <class T> struct SumOp {
  using Value = T;
  using State = accumulator_t<T>;
  T *out;
  __device__ State identity() const { return State{}; }
  __device__ void take(State &state, T x, int64_t) const { state = state + State(load(x)); }
  __device__ State merge(State a, State b) const { return a + b; }
  __device__ void put(State state, const int64_t *at) const { out[at[0]] = store<T>(compute_t<T>(state)); }
};

template <class T> struct MeanOp : SumOp<T> {
  int64_t count;
  __device__ void put(compute_t<T> state, const int64_t *at) const {
    this->out[at[0]] = store<T>(state / compute_t<T>(count));
  }
};

// Of complex numbers in f64: cancellation leaves the smaller part of a product few correct bits.
template <class T> struct ProdOp {
  using Value = T;
  using State = std::conditional_t<is_complex<T>, complex<double>, accumulator_t<T>>;
  T *out;
  __device__ State identity() const {
    if constexpr (is_complex<T>)
      return {1, 0};
    else
      return State(1);
  }
  __device__ void take(State &state, T x, int64_t) const {
    if constexpr (is_complex<T>)
      state = merge(state, State{double(load(x.re)), double(load(x.im))});
    else
      state = merge(state, State(load(x)));
  }
  __device__ State merge(State a, State b) const { return a * b; }
  __device__ void put(State state, const int64_t *at) const {
    if constexpr (is_complex<T>)
      out[at[0]] = {store_as<typename T::part>(state.re), store_as<typename T::part>(state.im)};
    else
      out[at[0]] = store<T>(compute_t<T>(state));
  }
};

// Welford's method, and Chan's for merging (1979).
template <class C> struct Moments {
  C count, mean, squares;  // number, mean, and sum of squared distances from it
};
template <class T> struct VarOp {
  using Value = T;
  using C = compute_t<T>;
  using State = Moments<C>;
  T *out;
  bool unbiased;
  __device__ State identity() const { return {C(0), C(0), C(0)}; }
  __device__ void take(State &state, T x, int64_t) const {
    const C value = load(x), delta = value - state.mean;
    state.count += C(1);
    state.mean += delta / state.count;
    state.squares += delta * (value - state.mean);
  }
  __device__ State merge(State a, State b) const {
    if (a.count == C(0)) return b;
    if (b.count == C(0)) return a;
    const C count = a.count + b.count, delta = b.mean - a.mean;
    return {count, a.mean + delta * (b.count / count),
            a.squares + b.squares + delta * delta * (a.count * (b.count / count))};
  }
  __device__ void put(State state, const int64_t *at) const {
    const C freedom = state.count - C(unbiased);
    out[at[0]] = store<T>(state.squares / (freedom > C(0) ? freedom : C(0)));
  }
};

// Does `a` come before `b` as the extremum? A NaN comes before every number.
template <bool largest, class C> __device__ inline bool beats(C a, C b) {
  if constexpr (std::is_floating_point_v<C>)
    if (math::is_nan(a) || math::is_nan(b)) return math::is_nan(a) && !math::is_nan(b);
  return largest ? a > b : a < b;
}

template <class T, bool largest> struct ExtremumOp {
  using Value = T;
  using C = compute_t<T>;
  struct State {
    std::conditional_t<sizeof(C) < 4, int32_t, C> value;
    int32_t valid;
    int64_t index;
  };
  T *values;         // NULL: not wanted
  int64_t *indices;  // NULL: not wanted
  __device__ State identity() const { return {}; }
  __device__ void take(State &state, T x, int64_t index) const {
    state = merge(state, State{load(x), 1, index});
  }
  // The first of equals.
  __device__ State merge(State a, State b) const {
    if (!a.valid || !b.valid) return a.valid ? a : b;
    if (beats<largest>(a.value, b.value)) return a;
    if (beats<largest>(b.value, a.value)) return b;
    return a.index < b.index ? a : b;
  }
  __device__ void put(State state, const int64_t *at) const {
    if (values != nullptr) values[at[0]] = store<T>(C(state.value));
    if (indices != nullptr) indices[at[1]] = state.index;
  }
};

constexpr unsigned column_threads = 256;
constexpr int64_t column_blocks = 2048;  // fill the largest devices

// ---- kernels --------------------------------------------------------------------------------------------

// Where a block, or a row of a block, works: kept = places of both outputs and of the input.
template <class Op, class Input> static __global__ void __launch_bounds__(most_threads)
    reduce_rows(Op op, Input in, Layout<3> kept, Layout<1> reduced, int64_t first_index, uint32_t chunk,
                typename Op::State *partials, unsigned slot, unsigned slots) {
  const int64_t row = int64_t(blockIdx.x) * blockDim.y + threadIdx.y;
  const bool exists = row < kept.count;  // every lane must take part in what follows
  int64_t at[3];
  kept.locate(exists ? uint32_t(row) : 0, at);
  const Stretch mine = stretch(blockIdx.y, chunk, reduced.count);
  auto state = op.identity();
  for (uint32_t i = mine.begin + threadIdx.x; i < mine.end; i += blockDim.x) {
    int64_t place[1];
    reduced.locate(i, place);
    op.take(state, in[at[2] + place[0]], first_index + i);
  }
  state = blockDim.y > 1 ? warp_reduce(op, state) : block_reduce(op, state);
  if (threadIdx.x != 0 || !exists) return;
  if (partials != nullptr)
    partials[row * slots + slot + blockIdx.y] = state;
  else
    op.put(state, at);
}

// A thread per result, or per part of one, where neighbouring results read neighbouring elements.
template <class Op, class Input> static __global__ void __launch_bounds__(column_threads)
    reduce_columns(Op op, Input in, Layout<3> kept, Layout<1> reduced, uint32_t chunk,
                   typename Op::State *partials) {
  const int64_t column = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (column >= kept.count) return;
  int64_t at[3];
  kept.locate(uint32_t(column), at);
  const Stretch mine = stretch(blockIdx.y, chunk, reduced.count);
  auto state = op.identity();
  for (uint32_t i = mine.begin; i < mine.end; ++i) {
    int64_t place[1];
    reduced.locate(i, place);
    op.take(state, in[at[2] + place[0]], i);
  }
  if (partials != nullptr)
    partials[column * gridDim.y + blockIdx.y] = state;
  else
    op.put(state, at);
}

template <class Op> static __global__ void __launch_bounds__(most_threads)
    combine_partials(Op op, const typename Op::State *partials, unsigned slots, Layout<3> kept) {
  const uint32_t row = blockIdx.x;
  int64_t at[3];
  kept.locate(row, at);
  auto state = op.identity();
  for (unsigned i = threadIdx.x; i < slots; i += blockDim.x)
    state = op.merge(state, partials[int64_t(row) * slots + i]);
  state = block_reduce(op, state);
  if (threadIdx.x == 0) op.put(state, at);
}

// ---- the host's side ------------------------------------------------------------------------------------

// Which dimensions are kept and which reduced, and into how many parts the latter are cut.
class Reduction {
 public:
  // In the C order of `dims`; no dims: all of them. The order of elements matters only where indices are
  // asked for.
  Reduction(const char *op, const infini_tensor &input, const infini_tensor &out, const infini_tensor &second,
            const int64_t *dims, int64_t dim_count, bool ordered)
      : op_(op) {
    const bool keeps_rank = out.ndim == input.ndim && input.ndim > 0;
    int32_t o = 0;
    for (int32_t d = 0; d < input.ndim; ++d) {
      const bool gone = dim_count == 0 || std::find(dims, dims + dim_count, d) != dims + dim_count;
      if (gone)
        reduced_.dims.push_back({input.shape[d], {input.strides[d]}});
      else
        kept_.dims.push_back({input.shape[d], {out.strides[o], second.strides[o], input.strides[d]}});
      if (!gone || keeps_rank) ++o;
    }
    count = reduced_.count();
    ordered ? reduced_.merge() : reduced_.reorder();
    kept_.reorder();
    parts_ = reduced_.parts(op);
    if (parts_.empty()) {  // nothing to combine: the identity is the result
      parts_.push_back({});
      parts_[0].count = 0;
    }
    const int64_t rows = kept_.count(), longest = parts_[0].count;
    columns_ = parts_.size() == 1 && !kept_.dims.empty() && kept_.dims.back().strides[2] == 1 &&
               (reduced_.dims.empty() || reduced_.dims.back().strides[0] != 1) && rows >= 32;
    if (columns_)  // a thread reads one element after the other: enough of them hide how long that takes
      splits_ =
          unsigned(std::min(ceil_div(longest, 64), ceil_div(column_blocks, ceil_div(rows, column_threads))));
    else if (rows < 512 && longest > 16384)
      splits_ = unsigned(std::min<int64_t>(ceil_div(longest, 8192), 1024 / std::max<int64_t>(rows, 1) + 1));
    splits_ = std::max(splits_, 1u);
    chunk_ = uint32_t(std::max<int64_t>(ceil_div(longest, splits_), 1));
    slots_ = unsigned(parts_.size()) * splits_;
  }

  int64_t count;  // elements that one result is made of

  uint64_t workspace(size_t state_bytes) const {
    return slots_ > 1 ? uint64_t(kept_.count()) * slots_ * state_bytes : 0;
  }

  template <class Op, class Input>
  void run(const Op &op, const Input &in, void *workspace, Stream stream) const {
    using State = typename Op::State;
    auto partials = slots_ > 1 ? static_cast<State *>(workspace) : nullptr;
    for (const Layout<3> &kept : kept_.parts(op_)) {
      int64_t index = 0;
      for (size_t part = 0; part < parts_.size(); ++part) {
        const Layout<1> &reduced = parts_[part];
        if (columns_) {
          dim3 grid = blocks(ceil_div(kept.count, column_threads));
          grid.y = splits_;
          launch(reduce_columns<Op, Input>, grid, dim3(column_threads), 0, stream, op, in, kept, reduced,
                 chunk_, partials);
          continue;
        }
        const unsigned threads = threads_for(std::min(reduced.count, chunk_));
        const unsigned rows = threads == warp_width && splits_ == 1 ? column_threads / warp_width : 1;
        dim3 grid = blocks(ceil_div(kept.count, rows));
        grid.y = splits_;
        launch(reduce_rows<Op, Input>, grid, dim3(threads, rows), 0, stream, op, in, kept, reduced, index,
               chunk_, partials, unsigned(part) * splits_, slots_);
        index += reduced.count;
      }
      if (partials != nullptr)
        launch(combine_partials<Op>, blocks(kept.count), dim3(threads_for(slots_)), 0, stream, op,
               static_cast<const State *>(partials), slots_, kept);
    }
  }

 private:
  const char *op_;
  Space<3> kept_;
  Space<1> reduced_;
  std::vector<Layout<1>> parts_;
  unsigned splits_ = 1, slots_ = 1;
  uint32_t chunk_ = 1;
  bool columns_ = false;
};

// A reduction with a list of dims. Make(call, reduction, tag) gives the Op.
template <class Args, class Make, class Set> class ReductionKernel {
 public:
  explicit ReductionKernel(const Args &call)
      : reduction_(Make::name, *call.input, Make::out(call), Make::out(call), call.dim->items,
                   call.dim->count, false),
        run_(dispatch<Set>(Make::name, call.input->dtype, [](auto t) -> Run { return run<decltype(t)>; })),
        state_bytes_(dispatch<Set>(Make::name, call.input->dtype, [](auto t) -> size_t {
          return sizeof(typename decltype(Make::make(std::declval<const Args &>(), 0, t))::State);
        })) {}

  uint64_t workspace() const { return reduction_.workspace(state_bytes_); }
  void execute(const Args &call, void *workspace, infinirtStream_t stream) const {
    run_(reduction_, call, workspace, native(stream));
  }

 private:
  using Run = void (*)(const Reduction &, const Args &, void *, Stream);
  template <class Tag>
  static void run(const Reduction &reduction, const Args &call, void *workspace, Stream stream) {
    using T = typename Tag::type;
    auto in = static_cast<const T *>(call.input->data);
    reduction.run(Make::make(call, reduction.count, Tag{}), in, workspace, stream);
  }

  Reduction reduction_;
  Run run_;
  size_t state_bytes_;
};

struct MakeSum {
  static constexpr const char *name = "sum";
  static const infini_tensor &out(const infini_sum_args &call) { return *call.output; }
  template <class T> static SumOp<T> make(const infini_sum_args &call, int64_t, tag<T>) {
    return {static_cast<T *>(call.output->data)};
  }
};
struct MakeMean {
  static constexpr const char *name = "mean";
  static const infini_tensor &out(const infini_mean_args &call) { return *call.output; }
  template <class T> static MeanOp<T> make(const infini_mean_args &call, int64_t count, tag<T>) {
    return {{static_cast<T *>(call.output->data)}, count};
  }
};
struct MakeProd {
  static constexpr const char *name = "prod";
  static const infini_tensor &out(const infini_prod_args &call) { return *call.output; }
  template <class T> static ProdOp<T> make(const infini_prod_args &call, int64_t, tag<T>) {
    return {static_cast<T *>(call.output->data)};
  }
};
struct MakeVar {
  static constexpr const char *name = "var";
  static const infini_tensor &out(const infini_var_args &call) { return *call.var_output; }
  template <class T> static VarOp<T> make(const infini_var_args &call, int64_t, tag<T>) {
    return {static_cast<T *>(call.var_output->data), call.unbiased != 0};
  }
};
template <class Args, bool largest> struct MakeExtremum {
  static constexpr const char *name = largest ? "amax" : "amin";
  static const infini_tensor &out(const Args &call) { return *call.output; }
  template <class T> static ExtremumOp<T, largest> make(const Args &call, int64_t, tag<T>) {
    return {static_cast<T *>(call.output->data), nullptr};
  }
};

using SumKernel = ReductionKernel<infini_sum_args, MakeSum, Modular>;
using MeanKernel = ReductionKernel<infini_mean_args, MakeMean, Floats>;
using ProdKernel = ReductionKernel<infini_prod_args, MakeProd, Modular>;
using VarKernel = ReductionKernel<infini_var_args, MakeVar, Floats>;
using AmaxKernel = ReductionKernel<infini_amax_args, MakeExtremum<infini_amax_args, true>, Reals>;
using AminKernel = ReductionKernel<infini_amin_args, MakeExtremum<infini_amin_args, false>, Reals>;

// ---- extrema along one dimension, with indices ----------------------------------------------------------

template <class Args, bool largest, bool with_values> class ExtremumAlong {
 public:
  explicit ExtremumAlong(const Args &call)
      : reduction_(largest ? "max" : "min", *call.input, first(call), second(call), &call.dim, 1, true),
        run_(dispatch<Reals>(largest ? "max" : "min", call.input->dtype,
                             [](auto t) -> Run { return run<typename decltype(t)::type>; })) {}

  // The states differ in size; this is the largest.
  uint64_t workspace() const {
    return reduction_.workspace(sizeof(typename ExtremumOp<double, largest>::State));
  }
  void execute(const Args &call, void *workspace, infinirtStream_t stream) const {
    run_(reduction_, call, workspace, native(stream));
  }

 private:
  using Run = void (*)(const Reduction &, const Args &, void *, Stream);
  static const infini_tensor &first(const Args &call) {
    if constexpr (with_values)
      return *call.values;
    else
      return *call.output;
  }
  static const infini_tensor &second(const Args &call) {
    if constexpr (with_values)
      return *call.indices;
    else
      return *call.output;
  }
  template <class T>
  static void run(const Reduction &reduction, const Args &call, void *workspace, Stream stream) {
    auto in = static_cast<const T *>(call.input->data);
    const ExtremumOp<T, largest> op = {with_values ? static_cast<T *>(first(call).data) : nullptr,
                                       static_cast<int64_t *>(second(call).data)};
    reduction.run(op, in, workspace, stream);
  }

  Reduction reduction_;
  Run run_;
};

using ArgmaxKernel = ExtremumAlong<infini_argmax_args, true, false>;
using ArgminKernel = ExtremumAlong<infini_argmin_args, false, false>;
using MaxKernel = ExtremumAlong<infini_max_args, true, true>;
using MinKernel = ExtremumAlong<infini_min_args, false, true>;

// ---- of truth values ------------------------------------------------------------------------------------

// How many are true: all, any or the number itself follow from that.
enum class Count { number, any, all };
struct CountOp {
  using Value = bool;
  using State = int64_t;
  uint8_t *out;  // of int64_t for the number
  Count truth;
  int64_t count;
  __device__ State identity() const { return 0; }
  __device__ void take(State &state, bool x, int64_t) const { state += x; }
  __device__ State merge(State a, State b) const { return a + b; }
  __device__ void put(State state, const int64_t *at) const {
    if (truth == Count::number)
      reinterpret_cast<int64_t *>(out)[at[0]] = state;
    else
      out[at[0]] = truth == Count::any ? state > 0 : state == count;
  }
};

template <class Args, Count truth> class Counting {
 public:
  explicit Counting(const Args &call)
      : reduction_("all, any and count_nonzero", *call.input, *call.output, *call.output, dims(call).items,
                   dims(call).count, false) {}

  uint64_t workspace() const { return reduction_.workspace(sizeof(CountOp::State)); }
  void execute(const Args &call, void *workspace, infinirtStream_t stream) const {
    const CountOp op = {static_cast<uint8_t *>(call.output->data), truth, reduction_.count};
    reduction_.run(op, TruthReader(*call.input), workspace, native(stream));
  }

 private:
  static infini_int_list dims(const Args &call) {
    if constexpr (truth == Count::number)
      return {0, nullptr};
    else
      return *call.dim;
  }
  Reduction reduction_;
};

using AllKernel = Counting<infini_all_args, Count::all>;
using AnyKernel = Counting<infini_any_args, Count::any>;
using CountNonzero = Counting<infini_count_nonzero_args, Count::number>;

INFINI_CUDALIKE_KERNEL(sum, SumKernel)
INFINI_CUDALIKE_KERNEL(mean, MeanKernel)
INFINI_CUDALIKE_KERNEL(prod, ProdKernel)
INFINI_CUDALIKE_KERNEL(var, VarKernel)
INFINI_CUDALIKE_KERNEL(amax, AmaxKernel)
INFINI_CUDALIKE_KERNEL(amin, AminKernel)
INFINI_CUDALIKE_KERNEL(argmax, ArgmaxKernel)
INFINI_CUDALIKE_KERNEL(argmin, ArgminKernel)
INFINI_CUDALIKE_KERNEL(max, MaxKernel)
INFINI_CUDALIKE_KERNEL(min, MinKernel)
INFINI_CUDALIKE_KERNEL(all, AllKernel)
INFINI_CUDALIKE_KERNEL(any, AnyKernel)
INFINI_CUDALIKE_KERNEL(count_nonzero, CountNonzero)

}  // namespace infini::cudalike
