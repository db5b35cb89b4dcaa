// infinicore_cuda/hopper/attention.hpp -- attention of f16 and bf16 on Hopper: one warp copies tiles of keys
// and values, one or two warpgroups multiply and keep an online softmax. One text for many query rows and for
// few.
//
// The order of work is that of Shah and others, "FlashAttention-3" (2024): the scores of a tile are on their
// way while the weights of the tile before it are applied, and two warpgroups take turns at the tensor cores.
#pragma once
#include <infinicore/cudalike/attention_call.hpp>

#include "primitives.hpp"

namespace infini::cuda::hopper {

using cudalike::AttentionCall;
using cudalike::QueryRow;

constexpr int tile_rows = 64;            // of queries: the M of a product, and a warpgroup's part
constexpr int depth = 16;                // the K of a product
constexpr int slab = swizzle_bytes / 2;  // elements of a row in shared memory; a head is one slab or two

// Sizes of a kernel. Keys and values have `stages` tiles each in shared memory.
template <class T_, int size_, int consumers_, int keys_, int stages_, int blocks_> struct Shape {
  using T = T_;
  static constexpr int size = size_, consumers = consumers_, keys = keys_, stages = stages_;
  static constexpr int blocks = blocks_;  // on a multiprocessor
  static constexpr int slabs = size / slab;
  static constexpr int threads = (consumers + 1) * warpgroup;  // the last warpgroup copies
  static constexpr int query_bytes = tile_rows * size * 2, tile_bytes = keys * size * 2;
  // Of a thread. Shared evenly they would be 168 or 128, too few for scores, weights and sums.
  static constexpr int copying_registers = 64, registers = consumers == 2 ? 216 : 192;
};
template <class T, int size> using Prefill = Shape<T, size, 2, 128, 2, 1>;
// Few rows: the bandwidth of memory decides, so blocks are small, and two share a multiprocessor.
template <class T, int size> using Decode = Shape<T, size, 1, 64, 384 / size, 2>;

// Two blocks of 112 KiB and their barriers fit, and the KiB that the system keeps of each.
template <class S> struct alignas(swizzle_atom) SharedTiles {
  unsigned char queries[S::consumers][S::query_bytes], keys[S::stages][S::tile_bytes],
      values[S::stages][S::tile_bytes];
  uint64_t queries_full, queries_empty;
  uint64_t keys_full[S::stages], keys_empty[S::stages], values_full[S::stages], values_empty[S::stages];
};

// What the host adds to a call.
struct Tiling {
  int heads_per_tile;    // 1, or all query heads of a KV head: row m is head m % heads_per_tile of a token
  int tokens_per_group;  // of a warpgroup: 64 / heads_per_tile
  int keys_per_box;      // of a copy: a tile, or a page where that is less
  int tiles_per_block;   // of queries: 1 or 2
};

// A tile of queries, and the tiles of keys that this block takes for it.
struct Pass {
  QueryRow first;
  int64_t row;  // the number of the first
  int tokens;   // of queries
  int begin, end;
  int q_token, q_sequence, k_token, k_sequence;  // coordinates in the tensors
};

// The last tiles of a sequence, which see most, come first. Of two tiles per block the other one is as far
// from the first: under a causal mask all blocks then have as much to do. False where there is no pass of
// that number.
template <class S>
__device__ inline bool locate_pass(const AttentionCall &call, const Tiling &tiling, int number, Pass &pass) {
  const int tile_tokens = S::consumers * tiling.tokens_per_group;
  int64_t index = blockIdx.x, begin, count;
  if (number >= tiling.tiles_per_block ||
      !cudalike::locate_tile(call, tiling.tiles_per_block * tile_tokens, index, begin, count))
    return false;
  const int64_t from_end = (count + tile_tokens - 1) / tile_tokens - 1 - index;
  if (number == 1 && from_end == index) return false;
  const int64_t tile = number == 0 ? from_end : index;

  pass.row = begin + tile * tile_tokens;
  pass.first = locate_row(call, pass.row);
  const int64_t rest = count - tile * tile_tokens;
  pass.tokens = int(rest < tile_tokens ? rest : tile_tokens);
  int64_t seen = pass.first.length;
  if (call.causal && seen > pass.first.i + pass.tokens + pass.first.diagonal)
    seen = pass.first.i + pass.tokens + pass.first.diagonal;
  const int tiles = seen > 0 ? (int(seen) + S::keys - 1) / S::keys : 0;
  const int splits = int(gridDim.z), split = int(blockIdx.z), per_split = (tiles + splits - 1) / splits;
  pass.begin = split * per_split < tiles ? split * per_split : tiles;
  pass.end = pass.begin + per_split < tiles ? pass.begin + per_split : tiles;

  const bool packed_q = call.cuts_q.data != nullptr;
  const bool packed_k = call.cuts_k.data != nullptr && call.table.data == nullptr;
  const int sequence = int(pass.first.sequence);
  pass.q_token = int(packed_q ? pass.row : pass.first.i);
  pass.q_sequence = packed_q ? 0 : sequence;
  pass.k_token = packed_k ? int(call.cuts_k[sequence]) : 0;
  pass.k_sequence = packed_k ? 0 : sequence;
  return true;
}

// Tile number n of a ring of stages, counted over all passes of a block.
template <class S> struct Place {
  unsigned stage, parity;
  __device__ explicit Place(unsigned n) : stage(n % S::stages), parity(n / S::stages & 1) {}
};

// ---- the copying warp ------------------------------------------------------------------------------------

// The boxes of a tile are dealt to the lanes, which look their pages up at the same time.
template <class S> __device__ inline void copy_tile(const TensorMap *map, const AttentionCall &call,
                                                    const Tiling &tiling, const Pass &pass, int kv_head,
                                                    int tile, unsigned char *target, uint64_t *full) {
  const int lane = int(threadIdx.x) % 32, boxes = S::keys / tiling.keys_per_box;
  if (lane == 0) barrier_expect(full, S::tile_bytes);
  cudalike::sync_warp();
  INFINI_LOOP
  for (int box = lane; box < boxes * S::slabs; box += 32) {
    const int part = box / boxes, key = box % boxes * tiling.keys_per_box;
    int token = tile * S::keys + key, page = pass.k_sequence;
    if (call.table.data != nullptr) {
      const int page_size = int(call.page_size), entry = token / page_size;
      page = entry < call.table_width
                 ? int(call.table.at(pass.k_sequence * call.table_stride + entry * call.table.stride))
                 : -1;  // outside of the tensor: zeros
      token -= entry * page_size;
    } else {
      token += pass.k_token;
    }
    copy_box(target + (part * S::keys + key) * swizzle_bytes, map, full, part * slab, 0, token, kv_head,
             page);
  }
}

template <class S> __device__ inline void produce(const TensorMap *q, const TensorMap *k, const TensorMap *v,
                                                  const AttentionCall &call, const Tiling &tiling,
                                                  SharedTiles<S> &shared, int kv_head, int head_in_group) {
  const int lane = int(threadIdx.x) % 32;
  unsigned copied = 0, passes = 0;
  Pass pass;
  for (int number = 0; locate_pass<S>(call, tiling, number, pass); ++number) {
    if (pass.begin == pass.end) continue;
    barrier_wait(&shared.queries_empty, (passes++ & 1) ^ 1);
    if (lane == 0)
      barrier_expect(&shared.queries_full, unsigned(S::consumers * S::slabs * swizzle_bytes *
                                                    tiling.heads_per_tile * tiling.tokens_per_group));
    cudalike::sync_warp();
    INFINI_LOOP
    for (int box = lane; box < S::consumers * S::slabs; box += 32) {
      const int group = box / S::slabs, part = box % S::slabs;
      copy_box(shared.queries[group] + part * tile_rows * swizzle_bytes, q, &shared.queries_full, part * slab,
               head_in_group, pass.q_token + group * tiling.tokens_per_group, kv_head, pass.q_sequence);
    }
    for (int tile = pass.begin; tile < pass.end; ++tile, ++copied) {
      const Place<S> at(copied);
      barrier_wait(&shared.keys_empty[at.stage], at.parity ^ 1);
      copy_tile<S>(k, call, tiling, pass, kv_head, tile, shared.keys[at.stage], &shared.keys_full[at.stage]);
      barrier_wait(&shared.values_empty[at.stage], at.parity ^ 1);
      copy_tile<S>(v, call, tiling, pass, kv_head, tile, shared.values[at.stage],
                   &shared.values_full[at.stage]);
    }
  }
}

// ---- a multiplying warpgroup -----------------------------------------------------------------------------

// Every warp says that it has read: a product reads for its own warp.
__device__ inline void release(uint64_t *empty) {
  if (threadIdx.x % 32 == 0) barrier_arrive(empty);
}

// Scores of a warpgroup's queries and a tile of keys; both have rows along K, the head.
template <class S>
__device__ inline void multiply_keys(float (&scores)[S::keys / 2], uint64_t queries, uint64_t keys) {
  INFINI_UNROLL
  for (int step = 0; step < S::size / depth; ++step) {
    const int part = step * depth / slab, within = step * depth % slab * 2;
    Product<typename S::T, S::keys>::of_shared(
        scores, advance(queries, uint32_t(part * tile_rows * swizzle_bytes + within)),
        advance(keys, uint32_t(part * S::keys * swizzle_bytes + within)), step > 0);
  }
}

// Sums of the values by weight: K is the keys, and the rows of values go along N.
template <class S> __device__ inline void multiply_values(float (&sums)[S::size / 2],
                                                          const uint32_t (&weights)[S::keys / 4],
                                                          uint64_t values) {
  INFINI_UNROLL
  for (int step = 0; step < S::keys / depth; ++step)
    Product<typename S::T, S::size>::of_registers(
        sums, weights + 4 * step, advance(values, uint32_t(step * depth * swizzle_bytes)), true);
}

// What a thread knows of its two rows. Scores are scaled as powers of two; the top is not scaled yet.
struct Softmax {
  float top[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};  // total: of this thread's columns
  float factor[2];                                           // of what was summed before

