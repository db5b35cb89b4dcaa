# Matrix products and convolutions.
# A leading `*b` or `*r` is any number of batch or row dimensions.
"""Linear algebra."""

from infinicore.arguments import require_tensors
from infinicore.errors import DTypeError, InvalidArgument, ShapeError
from infinicore.schema import C, In, InOut, Out, Static, Tensor, np, operator, spelling


@operator(c=C("Gemm", "c, a, b", "c, a, b, float alpha, float beta"))
def gemm(
    c: InOut[Tensor, "F *b m n"],
    a: In[Tensor, "F *b~ m k"],
    b: In[Tensor, "F *b~ k n"],
    *,
    alpha: float = 1.0,
    beta: float = 0.0,
):
    """Matrix product, accumulated: ``c = alpha * (a @ b) + beta * c``.

    Parameters
    ----------
    c : Tensor
        Shape ``(*batch, m, n)``. Written; read only where `beta` is not zero.
    a, b : Tensor
        Shapes ``(*batch, m, k)`` and ``(*batch, k, n)`` of the float dtype of `c`; batch dimensions broadcast
        to those of `c`.
    alpha, beta : float
        Factors of the product and of what `c` held.

    Returns
    -------
    Tensor
        `c`.

    Raises
    ------
    ShapeError
        ``m``, ``n``, ``k`` or a batch dimension differs.
    DTypeError
        The dtypes differ, or are no float dtype.

    Notes
    -----
    GEMM of the Level 3 BLAS (Dongarra and others, 1990) with strides for transposition. f16 and bf16 are
    accumulated in f32. With ``k = 0`` the product is zero, and so it is with ``alpha = 0``, whatever `a` and
    `b` hold.
    """
    product = alpha * np.matmul(a, b) if alpha != 0 else np.zeros(c.shape, c.dtype)
    return product if beta == 0 else product + beta * c


matmul = spelling(
    "gemm",
    "matmul(input: a, other: b, *, alpha=1.0, out: c=None)",
    """Matrix product: ``out = alpha * (input @ other)``.

    Parameters
    ----------
    input, other : Tensor
        Shapes ``(*batch, m, k)`` and ``(*batch, k, n)``, at least 2-d, of one float dtype. Batch dimensions
        broadcast.
    alpha : float
        Factor of the product.
    out : Tensor, optional
        Where the result goes: shape ``(*batch, m, n)``, same dtype.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError
        ``m``, ``n``, ``k`` or a batch dimension differs.
    DTypeError
        The dtypes differ, or are no float dtype.

    See Also
    --------
    gemm : The operator behind it, which can also accumulate.
    """,
    beta=0.0,
)


@operator
def linear(
    out: Out[Tensor, "F *r n"],
    input: In[Tensor, "F *r k"],
    weight: In[Tensor, "F n k"],
    bias: In[Tensor, "F n"] | None,
    *,
    alpha: float = 1.0,
):
    """Affine map of the last axis: ``out = alpha * input @ weight.T + bias``.

    Parameters
    ----------
    input : Tensor
        Shape ``(*rows, k)``, a float dtype.
    weight : Tensor
        Shape ``(n, k)``, same dtype.
    bias : Tensor, optional
        Shape ``(n,)``, same dtype.
    alpha : float
        Factor of the product; the bias is added unscaled.
    out : Tensor, optional
        Where the result goes: shape ``(*rows, n)``, same dtype.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError
        ``k``, ``n`` or the rows differ.
    DTypeError
        The dtypes differ, or are no float dtype.
    """
    product = alpha * np.matmul(input, weight.T)
    return product if bias is None else product + bias


def _conv_canonical(w, pads, strides, dilations):
    count = max(w.ndim - 2, 0)
    return {
        name: value if isinstance(value, (tuple, list)) else (value,) * count
        for name, value in (("pads", pads), ("strides", strides), ("dilations", dilations))
    }


