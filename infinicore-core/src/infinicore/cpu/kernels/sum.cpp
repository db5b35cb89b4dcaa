// sum.cpp -- sums over any set of dimensions.
// Floats are added in short runs of their compute type and the runs in f64; integers wrap around.
#include <infinicore/operators/sum.h>

#include "../loops.hpp"

#include <algorithm>
#include <vector>

namespace infini::cpu::INFINI_ISA {
namespace {

constexpr int64_t kRun = 4096;         // elements added before their sum goes to the wider type
constexpr int64_t kColumns = 512;      // adjacent outputs summed together
constexpr int64_t kColumnRun = 64;     // rows of them added before they go to the wider type
constexpr int64_t kSegment = 1 << 16;  // elements of one long sum that a thread takes at a time

// What a total is kept in.
template <class C> using total_t = std::conditional_t<std::is_floating_point_v<C>, double, C>;

// The layouts of input and output, split into what is kept and what is summed.
struct Layout {
  Space<2> kept;     // input, output
  Space<1> reduced;  // input
  bool columns;      // is the input contiguous along the innermost kept dimension, not the reduced one?

  Layout(const infini_tensor &output, const infini_tensor &input, const infini_int_list &dims, bool keepdim,
         bool pairs) {
    const int64_t scale = pairs ? 2 : 1;
    int to = 0;  // dimension of output
    for (int d = 0; d < input.ndim; ++d) {
      bool summed =
          dims.count == 0 || std::find(dims.items, dims.items + dims.count, d) != dims.items + dims.count;
      if (summed)
        reduced.append(input.shape[d], {input.strides[d] * scale});
      else
        kept.append(input.shape[d], {input.strides[d] * scale, output.strides[to] * scale});
      to += !summed || keepdim;
    }
    if (pairs) kept.append(2, {1, 1});
    kept.reorder();
    reduced.reorder();
    bool row = reduced.ndim > 0 && reduced.strides[0][reduced.ndim - 1] == 1;
    columns = kept.ndim > 0 && kept.strides[0][kept.ndim - 1] == 1 && !row && kept.shape[kept.ndim - 1] > 1;
  }
};

// Sum of n adjacent numbers, in as many lanes as two of the widest registers hold.
template <class C> total_t<C> sum_contiguous(const C *x, int64_t n) {
  typedef C Vector __attribute__((vector_size(64)));
  constexpr int64_t width = 64 / sizeof(C);
  total_t<C> total = 0;
  int64_t i = 0;
  while (n - i >= 2 * width) {
    Vector even{}, odd{};
    for (int64_t stop = std::min(n, i + kRun); i + 2 * width <= stop; i += 2 * width) {
      Vector a, b;
      std::memcpy(&a, x + i, sizeof(a));
      std::memcpy(&b, x + i + width, sizeof(b));
      even += a;
      odd += b;
    }
    for (int64_t lane = 0; lane < width; ++lane) total += total_t<C>(even[lane]) + total_t<C>(odd[lane]);
  }
  for (; i < n; ++i) total += x[i];
  return total;
}

// Sum of n numbers, `stride` apart.
template <class T> total_t<compute_t<T>> sum_row(const T *x, int64_t stride, int64_t n) {
  using C = compute_t<T>;
  if constexpr (std::is_same_v<T, C>)
    if (stride == 1) return sum_contiguous(x, n);
  alignas(64) C buffer[512];
  total_t<C> total = 0;
  for (int64_t at = 0; at < n; at += 512) {
    int64_t count = std::min<int64_t>(512, n - at);
    to_float(x + at * stride, stride, buffer, count);
    total += sum_contiguous(buffer, count);
  }
  return total;
}

template <class T, class Total> void finish(Total total, T &out) {
  if constexpr (std::is_same_v<compute_t<T>, T>)
    out = T(total);
  else
    from_float(round_to_odd(double(total)), out);
}

// Each output is the sum of a row (or several) of its own.
template <class T> void sum_rows(const Layout &layout, const T *in, T *out) {
  using Total = total_t<compute_t<T>>;
  Space<1> outer = layout.reduced;
  const Space<1>::Row row = outer.pop();
  const int64_t rows = outer.numel(), each = rows * row.extent, outputs = layout.kept.numel();
  // Elements begin .. end-1 of one sum.
  auto part = [&](const T *from, int64_t begin, int64_t end) {
    Total total = 0;
    if (begin >= end) return total;
    const int64_t first = begin / row.extent, last = (end - 1) / row.extent;
    int64_t item = first;
    outer.for_each(first, last + 1, [&](const int64_t(&at)[1]) {
      int64_t start = item == first ? begin - item * row.extent : 0;
      int64_t stop = item == last ? end - item * row.extent : row.extent;
      ++item;
      total += sum_row(from + at[0] + start * row.strides[0], row.strides[0], stop - start);
    });
    return total;
  };
  const int64_t segments = (each + kSegment - 1) / kSegment;
  if (segments > 1 && outputs < 64) {  // few long sums: share each among the threads
    std::vector<Total> totals(static_cast<size_t>(outputs * segments));
    std::vector<const T *> starts;
    layout.kept.for_each(0, outputs, [&](const int64_t(&at)[2]) { starts.push_back(in + at[0]); });
    parallel_for(0, outputs * segments, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        int64_t from = i % segments * kSegment;
        totals[size_t(i)] = part(starts[size_t(i / segments)], from, std::min(from + kSegment, each));
      }
    });
    const Total *next = totals.data();
    layout.kept.for_each(0, outputs, [&](const int64_t(&at)[2]) {
      Total total = 0;
      for (int64_t s = 0; s < segments; ++s) total += *next++;
      finish(total, out[at[1]]);
    });
    return;
  }
  parallel_for(0, outputs, std::max<int64_t>(kSegment / std::max<int64_t>(each, 1), 1),
               [&](int64_t begin, int64_t end) {
                 layout.kept.for_each(begin, end, [&](const int64_t(&at)[2]) {
                   finish(part(in + at[0], 0, each), out[at[1]]);
                 });
               });
}

