# Attention with a key-value cache through the C API: new keys and values go to the cache at `pos`.
import torch
from _script import F16, F32, announce, main, operator, profile, verify

from libinfiniop import TestTensor

# query heads, key-value heads, new tokens, head size, position, cache length
CASES = [
    (32, 4, 5, 64, 0, 2048),
    (32, 4, 1, 64, 3, 2048),
    (28, 28, 15, 128, 0, 512),
    (8, 2, 7, 32, 11, 32),
]
TOLERANCES = {F16: {"atol": 1e-4, "rtol": 1e-2}, F32: {"atol": 1e-5, "rtol": 1e-3}}


def test(handle, device, heads, kv_heads, length, size, pos, room, dtype, sync):
    announce("Attention", device, dtype, heads=heads, kv=kv_heads, length=length, size=size, pos=pos)
    q = TestTensor((heads, length, size), (size, heads * size, 1), dtype, device, scale=0.1)
    k = TestTensor((kv_heads, length, size), (size, kv_heads * size, 1), dtype, device, scale=0.1)
    v = TestTensor((kv_heads, length, size), (size, kv_heads * size, 1), dtype, device, scale=0.1)
    k_cache = TestTensor((kv_heads, room, size), None, dtype, device, scale=0.1)
    v_cache = TestTensor((kv_heads, room, size), None, dtype, device, scale=0.1)
    out = TestTensor((length, heads, size), None, dtype, device, mode="zeros")

    def reference():
        caches = []
        for cache, new in ((k_cache, k), (v_cache, v)):
            whole = cache.torch_tensor().clone()
            whole[:, pos : pos + length] = new.torch_tensor()
            caches.append(whole)
        groups = heads // kv_heads
        keys, values = (c[:, : pos + length].float().repeat_interleave(groups, 0) for c in caches)
        seen = torch.ones(length, pos + length, dtype=torch.bool).tril(pos)
        scores = (q.torch_tensor().float() @ keys.mT / size**0.5).masked_fill(~seen, float("-inf"))
        return (torch.softmax(scores, -1) @ values).transpose(0, 1), *caches

    want = reference()
    tensors = [out, q, k, v, k_cache, v_cache]
    with operator("Attention", handle, [*(t.descriptor for t in tensors), pos], tensors, device) as call:
        ours = lambda: call(*(t.data() for t in tensors))
        ours()
        for got, expected in zip((out, k_cache, v_cache), want, strict=True):
            verify(got, expected, TOLERANCES, dtype)
        profile(reference, ours, device)


if __name__ == "__main__":
    main(test, CASES, [F16, F32])
