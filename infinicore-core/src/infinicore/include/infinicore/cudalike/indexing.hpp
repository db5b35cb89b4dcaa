// cudalike/indexing.hpp -- embedding, gather, index_select, index_add, scatter, cat and masked_select, and
// what writes new tokens into a KV cache. An index out of range reads as zero and is not written: a device
// cannot raise.
#pragma once
#include <infinicore/operators/cat.h>
#include <infinicore/operators/embedding.h>
#include <infinicore/operators/gather.h>
#include <infinicore/operators/index_add.h>
#include <infinicore/operators/index_select.h>
#include <infinicore/operators/kv_caching.h>
#include <infinicore/operators/masked_select.h>
#include <infinicore/operators/paged_caching.h>
#include <infinicore/operators/scatter.h>

#include "moving.hpp"
#include "reduce.hpp"

namespace infini::cudalike {

constexpr unsigned index_threads = 256;

inline dim3 thread_grid(uint32_t count) {
  return blocks(ceil_div(count, index_threads));
}

// Places of what is moved, in the first `tensors` of K, and of the index that says where: in vectors of 16
// bytes where the innermost dimension, and the strides that an index multiplies, allow them.
template <int K, int tensors> class IndexedSpace {
 public:
  IndexedSpace(const char *op, int32_t dtype, const Space<K> &space, std::initializer_list<int64_t> steps)
      : op_(op), dtype_(dtype), elements_(space), vectors_(space), width_(16 / dtype_size(dtype)) {
    bool fits = width_ > 1 && space.in_vectors(width_, tensors) && space.dims.back().size % width_ == 0;
    for (const int64_t step : steps) fits = fits && step % width_ == 0;
    if (fits)
      vectors_ = space.vectors(width_, tensors);
    else
      width_ = 1;
  }

  // Call fn(tag of what moves, layout, how many elements that is) for all parts.
  template <class Fn> void for_parts(std::initializer_list<const infini_tensor *> moved, Fn &&fn) const {
    bool aligned = width_ > 1;
    for (const infini_tensor *t : moved) aligned = aligned && is_aligned(t->data, 16);
    if (aligned)
      for (const Layout<K> &layout : vectors_.parts(op_)) fn(tag<bytes16>(), layout, width_);
    else
      dispatch<Sizes>(op_, dtype_, [&](auto t) {
        for (const Layout<K> &layout : elements_.parts(op_)) fn(t, layout, int64_t(1));
      });
  }

 private:
  const char *op_;
  int32_t dtype_;
  Space<K> elements_, vectors_;
  int64_t width_;
};
// ---- one element of a source per element of the output --------------------------------------------------

// out[...] = in[... index[...] ...]: the layout has places in out, in (without the indexed axis) and index.
template <class T> __global__ void __launch_bounds__(index_threads)
    take_kernel(T *out, const T *in, IntegerReader index, Layout<3> layout, int64_t axis_stride,
                int64_t axis_size) {
  const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= layout.count) return;
  int64_t at[3];
  layout.locate(i, at);
  const int64_t chosen = index.at(at[2]);
  out[at[0]] = chosen >= 0 && chosen < axis_size ? in[at[1] + chosen * axis_stride] : T{};
}

constexpr int row_vectors = 4;  // of a row, per thread

// The same by vectors, where a whole row is chosen and all rows are contiguous: embedding of a token.
template <class T> __global__ void __launch_bounds__(most_threads)
    take_rows_kernel(T *out, const T *in, IntegerReader index, Layout<2> layout, int64_t row_stride,
                     int64_t rows, int64_t length) {
  int64_t at[2];
  layout.locate(blockIdx.x, at);
  const int64_t chosen = index.at(at[1]);
  const bool known = chosen >= 0 && chosen < rows;
  for (int64_t base = threadIdx.x; base < length; base += blockDim.x * row_vectors) {
    T items[row_vectors];  // all are asked for before the first is there
    for (int j = 0; j < row_vectors; ++j) {
      const int64_t i = base + j * blockDim.x;
      items[j] = known && i < length ? in[chosen * row_stride + i] : T{};
    }
    for (int j = 0; j < row_vectors; ++j) {
      const int64_t i = base + j * blockDim.x;
      if (i < length) out[at[0] + i] = items[j];
    }
  }
}

