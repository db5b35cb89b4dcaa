# Operators that move elements: rows of a table, tensors end to end, another layout, gather and scatter.
# Those that compute nothing take every element type.
"""Indexing and copying operators."""

from enum import IntEnum

from infinicore.arguments import require_integers, require_tensors
from infinicore.errors import ArgumentTypeError, DTypeError, InvalidArgument, ShapeError
from infinicore.schema import (
    VARIABLES,
    C,
    Elements,
    In,
    Out,
    Static,
    Tensor,
    TensorList,
    canonical_axis,
    check_indices,
    dim_of_input,
    np,
    operator,
)


def _embedding_draw(draw, st):
    rows = draw(st.integers(1, 9))
    return {"v": rows, "input": Elements(0, rows - 1)}


@operator(
    python="embedding(input, weight, padding_idx=None, max_norm=None, norm_type=2.0, "
    "scale_grad_by_freq=False, sparse=False, *, out=None)",
    c=C("Embedding", "output@out, input, weight", "output@out, input, weight", workspace=False),
    draw=_embedding_draw,
)
def embedding(out: Out[Tensor, "T *s h"], input: In[Tensor, "I *s"], weight: In[Tensor, "T v h"]):
    """Rows of a table: ``out[..., :] = weight[input[...]]``.

    Parameters
    ----------
    input : Tensor
        Row numbers, shape ``(*s)``, any integer dtype.
    weight : Tensor
        Shape ``(v, h)``, any dtype.
    padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse
        Accepted with their defaults only.
    out : Tensor, optional
        Where the result goes: shape ``(*s, h)``, dtype of `weight`.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    OutOfRange
        A row number is negative, or ``v`` or more (where a device can check it).
    ShapeError, DTypeError
        `weight` is not 2-d, `input` is not integer, or `out` does not fit.
    """
    check_indices("embedding", "input", input, "weight", "v", len(weight))
    return weight[input]


def _cat_canonical(tensors, dim):
    return {"dim": canonical_axis("cat", "dim", dim, "tensors[0]", tensors[0].ndim)}


def _cat_shape(tensors, dim):
    first = tensors[0].shape
    for i, other in enumerate(tensors):
        if other.ndim != len(first):
            raise ShapeError(f"cat: tensors[{i}] has ndim={other.ndim}, but tensors[0] has ndim={len(first)}")
        for axis, (size, wanted) in enumerate(zip(other.shape, first, strict=True)):
            if axis != dim and size != wanted:
                raise ShapeError(
                    f"cat: tensors[{i}] has size {size} in dimension {axis}, but tensors[0] has {wanted}"
                )
    total = sum(other.shape[dim] for other in tensors)
    return [((*first[:dim], total, *first[dim + 1 :]), tensors[0].dtype)]


def _cat_draw(draw, st):
    shape = draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
    dim = draw(st.integers(0, len(shape) - 1))
    sizes = draw(st.lists(st.integers(0, 5), min_size=1, max_size=4))
    return {
        "tensors": [(*shape[:dim], size, *shape[dim + 1 :]) for size in sizes],
        "dim": draw(st.sampled_from([dim, dim - len(shape)])),
    }


@operator(
    python="cat(tensors, dim=0, *, out=None)",
    canonical=_cat_canonical,
    shape=_cat_shape,
    draw=_cat_draw,
)
def cat(out: Out[Tensor, "T *o"], tensors: In[TensorList, "T *i"], *, dim: Static[int] = 0):
    """Tensors end to end along one dimension.

    Parameters
    ----------
    tensors : sequence of Tensor
        At least one, of one dtype, whichever; their shapes agree except in `dim`.
    dim : int
        The dimension that grows; negative ones count from the end.
    out : Tensor, optional
        Where the result goes: the common shape with the sum of the sizes in `dim`, same dtype.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError
        Shapes disagree outside `dim`.
    DTypeError
        The dtypes differ.
    OutOfRange
        `dim` lies outside the dimensions, as it always does for 0-d tensors.
    InvalidArgument
        `tensors` is empty.
    """
    return np.concatenate(tensors, axis=dim)


@operator(
    python="rearrange(input: src, other=None, *, out=None)",
    inplace="src",
    c=C("Rearrange", suffix="", workspace=False),
)
def rearrange(dst: Out[Tensor, "T *s"], src: In[Tensor, "T *s"]):
    """Copy between layouts: ``out = input``, element by element, whatever the strides.

    Parameters
    ----------
    input : Tensor
        Any shape, dtype and strides.
    other : None
        Reserved.
    out : Tensor, optional
        Where the copy goes: same shape and dtype, any strides. May be `input`.

    Returns
    -------
    Tensor
        `out`, or a new contiguous tensor.

    Raises
    ------
    ShapeError, DTypeError
        `out` differs from `input`.
    """
    return src.copy()


