# Normalisations over one axis: root mean square, mean and variance, softmax.
# Sums run over the last axis except where a parameter names another.
"""Normalisation operators."""

from infinicore.errors import ShapeError
from infinicore.schema import C, In, Out, Static, Tensor, canonical_axis, np, operator


@operator(
    python="rms_norm(x, weight, epsilon=..., *, out=None)",
    inplace="x",
    c=C("RMSNorm", "y@out, x, w@weight, float epsilon", "y@out, x, w@weight"),
)
def rms_norm(
    out: Out[Tensor, "F *r n"],
    x: In[Tensor, "F *r n"],
    weight: In[Tensor, "W n"],
    *,
    epsilon: Static[float] = 1e-5,
):
    """Root-mean-square normalisation of the last axis: ``out = x / sqrt(mean(x**2) + epsilon) * weight``.

    Parameters
    ----------
    x : Tensor
        Shape ``(*rows, n)``, a float dtype.
    weight : Tensor
        Shape ``(n,)``, a float dtype of its own.
    epsilon : float
        Keeps the root away from zero.
    out : Tensor, optional
        Where the result goes: shape and dtype of `x`. May be `x`.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError
        ``n`` or the rows differ.
    DTypeError
        A dtype is no float dtype, or `out` has another than `x`.

    Notes
    -----
    Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019). Sums are kept in f32 for f16 and bf16,
    and the result is rounded once.
    """
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + epsilon) * weight


@operator(
    python="add_rms_norm(a, b, weight, epsilon=..., *, out=None)",
    inplace="a b",
    c=C(
        "AddRMSNorm",
        "y@out, a, b, weight, float epsilon, residual_out",
        "y@out, a, b, weight, residual_out",
    ),
)
def add_rms_norm(
    out: Out[Tensor, "F *r n"],
    residual_out: Out[Tensor, "F *r n"],
    a: In[Tensor, "F *r n"],
    b: In[Tensor, "F *r n"],
    weight: In[Tensor, "W n"],
    *,
    epsilon: Static[float] = 1e-5,
):
    """Residual sum and its root-mean-square normalisation, in one pass.

    ``residual = a + b`` and ``y = (a + b) / sqrt(mean((a + b)**2) + epsilon) * weight``.

    Parameters
    ----------
    a, b : Tensor
        Shape ``(*rows, n)``, one float dtype.
    weight : Tensor
        Shape ``(n,)``, a float dtype of its own.
    epsilon : float
        Keeps the root away from zero.
    out : tuple of Tensor, optional
        Where `y` and `residual` go: shape and dtype of `a`. Each may be `a` or `b`.

    Returns
    -------
    tuple of Tensor
        ``(y, residual)``.

    Raises
    ------
    ShapeError
        ``n`` or the rows differ.
    DTypeError
        A dtype is no float dtype, or `b` or an output has another than `a`.

    Notes
    -----
    The normalisation uses the sum before it is rounded to the dtype of `residual`. See `rms_norm` for the
    formula's source.
    """
    x = a + b
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + epsilon) * weight, x


@operator(
    python="layer_norm(input, weight, bias=None, eps=..., *, out=None)",
    c=C(
        "LayerNorm",
        "output, input_standardization, input_std_deviation, input, weight, bias, float eps",
        "output, input_standardization, input_std_deviation, input, weight, bias",
    ),
)
def layer_norm(
    output: Out[Tensor, "F *r n"],
    input_standardization: Out[Tensor, "F *r n"],
    input_std_deviation: Out[Tensor, "F *r"],
    input: In[Tensor, "F *r n"],
    weight: In[Tensor, "F n"],
    bias: In[Tensor, "F n"] | None,
    *,
    eps: Static[float] = 1e-5,
):
    """Layer normalisation of the last axis, with what a backward pass needs.

    ``standard = (input - mean) / sqrt(var + eps)`` and ``output = standard * weight + bias``, with the
    variance of the whole population (divided by ``n``).

    Parameters
    ----------
    input : Tensor
        Shape ``(*rows, n)``, a float dtype.
    weight : Tensor
        Shape ``(n,)``, same dtype.
    bias : Tensor, optional
        Shape ``(n,)``, same dtype.
    eps : float
        Keeps the root away from zero.
    out : tuple of Tensor, optional
        Where the three results go, in the dtype of `input`.

    Returns
    -------
    tuple of Tensor
        ``(output, standard, scale)``: the result and the standardised input, both ``(*rows, n)``, and
        ``scale = 1 / sqrt(var + eps)``, ``(*rows,)``.

    Raises
    ------
    ShapeError
        ``n`` or the rows differ.
    DTypeError
        The dtypes differ, or are no float dtype.

    Notes
    -----
    Ba, Kiros and Hinton, "Layer Normalization" (2016). f16 and bf16 are computed in f32.
    """
    centred = input - np.mean(input, axis=-1, keepdims=True)
    scale = 1 / np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + eps)
    standard = centred * scale
    affine = standard * weight
    return affine if bias is None else affine + bias, standard, scale[..., 0]