template <class T> void run_take(const char *op, const Space<3> &space, const infini_tensor &out,
                                 const infini_tensor &in, const infini_tensor &index, int64_t axis,
                                 Stream stream) {
  for (const Layout<3> &layout : space.parts(op))
    launch(take_kernel<T>, thread_grid(layout.count), dim3(index_threads), 0, stream,
           static_cast<T *>(out.data), static_cast<const T *>(in.data), integers(&index, 1), layout,
           in.strides[axis], in.shape[axis]);
}
using RunTake = decltype(&run_take<uint8_t>);

inline RunTake take_of(const char *op, int32_t dtype) {
  return dispatch<Sizes>(op, dtype, [](auto t) -> RunTake { return run_take<typename decltype(t)::type>; });
}

class Embedding {
 public:
  explicit Embedding(const infini_embedding_args &call) : run_(take_of("embedding", call.out->dtype)) {
    const int32_t last = call.out->ndim - 1;
    for (int32_t d = 0; d < last; ++d) {
      space_.dims.push_back({call.out->shape[d], {call.out->strides[d], 0, call.input->strides[d]}});
      tokens_.dims.push_back({call.out->shape[d], {call.out->strides[d], call.input->strides[d]}});
    }
    space_.dims.push_back({call.out->shape[last], {call.out->strides[last], call.weight->strides[1], 0}});
    const int64_t size = dtype_size(call.out->dtype), width = 16 / size;
    rows_ = call.out->strides[last] == 1 && call.weight->strides[1] == 1 &&
            call.weight->shape[1] % width == 0 && call.weight->strides[0] % width == 0;
    for (auto &d : tokens_.dims) {
      rows_ = rows_ && d.strides[0] % width == 0;
      d.strides[0] /= width;
    }
    space_.reorder();
    tokens_.merge();
  }

  uint64_t workspace() const { return 0; }
  void execute(const infini_embedding_args &call, void *, infinirtStream_t stream) const {
    const infini_tensor &table = *call.weight;
    if (!rows_ || !is_aligned(call.out->data, 16) || !is_aligned(table.data, 16))
      return run_("embedding", space_, *call.out, table, *call.input, 0, native(stream));
    const int64_t width = 16 / dtype_size(table.dtype), length = table.shape[1] / width;
    for (const Layout<2> &layout : tokens_.parts("embedding"))
      launch(take_rows_kernel<bytes16>, blocks(layout.count), dim3(threads_for(length, row_vectors)), 0,
             native(stream), static_cast<bytes16 *>(call.out->data), static_cast<const bytes16 *>(table.data),
             integers(call.input, 1), layout, table.strides[0] / width, table.shape[0], length);
  }

 private:
  Space<3> space_;
  Space<2> tokens_;
  bool rows_;
  RunTake run_;
};

class Gather {
 public:
  explicit Gather(const infini_gather_args &call) : run_(take_of("gather", call.out->dtype)) {
    for (int32_t d = 0; d < call.out->ndim; ++d)
      space_.dims.push_back(
          {call.out->shape[d],
           {call.out->strides[d], d == call.dim ? 0 : call.input->strides[d], call.index->strides[d]}});
    space_.reorder();
  }
  uint64_t workspace() const { return 0; }
  void execute(const infini_gather_args &call, void *, infinirtStream_t stream) const {
    run_("gather", space_, *call.out, *call.input, *call.index, call.dim, native(stream));
  }

 private:
  Space<3> space_;
  RunTake run_;
};

