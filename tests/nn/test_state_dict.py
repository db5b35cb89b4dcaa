# State dicts: what goes in and out, what does not fit, and the exchange with PyTorch.
# Values travel bit for bit; a state dict that does not fit changes nothing.
from __future__ import annotations

from collections import OrderedDict

import ml_dtypes
import numpy as np
import pytest

import infinicore as ic
from infinicore import nn


def tensor(values, dtype=ic.float32):
    return ic.from_list(values, dtype=dtype, device="cpu")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 3, bias=True)
        self.norm = nn.RMSNorm(3)
        self.register_buffer("count", ic.zeros((1,), dtype=ic.int64, device="cpu"))
        self.register_buffer("scratch", ic.zeros((4,), dtype=ic.float32, device="cpu"), persistent=False)


def values_of(module):
    return {name: value.tolist() for name, value in module.state_dict().items()}


@pytest.fixture
def net():
    made = Net()
    for value in made.state_dict().values():
        value.fill_(0)
    return made


STATE = {
    "count": tensor([5], ic.int64),
    "layer.weight": tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
    "layer.bias": tensor([7.0, 8.0, 9.0]),
    "norm.weight": tensor([10.0, 11.0, 12.0]),
}


def test_there_and_back(net):
    result = net.load_state_dict(STATE)
    assert result == ([], []) and repr(result) == "<All keys matched successfully>"
    assert result.missing_keys == result.unexpected_keys == []
    assert values_of(net) == {name: value.tolist() for name, value in STATE.items()}
    assert net.layer.weight.data_ptr() != STATE["layer.weight"].data_ptr()


def test_a_state_dict_shares_memory(net):
    state = net.state_dict()
    assert isinstance(state, OrderedDict) and {type(value) for value in state.values()} == {ic.Tensor}
    state["layer.bias"].fill_(3)
    assert net.layer.bias.tolist() == [3.0, 3.0, 3.0]
    kept = net.state_dict(keep_vars=True)
    assert kept["layer.bias"] is net.layer.bias
    into = {}
    assert net.state_dict(into, "net.") is into and next(iter(into)) == "net.count"
    assert net.load_state_dict(state) == ([], [])  # its own memory


def test_keys_that_do_not_match(net):
    state = {**STATE, "extra": tensor([1.0]), "other.one": tensor([1.0])}
    del state["norm.weight"], state["count"]
    with pytest.raises(RuntimeError) as caught:
        net.load_state_dict(state)
    assert str(caught.value) == (
        "Error(s) in loading state_dict for Net:"
        '\n    Unexpected key(s) in state_dict: "extra", "other.one"'
        '\n    Missing key(s) in state_dict: "count", "norm.weight"'
    )
    assert values_of(net)["layer.bias"] == [0.0, 0.0, 0.0]  # nothing was loaded
    result = net.load_state_dict(state, strict=False)
    assert result.missing_keys == ["count", "norm.weight"]
    assert result.unexpected_keys == ["extra", "other.one"]
    assert "missing_keys=['count', 'norm.weight']" in repr(result)
    assert values_of(net)["layer.bias"] == [7.0, 8.0, 9.0]


@pytest.mark.parametrize("strict", [True, False])
def test_values_that_do_not_fit(net, strict):
    state = {**STATE, "layer.bias": tensor([1.0]), "norm.weight": "ones"}
    with pytest.raises(ValueError) as caught:
        net.load_state_dict(state, strict)
    message = str(caught.value)
    assert "size mismatch for layer.bias: the state dict has shape [1], the module [3]" in message
    assert "norm.weight: expected a tensor, got str" in message
    assert values_of(net)["layer.weight"] == [[0.0, 0.0]] * 3


def test_a_state_dict_is_a_mapping(net):
    with pytest.raises(TypeError, match="expected a mapping, got list"):
        net.load_state_dict([])


def test_copies_convert(net):
    net.to(ic.float16)
    net.load_state_dict(STATE)
    assert net.layer.weight.dtype is ic.float16 and values_of(net)["layer.bias"] == [7.0, 8.0, 9.0]


def test_assigned_values_are_shared(net):
    net.to(ic.float16)
    weight = net.layer.weight
    net.load_state_dict(STATE, assign=True)
    assert net.layer.weight is weight and weight.dtype is ic.float32
    assert weight.data_ptr() == STATE["layer.weight"].data_ptr()
    assert net.count is STATE["count"]


def test_numpy_arrays_load(net):
    state = {name: value.numpy().copy() for name, value in STATE.items()}
    state["layer.bias"] = state["layer.bias"].astype(ml_dtypes.bfloat16)
    net.load_state_dict(state)
    assert values_of(net) == {name: value.tolist() for name, value in STATE.items()}
    with pytest.raises(ValueError, match=r"layer\.bias: .*dtype"):
        net.load_state_dict({**state, "layer.bias": np.array(["a", "b", "c"])})


