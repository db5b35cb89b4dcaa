# Rows of a table, looked up by token.
# The options of PyTorch's that only matter for training are refused, not ignored.
"""Embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infinicore.arguments import require_tensors
from infinicore.errors import ShapeError
from infinicore.nn import functional
from infinicore.nn.modules.module import Module, empty_parameter
from infinicore.nn.parameter import Parameter

if TYPE_CHECKING:
    from infinicore._device import _AnyDevice
    from infinicore._dtype import _AnyDType
    from infinicore._tensor import Tensor

__all__ = ["Embedding"]


class Embedding(Module):
    """``weight[input]``: a row of the table for each index.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        Rows of the table and their size.
    padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse
        Accepted with their defaults only.
    _weight : Tensor, optional
        The table; its memory is shared.
    _freeze : bool
        Accepted for PyTorch's sake: nothing here is trained.
    device : device or str, optional
        Where the table is; the CPU when absent.
    dtype : dtype, optional
        Its element type; float32 when absent.

    Attributes
    ----------
    weight : Parameter
        Shape ``(num_embeddings, embedding_dim)``; undefined values until a state dict is loaded.

    Raises
    ------
    InvalidArgument
        If an option that only matters for training is given.
    ShapeError
        If `_weight` has another shape.

    Examples
    --------
    >>> import infinicore as ic
    >>> table = ic.from_list([[0.0, 1.0], [2.0, 3.0]], dtype=ic.float32, device="cpu")
    >>> layer = ic.nn.Embedding(2, 2, _weight=table)
    >>> layer(ic.from_list([1, 0, 1], dtype=ic.int64, device="cpu")).tolist()
    [[2.0, 3.0], [0.0, 1.0], [2.0, 3.0]]
    """

    weight: Parameter

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        device: _AnyDevice | None = None,
        dtype: _AnyDType | None = None,
    ) -> None:
        functional.refuse_training("Embedding", padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        size = (num_embeddings, embedding_dim)
        if _weight is None:
            self.weight = empty_parameter(size, device, dtype)
            return
        require_tensors("Embedding", _weight=_weight)
        if _weight.shape != size:
            raise ShapeError(f"Embedding: _weight has shape {_weight.shape}, but the table is {list(size)}")
        self.weight = Parameter(_weight.to(dtype=dtype, device=device))

    def forward(self, input: Tensor) -> Tensor:
        """Look up ``(*ids)``, any integer dtype; the result is ``(*ids, embedding_dim)``."""
        return functional.embedding(input, self.weight)

    def extra_repr(self) -> str:
        """Return the table's sizes."""
        return f"{self.num_embeddings}, {self.embedding_dim}"
