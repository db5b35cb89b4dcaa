# Sum and root-mean-square normalisation in one through the C API; the sum is a result, too.
import torch
from _script import BF16, F16, announce, main, operator, profile, verify

from libinfiniop import TestTensor

# shape, strides of y, a, b
CASES = [
    ((1, 4), None, None, None),
    ((2, 4), (8, 1), (8, 1), (8, 1)),
    ((2, 2, 4), None, None, None),
    ((16, 2048), (4096, 1), (4096, 1), (4096, 1)),
    ((4, 4, 512), (8192, 1024, 1), (4096, 512, 1), (4096, 512, 1)),
]
EPSILON = 1e-5
TOLERANCES = {F16: {"atol": 2e-3, "rtol": 2e-3}, BF16: {"atol": 1e-2, "rtol": 1e-2}}


def test(handle, device, shape, y_strides, a_strides, b_strides, dtype, sync):
    announce("AddRMSNorm", device, dtype, shape=shape, y=y_strides, a=a_strides, b=b_strides)
    y = TestTensor(shape, y_strides, dtype, device, mode="ones")
    a = TestTensor(shape, a_strides, dtype, device, scale=0.01)
    b = TestTensor(shape, b_strides, dtype, device, scale=0.01)
    w = TestTensor((shape[-1],), None, dtype, device)
    total = TestTensor(shape, None, dtype, device, mode="zeros")

    def reference():
        values = a.torch_tensor().float() + b.torch_tensor().float()
        scale = torch.rsqrt(values.pow(2).mean(-1, keepdim=True) + EPSILON)
        return values * scale * w.torch_tensor().float(), values

    want, want_total = reference()
    create = [y.descriptor, a.descriptor, b.descriptor, w.descriptor, EPSILON, total.descriptor]
    with operator("AddRMSNorm", handle, create, [y, a, b, w, total], device) as call:
        ours = lambda: call(y.data(), a.data(), b.data(), w.data(), total.data())
        ours()
        verify(y, want, TOLERANCES, dtype)
        verify(total, want_total, TOLERANCES, dtype)
        profile(reference, ours, device)


if __name__ == "__main__":
    main(test, CASES, [F16, BF16])
