/* infiniop/operator_descriptor.h -- what every operator's descriptor has in common. */
#ifndef INFINIOP_OPERATOR_DESCRIPTOR_H
#define INFINIOP_OPERATOR_DESCRIPTOR_H

#include "handle.h"
#include "tensor_descriptor.h"

#include <stdbool.h>

struct InfiniopDescriptor; /* begins with {int device; int device_id;} */

#ifdef __cplusplus
extern "C" {
#endif

INFINI_API infiniStatus_t infiniopGetDescriptorDeviceType(const struct InfiniopDescriptor *desc_ptr,
                                                          infiniDevice_t *device_type);
INFINI_API infiniStatus_t infiniopGetDescriptorDeviceId(const struct InfiniopDescriptor *desc_ptr,
                                                        int *device_id);

#ifdef __cplusplus
}
#endif
#endif /* INFINIOP_OPERATOR_DESCRIPTOR_H */
