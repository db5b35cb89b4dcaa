// cudalike/few_rows.hpp -- products of few rows, as in decoding: which calls are such, and who computes them.
// Host code only; the kernel is in few_rows_kernel.hpp, and linked with the family of gemm.
#pragma once
#include <infinicore/operators/gemm.h>
#include <infinicore/operators/linear.h>
#include <infinicore/plugin.hpp>

#include <cstdint>

namespace infini::cudalike {

// c = alpha * a @ b.T + beta * c (+ bias in every row): b's rows, which are c's columns, are read once, so
// that the bandwidth of memory is the limit. Strides in elements; rows of a and b are contiguous.
struct FewRows {
  static constexpr int64_t most = 16;

  void *c;
  const void *a, *b;
  const infini_tensor *bias;
  int64_t rows, columns, depth;
  int64_t c_row, c_column, a_row, b_row;
  double alpha, beta;
  int32_t dtype;

  // May the kernel compute it? It reads 16 bytes at a time.
  bool fits() const {
    const int64_t size = dtype == INFINI_DTYPE_F32 ? 4 : 2, width = 16 / size;
    const bool known = dtype == INFINI_DTYPE_F32 || dtype == INFINI_DTYPE_F16 || dtype == INFINI_DTYPE_BF16;
    const auto aligned = [](const void *data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; };
    return known && rows > 0 && rows <= most && columns > 0 && depth > 0 && depth % width == 0 &&
           alpha != 0 && (rows == 1 || a_row % width == 0) && (columns == 1 || b_row % width == 0) &&
           aligned(a) && aligned(b);
  }
};

// The call as such a product; one of no rows where its layouts do not make one.
inline FewRows few_rows(const infini_gemm_args &call) {
  const infini_tensor &c = *call.c, &a = *call.a, &b = *call.b;
  const int32_t m = c.ndim - 2, n = c.ndim - 1;
  FewRows found = {c.data,       a.data,       b.data,       nullptr,      c.shape[m], c.shape[n], a.shape[n],
                   c.strides[m], c.strides[n], a.strides[m], b.strides[n], call.alpha, call.beta,  c.dtype};
  for (int32_t d = 0; d < m; ++d)
    if (c.shape[d] != 1) found.rows = 0;
  if (a.strides[n] != 1 || b.strides[m] != 1) found.rows = 0;
  return found;
}

// All leading dimensions are rows, where they lie so.
inline FewRows few_rows(const infini_linear_args &call) {
  const infini_tensor &out = *call.out, &in = *call.input, &weight = *call.weight;
  const int32_t last = out.ndim - 1;
  FewRows found = {out.data,          in.data,         weight.data, call.bias,         1,
                   weight.shape[0],   weight.shape[1], 0,           out.strides[last], 0,
                   weight.strides[0], call.alpha,      0,           out.dtype};
  for (int32_t d = last; d-- > 0;) {
    const int64_t size = out.shape[d];
    if (size == 1) continue;
    if (found.rows == 1) {
      found.c_row = out.strides[d];
      found.a_row = in.strides[d];
    } else if (out.strides[d] != found.rows * found.c_row || in.strides[d] != found.rows * found.a_row) {
      found.rows = 0;
    }
    found.rows *= size;
  }
  if (in.strides[last] != 1 || weight.strides[1] != 1) found.rows = 0;
  return found;
}

// Enqueue a product that fits.
void few_rows_product(const FewRows &call, infinirtStream_t stream);

}  // namespace infini::cudalike
