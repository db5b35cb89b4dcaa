# What each layer's constructor takes and refuses; what layers compute is compared with PyTorch's in
# test_state_dict.py, and here where PyTorch has no such layer.
from __future__ import annotations

import math

import numpy as np
import pytest

import infinicore as ic
from infinicore import nn


def tensor(values, dtype=ic.float32, device="cpu"):
    return ic.from_list(values, dtype=dtype, device=device)


def test_linear():
    layer = nn.Linear(4, 3)
    assert layer.weight.shape == (3, 4) and layer.bias is None and list(layer.state_dict()) == ["weight"]
    assert layer.weight.dtype is ic.float32 and layer.weight.device == ic.device("cpu")
    layer = nn.Linear(4, 3, True, ic.device("cpu"), ic.bfloat16)
    assert layer.bias.shape == (3,) and layer.bias.dtype is ic.bfloat16
    with pytest.raises(ic.ShapeError, match="linear"):
        layer(ic.ones((2, 5), dtype=ic.bfloat16, device="cpu"))


def test_layers_are_made_on_their_device(sim):
    for layer in (
        nn.Linear(2, 2, True, sim, ic.float16),
        nn.RMSNorm(2, device=sim, dtype=ic.float16),
        nn.LayerNorm(2, device=sim, dtype=ic.float16),
        nn.Embedding(2, 2, device=sim, dtype=ic.float16),
        nn.Conv1d(2, 2, 1, device=sim, dtype=ic.float16),
        nn.Conv2d(2, 2, 1, device=sim, dtype=ic.float16),
        nn.RoPE(4, 10000.0, 2, sim, ic.float16),
        nn.TransformerBlock(8, 8, 2, rope=nn.RoPE(4, 1e4, 4, sim, ic.float16), device=sim, dtype=ic.float16),
    ):
        values = [*layer.parameters(), *layer.buffers()]
        assert values and {str(value.device) for value in values} == {"sim:0"}, layer
        assert {value.dtype for value in values} <= {ic.float16, ic.int32}


def test_norms():
    assert nn.RMSNorm(4).weight.tolist() == [1.0] * 4 and nn.RMSNorm([4]).eps == 1e-6
    assert nn.LayerNorm([2, 4]).bias.tolist() == [[0.0] * 4] * 2 and nn.LayerNorm(4).eps == 1e-5
    with pytest.raises(ValueError, match="elementwise_affine=False"):
        nn.RMSNorm(4, elementwise_affine=False)
    for shape in ((4,), (2, 4), (2, 3, 4), (2, 1, 3, 2, 4)):  # any leading dimensions
        x = ic.ones(shape, dtype=ic.float32, device="cpu")
        np.testing.assert_allclose(nn.RMSNorm(4)(x).numpy(), 1, rtol=1e-5)
    norm = nn.RMSNorm(4, dtype=ic.float32)  # a weight wider than what it scales
    assert norm(ic.ones((2, 4), dtype=ic.bfloat16, device="cpu")).dtype is ic.bfloat16


def test_embedding():
    table = tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    layer = nn.Embedding(3, 2, _weight=table, _freeze=True)
    assert layer.weight.data_ptr() == table.data_ptr() and repr(layer) == "Embedding(3, 2)"
    for dtype in (ic.int32, ic.int64):
        assert layer(tensor([[2, 0]], dtype)).tolist() == [[[5.0, 6.0], [1.0, 2.0]]]
    assert layer(tensor([1], ic.int64)[0]).tolist() == [3.0, 4.0]
    with pytest.raises(IndexError):
        layer(tensor([3], ic.int64))
    with pytest.raises(ValueError, match=r"_weight has shape \[3, 2\], but the table is \[3, 3\]"):
        nn.Embedding(3, 3, _weight=table)


