# Narrow integers for floats: 4-bit weights as the AWQ and GPTQ formats pack them, int8 rows and tensors, and
# the product of two int8 matrices. Nibbles are counted from the lowest bits of a word.
"""Quantisation operators."""

from infinicore.errors import ShapeError
from infinicore.schema import C, Elements, In, InOut, Out, Static, Tensor, check_indices, np, operator

# Where AWQ keeps column c of eight: in this nibble of the word.
_AWQ_NIBBLES = (0, 4, 1, 5, 2, 6, 3, 7)
_IN_ORDER = (0, 1, 2, 3, 4, 5, 6, 7)
_WORDS = Elements(-(2**31), 2**31 - 1)


# ---- 4-bit weights -----------------------------------------------------------------------------------------


def _unpack(words, nibbles, axis):
    """Eight 4-bit numbers for every word, along `axis`."""
    parts = [(words >> 4 * nibble) & 15 for nibble in nibbles]
    stacked = np.stack(parts, axis=axis + 1)
    shape = list(words.shape)
    shape[axis] *= 8
    return stacked.reshape(shape)


def _groups_draw(draw, st):
    groups, n = draw(st.integers(1, 4)), 8 * draw(st.integers(0, 5))
    return {"g": groups, "n": n, "k": groups * draw(st.integers(1, 9)), "qweight": _WORDS, "zeros": _WORDS}


def _awq_errors(qweight, scales):
    (k, _), (groups, n) = qweight.shape, scales.shape
    if n % 8:
        raise ShapeError(f"dequantize_awq: scales has n={n}, which is no multiple of 8")
    if groups < 1 or k % groups:
        raise ShapeError(
            f"dequantize_awq: qweight has k={k}, which is no multiple of the g={groups} rows of scales"
        )


@operator(c=C("DequantizeAWQ"), errors=_awq_errors, draw=_groups_draw)
def dequantize_awq(
    out: Out[Tensor, "F k n"],
    qweight: In[Tensor, "i32 k n//8"],
    scales: In[Tensor, "F g n"],
    zeros: In[Tensor, "i32 g n//8"],
):
    """Weights from 4-bit numbers in AWQ's format: ``out = (weight - zero) * scale``, by groups of rows.

    Parameters
    ----------
    qweight : Tensor
        Shape ``(k, n // 8)``, i32: eight columns in a word.
    scales : Tensor
        Shape ``(g, n)``, a float dtype: one row for each group of ``k / g`` rows of weights.
    zeros : Tensor
        Shape ``(g, n // 8)``, i32, packed as `qweight`.
    out : Tensor, optional
        Where the result goes: shape ``(k, n)``, dtype of `scales`.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError
        ``n`` is no multiple of 8, ``k`` none of ``g``, or shapes do not fit.
    DTypeError
        `qweight` or `zeros` is not i32, or `scales` has no float dtype.

    Notes
    -----
    The format is that of Lin and others, "AWQ: Activation-aware Weight Quantization" (2023), as its
    checkpoints have it: column ``c`` of eight lies in nibble ``0 4 1 5 2 6 3 7`` of the word.
    """
    group = np.arange(len(qweight)) // (len(qweight) // len(scales) or 1)
    weight, zero = _unpack(qweight, _AWQ_NIBBLES, 1), _unpack(zeros, _AWQ_NIBBLES, 1)
    return (weight - zero[group]) * scales[group]


def _gptq_draw(draw, st):
    said = _groups_draw(draw, st)
    return said | {"k": 8 * draw(st.integers(0, 4)), "g_idx": Elements(0, said["g"] - 1)}


def _gptq_errors(scales, g_idx):
    for name, size, of in (("k", g_idx.shape[0], "g_idx"), ("n", scales.shape[1], "scales")):
        if size % 8:
            raise ShapeError(f"dequantize_gptq: {of} has {name}={size}, which is no multiple of 8")


