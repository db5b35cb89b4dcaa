# A Llama in infinicore operators: nine calls per layer, on any device that infinicore has.
# Reads Hugging Face checkpoints (config.json, *.safetensors); knows nothing of text, sampling or printing.
"""A small, complete Llama."""

from __future__ import annotations

import ctypes
import json
import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors

import infinicore as ic

DTYPES = {
    "F64": ic.float64,
    "F32": ic.float32,
    "F16": ic.float16,
    "BF16": ic.bfloat16,
}


class CheckpointError(ic.InvalidArgument):
    """A file of a checkpoint is missing, damaged, or describes something else than it should."""


# ---- configuration -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Config:
    """The numbers that make one Llama differ from another, under the names of config.json."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    tie_word_embeddings: bool
    dtype: ic.dtype
    end_tokens: tuple[int, ...]

    @classmethod
    def read(cls, folder: Path) -> Config:
        """Read config.json, with the keys of transformers 4 (torch_dtype, ...) or of 5 (dtype, ...)."""
        path = folder / "config.json"
        values = read_json(path)

        def number(key: str, default: Any = None, kind: Any = int) -> Any:
            value: Any = values.get(key)
            if value is None:
                value = default
            if kind is float and type(value) is int:
                value = float(value)
            if type(value) is not kind or value <= 0:
                raise CheckpointError(f"{path}: {key} must be a positive {kind.__name__}, got {value!r}")
            return value

        def only(key: str, supported: object) -> None:
            if values.get(key, supported) != supported:
                raise CheckpointError(
                    f"{path}: {key} is {values[key]!r}, this model code knows {supported!r}"
                )

        rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind != "default":
            raise CheckpointError(f"{path}: rope_type is {kind!r}, this model code knows 'default'")
        only("model_type", "llama")
        only("hidden_act", "silu")
        only("attention_bias", False)
        only("mlp_bias", False)
        dtype = values.get("dtype") or values.get("torch_dtype") or "float32"
        if dtype not in ("float64", "float32", "float16", "bfloat16"):
            raise CheckpointError(f"{path}: dtype is {dtype!r}, not a floating-point type")
        end = values.get("eos_token_id")
        hidden, heads = number("hidden_size"), number("num_attention_heads")
        config = cls(
            vocab_size=number("vocab_size"),
            hidden_size=hidden,
            intermediate_size=number("intermediate_size"),
            num_hidden_layers=number("num_hidden_layers"),
            num_attention_heads=heads,
            num_key_value_heads=number("num_key_value_heads", heads),
            head_dim=number("head_dim", hidden // heads),
            max_position_embeddings=number("max_position_embeddings", 2048),
            rms_norm_eps=number("rms_norm_eps", 1e-6, float),
            rope_theta=number("rope_theta", rope.get("rope_theta", 10000.0), float),
            tie_word_embeddings=bool(values.get("tie_word_embeddings", False)),
            dtype=getattr(ic, dtype),
            end_tokens=tuple(end) if isinstance(end, list) else () if end is None else (end,),
        )
        if heads % config.num_key_value_heads:
            raise CheckpointError(
                f"{path}: num_attention_heads {heads} is no multiple of num_key_value_heads "
                f"{config.num_key_value_heads}"
            )
        return config


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, or say which file is at fault and why."""
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # malformed JSON or text
        raise CheckpointError(f"{path}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


# ---- weights -------------------------------------------------------------------------------------


def described_bytes(content: bytes) -> int | None:
    """Compute the size that a safetensors header gives its file; None when there is no readable header."""
    end = 8 + int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8:end])
        return end + max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None


