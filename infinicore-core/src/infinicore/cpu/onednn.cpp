// onednn.cpp -- libinfinicore_onednn.so: products by oneDNN, single-threaded, behind the interface of
// onednn.hpp. Its own library, so that a machine or a wheel without oneDNN loses nothing but speed.
#include "onednn_convolution.hpp"

#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <tuple>

namespace {

using namespace infini::onednn;

Owned<dnnl_memory_desc_t> matrix(int64_t rows, int64_t columns, int64_t row, int64_t column,
                                 dnnl_data_type_t type) {
  const dnnl_dims_t dims = {rows, columns}, strides = {row, column};
  dnnl_memory_desc_t made = nullptr;
  dnnl_memory_desc_create_with_strides(&made, 2, dims, type, strides);
  return Owned<dnnl_memory_desc_t>(made);
}

// A compiled product of one shape. Immutable, so threads share it.
struct Product {
  Owned<dnnl_memory_desc_t> a, b, c, bias;
  Owned<dnnl_primitive_t> primitive;
  const_dnnl_memory_desc_t scratch = nullptr;  // owned by the primitive's descriptor
  Owned<dnnl_primitive_desc_t> description;

  explicit Product(const infini_onednn_product &p) {
    const dnnl_data_type_t type = data_type(p.dtype);
    if (type == dnnl_data_type_undef || !engine()) return;
    a = matrix(p.m, p.k, p.a_row, p.a_col, type);
    b = matrix(p.k, p.n, p.b_row, p.b_col, type);
    c = matrix(p.m, p.n, p.c_row, 1, type);
    if (p.bias) bias = matrix(1, p.n, p.n, 1, type);
    if (!a || !b || !c || (p.bias && !bias)) return;
    const Owned<dnnl_primitive_attr_t> attr = attributes();
    if (!attr) return;
    dnnl_primitive_desc_t made = nullptr;
    if (dnnl_matmul_primitive_desc_create(&made, engine(), a.get(), b.get(), bias.get(), c.get(),
                                          attr.get()) != dnnl_success)
      return;
    description.reset(made);
    const char *implementation = nullptr;
    dnnl_primitive_desc_query(made, dnnl_query_impl_info_str, 0, &implementation);
    if (!suits(implementation, p.dtype)) return;
    scratch = dnnl_primitive_desc_query_md(made, dnnl_query_scratchpad_md, 0);
    dnnl_primitive_t compiled = nullptr;
    if (dnnl_primitive_create(&compiled, made) == dnnl_success) primitive.reset(compiled);
  }

  bool run(const infini_onednn_product &p) const {
    void *const memory = scratchpad(scratch ? dnnl_memory_desc_get_size(scratch) + 64 : 64);
    if (!memory) return false;
    Arguments arguments;
    arguments.bind(DNNL_ARG_SRC, a.get(), p.a);
    arguments.bind(DNNL_ARG_WEIGHTS, b.get(), p.b);
    arguments.bind(DNNL_ARG_DST, c.get(), p.c);
    if (bias) arguments.bind(DNNL_ARG_BIAS, bias.get(), p.bias);
    if (scratch) arguments.bind(DNNL_ARG_SCRATCHPAD, scratch, memory);
    return arguments.run(primitive.get());
  }
};

// Products by shape. When there are many the map starts afresh: oneDNN itself still caches the compiled code.
std::shared_ptr<const Product> find(const infini_onednn_product &p) {
  using Key =
      std::tuple<int32_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, bool>;
  static std::shared_mutex lock;
  static auto &products = *new std::map<Key, std::shared_ptr<const Product>>;  // outlives every thread
  const Key key(p.dtype, p.m, p.n, p.k, p.a_row, p.a_col, p.b_row, p.b_col, p.c_row, p.bias != nullptr);
  {
    std::shared_lock<std::shared_mutex> reading(lock);
    const auto found = products.find(key);
    if (found != products.end()) return found->second;
  }
  auto made = std::make_shared<const Product>(p);
  std::unique_lock<std::shared_mutex> writing(lock);
  if (products.size() >= 512) products.clear();
  return products.emplace(key, std::move(made)).first->second;
}

// Whether a dtype is worth asking about at all, so that new shapes of one that is not cost nothing.
bool supports(int32_t dtype) {
  auto probe = [](int32_t of) {
    return Product({of, 64, 64, 64, nullptr, 64, 1, nullptr, 64, 1, nullptr, 64, nullptr}).primitive !=
           nullptr;
  };
  static const bool f32 = probe(INFINI_DTYPE_F32), f16 = probe(INFINI_DTYPE_F16),
                    bf16 = probe(INFINI_DTYPE_BF16);
  return (dtype == INFINI_DTYPE_F32 && f32) || (dtype == INFINI_DTYPE_F16 && f16) ||
         (dtype == INFINI_DTYPE_BF16 && bf16);
}

bool has_product(const infini_onednn_product *p) {
  if (!OneThread::available()) return false;
  const OneThread alone;
  return supports(p->dtype) && find(*p)->primitive != nullptr;
}

bool product(const infini_onednn_product *p) {
  if (!OneThread::available()) return false;
  const OneThread alone;
  const auto found = find(*p);
  return found->primitive && found->run(*p);
}

const infini_onednn_api api = {sizeof(infini_onednn_api), has_product,  product,         plan_convolution,
                               free_convolution,          same_weights, reorder_weights, convolution};

}  // namespace

extern "C" __attribute__((visibility("default"))) const infini_onednn_api *infinicore_onednn(void) {
  return &api;
}
