// onednn.hpp -- the small C interface between the CPU backend and libinfinicore_onednn.so, and how to get it.
// The library is optional and opened at the first large product; without it the built-in kernels do all the
// work.
#pragma once
#include <cstdint>

extern "C" {

// c[m, n] = a[m, k] @ b[k, n] (+ bias[n]). Each matrix has unit stride along one of its dimensions.
struct infini_onednn_product {
  int32_t dtype;  // infiniDtype_t of every operand
  int64_t m, n, k;
  const void *a;
  int64_t a_row, a_col;  // strides in elements
  const void *b;
  int64_t b_row, b_col;
  void *c;
  int64_t c_row;
  const void *bias;  // NULL, or n numbers
};

struct infini_onednn_api {
  uint32_t struct_size;
  // Is there an implementation for this product that suits this processor? The first question about a shape
  // compiles code for it. Pointers are not looked at, except for whether bias is NULL.
  bool (*has_product)(const infini_onednn_product *product);
  // Run it on the calling thread alone; false when that failed and nothing was written. Re-entrant.
  bool (*product)(const infini_onednn_product *product);
};

// The one symbol of the library.
const infini_onednn_api *infinicore_onednn(void);
}

namespace infini::cpu {

// The library's functions, or NULL where it is not installed, cannot be loaded (logged once) or
// INFINICORE_ONEDNN is 0.
const infini_onednn_api *onednn();

}  // namespace infini::cpu
