# A block of a Llama-like decoder: attention with rotary positions and a cache, then a gated feed-forward net.
# Its names are those of a layer in a Hugging Face Llama, so that such a layer's state dict loads as it is.
"""Transformer block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import infinicore
from infinicore import ops
from infinicore.arguments import require_integers
from infinicore.errors import InvalidArgument, ShapeError
from infinicore.nn import functional
from infinicore.nn.modules.linear import Linear
from infinicore.nn.modules.module import Module
from infinicore.nn.modules.normalization import RMSNorm
from infinicore.nn.modules.rope import RoPE

if TYPE_CHECKING:
    from infinicore._device import _AnyDevice
    from infinicore._dtype import _AnyDType
    from infinicore._tensor import Tensor

__all__ = ["TransformerBlock"]


class SelfAttention(Module):
    """Causal attention of new tokens over themselves and a cache; `TransformerBlock` says the rest."""

    def __init__(
        self,
        hidden_size: int,
        num_attention_heads: int,
        num_key_value_heads: int,
        head_dim: int,
        rope: RoPE,
        bias: bool,
        device: _AnyDevice | None,
        dtype: _AnyDType | None,
    ) -> None:
        super().__init__()
        self.num_heads, self.num_key_value_heads, self.head_dim = (
            num_attention_heads,
            num_key_value_heads,
            head_dim,
        )
        queries, keys = num_attention_heads * head_dim, num_key_value_heads * head_dim
        self.q_proj = Linear(hidden_size, queries, bias, device, dtype)
        self.k_proj = Linear(hidden_size, keys, bias, device, dtype)
        self.v_proj = Linear(hidden_size, keys, bias, device, dtype)
        self.o_proj = Linear(queries, hidden_size, bias, device, dtype)
        self.rotary_emb = rope
        # Every position, so that a step takes a view of it instead of making a tensor.
        positions = infinicore.arange(
            rope.max_position_embeddings, dtype=infinicore.int32, device=device or "cpu"
        )
        self.register_buffer("positions", positions, persistent=False)

    def forward(self, states: Tensor, position: int, cache: tuple[Tensor, Tensor]) -> Tensor:
        """Attend; states are ``(batch, seq, hidden)``, caches ``(batch, kv_heads, length, head_dim)``."""
        batch, seq, _ = states.shape
        positions = self.positions.narrow(0, position, seq)
        q, k, v = (
            projection(states).view(batch, seq, heads, self.head_dim)
            for projection, heads in (
                (self.q_proj, self.num_heads),
                (self.k_proj, self.num_key_value_heads),
                (self.v_proj, self.num_key_value_heads),
            )
        )
        self.rotary_emb(q, positions)
        self.rotary_emb(k, positions)
        context = infinicore.empty(q.shape, dtype=q.dtype, device=q.device)
        # By heads, as the operator takes them; it knows no batch.
        q, k, v = (tensor.permute(0, 2, 1, 3) for tensor in (q, k, v))
        for row in range(batch):
            ops.attention(q[row], k[row], v[row], cache[0][row], cache[1][row], position, out=context[row])
        return self.o_proj(context.view(batch, seq, self.num_heads * self.head_dim))


class GatedMLP(Module):
    """``down(up(x) * silu(gate(x)))``."""

    def __init__(
        self,
        hidden_size: int,
        intermediate_size: int,
        device: _AnyDevice | None,
        dtype: _AnyDType | None,
    ) -> None:
        super().__init__()
        self.gate_proj = Linear(hidden_size, intermediate_size, False, device, dtype)
        self.up_proj = Linear(hidden_size, intermediate_size, False, device, dtype)
        self.down_proj = Linear(intermediate_size, hidden_size, False, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(*rows, hidden)`` to the same shape."""
        return self.down_proj(functional.swiglu(self.up_proj(x), self.gate_proj(x)))


