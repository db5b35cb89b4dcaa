// kernels/kv_caching.cpp -- append new keys and values to a dense cache, each batch entry behind what it has.
// Every length is checked before anything is written.
#include <infinicore/operators/kv_caching.h>

#include "../heads.hpp"
#include "../indices.hpp"
#include "../kernel.hpp"

namespace infini::cpu::INFINI_ISA {

class KvCaching {
 public:
  explicit KvCaching(const infini_kv_caching_args &call)
      : dtype_(call.k->dtype),
        batch_(call.k->shape[0]),
        heads_(call.k->shape[1]),
        tokens_(call.k->shape[2]),
        d_(call.k->shape[3]),
        capacity_(call.k_cache->shape[2]) {
    dispatch_size("kv_caching", dtype_, [](auto) {});
  }

  uint64_t workspace() const { return 0; }

  void execute(const infini_kv_caching_args &call, void *, infinirtStream_t) const {
    const infini_tensor &lengths = *call.past_kv_lengths;
    for (int64_t b = 0; b < batch_; ++b)
      if (const int64_t past = index_of(lengths, b); past < 0 || past > capacity_ - tokens_)
        out_of_range("kv_caching", "past_kv_lengths", past,
                     "k_cache has l=" + std::to_string(capacity_) +
                         " for that and s=" + std::to_string(tokens_) + " new tokens");
    const auto past = [&](int64_t b) { return index_of(lengths, b); };
    append_tokens("kv_caching", dtype_, Heads(*call.k, 1, 2, 0), Heads(*call.k_cache, 1, 2, 0), batch_,
                  heads_, tokens_, d_, past);
    append_tokens("kv_caching", dtype_, Heads(*call.v, 1, 2, 0), Heads(*call.v_cache, 1, 2, 0), batch_,
                  heads_, tokens_, d_, past);
  }

 private:
  int32_t dtype_;
  int64_t batch_, heads_, tokens_, d_, capacity_;
};

INFINI_CPU_KERNEL(kv_caching, KvCaching)

}  // namespace infini::cpu::INFINI_ISA
