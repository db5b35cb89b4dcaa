// cpu/matmul.hpp -- matrix products for the kernels that need one: register tiles, and multiply() that picks
// among them. Every operand has any strides; f16 and bf16 widen to f32 on the way into registers or panels,
// sums stay in f32.
#pragma once
#include "onednn.hpp"
#include "scratch.hpp"
#include "thread_pool.hpp"
#include "types.hpp"
#include "vec.hpp"

#include <algorithm>
#include <cstdint>

namespace infini::cpu::INFINI_ISA {

// c[m, n] = alpha * a[m, k] @ b[k, n] + beta * c + bias. Strides are in elements. With beta 0, c is not read.
template <class T> struct Product {
  using C = compute_t<T>;
  int64_t m, n, k;
  const T *a;
  int64_t a_row, a_col;
  const T *b;
  int64_t b_row, b_col;
  T *c;
  int64_t c_row, c_col;
  C alpha = 1, beta = 0;
  const T *bias = nullptr;  // NULL, or bias[i * bias_row + j * bias_col] is added
  int64_t bias_row = 0, bias_col = 0;

  // The same product as c.T = b.T @ a.T.
  Product transposed() const {
    return {n, m,     k,     b,     b_col, b_row, a,        a_col,   a_row,
            c, c_col, c_row, alpha, beta,  bias,  bias_col, bias_row};
  }
};

// Write rows x cols finished sums (row stride ld) to c at (i, j).
template <class T> inline void finish(const Product<T> &p, int64_t i, int64_t j, int64_t rows, int64_t cols,
                                      const compute_t<T> *sums, int64_t ld) {
  using C = compute_t<T>;
  constexpr int64_t width = 256;
  C line[width];
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t s = 0; s < cols; s += width) {
      const int64_t count = std::min(width, cols - s);
      const C *sum = sums + r * ld + s;
      T *c = p.c + (i + r) * p.c_row + (j + s) * p.c_col;
      if (p.alpha == 1 && p.beta == 0 && !p.bias) {
        from_float(sum, c, p.c_col, count);
        continue;
      }
      for (int64_t x = 0; x < count; ++x) line[x] = p.alpha * sum[x];
      if (p.beta != 0)
        for (int64_t x = 0; x < count; ++x) line[x] += p.beta * to_float(c[x * p.c_col]);
      if (p.bias) {
        const T *bias = p.bias + (i + r) * p.bias_row + (j + s) * p.bias_col;
        for (int64_t x = 0; x < count; ++x) line[x] += to_float(bias[x * p.bias_col]);
      }
      from_float(line, c, p.c_col, count);
    }
}

// c = beta * c + bias: what remains of a product whose sums are all zero.
template <class T> inline void finish_empty(const Product<T> &p) {
  static constexpr compute_t<T> zeros[64] = {};
  for (int64_t i = 0; i < p.m; ++i)
    for (int64_t j = 0; j < p.n; j += 64) finish(p, i, j, 1, std::min<int64_t>(64, p.n - j), zeros, 0);
}

// ---- register tiles --------------------------------------------------------------------------------