class IndexSelect {
 public:
  explicit IndexSelect(const infini_index_select_args &call)
      : space_("index_select", call.out->dtype, places(call), {call.input->strides[call.dim]}) {}
  uint64_t workspace() const { return 0; }
  void execute(const infini_index_select_args &call, void *, infinirtStream_t stream) const {
    const infini_tensor &out = *call.out, &in = *call.input;
    space_.for_parts({&out, &in}, [&](auto moved, const Layout<3> &layout, int64_t width) {
      using T = typename decltype(moved)::type;
      launch(take_kernel<T>, thread_grid(layout.count), dim3(index_threads), 0, native(stream),
             static_cast<T *>(out.data), static_cast<const T *>(in.data), integers(call.index, 1), layout,
             in.strides[call.dim] / width, in.shape[call.dim]);
    });
  }

 private:
  static Space<3> places(const infini_index_select_args &call) {
    Space<3> space;
    for (int32_t d = 0; d < call.out->ndim; ++d)
      space.dims.push_back({call.out->shape[d],
                            {call.out->strides[d], d == call.dim ? 0 : call.input->strides[d],
                             d == call.dim ? call.index->strides[0] : 0}});
    return space.reorder();
  }
  IndexedSpace<3, 2> space_;
};

// ---- several sources into one output --------------------------------------------------------------------

class Cat {
 public:
  explicit Cat(const infini_cat_args &call) : run_(copy_of("cat", call.out->dtype)) {
    int64_t begin = 0;
    for (int64_t i = 0; i < call.tensors->count; ++i) {
      const infini_tensor &part = call.tensors->items[i];
      Space<2> space;
      for (int32_t d = 0; d < part.ndim; ++d)
        space.dims.push_back({part.shape[d], {call.out->strides[d], part.strides[d]}});
      parts_.push_back({space.reorder(), begin * call.out->strides[call.dim] * dtype_size(call.out->dtype)});
      begin += part.shape[call.dim];
    }
  }
  uint64_t workspace() const { return 0; }
  void execute(const infini_cat_args &call, void *, infinirtStream_t stream) const {
    for (size_t i = 0; i < parts_.size(); ++i)
      run_("cat", parts_[i].space, static_cast<char *>(call.out->data) + parts_[i].offset,
           call.tensors->items[i].data, native(stream));
  }

 private:
  struct Part {
    Space<2> space;
    int64_t offset;  // bytes
  };
  std::vector<Part> parts_;
  RunCopy run_;
};

// ---- KV caches ------------------------------------------------------------------------------------------

using CacheSpace = IndexedSpace<5, 4>;  // k_cache, v_cache, k, v

// New tokens of a dense cache.
template <class T> __global__ void __launch_bounds__(index_threads)
    dense_cache_kernel(T *k_cache, T *v_cache, const T *k, const T *v, IntegerReader past, Layout<5> layout,
                       int64_t room, int64_t k_stride, int64_t v_stride) {
  const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= layout.count) return;
  int64_t at[5];
  layout.locate(i, at);
  const T key = k[at[2]], value = v[at[3]];  // before the wait for the index
  const int64_t begin = past.at(at[4]);
  if (begin < 0 || begin > room) return;
  k_cache[at[0] + begin * k_stride] = key;
  v_cache[at[1] + begin * v_stride] = value;
}

class KvCaching {
 public:
  explicit KvCaching(const infini_kv_caching_args &call)
      : space_("kv_caching", call.k->dtype, places(call),
               {call.k_cache->strides[2], call.v_cache->strides[2]}) {}
  uint64_t workspace() const { return 0; }
  void execute(const infini_kv_caching_args &call, void *, infinirtStream_t stream) const {
    space_.for_parts({call.k_cache, call.v_cache, call.k, call.v}, [&](auto moved, const Layout<5> &layout,
                                                                       int64_t width) {
      using T = typename decltype(moved)::type;
      launch(dense_cache_kernel<T>, thread_grid(layout.count), dim3(index_threads), 0, native(stream),
             static_cast<T *>(call.k_cache->data), static_cast<T *>(call.v_cache->data),
             static_cast<const T *>(call.k->data), static_cast<const T *>(call.v->data),
             integers(call.past_kv_lengths, 1), layout, call.k_cache->shape[2] - call.k->shape[2],
             call.k_cache->strides[2] / width, call.v_cache->strides[2] / width);
    });
  }

