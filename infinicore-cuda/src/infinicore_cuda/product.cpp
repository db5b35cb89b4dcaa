// infinicore_cuda/product.cpp -- how a product is described to cuBLASLt, and which algorithm it gets.
// An algorithm is looked for once per kind of product in a process, and kept.
#include "product.hpp"

#include <cstring>
#include <map>
#include <mutex>

namespace infini::cuda {

namespace {

lt::DataType scale_type(const Problem &problem) {
  return problem.compute == lt::compute_64f   ? lt::real_64f
         : problem.compute == lt::compute_32i ? lt::real_32i
                                              : lt::real_32f;
}

// A factor in the type that the product wants it in.
union Factor {
  float single;
  double both;
  int32_t whole;

  Factor(lt::DataType type, double value) {
    if (type == lt::real_64f)
      both = value;
    else if (type == lt::real_32i)
      whole = static_cast<int32_t>(value);
    else
      single = static_cast<float>(value);
  }
};

bool adds_bias(const Problem &problem) {
  return (problem.epilogue & lt::add_bias) != 0;
}

int bucket_of(std::initializer_list<const void *> addresses) {
  uintptr_t all = 16;
  for (const void *address : addresses) all |= reinterpret_cast<uintptr_t>(address);
  int bucket = 0;
  while ((all >> bucket & 1) == 0) ++bucket;
  return bucket;
}

struct Less {
  bool operator()(const std::pair<Problem, int> &one, const std::pair<Problem, int> &two) const {
    const int order = std::memcmp(&one.first, &two.first, sizeof(Problem));
    return order < 0 || (order == 0 && one.second < two.second);
  }
};

}  // namespace

int64_t workspace_limit(int device) {
  return cudalike::attribute<Sdk>(Sdk::attribute_major, device) >= 9 ? 32 << 20 : 8 << 20;
}

Product::Product(const Problem &problem)
    : problem_(problem), handle_(lt::handle(static_cast<int>(problem.device))) {
  const bool ta = problem.transpose_a != 0, tb = problem.transpose_b != 0;
  a_ = layout(problem.type_a, ta ? problem.depth : problem.rows, ta ? problem.rows : problem.depth,
              problem.lda, problem.stride_a);
  b_ = layout(problem.type_b, tb ? problem.columns : problem.depth, tb ? problem.depth : problem.columns,
              problem.ldb, problem.stride_b);
  c_ = layout(problem.type_c, problem.rows, problem.columns, problem.ldc, problem.stride_c);
  // The heuristic follows no address, but wants to see one.
  Operands nobody{};
  nobody.bias = reinterpret_cast<const void *>(uintptr_t(256));
  nobody.scale_a = nobody.scale_b = reinterpret_cast<const float *>(uintptr_t(256));
  description_ = describe(nobody);
  workspace_bytes_ = algorithm(bucket_count - 1, description_.get(), problem.workspace_limit).workspace_bytes;
}

void Product::run(const Operands &operands, void *workspace, infinirtStream_t stream) const {
  const bool own = adds_bias(problem_) || problem_.scaled != 0;  // addresses that are part of a description
  const Description described = own ? describe(operands) : Description();
  const lt::Description description = own ? described.get() : description_.get();
  const void *bias = adds_bias(problem_) ? operands.bias : nullptr;  // read in vectors, too
  const auto &chosen = algorithm(bucket_of({operands.a, operands.b, operands.c, bias}), description,
                                 static_cast<int64_t>(workspace_bytes_));
  const Factor alpha(scale_type(problem_), operands.alpha), beta(scale_type(problem_), operands.beta);
  lt::check(lt::library().Matmul(handle_, description, &alpha, operands.a, a_.get(), operands.b, b_.get(),
                                 &beta, operands.c, c_.get(), operands.c, c_.get(), &chosen.algorithm,
                                 workspace, workspace_bytes_, static_cast<cudaStream_t>(stream)),
            "Matmul");
}

Product::Layout Product::layout(int64_t type, int64_t rows, int64_t columns, int64_t ld,
                                int64_t stride) const {
  lt::Layout made = nullptr;
  lt::check(lt::library().MatrixLayoutCreate(&made, static_cast<int>(type), static_cast<uint64_t>(rows),
                                             static_cast<uint64_t>(columns), ld),
            "MatrixLayoutCreate");
  Layout owner(made);
  const auto set = [&](int attribute, auto value) {
    lt::check(lt::library().MatrixLayoutSetAttribute(made, attribute, &value, sizeof(value)),
              "MatrixLayoutSetAttribute");
  };
  if (problem_.batch > 1) {
    set(lt::batch_count, static_cast<int32_t>(problem_.batch));
    set(lt::strided_batch_offset, stride);
  }
  return owner;
}

Product::Description Product::describe(const Operands &operands) const {
  lt::Description made = nullptr;
  lt::check(lt::library().MatmulDescCreate(&made, static_cast<int>(problem_.compute), scale_type(problem_)),
            "MatmulDescCreate");
  Description owner(made);
  const auto set = [&](int attribute, auto value) {
    lt::check(lt::library().MatmulDescSetAttribute(made, attribute, &value, sizeof(value)),
              "MatmulDescSetAttribute");
  };
  set(lt::transpose_a, static_cast<int32_t>(problem_.transpose_a));
  set(lt::transpose_b, static_cast<int32_t>(problem_.transpose_b));
  if (problem_.epilogue != lt::no_epilogue) set(lt::epilogue, static_cast<int32_t>(problem_.epilogue));
  if (adds_bias(problem_)) set(lt::bias_pointer, operands.bias);
  if (problem_.scaled != 0) {
    set(lt::a_scale_pointer, operands.scale_a);
    set(lt::b_scale_pointer, operands.scale_b);
  }
  return owner;
}

const lt::Heuristic &Product::algorithm(int bucket, lt::Description description,
                                        int64_t workspace_limit) const {
  auto &slot = algorithms_[static_cast<size_t>(bucket)];  // without a lock from the second time on
  if (const lt::Heuristic *known = slot.load(std::memory_order_acquire)) return *known;
  static std::mutex mutex;
  static std::map<std::pair<Problem, int>, lt::Heuristic, Less> all;
  const std::lock_guard<std::mutex> lock(mutex);
  Problem key = problem_;
  key.workspace_limit = workspace_limit;
  auto found = all.find({key, bucket});
  if (found == all.end()) {
    const lt::Heuristic best = lt::choose(handle_, description, a_.get(), b_.get(), c_.get(),
                                          static_cast<uint64_t>(workspace_limit), 1u << bucket);
    found = all.emplace(std::pair(key, bucket), best).first;
  }
  slot.store(&found->second, std::memory_order_release);
  return found->second;
}

}  // namespace infini::cuda