// sums[i * ld + j] = dot(a row i, b row j) over k, for M rows of a (row stride lda) and R rows of b (ldb),
// both contiguous along k. b is the operand that streams from memory: it is prefetched one KiB ahead.
template <int M, int R, class T> inline void dot_tile(int64_t k, const compute_t<T> *a, int64_t lda,
                                                      const T *b, int64_t ldb, compute_t<T> *sums,
                                                      int64_t ld) {
  using C = compute_t<T>;
  constexpr int64_t L = lanes<C>;
  constexpr int unroll = M * R <= 8 ? 2 : 1;  // enough independent sums to hide the latency of an FMA
  vec<C> sum[unroll][M][R] = {};
  int64_t p = 0;
  for (; p + unroll * L <= k; p += unroll * L) {
#pragma GCC unroll 2
    for (int u = 0; u < unroll; ++u) {
      vec<C> x[R];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const T *row = b + r * ldb + p + u * L;
        if (u * L * sizeof(T) % 64 == 0) prefetch(reinterpret_cast<const char *>(row) + 1024);
        x[r] = load(row);
      }
#pragma GCC unroll 8
      for (int i = 0; i < M; ++i) {
        vec<C> y = load(a + i * lda + p + u * L);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) sum[u][i][r] += x[r] * y;
      }
    }
  }
  for (; p < k; p += L) {
    const int64_t count = std::min(L, k - p);
    vec<C> x[R];
    for (int r = 0; r < R; ++r) x[r] = load_first(b + r * ldb + p, count);
    for (int i = 0; i < M; ++i) {
      vec<C> y = load_first(a + i * lda + p, count);
      for (int r = 0; r < R; ++r) sum[0][i][r] += x[r] * y;
    }
  }
  if constexpr (unroll == 2)
    for (int i = 0; i < M; ++i)
      for (int r = 0; r < R; ++r) sum[0][i][r] += sum[1][i][r];
  if constexpr (M * R % L == 0) {  // a register's worth of sums at a time
    for (int64_t s = 0; s < M * R; s += L) {
      vec<C> rows[L];
#pragma GCC unroll 16
      for (int64_t l = 0; l < L; ++l) rows[l] = sum[0][(s + l) / R][(s + l) % R];
      C totals[L];
      store(totals, reduce_add_rows<C>(rows));
      for (int64_t l = 0; l < L; ++l) sums[(s + l) / R * ld + (s + l) % R] = totals[l];
    }
  } else {
    for (int i = 0; i < M; ++i)
      for (int r = 0; r < R; ++r) sums[i * ld + r] = reduce_add(sum[0][i][r]);
  }
}

// Rows of b in one dot_tile; with 4 rows of a they fill the registers.
inline constexpr int dot_tile_rows = vector_registers == 32 ? 4 : 2;

// sums[m, n] = a[m, k] @ b[n, k].T by dot_tile, on this thread.
template <class T> inline void dot_block(int64_t m, int64_t n, int64_t k, const compute_t<T> *a, int64_t lda,
                                         const T *b, int64_t ldb, compute_t<T> *sums, int64_t ld) {
  constexpr int R = dot_tile_rows;
  auto rows = [&](auto width, int64_t j) {
    constexpr int W = decltype(width)::value;
    int64_t i = 0;
    for (; i + 4 <= m; i += 4) dot_tile<4, W>(k, a + i * lda, lda, b + j * ldb, ldb, sums + i * ld + j, ld);
    if (i + 2 <= m) {
      dot_tile<2, W>(k, a + i * lda, lda, b + j * ldb, ldb, sums + i * ld + j, ld);
      i += 2;
    }
    if (i < m) dot_tile<1, W>(k, a + i * lda, lda, b + j * ldb, ldb, sums + i * ld + j, ld);
  };
  int64_t j = 0;
  for (; j + R <= n; j += R) rows(std::integral_constant<int, R>{}, j);
  for (; j < n; ++j) rows(std::integral_constant<int, 1>{}, j);
}

// sums[i * ld + j] (+)= sum over k of a(i, p) * b[p * ldb + j] for M rows and V registers of columns, the
// last register holding only `last` of its lanes. b is contiguous along its columns, a has any strides.
template <int M, int V, class T>
inline void row_tile(int64_t k, const compute_t<T> *a, int64_t a_row, int64_t a_col, const T *b, int64_t ldb,
                     compute_t<T> *sums, int64_t ld, int64_t last, bool accumulate) {
  using C = compute_t<T>;
  constexpr int64_t L = lanes<C>;
  const bool full = last == L;
  vec<C> sum[M][V];
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v)
      sum[i][v] = !accumulate         ? vec<C>{}
                  : v + 1 < V || full ? load(sums + i * ld + v * L)
                                      : load_first(sums + i * ld + v * L, last);
  auto step = [&](int64_t p, const vec<C>(&x)[V]) __attribute__((always_inline)) {
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) {
      const C y = a[i * a_row + p * a_col];
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) sum[i][v] += y * x[v];
    }
  };
  vec<C> x[V];
  if (full)
    for (int64_t p = 0; p < k; ++p) {
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) {
        x[v] = load(b + p * ldb + v * L);
        // The hardware does not follow strides beyond a page. Only where b is read once does it matter.
        if (M <= 4 && v * L * sizeof(T) % 64 == 0) prefetch(b + (p + 8) * ldb + v * L);
      }
      step(p, x);
    }
  else
    for (int64_t p = 0; p < k; ++p) {
#pragma GCC unroll 16
      for (int v = 0; v + 1 < V; ++v) x[v] = load(b + p * ldb + v * L);
      x[V - 1] = load_first(b + p * ldb + (V - 1) * L, last);
      step(p, x);
    }
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v)
      if (v + 1 < V || full)
        store(sums + i * ld + v * L, sum[i][v]);
      else
        store_first(sums + i * ld + v * L, sum[i][v], last);
}

