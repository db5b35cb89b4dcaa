# nn.Module: what is registered, in which order it is found, how it moves, prints and is refused.
# The same tree of modules is built from torch.nn too, where PyTorch decides what names and orders are.
from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace

import pytest

import infinicore as ic
from infinicore import nn


def zeros(*size, dtype=ic.float32):
    return ic.zeros(size, dtype=dtype, device="cpu")


OURS = SimpleNamespace(nn=nn, zeros=zeros)


@pytest.fixture
def theirs(torch):
    return SimpleNamespace(nn=torch.nn, zeros=lambda *size: torch.zeros(size))


def tree(lib):
    """A module with everything: parameters, an absent one, buffers of both kinds, shared and nested ones."""

    class Leaf(lib.nn.Module):
        def __init__(self, size):
            super().__init__()
            self.register_buffer("seen", lib.zeros(size))
            self.weight = lib.nn.Parameter(lib.zeros(size, 2))
            self.register_parameter("bias", None)
            self.register_buffer("scratch", lib.zeros(1), persistent=False)

        def forward(self, x):
            return x + self.weight

    class Root(lib.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = Leaf(2)
            self.scale = lib.nn.Parameter(lib.zeros(3))
            self.same = self.first
            self.layers = lib.nn.ModuleList([Leaf(3), lib.nn.Sequential(Leaf(4), Leaf(4))])
            self.layers[1][1].weight = self.layers[1][0].weight
            self.named = lib.nn.ModuleDict({"b": Leaf(1), "a": Leaf(1)})
            self.plain = 7

    return Root()


def described(module):
    """Every walk over a module, as names and shapes."""

    def shapes(pairs):
        return [(name, list(value.shape)) for name, value in pairs]

    return {
        "parameters": shapes(module.named_parameters()),
        "all parameters": shapes(module.named_parameters(remove_duplicate=False)),
        "own parameters": shapes(module.named_parameters("root", recurse=False)),
        "buffers": shapes(module.named_buffers()),
        "own buffers": shapes(module.first.named_buffers(prefix="x", recurse=False)),
        "modules": [(name, type(value).__name__) for name, value in module.named_modules()],
        "all modules": [name for name, _ in module.named_modules(prefix="p", remove_duplicate=False)],
        "children": [name for name, _ in module.named_children()],
        "state": shapes(module.state_dict().items()),
        "prefixed state": shapes(module.state_dict(prefix="m.").items()),
        "counts": [len(list(walk())) for walk in (module.parameters, module.buffers, module.modules)],
        "own": len(list(module.parameters(recurse=False))),
        "grandchildren": len(list(module.children())),
    }


@pytest.mark.torch
def test_walks_are_pytorch_s(theirs):
    assert described(tree(OURS)) == described(tree(theirs))


def test_walks():
    module = tree(OURS)
    assert [name for name, _ in module.named_parameters()][:2] == ["scale", "first.weight"]
    assert list(module.state_dict())[:4] == ["scale", "first.weight", "first.seen", "same.weight"]
    assert module.get_submodule("layers.1.0") is module.layers[1][0]
    assert module.get_submodule("") is module
    assert module.get_parameter("layers.1.0.weight") is module.layers[1][1].weight
    assert module.get_buffer("first.scratch") is module.first.scratch
    for target in ("layers.2", "plain", "first.weight"):
        with pytest.raises(AttributeError, match="has no module"):
            module.get_submodule(target)
    with pytest.raises(AttributeError, match="has no parameter 'seen'"):
        module.get_parameter("first.seen")


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(ic.ones((2,), dtype=ic.float32, device="cpu"))
        self.register_buffer("offset", zeros(2))

    def forward(self, x, times=1):
        return x * self.w * times + self.offset


def test_a_call_is_forward():
    assert Scale()(zeros(2) + 3, times=2).tolist() == [6.0, 6.0]
    with pytest.raises(NotImplementedError, match=r"Module has no forward"):
        nn.Module()(1)


# ---- registering -----------------------------------------------------------------------------------------


def test_what_is_assigned_is_registered():
    module = Scale()
    module.child, module.number = nn.Linear(2, 2), 3
    assert list(module._parameters) == ["w"] and list(module._buffers) == ["offset"]
    assert list(module._modules) == ["child"] and {"w", "offset", "child", "number"} <= set(dir(module))
    module.w = None  # stays a parameter that is absent
    assert list(module._parameters) == ["w"] and "w" not in module.state_dict()
    module.w = nn.Parameter(zeros(1))
    module.offset = zeros(5)
    assert {name: list(value.shape) for name, value in module.state_dict().items()} == {
        "w": [1],
        "offset": [5],
        "child.weight": [2, 2],
    }
    del module.w, module.child
    assert list(module.state_dict()) == ["offset"] and not hasattr(module, "w")
    module.offset = nn.Parameter(zeros(2))  # a buffer no more
    assert not module._buffers and list(module._parameters) == ["offset"]
    with pytest.raises(TypeError):
        module._parameters["w"] = None  # a view


def test_what_cannot_be_registered():
    module = Scale()
    module.child = nn.Linear(2, 2)
    for name, value in (("w", zeros(2)), ("offset", 1.0), ("child", 5)):
        with pytest.raises(TypeError, match=rf"{name}.*or None, got"):
            setattr(module, name, value)
    with pytest.raises(TypeError, match="expected Parameter or None, got Tensor"):
        module.register_parameter("v", zeros(1))
    with pytest.raises(TypeError, match="expected Tensor or None, got int"):
        module.register_buffer("v", 1)
    with pytest.raises(TypeError, match="expected Module or None, got str"):
        module.add_module("v", "linear")
    with pytest.raises(TypeError, match="a name is a str, got int"):
        module.register_module(1, module.child)
    for name in ("", "a.b"):
        with pytest.raises(ValueError, match=r"not empty and has no '\.'"):
            module.add_module(name, module.child)
    for name in ("forward", "training"):
        with pytest.raises(ValueError, match="another attribute of this name"):
            module.register_buffer(name, None)


def test_a_name_has_one_kind():
    module = nn.Sequential(nn.Linear(2, 2))
    tensor = ic.ones((1,), dtype=ic.float32, device="cpu")
    with pytest.raises(ic.InvalidArgument, match="buffer '0': the module has another attribute"):
        module.register_buffer("0", tensor)
    with pytest.raises(ic.InvalidArgument, match="parameter '0': the module has another attribute"):
        module.register_parameter("0", nn.Parameter(tensor))
    module.register_buffer("extra", tensor)
    module.register_buffer("extra", tensor, persistent=False)  # the same thing, told anew
    assert list(module.state_dict()) == ["0.weight"] and isinstance(module[0], nn.Linear)


def test_init_comes_first():
    class Late(nn.Module):
        def __init__(self, value):
            self.value = value

    assert Late(3).value == 3
    for value in (nn.Parameter(zeros(1)), nn.Linear(1, 1)):
        with pytest.raises(AttributeError, match=r"super\(\).__init__\(\) before"):
            Late(value)
    with pytest.raises(AttributeError, match="'Late' object has no attribute 'other'"):
        _ = Late(3).other


# ---- parameters ------------------------------------------------------------------------------------------


def test_parameter():
    data = zeros(2)
    parameter = nn.Parameter(data)
    assert isinstance(parameter, ic.Tensor) and parameter.data_ptr() == data.data_ptr()
    assert type(parameter + 1) is ic.Tensor and type(parameter.data) is ic.Tensor
    parameter.data.fill_(3)
    assert data.tolist() == [3.0, 3.0]
    parameter.data = zeros(4)
    assert parameter.shape == [4] and data.shape == [2]
    assert repr(parameter).startswith("Parameter containing:\ntensor([0., 0., 0., 0.]")
    for value in (None, [1.0], 3):
        with pytest.raises(ValueError, match=r"expected an infinicore\.Tensor, got"):
            nn.Parameter(value)


@pytest.mark.parametrize("refused", [copy.copy, copy.deepcopy, pickle.dumps])
def test_parameters_are_not_copied_or_pickled(refused):
    with pytest.raises(ValueError, match="not supported!"):
        refused(nn.Parameter(zeros(1)))
    with pytest.raises(ValueError, match="not supported!"):
        copy.deepcopy(nn.Linear(1, 1))


# ---- modes, functions, devices, dtypes -------------------------------------------------------------------


def test_train_and_eval():
    module = tree(OURS)
    assert module.training and module.eval() is module
    assert not any(each.training for each in module.modules())
    assert module.train() is module and all(each.training for each in module.modules())
    with pytest.raises(TypeError, match="expected a bool, got str"):
        module.train("yes")


@pytest.mark.torch
def test_apply_is_pytorch_s(theirs):
    visited = {}
    for name, lib in (("ours", OURS), ("theirs", theirs)):
        module, order = tree(lib), []
        names = {id(each): path for path, each in module.named_modules()}
        assert module.apply(lambda each, order=order, names=names: order.append(names[id(each)])) is module
        visited[name] = order
    assert visited["ours"] == visited["theirs"]


@pytest.mark.parametrize(
    "spelled",
    [
        lambda m: m.to(ic.float16),
        lambda m: m.to(dtype="float16"),
        lambda m: m.to(ic.device("cpu"), ic.float16),
        lambda m: m.to("cpu", ic.float16),
        lambda m: m.to(zeros(1, dtype=ic.float16)),
    ],
)
def test_to_a_dtype(spelled):
    module = tree(OURS)
    module.register_buffer("steps", zeros(1, dtype=ic.int64))
    shared, before = module.layers[1][0].weight, module.scale
    assert spelled(module) is module
    kinds = {name: value.dtype for name, value in (*module.named_parameters(), *module.named_buffers())}
    assert kinds.pop("steps") is ic.int64 and set(kinds.values()) == {ic.float16}
    assert module.scale is before  # the same object, so that shared parameters stay shared
    assert module.layers[1][0].weight is shared is module.layers[1][1].weight


def test_to_a_device(sim):
    module = Scale()
    assert module.to(sim) is module
    assert module.w.device == module.offset.device == sim
    x = ic.ones((2,), dtype=ic.float32, device=sim)
    assert module(x).to("cpu").tolist() == [1.0, 1.0]
    assert module.to("cpu").w.device == ic.device("cpu")
    assert module.to(x).w.device == sim


def test_to_refuses():
    with pytest.raises(TypeError, match=r"floating-point or complex dtype, got infinicore\.int32"):
        Scale().to(ic.int32)
    with pytest.raises(ic.UnknownDevice):
        Scale().to("abacus")


# ---- printing --------------------------------------------------------------------------------------------


@pytest.mark.torch
def test_repr_is_pytorch_s(theirs):
    assert repr(tree(OURS)) == repr(tree(theirs))


def test_repr():
    assert repr(nn.Linear(4, 3)) == "Linear(in_features=4, out_features=3, bias=False)"
    assert repr(nn.ModuleList()) == "ModuleList()"

    class Two(nn.Module):
        def extra_repr(self):
            return "one\ntwo"

    assert repr(Two()) == "Two(one\ntwo)"
    two = Two()
    two.child = nn.Linear(1, 1)
    assert repr(two).splitlines()[1:3] == ["  one", "  two"]
