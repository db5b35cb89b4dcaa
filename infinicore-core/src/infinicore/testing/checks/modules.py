# Layers on the device: their weights move there, are saved and loaded there, and a layer computes what the
# function that it stands for computes there. Whether that is right, the checks of operators say.
"""Layers of infinicore.nn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import infinicore as ic
from infinicore import nn
from infinicore.nn import functional as F
from infinicore.testing.suite import Skip, Target, check


class Model(nn.Module):
    """Layers within layers, a list of them and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 8)
        self.blocks = nn.ModuleList([nn.Sequential(nn.RMSNorm(8), nn.Linear(8, 8)) for _ in range(2)])
        self.head = nn.Linear(8, 11, bias=True)
        self.register_buffer("scale", ic.ones((3,), dtype=ic.float32, device="cpu"))


def numbers(shape: tuple[int, ...], seed: int) -> ic.Tensor:
    """Make a tensor on the CPU of which no two elements are alike."""
    return ic.from_numpy(np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32))


def fill(module: nn.Module, seed: int = 0) -> dict[str, np.ndarray]:
    """Load weights into a module that is on the CPU; returns them by name."""
    state = {
        name: numbers(tuple(t.shape), seed + i) for i, (name, t) in enumerate(module.state_dict().items())
    }
    module.load_state_dict(state)
    return {name: np.array(tensor.numpy()) for name, tensor in state.items()}


def holds(module: nn.Module, wanted: dict[str, np.ndarray], device: ic.device, what: str) -> None:
    """Compare what a module holds, and where."""
    found = module.state_dict()
    assert set(found) == set(wanted), f"{what}: state_dict has {sorted(found)}, not {sorted(wanted)}"
    for name, tensor in found.items():
        assert tensor.device == device, f"{what}: {name} is on {tensor.device}, not on {device}"
        same = (tensor.to("cpu").numpy() == wanted[name]).all()
        assert same, f"{what}: {name} has other elements than were loaded"


@check("module", "modules")
def moves(target: Target) -> None:
    """All weights and buffers go to the device, and come back as they were."""
    model = Model()
    wanted = fill(model)
    holds(model.to(target.device), wanted, target.device, f"moved to {target.device}")
    holds(model.to("cpu"), wanted, ic.device("cpu"), "moved back")


@check("module", "modules")
def state_dict(target: Target) -> None:
    """What one model on the device saves, another one loads; keys that do not fit are named."""
    first, second = Model(), Model()
    wanted = fill(first)
    fill(second, 1000)
    first.to(target.device)
    second.to(target.device).load_state_dict(first.state_dict())
    holds(second, wanted, target.device, "loaded")
    state = dict(first.state_dict())
    state["nobody"] = state.pop("head.bias")
    try:
        second.load_state_dict(state)
    except RuntimeError as error:
        assert "nobody" in str(error) and "head.bias" in str(error), f"keys that do not fit: {error}"
    else:
        raise AssertionError("load_state_dict took a state dict without head.bias")
    holds(second, wanted, target.device, "after a state dict that does not fit")


def layer(make: Callable[[], nn.Module], shape: tuple[int, ...], function: Callable[..., ic.Tensor]) -> None:
    """Register the check of a layer; `function` is given it and its input, which counts where it is 1-d."""
    name = function.__name__

    def body(target: Target) -> None:
        module = make()
        fill(module)
        module.to(target.device)
        x = numbers(shape, 7) if len(shape) > 1 else ic.from_numpy(np.arange(shape[0], dtype=np.int64))
        x = x.to(target.device)
        try:
            want = function(module, x).to("cpu").numpy()
        except ic.OperatorNotSupported as error:
            raise Skip(str(error).partition(";")[0]) from None
        got = module(x)
        assert got.device == target.device, f"the result is on {got.device}"
        assert np.allclose(got.to("cpu").numpy(), want, 1e-5, 1e-6), (
            f"{type(module).__name__} gives another result than nn.functional.{name}"
        )

    body.__name__ = name
    body.__doc__ = f"The layer gives what nn.functional.{name} gives."
    check("module", "modules")(body)


def linear(module: nn.Linear, x: ic.Tensor) -> ic.Tensor:
    """Do what the layer does with the function that it stands for; so do those below."""
    return F.linear(x, module.weight, module.bias)


def embedding(module: nn.Embedding, x: ic.Tensor) -> ic.Tensor:
    """As `linear`."""
    return F.embedding(x, module.weight)


def rms_norm(module: nn.RMSNorm, x: ic.Tensor) -> ic.Tensor:
    """As `linear`."""
    return F.rms_norm(x, [16], module.weight, module.eps)


def layer_norm(module: nn.LayerNorm, x: ic.Tensor) -> ic.Tensor:
    """As `linear`."""
    return F.layer_norm(x, [16], module.weight, module.bias, module.eps)


layer(lambda: nn.Linear(16, 5, bias=True), (3, 16), linear)
layer(lambda: nn.Embedding(9, 16), (9,), embedding)
layer(lambda: nn.RMSNorm(16), (3, 16), rms_norm)
layer(lambda: nn.LayerNorm(16), (3, 16), layer_norm)
