# nn.functional: the calls that models make, against NumPy; operators themselves are tested elsewhere.
# Here: names, defaults, in-place and `out`, shapes as lists or tuples, and what is refused.
from __future__ import annotations

import inspect
import random

import numpy as np
import pytest

import infinicore as ic
from infinicore import nn
from infinicore.nn import functional as F


def tensor(array, device="cpu"):
    return ic.from_numpy(np.ascontiguousarray(array)).to(device)


def draw(*shape, dtype=np.float32):
    return np.random.default_rng(sum(shape) + len(shape)).normal(size=shape).astype(dtype)


def close(result, want, tolerance=1e-5):
    np.testing.assert_allclose(result.to("cpu").numpy(), want, rtol=tolerance, atol=tolerance)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# The calls as existing programs write them.
SIGNATURES = {
    "causal_softmax": "input out=None",
    "conv2d": "input weight bias=None stride=1 padding=0 dilation=1 groups=1 *out=None",
    "hardswish": "input inplace=False *out=None",
    "hardtanh": "input min_val=-1.0 max_val=1.0 inplace=False *out=None",
    "log_softmax": "input dim *out=None",
    "relu6": "input inplace=False *out=None",
    "sigmoid": "input *out=None",
    "silu_and_mul": "input out=None",
    "softplus": "input beta=1.0 threshold=20.0 *out=None",
    "tanh": "input *out=None",
    "embedding": "input weight padding_idx=None max_norm=None norm_type=2.0 scale_grad_by_freq=False "
    "sparse=False *out=None",
    "layer_norm": "input normalized_shape weight bias eps=1e-05 *out=None",
    "linear": "input weight bias=None *alpha=1.0 *out=None",
    "linear_w8a8i8": "input weight_packed weight_scale bias=None out=None",
    "random_sample": "logits random_val topp topk temperature *out=None",
    "rms_norm": "input normalized_shape weight eps=1e-05 *out=None",
    "rope": "x pos_ids sin_table cos_table algo=GPT_NEOX *out=None",
    "silu": "input inplace=False *out=None",
    "swiglu": "input other *out=None",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name):
    words = []
    for parameter in inspect.signature(getattr(F, name)).parameters.values():
        default = parameter.default
        text = "" if default is parameter.empty else f"={getattr(default, 'name', default)}"
        words.append("*" * (parameter.kind is parameter.KEYWORD_ONLY) + parameter.name + text)
    assert " ".join(words) == SIGNATURES[name]


def test_every_name_is_documented():
    for name in F.__all__:
        assert getattr(F, name).__doc__, name


@pytest.mark.parametrize("device", ["cpu", "sim"], indirect=True)
def test_silu(device):
    x = draw(3, 5)
    a = tensor(x, device)
    close(F.silu(a), x * sigmoid(x))
    b = ic.empty_like(a)
    assert F.silu(a, out=b) is b and F.silu(a, inplace=True) is a
    close(a, x * sigmoid(x))
    with pytest.raises(ValueError, match="silu: inplace=True writes into input, but out is another tensor"):
        F.silu(a, True, out=b)
    for wrong in (x, None):
        with pytest.raises(TypeError, match=r"silu.*input"):
            F.silu(wrong)


# Activations whose calls are not the operators': name, further arguments, whether it works in place.
ACTIVATIONS = [
    ("relu", (), True),
    ("relu6", (), True),
    ("leaky_relu", (), True),
    ("leaky_relu", (0.3,), True),
    ("elu", (), True),
    ("elu", (0.5,), True),
    ("hardswish", (), True),
    ("hardtanh", (), True),
    ("hardtanh", (-0.5, 0.25), True),
    ("gelu", (), False),
    ("gelu", ("tanh",), False),
    ("sigmoid", (), False),
    ("tanh", (), False),
    ("softplus", (), False),
    ("softplus", (2.0, 0.5), False),
    ("log_softmax", (0,), False),
    ("log_softmax", (-1,), False),
]


