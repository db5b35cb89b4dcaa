// infinicore_cuda/matmul.cpp -- the matrix products gemm and linear, through cuBLASLt.
// Layouts that no BLAS takes (negative or zero strides, no unit stride) are copied to the workspace first.
#include <infinicore/cudalike/few_rows.hpp>
#include <infinicore/operators/gemm.h>
#include <infinicore/operators/linear.h>

#include <array>
#include <cstdlib>
#include <memory>

#include "copy.hpp"
#include "product.hpp"

namespace infini::cuda {

namespace {

// ---- layouts
// -----------------------------------------------------------------------------------------------

// A matrix, or a batch of them, as one operand sees it; strides in elements.
struct Matrix {
  int64_t rows, columns, row, column;

  Matrix turned() const { return {columns, rows, column, row}; }

  // Strides of dimensions of one element mean nothing: give them the value that suits a BLAS.
  void tidy() {
    if (columns == 1) column = 1;
    if (rows == 1) row = column == 1 ? std::max<int64_t>(columns, 1) : 1;
  }
  bool by_rows() const { return column == 1 && row >= std::max<int64_t>(columns, 1); }
  bool by_columns() const { return row == 1 && column >= std::max<int64_t>(rows, 1); }
};

struct BatchDimension {
  int64_t size, c, a, b;  // strides of the three matrices
};

// ---- gemm and linear
// ---------------------------------------------------------------------------------------

lt::DataType data_type(const char *name, int32_t dtype) {
  switch (dtype) {
    case INFINI_DTYPE_F16:
      return lt::real_16f;
    case INFINI_DTYPE_BF16:
      return lt::real_16bf;
    case INFINI_DTYPE_F32:
      return lt::real_32f;
    case INFINI_DTYPE_F64:
      return lt::real_64f;
    default:
      throw Error(INFINI_STATUS_BAD_TENSOR_DTYPE, std::string(name) + ": no matrix product of dtype " +
                                                      std::to_string(dtype) + " (infiniDtype_t)");
  }
}

// The environment's choice: products of f32 in tensor cores, with ten bits of fraction instead of 23.
bool tf32() {
  static const bool chosen = [] {
    const char *text = std::getenv("INFINICORE_CUDA_TF32");
    return text != nullptr && std::string(text) == "1";
  }();
  return chosen;
}

// c = alpha * a @ b + beta * c (+ bias in every row), over a batch.
class Matmul {
 public:
  struct Operands {
    const infini_tensor *c, *a, *b, *bias;
  };

  // `linear` reads a's leading dimensions as rows, and b transposed.
  Matmul(const char *name, const Operands &given, bool linear) : linear_(linear) {
    const int32_t dtype = given.c->dtype;
    const lt::DataType type = data_type(name, dtype);
    width_ = element_bytes(dtype);
    plan(given);
    if (empty_) return;
    // A bias runs along rows: only where c is written by rows can the product add it.
    if (!c_.by_rows() && (given.bias != nullptr || !c_.by_columns())) {
      copy_c_ = std::make_unique<Copy>(*given.c);
      back_c_ = std::make_unique<Copy>(*given.c, true);
    }
    if (!a_.by_rows() && !a_.by_columns()) copy_a_ = std::make_unique<Copy>(*given.a);
    if (!b_.by_rows() && !b_.by_columns()) copy_b_ = std::make_unique<Copy>(*given.b);
    if (given.bias != nullptr && given.bias->shape[0] > 1 && given.bias->strides[0] != 1)
      copy_bias_ = std::make_unique<Copy>(*given.bias);
    if (copy_c_ || copy_a_ || copy_b_) {
      Operands packed = given;
      const infini_tensor c = packed_view(copy_c_, given.c), a = packed_view(copy_a_, given.a),
                          b = packed_view(copy_b_, given.b);
      packed.c = &c;
      packed.a = &a;
      packed.b = &b;
      plan(packed);
    }
    int device = 0;
    cudalike::check<Sdk>(cudaGetDevice(&device), "GetDevice");

    // cuBLAS counts columns first: what it is asked for is the transposed product, unless c is transposed.
    flipped_ = !c_.by_rows();
    const Matrix c = flipped_ ? c_.turned() : c_;
    const Matrix left = flipped_ ? a_.turned() : b_, right = flipped_ ? b_.turned() : a_;
    const BatchDimension strided = dims_.empty() ? BatchDimension{1, 0, 0, 0} : dims_.back();
    if (!dims_.empty()) dims_.pop_back();
    problem_.rows = c.columns;
    problem_.columns = c.rows;
    problem_.depth = a_.columns;
    problem_.transpose_a = !left.by_rows();
    problem_.transpose_b = !right.by_rows();
    problem_.lda = left.by_rows() ? left.row : left.column;
    problem_.ldb = right.by_rows() ? right.row : right.column;
    problem_.ldc = c.row;
    problem_.batch = strided.size;
    problem_.stride_c = strided.c;
    problem_.stride_a = flipped_ ? strided.a : strided.b;
    problem_.stride_b = flipped_ ? strided.b : strided.a;
    problem_.type_a = problem_.type_b = problem_.type_c = type;
    problem_.compute = type == lt::real_64f             ? lt::compute_64f
                       : type == lt::real_32f && tf32() ? lt::compute_32f_fast_tf32
                                                        : lt::compute_32f;
    problem_.epilogue = given.bias != nullptr ? lt::add_bias : lt::no_epilogue;
    problem_.device = device;
    problem_.workspace_limit = workspace_limit(device);
    if (problem_.depth > 0) product_ = std::make_unique<Product>(problem_);
    // With factors of zeros, where a and b count for nothing and may hold anything.
    Problem nothing = problem_;
    nothing.depth = 1;
    nothing.lda = nothing.rows;
    nothing.ldb = 1;
    nothing.transpose_a = nothing.transpose_b = nothing.stride_a = nothing.stride_b =
        nothing.workspace_limit = 0;
    nothing_ = nothing;
  }

  uint64_t workspace() const {
    if (empty_) return 0;
    const uint64_t zeros = aligned(static_cast<uint64_t>(problem_.rows + problem_.columns) * width_);
    uint64_t bytes = std::max(product_ ? aligned(product_->workspace_bytes()) : 0, zeros);
    for (const auto *copy : {&copy_c_, &copy_a_, &copy_b_, &copy_bias_})
      if (*copy) bytes += aligned((*copy)->bytes());
    return bytes;
  }

  void run(const Operands &given, double alpha, double beta, void *workspace, infinirtStream_t stream) const {
    if (empty_) return;
    char *place = static_cast<char *>(workspace);
    const auto put = [&](const std::unique_ptr<Copy> &copy, const infini_tensor *tensor,
                         bool fill) -> void * {
      if (tensor == nullptr || !copy) return tensor != nullptr ? tensor->data : nullptr;
      void *packed = place;
      place += aligned(copy->bytes());
      if (fill) copy->run(tensor->data, packed, stream);
      return packed;
    };
    const bool counts = alpha != 0 && product_ != nullptr;
    void *c = put(copy_c_, given.c, beta != 0);
    const void *a = put(copy_a_, given.a, counts), *b = put(copy_b_, given.b, counts);
    const void *bias = put(copy_bias_, given.bias, true);
    if (counts) {
      for_each(dims_, 0, {0, 0, 0}, [&](const std::array<int64_t, 3> &at) {
        const void *left = offset(flipped_ ? a : b, flipped_ ? at[1] : at[2]);
        const void *right = offset(flipped_ ? b : a, flipped_ ? at[2] : at[1]);
        product_->run({alpha, left, right, beta, offset(c, at[0]), bias}, place, stream);
      });
    } else {
      const uint64_t zeros = static_cast<uint64_t>(problem_.rows + problem_.columns) * width_;
      cudalike::check<Sdk>(cudaMemsetAsync(place, 0, zeros, static_cast<cudaStream_t>(stream)),
                           "MemsetAsync");
      const Product product(nothing_);
      const char *left = place, *right = place;  // both are zeros, and none is written
      for_each(dims_, 0, {0, 0, 0}, [&](const std::array<int64_t, 3> &at) {
        product.run({1, left, right, beta, offset(c, at[0]), bias}, nullptr, stream);
      });
    }
    if (back_c_) back_c_->run(given.c->data, c, stream);
  }

 private:
  static Matrix last_two(const infini_tensor &t) {
    return {t.shape[t.ndim - 2], t.shape[t.ndim - 1], t.strides[t.ndim - 2], t.strides[t.ndim - 1]};
  }

  static infini_tensor packed_view(const std::unique_ptr<Copy> &copy, const infini_tensor *tensor) {
    infini_tensor view = *tensor;
    if (copy) view.strides = copy->strides().data();
    return view;
  }

  const void *offset(const void *data, int64_t elements) const {
    return static_cast<const char *>(data) + elements * static_cast<int64_t>(width_);
  }
  void *offset(void *data, int64_t elements) const {
    return static_cast<char *>(data) + elements * static_cast<int64_t>(width_);
  }

