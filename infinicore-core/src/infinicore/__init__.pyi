# The public names of infinicore as type checkers see them.
# What it imports from infinicore.ops and its __all__ are written by infinicore-core/stubs.py.
from builtins import bool as _bool
from builtins import float as _float
from builtins import int as _int
from typing import Any

from infinicore import context as context
from infinicore import distributed as distributed
from infinicore import errors as errors
from infinicore import interop as interop
from infinicore import lib as lib
from infinicore import nn as nn
from infinicore import ops as ops
from infinicore import report as report
from infinicore import utils as utils
from infinicore._backend import backends as backends
from infinicore._device import device as device
from infinicore._device import device_info as device_info
from infinicore._device import memory_info as memory_info
from infinicore._device import synchronize as synchronize
from infinicore._dispatch import cache_clear as cache_clear
from infinicore._dispatch import cache_info as cache_info
from infinicore._dispatch import fallback as fallback
from infinicore._dispatch import fallback_counts as fallback_counts
from infinicore._dispatch import set_cache_limit as set_cache_limit
from infinicore._dtype import ALIASES as ALIASES
from infinicore._dtype import DTYPES as DTYPES
from infinicore._dtype import dtype as dtype
from infinicore._storage import empty_cache as empty_cache
from infinicore._storage import memory_stats as memory_stats
from infinicore._storage import reset_peak_memory_stats as reset_peak_memory_stats
from infinicore._stream import DeviceEvent as DeviceEvent
from infinicore._stream import Stream as Stream
from infinicore._stream import current_stream as current_stream
from infinicore._stream import stream as stream
from infinicore._tensor import Tensor as Tensor
from infinicore.context import get_device as get_device
from infinicore.context import get_device_count as get_device_count
from infinicore.context import get_stream as get_stream
from infinicore.context import is_graph_recording as is_graph_recording
from infinicore.context import set_device as set_device
from infinicore.context import start_graph_recording as start_graph_recording
from infinicore.context import stop_graph_recording as stop_graph_recording
from infinicore.context import sync_device as sync_device
from infinicore.context import sync_stream as sync_stream
from infinicore.creation import arange as arange
from infinicore.creation import empty as empty
from infinicore.creation import empty_like as empty_like
from infinicore.creation import from_blob as from_blob
from infinicore.creation import from_dlpack as from_dlpack
from infinicore.creation import from_list as from_list
from infinicore.creation import from_numpy as from_numpy
from infinicore.creation import from_torch as from_torch
from infinicore.creation import full as full
from infinicore.creation import full_like as full_like
from infinicore.creation import narrow as narrow
from infinicore.creation import ones as ones
from infinicore.creation import ones_like as ones_like
from infinicore.creation import strided_empty as strided_empty
from infinicore.creation import strided_from_blob as strided_from_blob
from infinicore.creation import zeros as zeros
from infinicore.creation import zeros_like as zeros_like
from infinicore.distributed import AllReduce as AllReduce
from infinicore.errors import ArgumentTypeError as ArgumentTypeError
from infinicore.errors import BackendError as BackendError
from infinicore.errors import BackendUnavailable as BackendUnavailable
from infinicore.errors import DTypeError as DTypeError
from infinicore.errors import DeviceMismatch as DeviceMismatch
from infinicore.errors import DeviceNotFound as DeviceNotFound
from infinicore.errors import Error as Error
from infinicore.errors import ExchangeError as ExchangeError
from infinicore.errors import InternalError as InternalError
from infinicore.errors import InvalidArgument as InvalidArgument
from infinicore.errors import OperatorNotSupported as OperatorNotSupported
from infinicore.errors import OutOfMemory as OutOfMemory
from infinicore.errors import OutOfRange as OutOfRange
from infinicore.errors import PeerFailed as PeerFailed
from infinicore.errors import ShapeError as ShapeError
from infinicore.errors import StrideError as StrideError
from infinicore.errors import Timeout as Timeout
from infinicore.errors import UnknownDevice as UnknownDevice
from infinicore.graph import Graph as Graph
from infinicore.graph import graph as graph
from infinicore.ops import RopeAlgo as RopeAlgo
from infinicore.ops import abs as abs
from infinicore.ops import add as add
from infinicore.ops import add_rms_norm as add_rms_norm
from infinicore.ops import all as all
from infinicore.ops import amax as amax
from infinicore.ops import amin as amin
from infinicore.ops import any as any
from infinicore.ops import argmax as argmax
from infinicore.ops import argmin as argmin
from infinicore.ops import attention as attention
from infinicore.ops import baddbmm as baddbmm
from infinicore.ops import cast as cast
from infinicore.ops import cat as cat
from infinicore.ops import causal_softmax as causal_softmax
from infinicore.ops import ceil as ceil
from infinicore.ops import clip as clip
from infinicore.ops import clip_scalar as clip_scalar
from infinicore.ops import conv as conv
from infinicore.ops import count_nonzero as count_nonzero
from infinicore.ops import cross_entropy as cross_entropy
from infinicore.ops import cumsum as cumsum
from infinicore.ops import dequantize_awq as dequantize_awq
from infinicore.ops import dequantize_gptq as dequantize_gptq
from infinicore.ops import div as div
from infinicore.ops import elu as elu
from infinicore.ops import embedding as embedding
from infinicore.ops import equal as equal
from infinicore.ops import exp as exp
from infinicore.ops import floor as floor
from infinicore.ops import gather as gather
from infinicore.ops import gelu as gelu
from infinicore.ops import gelu_tanh as gelu_tanh
from infinicore.ops import gemm as gemm
from infinicore.ops import greater as greater
from infinicore.ops import greater_equal as greater_equal
from infinicore.ops import hardswish as hardswish
from infinicore.ops import hardtanh as hardtanh
from infinicore.ops import index_add as index_add
from infinicore.ops import index_select as index_select
from infinicore.ops import int8_gemm as int8_gemm
from infinicore.ops import kv_caching as kv_caching
from infinicore.ops import layer_norm as layer_norm
from infinicore.ops import leaky_relu as leaky_relu
from infinicore.ops import less as less
from infinicore.ops import less_equal as less_equal
from infinicore.ops import linear as linear
from infinicore.ops import log as log
from infinicore.ops import logical_and as logical_and
from infinicore.ops import logical_not as logical_not
from infinicore.ops import logical_or as logical_or
from infinicore.ops import logical_xor as logical_xor
from infinicore.ops import logsoftmax as logsoftmax
from infinicore.ops import lp_norm as lp_norm
from infinicore.ops import masked_select as masked_select
from infinicore.ops import matmul as matmul
from infinicore.ops import max as max
from infinicore.ops import maximum as maximum
from infinicore.ops import mean as mean
from infinicore.ops import mha as mha
from infinicore.ops import mha_kvcache as mha_kvcache
from infinicore.ops import mha_varlen as mha_varlen
from infinicore.ops import min as min
from infinicore.ops import minimum as minimum
from infinicore.ops import mul as mul
from infinicore.ops import neg as neg
from infinicore.ops import not_equal as not_equal
from infinicore.ops import paged_attention as paged_attention
from infinicore.ops import paged_attention_prefill as paged_attention_prefill
from infinicore.ops import paged_caching as paged_caching
from infinicore.ops import per_channel_quant_int8 as per_channel_quant_int8
from infinicore.ops import per_tensor_dequant_int8 as per_tensor_dequant_int8
from infinicore.ops import per_tensor_quant_int8 as per_tensor_quant_int8
from infinicore.ops import pow as pow
from infinicore.ops import prod as prod
from infinicore.ops import quick_gelu as quick_gelu
from infinicore.ops import random_sample as random_sample
from infinicore.ops import random_sample_batch as random_sample_batch
from infinicore.ops import rearrange as rearrange
from infinicore.ops import reciprocal as reciprocal
from infinicore.ops import relu as relu
from infinicore.ops import rms_norm as rms_norm
from infinicore.ops import rope as rope
from infinicore.ops import round as round
from infinicore.ops import rsqrt as rsqrt
from infinicore.ops import scaled_dot_product_attention as scaled_dot_product_attention
from infinicore.ops import scatter as scatter
from infinicore.ops import sigmoid as sigmoid
from infinicore.ops import silu as silu
from infinicore.ops import silu_and_mul as silu_and_mul
from infinicore.ops import softmax as softmax
from infinicore.ops import softplus as softplus
from infinicore.ops import sort as sort
from infinicore.ops import split as split
from infinicore.ops import sqrt as sqrt
from infinicore.ops import stack as stack
from infinicore.ops import sub as sub
from infinicore.ops import sum as sum
from infinicore.ops import swiglu as swiglu
from infinicore.ops import tanh as tanh
from infinicore.ops import topk as topk
from infinicore.ops import topkrouter as topkrouter
from infinicore.ops import topksoftmax as topksoftmax
from infinicore.ops import var as var
from infinicore.ops import where as where
from infinicore.nn.functional import conv2d as conv2d
from infinicore.printing import get_printoptions as get_printoptions
from infinicore.printing import printoptions as printoptions
from infinicore.printing import set_printoptions as set_printoptions

