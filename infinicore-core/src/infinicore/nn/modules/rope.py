# Rotary position embedding: tables of sines and cosines, made once, and the rotation of heads by them.
# The tables are buffers that state dicts leave out, so that they move with the module.
"""Rotary position embedding."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import infinicore
from infinicore.arguments import require_integers
from infinicore.errors import ShapeError
from infinicore.nn import functional
from infinicore.nn.functional import RopeAlgo
from infinicore.nn.modules.module import Module

if TYPE_CHECKING:
    from infinicore._device import _AnyDevice
    from infinicore._dtype import _AnyDType
    from infinicore._tensor import Tensor

__all__ = ["RoPE"]


class OddHeadDim(ShapeError, AssertionError):
    """The head dimension is odd; an AssertionError too, which programs for the first RoPE catch."""


class RoPE(Module):
    """Rotates heads by angles that grow with the position.

    Pair ``i`` of a head at position ``p`` turns by ``p * rope_theta**(-2 * i / head_dim)``.

    Parameters
    ----------
    max_position_embeddings : int
        Positions are below this.
    rope_theta : float
        Base of the angles.
    head_dim : int
        Size of a head, even.
    device : device or str, optional
        Where the tables are; the CPU when absent.
    dtype : dtype, optional
        Their element type, float32 when absent; it may differ from that of the heads.

    Attributes
    ----------
    sin_table, cos_table : Tensor
        Shape ``(max_position_embeddings, head_dim / 2)``; state dicts do not hold them.

    Raises
    ------
    ShapeError
        If `head_dim` is odd.

    Notes
    -----
    Su and others, "RoFormer: Enhanced Transformer with Rotary Position Embedding" (2021).

    Examples
    --------
    >>> import infinicore as ic
    >>> rope = ic.nn.RoPE(16, 10000.0, head_dim=2)
    >>> heads = ic.from_list([[[[1.0, 0.0]], [[1.0, 0.0]]]], dtype=ic.float32, device="cpu")
    >>> rope(heads, ic.from_list([[0, 1]], dtype=ic.int64, device="cpu")) is heads
    True
    >>> [round(value, 4) for value in heads[0, 1, 0].tolist()]
    [0.5403, 0.8415]
    """

    sin_table: Tensor
    cos_table: Tensor

    def __init__(
        self,
        max_position_embeddings: int,
        rope_theta: float,
        head_dim: int,
        device: _AnyDevice | None = None,
        dtype: _AnyDType | None = None,
    ) -> None:
        require_integers("RoPE", max_position_embeddings=max_position_embeddings, head_dim=head_dim)
        if head_dim % 2:
            raise OddHeadDim(f"RoPE: head_dim={head_dim}, but it must be even")
        super().__init__()
        self.max_position_embeddings, self.rope_theta = max_position_embeddings, rope_theta
        self.head_dim = head_dim
        half = head_dim // 2
        speeds = [rope_theta ** (-i / half) for i in range(half)]
        for name, table in zip(
            ("sin_table", "cos_table"), _tables(max_position_embeddings, speeds), strict=True
        ):
            table = table.to(dtype=dtype or infinicore.float32, device=device or "cpu")
            self.register_buffer(name, table, persistent=False)

    def forward(self, states: Tensor, position_ids: Tensor, algo: RopeAlgo = RopeAlgo.GPT_NEOX) -> Tensor:
        """Rotate heads in place.

        Parameters
        ----------
        states : Tensor
            Shape ``(batch, seq, heads, head_dim)`` or ``(seq, heads, head_dim)``. Written.
        position_ids : Tensor
            Shape ``(batch, seq)`` or ``(seq,)``, any integer dtype.
        algo : RopeAlgo
            Which elements of a head are a pair.

        Returns
        -------
        Tensor
            `states`.
        """
        return functional.rope(states, position_ids, self.sin_table, self.cos_table, algo, out=states)

    def extra_repr(self) -> str:
        """Return the numbers that make the tables."""
        return (
            f"max_position_embeddings={self.max_position_embeddings}, rope_theta={self.rope_theta}, "
            f"head_dim={self.head_dim}"
        )


_STEP = 256


def _tables(length: int, speeds: list[float]) -> tuple[Tensor, Tensor]:
    """Compute sines and cosines of ``position * speed``, in float64.

    Position ``256 * a + b`` takes the angle sum formulas, so that Python computes few sines and tensors the
    rest: a table for 131072 positions would take seconds otherwise.
    """
    blocks = -(-length // _STEP)

    def values(function, positions) -> Tensor:
        rows = [[function(position * speed) for speed in speeds] for position in positions]
        shape = (len(rows), len(speeds))
        if not all(shape):
            return infinicore.empty(shape, dtype=infinicore.float64, device="cpu")
        return infinicore.from_list(rows, dtype=infinicore.float64, device="cpu")

    coarse = range(0, blocks * _STEP, _STEP)
    sin_a, cos_a = (values(f, coarse).unsqueeze(1) for f in (math.sin, math.cos))
    sin_b, cos_b = (values(f, range(_STEP)).unsqueeze(0) for f in (math.sin, math.cos))
    shape = (blocks * _STEP, len(speeds))
    sines = (sin_a * cos_b + cos_a * sin_b).view(shape)
    cosines = (cos_a * cos_b - sin_a * sin_b).view(shape)
    return sines.narrow(0, 0, length), cosines.narrow(0, 0, length)
