# Attention over dense, packed and paged keys, rotary positions, and the expert gate of DeepSeek-V3.
# Letters: h query heads, kv key-value heads, d head size, s new tokens, t packed tokens, l cache length,
# b sequences, nb blocks of bs tokens, mb blocks per sequence.
"""Attention operators."""

from enum import IntEnum
from itertools import pairwise

from infinicore.errors import InvalidArgument, OutOfRange, ShapeError
from infinicore.schema import C, Elements, In, InOut, Out, Static, Tensor, Values, check_indices, np, operator


class RopeAlgo(IntEnum):
    """Which elements of a head rotate together.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.RopeAlgo.GPT_J, int(ic.RopeAlgo.GPT_NEOX)
    (<RopeAlgo.GPT_J: 0>, 1)
    """

    GPT_J = 0
    GPT_NEOX = 1


# Drawn factors of scores. Rounding a score counts as an error of its size: those of 1 would be unlike any
# model's, of up to a hundred. PyTorch takes the square root.
_SCALES = 0.3, 0.125


def _grouped(operator_name, h, kv):
    if h % kv if kv else h:
        raise ShapeError(f"{operator_name}: q has h={h} heads, which is no multiple of kv={kv} of the cache")


def _attend(q, keys, values, scale, bias):
    """``softmax(scale * q @ keys.T + bias) @ values`` per head, for bodies; ``-inf`` throughout gives zeros.

    Shapes: q ``(..., h, s, d)``, keys and values ``(..., kv, l, d)``, bias broadcasts to ``(..., h, s, l)``.
    """
    repeat = q.shape[-3] // max(1, keys.shape[-3])
    keys, values = np.repeat(keys, repeat, axis=-3), np.repeat(values, repeat, axis=-3)
    scores = np.matmul(q * scale, np.swapaxes(keys, -1, -2)) + bias
    top = np.max(scores, axis=-1, keepdims=True, initial=-np.inf)
    weights = np.exp(scores - np.where(np.isneginf(top), 0, top))
    total = np.sum(weights, axis=-1, keepdims=True)
    return np.matmul(weights / np.where(total == 0, 1, total), values)


def _bias(s, length, diagonal, *, causal=True, slopes=None):
    """What is added to the scores of `s` queries, the first at position `diagonal`, and `length` keys."""
    distance = np.arange(length) - np.arange(s)[:, None] - diagonal
    bias = np.where(distance <= 0, 0.0, -np.inf) if causal else np.zeros((s, length))
    return bias if slopes is None else bias - slopes[:, None, None] * np.abs(distance)


