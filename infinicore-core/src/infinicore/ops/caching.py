# Operators that put new keys and values into caches: paged ones by slot, dense ones behind what they hold.
# Letters: kv key-value heads, d head size, n tokens, nb blocks of bs tokens, l cache length, s new tokens.
"""Caching operators."""

from infinicore.errors import OutOfRange
from infinicore.schema import C, Elements, In, InOut, Tensor, Values, np, operator

_PAGED = "k_cache, v_cache, k, v, slot_mapping"


def _paged_draw(draw, st):
    blocks, size = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    slots = draw(st.permutations([*range(blocks * size), -1, -1]))
    slots = slots[: draw(st.integers(0, len(slots)))]
    return {"nb": blocks, "bs": size, "n": len(slots), "slot_mapping": Values(slots)}


@operator(
    python="paged_caching(k_cache, v_cache, k, v, slot_mapping)",
    c=C("PagedCaching", _PAGED, _PAGED),
    draw=_paged_draw,
)
def paged_caching(
    k_cache: InOut[Tensor, "T nb kv bs d"],
    v_cache: InOut[Tensor, "T nb kv bs d"],
    k: In[Tensor, "T n kv d"],
    v: In[Tensor, "T n kv d"],
    slot_mapping: In[Tensor, "i32|i64 n"],
):
    """New keys and values go to their slots of a cache in blocks.

    Slot ``s`` is row ``s % bs`` of block ``s // bs``: ``k_cache[s // bs, :, s % bs] = k[i]`` for ``s =
    slot_mapping[i]``, and so for `v`. A negative slot skips the token.

    Parameters
    ----------
    k_cache, v_cache : Tensor
        Shape ``(nb, kv, bs, d)``, any dtype. Written.
    k, v : Tensor
        Shape ``(n, kv, d)``, same dtype.
    slot_mapping : Tensor
        Shape ``(n,)``, i32 or i64. Of tokens with one slot any may stay.

    Returns
    -------
    tuple of Tensor
        ``(k_cache, v_cache)``.

    Raises
    ------
    ShapeError
        A dimension differs.
    DTypeError
        The dtypes differ, or `slot_mapping` is neither i32 nor i64.
    OutOfRange
        A slot is ``nb * bs`` or more (where a device can check it).

    Notes
    -----
    Kwon and others, "Efficient Memory Management for Large Language Model Serving with PagedAttention"
    (2023).

    Examples
    --------
    >>> import infinicore as ic
    >>> cache = ic.zeros((2, 1, 2, 1), dtype=ic.float32, device="cpu")
    >>> new = ic.ones((2, 1, 1), dtype=ic.float32, device="cpu")
    >>> slots = ic.from_list([3, -1], dtype=ic.int64, device="cpu")
    >>> ic.paged_caching(cache, ic.zeros_like(cache), new, new, slots)[0].tolist()
    [[[[0.0], [0.0]]], [[[0.0], [1.0]]]]
    """
    (blocks, _, size, _), slots = k_cache.shape, slot_mapping.astype(np.int64)
    wrong = slots[slots >= blocks * size]
    if wrong.size:
        raise OutOfRange(
            f"paged_caching: slot_mapping holds {wrong[0]}, but k_cache has nb * bs={blocks * size} slots"
        )
    kept = slots >= 0
    block, row = slots[kept] // max(1, size), slots[kept] % max(1, size)
    k_cache, v_cache = k_cache.copy(), v_cache.copy()
    k_cache[block, :, row], v_cache[block, :, row] = k[kept], v[kept]
    return k_cache, v_cache


def _kv_draw(draw, st):
    s, past = draw(st.integers(0, 4)), draw(st.integers(0, 5))
    return {"s": s, "l": s + past, "past_kv_lengths": Elements(0, past)}


_DENSE = "k_cache, v_cache, k, v, past_kv_lengths"


@operator(
    python="kv_caching(k_cache, v_cache, k, v, past_kv_lengths)",
    c=C("KVCaching", _DENSE, _DENSE, suffix=""),
    draw=_kv_draw,
)
def kv_caching(
    k_cache: InOut[Tensor, "T b kv l d"],
    v_cache: InOut[Tensor, "T b kv l d"],
    k: In[Tensor, "T b kv s d"],
    v: In[Tensor, "T b kv s d"],
    past_kv_lengths: In[Tensor, "i32|i64 b"],
):
    """New keys and values go behind those that each sequence of a dense cache has.

    ``k_cache[i, :, p:p + s] = k[i]`` for ``p = past_kv_lengths[i]``, and so for `v`.

    Parameters
    ----------
    k_cache, v_cache : Tensor
        Shape ``(b, kv, l, d)``, any dtype. Written.
    k, v : Tensor
        Shape ``(b, kv, s, d)``, same dtype.
    past_kv_lengths : Tensor
        Shape ``(b,)``, i32 or i64: how many positions each sequence has already.

    Returns
    -------
    tuple of Tensor
        ``(k_cache, v_cache)``.

    Raises
    ------
    ShapeError
        A dimension differs.
    DTypeError
        The dtypes differ, or `past_kv_lengths` is neither i32 nor i64.
    OutOfRange
        A length is negative, or with the new tokens exceeds ``l`` (where a device can check it).

    Examples
    --------
    >>> import infinicore as ic
    >>> cache = ic.zeros((1, 1, 3, 1), dtype=ic.float32, device="cpu")
    >>> new = ic.ones((1, 1, 1, 1), dtype=ic.float32, device="cpu")
    >>> past = ic.from_list([2], dtype=ic.int32, device="cpu")
    >>> ic.kv_caching(cache, ic.zeros_like(cache), new, new, past)[0].tolist()
    [[[[0.0], [0.0], [1.0]]]]
    """
    length, s = k_cache.shape[2], k.shape[2]
    wrong = past_kv_lengths[(past_kv_lengths < 0) | (past_kv_lengths > length - s)]
    if wrong.size:
        room = f"k_cache has l={length} for that and s={s} new tokens"
        raise OutOfRange(f"kv_caching: past_kv_lengths holds {wrong[0]}, but {room}")
    k_cache, v_cache = k_cache.copy(), v_cache.copy()
    for i, past in enumerate(past_kv_lengths):
        k_cache[i, :, past : past + s], v_cache[i, :, past : past + s] = k[i], v[i]
    return k_cache, v_cache
