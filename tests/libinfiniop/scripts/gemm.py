# General matrix product through the C API, written out: c = alpha * a @ b + beta * c, also in batches.
import ctypes
from ctypes import c_uint64

import torch

from libinfiniop import (
    LIBINFINIOP,
    InfiniDeviceNames,
    InfiniDtype,
    InfiniDtypeNames,
    TestTensor,
    TestWorkspace,
    check_error,
    debug,
    get_args,
    get_test_devices,
    get_tolerance,
    infiniopOperatorDescriptor_t,
    profile_operation,
    test_operator,
)

# alpha, beta, shapes of a, b, c, strides of a, b, c
_CASES = [
    (1.0, 0.0, (1, 256), (256, 128), (1, 128), None, None, None),
    (1.0, 0.0, (128, 256), (256, 512), (128, 512), None, None, None),
    (1.0, 0.0, (2, 4, 256), (2, 256, 64), (2, 4, 64), None, None, None),
    (1.0, 0.0, (1, 256), (256, 128), (1, 128), (512, 1), (256, 1), (256, 1)),
    (1.0, 1.0, (6, 256), (256, 128), (6, 128), (256, 1), (1, 256), (128, 1)),
    (0.125, 0.5, (4, 48, 64), (4, 64, 6), (4, 48, 6), None, None, None),
]
_DTYPES = [InfiniDtype.F16, InfiniDtype.BF16, InfiniDtype.F32]
_TOLERANCES = {
    InfiniDtype.F16: {"atol": 0, "rtol": 1e-2},
    InfiniDtype.F32: {"atol": 0, "rtol": 1e-3},
    InfiniDtype.BF16: {"atol": 0, "rtol": 5e-2},
}
DEBUG = PROFILE = False
NUM_PRERUN, NUM_ITERATIONS = 10, 1000


def test(handle, device, alpha, beta, a_shape, b_shape, c_shape, a_stride, b_stride, c_stride, dtype, sync):
    print(
        f"Testing Gemm on {InfiniDeviceNames[device]} with alpha:{alpha}, beta:{beta}, a_shape:{a_shape}, "
        f"b_shape:{b_shape}, c_shape:{c_shape}, a_stride:{a_stride}, b_stride:{b_stride}, "
        f"c_stride:{c_stride}, dtype:{InfiniDtypeNames[dtype]}"
    )
    a = TestTensor(a_shape, a_stride, dtype, device)
    b = TestTensor(b_shape, b_stride, dtype, device)
    c = TestTensor(c_shape, c_stride, dtype, device, mode="ones")

    def torch_gemm():
        product = torch.matmul(a.torch_tensor().float(), b.torch_tensor().float())
        return (alpha * product + beta * torch.ones(c_shape)).to(c.torch_tensor().dtype)

    want = torch_gemm()
    if sync is not None:
        sync()
    descriptor = infiniopOperatorDescriptor_t()
    check_error(
        LIBINFINIOP.infiniopCreateGemmDescriptor(
            handle, ctypes.byref(descriptor), c.descriptor, a.descriptor, b.descriptor
        )
    )
    for tensor in [a, b, c]:
        tensor.destroy_desc()
    workspace_size = c_uint64(0)
    check_error(LIBINFINIOP.infiniopGetGemmWorkspaceSize(descriptor, ctypes.byref(workspace_size)))
    workspace = TestWorkspace(workspace_size.value, device)

    def lib_gemm():
        check_error(
            LIBINFINIOP.infiniopGemm(
                descriptor,
                workspace.data(),
                workspace_size.value,
                c.data(),
                a.data(),
                b.data(),
                alpha,
                beta,
                None,
            )
        )

    lib_gemm()
    atol, rtol = get_tolerance(_TOLERANCES, dtype)
    if DEBUG:
        debug(c.actual_tensor(), want, atol=atol, rtol=rtol)
    assert torch.allclose(c.actual_tensor(), want, atol=atol, rtol=rtol)
    if PROFILE:
        profile_operation("PyTorch", torch_gemm, device, NUM_PRERUN, NUM_ITERATIONS)
        profile_operation("    lib", lib_gemm, device, NUM_PRERUN, NUM_ITERATIONS)
    check_error(LIBINFINIOP.infiniopDestroyGemmDescriptor(descriptor))


if __name__ == "__main__":
    args = get_args()
    DEBUG, PROFILE = args.debug, args.profile
    NUM_PRERUN, NUM_ITERATIONS = args.num_prerun, args.num_iterations
    for device in get_test_devices(args):
        test_operator(device, test, _CASES, _DTYPES)
    print("\033[92mTest passed!\033[0m")
