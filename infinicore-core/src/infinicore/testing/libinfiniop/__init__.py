# Bindings of libinfiniop and libinfinirt for test scripts: one script per operator creates descriptors, runs
# the C functions on tensors of PyTorch and compares. The same package answers to the name `libinfiniop`.
"""The C API of operators through ctypes, and what scripts that test it share."""

from __future__ import annotations

from typing import Any

from infinicore.testing.libinfiniop.datatypes import InfiniDtype, InfiniDtypeNames, infiniDtype_t
from infinicore.testing.libinfiniop.devices import (
    InfiniDeviceEnum,
    InfiniDeviceNames,
    infini_device_map,
    torch_device_map,
)
from infinicore.testing.libinfiniop.liboperators import InfiniLib, open_lib
from infinicore.testing.libinfiniop.op_register import OpRegister
from infinicore.testing.libinfiniop.structs import (
    Handle,
    OpDescriptor,
    TensorDescriptor,
    infiniopHandle_t,
    infiniopOperatorDescriptor_t,
    infiniopTensorDescriptor_t,
)
from infinicore.testing.libinfiniop.utils import (
    CTensor,
    TestTensor,
    TestWorkspace,
    check_error,
    create_handle,
    debug,
    debug_all,
    destroy_handle,
    filter_tensor_dtypes_by_device,
    get_args,
    get_sync_func,
    get_test_devices,
    get_tolerance,
    print_discrepancy,
    profile_operation,
    rearrange_tensor,
    synchronize_device,
    test_operator,
    timed_op,
    to_numpy_dtype,
    to_torch_dtype,
)

LIBINFINIOP: InfiniLib

__all__ = [
    "LIBINFINIOP",
    "CTensor",
    "Handle",
    "InfiniDeviceEnum",
    "InfiniDeviceNames",
    "InfiniDtype",
    "InfiniDtypeNames",
    "InfiniLib",
    "OpDescriptor",
    "OpRegister",
    "TensorDescriptor",
    "TestTensor",
    "TestWorkspace",
    "check_error",
    "create_handle",
    "debug",
    "debug_all",
    "destroy_handle",
    "filter_tensor_dtypes_by_device",
    "get_args",
    "get_sync_func",
    "get_test_devices",
    "get_tolerance",
    "infiniDtype_t",
    "infini_device_map",
    "infiniopHandle_t",
    "infiniopOperatorDescriptor_t",
    "infiniopTensorDescriptor_t",
    "open_lib",
    "print_discrepancy",
    "profile_operation",
    "rearrange_tensor",
    "synchronize_device",
    "test_operator",
    "timed_op",
    "to_numpy_dtype",
    "to_torch_dtype",
    "torch_device_map",
]


def __getattr__(name: str) -> Any:
    if name == "LIBINFINIOP":  # the libraries are opened by whoever asks for them first
        from infinicore.testing.libinfiniop import liboperators

        return liboperators.LIBINFINIOP
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
