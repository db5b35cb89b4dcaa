// onednn.cpp -- libinfinicore_onednn.so: products by oneDNN, single-threaded, behind the interface of
// onednn.hpp. Its own library, so that a machine or a wheel without oneDNN loses nothing but speed.
#include "onednn.hpp"
#include "../include/infinicore.h"

#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <dnnl.h>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <tuple>

namespace {

// oneDNN divides its work with OpenMP. Our pool divides it already, and a pool of libgomp would not survive a
// fork: while this object lives the calling thread asks for one thread, of which libgomp makes no pool.
class OneThread {
 public:
  OneThread() : before_(functions().get()) { functions().set(1); }
  ~OneThread() { functions().set(before_); }
  OneThread(const OneThread &) = delete;
  OneThread &operator=(const OneThread &) = delete;

  static bool available() { return functions().get && functions().set; }

 private:
  struct Functions {
    int (*get)() = nullptr;
    void (*set)(int) = nullptr;
    Functions() {  // from the OpenMP runtime that libdnnl itself uses, whatever its file is called
      Dl_info dnnl;
      if (!dladdr(reinterpret_cast<const void *>(&dnnl_version), &dnnl)) return;
      void *library = dlopen(dnnl.dli_fname, RTLD_NOW | RTLD_NOLOAD);
      if (!library) return;
      get = reinterpret_cast<int (*)()>(dlsym(library, "omp_get_max_threads"));
      set = reinterpret_cast<void (*)(int)>(dlsym(library, "omp_set_num_threads"));
    }
  };
  static const Functions &functions() {
    static const Functions found;
    return found;
  }
  int before_;
};

struct Deleter {
  void operator()(dnnl_memory_desc_t x) const { dnnl_memory_desc_destroy(x); }
  void operator()(dnnl_primitive_desc_t x) const { dnnl_primitive_desc_destroy(x); }
  void operator()(dnnl_primitive_attr_t x) const { dnnl_primitive_attr_destroy(x); }
  void operator()(dnnl_primitive_t x) const { dnnl_primitive_destroy(x); }
  void operator()(dnnl_memory_t x) const { dnnl_memory_destroy(x); }
  void operator()(dnnl_stream_t x) const { dnnl_stream_destroy(x); }
};
template <class Handle> using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Deleter>;

dnnl_engine_t engine() {
  static dnnl_engine_t const cpu = [] {
    dnnl_engine_t made = nullptr;
    return dnnl_engine_create(&made, dnnl_cpu, 0) == dnnl_success ? made : nullptr;
  }();
  return cpu;
}

dnnl_stream_t stream() {
  static thread_local Owned<dnnl_stream_t> own;
  if (!own) {
    dnnl_stream_t made = nullptr;
    if (dnnl_stream_create(&made, engine(), dnnl_stream_default_flags) == dnnl_success) own.reset(made);
  }
  return own.get();
}

void *scratchpad(size_t bytes) {
  struct Buffer {
    void *memory = nullptr;
    size_t size = 0;
    ~Buffer() { std::free(memory); }
  };
  static thread_local Buffer buffer;
  if (buffer.size < bytes) {
    std::free(buffer.memory);
    buffer.size = (bytes + 4095) / 4096 * 4096;
    buffer.memory = std::aligned_alloc(4096, buffer.size);
    if (!buffer.memory) buffer.size = 0;
  }
  return buffer.memory;
}

dnnl_data_type_t data_type(int32_t dtype) {
  switch (dtype) {
    case INFINI_DTYPE_F32:
      return dnnl_f32;
    case INFINI_DTYPE_F16:
      return dnnl_f16;
    case INFINI_DTYPE_BF16:
      return dnnl_bf16;
    default:
      return dnnl_data_type_undef;
  }
}

Owned<dnnl_memory_desc_t> matrix(int64_t rows, int64_t columns, int64_t row, int64_t column,
                                 dnnl_data_type_t type) {
  const dnnl_dims_t dims = {rows, columns}, strides = {row, column};
  dnnl_memory_desc_t made = nullptr;
  dnnl_memory_desc_create_with_strides(&made, 2, dims, type, strides);
  return Owned<dnnl_memory_desc_t>(made);
}

// Does oneDNN's implementation use what makes this processor fast for the dtype? Elsewhere it converts or
// falls back to reference loops, which our own kernels beat.
bool suits(const char *implementation, int32_t dtype) {
  const std::string name = implementation ? implementation : "";
  if (name.compare(0, 3, "ref") == 0 || name.find(":ref") != std::string::npos) return false;
  if (dtype == INFINI_DTYPE_BF16) return name.find("amx") != std::string::npos;
  if (dtype == INFINI_DTYPE_F16) return name.find("fp16") != std::string::npos;
  return true;
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
    dnnl_primitive_attr_t attr = nullptr;
    if (dnnl_primitive_attr_create(&attr) != dnnl_success) return;
    const Owned<dnnl_primitive_attr_t> attributes(attr);
    dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    dnnl_primitive_desc_t made = nullptr;
    if (dnnl_matmul_primitive_desc_create(&made, engine(), a.get(), b.get(), bias.get(), c.get(), attr) !=
        dnnl_success)
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
    dnnl_exec_arg_t args[5];
    Owned<dnnl_memory_t> owned[5];
    int count = 0;
    bool good = memory && stream();
    auto bind = [&](int name, const_dnnl_memory_desc_t description, const void *data) {
      dnnl_memory_t made = nullptr;
      good =
          good && dnnl_memory_create(&made, description, engine(), const_cast<void *>(data)) == dnnl_success;
      owned[count].reset(made);
      args[count++] = {name, made};
    };
    bind(DNNL_ARG_SRC, a.get(), p.a);
    bind(DNNL_ARG_WEIGHTS, b.get(), p.b);
    bind(DNNL_ARG_DST, c.get(), p.c);
    if (bias) bind(DNNL_ARG_BIAS, bias.get(), p.bias);
    if (scratch) bind(DNNL_ARG_SCRATCHPAD, scratch, memory);
    return good && dnnl_primitive_execute(primitive.get(), stream(), count, args) == dnnl_success &&
           dnnl_stream_wait(stream()) == dnnl_success;
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

const infini_onednn_api api = {sizeof(infini_onednn_api), has_product, product};

}  // namespace

extern "C" __attribute__((visibility("default"))) const infini_onednn_api *infinicore_onednn(void) {
  return &api;
}
