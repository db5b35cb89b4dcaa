# Causal attention of several new tokens per sequence over a paged cache through the C API.
import torch
from _script import BF16, F16, F32, I64, announce, main, operator, profile, verify

from libinfiniop import TestTensor

# query heads, key-value heads, head size, block size, (history, new tokens) of each sequence
CASES = [
    (1, 1, 128, 8, [(0, 10)]),
    (4, 4, 128, 8, [(3, 7), (0, 5)]),
    (16, 2, 64, 16, [(20, 13), (0, 1), (45, 3)]),
]
TOLERANCES = {
    F32: {"atol": 1e-5, "rtol": 1e-5},
    F16: {"atol": 1e-2, "rtol": 1e-2},
    BF16: {"atol": 2e-2, "rtol": 2e-2},
}


def test(handle, device, heads, kv_heads, size, block_size, sequences, dtype, sync):
    announce("PagedAttentionPrefill", device, dtype, heads=heads, kv=kv_heads, sequences=sequences)
    width = max(-(-(past + new) // block_size) for past, new in sequences)
    blocks, scale = len(sequences) * width, size**-0.5
    table = torch.randperm(blocks).view(len(sequences), width)
    cuts = torch.tensor([0, *(new for _, new in sequences)]).cumsum(0)
    q = TestTensor((int(cuts[-1]), heads, size), None, dtype, device, scale=0.1)
    k_cache, v_cache = (
        TestTensor((blocks, kv_heads, block_size, size), None, dtype, device) for _ in range(2)
    )
    block_tables = TestTensor.from_torch(table, I64, device)
    history = TestTensor.from_torch(torch.tensor([past for past, _ in sequences]), I64, device)
    cumulative = TestTensor.from_torch(cuts, I64, device)
    out = TestTensor(q.shape, None, dtype, device, mode="zeros")

    def reference():
        parts = []
        for i, (past, new) in enumerate(sequences):
            mine = q.torch_tensor()[cuts[i] : cuts[i + 1]].float()
            keys, values = (
                cache.torch_tensor()[table[i]].transpose(1, 2).flatten(0, 1)[: past + new].float()
                for cache in (k_cache, v_cache)
            )
            keys, values = (x.repeat_interleave(heads // kv_heads, 1) for x in (keys, values))
            scores = torch.einsum("shd,thd->hst", mine, keys) * scale
            seen = torch.ones(new, past + new, dtype=torch.bool).tril(past)
            weights = torch.softmax(scores.masked_fill(~seen, float("-inf")), -1)
            parts.append(torch.einsum("hst,thd->shd", weights, values))
        return torch.cat(parts)

    tensors = [out, q, k_cache, v_cache, block_tables, history, cumulative]
    create = [*(t.descriptor for t in tensors), None, scale]
    with operator("PagedAttentionPrefill", handle, create, tensors, device) as call:
        ours = lambda: call(*(t.data() for t in tensors), None)
        ours()
        verify(out, reference(), TOLERANCES, dtype)
        profile(reference, ours, device)


if __name__ == "__main__":
    main(test, CASES, [F32, F16, BF16])
