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
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "attention",
    "baddbmm",
    "cast",
    "cat",
    "causal_softmax",
    "ceil",
    "clip",
    "clip_scalar",
    "conv",
    "count_nonzero",
    "cross_entropy",
    "cumsum",
    "dequantize_awq",
    "dequantize_gptq",
    "div",
    "elu",
    "embedding",
    "equal",
    "exp",
    "floor",
    "gather",
    "gelu",
    "gelu_tanh",
    "gemm",
    "greater",
    "greater_equal",
    "hardswish",
    "hardtanh",
    "index_add",
    "index_select",
    "int8_gemm",
    "kv_caching",
    "layer_norm",
    "leaky_relu",
    "less",
    "less_equal",
    "linear",
    "log",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "logsoftmax",
    "lp_norm",
    "masked_select",
    "matmul",
    "max",
    "maximum",
    "mean",
    "mha",
    "mha_kvcache",
    "mha_varlen",
    "min",
    "minimum",
    "mul",
    "neg",
    "not_equal",
    "ones",
    "paged_attention",
    "paged_attention_prefill",
    "paged_caching",
    "per_channel_quant_int8",
    "per_tensor_dequant_int8",
    "per_tensor_quant_int8",
    "pow",
    "prod",
    "quick_gelu",
    "random_sample",
    "random_sample_batch",
    "rearrange",
    "reciprocal",
    "relu",
    "rms_norm",
    "rope",
    "round",
    "rsqrt",
    "scaled_dot_product_attention",
    "scatter",
    "sigmoid",
    "silu",
    "silu_and_mul",
    "softmax",
    "softplus",
    "sort",
    "split",
    "sqrt",
    "stack",
    "sub",
    "sum",
    "swiglu",
    "tanh",
    "topk",
    "topkrouter",
    "topksoftmax",
    "var",
    "where",
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
    a: Tensor,
    b: Tensor,
    weight: Tensor,
    epsilon: float = 1e-05,
    *,
    out: Tensor | tuple[Tensor, Tensor] | None = None,
    residual: Tensor | None = None,
) -> tuple[Tensor, Tensor]: ...
@_operator
def all(
    input: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False, out: Tensor | None = None
) -> Tensor: ...
@_operator
def amax(
    input: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False, *, out: Tensor | None = None
) -> Tensor: ...
@_operator
def amin(
    input: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False, *, out: Tensor | None = None
) -> Tensor: ...
@_operator
def any(
    input: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False, out: Tensor | None = None
) -> Tensor: ...
def argmax(
    input: Tensor, dim: int | None = None, keepdim: bool = False, *, out: Tensor | None = None
) -> Tensor: ...
def argmin(
    input: Tensor, dim: int | None = None, keepdim: bool = False, *, out: Tensor | None = None
) -> Tensor: ...
@_operator
def attention(
    q: Tensor, k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, pos: int, *, out: Tensor | None = None
) -> Tensor: ...
def baddbmm(
    input: Tensor,
    batch1: Tensor,
    batch2: Tensor,
    *,
    beta: float = 1.0,
    alpha: float = 1.0,
    out: Tensor | None = None,
) -> Tensor: ...
@_operator
def cast(input: Tensor, *, out: Tensor) -> Tensor: ...
@_operator
def cat(tensors: list[Tensor] | tuple[Tensor, ...], dim: int = 0, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def causal_softmax(input: Tensor, out: Tensor | None = None) -> Tensor: ...
@_operator
def ceil(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
def clip(
    x: Tensor,
    min_val: Tensor | float | None = None,
    max_val: Tensor | float | None = None,
    *,
    out: Tensor | None = None,
) -> Tensor: ...
@_operator
def clip_scalar(input: Tensor, min_val: float, max_val: float, *, out: Tensor | None = None) -> Tensor: ...
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
def count_nonzero(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
def cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "none",
    out: Tensor | None = None,
) -> Tensor: ...
@_operator
def cumsum(input: Tensor, dim: int, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def dequantize_awq(
    qweight: Tensor, scales: Tensor, zeros: Tensor, *, out: Tensor | None = None
) -> Tensor: ...
@_operator
def dequantize_gptq(
    qweight: Tensor, scales: Tensor, zeros: Tensor, g_idx: Tensor, *, out: Tensor | None = None
) -> Tensor: ...
@_operator
def div(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def elu(input: Tensor, alpha: float = 1.0, *, out: Tensor | None = None) -> Tensor: ...
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
def exp(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def floor(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def gather(input: Tensor, dim: int, index: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def gelu(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def gelu_tanh(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def gemm(c: Tensor, a: Tensor, b: Tensor, *, alpha: float = 1.0, beta: float = 0.0) -> Tensor: ...
@_operator
def greater(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def greater_equal(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def hardswish(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, *, out: Tensor | None = None
) -> Tensor: ...
@_operator
def index_add(
    input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1.0, out: Tensor | None = None
) -> Tensor: ...
@_operator
def index_select(input: Tensor, dim: int, index: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def int8_gemm(
    x: Tensor,
    x_scale: Tensor,
    weights: Tensor,
    weights_scale: Tensor,
    bias: Tensor | None = None,
    *,
    out: Tensor | None = None,
) -> Tensor: ...
@_operator
def kv_caching(
    k_cache: Tensor, v_cache: Tensor, k: Tensor, v: Tensor, past_kv_lengths: Tensor
) -> tuple[Tensor, Tensor]: ...
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
def leaky_relu(input: Tensor, negative_slope: float = 0.01, *, out: Tensor | None = None) -> Tensor: ...
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
def log(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def logical_and(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def logical_not(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def logical_or(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def logical_xor(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def logsoftmax(input: Tensor, axis: int = -1, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def lp_norm(
    input: Tensor, axis: int = -1, p: int = 2, eps: float = 1e-12, *, out: Tensor | None = None
) -> Tensor: ...
def masked_select(input: Tensor, mask: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def matmul(input: Tensor, other: Tensor, *, alpha: float = 1.0, out: Tensor | None = None) -> Tensor: ...
def max(
    input: Tensor,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    out: Tensor | tuple[Tensor, Tensor] | None = None,
) -> Tensor | tuple[Tensor, Tensor]: ...
@_operator
def maximum(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def mean(
    input: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False, *, out: Tensor | None = None
) -> Tensor: ...
@_operator
def mha(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    alibi_slopes: Tensor | None = None,
    scale: float = 1.0,
    is_causal: bool = False,
    *,
    out: Tensor | None = None,
) -> Tensor: ...
@_operator
def mha_kvcache(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    seqlens_k: Tensor,
    block_table: Tensor,
    alibi_slopes: Tensor | None = None,
    scale: float = 1.0,
    *,
    out: Tensor | None = None,
) -> Tensor: ...
@_operator
def mha_varlen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cum_seqlens_q: Tensor,
    cum_seqlens_k: Tensor,
    block_table: Tensor | None,
    max_seqlen_q: int,
    max_seqlen_k: int,
    alibi_slopes: Tensor | None = None,
    scale: float = 1.0,
    *,
    out: Tensor | None = None,
) -> Tensor: ...
def min(
    input: Tensor,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    out: Tensor | tuple[Tensor, Tensor] | None = None,
) -> Tensor | tuple[Tensor, Tensor]: ...
@_operator
def minimum(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor: ...
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
def paged_attention_prefill(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_tables: Tensor,
    history_lens: Tensor,
    cu_seqlens_q: Tensor,
    alibi_slopes: Tensor | None = None,
    scale: float = 1.0,
    *,
    out: Tensor | None = None,
) -> Tensor: ...
@_operator
def paged_caching(
    k_cache: Tensor, v_cache: Tensor, k: Tensor, v: Tensor, slot_mapping: Tensor
) -> tuple[Tensor, Tensor]: ...
@_operator
def per_channel_quant_int8(
    x: Tensor, *, symmetric: bool = False, out: tuple[Tensor, Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor, Tensor]: ...
@_operator
def per_tensor_dequant_int8(
    x_packed: Tensor, x_scale: Tensor, x_zero: Tensor | None = None, *, out: Tensor | None = None
) -> Tensor: ...
@_operator
def per_tensor_quant_int8(
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    *,
    is_static: bool = False,
    symmetric: bool = False,
    out: Tensor | None = None,
) -> Tensor: ...
@_operator
def pow(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def prod(
    input: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False, *, out: Tensor | None = None
) -> Tensor: ...
@_operator
def quick_gelu(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
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
def reciprocal(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def relu(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
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
def round(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def rsqrt(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
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
) -> Tensor: ...
def scatter(
    input: Tensor, index: Tensor, src: Tensor, dim: int, reduction: str = "none", *, out: Tensor | None = None
) -> Tensor: ...
@_operator
def sigmoid(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def silu(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def silu_and_mul(input: Tensor, out: Tensor | None = None) -> Tensor: ...
@_operator
def softmax(input: Tensor, axis: int = -1, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def softplus(
    input: Tensor, beta: float = 1.0, threshold: float = 20.0, *, out: Tensor | None = None
) -> Tensor: ...
@_operator
def sort(
    input: Tensor,
    dim: int = -1,
    descending: bool = False,
    stable: bool = True,
    *,
    out: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]: ...
def split(
    tensor: Tensor, split_size_or_sections: int | list[int] | tuple[int, ...], dim: int = 0
) -> tuple[Tensor, ...]: ...
@_operator
def sqrt(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
def stack(
    tensors: list[Tensor] | tuple[Tensor, ...], dim: int = 0, *, out: Tensor | None = None
) -> Tensor: ...
@_operator
def sub(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def sum(
    input: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False, out: Tensor | None = None
) -> Tensor: ...
@_operator
def swiglu(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def tanh(input: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def topk(
    input: Tensor,
    k: int,
    dim: int,
    largest: bool = True,
    sorted: bool = True,
    out: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]: ...
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
def topksoftmax(
    x: Tensor, topk: int, norm: bool = False, *, out: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]: ...
@_operator
def var(
    input: Tensor,
    dim: int | Sequence[int] | None = None,
    unbiased: bool = True,
    keepdim: bool = False,
    out: Tensor | None = None,
) -> Tensor: ...
@_operator
def where(condition: Tensor, input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@_operator
def zeros(x: Tensor, *, out: Tensor | None = None) -> Tensor: ...
