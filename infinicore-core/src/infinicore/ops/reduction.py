# Operators that make one element of many along some dimensions.
# Dimensions may be negative in calls; kernels see them counted from the front.
"""Reductions."""

from infinicore.arguments import require_tensors
from infinicore.errors import InvalidArgument, ShapeError
from infinicore.schema import C, In, Out, Static, Tensor, canonical_axis, dim_of_input, np, operator


def _reduced(shape, dims, keepdim):
    if keepdim:
        return tuple(1 if i in dims else size for i, size in enumerate(shape))
    return tuple(size for i, size in enumerate(shape) if i not in dims)


def _dims_of(operator_name):
    """What `dim` of an operator over any set of dimensions may be: None, one int, or several."""

    def canonical(input, dim):
        if dim is None:
            return {"dim": ()}
        written = dim if isinstance(dim, (tuple, list)) else (dim,)
        dims = sorted(canonical_axis(operator_name, "dim", d, "input", input.ndim) for d in written)
        for d in dims:
            if dims.count(d) > 1:
                raise InvalidArgument(f"{operator_name}: dim={tuple(written)} names dimension {d} twice")
        return {"dim": tuple(dims)}

    return canonical


def _count(input, dim):
    """How many elements of an array make one of the result. A float64: dividing by 0 gives NaN."""
    return np.prod([input.shape[d] for d in dim or range(input.ndim)], dtype=np.float64)


def _dims_shape(input, dim, keepdim):
    return [(_reduced(input.shape, dim or range(input.ndim), keepdim), input.dtype)]


def _require_elements(operator_name, shape, dims, wanted):
    for d in dims:
        if shape[d] == 0:
            raise ShapeError(
                f"{operator_name}: input has size 0 in dimension {d}, but a {wanted} takes at least 1"
            )


def _extreme_shape(operator_name, wanted):
    """The `shape` hook of an operator that finds one value along any dimensions."""

    def shape(input, dim, keepdim):
        _require_elements(operator_name, input.shape, dim or range(input.ndim), wanted)
        return _dims_shape(input, dim, keepdim)

    return shape


def _place_shape(operator_name, wanted):
    """The `shape` hook of an operator that says where along one dimension a value is."""

    def shape(input, dim, keepdim):
        _require_elements(operator_name, input.shape, (dim,), wanted)
        return [(_reduced(input.shape, (dim,), keepdim), "i64")]

    return shape


def _value_and_place_shape(operator_name, wanted):
    """The `shape` hook of an operator that gives both."""
    place = _place_shape(operator_name, wanted)

    def shape(input, dim, keepdim):
        (found,) = place(input, dim, keepdim)
        return [(found[0], input.dtype), found]

    return shape


def _dims_draw(low):
    """Draw sizes from `low`, and which dimensions go."""

    def draw_dims(draw, st):
        shape = tuple(draw(st.lists(st.integers(low, 5), max_size=4)))
        one = [st.integers(-len(shape), len(shape) - 1)] if shape else []
        some = st.lists(st.sampled_from(range(len(shape))), unique=True).map(tuple) if shape else st.just(())
        return {"*s": shape, "dim": draw(st.one_of(st.none(), some, *one)), "keepdim": draw(st.booleans())}

    return draw_dims


def _dims_c(base, output="output", more=""):
    arguments = f"{output}, input, size_t *dim, size_t dim_size@.count, {more}bool keepdim"
    return C(base, arguments, arguments)


