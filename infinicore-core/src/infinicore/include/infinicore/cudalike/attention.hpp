// cudalike/attention.hpp -- every attention of the schema: keys and values dense, of a varying length or in
// pages; grouped heads, ALiBi, masks; head sizes up to 256. Few query rows have one kernel, many another.
// A block reads the keys of one KV head once for several query heads, each group of lanes its own keys with
// an online softmax (Milakov and Gimelshein, 2018). Long key axes are split over blocks and combined
// afterwards.
#pragma once
#include <infinicore/operators/attention.h>
#include <infinicore/operators/mha.h>
#include <infinicore/operators/mha_kvcache.h>
#include <infinicore/operators/mha_varlen.h>
#include <infinicore/operators/paged_attention.h>
#include <infinicore/operators/paged_attention_prefill.h>
#include <infinicore/operators/scaled_dot_product_attention.h>

#include "attention_call.hpp"

namespace infini::cudalike {

constexpr int head_items = 8;  // elements of a head that one lane holds
constexpr int max_head = 256;

// Where key j lies, in elements from the first of k and of v; false where the table names no page.
__device__ inline bool locate_key(const AttentionCall &call, const QueryRow &row, int64_t j, int64_t &k,
                                  int64_t &v) {
  if (call.table.data == nullptr) {
    k = row.k + j * call.k.token;
    v = row.v + j * call.v.token;
    return true;
  }
  const int64_t page =
      call.table.at(row.sequence * call.table_stride + j / call.page_size * call.table.stride);
  const int64_t place = j % call.page_size;
  k = page * call.k_page + place * call.k.token;
  v = page * call.v_page + place * call.v.token;
  return page >= 0 && page < call.page_count;
}

template <class C>
__device__ inline C score_bias(const AttentionCall &call, const QueryRow &row, int64_t head, int64_t j) {
  C bias = 0;
  if (call.slopes != nullptr) {
    const int64_t distance = j - row.i - row.diagonal;
    bias -= C(call.slopes[head * call.slope_stride]) * C(distance < 0 ? -distance : distance);
  }
  if (call.mask_data != nullptr) {
    const int64_t at = row.mask + head * call.mask.head + j * call.mask.element;
    if (call.mask_dtype == INFINI_DTYPE_BOOL)
      bias += static_cast<const uint8_t *>(call.mask_data)[at] ? C(0) : -math::infinity<C>();
    else
      bias += FloatReader{call.mask_data, call.mask_dtype, 0}.at<C>(at);
  }
  return bias;
}

// This lane's elements of a head: zeros beyond `size`, and everywhere where it is not to be read.
template <class T, bool vectors> __device__ inline void load_head(const T *head, int64_t stride, int64_t size,
                                                                  int first, bool read,
                                                                  compute_t<T> (&items)[head_items]) {
  constexpr int width = vectors ? vector_width<T>() < head_items ? vector_width<T>() : head_items : 1;
  for (int e = 0; e < head_items; e += width) {
    if constexpr (vectors) {
      if (read && first + e < size) {
        const auto loaded = *reinterpret_cast<const Vector<T, width> *>(head + first + e);
        for (int i = 0; i < width; ++i) items[e + i] = load(loaded.items[i]);
      } else {
        for (int i = 0; i < width; ++i) items[e + i] = 0;
      }
    } else {
      items[e] = read && first + e < size ? load(head[(first + e) * stride]) : compute_t<T>(0);
    }
  }
}

// grid: query rows, KV heads times chunks of their query heads, splits.
template <class T, int group, bool vectors> static __global__ void __launch_bounds__(attention_threads)
    attention_kernel(AttentionCall call, T *out, const T *q, const T *k, const T *v, compute_t<T> *partials) {
  using C = compute_t<T>;
  const int lane = int(threadIdx.x) % call.lanes, slot = int(threadIdx.x) / call.lanes;
  const int slots = int(attention_threads) / call.lanes, first = lane * head_items;
  const int64_t kv_head = blockIdx.y % call.kv_heads, chunk = blockIdx.y / call.kv_heads;
  const int64_t heads_per_kv = call.heads / call.kv_heads;
  const int64_t head = kv_head * heads_per_kv + chunk * group;
  const int64_t rest = heads_per_kv - chunk * group;
  const int heads = int(rest < group ? rest : group);
  const QueryRow row = locate_row(call, blockIdx.x);

  int64_t seen = row.exists ? row.length : 0;
  if (call.causal && seen > row.i + row.diagonal + 1) seen = row.i + row.diagonal + 1;
  const int64_t per_split = seen > 0 ? (seen + gridDim.z - 1) / gridDim.z : 0;
  const int64_t begin = blockIdx.z * per_split, end = begin + per_split < seen ? begin + per_split : seen;

  C query[group][head_items], sums[group][head_items], top[group], total[group];
  for (int g = 0; g < group; ++g) {
    load_head<T, vectors>(q + row.q + (head + g) * call.q.head, call.q.element, call.size, first,
                          g < heads && row.exists, query[g]);
    for (int e = 0; e < head_items; ++e) {
      query[g][e] *= C(call.scale);
      sums[g][e] = 0;
    }
    top[g] = -math::infinity<C>();
    total[g] = 0;
  }

  for (int64_t base = begin; base < end; base += slots) {  // all lanes of a warp stay together
    const int64_t j = base + slot;
    int64_t at_k = 0, at_v = 0;
    const bool exists = j < end && locate_key(call, row, j, at_k, at_v);
    C key[head_items], value[head_items];
    load_head<T, vectors>(k + at_k + kv_head * call.k.head, call.k.element, call.size, first, exists, key);
    load_head<T, vectors>(v + at_v + kv_head * call.v.head, call.v.element, call.value_size, first, exists,
                          value);
    for (int g = 0; g < group; ++g) {
      C score = 0;
      for (int e = 0; e < head_items; ++e) score += query[g][e] * key[e];
      for (int mask = call.lanes / 2; mask > 0; mask /= 2) score += shuffle_xor(score, unsigned(mask));
      if (!exists || g >= heads) continue;
      score += score_bias<C>(call, row, head + g, j);
      const C new_top = MaxOf<C>{}.merge(top[g], score);
      if (new_top == -math::infinity<C>()) continue;
      const C old = rescale(top[g], new_top), weight = math::exp(score - new_top);
      top[g] = new_top;
      total[g] = total[g] * old + weight;
      for (int e = 0; e < head_items; ++e) sums[g][e] = sums[g][e] * old + weight * value[e];
    }
  }

  // Combine the slots: per slot and head its sums, then its top and total.
  C *shared = dynamic_shared<C>();
  const int padded = call.lanes * head_items;
  C *tops = shared + int64_t(slots) * group * padded, *totals = tops + slots * group;
  for (int g = 0; g < group; ++g) {
    for (int e = 0; e < head_items; ++e) shared[(slot * group + g) * padded + first + e] = sums[g][e];
    if (lane == 0) {
      tops[slot * group + g] = top[g];
      totals[slot * group + g] = total[g];
    }
  }
  __syncthreads();
  const int64_t stride = partial_size(call.value_size);
  for (int64_t item = threadIdx.x; item < heads * call.value_size; item += attention_threads) {
    const int g = int(item / call.value_size), e = int(item % call.value_size);
    C all_top = -math::infinity<C>();
    for (int s = 0; s < slots; ++s) all_top = MaxOf<C>{}.merge(all_top, tops[s * group + g]);
    C weights = 0, sum = 0;
    for (int s = 0; s < slots; ++s) {
      const C part = rescale(tops[s * group + g], all_top);
      weights += totals[s * group + g] * part;
      sum += shared[(s * group + g) * padded + e] * part;
    }
    if (partials != nullptr) {
      C *mine = partials + ((int64_t(blockIdx.x) * call.heads + head + g) * gridDim.z + blockIdx.z) * stride;
      mine[2 + e] = sum;
      if (e == 0) {
        mine[0] = all_top;
        mine[1] = weights;
      }
    } else {
      out[row.out + (head + g) * call.out.head + e * call.out.element] =
          store<T>(sum / (weights == C(0) ? C(1) : weights));
    }
  }
}

// ---- many query rows: tiles -----------------------------------------------------------------------------

constexpr int tile_queries = 32, tile_keys = 32, tiled_head = 128;
constexpr int row_group = 4;           // query rows of a thread
constexpr int threads_per_group = 16;  // that share them, each with its own columns
constexpr int score_columns = tile_keys / threads_per_group;
constexpr int value_columns = tiled_head / threads_per_group;

// Neighbouring rows of a tile begin in different banks.
__host__ __device__ constexpr int64_t tile_pitch(int64_t size) {
  return size + 1;
}

// A head of `count` tokens into shared memory; place(token) is its first element, negative where there is
// none.
template <class T, class Place> __device__ inline void load_tile(compute_t<T> *tile, const T *data,
                                                                 int64_t element, int64_t size, int count,
                                                                 compute_t<T> factor, Place &&place) {
  for (int item = int(threadIdx.x); item < count * int(size); item += int(attention_threads)) {
    const int token = item / int(size), e = item % int(size);
    const int64_t at = place(token);
    tile[token * tile_pitch(size) + e] =
        at != nowhere ? load(data[at + e * element]) * factor : compute_t<T>(0);
  }
}

// grid: tiles, query heads. Keys and values take turns in one part of shared memory.
template <class T> static __global__ void __launch_bounds__(attention_threads)
    tiled_attention(AttentionCall call, T *out, const T *q, const T *k, const T *v) {
  using C = compute_t<T>;
  constexpr int pitch = tile_keys + 1;
  INFINI_SHARED(C, weights, tile_queries * pitch);
  INFINI_SHARED(C, old_factor, tile_queries);
  INFINI_SHARED(C, totals, tile_queries);
  INFINI_SHARED(int64_t, key_places, tile_keys);
  INFINI_SHARED(int64_t, value_places, tile_keys);
  const int64_t head = blockIdx.y, kv_head = head / (call.heads / call.kv_heads);
  int64_t tile = blockIdx.x, begin, count;
  if (!locate_tile(call, tile_queries, tile, begin, count)) return;  // the whole block
  const int64_t rest = count - tile * tile_queries;
  const int rows = int(rest < tile_queries ? rest : tile_queries);
  const QueryRow first = locate_row(call, begin + tile * tile_queries);
  C *queries = dynamic_shared<C>(), *tokens = queries + tile_queries * tile_pitch(call.size);
  load_tile<T>(queries, q, call.q.element, call.size, tile_queries, C(call.scale), [&](int row) {
    return row < rows ? first.q + row * call.q.token + head * call.q.head : nowhere;
  });
  int64_t seen = first.length;
  if (call.causal && seen > first.i + rows + first.diagonal) seen = first.i + rows + first.diagonal;

  const int group = int(threadIdx.x) / threads_per_group * row_group;
  const int column = int(threadIdx.x) % threads_per_group;
  constexpr int threads_per_row = int(attention_threads) / tile_queries;  // in the softmax
  const int soft_row = int(threadIdx.x) / threads_per_row, soft_lane = int(threadIdx.x) % threads_per_row;
  C sums[row_group][value_columns] = {};
  C top = -math::infinity<C>(), total = 0;  // of soft_row; its threads agree
  for (int64_t base = 0; base < seen; base += tile_keys) {
    for (int key = int(threadIdx.x); key < tile_keys; key += int(attention_threads)) {
      int64_t at_k = 0, at_v = 0;
      const bool exists = base + key < seen && locate_key(call, first, base + key, at_k, at_v);
      key_places[key] = exists ? at_k + kv_head * call.k.head : nowhere;
      value_places[key] = exists ? at_v + kv_head * call.v.head : nowhere;
    }
    __syncthreads();
    load_tile<T>(tokens, k, call.k.element, call.size, tile_keys, C(1),
                 [&](int key) { return key_places[key]; });
    __syncthreads();
    C scores[row_group][score_columns] = {};
    for (int e = 0; e < int(call.size); ++e)
      for (int j = 0; j < score_columns; ++j) {
        const C key = tokens[(column + j * threads_per_group) * tile_pitch(call.size) + e];
        for (int i = 0; i < row_group; ++i)
          scores[i][j] += queries[(group + i) * tile_pitch(call.size) + e] * key;
      }
    for (int i = 0; i < row_group; ++i)
      for (int j = 0; j < score_columns; ++j) {
        const int key = column + j * threads_per_group;
        QueryRow row = first;
        row.i += group + i;
        row.mask += (group + i) * call.mask.token;
        const bool visible = group + i < rows && key_places[key] != nowhere &&
                             (!call.causal || base + key <= row.i + row.diagonal);
        weights[(group + i) * pitch + key] =
            visible ? scores[i][j] + score_bias<C>(call, row, head, base + key) : -math::infinity<C>();
      }
    __syncthreads();
    load_tile<T>(tokens, v, call.v.element, call.value_size, tile_keys, C(1),
                 [&](int key) { return value_places[key]; });
    C *mine = weights + soft_row * pitch;
    C new_top = top;
    for (int key = 0; key < tile_keys; ++key) new_top = MaxOf<C>{}.merge(new_top, mine[key]);
    const C old = rescale(top, new_top);
    C sum = 0;
    for (int key = 0; key < tile_keys; ++key) sum += rescale(mine[key], new_top);
    top = new_top;
    total = total * old + sum;
    __syncthreads();  // all have read the scores
    for (int key = soft_lane; key < tile_keys; key += threads_per_row)
      mine[key] = rescale(mine[key], new_top);
    if (soft_lane == 0) {
      old_factor[soft_row] = old;
      totals[soft_row] = total;
    }
    __syncthreads();
    for (int i = 0; i < row_group; ++i)
      for (int j = 0; j < value_columns; ++j) sums[i][j] *= old_factor[group + i];
    for (int key = 0; key < tile_keys; ++key)
      for (int j = 0; j < value_columns; ++j) {
        const int e = column + j * threads_per_group;
        if (e >= int(call.value_size)) continue;
        const C value = tokens[key * tile_pitch(call.value_size) + e];
        for (int i = 0; i < row_group; ++i) sums[i][j] += weights[(group + i) * pitch + key] * value;
      }
    __syncthreads();
  }
  for (int i = 0; i < row_group; ++i)
    for (int j = 0; j < value_columns; ++j) {
      const int e = column + j * threads_per_group;
      if (group + i >= rows || e >= int(call.value_size)) continue;
      const C weight = seen > 0 ? totals[group + i] : C(0);
      out[first.out + (group + i) * call.out.token + head * call.out.head + e * call.out.element] =
          store<T>(sums[i][j] / (weight == C(0) ? C(1) : weight));
    }
}

// ---- the host's side ------------------------------------------------------------------------------------

constexpr int64_t target_blocks = 1024;  // enough to fill the largest devices
constexpr int64_t keys_per_split = 256;  // at least
constexpr int64_t rows_for_tiles = 16;   // of a sequence: fewer leave most of a tile empty

class AttentionPlan {
 public:
  AttentionPlan(const char *op, int32_t dtype, const AttentionCall &call, int64_t longest)
      : op_(op), call_(call) {
    const int64_t size = std::max(call_.size, call_.value_size);
    if (size > max_head)
      throw Error(INFINI_STATUS_NOT_IMPLEMENTED, std::string(op) + ": heads of size " + std::to_string(size) +
                                                     ", but this backend takes at most " +
                                                     std::to_string(max_head));
    call_.lanes = 1;
    while (call_.lanes * head_items < size) call_.lanes *= 2;
    run_ = dispatch<Floats>(op, dtype, [](auto t) -> Run { return run<typename decltype(t)::type>; });
    group_ = call_.kv_heads > 0 && call_.heads / call_.kv_heads > 1 ? 4 : 1;
    if (call_.kv_heads > 0) chunks_ = ceil_div(call_.heads / call_.kv_heads, group_);
    const int64_t blocks = std::max<int64_t>(call_.rows * call_.kv_heads * chunks_, 1);
    splits_ = std::min({ceil_div(target_blocks, blocks),
                        ceil_div(std::max<int64_t>(longest, 1), keys_per_split), int64_t(64)});
    state_bytes_ = dtype == INFINI_DTYPE_F64 ? 8 : 4;
    const int64_t widest = std::max(call_.size, call_.value_size);
    tile_bytes_ = (tile_queries * tile_pitch(call_.size) + tile_keys * tile_pitch(widest)) * state_bytes_;
    // With the scores of a tile it must fit into the 48 KiB that every device gives.
    const int64_t score_bytes = tile_queries * (tile_keys + 8) * state_bytes_;
    tiles_ = (call_.sequence_count > 0 ? call_.rows : call_.rows_per_sequence) >= rows_for_tiles &&
             call_.value_size <= tiled_head && tile_bytes_ + score_bytes <= 48 << 10;
    if (tiles_) splits_ = 1;
    if (vendor_attention != nullptr) vendor_ = vendor_attention(dtype, call_, longest);
  }

