# Order along one dimension: all of it, or only its best. Both say where the elements came from.
# One order holds for both and for argmax: NaN is larger than everything, -0 equals 0, and of equals the one
# with the lower index comes first.
"""Sorting operators."""

from infinicore.errors import OutOfRange
from infinicore.schema import C, In, Out, Static, Tensor, dim_of_input, np, operator


def _order(x, dim, descending):
    """Indices that sort `x` stably; NaN is the largest."""
    if not descending:
        return np.argsort(x, axis=dim, kind="stable")
    # Sorted backwards from the back, equal elements keep their order.
    order = np.flip(np.argsort(np.flip(x, dim), axis=dim, kind="stable"), dim)
    return x.shape[dim] - 1 - order


def _sort_shape(input):
    return [(input.shape, input.dtype), (input.shape, "i64")]


def _sort_draw(draw, st):
    shape = draw(st.lists(st.integers(0, 6), max_size=2))
    dim = draw(st.integers(0, len(shape)))
    # Long enough, now and then, for more than insertion.
    shape.insert(dim, draw(st.sampled_from([0, 1, 2, 3, 5, 17, 33, 300, 1025])))
    return {
        "*s": tuple(shape),
        "dim": draw(st.sampled_from([dim, dim - len(shape)])),
        "descending": draw(st.booleans()),
    }


@operator(
    python="sort(input, dim=-1, descending=False, stable=True, *, out=None)",
    canonical=dim_of_input("sort"),
    shape=_sort_shape,
    draw=_sort_draw,
)
def sort(
    values: Out[Tensor, "R *s"],
    indices: Out[Tensor, "i32|i64 *s"],
    input: In[Tensor, "R *s"],
    *,
    dim: Static[int] = -1,
    descending: Static[bool] = False,
):
    """Elements in order along one dimension, and where they came from.

    Parameters
    ----------
    input : Tensor
        At least 1-d, any dtype with an order.
    dim : int
        The dimension to sort; negative ones count from the end.
    descending : bool
        The largest first.
    stable : bool
        Accepted with its default only: equal elements always keep their order.
    out : tuple of Tensor, optional
        Where values and indices go: shape of `input`; its dtype, and i64 or i32.

    Returns
    -------
    values, indices : Tensor
        `out`, or new tensors; indices are i64 then. ``values = gather(input, dim, indices)``.

    Raises
    ------
    OutOfRange
        `dim` lies outside the dimensions of `input`, as it always does for 0-d tensors.
    ShapeError, DTypeError
        `out` does not fit, or the dtype has no order.

    Notes
    -----
    NaN is larger than everything, as in `torch.sort`: the last, or the first of a descending order. -0 equals
    0.

    Examples
    --------
    >>> import infinicore as ic
    >>> values, indices = ic.sort(ic.from_list([3, 1, 2, 1]))
    >>> values.tolist(), indices.tolist()
    ([1, 1, 2, 3], [1, 3, 2, 0])
    """
    order = _order(input, dim, descending)
    return np.take_along_axis(input, order, dim), order


def _topk_errors(input, k, dim):
    if not 0 <= k <= input.shape[dim]:
        raise OutOfRange(f"topk: k={k} is out of range for input, which has shape[{dim}]={input.shape[dim]}")


def _topk_shape(input, k, dim):
    shape = (*input.shape[:dim], k, *input.shape[dim + 1 :])
    return [(shape, input.dtype), (shape, "i64")]


def _topk_draw(draw, st):
    said = _sort_draw(draw, st)
    del said["descending"]
    size = said["*s"][said["dim"]]
    said["k"] = draw(st.sampled_from(sorted({0, min(1, size), min(3, size), size // 2, size})))
    return said | {"largest": draw(st.booleans()), "sorted": draw(st.booleans())}


_TOPK = "values_output@values, indices_output@indices, input, size_t k, size_t dim, bool largest, bool sorted"


@operator(
    python="topk(input, k, dim, largest=True, sorted=True, out=None)",
    c=C("TopK", _TOPK, _TOPK),
    canonical=dim_of_input("topk"),
    shape=_topk_shape,
    errors=_topk_errors,
    draw=_topk_draw,
)
def topk(
    values: Out[Tensor, "R *o"],
    indices: Out[Tensor, "i32|i64 *o"],
    input: In[Tensor, "R *s"],
    *,
    k: Static[int],
    dim: Static[int],
    largest: Static[bool] = True,
    sorted: Static[bool] = True,
):
    """The largest or smallest elements along one dimension, and where they came from.

    Parameters
    ----------
    input : Tensor
        At least 1-d, any dtype with an order.
    k : int
        How many, at most the size of the dimension.
    dim : int
        The dimension to search; negative ones count from the end.
    largest : bool
        The `k` largest; else the `k` smallest.
    sorted : bool
        The best first; else in the order in which `input` has them.
    out : tuple of Tensor, optional
        Where values and indices go: shape of `input` with `k` in `dim`; its dtype, and i64 or i32.

    Returns
    -------
    values, indices : Tensor
        `out`, or new tensors; indices are i64 then. ``values = gather(input, dim, indices)``.

    Raises
    ------
    OutOfRange
        `dim` lies outside the dimensions of `input`, or `k` outside 0 to the size of `dim`.
    ShapeError, DTypeError
        `out` does not fit, or the dtype has no order.

    Notes
    -----
    NaN is larger than everything, as in `torch.topk`. Of equal elements those with lower indices are taken,
    and come first.

    Examples
    --------
    >>> import infinicore as ic
    >>> values, indices = ic.topk(ic.from_list([3, 1, 4, 1, 5]), 2, 0)
    >>> values.tolist(), indices.tolist()
    ([5, 4], [4, 2])
    """
    order = np.take(_order(input, dim, largest), range(k), dim)
    if not sorted:
        order = np.sort(order, dim)
    return np.take_along_axis(input, order, dim), order
