# Convolution in one, two and three dimensions through the C API, with and without a bias.
import ctypes

import torch
from _script import BF16, F16, F32, announce, main, operator, profile, verify

from libinfiniop import TestTensor

# shape of x, of w, padding, stride, dilation, whether there is a bias
CASES = [
    ((32, 3, 4), (32, 3, 5), (1,), (1,), (1,), True),
    ((1, 3, 4, 4), (2, 3, 3, 3), (1, 1), (1, 2), (2, 1), True),
    ((4, 3, 32, 32), (8, 3, 5, 5), (2, 2), (2, 2), (1, 1), False),
    ((1, 1, 4, 4, 4), (1, 1, 5, 5, 5), (1, 1, 1), (1, 1, 1), (1, 1, 1), True),
    ((2, 3, 8, 8, 8), (5, 3, 3, 3, 3), (2, 2, 2), (2, 1, 2), (1, 1, 1), False),
]
TOLERANCES = {
    F16: {"atol": 1e-3, "rtol": 1e-3},
    F32: {"atol": 1e-5, "rtol": 1e-5},
    BF16: {"atol": 1e-3, "rtol": 1e-2},
}


def address_of(numbers):
    """Numbers as C takes them here: the address of 64-bit integers."""
    return ctypes.cast((ctypes.c_int64 * len(numbers))(*numbers), ctypes.c_void_p)


def test(handle, device, x_shape, w_shape, pads, strides, dilations, has_bias, dtype, sync):
    announce("Conv", device, dtype, x=x_shape, w=w_shape, pads=pads, strides=strides, dilations=dilations)
    x = TestTensor(x_shape, None, dtype, device, scale=0.01)
    w = TestTensor(w_shape, None, dtype, device, scale=0.01)
    b = TestTensor(w_shape[:1], None, dtype, device) if has_bias else None
    rank = len(pads)
    function = (torch.nn.functional.conv1d, torch.nn.functional.conv2d, torch.nn.functional.conv3d)[rank - 1]

    def reference():
        bias = b.torch_tensor().float() if b else None
        return function(x.torch_tensor().float(), w.torch_tensor().float(), bias, strides, pads, dilations)

    want = reference()
    y = TestTensor(want.shape, None, dtype, device, mode="ones")
    create = [y.descriptor, x.descriptor, w.descriptor, b.descriptor if b else None]
    create += [address_of(pads), address_of(strides), address_of(dilations), rank]
    with operator("Conv", handle, create, [y, x, w, *([b] if b else [])], device) as call:
        ours = lambda: call(y.data(), x.data(), w.data(), b.data() if b else None)
        ours()
        verify(y, want, TOLERANCES, dtype)
        profile(reference, ours, device)


if __name__ == "__main__":
    main(test, CASES, [F16, F32, BF16])
