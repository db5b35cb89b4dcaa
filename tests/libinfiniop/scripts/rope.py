# Rotary position embedding through the C API: both ways to pair elements, also in place and in batches.
import torch
from _script import BF16, F16, F32, I32, I64, announce, main, operator, profile, verify

from libinfiniop import TestTensor

GPT_J, GPT_NEOX = 0, 1
# shape of x, its strides, strides of y
SHAPES = [
    ((1, 32, 128), None, None),
    ((10, 32, 64), None, None),
    ((4, 1, 32), (64, 64, 1), (32, 32, 1)),
    ((11, 33, 128), (8000, 200, 1), (7000, 128, 1)),
    ((3, 5, 4, 32), None, None),
]
CASES = [(*shape, algo, into, pos) for shape in SHAPES for algo in (GPT_J, GPT_NEOX)
         for into, pos in (("own", I32), ("x", I64))]  # fmt: skip
TOLERANCES = {
    F16: {"atol": 1e-3, "rtol": 1e-2},
    F32: {"atol": 1e-4, "rtol": 1e-3},
    BF16: {"atol": 5e-3, "rtol": 5e-2},
}


def rotated(x, sin, cos, algo):
    """Rotate pairs; `sin` and `cos` have a row per position."""
    x, sin, cos = x.float(), sin.float()[..., None, :], cos.float()[..., None, :]
    half = x.shape[-1] // 2
    first, second = (x[..., 0::2], x[..., 1::2]) if algo == GPT_J else (x[..., :half], x[..., half:])
    parts = first * cos - second * sin, first * sin + second * cos
    return torch.stack(parts, -1).flatten(-2) if algo == GPT_J else torch.cat(parts, -1)


def test(handle, device, shape, x_strides, y_strides, algo, into, pos_dtype, dtype, sync):
    if into == "x" and x_strides != y_strides:
        return
    announce("RoPE", device, dtype, shape=shape, x=x_strides, y=y_strides, algo=algo, into=into)
    x = TestTensor(shape, x_strides, dtype, device)
    y = x if into == "x" else TestTensor(shape, y_strides, dtype, device, mode="ones")
    positions = torch.arange(shape[-3]).expand(shape[:-2]).contiguous()
    pos_ids = TestTensor.from_torch(positions, pos_dtype, device)
    steps = torch.arange(shape[-3] + 7)[:, None] / 10000 ** (torch.arange(shape[-1] // 2) * 2 / shape[-1])
    sin, cos = (TestTensor.from_torch(f(steps), dtype, device) for f in (torch.sin, torch.cos))
    source = x.torch_tensor()
    rows = lambda table: table.torch_tensor()[positions]
    reference = lambda: rotated(source, rows(sin), rows(cos), algo)
    want = reference()
    create = [t.descriptor for t in (y, x, pos_ids, sin, cos)] + [algo]
    with operator("RoPE", handle, create, {x, y, pos_ids, sin, cos}, device) as call:
        ours = lambda: call(y.data(), x.data(), pos_ids.data(), sin.data(), cos.data())
        ours()
        verify(y, want, TOLERANCES, dtype)
        profile(reference, ours, device)


if __name__ == "__main__":
    main(test, CASES, [F16, F32, BF16])
