# TransformerBlock: a layer of a Hugging Face Llama loads as it is and computes the same; tokens one at a
# time, with a cache, come to what they are all at once.
from __future__ import annotations

import numpy as np
import pytest

import infinicore as ic
from infinicore import nn

SIZES = dict(hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2)


def filled(block, seed=1):
    """Give a block drawn weights."""
    generator = np.random.default_rng(seed)
    for value in block.state_dict().values():
        drawn = generator.normal(size=tuple(value.shape), scale=0.2)
        value.copy_(ic.from_numpy(drawn.astype(np.float32)))
    return block


def states(*shape, device="cpu"):
    drawn = np.random.default_rng(7).normal(size=shape).astype(np.float32)
    return ic.from_numpy(drawn).to(device)


def test_names():
    assert list(nn.TransformerBlock(**SIZES).state_dict()) == [
        "input_layernorm.weight",
        *(f"self_attn.{name}_proj.weight" for name in "qkvo"),
        "post_attention_layernorm.weight",
        *(f"mlp.{name}_proj.weight" for name in ("gate", "up", "down")),
    ]
    biased = nn.TransformerBlock(**SIZES, attention_bias=True)
    assert len(biased.state_dict()) == 13 and biased.self_attn.k_proj.bias.shape == [16]


@pytest.mark.parametrize("shape", [(1, 6, 32), (3, 6, 32), (6, 32)])
def test_one_token_at_a_time(device, shape):
    block = filled(nn.TransformerBlock(**SIZES)).to(device)
    x = states(*shape, device=device)
    want = block(x).to("cpu").numpy()
    assert want.shape == shape
    cache = block.new_cache(8, shape[0] if len(shape) == 3 else 1)
    assert [list(each.shape) for each in cache] == [[cache[0].shape[0], 2, 8, 8]] * 2
    pieces, dim = [], len(shape) - 2
    for first, length in ((0, 3), (3, 1), (4, 2)):
        pieces.append(block(x.narrow(dim, first, length), first, cache).to("cpu").numpy())
    np.testing.assert_allclose(np.concatenate(pieces, axis=dim), want, rtol=1e-4, atol=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 5e-2)])
def test_a_llama_layer(torch, dtype, tolerance):
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

    torch.manual_seed(3)
    config = LlamaConfig(**SIZES, rms_norm_eps=1e-5, max_position_embeddings=64, attention_bias=True)
    config._attn_implementation = "eager"
    kind = getattr(torch, dtype)
    theirs = LlamaDecoderLayer(config, 0).to(kind).eval()
    ours = nn.TransformerBlock(
        **SIZES,
        rms_norm_eps=1e-5,
        max_position_embeddings=64,
        attention_bias=True,
        dtype=getattr(ic, dtype),
    )
    assert ours.load_state_dict(theirs.state_dict()) == ([], [])
    back = {name: value.to_torch() for name, value in ours.state_dict().items()}
    assert list(back) and all(torch.equal(back[name], value) for name, value in theirs.state_dict().items())

    x = torch.randn(2, 5, 32, dtype=kind)
    positions = torch.arange(5)[None]
    mask = torch.full((5, 5), float("-inf"), dtype=kind).triu(1)[None, None]
    with torch.no_grad():
        rotary = LlamaRotaryEmbedding(config)(x, positions)
        want = theirs(x, attention_mask=mask, position_ids=positions, position_embeddings=rotary)
    want = want[0] if isinstance(want, tuple) else want
    result = ours(ic.from_torch(x)).to_torch()
    torch.testing.assert_close(result, want, rtol=tolerance, atol=tolerance)


def test_blocks_share_tables():
    rope = nn.RoPE(16, 10000.0, 8)
    model = nn.Sequential(*(nn.TransformerBlock(**SIZES, rope=rope) for _ in range(3)))
    assert sum(name.endswith("sin_table") for name, _ in model.named_buffers()) == 1
    model.to(ic.float16)
    assert rope.sin_table.dtype is ic.float16 and model[2].self_attn.rotary_emb is rope


def test_refusals():
    for sizes, message in (
        (dict(num_key_value_heads=3), "num_attention_heads=4 is no multiple of num_key_value_heads=3"),
        (dict(num_attention_heads=0, num_key_value_heads=1), "num_attention_heads=0, must be at least 1"),
        (dict(hidden_size=30), "hidden_size=30 is no multiple of num_attention_heads=4"),
        (dict(rope=nn.RoPE(4, 1e4, 4)), "rope has head_dim=4, the block 8"),
    ):
        with pytest.raises(ValueError, match=message):
            nn.TransformerBlock(**{**SIZES, **sizes})
    block = filled(nn.TransformerBlock(**SIZES, max_position_embeddings=4))
    with pytest.raises(ValueError, match="position=3 and 2 tokens do not fit max_position_embeddings=4"):
        block(states(1, 2, 32), 3, block.new_cache(8))
    with pytest.raises(ValueError, match="position=1, but there is no cache"):
        block(states(1, 2, 32), 1)
    with pytest.raises(ValueError, match="states has batch=2, but cache has 1"):
        block(states(2, 2, 32), 0, block.new_cache(4))
    with pytest.raises(ValueError, match="states has 1 dimensions, expected 2 or 3"):
        block(states(32))
    with pytest.raises(ValueError, match=r"attention: pos=1 and s=2 new tokens do not fit l=2"):
        block(states(1, 2, 32), 1, block.new_cache(2))
