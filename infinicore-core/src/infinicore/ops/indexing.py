# Operators that move elements and compute nothing: rows of a table, tensors end to end, another layout.
# They take every element type.
"""Indexing and copying operators."""

from infinicore.errors import ShapeError
from infinicore.schema import (
    C,
    Elements,
    In,
    Out,
    Static,
    Tensor,
    TensorList,
    canonical_axis,
    check_indices,
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