  // Scores become weights. Four lanes hold a row.
  template <int count> __device__ void step(float (&scores)[count], float scale) {
    INFINI_UNROLL
    for (int r = 0; r < 2; ++r) {
      float highest = top[r];
      INFINI_UNROLL
      for (int j = 2 * r; j < count; j += 4) highest = fmaxf(highest, fmaxf(scores[j], scores[j + 1]));
      highest = fmaxf(highest, cudalike::shuffle_xor(highest, 1));
      highest = fmaxf(highest, cudalike::shuffle_xor(highest, 2));
      const float anchor = highest == -INFINITY ? 0.0f : highest * scale;  // no key seen yet: weights are 0
      factor[r] = exp2(top[r] * scale - anchor);
      top[r] = highest;
      float sum = 0;
      INFINI_UNROLL
      for (int j = 2 * r; j < count; j += 4) {
        scores[j] = exp2(scores[j] * scale - anchor);
        scores[j + 1] = exp2(scores[j + 1] * scale - anchor);
        sum += scores[j] + scores[j + 1];
      }
      total[r] = total[r] * factor[r] + sum;
    }
  }
};

// The registers of a product are, two in one, those of the next one's first operand.
template <class T, int count>
__device__ inline void pack_weights(uint32_t (&weights)[count / 2], const float (&scores)[count]) {
  INFINI_UNROLL
  for (int i = 0; i < count / 2; ++i) weights[i] = pack<T>(scores[2 * i], scores[2 * i + 1]);
}

// Keys below `visible` count: of each row its own.
template <int count>
__device__ inline void mask_scores(float (&scores)[count], int first_key, const int (&visible)[2]) {
  const int column = first_key + int(threadIdx.x) % 4 * 2;
  INFINI_UNROLL
  for (int i = 0; i < count; ++i)
    if (column + i / 4 * 8 + i % 2 >= visible[i / 2 % 2]) scores[i] = -INFINITY;
}

// Values beyond the last key are weighed with 0, but what lies there may be no number.
template <class S> __device__ inline void clear_values(unsigned char *values, int first) {
  struct alignas(16) Piece {
    uint32_t words[4];
  };
  constexpr int pieces = swizzle_bytes / int(sizeof(Piece));
  const int count = (S::keys - first) * pieces;  // of a slab: whole rows, so that no swizzle matters
  for (int i = int(threadIdx.x); i < count * S::slabs; i += S::consumers * warpgroup)
    reinterpret_cast<Piece *>(values + (i / count * S::keys + first) * swizzle_bytes)[i % count] = {};
  publish_stores();
  named_sync(S::consumers + 1, S::consumers * warpgroup);
}

// Two warpgroups take turns: while one has products under way, the other computes weights. Number 0 begins.
template <class S> __device__ inline void take_turn(int group) {
  if constexpr (S::consumers == 2) named_sync(1 + group, 2 * warpgroup);
}
template <class S> __device__ inline void give_turn(int group, bool wanted) {
  if constexpr (S::consumers == 2)
    if (wanted) named_arrive(2 - group, 2 * warpgroup);
}

// The keys of a pass, from its first tile to its last: `sums` and `softmax` of this thread's two rows.
template <class S> __device__ inline void attend(const Pass &pass, SharedTiles<S> &shared, int group,
                                                 const int (&visible)[2], int seen_by_all, float scale,
                                                 unsigned first, unsigned passes, float (&sums)[S::size / 2],
                                                 Softmax &softmax) {
  float scores[S::keys / 2];
  uint32_t weights[S::keys / 4];
  const uint64_t queries = matrix(shared_address(shared.queries[group]), swizzle_atom);
  const auto keys = [&](unsigned stage) { return matrix(shared_address(shared.keys[stage]), swizzle_atom); };
  const auto values = [&](unsigned stage) {  // a head of 128 is two slabs: 128 bytes of a row lie in each
    return matrix(shared_address(shared.values[stage]), swizzle_atom, S::keys * swizzle_bytes);
  };

  // A branch, across which the compiler moves no wait: so weights are computed while products are under way.
  const auto wait_for_keys = [&](int tile) {
    const Place<S> place(first + unsigned(tile - pass.begin));
    if (tile < pass.end) barrier_wait(&shared.keys_full[place.stage], place.parity);
  };

  Place<S> at(first);
  barrier_wait(&shared.queries_full, passes & 1);
  wait_for_keys(pass.begin);
  product_fence();
  multiply_keys<S>(scores, queries, keys(at.stage));
  product_commit();
  product_wait<0>();
  hold(scores);
  release(&shared.keys_empty[at.stage]);
  if ((pass.begin + 1) * S::keys > seen_by_all) mask_scores(scores, pass.begin * S::keys, visible);
  softmax.step(scores, scale);
  pack_weights<typename S::T>(weights, scores);

  const bool second = group == 1;
  give_turn<S>(group, second && pass.begin + 1 < pass.end);
  wait_for_keys(pass.begin + 1);
  for (int tile = pass.begin + 1; tile < pass.end; ++tile) {
    const Place<S> next(first + unsigned(tile - pass.begin));
    take_turn<S>(group);
    hold(scores);
    hold(weights);
    hold(sums);
    product_fence();
    multiply_keys<S>(scores, queries, keys(next.stage));
    product_commit();
    barrier_wait(&shared.values_full[at.stage], at.parity);
    product_fence();
    multiply_values<S>(sums, weights, values(at.stage));
    product_commit();
    give_turn<S>(group, !second || tile + 1 < pass.end);
    product_wait<1>();
    hold(scores);
    release(&shared.keys_empty[next.stage]);
    if ((tile + 1) * S::keys > seen_by_all) mask_scores(scores, tile * S::keys, visible);
    softmax.step(scores, scale);
    wait_for_keys(tile + 1);
    product_wait<0>();
    hold(sums);
    hold(weights);
    release(&shared.values_empty[at.stage]);
    INFINI_UNROLL
    for (int i = 0; i < S::size / 2; ++i) sums[i] *= softmax.factor[i / 2 % 2];
    pack_weights<typename S::T>(weights, scores);
    at = next;
  }
  release(&shared.queries_empty);
  barrier_wait(&shared.values_full[at.stage], at.parity);
  const int length = int(pass.first.length);
  if (pass.end * S::keys > length)
    clear_values<S>(shared.values[at.stage], length - (pass.end - 1) * S::keys);
  hold(weights);
  hold(sums);
  product_fence();
  multiply_values<S>(sums, weights, values(at.stage));
  product_commit();
  product_wait<0>();
  hold(sums);
  release(&shared.values_empty[at.stage]);
}

// Four lanes hold a row, each two neighbouring columns of every eight: words[b] are those of the b-th eight.
// They change places, so that each lane has one whole eight, lane b the b-th.
__device__ inline void gather_columns(uint32_t (&words)[4]) {
  const int lane = int(threadIdx.x) % 4;
  INFINI_UNROLL
  for (int bit = 1; bit < 4; bit *= 2) {  // a transposition of 4 x 4, by halves
    const bool upper = (lane & bit) != 0;
    INFINI_UNROLL
    for (int b = 0; b < 4; ++b) {
      if ((b & bit) != 0) continue;
      const uint32_t mine = upper ? words[b] : words[b + bit];
      const uint32_t theirs = cudalike::shuffle_xor(mine, unsigned(bit));
      if (upper)
        words[b] = theirs;
      else
        words[b + bit] = theirs;
    }
  }
}

template <class S> __device__ inline void consume(const AttentionCall &call, const Tiling &tiling,
                                                  SharedTiles<S> &shared, int kv_head, int head_in_group,
                                                  int group, typename S::T *out, float *partials) {
  using T = typename S::T;
  const int warp = int(threadIdx.x) % warpgroup / 32;
  const int lane = int(threadIdx.x) % 32, quad = lane % 4;
  const float scale = float(call.scale * 1.4426950408889634);  // log2(e): powers of two are what is fast
  unsigned read = 0, passes = 0;
  Pass pass;
  for (int number = 0; locate_pass<S>(call, tiling, number, pass); ++number) {
    int token[2], visible[2];
    int64_t head[2];
    const auto sees = [&](int of) {  // how many keys a token of the tile does
      const int64_t limit = pass.first.i + of + pass.first.diagonal + 1;
      return int(call.causal && limit < pass.first.length ? (limit > 0 ? limit : 0) : pass.first.length);
    };
    INFINI_UNROLL
    for (int r = 0; r < 2; ++r) {
      const int row = warp * 16 + lane / 4 + 8 * r;
      token[r] = group * tiling.tokens_per_group + row / tiling.heads_per_tile;
      head[r] = kv_head * (call.heads / call.kv_heads) + head_in_group + row % tiling.heads_per_tile;
      visible[r] = sees(token[r]);
      // Rows that no token fills: of the last tokens of a sequence, and what is left of 64 rows.
      if (token[r] >= pass.tokens || row >= tiling.tokens_per_group * tiling.heads_per_tile) token[r] = -1;
    }
    float sums[S::size / 2] = {};
    Softmax softmax;
    if (pass.begin < pass.end) {
      attend<S>(pass, shared, group, visible, sees(group * tiling.tokens_per_group), scale, read, passes++,
                sums, softmax);
      read += unsigned(pass.end - pass.begin);
    }

    INFINI_UNROLL
    for (int r = 0; r < 2; ++r) {
      float total = softmax.total[r];
      total += cudalike::shuffle_xor(total, 1);
      total += cudalike::shuffle_xor(total, 2);
      const bool stored = token[r] >= 0;
      if (partials != nullptr) {
        const int64_t place = ((pass.row + token[r]) * call.heads + head[r]) * gridDim.z + blockIdx.z;
        float *mine = partials + place * cudalike::partial_size(S::size);
        if (stored && quad == 0) {
          mine[0] = softmax.top[r] * float(call.scale);
          mine[1] = total;
        }
        INFINI_UNROLL
        for (int i = 0; i < S::size / 2; ++i)
          if (stored && i / 2 % 2 == r) mine[2 + i / 4 * 8 + quad * 2 + i % 2] = sums[i];
        continue;
      }
      const float factor = total > 0 ? 1 / total : 0.0f;
      T *row = out + pass.first.out + token[r] * call.out.token + head[r] * call.out.head;
      INFINI_UNROLL
      for (int j = 0; j < S::size / 8; j += 4) {
        uint32_t words[4];
        INFINI_UNROLL
        for (int b = 0; b < 4; ++b) {
          const float *pair = sums + 4 * (j + b) + 2 * r;
          words[b] = pack<T>(pair[0] * factor, pair[1] * factor);
        }
        gather_columns(words);
        struct alignas(16) Eight {
          uint32_t words[4];
        };
        if (stored)
          *reinterpret_cast<Eight *>(row + (j + quad) * 8) = {{words[0], words[1], words[2], words[3]}};
      }
    }
  }
}

// grid: pairs of query tiles, query heads (of a tile: see Tiling), splits of the keys.
template <class S> static __global__ void __launch_bounds__(S::threads, S::blocks)
    attention_kernel(const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k,
                     const __grid_constant__ TensorMap v, const __grid_constant__ AttentionCall call,
                     const __grid_constant__ Tiling tiling, typename S::T *out, float *partials) {
  auto &shared = *static_cast<SharedTiles<S> *>(shared_memory());
  if (threadIdx.x == 0) {
    constexpr unsigned warps = S::consumers * 4;
    barrier_init(&shared.queries_full, 1);
    barrier_init(&shared.queries_empty, warps);
    for (int stage = 0; stage < S::stages; ++stage) {
      barrier_init(&shared.keys_full[stage], 1);
      barrier_init(&shared.values_full[stage], 1);
      barrier_init(&shared.keys_empty[stage], warps);
      barrier_init(&shared.values_empty[stage], warps);
    }
    barriers_ready();
    prefetch_map(&q);
    prefetch_map(&k);
    prefetch_map(&v);
  }
  __syncthreads();
  const int heads_per_kv = int(call.heads / call.kv_heads);
  const int tile_head = int(blockIdx.y) * tiling.heads_per_tile;
  const int kv_head = tile_head / heads_per_kv, head_in_group = tile_head % heads_per_kv;
  // A shuffle, so that the compiler knows that a warp agrees on what follows from it.
  const int group = cudalike::shuffle(int(threadIdx.x) / warpgroup, 0);
  if (group == S::consumers) {
    keep_registers<S::copying_registers>();
    if (threadIdx.x < S::consumers * warpgroup + 32)
      produce<S>(&q, &k, &v, call, tiling, shared, kv_head, head_in_group);
  } else {
    take_registers<S::registers>();
    consume<S>(call, tiling, shared, kv_head, head_in_group, group, out, partials);
  }
}

}  // namespace infini::cuda::hopper
