// doubles/cuda/cublaslt.cpp -- libcublasLt of the CUDA double: matrix products in double precision, on a
// stream. It refuses what the library documents as illegal: leading dimensions, alignments and workspaces
// included.
#include "device.hpp"
#include "numbers.hpp"

#include <cstdlib>

using namespace double_cuda;

#define DOUBLE_API extern "C" __attribute__((visibility("default")))

namespace {

enum Status { success = 0, invalid_value = 7, execution_failed = 13, not_supported = 15 };
constexpr size_t workspace_wanted = 4096;

}  // namespace

struct cublasLtContext {};
struct cublasLtMatmulDescOpaque {
  int compute, scale, transpose[2] = {0, 0}, epilogue = 1;
  const void *bias = nullptr;
};
struct cublasLtMatrixLayoutOpaque {
  int type;
  uint64_t rows, columns;
  int64_t ld, stride = 0;
  int32_t batch = 1;
};
struct cublasLtMatmulPreferenceOpaque {
  uint64_t workspace = 0;
  uint32_t alignment[4] = {256, 256, 256, 256};
};
struct Algorithm {
  uint64_t data[8];  // [0]: the alignment it was chosen for, [1]: the workspace that it needs
};
struct Result {
  Algorithm algorithm;
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};
using Description = cublasLtMatmulDescOpaque;
using Layout = cublasLtMatrixLayoutOpaque;

namespace {

size_t width(int type) {
  return type == 1 ? 8 : type == 0 ? 4 : 2;
}
double load(const void *data, int64_t i, int type) {
  const char *at = static_cast<const char *>(data) + i * static_cast<int64_t>(width(type));
  uint16_t half;
  float single;
  double both;
  switch (type) {
    case 0:
      return std::memcpy(&single, at, 4), single;
    case 1:
      return std::memcpy(&both, at, 8), both;
    default:
      return std::memcpy(&half, at, 2), type == 2 ? Half::decode(half) : Bfloat::decode(half);
  }
}
void save(void *data, int64_t i, int type, double value) {
  char *at = static_cast<char *>(data) + i * static_cast<int64_t>(width(type));
  const float single = static_cast<float>(value);
  const uint16_t half = type == 2 ? Half::encode(value) : Bfloat::encode(value);
  std::memcpy(at,
              type == 1   ? static_cast<const void *>(&value)
              : type == 0 ? static_cast<const void *>(&single)
                          : &half,
              width(type));
}

// Do the three layouts make a product?
int check(const Description &d, const Layout &a, const Layout &b, const Layout &c) {
  const auto rows = [](const Layout &l, int t) { return t != 0 ? l.columns : l.rows; };
  const auto columns = [](const Layout &l, int t) { return t != 0 ? l.rows : l.columns; };
  for (const Layout *l : {&a, &b, &c})
    if (l->ld < static_cast<int64_t>(l->rows) || l->rows == 0 || l->columns == 0 || l->type != c.type ||
        l->batch != c.batch)
      return invalid_value;
  if (rows(a, d.transpose[0]) != c.rows || columns(b, d.transpose[1]) != c.columns ||
      columns(a, d.transpose[0]) != rows(b, d.transpose[1]))
    return invalid_value;
  if ((d.compute == 70) != (c.type == 1) || d.scale != (c.type == 1 ? 1 : 0)) return not_supported;
  return (d.epilogue & ~4) == 0 || d.epilogue == 1 ? success : not_supported;
}

void product(const Description &d, double alpha, const void *a, const Layout &la, const void *b,
             const Layout &lb, double beta, void *c, const Layout &lc) {
  const uint64_t depth = d.transpose[0] != 0 ? la.rows : la.columns;
  for (int32_t batch = 0; batch < lc.batch; ++batch)
    for (uint64_t j = 0; j < lc.columns; ++j)
      for (uint64_t i = 0; i < lc.rows; ++i) {
        const auto at = [&](const Layout &l, uint64_t row, uint64_t column) {
          return batch * l.stride + static_cast<int64_t>(row) + static_cast<int64_t>(column) * l.ld;
        };
        double sum = 0;
        for (uint64_t k = 0; k < depth; ++k)
          sum += load(a, d.transpose[0] != 0 ? at(la, k, i) : at(la, i, k), la.type) *
                 load(b, d.transpose[1] != 0 ? at(lb, j, k) : at(lb, k, j), lb.type);
        double value = alpha * sum;
        if (beta != 0) value += beta * load(c, at(lc, i, j), lc.type);
        if ((d.epilogue & 4) != 0) value += load(d.bias, static_cast<int64_t>(i), lc.type);
        save(c, at(lc, i, j), lc.type, value);
      }
}

template <class T, class Given> int put(T &target, const Given *value, size_t bytes) {
  if (bytes != sizeof(T)) return invalid_value;
  std::memcpy(&target, value, bytes);
  return success;
}

template <class T> int destroyed(T *thing) {
  delete thing;
  const std::lock_guard<std::mutex> lock(mutex);
  count("cublasLt", -1);
  return success;
}
template <class T> int made(T **out, T *thing) {
  *out = thing;
  const std::lock_guard<std::mutex> lock(mutex);
  count("cublasLt", 1);
  return success;
}

}  // namespace