// Rows of the largest row_tile with two registers of columns.
inline constexpr int row_tile_rows = vector_registers == 32 ? 12 : vector_bytes == 32 ? 6 : 4;

// sums[m, n] (+)= a[m, k] @ b[k, n] by row_tile, on this thread.
template <class T> inline void row_block(int64_t m, int64_t n, int64_t k, const compute_t<T> *a,
                                         int64_t a_row, int64_t a_col, const T *b, int64_t ldb,
                                         compute_t<T> *sums, int64_t ld, bool accumulate) {
  using C = compute_t<T>;
  constexpr int64_t L = lanes<C>;
  auto columns = [&](auto height, auto width, int64_t i) {
    constexpr int M = decltype(height)::value, V = decltype(width)::value;
    int64_t j = 0;
    for (; j + V * L <= n; j += V * L)
      row_tile<M, V>(k, a + i * a_row, a_row, a_col, b + j, ldb, sums + i * ld + j, ld, L, accumulate);
    for (; j < n; j += L)
      row_tile<M, 1>(k, a + i * a_row, a_row, a_col, b + j, ldb, sums + i * ld + j, ld, std::min(L, n - j),
                     accumulate);
  };
  using std::integral_constant;
  constexpr int across_four = vector_registers == 32 ? 4 : 2;
  int64_t i = 0;
  for (; i + row_tile_rows <= m; i += row_tile_rows)
    columns(integral_constant<int, row_tile_rows>{}, integral_constant<int, 2>{}, i);
  for (; i + 4 <= m; i += 4) columns(integral_constant<int, 4>{}, integral_constant<int, across_four>{}, i);
  if (i + 2 <= m) {
    columns(integral_constant<int, 2>{}, integral_constant<int, 4>{}, i);
    i += 2;
  }
  if (i < m) columns(integral_constant<int, 1>{}, integral_constant<int, 8>{}, i);
}

// ---- packed product ----------------------------------------------------------------------------------

// The tile of the packed product: panel_rows x panel_columns sums in registers, both operands in panels.
inline constexpr int panel_rows = vector_registers == 32 ? (vector_bytes == 64 ? 14 : 12)
                                  : vector_bytes == 32   ? 6
                                                         : 4;
template <class C> inline constexpr int panel_columns = 2 * lanes<C>;
inline constexpr int64_t panel_depth = 256;  // of k: a panel of b then stays in the first-level cache

// out[panel][p][line] of `width` lines each, zero past `count`: line l, step p is x[l * across + p * along].
// Up to a register's worth of numbers past the end of out is overwritten.
template <int width, class T>
inline void pack(const T *x, int64_t across, int64_t along, int64_t count, int64_t k, compute_t<T> *out) {
  using C = compute_t<T>;
  constexpr int64_t L = lanes<C>;
  if (across == 1) {  // a row at a time: neighbours in memory belong to neighbouring panels
    const int64_t whole = count / width * width;
    for (int64_t p = 0; p < k; ++p)
      for (int64_t l = 0; l < whole; l += width) {
        const T *from = x + p * along + l;
        C *to = out + l * k + p * width;
        if constexpr (width % L == 0)
          for (int64_t i = 0; i < width; i += L) store(to + i, load(from + i));
        else
          to_float(from, to, width);
      }
    x += whole;
    out += whole * k;
    count -= whole;
  }
  for (int64_t l = 0; l < count; l += width, out += width * k) {
    const int64_t used = std::min<int64_t>(width, count - l);
    const T *first = x + l * across;
    int64_t done = 0;
    if (along == 1)
      for (; done + L <= k; done += L)
        // A square of numbers at a time goes through registers. Where width is no multiple of L a store
        // spills into the next step's first lines: those are written after it, since the lines go backwards.
        for (int64_t i = (width - 1) / L * L; i >= 0; i -= L) {
          vec<C> square[L];
#pragma GCC unroll 16
          for (int64_t r = 0; r < L; ++r) {
            const T *line = first + (i + r) * across + done;
            square[r] = i + r < used ? load(line) : vec<C>{};
            if (i + r < used) prefetch(line + 4 * L);
          }
          transpose<C>(square);
#pragma GCC unroll 16
          for (int64_t r = 0; r < L; ++r) store(out + (done + r) * width + i, square[r]);
        }
    for (int64_t p = done; p < k; ++p)
      for (int64_t i = 0; i < width; ++i)
        out[p * width + i] = i < used ? to_float(first[i * across + p * along]) : C(0);
  }
}