 private:
  static Space<5> places(const infini_kv_caching_args &call) {
    Space<5> space;
    for (int d = 0; d < 4; ++d)
      space.dims.push_back({call.k->shape[d],
                            {call.k_cache->strides[d], call.v_cache->strides[d], call.k->strides[d],
                             call.v->strides[d], d == 0 ? call.past_kv_lengths->strides[0] : 0}});
    return space.reorder();
  }
  CacheSpace space_;
};

// New tokens of a paged cache: a slot is a page and a place in it; a negative one is skipped.
struct PageStrides {
  int64_t page, place;
};
template <class T> __global__ void __launch_bounds__(index_threads)
    paged_cache_kernel(T *k_cache, T *v_cache, const T *k, const T *v, IntegerReader slots, Layout<5> layout,
                       int64_t page_size, int64_t slot_count, PageStrides k_strides, PageStrides v_strides) {
  const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= layout.count) return;
  int64_t at[5];
  layout.locate(i, at);
  const T key = k[at[2]], value = v[at[3]];  // before the wait for the slot
  const int64_t slot = slots.at(at[4]);
  if (slot < 0 || slot >= slot_count) return;
  const int64_t page = slot / page_size, place = slot % page_size;
  k_cache[at[0] + page * k_strides.page + place * k_strides.place] = key;
  v_cache[at[1] + page * v_strides.page + place * v_strides.place] = value;
}

class PagedCaching {
 public:
  explicit PagedCaching(const infini_paged_caching_args &call)
      : space_("paged_caching", call.k->dtype, places(call),
               {call.k_cache->strides[0], call.k_cache->strides[2], call.v_cache->strides[0],
                call.v_cache->strides[2]}) {}
  uint64_t workspace() const { return 0; }
  void execute(const infini_paged_caching_args &call, void *, infinirtStream_t stream) const {
    const infini_tensor &k_cache = *call.k_cache, &v_cache = *call.v_cache;
    const int64_t page_size = k_cache.shape[2];
    space_.for_parts({&k_cache, &v_cache, call.k, call.v},
                     [&](auto moved, const Layout<5> &layout, int64_t w) {
                       using T = typename decltype(moved)::type;
                       launch(paged_cache_kernel<T>, thread_grid(layout.count), dim3(index_threads), 0,
                              native(stream), static_cast<T *>(k_cache.data), static_cast<T *>(v_cache.data),
                              static_cast<const T *>(call.k->data), static_cast<const T *>(call.v->data),
                              integers(call.slot_mapping, 1), layout, page_size, k_cache.shape[0] * page_size,
                              PageStrides{k_cache.strides[0] / w, k_cache.strides[2] / w},
                              PageStrides{v_cache.strides[0] / w, v_cache.strides[2] / w});
                     });
  }

 private:
  static Space<5> places(const infini_paged_caching_args &call) {
    Space<5> space;
    space.dims.push_back(
        {call.k->shape[0], {0, 0, call.k->strides[0], call.v->strides[0], call.slot_mapping->strides[0]}});
    for (int d = 1; d < 3; ++d)
      space.dims.push_back({call.k->shape[d],
                            {call.k_cache->strides[2 * d - 1], call.v_cache->strides[2 * d - 1],
                             call.k->strides[d], call.v->strides[d], 0}});
    return space.merge();
  }
  CacheSpace space_;
};

// ---- updates: a copy of the input, then one thread per line along the axis, so that equal indices never
// meet. Sums and products of narrow floats are formed in a copy of f32, and rounded once ------------------

template <class T, int reduction>  // 0: replace, 1: add, 2: multiply
using update_t = std::conditional_t<reduction != 0 && !std::is_integral_v<compute_t<T>>, compute_t<T>, T>;

