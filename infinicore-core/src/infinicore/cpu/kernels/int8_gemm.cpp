// kernels/int8_gemm.cpp -- products of int8 matrices, summed in i32, scaled by row and by column.
// Operands widen to i16 once, with k contiguous: every instruction set multiplies and adds pairs of those.
#include <infinicore/operators/int8_gemm.h>

#include "../kernel.hpp"
#include "../scratch.hpp"
#include "../vec.hpp"

#include <algorithm>
#include <cstring>

namespace infini::cpu::INFINI_ISA {

namespace {

typedef int16_t Words __attribute__((vector_size(vector_bytes)));
using Sums = vec<int32_t>;
constexpr int64_t words = vector_bytes / sizeof(int16_t);

// sum[i] += a[2i] * b[2i] + a[2i + 1] * b[2i + 1]
inline Sums add_products(Sums sum, Words a, Words b) {
#if defined(__AVX512BW__)
  return sum + (Sums)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return sum + (Sums)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#else
  const Sums a_pairs = (Sums)a, b_pairs = (Sums)b;  // two words each: the upper one, then the lower one
  return sum + (a_pairs >> 16) * (b_pairs >> 16) + (a_pairs << 16 >> 16) * (b_pairs << 16 >> 16);
#endif
}

inline Words load_words(const int16_t *p) {
  Words v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// sums[i * ld + j] = dot(row i of a, row j of b), both `ld_k` long, a whole number of registers.
template <int M, int N>
void tile(const int16_t *a, const int16_t *b, int64_t ld_k, int32_t *sums, int64_t ld) {
  Sums sum[M][N] = {};
  for (int64_t p = 0; p < ld_k; p += words) {
    Words x[N];
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) x[j] = load_words(b + j * ld_k + p);
#pragma GCC unroll 4
    for (int i = 0; i < M; ++i) {
      const Words y = load_words(a + i * ld_k + p);
#pragma GCC unroll 4
      for (int j = 0; j < N; ++j) sum[i][j] = add_products(sum[i][j], y, x[j]);
    }
  }
  constexpr int L = int(lanes<int32_t>);
  if constexpr (M * N % L == 0) {  // a register's worth of totals at a time
    for (int s = 0; s < M * N; s += L) {
      Sums rows[L];
#pragma GCC unroll 16
      for (int l = 0; l < L; ++l) rows[l] = sum[(s + l) / N][(s + l) % N];
      const Sums totals = reduce_add_rows<int32_t>(rows);
      for (int l = 0; l < L; ++l) sums[(s + l) / N * ld + (s + l) % N] = totals[l];
    }
  } else {
    for (int i = 0; i < M; ++i)
      for (int j = 0; j < N; ++j) {
        int32_t total = 0;
        for (int l = 0; l < L; ++l) total += sum[i][j][l];
        sums[i * ld + j] = total;
      }
  }
}

constexpr int tile_rows = vector_registers == 32 ? 4 : 2, tile_columns = 4;
constexpr int64_t panel = 16, block = 128;  // columns and rows of one task

class I8Gemm {
 public:
  explicit I8Gemm(const infini_int8_gemm_args &call)
      : dtype_(call.out->dtype),
        m_(call.out->shape[0]),
        n_(call.out->shape[1]),
        k_(call.x->shape[1]),
        ld_((k_ + words - 1) / words * words) {
    dispatch_floats("int8_gemm", dtype_, [](auto) {});
  }

  uint64_t workspace() const { return uint64_t(m_ * ld_) * sizeof(int16_t); }

  void execute(const infini_int8_gemm_args &call, void *workspace, infinirtStream_t) const {
    if (m_ * n_ == 0) return;
    auto *rows = static_cast<int16_t *>(workspace);
    const infini_tensor &x = *call.x;
    parallel_for(0, m_, std::max<int64_t>(1, 32 * 1024 / (ld_ + 1)), [&](int64_t begin, int64_t end) {
      widen(static_cast<const int8_t *>(x.data) + begin * x.strides[0], x.strides[0], x.strides[1],
            end - begin, rows + begin * ld_);
    });
    dispatch_floats("int8_gemm", dtype_,
                    [&](auto tag) { multiply<typename decltype(tag)::type>(call, rows); });
  }