// Add the rows begin .. end-1 of a panel of n columns to totals.
template <class T> void add_columns(const Space<1> &rows, int64_t begin, int64_t end, const T *in, int64_t n,
                                    total_t<compute_t<T>> *totals) {
  using C = compute_t<T>;
  alignas(64) C sums[kColumns], wide[kColumns];
  for (int64_t start = begin; start < end; start += kColumnRun) {
    std::fill(sums, sums + n, C(0));
    rows.for_each(start, std::min(start + kColumnRun, end), [&](const int64_t(&at)[1]) {
      if constexpr (std::is_same_v<T, C>) {
        const T *row = in + at[0];
        for (int64_t i = 0; i < n; ++i) sums[i] += row[i];
      } else {
        to_float(in + at[0], wide, n);
        for (int64_t i = 0; i < n; ++i) sums[i] += wide[i];
      }
    });
    for (int64_t i = 0; i < n; ++i) totals[i] += sums[i];
  }
}

// The input is contiguous across outputs: sum whole panels of them row by row.
template <class T> void sum_columns(const Layout &layout, const T *in, T *out) {
  using Total = total_t<compute_t<T>>;
  Space<2> outer = layout.kept;
  const Space<2>::Row row = outer.pop();
  const int64_t groups = outer.numel(), rows = layout.reduced.numel();
  const int64_t panels = (row.extent + kColumns - 1) / kColumns;
  // Where the panels are too few to go round, each is cut into segments of its rows as well.
  const int64_t tall = std::max<int64_t>(4 * kSegment / std::min(row.extent, kColumns), kColumnRun);
  const int64_t segments = groups * panels < 64 ? std::max<int64_t>((rows + tall - 1) / tall, 1) : 1;
  const int64_t height = segments > 1 ? tall : rows;
  std::vector<Total> partial(segments > 1 ? static_cast<size_t>(groups * panels * segments * kColumns) : 0);
  auto store_panel = [&](int64_t offset, int64_t panel, const Total *totals) {
    int64_t n = std::min(kColumns, row.extent - panel * kColumns);
    for (int64_t i = 0; i < n; ++i) finish(totals[i], out[offset + (panel * kColumns + i) * row.strides[1]]);
  };
  const int64_t work = std::max<int64_t>(height * std::min(row.extent, kColumns), 1);
  parallel_for(0, groups * panels * segments, std::max<int64_t>(kSegment / work, 1),
               [&](int64_t begin, int64_t end) {
                 alignas(64) Total local[kColumns];
                 for (int64_t task = begin; task < end; ++task) {
                   int64_t segment = task % segments, panel = task / segments % panels,
                           group = task / segments / panels;
                   outer.for_each(group, group + 1, [&](const int64_t(&at)[2]) {
                     int64_t n = std::min(kColumns, row.extent - panel * kColumns);
                     Total *totals = segments > 1 ? &partial[size_t(task * kColumns)] : local;
                     std::fill(totals, totals + n, Total(0));
                     add_columns(layout.reduced, segment * height, std::min((segment + 1) * height, rows),
                                 in + at[0] + panel * kColumns, n, totals);
                     if (segments == 1) store_panel(at[1], panel, totals);
                   });
                 }
               });
  if (segments == 1) return;
  int64_t group = 0;
  outer.for_each(0, groups, [&](const int64_t(&at)[2]) {
    for (int64_t panel = 0; panel < panels; ++panel) {
      Total *totals = &partial[size_t((group * panels + panel) * segments * kColumns)];
      for (int64_t s = 1; s < segments; ++s)
        for (int64_t i = 0; i < kColumns; ++i) totals[i] += totals[s * kColumns + i];
      store_panel(at[1], panel, totals);
    }
    ++group;
  });
}

class Sum {
  int64_t part_;
  Layout layout_;
  void (*run_)(const Layout &, const void *, void *);

 public:
  explicit Sum(const infini_sum_args &call)
      : part_(part_dtype(call.input->dtype)),
        layout_(*call.output, *call.input, *call.dim, call.keepdim != 0, part_ != 0) {
    using Run = void (*)(const Layout &, const void *, void *);
    run_ = dispatch_modular("sum", part_ ? part_ : call.input->dtype, [](auto t) -> Run {
      using T = typename decltype(t)::type;
      return [](const Layout &layout, const void *in, void *out) {
        auto run = layout.columns ? sum_columns<T> : sum_rows<T>;
        run(layout, static_cast<const T *>(in), static_cast<T *>(out));
      };
    });
  }
  uint64_t workspace() const { return 0; }
  void execute(const infini_sum_args &call, void *, infinirtStream_t) const {
    if (layout_.kept.numel() > 0) run_(layout_, call.input->data, call.output->data);
  }
};

}  // namespace

INFINI_CPU_KERNEL(sum, Sum)

}  // namespace infini::cpu::INFINI_ISA
