// infinicore_cuda/product.hpp -- one kind of matrix product of cuBLASLt, planned once: layouts and algorithm.
// All that cuBLASLt multiplies is here: f32, TF32, f16, bf16, f64, int8 and fp8, batches, epilogues.
#pragma once
#include <array>
#include <atomic>
#include <memory>

#include "cublaslt.hpp"

namespace infini::cuda {

// c = epilogue(alpha * op(a) @ op(b) + beta * c), column-major as cuBLAS counts; strides in elements.
// All members are of one size, so that problems are compared as bytes.
struct Problem {
  int64_t rows, columns, depth;
  int64_t lda, ldb, ldc, batch, stride_a, stride_b, stride_c;
  int64_t transpose_a, transpose_b;
  int64_t type_a, type_b, type_c;  // lt::DataType
  int64_t compute, epilogue;       // lt::ComputeType, lt::Epilogue
  int64_t scaled;                  // 1: a and b have a factor each, in device memory (fp8)
  int64_t device, workspace_limit;
};

// Bytes that an algorithm may use on a device, as NVIDIA recommends.
int64_t workspace_limit(int device);

class Product {
 public:
  // What differs from run to run. Factors are rounded to the type of the sums: integers for int8.
  struct Operands {
    double alpha;
    const void *a, *b;
    double beta;
    void *c;
    const void *bias = nullptr;  // one number per row, of c's type, where the epilogue adds it
    const float *scale_a = nullptr, *scale_b = nullptr;
  };

  // Throws NOT_IMPLEMENTED where cuBLASLt has no algorithm, and UNAVAILABLE where there is no cuBLASLt.
  explicit Product(const Problem &problem);

  uint64_t workspace_bytes() const { return workspace_bytes_; }

  void run(const Operands &operands, void *workspace, infinirtStream_t stream) const;

 private:
  struct LayoutDeleter {
    void operator()(lt::Layout layout) const { lt::library().MatrixLayoutDestroy(layout); }
  };
  struct DescriptionDeleter {
    void operator()(lt::Description description) const { lt::library().MatmulDescDestroy(description); }
  };
  using Layout = std::unique_ptr<std::remove_pointer_t<lt::Layout>, LayoutDeleter>;
  using Description = std::unique_ptr<std::remove_pointer_t<lt::Description>, DescriptionDeleter>;

  Layout layout(int64_t type, int64_t rows, int64_t columns, int64_t ld, int64_t stride) const;
  Description describe(const Operands &operands) const;
  const lt::Heuristic &algorithm(int bucket, lt::Description description, int64_t workspace_limit) const;

  // Addresses are multiples of 1, 2, 4, 8 or 16 bytes; more makes no difference to any algorithm.
  static constexpr int bucket_count = 5;

  Problem problem_;
  lt::Handle handle_;
  Layout a_, b_, c_;
  Description description_;
  uint64_t workspace_bytes_ = 0;
  mutable std::array<std::atomic<const lt::Heuristic *>, bucket_count> algorithms_{};
};

}  // namespace infini::cuda
