# Attention at lengths where blocks of keys, pages and rows of queries begin and end, and the caches' checks.
# The property tests draw short sequences: what happens at the seams of the blocked kernel is tested here.
"""Attention operators beyond one block, and caching operators at their limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import infinicore as ic
from infinicore.schema import OPERATORS

KINDS = {"float64": 1e-12, "float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}


def run(name: str, dtype: str, device: ic.device, tensors: dict[str, Any], **scalars: Any) -> None:
    """Run operator `name` on float64 and integer arrays and compare it with its reference body."""
    schema = OPERATORS[name]
    given: dict[str, Any] = {}
    for key, array in tensors.items():
        floating = array is not None and array.dtype == np.float64
        placed = None if array is None else ic.from_numpy(array).to(device)
        given[key] = placed.to(getattr(ic, dtype)) if floating else placed
    got = getattr(ic, name)(*given.values(), **scalars)
    rounded = {
        key: array.to(ic.float64).to("cpu").numpy() if tensors[key].dtype == np.float64 else tensors[key]
        for key, array in given.items()
        if array is not None
    }
    values = {p.name: p.default for p in schema.scalars} | dict.fromkeys(p.name for p in schema.tensors)
    values |= rounded | scalars
    (want,) = schema.run_reference([values[p.name] for p in schema.parameters])
    np.testing.assert_allclose(
        got.to(ic.float64).to("cpu").numpy(), want, rtol=KINDS[dtype], atol=KINDS[dtype]
    )


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize(("s", "length"), [(1, 127), (1, 129), (130, 130), (257, 300), (40, 513)])
@pytest.mark.parametrize("is_causal", [False, True])
def test_long_sequences(s: int, length: int, is_causal: bool, dtype: str, device: ic.device) -> None:
    tensors = {
        "q": normal(0, 2, s, 6, 20),
        "k": normal(1, 2, length, 2, 20),
        "v": normal(2, 2, length, 2, 20),
    }
    run("mha", dtype, device, tensors, scale=0.3, is_causal=is_causal)


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("page", [1, 16, 18, 100, 128, 256])
def test_pages_of_every_size(page: int, dtype: str, device: ic.device) -> None:
    rng = np.random.default_rng(page)
    lens, blocks = np.array([300, 0, 129]), 400 // page + 1
    tensors = {
        "q": normal(0, 3, 4, 24),
        "k_cache": normal(1, blocks, 2, page, 24),
        "v_cache": normal(2, blocks, 2, page, 24),
        "block_tables": rng.integers(0, blocks, (3, -(-300 // page))),
        "cache_lens": lens,
        "alibi_slopes": np.float32([0.5, 0.01, 0.0, -0.02]),
    }
    run("paged_attention", dtype, device, tensors, scale=0.2)
    del tensors["cache_lens"], tensors["alibi_slopes"]
    tensors["q"] = normal(3, 160, 4, 24)
    tensors |= {"history_lens": np.array([150, 7, 0]), "cu_seqlens_q": np.array([0, 150, 150, 159])}
    run("paged_attention_prefill", dtype, device, tensors, scale=0.2)


@pytest.mark.parametrize("dtype", KINDS)
def test_packed_sequences_over_many_blocks(dtype: str, device: ic.device) -> None:
    tensors = {
        "q": normal(0, 350, 4, 8),
        "k": normal(1, 700, 2, 8),
        "v": normal(2, 700, 2, 8),
        "cum_seqlens_q": np.int32([0, 200, 200, 331, 350]),
        "cum_seqlens_k": np.int32([0, 150, 160, 460, 700]),
        "block_table": None,
    }
    run("mha_varlen", dtype, device, tensors, max_seqlen_q=200, max_seqlen_k=300)


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("mask", ["bool", "float"])
def test_a_mask_may_hide_whole_blocks_and_whole_rows(mask: str, dtype: str, device: ic.device) -> None:
    q, k, v = normal(0, 3, 20, 16), normal(1, 3, 300, 16), normal(2, 3, 300, 16)
    visible = np.random.default_rng(3).random((20, 300)) < 0.5
    visible[3], visible[5, :200], visible[7, 1:] = False, False, False
    chosen = visible if mask == "bool" else np.where(visible, 0.25, -np.inf)
    tensors = {"query": q, "key": k, "value": v, "attn_mask": chosen}
    run("scaled_dot_product_attention", dtype, device, tensors, scale=0.25)
    given = [ic.from_numpy(x).to(device) for x in tensors.values()]
    result = ic.nn.functional.scaled_dot_product_attention(*given).to("cpu").numpy()
    assert not result[:, 3].any() and np.isfinite(result).all()


def test_no_query_no_key_no_features(device: ic.device) -> None:
    def ones(*shape: int) -> ic.Tensor:
        return ic.ones(shape, dtype=ic.float32, device=device)

    attend = ic.scaled_dot_product_attention
    assert attend(ones(2, 0, 4), ones(2, 5, 4), ones(2, 5, 3)).shape == [2, 0, 3]
    assert attend(ones(2, 5, 4), ones(2, 0, 4), ones(2, 0, 3)).tolist() == [[[0.0] * 3] * 5] * 2
    assert attend(ones(2, 5, 4), ones(2, 3, 4), ones(2, 3, 0)).shape == [2, 5, 0]
    assert attend(ones(1, 2, 0), ones(1, 3, 0), ones(1, 3, 1)).tolist() == [[[1.0], [1.0]]]
    assert attend(ones(0, 5, 4), ones(0, 5, 4), ones(0, 5, 4)).shape == [0, 5, 4]


def test_a_nan_is_seen(device: ic.device) -> None:
    q, k = np.ones((1, 2, 4)), np.ones((1, 3, 4))
    k[0, 2, 1] = np.nan
    tensors = [ic.from_numpy(x).to(device) for x in (q, k, np.ones((1, 3, 4)), np.zeros((2, 3)))]
    assert np.isnan(ic.scaled_dot_product_attention(*tensors).to("cpu").numpy()).all()


def test_functional_refuses_dropout(device: ic.device) -> None:
    x = ic.ones((1, 2, 4), dtype=ic.float32, device=device)
    with pytest.raises(ic.InvalidArgument, match=r"dropout_p=0\.5"):
        ic.nn.functional.scaled_dot_product_attention(x, x, x, dropout_p=0.5)


@pytest.mark.parametrize(
    ("shapes", "options", "error", "message"),
    [
        ([(4, 2, 8), (2, 3, 8), (2, 3, 8)], {}, ic.ShapeError, r"n=\(4,\).*g=\(2,\).*enable_gqa=False"),
        ([(3, 2, 8), (2, 3, 8), (2, 3, 8)], {"enable_gqa": True}, ic.ShapeError, r"n=\(3,\).*g=\(2,\)"),
        ([(2, 8), (3, 8), (3, 8), (2, 3)], {"is_causal": True}, ic.InvalidArgument, "is_causal.*attn_mask"),
    ],
)
def test_sdpa_says_what_does_not_fit(shapes: Any, options: Any, error: Any, message: str) -> None:
    tensors = [ic.ones(shape, dtype=ic.float32, device="cpu") for shape in shapes]
    with pytest.raises(error, match=rf"^scaled_dot_product_attention: .*{message}"):
        ic.scaled_dot_product_attention(*tensors, **options)


def varlen(q_cuts: list[int], k_cuts: list[int], **options: Any) -> ic.Tensor:
    x = ic.ones((6, 1, 2), dtype=ic.float32, device="cpu")
    cuts = [ic.from_list([9, *c], dtype=ic.int32).narrow(0, 1, len(c)) for c in (q_cuts, k_cuts)]
    return ic.mha_varlen(
        x, x, x, *cuts, **({"block_table": None, "max_seqlen_q": 6, "max_seqlen_k": 6} | options)
    )


@pytest.mark.parametrize(
    ("q_cuts", "k_cuts", "options", "error", "message"),
    [
        ([0, 7], [0, 6], {}, IndexError, "cum_seqlens_q holds 7, but may only grow, from 0 to q has t=6"),
        ([0, 4, 3], [0, 1, 2], {}, IndexError, "cum_seqlens_q holds 3"),
        ([0, 6], [-1, 6], {}, IndexError, "cum_seqlens_k holds -1"),
        ([0, 5], [0, 6], {"max_seqlen_q": 4}, ic.InvalidArgument, "sequence of 5 tokens, but max_seqlen_q=4"),
        ([0, 5], [0, 6], {"max_seqlen_k": 2}, ic.InvalidArgument, "sequence of 6 tokens, but max_seqlen_k=2"),
        ([], [], {}, ic.ShapeError, "c=0"),
    ],
)
def test_varlen_checks_its_lengths(
    q_cuts: list[int], k_cuts: list[int], options: Any, error: Any, message: str
) -> None:
    with pytest.raises(error, match=f"^mha_varlen: .*{message}"):
        varlen(q_cuts, k_cuts, **options)


def test_tokens_of_no_sequence_give_zeros() -> None:
    assert varlen([1, 3, 5], [0, 2, 4]).tolist() == [[[x, x]] for x in (0.0, 1.0, 1.0, 1.0, 1.0, 0.0)]


def test_paged_caching_checks_every_slot_first(device: ic.device) -> None:
    cache, other = (ic.zeros((2, 1, 3, 2), dtype=ic.float32, device=device) for _ in range(2))
    new = ic.ones((3, 1, 2), dtype=ic.float32, device=device)
    slots = ic.from_list([0, -7, 6], dtype=ic.int64, device=device)
    with pytest.raises(IndexError, match=r"paged_caching: slot_mapping holds 6, but k_cache has nb \* bs=6"):
        ic.paged_caching(cache, other, new, new, slots)
        ic.synchronize(device)  # where an asynchronous device tells
    assert not cache.to("cpu").numpy().any()
    ic.paged_caching(cache, other, new, new, ic.from_list([5, -1, 0], dtype=ic.int32, device=device))
    assert cache.to("cpu").numpy()[:, 0, :, 0].tolist() == [[1, 0, 0], [0, 0, 1]]


def test_kv_caching_checks_every_length_first(device: ic.device) -> None:
    cache, other = (ic.zeros((2, 1, 4, 1), dtype=ic.float32, device=device) for _ in range(2))
    new = ic.ones((2, 1, 2, 1), dtype=ic.float32, device=device)
    past = ic.from_list([0, 3], dtype=ic.int64, device=device)
    with pytest.raises(IndexError, match=r"kv_caching: past_kv_lengths holds 3, but k_cache has l=4 .* s=2"):
        ic.kv_caching(cache, other, new, new, past)
        ic.synchronize(device)
    assert not cache.to("cpu").numpy().any()


def test_every_sequence_of_a_batch_has_its_own_mask(device: ic.device) -> None:
    random = np.random.default_rng(0)
    q, k, v = (random.standard_normal((3, 2, 4, 8)).astype(np.float32) for _ in range(3))
    mask = random.standard_normal((3, 1, 4, 4)).astype(np.float32)

    def attend(*arrays: np.ndarray) -> np.ndarray:
        tensors = [ic.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays]
        return ic.scaled_dot_product_attention(*tensors).to("cpu").numpy()

    batch = attend(q, k, v, mask)
    for one in range(3):
        alone = attend(*(array[one : one + 1] for array in (q, k, v, mask)))
        np.testing.assert_allclose(batch[one], alone[0], rtol=1e-6, atol=1e-6)
