# Normalisations over one axis: root mean square, mean and variance, p-norm, softmax and its kin.
# Sums run over the last axis except where a parameter names another.
"""Normalisation operators."""

from infinicore.errors import InvalidArgument, ShapeError
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
    python="add_rms_norm(a, b, weight, epsilon=..., *, out=None, residual: residual_out=None)",
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
    out : Tensor or tuple of Tensor, optional
        Where `y`, or both `y` and `residual`, go: shape and dtype of `a`. Each may be `a` or `b`.
    residual : Tensor, optional
        Where `residual` goes, where `out` is no tuple.

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
    InvalidArgument
        `residual` is given beside a tuple as `out`.

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


def _along(operator_name):
    """The `canonical` hook of an operator over ``axis`` of ``input``."""

    def canonical(input, axis):
        return {"axis": canonical_axis(operator_name, "axis", axis, "input", input.ndim)}

    return canonical


def _lp_norm_errors(p):
    if p < 1:
        raise InvalidArgument(f"lp_norm: p={p}, but it must be at least 1")


def _lp_norm_draw(draw, st):
    shape = tuple(draw(st.lists(st.integers(0, 7), min_size=1, max_size=4)))
    return {
        "*s": shape,
        "axis": draw(st.integers(-len(shape), len(shape) - 1)),
        "p": draw(st.sampled_from([1, 2, 3, 6])),
    }


@operator(
    python="lp_norm(input, axis=..., p=..., eps=..., *, out=None)",
    inplace="input",
    c=C("LPNorm", "output@out, input, int axis, int p, float eps", "output@out, input"),
    canonical=_along("lp_norm"),
    errors=_lp_norm_errors,
    draw=_lp_norm_draw,
)
def lp_norm(
    out: Out[Tensor, "F *s"],
    input: In[Tensor, "F *s"],
    *,
    axis: Static[int] = -1,
    p: Static[int] = 2,
    eps: Static[float] = 1e-12,
):
    """Division by the p-norm along one axis: ``out = input / max(sum(|input|**p)**(1/p), eps)``.

    Parameters
    ----------
    input : Tensor
        At least 1-d, a float dtype.
    axis : int
        The axis whose elements come to have norm 1; negative ones count from the end.
    p : int
        The exponent, at least 1.
    eps : float
        The least divisor, which keeps zeros from becoming NaN.
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
    InvalidArgument
        `p` is less than 1.
    ShapeError, DTypeError
        `out` differs from `input`, or the dtype is no float dtype.

    Notes
    -----
    The p-norm of Riesz, "Untersuchungen ueber Systeme integrierbarer Funktionen" (1910), on rows of numbers.
    Sums are kept in f32 for f16 and bf16.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.lp_norm(ic.from_list([1.0, -3.0]), p=1).tolist()
    [0.25, -0.75]
    """
    norm = np.sum(np.abs(input) ** p, axis=axis, keepdims=True) ** (1 / p)
    return input / np.maximum(norm, eps)


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


@operator(
    python="logsoftmax(input, axis=..., *, out=None)",
    inplace="input",
    c=C("LogSoftmax", "y@out, x@input", "y@out, x@input"),
    canonical=_along("logsoftmax"),
    draw=_softmax_draw,
)
def logsoftmax(out: Out[Tensor, "F *s"], input: In[Tensor, "F *s"], *, axis: Static[int] = -1):
    """Logarithm of the softmax along one axis: ``out = input - log(sum(exp(input)))``.

    Parameters
    ----------
    input : Tensor
        At least 1-d, a float dtype.
    axis : int
        The axis over which is summed; negative ones count from the end.
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
    The largest element is subtracted first, so that nothing overflows and no probability underflows. Where
    all elements are -inf the result is NaN. The C function takes no axis: it sums over the last.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.logsoftmax(ic.from_list([0.0, 1000.0])).tolist()
    [-1000.0, 0.0]
    """
    if input.shape[axis] == 0:
        return input
    shifted = input - np.max(input, axis=axis, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def _topksoftmax_errors(x, topk):
    e = x.shape[1]
    if not 1 <= topk <= e:
        raise InvalidArgument(f"topksoftmax: topk={topk}, but x with e={e} columns allows 1 to {e}")


def _topksoftmax_draw(draw, st):
    e = draw(st.sampled_from([1, 3, 16, 64]))
    return {"e": e, "topk": draw(st.integers(1, min(8, e)))}


@operator(
    python="topksoftmax(x, topk, norm=..., *, out=None)",
    c=C("Topksoftmax", "x", "values, indices, x, const size_t topk, const int norm"),
    errors=_topksoftmax_errors,
    draw=_topksoftmax_draw,
)
def topksoftmax(
    values: Out[Tensor, "f32 n topk"],
    indices: Out[Tensor, "i32 n topk"],
    x: In[Tensor, "F n e"],
    *,
    topk: int,
    norm: bool = False,
):
    """The largest weights of a softmax over each row, and the columns they are in: a gate over experts.

    Parameters
    ----------
    x : Tensor
        Logits, shape ``(n, e)``, a float dtype.
    topk : int
        How many columns a row gets: 1 to ``e``.
    norm : bool
        Divide the chosen weights by their sum.
    out : tuple of Tensor, optional
        Where the two results go.

    Returns
    -------
    tuple of Tensor
        ``(values, indices)``, both ``(n, topk)``, largest first: weights in f32, columns in i32.

    Raises
    ------
    ShapeError
        `x` is not 2-d, or an output has another shape.
    DTypeError
        A dtype is not the one named here.
    InvalidArgument
        `topk` is out of its range.

    Notes
    -----
    Shazeer and others, "Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer"
    (2017), without its noise. Of equal logits the one with the lower index comes first, a NaN last; it makes
    all weights of its row NaN.

    Examples
    --------
    >>> import infinicore as ic
    >>> values, indices = ic.topksoftmax(ic.from_list([[0.0, 2.0, 2.0, 1.0]]), 2, True)
    >>> values.tolist(), indices.tolist()
    ([[0.5, 0.5]], [[1, 2]])
    """
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    order = np.argsort(-x, axis=-1, kind="stable")[:, :topk]
    weights = np.take_along_axis(e / np.sum(e, axis=-1, keepdims=True), order, axis=-1)
    if norm:
        weights = weights / np.sum(weights, axis=-1, keepdims=True)
    return weights, order.astype(np.int32)


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
    return np.where(visible, e / np.sum(e, axis=-1, keepdims=True), 0)
