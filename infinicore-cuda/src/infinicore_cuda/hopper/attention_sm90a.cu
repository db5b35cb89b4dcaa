// infinicore_cuda/hopper/attention_sm90a.cu -- which calls the kernels of hopper/attention.hpp take, and how
// they are launched. Compiled for sm_90a alone, and part of a wheel that has code for it.
#include <infinicore/library.hpp>

#include <cuda_runtime_api.h>

#include <cstdlib>
#include <string_view>

#include "attention.hpp"

namespace infini::cuda {
const Library &driver();  // of sdk.hpp, whose pointers to functions are not for nvcc's overloads
}

namespace infini::cuda::hopper {

namespace {

using cudalike::HeadStrides;
using cudalike::Stream;

// cuTensorMapEncodeTiled() of the driver; types are enumerators, by number.
using Encode = int (*)(TensorMap *, int type, uint32_t rank, void *address, const uint64_t *sizes,
                       const uint64_t *strides, const uint32_t *box, const uint32_t *steps, int interleave,
                       int swizzle, int l2_promotion, int fill);
constexpr int type_f16 = 6, type_bf16 = 9;         // CUtensorMapDataType
constexpr int swizzle_128 = 3, promotion_256 = 3;  // CUtensorMapSwizzle, CUtensorMapL2promotion

Encode encode() {
  static const Encode found = [] {
    Encode function = nullptr;
    driver().require("cuTensorMapEncodeTiled", function);
    return function;
  }();
  return found;
}

// A tensor as kernels see it: element, head of a group, token, KV head, sequence or page. Strides in
// elements.
struct Heads {
  int64_t sizes[5], strides[5], box[5];

  // What copies can address: strides of whole 16 bytes, below 2**40.
  bool fits() const {
    bool good = strides[0] == 1;
    for (int d = 0; d < 5; ++d) good = good && sizes[d] > 0 && sizes[d] < int64_t(1) << 31;
    for (int d = 1; d < 5; ++d)
      good =
          good && (sizes[d] == 1 || (strides[d] > 0 && strides[d] % 8 == 0 && strides[d] < int64_t(1) << 39));
    return good;
  }

  TensorMap map(const void *data, int type) const {
    uint64_t dims[5], bytes[4];
    uint32_t boxes[5], steps[5];
    for (int d = 0; d < 5; ++d) {
      dims[d] = uint64_t(sizes[d]);
      boxes[d] = uint32_t(box[d]);
      steps[d] = 1;
      if (d > 0) bytes[d - 1] = 2 * uint64_t(sizes[d] == 1 ? sizes[0] : strides[d]);
    }
    TensorMap made;
    const int error = encode()(&made, type, 5, const_cast<void *>(data), dims, bytes, boxes, steps, 0,
                               swizzle_128, promotion_256, 0);
    if (error != 0)
      throw Error(INFINI_STATUS_INTERNAL_ERROR, "cuTensorMapEncodeTiled: error " + std::to_string(error));
    return made;
  }
};

bool wanted() {
  const char *text = std::getenv("INFINICORE_CUDA_HOPPER");
  return text != nullptr && std::string_view(text) == "1";
}

// Multiprocessors of the current device; 0 where it is none of Hopper's.
int hopper_multiprocessors() {
  int device = 0, major = 0, minor = 0, count = 0;
  const bool known =
      cudaGetDevice(&device) == cudaSuccess &&
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess &&
      cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) == cudaSuccess;
  return known && major == 9 && minor == 0 ? count : 0;
}

constexpr int64_t keys_per_split = 256;  // at least
constexpr int64_t most_splits = 64;

class Attention final : public cudalike::VendorAttention {
 public:
  // The calls that vendor_attention() lets through.
  Attention(int32_t dtype, const AttentionCall &call, int64_t longest, int multiprocessors)
      : call_(call), dtype_(dtype), longest_(longest) {
    const bool packed = call.sequence_count > 0;
    const int64_t group = call.heads / call.kv_heads;
    few_ = !packed && call.rows_per_sequence * group <= tile_rows;
    tiling_.heads_per_tile = few_ ? int(group) : 1;
    tiling_.tokens_per_group = tile_rows / tiling_.heads_per_tile;
    choose(multiprocessors);
  }

