// cudalike/router.hpp -- topkrouter and topksoftmax: which experts a token goes to, and with which weights.
// A block per token, its scores in shared memory; the experts are found one after the other, best first.
#pragma once
#include <infinicore/operators/topkrouter.h>
#include <infinicore/operators/topksoftmax.h>

#include "rows.hpp"

namespace infini::cudalike {

struct Candidate {
  double score;
  int32_t index;  // negative: none
  int32_t unused;
};
// The best score, of equals the first.
struct BestOf {
  __device__ Candidate identity() const { return {0, -1, 0}; }
  __device__ Candidate merge(Candidate a, Candidate b) const {
    if (a.index < 0 || b.index < 0) return a.index < 0 ? b : a;
    if (a.score != b.score) return a.score > b.score ? a : b;
    return a.index < b.index ? a : b;
  }
};

// The best of scores[0 .. count) that is not NaN; a NaN marks what is out of the running.
__device__ inline Candidate best_of(const double *scores, int count) {
  const BestOf op;
  Candidate best = op.identity();
  for (int i = int(threadIdx.x); i < count; i += int(blockDim.x))
    if (!math::is_nan(scores[i])) best = op.merge(best, {scores[i], i, 0});
  return block_reduce(op, best);
}

// Of what a router writes: values and indices, by token and rank.
struct Chosen {
  float *values;
  int32_t *indices;
  MatrixStrides value_strides, index_strides;
};

constexpr int router_groups = 8, router_kept = 4;

// Groups are ranked by their two best biased scores; experts of the best four groups by their biased score.
template <class T> __global__ void __launch_bounds__(most_threads)
    router_kernel(Chosen out, const T *x, MatrixStrides strides, const float *bias, int64_t bias_stride,
                  int experts, int topk, double factor) {
  double *scores = dynamic_shared<double>(), *biased = scores + experts;
  INFINI_SHARED(double, groups, router_groups);
  INFINI_SHARED(int32_t, kept, router_groups);
  const int64_t row = blockIdx.x;
  const int per_group = experts / router_groups;
  for (int e = int(threadIdx.x); e < experts; e += int(blockDim.x)) {
    scores[e] = 1 / (1 + ::exp(-double(load(x[row * strides.row + e * strides.column]))));
    biased[e] = scores[e] + double(bias[e * bias_stride]);
  }
  __syncthreads();
  if (threadIdx.x < router_groups) {
    double first = -math::infinity<double>(), second = first;
    for (int e = int(threadIdx.x) * per_group; e < int(threadIdx.x + 1) * per_group; ++e) {
      if (biased[e] > first) {
        second = first;
        first = biased[e];
      } else if (biased[e] > second) {
        second = biased[e];
      }
    }
    groups[threadIdx.x] = first + second;
  }
  __syncthreads();
  if (threadIdx.x < router_groups) {  // a group's rank: how many come before it
    int rank = 0;
    for (int g = 0; g < router_groups; ++g)
      rank += groups[g] > groups[threadIdx.x] || (groups[g] == groups[threadIdx.x] && g < int(threadIdx.x));
    kept[threadIdx.x] = rank < router_kept;
  }
  __syncthreads();
  for (int e = int(threadIdx.x); e < experts; e += int(blockDim.x))
    if (!kept[e / per_group]) biased[e] = math::nan<double>();
  __syncthreads();
  double total = 0;
  for (int rank = 0; rank < topk; ++rank) {
    const Candidate best = best_of(biased, experts);
    const int32_t chosen = best.index < 0 ? 0 : best.index;  // where all that is left is NaN, so are weights
    total += best.index < 0 ? math::nan<double>() : scores[chosen];
    if (threadIdx.x == 0) {
      out.indices[row * out.index_strides.row + rank * out.index_strides.column] = chosen;
      biased[chosen] = math::nan<double>();
    }
    __syncthreads();
  }
  if (threadIdx.x != 0) return;
  for (int rank = 0; rank < topk; ++rank) {
    const int32_t index = out.indices[row * out.index_strides.row + rank * out.index_strides.column];
    out.values[row * out.value_strides.row + rank * out.value_strides.column] =
        float(scores[index] / (total + 1e-20) * factor);
  }
}

template <class T> __global__ void __launch_bounds__(most_threads)
    topksoftmax_kernel(Chosen out, const T *x, MatrixStrides strides, int experts, int topk, bool norm) {
  double *scores = dynamic_shared<double>();
  const int64_t row = blockIdx.x;
  double top = -math::infinity<double>();
  for (int e = int(threadIdx.x); e < experts; e += int(blockDim.x)) {
    scores[e] = load(x[row * strides.row + e * strides.column]);
    top = scores[e] > top ? scores[e] : top;
  }
  top = block_max(top);
  double sum = 0;
  for (int e = int(threadIdx.x); e < experts; e += int(blockDim.x)) sum += ::exp(scores[e] - top);
  sum = block_sum(sum);
  __syncthreads();
  double chosen = 0;  // weight of all that were chosen
  for (int rank = 0; rank < topk; ++rank) {
    const Candidate best = best_of(scores, experts);
    const double weight = best.index < 0 ? math::nan<double>() : ::exp(best.score - top) / sum;
    chosen += weight;
    if (threadIdx.x == 0) {
      out.indices[row * out.index_strides.row + rank * out.index_strides.column] =
          best.index < 0 ? 0 : best.index;
      out.values[row * out.value_strides.row + rank * out.value_strides.column] = float(weight);
      if (best.index >= 0) scores[best.index] = math::nan<double>();
    }
    __syncthreads();
  }
  if (threadIdx.x != 0 || !norm) return;
  for (int rank = 0; rank < topk; ++rank)
    out.values[row * out.value_strides.row + rank * out.value_strides.column] /= float(chosen);
}

// At most as many experts as shared memory has room for.
inline void check_experts(const char *op, int64_t experts, int64_t arrays) {
  const int64_t most = (40 << 10) / 8 / arrays;
  if (experts > most)
    throw Error(INFINI_STATUS_NOT_IMPLEMENTED, std::string(op) + ": " + std::to_string(experts) +
                                                   " experts, but this backend takes at most " +
                                                   std::to_string(most));
}

template <class Args> Chosen chosen_of(const Args &call) {
  return {static_cast<float *>(call.values->data),
          static_cast<int32_t *>(call.indices->data),
          {call.values->strides[0], call.values->strides[1]},
          {call.indices->strides[0], call.indices->strides[1]}};
}

class Topkrouter {
 public:
  explicit Topkrouter(const infini_topkrouter_args &call)
      : run_(dispatch<Floats>("topkrouter", call.x->dtype,
                              [](auto t) -> Run { return run<typename decltype(t)::type>; })) {
    check_experts("topkrouter", call.x->shape[1], 2);
  }
  uint64_t workspace() const { return 0; }
  void execute(const infini_topkrouter_args &call, void *, infinirtStream_t stream) const {
    if (call.x->shape[0] > 0) run_(call, native(stream));
  }