DOUBLE_API const char *cublasLtGetStatusString(int status) {
  return status == 3    ? "the resource allocation failed"
         : status == 15 ? "the functionality is not supported"
                        : "an unsupported value or parameter";
}
DOUBLE_API int cublasLtCreate(cublasLtContext **handle) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (const int error = injected("cublasLtCreate"); error != 0) return error;
  *handle = new cublasLtContext;
  return success;
}
DOUBLE_API int cublasLtMatmulDescCreate(Description **out, int compute, int scale) {
  return made(out, new Description{compute, scale});
}
DOUBLE_API int cublasLtMatmulDescDestroy(Description *d) {
  return destroyed(d);
}
DOUBLE_API int cublasLtMatmulDescSetAttribute(Description *d, int attribute, const void *value,
                                              size_t bytes) {
  switch (attribute) {
    case 3:
    case 4:
      return put(d->transpose[attribute - 3], value, bytes);
    case 7:
      return put(d->epilogue, value, bytes);
    case 8:
      return put(d->bias, value, bytes);
    default:
      return invalid_value;
  }
}
DOUBLE_API int cublasLtMatrixLayoutCreate(Layout **out, int type, uint64_t rows, uint64_t columns,
                                          int64_t ld) {
  return made(out, new Layout{type, rows, columns, ld});
}
DOUBLE_API int cublasLtMatrixLayoutDestroy(Layout *l) {
  return destroyed(l);
}
DOUBLE_API int cublasLtMatrixLayoutSetAttribute(Layout *l, int attribute, const void *value, size_t bytes) {
  return attribute == 5   ? put(l->batch, value, bytes)
         : attribute == 6 ? put(l->stride, value, bytes)
                          : invalid_value;
}
DOUBLE_API int cublasLtMatmulPreferenceCreate(cublasLtMatmulPreferenceOpaque **out) {
  return made(out, new cublasLtMatmulPreferenceOpaque);
}
DOUBLE_API int cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreferenceOpaque *preference) {
  return destroyed(preference);
}
DOUBLE_API int cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreferenceOpaque *preference, int attribute,
                                                    const void *value, size_t bytes) {
  if (attribute == 1) return put(preference->workspace, value, bytes);
  if (attribute < 5 || attribute > 8) return invalid_value;
  return put(preference->alignment[attribute - 5], value, bytes);
}
DOUBLE_API int cublasLtMatmulAlgoGetHeuristic(cublasLtContext *, Description *d, Layout *a, Layout *b,
                                              Layout *c, Layout *, cublasLtMatmulPreferenceOpaque *preference,
                                              int wanted, Result *results, int *found) {
  const std::lock_guard<std::mutex> lock(mutex);
  count("heuristic", 1);
  *found = 0;
  if (const int error = injected("cublasLtMatmulAlgoGetHeuristic"); error != 0) return error;
  if (const int error = check(*d, *a, *b, *c); error != 0) return error;
  if (wanted < 1) return invalid_value;
  const size_t workspace = preference->workspace >= workspace_wanted ? workspace_wanted : 0;
  results[0] = {{{preference->alignment[0], workspace}}, workspace, success, 1.0f, {}};
  *found = 1;
  return success;
}
DOUBLE_API int cublasLtMatmul(cublasLtContext *, Description *description, const void *alpha, const void *a,
                              Layout *la, const void *b, Layout *lb, const void *beta, const void *c,
                              Layout *lc, void *d, Layout *, const Algorithm *algorithm, void *workspace,
                              size_t bytes, cudaStream_t stream) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (const int error = injected("cublasLtMatmul"); error != 0) return error;
  if (const int error = check(*description, *la, *lb, *lc); error != 0) return error;
  if (c != d || algorithm == nullptr) return not_supported;
  const uint64_t alignment = algorithm->data[0], needed = algorithm->data[1];
  for (const void *operand : {a, b, c})
    if (reinterpret_cast<uintptr_t>(operand) % alignment != 0 || !on_device(operand, width(lc->type)))
      return invalid_value;
  if (needed > bytes || (needed > 0 && !on_device(workspace, needed))) return invalid_value;
  if ((description->epilogue & 4) != 0 && !on_device(description->bias, lc->rows * width(lc->type)))
    return invalid_value;
  const double scales[2] = {load(alpha, 0, description->scale), load(beta, 0, description->scale)};
  const Description copied = *description;
  const Layout layouts[3] = {*la, *lb, *lc};
  const cudaError_t error = enqueue(stream, [=] {
    return [=] {
      if (needed > 0) std::memset(workspace, 0xa5, needed);  // whatever was there is gone
      product(copied, scales[0], a, layouts[0], b, layouts[1], scales[1], d, layouts[2]);
      return 0;
    };
  });
  return error == cudaSuccess ? success : execution_failed;
}
