# Logarithm of the softmax over the last axis through the C API.
import torch
from _script import BF16, F16, F32, announce, main, operator, profile, verify

from libinfiniop import TestTensor

CASES = [((3, 3), None), ((32, 512), None), ((32, 512), (1024, 1)), ((32, 5, 5), None), ((4, 20, 512), None)]
TOLERANCES = {
    F16: {"atol": 1e-3, "rtol": 1e-2},
    F32: {"atol": 1e-5, "rtol": 1e-5},
    BF16: {"atol": 5e-3, "rtol": 1e-2},
}


def test(handle, device, shape, strides, dtype, sync):
    announce("LogSoftmax", device, dtype, shape=shape, strides=strides)
    x = TestTensor(shape, strides, dtype, device)
    y = TestTensor(shape, strides, dtype, device, mode="zeros")
    reference = lambda: torch.log_softmax(x.torch_tensor().float(), -1).to(x.torch_tensor().dtype)
    with operator("LogSoftmax", handle, [y.descriptor, x.descriptor], [y, x], device) as call:
        call(y.data(), x.data())
        verify(y, reference(), TOLERANCES, dtype)
        profile(reference, lambda: call(y.data(), x.data()), device)


if __name__ == "__main__":
    main(test, CASES, [F16, F32, BF16])