 private:
  using Run = void (*)(const infini_topkrouter_args &, Stream);
  template <class T> static void run(const infini_topkrouter_args &call, Stream stream) {
    const int64_t experts = call.x->shape[1];
    launch(router_kernel<T>, blocks(call.x->shape[0]), dim3(threads_for(experts, 1)),
           2 * size_t(experts) * sizeof(double), stream, chosen_of(call),
           static_cast<const T *>(call.x->data), MatrixStrides{call.x->strides[0], call.x->strides[1]},
           static_cast<const float *>(call.correction_bias->data), call.correction_bias->strides[0],
           int(experts), int(call.topk), call.routed_scaling_factor);
  }
  Run run_;
};

class Topksoftmax {
 public:
  explicit Topksoftmax(const infini_topksoftmax_args &call)
      : run_(dispatch<Floats>("topksoftmax", call.x->dtype,
                              [](auto t) -> Run { return run<typename decltype(t)::type>; })) {
    check_experts("topksoftmax", call.x->shape[1], 1);
  }
  uint64_t workspace() const { return 0; }
  void execute(const infini_topksoftmax_args &call, void *, infinirtStream_t stream) const {
    if (call.x->shape[0] > 0) run_(call, native(stream));
  }

 private:
  using Run = void (*)(const infini_topksoftmax_args &, Stream);
  template <class T> static void run(const infini_topksoftmax_args &call, Stream stream) {
    const int64_t experts = call.x->shape[1];
    launch(topksoftmax_kernel<T>, blocks(call.x->shape[0]), dim3(threads_for(experts, 1)),
           size_t(experts) * sizeof(double), stream, chosen_of(call), static_cast<const T *>(call.x->data),
           MatrixStrides{call.x->strides[0], call.x->strides[1]}, int(experts), int(call.topk),
           call.norm != 0);
  }
  Run run_;
};

INFINI_CUDALIKE_KERNEL(topkrouter, Topkrouter)
INFINI_CUDALIKE_KERNEL(topksoftmax, Topksoftmax)

}  // namespace infini::cudalike
