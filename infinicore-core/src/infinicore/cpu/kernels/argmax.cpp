// argmax.cpp -- the index of the first maximum along one dimension; a NaN is the maximum.
// Values become integers of the same order, in which NaN is the largest, since integer maxima vectorise.
#include <infinicore/operators/argmax.h>

#include "../loops.hpp"

#include <algorithm>
#include <limits>
#include <vector>

namespace infini::cpu::INFINI_ISA {
namespace {

constexpr int64_t kBlock = 1024;
constexpr int64_t kSegment = 1 << 15;
constexpr int64_t kColumns = 256;

// 32 bits order every type but these.
template <class T>
constexpr bool kNeeds64 = std::is_same_v<T, double> ||
                          (std::is_integral_v<T> && sizeof(T) == 8) || std::is_same_v<T, uint32_t>;
template <class T> using order_t = std::conditional_t<kNeeds64<T>, int64_t, int32_t>;

template <class T> order_t<T> key(T x) {
  using Key = order_t<T>;
  if constexpr (std::is_same_v<T, uint64_t>) {
    return Key(x ^ (uint64_t(1) << 63));
  } else if constexpr (std::is_integral_v<T>) {
    return Key(x);
  } else {
    auto value = to_float(x);
    Key bits = bit_cast<Key>(value + 0);  // -0 becomes 0, its equal
    Key ordered = bits ^ ((bits >> (8 * sizeof(Key) - 1)) & std::numeric_limits<Key>::max());
    return value != value ? std::numeric_limits<Key>::max() : ordered;
  }
}

template <class T> void keys(const T *x, int64_t stride, order_t<T> *out, int64_t n) {
  if constexpr (kConvertsInBlocks<T>) {
    alignas(64) float wide[kBlock];
    to_float(x, stride, wide, n);
    for (int64_t i = 0; i < n; ++i) out[i] = key(wide[i]);
  } else if (stride == 1) {
    for (int64_t i = 0; i < n; ++i) out[i] = key(x[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) out[i] = key(x[i * stride]);
  }
}

template <class T> struct Best {
  order_t<T> key;
  int64_t index;
};

// First maximum among elements begin .. end-1 (at least one) of a row.
template <class T> Best<T> best_of(const T *x, int64_t stride, int64_t begin, int64_t end) {
  alignas(64) order_t<T> block[kBlock];
  Best<T> best{std::numeric_limits<order_t<T>>::min(), begin};
  bool none = true;
  for (int64_t at = begin, n; at < end; at += n) {
    n = std::min(kBlock, end - at);
    keys(x + at * stride, stride, block, n);
    order_t<T> most = block[0];
    for (int64_t i = 1; i < n; ++i) most = block[i] > most ? block[i] : most;
    if (none || most > best.key) best = {most, at + (std::find(block, block + n, most) - block)};
    none = false;
  }
  return best;
}

struct Layout {
  Space<2> kept;           // input, output
  int64_t extent, stride;  // of the dimension searched
  bool columns;

  Layout(const infini_tensor &output, const infini_tensor &input, int64_t dim, bool keepdim) {
    int to = 0;
    for (int d = 0; d < input.ndim; ++d) {
      if (d != dim) kept.append(input.shape[d], {input.strides[d], output.strides[to]});
      to += d != dim || keepdim;
    }
    kept.reorder();
    extent = input.ndim > 0 ? input.shape[dim] : 1;
    stride = input.ndim > 0 ? input.strides[dim] : 1;
    columns = stride != 1 && kept.ndim > 0 && kept.strides[0][kept.ndim - 1] == 1;
  }
};

template <class T> void search_rows(const Layout &layout, const T *in, int64_t *out) {
  const int64_t outputs = layout.kept.numel(), segments = (layout.extent + kSegment - 1) / kSegment;
  if (segments > 1 && outputs < 64) {  // few long rows: share each among the threads
    std::vector<Best<T>> best(static_cast<size_t>(segments));
    layout.kept.for_each(0, outputs, [&](const int64_t(&at)[2]) {
      parallel_for(0, segments, 1, [&](int64_t begin, int64_t end) {
        for (int64_t s = begin; s < end; ++s)
          best[size_t(s)] =
              best_of(in + at[0], layout.stride, s * kSegment, std::min((s + 1) * kSegment, layout.extent));
      });
      const Best<T> *first = &best[0];
      for (const Best<T> &other : best)
        if (other.key > first->key) first = &other;
      out[at[1]] = first->index;
    });
    return;
  }
  parallel_for(0, outputs, std::max<int64_t>(kSegment / layout.extent, 1), [&](int64_t begin, int64_t end) {
    layout.kept.for_each(begin, end, [&](const int64_t(&at)[2]) {
      out[at[1]] = best_of(in + at[0], layout.stride, 0, layout.extent).index;
    });
  });
}

// The input is contiguous across outputs: compare whole panels of them row by row.
template <class T> void search_columns(const Layout &layout, const T *in, int64_t *out) {
  using Key = order_t<T>;
  Space<2> outer = layout.kept;
  const Space<2>::Row row = outer.pop();
  const int64_t panels = (row.extent + kColumns - 1) / kColumns;
  const int64_t work = layout.extent * std::min(row.extent, kColumns);
  parallel_for(
      0, outer.numel() * panels, std::max<int64_t>(kSegment / work, 1), [&](int64_t begin, int64_t end) {
        alignas(64) Key best[kColumns], next[kColumns], index[kColumns];
        for (int64_t task = begin; task < end; ++task) {
          outer.for_each(task / panels, task / panels + 1, [&](const int64_t(&at)[2]) {
            const int64_t start = task % panels * kColumns, n = std::min(kColumns, row.extent - start);
            const T *from = in + at[0] + start;
            keys(from, 1, best, n);
            std::fill(index, index + n, Key(0));  // as wide as the keys, so that both are selected alike
            for (int64_t r = 1; r < layout.extent; ++r) {
              keys(from + r * layout.stride, 1, next, n);
              for (int64_t i = 0; i < n; ++i) {
                bool more = next[i] > best[i];
                best[i] = more ? next[i] : best[i];
                index[i] = more ? Key(r) : index[i];
              }
            }
            for (int64_t i = 0; i < n; ++i) out[at[1] + (start + i) * row.strides[1]] = index[i];
          });
        }
      });
}

class Argmax {
  using Run = void (*)(const Layout &, const void *, int64_t *);
  Layout layout_;
  Run run_;

 public:
  explicit Argmax(const infini_argmax_args &call)
      : layout_(*call.output, *call.input, call.dim, call.keepdim != 0) {
    auto run = [](auto t) -> Run {
      using T = typename decltype(t)::type;
      return [](const Layout &layout, const void *in, int64_t *out) {
        // A column's index must fit its key.
        bool columns = layout.columns && layout.extent <= std::numeric_limits<int32_t>::max();
        (columns ? search_columns<T> : search_rows<T>)(layout, static_cast<const T *>(in), out);
      };
    };
    int64_t dtype = call.input->dtype;
    run_ = dtype == INFINI_DTYPE_BOOL ? run(tag<uint8_t>{}) : dispatch_reals("argmax", dtype, run);
  }
  uint64_t workspace() const { return 0; }
  void execute(const infini_argmax_args &call, void *, infinirtStream_t) const {
    if (layout_.kept.numel() > 0) run_(layout_, call.input->data, static_cast<int64_t *>(call.output->data));
  }
};

}  // namespace

INFINI_CPU_KERNEL(argmax, Argmax)

}  // namespace infini::cpu::INFINI_ISA