def test_to_and_from_a_device(net, device):
    net.to(device).load_state_dict(STATE)
    assert net.layer.weight.device == device
    assert values_of(net) == {name: value.tolist() for name, value in STATE.items()}


class Extra(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(ic.ones((1,), dtype=ic.float32, device="cpu"))
        self.version = 1

    def get_extra_state(self):
        return {"version": self.version}

    def set_extra_state(self, state):
        self.version = state["version"]


def test_extra_state():
    model = nn.Sequential(Extra(), nn.RMSNorm(2))
    state = model.state_dict()
    assert list(state) == ["0.w", "0._extra_state", "1.weight"]
    state["0._extra_state"] = {"version": 3}
    assert model.load_state_dict(state) == ([], []) and model[0].version == 3
    del state["0._extra_state"]
    assert model.load_state_dict(state, strict=False).missing_keys == ["0._extra_state"]
    with pytest.raises(RuntimeError, match="no extra state"):
        nn.Module().get_extra_state()
    with pytest.raises(RuntimeError, match="no extra state"):
        nn.Module().set_extra_state(1)


# ---- PyTorch ---------------------------------------------------------------------------------------------


def pairs(torch):
    """Modules of both libraries, and an input (a NumPy array or indices)."""
    theirs = torch.nn
    image, signal = (2, 4, 9, 8), (2, 4, 9)
    return {
        "linear": (nn.Linear(4, 3), theirs.Linear(4, 3, bias=False), (2, 5, 4)),
        "linear-bias": (nn.Linear(4, 3, bias=True), theirs.Linear(4, 3), (4,)),
        "rms-norm": (nn.RMSNorm(6), theirs.RMSNorm(6, eps=1e-6), (2, 3, 2, 6)),
        "rms-norm-2": (nn.RMSNorm([3, 6], eps=1e-3), theirs.RMSNorm([3, 6], eps=1e-3), (2, 3, 6)),
        "layer-norm": (nn.LayerNorm(6), theirs.LayerNorm(6), (5, 6)),
        "layer-norm-2": (nn.LayerNorm((3, 6)), theirs.LayerNorm((3, 6)), (2, 4, 3, 6)),
        "layer-norm-bare": (
            nn.LayerNorm(6, elementwise_affine=False),
            theirs.LayerNorm(6, elementwise_affine=False),
            (5, 6),
        ),
        "layer-norm-no-bias": (nn.LayerNorm(6, bias=False), theirs.LayerNorm(6, bias=False), (5, 6)),
        "embedding": (nn.Embedding(7, 5), theirs.Embedding(7, 5), 7),
        "conv1d": (nn.Conv1d(4, 6, 3), theirs.Conv1d(4, 6, 3), signal),
        "conv1d-unbatched": (
            nn.Conv1d(4, 6, 3, 2, 1, 2, 2, False),
            theirs.Conv1d(4, 6, 3, 2, 1, 2, 2, False),
            signal[1:],
        ),
        "conv2d": (nn.Conv2d(4, 6, 3, padding=1), theirs.Conv2d(4, 6, 3, padding=1), image),
        "conv2d-groups": (
            nn.Conv2d(4, 8, (3, 2), (2, 1), (1, 0), (1, 2), groups=4, bias=False),
            theirs.Conv2d(4, 8, (3, 2), (2, 1), (1, 0), (1, 2), groups=4, bias=False),
            image,
        ),
    }


NAMES = list(pairs(type("torch", (), {"nn": nn})()))


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_pytorch_s_modules(torch, name, dtype):
    ours, theirs, shape = pairs(torch)[name]
    kind = getattr(torch, dtype)
    torch.manual_seed(1)
    theirs = theirs.to(kind)
    ours.to(getattr(ic, dtype))
    assert ours.load_state_dict(theirs.state_dict(keep_vars=True)) == ([], [])
    back = {key: value.to_torch() for key, value in ours.state_dict().items()}
    want = theirs.state_dict()
    assert list(back) == list(want)
    for key, value in want.items():  # bit for bit
        assert back[key].dtype is value.dtype and torch.equal(back[key], value)
    assert str(theirs.load_state_dict(back)) == "<All keys matched successfully>"

    if isinstance(shape, int):
        x = torch.randint(0, shape, (2, 3))
        result = ours(ic.from_torch(x))
    else:
        x = torch.randn(shape, dtype=kind)
        result = ours(ic.from_torch(x))
    with torch.no_grad():
        wanted = theirs(x)
    tolerance = {"float64": 1e-12, "float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}[dtype]
    torch.testing.assert_close(result.to_torch(), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.torch
@pytest.mark.parametrize("name", NAMES)
def test_repr_is_pytorch_s(torch, name):
    ours, theirs, _ = pairs(torch)[name]
    assert repr(ours) == repr(theirs)
