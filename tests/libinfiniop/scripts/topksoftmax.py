# Softmax and its largest values through the C API; values and indices are given as addresses only.
import torch
from _script import BF16, F16, F32, I32, announce, main, operator, profile, verify

from libinfiniop import TestTensor

CASES = [(1, 10, 7, 1), (2, 20, 4, 1), (1, 128, 10, 0), (8, 64, 64, 0)]  # rows, columns, topk, norm
TOLERANCES = {dtype: {"atol": 1e-3, "rtol": 1e-3} for dtype in (F32, F16, BF16)}


def test(handle, device, rows, columns, topk, norm, dtype, sync):
    announce("Topksoftmax", device, dtype, rows=rows, columns=columns, topk=topk, norm=norm)
    distinct = torch.argsort(torch.rand(rows, columns), -1) / 16.0
    x = TestTensor.from_torch(distinct, dtype, device)
    values = TestTensor((rows, topk), None, F32, device, mode="zeros")
    indices = TestTensor((rows, topk), None, I32, device, mode="zeros")

    def reference():
        found = torch.topk(torch.softmax(x.torch_tensor().float(), -1), topk, -1)
        total = found.values.sum(-1, keepdim=True) if norm else 1
        return found.values / total, found.indices

    want, where = reference()
    with operator("Topksoftmax", handle, [x.descriptor], [x], device) as call:
        ours = lambda: call(values.data(), indices.data(), x.data(), topk, norm)
        ours()
        verify(values, want, TOLERANCES, dtype)
        assert torch.equal(indices.actual_tensor().long(), where)
        profile(reference, ours, device)


if __name__ == "__main__":
    main(test, CASES, [F32, F16, BF16])