  uint64_t workspace() const {
    const uint64_t vendors = vendor_ ? vendor_->workspace() : 0;
    if (splits_ == 1) return vendors;
    const int64_t items = call_.rows * call_.heads * splits_ * partial_size(call_.value_size);
    return std::max(vendors, uint64_t(items * state_bytes_));
  }

  // The call as planned; execute() fills in its addresses.
  AttentionCall call() const { return call_; }

  void run(const AttentionCall &call, void *out, const void *q, const void *k, const void *v, void *workspace,
           Stream stream) const {
    if (call.rows == 0 || call.heads == 0 || call.value_size == 0) return;
    if (vendor_ && vendor_->run(call, out, q, k, v, workspace, stream)) return;
    run_(*this, call, out, q, k, v, workspace, stream);
  }

 private:
  using Run = void (*)(const AttentionPlan &, const AttentionCall &, void *, const void *, const void *,
                       const void *, void *, Stream);

  // Vectors of 8 elements at most: whole heads, 16-byte aligned rows.
  static bool in_vectors(const AttentionCall &call, int width) {
    const auto fits = [width](const HeadStrides &s, int64_t size) {
      return s.element == 1 && s.token % width == 0 && s.head % width == 0 && size % width == 0;
    };
    bool all = fits(call.q, call.size) && fits(call.k, call.size) && fits(call.v, call.value_size) &&
               call.k_page % width == 0 && call.v_page % width == 0;
    for (int k = 1; k < 4; ++k) {
      for (int d = 0; d < call.sequences.ndim; ++d) all = all && call.sequences.strides[k][d] % width == 0;
      all = all && call.sequences.first[k] % width == 0;
    }
    return all;
  }

