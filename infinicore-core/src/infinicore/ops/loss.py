# Operators that measure how far a prediction lies from a target.
# How a loss is reduced is a name in Python and a number in the slot, as in PyTorch.
"""Losses."""

from enum import IntEnum

from infinicore.errors import InvalidArgument, ShapeError
from infinicore.schema import C, Elements, In, Out, Spec, Static, Tensor, check_indices, np, operator


class Reduction(IntEnum):
    """What becomes of the losses of all positions."""

    NONE = 0
    MEAN = 1
    SUM = 2


def _class_axis(x, target):
    """The dimension of the logits that counts classes: what remains is the shape of the targets."""
    shape, wanted = tuple(x.shape), tuple(target.shape)
    first = min(1, len(shape) - 1)
    for axis in (first, len(shape) - 1):
        if axis >= 0 and shape[:axis] + shape[axis + 1 :] == wanted:
            return axis
    if not shape:
        raise ShapeError("cross_entropy: logits has ndim=0, but must have a dimension of classes")
    fitting = " or ".join(dict.fromkeys(map(str, (shape[:first] + shape[first + 1 :], shape[:-1]))))
    raise ShapeError(f"cross_entropy: target has shape {wanted}, but logits of shape {shape} takes {fitting}")


def _cross_entropy_shape(x, target, reduction):
    return [(() if reduction else target.shape, x.dtype)]


def _cross_entropy_errors(x, target, weight):
    n = x.shape[_class_axis(x, target)]
    if n == 0:
        raise ShapeError("cross_entropy: logits has n=0 classes, but a target takes at least 1")
    if weight is not None and weight.shape[0] != n:
        raise ShapeError(f"cross_entropy: weight has n={weight.shape[0]}, but logits has n={n} classes")


def _cross_entropy_draw(draw, st):
    n, shape = draw(st.integers(1, 33)), tuple(draw(st.lists(st.integers(0, 7), max_size=3)))
    second = min(1, len(shape))
    axis = draw(st.sampled_from([second, len(shape)]))
    logits = (*shape[:axis], n, *shape[axis:])
    if _class_axis(Spec(logits, "f32"), Spec(shape, "i64")) != axis:  # it can be read either way
        logits = (*shape[:second], n, *shape[second:])
    return {
        "*s": logits,
        "*p": shape,
        "n": n,
        "target": Elements(-1, n - 1),
        "weight": Elements(0.25, 3),
        "ignore_index": -1,
        "reduction": draw(st.sampled_from(list(Reduction))),
    }


@operator(
    name="cross_entropy",
    python="cross_entropy(logits: x, target, weight=None, *, ignore_index=..., reduction=..., out=None)",
    c=C("CrossEntropy", "y, x, target", "y, x, target"),
    shape=_cross_entropy_shape,
    errors=_cross_entropy_errors,
    draw=_cross_entropy_draw,
)
def cross_entropy_of(
    y: Out[Tensor, "F *o"],
    x: In[Tensor, "F *s"],
    target: In[Tensor, "I *p"],
    weight: In[Tensor, "F n"] | None,
    *,
    ignore_index: int = -100,
    reduction: Static[Reduction] = Reduction.NONE,
):
    """Cross entropy with a reduction by number; see `cross_entropy`, which takes its name."""
    rows = np.moveaxis(x, _class_axis(x, target), -1)
    counts = target != ignore_index
    check_indices("cross_entropy", "target", target[counts], "logits", "n", rows.shape[-1])
    chosen = np.where(counts, target, 0).astype(np.int64)
    shifted = rows - np.max(rows, axis=-1, keepdims=True)
    likelihood = np.take_along_axis(shifted, chosen[..., None], axis=-1)[..., 0]
    scale = np.where(counts, 1.0 if weight is None else weight[chosen], 0.0)
    losses = np.where(counts, (np.log(np.sum(np.exp(shifted), axis=-1)) - likelihood) * scale, 0.0)
    if reduction == Reduction.NONE:
        return losses
    return np.sum(losses) / (np.sum(scale) if reduction == Reduction.MEAN else 1)


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "none",
    out: Tensor | None = None,
) -> Tensor:
    """Cross entropy between logits and the classes that were right.

    Parameters
    ----------
    logits : Tensor
        Shape ``(n,)``, ``(b, n, *d)`` or ``(*d, n)`` with ``n`` classes, a float dtype.
    target : Tensor
        The right classes, from 0 to ``n - 1``: shape ``()``, ``(b, *d)`` or ``(*d)``, any integer dtype.
    weight : Tensor, optional
        Shape ``(n,)``, dtype of `logits`: what an element of each class counts.
    ignore_index : int, optional
        Targets of this value count nothing; None means -100.
    reduction : str
        ``"none"``: a loss for each target. ``"sum"``: all of them added. ``"mean"``: their mean, weighted
        with `weight`.
    out : Tensor, optional
        Where the result goes: shape of `target`, or ``()`` for a sum or mean; dtype of `logits`.

    Returns
    -------
    Tensor
        `out`, or a new tensor.

    Raises
    ------
    OutOfRange
        A target is neither a class nor `ignore_index` (where a device can check it).
    ShapeError
        `target` or `weight` does not fit `logits`, `out` does not fit, or there are no classes.
    DTypeError
        `logits` has no float dtype, `target` no integer dtype, or another dtype differs.
    InvalidArgument
        `reduction` is none of the three.

    Notes
    -----
    ``weight[target] * (log(sum(exp(logits))) - logits[target])``, as in PyTorch: the second dimension counts
    the classes. Where the shape of `target` fits only then, the last dimension does, as language models have
    it. The mean of nothing is NaN.

    Examples
    --------
    >>> import infinicore as ic
    >>> logits = ic.from_list([[0.0, 0.0], [100.0, 0.0]])
    >>> [round(loss, 4) for loss in ic.cross_entropy(logits, ic.from_list([1, 0])).tolist()]
    [0.6931, 0.0]
    """
    name = reduction.name if isinstance(reduction, Reduction) else str(reduction).upper()
    if name not in Reduction.__members__:
        raise InvalidArgument(f'cross_entropy: reduction={reduction!r}, it must be "none", "mean" or "sum"')
    return cross_entropy_of(
        logits,
        target,
        weight,
        ignore_index=-100 if ignore_index is None else ignore_index,
        reduction=Reduction[name],
        out=out,
    )