@operator(
    python="sum(input, dim=None, keepdim=False, out=None)",
    c=_dims_c("Sum"),
    canonical=_dims_of("sum"),
    shape=_dims_shape,
    draw=_dims_draw(0),
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


@operator(
    python="mean(input, dim=None, keepdim=False, *, out=None)",
    c=_dims_c("Mean"),
    canonical=_dims_of("mean"),
    shape=_dims_shape,
    draw=_dims_draw(0),
)
def mean(
    output: Out[Tensor, "F *o"],
    input: In[Tensor, "F *s"],
    *,
    dim: Static[tuple[int, ...]],
    keepdim: Static[bool] = False,
):
    """Arithmetic mean over some dimensions, or over all.

    Parameters
    ----------
    input : Tensor
        Any shape, a float dtype.
    dim : int or sequence of int, optional
        The dimensions that the mean is taken over; negative ones count from the end. None, or none of them,
        means all.
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
        `out` does not fit, or the dtype is no float dtype.

    Notes
    -----
    ``sum(input) / n``, rounded once: f16 and bf16 are summed in f32. The mean of nothing is NaN.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.mean(ic.from_list([[1.0, 2.0], [3.0, 6.0]]), dim=1).tolist()
    [1.5, 4.5]
    """
    return np.sum(input, axis=dim or None, keepdims=keepdim) / _count(input, dim)


@operator(
    python="prod(input, dim=None, keepdim=False, *, out=None)",
    c=_dims_c("Prod"),
    canonical=_dims_of("prod"),
    shape=_dims_shape,
    draw=_dims_draw(0),
)
def prod(
    output: Out[Tensor, "N *o"],
    input: In[Tensor, "N *s"],
    *,
    dim: Static[tuple[int, ...]],
    keepdim: Static[bool] = False,
):
    """Product over some dimensions, or over all.

    Parameters
    ----------
    input : Tensor
        Any shape, a number dtype.
    dim : int or sequence of int, optional
        The dimensions that are multiplied; negative ones count from the end. None, or none of them, means
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
    The product has the dtype of `input`: integers wrap around (cast first for a wider one). Floats are
    multiplied in f64 and rounded once. The product of nothing is 1.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.prod(ic.from_list([[1.0, 2.0], [3.0, 6.0]]), dim=1).tolist()
    [2.0, 18.0]
    """
    return np.prod(input, axis=dim or None, keepdims=keepdim, dtype=input.dtype)


@operator(
    python="var(input, dim=None, unbiased=True, keepdim=False, out=None)",
    c=_dims_c("Var", "var_output", "bool unbiased, "),
    canonical=_dims_of("var"),
    shape=_dims_shape,
    draw=_dims_draw(0),
)
def var(
    var_output: Out[Tensor, "F *o"],
    input: In[Tensor, "F *s"],
    *,
    dim: Static[tuple[int, ...]],
    unbiased: Static[bool] = True,
    keepdim: Static[bool] = False,
):
    """Variance over some dimensions, or over all.

    Parameters
    ----------
    input : Tensor
        Any shape, a float dtype.
    dim : int or sequence of int, optional
        The dimensions that the variance is taken over; negative ones count from the end. None, or none of
        them, means all.
    unbiased : bool
        Divide by ``n - 1`` (Bessel's correction), not by ``n``.
    keepdim : bool
        Keep the dimensions, with size 1.
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
        `out` does not fit, or the dtype is no float dtype.

    Notes
    -----
    ``sum((input - mean(input)) ** 2) / (n - 1)``. Partial results are joined as in Chan, Golub and LeVeque,
    "Updating formulae and a pairwise algorithm for computing sample variances" (1979). Where the divisor is
    0 or less, the variance is NaN.

    Examples
    --------
    >>> import infinicore as ic
    >>> x = ic.from_list([[1.0, 3.0], [5.0, 9.0]])
    >>> ic.var(x, dim=1).tolist(), ic.var(x, dim=1, unbiased=False).tolist()
    ([2.0, 8.0], [1.0, 4.0])
    """
    count = _count(input, dim)
    centred = input - np.sum(input, axis=dim or None, keepdims=True) / count
    squares = np.sum(centred * centred, axis=dim or None, keepdims=keepdim)
    return squares / np.maximum(count - unbiased, 0)


def _truth_shape(input, dim, keepdim):
    # A u8 tensor is a boolean one of old: what comes of it has its dtype, as in PyTorch.
    dtype = "u8" if input.dtype == "u8" else "bool"
    return [(_reduced(input.shape, dim or range(input.ndim), keepdim), dtype)]


@operator(
    python="all(input, dim=None, keepdim=False, out=None)",
    c=_dims_c("All"),
    canonical=_dims_of("all"),
    shape=_truth_shape,
    draw=_dims_draw(0),
)
def all(
    output: Out[Tensor, "bool|u8 *o"],
    input: In[Tensor, "T *s"],
    *,
    dim: Static[tuple[int, ...]],
    keepdim: Static[bool] = False,
):
    """Whether every element is true, over some dimensions or over all.

    Parameters
    ----------
    input : Tensor
        Any shape, any dtype; what is not zero is true, NaN included.
    dim : int or sequence of int, optional
        The dimensions that are tested together; negative ones count from the end. None, or none of them,
        means all.
    keepdim : bool
        Keep them, with size 1.
    out : Tensor, optional
        Where the result goes: the remaining shape, bool or u8.

    Returns
    -------
    Tensor
        `out`, or a new tensor: u8 where `input` is u8, else bool.

    Raises
    ------
    OutOfRange
        A dimension lies outside those of `input`.
    InvalidArgument
        A dimension is named twice.
    ShapeError, DTypeError
        `out` does not fit.

    Notes
    -----
    Of nothing, every element is true.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.all(ic.from_list([[1, 0], [2, 3], [0, 0]]), dim=1).tolist()
    [False, True, False]
    """
    return np.all(input, axis=dim or None, keepdims=keepdim)


@operator(
    python="any(input, dim=None, keepdim=False, out=None)",
    c=_dims_c("Any"),
    canonical=_dims_of("any"),
    shape=_truth_shape,
    draw=_dims_draw(0),
)
def any(
    output: Out[Tensor, "bool|u8 *o"],
    input: In[Tensor, "T *s"],
    *,
    dim: Static[tuple[int, ...]],
    keepdim: Static[bool] = False,
):
    """Whether some element is true, over some dimensions or over all.

    Parameters
    ----------
    input : Tensor
        Any shape, any dtype; what is not zero is true, NaN included.
    dim : int or sequence of int, optional
        The dimensions that are tested together; negative ones count from the end. None, or none of them,
        means all.
    keepdim : bool
        Keep them, with size 1.
    out : Tensor, optional
        Where the result goes: the remaining shape, bool or u8.

    Returns
    -------
    Tensor
        `out`, or a new tensor: u8 where `input` is u8, else bool.

    Raises
    ------
    OutOfRange
        A dimension lies outside those of `input`.
    InvalidArgument
        A dimension is named twice.
    ShapeError, DTypeError
        `out` does not fit.

    Notes
    -----
    Of nothing, no element is true.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.any(ic.from_list([[1, 0], [2, 3], [0, 0]]), dim=1).tolist()
    [True, True, False]
    """
    return np.any(input, axis=dim or None, keepdims=keepdim)


@operator(
    python="amax(input, dim=None, keepdim=False, *, out=None)",
    c=_dims_c("Amax"),
    canonical=_dims_of("amax"),
    shape=_extreme_shape("amax", "maximum"),
    draw=_dims_draw(1),
)
def amax(
    output: Out[Tensor, "R *o"],
    input: In[Tensor, "R *s"],
    *,
    dim: Static[tuple[int, ...]],
    keepdim: Static[bool] = False,
):
    """The largest element over some dimensions, or over all.

    Parameters
    ----------
    input : Tensor
        Any dtype with an order.
    dim : int or sequence of int, optional
        The dimensions that are searched; negative ones count from the end. None, or none of them, means
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
    ShapeError
        There is nothing to search, or `out` does not fit.
    DTypeError
        The dtype has no order.

    Notes
    -----
    Where a NaN is among the elements, the result is NaN. See `max` for the index as well.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.amax(ic.from_list([[1.0, 2.0], [3.0, 6.0]]), dim=0).tolist()
    [3.0, 6.0]
    """
    return np.max(input, axis=dim or None, keepdims=keepdim)


@operator(
    python="amin(input, dim=None, keepdim=False, *, out=None)",
    c=_dims_c("Amin"),
    canonical=_dims_of("amin"),
    shape=_extreme_shape("amin", "minimum"),
    draw=_dims_draw(1),
)
def amin(
    output: Out[Tensor, "R *o"],
    input: In[Tensor, "R *s"],
    *,
    dim: Static[tuple[int, ...]],
    keepdim: Static[bool] = False,
):
    """The smallest element over some dimensions, or over all.

    Parameters
    ----------
    input : Tensor
        Any dtype with an order.
    dim : int or sequence of int, optional
        The dimensions that are searched; negative ones count from the end. None, or none of them, means
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
    ShapeError
        There is nothing to search, or `out` does not fit.
    DTypeError
        The dtype has no order.

    Notes
    -----
    Where a NaN is among the elements, the result is NaN. See `min` for the index as well.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.amin(ic.from_list([[1.0, 2.0], [3.0, 6.0]]), dim=0).tolist()
    [1.0, 2.0]
    """
    return np.min(input, axis=dim or None, keepdims=keepdim)


def _dim_draw(draw, st):
    shape = tuple(draw(st.lists(st.integers(1, 7), min_size=1, max_size=4)))
    return {
        "*s": shape,
        "dim": draw(st.integers(-len(shape), len(shape) - 1)),
        "keepdim": draw(st.booleans()),
    }


@operator(
    name="argmax",
    python="argmax(input, dim, keepdim=False, *, out=None)",
    canonical=dim_of_input("argmax"),
    shape=_place_shape("argmax", "maximum"),
    draw=_dim_draw,
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


@operator(
    name="argmin",
    python="argmin(input, dim, keepdim=False, *, out=None)",
    canonical=dim_of_input("argmin"),
    shape=_place_shape("argmin", "minimum"),
    draw=_dim_draw,
)
def argmin_along(
    output: Out[Tensor, "i64 *o"],
    input: In[Tensor, "R *s"],
    *,
    dim: Static[int],
    keepdim: Static[bool] = False,
):
    """Index of the smallest element along one dimension; see `argmin`, which offers all of them too."""
    found = np.argmin(input, axis=dim)
    return np.expand_dims(found, dim) if keepdim else found


def argmin(
    input: Tensor, dim: int | None = None, keepdim: bool = False, *, out: Tensor | None = None
) -> Tensor:
    """Index of the smallest element, along one dimension or of the flattened tensor.

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
    Of equal elements the first wins, and NaN is smaller than everything.
    """
    if dim is not None:
        return argmin_along(input, dim, keepdim, out=out)
    flat, shape = input.reshape((-1,)), (1,) * input.ndim if keepdim else ()
    if out is None:
        return argmin_along(flat, 0).view(shape)
    if tuple(out.shape) != shape:
        raise ShapeError(f"argmin: out has shape {tuple(out.shape)}, but it must have shape {shape}")
    argmin_along(flat, 0, out=out.view(()))
    return out


@operator(
    name="max",
    python="max(input, dim, keepdim=False, *, out=None)",
    canonical=dim_of_input("max"),
    shape=_value_and_place_shape("max", "maximum"),
    draw=_dim_draw,
)
def max_along(
    values: Out[Tensor, "R *o"],
    indices: Out[Tensor, "i64 *o"],
    input: In[Tensor, "R *s"],
    *,
    dim: Static[int],
    keepdim: Static[bool] = False,
):
    """The largest element along one dimension, and its index; see `max`."""
    found = np.expand_dims(np.argmax(input, axis=dim), dim)
    values = np.take_along_axis(input, found, axis=dim)
    return (values, found) if keepdim else (np.squeeze(values, dim), np.squeeze(found, dim))


def max(
    input: Tensor,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    out: Tensor | tuple[Tensor, Tensor] | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """The largest element of the tensor, or those along one dimension with their indices.

    Parameters
    ----------
    input : Tensor
        Any dtype with an order.
    dim : int, optional
        The dimension to search; negative ones count from the end. None: the whole tensor.
    keepdim : bool
        Keep the searched dimensions, with size 1.
    out : Tensor or tuple of Tensor, optional
        Where the result goes. Without `dim` one tensor of the dtype of `input`; with it a pair, the second
        i64, both of the remaining shape.

    Returns
    -------
    Tensor or tuple of Tensor
        Without `dim` the largest element; with it ``(values, indices)``.

    Raises
    ------
    OutOfRange
        `dim` lies outside the dimensions of `input`.
    ShapeError
        There is nothing to search, or `out` does not fit.
    DTypeError
        The dtype has no order, or `out` has another dtype.

    Notes
    -----
    Of equal elements the first gives the index. A NaN counts as the largest element. For several
    dimensions at once see `amax`.

    Examples
    --------
    >>> import infinicore as ic
    >>> x = ic.from_list([[1.0, 2.0], [6.0, 3.0]])
    >>> ic.max(x).item()
    6.0
    >>> values, indices = ic.max(x, dim=0)
    >>> values.tolist(), indices.tolist()
    ([6.0, 3.0], [1, 1])
    """
    if dim is not None:
        return max_along(input, dim, keepdim, out=out)
    require_tensors("max", input=input)
    _require_elements("max", input.shape, range(input.ndim), "maximum")
    return amax(input, None, keepdim, out=out)


@operator(
    name="min",
    python="min(input, dim, keepdim=False, *, out=None)",
    canonical=dim_of_input("min"),
    shape=_value_and_place_shape("min", "minimum"),
    draw=_dim_draw,
)
def min_along(
    values: Out[Tensor, "R *o"],
    indices: Out[Tensor, "i64 *o"],
    input: In[Tensor, "R *s"],
    *,
    dim: Static[int],
    keepdim: Static[bool] = False,
):
    """The smallest element along one dimension, and its index; see `min`."""
    found = np.expand_dims(np.argmin(input, axis=dim), dim)
    values = np.take_along_axis(input, found, axis=dim)
    return (values, found) if keepdim else (np.squeeze(values, dim), np.squeeze(found, dim))


def min(
    input: Tensor,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    out: Tensor | tuple[Tensor, Tensor] | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """The smallest element of the tensor, or those along one dimension with their indices.

    Parameters
    ----------
    input : Tensor
        Any dtype with an order.
    dim : int, optional
        The dimension to search; negative ones count from the end. None: the whole tensor.
    keepdim : bool
        Keep the searched dimensions, with size 1.
    out : Tensor or tuple of Tensor, optional
        Where the result goes. Without `dim` one tensor of the dtype of `input`; with it a pair, the second
        i64, both of the remaining shape.

    Returns
    -------
    Tensor or tuple of Tensor
        Without `dim` the smallest element; with it ``(values, indices)``.

    Raises
    ------
    OutOfRange
        `dim` lies outside the dimensions of `input`.
    ShapeError
        There is nothing to search, or `out` does not fit.
    DTypeError
        The dtype has no order, or `out` has another dtype.

    Notes
    -----
    Of equal elements the first gives the index. A NaN counts as the smallest element. For several
    dimensions at once see `amin`.

    Examples
    --------
    >>> import infinicore as ic
    >>> x = ic.from_list([[1.0, 2.0], [6.0, 3.0]])
    >>> ic.min(x).item()
    1.0
    >>> values, indices = ic.min(x, dim=0)
    >>> values.tolist(), indices.tolist()
    ([1.0, 2.0], [0, 0])
    """
    if dim is not None:
        return min_along(input, dim, keepdim, out=out)
    require_tensors("min", input=input)
    _require_elements("min", input.shape, range(input.ndim), "minimum")
    return amin(input, None, keepdim, out=out)


def _cumsum_draw(draw, st):
    shape = tuple(draw(st.lists(st.integers(0, 7), min_size=1, max_size=4)))
    return {"*s": shape, "dim": draw(st.integers(-len(shape), len(shape) - 1))}


@operator(
    python="cumsum(input, dim, *, out=None)",
    inplace="input",
    canonical=dim_of_input("cumsum"),
    draw=_cumsum_draw,
)
def cumsum(output: Out[Tensor, "N *s"], input: In[Tensor, "N *s"], *, dim: Static[int]):
    """Running sums along one dimension: ``out[i] = input[0] + ... + input[i]``.

    Parameters
    ----------
    input : Tensor
        At least 1-d, a number dtype.
    dim : int
        The dimension that is summed along; negative ones count from the end.
    out : Tensor, optional
        Where the result goes: shape and dtype of `input`, which it may be.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    OutOfRange
        `dim` lies outside the dimensions of `input`, as it always does for 0-d tensors.
    ShapeError, DTypeError
        `out` does not fit, or the dtype is no number dtype.

    Notes
    -----
    The sums have the dtype of `input`: integers wrap around. Those of floats are kept in f64 and rounded
    where they are stored.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.cumsum(ic.from_list([1.0, 2.0, 3.0]), 0).tolist()
    [1.0, 3.0, 6.0]
    """
    return np.cumsum(input, axis=dim, dtype=input.dtype)
