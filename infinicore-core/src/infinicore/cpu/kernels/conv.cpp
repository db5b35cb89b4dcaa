// kernels/conv.cpp -- convolution over any number of spatial dimensions, with groups, as a product with
// gathered patches. Patches go straight into the packed panels of the product, so no patch matrix is ever
// stored. Large convolutions start on oneDNN where it is faster (library_conv.hpp).
#include <infinicore/operators/conv.h>

#include "../kernel.hpp"
#include "../library_conv.hpp"
#include "../matmul.hpp"

namespace infini::cpu::INFINI_ISA {

class Conv {
 public:
  explicit Conv(const infini_conv_args &call)
      : dtype_(call.x->dtype),
        dims_(call.x->ndim - 2),
        batch_(call.x->shape[0]),
        out_channels_(call.w->shape[0]),
        group_inputs_(call.w->shape[1]) {
    dispatch_floats("conv", dtype_, [](auto) {});
    if (dims_ < 1 || dims_ > most_dims)
      throw Error(INFINI_STATUS_BAD_TENSOR_SHAPE, "conv: x has " + std::to_string(dims_) +
                                                      " spatial dimensions; the cpu backend takes 1 to " +
                                                      std::to_string(most_dims));
    for (const auto &[name, list] :
         {std::pair{"pads", call.pads}, {"strides", call.strides}, {"dilations", call.dilations}})
      if (list->count != dims_)
        throw Error(INFINI_STATUS_BAD_PARAM, std::string("conv: ") + name + " has " +
                                                 std::to_string(list->count) + " entries for " +
                                                 std::to_string(dims_) + " spatial dimensions");
    pointwise_ = flat(*call.x, 2, &x_step_);
    groups_ = group_inputs_ == 0 ? 1 : std::max<int64_t>(1, call.x->shape[1] / group_inputs_);
    for (int d = 0; d < dims_; ++d) {
      size_[d] = call.x->shape[2 + d];
      out_size_[d] = call.y->shape[2 + d];
      kernel_[d] = call.w->shape[2 + d];
      pad_[d] = call.pads->items[d];
      stride_[d] = call.strides->items[d];
      dilation_[d] = call.dilations->items[d];
      pixels_ *= out_size_[d];
      taps_ *= kernel_[d];
      pointwise_ = pointwise_ && kernel_[d] == 1 && stride_[d] == 1 && pad_[d] == 0;
    }
    // The product wants a row of weights and a row of outputs to have one stride each.
    copy_weights_ = !flat(*call.w, 1, &weight_step_);
    copy_output_ = !flat(*call.y, 2, &out_step_);
    direct_rows_ =
        out_channels_ < 4 * groups_ && stride_[dims_ - 1] == 1 && group_inputs_ * taps_ <= most_direct;
    if (!direct_rows_) library_ = LibraryConv::plan(call);
  }

  uint64_t workspace() const {
    const uint64_t own = weight_bytes() + (copy_output_ ? batch_ * out_channels_ * pixels_ * size() : 0);
    return library_ ? std::max(own, library_->workspace()) : own;
  }

  void execute(const infini_conv_args &call, void *workspace, infinirtStream_t) const {
    if (batch_ * out_channels_ * pixels_ == 0 || (library_ && library_->run(call, workspace))) return;
    dispatch_floats("conv", dtype_, [&](auto tag) { run<typename decltype(tag)::type>(call, workspace); });
  }

 private:
  static constexpr int most_dims = 8;
  static constexpr int64_t most_direct =
      256;  // taps times channels of a kernel whose places are kept at once

  int64_t size() const { return dtype_size(dtype_); }
  uint64_t weight_bytes() const {
    return copy_weights_ ? uint64_t(round_up(out_channels_ * group_inputs_ * taps_ * size(), 64)) : 0;
  }

  // Do the dimensions from `first` on have one stride between neighbours? The one is *step.
  static bool flat(const infini_tensor &t, int first, int64_t *step) {
    Space<1> inner;
    for (int d = first; d < t.ndim; ++d) inner.append(t.shape[d], {t.strides[d]});
    inner.merge();
    *step = inner.ndim == 0 ? 1 : inner.strides[0][inner.ndim - 1];
    return inner.ndim <= 1;
  }