@pytest.mark.torch
@pytest.mark.parametrize(("name", "rest", "inplace"), ACTIVATIONS)
def test_activations_are_pytorch_s(torch, name, rest, inplace):
    x = draw(4, 7) * 3
    options = {"approximate": rest[0]} if name == "gelu" and rest else {}
    given = () if options else rest
    theirs = getattr(torch.nn.functional, name)(torch.from_numpy(x), *given, **options).numpy()
    function, a = getattr(F, name), tensor(x)
    close(function(a, *given, **options), theirs)
    out = ic.empty_like(a)
    assert function(a, *given, **options, out=out) is out
    close(out, theirs)
    if inplace:
        with pytest.raises(ValueError, match=f"{name}: inplace=True"):
            function(a, *given, inplace=True, out=out)
        assert function(a, *given, inplace=True) is a
        close(a, theirs)


def test_gelu_has_two_forms():
    with pytest.raises(ValueError, match="gelu: approximate is 'erf'"):
        F.gelu(tensor(draw(2)), "erf")


def test_silu_and_mul(device):
    x = draw(3, 8)
    close(F.silu_and_mul(tensor(x, device)), x[:, :4] * sigmoid(x[:, :4]) * x[:, 4:])


def test_swiglu_gates_by_the_second(device):
    a, b = draw(4, 6), draw(6, 4).T
    close(F.swiglu(tensor(a, device), tensor(b, device)), a * b * sigmoid(b))


def test_softmaxes(device):
    x = draw(2, 3, 5)
    e = np.exp(x)
    close(F.softmax(tensor(x, device)), e / e.sum(-1, keepdims=True))
    close(F.softmax(tensor(x, device), 1), e / e.sum(1, keepdims=True))
    e = np.where(np.arange(5) <= np.arange(3)[:, None] + 2, e, 0)
    a = tensor(x, device)
    assert F.causal_softmax(a, a) is a
    close(a, e / e.sum(-1, keepdims=True))


@pytest.mark.parametrize("shape", [[6], (6,), [3, 6], (2, 3, 6)])
@pytest.mark.parametrize("given", ["out", None])
def test_norms(device, shape, given):
    x, w, b = draw(4, 2, 3, 6), draw(*shape), draw(*shape) + 1
    axes = tuple(range(-len(shape), 0))
    rms = x / np.sqrt((x * x).mean(axes, keepdims=True) + 1e-5) * w
    centred = x - x.mean(axes, keepdims=True)
    layer = centred / np.sqrt((centred * centred).mean(axes, keepdims=True) + 1e-5)
    a, weight, bias = (tensor(array, device) for array in (x, w, b))
    results = []
    for function, want, rest in (
        (F.rms_norm, rms, (weight,)),
        (F.layer_norm, layer * w + b, (weight, bias)),
        (F.layer_norm, layer * w, (weight, None)),
        (F.layer_norm, layer, (None, None)),
    ):
        out = ic.empty_like(a) if given else None
        results.append(function(a, shape, *rest, out=out))
        assert out is None or results[-1] is out
        close(results[-1], want, 1e-4)


def test_norms_check_the_shape():
    x, w = tensor(draw(2, 6)), tensor(draw(6))
    with pytest.raises(ValueError, match=r"rms_norm: normalized_shape is \[5\], but weight has shape \[6\]"):
        F.rms_norm(x, (5,), w)
    with pytest.raises(
        ValueError, match=r"layer_norm: normalized_shape is \[6\], but input has shape \[6, 2\]"
    ):
        F.layer_norm(x.T, [6], w, None)
    with pytest.raises(ValueError, match=r"normalized_shape is \[\]"):
        F.layer_norm(x, [], None, None)


@pytest.mark.parametrize("name", ["rms_norm", "layer_norm"])
def test_norms_take_one_size_as_a_number(name):
    x, weight = tensor(draw(3, 4)), tensor(draw(4))
    rest = () if name == "rms_norm" else (None,)
    norm = getattr(F, name)
    assert norm(x, 4, weight, *rest).tolist() == norm(x, [4], weight, *rest).tolist()
    with pytest.raises(
        ic.ShapeError, match=rf"{name}: normalized_shape is \[3\], but weight has shape \[4\]"
    ):
        norm(x, 3, weight, *rest)


