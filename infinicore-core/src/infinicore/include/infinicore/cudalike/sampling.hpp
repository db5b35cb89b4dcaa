// cudalike/sampling.hpp -- random_sample and random_sample_batch: temperature, top-k and top-p over sorted
// logits. Probabilities are summed in f64 and in the order of the reference, so that a draw on an edge falls
// alike.
#pragma once
#include <infinicore/operators/random_sample.h>
#include <infinicore/operators/random_sample_batch.h>

#include "rows.hpp"
#include "sorting.hpp"

namespace infini::cudalike {

// One value for all rows, or one per row.
struct Parameter {
  double value;
  const void *data;
  int64_t stride;
  bool whole;  // of i32, else of f32
  __device__ double operator[](int64_t row) const {
    if (data == nullptr) return value;
    return whole ? double(static_cast<const int32_t *>(data)[row * stride])
                 : double(static_cast<const float *>(data)[row * stride]);
  }
};
struct SampleParameters {
  Parameter random, topp, topk, temperature;
};

constexpr unsigned sample_threads = 512;

struct Smallest {
  __device__ int64_t identity() const { return INT64_MAX; }
  __device__ int64_t merge(int64_t a, int64_t b) const { return a < b ? a : b; }
};

__device__ inline void put_index(void *out, int size, int64_t at, int64_t index) {
  switch (size) {
    case 1:
      static_cast<int8_t *>(out)[at] = int8_t(index);
      break;
    case 2:
      static_cast<int16_t *>(out)[at] = int16_t(index);
      break;
    case 4:
      static_cast<int32_t *>(out)[at] = int32_t(index);
      break;
    default:
      static_cast<int64_t *>(out)[at] = index;
  }
}

// A block per row. Each thread sums a stretch of its own, so that sums grow in the order of the sorted
// logits. Keys are not needed any more: weights take their places, for the passes after the first.
template <class T> __global__ void __launch_bounds__(sample_threads)
    sample_kernel(void *out, int out_size, int64_t out_stride, const T *logits, int64_t row_stride,
                  int64_t stride, Keyed *sorted, int64_t sorted_stride, int64_t length,
                  SampleParameters parameters) {
  INFINI_SHARED(double, stretches, sample_threads);
  INFINI_SHARED(double, kept_mass, 1);
  const int64_t row = blockIdx.x;
  Keyed *order = sorted + row * sorted_stride;
  const T *mine = logits + row * row_stride;
  const double topp = parameters.topp[row], temperature = parameters.temperature[row];
  const int64_t topk = int64_t(parameters.topk[row]);
  if (topp == 0 || topk == 1 || temperature == 0) {
    if (threadIdx.x == 0) put_index(out, out_size, row * out_stride, order[0].index);
    return;  // the whole block
  }
  const int64_t last = topk <= 0 || topk > length ? length : topk;
  const int64_t each = (length + sample_threads - 1) / sample_threads;
  const int64_t begin = threadIdx.x * each, end = begin + each < length ? begin + each : length;
  const double top = load(mine[order[0].index * stride]);
  double sum = 0;
  for (int64_t i = begin; i < end; ++i) {
    const double mass = ::exp((double(load(mine[order[i].index * stride])) - top) / temperature);
    order[i].key = bit_cast<uint64_t>(mass);
    sum += mass;
  }
  const auto mass = [&](int64_t i) { return bit_cast<double>(order[i].key); };
  stretches[threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    double before = 0;
    for (unsigned t = 0; t < sample_threads; ++t) {
      const double stretch = stretches[t];
      stretches[t] = before;
      before += stretch;
    }
    kept_mass[0] = before;
  }
  __syncthreads();
  const double total = kept_mass[0];
  __syncthreads();
  double running = stretches[threadIdx.x];
  for (int64_t i = begin; i < end; ++i) {
    running += mass(i);
    if (i == last - 1) kept_mass[0] = running / total;
  }
  __syncthreads();
  const double threshold = parameters.random[row] * (kept_mass[0] < topp ? kept_mass[0] : topp);
  int64_t found = last - 1;
  running = stretches[threadIdx.x];
  for (int64_t i = begin; i < end && i < found; ++i) {
    running += mass(i);
    if (running / total >= threshold) found = i;
  }
  found = block_reduce(Smallest{}, found);
  if (threadIdx.x == 0) put_index(out, out_size, row * out_stride, order[found].index);
}

class SamplePlan {
 public:
  SamplePlan(const char *op, const infini_tensor &probs, bool batch)
      : op_(op),
        rows_(batch ? probs.shape[0] : 1),
        length_(probs.shape[probs.ndim - 1]),
        sort_(op, rows_, length_, length_),
        run_(dispatch<Floats>(op, probs.dtype,
                              [](auto t) -> Run { return run<typename decltype(t)::type>; })) {
    Space<1> space;
    if (batch) space.dims.push_back({rows_, {probs.strides[0]}});
    layouts_ = space.parts(op);
  }

