# What each file of this folder offers.
# `infinicore.nn` passes these names on.
"""The modules of :mod:`infinicore.nn`."""

from infinicore.nn.modules.container import ModuleDict, ModuleList, Sequential
from infinicore.nn.modules.conv import Conv1d, Conv2d
from infinicore.nn.modules.embedding import Embedding
from infinicore.nn.modules.linear import Linear
from infinicore.nn.modules.module import Module
from infinicore.nn.modules.normalization import LayerNorm, RMSNorm
from infinicore.nn.modules.rope import RoPE
from infinicore.nn.modules.transformer import TransformerBlock

__all__ = [
    "Conv1d",
    "Conv2d",
    "Embedding",
    "LayerNorm",
    "Linear",
    "Module",
    "ModuleDict",
    "ModuleList",
    "RMSNorm",
    "RoPE",
    "Sequential",
    "TransformerBlock",
]