  template <class T> static void run(const AttentionPlan &plan, const AttentionCall &call, void *out,
                                     const void *q, const void *k, const void *v, void *workspace,
                                     Stream stream) {
    using C = compute_t<T>;
    if (plan.tiles_) {
      const bool dense = call.cuts_q.data == nullptr;
      const int64_t per_sequence = ceil_div(call.rows_per_sequence, tile_queries);
      const int64_t tiles = dense ? call.rows / call.rows_per_sequence * per_sequence
                                  : call.rows / tile_queries + call.sequence_count;
      if (!dense)
        launch(clear_rows<T>, blocks(call.rows), dim3(attention_threads), 0, stream, call,
               static_cast<T *>(out));
      return launch(tiled_attention<T>, dim3(unsigned(tiles), unsigned(call.heads)), dim3(attention_threads),
                    size_t(plan.tile_bytes_), stream, call, static_cast<T *>(out), static_cast<const T *>(q),
                    static_cast<const T *>(k), static_cast<const T *>(v));
    }
    constexpr int width = vector_width<T>();
    const bool vectors =
        in_vectors(call, width) && is_aligned(q, 16) && is_aligned(k, 16) && is_aligned(v, 16);
    auto kernel = plan.group_ == 1 ? (vectors ? attention_kernel<T, 1, true> : attention_kernel<T, 1, false>)
                                   : (vectors ? attention_kernel<T, 4, true> : attention_kernel<T, 4, false>);
    const unsigned slots = attention_threads / unsigned(call.lanes);
    const size_t shared = sizeof(C) * slots * size_t(plan.group_) * size_t(call.lanes * head_items + 2);
    auto partials = plan.splits_ > 1 ? static_cast<C *>(workspace) : nullptr;
    launch(kernel, dim3(unsigned(call.rows), unsigned(call.kv_heads * plan.chunks_), unsigned(plan.splits_)),
           dim3(attention_threads), shared, stream, call, static_cast<T *>(out), static_cast<const T *>(q),
           static_cast<const T *>(k), static_cast<const T *>(v), partials);
    if (partials != nullptr)
      launch(combine_splits<T>, dim3(unsigned(call.rows), unsigned(call.heads)),
             dim3(threads_for(call.value_size, 1)), 0, stream, call, static_cast<T *>(out),
             static_cast<const C *>(partials), int(plan.splits_));
  }