// line by line: places in out, index and source, each without the axis.
template <class T, int reduction> static __global__ void __launch_bounds__(index_threads)
    update_kernel(update_t<T, reduction> *out, IntegerReader index, const T *source, Layout<3> lines,
                  int64_t out_stride, int64_t out_size, int64_t index_stride, int64_t source_stride,
                  int64_t count, double alpha) {
  using U = update_t<T, reduction>;
  using C = compute_t<T>;
  const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= lines.count) return;
  int64_t at[3];
  lines.locate(i, at);
  for (int64_t j = 0; j < count; ++j) {
    const int64_t chosen = index.at(at[1] + j * index_stride);
    if (chosen < 0 || chosen >= out_size) continue;
    U &target = out[at[0] + chosen * out_stride];
    const T value = source[at[2] + j * source_stride];
    if constexpr (reduction == 0)
      target = value;
    else if constexpr (reduction == 2)
      target = store<U>(C(load(target) * load(value)));
    else if constexpr (is_complex<T>)
      target = store<U>(load(target) + load(value) * C{typename C::part(alpha), 0});
    else if constexpr (std::is_integral_v<C>)
      target = C(load(target) + load(value) * C(int64_t(alpha)));
    else
      target = store<U>(load(target) + load(value) * C(alpha));
  }
}

class Updates {
 public:
  // Along dimension `dim` of out; of as many lines as `shape` has there. index has the strides `steps`.
  Updates(const char *op, int reduction, const infini_tensor &out, const infini_tensor &input, int32_t dim,
          const infini_tensor &shape, const std::vector<int64_t> &steps, const infini_tensor &source)
      : op_(op),
        count_(shape.shape[dim]),
        index_step_(steps[size_t(dim)]),
        source_step_(source.strides[dim]),
        extent_(out.shape[dim]) {
    const auto with = [&](auto which) {
      constexpr int chosen = decltype(which)::value;
      using Set = std::conditional_t<chosen == 0, Sizes, Modular>;
      return dispatch<Set>(op, out.dtype,
                           [](auto t) { return variant<typename decltype(t)::type, chosen>(); });
    };
    variant_ = reduction == 0   ? with(std::integral_constant<int, 0>())
               : reduction == 1 ? with(std::integral_constant<int, 1>())
                                : with(std::integral_constant<int, 2>());
    std::vector<int64_t> strides(out.strides, out.strides + out.ndim);
    if (variant_.width > 0) {
      workspace_ = uint64_t(variant_.width);
      for (int32_t d = out.ndim - 1; d >= 0; --d) {
        strides[size_t(d)] = int64_t(workspace_) / variant_.width;
        workspace_ *= uint64_t(out.shape[d]);
      }
    }
    for (int32_t d = 0; d < out.ndim; ++d) {
      const int64_t size = out.shape[d], stride = strides[size_t(d)];
      begin_.dims.push_back({size, {stride, input.strides[d]}});
      end_.dims.push_back({size, {out.strides[d], stride}});
      if (d != dim) lines_.dims.push_back({shape.shape[d], {stride, steps[size_t(d)], source.strides[d]}});
    }
    out_step_ = strides[size_t(dim)];
    begin_.reorder();
    end_.reorder();
    lines_.reorder();
  }
  uint64_t workspace() const { return workspace_; }

  void run(void *out, const void *input, const infini_tensor *index, const void *source, double alpha,
           void *workspace, Stream stream) const {
    void *target = workspace_ > 0 ? workspace : out;
    if (target != input) variant_.begin(op_, begin_, target, input, stream);
    variant_.update(*this, target, integers(index, 1), source, alpha, stream);
    if (workspace_ > 0) variant_.end(op_, end_, out, target, stream);
  }

 private:
  struct Variant {
    RunCopy begin, end;
    void (*update)(const Updates &, void *, IntegerReader, const void *, double, Stream);
    int64_t width;  // bytes of an element of the copy; 0: updates go straight to out
  };