@operator(c=C("DequantizeGPTQ"), errors=_gptq_errors, draw=_gptq_draw)
def dequantize_gptq(
    out: Out[Tensor, "F k n"],
    qweight: In[Tensor, "i32 k//8 n"],
    scales: In[Tensor, "F g n"],
    zeros: In[Tensor, "i32 g n//8"],
    g_idx: In[Tensor, "i32 k"],
):
    """Weights from 4-bit numbers in GPTQ's format: ``out = (weight - zero) * scale``, by groups of rows.

    Parameters
    ----------
    qweight : Tensor
        Shape ``(k // 8, n)``, i32: eight rows in a word, the first in the lowest bits.
    scales : Tensor
        Shape ``(g, n)``, a float dtype: one row for each group.
    zeros : Tensor
        Shape ``(g, n // 8)``, i32: eight columns in a word, each stored as ``zero - 1`` (modulo 16).
    g_idx : Tensor
        Shape ``(k,)``, i32: the group of each row.
    out : Tensor, optional
        Where the result goes: shape ``(k, n)``, dtype of `scales`.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    OutOfRange
        A group is negative, or ``g`` or more (where a device can check it).
    ShapeError
        ``k`` or ``n`` is no multiple of 8, or shapes do not fit.
    DTypeError
        `qweight`, `zeros` or `g_idx` is not i32, or `scales` has no float dtype.

    Notes
    -----
    The method is that of Frantar and others, "GPTQ: Accurate Post-Training Quantization for Generative
    Pre-trained Transformers" (2022); the packing is that of checkpoints of the format ``gptq``.
    """
    check_indices("dequantize_gptq", "g_idx", g_idx, "scales", "g", len(scales))
    weight, zero = _unpack(qweight, _IN_ORDER, 0), (_unpack(zeros, _IN_ORDER, 1) + 1) & 15
    return (weight - zero[g_idx]) * scales[g_idx]


# ---- int8 --------------------------------------------------------------------------------------------------


def _product_errors(x_scale, weights_scale):
    for name, scale in (("x_scale", x_scale), ("weights_scale", weights_scale)):
        if scale.ndim > 2 or scale.shape[1:] not in ((), (1,)):
            raise ShapeError(
                f"int8_gemm: {name} has shape {scale.shape}, but one number per row or column is wanted: "
                f"({scale.shape[0]},) or ({scale.shape[0]}, 1)"
            )


def _product_shape(x, weights, bias):
    return [((x.shape[0], weights.shape[1]), "f16" if bias is None else bias.dtype)]


def _product_draw(draw, st):
    return {
        "*u": draw(st.sampled_from([(), (1,)])),
        "*v": draw(st.sampled_from([(), (1,)])),
        "k": draw(st.integers(0, 150)),
        "x": Elements(-128, 127),
        "weights": Elements(-128, 127),
        "x_scale": Elements(0, 0.01),
        "weights_scale": Elements(0, 0.01),
    }


_PRODUCT = "out, bias, x, x_scale, weights, weights_scale"


@operator(c=C("I8Gemm", _PRODUCT, _PRODUCT), errors=_product_errors, shape=_product_shape, draw=_product_draw)
def int8_gemm(
    out: Out[Tensor, "F m n"],
    x: In[Tensor, "i8 m k"],
    x_scale: In[Tensor, "f32 m *u"],
    weights: In[Tensor, "i8 k n"],
    weights_scale: In[Tensor, "f32 n *v"],
    bias: In[Tensor, "F n"] | None,
):
    """Product of int8 matrices with a scale per row and per column.

    ``out[i, j] = x_scale[i] * weights_scale[j] * sum over p of x[i, p] * weights[p, j] + bias[j]``.

    Parameters
    ----------
    x : Tensor
        Shape ``(m, k)``, i8.
    x_scale : Tensor
        Shape ``(m,)`` or ``(m, 1)``, f32.
    weights : Tensor
        Shape ``(k, n)``, i8; fastest where a column is contiguous.
    weights_scale : Tensor
        Shape ``(n,)`` or ``(n, 1)``, f32.
    bias : Tensor, optional
        Shape ``(n,)``, a float dtype.
    out : Tensor, optional
        Where the result goes: shape ``(m, n)``, dtype of `bias`, or any float dtype without one.

    Returns
    -------
    Tensor
        `out`, or a new tensor: of dtype f16 without `bias`.

    Raises
    ------
    ShapeError
        The shapes do not fit.
    DTypeError
        A matrix is not i8, a scale is not f32, or `out` differs from `bias`.

    Notes
    -----
    Sums are kept in i32, which holds any of up to 131072 products. The scheme is that of Dettmers and others,
    "LLM.int8()" (2022), without outliers.
    """
    total = x.astype(np.float64) @ weights.astype(np.float64)  # exact: far below 2**53
    product = total * x_scale.reshape(-1, 1) * weights_scale.reshape(1, -1)
    return product if bias is None else product + bias


