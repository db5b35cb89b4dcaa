// infinicore_cuda/int8_gemm.cpp -- int8_gemm: exact sums by cuBLASLt in tensor cores, then one kernel of
// scales. They take rows of x and columns of the weights, in steps of 4 bytes: what lies otherwise is copied
// first.
#include <infinicore/cudalike/int8.hpp>

#include "copy.hpp"
#include "product.hpp"

namespace infini::cuda {

namespace {

int64_t multiple(int64_t count, int64_t of) {
  return (count + of - 1) / of * of;
}

class Int8Gemm {
 public:
  explicit Int8Gemm(const infini_int8_gemm_args &call) : tiled_(call) {
    const infini_tensor &x = *call.x, &weights = *call.weights;
    rows_ = x.shape[0];
    const int64_t depth = x.shape[1], columns = weights.shape[1];
    if (rows_ == 0 || columns == 0 || depth == 0) return;
    // Rows of zeros are added to either matrix until the sizes suit.
    const bool padded = depth % step != 0;
    const int64_t deep = padded ? multiple(depth, line) : depth;
    pitch_ = columns % step == 0 ? columns : multiple(columns, line);
    const Side x_side = {x.shape[0], x.strides[0], x.strides[1]};
    const Side weights_side = {columns, weights.strides[1], weights.strides[0]};
    if (padded || !x_side.fits(depth)) x_ = std::make_unique<Packed>(x, x_side.count, deep, false);
    if (padded || pitch_ != columns || !weights_side.fits(depth))
      weights_ = std::make_unique<Packed>(weights, pitch_, deep, true);

    int device = 0;
    cudalike::check<Sdk>(cudaGetDevice(&device), "GetDevice");
    Problem problem{};
    problem.rows = pitch_;  // cuBLAS counts columns first: what it is asked for is the transposed product
    problem.columns = rows_;
    problem.depth = deep;
    problem.transpose_a = 1;
    problem.lda = weights_ ? deep : weights_side.pitch(depth);
    problem.ldb = x_ ? deep : x_side.pitch(depth);
    problem.ldc = pitch_;
    problem.batch = 1;
    problem.type_a = problem.type_b = lt::real_8i;
    problem.type_c = lt::real_32i;
    problem.compute = lt::compute_32i;
    problem.epilogue = lt::no_epilogue;
    problem.device = device;
    problem.workspace_limit = workspace_limit(device);
    try {
      product_ = std::make_unique<Product>(problem);
    } catch (const Error &error) {
      if (error.status != INFINI_STATUS_UNAVAILABLE && error.status != INFINI_STATUS_NOT_IMPLEMENTED) throw;
      host->log(INFINI_LOG_INFO, (std::string("int8_gemm without tensor cores: ") + error.what()).c_str());
    }
  }

  uint64_t workspace() const {
    if (!product_) return 0;
    uint64_t bytes = aligned(sums_bytes()) + product_->workspace_bytes();
    for (const auto *packed : {&x_, &weights_})
      if (*packed) bytes += aligned((*packed)->bytes());
    return bytes;
  }

  void execute(const infini_int8_gemm_args &call, void *workspace, infinirtStream_t stream) const {
    if (!product_ || !(x_ || suits(call.x->data)) || !(weights_ || suits(call.weights->data)))
      return tiled_.run(call, stream);
    char *place = static_cast<char *>(workspace);
    const auto put = [&](const std::unique_ptr<Packed> &packed, const infini_tensor &tensor) -> const void * {
      if (!packed) return tensor.data;
      void *target = place;
      place += aligned(packed->bytes());
      packed->run(tensor.data, target, stream);
      return target;
    };
    const void *x = put(x_, *call.x), *weights = put(weights_, *call.weights);
    void *sums = place;
    place += aligned(sums_bytes());
    product_->run({1, weights, x, 0, sums}, place, stream);
    cudalike::dequantise_sums(call, static_cast<const int32_t *>(sums), pitch_, stream);
  }

 private:
  static constexpr int64_t step = 4, line = 16;  // bytes that cuBLASLt asks for, and bytes that it likes

  static bool suits(const void *address) { return reinterpret_cast<uintptr_t>(address) % step == 0; }

  // Vectors of `depth` elements, as one of the matrices holds them.
  struct Side {
    int64_t count, between, along;  // how many there are; strides between and along them
    int64_t pitch(int64_t depth) const { return count > 1 ? between : depth; }
    bool fits(int64_t depth) const {
      return (along == 1 || depth == 1) && pitch(depth) >= depth && pitch(depth) % step == 0;
    }
  };

  // A copy of a matrix with its vectors `pitch` bytes apart, and zeros up to the sizes that were asked for.
  class Packed {
   public:
    Packed(const infini_tensor &matrix, int64_t count, int64_t pitch, bool by_columns)
        : shape_{matrix.shape[by_columns], matrix.shape[!by_columns]},
          strides_{matrix.strides[by_columns], matrix.strides[!by_columns]},
          bytes_(static_cast<uint64_t>(count * pitch)),
          filled_(count == shape_[0] && pitch == shape_[1]),
          copy_({nullptr, shape_, strides_, 2, matrix.dtype}, false, pitch) {}
    uint64_t bytes() const { return bytes_; }
    void run(void *matrix, void *target, infinirtStream_t stream) const {
      if (!filled_)
        cudalike::check<Sdk>(cudaMemsetAsync(target, 0, bytes_, static_cast<cudaStream_t>(stream)),
                             "MemsetAsync");
      copy_.run(matrix, target, stream);
    }

   private:
    int64_t shape_[2], strides_[2];
    uint64_t bytes_;
    bool filled_;
    Copy copy_;
  };

  // The kernel that takes everything.
  class Tiled {
   public:
    explicit Tiled(const infini_int8_gemm_args &call) {
      check(entry().create(reinterpret_cast<const infini_slot *>(&call), &descriptor_));
    }
    ~Tiled() { entry().destroy(descriptor_); }
    Tiled(const Tiled &) = delete;
    Tiled &operator=(const Tiled &) = delete;
    void run(const infini_int8_gemm_args &call, infinirtStream_t stream) const {
      check(entry().execute(descriptor_, nullptr, 0, reinterpret_cast<const infini_slot *>(&call), stream));
    }

   private:
    static const infini_operator &entry() { return cudalike::tiled_int8_gemm; }
    static void check(infiniStatus_t status) {
      if (status != INFINI_STATUS_SUCCESS) throw Error(status, host->message());
    }
    infini_descriptor descriptor_ = nullptr;
  };

  uint64_t sums_bytes() const { return static_cast<uint64_t>(rows_ * pitch_) * sizeof(int32_t); }

  Tiled tiled_;
  int64_t rows_ = 0, pitch_ = 0;
  std::unique_ptr<Packed> x_, weights_;
  std::unique_ptr<Product> product_;
};

}  // namespace

}  // namespace infini::cuda

namespace infini::cudalike::entries {
extern const infini_operator int8_gemm;
const infini_operator int8_gemm = INFINI_KERNEL(int8_gemm, cuda::Int8Gemm);
}  // namespace infini::cudalike::entries