  template <class T, int reduction> static Variant variant() {
    using U = update_t<T, reduction>;
    return {copy<U, T>, copy<T, U>,
            [](const Updates &plan, void *out, IntegerReader index, const void *source, double alpha,
               Stream stream) {
              for (const Layout<3> &lines : plan.lines_.parts(plan.op_))
                launch(update_kernel<T, reduction>, thread_grid(lines.count), dim3(index_threads), 0, stream,
                       static_cast<U *>(out), index, static_cast<const T *>(source), lines, plan.out_step_,
                       plan.extent_, plan.index_step_, plan.source_step_, plan.count_, alpha);
            },
            std::is_same_v<T, U> ? 0 : int64_t(sizeof(U))};
  }
  template <class O, class A>
  static void copy(const char *op, const Space<2> &space, void *out, const void *in, Stream stream) {
    run_unary<Identity, O, A>(op, space, Identity{}, out, in, stream);
  }

  const char *op_;
  int64_t count_, index_step_, source_step_, extent_, out_step_;
  uint64_t workspace_ = 0;
  Variant variant_;
  Space<2> begin_, end_;
  Space<3> lines_;
};

class IndexAdd {
 public:
  explicit IndexAdd(const infini_index_add_args &call)
      : updates_("index_add", 1, *call.out, *call.input, int32_t(call.dim), *call.source, steps(call),
                 *call.source) {}
  uint64_t workspace() const { return updates_.workspace(); }
  void execute(const infini_index_add_args &call, void *workspace, infinirtStream_t stream) const {
    updates_.run(call.out->data, call.input->data, call.index, call.source->data, call.alpha, workspace,
                 native(stream));
  }

 private:
  static std::vector<int64_t> steps(const infini_index_add_args &call) {
    std::vector<int64_t> found(size_t(call.out->ndim), 0);
    found[size_t(call.dim)] = call.index->strides[0];
    return found;
  }
  Updates updates_;
};

class Scatter {
 public:
  explicit Scatter(const infini_scatter_args &call)
      : updates_("scatter", int(call.reduction), *call.out, *call.input, int32_t(call.dim), *call.index,
                 {call.index->strides, call.index->strides + call.index->ndim}, *call.src) {}
  uint64_t workspace() const { return updates_.workspace(); }
  void execute(const infini_scatter_args &call, void *workspace, infinirtStream_t stream) const {
    updates_.run(call.out->data, call.input->data, call.index, call.src->data, 1.0, workspace,
                 native(stream));
  }

 private:
  Updates updates_;
};

// ---- masked_select: count per block, sum the counts, then each block knows where it writes --------------

constexpr int64_t selected_per_block = 4096;

template <class T> static __global__ void __launch_bounds__(index_threads)
    count_selected(const uint8_t *mask, Layout<2> layout, int64_t *counts, int64_t first_block) {
  const int64_t begin = blockIdx.x * selected_per_block;
  int64_t found = 0;
  for (int64_t i = begin + threadIdx.x; i < begin + selected_per_block && i < layout.count; i += blockDim.x) {
    int64_t at[2];
    layout.locate(uint32_t(i), at);
    found += mask[at[1]] != 0;
  }
  found = block_sum(found);
  if (threadIdx.x == 0) counts[first_block + blockIdx.x] = found;
}

// One warp turns counts into where each block begins.
static __global__ void __launch_bounds__(warp_width) begin_of_blocks(int64_t *counts, int64_t blocks) {
  int64_t before = 0;
  for (int64_t base = 0; base < blocks; base += warp_width) {
    const int64_t i = base + threadIdx.x;
    const int64_t mine = i < blocks ? counts[i] : 0;
    int64_t sum = mine;  // of this lane and those below
    for (unsigned delta = 1; delta < warp_width; delta *= 2) {
      const int64_t below = shuffle_up(sum, delta);
      if (threadIdx.x >= delta) sum += below;
    }
    if (i < blocks) counts[i] = before + sum - mine;
    before += shuffle(sum, warp_width - 1);
  }
}

