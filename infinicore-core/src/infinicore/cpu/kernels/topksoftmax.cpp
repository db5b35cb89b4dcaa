// kernels/topksoftmax.cpp -- topksoftmax: the largest weights of a softmax over each row, and where they are.
// The order is that of the logits, which cannot tie by rounding as their exponentials can.
#include <infinicore/operators/topksoftmax.h>

#include "../ranking.hpp"
#include "../rows.hpp"

#include <numeric>

namespace infini::cpu::INFINI_ISA {

class TopkSoftmax {
 public:
  explicit TopkSoftmax(const infini_topksoftmax_args &call)
      : dtype_(call.x->dtype), tokens_(call.x->shape[0]), experts_(call.x->shape[1]) {
    dispatch_floats("topksoftmax", dtype_, [](auto) {});
  }

  uint64_t workspace() const { return 0; }

  void execute(const infini_topksoftmax_args &call, void *, infinirtStream_t) const {
    if (call.topk < 1 || call.topk > experts_)
      throw Error(INFINI_STATUS_BAD_PARAM, "topksoftmax: topk is " + std::to_string(call.topk) +
                                               ", but it must lie in 1 to " + std::to_string(experts_));
    dispatch_floats("topksoftmax", dtype_, [&](auto tag) {
      using T = typename decltype(tag)::type;
      parallel_for(0, tokens_, std::max<int64_t>(1, 4096 / experts_), [&](int64_t begin, int64_t end) {
        for (int64_t token = begin; token < end; ++token) choose<T>(call, token);
      });
    });
  }

 private:
  template <class T> void choose(const infini_topksoftmax_args &call, int64_t token) const {
    using C = compute_t<T>;
    const infini_tensor &x = *call.x, &values = *call.values, &indices = *call.indices;
    C *logit = static_cast<C *>(scratch<Scratch::operands>(size_t(experts_) * (sizeof(C) + sizeof(int32_t))));
    int32_t *order = reinterpret_cast<int32_t *>(logit + experts_);
    to_float(static_cast<const T *>(x.data) + token * x.strides[0], x.strides[1], logit, experts_);
    std::iota(order, order + experts_, 0);
    std::partial_sort(order, order + call.topk, order + experts_, Descending<C>{logit});

    const C top = row_max(logit, experts_), total = row_sum_exp(logit, experts_, top);
    C chosen = 0;
    for (int64_t i = 0; i < call.topk; ++i) chosen += vmath::exp(logit[order[i]] - top) / total;
    const C divisor = call.norm ? total * chosen : total;
    float *value = static_cast<float *>(values.data) + token * values.strides[0];
    int32_t *index = static_cast<int32_t *>(indices.data) + token * indices.strides[0];
    for (int64_t i = 0; i < call.topk; ++i) {
      value[i * values.strides[1]] = float(vmath::exp(logit[order[i]] - top) / divisor);
      index[i * indices.strides[1]] = order[i];
    }
  }

  int32_t dtype_;
  int64_t tokens_, experts_;
};

INFINI_CPU_KERNEL(topksoftmax, TopkSoftmax)

}  // namespace infini::cpu::INFINI_ISA
