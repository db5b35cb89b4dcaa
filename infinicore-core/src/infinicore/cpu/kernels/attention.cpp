// kernels/attention.cpp -- attention over a dense cache (prefill and decode) and paged_attention (decode).
// Keys come in blocks; a running maximum and sum per query row stand for the softmax, so no score matrix is
// kept.
#include <infinicore/operators/attention.h>
#include <infinicore/operators/paged_attention.h>

#include "../kernel.hpp"
#include "../matmul.hpp"

#include <cmath>

namespace infini::cpu::INFINI_ISA {

namespace {

constexpr int64_t key_block = 128;  // keys scored at a time
constexpr int64_t most_rows = 128;  // query rows that share the keys of one block
constexpr int64_t few_rows = 16;    // up to here keys are not worth packing

// The rows of a cache at which one head's keys or values lie, contiguous along the head: in place, or copied.
template <class T> class HeadRows {
 public:
  HeadRows(const T *data, int64_t row, int64_t column, int64_t d, T *copy)
      : data_(data), row_(row), column_(column), d_(d), copy_(copy) {}

  // Rows first .. first+count-1; *ld is their distance.
  const T *get(int64_t first, int64_t count, int64_t *ld) const {
    const T *rows = data_ + first * row_;
    *ld = row_;
    if (column_ == 1 || d_ <= 1) return rows;
    *ld = d_;
    for (int64_t r = 0; r < count; ++r)
      for (int64_t i = 0; i < d_; ++i) copy_[r * d_ + i] = rows[r * row_ + i * column_];
    return copy_;
  }

 private:
  const T *data_;
  int64_t row_, column_, d_;
  T *copy_;
};

// Softmax-weighted sums of values for a few query rows, fed with blocks of keys. One per thread at a time.
template <class T> class Attend {
 public:
  using C = compute_t<T>;

  Attend(int64_t rows, int64_t d) : rows_(rows), d_(d), wide_(round_up(d, 16)) {
    const int64_t numbers = rows * (2 * wide_ + key_block + 2) + 64;
    memory_ = static_cast<C *>(
        scratch<Scratch::attention>(size_t(numbers) * sizeof(C) + size_t(2 * key_block * wide_) * sizeof(T)));
    q_ = memory_;
    sums_ = q_ + rows * wide_;
    scores_ = sums_ + rows * wide_;
    top_ = scores_ + rows * key_block;
    mass_ = top_ + rows;
    copies_ = reinterpret_cast<T *>(memory_ + numbers);
    std::fill(sums_, sums_ + rows * wide_, C(0));
    std::fill(top_, top_ + rows, C(-__builtin_huge_val()));
    std::fill(mass_, mass_ + rows, C(0));
  }

  // Room for key_block rows of keys or values that cannot be read in place.
  T *key_copy() const { return copies_; }
  T *value_copy() const { return copies_ + key_block * wide_; }

  void set_query(int64_t row, const T *q, int64_t step, C scale) {
    C *line = q_ + row * wide_;
    to_float(q, step, line, d_);
    for (int64_t i = 0; i < d_; ++i) line[i] *= scale;
  }

  // count <= key_block more keys and values. seen(row) of them count for a row; adjust(row, scores) may add
  // to them.
  template <class Seen, class Adjust> void feed(int64_t count, const T *k, int64_t k_row, const T *v,
                                                int64_t v_row, Seen &&seen, Adjust &&adjust) {
    score(count, k, k_row);
    for (int64_t r = 0; r < rows_; ++r) {
      C *score = scores_ + r * key_block;
      const int64_t used = std::max<int64_t>(0, std::min(count, seen(r)));
      std::fill(score + used, score + count, C(0));
      if (used == 0) continue;
      adjust(r, score);
      const C top = std::max(row_max(score, used), top_[r]);
      for (int64_t i = 0; i < used; ++i) score[i] = vmath::exp(score[i] - top);
      C mass = row_sum(score, used);
      if (top != top_[r] && mass_[r] != 0) {  // what came before was relative to a smaller maximum
        const C shrink = vmath::exp(top_[r] - top);
        mass += mass_[r] * shrink;
        C *sum = sums_ + r * wide_;
        for (int64_t i = 0; i < d_; ++i) sum[i] *= shrink;
      } else {
        mass += mass_[r];
      }
      top_[r] = top;
      mass_[r] = mass;
    }
    row_block(rows_, d_, count, scores_, key_block, 1, v, v_row, sums_, wide_, true);
  }

  // The result of a row that saw at least one key.
  void write(int64_t row, T *out, int64_t step) {
    C *sum = sums_ + row * wide_;
    const C scale = C(1) / mass_[row];
    for (int64_t i = 0; i < d_; ++i) sum[i] *= scale;
    from_float(sum, out, step, d_);
  }

 private:
  // scores = q @ k.T: keys are read in place for few rows, else turned into panels that all rows use.
  void score(int64_t count, const T *k, int64_t k_row) {
    constexpr int64_t width = panel_columns<C>;
    if (rows_ <= few_rows || d_ > panel_depth)
      return dot_block(rows_, count, d_, q_, wide_, k, k_row, scores_, key_block);
    C *panels = static_cast<C *>(scratch<Scratch::panels>(size_t(key_block * d_ + 16) * sizeof(C)));
    pack<width>(k, k_row, 1, count, d_, panels);
    for (int64_t j = 0; j < count; j += width)
      row_block(rows_, std::min(width, count - j), d_, q_, wide_, 1, panels + j * d_, width, scores_ + j,
                key_block, false);
  }

  int64_t rows_, d_, wide_;
  C *memory_, *q_, *sums_, *scores_, *top_, *mass_;
  T *copies_;
};

}  // namespace

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
    if (kv_heads_ == 0 || heads_ % kv_heads_ != 0)
      throw Error(INFINI_STATUS_BAD_TENSOR_SHAPE, "attention: q has " + std::to_string(heads_) +
                                                      " heads, which is no multiple of the " +
                                                      std::to_string(kv_heads_) + " heads of k");
  }

  uint64_t workspace() const { return 0; }

  void execute(const infini_attention_args &call, void *, infinirtStream_t) const {
    if (call.pos < 0 || length_ > capacity_ || call.pos > capacity_ - length_)
      throw Error(INFINI_STATUS_BAD_PARAM,
                  "attention: pos " + std::to_string(call.pos) + " and " + std::to_string(length_) +
                      " new tokens do not fit k_cache, which holds " + std::to_string(capacity_));
    dispatch_floats("attention", dtype_, [&](auto tag) {
      using T = typename decltype(tag)::type;
      append<T>(*call.k, *call.k_cache, call.pos);
      append<T>(*call.v, *call.v_cache, call.pos);
      attend<T>(call);
    });
  }

 private:
  template <class T> void append(const infini_tensor &from, const infini_tensor &cache, int64_t pos) const {
    const T *source = static_cast<const T *>(from.data);
    T *target = static_cast<T *>(cache.data) + pos * cache.strides[1];
    const int64_t grain = std::max<int64_t>(1, 64 * 1024 / (d_ + 1));
    parallel_for(0, kv_heads_ * length_, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t head = i / length_, token = i % length_;
        const T *x = source + head * from.strides[0] + token * from.strides[1];
        T *y = target + head * cache.strides[0] + token * cache.strides[1];
        if (from.strides[2] == 1 && cache.strides[2] == 1)
          std::memcpy(y, x, size_t(d_) * sizeof(T));
        else
          for (int64_t e = 0; e < d_; ++e) y[e * cache.strides[2]] = x[e * from.strides[2]];
      }
    });
  }

  // A task is a block of queries for some of the query heads that share a key-value head.
  template <class T> void attend(const infini_attention_args &call) const {
    using C = compute_t<T>;
    const infini_tensor &q = *call.q, &out = *call.out, &keys = *call.k_cache, &values = *call.v_cache;
    const int64_t shared = heads_ / kv_heads_;
    // All heads of a group in one task read the keys once; fewer where the threads would have too few tasks.
    int64_t group = std::min(shared, most_rows);
    while (group > 1 && length_ == 1 && kv_heads_ * ((shared + group - 1) / group) < num_threads())
      group = (group + 1) / 2;
    const int64_t groups = (shared + group - 1) / group;
    const int64_t queries = std::min(length_, std::max<int64_t>(1, most_rows / std::max<int64_t>(1, group)));
    const int64_t blocks = length_ == 0 ? 0 : (length_ + queries - 1) / queries;
    const int64_t work = group * queries * (call.pos + length_) * d_;
    const C scale = C(1) / std::sqrt(C(d_));
    const int64_t tasks = kv_heads_ * groups * blocks;
    parallel_for(0, tasks, std::max<int64_t>(1, parallel_work / (work + 1)), [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        const int64_t at = task / blocks, kv = at / groups, first = at % groups * group;
        // The last queries see the most keys: begin with them, so that threads finish together.
        const int64_t token = (blocks - 1 - task % blocks) * queries;
        const int64_t tokens = std::min(queries, length_ - token), members = std::min(group, shared - first);
        const int64_t head = kv * shared + first;
        Attend<T> rows(members * tokens, d_);
        for (int64_t r = 0; r < members * tokens; ++r)
          rows.set_query(r,
                         static_cast<const T *>(q.data) + (head + r / tokens) * q.strides[0] +
                             (token + r % tokens) * q.strides[1],
                         q.strides[2], scale);
        const HeadRows<T> k(static_cast<const T *>(keys.data) + kv * keys.strides[0], keys.strides[1],
                            keys.strides[2], d_, rows.key_copy());
        const HeadRows<T> v(static_cast<const T *>(values.data) + kv * values.strides[0], values.strides[1],
                            values.strides[2], d_, rows.value_copy());
        const int64_t visible = call.pos + token + tokens;
        for (int64_t key = 0; key < visible; key += key_block) {
          const int64_t count = std::min(key_block, visible - key);
          int64_t k_row, v_row;
          const T *k_data = k.get(key, count, &k_row), *v_data = v.get(key, count, &v_row);
          rows.feed(
              count, k_data, k_row, v_data, v_row,
              [&](int64_t r) { return call.pos + token + r % tokens + 1 - key; }, [](int64_t, C *) {});
        }
        for (int64_t r = 0; r < members * tokens; ++r)
          rows.write(r,
                     static_cast<T *>(out.data) + (token + r % tokens) * out.strides[0] +
                         (head + r / tokens) * out.strides[1],
                     out.strides[2]);
      }
    });
  }

  int32_t dtype_;
  int64_t heads_, length_, d_, kv_heads_, capacity_;
};

