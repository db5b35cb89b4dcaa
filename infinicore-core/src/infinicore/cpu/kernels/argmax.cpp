// argmax.cpp -- argmax, argmin, max and min: the first extremum along one dimension; a NaN is one of both.
// Of a row, or a few narrow columns, the extremum is folded first, by blocks, and then looked for where it
// first appeared. Of many columns values become integers whose largest is the extremum, so that they and
// their indices are selected alike.
#include <infinicore/operators/argmax.h>
#include <infinicore/operators/argmin.h>
#include <infinicore/operators/max.h>
#include <infinicore/operators/min.h>

#include "../extrema.hpp"

#include <algorithm>
#include <limits>
#include <vector>

namespace infini::cpu::INFINI_ISA {
namespace {

constexpr int64_t kPanel = 256;      // columns searched together
constexpr int64_t kSearched = 1024;  // elements of a row that are folded, then searched where they matter
constexpr int64_t kPiece = 1 << 15;  // elements of one long row that a thread searches at a time

// 32 bits order every type but these.
template <class T>
constexpr bool kNeeds64 = std::is_same_v<T, double> ||
                          (std::is_integral_v<T> && sizeof(T) == 8) || std::is_same_v<T, uint32_t>;
template <class T> using order_t = std::conditional_t<kNeeds64<T>, int64_t, int32_t>;

// A type of elements, and which of them are sought.
template <class T_, bool kLargest_> struct Sought {
  using T = T_;
  using Key = order_t<T>;
  static constexpr bool kLargest = kLargest_;
};

// The complement reverses the order of integers.
template <class S> typename S::Key key(typename S::T x) {
  using T = typename S::T;
  using Key = typename S::Key;
  if constexpr (std::is_same_v<T, uint64_t>) {
    Key ordered = Key(x ^ (uint64_t(1) << 63));
    return S::kLargest ? ordered : ~ordered;
  } else if constexpr (std::is_integral_v<T>) {
    return S::kLargest ? Key(x) : ~Key(x);
  } else {
    auto value = to_float(x);
    Key bits = bit_cast<Key>(value + 0);  // -0 becomes 0, its equal
    Key ordered = bits ^ ((bits >> (8 * sizeof(Key) - 1)) & std::numeric_limits<Key>::max());
    return value != value ? std::numeric_limits<Key>::max() : S::kLargest ? ordered : ~ordered;
  }
}

template <class S> void keys(const typename S::T *x, int64_t stride, typename S::Key *out, int64_t n) {
  if constexpr (kConvertsInBlocks<typename S::T>) {
    alignas(64) float wide[kPanel];
    to_float(x, stride, wide, n);
    for (int64_t i = 0; i < n; ++i) out[i] = key<Sought<float, S::kLargest>>(wide[i]);
  } else if (stride == 1) {
    for (int64_t i = 0; i < n; ++i) out[i] = key<S>(x[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) out[i] = key<S>(x[i * stride]);
  }
}

template <class S> struct Best {
  compute_t<typename S::T> value;
  int64_t index;

  bool beaten_by(compute_t<typename S::T> other) const {
    return (S::kLargest ? other > value : other < value) || (other != other && value == value);
  }
  bool is(compute_t<typename S::T> other) const {
    return other == value || (other != other && value != value);
  }
};

// Where the first of n <= kSearched numbers lies that equals value, or is a NaN as it is; there is one. All
// are looked at, the last first, each lane keeping the last hit it met: leaving early would take longer.
template <class C> int64_t find(const C *x, int64_t n, C value) {
  typedef C Vector __attribute__((vector_size(vector_bytes)));
  using Number = std::conditional_t<
      sizeof(C) == 8, int64_t,
      std::conditional_t<sizeof(C) == 4, int32_t, std::conditional_t<sizeof(C) == 2, int16_t, int8_t>>>;
  // Numbers of vectors: there are few, whatever C is.
  typedef Number Numbers __attribute__((vector_size(vector_bytes)));
  constexpr int64_t width = lanes<C>;
  int64_t at = 0;
  if (value == value) {
    const Vector wanted = value - Vector{};
    const int64_t vectors = n / width;
    Numbers first = Numbers{} + Number(vectors), number = first;
    for (int64_t i = vectors - 1; i >= 0; --i) {
      Vector in;
      std::memcpy(&in, x + i * width, sizeof(in));
      number -= Number(1);
      first = in == wanted ? number : first;
    }
    at = vectors * width;
    for (int64_t k = 0; k < width; ++k) at = std::min(at, first[k] * width + k);
  }
  while (!(x[at] == value || (value != value && x[at] != x[at]))) ++at;
  return at;
}

// First extremum of elements begin .. end-1 (at least one) of a row; nothing beats `last`.
template <class S> Best<S> best_of(const typename S::T *x, int64_t stride, int64_t begin, int64_t end,
                                   compute_t<typename S::T> last) {
  using T = typename S::T;
  using C = compute_t<T>;
  constexpr int64_t size = kSearched, first = 16;
  alignas(64) C buffer[size];
  const ExtremumFold<C, S::kLargest> fold;
  Best<S> best{load(x[begin * stride]), begin};
  if constexpr (sizeof(T) == 1)  // booleans most of all: it may well be among the first
    for (int64_t i = begin; i < std::min(begin + first, end); ++i)
      if (load(x[i * stride]) == last) return {last, i};
  for (int64_t at = begin, n; at < end && best.value != last && !fold.settled(best.value); at += n) {
    n = std::min(size, end - at);
    const C *block = buffer;
    if constexpr (std::is_same_v<T, C>) {
      if (stride == 1) block = x + at;
    }
    if (block == buffer) to_float(x + at * stride, stride, buffer, n);
    const C most = fold.row(block, 1, n);
    if (best.beaten_by(most)) best = {most, at + find(block, n, most)};
  }
  return best;
}

// Where the first of n booleans lies that is `wanted`; 0 if none is.
inline int64_t find_boolean(const uint8_t *x, int64_t n, bool wanted) {
  const uint64_t others = wanted ? 0 : 0x0101010101010101;
  int64_t i = 0;
  for (uint64_t word; i + 8 <= n; i += 8) {
    std::memcpy(&word, x + i, sizeof(word));
    if (word != others) return i + __builtin_ctzll(word ^ others) / 8;  // little-endian: the first is lowest
  }
  for (; i < n; ++i)
    if (x[i] == wanted) return i;
  return 0;
}

struct Layout {
  Space<3> kept;           // input, indices, values
  int64_t extent, stride;  // of the dimension searched
  bool boolean;
  bool columns;  // are neighbours among the outputs searched together, not one after the other?
  bool narrow;   // are they few, and is every row of them adjacent to the next?
  bool words;    // are there short rows of adjacent booleans?

  // values may be absent.
  Layout(const infini_tensor &indices, const infini_tensor *values, const infini_tensor &input, int64_t dim,
         bool keepdim)
      : boolean(input.dtype == INFINI_DTYPE_BOOL) {
    int to = 0;
    for (int d = 0; d < input.ndim; ++d) {
      if (d != dim)
        kept.append(input.shape[d],
                    {input.strides[d], indices.strides[to], values ? values->strides[to] : 0});
      to += d != dim || keepdim;
    }
    kept.reorder();
    extent = input.ndim > 0 ? input.shape[dim] : 1;
    stride = input.ndim > 0 ? input.strides[dim] : 1;
    columns = stride != 1 && kept.ndim > 0 && kept.strides[0][kept.ndim - 1] == 1 &&
              kept.shape[kept.ndim - 1] >= kNarrow;
    columns |= extent <= kShort && kept.ndim > 0 && kept.shape[kept.ndim - 1] >= kNarrow;
    const int64_t neighbours = kept.ndim > 0 ? kept.shape[kept.ndim - 1] : 0;
    narrow = !boolean && neighbours > 1 && neighbours < kNarrow && kept.strides[0][kept.ndim - 1] == 1 &&
             stride == neighbours && extent * neighbours >= 2 * kAbreast;
    words = boolean && stride == 1 && extent <= kShort;
  }
};

// Where results go; values may be null.
template <class T> struct Results {
  int64_t *indices;
  T *values;

  // row: the elements that were searched.
  void put(const int64_t (&at)[3], const T *row, int64_t stride, int64_t index) const {
    indices[at[1]] = index;
    if (values) values[at[2]] = row[index * stride];
  }
};

template <class S>
void search_rows(const Layout &layout, const typename S::T *in, Results<typename S::T> out) {
  using Limits = std::numeric_limits<compute_t<typename S::T>>;
  compute_t<typename S::T> last = S::kLargest ? Limits::max() : Limits::lowest();
  if constexpr (std::is_floating_point_v<decltype(last)>) last = Limits::quiet_NaN();  // even infinity is
  if constexpr (std::is_same_v<typename S::T, uint8_t>)
    if (layout.boolean) last = S::kLargest;
  const int64_t outputs = layout.kept.numel(), segments = (layout.extent + kPiece - 1) / kPiece;
  if (segments > 1 && outputs < 64) {  // few long rows: share each among the threads
    std::vector<Best<S>> best(static_cast<size_t>(segments));
    layout.kept.for_each(0, outputs, [&](const int64_t(&at)[3]) {
      parallel_for(0, segments, 1, [&](int64_t begin, int64_t end) {
        for (int64_t s = begin; s < end; ++s)
          best[size_t(s)] = best_of<S>(in + at[0], layout.stride, s * kPiece,
                                       std::min((s + 1) * kPiece, layout.extent), last);
      });
      const Best<S> *first = &best[0];
      for (const Best<S> &other : best)
        if (first->beaten_by(other.value)) first = &other;
      out.put(at, in + at[0], layout.stride, first->index);
    });
    return;
  }
  parallel_for(0, outputs, std::max<int64_t>(kPiece / layout.extent, 1), [&](int64_t begin, int64_t end) {
    layout.kept.for_each(begin, end, [&](const int64_t(&at)[3]) {
      out.put(at, in + at[0], layout.stride,
              best_of<S>(in + at[0], layout.stride, 0, layout.extent, last).index);
    });
  });
}

// Compare whole panels of neighbouring outputs row by row.
template <class S>
void search_columns(const Layout &layout, const typename S::T *in, Results<typename S::T> out) {
  using Key = typename S::Key;
  Space<3> outer = layout.kept;
  const Space<3>::Row row = outer.pop();
  const int64_t panels = (row.extent + kPanel - 1) / kPanel;
  const int64_t work = layout.extent * std::min(row.extent, kPanel);
  parallel_for(
      0, outer.numel() * panels, std::max<int64_t>(kPiece / work, 1), [&](int64_t begin, int64_t end) {
        alignas(64) Key best[kPanel], next[kPanel], index[kPanel];
        for (int64_t task = begin; task < end; ++task) {
          outer.for_each(task / panels, task / panels + 1, [&](const int64_t(&at)[3]) {
            const int64_t start = task % panels * kPanel, n = std::min(kPanel, row.extent - start);
            const typename S::T *from = in + at[0] + start * row.strides[0];
            keys<S>(from, row.strides[0], best, n);
            std::fill(index, index + n, Key(0));  // as wide as the keys, so that both are selected alike
            for (int64_t r = 1; r < layout.extent; ++r) {
              keys<S>(from + r * layout.stride, row.strides[0], next, n);
              for (int64_t i = 0; i < n; ++i) {
                bool more = next[i] > best[i];
                best[i] = more ? next[i] : best[i];
                index[i] = more ? Key(r) : index[i];
              }
            }
            for (int64_t i = 0; i < n; ++i) {
              const int64_t to[3] = {0, at[1] + (start + i) * row.strides[1],
                                     at[2] + (start + i) * row.strides[2]};
              out.put(to, from + i * row.strides[0], layout.stride, index[i]);
            }
          });
        }
      });
}

// Fold adjacent rows of a few outputs, as many as fill a panel like one, and find what the totals say.
template <class S>
void search_narrow(const Layout &layout, const typename S::T *in, Results<typename S::T> out) {
  using T = typename S::T;
  using C = compute_t<T>;
  const ExtremumFold<T, S::kLargest> fold;
  Space<3> outer = layout.kept;
  const Space<3>::Row row = outer.pop();
  const int64_t width = row.extent, abreast = kAbreast / width, panel = abreast * width;
  const int64_t tall = kColumnRun * abreast;  // rows of one segment
  const int64_t groups = outer.numel(), segments = (layout.extent + tall - 1) / tall;
  std::vector<C> found(static_cast<size_t>(groups * segments * width), fold.none());
  const int64_t work = std::min(layout.extent, tall) * width;
  parallel_for(0, groups * segments, std::max<int64_t>(kPiece / work, 1), [&](int64_t begin, int64_t end) {
    alignas(64) C totals[kAbreast];
    bool settled = false;  // by the segment before?
    for (int64_t task = begin; task < end; ++task) {
      if (settled && task % segments > 0) continue;
      outer.for_each(task / segments, task / segments + 1, [&](const int64_t(&at)[3]) {
        const int64_t from = task % segments * tall, count = std::min(tall, layout.extent - from);
        const T *x = in + at[0] + from * width;
        Space<1> panels, rest;
        panels.append(count / abreast, {panel});
        rest.append(1, {panel});
        std::fill(totals, totals + kAbreast, fold.none());
        fold.columns(panels, 0, count / abreast, x, 1, panel, totals);
        if (const int64_t left = count % abreast * width)
          fold.columns(rest, 0, 1, x + count / abreast * panel, 1, left, totals);
        C *mine = &found[size_t(task * width)];
        for (int64_t i = 0; i < panel; i += width) join_all(fold, mine, totals + i, width);
        settled = std::all_of(mine, mine + width, [&](C total) { return fold.settled(total); });
      });
    }
  });
  const C *first = found.data();
  outer.for_each(0, groups, [&](const int64_t(&at)[3]) {
    for (int64_t i = 0; i < width; ++i) {
      Best<S> best{first[i], 0};
      for (int64_t s = 1; s < segments; ++s)
        if (best.beaten_by(first[s * width + i])) best = {first[s * width + i], s * tall};
      const T *x = in + at[0] + i;
      while (!best.is(load(x[best.index * width]))) ++best.index;
      out.put({0, at[1] + i * row.strides[1], at[2] + i * row.strides[2]}, x, width, best.index);
    }
    first += segments * width;
  });
}

// Booleans, eight at a time.
template <class S> void search_words(const Layout &layout, const uint8_t *in, Results<uint8_t> out) {
  parallel_for(0, layout.kept.numel(), kPiece / kShort, [&](int64_t begin, int64_t end) {
    layout.kept.for_each(begin, end, [&](const int64_t(&at)[3]) {
      out.put(at, in + at[0], 1, find_boolean(in + at[0], layout.extent, S::kLargest));
    });
  });
}

template <bool kLargest> class Search {
  using Run = void (*)(const Layout &, const void *, int64_t *, void *);
  Layout layout_;
  Run run_;

 public:
  Search(const char *op, const infini_tensor &indices, const infini_tensor *values,
         const infini_tensor &input, int64_t dim, bool keepdim)
      : layout_(indices, values, input, dim, keepdim) {
    auto run = [](auto t) -> Run {
      using T = typename decltype(t)::type;
      using S = Sought<T, kLargest>;
      return [](const Layout &layout, const void *in, int64_t *indices, void *values) {
        // A column's index must fit its key.
        const bool columns = layout.columns && layout.extent <= std::numeric_limits<int32_t>::max();
        auto search = columns ? search_columns<S> : layout.narrow ? search_narrow<S> : search_rows<S>;
        if constexpr (std::is_same_v<T, uint8_t>)
          if (layout.words) search = search_words<S>;
        search(layout, static_cast<const T *>(in), {indices, static_cast<T *>(values)});
      };
    };
    int64_t dtype = input.dtype;
    run_ = dtype == INFINI_DTYPE_BOOL ? run(tag<uint8_t>{}) : dispatch_reals(op, dtype, run);
  }
  uint64_t workspace() const { return 0; }
  void search(const infini_tensor &input, const infini_tensor &indices, void *values) const {
    if (layout_.kept.numel() > 0) run_(layout_, input.data, static_cast<int64_t *>(indices.data), values);
  }
};

struct Argmax : Search<true> {
  explicit Argmax(const infini_argmax_args &call)
      : Search("argmax", *call.output, nullptr, *call.input, call.dim, call.keepdim != 0) {}
  void execute(const infini_argmax_args &call, void *, infinirtStream_t) const {
    search(*call.input, *call.output, nullptr);
  }
};

struct Argmin : Search<false> {
  explicit Argmin(const infini_argmin_args &call)
      : Search("argmin", *call.output, nullptr, *call.input, call.dim, call.keepdim != 0) {}
  void execute(const infini_argmin_args &call, void *, infinirtStream_t) const {
    search(*call.input, *call.output, nullptr);
  }
};

struct Max : Search<true> {
  explicit Max(const infini_max_args &call)
      : Search("max", *call.indices, call.values, *call.input, call.dim, call.keepdim != 0) {}
  void execute(const infini_max_args &call, void *, infinirtStream_t) const {
    search(*call.input, *call.indices, call.values->data);
  }
};

struct Min : Search<false> {
  explicit Min(const infini_min_args &call)
      : Search("min", *call.indices, call.values, *call.input, call.dim, call.keepdim != 0) {}
  void execute(const infini_min_args &call, void *, infinirtStream_t) const {
    search(*call.input, *call.indices, call.values->data);
  }
};

}  // namespace

INFINI_CPU_KERNEL(argmax, Argmax)
INFINI_CPU_KERNEL(argmin, Argmin)
INFINI_CPU_KERNEL(max, Max)
INFINI_CPU_KERNEL(min, Min)

}  // namespace infini::cpu::INFINI_ISA