  template <class T> void run(const infini_conv_args &call, void *workspace) const {
    const infini_tensor &x = *call.x, &w = *call.w, &y = *call.y;
    const int64_t depth = group_inputs_ * taps_, members = out_channels_ / groups_;
    Product<T> whole{members, pixels_, depth, static_cast<const T *>(w.data), w.strides[0], weight_step_,
                     nullptr, 0,       0,     static_cast<T *>(y.data),       y.strides[1], out_step_};
    int64_t out_batch = y.strides[0];
    if (copy_weights_) {
      T *copy = static_cast<T *>(workspace);
      Space<1> elements({call.w});
      int64_t i = 0;
      elements.for_each(0, elements.numel(), [&](const int64_t(&at)[1]) { copy[i++] = whole.a[at[0]]; });
      whole.a = copy;
      whole.a_row = depth;
      whole.a_col = 1;
    }
    if (copy_output_) {
      whole.c = reinterpret_cast<T *>(static_cast<char *>(workspace) + weight_bytes());
      whole.c_row = pixels_;
      whole.c_col = 1;
      out_batch = out_channels_ * pixels_;
    }
    auto images = [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t image = i / groups_, group = i % groups_;
        Product<T> one = whole;
        one.a += group * members * one.a_row;
        one.c += image * out_batch + group * members * one.c_row;
        if (call.b) {
          one.bias = static_cast<const T *>(call.b->data) + group * members * call.b->strides[0];
          one.bias_row = call.b->strides[0];
        }
        const T *input =
            static_cast<const T *>(x.data) + image * x.strides[0] + group * group_inputs_ * x.strides[1];
        if (depth == 0)
          finish_empty(one);
        else if (direct_rows_)
          direct_rows(one, x, input);
        else if (members < 4)
          direct(one, x, input);
        else if (pointwise_)
          one.b = input, one.b_row = x.strides[1], one.b_col = x_step_, multiply_packed(one);
        else
          multiply_packed(one, [&](int64_t q, int64_t count, int64_t j, int64_t columns, compute_t<T> *out) {
            pack_patches(x, input, q, count, j, columns, out);
          });
      }
    };
    const int64_t count = batch_ * groups_, work = members * pixels_ * depth + 1;
    if (count >= 4 * num_threads() || work < 4 * parallel_work)
      parallel_for(0, count, std::max<int64_t>(1, parallel_work / work), images);
    else
      images(0, count);
    if (copy_output_) {
      Space<1> elements({call.y});
      const T *from = whole.c;
      T *to = static_cast<T *>(y.data);
      elements.for_each(0, elements.numel(), [&](const int64_t(&at)[1]) { to[at[0]] = *from++; });
    }
  }

  // Outputs that follow each other along the last dimension: where in x their patches begin (may be outside).
  struct Run {
    int64_t first[most_dims];  // coordinate in x of the patch's corner
    int64_t count;
  };

  // The run that begins at output pixel j, of at most `limit` pixels.
  Run run_at(int64_t j, int64_t limit) const {
    Run run;
    int64_t rest = j;
    for (int d = dims_ - 1; d >= 0; --d) {
      const int64_t at = rest % out_size_[d];
      rest /= out_size_[d];
      run.first[d] = at * stride_[d] - pad_[d];
      if (d == dims_ - 1) run.count = std::min(limit, out_size_[d] - at);
    }
    return run;
  }

  // What one tap of the kernel contributes to a run: `count` values of x from `offset` on, after `skip`
  // zeros.
  struct Span {
    int64_t offset, skip, count;
  };

  Span span(const infini_tensor &x, const Run &run, int64_t tap) const {
    Span s{0, 0, 0};
    for (int d = dims_ - 1; d >= 0; --d) {
      const int64_t at = run.first[d] + tap % kernel_[d] * dilation_[d];
      tap /= kernel_[d];
      if (d < dims_ - 1) {
        if (at < 0 || at >= size_[d]) return {0, 0, 0};
        s.offset += at * x.strides[2 + d];
        continue;
      }
      // at + i * stride lies in x for i from `skip` on, below `end`.
      s.skip = at >= 0 ? 0 : (-at + stride_[d] - 1) / stride_[d];
      const int64_t end =
          at >= size_[d] ? 0 : std::min(run.count, (size_[d] - at + stride_[d] - 1) / stride_[d]);
      if (end <= s.skip) return {0, 0, 0};
      s.count = end - s.skip;
      s.offset += (at + s.skip * stride_[d]) * x.strides[2 + d];
    }
    return s;
  }

