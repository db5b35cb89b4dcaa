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
enum Type { f32 = 0, f64 = 1, f16 = 2, i8 = 3, i32 = 10, bf16 = 14, e4m3 = 28, e5m2 = 29 };
enum Compute { in_f32 = 68, in_f64 = 70, in_i32 = 72, in_tf32 = 77 };
enum Epilogue { nothing = 1, relu = 2, bias = 4, gelu = 32 };  // the last three may be joined
constexpr size_t workspace_wanted = 4096;

}  // namespace

struct cublasLtContext {};
struct cublasLtMatmulDescOpaque {
  int compute, scale, transpose[2] = {0, 0}, epilogue = nothing;
  const void *bias = nullptr;
  const float *scales[2] = {nullptr, nullptr};  // of a and b, on the device
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

bool fp8(int type) {
  return type == e4m3 || type == e5m2;
}
size_t width(int type) {
  return type == f64 ? 8 : type == f32 || type == i32 ? 4 : type == i8 || fp8(type) ? 1 : 2;
}
double load(const void *data, int64_t i, int type) {
  const char *at = static_cast<const char *>(data) + i * static_cast<int64_t>(width(type));
  uint16_t half;
  int32_t whole;
  float single;
  double both;
  switch (type) {
    case f32:
      return std::memcpy(&single, at, 4), single;
    case f64:
      return std::memcpy(&both, at, 8), both;
    case i32:
      return std::memcpy(&whole, at, 4), whole;
    case i8:
      return static_cast<signed char>(*at);
    case e4m3:
      return E4m3::decode(static_cast<uint8_t>(*at));
    case e5m2:
      return E5m2::decode(static_cast<uint8_t>(*at));
    default:
      return std::memcpy(&half, at, 2), type == f16 ? Half::decode(half) : Bfloat::decode(half);
  }
}
void save(void *data, int64_t i, int type, double value) {
  char *at = static_cast<char *>(data) + i * static_cast<int64_t>(width(type));
  const float single = static_cast<float>(value);
  const int32_t whole = type == i32 ? static_cast<int32_t>(value) : 0;
  const uint16_t half = type == f16 ? Half::encode(value) : Bfloat::encode(value);
  std::memcpy(at,
              type == f64   ? static_cast<const void *>(&value)
              : type == f32 ? static_cast<const void *>(&single)
              : type == i32 ? static_cast<const void *>(&whole)
                            : &half,
              width(type));
}

// Do the three layouts make a product?
int check(const Description &d, const Layout &a, const Layout &b, const Layout &c) {
  const auto rows = [](const Layout &l, int t) { return t != 0 ? l.columns : l.rows; };
  const auto columns = [](const Layout &l, int t) { return t != 0 ? l.rows : l.columns; };
  for (const Layout *l : {&a, &b, &c})
    if (l->ld < static_cast<int64_t>(l->rows) || l->rows == 0 || l->columns == 0 || l->batch != c.batch)
      return invalid_value;
  if (rows(a, d.transpose[0]) != c.rows || columns(b, d.transpose[1]) != c.columns ||
      columns(a, d.transpose[0]) != rows(b, d.transpose[1]))
    return invalid_value;
  // Whole bytes are multiplied row by column only, and their rows begin at multiples of 4 or 16.
  const auto narrow = [&](int64_t step) {
    const auto fits = [&](const Layout &l) { return l.rows % step == 0 && l.ld % step == 0; };
    return d.transpose[0] != 0 && d.transpose[1] == 0 && fits(a) && fits(b) && fits(c);
  };
  const bool scaled = d.scales[0] != nullptr || d.scales[1] != nullptr;
  const bool activated = d.epilogue != nothing, known = (d.epilogue & ~(relu | bias | gelu)) == 0;
  bool legal = (!activated || known) && (!scaled || fp8(a.type));
  switch (d.compute) {
    case in_f64:
      legal = legal && a.type == f64 && b.type == f64 && c.type == f64 && d.scale == f64 && !activated;
      break;
    case in_i32:
      legal =
          legal && a.type == i8 && b.type == i8 && c.type == i32 && d.scale == i32 && !activated && narrow(4);
      break;
    case in_tf32:
      legal = legal && a.type == f32 && b.type == f32 && c.type == f32 && d.scale == f32;
      break;
    case in_f32:
      if (fp8(a.type))
        legal = legal && fp8(b.type) && (a.type == e4m3 || b.type == e4m3) && narrow(16) &&
                (c.type == bf16 || c.type == f16 || (c.type == f32 && (d.epilogue & bias) == 0));
      else
        legal = legal && (a.type == f32 || a.type == f16 || a.type == bf16) && b.type == a.type &&
                c.type == a.type;
      legal = legal && d.scale == f32;
      break;
    default:
      legal = false;
  }
  return legal ? success : not_supported;
}

// The addresses that products of these types may have are multiples of so many bytes.
uint32_t least_alignment(const Layout &a) {
  return a.type == i8 ? 4 : fp8(a.type) ? 16 : static_cast<uint32_t>(width(a.type));
}

double activation(int epilogue, double x) {
  if ((epilogue & relu) != 0) return x < 0 ? 0 : x;
  if ((epilogue & gelu) != 0)  // the approximation, as the library's
    return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  return x;
}

void product(const Description &d, double alpha, const void *a, const Layout &la, const void *b,
             const Layout &lb, double beta, void *c, const Layout &lc) {
  const uint64_t depth = d.transpose[0] != 0 ? la.rows : la.columns;
  const auto factor = [&](const void *data, int64_t i, int type) {
    const double x = load(data, i, type);
    return d.compute == in_tf32 ? tf32(x) : x;
  };
  for (const float *scale : d.scales)
    if (scale != nullptr) alpha *= *scale;
  for (int32_t batch = 0; batch < lc.batch; ++batch)
    for (uint64_t j = 0; j < lc.columns; ++j)
      for (uint64_t i = 0; i < lc.rows; ++i) {
        const auto at = [&](const Layout &l, uint64_t row, uint64_t column) {
          return batch * l.stride + static_cast<int64_t>(row) + static_cast<int64_t>(column) * l.ld;
        };
        double sum = 0;
        for (uint64_t k = 0; k < depth; ++k)
          sum += factor(a, d.transpose[0] != 0 ? at(la, k, i) : at(la, i, k), la.type) *
                 factor(b, d.transpose[1] != 0 ? at(lb, j, k) : at(lb, k, j), lb.type);
        double value = alpha * sum;
        if (beta != 0) value += beta * load(c, at(lc, i, j), lc.type);
        if ((d.epilogue & bias) != 0) value += load(d.bias, static_cast<int64_t>(i), lc.type);
        save(c, at(lc, i, j), lc.type, d.epilogue == nothing ? value : activation(d.epilogue, value));
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
    case 17:
    case 18:
      return put(d->scales[attribute - 17], value, bytes);
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
  if (preference->alignment[0] < least_alignment(*a)) return not_supported;
  const size_t workspace = preference->workspace >= workspace_wanted ? workspace_wanted : 0;
  const int state = injected("heuristic_state");  // a result may come with an error of its own
  results[0] = {{{preference->alignment[0], workspace}}, workspace, state, 1.0f, {}};
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
  const auto multiple = [](const void *address, uint64_t of) {
    return reinterpret_cast<uintptr_t>(address) % of == 0;
  };
  for (const auto &[operand, layout] : {std::pair{a, la}, {b, lb}, {c, lc}})
    if (!multiple(operand, alignment) || !on_device(operand, width(layout->type))) return invalid_value;
  if (needed > bytes || (needed > 0 && !(on_device(workspace, needed) && multiple(workspace, 256))))
    return invalid_value;
  if ((description->epilogue & bias) != 0 &&
      !(on_device(description->bias, lc->rows * width(lc->type)) && multiple(description->bias, alignment)))
    return invalid_value;
  for (const float *scale : description->scales)
    if (scale != nullptr && !on_device(scale, sizeof(*scale))) return invalid_value;
  const double scales[2] = {load(alpha, 0, description->scale), load(beta, 0, description->scale)};
  count("matmul", 1);
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