def _conv_errors(x, w, b, pads, strides, dilations):
    n = w.ndim - 2
    if x.ndim != w.ndim:
        raise ShapeError(f"conv: x has ndim={x.ndim}, but w has ndim={w.ndim}")
    for name, values, least in (("pads", pads, 0), ("strides", strides, 1), ("dilations", dilations, 1)):
        if len(values) != n:
            raise InvalidArgument(f"conv: {name} has length {len(values)}, but w has {n} spatial dimensions")
        if any(value < least for value in values):
            raise InvalidArgument(f"conv: {name}={values}, but each value must be at least {least}")
    channels, group, filters = x.shape[1], w.shape[1], w.shape[0]
    if group < 1 or channels % group:
        raise ShapeError(f"conv: x has ic={channels}, which is no multiple of icg={group} of w")
    if filters % (channels // group or 1):
        raise ShapeError(f"conv: w has oc={filters}, which is no multiple of the {channels // group} groups")


def _conv_shape(x, w, pads, strides, dilations):
    spatial = []
    for size, k, pad, stride, dilation in zip(
        x.shape[2:], w.shape[2:], pads, strides, dilations, strict=True
    ):
        reach = dilation * (k - 1) + 1
        if k < 1 or size + 2 * pad < reach:
            raise ShapeError(f"conv: w reaches over {reach} positions, but padded x has {size + 2 * pad}")
        spatial.append((size + 2 * pad - reach) // stride + 1)
    return [((x.shape[0], w.shape[0], *spatial), x.dtype)]


def _conv_draw(draw, st):
    n = draw(st.integers(1, 3))
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(n))
    pads, strides, dilations = (tuple(draw(st.integers(low, 2)) for _ in range(n)) for low in (0, 1, 1))
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    spatial = tuple(draw(st.integers(max(1, r - 2 * p), r + 3)) for r, p in zip(reach, pads, strict=True))
    groups, group = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return {
        "*s": spatial,
        "*k": kernel,
        "ic": groups * group,
        "icg": group,
        "oc": groups * draw(st.integers(1, 3)),
        "pads": pads,
        "strides": strides,
        "dilations": dilations,
    }


@operator(
    python="conv(x, w, b=None, *, pads=0, strides=1, dilations=1, out=None)",
    c=C(
        "Conv",
        "y, x, w, b, void *pads, void *strides, void *dilations, size_t n@.count",
        "y, x, w, bias@b",
    ),
    canonical=_conv_canonical,
    errors=_conv_errors,
    shape=_conv_shape,
    draw=_conv_draw,
)
def conv(
    y: Out[Tensor, "F n oc *o"],
    x: In[Tensor, "F n ic *s"],
    w: In[Tensor, "F oc icg *k"],
    b: In[Tensor, "F oc"] | None,
    *,
    pads: Static[tuple[int, ...]],
    strides: Static[tuple[int, ...]],
    dilations: Static[tuple[int, ...]],
):
    """Convolution (cross-correlation) over any number of spatial dimensions, with groups.

    ``y[n, o, p] = b[o] + sum over c, k of w[o, c, k] * x[n, g * icg + c, p * strides + k * dilations -
    pads]`` with ``g = o // (oc / groups)``, and zero where `x` is left.

    Parameters
    ----------
    x : Tensor
        Shape ``(n, ic, *spatial)``, a float dtype.
    w : Tensor
        Shape ``(oc, icg, *kernel)``, same dtype. There are ``ic / icg`` groups.
    b : Tensor, optional
        Shape ``(oc,)``, same dtype.
    pads, strides, dilations : int or sequence of int
        One value per spatial dimension, or one for all: zeros added on both sides, steps of the window, and
        steps inside it.
    out : Tensor, optional
        Where the result goes: shape ``(n, oc, *o)`` with
        ``o = (spatial + 2 * pads - dilations * (kernel - 1) - 1) // strides + 1``, same dtype.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError
        Ranks or channels do not fit, or the window is larger than the padded input.
    DTypeError
        The dtypes differ, or are no float dtype.
    InvalidArgument
        There are too many or too few pads, strides or dilations, or one is out of its range.

    Notes
    -----
    The definition is that of ONNX's ``Conv`` with equal padding on both sides.
    """
    n = w.ndim - 2
    padded = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in pads)])
    windows = np.lib.stride_tricks.sliding_window_view(
        padded,
        [d * (k - 1) + 1 for k, d in zip(w.shape[2:], dilations, strict=True)],
        axis=tuple(range(2, n + 2)),
    )
    steps = (slice(None), slice(None), *(slice(None, None, s) for s in strides))
    windows = windows[steps + tuple(slice(None, None, d) for d in dilations)]
    groups = x.shape[1] // w.shape[1]
    outputs = []
    for g in range(groups):
        part = windows[:, g * w.shape[1] : (g + 1) * w.shape[1]]
        filters = w[g * w.shape[0] // groups : (g + 1) * w.shape[0] // groups]
        axes = [1, *range(part.ndim - n, part.ndim)]
        outputs.append(np.moveaxis(np.tensordot(part, filters, (axes, range(1, w.ndim))), -1, 1))
    y = np.concatenate(outputs, axis=1)
    return y if b is None else y + b.reshape(-1, *[1] * n)


def baddbmm(
    input: Tensor,
    batch1: Tensor,
    batch2: Tensor,
    *,
    beta: float = 1.0,
    alpha: float = 1.0,
    out: Tensor | None = None,
) -> Tensor:
    """A batch of matrix products on top of a tensor: ``beta * input + alpha * (batch1 @ batch2)``.

    Parameters
    ----------
    input : Tensor
        What broadcasts to ``(b, m, n)``; not read where `beta` is 0.
    batch1, batch2 : Tensor
        Shapes ``(b, m, k)`` and ``(b, k, n)``, the dtype of `input`.
    beta, alpha : float
        Factors of `input` and of the products.
    out : Tensor, optional
        Where the result goes: shape ``(b, m, n)``, same dtype. May be an input.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError
        The shapes do not fit.
    DTypeError
        The dtypes differ, or are no float dtype.

    Notes
    -----
    It is `gemm` on a copy of `input`, and runs wherever `gemm` does.

    Examples
    --------
    >>> import infinicore as ic
    >>> ones = ic.ones((2, 3, 3), dtype=ic.float32, device="cpu")
    >>> ic.baddbmm(ones[0], ones, ones, beta=10.0)[1].tolist()
    [[13.0, 13.0, 13.0], [13.0, 13.0, 13.0], [13.0, 13.0, 13.0]]
    """
    from infinicore import empty  # late: tensors exist only after the operators are read

    require_tensors("baddbmm", input=input, batch1=batch1, batch2=batch2)
    if batch1.ndim != 3 or batch2.ndim != 3:
        ranks = f"batch1 has {batch1.ndim} dimensions and batch2 has {batch2.ndim}"
        raise ShapeError(f"baddbmm: {ranks}, but both must have 3")
    shape = [batch1.shape[0], batch1.shape[1], batch2.shape[2]]
    if out is not None:
        require_tensors("baddbmm", out=out)
        if list(out.shape) != shape or out.dtype is not input.dtype:
            made = f"{input.dtype} of shape {shape}"
            raise (ShapeError if list(out.shape) != shape else DTypeError)(
                f"baddbmm: out is {out.dtype} of shape {list(out.shape)}, but the result is {made}"
            )
    # A tensor of its own, since `out` may be one of the inputs.
    result = empty(shape, dtype=input.dtype, device=input.device)
    if beta != 0:
        result.copy_(input.broadcast_to(shape))
    gemm(result, batch1, batch2, alpha=alpha, beta=beta)
    return result if out is None else out.copy_(result)
