# Weights from AWQ's 4-bit words through the C API: eight columns in a word, zeros and scales by row groups.
import torch
from _script import F16, I32, announce, main, operator, profile, verify

from libinfiniop import TestTensor

NIBBLES = (0, 4, 1, 5, 2, 6, 3, 7)  # where column c of eight lies
CASES = [(512, 1024, 128), (128, 64, 64), (64, 8, 64)]  # rows, columns, rows of a group
TOLERANCES = {F16: {"atol": 0, "rtol": 1e-4}}


def unpacked(words):
    shifts = torch.tensor([4 * nibble for nibble in NIBBLES])
    return ((words[..., None] >> shifts) & 15).flatten(-2)


def test(handle, device, rows, columns, group, dtype, sync):
    announce("DequantizeAWQ", device, dtype, rows=rows, columns=columns, group=group)
    words = TestTensor((rows, columns // 8), None, I32, device, mode="randint")
    zeros = TestTensor((rows // group, columns // 8), None, I32, device, mode="randint")
    scales = TestTensor((rows // group, columns), None, dtype, device)
    out = TestTensor((rows, columns), None, dtype, device, mode="zeros")

    def reference():
        whole = lambda table: table.repeat_interleave(group, 0)
        weights = unpacked(words.torch_tensor()) - whole(unpacked(zeros.torch_tensor()))
        return weights * whole(scales.torch_tensor().float())

    tensors = [out, words, scales, zeros]
    with operator("DequantizeAWQ", handle, [t.descriptor for t in tensors], tensors, device) as call:
        ours = lambda: call(*(t.data() for t in tensors))
        ours()
        verify(out, reference(), TOLERANCES, dtype)
        profile(reference, ours, device)


if __name__ == "__main__":
    main(test, CASES, [F16])
