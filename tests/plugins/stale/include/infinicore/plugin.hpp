// infinicore/plugin.hpp as it was at minor 0: it came with the header beside it. Frozen.
//
//   #include <infinicore/operators/add.h>                             // generated: infini_add_args
//   class Add {
//   public:
//     explicit Add(const infini_add_args &call);                   // plan: layouts, dtypes, Static values
//     uint64_t workspace() const;                                  // bytes
//     void execute(const infini_add_args &call, void *workspace, infinirtStream_t stream) const;
//   };
//   static const infini_operator add = INFINI_KERNEL(add, Add);
#pragma once
#include "abi.h"

#include <exception>
#include <new>
#include <stdexcept>
#include <string>

namespace infini {

// Throw this from a kernel or a runtime member; core turns it into the matching Python exception.
struct Error : std::runtime_error {
  infiniStatus_t status;
  Error(infiniStatus_t status, const std::string &message) : std::runtime_error(message), status(status) {}
};

// Set by the plug-in's open(); valid from then on.
inline const infini_host *host = nullptr;

// Run body, turning every exception into a status with a message.
template <class Body> infiniStatus_t guard(Body &&body) noexcept {
  try {
    body();
    return INFINI_STATUS_SUCCESS;
  } catch (const Error &error) {
    return host->fail(error.status, error.what());
  } catch (const std::bad_alloc &) {
    return host->fail(INFINI_STATUS_OUT_OF_MEMORY, "host memory exhausted");
  } catch (const std::exception &error) {
    return host->fail(INFINI_STATUS_INTERNAL_ERROR, error.what());
  } catch (...) {
    return host->fail(INFINI_STATUS_INTERNAL_ERROR, "unknown C++ exception");
  }
}

// The operator table entry of a kernel class.
template <class Kernel, class Args> constexpr infini_operator kernel(const char *name, uint64_t fingerprint) {
  static_assert(sizeof(Args) % sizeof(infini_slot) == 0, "arguments are an array of slots");
  return {INFINI_HEADER(infini_operator),
          name,
          fingerprint,
          [](const infini_slot *slots, infini_descriptor *out) {
            return guard([&] {
              *out = reinterpret_cast<infini_descriptor>(new Kernel(*reinterpret_cast<const Args *>(slots)));
            });
          },
          [](infini_descriptor descriptor, uint64_t *bytes) {
            return guard([&] { *bytes = reinterpret_cast<const Kernel *>(descriptor)->workspace(); });
          },
          [](infini_descriptor descriptor, void *workspace, uint64_t, const infini_slot *slots,
             infinirtStream_t stream) {
            return guard([&] {
              reinterpret_cast<const Kernel *>(descriptor)
                  ->execute(*reinterpret_cast<const Args *>(slots), workspace, stream);
            });
          },
          [](infini_descriptor descriptor) { delete reinterpret_cast<Kernel *>(descriptor); }};
}

}  // namespace infini

#define INFINI_KERNEL(operator_name, Class) \
  infini::kernel<Class, infini_##operator_name##_args>(#operator_name, INFINI_FINGERPRINT_##operator_name)
