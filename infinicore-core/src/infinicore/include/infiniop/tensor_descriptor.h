/* infiniop/tensor_descriptor.h -- shape, strides and element type of a tensor. */
#ifndef INFINIOP_TENSOR_DESCRIPTOR_H
#define INFINIOP_TENSOR_DESCRIPTOR_H

#include "../infinicore.h"

struct InfiniopTensorDescriptor;
typedef struct InfiniopTensorDescriptor *infiniopTensorDescriptor_t;

#ifdef __cplusplus
extern "C" {
#endif

/* strides are in elements, zero and negative ones are legal; NULL means row-major. Both arrays are copied. */
INFINI_API infiniStatus_t infiniopCreateTensorDescriptor(infiniopTensorDescriptor_t *desc_ptr, size_t ndim,
                                                         const size_t *shape, const ptrdiff_t *strides,
                                                         infiniDtype_t dtype);
/* Operators keep copies: a tensor descriptor may be destroyed once they are created. */
INFINI_API infiniStatus_t infiniopDestroyTensorDescriptor(infiniopTensorDescriptor_t desc);

#ifdef __cplusplus
}
#endif
#endif /* INFINIOP_TENSOR_DESCRIPTOR_H */
