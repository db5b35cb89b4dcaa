# Root-mean-square normalisation through the C API, with weights of the same or another dtype.
import torch
from _script import BF16, F16, F32, announce, main, operator, profile, verify

from libinfiniop import TestTensor

# shape of x and y, strides of y, strides of x
SHAPES = [
    ((1, 4), None, None),
    ((2, 4), (8, 1), (8, 1)),
    ((2, 2, 4), None, None),
    ((2, 2, 4), (16, 8, 1), (16, 8, 1)),
    ((16, 2048), None, None),
    ((16, 2048), (4096, 1), (4096, 1)),
    ((4, 4, 512), (8192, 1024, 1), (4096, 512, 1)),
]
CASES = [(*shape, weight) for shape in SHAPES for weight in (F32, F16, BF16)]
EPSILON = 1e-6
TOLERANCES = {F16: {"atol": 2e-3, "rtol": 2e-3}, BF16: {"atol": 1e-2, "rtol": 1e-2}}


def test(handle, device, shape, y_strides, x_strides, w_dtype, dtype, sync):
    announce("RMSNorm", device, dtype, shape=shape, y=y_strides, x=x_strides, weight=w_dtype)
    y = TestTensor(shape, y_strides, dtype, device, mode="ones")
    x = TestTensor(shape, x_strides, dtype, device, scale=0.01)
    w = TestTensor((shape[-1],), None, w_dtype, device)

    def reference():
        values = x.torch_tensor().float()
        scale = torch.rsqrt(values.pow(2).mean(-1, keepdim=True) + EPSILON)
        return values * scale * w.torch_tensor().float()

    create = [y.descriptor, x.descriptor, w.descriptor, EPSILON]
    with operator("RMSNorm", handle, create, [y, x, w], device) as call:
        ours = lambda: call(y.data(), x.data(), w.data())
        ours()
        verify(y, reference(), TOLERANCES, dtype)
        profile(reference, ours, device)


if __name__ == "__main__":
    main(test, CASES, [F16, BF16])
