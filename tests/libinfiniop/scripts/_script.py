# What the scripts beside this file share, beyond libinfiniop: the life of one operator, the comparison with
# PyTorch, and the loop that a script ends with.
"""Parts of a script that tests one operator."""

from contextlib import contextmanager
from ctypes import byref, c_uint64

import torch

from libinfiniop import (
    LIBINFINIOP,
    InfiniDeviceNames,
    InfiniDtype,
    InfiniDtypeNames,
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

F16, F32, F64, BF16 = InfiniDtype.F16, InfiniDtype.F32, InfiniDtype.F64, InfiniDtype.BF16
I8, I32, I64 = InfiniDtype.I8, InfiniDtype.I32, InfiniDtype.I64
OPTIONS = {"debug": False, "profile": False, "num_prerun": 10, "num_iterations": 1000}


@contextmanager
def operator(base, handle, create, tensors, device):
    """Create operator `base` and yield the function that executes it."""
    descriptor = infiniopOperatorDescriptor_t()
    check_error(getattr(LIBINFINIOP, f"infiniopCreate{base}Descriptor")(handle, byref(descriptor), *create))
    assert descriptor.contents.device == device
    for tensor in tensors:  # the operator has copies of what it needs
        tensor.destroy_desc()
    size = c_uint64(0)
    check_error(getattr(LIBINFINIOP, f"infiniopGet{base}WorkspaceSize")(descriptor, byref(size)))
    workspace = TestWorkspace(size.value, device)
    function = getattr(LIBINFINIOP, f"infiniop{base}")

    def execute(*arguments):
        check_error(function(descriptor, workspace.data(), workspace.size(), *arguments, None))

    yield execute
    check_error(getattr(LIBINFINIOP, f"infiniopDestroy{base}Descriptor")(descriptor))


def verify(tensor, want, tolerances, dtype, equal_nan=False):
    """Compare what the library wrote with what PyTorch calculated."""
    atol, rtol = get_tolerance(tolerances, dtype)
    got = tensor.actual_tensor()
    want = want.to(got.dtype)
    if OPTIONS["debug"]:
        debug(got, want, atol=atol, rtol=rtol, equal_nan=equal_nan)
    assert torch.allclose(got, want, atol=atol, rtol=rtol, equal_nan=equal_nan)


def profile(theirs, ours, device):
    """Time both where --profile asks for it."""
    if OPTIONS["profile"]:
        counts = OPTIONS["num_prerun"], OPTIONS["num_iterations"]
        profile_operation("PyTorch", theirs, device, *counts)
        profile_operation("    lib", ours, device, *counts)


def announce(name, device, dtype, **what):
    """Say which case runs."""
    words = " ".join(f"{key}:{value}" for key, value in what.items())
    print(f"Testing {name} on {InfiniDeviceNames[device]} with {words} dtype:{InfiniDtypeNames[dtype]}")


def main(test, cases, dtypes):
    """Run the cases on the devices that the flags name."""
    args = get_args()
    OPTIONS.update({name: getattr(args, name) for name in OPTIONS})
    for device in get_test_devices(args):
        test_operator(device, test, cases, dtypes)
    print("\033[92mTest passed!\033[0m")
