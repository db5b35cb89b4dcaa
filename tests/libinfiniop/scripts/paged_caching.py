# Scatter of keys and values to the slots of a paged cache through the C API; a negative slot is skipped.
import torch
from _script import BF16, F16, F32, I64, announce, main, operator, profile, verify

from libinfiniop import TestTensor

CASES = [
    (1, 8, 128, 16, 5),
    (5, 8, 128, 16, 64),
    (16, 4, 64, 8, 77),
]  # blocks, heads, size, block size, tokens
TOLERANCES = {dtype: {"atol": 0, "rtol": 1e-5} for dtype in (F16, BF16, F32)}


def test(handle, device, blocks, heads, size, block_size, tokens, dtype, sync):
    announce("PagedCaching", device, dtype, blocks=blocks, heads=heads, size=size, tokens=tokens)
    k, v = (TestTensor((tokens, heads, size), None, dtype, device) for _ in range(2))
    k_cache, v_cache = (TestTensor((blocks, heads, block_size, size), None, dtype, device) for _ in range(2))
    slots = torch.randperm(blocks * block_size)[:tokens]
    slots[0] = -1
    slot_mapping = TestTensor.from_torch(slots, I64, device)

    def reference(cache, new):
        result, kept = cache.torch_tensor().clone(), slots >= 0
        result[slots[kept] // block_size, :, slots[kept] % block_size] = new.torch_tensor()[kept]
        return result

    want = reference(k_cache, k), reference(v_cache, v)
    tensors = [k_cache, v_cache, k, v, slot_mapping]
    with operator("PagedCaching", handle, [t.descriptor for t in tensors], tensors, device) as call:
        ours = lambda: call(*(t.data() for t in tensors))
        ours()
        verify(k_cache, want[0], TOLERANCES, dtype)
        verify(v_cache, want[1], TOLERANCES, dtype)
        profile(lambda: reference(k_cache, k), ours, device)


if __name__ == "__main__":
    main(test, CASES, [F16, BF16, F32])
