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
constexpr int64_t kSegment = 1 << 16;  // elements of one long line that a thread takes at a time

template <class C> using total_t = std::conditional_t<std::is_floating_point_v<C>, double, C>;

struct Layout {
  Space<2> lines;  // input, output: all dimensions but that of the sums
  int64_t extent, in_stride, out_stride;
  bool columns;

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
    columns = in_stride != 1 && lines.ndim > 0 && lines.strides[0][lines.ndim - 1] == 1 &&
              lines.shape[lines.ndim - 1] >= kNarrow;
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

template <class T> void scan_lines(const Layout &layout, const T *in, T *out) {
  using Total = total_t<compute_t<T>>;
  const int64_t count = layout.lines.numel(), segments = (layout.extent + kSegment - 1) / kSegment;
  if (segments > 1 && count < 64) {  // few long lines: first where each segment starts, then its sums
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

// The input is contiguous across lines: advance whole panels of them together.
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
            const T *from = in + at[0] + start;
            T *to = out + at[1] + start * row.strides[1];
            std::fill(totals, totals + n, total_t<C>(0));
            for (int64_t r = 0; r < layout.extent; ++r) {
              to_float(from + r * layout.in_stride, line, n);
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
      auto run = layout_.columns ? scan_columns<T> : scan_lines<T>;
      run(layout_, static_cast<const T *>(call.input->data), static_cast<T *>(call.output->data));
    });
  }
};

}  // namespace

INFINI_CPU_KERNEL(cumsum, Cumsum)

}  // namespace infini::cpu::INFINI_ISA