  const char *op_;
  AttentionCall call_;
  Run run_;
  int64_t group_, chunks_ = 1, splits_ = 1, state_bytes_, tile_bytes_ = 0;
  bool tiles_ = false;
  std::unique_ptr<VendorAttention> vendor_;
};

// Strides of dimensions `token` and `head` and of the last one; -1: there is none.
inline HeadStrides head_strides(const infini_tensor &t, int token, int head) {
  return {token < 0 ? 0 : t.strides[token], head < 0 ? 0 : t.strides[head], t.strides[t.ndim - 1]};
}

// What all operators have in common.
inline AttentionCall attention_call(double scale) {
  AttentionCall call{};
  call.scale = scale;
  call.causal = true;
  return call;
}

inline void give_pages(AttentionCall &call, const infini_tensor &k, const infini_tensor &v,
                       const infini_tensor &table, int64_t page_size) {
  call.table_stride = table.strides[0];
  call.table_width = table.shape[1];
  call.page_size = page_size;
  call.page_count = k.shape[0];
  call.k_page = k.strides[0];
  call.v_page = v.strides[0];
}
inline IntegerReader table_of(const infini_tensor *table) {
  return integers(table, table != nullptr ? table->strides[1] : 0);
}
inline void give_slopes(AttentionCall &call, const infini_tensor *slopes) {
  if (slopes == nullptr) return;
  call.slopes = static_cast<const float *>(slopes->data);
  call.slope_stride = slopes->strides[0];
}

// ---- paged_attention: one new token per sequence --------------------------------------------------------

class PagedAttention {
 public:
  explicit PagedAttention(const infini_paged_attention_args &call)
      : plan_("paged_attention", call.q->dtype, plan(call),
              call.block_tables->shape[1] * call.k_cache->shape[2]) {}