  // Whether layouts suit the copies; addresses are seen by run().
  bool fits() const {
    const HeadStrides &o = call_.out;
    bool good = queries_.fits() && keys_.fits() && values_.fits() && o.element == 1 && o.token % 8 == 0 &&
                o.head % 8 == 0;
    for (int d = 0; d < call_.sequences.ndim; ++d) good = good && call_.sequences.strides[0][d] % 8 == 0;
    if (call_.page_size > 0)  // a copy is of a page or of a tile; a swizzle is of eight rows
      good = good && call_.page_size % 8 == 0 &&
             (tile_keys_ % call_.page_size == 0 || call_.page_size % tile_keys_ == 0);
    return good;
  }

  uint64_t workspace() const override {
    if (splits_ == 1) return 0;
    return uint64_t(call_.rows * call_.heads * splits_ * cudalike::partial_size(call_.size)) * sizeof(float);
  }

  bool run(const AttentionCall &call, void *out, const void *q, const void *k, const void *v, void *workspace,
           Stream stream) const override {
    for (const void *address : {static_cast<const void *>(out), q, k, v})
      if (!cudalike::is_aligned(address, 16)) return false;
    if (call.slopes != nullptr || call.mask_data != nullptr) return false;
    run_(*this, call, out, q, k, v, workspace, stream);
    return true;
  }

 private:
  using Run = void (*)(const Attention &, const AttentionCall &, void *, const void *, const void *,
                       const void *, void *, Stream);

  void choose(int multiprocessors) {
    if (dtype_ == INFINI_DTYPE_F16)
      choose_size<cudalike::float16>(multiprocessors);
    else
      choose_size<cudalike::bfloat16>(multiprocessors);
  }
  template <class T> void choose_size(int multiprocessors) {
    if (call_.size == 64)
      return few_ ? set_up<Decode<T, 64>>(multiprocessors) : set_up<Prefill<T, 64>>(multiprocessors);
    return few_ ? set_up<Decode<T, 128>>(multiprocessors) : set_up<Prefill<T, 128>>(multiprocessors);
  }

  template <class S> void set_up(int multiprocessors) {
    run_ = launch_shape<S>;
    tile_keys_ = S::keys;
    const bool packed = call_.sequence_count > 0, paged = call_.page_size > 0;
    tiling_.keys_per_box = int(paged && call_.page_size < S::keys ? call_.page_size : S::keys);
    sequences_ = packed ? call_.sequence_count : call_.rows / call_.rows_per_sequence;
    // Two tiles of queries for a block, where there are enough of them.
    tiling_.tiles_per_block = 2;
    if (blocks_of<S>() * call_.heads < 2 * multiprocessors) tiling_.tiles_per_block = 1;
    blocks_ = blocks_of<S>();
    splits_ = splits(multiprocessors * S::blocks);

    const auto of_sequence = [&](int k) {
      return call_.sequences.ndim > 0 ? call_.sequences.strides[k][0] : 0;
    };
    const int64_t size = call_.size, group = call_.heads / call_.kv_heads;
    const int64_t batch = packed ? 1 : sequences_;
    queries_ = {{size, group, packed ? call_.rows : call_.rows_per_sequence, call_.kv_heads, batch},
                {call_.q.element, call_.q.head, call_.q.token, call_.q.head * group, of_sequence(1)},
                {slab, tiling_.heads_per_tile, tiling_.tokens_per_group, 1, 1}};
    const auto keys = [&](const HeadStrides &s, int64_t page, int64_t sequence) -> Heads {
      return {{size, 1, paged ? call_.page_size : longest_, call_.kv_heads, paged ? call_.page_count : batch},
              {s.element, 0, s.token, s.head, paged ? page : sequence},
              {slab, 1, tiling_.keys_per_box, 1, 1}};
    };
    keys_ = keys(call_.k, call_.k_page, of_sequence(2));
    values_ = keys(call_.v, call_.v_page, of_sequence(3));
    allow_shared(attention_kernel<S>, sizeof(SharedTiles<S>));
  }

