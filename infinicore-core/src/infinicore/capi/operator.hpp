// capi/operator.hpp -- what the generated functions of libinfiniop call: one create, one execute for all.
#pragma once
#include "binding.hpp"

#include <infiniop/handle.h>
#include <infiniop/operator_descriptor.h>

#include <type_traits>

namespace infini::capi {

// One argument as a C program passed it; which member holds it the operator's table says.
class Passed {
 public:
  union {
    int64_t integer;
    double real;
    const void *pointer;
  };

  template <class T> Passed(T *pointer) : pointer(pointer) {}
  template <class T, std::enable_if_t<std::is_integral_v<T> || std::is_enum_v<T>, int> = 0> Passed(T value)
      : integer(int64_t(value)) {}
  Passed(double value) : real(value) {}
  Passed(float value) : real(double(value)) {}
};

infiniStatus_t create(const Operator &op, infiniopHandle_t handle, InfiniopDescriptor **out,
                      const Passed *given);
infiniStatus_t workspace_size(const InfiniopDescriptor *descriptor, size_t *size);
infiniStatus_t execute(const Operator &op, const InfiniopDescriptor *descriptor, void *workspace,
                       size_t workspace_size, const Passed *given, void *stream);
infiniStatus_t destroy(InfiniopDescriptor *descriptor);

// A public function whose operator this version does not have.
infiniStatus_t not_implemented(const char *function);

// Every operator; NULL at the end. Generated.
extern const Operator *const operators[];

}  // namespace infini::capi
