// cudalike/attention_call.hpp -- what every attention kernel is told, and what kernels of any text share:
// where rows and tiles stand, and how the parts of a split row are put together.
#pragma once
#include <memory>

#include "rows.hpp"

namespace infini::cudalike {

constexpr unsigned attention_threads = 128;

// Strides of a tensor as this kernel sees it: by token, head and element.
struct HeadStrides {
  int64_t token, head, element;
};

// One call. Sequence b has rows i = 0 .. and keys j = 0 .. length - 1; row i sees j <= i + diagonal.
struct AttentionCall {
  HeadStrides q, k, v, out, mask;
  int64_t heads, kv_heads, size, value_size;  // of a head
  int lanes;                                  // that share a key: a power of two
  double scale;
  bool causal, top_left;  // diagonal 0, instead of at the last key

  // dense: rows_per_sequence rows each; the layout gives where sequence b begins in out, q, k, v and the mask
  int64_t rows, rows_per_sequence, fixed_length;
  Layout<5> sequences;

  // of varying lengths: tokens cuts_q[b] .. cuts_q[b + 1] - 1; data is NULL where not used
  IntegerReader cuts_q, cuts_k;
  int64_t sequence_count;

  IntegerReader lengths;  // of keys; without the new tokens where lengths_are_past
  bool lengths_are_past;

  // in pages: table[b * table_stride.. ] names the page, page_size tokens each
  IntegerReader table;
  int64_t table_stride, table_width, page_size, page_count, k_page, v_page;

  const float *slopes;
  int64_t slope_stride;
  const void *mask_data;
  int32_t mask_dtype;
};

// Where one query row stands.
constexpr int64_t nowhere = INT64_MIN;  // no element's place
struct QueryRow {
  bool exists;
  int64_t sequence, i, length, diagonal;
  int64_t out, q, k, v, mask;  // first elements
};

__device__ inline QueryRow locate_row(const AttentionCall &call, int64_t row) {
  QueryRow here{};
  int64_t rows = call.rows_per_sequence;
  if (call.cuts_q.data != nullptr) {
    int64_t low = 0, high = call.sequence_count;  // the last cut at or before the row
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (call.cuts_q[middle + 1] <= row)
        low = middle + 1;
      else
        high = middle;
    }
    here.exists = low < call.sequence_count && call.cuts_q[low] <= row;
    here.sequence = low;
    here.out = row * call.out.token;
    if (!here.exists) return here;
    here.i = row - call.cuts_q[low];
    rows = call.cuts_q[low + 1] - call.cuts_q[low];
    here.q = row * call.q.token;
  } else {
    here.exists = true;
    here.sequence = row / rows;
    here.i = row % rows;
    int64_t at[5];
    call.sequences.locate(uint32_t(here.sequence), at);
    here.out = at[0] + here.i * call.out.token;
    here.q = at[1] + here.i * call.q.token;
    here.k = at[2];
    here.v = at[3];
    here.mask = at[4] + here.i * call.mask.token;
  }
  here.length = call.fixed_length;
  if (call.cuts_k.data != nullptr) {
    const int64_t first = call.cuts_k[here.sequence];
    here.length = call.cuts_k[here.sequence + 1] - first;
    if (call.table.data == nullptr) {
      here.k = first * call.k.token;
      here.v = first * call.v.token;
    }
  } else if (call.lengths.data != nullptr) {
    here.length = call.lengths[here.sequence] + (call.lengths_are_past ? rows : 0);
  }
  here.diagonal = call.top_left ? 0 : here.length - rows;
  if (call.table.data != nullptr && here.length > call.table_width * call.page_size)
    here.length = call.table_width * call.page_size;
  return here;
}