def test_what_is_no_tensor_is_named():
    x = tensor(draw(2, 4))
    for act, message in (
        (lambda: F.rms_norm(np.ones(4), [4], x[0]), r"rms_norm: input must be .*Tensor, not numpy\.ndarray"),
        (lambda: F.layer_norm(x, [4], x[0], 5), "layer_norm: bias must be .*Tensor, not int"),
        (lambda: F.conv1d(x, 5), "conv1d: weight must be .*Tensor, not int"),
        (
            lambda: F.random_sample([1.0], 0.5, 1.0, 1, 1.0),
            "random_sample: logits must be .*Tensor, not list",
        ),
        (lambda: ic.sum(x, dim=("a",)), "sum: dim must be a sequence of ints"),
        (lambda: ic.matmul(x, 5), "matmul: other must be"),
    ):
        with pytest.raises(ic.ArgumentTypeError, match=message):
            act()


def test_linear(device):
    x, w, b = draw(2, 3, 4), draw(5, 4), draw(5)
    a, weight, bias = (tensor(array, device) for array in (x, w, b))
    close(F.linear(a, weight), x @ w.T)
    out = ic.empty((2, 3, 5), dtype=ic.float32, device=device)
    assert F.linear(a, weight, bias, out=out) is out
    close(out, x @ w.T + b)


def test_linear_w8a8i8(device):
    x, weight, bias = draw(2, 3, 16), draw(5, 16), draw(5)
    packed, scale, _ = ic.per_channel_quant_int8(tensor(weight), symmetric=True)
    rounded = packed.numpy() * scale.numpy()
    # What is left to differ is the rounding of each row of x to 127 steps on either side.
    bound = np.abs(x).max(-1, keepdims=True) / 254 @ np.abs(rounded).sum(-1)[None, None] + 1e-5
    on = [a.to(device) for a in (tensor(x), packed, scale)]
    for result, added in (
        (F.linear_w8a8i8(*on), 0),
        (F.linear_w8a8i8(on[0], on[1], on[2].flatten(), tensor(bias, device)), bias),
    ):
        assert result.shape == [2, 3, 5] and result.dtype is ic.float32
        difference = np.abs(result.to("cpu").numpy() - (x @ rounded.T + added))
        assert (difference <= bound).all() and difference.max() > 0
    out = ic.empty((5,), dtype=ic.float32, device=device)
    assert F.linear_w8a8i8(on[0][0, 0], on[1], on[2], None, out) is out
    close(out, F.linear_w8a8i8(*on).to("cpu").numpy()[0, 0])
    assert F.linear_w8a8i8(on[0][:0], on[1], on[2]).shape == [0, 3, 5]
    with pytest.raises(ic.ShapeError, match=r"linear_w8a8i8: out has shape \[5\], but the result has"):
        F.linear_w8a8i8(*on, out=out)
    with pytest.raises(ic.DTypeError, match=r"linear_w8a8i8: out has .*float16, but input has .*float32"):
        F.linear_w8a8i8(on[0][0, 0], on[1], on[2], out=out.to(ic.float16))
    with pytest.raises(ic.ShapeError, match=r"linear_w8a8i8: input has shape \[2, 3, 16\], but weight_p"):
        F.linear_w8a8i8(on[0], on[1].permute((1, 0)), on[2])
    with pytest.raises(ic.ArgumentTypeError, match=r"linear_w8a8i8: weight_scale must be an infinicore"):
        F.linear_w8a8i8(on[0], on[1], 1.0)


def test_conv(device):
    x, w = draw(2, 4, 7), draw(6, 2, 3)
    a, weight = tensor(x, device), tensor(w, device)
    whole = F.conv1d(a, weight, stride=2, padding=1, groups=2)
    assert whole.shape == [2, 6, 4]
    out = ic.empty((6, 4), dtype=ic.float32, device=device)
    assert F.conv1d(a[1], weight, None, (2,), [1], 1, 2, out=out) is out
    close(out, whole[1].to("cpu").numpy())
    flat = F.conv2d(a.unsqueeze(2), weight.unsqueeze(2), stride=(1, 2), padding=(0, 1), groups=2)
    close(flat.squeeze(2), whole.to("cpu").numpy())
    with pytest.raises(ValueError, match="conv2d: input has 3 dimensions and weight 3, expected 4"):
        F.conv2d(a, weight)
    with pytest.raises(
        ValueError, match="conv1d: input has 4 channels, but weight has 2 in each of groups=1"
    ):
        F.conv1d(a, weight)


