# Functions under PyTorch's names, over the operators. One whose call is the operator's own is imported as it
# is; the others are three lines: `def` with PyTorch's parameters, a sentence, and the call of the operator.
"""The functional names that models are written with, over the operators of ``infinicore.ops``.

Shapes, dtypes and errors are those of the operator each function calls; see its page.

Examples
--------
>>> import infinicore as ic
>>> from infinicore.nn import functional as F
>>> F.relu(ic.from_list([-1.0, 2.0])).tolist()
[0.0, 2.0]
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import infinicore
from infinicore import ops
from infinicore._tensor import Tensor
from infinicore.arguments import require_integers, require_tensors
from infinicore.errors import ArgumentTypeError, DTypeError, InvalidArgument, ShapeError
from infinicore.ops import (
    RopeAlgo,
    causal_softmax,
    linear,
    rope,
    sigmoid,
    silu_and_mul,
    softplus,
    swiglu,
    tanh,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infinicore._dtype import dtype as DType

__all__ = [
    "RopeAlgo",
    "causal_softmax",
    "conv1d",
    "conv2d",
    "cross_entropy",
    "elu",
    "embedding",
    "gelu",
    "hardswish",
    "hardtanh",
    "layer_norm",
    "leaky_relu",
    "linear",
    "linear_w8a8i8",
    "log_softmax",
    "random_sample",
    "relu",
    "relu6",
    "rms_norm",
    "rope",
    "scaled_dot_product_attention",
    "sigmoid",
    "silu",
    "silu_and_mul",
    "softmax",
    "softplus",
    "swiglu",
    "tanh",
]


# ---- activations -----------------------------------------------------------------------------------------


def silu(input: Tensor, inplace: bool = False, *, out: Tensor | None = None) -> Tensor:
    """``input * sigmoid(input)``; ``inplace=True`` writes into `input` and returns it.

    On devices that PyTorch calls cuda or musa ``ntops`` computes it where that package is installed
    (``infinicore.use_ntops``) and no `out` is given.

    Examples
    --------
    >>> import infinicore as ic
    >>> x = ic.from_list([-2.0, 0.0, 4.0], dtype=ic.float32, device="cpu")
    >>> ic.nn.functional.silu(x, inplace=True) is x
    True
    >>> [round(value, 4) for value in x.tolist()]
    [-0.2384, 0.0, 3.9281]
    """
    if out is None and _ntops_serves(input):
        return infinicore.ntops.torch.silu(input, inplace=inplace)
    return ops.silu(input, out=_target("silu", input, inplace, out))


def relu(input: Tensor, inplace: bool = False, *, out: Tensor | None = None) -> Tensor:
    """``max(input, 0)``; ``inplace=True`` writes into `input` and returns it.

    Examples
    --------
    >>> import infinicore as ic
    >>> x = ic.from_list([-2.0, 0.0, 4.0], dtype=ic.float32, device="cpu")
    >>> ic.nn.functional.relu(x).tolist()
    [0.0, 0.0, 4.0]
    """
    return ops.relu(input, out=_target("relu", input, inplace, out))


def relu6(input: Tensor, inplace: bool = False, *, out: Tensor | None = None) -> Tensor:
    """``min(max(input, 0), 6)``; ``inplace=True`` writes into `input` and returns it.

    Examples
    --------
    >>> import infinicore as ic
    >>> x = ic.from_list([-2.0, 4.0, 8.0], dtype=ic.float32, device="cpu")
    >>> ic.nn.functional.relu6(x).tolist()
    [0.0, 4.0, 6.0]
    """
    return ops.hardtanh(input, 0.0, 6.0, out=_target("relu6", input, inplace, out))


def leaky_relu(
    input: Tensor, negative_slope: float = 0.01, inplace: bool = False, *, out: Tensor | None = None
) -> Tensor:
    """`input` where it is positive, else a small multiple of it; see :func:`infinicore.ops.leaky_relu`.

    Examples
    --------
    >>> import infinicore as ic
    >>> x = ic.from_list([-2.0, 0.0, 4.0], dtype=ic.float32, device="cpu")
    >>> ic.nn.functional.leaky_relu(x, 0.25).tolist()
    [-0.5, 0.0, 4.0]
    """
    return ops.leaky_relu(input, negative_slope, out=_target("leaky_relu", input, inplace, out))


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False, *, out: Tensor | None = None) -> Tensor:
    """`input` where it is positive, else ``alpha * (exp(input) - 1)``; see :func:`infinicore.ops.elu`.

    Examples
    --------
    >>> import infinicore as ic
    >>> x = ic.from_list([-2.0, 0.0, 4.0], dtype=ic.float32, device="cpu")
    >>> [round(value, 4) for value in ic.nn.functional.elu(x).tolist()]
    [-0.8647, 0.0, 4.0]
    """
    return ops.elu(input, alpha, out=_target("elu", input, inplace, out))


def hardswish(input: Tensor, inplace: bool = False, *, out: Tensor | None = None) -> Tensor:
    """``input * min(max(input + 3, 0), 6) / 6``; ``inplace=True`` writes into `input` and returns it.

    Examples
    --------
    >>> import infinicore as ic
    >>> x = ic.from_list([-2.0, 0.0, 4.0], dtype=ic.float32, device="cpu")
    >>> [round(value, 4) for value in ic.nn.functional.hardswish(x).tolist()]
    [-0.3333, 0.0, 4.0]
    """
    return ops.hardswish(input, out=_target("hardswish", input, inplace, out))


def hardtanh(
    input: Tensor,
    min_val: float = -1.0,
    max_val: float = 1.0,
    inplace: bool = False,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """`input` clipped to an interval; ``inplace=True`` writes into `input` and returns it.

    Examples
    --------
    >>> import infinicore as ic
    >>> x = ic.from_list([-2.0, 0.0, 4.0], dtype=ic.float32, device="cpu")
    >>> ic.nn.functional.hardtanh(x, -1.0, 2.0).tolist()
    [-1.0, 0.0, 2.0]
    """
    return ops.hardtanh(input, min_val, max_val, out=_target("hardtanh", input, inplace, out))


def gelu(input: Tensor, approximate: str = "none", *, out: Tensor | None = None) -> Tensor:
    """Gaussian error linear unit; see :func:`infinicore.ops.gelu`.

    Raises
    ------
    InvalidArgument
        If `approximate` is neither ``"none"`` nor ``"tanh"`` (:func:`infinicore.ops.gelu_tanh`).

    Examples
    --------
    >>> import infinicore as ic
    >>> x = ic.from_list([-2.0, 0.0, 4.0], dtype=ic.float32, device="cpu")
    >>> [round(value, 4) for value in ic.nn.functional.gelu(x, "tanh").tolist()]
    [-0.0454, 0.0, 3.9999]
    """
    if approximate not in ("none", "tanh"):
        raise InvalidArgument(f"gelu: approximate is {approximate!r}, it must be 'none' or 'tanh'")
    return (ops.gelu if approximate == "none" else ops.gelu_tanh)(input, out=out)


def softmax(input: Tensor, dim: int = -1, *, out: Tensor | None = None) -> Tensor:
    """Softmax along `dim`; see :func:`infinicore.ops.softmax`.

    Examples
    --------
    >>> import infinicore as ic
    >>> x = ic.zeros((2, 4), dtype=ic.float32, device="cpu")
    >>> ic.nn.functional.softmax(x, dim=0)[0].tolist()
    [0.5, 0.5, 0.5, 0.5]
    """
    return ops.softmax(input, axis=dim, out=out)


def log_softmax(input: Tensor, dim: int, *, out: Tensor | None = None) -> Tensor:
    """Logarithm of the softmax along `dim`; see :func:`infinicore.ops.logsoftmax`.

    Examples
    --------
    >>> import infinicore as ic
    >>> x = ic.zeros((1, 4), dtype=ic.float32, device="cpu")
    >>> [round(value, 4) for value in ic.nn.functional.log_softmax(x, 1)[0].tolist()]
    [-1.3863, -1.3863, -1.3863, -1.3863]
    """
    return ops.logsoftmax(input, axis=dim, out=out)


# ---- normalisations --------------------------------------------------------------------------------------


def rms_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor,
    eps: float = 1e-5,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Root-mean-square normalisation over the last axes; see :func:`infinicore.ops.rms_norm`.

    Raises
    ------
    ShapeError
        If `normalized_shape` is not the shape of `weight`, or not the last sizes of `input`.

    Examples
    --------
    >>> import infinicore as ic
    >>> x = ic.from_list([[1.0, 7.0]], dtype=ic.float64, device="cpu")
    >>> weight = ic.ones((2,), dtype=ic.float64, device="cpu")
    >>> ic.nn.functional.rms_norm(x, (2,), weight, eps=0.0).tolist()
    [[0.2, 1.4000000000000001]]
    """
    sizes = _normalized_sizes("rms_norm", input, normalized_shape, weight)
    if len(sizes) == 1:
        return ops.rms_norm(input, weight, epsilon=eps, out=out)
    result = ops.rms_norm(_rows(input, len(sizes)), weight.flatten(), epsilon=eps)
    return _shaped(result, input, out)


def layer_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float = 1e-5,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Layer normalisation over the last axes; see :func:`infinicore.ops.layer_norm`.

    Raises
    ------
    ShapeError
        If `normalized_shape` is not the shape of `weight` and `bias`, or not the last sizes of `input`.

    Examples
    --------
    >>> import infinicore as ic
    >>> x = ic.from_list([[1.0, 3.0]], dtype=ic.float32, device="cpu")
    >>> ic.nn.functional.layer_norm(x, (2,), None, None, eps=0.0).tolist()
    [[-1.0, 1.0]]
    """
    sizes = _normalized_sizes("layer_norm", input, normalized_shape, weight, bias)
    if weight is None:
        weight = infinicore.ones(sizes, dtype=input.dtype, device=input.device)
    if len(sizes) != 1:
        flat_bias = None if bias is None else bias.flatten()
        rows = _rows(input, len(sizes))
        return _shaped(ops.layer_norm(rows, weight.flatten(), flat_bias, eps=eps)[0], input, out)
    if out is None:
        return ops.layer_norm(input, weight, bias, eps=eps)[0]
    standardization = infinicore.empty_like(input)
    deviation = infinicore.empty(input.shape[:-1], dtype=input.dtype, device=input.device)
    return ops.layer_norm(input, weight, bias, eps=eps, out=(out, standardization, deviation))[0]


# ---- products, convolutions, tables ----------------------------------------------------------------------


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Convolve ``(batch, channels, length)``; the batch may be absent. See :func:`infinicore.ops.conv`.

    Examples
    --------
    >>> import infinicore as ic
    >>> x = ic.ones((1, 1, 5), dtype=ic.float32, device="cpu")
    >>> ic.nn.functional.conv1d(x, ic.ones((1, 1, 3), dtype=ic.float32, device="cpu")).tolist()
    [[[3.0, 3.0, 3.0]]]
    """
    return _conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups, out)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Convolve ``(batch, channels, height, width)``; the batch may be absent.

    See :func:`infinicore.ops.conv`.

    Examples
    --------
    >>> import infinicore as ic
    >>> x = ic.ones((1, 3, 3), dtype=ic.float32, device="cpu")
    >>> weight = ic.ones((1, 1, 3, 3), dtype=ic.float32, device="cpu")
    >>> ic.nn.functional.conv2d(x, weight, padding=1).tolist()
    [[[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]]
    """
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups, out)


def linear_w8a8i8(
    input: Tensor,
    weight_packed: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """``input @ weight.T + bias`` in int8, where ``weight = weight_packed * weight_scale``.

    Each row of `input`, of shape ``(*rows, in)``, is quantised as it comes, with a scale of its own and zero
    at zero. `weight_packed` has shape ``(out, in)``, `weight_scale` ``(out,)`` or ``(out, 1)``. See
    :func:`infinicore.ops.per_channel_quant_int8`, whose ``symmetric=True`` makes them, and
    :func:`infinicore.ops.int8_gemm`.

    Raises
    ------
    ShapeError
        `weight_packed` is no matrix, `input` has no dimension, their last sizes differ, or `out`
        does not fit.
    DTypeError
        `weight_packed` is not i8, `weight_scale` not f32, or `bias` or `out` has another dtype than `input`.

    Examples
    --------
    >>> import infinicore as ic
    >>> weight = ic.from_list([[1.0, -2.0], [0.5, 0.25]], dtype=ic.float32, device="cpu")
    >>> packed, scale, _ = ic.per_channel_quant_int8(weight, symmetric=True)
    >>> x = ic.from_list([[3.0, 1.0]], dtype=ic.float32, device="cpu")
    >>> [round(value, 1) for value in ic.nn.functional.linear_w8a8i8(x, packed, scale)[0].tolist()]
    [1.0, 1.7]
    """
    require_tensors("linear_w8a8i8", input=input, weight_packed=weight_packed, weight_scale=weight_scale)
    if weight_packed.ndim != 2 or not input.ndim or input.shape[-1] != weight_packed.shape[1]:
        raise ShapeError(
            f"linear_w8a8i8: input has shape {input.shape}, but weight_packed has shape {weight_packed.shape}"
        )
    shape = [*input.shape[:-1], weight_packed.shape[0]]
    if out is not None:
        require_tensors("linear_w8a8i8", out=out)
        if out.shape != shape:
            raise ShapeError(f"linear_w8a8i8: out has shape {out.shape}, but the result has shape {shape}")
        if out.dtype is not input.dtype:
            raise DTypeError(f"linear_w8a8i8: out has {out.dtype}, but input has {input.dtype}")
    rows = input.reshape(math.prod(shape[:-1]), input.shape[-1])
    packed, scale, _ = ops.per_channel_quant_int8(rows, symmetric=True)
    result = infinicore.empty((rows.shape[0], shape[-1]), dtype=input.dtype, device=input.device)
    ops.int8_gemm(packed, scale, weight_packed.permute((1, 0)), weight_scale, bias, out=result)
    return result.view(shape) if out is None else out.copy_(result.view(shape))


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
    """Rows of `weight` selected by `input`; see :func:`infinicore.ops.embedding`.

    Raises
    ------
    InvalidArgument
        If an option that only matters for training is given.

    Examples
    --------
    >>> import infinicore as ic
    >>> table = ic.from_list([[0.0, 1.0], [2.0, 3.0]], dtype=ic.float32, device="cpu")
    >>> ids = ic.from_list([[1], [0]], dtype=ic.int64, device="cpu")
    >>> ic.nn.functional.embedding(ids, table).tolist()
    [[[2.0, 3.0]], [[0.0, 1.0]]]
    """
    refuse_training("embedding", padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
    return ops.embedding(input, weight, out=out)


# ---- attention -------------------------------------------------------------------------------------------


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Attention of every query to every key; see :func:`infinicore.ops.scaled_dot_product_attention`.

    Raises
    ------
    InvalidArgument
        If ``dropout_p`` is not 0, which only matters for training, or a mask comes with ``is_causal``.

    Examples
    --------
    >>> import infinicore as ic
    >>> q = ic.ones((1, 2, 3, 4), dtype=ic.float32, device="cpu")
    >>> ic.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True).shape
    [1, 2, 3, 4]
    """
    if dropout_p != 0:
        raise InvalidArgument(
            f"scaled_dot_product_attention: dropout_p={dropout_p} only matters for training; pass 0"
        )
    return ops.scaled_dot_product_attention(
        query, key, value, attn_mask, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa, out=out
    )


# ---- losses ----------------------------------------------------------------------------------------------


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    out: Tensor | None = None,
) -> Tensor:
    """Cross entropy between logits and the classes that were right, by default their mean.

    See :func:`infinicore.ops.cross_entropy`, whose default is a loss for each target.

    Raises
    ------
    InvalidArgument
        If `reduction` is none of ``"none"``, ``"mean"`` and ``"sum"``, or ``label_smoothing`` is not 0, which
        only matters for training.

    Examples
    --------
    >>> import infinicore as ic
    >>> logits = ic.from_list([[0.0, 0.0], [100.0, 0.0]], dtype=ic.float32, device="cpu")
    >>> right = ic.from_list([1, 0], dtype=ic.int64, device="cpu")
    >>> round(ic.nn.functional.cross_entropy(logits, right).item(), 4)
    0.3466
    """
    if label_smoothing != 0:
        raise InvalidArgument(
            f"cross_entropy: label_smoothing={label_smoothing} only matters for training; pass 0"
        )
    return ops.cross_entropy(input, target, weight, ignore_index=ignore_index, reduction=reduction, out=out)


# ---- sampling --------------------------------------------------------------------------------------------


def random_sample(
    logits: Tensor,
    random_val: float | Sequence[float] | None,
    topp: float | Sequence[float],
    topk: int | Sequence[int],
    temperature: float | Sequence[float],
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Draw one index per row of `logits`: ``(V,)`` gives a scalar, ``(B, V)`` gives ``(B,)``, int32.

    For two-dimensional logits each of the four parameters may also be a sequence of ``B`` values. Where
    `random_val` is None, Python's ``random`` gives it, a value of its own for each row. See
    :func:`infinicore.ops.random_sample` for the distribution.

    Raises
    ------
    ShapeError
        If `logits` has neither one nor two dimensions, or a sequence has another length than ``B``.

    Examples
    --------
    >>> import infinicore as ic
    >>> logits = ic.from_list([0.0, 9.0, 1.0], dtype=ic.float32, device="cpu")
    >>> ic.nn.functional.random_sample(logits, 0.5, topp=0.9, topk=2, temperature=1.0).item()
    1
    """
    require_tensors("random_sample", logits=logits)
    if logits.ndim not in (1, 2):
        raise ShapeError(f"random_sample: logits must have 1 or 2 dimensions, got {logits.ndim}")
    rows = logits.shape[0] if logits.ndim == 2 else 1
    if random_val is None:
        import random

        random_val = [random.random() for _ in range(rows)]
        random_val = random_val if logits.ndim == 2 else random_val[0]
    if logits.ndim == 1:
        return ops.random_sample(logits, random_val, topp, topk, temperature, out=out)  # type: ignore[arg-type]

    def per_row(name: str, value: float | Sequence[float], dtype: DType) -> Tensor:
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


# ---- what they share -------------------------------------------------------------------------------------


def _target(name: str, input: Tensor, inplace: bool, out: Tensor | None) -> Tensor | None:
    """Return where the result of an element-wise function goes."""
    if inplace and out is not None and out is not input:
        raise InvalidArgument(f"{name}: inplace=True writes into input, but out is another tensor")
    return input if inplace else out


def _ntops_serves(input: Tensor) -> bool:
    """Whether the package ``ntops`` computes what it can for this tensor."""
    if not isinstance(input, Tensor) or input.device.torch_type not in ("cuda", "musa"):
        return False
    return infinicore.use_ntops  # asked last: it looks for the package, and imports it


def refuse_training(
    name: str,
    padding_idx: int | None,
    max_norm: float | None,
    norm_type: float,
    scale_grad_by_freq: bool,
    sparse: bool,
) -> None:
    """Refuse the options of an embedding that only matter for training."""
    off = {
        "padding_idx": padding_idx is None,
        "max_norm": max_norm is None,
        "norm_type": norm_type == 2.0,
        "scale_grad_by_freq": not scale_grad_by_freq,
        "sparse": not sparse,
    }
    given = ", ".join(option for option, is_off in off.items() if not is_off)
    if given:
        raise InvalidArgument(f"{name}: Unsupported parameters. {given} only matter for training")


def _normalized_sizes(
    name: str,
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None = None,
) -> list[int]:
    """Return `normalized_shape` as a list, after checking the arguments of a normalisation with it."""
    parameters = {argument: t for argument, t in (("weight", weight), ("bias", bias)) if t is not None}
    require_tensors(name, input=input, **parameters)
    sizes = list(sizes_of(name, normalized_shape))
    for argument, tensor in parameters.items():
        if sizes != tensor.shape:
            raise ShapeError(f"{name}: normalized_shape is {sizes}, but {argument} has shape {tensor.shape}")
    if not sizes or sizes != input.shape[-len(sizes) :]:
        raise ShapeError(f"{name}: normalized_shape is {sizes}, but input has shape {input.shape}")
    return sizes


def sizes_of(name: str, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    """Return what `normalized_shape` names: one size, or several."""
    if isinstance(normalized_shape, int):
        return (normalized_shape,)
    try:
        sizes = tuple(normalized_shape)
    except TypeError:
        raise ArgumentTypeError(
            f"{name}: normalized_shape must be an int or a sequence of ints, got {normalized_shape!r}"
        ) from None
    for size in sizes:
        require_integers(name, normalized_shape=size)
    return sizes


def _rows(input: Tensor, count: int) -> Tensor:
    """Make the last `count` axes one."""
    shape = input.shape
    return input.reshape(*shape[:-count], math.prod(shape[-count:]))


def _shaped(result: Tensor, input: Tensor, out: Tensor | None) -> Tensor:
    """Give a result the shape of the input, in `out` if there is one."""
    result = result.view(input.shape)
    return result if out is None else out.copy_(result)


def _conv(
    name: str,
    dims: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int | Sequence[int],
    padding: int | Sequence[int],
    dilation: int | Sequence[int],
    groups: int,
    out: Tensor | None,
) -> Tensor:
    require_tensors(name, input=input, weight=weight, **({} if out is None else {"out": out}))
    require_integers(name, groups=groups)
    if weight.ndim != dims + 2 or input.ndim not in (dims + 1, dims + 2):
        raise ShapeError(
            f"{name}: input has {input.ndim} dimensions and weight {weight.ndim}, expected {dims + 2} "
            f"(input: {dims + 1} without a batch)"
        )
    if input.ndim == dims + 1:
        batch = None if out is None else out.unsqueeze(0)
        result = _conv(name, dims, input.unsqueeze(0), weight, bias, stride, padding, dilation, groups, batch)
        return result.squeeze(0) if out is None else out
    if input.shape[1] != groups * weight.shape[1]:
        raise ShapeError(
            f"{name}: input has {input.shape[1]} channels, but weight has {weight.shape[1]} in each of "
            f"groups={groups}"
        )
    return ops.conv(input, weight, bias, pads=padding, strides=stride, dilations=dilation, out=out)
