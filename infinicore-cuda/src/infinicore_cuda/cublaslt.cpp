// infinicore_cuda/cublaslt.cpp -- the functions of cuBLASLt, whichever copy was found, and its errors.
// Everything that can be missing says so at the first matrix product, never at import.
#include "cublaslt.hpp"

#include <map>
#include <mutex>

namespace infini::cuda::lt {

const Functions &library() {
  static const Functions functions = [] {
    const Library found = cublaslt();
    Functions f;
#define INFINI_FUNCTION(name) found.require("cublasLt" #name, f.name)
    INFINI_FUNCTION(Create);
    INFINI_FUNCTION(MatmulDescCreate);
    INFINI_FUNCTION(MatmulDescDestroy);
    INFINI_FUNCTION(MatmulDescSetAttribute);
    INFINI_FUNCTION(MatrixLayoutCreate);
    INFINI_FUNCTION(MatrixLayoutDestroy);
    INFINI_FUNCTION(MatrixLayoutSetAttribute);
    INFINI_FUNCTION(MatmulPreferenceCreate);
    INFINI_FUNCTION(MatmulPreferenceDestroy);
    INFINI_FUNCTION(MatmulPreferenceSetAttribute);
    INFINI_FUNCTION(MatmulAlgoGetHeuristic);
    INFINI_FUNCTION(Matmul);
#undef INFINI_FUNCTION
    found.find("cublasLtGetStatusString", f.GetStatusString);
    return f;
  }();
  return functions;
}

Handle handle(int device) {
  static std::mutex mutex;
  static std::map<int, Handle> handles;
  const std::lock_guard<std::mutex> lock(mutex);
  Handle &known = handles[device];
  if (known == nullptr) check(library().Create(&known), "Create");
  return known;
}

void check(Status status, const char *call) {
  if (status == 0) return;
  const char *text = library().GetStatusString != nullptr ? library().GetStatusString(status) : nullptr;
  throw Error(status == 3    ? INFINI_STATUS_OUT_OF_MEMORY  // CUBLAS_STATUS_ALLOC_FAILED
              : status == 8  ? INFINI_STATUS_DEVICE_ARCHITECTURE_NOT_SUPPORTED
              : status == 15 ? INFINI_STATUS_NOT_IMPLEMENTED
                             : INFINI_STATUS_INTERNAL_ERROR,
              std::string("cublasLt") + call + ": " + (text != nullptr ? text : "an error") +
                  " (cublasStatus_t " + std::to_string(status) + ")");
}

Heuristic choose(Handle handle, Description description, Layout a, Layout b, Layout c,
                 uint64_t workspace_bytes, uint32_t alignment) {
  const Functions &f = library();
  Preference preference = nullptr;
  check(f.MatmulPreferenceCreate(&preference), "MatmulPreferenceCreate");
  Heuristic best{};
  int found = 0;
  const auto set = [&](int attribute, const auto &value) {
    return f.MatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value));
  };
  Status status = set(max_workspace_bytes, workspace_bytes);
  for (int operand = 0; operand < 4 && status == 0; ++operand)
    status = set(min_alignment_a + operand, alignment);
  if (status == 0)
    status = f.MatmulAlgoGetHeuristic(handle, description, a, b, c, c, preference, 1, &best, &found);
  f.MatmulPreferenceDestroy(preference);
  check(status, "MatmulAlgoGetHeuristic");
  if (found == 0 || best.state != 0)
    throw Error(INFINI_STATUS_NOT_IMPLEMENTED,
                "cublasLtMatmulAlgoGetHeuristic: no algorithm for this product");
  return best;
}

}  // namespace infini::cuda::lt