class PagedAttention {
 public:
  explicit PagedAttention(const infini_paged_attention_args &call)
      : dtype_(call.q->dtype),
        sequences_(call.q->shape[0]),
        heads_(call.q->shape[1]),
        d_(call.q->shape[2]),
        blocks_(call.k_cache->shape[0]),
        kv_heads_(call.k_cache->shape[1]),
        block_size_(call.k_cache->shape[2]),
        table_(call.block_tables->shape[1]),
        scale_(call.scale) {
    dispatch_floats("paged_attention", dtype_, [](auto) {});
    if (kv_heads_ == 0 || heads_ % kv_heads_ != 0)
      throw Error(INFINI_STATUS_BAD_TENSOR_SHAPE, "paged_attention: q has " + std::to_string(heads_) +
                                                      " heads, which is no multiple of the " +
                                                      std::to_string(kv_heads_) + " heads of k_cache");
  }

  uint64_t workspace() const { return 0; }

  void execute(const infini_paged_attention_args &call, void *, infinirtStream_t) const {
    check(call);
    dispatch_floats("paged_attention", dtype_, [&](auto tag) { attend<typename decltype(tag)::type>(call); });
  }

 private:
  static int64_t length(const infini_paged_attention_args &call, int64_t sequence) {
    return static_cast<const int64_t *>(call.cache_lens->data)[sequence * call.cache_lens->strides[0]];
  }

