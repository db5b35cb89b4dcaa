# Operators that make one element of many along some dimensions.
# Dimensions may be negative in calls; kernels see them counted from the front.
"""Reductions."""

from infinicore.errors import InvalidArgument, ShapeError
from infinicore.schema import C, In, Out, Static, Tensor, canonical_axis, np, operator


def _reduced(shape, dims, keepdim):
    if keepdim:
        return tuple(1 if i in dims else size for i, size in enumerate(shape))
    return tuple(size for i, size in enumerate(shape) if i not in dims)


def _sum_canonical(input, dim):
    if dim is None:
        return {"dim": ()}
    written = dim if isinstance(dim, (tuple, list)) else (dim,)
    dims = sorted(canonical_axis("sum", "dim", d, "input", input.ndim) for d in written)
    for d in dims:
        if dims.count(d) > 1:
            raise InvalidArgument(f"sum: dim={tuple(written)} names dimension {d} twice")
    return {"dim": tuple(dims)}


def _sum_shape(input, dim, keepdim):
    return [(_reduced(input.shape, dim or range(input.ndim), keepdim), input.dtype)]


def _sum_draw(draw, st):
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=4)))
    dim = st.one_of(st.none(), *([st.integers(-len(shape), len(shape) - 1)] if shape else []))
    return {"*s": shape, "dim": draw(dim), "keepdim": draw(st.booleans())}


@operator(
    python="sum(input, dim=None, keepdim=False, out=None)",
    c=C(
        "Sum",
        "output, input, size_t *dim, size_t dim_size@.count, bool keepdim",
        "output, input, size_t *dim, size_t dim_size@.count, bool keepdim",
    ),
    canonical=_sum_canonical,
    shape=_sum_shape,
    draw=_sum_draw,
)
def sum(
    output: Out[Tensor, "N *o"],
    input: In[Tensor, "N *s"],
    *,
    dim: Static[tuple[int, ...]],
    keepdim: Static[bool] = False,
):
    """Sum over some dimensions, or over all.

    Parameters
    ----------
    input : Tensor
        Any shape, a number dtype.
    dim : int or sequence of int, optional
        The dimensions that are summed over; negative ones count from the end. None, or none of them, means
        all.
    keepdim : bool
        Keep them, with size 1.
    out : Tensor, optional
        Where the result goes: the remaining shape, dtype of `input`.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    OutOfRange
        A dimension lies outside those of `input`.
    InvalidArgument
        A dimension is named twice.
    ShapeError, DTypeError
        `out` does not fit, or the dtype is no number dtype.

    Notes
    -----
    The sum has the dtype of `input`: integers wrap around (cast first for a wider sum). f16 and bf16 are
    summed in f32 and rounded once. The sum of nothing is 0.
    """
    return np.sum(input, axis=dim or None, keepdims=keepdim)


def _argmax_canonical(input, dim):
    return {"dim": canonical_axis("argmax", "dim", dim, "input", input.ndim)}


def _argmax_shape(input, dim, keepdim):
    if input.shape[dim] == 0:
        raise ShapeError(f"argmax: input has size 0 in dimension {dim}, but a maximum takes at least 1")
    return [(_reduced(input.shape, (dim,), keepdim), "i64")]


def _argmax_draw(draw, st):
    shape = tuple(draw(st.lists(st.integers(1, 7), min_size=1, max_size=4)))
    return {
        "*s": shape,
        "dim": draw(st.integers(-len(shape), len(shape) - 1)),
        "keepdim": draw(st.booleans()),
    }


@operator(
    name="argmax",
    python="argmax(input, dim, keepdim=False, *, out=None)",
    canonical=_argmax_canonical,
    shape=_argmax_shape,
    draw=_argmax_draw,
)
def argmax_along(
    output: Out[Tensor, "i64 *o"],
    input: In[Tensor, "R *s"],
    *,
    dim: Static[int],
    keepdim: Static[bool] = False,
):
    """Index of the largest element along one dimension; see `argmax`, which offers all of them too."""
    found = np.argmax(input, axis=dim)
    return np.expand_dims(found, dim) if keepdim else found


def argmax(
    input: Tensor, dim: int | None = None, keepdim: bool = False, *, out: Tensor | None = None
) -> Tensor:
    """Index of the largest element, along one dimension or of the flattened tensor.

    Parameters
    ----------
    input : Tensor
        Any dtype with an order.
    dim : int, optional
        The dimension to search; negative ones count from the end. None: the whole tensor, in row-major order.
    keepdim : bool
        Keep the searched dimensions, with size 1.
    out : Tensor, optional
        Where the result goes: the remaining shape, i64.

    Returns
    -------
    Tensor
        `out`, or a new tensor of i64.

    Raises
    ------
    OutOfRange
        `dim` lies outside the dimensions of `input`.
    ShapeError
        There is nothing to search, or `out` does not fit.
    DTypeError
        The dtype has no order, or `out` is not i64.

    Notes
    -----
    Of equal elements the first wins, and NaN is larger than everything.
    """
    if dim is not None:
        return argmax_along(input, dim, keepdim, out=out)
    flat, shape = input.reshape((-1,)), (1,) * input.ndim if keepdim else ()
    if out is None:
        return argmax_along(flat, 0).view(shape)
    if tuple(out.shape) != shape:
        raise ShapeError(f"argmax: out has shape {tuple(out.shape)}, but it must have shape {shape}")
    argmax_along(flat, 0, out=out.view(()))
    return out