// sums tile (row stride ld) (+)= one panel of a @ one panel of b.
template <class C>
inline void panel_tile(int64_t k, const C *a, const C *b, C *sums, int64_t ld, bool accumulate) {
  constexpr int64_t L = lanes<C>;
  // The sums so far are wanted only at the end: fetch them meanwhile.
#pragma GCC unroll 16
  for (int i = 0; i < panel_rows; ++i) {
    prefetch(sums + i * ld);
    if (vector_bytes == 64) prefetch(sums + i * ld + L);
  }
  vec<C> sum[panel_rows][2] = {};
  do {  // k > 0: a loop that may not run at all costs spills around it
    const vec<C> x = load(b), y = load(b + L);
#pragma GCC unroll 16
    for (int i = 0; i < panel_rows; ++i) {
      sum[i][0] += a[i] * x;
      sum[i][1] += a[i] * y;
    }
    a += panel_rows;
    b += 2 * L;
  } while (--k);
#pragma GCC unroll 16
  for (int i = 0; i < panel_rows; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      C *to = sums + i * ld + v * L;
      store(to, accumulate ? load(to) + sum[i][v] : sum[i][v]);
    }
}

inline int64_t round_up(int64_t value, int64_t step) {
  return (value + step - 1) / step * step;
}

// How a packed product is cut into blocks of rows x columns, one task each.
struct Blocks {
  static constexpr int64_t most_rows = 1152, most_columns = 512;
  int64_t rows, columns, across, count;

  Blocks(int64_t m, int64_t n, int64_t row_step, int64_t column_step, int64_t threads) {
    int64_t down = std::max<int64_t>(1, (m + most_rows - 1) / most_rows);
    across = std::max<int64_t>(1, (n + most_columns - 1) / most_columns);
    // More blocks where there would be too few for the threads to share evenly.
    while (threads > 1 && down * across < 2 * threads &&
           (n / across > 2 * column_step || m / down > 4 * row_step))
      ++(n / across >= m / down && n / across > 2 * column_step ? across : down);
    rows = round_up((m + down - 1) / down, row_step);
    columns = round_up((n + across - 1) / across, column_step);
    across = (n + columns - 1) / columns;
    count = (m + rows - 1) / rows * across;
  }
};

// panel_tile where only rows x columns of the tile exist in memory.
template <class C> inline void panel_corner(int64_t k, const C *a, const C *b, C *sums, int64_t ld,
                                            bool accumulate, int64_t rows, int64_t columns) {
  constexpr int64_t W = panel_columns<C>;
  C tile[panel_rows * W];
  panel_tile(k, a, b, tile, W, false);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j)
      sums[i * ld + j] = accumulate ? sums[i * ld + j] + tile[i * W + j] : tile[i * W + j];
}