def stack(tensors: list[Tensor] | tuple[Tensor, ...], dim: int = 0, *, out: Tensor | None = None) -> Tensor:
    """Tensors of one shape side by side along a new dimension.

    Parameters
    ----------
    tensors : sequence of Tensor
        At least one, of one shape and dtype, whichever.
    dim : int
        Where the new dimension goes; negative ones count from the end of the result's dimensions.
    out : Tensor, optional
        Where the result goes: the common shape with ``len(tensors)`` inserted at `dim`, same dtype.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    ShapeError, DTypeError
        The shapes or dtypes differ, or `out` does not fit.
    OutOfRange
        `dim` lies outside the dimensions of the result.
    InvalidArgument
        `tensors` is empty.

    Notes
    -----
    It is `cat` of views with one more dimension, and runs wherever `cat` does.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.stack([ic.from_list([1, 2]), ic.from_list([3, 4])], dim=1).tolist()
    [[1, 3], [2, 4]]
    """
    if not isinstance(tensors, (list, tuple)):
        raise ArgumentTypeError(
            f"stack: tensors must be a list or tuple of infinicore.Tensor, not {type(tensors).__name__}"
        )
    require_tensors("stack", **{f"tensors[{i}]": tensor for i, tensor in enumerate(tensors)})
    if not tensors:
        raise InvalidArgument("stack: tensors has 0 tensors, but must have at least 1")
    first = tensors[0]
    for i, other in enumerate(tensors):
        if tuple(other.shape) != tuple(first.shape):
            mine, others = tuple(first.shape), tuple(other.shape)
            raise ShapeError(f"stack: tensors[{i}] has shape {others}, but tensors[0] has shape {mine}")
        if other.dtype is not first.dtype:
            raise DTypeError(f"stack: tensors[{i}] has {other.dtype}, but tensors[0] has {first.dtype}")
    at = canonical_axis("stack", "dim", dim, "the result", first.ndim + 1)
    return cat([tensor.unsqueeze(at) for tensor in tensors], at, out=out)


def split(
    tensor: Tensor, split_size_or_sections: int | list[int] | tuple[int, ...], dim: int = 0
) -> tuple[Tensor, ...]:
    """Cut a tensor along one dimension. Nothing is copied: the pieces are views.

    Parameters
    ----------
    tensor : Tensor
        At least 1-d.
    split_size_or_sections : int or sequence of int
        The size of each piece, of which the last may be smaller; or the sizes of all, which add up to the
        dimension's.
    dim : int
        The dimension that is cut; negative ones count from the end.

    Returns
    -------
    tuple of Tensor
        At least one view of `tensor`.

    Raises
    ------
    OutOfRange
        `dim` lies outside the dimensions of `tensor`.
    InvalidArgument
        A size is negative, is 0 where the dimension's is not, or the sizes do not add up to it.

    Examples
    --------
    >>> import infinicore as ic
    >>> [piece.tolist() for piece in ic.split(ic.from_list([1, 2, 3, 4, 5]), 2)]
    [[1, 2], [3, 4], [5]]
    """
    require_tensors("split", tensor=tensor)
    axis = canonical_axis("split", "dim", dim, "tensor", tensor.ndim)
    total = tensor.shape[axis]
    if isinstance(split_size_or_sections, int):
        size = split_size_or_sections
        if size < 0 or (size == 0 and total > 0):
            raise InvalidArgument(
                f"split: split_size_or_sections={size}, but a piece of dimension {axis}, which has size "
                f"{total}, must have at least 1"
            )
        sizes = [min(size, total - start) for start in range(0, total, size)] if total else [0]
    else:
        if not isinstance(split_size_or_sections, (list, tuple)):
            kind = type(split_size_or_sections).__name__
            raise ArgumentTypeError(
                "split: split_size_or_sections must be an int or a list or tuple of ints, got "
                f"{split_size_or_sections!r} ({kind})"
            )
        sizes = list(split_size_or_sections)
        for size in sizes:
            require_integers("split", split_size_or_sections=size)
        if any(size < 0 for size in sizes) or sum(sizes) != total:
            raise InvalidArgument(
                f"split: split_size_or_sections={sizes} must be sizes that add up to {total}, the size of "
                f"dimension {axis}"
            )
    pieces, start = [], 0
    for size in sizes:
        pieces.append(tensor.narrow(axis, start, size))
        start += size
    return tuple(pieces)


