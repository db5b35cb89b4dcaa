# The operators: importing this package reads every signature and registers it in `schema.OPERATORS`.
# What comes out under each name is what `schema.wrap` makes of the signature: a callable at run time.
"""Operators: one typed signature, one docstring and one NumPy body each."""

from infinicore.ops.attention import RopeAlgo, attention, paged_attention, rope, topkrouter
from infinicore.ops.elementwise import (
    abs,
    add,
    cast,
    div,
    equal,
    greater,
    greater_equal,
    less,
    less_equal,
    mul,
    neg,
    not_equal,
    ones,
    pow,
    silu,
    sub,
    swiglu,
    zeros,
)
from infinicore.ops.indexing import cat, embedding, rearrange
from infinicore.ops.linalg import conv, gemm, linear, matmul
from infinicore.ops.norm import add_rms_norm, causal_softmax, layer_norm, rms_norm, softmax
from infinicore.ops.reduction import argmax, sum
from infinicore.ops.sampling import random_sample, random_sample_batch

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