def _softmax_axis(x, axis):
    return {"axis": canonical_axis("softmax", "axis", axis, "input", x.ndim)}


def _softmax_draw(draw, st):
    shape = tuple(draw(st.lists(st.integers(0, 7), min_size=1, max_size=4)))
    return {"*s": shape, "axis": draw(st.integers(-len(shape), len(shape) - 1))}


@operator(
    python="softmax(input: x, axis=..., *, out=None)",
    inplace="x",
    c=C("Softmax", "y, x, int axis", "y, x"),
    canonical=_softmax_axis,
    draw=_softmax_draw,
)
def softmax(y: Out[Tensor, "F *s"], x: In[Tensor, "F *s"], *, axis: Static[int] = -1):
    """Softmax along one axis: ``out = exp(input) / sum(exp(input))``.

    Parameters
    ----------
    input : Tensor
        At least 1-d, a float dtype.
    axis : int
        The axis whose elements come to add up to 1; negative ones count from the end.
    out : Tensor, optional
        Where the result goes: shape and dtype of `input`. May be `input`.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    OutOfRange
        `axis` lies outside the dimensions of `input`.
    ShapeError, DTypeError
        `out` differs from `input`, or the dtype is no float dtype.

    Notes
    -----
    The largest element is subtracted first, so that nothing overflows. Where all elements are -inf the result
    is NaN.
    """
    if x.shape[axis] == 0:
        return x
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)


def _causal_errors(x):
    n, m = x.shape[-2:]
    if n > m:
        raise ShapeError(f"causal_softmax: input has n={n} rows, but only m={m} columns")


def _causal_draw(draw, st):
    n = draw(st.integers(0, 7))
    return {"n": n, "m": n + draw(st.integers(0, 7))}


@operator(python="causal_softmax(input: x, out=None)", inplace="x", errors=_causal_errors, draw=_causal_draw)
def causal_softmax(y: Out[Tensor, "F *r n m"], x: In[Tensor, "F *r n m"]):
    """Softmax over the last axis of what a causal mask leaves.

    Row ``i`` of ``n`` sees the columns ``j <= m - n + i`` of ``m``; the others become 0.

    Parameters
    ----------
    input : Tensor
        Shape ``(*batch, n, m)`` with ``n <= m``, a float dtype.
    out : Tensor, optional
        Where the result goes: shape and dtype of `input`. May be `input`.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError
        `input` has fewer than 2 dimensions or more rows than columns, or `out` has another shape.
    DTypeError
        The dtype is no float dtype, or `out` has another.

    Notes
    -----
    The mask of Vaswani and others, "Attention Is All You Need" (2017), aligned at the last row. Masked
    elements are not read: NaN there does not spread.
    """
    n, m = x.shape[-2:]
    if x.size == 0:
        return x
    visible = np.arange(m) <= np.arange(n)[:, None] + (m - n)
    masked = np.where(visible, x, -np.inf)
    e = np.where(visible, np.exp(masked - np.max(masked, axis=-1, keepdims=True)), 0)
    return e / np.sum(e, axis=-1, keepdims=True)