class TransformerBlock(Module):
    """One layer of a Llama-like decoder.

    ``h = x + attention(norm(x))`` and ``out = h + mlp(norm(h))``: root-mean-square norms, causal attention
    with rotary positions and grouped key-value heads, and a SwiGLU feed-forward net.

    Parameters
    ----------
    hidden_size, intermediate_size : int
        Sizes of the residual stream and inside the feed-forward net.
    num_attention_heads : int
        Query heads.
    num_key_value_heads : int, optional
        Heads of keys and values, of which `num_attention_heads` is a multiple; as many when absent.
    head_dim : int, optional
        Size of a head; ``hidden_size / num_attention_heads`` when absent.
    max_position_embeddings : int
        Positions are below this.
    rope_theta : float
        Base of the rotary angles.
    rms_norm_eps : float
        Keeps the roots of the norms away from zero.
    attention_bias : bool
        Whether the four projections of the attention have biases.
    rope : RoPE, optional
        Shared with other blocks, so that its tables exist once; `max_position_embeddings` and `rope_theta`
        are then its own.
    device : device or str, optional
        Where the parameters are; the CPU when absent.
    dtype : dtype, optional
        Their element type; float32 when absent.

    Raises
    ------
    ShapeError
        If `num_attention_heads` is no multiple of `num_key_value_heads`, or the heads do not share
        `hidden_size` evenly.

    Examples
    --------
    >>> import infinicore as ic
    >>> block = ic.nn.TransformerBlock(32, 64, num_attention_heads=4, num_key_value_heads=2)
    >>> _ = block.load_state_dict({name: ic.zeros_like(t) for name, t in block.state_dict().items()})
    >>> x = ic.ones((1, 3, 32), dtype=ic.float32, device="cpu")
    >>> block(x).tolist() == x.tolist()  # weights that are zero leave the residual stream alone
    True
    """

    def __init__(
        self,
        hidden_size: int,
        intermediate_size: int,
        num_attention_heads: int,
        num_key_value_heads: int | None = None,
        head_dim: int | None = None,
        max_position_embeddings: int = 2048,
        rope_theta: float = 10000.0,
        rms_norm_eps: float = 1e-6,
        attention_bias: bool = False,
        rope: RoPE | None = None,
        device: _AnyDevice | None = None,
        dtype: _AnyDType | None = None,
    ) -> None:
        kv = num_attention_heads if num_key_value_heads is None else num_key_value_heads
        require_integers(
            "TransformerBlock",
            hidden_size=hidden_size,
            intermediate_size=intermediate_size,
            num_attention_heads=num_attention_heads,
            num_key_value_heads=kv,
        )
        if num_attention_heads < 1:
            raise ShapeError(
                f"TransformerBlock: num_attention_heads={num_attention_heads}, must be at least 1"
            )
        if kv < 1 or num_attention_heads % kv:
            raise ShapeError(
                f"TransformerBlock: num_attention_heads={num_attention_heads} is no multiple of "
                f"num_key_value_heads={kv}"
            )
        if head_dim is None:
            if hidden_size % num_attention_heads:
                raise ShapeError(
                    f"TransformerBlock: hidden_size={hidden_size} is no multiple of "
                    f"num_attention_heads={num_attention_heads}, and head_dim is not given"
                )
            head_dim = hidden_size // num_attention_heads
        if rope is None:
            rope = RoPE(max_position_embeddings, rope_theta, head_dim, device)
        elif rope.head_dim != head_dim:
            raise ShapeError(f"TransformerBlock: rope has head_dim={rope.head_dim}, the block {head_dim}")
        super().__init__()
        self.hidden_size = hidden_size
        self.input_layernorm = RMSNorm(hidden_size, rms_norm_eps, device=device, dtype=dtype)
        self.self_attn = SelfAttention(
            hidden_size, num_attention_heads, kv, head_dim, rope, attention_bias, device, dtype
        )
        self.post_attention_layernorm = RMSNorm(hidden_size, rms_norm_eps, device=device, dtype=dtype)
        self.mlp = GatedMLP(hidden_size, intermediate_size, device, dtype)

    def new_cache(self, length: int, batch: int = 1) -> tuple[Tensor, Tensor]:
        """Make room for the keys and values of `batch` sequences of up to `length` positions.

        Returns
        -------
        tuple of Tensor
            Keys and values, ``(batch, num_key_value_heads, length, head_dim)``, with the block's dtype and
            on its device.
        """
        attention = self.self_attn
        shape = (batch, attention.num_key_value_heads, length, attention.head_dim)
        weight = attention.k_proj.weight
        keys, values = (infinicore.empty(shape, dtype=weight.dtype, device=weight.device) for _ in range(2))
        return keys, values

    def forward(
        self, states: Tensor, position: int = 0, cache: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Run new tokens through the block.

        Parameters
        ----------
        states : Tensor
            Shape ``(batch, seq, hidden_size)`` or ``(seq, hidden_size)``.
        position : int
            How many tokens of each sequence the cache holds already.
        cache : tuple of Tensor, optional
            What `new_cache` made; it takes in the new keys and values. Without one the tokens see only each
            other.

        Returns
        -------
        Tensor
            Shape and dtype of `states`.

        Raises
        ------
        InvalidArgument
            The positions do not fit the cache or the rotary tables, or there is no cache for the tokens
            before `position`.
        ShapeError
            `states` or `cache` has another shape.
        """
        if states.ndim == 2:
            return self.forward(states.unsqueeze(0), position, cache).squeeze(0)
        if states.ndim != 3:
            raise ShapeError(f"TransformerBlock: states has {states.ndim} dimensions, expected 2 or 3")
        batch, seq, _ = states.shape
        limit = self.self_attn.positions.shape[0]
        if position < 0 or position + seq > limit:
            raise InvalidArgument(
                f"TransformerBlock: position={position} and {seq} tokens do not fit "
                f"max_position_embeddings={limit}"
            )
        if cache is None:
            if position:
                raise InvalidArgument(f"TransformerBlock: position={position}, but there is no cache")
            cache = self.new_cache(seq, batch)
        elif cache[0].shape[0] != batch:
            raise ShapeError(f"TransformerBlock: states has batch={batch}, but cache has {cache[0].shape[0]}")
        branch = self.self_attn(self.input_layernorm(states), position, cache)
        norm = self.post_attention_layernorm
        normed, states = ops.add_rms_norm(branch, states, norm.weight, norm.eps)
        return ops.add(states, self.mlp(normed))
