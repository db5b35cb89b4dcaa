// infinicore_cuda/cublaslt.hpp -- the functions of cuBLASLt that matrix products use, opened at first use.
// Types are opaque and numbers are those of NVIDIA's documentation: no header of cuBLAS is needed to build.
#pragma once
#include "sdk.hpp"

namespace infini::cuda::lt {

using Handle = struct cublasLtContext *;
using Description = struct cublasLtMatmulDescOpaque *;
using Layout = struct cublasLtMatrixLayoutOpaque *;
using Preference = struct cublasLtMatmulPreferenceOpaque *;
using Status = int;  // cublasStatus_t

struct Algorithm {  // cublasLtMatmulAlgo_t
  uint64_t data[8];
};
struct Heuristic {  // cublasLtMatmulHeuristicResult_t
  Algorithm algorithm;
  size_t workspace_bytes;
  Status state;
  float waves;
  int reserved[4];
};

enum DataType {  // cudaDataType_t
  real_32f = 0,
  real_64f = 1,
  real_16f = 2,
  real_8i = 3,
  real_32i = 10,
  real_16bf = 14,
  real_8f_e4m3 = 28,
  real_8f_e5m2 = 29
};
enum ComputeType {  // cublasComputeType_t
  compute_32f = 68,
  compute_64f = 70,
  compute_32i = 72,
  compute_32f_fast_tf32 = 77
};
enum DescriptionAttribute {
  transpose_a = 3,
  transpose_b = 4,
  epilogue = 7,
  bias_pointer = 8,
  a_scale_pointer = 17,
  b_scale_pointer = 18
};
enum LayoutAttribute { batch_count = 5, strided_batch_offset = 6 };
enum PreferenceAttribute { max_workspace_bytes = 1, min_alignment_a = 5 };  // then b, c, d
enum Operation { plain = 0, transposed = 1 };                               // cublasOperation_t
enum Epilogue { no_epilogue = 1, relu = 2, add_bias = 4, relu_bias = 6, gelu = 32, gelu_bias = 36 };

struct Functions {
  Status (*Create)(Handle *) = nullptr;
  Status (*MatmulDescCreate)(Description *, int compute, int scale) = nullptr;
  Status (*MatmulDescDestroy)(Description) = nullptr;
  Status (*MatmulDescSetAttribute)(Description, int, const void *, size_t) = nullptr;
  Status (*MatrixLayoutCreate)(Layout *, int type, uint64_t rows, uint64_t columns, int64_t ld) = nullptr;
  Status (*MatrixLayoutDestroy)(Layout) = nullptr;
  Status (*MatrixLayoutSetAttribute)(Layout, int, const void *, size_t) = nullptr;
  Status (*MatmulPreferenceCreate)(Preference *) = nullptr;
  Status (*MatmulPreferenceDestroy)(Preference) = nullptr;
  Status (*MatmulPreferenceSetAttribute)(Preference, int, const void *, size_t) = nullptr;
  Status (*MatmulAlgoGetHeuristic)(Handle, Description, Layout a, Layout b, Layout c, Layout d, Preference,
                                   int wanted, Heuristic *, int *found) = nullptr;
  Status (*Matmul)(Handle, Description, const void *alpha, const void *a, Layout, const void *b, Layout,
                   const void *beta, const void *c, Layout, void *d, Layout, const Algorithm *,
                   void *workspace, size_t, cudaStream_t) = nullptr;
  const char *(*GetStatusString)(Status) = nullptr;  // since 11.4
};

// The library; throws where it is not installed.
const Functions &library();
// Its handle for a device, which must be current the first time.
Handle handle(int device);
// Throw what function `call` (without "cublasLt") reported.
void check(Status status, const char *call);

// The best algorithm for a product of these layouts whose addresses are multiples of `alignment` bytes.
Heuristic choose(Handle handle, Description description, Layout a, Layout b, Layout c,
                 uint64_t workspace_bytes, uint32_t alignment);

}  // namespace infini::cuda::lt
