// onednn.hpp -- the small C interface between the CPU backend and libinfinicore_onednn.so, and how to get it.
// The library is optional and opened at the first large product or convolution; without it the built-in
// kernels do all the work.
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

// y = the convolution of x with w (+ bias), as the operator conv defines it; at most 3 spatial dimensions.
struct infini_onednn_convolution {
  int32_t dtype;  // infiniDtype_t of every operand
  int32_t dims;   // spatial dimensions
  bool has_bias;  // of unit stride
  int64_t batch, groups, group_inputs, group_outputs;
  int64_t x_size[3], y_size[3], kernel[3], strides[3], dilations[3];
  int64_t pads[3], end_pads[3];        // zeros before and after x
  int64_t x_strides[5], y_strides[5];  // in elements: batch, channel, space
  int64_t w_strides[5];                // output channel, input channel of the group, space
};

// What plan_convolution made of it. Immutable, so threads share it.
struct infini_onednn_convolution_plan {
  uint64_t weight_bytes;   // of the reordered weights; 0: it takes them as they are
  uint64_t scratch_bytes;  // memory of one execution; as the weights aligned to 64 bytes
};

struct infini_onednn_api {
  uint32_t struct_size;
  // Is there an implementation for this product that suits this processor? The first question about a shape
  // compiles code for it. Pointers are not looked at, except for whether bias is NULL.
  bool (*has_product)(const infini_onednn_product *product);
  // Run it on the calling thread alone; false when that failed and nothing was written. Re-entrant.
  bool (*product)(const infini_onednn_product *product);
  // Compile a convolution; NULL where no implementation suits this processor.
  infini_onednn_convolution_plan *(*plan_convolution)(const infini_onednn_convolution *convolution);
  void (*free_convolution)(infini_onednn_convolution_plan *plan);
  // Do the two take the same reordered weights? Asked only about plans of the same weights.
  bool (*same_weights)(const infini_onednn_convolution_plan *a, const infini_onednn_convolution_plan *b);
  // Bring w into the layout of the plan; then run it, on the calling thread alone. False when that failed:
  // what was written is undefined. Re-entrant, with a scratch per call.
  bool (*reorder_weights)(const infini_onednn_convolution_plan *plan, const void *w, void *reordered,
                          void *scratch);
  bool (*convolution)(const infini_onednn_convolution_plan *plan, const void *x, const void *weights,
                      const void *bias, void *y, void *scratch);
};

// The one symbol of the library.
const infini_onednn_api *infinicore_onednn(void);
}

namespace infini::cpu {

// The library's functions, or NULL where it is not installed, cannot be loaded (logged once) or
// INFINICORE_ONEDNN is 0.
const infini_onednn_api *onednn();

}  // namespace infini::cpu