 private:
  // `count` lines of k numbers as words, zeros behind them.
  void widen(const int8_t *from, int64_t across, int64_t along, int64_t count, int16_t *to) const {
    if (along != 1 && across == 1)  // neighbours in memory belong to different lines
      for (int64_t p = 0; p < k_; ++p)
        for (int64_t l = 0; l < count; ++l) to[l * ld_ + p] = from[p * along + l];
    else
      for (int64_t l = 0; l < count; ++l)
        if (along == 1)
          for (int64_t p = 0; p < k_; ++p) to[l * ld_ + p] = from[l * across + p];
        else
          for (int64_t p = 0; p < k_; ++p) to[l * ld_ + p] = from[l * across + p * along];
    for (int64_t l = 0; l < count; ++l) std::fill(to + l * ld_ + k_, to + (l + 1) * ld_, int16_t(0));
  }

  template <class T> void multiply(const infini_int8_gemm_args &call, const int16_t *rows) const {
    const infini_tensor &w = *call.weights;
    const int64_t across = (n_ + panel - 1) / panel, down = (m_ + block - 1) / block;
    const int64_t least = std::max<int64_t>(1, 128 * 1024 / (std::min(m_, block) * panel * ld_ + 1));
    parallel_for(0, across * down, least, [&](int64_t begin, int64_t end) {
      auto *columns =
          static_cast<int16_t *>(scratch<Scratch::panels>(size_t(panel * ld_ + 1) * sizeof(int16_t)));
      int64_t packed = -1;
      for (int64_t task = begin; task < end; ++task) {
        const int64_t j = task / down * panel, i = task % down * block;
        const int64_t width = std::min(panel, n_ - j), height = std::min(block, m_ - i);
        if (j != packed)
          widen(static_cast<const int8_t *>(w.data) + j * w.strides[1], w.strides[1], w.strides[0], width,
                columns);
        packed = j;
        int32_t sums[block * panel];
        products(rows + i * ld_, columns, height, width, sums);
        finish<T>(call, i, j, height, width, sums);
      }
    });
  }

  void products(const int16_t *rows, const int16_t *columns, int64_t height, int64_t width,
                int32_t *sums) const {
    int64_t i = 0;
    for (; i + tile_rows <= height; i += tile_rows)
      line<tile_rows>(rows + i * ld_, columns, width, sums + i * panel);
    for (; i < height; ++i) line<1>(rows + i * ld_, columns, width, sums + i * panel);
  }

  template <int M>
  void line(const int16_t *rows, const int16_t *columns, int64_t width, int32_t *sums) const {
    int64_t j = 0;
    for (; j + tile_columns <= width; j += tile_columns)
      tile<M, tile_columns>(rows, columns + j * ld_, ld_, sums + j, panel);
    for (; j < width; ++j) tile<M, 1>(rows, columns + j * ld_, ld_, sums + j, panel);
  }

  template <class T> void finish(const infini_int8_gemm_args &call, int64_t i, int64_t j, int64_t height,
                                 int64_t width, const int32_t *sums) const {
    const auto *row_scale = static_cast<const float *>(call.x_scale->data);
    const auto *column_scale = static_cast<const float *>(call.weights_scale->data);
    const int64_t row_step = call.x_scale->strides[0], column_step = call.weights_scale->strides[0];
    const infini_tensor &out = *call.out;
    for (int64_t r = 0; r < height; ++r) {
      compute_t<T> values[panel];
      const double scale = row_scale[(i + r) * row_step];
      for (int64_t c = 0; c < width; ++c) {
        double value = sums[r * panel + c] * scale * column_scale[(j + c) * column_step];
        if (call.bias)
          value += to_float(static_cast<const T *>(call.bias->data)[(j + c) * call.bias->strides[0]]);
        values[c] = compute_t<T>(value);
      }
      from_float(values, static_cast<T *>(out.data) + (i + r) * out.strides[0] + j * out.strides[1],
                 out.strides[1], width);
    }
  }

  int32_t dtype_;
  int64_t m_, n_, k_, ld_;
};

}  // namespace

INFINI_CPU_KERNEL(int8_gemm, I8Gemm)

}  // namespace infini::cpu::INFINI_ISA
