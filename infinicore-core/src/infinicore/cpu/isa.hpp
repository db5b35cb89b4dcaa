// isa.hpp -- which instruction set this object is compiled for: its namespace and its linker section.
// Every header that holds code for kernels opens `namespace infini::cpu::INFINI_ISA`, so that objects of
// different instruction sets never share a function.
#pragma once

// The build compiles each kernel file once per instruction set with -DINFINI_ISA=<name>.
#ifndef INFINI_ISA
#define INFINI_ISA generic
#endif

#define INFINI_CPU_CONCAT_(a, b) a##b
#define INFINI_CPU_CONCAT(a, b) INFINI_CPU_CONCAT_(a, b)
#define INFINI_CPU_TEXT_(a) #a
#define INFINI_CPU_TEXT(a) INFINI_CPU_TEXT_(a)
