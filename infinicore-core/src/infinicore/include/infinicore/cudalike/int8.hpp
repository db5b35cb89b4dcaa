// cudalike/int8.hpp -- for vendors whose library multiplies int8 matrices: what of int8_gemm is left to do
// then. Host code only; gemm.hpp has the kernels behind it.
#pragma once
#include <infinicore/operators/int8_gemm.h>
#include <infinicore/plugin.hpp>

namespace infini::cudalike {

// The whole operator as one kernel, for what the library does not take.
extern const infini_operator tiled_int8_gemm;

// out = sums * x_scale (of the row) * weights_scale (of the column) + bias; sums are i32, their rows `pitch`
// elements apart.
void dequantise_sums(const infini_int8_gemm_args &call, const int32_t *sums, int64_t pitch,
                     infinirtStream_t stream);

}  // namespace infini::cudalike