__all__ = [
    "ALIASES",
    "AllReduce",
    "ArgumentTypeError",
    "BackendError",
    "BackendUnavailable",
    "DTYPES",
    "DTypeError",
    "DeviceEvent",
    "DeviceMismatch",
    "DeviceNotFound",
    "Error",
    "ExchangeError",
    "Graph",
    "InternalError",
    "InvalidArgument",
    "OperatorNotSupported",
    "OutOfMemory",
    "OutOfRange",
    "PeerFailed",
    "RopeAlgo",
    "ShapeError",
    "Stream",
    "StrideError",
    "Tensor",
    "Timeout",
    "UnknownDevice",
    "abs",
    "add",
    "add_rms_norm",
    "add_rms_norm_",
    "add_rms_norm_inplace",
    "all",
    "amax",
    "amin",
    "any",
    "arange",
    "argmax",
    "argmin",
    "attention",
    "backends",
    "baddbmm",
    "bfloat16",
    "bool",
    "byte",
    "cache_clear",
    "cache_info",
    "cast",
    "cat",
    "causal_softmax",
    "cdouble",
    "ceil",
    "cfloat",
    "chalf",
    "clip",
    "clip_scalar",
    "complex128",
    "complex16",
    "complex32",
    "complex64",
    "context",
    "conv",
    "conv2d",
    "count_nonzero",
    "cross_entropy",
    "cumsum",
    "current_stream",
    "dequantize_awq",
    "dequantize_gptq",
    "device",
    "device_info",
    "distributed",
    "div",
    "double",
    "dtype",
    "elu",
    "embedding",
    "empty",
    "empty_cache",
    "empty_like",
    "equal",
    "errors",
    "exp",
    "fallback",
    "fallback_counts",
    "float",
    "float16",
    "float32",
    "float64",
    "float8",
    "float8_e4m3fn",
    "floor",
    "from_blob",
    "from_dlpack",
    "from_list",
    "from_numpy",
    "from_torch",
    "full",
    "full_like",
    "gather",
    "gelu",
    "gelu_tanh",
    "gemm",
    "get_device",
    "get_device_count",
    "get_printoptions",
    "get_stream",
    "graph",
    "greater",
    "greater_equal",
    "half",
    "hardswish",
    "hardtanh",
    "index_add",
    "index_select",
    "int",
    "int16",
    "int32",
    "int64",
    "int8",
    "int8_gemm",
    "interop",
    "is_graph_recording",
    "kv_caching",
    "layer_norm",
    "leaky_relu",
    "less",
    "less_equal",
    "lib",
    "linear",
    "log",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "logsoftmax",
    "long",
    "lp_norm",
    "masked_select",
    "matmul",
    "max",
    "maximum",
    "mean",
    "memory_info",
    "memory_stats",
    "mha",
    "mha_kvcache",
    "mha_varlen",
    "min",
    "minimum",
    "mul",
    "narrow",
    "neg",
    "nn",
    "not_equal",
    "ntops",
    "ones",
    "ones_like",
    "ops",
    "paged_attention",
    "paged_attention_prefill",
    "paged_caching",
    "per_channel_quant_int8",
    "per_tensor_dequant_int8",
    "per_tensor_quant_int8",
    "pow",
    "printoptions",
    "prod",
    "quick_gelu",
    "random_sample",
    "random_sample_batch",
    "rearrange",
    "reciprocal",
    "relu",
    "report",
    "reset_peak_memory_stats",
    "rms_norm",
    "rope",
    "round",
    "rsqrt",
    "scaled_dot_product_attention",
    "scatter",
    "set_cache_limit",
    "set_device",
    "set_printoptions",
    "short",
    "sigmoid",
    "silu",
    "silu_and_mul",
    "softmax",
    "softplus",
    "sort",
    "split",
    "sqrt",
    "squeeze",
    "stack",
    "start_graph_recording",
    "stop_graph_recording",
    "stream",
    "strided_empty",
    "strided_from_blob",
    "sub",
    "sum",
    "swiglu",
    "sync_device",
    "sync_stream",
    "synchronize",
    "tanh",
    "topk",
    "topkrouter",
    "topksoftmax",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
    "unsqueeze",
    "use_ntops",
    "utils",
    "var",
    "where",
    "zeros",
    "zeros_like",
]

byte: dtype
bool: dtype
int8: dtype
int16: dtype
int32: dtype
int64: dtype
uint8: dtype
uint16: dtype
uint32: dtype
uint64: dtype
float8: dtype
float16: dtype
float32: dtype
float64: dtype
complex16: dtype
complex32: dtype
complex64: dtype
complex128: dtype
bfloat16: dtype
half: dtype
float: dtype
double: dtype
short: dtype
int: dtype
long: dtype
chalf: dtype
cfloat: dtype
cdouble: dtype
float8_e4m3fn: dtype

def squeeze(input: Tensor, dim: _int) -> Tensor: ...
def unsqueeze(input: Tensor, dim: _int) -> Tensor: ...
def add_rms_norm_inplace(
    input: Tensor, residual: Tensor, weight: Tensor, epsilon: _float = 1e-5
) -> tuple[Tensor, Tensor]: ...
def add_rms_norm_(
    y: Tensor, residual_out: Tensor, a: Tensor, b: Tensor, weight: Tensor, epsilon: _float = 1e-5
) -> tuple[Tensor, Tensor]: ...

# Looked up at first use.
__version__: str
use_ntops: _bool
ntops: Any  # None where it is not installed
