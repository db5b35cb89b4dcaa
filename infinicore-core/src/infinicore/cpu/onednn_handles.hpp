// onednn_handles.hpp -- what every file of libinfinicore_onednn.so uses: one thread, owned handles, the
// engine. Included by nothing else: only that library sees oneDNN's own headers.
#pragma once
#include "onednn.hpp"
#include "../include/infinicore.h"

#include <algorithm>
#include <cstdlib>
#include <dlfcn.h>
#include <dnnl.h>
#include <memory>
#include <string>
#include <type_traits>

namespace infini::onednn {

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

inline dnnl_engine_t engine() {
  static dnnl_engine_t const cpu = [] {
    dnnl_engine_t made = nullptr;
    return dnnl_engine_create(&made, dnnl_cpu, 0) == dnnl_success ? made : nullptr;
  }();
  return cpu;
}

inline dnnl_stream_t stream() {
  static thread_local Owned<dnnl_stream_t> own;
  if (!own) {
    dnnl_stream_t made = nullptr;
    if (dnnl_stream_create(&made, engine(), dnnl_stream_default_flags) == dnnl_success) own.reset(made);
  }
  return own.get();
}

inline void *scratchpad(size_t bytes) {
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

inline dnnl_data_type_t data_type(int32_t dtype) {
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

// Does oneDNN's implementation use what makes this processor fast for the dtype? Elsewhere it converts or
// falls back to reference loops, which our own kernels beat.
inline bool suits(const char *implementation, int32_t dtype) {
  const std::string name = implementation ? implementation : "";
  if (name.compare(0, 3, "ref") == 0 || name.find(":ref") != std::string::npos) return false;
  if (dtype == INFINI_DTYPE_BF16) return name.find("amx") != std::string::npos;
  if (dtype == INFINI_DTYPE_F16) return name.find("fp16") != std::string::npos;
  return true;
}

// Arguments of one execution: primitives take memory objects, which live as long as this does.
class Arguments {
 public:
  void bind(int name, const_dnnl_memory_desc_t description, const void *data) {
    dnnl_memory_t made = nullptr;
    good_ =
        good_ && dnnl_memory_create(&made, description, engine(), const_cast<void *>(data)) == dnnl_success;
    owned_[count_].reset(made);
    args_[count_++] = {name, made};
  }

  bool run(const_dnnl_primitive_t primitive) const {
    return good_ && stream() && dnnl_primitive_execute(primitive, stream(), count_, args_) == dnnl_success &&
           dnnl_stream_wait(stream()) == dnnl_success;
  }

 private:
  dnnl_exec_arg_t args_[5];
  Owned<dnnl_memory_t> owned_[5];
  int count_ = 0;
  bool good_ = true;
};

// Attributes of every primitive here: it asks for its scratch memory instead of allocating it.
inline Owned<dnnl_primitive_attr_t> attributes() {
  dnnl_primitive_attr_t made = nullptr;
  if (dnnl_primitive_attr_create(&made) == dnnl_success)
    dnnl_primitive_attr_set_scratchpad_mode(made, dnnl_scratchpad_mode_user);
  return Owned<dnnl_primitive_attr_t>(made);
}

}  // namespace infini::onednn