  // Panels of the patch matrix: row q + p is one tap of one channel, column j + i one output pixel.
  template <class T> void pack_patches(const infini_tensor &x, const T *input, int64_t q, int64_t count,
                                       int64_t j, int64_t columns, compute_t<T> *out) const {
    using C = compute_t<T>;
    constexpr int64_t width = panel_columns<C>;
    const int64_t step = x.strides[1 + dims_] * stride_[dims_ - 1];
    for (int64_t i = 0; i < columns; i += width, out += width * count) {
      const int64_t used = std::min(width, columns - i);
      Run runs[width];
      int pieces = 0;
      for (int64_t at = 0; at < used; at += runs[pieces++].count)
        runs[pieces] = run_at(j + i + at, used - at);
      // The spans are the same for every channel: kept where they are few enough.
      constexpr int64_t most_spans = 512;
      Span spans[most_spans];
      const bool kept = pieces * taps_ <= most_spans;
      for (int64_t tap = 0; kept && tap < taps_; ++tap)
        for (int r = 0; r < pieces; ++r) spans[tap * pieces + r] = span(x, runs[r], tap);
      int64_t tap = q % taps_;
      const T *channel = input + q / taps_ * x.strides[1];
      for (int64_t p = 0; p < count; ++p) {
        C *line = out + p * width;
        for (int r = 0; r < pieces; line += runs[r++].count) {
          const Span s = kept ? spans[tap * pieces + r] : span(x, runs[r], tap);
          if (s.count < runs[r].count) std::fill(line, line + runs[r].count, C(0));
          copy(channel + s.offset, step, line + s.skip, s.count);
        }
        std::fill(line, out + (p + 1) * width, C(0));
        if (++tap == taps_) {
          tap = 0;
          channel += x.strides[1];
        }
      }
    }
  }

  // A short row of x, widened: registers, where a call of memcpy would cost more than the copy.
  template <class T> static void copy(const T *from, int64_t step, compute_t<T> *to, int64_t count) {
    constexpr int64_t L = lanes<compute_t<T>>;
    int64_t i = 0;
    if (step == 1)
      for (; i + L <= count; i += L) store(to + i, load(from + i));
    for (; i < count; ++i) to[i] = to_float(from[i * step]);
  }

  // Few output channels per group (depthwise), neighbours of which look at neighbours: the group's rows of x
  // are widened between zeros, so that a register of outputs is a sum of registers, whatever the padding.
  template <class T> void direct_rows(const Product<T> &p, const infini_tensor &x, const T *input) const {
    using C = compute_t<T>;
    constexpr int64_t L = lanes<C>, block = 4;
    const int inner = dims_ - 1;
    const int64_t last = out_size_[inner], wide = round_up(last, block * L), lines = pixels_ / last;
    const int64_t pitch = size_[inner] + 2 * pad_[inner];
    Space<1> outer;  // rows of x in one channel
    for (int d = 0; d < inner; ++d) outer.append(size_[d], {x.strides[2 + d]});
    const int64_t rows = outer.numel();
    C *const image =
        static_cast<C *>(scratch<Scratch::panels>(size_t(group_inputs_ * rows * pitch + wide) * sizeof(C)));
    std::fill_n(image, group_inputs_ * rows * pitch + wide, C(0));
    for (int64_t channel = 0; channel < group_inputs_; ++channel) {
      C *to = image + channel * rows * pitch + pad_[inner];
      outer.for_each(0, rows, [&](const int64_t(&at)[1]) {
        to_float(input + channel * x.strides[1] + at[0], x.strides[1 + dims_], to, size_[inner]);
        to += pitch;
      });
    }
    const int64_t grain = std::max<int64_t>(1, parallel_work / (last * p.k + 1));
    parallel_for(0, p.m * lines, grain, [&](int64_t begin, int64_t end) {
      C *sums = static_cast<C *>(scratch<Scratch::operands>(size_t(wide) * sizeof(C)));
      const C *from[most_direct];
      C weight[most_direct];
      for (int64_t t = begin; t < end; ++t) {
        const int64_t member = t / lines, j = t % lines * last;
        const Run run = run_at(j, last);
        int64_t count = 0;
        int64_t tap[most_dims] = {}, channel = 0;  // counted, since divisions would take longer than the sums
        for (int64_t q = 0; q < p.k; ++q) {
          const int64_t row = row_of(run, tap);
          if (row >= 0) {
            from[count] = image + (channel * rows + row) * pitch + tap[inner] * dilation_[inner];
            weight[count++] = to_float(p.a[member * p.a_row + q * p.a_col]);
          }
          int d = inner;
          while (d >= 0 && ++tap[d] == kernel_[d]) tap[d--] = 0;
          channel += d < 0;
        }
        for (int64_t i = 0; i < last; i += block * L) {
          vec<C> sum[block] = {};
          for (int64_t q = 0; q < count; ++q) {
            const vec<C> w = splat(weight[q]);
#pragma GCC unroll 4
            for (int64_t u = 0; u < block; ++u) sum[u] += w * load(from[q] + i + u * L);
          }
#pragma GCC unroll 4
          for (int64_t u = 0; u < block; ++u) store(sums + i + u * L, sum[u]);
        }
        finish(p, member, j, 1, last, sums, last);
      }
    });
  }

  // The row of x (all dimensions but the last) that a tap of the kernel looks at, -1 where there is none.
  int64_t row_of(const Run &run, const int64_t (&tap)[most_dims]) const {
    int64_t row = 0;
    for (int d = 0; d < dims_ - 1; ++d) {
      const int64_t at = run.first[d] + tap[d] * dilation_[d];
      if (at < 0 || at >= size_[d]) return -1;
      row = row * size_[d] + at;
    }
    return row;
  }

  // The same for any stride: a row of outputs at a time, one tap after the other.
  template <class T> void direct(const Product<T> &p, const infini_tensor &x, const T *input) const {
    using C = compute_t<T>;
    const int64_t last = out_size_[dims_ - 1], lines = pixels_ / last;
    const int64_t step = x.strides[1 + dims_] * stride_[dims_ - 1];
    const int64_t grain = std::max<int64_t>(1, parallel_work / (last * p.k + 1));
    parallel_for(0, p.m * lines, grain, [&](int64_t begin, int64_t end) {
      C *sums = static_cast<C *>(scratch<Scratch::operands>(size_t(2 * last) * sizeof(C))),
        *line = sums + last;
      for (int64_t t = begin; t < end; ++t) {
        const int64_t channel = t / lines, j = t % lines * last;
        const Run run = run_at(j, last);
        std::fill(sums, sums + last, C(0));
        for (int64_t q = 0; q < p.k; ++q) {
          const Span s = span(x, run, q % taps_);
          const C weight = to_float(p.a[channel * p.a_row + q * p.a_col]);
          to_float(input + q / taps_ * x.strides[1] + s.offset, step, line, s.count);
          for (int64_t i = 0; i < s.count; ++i) sums[s.skip + i] += weight * line[i];
        }
        finish(p, channel, j, 1, last, sums, last);
      }
    });
  }

  int32_t dtype_;
  int dims_;
  int64_t batch_, out_channels_, group_inputs_, groups_, pixels_ = 1, taps_ = 1, weight_step_, out_step_;
  int64_t x_step_;  // from one pixel of x to the next, if pointwise_
  int64_t size_[most_dims], out_size_[most_dims], kernel_[most_dims];
  int64_t pad_[most_dims], stride_[most_dims], dilation_[most_dims];
  bool copy_weights_, copy_output_, direct_rows_;
  bool pointwise_;  // one tap, at the output's own place: x is the right operand of the product as it is
  std::unique_ptr<const LibraryConv> library_;
};

INFINI_CPU_KERNEL(conv, Conv)

}  // namespace infini::cpu::INFINI_ISA