// One warp per block, in order.
template <class T> __global__ void __launch_bounds__(warp_width)
    write_selected(T *out, int64_t room, int64_t out_stride, const T *in, const uint8_t *mask,
                   Layout<2> layout, const int64_t *begins, int64_t first_block) {
  const int64_t begin = blockIdx.x * selected_per_block;
  int64_t next = begins[first_block + blockIdx.x];
  for (int64_t base = begin; base < begin + selected_per_block && base < layout.count; base += warp_width) {
    const int64_t i = base + threadIdx.x;
    int64_t at[2] = {0, 0};
    if (i < layout.count) layout.locate(uint32_t(i), at);
    const bool chosen = i < layout.count && mask[at[1]] != 0;
    int32_t sum = chosen;
    for (unsigned delta = 1; delta < warp_width; delta *= 2) {
      const int32_t below = shuffle_up(sum, delta);
      if (threadIdx.x >= delta) sum += below;
    }
    const int64_t place = next + sum - 1;
    if (chosen && place < room) out[place * out_stride] = in[at[0]];
    next += shuffle(sum, warp_width - 1);
  }
}

class MaskedSelect {
 public:
  explicit MaskedSelect(const infini_masked_select_args &call)
      : space_(Space<2>({call.input, call.mask}).merge()),
        run_(dispatch<Sizes>("masked_select", call.out->dtype,
                             [](auto t) -> Run { return run<typename decltype(t)::type>; })) {
    for (const Layout<2> &layout : space_.parts("masked_select"))
      blocks_ += ceil_div(layout.count, selected_per_block);
  }
  uint64_t workspace() const { return uint64_t(blocks_) * sizeof(int64_t); }
  void execute(const infini_masked_select_args &call, void *workspace, infinirtStream_t stream) const {
    if (blocks_ > 0) run_(*this, call, static_cast<int64_t *>(workspace), native(stream));
  }

 private:
  using Run = void (*)(const MaskedSelect &, const infini_masked_select_args &, int64_t *, Stream);
  template <class T> static void run(const MaskedSelect &plan, const infini_masked_select_args &call,
                                     int64_t *counts, Stream stream) {
    auto mask = static_cast<const uint8_t *>(call.mask->data);
    int64_t first = 0;
    for (const Layout<2> &layout : plan.space_.parts("masked_select")) {
      launch(count_selected<T>, blocks(ceil_div(layout.count, selected_per_block)), dim3(index_threads), 0,
             stream, mask, layout, counts, first);
      first += ceil_div(layout.count, selected_per_block);
    }
    launch(begin_of_blocks, dim3(1), dim3(warp_width), 0, stream, counts, plan.blocks_);
    first = 0;
    for (const Layout<2> &layout : plan.space_.parts("masked_select")) {
      launch(write_selected<T>, blocks(ceil_div(layout.count, selected_per_block)), dim3(warp_width), 0,
             stream, static_cast<T *>(call.out->data), call.out->shape[0], call.out->strides[0],
             static_cast<const T *>(call.input->data), mask, layout, static_cast<const int64_t *>(counts),
             first);
      first += ceil_div(layout.count, selected_per_block);
    }
  }
  Space<2> space_;
  int64_t blocks_ = 0;
  Run run_;
};

INFINI_CUDALIKE_KERNEL(embedding, Embedding)
INFINI_CUDALIKE_KERNEL(gather, Gather)
INFINI_CUDALIKE_KERNEL(index_select, IndexSelect)
INFINI_CUDALIKE_KERNEL(index_add, IndexAdd)
INFINI_CUDALIKE_KERNEL(scatter, Scatter)
INFINI_CUDALIKE_KERNEL(cat, Cat)
INFINI_CUDALIKE_KERNEL(masked_select, MaskedSelect)
INFINI_CUDALIKE_KERNEL(kv_caching, KvCaching)
INFINI_CUDALIKE_KERNEL(paged_caching, PagedCaching)

}  // namespace infini::cudalike