  static int64_t block(const infini_paged_attention_args &call, int64_t sequence, int64_t i) {
    const infini_tensor &table = *call.block_tables;
    return static_cast<const int64_t *>(table.data)[sequence * table.strides[0] + i * table.strides[1]];
  }

  // Before anything is written.
  void check(const infini_paged_attention_args &call) const {
    for (int64_t s = 0; s < sequences_; ++s) {
      const int64_t keys = length(call, s);
      if (keys < 0 || keys > table_ * block_size_)
        throw Error(INFINI_STATUS_BAD_PARAM, "paged_attention: cache_lens[" + std::to_string(s) + "] is " +
                                                 std::to_string(keys) +
                                                 ", but block_tables has room for 0 to " +
                                                 std::to_string(table_ * block_size_) + " tokens");
      for (int64_t i = 0; i * block_size_ < keys; ++i)
        if (block(call, s, i) < 0 || block(call, s, i) >= blocks_)
          throw Error(INFINI_STATUS_INDEX_OUT_OF_RANGE,
                      "paged_attention: block_tables holds block " + std::to_string(block(call, s, i)) +
                          ", which is out of range for a k_cache of " + std::to_string(blocks_) + " blocks");
    }
  }

  // A task is one sequence and one key-value head.
  template <class T> void attend(const infini_paged_attention_args &call) const {
    using C = compute_t<T>;
    const infini_tensor &q = *call.q, &out = *call.out, &keys = *call.k_cache, &values = *call.v_cache;
    const int64_t shared = heads_ / kv_heads_;
    int64_t work = 0;
    for (int64_t s = 0; s < sequences_; ++s) work += length(call, s) * d_ * heads_;
    const int64_t tasks = sequences_ * kv_heads_;
    const int64_t grain = std::max<int64_t>(1, parallel_work * tasks / (work + 1));
    parallel_for(0, tasks, grain, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        const int64_t sequence = task / kv_heads_, kv = task % kv_heads_, seen = length(call, sequence);
        for (int64_t first = 0; first < shared; first += most_rows) {
          const int64_t members = std::min(most_rows, shared - first), head = kv * shared + first;
          T *result = static_cast<T *>(out.data) + sequence * out.strides[0] + head * out.strides[1];
          if (seen == 0) {  // nothing to look at: zero
            for (int64_t r = 0; r < members; ++r)
              for (int64_t i = 0; i < d_; ++i)
                result[r * out.strides[1] + i * out.strides[2]] = from_float<T>(C(0));
            continue;
          }
          Attend<T> rows(members, d_);
          for (int64_t r = 0; r < members; ++r)
            rows.set_query(
                r, static_cast<const T *>(q.data) + sequence * q.strides[0] + (head + r) * q.strides[1],
                q.strides[2], C(scale_));
          for (int64_t key = 0; key < seen;) {
            const int64_t page = block(call, sequence, key / block_size_), inside = key % block_size_;
            const int64_t count = std::min({key_block, block_size_ - inside, seen - key});
            const HeadRows<T> k(
                static_cast<const T *>(keys.data) + page * keys.strides[0] + kv * keys.strides[1],
                keys.strides[2], keys.strides[3], d_, rows.key_copy());
            const HeadRows<T> v(
                static_cast<const T *>(values.data) + page * values.strides[0] + kv * values.strides[1],
                values.strides[2], values.strides[3], d_, rows.value_copy());
            int64_t k_row, v_row;
            const T *k_data = k.get(inside, count, &k_row), *v_data = v.get(inside, count, &v_row);
            rows.feed(
                count, k_data, k_row, v_data, v_row, [&](int64_t) { return count; },
                [&](int64_t r, C *scores) {
                  if (!call.alibi_slopes) return;
                  const float slope = static_cast<const float *>(
                      call.alibi_slopes->data)[(head + r) * call.alibi_slopes->strides[0]];
                  for (int64_t i = 0; i < count; ++i) scores[i] += C(slope) * C(key + i - (seen - 1));
                });
            key += count;
          }
          for (int64_t r = 0; r < members; ++r) rows.write(r, result + r * out.strides[1], out.strides[2]);
        }
      }
    });
  }

  int32_t dtype_;
  int64_t sequences_, heads_, d_, blocks_, kv_heads_, block_size_, table_;
  double scale_;
};

INFINI_CPU_KERNEL(attention, Attention)
INFINI_CPU_KERNEL(paged_attention, PagedAttention)

}  // namespace infini::cpu::INFINI_ISA
