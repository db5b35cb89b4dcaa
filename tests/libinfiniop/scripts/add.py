# Elementwise sum through the C API, written out: what a script does from the handle to the last comparison.
import ctypes
from ctypes import c_uint64
from enum import Enum, auto

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


class Inplace(Enum):
    OUT_OF_PLACE = auto()
    INPLACE_A = auto()
    INPLACE_B = auto()


# shape, strides of a, b, c
_LAYOUTS = [
    ((13, 4), None, None, None),
    ((13, 4), (10, 1), (10, 1), (10, 1)),
    ((13, 4), (0, 1), None, None),
    ((3, 4), (1, 0), None, None),
    ((13, 4, 4), (20, 4, 1), (20, 4, 1), (20, 4, 1)),
    ((16, 1024), None, None, None),
]
_CASES = [(*layout, inplace) for layout in _LAYOUTS for inplace in Inplace]
_DTYPES = [InfiniDtype.F16, InfiniDtype.F32, InfiniDtype.BF16, InfiniDtype.I32, InfiniDtype.I64]
_TOLERANCES = {
    InfiniDtype.F16: {"atol": 1e-3, "rtol": 1e-3},
    InfiniDtype.F32: {"atol": 1e-7, "rtol": 1e-7},
    InfiniDtype.BF16: {"atol": 1e-3, "rtol": 1e-3},
    InfiniDtype.I32: {"atol": 0, "rtol": 0},
    InfiniDtype.I64: {"atol": 0, "rtol": 0},
}
DEBUG = PROFILE = False
NUM_PRERUN, NUM_ITERATIONS = 10, 1000


def test(handle, device, shape, a_stride, b_stride, c_stride, inplace, dtype, sync):
    a = TestTensor(shape, a_stride, dtype, device)
    b = TestTensor(shape, b_stride, dtype, device)
    if inplace == Inplace.OUT_OF_PLACE:
        c = TestTensor(shape, c_stride, dtype, device, mode="ones")
    else:
        c = a if inplace == Inplace.INPLACE_A else b
        if c.is_broadcast():
            return
    print(
        f"Testing Add on {InfiniDeviceNames[device]} with shape:{shape} a_stride:{a_stride} "
        f"b_stride:{b_stride} c_stride:{c_stride} inplace:{inplace} dtype:{InfiniDtypeNames[dtype]}"
    )
    c.update_torch_tensor(torch.add(a.torch_tensor(), b.torch_tensor()))
    want = c.torch_tensor()
    if sync is not None:
        sync()

    descriptor = infiniopOperatorDescriptor_t()
    check_error(
        LIBINFINIOP.infiniopCreateAddDescriptor(
            handle, ctypes.byref(descriptor), c.descriptor, a.descriptor, b.descriptor
        )
    )
    for tensor in (a, b, c):
        tensor.destroy_desc()

    workspace_size = c_uint64(0)
    check_error(LIBINFINIOP.infiniopGetAddWorkspaceSize(descriptor, ctypes.byref(workspace_size)))
    workspace = TestWorkspace(workspace_size.value, device)

    def lib_add():
        check_error(
            LIBINFINIOP.infiniopAdd(
                descriptor, workspace.data(), workspace.size(), c.data(), a.data(), b.data(), None
            )
        )

    lib_add()
    atol, rtol = get_tolerance(_TOLERANCES, dtype)
    if DEBUG:
        debug(c.actual_tensor(), want, atol=atol, rtol=rtol)
    assert torch.allclose(c.actual_tensor(), want, atol=atol, rtol=rtol)
    if PROFILE:
        theirs = lambda: torch.add(a.actual_tensor(), b.actual_tensor())
        profile_operation("PyTorch", theirs, device, NUM_PRERUN, NUM_ITERATIONS)
        profile_operation("    lib", lib_add, device, NUM_PRERUN, NUM_ITERATIONS)
    check_error(LIBINFINIOP.infiniopDestroyAddDescriptor(descriptor))


if __name__ == "__main__":
    args = get_args()
    DEBUG, PROFILE = args.debug, args.profile
    NUM_PRERUN, NUM_ITERATIONS = args.num_prerun, args.num_iterations
    for device in get_test_devices(args):
        test_operator(device, test, _CASES, _DTYPES)
    print("\033[92mTest passed!\033[0m")
