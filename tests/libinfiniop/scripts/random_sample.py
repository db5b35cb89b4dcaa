# Sampling through the C API, written out: the result is one integer, and equals the reference.
import ctypes
from ctypes import c_uint64

import torch

from libinfiniop import (
    LIBINFINIOP,
    InfiniDtype,
    InfiniDtypeNames,
    TestTensor,
    TestWorkspace,
    check_error,
    get_args,
    get_test_devices,
    infiniopOperatorDescriptor_t,
    profile_operation,
    test_operator,
)

# number of logits, random_val, topp, topk, temperature
_CASES = [
    (512, 0.8, 0.8, 3, 0.5),
    (4096, 0.05, 0.9, 5, 1.0),
    (16384, 0.15, 0.85, 10, 2.0),
    (512, 0.08, 0.0, 3, 0.5),
    (4096, 0.5, 0.9, 1, 1.0),
    (16384, 0.15, 0.0, 1, 2.0),
    (32000, 0.08, 0.8, 50, 1.0),
]
PROFILE, NUM_PRERUN, NUM_ITERATIONS = False, 10, 1000


def sampled(logits, random_val, topp, topk, temperature):
    """The first of the likeliest whose cumulative probability reaches the drawn share of what is kept."""
    if topp <= 0 or topk <= 1:
        return logits.argmax()
    ordered, order = torch.sort(logits.double() / temperature, descending=True, stable=True)
    cumulative = torch.softmax(ordered, 0).cumsum(0)
    limit = random_val * min(cumulative[min(topk, len(logits)) - 1].item(), topp)
    return order[int((cumulative < limit).sum())]


def test(handle, device, n, random_val, topp, topk, temperature, dtype, sync):
    print(
        f"Testing RandomSample with n:{n} random_val:{random_val} topp:{topp} topk:{topk} "
        f"temperature:{temperature} dtype:{InfiniDtypeNames[dtype]}"
    )
    values = (torch.randperm(n) * 0.0009765625).to(torch.float32)  # no two alike, where the dtype allows it
    logits = TestTensor.from_torch(values, dtype, device)
    indices = TestTensor([], None, InfiniDtype.I32, device, mode="zeros")
    want = sampled(logits.torch_tensor(), random_val, topp, topk, temperature)
    if sync is not None:
        sync()
    descriptor = infiniopOperatorDescriptor_t()
    check_error(
        LIBINFINIOP.infiniopCreateRandomSampleDescriptor(
            handle, ctypes.byref(descriptor), indices.descriptor, logits.descriptor
        )
    )
    for tensor in [logits, indices]:
        tensor.destroy_desc()
    workspace_size = c_uint64(0)
    check_error(LIBINFINIOP.infiniopGetRandomSampleWorkspaceSize(descriptor, ctypes.byref(workspace_size)))
    workspace = TestWorkspace(workspace_size.value, device)

    def lib_random_sample():
        check_error(
            LIBINFINIOP.infiniopRandomSample(
                descriptor,
                workspace.data(),
                workspace_size.value,
                indices.data(),
                logits.data(),
                random_val,
                topp,
                topk,
                temperature,
                None,
            )
        )

    lib_random_sample()
    got = int(indices.actual_tensor())
    # Logits that rounding made equal may stand for each other.
    assert got == want or logits.actual_tensor()[got] == logits.torch_tensor()[want], (got, want)
    if PROFILE:
        theirs = lambda: sampled(logits.torch_tensor(), random_val, topp, topk, temperature)
        profile_operation("PyTorch", theirs, device, NUM_PRERUN, NUM_ITERATIONS)
        profile_operation("    lib", lib_random_sample, device, NUM_PRERUN, NUM_ITERATIONS)
    check_error(LIBINFINIOP.infiniopDestroyRandomSampleDescriptor(descriptor))


if __name__ == "__main__":
    args = get_args()
    PROFILE, NUM_PRERUN, NUM_ITERATIONS = args.profile, args.num_prerun, args.num_iterations
    for device in get_test_devices(args):
        test_operator(device, test, _CASES, [InfiniDtype.F16, InfiniDtype.BF16, InfiniDtype.F32])
    print("\033[92mTest passed!\033[0m")
