# Clipping between two tensors through the C API.
import torch
from _script import BF16, F16, F32, announce, main, operator, profile, verify

from libinfiniop import TestTensor

# shape, strides of x, strides of y, low, high
CASES = [
    ((1, 8), None, None, -1.0, 1.0),
    ((8, 8), (10, 1), (10, 1), 0.0, 2.0),
    ((3, 4, 5), (20, 5, 1), None, 5.0, -5.0),
    ((16, 1024), None, None, -1.0, float("inf")),
]
TOLERANCES = {
    F16: {"atol": 1e-3, "rtol": 1e-3},
    F32: {"atol": 1e-7, "rtol": 1e-6},
    BF16: {"atol": 1e-3, "rtol": 1e-3},
}


def test(handle, device, shape, x_strides, y_strides, low, high, dtype, sync):
    announce("Clip", device, dtype, shape=shape, x=x_strides, y=y_strides, low=low, high=high)
    x = TestTensor(shape, x_strides, dtype, device, scale=4.0, bias=-2.0)
    repeated = (0,) * len(shape)  # one number for all elements
    least = TestTensor(shape, repeated, dtype, device, mode="ones", scale=low)
    most = TestTensor(shape, None, dtype, device, mode="ones", scale=high)
    y = TestTensor(shape, y_strides, dtype, device, mode="zeros")
    # The lower bound wins where it is the higher one.
    reference = lambda: torch.maximum(
        torch.minimum(x.torch_tensor(), most.torch_tensor()), least.torch_tensor()
    )
    tensors = [y, x, least, most]
    with operator("Clip", handle, [t.descriptor for t in tensors], tensors, device) as call:
        ours = lambda: call(*(t.data() for t in tensors))
        ours()
        verify(y, reference(), TOLERANCES, dtype)
        profile(reference, ours, device)


if __name__ == "__main__":
    main(test, CASES, [F16, F32, BF16])