def _quantized(values):
    """Rounded values as int8; what is no number becomes 0."""
    return np.nan_to_num(np.clip(values, -128, 127), nan=0.0).astype(np.int8)


def _range(x, axis, symmetric):
    """``(steps per unit, lowest value, scale, zero)`` of the values along `axis`, all in float64."""
    if symmetric:
        largest = np.maximum(np.fmax.reduce(np.abs(x), axis=axis, keepdims=True), 1e-10)
        return 127 / largest, np.zeros_like(largest), largest / 127, np.zeros_like(largest)
    low, high = (f.reduce(x, axis=axis, keepdims=True) for f in (np.fmin, np.fmax))
    span = np.maximum(high - low, 1e-8)
    return 255 / span, low, span / 255, -128 - low * (255 / span)


def _quantize(x, axis, symmetric):
    steps, low, scale, zero = _range(x, axis, symmetric)
    return _quantized(np.rint((x - low) * steps) - (0 if symmetric else 128)), scale, zero


def _rows_errors(x):
    if x.shape[-1] == 0:
        raise ShapeError("per_channel_quant_int8: x has k=0, but a scale takes at least 1 value")


@operator(
    c=C("PerChannelQuantI8", "x_packed, x_scale, x_zero, x", "x_packed, x_scale, x_zero, x"),
    errors=_rows_errors,
    draw=lambda draw, st: {"k": draw(st.integers(1, 70))},
)
def per_channel_quant_int8(
    x_packed: Out[Tensor, "i8 *r k"],
    x_scale: Out[Tensor, "f32 *r 1"],
    x_zero: Out[Tensor, "f32 *r 1"],
    x: In[Tensor, "F *r k"],
    *,
    symmetric: Static[bool] = False,
):
    """Quantise each row to int8, with a scale and a zero of its own.

    ``x_packed = round(x / x_scale + x_zero)``, so that ``x`` is about ``(x_packed - x_zero) * x_scale``. With
    ``low`` and ``high`` the least and the largest value of a row, ``x_scale = (high - low) / 255`` and
    ``x_zero = -128 - low / x_scale``; symmetric, ``x_scale = max(abs(x)) / 127`` and ``x_zero = 0``.

    Parameters
    ----------
    x : Tensor
        Shape ``(*rows, k)``, a float dtype, ``k`` at least 1.
    symmetric : bool
        Keep zero at zero, as `int8_gemm` needs it.
    out : tuple of Tensor, optional
        Where the results go: i8 of the shape of `x`, and twice f32 of shape ``(*rows, 1)``.

    Returns
    -------
    tuple of Tensor
        ``(x_packed, x_scale, x_zero)``.

    Raises
    ------
    ShapeError
        A row is empty, or an output does not fit.
    DTypeError
        `x` has no float dtype, or an output another than its own.

    Notes
    -----
    The affine map of Jacob and others, "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference" (2018), with a zero that is not rounded. Ties go to the even number.
    """
    return _quantize(x.astype(np.float64), -1, symmetric)