  uint64_t workspace() const { return plan_.workspace(); }
  void execute(const infini_paged_attention_args &call, void *workspace, infinirtStream_t stream) const {
    AttentionCall now = plan_.call();
    now.lengths = integers(call.cache_lens);
    now.table = table_of(call.block_tables);
    give_slopes(now, call.alibi_slopes);
    plan_.run(now, call.out->data, call.q->data, call.k_cache->data, call.v_cache->data, workspace,
              native(stream));
  }

 private:
  static AttentionCall plan(const infini_paged_attention_args &args) {
    AttentionCall call = attention_call(args.scale);
    call.q = head_strides(*args.q, 0, 1);
    call.out = head_strides(*args.out, 0, 1);
    call.k = head_strides(*args.k_cache, 2, 1);
    call.v = head_strides(*args.v_cache, 2, 1);
    call.heads = args.q->shape[1];
    call.kv_heads = args.k_cache->shape[1];
    call.size = call.value_size = args.q->shape[2];
    call.rows = args.q->shape[0];
    call.rows_per_sequence = 1;
    Space<5> space;
    space.dims.push_back({args.q->shape[0], {args.out->strides[0], args.q->strides[0], 0, 0, 0}});
    if (call.rows > 0) call.sequences = space.parts("paged_attention")[0];
    give_pages(call, *args.k_cache, *args.v_cache, *args.block_tables, args.k_cache->shape[2]);
    return call;
  }
  AttentionPlan plan_;
};

// ---- paged_attention_prefill: new tokens of all sequences, one after the other --------------------------

class PagedAttentionPrefill {
 public:
  explicit PagedAttentionPrefill(const infini_paged_attention_prefill_args &call)
      : plan_("paged_attention_prefill", call.q->dtype, plan(call),
              call.block_tables->shape[1] * call.k_cache->shape[2]) {}

