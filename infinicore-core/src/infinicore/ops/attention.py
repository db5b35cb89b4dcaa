# Attention over dense and paged key-value caches, rotary positions, and the expert gate of DeepSeek-V3.
# Letters: h query heads, kv key-value heads, d head size, s new tokens, l cache length, b sequences.
"""Attention operators."""

from enum import IntEnum

from infinicore.errors import InvalidArgument, OutOfRange, ShapeError
from infinicore.schema import C, Elements, In, InOut, Out, Static, Tensor, check_indices, np, operator


class RopeAlgo(IntEnum):
    """Which elements of a head rotate together."""

    GPT_J = 0
    GPT_NEOX = 1


def _grouped(operator_name, h, kv):
    if kv == 0 or h % kv:
        raise ShapeError(f"{operator_name}: q has h={h} heads, which is no multiple of kv={kv} of the cache")


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
    repeat = q.shape[0] // k.shape[0]
    keys = np.repeat(k_cache[:, : pos + s], repeat, axis=0)
    values = np.repeat(v_cache[:, : pos + s], repeat, axis=0)
    scores = np.matmul(q, np.swapaxes(keys, 1, 2)) / np.sqrt(d)
    visible = np.arange(pos + s) <= np.arange(s)[:, None] + pos
    scores = np.where(visible, scores, -np.inf)
    weights = np.exp(scores - np.max(scores, axis=-1, keepdims=True, initial=-np.inf))
    weights = weights / np.sum(weights, axis=-1, keepdims=True)
    return np.swapaxes(np.matmul(weights, values), 0, 1), k_cache, v_cache


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
        "cache_lens": Elements(1, per_sequence * size),
        "scale": draw(st.sampled_from([1.0, 0.25])),
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
    block_tables: In[Tensor, "i64 b mb"],
    cache_lens: In[Tensor, "i64 b"],
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
        Shape ``(b, mb)``, i64: the blocks of each sequence. Entries past its length are not read.
    cache_lens : Tensor
        Shape ``(b,)``, i64: how many positions each sequence has, the new token included. 0 gives zeros.
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
    (_, kv, size, d), h = k_cache.shape, q.shape[1]
    result, room = np.zeros_like(q), block_tables.shape[1] * size
    wrong = cache_lens[(cache_lens < 0) | (cache_lens > room)]
    if wrong.size:
        raise OutOfRange(
            f"paged_attention: cache_lens holds {wrong.flat[0]}, but block_tables has room for {room}"
        )
    for i, length in enumerate(cache_lens):
        blocks = block_tables[i, : -(-length // size)]
        check_indices("paged_attention", "block_tables", blocks, "k_cache", "nb", k_cache.shape[0])
        if length == 0:
            continue
        tokens = (len(blocks) * size, kv, d)
        keys, values = (
            np.swapaxes(cache[blocks], 1, 2).reshape(tokens)[:length].repeat(h // kv, axis=1)
            for cache in (k_cache, v_cache)
        )
        scores = np.einsum("hd,thd->ht", q[i], keys) * scale
        if alibi_slopes is not None:
            scores = scores + alibi_slopes[:, None] * (np.arange(length) - (length - 1))
        weights = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
        result[i] = np.einsum("ht,thd->hd", weights / np.sum(weights, axis=-1, keepdims=True), values)
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
