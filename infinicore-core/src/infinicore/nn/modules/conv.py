# Convolutions over one and two spatial dimensions.
# One class holds what they share; the subclasses say how many dimensions there are.
"""Convolution layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from infinicore.arguments import require_integers
from infinicore.errors import InvalidArgument
from infinicore.nn import functional
from infinicore.nn.modules.module import Module, empty_parameter

if TYPE_CHECKING:
    from infinicore._device import _AnyDevice
    from infinicore._dtype import _AnyDType
    from infinicore._tensor import Tensor
    from infinicore.nn.parameter import Parameter

__all__ = ["Conv1d", "Conv2d"]


class _Conv(Module):
    weight: Parameter
    bias: Parameter | None
    _dims: ClassVar[int]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: _AnyDevice | None = None,
        dtype: _AnyDType | None = None,
    ) -> None:
        kind = type(self).__name__
        if padding_mode != "zeros":
            raise InvalidArgument(f"{kind}: padding_mode is {padding_mode!r}, only 'zeros' is supported")
        require_integers(kind, in_channels=in_channels, out_channels=out_channels, groups=groups)
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if groups < 1 or channels % groups:
                raise InvalidArgument(f"{kind}: {name}={channels} is no multiple of groups={groups}")
        super().__init__()
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = self._each("kernel_size", kernel_size)
        self.stride = self._each("stride", stride)
        self.padding = self._each("padding", padding)
        self.dilation = self._each("dilation", dilation)
        size = (out_channels, in_channels // groups, *self.kernel_size)
        self.weight = empty_parameter(size, device, dtype)
        self.register_parameter("bias", empty_parameter((out_channels,), device, dtype) if bias else None)

    def _each(self, name: str, value: int | Sequence[int]) -> tuple[int, ...]:
        """Spread one number over the spatial dimensions."""
        values = tuple(value) if isinstance(value, Sequence) else (value,) * self._dims
        if len(values) != self._dims or not all(isinstance(number, int) for number in values):
            raise InvalidArgument(
                f"{type(self).__name__}: {name}={value!r}, expected an int or {self._dims} of them"
            )
        return values

    def extra_repr(self) -> str:
        """Return channels, kernel, and what differs from its default."""
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        )
        for name, default in (("padding", 0), ("dilation", 1)):
            if getattr(self, name) != (default,) * self._dims:
                text += f", {name}={getattr(self, name)}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        return text if self.bias is not None else text + ", bias=False"


class Conv1d(_Conv):
    """Convolution (cross-correlation) of ``(batch, channels, length)``, with groups.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels before and after; multiples of `groups`.
    kernel_size, stride, padding, dilation : int or sequence of int
        Size of the window, its steps, the zeros on both sides, and the steps inside the window; one number
        for each spatial dimension, or one for all.
    groups : int
        How many groups of channels are convolved apart from each other.
    bias : bool
        Whether there is a bias.
    padding_mode : str
        Only ``"zeros"`` is possible.
    device : device or str, optional
        Where the parameters are; the CPU when absent.
    dtype : dtype, optional
        Their element type; float32 when absent.

    Attributes
    ----------
    weight : Parameter
        Shape ``(out_channels, in_channels / groups, *kernel_size)``; undefined values until a state dict is
        loaded.
    bias : Parameter or None
        Shape ``(out_channels,)``, likewise.

    Raises
    ------
    InvalidArgument
        Channels are no multiple of `groups`, a sequence has another length, or the mode is not ``"zeros"``.

    Examples
    --------
    >>> import infinicore as ic
    >>> layer = ic.nn.Conv1d(2, 4, kernel_size=3, padding=1)
    >>> layer(ic.ones((1, 2, 8), dtype=ic.float32, device="cpu")).shape
    [1, 4, 8]
    """

    _dims = 1

    def forward(self, input: Tensor) -> Tensor:
        """Convolve; the batch dimension may be absent."""
        return functional.conv1d(
            input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


class Conv2d(_Conv):
    """Convolution (cross-correlation) of ``(batch, channels, height, width)``, with groups.

    Parameters, attributes and errors are those of `Conv1d`; a sequence has two numbers.

    Examples
    --------
    >>> import infinicore as ic
    >>> layer = ic.nn.Conv2d(3, 8, kernel_size=(3, 3), stride=2)
    >>> layer(ic.ones((1, 3, 9, 9), dtype=ic.float32, device="cpu")).shape
    [1, 8, 4, 4]
    """

    _dims = 2

    def forward(self, input: Tensor) -> Tensor:
        """Convolve; the batch dimension may be absent."""
        return functional.conv2d(
            input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )
