"""The functional names that models are written with, over the operators of ``infinicore.ops``.

Shapes, dtypes and errors are those of the operator each function calls; see its page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import infinicore
from infinicore import ops
from infinicore.errors import InvalidArgument, ShapeError
from infinicore.ops import RopeAlgo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infinicore import Tensor

__all__ = [
    "RopeAlgo",
    "causal_softmax",
    "embedding",
    "layer_norm",
    "linear",
    "random_sample",
    "rms_norm",
    "rope",
    "silu",
    "softmax",
    "swiglu",
]


def causal_softmax(input: Tensor, out: Tensor | None = None) -> Tensor:
    """Softmax over the last axis under a causal mask; see :func:`infinicore.ops.causal_softmax`."""
    return ops.causal_softmax(input, out=out)


def softmax(input: Tensor, dim: int = -1, *, out: Tensor | None = None) -> Tensor:
    """Softmax along ``dim``; see :func:`infinicore.ops.softmax`."""
    return ops.softmax(input, axis=dim, out=out)


def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor,
    eps: float = 1e-5,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Root-mean-square normalisation over the last axis; see :func:`infinicore.ops.rms_norm`.

    Raises
    ------
    ShapeError
        If ``normalized_shape`` is not the shape of ``weight``.
    """
    _check_normalized_shape("rms_norm", normalized_shape, weight)
    return ops.rms_norm(input, weight, epsilon=eps, out=out)


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor,
    bias: Tensor | None,
    eps: float = 1e-5,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Layer normalisation over the last axis; see :func:`infinicore.ops.layer_norm`.

    Raises
    ------
    ShapeError
        If ``normalized_shape`` is not the shape of ``weight``.
    """
    _check_normalized_shape("layer_norm", normalized_shape, weight)
    if out is None:
        return ops.layer_norm(input, weight, bias, eps=eps)[0]
    standardization = infinicore.empty_like(input)
    deviation = infinicore.empty(input.shape[:-1], dtype=input.dtype, device=input.device)
    return ops.layer_norm(input, weight, bias, eps=eps, out=(out, standardization, deviation))[0]


def silu(input: Tensor, inplace: bool = False, *, out: Tensor | None = None) -> Tensor:
    """``input * sigmoid(input)``; ``inplace=True`` writes into ``input`` and returns it.

    On CUDA and Moore Threads devices ``ntops`` computes it where that package is installed
    (``infinicore.use_ntops``) and no output is given.
    """
    if out is None and not inplace and input.device.type in ("cuda", "moore") and infinicore.use_ntops:
        return infinicore.ntops.torch.silu(input)
    return ops.silu(input, out=input if inplace else out)


def swiglu(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """``input * other * sigmoid(other)``: the second argument is the gate."""
    return ops.swiglu(input, other, out=out)


def linear(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    alpha: float = 1.0,
    out: Tensor | None = None,
) -> Tensor:
    """``alpha * input @ weight.T + bias``; see :func:`infinicore.ops.linear`."""
    return ops.linear(input, weight, bias, alpha=alpha, out=out)


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Rows of ``weight`` selected by ``input``; see :func:`infinicore.ops.embedding`.

    Raises
    ------
    InvalidArgument
        If an option that only matters for training is given.
    """
    training = {"padding_idx": padding_idx, "max_norm": max_norm}
    given = [name for name, value in training.items() if value is not None]
    if norm_type != 2.0:
        given.append("norm_type")
    given += [name for name, on in (("scale_grad_by_freq", scale_grad_by_freq), ("sparse", sparse)) if on]
    if given:
        names = ", ".join(given)
        raise InvalidArgument(f"embedding: Unsupported parameters. {names} only matter for training")
    return ops.embedding(input, weight, out=out)


def rope(
    x: Tensor,
    pos_ids: Tensor,
    sin_table: Tensor,
    cos_table: Tensor,
    algo: RopeAlgo = RopeAlgo.GPT_NEOX,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Rotary position embedding; see :func:`infinicore.ops.rope`."""
    return ops.rope(x, pos_ids, sin_table, cos_table, algo=algo, out=out)


def random_sample(
    logits: Tensor,
    random_val: float,
    topp: float,
    topk: int,
    temperature: float,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Draw one index per row of ``logits``: ``(V,)`` gives a scalar, ``(B, V)`` gives ``(B,)``, int32.

    For two-dimensional logits each of the four parameters may also be a sequence of ``B`` values.
    See :func:`infinicore.ops.random_sample` for the distribution.

    Raises
    ------
    ShapeError
        If ``logits`` has neither one nor two dimensions, or a sequence has another length than ``B``.
    """
    if logits.ndim == 1:
        return ops.random_sample(logits, random_val, topp, topk, temperature, out=out)
    if logits.ndim != 2:
        raise ShapeError(f"random_sample: logits must have 1 or 2 dimensions, got {logits.ndim}")
    rows = logits.shape[0]

    def per_row(name: str, value, dtype) -> Tensor:
        values = list(value) if isinstance(value, (list, tuple)) else [value] * rows
        if len(values) != rows:
            raise ShapeError(f"random_sample: {name} has {len(values)} values, but logits has {rows} rows")
        if not rows:
            return infinicore.empty((0,), dtype=dtype, device=logits.device)
        return infinicore.from_list(values, dtype=dtype, device=logits.device)

    return ops.random_sample_batch(
        logits,
        per_row("random_val", random_val, infinicore.float32),
        per_row("topp", topp, infinicore.float32),
        per_row("topk", topk, infinicore.int32),
        per_row("temperature", temperature, infinicore.float32),
        out=out,
    )


def _check_normalized_shape(name: str, normalized_shape: Sequence[int], weight: Tensor) -> None:
    if list(normalized_shape) != list(weight.shape):
        raise ShapeError(
            f"{name}: normalized_shape is {list(normalized_shape)}, but weight has shape {list(weight.shape)}"
        )