def test_embedding(device):
    table = draw(7, 3)
    ids = np.array([[0, 6, 2], [5, 5, 1]])
    for kind in (np.int64, np.int32):
        close(F.embedding(tensor(ids.astype(kind), device), tensor(table, device)), table[ids])
    for option in (
        {"padding_idx": 0},
        {"max_norm": 1.0},
        {"norm_type": 1.0},
        {"scale_grad_by_freq": True},
        {"sparse": True},
    ):
        with pytest.raises(ValueError, match=rf"embedding: Unsupported parameters\. {next(iter(option))}"):
            F.embedding(tensor(ids), tensor(table), **option)
        with pytest.raises(ValueError, match=r"Embedding: Unsupported parameters\."):
            nn.Embedding(7, 3, **option)
    with pytest.raises(IndexError):
        F.embedding(tensor(np.array([7])), tensor(table))


@pytest.mark.torch
def test_cross_entropy_is_pytorch_s(torch):
    x, w = draw(4, 5, 3), np.abs(draw(5))
    right = np.array([[0, 4, 1], [2, 2, -1], [3, 0, 0], [1, -1, 4]])
    theirs = torch.nn.functional.cross_entropy
    for rest, options in (
        ((), {"ignore_index": -1}),
        ((w,), {"ignore_index": -1, "reduction": "sum"}),
        ((w,), {"ignore_index": -1, "reduction": "none"}),
    ):
        given = [x, right, *rest]
        want = theirs(*map(torch.from_numpy, given), **options).numpy()
        close(F.cross_entropy(*map(tensor, given), **options), want)
    with pytest.raises(ic.InvalidArgument, match=r"cross_entropy: label_smoothing=0\.1 only matters"):
        F.cross_entropy(tensor(x), tensor(right), label_smoothing=0.1)
    with pytest.raises(ic.InvalidArgument, match="cross_entropy: reduction='max'"):
        F.cross_entropy(tensor(x), tensor(right), reduction="max")


def test_random_sample(device):
    logits = tensor(np.array([[0.1, 3.0, 0.2], [5.0, 1.0, 1.0]], np.float32), device)
    assert F.random_sample(logits[0], 0.5, 1.0, 1, 1.0).item() == 1
    greedy = F.random_sample(logits, 0.5, 1.0, 1, 1.0)
    assert greedy.dtype is ic.int32 and greedy.tolist() == [1, 0]
    mixed = F.random_sample(logits, [0.999, 0.0], (1.0, 1.0), [0, 1], [1.0, 1.0])
    assert mixed.tolist() == [
        0,
        0,
    ]  # the smallest logit comes last; of the second row only the largest is left
    out = ic.empty((2,), dtype=ic.int64, device=device)
    assert F.random_sample(logits, 0.5, 0.0, 0, 1.0, out=out) is out and out.tolist() == [1, 0]
    assert F.random_sample(logits[:0], None, 1.0, 0, 1.0).shape == [0]
    with pytest.raises(ValueError, match="topk has 3 values, but logits has 2 rows"):
        F.random_sample(logits, 0.5, 1.0, [1, 2, 3], 1.0)
    with pytest.raises(ValueError, match="1 or 2 dimensions, got 3"):
        F.random_sample(logits.unsqueeze(0), 0.5, 1.0, 1, 1.0)


def test_random_sample_draws_for_itself():
    logits = tensor(np.zeros((400, 4), np.float32))
    random.seed(3)
    drawn = F.random_sample(logits, None, 1.0, 0, 1.0).tolist()
    assert {drawn.count(token) > 60 for token in range(4)} == {True}
    random.seed(3)
    assert F.random_sample(logits, None, 1.0, 0, 1.0).tolist() == drawn
    assert F.random_sample(logits[0], random_val=None, topp=1.0, topk=0, temperature=1.0).item() in range(4)
