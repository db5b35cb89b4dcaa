// kernels/paged_attention.cpp -- attention over caches in pages and over packed sequences: paged_attention,
// paged_attention_prefill, mha_varlen, mha_kvcache. Lengths and page numbers are checked before anything is
// written; what they compute is flash.hpp's.
#include <infinicore/operators/mha_kvcache.h>
#include <infinicore/operators/mha_varlen.h>
#include <infinicore/operators/paged_attention.h>
#include <infinicore/operators/paged_attention_prefill.h>

#include "../flash.hpp"
#include "../indices.hpp"
#include "../kernel.hpp"

namespace infini::cpu::INFINI_ISA {

namespace {

// One packed dimension cut into sequences: sequence i has the tokens from cuts[i] to cuts[i + 1].
class Packed {
 public:
  Packed(const char *op, const char *name, const infini_tensor &cuts, int64_t total, const char *of)
      : cuts_(cuts) {
    int64_t before = 0;
    for (int64_t i = 0; i < cuts.shape[0]; ++i) {
      const int64_t cut = index_of(cuts, i);
      if (cut < before || cut > total)
        out_of_range(op, name, cut,
                     "may only grow, from 0 to " + std::string(of) + "=" + std::to_string(total));
      before = cut;
    }
  }

  int64_t count() const { return std::max<int64_t>(0, cuts_.shape[0] - 1); }
  int64_t begin(int64_t i) const { return index_of(cuts_, i); }
  int64_t length(int64_t i) const { return begin(i + 1) - begin(i); }

 private:
  const infini_tensor &cuts_;
};

// Checks the pages of a sequence of `keys` keys that begins at `row` of the table.
void check_pages(const char *op, const char *name, const infini_tensor &table, int64_t sequence, int64_t keys,
                 int64_t page, int64_t pages) {
  for (int64_t i = 0; i * page < keys; ++i)
    check_index(op, name, index_at(table, sequence * table.strides[0] + i * table.strides[1]), pages,
                "k_cache has nb");
}

std::string room(const char *table, int64_t tokens) {
  return std::string(table) + " has room for " + std::to_string(tokens);
}

// Packed queries that belong to no sequence give zeros.
void clear_tokens(const infini_tensor &out, int64_t begin, int64_t end) {
  dispatch_size("attention", out.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    for (int64_t t = begin; t < end; ++t)
      for (int64_t h = 0; h < out.shape[1]; ++h)
        for (int64_t i = 0; i < out.shape[2]; ++i)
          static_cast<T *>(out.data)[t * out.strides[0] + h * out.strides[1] + i * out.strides[2]] = T{};
  });
}

void clear_rest(const infini_tensor &out, const Packed &queries) {
  const int64_t count = queries.count(), total = out.shape[0];
  clear_tokens(out, 0, count == 0 ? total : queries.begin(0));
  if (count > 0) clear_tokens(out, queries.begin(count), total);
}

// What follows from q [..., h, d] and a cache of kv_heads.
template <class Call> Flash flash_of(const char *op, const Call &call, int64_t kv_heads) {
  const infini_tensor &q = *call.q;
  Flash flash;
  flash.dtype = q.dtype;
  flash.heads = q.shape[q.ndim - 2];
  flash.kv_heads = kv_heads;
  flash.d = flash.dv = q.shape[q.ndim - 1];
  flash.scale = call.scale;
  flash.slopes = call.alibi_slopes;
  dispatch_floats(op, flash.dtype, [](auto) {});
  check_groups(op, flash.heads, flash.kv_heads);
  return flash;
}

void set_pages(Flash &flash, const infini_tensor &table, int64_t page) {
  flash.pages = &table;
  flash.page = page;
  flash.pages_step = table.strides[1];
}

}  // namespace

class PagedAttention {
 public:
  explicit PagedAttention(const infini_paged_attention_args &call) { plan(call); }

  uint64_t workspace() const { return 0; }