def read_safetensors(path: Path) -> Iterator[tuple[str, ic.Tensor]]:
    """Yield the tensors of one file, in host memory and with the file's own dtypes."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    try:
        entries = safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
        expected = described_bytes(content)
        if expected is not None and expected != len(content):
            raise CheckpointError(
                f"{path}: the header describes {expected} bytes, the file has {len(content)}"
            ) from None
        raise CheckpointError(f"{path}: {error} (the file has {len(content)} bytes)") from None
    for name, entry in entries:
        dtype, shape, data = entry["dtype"], tuple(entry["shape"]), entry["data"]
        if dtype not in DTYPES:
            raise CheckpointError(
                f"{path}: {name} has dtype {dtype}, a Llama's weights are {', '.join(DTYPES)}"
            )
        tensor = ic.empty(shape, dtype=DTYPES[dtype], device="cpu")
        if data:
            address = ctypes.addressof(ctypes.c_char.from_buffer(data))
            tensor.copy_(ic.from_blob(address, shape, dtype=DTYPES[dtype], device="cpu"))
        yield name, tensor


class Checkpoint:
    """Every tensor of a checkpoint folder, each to be taken once."""

    def __init__(self, folder: Path, dtype: ic.dtype, device: ic.device) -> None:
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise CheckpointError(f"{folder / 'model.safetensors'}: No such file or directory")
        self.folder, self.dtype, self.device = folder, dtype, device
        self.tensors = {name: tensor for path in files for name, tensor in read_safetensors(path)}

    def take(self, name: str, *shape: int) -> ic.Tensor:
        """Hand over one weight, in the model's dtype and on its device."""
        if name not in self.tensors:
            raise CheckpointError(f"{self.folder}: no tensor {name!r} of shape {shape} in *.safetensors")
        tensor = self.tensors.pop(name)
        if tuple(tensor.shape) != shape:
            raise CheckpointError(
                f"{self.folder}: {name} has shape {tuple(tensor.shape)} in *.safetensors, "
                f"config.json makes it {shape}"
            )
        return tensor.to(self.dtype).to(self.device)

    def stack(self, rows: dict[str, int], columns: int) -> ic.Tensor:
        """Stack several weights by rows, so that one product computes them all."""
        return ic.cat([self.take(name, count, columns) for name, count in rows.items()], 0)


# ---- the model -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """The weights of one block; products that share an input are stacked into one."""

    attention_norm: ic.Tensor  # (hidden,)
    qkv: ic.Tensor  # ((heads + 2 * kv_heads) * head_dim, hidden)
    output: ic.Tensor  # (hidden, heads * head_dim)
    mlp_norm: ic.Tensor  # (hidden,)
    gate_up: ic.Tensor  # (2 * intermediate, hidden)
    down: ic.Tensor  # (hidden, intermediate)


class Activations:
    """The intermediate tensors of a forward pass over `length` tokens, and the views of them that layers use.

    They are made once per length: a decoding step allocates nothing.
    """

    def __init__(self, config: Config, length: int, dtype: ic.dtype, device: ic.device) -> None:
        def new(*shape: int) -> ic.Tensor:
            return ic.empty(shape, dtype=dtype, device=device)

        heads, kv, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        self.hidden = new(length, config.hidden_size)
        self.normed = new(length, config.hidden_size)
        self.branch = new(length, config.hidden_size)  # what attention or MLP adds to the residual stream

        self.qkv = new(length, (heads + 2 * kv) * size)
        by_head = self.qkv.view((length, heads + 2 * kv, size))
        self.rotated = by_head.narrow(1, 0, heads + kv)  # queries and keys turn together
        self.q = by_head.narrow(1, 0, heads).permute((1, 0, 2))
        self.k = by_head.narrow(1, heads, kv).permute((1, 0, 2))
        self.v = by_head.narrow(1, heads + kv, kv).permute((1, 0, 2))
        self.context = new(length, heads, size)
        self.context_rows = self.context.view((length, heads * size))

        self.gate_up = new(length, 2 * config.intermediate_size)
        self.gate = self.gate_up.narrow(1, 0, config.intermediate_size)
        self.up = self.gate_up.narrow(1, config.intermediate_size, config.intermediate_size)
        self.activated = new(length, config.intermediate_size)


class Cache:
    """Keys and values of every layer, for up to `length` positions of one sequence."""

    def __init__(self, config: Config, length: int, dtype: ic.dtype, device: ic.device) -> None:
        shape = (config.num_key_value_heads, length, config.head_dim)
        self.length = length
        self.layers = [
            (ic.zeros(shape, dtype=dtype, device=device), ic.zeros(shape, dtype=dtype, device=device))
            for _ in range(config.num_hidden_layers)
        ]


