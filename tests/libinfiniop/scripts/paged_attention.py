# Attention of one new token per sequence over a paged cache through the C API, with and without slopes.
import torch
from _script import BF16, F16, F32, I64, announce, main, operator, profile, verify

from libinfiniop import TestTensor

# sequences, query heads, key-value heads, head size, block size, longest sequence, slopes
CASES = [(1, 1, 1, 128, 16, 100, False), (4, 40, 8, 128, 16, 300, False), (6, 8, 8, 64, 16, 77, True)]
TOLERANCES = {
    F16: {"atol": 1e-3, "rtol": 1e-2},
    BF16: {"atol": 5e-3, "rtol": 5e-2},
    F32: {"atol": 1e-5, "rtol": 1e-5},
}


def test(handle, device, count, heads, kv_heads, size, block_size, longest, has_slopes, dtype, sync):
    announce("PagedAttention", device, dtype, count=count, heads=heads, kv=kv_heads, slopes=has_slopes)
    table_width = -(-longest // block_size)
    blocks, scale = count * table_width, size**-0.5
    lengths = torch.randint(1, longest + 1, (count,))
    table = torch.randperm(blocks).view(count, table_width)
    q = TestTensor((count, heads, size), None, dtype, device)
    k_cache, v_cache = (
        TestTensor((blocks, kv_heads, block_size, size), None, dtype, device) for _ in range(2)
    )
    seq_lens = TestTensor.from_torch(lengths, I64, device)
    block_tables = TestTensor.from_torch(table, I64, device)
    slopes = TestTensor((heads,), None, F32, device, scale=0.1) if has_slopes else None
    out = TestTensor((count, heads, size), None, dtype, device, mode="zeros")

    def reference():
        rows = []
        for i, length in enumerate(lengths.tolist()):
            keys, values = (
                cache.torch_tensor()[table[i]].transpose(1, 2).flatten(0, 1)[:length].float()
                for cache in (k_cache, v_cache)
            )
            keys, values = (x.repeat_interleave(heads // kv_heads, 1) for x in (keys, values))
            scores = torch.einsum("hd,thd->ht", q.torch_tensor()[i].float(), keys) * scale
            if slopes is not None:
                scores = scores + slopes.torch_tensor()[:, None] * (torch.arange(length) - length + 1)
            rows.append(torch.einsum("ht,thd->hd", torch.softmax(scores, -1), values))
        return torch.stack(rows)

    tensors = [out, q, k_cache, v_cache, block_tables, seq_lens]
    create = [*(t.descriptor for t in tensors), slopes.descriptor if slopes else None, scale]
    every = [*tensors, *([slopes] if slopes else [])]
    with operator("PagedAttention", handle, create, every, device) as call:
        ours = lambda: call(*(t.data() for t in tensors), slopes.data() if slopes else None)
        ours()
        verify(out, reference(), TOLERANCES, dtype)
        profile(reference, ours, device)


if __name__ == "__main__":
    main(test, CASES, [F16, BF16, F32])