// One block of c. pack_b(p, depth, j, columns, out) writes the panels of b for that part of k and n; they are
// used by all rows of the block, a few of which at a time have their panels of a in the second-level cache.
template <class T, class PackB> inline void multiply_block(const Product<T> &p, int64_t i, int64_t j,
                                                           int64_t rows, int64_t columns, PackB &&pack_b) {
  using C = compute_t<T>;
  constexpr int64_t W = panel_columns<C>, slab = 288 / panel_rows * panel_rows;
  const int64_t depth = std::min(p.k, panel_depth);
  const int64_t a_size = round_up(round_up(std::min(slab, rows), panel_rows) * depth, 16) + 16;
  const int64_t b_size = round_up(round_up(columns, W) * depth, 16) + 16;
  // Sums gather in c itself where they are all that belongs there.
  bool in_place = false;
  if constexpr (std::is_same_v<T, C>) in_place = p.c_col == 1 && p.alpha == 1 && p.beta == 0 && !p.bias;
  C *a = static_cast<C *>(
      scratch<Scratch::panels>(size_t(a_size + b_size + (in_place ? 0 : rows * columns)) * sizeof(C)));
  C *b = a + a_size, *sums = b + b_size;
  int64_t ld = columns;
  if constexpr (std::is_same_v<T, C>)
    if (in_place) {
      sums = p.c + i * p.c_row + j;
      ld = p.c_row;
    }
  for (int64_t q = 0; q < p.k; q += panel_depth) {
    const int64_t part = std::min(panel_depth, p.k - q);
    pack_b(q, part, j, columns, b);
    for (int64_t s = 0; s < rows; s += slab) {
      const int64_t height = std::min(slab, rows - s);
      pack<panel_rows>(p.a + (i + s) * p.a_row + q * p.a_col, p.a_row, p.a_col, height, part, a);
      for (int64_t y = 0; y < columns; y += W)
        for (int64_t x = 0; x < height; x += panel_rows) {
          C *to = sums + (s + x) * ld + y;
          if (x + panel_rows <= height && y + W <= columns)
            panel_tile(part, a + x * part, b + y * part, to, ld, q > 0);
          else
            panel_corner(part, a + x * part, b + y * part, to, ld, q > 0,
                         std::min<int64_t>(panel_rows, height - x), std::min(W, columns - y));
        }
    }
  }
  if (!in_place) finish(p, i, j, rows, columns, sums, ld);
}

template <class T, class PackB> inline void multiply_packed(const Product<T> &p, PackB &&pack_b) {
  const Blocks blocks(p.m, p.n, panel_rows, panel_columns<compute_t<T>>, num_threads());
  // A block is tens of microseconds of work or the product is small; then one thread does it all.
  const int64_t grain = p.m * p.n * p.k < 64 * 64 * 64 ? blocks.count : 1;
  parallel_for(0, blocks.count, grain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t i = t / blocks.across * blocks.rows, j = t % blocks.across * blocks.columns;
      multiply_block(p, i, j, std::min(blocks.rows, p.m - i), std::min(blocks.columns, p.n - j), pack_b);
    }
  });
}

// ---- the choice ----------------------------------------------------------------------------------------

// Multiply-adds below which handing work to another thread costs more than it saves.
inline constexpr int64_t parallel_work = 64 * 1024;

// Multiply-adds from which on oneDNN's call is worth its overhead.
inline constexpr int64_t least_library_work = 128 * 128 * 128;

// a as rows of C, contiguous along k: itself where it is that already, else a copy in `operands` scratch.
template <class T> inline const compute_t<T> *widened_rows(const Product<T> &p, int64_t *ld) {
  using C = compute_t<T>;
  if constexpr (std::is_same_v<T, C>)
    if (p.a_col == 1) {
      *ld = p.a_row;
      return p.a;
    }
  *ld = round_up(p.k, 16);
  C *copy = static_cast<C *>(scratch<Scratch::operands>(size_t(p.m * *ld) * sizeof(C)));
  for (int64_t i = 0; i < p.m; ++i) to_float(p.a + i * p.a_row, p.a_col, copy + i * *ld, p.k);
  return copy;
}

// Few rows, b contiguous along k (weights as [n, k]): b streams once through dot products.
template <class T> inline void multiply_dots(const Product<T> &p) {
  using C = compute_t<T>;
  constexpr int64_t group = 16, most_rows = 64;
  int64_t lda;
  const C *a = widened_rows(p, &lda);
  const int64_t grain = std::max<int64_t>(1, parallel_work / (group * p.m * p.k + 1));
  parallel_for(0, (p.n + group - 1) / group, grain, [&](int64_t begin, int64_t end) {
    C sums[most_rows * group];
    for (int64_t g = begin; g < end; ++g) {
      const int64_t j = g * group, columns = std::min(group, p.n - j);
      for (int64_t i = 0; i < p.m; i += most_rows) {
        const int64_t rows = std::min(most_rows, p.m - i);
        dot_block(rows, columns, p.k, a + i * lda, lda, p.b + j * p.b_col, p.b_col, sums, group);
        finish(p, i, j, rows, columns, sums, group);
      }
    }
  });
}

// Few rows or a small b, b contiguous along n: b is read where it lies.
template <class T> inline void multiply_rows(const Product<T> &p) {
  using C = compute_t<T>;
  constexpr int64_t narrow = 8 * lanes<C>, height = 2 * row_tile_rows, most_sums = 8192;
  int64_t a_row = p.a_row, a_col = p.a_col;
  const C *a;
  if constexpr (std::is_same_v<T, C>) {
    a = p.a;
  } else {
    a = widened_rows(p, &a_row);
    a_col = 1;
  }
  // With so few rows b streams from memory: by whole lines of it, a few at a time, rather than down columns.
  const bool streams = p.m <= 4;
  const int64_t share = round_up((p.n + 2 * num_threads() - 1) / (2 * num_threads()), narrow);
  const int64_t width = streams ? std::min(share, most_sums / 4) : narrow, depth = streams ? 8 : p.k;
  const int64_t across = (p.n + width - 1) / width, down = (p.m + height - 1) / height;
  const int64_t grain =
      std::max<int64_t>(1, parallel_work / (std::min(width, p.n) * std::min(height, p.m) * p.k + 1));
  static_assert(narrow * height <= most_sums, "sums of a block fit");
  parallel_for(0, across * down, grain, [&](int64_t begin, int64_t end) {
    alignas(64) C sums[most_sums];
    for (int64_t t = begin; t < end; ++t) {
      const int64_t i = t % down * height, j = t / down * width;
      const int64_t rows = std::min(height, p.m - i), columns = std::min(width, p.n - j);
      for (int64_t q = 0; q < p.k; q += depth)
        row_block(rows, columns, std::min(depth, p.k - q), a + i * a_row + q * a_col, a_row, a_col,
                  p.b + q * p.b_row + j, p.b_row, sums, width, q > 0);
      finish(p, i, j, rows, columns, sums, width);
    }
  });
}

// A few dozen rows, b contiguous along k: as the product of the transposes, in which the larger b is not
// packed but read where it lies, one number for many sums.
template <class T> inline void multiply_broadcast(const Product<T> &p) {
  static_assert(std::is_same_v<T, compute_t<T>>, "b is read as it is");
  constexpr int64_t width = panel_columns<T>, block = 8 * row_tile_rows;
  const int64_t ld = round_up(p.m, width);
  T *a = static_cast<T *>(scratch<Scratch::operands>(size_t(ld * p.k + width) * sizeof(T)));
  pack<width>(p.a, p.a_row, p.a_col, p.m, p.k, a);
  parallel_for(0, (p.n + block - 1) / block, 1, [&](int64_t begin, int64_t end) {
    T *sums = static_cast<T *>(scratch<Scratch::panels>(size_t(block * ld) * sizeof(T)));
    T line[block];
    for (int64_t j = begin * block; j < std::min(end * block, p.n); j += block) {
      const int64_t columns = std::min(block, p.n - j);
      for (int64_t q = 0; q < p.k; q += panel_depth)
        for (int64_t x = 0; x < ld; x += width)
          row_block(columns, width, std::min(panel_depth, p.k - q), p.b + j * p.b_col + q, p.b_col, 1,
                    a + x * p.k + q * width, width, sums + x, ld, q > 0);
      for (int64_t i = 0; i < p.m; ++i) {
        for (int64_t c = 0; c < columns; ++c) line[c] = sums[c * ld + i];
        finish(p, i, j, 1, columns, line, columns);
      }
    }
  });
}