class Llama:
    """A Llama with its weights on one device.

    Parameters
    ----------
    folder
        A checkpoint: config.json and one or more ``*.safetensors``.
    device
        Any device string or object.
    dtype
        The dtype to compute in; the checkpoint's own when absent.
    """

    def __init__(
        self, folder: str | Path, device: str | ic.device = "cpu", *, dtype: ic.dtype | None = None
    ) -> None:
        folder = Path(folder)
        self.config = config = Config.read(folder)
        self.device = ic.device(device)
        self.dtype = dtype or config.dtype
        weights = Checkpoint(folder, self.dtype, self.device)
        hidden, ffn, size = config.hidden_size, config.intermediate_size, config.head_dim
        queries, keys = config.num_attention_heads * size, config.num_key_value_heads * size

        self.embedding = weights.take("model.embed_tokens.weight", config.vocab_size, hidden)
        self.layers = []
        for index in range(config.num_hidden_layers):
            at = f"model.layers.{index}."
            self.layers.append(
                Layer(
                    attention_norm=weights.take(at + "input_layernorm.weight", hidden),
                    qkv=weights.stack(
                        {
                            at + "self_attn.q_proj.weight": queries,
                            at + "self_attn.k_proj.weight": keys,
                            at + "self_attn.v_proj.weight": keys,
                        },
                        hidden,
                    ),
                    output=weights.take(at + "self_attn.o_proj.weight", hidden, queries),
                    mlp_norm=weights.take(at + "post_attention_layernorm.weight", hidden),
                    gate_up=weights.stack(
                        {at + "mlp.gate_proj.weight": ffn, at + "mlp.up_proj.weight": ffn}, hidden
                    ),
                    down=weights.take(at + "mlp.down_proj.weight", hidden, ffn),
                )
            )
        self.norm = weights.take("model.norm.weight", hidden)
        self.head = (
            self.embedding
            if config.tie_word_embeddings
            else weights.take("lm_head.weight", config.vocab_size, hidden)
        )
        self._activations: dict[int, Activations] = {}
        self._tables: tuple[ic.Tensor, ic.Tensor, ic.Tensor] | None = None

    def cache(self, length: int) -> Cache:
        """Make room for a sequence of up to `length` tokens."""
        limit = self.config.max_position_embeddings
        if not 0 < length <= limit:
            raise ic.InvalidArgument(
                f"Llama.cache: length is {length}, the model knows positions up to {limit}"
            )
        if self._tables is None or self._tables[0].shape[0] < length:
            self._tables = self._rotation(length)
        return Cache(self.config, length, self.dtype, self.device)

    def _rotation(self, length: int) -> tuple[ic.Tensor, ic.Tensor, ic.Tensor]:
        """Compute positions, and at each the sines and cosines that turn a pair of head dimensions."""
        half = self.config.head_dim // 2
        speeds = [self.config.rope_theta ** (-i / half) for i in range(half)]
        angles = [position * speed for position in range(length) for speed in speeds]
        tables = []
        for function in (math.sin, math.cos):
            values = array("f", map(function, angles))
            address, _ = values.buffer_info()
            blob = ic.from_blob(address, (length, half), dtype=ic.float32, device="cpu")
            tables.append(ic.empty((length, half), dtype=ic.float32, device=self.device).copy_(blob))
        positions = ic.arange(length, dtype=ic.int32, device=self.device)
        return positions, tables[0], tables[1]

    def forward(self, tokens: ic.Tensor, position: int, cache: Cache, *, every: bool = False) -> ic.Tensor:
        """Run tokens that stand at `position` and after, and remember their keys and values in `cache`.

        Parameters
        ----------
        tokens
            (length,), any integer dtype, on the model's device.
        position
            How many tokens of this sequence the cache holds already.
        cache
            Made by `cache`.
        every
            Return the logits after every token, not only after the last.

        Returns
        -------
        Tensor
            Logits, (1, vocab_size) or (length, vocab_size).
        """
        length = tokens.shape[0]
        if length == 0 or position + length > cache.length:
            raise ic.InvalidArgument(
                f"Llama.forward: {length} tokens at position {position} do not fit a cache of {cache.length}"
            )
        assert self._tables is not None, "cache() made them"
        epsilon = self.config.rms_norm_eps
        all_positions, sines, cosines = self._tables
        positions = all_positions.narrow(0, position, length)
        a = self._activations.get(length)
        if a is None:
            a = Activations(self.config, length, self.dtype, self.device)
            # Prompts have many lengths; a decoding step has one, and that is the one worth keeping.
            if length == 1:
                self._activations[length] = a

        ic.embedding(tokens, self.embedding, out=a.hidden)
        ic.rms_norm(a.hidden, self.layers[0].attention_norm, epsilon, out=a.normed)
        following = [layer.attention_norm for layer in self.layers[1:]] + [self.norm]
        for layer, (keys, values), next_norm in zip(self.layers, cache.layers, following, strict=True):
            ic.linear(a.normed, layer.qkv, out=a.qkv)
            ic.rope(a.rotated, positions, sines, cosines, out=a.rotated)
            ic.attention(a.q, a.k, a.v, keys, values, position, out=a.context)
            ic.linear(a.context_rows, layer.output, out=a.branch)
            ic.add_rms_norm(a.branch, a.hidden, layer.mlp_norm, epsilon, out=(a.normed, a.hidden))
            ic.linear(a.normed, layer.gate_up, out=a.gate_up)
            ic.swiglu(a.up, a.gate, out=a.activated)
            ic.linear(a.activated, layer.down, out=a.branch)
            ic.add_rms_norm(a.branch, a.hidden, next_norm, epsilon, out=(a.normed, a.hidden))
        return ic.linear(a.normed if every else a.normed.narrow(0, length - 1, 1), self.head)
