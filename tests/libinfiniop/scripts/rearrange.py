# Copy between layouts through the C API, written out: this operator has no workspace.
import ctypes

import torch

from libinfiniop import (
    LIBINFINIOP,
    InfiniDtype,
    TestTensor,
    check_error,
    get_args,
    get_test_devices,
    infiniopOperatorDescriptor_t,
    profile_operation,
    test_operator,
)

# shape, strides of the source, strides of the destination
_CASES = [
    ((100, 100), (1, 100), (100, 1)),
    ((4, 4), (16, 1), (1, 4)),
    ((4, 6, 64), (64, 4 * 64, 1), (6 * 64, 64, 1)),
    ((2000, 33), (33, 1), (1, 2000)),
    ((3, 4, 7, 53, 9), (1, 3, 12, 84, 4452), (13356, 3339, 477, 9, 1)),
]
PROFILE, NUM_PRERUN, NUM_ITERATIONS = False, 10, 1000


def test(handle, device, shape, x_stride, y_stride, dtype, sync):
    print(f"Testing Rearrange with shape:{shape} x_stride:{x_stride} y_stride:{y_stride} dtype:{dtype}")
    x = TestTensor(shape, x_stride, dtype, device)
    y = TestTensor(shape, y_stride, dtype, device, mode="ones")
    if sync is not None:
        sync()
    descriptor = infiniopOperatorDescriptor_t()
    check_error(
        LIBINFINIOP.infiniopCreateRearrangeDescriptor(
            handle, ctypes.byref(descriptor), y.descriptor, x.descriptor
        )
    )
    for tensor in [x, y]:
        tensor.destroy_desc()

    def lib_rearrange():
        check_error(LIBINFINIOP.infiniopRearrange(descriptor, y.data(), x.data(), None))

    lib_rearrange()
    assert torch.equal(y.actual_tensor(), x.actual_tensor())
    if PROFILE:
        theirs = lambda: y.actual_tensor().copy_(x.actual_tensor())
        profile_operation("PyTorch", theirs, device, NUM_PRERUN, NUM_ITERATIONS)
        profile_operation("    lib", lib_rearrange, device, NUM_PRERUN, NUM_ITERATIONS)
    check_error(LIBINFINIOP.infiniopDestroyRearrangeDescriptor(descriptor))


if __name__ == "__main__":
    args = get_args()
    PROFILE, NUM_PRERUN, NUM_ITERATIONS = args.profile, args.num_prerun, args.num_iterations
    for device in get_test_devices(args):
        test_operator(device, test, _CASES, [InfiniDtype.F16, InfiniDtype.F32])
    print("\033[92mTest passed!\033[0m")
