# DeepSeek-V3's choice of experts through the C API: 8 groups, of which 4 stay, and 8 of their 256 experts.
import torch
from _script import BF16, F16, F32, I32, announce, main, operator, profile, verify

from libinfiniop import TestTensor

CASES = [(1, 256, 8), (8, 256, 8), (5, 256, 8)]  # tokens, experts, topk
SCALE = 2.5
TOLERANCES = {dtype: {"atol": 1e-3, "rtol": 1e-3} for dtype in (F32, BF16, F16)}


def test(handle, device, tokens, experts, topk, dtype, sync):
    announce("Topkrouter", device, dtype, tokens=tokens, experts=experts, topk=topk)
    x = TestTensor((tokens, experts), None, dtype, device, scale=5.0)
    bias = TestTensor((experts,), None, F32, device)
    values = TestTensor((tokens, topk), None, F32, device, mode="zeros")
    indices = TestTensor((tokens, topk), None, I32, device, mode="zeros")

    def reference():
        scores = torch.sigmoid(x.torch_tensor().float())
        biased = scores + bias.torch_tensor()
        groups = biased.view(tokens, 8, -1).topk(2, -1).values.sum(-1)
        kept = torch.zeros_like(groups).scatter(1, groups.topk(4, -1).indices, 1.0)
        allowed = kept.repeat_interleave(experts // 8, 1).bool()
        chosen = biased.masked_fill(~allowed, float("-inf")).topk(topk, -1).indices
        weights = scores.gather(1, chosen)
        return weights / weights.sum(-1, keepdim=True) * SCALE, chosen

    want, where = reference()
    with operator("Topkrouter", handle, [x.descriptor, bias.descriptor], [x, bias], device) as call:
        ours = lambda: call(values.data(), indices.data(), x.data(), bias.data(), SCALE, topk)
        ours()
        got = indices.actual_tensor().long()
        # Of experts that are equally good any may be chosen; everything else is the same.
        assert torch.equal(got.sort(-1).values, where.sort(-1).values)
        order, theirs = got.argsort(-1), where.argsort(-1)
        values.actual_tensor().copy_(values.actual_tensor().gather(1, order))
        verify(values, want.gather(1, theirs), TOLERANCES, dtype)
        profile(reference, ours, device)


if __name__ == "__main__":
    main(test, CASES, [F32, BF16, F16])
