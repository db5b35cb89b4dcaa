// kernels/paged_caching.cpp -- scatter new keys and values to the slots of a cache in blocks.
// Threads share out heads, not tokens: of two tokens with one slot the later stays, as in a plain loop.
#include <infinicore/operators/paged_caching.h>

#include "../heads.hpp"
#include "../indices.hpp"
#include "../kernel.hpp"

namespace infini::cpu::INFINI_ISA {

class PagedCaching {
 public:
  explicit PagedCaching(const infini_paged_caching_args &call)
      : dtype_(call.k->dtype),
        tokens_(call.k->shape[0]),
        heads_(call.k->shape[1]),
        d_(call.k->shape[2]),
        blocks_(call.k_cache->shape[0]),
        block_size_(call.k_cache->shape[2]) {
    dispatch_size("paged_caching", dtype_, [](auto) {});
  }

  uint64_t workspace() const { return 0; }

  void execute(const infini_paged_caching_args &call, void *, infinirtStream_t) const {
    const infini_tensor &slots = *call.slot_mapping;
    for (int64_t t = 0; t < tokens_; ++t)
      if (const int64_t slot = index_of(slots, t); slot >= blocks_ * block_size_)
        out_of_range("paged_caching", "slot_mapping", slot,
                     "k_cache has nb * bs=" + std::to_string(blocks_ * block_size_) + " slots");
    const Heads from[2] = {Heads(*call.k, 1, 0), Heads(*call.v, 1, 0)};
    const Heads cache[2] = {Heads(*call.k_cache, 1, 2, 0), Heads(*call.v_cache, 1, 2, 0)};
    const int64_t grain = std::max<int64_t>(1, 64 * 1024 / (tokens_ * d_ + 1));
    dispatch_size("paged_caching", dtype_, [&](auto tag) {
      using T = typename decltype(tag)::type;
      parallel_for(0, 2 * heads_, grain, [&](int64_t begin, int64_t end) {
        for (int64_t t = 0; t < tokens_; ++t) {
          const int64_t slot = index_of(slots, t);
          if (slot < 0) continue;  // a token that is not to be kept
          const int64_t block = slot / block_size_, row = slot % block_size_;
          for (int64_t i = begin; i < end; ++i) {
            const int64_t which = i / heads_, h = i % heads_;
            copy_elements(from[which].at<const T>(0, h, t), from[which].element,
                          cache[which].at<T>(block, h, row), cache[which].element, d_);
          }
        }
      });
    });
  }

 private:
  int32_t dtype_;
  int64_t tokens_, heads_, d_, blocks_, block_size_;
};

INFINI_CPU_KERNEL(paged_caching, PagedCaching)

}  // namespace infini::cpu::INFINI_ISA
