# Affine maps of the last axis.
# The weight lies as PyTorch has it, (out, in), which is also what the operator wants.
"""Linear layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infinicore.nn import functional
from infinicore.nn.modules.module import Module, empty_parameter

if TYPE_CHECKING:
    from infinicore._device import _AnyDevice
    from infinicore._dtype import _AnyDType
    from infinicore._tensor import Tensor
    from infinicore.nn.parameter import Parameter

__all__ = ["Linear"]


class Linear(Module):
    """``input @ weight.T + bias``.

    Parameters
    ----------
    in_features, out_features : int
        Sizes of the last axis, before and after.
    bias : bool
        Whether there is a bias; PyTorch's default is True, this one's False.
    device : device or str, optional
        Where the parameters are; the CPU when absent.
    dtype : dtype, optional
        Their element type; float32 when absent.

    Attributes
    ----------
    weight : Parameter
        Shape ``(out_features, in_features)``; undefined values until a state dict is loaded.
    bias : Parameter or None
        Shape ``(out_features,)``, likewise.

    Examples
    --------
    >>> import infinicore as ic
    >>> layer = ic.nn.Linear(2, 1, bias=True)
    >>> _ = layer.load_state_dict({
    ...     "weight": ic.from_list([[1.0, 2.0]], dtype=ic.float32, device="cpu"),
    ...     "bias": ic.from_list([0.5], dtype=ic.float32, device="cpu"),
    ... })
    >>> layer(ic.from_list([[3.0, 4.0]], dtype=ic.float32, device="cpu")).tolist()
    [[11.5]]
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = False,
        device: _AnyDevice | None = None,
        dtype: _AnyDType | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = empty_parameter((out_features, in_features), device, dtype)
        self.register_parameter("bias", empty_parameter((out_features,), device, dtype) if bias else None)

    def forward(self, input: Tensor) -> Tensor:
        """Map ``(*rows, in_features)`` to ``(*rows, out_features)``."""
        return functional.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Return sizes and whether there is a bias."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )
