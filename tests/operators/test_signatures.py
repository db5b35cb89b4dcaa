# The calls of `infinicore` as existing programs write them: names, order, defaults, what is only a keyword.
# Those of nn.functional are in tests/nn; what an operator computes is the matter of its own tests.
"""Signatures of existing programs, and the functions that only exist for their sake."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import infinicore as ic

SIGNATURES = """
add(input, other, *, out=None)
add_rms_norm(a, b, weight, epsilon=1e-05, *, out=None, residual=None)
add_rms_norm_inplace(input, residual, weight, epsilon=1e-05)
all(input, dim=None, keepdim=False, out=None)
attention(q, k, v, k_cache, v_cache, pos, *, out=None)
baddbmm(input, batch1, batch2, *, beta=1.0, alpha=1.0, out=None)
cast(input, *, out)
cat(tensors, dim=0, *, out=None)
conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, *, out=None)
cross_entropy(logits, target, weight=None, *, ignore_index=None, reduction='none', out=None)
equal(input, other, *, out=None)
floor(input, *, out=None)
index_add(input, dim, index, source, *, alpha=1.0, out=None)
kv_caching(k_cache, v_cache, k, v, past_kv_lengths)
logical_and(input, other, *, out=None)
logical_not(input, *, out=None)
masked_select(input, mask, *, out=None)
matmul(input, other, *, alpha=1.0, out=None)
mha(q, k, v, alibi_slopes=None, scale=1.0, is_causal=False, *, out=None)
mha_kvcache(q, k_cache, v_cache, seqlens_k, block_table, alibi_slopes=None, scale=1.0, *, out=None)
mha_varlen(q, k, v, cum_seqlens_q, cum_seqlens_k, block_table, max_seqlen_q, max_seqlen_k, \
alibi_slopes=None, scale=1.0, *, out=None)
mul(input, other, *, out=None)
narrow(input, dim, start, length)
paged_attention(q, k_cache, v_cache, block_tables, cache_lens, alibi_slopes=None, scale=1.0, *, out=None)
paged_attention_prefill(q, k_cache, v_cache, block_tables, history_lens, cu_seqlens_q, \
alibi_slopes=None, scale=1.0, *, out=None)
paged_caching(k_cache, v_cache, k, v, slot_mapping)
rearrange(input, other=None, *, out=None)
reciprocal(input, *, out=None)
scatter(input, index, src, dim, reduction='none', *, out=None)
squeeze(input, dim)
sum(input, dim=None, keepdim=False, out=None)
topk(input, k, dim, largest=True, sorted=True, out=None)
unsqueeze(input, dim)
var(input, dim=None, unbiased=True, keepdim=False, out=None)
""".strip().splitlines()


@pytest.mark.parametrize("line", SIGNATURES, ids=lambda line: line.partition("(")[0])
def test_signature(line: str) -> None:
    name = line.partition("(")[0]
    signature = inspect.signature(getattr(ic, name))
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()
    ]
    assert f"{name}{inspect.Signature(bare)}" == line
    assert name in ic.__all__ and inspect.getdoc(getattr(ic, name))


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def tensor(array: np.ndarray, device: ic.device) -> ic.Tensor:
    return ic.from_numpy(array).to(device)


def close(result: ic.Tensor, want: np.ndarray) -> None:
    np.testing.assert_allclose(result.to("cpu").numpy(), want, rtol=1e-5, atol=1e-5)


def test_add_rms_norm_takes_its_outputs_together_or_apart(device: ic.device) -> None:
    a, b, weight = draw(3, 5), 2 * draw(3, 5), draw(5)
    total = a + b
    normal = total / np.sqrt(np.mean(total * total, axis=-1, keepdims=True) + 1e-5) * weight
    on = [tensor(array, device) for array in (a, b, weight)]
    y, residual = ic.empty_like(on[0]), ic.empty_like(on[0])
    for given in (
        {},
        {"out": y},
        {"residual": residual},
        {"out": y, "residual": residual},
        {"out": (y, residual)},
    ):
        y.zero_(), residual.zero_()
        results = ic.add_rms_norm(*on, **given)
        assert results[0] is y or given.get("out") is None
        assert (results[1] is residual) == ("residual" in given or isinstance(given.get("out"), tuple))
        close(results[0], normal)
        close(results[1], total)
    with pytest.raises(
        ic.InvalidArgument, match="add_rms_norm: residual is given, so out must be one tensor"
    ):
        ic.add_rms_norm(*on, out=(y, residual), residual=residual)

    results = ic.add_rms_norm_inplace(*on)
    assert results[0] is on[0] and results[1] is on[1]
    close(on[0], normal)
    close(on[1], total)


def test_outputs_with_names_in_a_graph_and_from_describe(device: ic.device) -> None:
    a, b, weight = tensor(draw(3, 5), device), tensor(2 * draw(3, 5), device), tensor(draw(5), device)
    y, residual = ic.empty_like(a), ic.empty_like(a)
    planned = ic.add_rms_norm.describe(a, b, weight, out=y, residual=residual)
    assert planned(a, b, weight, out=y, residual=residual)[1] is residual
    want = y.to("cpu").numpy().copy()
    y.zero_()
    with ic.graph(device) as recorded:
        ic.add_rms_norm(a, b, weight, out=y, residual=residual)
    recorded.run()
    close(y, want)


def test_baddbmm(device: ic.device) -> None:
    input, left, right = draw(1, 2, 4), draw(3, 2, 5), draw(3, 5, 4)
    x, a, b = (tensor(array, device) for array in (input, left, right))
    close(ic.baddbmm(x, a, b), input + left @ right)
    close(ic.baddbmm(x, a, b, beta=0.5, alpha=2.0), 0.5 * input + 2 * (left @ right))
    out = ic.empty((3, 2, 4), dtype=ic.float32, device=device)
    assert ic.baddbmm(x[0, 0], a, b, out=out) is out
    close(out, input[0, 0] + left @ right)
    # What is multiplied by zero is not read.
    close(ic.baddbmm(ic.full_like(x, float("nan")), a, b, beta=0.0), left @ right)
    # The result may take the place of a factor.
    square = draw(3, 4, 4)
    s = tensor(square, device)
    assert ic.baddbmm(s, s, s, out=s) is s
    close(s, square + square @ square)


def test_baddbmm_refuses(cpu: ic.device) -> None:
    x = ic.ones((2, 3, 3), dtype=ic.float32, device=cpu)
    flat, half = x[0], x.to(ic.float16)
    with pytest.raises(
        ic.ShapeError, match="baddbmm: batch1 has 2 dimensions and batch2 has 3, but both must"
    ):
        ic.baddbmm(x, flat, x)
    with pytest.raises(
        ic.ShapeError, match=r"baddbmm: out is .*float32 of shape \[3, 3\], but the result is"
    ):
        ic.baddbmm(x, x, x, out=ic.empty_like(flat))
    with pytest.raises(ic.DTypeError, match=r"baddbmm: out is .*float16 of shape"):
        ic.baddbmm(x, x, x, out=half)
    with pytest.raises(ic.DTypeError, match="gemm"):
        ic.baddbmm(x, half, x)


def test_conv2d_is_that_of_functional() -> None:
    assert ic.conv2d is ic.nn.functional.conv2d
