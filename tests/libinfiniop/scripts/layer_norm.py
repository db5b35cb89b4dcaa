# Layer normalisation through the C API; the standardised input and 1 / deviation are results, too.
import torch
from _script import BF16, F16, F32, announce, main, operator, profile, verify

from libinfiniop import TestTensor

# shape, strides of the input, whether there is a bias
CASES = [
    ((13, 4, 4), None, True),
    ((13, 4, 4), (30, 4, 1), True),
    ((16, 5, 512), None, False),
    ((2, 3, 2048), None, True),
]
EPSILON = 1e-5
TOLERANCES = {
    F16: {"atol": 5e-2, "rtol": 5e-2},
    F32: {"atol": 1e-3, "rtol": 1e-3},
    BF16: {"atol": 5e-2, "rtol": 5e-2},
}


def test(handle, device, shape, strides, has_bias, dtype, sync):
    announce("LayerNorm", device, dtype, shape=shape, strides=strides, bias=has_bias)
    x = TestTensor(shape, strides, dtype, device)
    weight = TestTensor(shape[-1:], None, dtype, device)
    bias = TestTensor(shape[-1:], None, dtype, device) if has_bias else None
    out = TestTensor(shape, None, dtype, device, mode="zeros")
    standard = TestTensor(shape, None, dtype, device, mode="zeros")
    deviation = TestTensor(shape[:-1], None, dtype, device, mode="zeros")

    def reference():
        values = x.torch_tensor().float()
        centred = values - values.mean(-1, keepdim=True)
        scale = torch.rsqrt(centred.pow(2).mean(-1) + EPSILON)
        normal = centred * scale[..., None]
        result = normal * weight.torch_tensor().float()
        return (result if bias is None else result + bias.torch_tensor().float()), normal, scale

    tensors = [out, standard, deviation, x, weight]
    create = [t.descriptor for t in tensors] + [bias.descriptor if bias else None, EPSILON]
    with operator("LayerNorm", handle, create, [*tensors, *([bias] if bias else [])], device) as call:
        ours = lambda: call(*(t.data() for t in tensors), bias.data() if bias else None)
        ours()
        for got, want in zip((out, standard, deviation), reference(), strict=True):
            verify(got, want, TOLERANCES, dtype)
        profile(reference, ours, device)


if __name__ == "__main__":
    main(test, CASES, [F16, F32, BF16])