// Tile number `tile` of `tile_rows` rows each, counted over all sequences, becomes its number in its
// sequence: the one of `count` rows from `begin`. False where no tile has that number.
__device__ inline bool locate_tile(const AttentionCall &call, int64_t tile_rows, int64_t &tile,
                                   int64_t &begin, int64_t &count) {
  begin = 0;
  count = call.rows_per_sequence;
  if (call.cuts_q.data == nullptr) {
    const int64_t per_sequence = (count + tile_rows - 1) / tile_rows;
    begin = tile / per_sequence * count;
    tile %= per_sequence;
  } else {
    // Sequence b has the numbers from cuts[b] / tile_rows + b on: as many as it has tiles, or one more.
    int64_t low = 0, high = call.sequence_count;
    while (low + 1 < high) {
      const int64_t middle = (low + high) / 2;
      if (call.cuts_q[middle] / tile_rows + middle <= tile)
        low = middle;
      else
        high = middle;
    }
    if (call.sequence_count == 0) return false;
    begin = call.cuts_q[low];
    count = call.cuts_q[low + 1] - begin;
    tile -= begin / tile_rows + low;
  }
  return tile >= 0 && tile * tile_rows < count && begin >= 0 && begin + count <= call.rows;
}

// Two softmaxes of parts of a row become one: weights of the old and the new part. -inf tops have no weight.
template <class C> __device__ inline C rescale(C top, C new_top) {
  return top == -math::infinity<C>() ? C(0) : math::exp(top - new_top);
}

// What a block hands to combine_splits for each head: the top score, the sum of weights, the weighted values.
__host__ __device__ inline int64_t partial_size(int64_t value_size) {
  return value_size + 2;
}

// grid: query rows, heads.
template <class T> static __global__ void __launch_bounds__(most_threads)
    combine_splits(AttentionCall call, T *out, const compute_t<T> *partials, int splits) {
  using C = compute_t<T>;
  const QueryRow row = locate_row(call, blockIdx.x);
  if (!row.exists) return;
  const int64_t head = blockIdx.y, stride = partial_size(call.value_size);
  const C *mine = partials + (int64_t(blockIdx.x) * call.heads + head) * splits * stride;
  C top = -math::infinity<C>();
  for (int s = 0; s < splits; ++s) top = MaxOf<C>{}.merge(top, mine[s * stride]);
  for (int64_t e = threadIdx.x; e < call.value_size; e += blockDim.x) {
    C weights = 0, sum = 0;
    for (int s = 0; s < splits; ++s) {
      const C part = rescale(mine[s * stride], top);
      weights += mine[s * stride + 1] * part;
      sum += mine[s * stride + 2 + e] * part;
    }
    out[row.out + head * call.out.head + e * call.out.element] =
        store<T>(sum / (weights == C(0) ? C(1) : weights));
  }
}

// Tokens of no sequence attend to nothing. grid: query rows.
template <class T> static __global__ void __launch_bounds__(attention_threads)
    clear_rows(AttentionCall call, T *out) {
  const QueryRow row = locate_row(call, blockIdx.x);
  if (row.exists) return;
  const int64_t items = call.heads * call.value_size;
  for (int64_t item = threadIdx.x; item < items; item += blockDim.x)
    out[row.out + item / call.value_size * call.out.head + item % call.value_size * call.out.element] =
        store<T>(compute_t<T>(0));
}

// Kernels that are better on a vendor's chip, for the calls that they take.
class VendorAttention {
 public:
  virtual ~VendorAttention() = default;
  virtual uint64_t workspace() const = 0;
  // False where an address does not suit them: then nothing was enqueued.
  virtual bool run(const AttentionCall &call, void *out, const void *q, const void *k, const void *v,
                   void *workspace, Stream stream) const = 0;
};
// NULL where there are none for such calls. `longest`: no sequence has more keys; k has that many tokens
// where it is not in pages. Weak: a vendor defines it or does not.
__attribute__((weak)) std::unique_ptr<VendorAttention> vendor_attention(int32_t dtype,
                                                                        const AttentionCall &call,
                                                                        int64_t longest);

}  // namespace infini::cudalike