template <class T> inline void multiply_packed(const Product<T> &p) {
  multiply_packed(p, [&](int64_t q, int64_t depth, int64_t j, int64_t columns, compute_t<T> *out) {
    pack<panel_columns<compute_t<T>>>(p.b + q * p.b_row + j * p.b_col, p.b_col, p.b_row, columns, depth, out);
  });
}

// Large plain products by oneDNN, one piece per thread; false where it is absent or not made for this one.
template <class T> inline bool multiply_by_library(const Product<T> &p) {
  constexpr int64_t least = 32;
  constexpr int32_t dtype = std::is_same_v<T, float>  ? INFINI_DTYPE_F32
                            : std::is_same_v<T, half> ? INFINI_DTYPE_F16
                                                      : INFINI_DTYPE_BF16;
  if (std::is_same_v<T, double> || p.m < least || p.n < least || p.k < least ||
      p.m * p.n * p.k < least_library_work || p.alpha != 1 || p.beta != 0 || p.c_col != 1 || p.c_row < p.n ||
      (p.bias && (p.bias_row != 0 || p.bias_col != 1)))
    return false;
  const auto plain = [](int64_t rows, int64_t columns, int64_t row, int64_t column) {
    return (column == 1 && row >= columns) || (row == 1 && column >= rows);
  };
  // Where b is wide and lies along n, our panels are the faster way (measured against oneDNN 3.2).
  if (dtype == INFINI_DTYPE_F32 && p.b_col == 1 && p.b_row > 768) return false;
  if (!plain(p.m, p.k, p.a_row, p.a_col) || !plain(p.k, p.n, p.b_row, p.b_col)) return false;
  const infini_onednn_api *library = onednn();
  if (!library) return false;

  // As many pieces as threads, as square as they come.
  const int64_t threads = num_threads();
  int64_t down = 1;
  for (int64_t d = 2; d <= threads; ++d)
    if (threads % d == 0 && p.m / d + p.n * d / threads < p.m / down + p.n * down / threads) down = d;
  const int64_t height = round_up((p.m + down - 1) / down, 16),
                width = round_up((p.n * down + threads - 1) / threads, 16);
  const int64_t across = (p.n + width - 1) / width, pieces = (p.m + height - 1) / height * across;
  const auto piece = [&](int64_t t) {
    Product<T> part = p;
    const int64_t i = t / across * height, j = t % across * width;
    part.m = std::min(height, p.m - i);
    part.n = std::min(width, p.n - j);
    part.a += i * p.a_row;
    part.b += j * p.b_col;
    part.c += i * p.c_row + j;
    if (p.bias) part.bias += j;
    return part;
  };
  const auto call = [](const Product<T> &x) {
    return infini_onednn_product{dtype, x.m,     x.n,     x.k, x.a,     x.a_row, x.a_col,
                                 x.b,   x.b_row, x.b_col, x.c, x.c_row, x.bias};
  };
  const infini_onednn_product first = call(piece(0));
  if (!library->has_product(&first)) return false;
  parallel_for(0, pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const Product<T> part = piece(t);
      const infini_onednn_product arguments = call(part);
      if (!library->product(&arguments)) multiply_packed(part);
    }
  });
  return true;
}

template <class T> inline void multiply(Product<T> p) {
  constexpr int64_t few_dots = 24, few_rows = 24, some_rows = 128, small_b = 64 * 1024;
  if (p.m == 0 || p.n == 0) return;
  if (p.k == 0) return finish_empty(p);
  // Make the rows few and the writes contiguous.
  if (p.m > few_dots ? p.n <= few_dots || (p.c_col != 1 && p.c_row == 1)
                     : p.n < p.m && p.b_row != 1 && p.b_col != 1)
    p = p.transposed();
  if (p.b_row == 1 && p.m <= few_dots) return multiply_dots(p);
  if (p.b_col == 1 && (p.m <= few_rows || p.k * p.n * int64_t(sizeof(T)) <= small_b)) return multiply_rows(p);
  if (multiply_by_library(p)) return;
  if constexpr (std::is_same_v<T, compute_t<T>>)
    if (p.b_row == 1 && p.m <= some_rows) return multiply_broadcast(p);
  multiply_packed(p);
}

}  // namespace infini::cpu::INFINI_ISA
