# The operators as type checkers see them: written by infinicore-core/stubs.py, change the signatures instead.
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from infinicore._dispatch import Operator
from infinicore._tensor import Tensor
from infinicore.ops.attention import RopeAlgo

__all__ = [
    "RopeAlgo",
    "abs",
    "add",
    "add_rms_norm",
    "argmax",
    "attention",
    "cast",
    "cat",
    "causal_softmax",
    "conv",
    "div",
    "embedding",
    "equal",
    "gemm",
    "greater",
    "greater_equal",
    "layer_norm",
    "less",
    "less_equal",
    "linear",
    "matmul",
    "mul",
    "neg",
    "not_equal",
    "ones",
    "paged_attention",
    "pow",
    "random_sample",
    "random_sample_batch",
    "rearrange",
    "rms_norm",
    "rope",
    "silu",
    "softmax",
    "sub",
    "sum",
    "swiglu",
    "topkrouter",
    "zeros",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")

def _operator(call: Callable[_P, _R], /) -> Operator[_P, _R]: ...
@_operator
def abs(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def add(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def add_rms_norm(
    a: Tensor, b: Tensor, weight: Tensor, epsilon: float = 1e-05, *, out: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]: ...
def argmax(
    input: Tensor, dim: int | None = None, keepdim: bool = False, *, out: Tensor | None = None
) -> Tensor: ...
@_operator
def attention(
    q: Tensor, k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, pos: int, *, out: Tensor | None = None
) -> Tensor: ...
@_operator
def cast(input: Tensor, *, out: Tensor) -> Tensor: ...
@_operator
def cat(tensors: list[Tensor] | tuple[Tensor, ...], dim: int = 0, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def causal_softmax(input: Tensor, out: Tensor | None = None) -> Tensor: ...
@_operator
def conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    pads: int | Sequence[int] = 0,
    strides: int | Sequence[int] = 1,
    dilations: int | Sequence[int] = 1,
    out: Tensor | None = None,
) -> Tensor: ...
@_operator
def div(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: None = None,
    max_norm: None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
    *,
    out: Tensor | None = None,
) -> Tensor: ...
@_operator
def equal(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def gemm(c: Tensor, a: Tensor, b: Tensor, *, alpha: float = 1.0, beta: float = 0.0) -> Tensor: ...
@_operator
def greater(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def greater_equal(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def layer_norm(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    eps: float = 1e-05,
    *,
    out: tuple[Tensor, Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]: ...
@_operator
def less(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def less_equal(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def linear(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    alpha: float = 1.0,
    out: Tensor | None = None,
) -> Tensor: ...
@_operator
def matmul(input: Tensor, other: Tensor, *, alpha: float = 1.0, out: Tensor | None = None) -> Tensor: ...
@_operator
def mul(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def neg(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def not_equal(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def ones(x: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def paged_attention(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_tables: Tensor,
    cache_lens: Tensor,
    alibi_slopes: Tensor | None = None,
    scale: float = 1.0,
    *,
    out: Tensor | None = None,
) -> Tensor: ...
@_operator
def pow(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def random_sample(
    logits: Tensor,
    random_val: float,
    topp: float,
    topk: int,
    temperature: float,
    *,
    out: Tensor | None = None,
) -> Tensor: ...
@_operator
def random_sample_batch(
    logits: Tensor,
    random_val: Tensor,
    topp: Tensor,
    topk: Tensor,
    temperature: Tensor,
    *,
    out: Tensor | None = None,
) -> Tensor: ...
@_operator
def rearrange(input: Tensor, other: None = None, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def rms_norm(x: Tensor, weight: Tensor, epsilon: float = 1e-05, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def rope(
    x: Tensor,
    pos_ids: Tensor,
    sin_table: Tensor,
    cos_table: Tensor,
    algo: RopeAlgo = RopeAlgo.GPT_NEOX,
    *,
    out: Tensor | None = None,
) -> Tensor: ...
@_operator
def silu(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def softmax(input: Tensor, axis: int = -1, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def sub(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def sum(
    input: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False, out: Tensor | None = None
) -> Tensor: ...
@_operator
def swiglu(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def topkrouter(
    x: Tensor,
    correction_bias: Tensor,
    topk: int,
    routed_scaling_factor: float = 1.0,
    *,
    out: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]: ...
@_operator
def zeros(x: Tensor, *, out: Tensor | None = None) -> Tensor: ...
