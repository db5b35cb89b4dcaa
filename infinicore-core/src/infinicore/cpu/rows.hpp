// cpu/rows.hpp -- rows of a tensor along any of its axes, widened one after the other, or side by side where
// the axis is not the dense one or rows are short: memory is then read, and vectors filled, across rows.
#pragma once
#include "elementwise.hpp"
#include "scratch.hpp"
#include "vec.hpp"

#include <algorithm>

namespace infini::cpu::INFINI_ISA {

// Sum of e**(x - shift). In pieces that stay in the first-level cache.
template <class C> inline C row_sum_exp(const C *x, int64_t n, C shift) {
  constexpr int64_t size = 512;
  C piece[size], sum = 0;
  for (int64_t at = 0; at < n; at += size) {
    const int64_t count = std::min(size, n - at);
    for (int64_t i = 0; i < count; ++i) piece[i] = vmath::exp(x[at + i] - shift);
    sum += row_sum(piece, count);
  }
  return sum;
}

constexpr int64_t kPanelColumns = 1024;   // rows that are computed side by side, at most
constexpr int64_t kWidenedColumns = 256;  // and that are widened first

// Rows that lie side by side, and where their results go, which may be the same place: element i of row j is
// x[i * x_pitch + j].
template <class C> struct Panel {
  const C *x;
  C *y;
  int64_t x_pitch, y_pitch, n, width;

  const C *line(int64_t i) const { return x + i * x_pitch; }
  C *result(int64_t i) const { return y + i * y_pitch; }

  // totals[j] = the sum over i of what term(line(i), line) writes to line[j]; in runs short enough for C.
  template <class Fn> void sum(double *totals, Fn &&term) const {
    constexpr int64_t run = 64;
    C part[kPanelColumns], values[kPanelColumns];
    std::fill(totals, totals + width, 0.0);
    for (int64_t begin = 0; begin < n; begin += run) {
      std::fill(part, part + width, C(0));
      for (int64_t i = begin; i < std::min(begin + run, n); ++i) {
        term(line(i), values);
        for (int64_t j = 0; j < width; ++j) part[j] += values[j];
      }
      for (int64_t j = 0; j < width; ++j) totals[j] += double(part[j]);
    }
  }

  // largest[j] = the maximum over i; a NaN is passed over.
  void max(C *largest) const {
    std::fill(largest, largest + width, C(-__builtin_huge_val()));
    for (int64_t i = 0; i < n; ++i) {
      const C *row = line(i);
      for (int64_t j = 0; j < width; ++j) largest[j] = row[j] > largest[j] ? row[j] : largest[j];
    }
  }
};

// The rows of out and in, two tensors of one shape and dtype, along an axis; a number is a row of one
// element.
class Rows {
 public:
  Rows(const char *op, const infini_tensor &out, const infini_tensor &in, int64_t axis) {
    if (out.ndim == 0) return;
    const int64_t which = axis < 0 ? axis + out.ndim : axis;
    if (which < 0 || which >= out.ndim)
      throw Error(INFINI_STATUS_BAD_PARAM, std::string(op) + ": axis " + std::to_string(axis) +
                                               " is outside a tensor of " + std::to_string(out.ndim) +
                                               " dimensions");
    for (int32_t d = 0; d < out.ndim; ++d)
      if (d != which) outer_.append(out.shape[d], {out.strides[d], in.strides[d]});
    n_ = out.shape[which];
    out_step_ = out.strides[which];
    in_step_ = in.strides[which];
    outer_.reorder();
    const int last = outer_.ndim - 1;
    if (last < 0) return;
    const bool dense = out_step_ == 1 && in_step_ == 1;
    const bool neighbours = outer_.strides[0][last] == 1 && outer_.strides[1][last] == 1;
    if ((neighbours && !dense) || (n_ <= kShort && outer_.shape[last] >= kShort)) beside_ = outer_.pop();
  }