  uint64_t workspace() const { return plan_.workspace(); }
  void execute(const infini_paged_attention_prefill_args &call, void *workspace,
               infinirtStream_t stream) const {
    AttentionCall now = plan_.call();
    now.cuts_q = integers(call.cu_seqlens_q);
    now.lengths = integers(call.history_lens);
    now.table = table_of(call.block_tables);
    give_slopes(now, call.alibi_slopes);
    plan_.run(now, call.out->data, call.q->data, call.k_cache->data, call.v_cache->data, workspace,
              native(stream));
  }

 private:
  static AttentionCall plan(const infini_paged_attention_prefill_args &args) {
    AttentionCall call = attention_call(args.scale);
    call.q = head_strides(*args.q, 0, 1);
    call.out = head_strides(*args.out, 0, 1);
    call.k = head_strides(*args.k_cache, 2, 1);
    call.v = head_strides(*args.v_cache, 2, 1);
    call.heads = args.q->shape[1];
    call.kv_heads = args.k_cache->shape[1];
    call.size = call.value_size = args.q->shape[2];
    call.rows = args.q->shape[0];
    call.sequence_count = args.cu_seqlens_q->shape[0] - 1;
    call.lengths_are_past = true;
    give_pages(call, *args.k_cache, *args.v_cache, *args.block_tables, args.k_cache->shape[2]);
    return call;
  }
  AttentionPlan plan_;
};

// ---- mha_varlen: as prefill, keys dense or in pages -----------------------------------------------------

class MhaVarlen {
 public:
  explicit MhaVarlen(const infini_mha_varlen_args &call)
      : plan_(
            "mha_varlen", call.q->dtype, plan(call),
            call.block_table != nullptr ? call.block_table->shape[1] * call.k->shape[1] : call.k->shape[0]) {}

  uint64_t workspace() const { return plan_.workspace(); }
  void execute(const infini_mha_varlen_args &call, void *workspace, infinirtStream_t stream) const {
    AttentionCall now = plan_.call();
    now.cuts_q = integers(call.cum_seqlens_q);
    now.cuts_k = integers(call.cum_seqlens_k);
    now.table = table_of(call.block_table);
    give_slopes(now, call.alibi_slopes);
    plan_.run(now, call.out->data, call.q->data, call.k->data, call.v->data, workspace, native(stream));
  }

 private:
  static AttentionCall plan(const infini_mha_varlen_args &args) {
    AttentionCall call = attention_call(args.scale);
    const int n = args.k->ndim;
    call.q = head_strides(*args.q, 0, 1);
    call.out = head_strides(*args.out, 0, 1);
    call.k = head_strides(*args.k, n - 3, n - 2);
    call.v = head_strides(*args.v, n - 3, n - 2);
    call.heads = args.q->shape[1];
    call.kv_heads = args.k->shape[n - 2];
    call.size = call.value_size = args.q->shape[2];
    call.rows = args.q->shape[0];
    call.sequence_count = args.cum_seqlens_q->shape[0] - 1;
    if (args.block_table != nullptr) give_pages(call, *args.k, *args.v, *args.block_table, args.k->shape[1]);
    return call;
  }
  AttentionPlan plan_;
};

// ---- mha_kvcache: several new tokens per sequence, keys in pages ----------------------------------------

class MhaKvcache {
 public:
  explicit MhaKvcache(const infini_mha_kvcache_args &call)
      : plan_("mha_kvcache", call.q->dtype, plan(call), call.block_table->shape[1] * call.k_cache->shape[1]) {
  }

