// kernels/attention.cpp -- attention over dense keys: attention (which appends to its cache first), mha and
// scaled_dot_product_attention. What they compute is flash.hpp's; here is where their tensors lie.
#include <infinicore/operators/attention.h>
#include <infinicore/operators/mha.h>
#include <infinicore/operators/scaled_dot_product_attention.h>

#include "../flash.hpp"
#include "../kernel.hpp"

#include <cmath>

namespace infini::cpu::INFINI_ISA {

class Attention {
 public:
  explicit Attention(const infini_attention_args &call)
      : dtype_(call.q->dtype),
        heads_(call.q->shape[0]),
        length_(call.q->shape[1]),
        d_(call.q->shape[2]),
        kv_heads_(call.k->shape[0]),
        capacity_(call.k_cache->shape[1]) {
    dispatch_floats("attention", dtype_, [](auto) {});
    check_groups("attention", heads_, kv_heads_);
  }

  uint64_t workspace() const { return 0; }

  void execute(const infini_attention_args &call, void *, infinirtStream_t) const {
    const int64_t pos = call.pos;
    if (pos < 0 || length_ > capacity_ || pos > capacity_ - length_)
      throw Error(INFINI_STATUS_BAD_PARAM,
                  "attention: pos " + std::to_string(pos) + " and " + std::to_string(length_) +
                      " new tokens do not fit k_cache, which holds " + std::to_string(capacity_));
    const Heads k(*call.k_cache, 0, 1), v(*call.v_cache, 0, 1);
    const auto past = [pos](int64_t) { return pos; };
    append_tokens("attention", dtype_, Heads(*call.k, 0, 1), k, 1, kv_heads_, length_, d_, past);
    append_tokens("attention", dtype_, Heads(*call.v, 0, 1), v, 1, kv_heads_, length_, d_, past);

    Flash flash;
    flash.dtype = dtype_;
    flash.heads = heads_;
    flash.kv_heads = kv_heads_;
    flash.d = flash.dv = d_;
    flash.scale = d_ == 0 ? 1 : 1 / std::sqrt(double(d_));
    flash.q = Heads(*call.q, 0, 1);
    flash.out = Heads(*call.out, 1, 0);
    flash.k = k;
    flash.v = v;
    FlashSequence sequence;
    sequence.tokens = length_;
    sequence.keys = pos + length_;
    sequence.diagonal = pos;
    flash_attention(flash, {sequence});
  }

 private:
  int32_t dtype_;
  int64_t heads_, length_, d_, kv_heads_, capacity_;
};

class ScaledDotProductAttention {
 public:
  explicit ScaledDotProductAttention(const infini_scaled_dot_product_attention_args &call)
      : causal_(call.is_causal != 0), scale_(call.scale) {
    const char *const name = "scaled_dot_product_attention";
    const infini_tensor &q = *call.query, &k = *call.key;
    dispatch_floats(name, q.dtype, [](auto) {});
    batch_ = q.ndim > 2 ? q.ndim - 3 : 0;
    heads_ = q.ndim > 2 ? q.shape[batch_] : 1;
    kv_heads_ = k.ndim > 2 ? k.shape[batch_] : 1;
    check_groups(name, heads_, kv_heads_);
  }

  uint64_t workspace() const { return 0; }

  void execute(const infini_scaled_dot_product_attention_args &call, void *, infinirtStream_t) const {
    const infini_tensor &q = *call.query, &k = *call.key, &v = *call.value, &out = *call.out;
    const infini_tensor *mask = call.attn_mask;
    Flash flash;
    flash.dtype = q.dtype;
    flash.heads = heads_;
    flash.kv_heads = kv_heads_;
    flash.d = q.shape[q.ndim - 1];
    flash.dv = v.shape[v.ndim - 1];
    flash.scale = scale_;
    flash.causal = causal_;
    flash.q = heads(q);
    flash.out = heads(out);
    flash.k = heads(k);
    flash.v = heads(v);
    if (mask) {
      flash.mask = heads(*mask);
      flash.mask_dtype = mask->dtype;
    }
    FlashSequence sequence;
    sequence.tokens = q.shape[q.ndim - 2];
    sequence.keys = k.shape[k.ndim - 2];

    const Space<5> batch({&q, &out, &k, &v, mask ? mask : &q}, batch_);
    std::vector<FlashSequence> sequences;
    sequences.reserve(size_t(batch.numel()));
    batch.for_each(0, batch.numel(), [&](const int64_t(&at)[5]) {
      sequence.q = at[0];
      sequence.out = at[1];
      sequence.k = at[2];
      sequence.v = at[3];
      sequence.mask = mask ? at[4] : 0;
      sequences.push_back(sequence);
    });
    flash_attention(flash, sequences);
  }

 private:
  // The last three dimensions; a matrix is one head.
  static Heads heads(const infini_tensor &t) {
    Heads found(t, t.ndim > 2 ? t.ndim - 3 : 0, t.ndim - 2);
    if (t.ndim == 2) found.head = 0;
    return found;
  }

  bool causal_;
  double scale_;
  int batch_;  // dimensions before the heads
  int64_t heads_, kv_heads_;
};

class Mha {
 public:
  explicit Mha(const infini_mha_args &call) : causal_(call.is_causal != 0), scale_(call.scale) {
    dispatch_floats("mha", call.q->dtype, [](auto) {});
    check_groups("mha", call.q->shape[2], call.k->shape[2]);
  }

  uint64_t workspace() const { return 0; }

  void execute(const infini_mha_args &call, void *, infinirtStream_t) const {
    const infini_tensor &q = *call.q, &k = *call.k, &v = *call.v, &out = *call.out;
    Flash flash;
    flash.dtype = q.dtype;
    flash.heads = q.shape[2];
    flash.kv_heads = k.shape[2];
    flash.d = flash.dv = q.shape[3];
    flash.scale = scale_;
    flash.causal = causal_;
    flash.q = Heads(q, 2, 1);
    flash.out = Heads(out, 2, 1);
    flash.k = Heads(k, 2, 1);
    flash.v = Heads(v, 2, 1);
    flash.slopes = call.alibi_slopes;
    std::vector<FlashSequence> sequences(size_t(q.shape[0]));
    for (int64_t b = 0; b < q.shape[0]; ++b) {
      FlashSequence &s = sequences[size_t(b)];
      s.tokens = q.shape[1];
      s.keys = k.shape[1];
      s.diagonal = s.keys - s.tokens;
      s.q = b * q.strides[0];
      s.out = b * out.strides[0];
      s.k = b * k.strides[0];
      s.v = b * v.strides[0];
    }
    flash_attention(flash, sequences);
  }

 private:
  bool causal_;
  double scale_;
};

INFINI_CPU_KERNEL(attention, Attention)
INFINI_CPU_KERNEL(mha, Mha)
INFINI_CPU_KERNEL(scaled_dot_product_attention, ScaledDotProductAttention)

}  // namespace infini::cpu::INFINI_ISA
