# Division by the p-norm along an axis through the C API.
import torch
from _script import BF16, F16, F32, announce, main, operator, profile, verify

from libinfiniop import TestTensor

# shape, strides, axis, p
CASES = [
    ((3, 3), None, 1, 1),
    ((3, 3), None, 0, 2),
    ((32, 512), (1024, 1), 1, 2),
    ((32, 5, 5), None, 1, 2),
    ((8, 20, 64), None, 2, 3),
]
EPSILON = 1e-12
TOLERANCES = {
    F16: {"atol": 1e-3, "rtol": 1e-2},
    F32: {"atol": 3e-5, "rtol": 1e-5},
    BF16: {"atol": 1e-3, "rtol": 1e-2},
}


def test(handle, device, shape, strides, axis, p, dtype, sync):
    announce("LPNorm", device, dtype, shape=shape, strides=strides, axis=axis, p=p)
    x = TestTensor(shape, strides, dtype, device)
    y = TestTensor(shape, strides, dtype, device, mode="ones")
    reference = lambda: torch.nn.functional.normalize(x.torch_tensor().float(), p=p, dim=axis, eps=EPSILON)
    create = [y.descriptor, x.descriptor, axis, p, EPSILON]
    with operator("LPNorm", handle, create, [y, x], device) as call:
        call(y.data(), x.data())
        verify(y, reference(), TOLERANCES, dtype)
        profile(reference, lambda: call(y.data(), x.data()), device)


if __name__ == "__main__":
    main(test, CASES, [F16, F32, BF16])
