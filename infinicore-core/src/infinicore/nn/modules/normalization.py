# Normalisations over the last axes.
# Their weights start as what changes nothing: ones, and zeros for a bias.
"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from infinicore.errors import InvalidArgument
from infinicore.nn import functional
from infinicore.nn.modules.module import Module, filled_parameter

if TYPE_CHECKING:
    from infinicore._device import _AnyDevice
    from infinicore._dtype import _AnyDType
    from infinicore._tensor import Tensor
    from infinicore.nn.parameter import Parameter

__all__ = ["LayerNorm", "RMSNorm"]


class RMSNorm(Module):
    """``x / sqrt(mean(x**2) + eps) * weight`` over the last axes.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        Sizes of the axes that the mean is taken over.
    eps : float
        Keeps the root away from zero.
    elementwise_affine : bool
        Only True is possible.
    device : device or str, optional
        Where the weight is; the CPU when absent.
    dtype : dtype, optional
        Its element type; float32 when absent.

    Attributes
    ----------
    weight : Parameter
        Shape `normalized_shape`, ones at first.

    Raises
    ------
    InvalidArgument
        If `elementwise_affine` is False.

    Examples
    --------
    >>> import infinicore as ic
    >>> norm = ic.nn.RMSNorm(2, eps=0.0)
    >>> norm(ic.from_list([[1.0, 7.0]], dtype=ic.float32, device="cpu")).tolist()  # the root of 25 is 5
    [[0.20000000298023224, 1.399999976158142]]
    """

    weight: Parameter

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-6,
        elementwise_affine: bool = True,
        device: _AnyDevice | None = None,
        dtype: _AnyDType | None = None,
    ) -> None:
        if not elementwise_affine:
            raise InvalidArgument("RMSNorm: elementwise_affine=False is not supported, only True")
        super().__init__()
        self.normalized_shape = functional.sizes_of("RMSNorm", normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.weight = filled_parameter(self.normalized_shape, 1, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(*rows, *normalized_shape)``."""
        return functional.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        """Return shape and eps."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class LayerNorm(Module):
    """``(x - mean(x)) / sqrt(var(x) + eps) * weight + bias`` over the last axes.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        Sizes of the axes that mean and variance are taken over.
    eps : float
        Keeps the root away from zero.
    elementwise_affine : bool
        Whether there is a weight.
    bias : bool
        Whether there is a bias beside the weight.
    device : device or str, optional
        Where the parameters are; the CPU when absent.
    dtype : dtype, optional
        Their element type; float32 when absent.

    Attributes
    ----------
    weight, bias : Parameter or None
        Shape `normalized_shape`; ones and zeros at first.

    Examples
    --------
    >>> import infinicore as ic
    >>> norm = ic.nn.LayerNorm(2, eps=0.0)
    >>> norm(ic.from_list([[1.0, 3.0]], dtype=ic.float32, device="cpu")).tolist()
    [[-1.0, 1.0]]
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: _AnyDevice | None = None,
        dtype: _AnyDType | None = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = functional.sizes_of("LayerNorm", normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        for name, value, there in (("weight", 1, True), ("bias", 0, bias)):
            there = there and elementwise_affine
            parameter = filled_parameter(self.normalized_shape, value, device, dtype) if there else None
            self.register_parameter(name, parameter)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``(*rows, *normalized_shape)``."""
        return functional.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Return shape, eps, and which parameters there are."""
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )
