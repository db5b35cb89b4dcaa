// Asks infinicore-cuda's own tables of libraries where it found one, by cuda-pathfinder's name of it.
// Built as a library and, with MAIN, as a program that calls it: one that has no Python in it.
#include "libraries.hpp"

#include <cstdio>

#ifdef MAIN

extern "C" const char *found(const char *name);

int main(int, char **names) {
  return std::puts(found(names[1])) < 0;
}

#else

extern "C" INFINI_EXPORT const char *found(const char *name) {
  using namespace infini;
  static std::string path;
  const std::string wanted = name;
  path = wanted == "cublasLt" ? cuda::cublaslt().path()
         : wanted == "nccl"   ? cuda::nccl().path()
         : wanted == "cuda"   ? cuda::driver().path()
                              : cuda::nvml().path();
  return path.c_str();
}

#endif
