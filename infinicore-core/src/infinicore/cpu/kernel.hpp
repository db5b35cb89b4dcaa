// kernel.hpp -- what every CPU kernel file includes: the shared helpers and INFINI_CPU_KERNEL.
// A kernel is a class as infinicore/plugin.hpp describes; one macro line puts it in the table of its ISA.
//
//   #include <infinicore/operators/add.h>
//   #include "../kernel.hpp"
//   namespace infini::cpu::INFINI_ISA {
//   class Add { ... };
//   INFINI_CPU_KERNEL(add, Add)
//   } // namespace infini::cpu::INFINI_ISA
#pragma once
#include <infinicore/plugin.hpp>

#include "isa.hpp"
#include "strides.hpp"
#include "thread_pool.hpp"
#include "types.hpp"
#include "vmath.hpp"

// The entry is constant-initialised data and its address lies in a linker section per instruction set.
// backend.cpp walks the section of the one it chose, so nothing compiled for an instruction set that this
// machine lacks ever runs (a static constructor would, at load). For the same reason a kernel file must
// not define objects with dynamic initialisation: function-local statics are fine.
#define INFINI_CPU_KERNEL(operator_name, Class)                                                 \
  static constexpr infini_operator operator_name##_entry = INFINI_KERNEL(operator_name, Class); \
  __attribute__((section("infini_cpu_" INFINI_CPU_TEXT(INFINI_ISA)),                            \
                 used)) static const infini_operator *const operator_name##_registration =      \
      &operator_name##_entry;