  uint64_t workspace() const { return sort_.workspace(); }
  void execute(const infini_tensor &result, const infini_tensor &probs, const SampleParameters &parameters,
               void *workspace, Stream stream) const {
    if (rows_ > 0) run_(*this, result, probs, parameters, workspace, stream);
  }

 private:
  using Run = void (*)(const SamplePlan &, const infini_tensor &, const infini_tensor &,
                       const SampleParameters &, void *, Stream);
  template <class T> static void run(const SamplePlan &plan, const infini_tensor &result,
                                     const infini_tensor &probs, const SampleParameters &parameters,
                                     void *workspace, Stream stream) {
    auto logits = static_cast<const T *>(probs.data);
    const int64_t stride = probs.strides[probs.ndim - 1];
    Keyed *sorted = plan.sort_.run(logits, plan.layouts_, stride, true, workspace, stream);
    launch(sample_kernel<T>, blocks(plan.rows_), dim3(sample_threads), 0, stream, result.data,
           int(dtype_size(result.dtype)), result.ndim > 0 ? result.strides[0] : 0, logits,
           probs.ndim > 1 ? probs.strides[0] : 0, stride, sorted, plan.sort_.stride(), plan.length_,
           parameters);
  }
  const char *op_;
  int64_t rows_, length_;
  RowSort sort_;
  std::vector<Layout<1>> layouts_;
  Run run_;
};

class RandomSample {
 public:
  explicit RandomSample(const infini_random_sample_args &call) : plan_("random_sample", *call.probs, false) {}
  uint64_t workspace() const { return plan_.workspace(); }
  void execute(const infini_random_sample_args &call, void *workspace, infinirtStream_t stream) const {
    if (call.temperature < 0)
      throw Error(INFINI_STATUS_BAD_PARAM, "random_sample: temperature is " +
                                               std::to_string(call.temperature) +
                                               ", but it must be at least 0");
    const auto same = [](double value) { return Parameter{value, nullptr, 0, false}; };
    plan_.execute(*call.result, *call.probs,
                  {same(call.random_val), same(call.topp), same(double(call.topk)), same(call.temperature)},
                  workspace, native(stream));
  }

 private:
  SamplePlan plan_;
};

class RandomSampleBatch {
 public:
  explicit RandomSampleBatch(const infini_random_sample_batch_args &call)
      : plan_("random_sample_batch", *call.probs, true) {}
  uint64_t workspace() const { return plan_.workspace(); }
  void execute(const infini_random_sample_batch_args &call, void *workspace, infinirtStream_t stream) const {
    const auto per_row = [](const infini_tensor *t) {
      return Parameter{0, t->data, t->strides[0], t->dtype == INFINI_DTYPE_I32};
    };
    plan_.execute(
        *call.result, *call.probs,
        {per_row(call.random_val), per_row(call.topp), per_row(call.topk), per_row(call.temperature)},
        workspace, native(stream));
  }

 private:
  SamplePlan plan_;
};

INFINI_CUDALIKE_KERNEL(random_sample, RandomSample)
INFINI_CUDALIKE_KERNEL(random_sample_batch, RandomSampleBatch)

}  // namespace infini::cudalike