  uint64_t workspace() const { return plan_.workspace(); }
  void execute(const infini_mha_kvcache_args &call, void *workspace, infinirtStream_t stream) const {
    AttentionCall now = plan_.call();
    now.lengths = integers(call.seqlens_k);
    now.table = table_of(call.block_table);
    give_slopes(now, call.alibi_slopes);
    plan_.run(now, call.out->data, call.q->data, call.k_cache->data, call.v_cache->data, workspace,
              native(stream));
  }

 private:
  static AttentionCall plan(const infini_mha_kvcache_args &args) {
    AttentionCall call = attention_call(args.scale);
    call.q = head_strides(*args.q, 1, 2);
    call.out = head_strides(*args.out, 1, 2);
    call.k = head_strides(*args.k_cache, 1, 2);
    call.v = head_strides(*args.v_cache, 1, 2);
    call.heads = args.q->shape[2];
    call.kv_heads = args.k_cache->shape[2];
    call.size = call.value_size = args.q->shape[3];
    call.rows = args.q->shape[0] * args.q->shape[1];
    call.rows_per_sequence = args.q->shape[1];
    Space<5> space;
    space.dims.push_back({args.q->shape[0], {args.out->strides[0], args.q->strides[0], 0, 0, 0}});
    if (call.rows > 0) call.sequences = space.parts("mha_kvcache")[0];
    give_pages(call, *args.k_cache, *args.v_cache, *args.block_table, args.k_cache->shape[1]);
    return call;
  }
  AttentionPlan plan_;
};

// ---- dense ----------------------------------------------------------------------------------------------

class Mha {
 public:
  explicit Mha(const infini_mha_args &call) : plan_("mha", call.q->dtype, plan(call), call.k->shape[1]) {}

  uint64_t workspace() const { return plan_.workspace(); }
  void execute(const infini_mha_args &call, void *workspace, infinirtStream_t stream) const {
    AttentionCall now = plan_.call();
    give_slopes(now, call.alibi_slopes);
    plan_.run(now, call.out->data, call.q->data, call.k->data, call.v->data, workspace, native(stream));
  }

 private:
  static AttentionCall plan(const infini_mha_args &args) {
    AttentionCall call = attention_call(args.scale);
    call.causal = args.is_causal != 0;
    call.q = head_strides(*args.q, 1, 2);
    call.out = head_strides(*args.out, 1, 2);
    call.k = head_strides(*args.k, 1, 2);
    call.v = head_strides(*args.v, 1, 2);
    call.heads = args.q->shape[2];
    call.kv_heads = args.k->shape[2];
    call.size = call.value_size = args.q->shape[3];
    call.rows = args.q->shape[0] * args.q->shape[1];
    call.rows_per_sequence = args.q->shape[1];
    call.fixed_length = args.k->shape[1];
    Space<5> space;
    space.dims.push_back(
        {args.q->shape[0],
         {args.out->strides[0], args.q->strides[0], args.k->strides[0], args.v->strides[0], 0}});
    if (call.rows > 0) call.sequences = space.parts("mha")[0];
    return call;
  }
  AttentionPlan plan_;
};

// The last leading dimension is that of the heads, if there is one; those before it are sequences.
class ScaledDotProductAttention {
 public:
  explicit ScaledDotProductAttention(const infini_scaled_dot_product_attention_args &call)
      : plan_("scaled_dot_product_attention", call.query->dtype, plan(call),
              call.key->shape[call.key->ndim - 2]) {}

  uint64_t workspace() const { return plan_.workspace(); }
  void execute(const infini_scaled_dot_product_attention_args &call, void *workspace,
               infinirtStream_t stream) const {
    AttentionCall now = plan_.call();
    if (call.attn_mask != nullptr) {
      now.mask_data = call.attn_mask->data;
      now.mask_dtype = call.attn_mask->dtype;
    }
    plan_.run(now, call.out->data, call.query->data, call.key->data, call.value->data, workspace,
              native(stream));
  }