  // In the first dimension of the grid.
  template <class S> int64_t blocks_of() const {
    const int64_t rows = int64_t(tiling_.tiles_per_block) * S::consumers * tiling_.tokens_per_group;
    if (call_.sequence_count > 0) return call_.rows / rows + sequences_;  // each may end in a part of a tile
    return sequences_ * cudalike::ceil_div(call_.rows_per_sequence, rows);
  }

  // Parts that the keys are split into, where there are fewer blocks than places for them.
  int64_t splits(int64_t places) const {
    const int64_t blocks = blocks_ * (call_.heads / tiling_.heads_per_tile);
    if (!few_)  // what blocks of many rows hand on costs as much as a thousand keys
      return std::max<int64_t>(std::min(places / std::max<int64_t>(blocks, 1), longest_ / 1024), 1);
    // The fewest that fill the places nine times in ten.
    const int64_t most = std::min(most_splits, cudalike::ceil_div(longest_, keys_per_split));
    int64_t best = 1;
    double best_use = 0;
    for (int64_t n = 1; n <= most; ++n) {
      const double waves = double(blocks * n) / double(places), use = waves / std::ceil(waves);
      if (use >= 0.9) return n;
      if (use > best_use) {
        best_use = use;
        best = n;
      }
    }
    return best;
  }

  template <class S> static void launch_shape(const Attention &plan, const AttentionCall &call, void *out,
                                              const void *q, const void *k, const void *v, void *workspace,
                                              Stream stream) {
    using T = typename S::T;
    const int type = std::is_same_v<T, cudalike::float16> ? type_f16 : type_bf16;
    const auto first = [&](int of) { return call.sequences.ndim > 0 ? call.sequences.first[of] : 0; };
    const auto result = static_cast<T *>(out);
    if (call.cuts_q.data != nullptr)
      cudalike::launch(cudalike::clear_rows<T>, cudalike::blocks(call.rows),
                       dim3(cudalike::attention_threads), 0, stream, call, result);
    const auto partials = plan.splits_ > 1 ? static_cast<float *>(workspace) : nullptr;
    cudalike::launch(attention_kernel<S>,
                     dim3(unsigned(plan.blocks_), unsigned(call.heads / plan.tiling_.heads_per_tile),
                          unsigned(plan.splits_)),
                     dim3(S::threads), sizeof(SharedTiles<S>), stream,
                     plan.queries_.map(static_cast<const T *>(q) + first(1), type),
                     plan.keys_.map(static_cast<const T *>(k) + first(2), type),
                     plan.values_.map(static_cast<const T *>(v) + first(3), type), call, plan.tiling_, result,
                     partials);
    if (partials != nullptr)
      cudalike::launch(cudalike::combine_splits<T>, dim3(unsigned(call.rows), unsigned(call.heads)),
                       dim3(S::size), 0, stream, call, result, static_cast<const float *>(partials),
                       int(plan.splits_));
  }

  AttentionCall call_;
  int32_t dtype_;
  int64_t longest_, blocks_ = 0, sequences_ = 0, splits_ = 1, tile_keys_ = 0;
  bool few_;
  Tiling tiling_{};
  Heads queries_{}, keys_{}, values_{};
  Run run_ = nullptr;
};

}  // namespace

}  // namespace infini::cuda::hopper

namespace infini::cudalike {

std::unique_ptr<VendorAttention> vendor_attention(int32_t dtype, const AttentionCall &call, int64_t longest) {
  using namespace cuda::hopper;
  const bool element = dtype == INFINI_DTYPE_F16 || dtype == INFINI_DTYPE_BF16;
  if (!element || (call.size != 64 && call.size != 128) || call.value_size != call.size ||
      !(call.scale > 0) || call.rows <= 0 || call.kv_heads <= 0 || call.heads <= 0 || longest <= 0 ||
      longest >= 1 << 30 || (call.sequence_count == 0 && call.rows_per_sequence == 0) || call.heads > 65535 ||
      call.sequences.ndim > 1 || !wanted())
    return nullptr;
  const int multiprocessors = hopper_multiprocessors();
  if (multiprocessors == 0) return nullptr;
  auto plan = std::make_unique<Attention>(dtype, call, longest, multiprocessors);
  return plan->fits() ? std::move(plan) : nullptr;
}

}  // namespace infini::cudalike
