// cpu/rows.hpp -- rows of a tensor along any of its axes, widened into contiguous lines one after the other.
// Where the axis is not the dense one, neighbouring rows are gathered together, so that memory is read in
// lines.
#pragma once
#include "kernel.hpp"
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
    if (out_step_ == 1 && in_step_ == 1) return;
    const int last = outer_.ndim - 1;
    if (last >= 0 && outer_.strides[0][last] == 1 && outer_.strides[1][last] == 1)
      neighbours_ = outer_.pop().extent;
  }

  // Call fn(x, y, n) for every row x, which is to become y; y may be x.
  template <class T, class Fn> void each(const T *in, T *out, Fn &&fn) const {
    using C = compute_t<T>;
    const int64_t pitch = n_ + 16;  // no power of two, which would put a column into one set of the cache
    const int64_t width = panel_width(pitch * int64_t(sizeof(C))), panels = (neighbours_ + width - 1) / width;
    const int64_t grain = std::max<int64_t>(1, 8 * 1024 / (n_ * width + 1));
    parallel_for(0, outer_.numel() * panels, grain, [&](int64_t begin, int64_t end) {
      C *lines = static_cast<C *>(scratch<Scratch::operands>(size_t(width * pitch) * sizeof(C)));
      for (int64_t item = begin; item < end;) {
        const int64_t panel = item / outer_.numel() * width, row = item % outer_.numel();
        const int64_t count = std::min(end - item, outer_.numel() - row);
        outer_.for_each(row, row + count, [&](const int64_t(&at)[2]) {
          rows(in + at[1] + panel, out + at[0] + panel, std::min(neighbours_ - panel, width), lines, pitch,
               fn);
        });
        item += count;
      }
    });
  }

 private:
  static constexpr int64_t kWidest = 256;

  // Neighbours that are handled together: many, since pages and lines of memory are fetched for them all; few
  // enough that their widened copies stay in a cache and that every thread gets some.
  int64_t panel_width(int64_t line_bytes) const {
    const int64_t fit = (int64_t(2) << 20) / line_bytes;
    const int64_t share = outer_.numel() * neighbours_ / (2 * num_threads());
    const int64_t width = std::max<int64_t>(16, std::min({fit, share, kWidest}) / 16 * 16);
    return std::max<int64_t>(1, std::min(neighbours_, width));
  }

  template <class T, class Fn>
  void rows(const T *in, T *out, int64_t count, compute_t<T> *lines, int64_t pitch, Fn &&fn) const {
    if (neighbours_ == 1) {
      if constexpr (std::is_same_v<T, compute_t<T>>)
        if (in_step_ == 1 && out_step_ == 1) return fn(in, out, n_);
      to_float(in, in_step_, lines, n_);
      fn(lines, lines, n_);
      return from_float(lines, out, out_step_, n_);
    }
    gather(in, in_step_, n_, count, lines, pitch);
    for (int64_t row = 0; row < count; ++row) fn(lines + row * pitch, lines + row * pitch, n_);
    scatter(lines, pitch, n_, count, out, out_step_);
  }

  // lines[row * pitch + i] = in[i * step + row], in squares as wide as a register.
  template <class T> static void gather(const T *in, int64_t step, int64_t n, int64_t count,
                                        compute_t<T> *lines, int64_t pitch) {
    constexpr int64_t L = lanes<compute_t<T>>;
    for (int64_t i = 0; i < n; i += L)
      for (int64_t row = 0; row < count; row += L) {
        const T *from = in + i * step + row;
        compute_t<T> *to = lines + row * pitch + i;
        const int64_t high = std::min(L, n - i), wide = std::min(L, count - row);
        if (high == L && wide == L) {
          vec<compute_t<T>> square[L];
          for (int64_t u = 0; u < L; ++u) square[u] = load(from + u * step);
          transpose<compute_t<T>>(square);
          for (int64_t u = 0; u < L; ++u) store(to + u * pitch, square[u]);
        } else {
          for (int64_t u = 0; u < high; ++u)
            for (int64_t v = 0; v < wide; ++v) to[v * pitch + u] = to_float(from[u * step + v]);
        }
      }
  }

  // The way back.
  template <class T> static void scatter(const compute_t<T> *lines, int64_t pitch, int64_t n, int64_t count,
                                         T *out, int64_t step) {
    constexpr int64_t L = lanes<compute_t<T>>;
    for (int64_t i = 0; i < n; i += L)
      for (int64_t row = 0; row < count; row += L) {
        const compute_t<T> *from = lines + row * pitch + i;
        T *to = out + i * step + row;
        const int64_t high = std::min(L, n - i), wide = std::min(L, count - row);
        if (high == L && wide == L) {
          vec<compute_t<T>> square[L];
          compute_t<T> beside[L];
          for (int64_t v = 0; v < L; ++v) square[v] = load(from + v * pitch);
          transpose<compute_t<T>>(square);
          for (int64_t u = 0; u < L; ++u) {
            store(beside, square[u]);
            from_float(beside, to + u * step, L);
          }
        } else {
          for (int64_t u = 0; u < high; ++u)
            for (int64_t v = 0; v < wide; ++v) from_float(from[v * pitch + u], to[u * step + v]);
        }
      }
  }

  Space<2> outer_;  // out, in: all dimensions but the axis and, where neighbours_ is not 1, the dense one
  int64_t neighbours_ = 1;  // rows that lie beside each other in both tensors
  int64_t n_ = 1, out_step_ = 1, in_step_ = 1;
};

}  // namespace infini::cpu::INFINI_ISA
