# Neural networks: modules that hold weights, and the functions that compute with them.
# Loaded when `infinicore.nn` is first used, not by `import infinicore`.
"""Neural-network building blocks, with the names and state dicts of ``torch.nn``; for running models.

``nn.functional`` holds the functions that models are written with.

Examples
--------
>>> import infinicore as ic
>>> model = ic.nn.Sequential(ic.nn.RMSNorm(4), ic.nn.Linear(4, 2))
>>> list(model.state_dict())
['0.weight', '1.weight']
"""

from infinicore.nn import functional, modules
from infinicore.nn.modules import (
    Conv1d,
    Conv2d,
    Embedding,
    LayerNorm,
    Linear,
    Module,
    ModuleDict,
    ModuleList,
    RMSNorm,
    RoPE,
    Sequential,
    TransformerBlock,
)
from infinicore.nn.parameter import Parameter

__all__ = [
    "Conv1d",
    "Conv2d",
    "Embedding",
    "LayerNorm",
    "Linear",
    "Module",
    "ModuleDict",
    "ModuleList",
    "Parameter",
    "RMSNorm",
    "RoPE",
    "Sequential",
    "TransformerBlock",
    "functional",
    "modules",
]
