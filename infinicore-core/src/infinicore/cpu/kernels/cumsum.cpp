// cumsum.cpp -- running sums along one dimension.
// The running total of floats is an f64; four elements advance it by one addition, so it is no bottleneck.
#include <infinicore/operators/cumsum.h>

#include "../loops.hpp"

#include <algorithm>
#include <vector>

namespace infini::cpu::INFINI_ISA {
namespace {

constexpr int64_t kBlock = 512;        // elements converted at a time
constexpr int64_t kColumns = 512;      // adjacent lines summed together
constexpr int64_t kNarrow = 8;         // lines so few that they are better summed apart
constexpr int64_t kShort = 16;         // elements of lines so short that they are better widened together
constexpr int64_t kAbreast = 4;        // lines whose totals fit into registers together
constexpr int64_t kSegment = 1 << 16;  // elements of one long line that a thread takes at a time

template <class C> using total_t = std::conditional_t<std::is_floating_point_v<C>, double, C>;

struct Layout {
  Space<2> lines;  // input, output: all dimensions but that of the sums
  int64_t extent, in_stride, out_stride;
  bool columns;
  int64_t abreast;  // adjacent lines, too few to be columns, whose elements alternate; 1: none

  explicit Layout(const infini_cumsum_args &call) {
    const infini_tensor &input = *call.input, &output = *call.output;
    const bool pairs = part_dtype(input.dtype) != 0;
    const int64_t scale = pairs ? 2 : 1;
    for (int d = 0; d < input.ndim; ++d)
      if (d != call.dim) lines.append(input.shape[d], {input.strides[d] * scale, output.strides[d] * scale});
    if (pairs) lines.append(2, {1, 1});
    lines.reorder();
    extent = input.shape[call.dim];
    in_stride = input.strides[call.dim] * scale;
    out_stride = output.strides[call.dim] * scale;
    const int last = lines.ndim - 1;
    const bool beside = last >= 0 && in_stride != 1 && lines.strides[0][last] == 1;
    const int64_t dtype = pairs ? part_dtype(input.dtype) : input.dtype;
    const bool widened = dtype == INFINI_DTYPE_F16 || dtype == INFINI_DTYPE_BF16 || dtype == INFINI_DTYPE_F8;
    columns = last >= 0 && lines.shape[last] >= kNarrow && (beside || (widened && extent <= kShort));
    abreast = 1;
    if (last >= 0 && lines.strides[0][last] == 1 && lines.strides[1][last] == 1 &&
        lines.shape[last] == in_stride && in_stride == out_stride && in_stride <= kAbreast)
      abreast = lines.pop().extent;
  }
};

// Sums of n adjacent numbers; out may be x.
template <class C> total_t<C> scan(const C *x, C *out, int64_t n, total_t<C> total) {
  using Total = total_t<C>;
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    const Total a = x[i], b = x[i + 1], c = x[i + 2], d = x[i + 3];
    const Total ab = Total(a + b), abc = Total(ab + c), abcd = Total(ab + Total(c + d));
    out[i] = C(total + a);
    out[i + 1] = C(total + ab);
    out[i + 2] = C(total + abc);
    total = Total(total + abcd);
    out[i + 3] = C(total);
  }
  for (; i < n; ++i) out[i] = C(total = Total(total + x[i]));
  return total;
}

template <class T> total_t<compute_t<T>> scan(const T *x, int64_t x_stride, T *out, int64_t out_stride,
                                              int64_t n, total_t<compute_t<T>> total) {
  using C = compute_t<T>;
  if constexpr (std::is_same_v<T, C>)
    if (x_stride == 1 && out_stride == 1) return scan<C>(x, out, n, total);
  alignas(64) C block[kBlock];
  for (int64_t at = 0; at < n; at += kBlock) {
    const int64_t some = std::min(kBlock, n - at);
    to_float(x + at * x_stride, x_stride, block, some);
    total = scan<C>(block, block, some, total);
    from_float(block, out + at * out_stride, out_stride, some);
  }
  return total;
}

// What a line adds up to.
template <class T> total_t<compute_t<T>> add_up(const T *x, int64_t stride, int64_t n) {
  using C = compute_t<T>;
  alignas(64) C block[kBlock];
  total_t<C> total = 0;
  for (int64_t at = 0; at < n; at += kBlock) {
    const int64_t some = std::min(kBlock, n - at);
    to_float(x + at * stride, stride, block, some);
    total_t<C> sums[8] = {};  // independent of each other
    int64_t i = 0;
    for (; i + 8 <= some; i += 8)
      for (int64_t lane = 0; lane < 8; ++lane) sums[lane] = total_t<C>(sums[lane] + block[i + lane]);
    for (; i < some; ++i) sums[0] = total_t<C>(sums[0] + block[i]);
    for (total_t<C> sum : sums) total = total_t<C>(total + sum);
  }
  return total;
}

// Sums of `width` lines whose elements alternate, over n elements in all; without out only the totals.
template <int width, bool write, class T>
void scan_abreast(const T *x, T *out, int64_t n, total_t<compute_t<T>> *totals) {
  using C = compute_t<T>;
  constexpr int64_t size = kBlock / width * width;
  alignas(64) C block[size];
  total_t<C> sums[width];
  std::copy(totals, totals + width, sums);
  for (int64_t at = 0; at < n; at += size) {
    const int64_t some = std::min(size, n - at);
    to_float(x + at, block, some);
    for (int64_t i = 0; i < some; i += width)
      for (int64_t k = 0; k < width; ++k) {
        sums[k] = total_t<C>(sums[k] + block[i + k]);
        block[i + k] = C(sums[k]);
      }
    if constexpr (write) from_float(block, out + at, some);
  }
  std::copy(sums, sums + width, totals);
}

// Lines side by side; where there are few, first where each of their segments starts, then its sums.
template <int width, class T> void scan_abreast(const Layout &layout, const T *in, T *out) {
  using Total = total_t<compute_t<T>>;
  const int64_t all = layout.extent * width, groups = layout.lines.numel(), threads = num_threads();
  if (groups >= threads || layout.extent <= kSegment)
    return parallel_for(0, groups, std::max<int64_t>(kSegment / all, 1), [&](int64_t begin, int64_t end) {
      layout.lines.for_each(begin, end, [&](const int64_t(&at)[2]) {
        Total totals[width] = {};
        scan_abreast<width, true>(in + at[0], out + at[1], all, totals);
      });
    });
  const int64_t length = std::max((layout.extent + threads - 1) / threads, kSegment) * width;
  const int64_t segments = (all + length - 1) / length;
  std::vector<Total> starts(static_cast<size_t>(segments * width));
  layout.lines.for_each(0, groups, [&](const int64_t(&at)[2]) {
    const T *from = in + at[0];
    T *to = out + at[1];
    std::fill(starts.begin(), starts.end(), Total(0));
    parallel_for(0, segments - 1, 1, [&](int64_t begin, int64_t end) {
      for (int64_t s = begin; s < end; ++s)
        scan_abreast<width, false, T>(from + s * length, nullptr, length, &starts[size_t((s + 1) * width)]);
    });
    for (size_t i = width; i < starts.size(); ++i) starts[i] = Total(starts[i] + starts[i - width]);
    parallel_for(0, segments, 1, [&](int64_t begin, int64_t end) {
      for (int64_t s = begin; s < end; ++s)
        scan_abreast<width, true>(from + s * length, to + s * length, std::min(length, all - s * length),
                                  &starts[size_t(s * width)]);
    });
  });
}

template <class T> void scan_lines(const Layout &layout, const T *in, T *out) {
  using Total = total_t<compute_t<T>>;
  const int64_t count = layout.lines.numel(), segments = (layout.extent + kSegment - 1) / kSegment;
  if (segments > 1 && count < 64 &&
      num_threads() > 1) {  // few long lines: first where each segment starts, then its sums
    std::vector<Total> starts(static_cast<size_t>(segments));
    layout.lines.for_each(0, count, [&](const int64_t(&at)[2]) {
      const T *from = in + at[0];
      parallel_for(0, segments - 1, 1, [&](int64_t begin, int64_t end) {
        for (int64_t s = begin; s < end; ++s)
          starts[size_t(s + 1)] = add_up(from + s * kSegment * layout.in_stride, layout.in_stride, kSegment);
      });
      starts[0] = 0;
      for (int64_t s = 1; s < segments; ++s)
        starts[size_t(s)] = Total(starts[size_t(s)] + starts[size_t(s - 1)]);
      parallel_for(0, segments, 1, [&](int64_t begin, int64_t end) {
        for (int64_t s = begin; s < end; ++s)
          scan(from + s * kSegment * layout.in_stride, layout.in_stride,
               out + at[1] + s * kSegment * layout.out_stride, layout.out_stride,
               std::min(kSegment, layout.extent - s * kSegment), starts[size_t(s)]);
      });
    });
    return;
  }
  parallel_for(0, count, std::max<int64_t>(kSegment / layout.extent, 1), [&](int64_t begin, int64_t end) {
    layout.lines.for_each(begin, end, [&](const int64_t(&at)[2]) {
      scan(in + at[0], layout.in_stride, out + at[1], layout.out_stride, layout.extent, Total(0));
    });
  });
}

// The input is contiguous across lines, or these are short and narrow: advance whole panels of them together.
template <class T> void scan_columns(const Layout &layout, const T *in, T *out) {
  using C = compute_t<T>;
  Space<2> outer = layout.lines;
  const Space<2>::Row row = outer.pop();
  const int64_t panels = (row.extent + kColumns - 1) / kColumns;
  const int64_t work = layout.extent * std::min(row.extent, kColumns);
  parallel_for(
      0, outer.numel() * panels, std::max<int64_t>(kSegment / work, 1), [&](int64_t begin, int64_t end) {
        alignas(64) total_t<C> totals[kColumns];
        alignas(64) C line[kColumns];
        for (int64_t task = begin; task < end; ++task) {
          outer.for_each(task / panels, task / panels + 1, [&](const int64_t(&at)[2]) {
            const int64_t start = task % panels * kColumns, n = std::min(kColumns, row.extent - start);
            const T *from = in + at[0] + start * row.strides[0];
            T *to = out + at[1] + start * row.strides[1];
            std::fill(totals, totals + n, total_t<C>(0));
            for (int64_t r = 0; r < layout.extent; ++r) {
              to_float(from + r * layout.in_stride, row.strides[0], line, n);
              for (int64_t i = 0; i < n; ++i) {
                totals[i] = total_t<C>(totals[i] + line[i]);
                line[i] = C(totals[i]);
              }
              from_float(line, to + r * layout.out_stride, row.strides[1], n);
            }
          });
        }
      });
}

class Cumsum {
  int64_t dtype_;
  Layout layout_;

 public:
  explicit Cumsum(const infini_cumsum_args &call)
      : dtype_(part_dtype(call.input->dtype) ? part_dtype(call.input->dtype) : call.input->dtype),
        layout_(call) {
    dispatch_modular("cumsum", dtype_, [](auto) {});  // refuse other dtypes now
  }
  uint64_t workspace() const { return 0; }
  void execute(const infini_cumsum_args &call, void *, infinirtStream_t) const {
    if (layout_.extent == 0 || layout_.lines.numel() == 0) return;
    dispatch_modular("cumsum", dtype_, [&](auto t) {
      using T = typename decltype(t)::type;
      auto run = layout_.columns        ? scan_columns<T>
                 : layout_.abreast == 2 ? scan_abreast<2, T>
                 : layout_.abreast == 3 ? scan_abreast<3, T>
                 : layout_.abreast == 4 ? scan_abreast<4, T>
                                        : scan_lines<T>;
      run(layout_, static_cast<const T *>(call.input->data), static_cast<T *>(call.output->data));
    });
  }
};

}  // namespace

INFINI_CPU_KERNEL(cumsum, Cumsum)

}  // namespace infini::cpu::INFINI_ISA