  void execute(const infini_paged_attention_args &call, void *, infinirtStream_t) const {
    const infini_tensor &q = *call.q, &table = *call.block_tables, &k = *call.k_cache;
    Flash flash = plan(call);
    flash.q = Heads(q, 1, 0);
    flash.out = Heads(*call.out, 1, 0);
    flash.k = Heads(k, 1, 2, 0);
    flash.v = Heads(*call.v_cache, 1, 2, 0);
    set_pages(flash, table, k.shape[2]);
    const int64_t most = table.shape[1] * flash.page;
    std::vector<FlashSequence> sequences(size_t(q.shape[0]));
    for (int64_t b = 0; b < q.shape[0]; ++b) {
      FlashSequence &s = sequences[size_t(b)];
      s.tokens = 1;
      s.keys = index_of(*call.cache_lens, b);
      if (s.keys < 0 || s.keys > most)
        out_of_range("paged_attention", "cache_lens", s.keys, room("block_tables", most));
      check_pages("paged_attention", "block_tables", table, b, s.keys, flash.page, k.shape[0]);
      s.diagonal = s.keys - 1;
      s.q = b * q.strides[0];
      s.out = b * call.out->strides[0];
      s.table = b * table.strides[0];
    }
    flash_attention(flash, sequences);
  }

 private:
  static Flash plan(const infini_paged_attention_args &call) {
    return flash_of("paged_attention", call, call.k_cache->shape[1]);
  }
};

class PagedAttentionPrefill {
 public:
  explicit PagedAttentionPrefill(const infini_paged_attention_prefill_args &call) { plan(call); }

  uint64_t workspace() const { return 0; }

  void execute(const infini_paged_attention_prefill_args &call, void *, infinirtStream_t) const {
    const char *const op = "paged_attention_prefill";
    const infini_tensor &q = *call.q, &table = *call.block_tables, &k = *call.k_cache;
    Flash flash = plan(call);
    flash.q = Heads(q, 1, 0);
    flash.out = Heads(*call.out, 1, 0);
    flash.k = Heads(k, 1, 2, 0);
    flash.v = Heads(*call.v_cache, 1, 2, 0);
    set_pages(flash, table, k.shape[2]);
    const int64_t most = table.shape[1] * flash.page;
    const Packed queries(op, "cu_seqlens_q", *call.cu_seqlens_q, q.shape[0], "q has t");
    std::vector<FlashSequence> sequences(size_t(queries.count()));
    for (int64_t b = 0; b < queries.count(); ++b) {
      FlashSequence &s = sequences[size_t(b)];
      const int64_t history = index_of(*call.history_lens, b);
      s.tokens = queries.length(b);
      if (history < 0 || history > most - s.tokens)
        out_of_range(op, "history_lens", history,
                     room("block_tables", most) + ", " + std::to_string(s.tokens) + " new tokens included");
      s.keys = history + s.tokens;
      check_pages(op, "block_tables", table, b, s.keys, flash.page, k.shape[0]);
      s.diagonal = history;
      s.q = queries.begin(b) * q.strides[0];
      s.out = queries.begin(b) * call.out->strides[0];
      s.table = b * table.strides[0];
    }
    clear_rest(*call.out, queries);
    flash_attention(flash, sequences);
  }

 private:
  static Flash plan(const infini_paged_attention_prefill_args &call) {
    return flash_of("paged_attention_prefill", call, call.k_cache->shape[1]);
  }
};

class MhaVarlen {
 public:
  explicit MhaVarlen(const infini_mha_varlen_args &call) { plan(call); }

  uint64_t workspace() const { return 0; }

