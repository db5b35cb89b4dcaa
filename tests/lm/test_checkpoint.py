# Checkpoints that are missing, cut short, altered or of something else: one exception, which names the file
# and both values, and a process that goes on.
"""Damaged checkpoints."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import safetensors

import infinicore as ic


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copy(folder / name, tmp_path)
    return tmp_path


def configure(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        values = json.loads((folder / "config.json").read_text())
        for key, value in changes.items():
            if value is ...:
                del values[key]
            else:
                values[key] = value
        (folder / "config.json").write_text(json.dumps(values))

    return change


def cut(size: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:size])

    return change


def reheader(edit: Callable[[dict], None]) -> Callable[[Path], None]:
    """Change the JSON header of the weights and keep the data."""

    def change(folder: Path) -> None:
        path = folder / "model.safetensors"
        content = path.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        edit(header)
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])

    return change


def rename(header: dict) -> None:
    header["model.layers.3.mlp.up.weight"] = header.pop("model.layers.3.mlp.up_proj.weight")


def retype(header: dict) -> None:
    header["model.norm.weight"]["dtype"] = "I16"


def shift(header: dict) -> None:
    header["model.norm.weight"]["data_offsets"][1] += 2


def flip(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(content)


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def overwrite(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content)


UP, GATE = r"model\.layers\.3\.mlp\.up_proj\.weight", r"mlp\.gate_proj\.weight"
DESCRIBED = r"model\.safetensors: the header describes 6302472 bytes"
DAMAGES = {
    "no config": (remove("config.json"), r"config\.json: No such file"),
    "config cut": (overwrite("config.json", b'{"a": '), r"config\.json: not JSON"),
    "config bytes": (overwrite("config.json", b"\xff\xfe\x00"), r"config\.json: not JSON"),
    "config list": (overwrite("config.json", b"[1]"), r"config\.json: .*object, got list"),
    "no size": (configure(hidden_size=...), r"config\.json: hidden_size must be a positive int, got None"),
    "size as text": (configure(vocab_size="4096"), r"config\.json: vocab_size must be .* int, got '4096'"),
    "negative size": (configure(num_hidden_layers=-2), r"config\.json: num_hidden_layers .*got -2"),
    "heads": (configure(num_key_value_heads=4), r"num_attention_heads 6 is no multiple .* 4"),
    "other model": (configure(model_type="gpt2"), r"config\.json: model_type is 'gpt2', .*'llama'"),
    "other rope": (configure(rope_parameters={"rope_type": "yarn"}), r"rope_type is 'yarn', .*'default'"),
    "other dtype": (configure(dtype="int8"), r"config\.json: dtype is 'int8'"),
    "no weights": (remove("model.safetensors"), r"model\.safetensors: No such file"),
    "empty weights": (cut(0), r"model\.safetensors: .*\(the file has 0 bytes\)"),
    "length cut": (cut(5), r"model\.safetensors: .*\(the file has 5 bytes\)"),
    "header cut": (cut(500), r"model\.safetensors: .*\(the file has 500 bytes\)"),
    "data cut": (cut(6_000_001), DESCRIBED + ", the file has 6000001"),
    "one byte cut": (cut(6_302_471), DESCRIBED + ", the file has 6302471"),
    "header damaged": (flip, r"model\.safetensors: .*6302472 bytes"),
    "tensor missing": (reheader(rename), rf"no tensor '{UP}' of shape \(512, 192\)"),
    "tensor of integers": (reheader(retype), r"model\.safetensors: model\.norm\.weight has dtype I16"),
    "offsets": (reheader(shift), r"model\.safetensors: "),
    "shape": (configure(intermediate_size=500), GATE + r" has shape \(512, 192\) .* \(500, 192\)"),
    "not tied": (configure(tie_word_embeddings=False), r"no tensor 'lm_head\.weight' of shape \(4096, 192\)"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named(damage: str, llama: ModuleType, copy: Path) -> None:
    change, message = DAMAGES[damage]
    change(copy)
    with pytest.raises(llama.CheckpointError, match=message) as caught:
        llama.Llama(copy)
    assert isinstance(caught.value, ic.Error)
    assert str(copy) in str(caught.value)


def test_undamaged(llama: ModuleType, copy: Path) -> None:
    assert llama.Llama(copy).config.vocab_size == 4096


def test_several_files(llama: ModuleType, copy: Path) -> None:
    """A checkpoint in shards: each tensor is taken from the file it is in."""
    content = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").unlink()
    entries = safetensors.deserialize(content)
    for number, part in enumerate((entries[:20], entries[20:]), 1):
        header, data = {}, b""
        for name, entry in part:
            offsets = [len(data), len(data) + len(entry["data"])]
            header[name] = {"dtype": entry["dtype"], "shape": entry["shape"], "data_offsets": offsets}
            data += entry["data"]
        text = json.dumps(header).encode()
        shard = struct.pack("<Q", len(text)) + text + data
        (copy / f"model-{number:05}-of-00002.safetensors").write_bytes(shard)
    assert len(llama.Llama(copy).layers) == 6
