// library.cpp -- opens libinfinicore_onednn.so, which lies beside this library.
// A machine without it is served by the built-in kernels; the log says so once.
#include <infinicore/plugin.hpp>

#include "onednn.hpp"

#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <string>

namespace infini::cpu {
namespace {

const char *const file_name = "libinfinicore_onednn.so";

std::string library_path() {
  Dl_info self;
  if (!dladdr(reinterpret_cast<const void *>(&onednn), &self) || !self.dli_fname) return file_name;
  const std::string backend = self.dli_fname;
  const size_t slash = backend.rfind('/');
  return (slash == std::string::npos ? std::string(".") : backend.substr(0, slash)) + "/" + file_name;
}

const infini_onednn_api *open_library() {
  const char *wanted = std::getenv("INFINICORE_ONEDNN");
  if (wanted && std::strcmp(wanted, "0") == 0) return nullptr;
  int flags = RTLD_NOW | RTLD_LOCAL;
#if defined(RTLD_DEEPBIND)
  flags |= RTLD_DEEPBIND;  // another copy of oneDNN in the process (PyTorch's) must not answer for ours
#endif
  void *library = dlopen(library_path().c_str(), flags);
  if (library)
    if (auto api = reinterpret_cast<decltype(&infinicore_onednn)>(dlsym(library, "infinicore_onednn")))
      if (const infini_onednn_api *table = api(); table && table->struct_size >= sizeof(infini_onednn_api))
        return table;
  const char *reason = dlerror();
  const std::string message = std::string("cpu: ") + file_name + " is not used (" +
                              (reason ? reason : "its table is too old") +
                              "); large products and convolutions run on the built-in kernels";
  if (host && host->log) host->log(INFINI_LOG_INFO, message.c_str());
  return nullptr;
}

}  // namespace

const infini_onednn_api *onednn() {
  static const infini_onednn_api *const api = open_library();
  return api;
}

}  // namespace infini::cpu
