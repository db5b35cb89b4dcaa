// kernels/topkrouter.cpp -- DeepSeek-V3's expert gate: 8 groups scored by their two best experts, 4 kept,
// top-k of those. Scores are computed in double, so that a choice between close experts is the reference's
// choice.
#include <infinicore/operators/topkrouter.h>

#include "../kernel.hpp"
#include "../ranking.hpp"
#include "../scratch.hpp"

#include <algorithm>
#include <cmath>

namespace infini::cpu::INFINI_ISA {

class TopkRouter {
 public:
  explicit TopkRouter(const infini_topkrouter_args &call)
      : dtype_(call.x->dtype), tokens_(call.x->shape[0]), experts_(call.x->shape[1]) {
    dispatch_floats("topkrouter", dtype_, [](auto) {});
    if (experts_ % groups != 0 || experts_ < 2 * groups)
      throw Error(INFINI_STATUS_BAD_TENSOR_SHAPE, "topkrouter: x has " + std::to_string(experts_) +
                                                      " experts, which are not " + std::to_string(groups) +
                                                      " equal groups of at least 2");
  }

  uint64_t workspace() const { return 0; }

  void execute(const infini_topkrouter_args &call, void *, infinirtStream_t) const {
    const int64_t most = experts_ / groups * kept_groups;
    if (call.topk < 1 || call.topk > most)
      throw Error(INFINI_STATUS_BAD_PARAM, "topkrouter: topk is " + std::to_string(call.topk) +
                                               ", but it must lie in 1 to " + std::to_string(most));
    dispatch_floats("topkrouter", dtype_, [&](auto tag) {
      using T = typename decltype(tag)::type;
      parallel_for(0, tokens_, std::max<int64_t>(1, 2048 / experts_), [&](int64_t begin, int64_t end) {
        for (int64_t token = begin; token < end; ++token) route<T>(call, token);
      });
    });
  }

 private:
  static constexpr int64_t groups = 8, kept_groups = 4;

  template <class T> void route(const infini_topkrouter_args &call, int64_t token) const {
    const infini_tensor &x = *call.x, &bias = *call.correction_bias, &values = *call.values,
                        &indices = *call.indices;
    double *score = static_cast<double *>(
        scratch<Scratch::operands>(size_t(experts_) * (2 * sizeof(double) + sizeof(int32_t))));
    double *biased = score + experts_;
    int32_t *order = reinterpret_cast<int32_t *>(biased + experts_);
    const T *logits = static_cast<const T *>(x.data) + token * x.strides[0];
    for (int64_t e = 0; e < experts_; ++e) {
      score[e] = 1 / (1 + std::exp(-double(to_float(logits[e * x.strides[1]]))));
      biased[e] = score[e] + double(static_cast<const float *>(bias.data)[e * bias.strides[0]]);
    }

    const int64_t size = experts_ / groups;
    double group_score[groups];
    int32_t ranking[groups];
    for (int32_t g = 0; g < groups; ++g) {
      double first = -HUGE_VAL, second = -HUGE_VAL;  // of the group's experts
      bool broken = false;
      for (int64_t e = g * size; e < (g + 1) * size; ++e) {
        broken |= biased[e] != biased[e];
        if (biased[e] > first) {
          second = first;
          first = biased[e];
        } else if (biased[e] > second) {
          second = biased[e];
        }
      }
      group_score[g] = broken ? std::nan("") : first + second;
      ranking[g] = g;
    }
    std::sort(ranking, ranking + groups, Descending<double>{group_score});

    int64_t candidates = 0;
    for (int64_t i = 0; i < kept_groups; ++i)
      for (int64_t e = 0; e < size; ++e) order[candidates++] = int32_t(ranking[i] * size + e);
    std::partial_sort(order, order + call.topk, order + candidates, Descending<double>{biased});

    double total = 1e-20;  // as the published gate adds, against a division by zero
    for (int64_t i = 0; i < call.topk; ++i) total += score[order[i]];
    float *value = static_cast<float *>(values.data) + token * values.strides[0];
    int32_t *index = static_cast<int32_t *>(indices.data) + token * indices.strides[0];
    for (int64_t i = 0; i < call.topk; ++i) {
      value[i * values.strides[1]] = float(score[order[i]] / total * call.routed_scaling_factor);
      index[i * indices.strides[1]] = order[i];
    }
  }

  int32_t dtype_;
  int64_t tokens_, experts_;
};

INFINI_CPU_KERNEL(topkrouter, TopkRouter)

}  // namespace infini::cpu::INFINI_ISA