  // The three matrices and the dimensions of their batch, as few as possible.
  void plan(const Operands &given) {
    dims_.clear();
    const infini_tensor &c = *given.c, &a = *given.a, &b = *given.b;
    if (linear_) {
      const int32_t rows = c.ndim - 2;  // the dimension of rows, if there is one
      const int64_t count = rows >= 0 ? c.shape[rows] : 1;
      c_ = {count, c.shape[c.ndim - 1], rows >= 0 ? c.strides[rows] : 0, c.strides[c.ndim - 1]};
      a_ = {count, a.shape[a.ndim - 1], rows >= 0 ? a.strides[rows] : 0, a.strides[a.ndim - 1]};
      b_ = last_two(b).turned();
      for (int32_t d = 0; d < rows; ++d) dims_.push_back({c.shape[d], c.strides[d], a.strides[d], 0});
    } else {
      c_ = last_two(c);
      a_ = last_two(a);
      b_ = last_two(b);
      for (int32_t d = 0; d < c.ndim - 2; ++d)
        dims_.push_back({c.shape[d], c.strides[d], a.strides[d], b.strides[d]});
    }
    empty_ = c_.rows == 0 || c_.columns == 0;
    std::vector<BatchDimension> merged;
    for (const BatchDimension &d : dims_) {
      empty_ = empty_ || d.size == 0;
      if (d.size == 1) continue;
      if (!merged.empty() && merged.back().c == d.c * d.size && merged.back().a == d.a * d.size &&
          merged.back().b == d.b * d.size)
        merged.back() = {merged.back().size * d.size, d.c, d.a, d.b};
      else
        merged.push_back(d);
    }
    dims_ = std::move(merged);
    // One b for the whole batch: then the batch is more rows, and b is read once.
    if (!dims_.empty() && dims_.back().b == 0 && dims_.back().c == c_.rows * c_.row &&
        dims_.back().a == a_.rows * a_.row) {
      c_.rows *= dims_.back().size;
      a_.rows = c_.rows;
      dims_.pop_back();
    } else if (!dims_.empty() && dims_.back().b == 0 && c_.rows == 1) {
      c_ = {dims_.back().size, c_.columns, dims_.back().c, c_.column};
      a_ = {dims_.back().size, a_.columns, dims_.back().a, a_.column};
      dims_.pop_back();
    }
    c_.tidy();
    a_.tidy();
    b_.tidy();
  }

  template <class Body> static void for_each(const std::vector<BatchDimension> &dims, size_t d,
                                             std::array<int64_t, 3> at, const Body &body) {
    if (d == dims.size()) return body(at);
    for (int64_t i = 0; i < dims[d].size; ++i) {
      for_each(dims, d + 1, at, body);
      at[0] += dims[d].c;
      at[1] += dims[d].a;
      at[2] += dims[d].b;
    }
  }

  bool linear_, empty_ = false, flipped_ = false;
  uint64_t width_ = 0;
  Matrix c_{}, a_{}, b_{};
  std::vector<BatchDimension> dims_;  // but the innermost, which cuBLASLt walks
  std::unique_ptr<Copy> copy_c_, back_c_, copy_a_, copy_b_, copy_bias_;
  Problem problem_{}, nothing_{};
  std::unique_ptr<Product> product_;
};

// So few rows that multiplying takes less time than reading the weights: cudalike's kernel. Tensor cores earn
// their conversions from 9 rows on.
constexpr int64_t most_few_rows = 8;

class Gemm {
 public:
  explicit Gemm(const infini_gemm_args &call) : matmul_("gemm", operands(call), false) {}
  uint64_t workspace() const { return matmul_.workspace(); }
  void execute(const infini_gemm_args &call, void *workspace, infinirtStream_t stream) const {
    const cudalike::FewRows few = cudalike::few_rows(call);
    if (few.rows <= most_few_rows && few.fits()) return cudalike::few_rows_product(few, stream);
    matmul_.run(operands(call), call.alpha, call.beta, workspace, stream);
  }

 private:
  static Matmul::Operands operands(const infini_gemm_args &call) { return {call.c, call.a, call.b, nullptr}; }
  Matmul matmul_;
};

class Linear {
 public:
  explicit Linear(const infini_linear_args &call) : matmul_("linear", operands(call), true) {}
  uint64_t workspace() const { return matmul_.workspace(); }
  void execute(const infini_linear_args &call, void *workspace, infinirtStream_t stream) const {
    const cudalike::FewRows few = cudalike::few_rows(call);
    if (few.rows <= most_few_rows && few.fits()) return cudalike::few_rows_product(few, stream);
    matmul_.run(operands(call), call.alpha, 0, workspace, stream);
  }

 private:
  static Matmul::Operands operands(const infini_linear_args &call) {
    return {call.out, call.input, call.weight, call.bias};
  }
  Matmul matmul_;
};

}  // namespace

}  // namespace infini::cuda

namespace infini::cudalike::entries {
extern const infini_operator gemm, linear;
const infini_operator gemm = INFINI_KERNEL(gemm, cuda::Gemm);
const infini_operator linear = INFINI_KERNEL(linear, cuda::Linear);
}  // namespace infini::cudalike::entries
