# Softmax along any axis through the C API.
import torch
from _script import F16, F32, announce, main, operator, profile, verify

from libinfiniop import TestTensor

# shape, strides, axis
CASES = [
    ((3, 3), None, 1),
    ((3, 3), None, 0),
    ((32, 512), (1024, 1), 1),
    ((32, 5, 5), None, 0),
    ((32, 20, 64), None, 2),
    ((4, 20, 64), (2560, 64, 1), 1),
]
TOLERANCES = {F16: {"atol": 1e-3, "rtol": 1e-2}, F32: {"atol": 3e-5, "rtol": 1e-5}}


def test(handle, device, shape, strides, axis, dtype, sync):
    announce("Softmax", device, dtype, shape=shape, strides=strides, axis=axis)
    x = TestTensor(shape, strides, dtype, device)
    y = TestTensor(shape, strides, dtype, device, mode="ones")
    reference = lambda: torch.softmax(x.torch_tensor(), axis)
    with operator("Softmax", handle, [y.descriptor, x.descriptor, axis], [y, x], device) as call:
        call(y.data(), x.data())
        verify(y, reference(), TOLERANCES, dtype)
        profile(reference, lambda: call(y.data(), x.data()), device)


if __name__ == "__main__":
    main(test, CASES, [F16, F32])