def _check_extents(operator_name, name, spec, of, limit, dim=None):
    """`spec` of argument `name` has the rank of `limit` and is nowhere larger, `dim` aside."""
    if spec.ndim != limit.ndim:
        raise ShapeError(f"{operator_name}: {name} has ndim={spec.ndim}, but {of} has ndim={limit.ndim}")
    for axis, (size, most) in enumerate(zip(spec.shape, limit.shape, strict=True)):
        if axis != dim and size > most:
            raise ShapeError(
                f"{operator_name}: {name} has size {size} in dimension {axis}, but {of} has {most}"
            )


def _draw_smaller(draw, st, shape, dim):
    """A shape that is nowhere larger than `shape`, but anything along `dim`."""
    return tuple(
        draw(st.integers(0, 5)) if axis == dim else draw(st.integers(0, size))
        for axis, size in enumerate(shape)
    )


def _gather_errors(input, index, dim):
    _check_extents("gather", "index", index, "input", input, dim)


def _gather_draw(draw, st):
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    dim = draw(st.integers(0, len(shape) - 1))
    return {
        "*s": tuple(shape),
        "*o": _draw_smaller(draw, st, shape, dim),
        "index": Elements(0, shape[dim] - 1),
        "dim": draw(st.sampled_from([dim, dim - len(shape)])),
    }


@operator(
    python="gather(input, dim, index, *, out=None)",
    canonical=dim_of_input("gather"),
    errors=_gather_errors,
    draw=_gather_draw,
)
def gather(
    out: Out[Tensor, "T *o"], input: In[Tensor, "T *s"], index: In[Tensor, "I *o"], *, dim: Static[int]
):
    """Elements picked along one dimension, each by an index of its own.

    Parameters
    ----------
    input : Tensor
        At least 1-d, any dtype.
    dim : int
        The dimension that is indexed; negative ones count from the end.
    index : Tensor
        As many dimensions as `input`, in none but `dim` larger; any integer dtype.
    out : Tensor, optional
        Where the result goes: shape of `index`, dtype of `input`.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    OutOfRange
        `dim` lies outside the dimensions, or an index outside ``range(input.shape[dim])`` (where a device
        can check it). `out` is untouched then.
    ShapeError, DTypeError
        `index` does not fit `input` or is not integer, or `out` does not fit.

    Notes
    -----
    For ``dim=1`` of three: ``out[i, j, k] = input[i, index[i, j, k], k]``, as `torch.gather` defines it.

    Examples
    --------
    >>> import infinicore as ic
    >>> x = ic.from_list([[1, 2], [3, 4]])
    >>> ic.gather(x, 1, ic.from_list([[0, 0], [1, 0]])).tolist()
    [[1, 1], [4, 3]]
    """
    check_indices("gather", "index", index, "input", f"shape[{dim}]", input.shape[dim])
    covered = tuple(slice(None if axis == dim else size) for axis, size in enumerate(index.shape))
    return np.take_along_axis(input[covered], index.astype(np.int64), dim)


def _index_select_shape(input, index, dim):
    return [((*input.shape[:dim], *index.shape, *input.shape[dim + 1 :]), input.dtype)]


def _index_select_draw(draw, st):
    shape = draw(st.lists(st.integers(0, 5), min_size=1, max_size=4))
    dim = draw(st.integers(0, len(shape) - 1))
    shape[dim] += 1
    return {
        "*s": tuple(shape),
        "n": draw(st.integers(0, 7)),
        "index": Elements(0, shape[dim] - 1),
        "dim": draw(st.sampled_from([dim, dim - len(shape)])),
    }


@operator(
    python="index_select(input, dim, index, *, out=None)",
    canonical=dim_of_input("index_select"),
    shape=_index_select_shape,
    draw=_index_select_draw,
)
def index_select(
    out: Out[Tensor, "T *o"], input: In[Tensor, "T *s"], index: In[Tensor, "I n"], *, dim: Static[int]
):
    """Slices of a tensor, picked along one dimension in any order and as often as wanted.

    Parameters
    ----------
    input : Tensor
        At least 1-d, any dtype.
    dim : int
        The dimension that is indexed; negative ones count from the end.
    index : Tensor
        Shape ``(n,)``, any integer dtype.
    out : Tensor, optional
        Where the result goes: shape of `input` with ``n`` in `dim`, dtype of `input`.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    OutOfRange
        `dim` lies outside the dimensions, or an index outside ``range(input.shape[dim])`` (where a device
        can check it). `out` is untouched then.
    ShapeError, DTypeError
        `index` is not 1-d or not integer, or `out` does not fit.

    Examples
    --------
    >>> import infinicore as ic
    >>> x = ic.from_list([[1, 2], [3, 4]])
    >>> ic.index_select(x, 1, ic.from_list([1, 1, 0])).tolist()
    [[2, 2, 1], [4, 4, 3]]
    """
    check_indices("index_select", "index", index, "input", f"shape[{dim}]", input.shape[dim])
    return np.take(input, index.astype(np.int64), dim)


def _index_add_errors(input, index, source, dim):
    wanted = (*input.shape[:dim], *index.shape, *input.shape[dim + 1 :])
    if source.shape != wanted:
        raise ShapeError(
            f"index_add: source has shape {source.shape}, but it must have shape {wanted}: that of input "
            f"with n={index.shape[0]} of index in dimension {dim}"
        )


def _index_add_guard(input, alpha):
    # Also infinity and NaN differ from any int.
    if input.dtype[0] in "iu" and not float(alpha).is_integer():
        raise InvalidArgument(f"index_add: alpha={alpha}, but it must be whole for {input.dtype} elements")


def _index_add_draw(draw, st):
    said = _index_select_draw(draw, st)
    shape, dim = said["*s"], said["dim"] % len(said["*s"])
    said["*r"] = (*shape[:dim], said["n"], *shape[dim + 1 :])
    # Small terms: sums of a few of them are known to a few units in the last place of 8.
    said["source"] = Elements(-1, 1)
    said["alpha"] = draw(st.sampled_from([1.0, 0.0, -1.0, 2.0]))
    return said


@operator(
    python="index_add(input, dim, index, source, *, alpha=1.0, out=None)",
    inplace="input",
    c=C(
        "IndexAdd",
        "output@out, input, int64_t dim, index, source, float alpha",
        "output@out, input, index, source",
        suffix="",
    ),
    canonical=dim_of_input("index_add"),
    errors=_index_add_errors,
    guard=_index_add_guard,
    draw=_index_add_draw,
)
def index_add(
    out: Out[Tensor, "N *s"],
    input: In[Tensor, "N *s"],
    index: In[Tensor, "I n"],
    source: In[Tensor, "N *r"],
    *,
    dim: Static[int],
    alpha: float = 1.0,
):
    """A copy of `input` to whose slices along one dimension slices of `source` are added.

    Parameters
    ----------
    input : Tensor
        At least 1-d, a number dtype.
    dim : int
        The dimension that is indexed; negative ones count from the end.
    index : Tensor
        Where each slice of `source` goes: shape ``(n,)``, any integer dtype.
    source : Tensor
        Shape of `input` with ``n`` in `dim`, dtype of `input`.
    alpha : float
        Multiplies `source`; whole for integers.
    out : Tensor, optional
        Where the result goes: shape and dtype of `input`. May be `input`.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    OutOfRange
        `dim` lies outside the dimensions, or an index outside ``range(input.shape[dim])`` (where a device
        can check it). `out` is untouched then.
    ShapeError, DTypeError
        `source` or `out` does not fit, or `index` is not integer.
    InvalidArgument
        `alpha` is not whole, but the elements are integers.

    Notes
    -----
    For ``dim=0``: ``out[index[i], ...] += alpha * source[i, ...]`` for each ``i`` in turn, as
    `torch.index_add` defines it. Terms of one element are added in the order of `index`, so that equal calls
    give equal bits; f16 and bf16 in f32 and rounded once, integers wrap around.

    Examples
    --------
    >>> import infinicore as ic
    >>> x = ic.from_list([1, 1, 1])
    >>> ic.index_add(x, 0, ic.from_list([2, 0, 2]), ic.from_list([1, 2, 3])).tolist()
    [3, 1, 5]
    """
    check_indices("index_add", "index", index, "input", f"shape[{dim}]", input.shape[dim])
    whole = input.dtype.kind in "iu"
    scale = np.asarray(int(alpha) if whole else alpha).astype(input.dtype)
    result = input.copy()
    np.add.at(np.moveaxis(result, dim, 0), index.astype(np.int64), scale * np.moveaxis(source, dim, 0))
    return result


