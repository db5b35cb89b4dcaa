// onednn_convolution.hpp -- the functions that onednn_convolution.cpp adds to the table of onednn.cpp.
// Their contracts are in onednn.hpp.
#pragma once
#include "onednn_handles.hpp"

namespace infini::onednn {

infini_onednn_convolution_plan *plan_convolution(const infini_onednn_convolution *convolution);
void free_convolution(infini_onednn_convolution_plan *plan);
bool same_weights(const infini_onednn_convolution_plan *a, const infini_onednn_convolution_plan *b);
bool reorder_weights(const infini_onednn_convolution_plan *plan, const void *w, void *reordered,
                     void *scratch);
bool convolution(const infini_onednn_convolution_plan *plan, const void *x, const void *weights,
                 const void *bias, void *y, void *scratch);

}  // namespace infini::onednn