  // Call rows(x, y, n) for every row x, which is to become y (y may be x), or columns(panel) where rows lie
  // beside each other, or are too short to be worth a call.
  template <class T, class RowFn, class ColumnFn>
  void each(const T *in, T *out, RowFn &&rows, ColumnFn &&columns) const {
    using C = compute_t<T>;
    const bool direct =
        std::is_same_v<T, C> && beside_.strides[0] == 1 && beside_.strides[1] == 1;  // no copies are needed
    const int64_t width = beside_.extent > 1 ? panel_width(n_ * int64_t(sizeof(C)), direct) : 1;
    const int64_t pitch =
        width > 1 ? width + 16 : n_ + 16;  // rows of a panel that start in other sets of a cache
    const int64_t panels = (beside_.extent + width - 1) / width;
    const int64_t grain = std::max<int64_t>(1, 8 * 1024 / (n_ * width + 1));
    const int64_t room = width > 1 && !direct ? n_ * pitch : pitch;
    parallel_for(0, outer_.numel() * panels, grain, [&](int64_t begin, int64_t end) {
      C *line = static_cast<C *>(scratch<Scratch::operands>(size_t(room) * sizeof(C)));
      for (int64_t item = begin; item < end;) {
        const int64_t panel = item / outer_.numel() * width, row = item % outer_.numel();
        const int64_t count = std::min(end - item, outer_.numel() - row);
        outer_.for_each(row, row + count, [&](const int64_t(&at)[2]) {
          if (width == 1) return single(in + at[1], out + at[0], line, rows);
          const int64_t count = std::min(beside_.extent - panel, width);
          const T *from = in + at[1] + panel * beside_.strides[1];
          T *to = out + at[0] + panel * beside_.strides[0];
          if constexpr (std::is_same_v<T, C>)
            if (direct) return columns(Panel<C>{from, to, in_step_, out_step_, n_, count});
          read(from, line, pitch, count);
          columns(Panel<C>{line, line, pitch, pitch, n_, count});
          write(line, pitch, count, to);
        });
        item += count;
      }
    });
  }

 private:
  static constexpr int64_t kShort = 32;

  // Rows that are handled together: many, since pages and lines of memory are fetched for them all; few
  // enough that their widened copies, if any, stay in a cache and that every thread gets some.
  int64_t panel_width(int64_t row_bytes, bool direct) const {
    const int64_t fit = (int64_t(1) << 19) / std::max<int64_t>(row_bytes, 1);
    const int64_t most = direct ? kPanelColumns : std::min(fit, kWidenedColumns);
    const int64_t share = outer_.numel() * beside_.extent / (2 * num_threads());
    const int64_t width = std::max<int64_t>(16, std::min(most, share) / 16 * 16);
    return std::min(beside_.extent, width);
  }

  template <class T, class Fn> void single(const T *in, T *out, compute_t<T> *line, Fn &&fn) const {
    if constexpr (std::is_same_v<T, compute_t<T>>)
      if (in_step_ == 1 && out_step_ == 1) return fn(in, out, n_);
    to_float(in, in_step_, line, n_);
    fn(line, line, n_);
    from_float(line, out, out_step_, n_);
  }

  // From memory to the lines of a panel, in the order of memory.
  template <class T> void read(const T *in, compute_t<T> *lines, int64_t pitch, int64_t width) const {
    const int64_t beside = beside_.strides[1];
    if (beside == 1 || in_step_ != 1) {
      for (int64_t i = 0; i < n_; ++i) to_float(in + i * in_step_, beside, lines + i * pitch, width);
      return;
    }
    for (int64_t j = 0; j < width; ++j)
      for (int64_t i = 0; i < n_; ++i) lines[i * pitch + j] = to_float(in[j * beside + i]);
  }

  // And back.
  template <class T> void write(const compute_t<T> *lines, int64_t pitch, int64_t width, T *out) const {
    const int64_t beside = beside_.strides[0];
    if (beside == 1 || out_step_ != 1) {
      for (int64_t i = 0; i < n_; ++i) from_float(lines + i * pitch, out + i * out_step_, beside, width);
      return;
    }
    for (int64_t j = 0; j < width; ++j)
      for (int64_t i = 0; i < n_; ++i) from_float(lines[i * pitch + j], out[j * beside + i]);
  }

  Space<2> outer_;        // out, in: all dimensions but the axis and that of beside_
  Space<2>::Row beside_;  // rows that are computed together
  int64_t n_ = 1, out_step_ = 1, in_step_ = 1;
};

}  // namespace infini::cpu::INFINI_ISA