def _tensor_errors(x):
    if 0 in x.shape:
        raise ShapeError(f"per_tensor_quant_int8: x has shape {x.shape}, but a scale takes at least 1 value")


def _tensor_draw(draw, st):
    return {
        "*s": tuple(draw(st.lists(st.integers(1, 9), max_size=4))),
        "x_scale": Elements(0.01, 3),
        "x_zero": Elements(-128, 127),
    }


@operator(
    python="per_tensor_quant_int8(x, x_scale, x_zero, *, is_static=..., symmetric=..., out=None)",
    c=C(
        "PerTensorQuantI8",
        "x_packed, x_scale, x_zero, x",
        "x_packed, x_scale, x_zero, x, const bool is_static",
    ),
    errors=_tensor_errors,
    draw=_tensor_draw,
)
def per_tensor_quant_int8(
    x_packed: Out[Tensor, "i8 *s"],
    x_scale: InOut[Tensor, "f32 1"],
    x_zero: InOut[Tensor, "f32 1"],
    x: In[Tensor, "F *s"],
    *,
    is_static: bool = False,
    symmetric: Static[bool] = False,
):
    """Quantise a tensor to int8, with one scale and one zero.

    ``x_packed = round(x / x_scale + x_zero)`` with the scale and zero that are given (`is_static`), or with
    those of all values, found as `per_channel_quant_int8` finds those of a row.

    Parameters
    ----------
    x : Tensor
        Any shape, a float dtype, at least one element.
    x_scale, x_zero : Tensor
        Shape ``(1,)``, f32: read when `is_static`, else written.
    is_static : bool
        Use the scale and zero as they are.
    symmetric : bool
        Zero stays zero: `x_zero` is never read, and 0 where it is written.
    out : Tensor, optional
        Where `x_packed` goes: i8 of the shape of `x`.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError
        `x` is empty, or a shape does not fit.
    DTypeError
        `x` has no float dtype, or another tensor not its own.

    Notes
    -----
    See `per_channel_quant_int8` for the source. Ties go to the even number.
    """
    x = x.astype(np.float64)
    if not is_static:
        packed, scale, zero = _quantize(x.reshape(-1), 0, symmetric)
        return packed.reshape(x.shape), scale, zero
    moved = x / x_scale.astype(np.float64)[0] + (0 if symmetric else x_zero[0])
    return _quantized(np.rint(moved)), x_scale, x_zero


@operator(
    c=C("PerTensorDequantI8", "x, x_packed, x_scale, x_zero", "x, x_packed, x_scale, x_zero"),
    shape=lambda x_packed: [(x_packed.shape, "f32")],
    draw=lambda draw, st: {"x_packed": Elements(-128, 127), "x_zero": Elements(-128, 127)},
)
def per_tensor_dequant_int8(
    x: Out[Tensor, "F *s"],
    x_packed: In[Tensor, "i8 *s"],
    x_scale: In[Tensor, "f32 1"],
    x_zero: In[Tensor, "f32 1"] | None,
):
    """Floats from int8 with one scale and one zero: ``x = (x_packed - x_zero) * x_scale``.

    Parameters
    ----------
    x_packed : Tensor
        Any shape, i8.
    x_scale : Tensor
        Shape ``(1,)``, f32.
    x_zero : Tensor, optional
        Shape ``(1,)``, f32; 0 where absent.
    out : Tensor, optional
        Where the result goes: shape of `x_packed`, any float dtype.

    Returns
    -------
    Tensor
        `out`, or a new tensor of dtype f32.

    Raises
    ------
    ShapeError
        A shape does not fit.
    DTypeError
        `x_packed` is not i8, a scale or zero is not f32, or `out` has no float dtype.

    Notes
    -----
    The inverse of `per_tensor_quant_int8`; see `per_channel_quant_int8` for the source.
    """
    shifted = x_packed.astype(np.float64) - (0 if x_zero is None else x_zero[0])
    return shifted * x_scale[0]
