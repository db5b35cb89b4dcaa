# Causal softmax through the C API: row i of n sees the first m - n + i + 1 columns.
import torch
from _script import BF16, F16, F32, announce, main, operator, profile, verify

from libinfiniop import TestTensor

# shape, strides of x, strides of y
CASES = [
    ((3, 3), None, None),
    ((32, 512), None, None),
    ((32, 512), (1024, 1), (1024, 1)),
    ((32, 5, 5), None, None),
    ((8, 20, 512), (20480, 512, 1), None),
    ((28, 15, 15), None, None),
]
TOLERANCES = {
    F16: {"atol": 1e-3, "rtol": 1e-2},
    F32: {"atol": 3e-5, "rtol": 1e-5},
    BF16: {"atol": 5e-3, "rtol": 5e-2},
}


def reference(x):
    rows, columns = x.shape[-2:]
    seen = torch.ones(rows, columns, dtype=torch.bool).tril(columns - rows)
    return torch.softmax(x.float().masked_fill(~seen, float("-inf")), -1).to(x.dtype)


def test(handle, device, shape, x_strides, y_strides, into, dtype, sync):
    if into == "x" and x_strides != y_strides:
        return
    announce("CausalSoftmax", device, dtype, shape=shape, x=x_strides, y=y_strides, into=into)
    x = TestTensor(shape, x_strides, dtype, device)
    y = x if into == "x" else TestTensor(shape, y_strides, dtype, device, mode="ones")
    want = reference(x.torch_tensor())
    with operator("CausalSoftmax", handle, [y.descriptor, x.descriptor], {x, y}, device) as call:
        call(y.data(), x.data())
        verify(y, want, TOLERANCES, dtype)
        profile(lambda: reference(x.torch_tensor()), lambda: call(y.data(), x.data()), device)


if __name__ == "__main__":
    main(test, [(*case, into) for case in CASES for into in ("own", "x")], [F16, BF16, F32])
