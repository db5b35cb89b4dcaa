// doubles/cuda/products.cpp -- lets tests ask for any matrix product that infinicore-cuda can make, of types
// and with epilogues that no operator needs yet.
#include "product.hpp"

#include <cstdio>
#include <cstring>

using infini::cuda::Problem;
using infini::cuda::Product;

// `numbers` are the members of a Problem. Returns a status; why it is none of success lies in `why`.
extern "C" INFINI_EXPORT int cuda_double_product(const int64_t *numbers, const Product::Operands *operands,
                                                 void *workspace, uint64_t *workspace_bytes, char *why,
                                                 size_t why_bytes) {
  try {
    Problem problem;
    std::memcpy(&problem, numbers, sizeof(problem));
    const Product product(problem);
    *workspace_bytes = product.workspace_bytes();
    if (workspace != nullptr) product.run(*operands, workspace, nullptr);
    return 0;
  } catch (const infini::Error &error) {
    std::snprintf(why, why_bytes, "%s", error.what());
    return error.status;
  }
}