  void execute(const infini_mha_varlen_args &call, void *, infinirtStream_t) const {
    const char *const op = "mha_varlen";
    const infini_tensor &q = *call.q, &k = *call.k, &v = *call.v;
    const infini_tensor *table = call.block_table;
    Flash flash = plan(call);
    flash.q = Heads(q, 1, 0);
    flash.out = Heads(*call.out, 1, 0);
    flash.k = table ? Heads(k, 2, 1, 0) : Heads(k, 1, 0);
    flash.v = table ? Heads(v, 2, 1, 0) : Heads(v, 1, 0);
    if (table) set_pages(flash, *table, k.shape[1]);
    const int64_t most = table ? table->shape[1] * flash.page : k.shape[0];
    const Packed queries(op, "cum_seqlens_q", *call.cum_seqlens_q, q.shape[0], "q has t");
    // In pages, sequences share no dimension: only their lengths count.
    const Packed keys(op, "cum_seqlens_k", *call.cum_seqlens_k, table ? INT64_MAX : most, "k has t");
    std::vector<FlashSequence> sequences(size_t(queries.count()));
    for (int64_t b = 0; b < queries.count(); ++b) {
      FlashSequence &s = sequences[size_t(b)];
      s.tokens = queries.length(b);
      s.keys = keys.length(b);
      if (s.keys > most) out_of_range(op, "cum_seqlens_k", s.keys, room("a row of block_table", most));
      check_longest("q", s.tokens, call.max_seqlen_q);
      check_longest("k", s.keys, call.max_seqlen_k);
      s.diagonal = s.keys - s.tokens;
      s.q = queries.begin(b) * q.strides[0];
      s.out = queries.begin(b) * call.out->strides[0];
      if (table) {
        check_pages(op, "block_table", *table, b, s.keys, flash.page, k.shape[0]);
        s.table = b * table->strides[0];
      } else {
        s.k = keys.begin(b) * k.strides[0];
        s.v = keys.begin(b) * v.strides[0];
      }
    }
    clear_rest(*call.out, queries);
    flash_attention(flash, sequences);
  }

 private:
  static Flash plan(const infini_mha_varlen_args &call) {
    return flash_of("mha_varlen", call, call.k->shape[call.k->ndim - 2]);
  }

  static void check_longest(const char *which, int64_t length, int64_t limit) {
    if (length > limit)
      throw Error(INFINI_STATUS_BAD_PARAM, "mha_varlen: cum_seqlens_" + std::string(which) +
                                               " has a sequence of " + std::to_string(length) +
                                               " tokens, but max_seqlen_" + which + "=" +
                                               std::to_string(limit));
  }
};

class MhaKvcache {
 public:
  explicit MhaKvcache(const infini_mha_kvcache_args &call) { plan(call); }

  uint64_t workspace() const { return 0; }

  void execute(const infini_mha_kvcache_args &call, void *, infinirtStream_t) const {
    const infini_tensor &q = *call.q, &table = *call.block_table, &k = *call.k_cache;
    Flash flash = plan(call);
    flash.q = Heads(q, 2, 1);
    flash.out = Heads(*call.out, 2, 1);
    flash.k = Heads(k, 2, 1, 0);
    flash.v = Heads(*call.v_cache, 2, 1, 0);
    set_pages(flash, table, k.shape[1]);
    const int64_t most = table.shape[1] * flash.page;
    std::vector<FlashSequence> sequences(size_t(q.shape[0]));
    for (int64_t b = 0; b < q.shape[0]; ++b) {
      FlashSequence &s = sequences[size_t(b)];
      s.tokens = q.shape[1];
      s.keys = index_of(*call.seqlens_k, b);
      if (s.keys < 0 || s.keys > most)
        out_of_range("mha_kvcache", "seqlens_k", s.keys, room("block_table", most));
      check_pages("mha_kvcache", "block_table", table, b, s.keys, flash.page, k.shape[0]);
      s.diagonal = s.keys - s.tokens;
      s.q = b * q.strides[0];
      s.out = b * call.out->strides[0];
      s.table = b * table.strides[0];
    }
    flash_attention(flash, sequences);
  }

 private:
  static Flash plan(const infini_mha_kvcache_args &call) {
    return flash_of("mha_kvcache", call, call.k_cache->shape[2]);
  }
};

INFINI_CPU_KERNEL(mha_kvcache, MhaKvcache)
INFINI_CPU_KERNEL(mha_varlen, MhaVarlen)
INFINI_CPU_KERNEL(paged_attention, PagedAttention)
INFINI_CPU_KERNEL(paged_attention_prefill, PagedAttentionPrefill)

}  // namespace infini::cpu::INFINI_ISA
