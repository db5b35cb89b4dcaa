// runtime.hpp -- what runtime.cpp offers to backend.cpp: the runtime table and what open() needs of it.
#pragma once
#include <infinicore/plugin.hpp>

#include <string>

namespace infini::cpu {

extern const infini_runtime runtime;

// Name of the instruction set whose kernels run ("generic", "x86_64_v4"); set once, by infinicore_backend().
extern const char *instruction_set;

// Number of devices: INFINICORE_CPU_DEVICES, 1 by default. They share the processors and the memory; more
// than one lets a program that needs several devices run anywhere. Throws infini::Error (BAD_PARAM).
int device_count();

}  // namespace infini::cpu