class _Reduction(IntEnum):
    """How `scatter` joins an update with what is there."""

    NONE = 0
    ADD = 1
    MULTIPLY = 2


_SCATTER_NUMBERS = (*VARIABLES["F"], *VARIABLES["I"])


def _scatter_errors(input, index, src, dim, reduction):
    _check_extents("scatter", "index", index, "input", input, dim)
    _check_extents("scatter", "index", index, "src", src)
    if reduction != _Reduction.NONE and input.dtype not in _SCATTER_NUMBERS:
        raise DTypeError(
            f"scatter: input has T={input.dtype}, but reduction={reduction.name.lower()!r} takes one of "
            f"{', '.join(_SCATTER_NUMBERS)}"
        )


def _scatter_draw(draw, st):
    said = _gather_draw(draw, st)
    index = said.pop("*o")
    said["*i"] = index
    said["*r"] = tuple(size + draw(st.integers(0, 2)) for size in index)
    said["reduction"] = draw(st.sampled_from(list(_Reduction)))
    if said["reduction"] != _Reduction.NONE:
        said["T"] = draw(st.sampled_from(_SCATTER_NUMBERS))
    return said


@operator(
    name="scatter",
    python="scatter(input, index, src, dim, reduction=..., *, out=None)",
    inplace="input",
    c=C(
        "Scatter",
        "output@out, input, indices@index, updates@src, int axis@dim, int reduction",
        "output@out, input, indices@index, updates@src",
        suffix="",
    ),
    canonical=dim_of_input("scatter"),
    errors=_scatter_errors,
    draw=_scatter_draw,
)
def scatter_along(
    out: Out[Tensor, "T *s"],
    input: In[Tensor, "T *s"],
    index: In[Tensor, "I *i"],
    src: In[Tensor, "T *r"],
    *,
    dim: Static[int],
    reduction: Static[_Reduction] = _Reduction.NONE,
):
    """A copy of a tensor with some elements replaced; see `scatter`, which takes `reduction` by name."""
    check_indices("scatter", "index", index, "input", f"shape[{dim}]", input.shape[dim])
    result = input.copy()
    covered = tuple(map(slice, index.shape))
    # Views with `dim` last (of the target) and first (of the updates): one update per line at a time.
    lines = tuple(slice(size) for axis, size in enumerate(index.shape) if axis != dim)
    target = np.moveaxis(result, dim, -1)[lines]
    for where, new in zip(np.moveaxis(index, dim, 0), np.moveaxis(src[covered], dim, 0), strict=True):
        where = where[..., None].astype(np.int64)
        new = new[..., None]
        if reduction == _Reduction.ADD:
            new = np.take_along_axis(target, where, -1) + new
        elif reduction == _Reduction.MULTIPLY:
            new = np.take_along_axis(target, where, -1) * new
        np.put_along_axis(target, where, new, -1)
    return result


_REDUCTIONS = {member.name.lower(): member for member in _Reduction}


def scatter(
    input: Tensor, index: Tensor, src: Tensor, dim: int, reduction: str = "none", *, out: Tensor | None = None
) -> Tensor:
    """A copy of a tensor with some elements along one dimension replaced, each at an index of its own.

    Parameters
    ----------
    input : Tensor
        At least 1-d, any dtype; with a reduction, integers and f16, bf16, f32, f64.
    index : Tensor
        As many dimensions as `input`, in none but `dim` larger; any integer dtype.
    src : Tensor
        The updates: dtype of `input`, nowhere smaller than `index`. What `index` does not cover is not read.
    dim : int
        The dimension that is indexed; negative ones count from the end.
    reduction : str
        What happens to an element: ``"none"`` replaces it, ``"add"`` adds the update, ``"multiply"``
        multiplies by it.
    out : Tensor, optional
        Where the result goes: shape and dtype of `input`. May be `input`.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    OutOfRange
        `dim` lies outside the dimensions, or an index outside ``range(input.shape[dim])`` (where a device
        can check it). `out` is untouched then.
    ShapeError, DTypeError
        `index`, `src` or `out` does not fit, or the dtype has no such reduction.
    InvalidArgument
        `reduction` is another word.

    Notes
    -----
    For ``dim=1`` of three: ``out[i, index[i, j, k], k] = src[i, j, k]``, as `torch.scatter` defines it. Of
    several updates of one element the last along `dim` wins, or they are applied in that order, so that equal
    calls give equal bits; f16 and bf16 are computed in f32 and rounded once, integers wrap around.

    Examples
    --------
    >>> import infinicore as ic
    >>> x, index, src = ic.from_list([1, 1, 1]), ic.from_list([2, 0, 2]), ic.from_list([5, 6, 7])
    >>> ic.scatter(x, index, src, 0).tolist()
    [6, 1, 7]
    >>> ic.scatter(x, index, src, 0, "add").tolist()
    [7, 1, 13]
    """
    member = _REDUCTIONS.get(reduction) if isinstance(reduction, str) else reduction
    if member is None:
        words = ", ".join(map(repr, _REDUCTIONS))
        raise InvalidArgument(f"scatter: reduction={reduction!r}, but it must be one of {words}")
    return scatter_along(input, index, src, dim, member, out=out)