def test_conv():
    assert nn.Conv2d(4, 6, 3, groups=2).weight.shape == (6, 2, 3, 3)
    assert nn.Conv1d(4, 6, (3,)).bias.shape == (6,)
    with pytest.raises(ValueError, match="Conv1d: in_channels=4 is no multiple of groups=3"):
        nn.Conv1d(4, 6, 3, groups=3)
    with pytest.raises(ValueError, match="Conv2d: out_channels=5 is no multiple of groups=2"):
        nn.Conv2d(4, 5, 3, groups=2)
    with pytest.raises(ValueError, match="Conv2d: padding='same', expected an int or 2 of them"):
        nn.Conv2d(4, 4, 3, padding="same")
    with pytest.raises(ValueError, match=r"Conv2d: stride=\(1,\), expected an int or 2 of them"):
        nn.Conv2d(4, 4, 3, (1,))
    with pytest.raises(ValueError, match="padding_mode is 'circular'"):
        nn.Conv1d(4, 4, 3, padding_mode="circular")


# ---- RoPE ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "theta", "size"), [(1, 1e4, 2), (700, 1e4, 16), (3000, 5e5, 128)])
def test_rope_tables(length, theta, size):
    rope = nn.RoPE(length, theta, head_dim=size)
    half = size // 2
    angles = np.arange(length)[:, None] * theta ** (-np.arange(half) / half)
    for table, function in ((rope.sin_table, np.sin), (rope.cos_table, np.cos)):
        assert table.dtype is ic.float32 and table.shape == [length, half]
        np.testing.assert_allclose(table.numpy(), function(angles), rtol=0, atol=1e-7)
    assert not rope.state_dict() and len(list(rope.buffers())) == 2
    assert nn.RoPE(length, theta, size, dtype=ic.float16).sin_table.dtype is ic.float16


def test_rope_without_positions():
    assert nn.RoPE(0, 1e4, 4).sin_table.shape == [0, 2]
    assert nn.RoPE(4, 1e4, 0).sin_table.shape == [4, 0]


@pytest.mark.parametrize("algo", list(nn.functional.RopeAlgo))
@pytest.mark.parametrize("kind", [np.int64, np.int32])
@pytest.mark.parametrize("batched", [True, False])
def test_rope_turns_in_place(device, algo, kind, batched):
    shape = (2, 5, 3, 8) if batched else (5, 3, 8)
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    positions = np.arange(7, 12).astype(kind)
    positions = np.stack([positions, positions[::-1]]) if batched else positions
    states = ic.from_numpy(x).to(device)
    rope = nn.RoPE(32, 10000.0, 8, device=device)
    ids = ic.from_numpy(np.ascontiguousarray(positions)).to(device)
    result = rope(states, ids) if algo == nn.functional.RopeAlgo.GPT_NEOX else rope(states, ids, algo)
    assert result is states
    pairs = x.reshape(*shape[:-1], 4, 2) if algo == 0 else np.stack([x[..., :4], x[..., 4:]], -1)
    turned = (pairs[..., 0] + 1j * pairs[..., 1]) * np.exp(
        1j * positions[..., None, None] * 10000.0 ** (-np.arange(4) / 4)
    )
    want = (
        np.stack([turned.real, turned.imag], -1).reshape(shape)
        if algo == 0
        else np.concatenate([turned.real, turned.imag], -1)
    )
    np.testing.assert_allclose(states.to("cpu").numpy(), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("error", [AssertionError, ValueError])
def test_rope_of_an_odd_head(error):
    with pytest.raises(error, match="head_dim=7, but it must be even"):
        nn.RoPE(16, 1e4, 7)


def test_rope_beyond_its_tables():
    rope = nn.RoPE(4, 1e4, 2)
    with pytest.raises(IndexError, match="rope"):
        rope(ic.ones((1, 1, 2), dtype=ic.float32, device="cpu"), tensor([4], ic.int64))
    assert math.isclose(rope.cos_table[1, 0].item(), math.cos(1), rel_tol=1e-6)