def _in_pages(operator_name, table_name, table, length, size, caches):
    """Check the pages of one sequence; its keys and values as ``(length, kv, d)``.

    Caches are ``(nb, bs, kv, d)`` here.
    """
    pages = table[: -(-length // max(1, size))].astype(np.int64)
    check_indices(operator_name, table_name, pages, "k_cache", "nb", len(caches[0]))
    return [cache[pages].reshape(len(pages) * size, *cache.shape[2:])[:length] for cache in caches]


def _check_lengths(operator_name, name, lengths, table_name, room):
    wrong = lengths[(lengths < 0) | (lengths > room)]
    if wrong.size:
        raise OutOfRange(
            f"{operator_name}: {name} holds {wrong.flat[0]}, but {table_name} has room for {room}"
        )


def _check_cuts(operator_name, name, cuts, of, total):
    """Check the boundaries of packed sequences: they may only grow, from 0 to `total`."""
    before = 0
    for cut in cuts:
        if not before <= cut <= total:
            raise OutOfRange(
                f"{operator_name}: {name} holds {cut}, but may only grow, from 0 to {of}={total}"
            )
        before = cut


def _check_cut_count(operator_name, name, c, of, b):
    if c != b + 1:
        raise ShapeError(f"{operator_name}: {name} has c={c}, but {of} has b={b}, and c must be b + 1")


def _cuts(draw, st, lengths, most_padding=2):
    """Boundaries of packed sequences of these lengths, with tokens before and behind that belong to none."""
    cuts = [draw(st.integers(0, most_padding))]
    for length in lengths:
        cuts.append(cuts[-1] + length)
    return cuts, cuts[-1] + draw(st.integers(0, most_padding))


def _attention_errors(q, k):
    _grouped("attention", q.shape[0], k.shape[0])


def _attention_guard(pos, k, k_cache):
    s, length = k.shape[1], k_cache.shape[1]
    if pos < 0 or pos + s > length:
        raise InvalidArgument(f"attention: pos={pos} and s={s} new tokens do not fit l={length} of k_cache")


def _attention_draw(draw, st):
    kv, s = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    pos = draw(st.integers(0, 5))
    return {
        "kv": kv,
        "h": kv * draw(st.integers(1, 3)),
        "s": s,
        "l": pos + s + draw(st.integers(0, 3)),
        "pos": pos,
    }


@operator(
    python="attention(q, k, v, k_cache, v_cache, pos, *, out=None)",
    c=C("Attention", "out, q, k, v, k_cache, v_cache, size_t pos", "out, q, k, v, k_cache, v_cache"),
    errors=_attention_errors,
    guard=_attention_guard,
    draw=_attention_draw,
)
def attention(
    out: Out[Tensor, "F s h d"],
    q: In[Tensor, "F h s d"],
    k: In[Tensor, "F kv s d"],
    v: In[Tensor, "F kv s d"],
    k_cache: InOut[Tensor, "F kv l d"],
    v_cache: InOut[Tensor, "F kv l d"],
    *,
    pos: int,
):
    """Causal attention of new tokens over a cache that they join first.

    Writes `k` and `v` into the caches at ``[:, pos:pos + s]``; then token ``i`` attends to positions ``j <=
    pos + i``: ``out = softmax(q @ k_cache.T / sqrt(d)) @ v_cache``.

    Parameters
    ----------
    q : Tensor
        Shape ``(h, s, d)``, a float dtype.
    k, v : Tensor
        Shape ``(kv, s, d)``, same dtype; ``h`` is a multiple of ``kv``, and ``h / kv`` query heads share one
        of them.
    k_cache, v_cache : Tensor
        Shape ``(kv, l, d)``, same dtype. Written.
    pos : int
        How many tokens the caches hold already.
    out : Tensor, optional
        Where the result goes: shape ``(s, h, d)``, same dtype.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError
        A dimension differs, or ``h`` is no multiple of ``kv``.
    DTypeError
        The dtypes differ, or are no float dtype.
    InvalidArgument
        `pos` is negative, or ``pos + s`` exceeds ``l``.

    Notes
    -----
    Scaled dot-product attention of Vaswani and others (2017), with the shared heads of Ainslie and others,
    "GQA" (2023).
    """
    s, d = q.shape[1:]
    k_cache, v_cache = k_cache.copy(), v_cache.copy()
    k_cache[:, pos : pos + s], v_cache[:, pos : pos + s] = k, v
    keys, values = k_cache[:, : pos + s], v_cache[:, : pos + s]
    result = _attend(q, keys, values, 1 / np.sqrt(max(1, d)), _bias(s, pos + s, pos))
    return np.swapaxes(result, 0, 1), k_cache, v_cache


def _paged_errors(q, k_cache):
    _grouped("paged_attention", q.shape[1], k_cache.shape[1])


def _paged_draw(draw, st):
    kv, blocks, size = draw(st.integers(1, 2)), draw(st.integers(1, 6)), draw(st.integers(1, 4))
    per_sequence = draw(st.integers(1, 4))
    return {
        "kv": kv,
        "h": kv * draw(st.integers(1, 3)),
        "nb": blocks,
        "bs": size,
        "mb": per_sequence,
        "block_tables": Elements(0, blocks - 1),
        "cache_lens": Elements(0, per_sequence * size),
        "scale": draw(st.sampled_from(_SCALES)),
    }


_PAGED = "out, q, k_cache, v_cache, block_tables, seq_lens@cache_lens, alibi_slopes"


@operator(
    python="paged_attention(q, k_cache, v_cache, block_tables, cache_lens, alibi_slopes=None, scale=..., *, "
    "out=None)",
    c=C("PagedAttention", f"{_PAGED}, float scale", _PAGED),
    errors=_paged_errors,
    draw=_paged_draw,
)
def paged_attention(
    out: Out[Tensor, "F b h d"],
    q: In[Tensor, "F b h d"],
    k_cache: In[Tensor, "F nb kv bs d"],
    v_cache: In[Tensor, "F nb kv bs d"],
    block_tables: In[Tensor, "i32|i64|u32 b mb"],
    cache_lens: In[Tensor, "i32|i64|u32 b"],
    alibi_slopes: In[Tensor, "f32 h"] | None,
    *,
    scale: Static[float] = 1.0,
):
    """Attention of one new token per sequence over a cache that is kept in blocks.

    Sequence ``i`` attends to its first ``cache_lens[i]`` positions; position ``t`` is row ``t % bs`` of block
    ``block_tables[i, t // bs]``: ``out = softmax(scale * q @ k.T + alibi) @ v``.

    Parameters
    ----------
    q : Tensor
        Shape ``(b, h, d)``, a float dtype: one token per sequence, which is in the cache already.
    k_cache, v_cache : Tensor
        Shape ``(nb, kv, bs, d)``, same dtype; ``h`` is a multiple of ``kv``.
    block_tables : Tensor
        Shape ``(b, mb)``, i32, i64 or u32: the blocks of each sequence. Entries past its length are not
        read.
    cache_lens : Tensor
        Shape ``(b,)``, i32, i64 or u32: how many positions each sequence has, the new token included. 0 gives
        zeros.
    alibi_slopes : Tensor, optional
        Shape ``(h,)``, f32: adds ``slope * (t - (length - 1))`` to the scores.
    scale : float
        Factor of the scores, usually ``1 / sqrt(d)``.
    out : Tensor, optional
        Where the result goes: shape and dtype of `q`.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError
        A dimension differs, or ``h`` is no multiple of ``kv``.
    DTypeError
        A dtype is not the one named here.
    OutOfRange
        A block lies outside the cache, or a length outside the table (where a device can check it).

    Notes
    -----
    Kwon and others, "Efficient Memory Management for Large Language Model Serving with PagedAttention"
    (2023); the slopes are those of Press, Smith and Lewis, "Train Short, Test Long" (2022).
    """
    size, lens = k_cache.shape[2], cache_lens.astype(np.int64)
    _check_lengths("paged_attention", "cache_lens", lens, "block_tables", block_tables.shape[1] * size)
    caches = [np.swapaxes(cache, 1, 2) for cache in (k_cache, v_cache)]
    result = np.zeros_like(q)
    for i, length in enumerate(lens):
        keys, values = _in_pages("paged_attention", "block_tables", block_tables[i], length, size, caches)
        bias = _bias(1, length, length - 1, slopes=alibi_slopes)
        keys, values = np.swapaxes(keys, 0, 1), np.swapaxes(values, 0, 1)
        result[i] = _attend(q[i][:, None], keys, values, scale, bias)[:, 0]
    return result


def _prefill_errors(q, k_cache, block_tables, cu_seqlens_q):
    name = "paged_attention_prefill"
    _grouped(name, q.shape[1], k_cache.shape[1])
    _check_cut_count(name, "cu_seqlens_q", cu_seqlens_q.shape[0], "block_tables", block_tables.shape[0])


def _prefill_draw(draw, st):
    said = _paged_draw(draw, st)
    del said["cache_lens"]
    room = said["mb"] * said["bs"]
    lengths = draw(st.lists(st.integers(0, room), max_size=3))
    cuts, total = _cuts(draw, st, lengths)
    history = [draw(st.integers(0, room - length)) for length in lengths]
    return said | {
        "b": len(lengths),
        "c": len(cuts),
        "t": total,
        "cu_seqlens_q": Values(cuts),
        "history_lens": Values(history),
    }


_PREFILL = (
    "out, q, k_cache, v_cache, block_tables, seq_lens@history_lens, cum_seq_lens_q@cu_seqlens_q, alibi_slopes"
)


@operator(
    python="paged_attention_prefill(q, k_cache, v_cache, block_tables, history_lens, cu_seqlens_q, "
    "alibi_slopes=None, scale=..., *, out=None)",
    c=C("PagedAttentionPrefill", f"{_PREFILL}, float scale", _PREFILL),
    errors=_prefill_errors,
    draw=_prefill_draw,
)
def paged_attention_prefill(
    out: Out[Tensor, "F t h d"],
    q: In[Tensor, "F t h d"],
    k_cache: In[Tensor, "F nb kv bs d"],
    v_cache: In[Tensor, "F nb kv bs d"],
    block_tables: In[Tensor, "i32|i64|u32 b mb"],
    history_lens: In[Tensor, "i32|i64|u32 b"],
    cu_seqlens_q: In[Tensor, "i32|i64|u32 c"],
    alibi_slopes: In[Tensor, "f32 h"] | None,
    *,
    scale: Static[float] = 1.0,
):
    """Causal attention of several new tokens per sequence over a cache that is kept in blocks.

    The new tokens of all sequences are packed: those of sequence ``i`` are ``q[cu_seqlens_q[i]:cu_seqlens_q[i
    + 1]]``. They follow ``history_lens[i]`` older ones and are in the cache already, so that new token ``j``
    attends to the positions ``t <= history_lens[i] + j``. Position ``t`` is row ``t % bs`` of block
    ``block_tables[i, t // bs]``: ``out = softmax(scale * q @ k.T + alibi) @ v``.

    Parameters
    ----------
    q : Tensor
        Shape ``(t, h, d)``, a float dtype. Tokens that belong to no sequence give zeros.
    k_cache, v_cache : Tensor
        Shape ``(nb, kv, bs, d)``, same dtype; ``h`` is a multiple of ``kv``.
    block_tables : Tensor
        Shape ``(b, mb)``, i32, i64 or u32: the blocks of each sequence. Entries past its length are not
        read.
    history_lens : Tensor
        Shape ``(b,)``, i32, i64 or u32: how many positions come before the new tokens of each sequence.
    cu_seqlens_q : Tensor
        Shape ``(b + 1,)``, i32, i64 or u32: where the new tokens of each sequence begin, and where the last
        ones end.
    alibi_slopes : Tensor, optional
        Shape ``(h,)``, f32: adds ``slope * (t - own position)`` to the scores.
    scale : float
        Factor of the scores, usually ``1 / sqrt(d)``.
    out : Tensor, optional
        Where the result goes: shape and dtype of `q`.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError
        A dimension differs, ``h`` is no multiple of ``kv``, or `cu_seqlens_q` has not ``b + 1`` elements.
    DTypeError
        A dtype is not one named here.
    OutOfRange
        A block lies outside the cache, a length outside the table, or `cu_seqlens_q` shrinks or exceeds ``t``
        (where a device can check it).

    Notes
    -----
    Kwon and others, "Efficient Memory Management for Large Language Model Serving with PagedAttention"
    (2023); the slopes are those of Press, Smith and Lewis, "Train Short, Test Long" (2022).
    """
    name, size = "paged_attention_prefill", k_cache.shape[2]
    cuts, history = cu_seqlens_q.astype(np.int64), history_lens.astype(np.int64)
    _check_cuts(name, "cu_seqlens_q", cuts, "q has t", len(q))
    room = block_tables.shape[1] * size
    for past, new in zip(history, np.diff(cuts), strict=True):
        if not 0 <= past <= room - new:
            limit = f"block_tables has room for {room}, {new} new tokens included"
            raise OutOfRange(f"{name}: history_lens holds {past}, but {limit}")
    caches = [np.swapaxes(cache, 1, 2) for cache in (k_cache, v_cache)]
    result = np.zeros_like(q)
    for i, (begin, end, past) in enumerate(zip(cuts[:-1], cuts[1:], history, strict=True)):
        length = past + end - begin
        keys, values = _in_pages(name, "block_tables", block_tables[i], length, size, caches)
        bias = _bias(end - begin, length, past, slopes=alibi_slopes)
        mine, keys, values = (np.swapaxes(x, 0, 1) for x in (q[begin:end], keys, values))
        result[begin:end] = np.swapaxes(_attend(mine, keys, values, scale, bias), 0, 1)
    return result


def _sdpa_canonical(scale, query):
    size = query.shape[-1] if query.ndim else 1
    return {"scale": 1 / max(1, size) ** 0.5 if scale is None else scale}


def _sdpa_errors(query, key, attn_mask, is_causal, enable_gqa):
    name = "scaled_dot_product_attention"
    if is_causal and attn_mask is not None:
        raise InvalidArgument(f"{name}: is_causal=True, but attn_mask is given too; only one of them may be")
    ours, theirs = query.shape[:-2], key.shape[:-2]
    groups = enable_gqa and ours and len(ours) == len(theirs)
    if groups:
        h, kv = ours[-1], theirs[-1]
        if ours[:-1] == theirs[:-1] and (h % kv == 0 if kv else h == 0):
            return
    elif ours == theirs:
        return
    rule = "a multiple in the heads" if enable_gqa else "the same (enable_gqa=False)"
    raise ShapeError(f"{name}: query has n={ours}, but key has g={theirs}, and they must be {rule}")


def _sdpa_draw(draw, st):
    batch = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
    causal, gqa = draw(st.booleans()), bool(batch) and draw(st.booleans())
    kv = draw(st.integers(int(gqa), 3))
    repeat = draw(st.integers(1, 3)) if gqa else 1
    heads, kv_heads = ((*batch[:-1], kv * repeat), (*batch[:-1], kv)) if batch else ((), ())
    said = {
        "*n": heads,
        "*g": kv_heads,
        "is_causal": causal,
        "enable_gqa": gqa,
        "attn_mask": None,
        "scale": draw(st.sampled_from([None, *_SCALES])),
    }
    if not causal:
        del said["attn_mask"]
    return said


@operator(
    python="scaled_dot_product_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=..., "
    "scale=None, enable_gqa=..., *, out=None)",
    canonical=_sdpa_canonical,
    errors=_sdpa_errors,
    draw=_sdpa_draw,
)
def scaled_dot_product_attention(
    out: Out[Tensor, "F *n l dv"],
    query: In[Tensor, "F *n l d"],
    key: In[Tensor, "F *g s d"],
    value: In[Tensor, "F *g s dv"],
    attn_mask: In[Tensor, "bool|f16|bf16|f32|f64 *n~ l~ s~"] | None,
    *,
    is_causal: Static[bool] = False,
    scale: Static[float],
    enable_gqa: Static[bool] = False,
):
    """Attention of every query to every key: ``out = softmax(scale * query @ key.T + mask) @ value``.

    Parameters
    ----------
    query : Tensor
        Shape ``(*n, l, d)``, usually ``(batch, heads, l, d)``; a float dtype.
    key, value : Tensor
        Shapes ``(*g, s, d)`` and ``(*g, s, dv)``, same dtype. ``g`` is ``n``, or with `enable_gqa` a divisor
        of it in its last size.
    attn_mask : Tensor, optional
        Broadcasts to ``(*n, l, s)``. Of bool: True lets a query see a key. Of a float dtype: is added to the
        scores.
    dropout_p
        Accepted with its default only.
    is_causal : bool
        Query ``i`` sees the keys ``j <= i``; not together with `attn_mask`.
    scale : float, optional
        Factor of the scores; ``1 / sqrt(d)`` by default.
    enable_gqa : bool
        Query heads may outnumber those of `key` and `value`, which they then share in equal groups.
    out : Tensor, optional
        Where the result goes: shape ``(*n, l, dv)``, same dtype.

    Returns
    -------
    Tensor
        `out`, or a new tensor. A query that sees no key gets zeros.

    Raises
    ------
    ShapeError
        A dimension differs, or the heads do not fit.
    DTypeError
        The dtypes differ, or are none of those named here.
    InvalidArgument
        `is_causal` and `attn_mask` are both given.

    Notes
    -----
    Vaswani and others, "Attention Is All You Need" (2017), equation 1; the call is PyTorch's. Shared heads
    are those of Ainslie and others, "GQA" (2023).

    Examples
    --------
    >>> import infinicore as ic
    >>> q = k = v = ic.ones((1, 2, 4), dtype=ic.float32, device="cpu")
    >>> ic.scaled_dot_product_attention(q, k, v).tolist()
    [[[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]]
    """
    bias = _bias(query.shape[-2], key.shape[-2], 0, causal=is_causal)
    if attn_mask is not None:
        bias = np.where(attn_mask, 0.0, -np.inf) if attn_mask.dtype == bool else attn_mask
    if query.ndim == 2:
        return _attend(query[None], key[None], value[None], scale, bias)[0]
    return _attend(query, key, value, scale, bias)


def _mha_errors(q, k):
    _grouped("mha", q.shape[2], k.shape[2])


def _heads_draw(draw, st):
    kv = draw(st.integers(1, 2))
    return {"kv": kv, "h": kv * draw(st.integers(1, 3)), "scale": draw(st.sampled_from(_SCALES))}


@operator(
    python="mha(q, k, v, alibi_slopes=None, scale=..., is_causal=..., *, out=None)",
    errors=_mha_errors,
    draw=_heads_draw,
)
def mha(
    out: Out[Tensor, "F b s h d"],
    q: In[Tensor, "F b s h d"],
    k: In[Tensor, "F b l kv d"],
    v: In[Tensor, "F b l kv d"],
    alibi_slopes: In[Tensor, "f32 h"] | None,
    *,
    scale: Static[float] = 1.0,
    is_causal: Static[bool] = False,
):
    """Attention of batches whose heads lie inside their tokens.

    ``out = softmax(scale * q @ k.T + alibi) @ v`` for each sequence and head. The last query stands at the
    position of the last key: with `is_causal`, query ``i`` sees the keys ``j <= i + l - s``.

    Parameters
    ----------
    q : Tensor
        Shape ``(b, s, h, d)``, a float dtype.
    k, v : Tensor
        Shape ``(b, l, kv, d)``, same dtype; ``h`` is a multiple of ``kv``.
    alibi_slopes : Tensor, optional
        Shape ``(h,)``, f32: adds ``-slope * |j - (i + l - s)|`` to the scores.
    scale : float
        Factor of the scores, usually ``1 / sqrt(d)``.
    is_causal : bool
        Hide the keys behind a query's own position.
    out : Tensor, optional
        Where the result goes: shape and dtype of `q`.

    Returns
    -------
    Tensor
        `out`, or a new tensor. A query that sees no key gets zeros.

    Raises
    ------
    ShapeError
        A dimension differs, or ``h`` is no multiple of ``kv``.
    DTypeError
        A dtype is not one named here.

    Notes
    -----
    Vaswani and others, "Attention Is All You Need" (2017); layout and alignment of the causal mask are those
    of Dao, "FlashAttention-2" (2023). The slopes are those of Press, Smith and Lewis (2022).
    """
    s, length = q.shape[1], k.shape[1]
    bias = _bias(s, length, length - s, causal=is_causal, slopes=alibi_slopes)
    heads, keys, values = (np.swapaxes(x, 1, 2) for x in (q, k, v))
    return np.swapaxes(_attend(heads, keys, values, scale, bias), 1, 2)


def _varlen_errors(q, k, cum_seqlens_q, cum_seqlens_k, block_table):
    name, wanted = "mha_varlen", 3 if block_table is None else 4
    if k.ndim != wanted:
        given = "no block_table" if block_table is None else "a block_table"
        raise ShapeError(f"{name}: k has ndim={k.ndim}, but with {given} it must have ndim={wanted}")
    _grouped(name, q.shape[1], k.shape[-2])
    if cum_seqlens_q.shape[0] == 0:
        raise ShapeError(f"{name}: cum_seqlens_q has c=0, but must have c >= 1")
    if block_table is not None:
        _check_cut_count(name, "cum_seqlens_q", cum_seqlens_q.shape[0], "block_table", block_table.shape[0])


def _varlen_draw(draw, st):
    said = _heads_draw(draw, st)
    b, paged = draw(st.integers(0, 3)), draw(st.booleans())
    blocks, size, per_sequence = (draw(st.integers(1, 4)) for _ in range(3))
    most = size * per_sequence if paged else 9
    q_lens, k_lens = (draw(st.lists(st.integers(0, most), min_size=b, max_size=b)) for _ in range(2))
    q_cuts, t = _cuts(draw, st, q_lens)
    k_cuts, keys = _cuts(draw, st, k_lens)
    table = [draw(st.lists(st.integers(0, blocks - 1), min_size=per_sequence, max_size=per_sequence))
             for _ in range(b)]  # fmt: skip
    return said | {
        "b": b,
        "c": b + 1,
        "t": t,
        "mb": per_sequence,
        "*n": (blocks, size) if paged else (keys,),
        "cum_seqlens_q": Values(q_cuts),
        "cum_seqlens_k": Values(k_cuts),
        "block_table": Values(table) if paged else None,
        "max_seqlen_q": max(q_lens, default=0),
        "max_seqlen_k": max(k_lens, default=0) + draw(st.integers(0, 1)),
    }


@operator(
    python="mha_varlen(q, k, v, cum_seqlens_q, cum_seqlens_k, block_table, max_seqlen_q, max_seqlen_k, "
    "alibi_slopes=None, scale=..., *, out=None)",
    errors=_varlen_errors,
    draw=_varlen_draw,
)
def mha_varlen(
    out: Out[Tensor, "F t h d"],
    q: In[Tensor, "F t h d"],
    k: In[Tensor, "F *n kv d"],
    v: In[Tensor, "F *n kv d"],
    cum_seqlens_q: In[Tensor, "i32|i64|u32 c"],
    cum_seqlens_k: In[Tensor, "i32|i64|u32 c"],
    block_table: In[Tensor, "i32|i64|u32 b mb"] | None,
    alibi_slopes: In[Tensor, "f32 h"] | None,
    *,
    max_seqlen_q: int,
    max_seqlen_k: int,
    scale: Static[float] = 1.0,
):
    """Causal attention of packed sequences of different lengths, over packed keys or keys in blocks.

    The queries of sequence ``i`` are ``q[cum_seqlens_q[i]:cum_seqlens_q[i + 1]]``, its keys and values
    likewise those of ``k`` and ``v`` between its `cum_seqlens_k`; with a `block_table` these say only how
    many there are, and key ``t`` is row ``t % bs`` of block ``block_table[i, t // bs]``. The last query
    stands at the position of the last key: of ``s`` queries and ``l`` keys, query ``i`` sees the keys ``j <=
    i + l - s``: ``out = softmax(scale * q @ k.T + alibi) @ v``.

    Parameters
    ----------
    q : Tensor
        Shape ``(t, h, d)``, a float dtype. Tokens that belong to no sequence give zeros.
    k, v : Tensor
        Same dtype: shape ``(keys, kv, d)``, or with a `block_table` ``(nb, bs, kv, d)``; ``h`` is a multiple
        of ``kv``.
    cum_seqlens_q, cum_seqlens_k : Tensor
        Shape ``(b + 1,)``, i32, i64 or u32: where each sequence begins, and where the last one ends.
    block_table : Tensor or None
        Shape ``(b, mb)``, i32, i64 or u32: the blocks of each sequence. Entries past its length are not
        read.
    max_seqlen_q, max_seqlen_k : int
        No sequence is longer.
    alibi_slopes : Tensor, optional
        Shape ``(h,)``, f32: adds ``slope * (j - own position)`` to the scores.
    scale : float
        Factor of the scores, usually ``1 / sqrt(d)``.
    out : Tensor, optional
        Where the result goes: shape and dtype of `q`.

    Returns
    -------
    Tensor
        `out`, or a new tensor. A query that sees no key gets zeros.

    Raises
    ------
    ShapeError
        A dimension differs, ``h`` is no multiple of ``kv``, or `block_table` and `k` do not fit each other.
    DTypeError
        A dtype is not one named here.
    OutOfRange
        A block lies outside the cache, a length outside the table, or boundaries shrink or exceed their
        tensor (where a device can check it).
    InvalidArgument
        A sequence is longer than `max_seqlen_q` or `max_seqlen_k` (where a device can check it).

    Notes
    -----
    The layouts and the alignment of the causal mask are those of Dao, "FlashAttention-2" (2023); the slopes
    are those of Press, Smith and Lewis, "Train Short, Test Long" (2022).
    """
    name = "mha_varlen"
    q_cuts, k_cuts = cum_seqlens_q.astype(np.int64), cum_seqlens_k.astype(np.int64)
    _check_cuts(name, "cum_seqlens_q", q_cuts, "q has t", len(q))
    k_lens = np.diff(k_cuts)
    if block_table is None:
        _check_cuts(name, "cum_seqlens_k", k_cuts, "k has t", len(k))
    else:
        _check_cuts(name, "cum_seqlens_k", k_cuts, "int64 has max", 2**63 - 1)
        room = block_table.shape[1] * k.shape[1]
        _check_lengths(name, "cum_seqlens_k", k_lens, "a row of block_table", room)
    for which, lengths, limit in (("q", np.diff(q_cuts), max_seqlen_q), ("k", k_lens, max_seqlen_k)):
        longest = max(lengths, default=0)
        if longest > limit:
            found = f"cum_seqlens_{which} has a sequence of {longest} tokens"
            raise InvalidArgument(f"{name}: {found}, but max_seqlen_{which}={limit}")
    result = np.zeros_like(q)
    for i, (begin, end) in enumerate(pairwise(q_cuts)):
        if block_table is None:
            keys, values = (x[k_cuts[i] : k_cuts[i + 1]] for x in (k, v))
        else:
            keys, values = _in_pages(name, "block_table", block_table[i], k_lens[i], k.shape[1], (k, v))
        s, length = end - begin, k_lens[i]
        bias = _bias(s, length, length - s, slopes=alibi_slopes)
        mine, keys, values = (np.swapaxes(x, 0, 1) for x in (q[begin:end], keys, values))
        result[begin:end] = np.swapaxes(_attend(mine, keys, values, scale, bias), 0, 1)
    return result


def _kvcache_errors(q, k_cache):
    _grouped("mha_kvcache", q.shape[2], k_cache.shape[2])


def _kvcache_draw(draw, st):
    said = _paged_draw(draw, st)
    return said | {"block_table": said.pop("block_tables"), "seqlens_k": said.pop("cache_lens")}


@operator(
    python="mha_kvcache(q, k_cache, v_cache, seqlens_k, block_table, alibi_slopes=None, scale=..., *, "
    "out=None)",
    errors=_kvcache_errors,
    draw=_kvcache_draw,
)
def mha_kvcache(
    out: Out[Tensor, "F b s h d"],
    q: In[Tensor, "F b s h d"],
    k_cache: In[Tensor, "F nb bs kv d"],
    v_cache: In[Tensor, "F nb bs kv d"],
    seqlens_k: In[Tensor, "i32|i64|u32 b"],
    block_table: In[Tensor, "i32|i64|u32 b mb"],
    alibi_slopes: In[Tensor, "f32 h"] | None,
    *,
    scale: Static[float] = 1.0,
):
    """Causal attention of the newest tokens of each sequence over a cache that is kept in blocks.

    Sequence ``i`` has ``seqlens_k[i]`` keys, those of its ``s`` new tokens included, which are the last:
    query ``j`` sees the keys ``t <= j + seqlens_k[i] - s``. Key ``t`` is row ``t % bs`` of block
    ``block_table[i, t // bs]``: ``out = softmax(scale * q @ k.T + alibi) @ v``.

    Parameters
    ----------
    q : Tensor
        Shape ``(b, s, h, d)``, a float dtype.
    k_cache, v_cache : Tensor
        Shape ``(nb, bs, kv, d)``, same dtype; ``h`` is a multiple of ``kv``.
    seqlens_k : Tensor
        Shape ``(b,)``, i32, i64 or u32: how many keys each sequence has.
    block_table : Tensor
        Shape ``(b, mb)``, i32, i64 or u32: the blocks of each sequence. Entries past its length are not
        read.
    alibi_slopes : Tensor, optional
        Shape ``(h,)``, f32: adds ``slope * (t - own position)`` to the scores.
    scale : float
        Factor of the scores, usually ``1 / sqrt(d)``.
    out : Tensor, optional
        Where the result goes: shape and dtype of `q`.

    Returns
    -------
    Tensor
        `out`, or a new tensor. A query that sees no key gets zeros.

    Raises
    ------
    ShapeError
        A dimension differs, or ``h`` is no multiple of ``kv``.
    DTypeError
        A dtype is not one named here.
    OutOfRange
        A block lies outside the cache, or a length outside the table (where a device can check it).

    Notes
    -----
    The layouts and the alignment of the causal mask are those of Dao, "FlashAttention-2" (2023); the slopes
    are those of Press, Smith and Lewis, "Train Short, Test Long" (2022).
    """
    (_, size, *_), s, lens = k_cache.shape, q.shape[1], seqlens_k.astype(np.int64)
    _check_lengths("mha_kvcache", "seqlens_k", lens, "block_table", block_table.shape[1] * size)
    result = np.zeros_like(q)
    for i, length in enumerate(lens):
        keys, values = _in_pages(
            "mha_kvcache", "block_table", block_table[i], length, size, (k_cache, v_cache)
        )
        bias = _bias(s, length, length - s, slopes=alibi_slopes)
        mine, keys, values = (np.swapaxes(x, 0, 1) for x in (q[i], keys, values))
        result[i] = np.swapaxes(_attend(mine, keys, values, scale, bias), 0, 1)
    return result


def _rope_draw(draw, st):
    length = draw(st.integers(1, 8))
    return {
        "d": 2 * draw(st.integers(1, 8)),
        "maxpos": length,
        "pos_ids": Elements(0, length - 1),
        "algo": draw(st.sampled_from(list(RopeAlgo))),
    }


_ROPE = "y@out, x, pos_ids, sin_table, cos_table"


@operator(
    python="rope(x, pos_ids, sin_table, cos_table, algo=..., *, out=None)",
    inplace="x",
    c=C("RoPE", f"{_ROPE}, infiniopRoPEAlgo_t algo", _ROPE, suffix=""),
    draw=_rope_draw,
)
def rope(
    out: Out[Tensor, "F *s h d"],
    x: In[Tensor, "F *s h d"],
    pos_ids: In[Tensor, "I *s~"],
    sin_table: In[Tensor, "W maxpos d//2"],
    cos_table: In[Tensor, "W maxpos d//2"],
    *,
    algo: Static[RopeAlgo] = RopeAlgo.GPT_NEOX,
):
    """Rotary position embedding of the heads in the last axis.

    Each pair ``(a, b)`` of a head becomes ``(a * cos - b * sin, a * sin + b * cos)``, with the row of the
    tables that `pos_ids` names.

    Parameters
    ----------
    x : Tensor
        Shape ``(*s, h, d)``, usually ``(seq, h, d)`` or ``(batch, seq, h, d)``; a float dtype, ``d`` even.
    pos_ids : Tensor
        Any integer dtype; its shape broadcasts to ``(*s)``.
    sin_table, cos_table : Tensor
        Shape ``(maxpos, d / 2)``, one float dtype.
    algo : RopeAlgo
        ``GPT_NEOX`` pairs element ``i`` with ``i + d / 2``, ``GPT_J`` pairs ``2 * i`` with ``2 * i + 1``.
    out : Tensor, optional
        Where the result goes: shape and dtype of `x`. May be `x`.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError
        A dimension differs, or ``d`` is odd.
    DTypeError
        A dtype is not of the kind named here.
    OutOfRange
        A position lies outside the tables (where a device can check it).

    Notes
    -----
    Su and others, "RoFormer: Enhanced Transformer with Rotary Position Embedding" (2021).
    """
    check_indices("rope", "pos_ids", pos_ids, "sin_table", "maxpos", sin_table.shape[0])
    sin, cos = sin_table[pos_ids][..., None, :], cos_table[pos_ids][..., None, :]
    half = x.shape[-1] // 2
    interleaved = algo == RopeAlgo.GPT_J
    first, second = (x[..., 0::2], x[..., 1::2]) if interleaved else (x[..., :half], x[..., half:])
    rotated = first * cos - second * sin, first * sin + second * cos
    if interleaved:
        return np.stack(rotated, axis=-1).reshape(x.shape)
    return np.concatenate(rotated, axis=-1)


# DeepSeek-V3's gate: experts stand in 8 groups, of which a token uses 4.
_GROUPS, _KEPT = 8, 4


def _router_errors(x, topk):
    e = x.shape[-1]
    if e % _GROUPS or e < 2 * _GROUPS:
        raise ShapeError(
            f"topkrouter: x has e={e} experts, but must have {_GROUPS} equal groups of at least 2"
        )
    limit = e // _GROUPS * _KEPT
    if not 1 <= topk <= limit:
        raise InvalidArgument(f"topkrouter: topk={topk}, but e={e} experts allow 1 to {limit}")


def _router_draw(draw, st):
    experts = draw(st.sampled_from([16, 32, 64, 256]))
    return {"e": experts, "topk": draw(st.integers(1, min(8, experts // 2)))}


@operator(
    python="topkrouter(x, correction_bias, topk, routed_scaling_factor=..., *, out=None)",
    c=C(
        "Topkrouter",
        "x, correction_bias",
        "values, indices, x, correction_bias, const float routed_scaling_factor, const size_t topk",
    ),
    errors=_router_errors,
    draw=_router_draw,
)
def topkrouter(
    values: Out[Tensor, "f32 n topk"],
    indices: Out[Tensor, "i32 n topk"],
    x: In[Tensor, "F n e"],
    correction_bias: In[Tensor, "f32 e"],
    *,
    routed_scaling_factor: float = 1.0,
    topk: int,
):
    """Choice of experts for each token, as DeepSeek-V3 makes it.

    Scores are ``sigmoid(x)``. The experts stand in 8 equal groups; a group counts as much as its two best
    ``score + correction_bias`` together, and the 4 best groups stay. Of their experts the `topk` best by
    ``score + correction_bias`` are chosen, best first, and weighted by
    ``score / sum of the chosen scores * routed_scaling_factor``.

    Parameters
    ----------
    x : Tensor
        Logits, shape ``(n, e)``, a float dtype; ``e`` is a multiple of 8 and at least 16.
    correction_bias : Tensor
        Shape ``(e,)``, f32. Decides the choice, not the weights.
    topk : int
        How many experts a token gets: 1 to ``e / 2``.
    routed_scaling_factor : float
        Factor of the weights.
    out : tuple of Tensor, optional
        Where the two results go.

    Returns
    -------
    tuple of Tensor
        ``(values, indices)``, both ``(n, topk)``: weights in f32, experts in i32.

    Raises
    ------
    ShapeError
        The experts do not form 8 groups of at least 2, or a dimension differs.
    DTypeError
        A dtype is not the one named here.
    InvalidArgument
        `topk` is out of its range.

    Notes
    -----
    DeepSeek-AI, "DeepSeek-V3 Technical Report" (2024), section 2.1.2, with the group numbers of its
    256-expert model. Of equal candidates, groups or experts, the one with the lower index wins. 1e-20 is
    added to the sum, so that scores which all underflow give zeros.
    """
    n, e = x.shape
    scores = 1 / (1 + np.exp(-x))
    biased = scores + correction_bias
    groups = biased.reshape(n, _GROUPS, e // _GROUPS)
    group_scores = np.sort(groups, axis=-1)[..., -2:].sum(axis=-1)
    kept = np.argsort(-group_scores, axis=-1, kind="stable")[:, :_KEPT]
    allowed = np.zeros((n, _GROUPS), bool)
    np.put_along_axis(allowed, kept, True, axis=-1)
    candidates = np.where(np.repeat(allowed, e // _GROUPS, axis=-1), biased, -np.inf)
    chosen = np.argsort(-candidates, axis=-1, kind="stable")[:, :topk]
    gates = np.take_along_axis(scores, chosen, axis=-1)
    total = np.sum(gates, axis=-1, keepdims=True) + 1e-20
    return gates / total * routed_scaling_factor, chosen.astype(np.int32)