@operator(python="count_nonzero(input, *, out=None)")
def count_nonzero(output: Out[Tensor, "i64"], input: In[Tensor, "R *s"]):
    """How many elements are not zero.

    Parameters
    ----------
    input : Tensor
        Any shape; integers, floats or bool.
    out : Tensor, optional
        Where the result goes: 0-d, i64.

    Returns
    -------
    Tensor
        `out`, or a new 0-d tensor of i64.

    Raises
    ------
    ShapeError, DTypeError
        `out` does not fit, or the dtype is another.

    Notes
    -----
    -0 is zero, NaN is not.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.count_nonzero(ic.from_list([0, 5, 0, 7])).item()
    2
    """
    return np.asarray(np.count_nonzero(input), np.int64)


def _selected_shape():
    return [(None, None)]  # what `out` says


def _selected_count(input, mask):
    full = np.broadcast_shapes(input.shape, mask.shape)
    return {"n": int(np.count_nonzero(np.broadcast_to(mask, full)))}


@operator(
    name="masked_select",
    python="masked_select(input, mask, *, out=None)",
    c=C(
        "MaskedSelect",
        "input, mask",
        "input, const bool *mask, void **data_ptr@out, size_t *dlen@[n]",
    ),
    shape=_selected_shape,
    count=_selected_count,
)
def masked_select_counted(out: Out[Tensor, "T n"], input: In[Tensor, "T *s~"], mask: In[Tensor, "bool *s~"]):
    """Elements where a mask is true, into as many as there are; see `masked_select`, which counts them."""
    input, mask = np.broadcast_arrays(input, mask)
    selected = input[mask]
    if selected.shape != out.shape:
        raise ShapeError(f"masked_select: out has n={len(out)}, but mask selects {len(selected)}")
    return selected


def masked_select(input: Tensor, mask: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Elements where a mask is true, in row-major order.

    Parameters
    ----------
    input : Tensor
        Any shape and dtype.
    mask : Tensor
        Bool; broadcasts with `input`.
    out : Tensor, optional
        Where the result goes: 1-d, as long as what is selected, dtype of `input`.

    Returns
    -------
    Tensor
        `out`, or a new 1-d tensor.

    Raises
    ------
    ShapeError, DTypeError
        The shapes do not broadcast, `mask` is not bool, or `out` does not have the size of the result (where
        a device can check it).

    Notes
    -----
    The size of the result depends on the elements of `mask`. Without `out` the call has two steps:
    `count_nonzero` of `mask` runs on the device, the host waits for the number, and the result is allocated
    for the second. With `out`, which must have the right size, nothing waits: a program that knows the count
    passes it, and only such calls can be recorded in a graph.

    Examples
    --------
    >>> import infinicore as ic
    >>> x = ic.from_list([3, 1, 4, 1, 5])
    >>> ic.masked_select(x, x > 2).tolist()
    [3, 4, 5]
    """
    if out is None:
        count = _count_selected(input, mask)
        if count is not None:
            from infinicore.creation import empty

            out = empty((count,), dtype=input.dtype, device=input.device)
    return masked_select_counted(input, mask, out=out)


def _count_selected(input, mask):
    """Length of the result, or None for arguments that the operator itself refuses."""
    try:
        shapes, same = (tuple(input.shape), tuple(mask.shape)), input.device == mask.device
    except AttributeError:
        return None
    if not same or mask.dtype.short != "bool":
        return None
    rank = max(map(len, shapes))
    total = 1
    for a, b in zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True):
        if a != b and 1 not in (a, b):
            return None
        total *= b if a == 1 else a
    # Where the mask is smaller, each of its elements stands for equally many.
    return count_nonzero(mask).item() * (total // mask.numel()) if total else 0