 private:
  static AttentionCall plan(const infini_scaled_dot_product_attention_args &args) {
    AttentionCall call = attention_call(args.scale);
    const int n = args.query->ndim, heads = n - 3;
    call.causal = args.is_causal != 0;
    call.top_left = true;
    call.q = head_strides(*args.query, n - 2, heads);
    call.out = head_strides(*args.out, n - 2, heads);
    call.k = head_strides(*args.key, n - 2, heads);
    call.v = head_strides(*args.value, n - 2, heads);
    if (args.attn_mask != nullptr) call.mask = head_strides(*args.attn_mask, n - 2, heads);
    call.heads = heads < 0 ? 1 : args.query->shape[heads];
    call.kv_heads = heads < 0 ? 1 : args.key->shape[heads];
    call.size = args.query->shape[n - 1];
    call.value_size = args.value->shape[n - 1];
    call.rows_per_sequence = args.query->shape[n - 2];
    call.fixed_length = args.key->shape[n - 2];
    Space<5> space;
    for (int d = 0; d < heads; ++d)
      space.dims.push_back(
          {args.query->shape[d],
           {args.out->strides[d], args.query->strides[d], args.key->strides[d], args.value->strides[d],
            args.attn_mask != nullptr ? args.attn_mask->strides[d] : 0}});
    call.rows = space.merge().count() * call.rows_per_sequence;
    if (call.rows > 0) call.sequences = space.parts("scaled_dot_product_attention")[0];
    return call;
  }
  AttentionPlan plan_;
};

// ---- attention: append to a dense cache, then attend ----------------------------------------------------

template <class T> static __global__ void __launch_bounds__(elementwise_threads)
    append_kernel(T *k_cache, T *v_cache, const T *k, const T *v, Layout<4> layout) {
  const uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= layout.count) return;
  int64_t at[4];
  layout.locate(index, at);
  k_cache[at[0]] = k[at[2]];
  v_cache[at[1]] = v[at[3]];
}

class Attention {
 public:
  explicit Attention(const infini_attention_args &call)
      : plan_("attention", call.q->dtype, plan(call), call.k_cache->shape[1]),
        append_(dispatch<Sizes>("attention", call.q->dtype,
                                [](auto t) -> Append { return append<typename decltype(t)::type>; })) {
    for (int d = 0; d < 3; ++d)
      new_.dims.push_back(
          {call.k->shape[d],
           {call.k_cache->strides[d], call.v_cache->strides[d], call.k->strides[d], call.v->strides[d]}});
    new_.reorder();
  }

  uint64_t workspace() const { return plan_.workspace(); }
  void execute(const infini_attention_args &call, void *workspace, infinirtStream_t stream) const {
    append_(new_, call, native(stream));
    AttentionCall now = plan_.call();
    now.fixed_length = call.pos + call.k->shape[1];
    plan_.run(now, call.out->data, call.q->data, call.k_cache->data, call.v_cache->data, workspace,
              native(stream));
  }

 private:
  using Append = void (*)(const Space<4> &, const infini_attention_args &, Stream);
  template <class T>
  static void append(const Space<4> &space, const infini_attention_args &call, Stream stream) {
    for (const Layout<4> &layout : space.parts("attention"))
      launch(append_kernel<T>, blocks(ceil_div(layout.count, elementwise_threads)), dim3(elementwise_threads),
             0, stream, static_cast<T *>(call.k_cache->data) + call.pos * call.k_cache->strides[1],
             static_cast<T *>(call.v_cache->data) + call.pos * call.v_cache->strides[1],
             static_cast<const T *>(call.k->data), static_cast<const T *>(call.v->data), layout);
  }
  static AttentionCall plan(const infini_attention_args &args) {
    const int64_t size = args.q->shape[2];
    AttentionCall call = attention_call(1 / std::sqrt(double(std::max<int64_t>(size, 1))));
    call.q = head_strides(*args.q, 1, 0);
    call.out = head_strides(*args.out, 0, 1);
    call.k = head_strides(*args.k_cache, 1, 0);
    call.v = head_strides(*args.v_cache, 1, 0);
    call.heads = args.q->shape[0];
    call.kv_heads = args.k_cache->shape[0];
    call.size = call.value_size = size;
    call.rows = call.rows_per_sequence = args.q->shape[1];
    return call;
  }
  AttentionPlan plan_;
  Space<4> new_;
  Append append_;
};

INFINI_CUDALIKE_KERNEL(paged_attention, PagedAttention)
INFINI_CUDALIKE_KERNEL(paged_attention_prefill, PagedAttentionPrefill)
INFINI_CUDALIKE_KERNEL(mha_varlen, MhaVarlen)
INFINI_CUDALIKE_KERNEL(mha_kvcache, MhaKvcache)
INFINI_CUDALIKE_KERNEL(mha, Mha)
INFINI_CUDALIKE_KERNEL(scaled_dot_product_attention, ScaledDotProductAttention)
INFINI_CUDALIKE_KERNEL(attention, Attention)

}  // namespace infini::cudalike
