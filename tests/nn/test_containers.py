# ModuleList, Sequential and ModuleDict: what lists and dictionaries do, with everything inside registered.
# Each sequence of steps is done to PyTorch's container too.
from __future__ import annotations

from types import SimpleNamespace

import pytest

import infinicore as ic
from infinicore import nn

OURS = SimpleNamespace(nn=nn, layer=lambda n: nn.Linear(1, n))


@pytest.fixture
def theirs(torch):
    return SimpleNamespace(nn=torch.nn, layer=lambda n: torch.nn.Linear(1, n, bias=False))


def sizes(module):
    return [(name, child.out_features) for name, child in module.named_children()]


def listed(container, layer):
    """Every step that a list knows, and what is there after it."""
    seen = []

    def note(value=None):
        seen.append((value, sizes(container), list(container.state_dict())))

    note(len(container))
    container.append(layer(4))
    container.extend([layer(5), layer(6)])
    note(container[-1].out_features)
    container.insert(1, layer(7))
    note()
    container[2] = layer(8)
    container[-1] = layer(9)
    note(container[1:3][0].out_features)
    note(container.pop(0).out_features)
    note(container.pop(-1).out_features)
    del container[0]
    note([child.out_features for child in container])
    del container[1:]
    note(len(container))
    container += container[:1]  # PyTorch adds only a Sequential to a Sequential
    note(sizes(container[::-1])[0][1])
    return seen


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["ModuleList", "Sequential"])
def test_a_list_is_pytorch_s(theirs, kind):
    results = []
    for lib in (OURS, theirs):
        start = [lib.layer(n) for n in (1, 2, 3)]
        container = lib.nn.ModuleList(start) if kind == "ModuleList" else lib.nn.Sequential(*start)
        results.append(listed(container, lib.layer))
    assert results[0] == results[1]


@pytest.mark.torch
def test_sums_are_pytorch_s(theirs):
    results = []
    for lib in (OURS, theirs):
        a, b = (lib.nn.ModuleList([lib.layer(n)]) for n in (1, 2))
        s, t = (lib.nn.Sequential(lib.layer(n)) for n in (3, 4))
        results.append([sizes(a + b), sizes(s + t), type(a + b).__name__, type(s + t).__name__, sizes(a)])
    assert results[0] == results[1]


def test_module_list():
    layers = nn.ModuleList(nn.Linear(1, n) for n in (1, 2, 3))
    assert isinstance(layers[:2], nn.ModuleList) and layers[0] in layers and layers[-1] is layers[2]
    assert list(layers.state_dict()) == ["0.weight", "1.weight", "2.weight"]
    assert getattr(layers, "1") is layers[1]
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"index {index} is out of range for 3 modules"):
            _ = layers[index]
        with pytest.raises(IndexError):
            del layers[index]
        with pytest.raises(IndexError):
            layers.pop(index)
        with pytest.raises(IndexError):
            layers[index] = nn.Linear(1, 1)
    for add in (
        layers.append,
        lambda module: layers.insert(0, module),
        lambda module: layers.extend([module]),
    ):
        with pytest.raises(TypeError, match="got int"):
            add(3)
    with pytest.raises(TypeError, match="expected an iterable of modules, got int"):
        layers.extend(3)
    assert len(layers) == 3
    with pytest.raises(NotImplementedError):
        layers(1)


@pytest.mark.torch
def test_repr_of_many_is_pytorch_s(torch):
    def build(lib, **options):
        same = [lib.Linear(2, 2, **options) for _ in range(3)]
        return lib.ModuleList([lib.ModuleList(same), *same, lib.Linear(2, 3, **options)])

    assert repr(build(nn)) == repr(build(torch.nn, bias=False))


def test_an_index_is_an_integer():
    layers = nn.ModuleList([nn.Linear(1, 1)])
    for act in (lambda: layers["a"], lambda: layers.insert("a", nn.Linear(1, 1)), lambda: layers.pop(1.0)):
        with pytest.raises(ic.ArgumentTypeError, match="index"):
            act()
    assert len(layers) == 1


def test_sequential():
    x = ic.ones((2, 4), dtype=ic.float32, device="cpu")
    model = nn.Sequential({"wide": nn.Linear(4, 8), "norm": nn.RMSNorm(8)})
    for value in model.state_dict().values():
        value.fill_(0.5)
    assert list(model.state_dict()) == ["wide.weight", "norm.weight"]
    assert model(x).shape == [2, 8] and abs(model(x)[0, 0].item() - 0.5) < 1e-6
    assert list(model[1:].state_dict()) == ["norm.weight"] and isinstance(model[:1], nn.Sequential)
    assert model.wide is model[0] and len(model) == 2
    assert nn.Sequential()(x) is x


@pytest.mark.torch
def test_a_dict_is_pytorch_s(theirs):
    results = []
    for lib in (OURS, theirs):
        d = lib.nn.ModuleDict({"b": lib.layer(1), "a": lib.layer(2)})
        seen = [list(d), len(d), "a" in d, "z" in d]
        d["c"] = lib.layer(3)
        d["b"] = lib.layer(4)
        d.update({"e": lib.layer(5)})
        d.update([("f", lib.layer(6))])
        d.update(lib.nn.ModuleDict({"g": lib.layer(7)}))
        seen.append([(name, child.out_features) for name, child in d.items()])
        seen.append([list(d.keys()), [child.out_features for child in d.values()]])
        seen.append([d.pop("a").out_features, sizes(d), list(d.state_dict())])
        del d["b"]
        seen.append([sizes(d), d["c"].out_features])
        d.clear()
        seen.append(len(d))
        results.append(seen)
    assert results[0] == results[1]


def test_module_dict():
    branches = nn.ModuleDict([("up", nn.Linear(1, 2))])
    assert branches["up"] is branches.up and branches.get_submodule("up") is branches["up"]
    for touch in (lambda: branches["down"], lambda: branches.pop("down"), lambda: branches.__delitem__("x")):
        with pytest.raises(KeyError):
            touch()
    with pytest.raises(ValueError, match="another attribute of this name"):
        branches["keys"] = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="element 0 is no pair"):
        branches.update(["up"])
    with pytest.raises(TypeError, match="expected a mapping or pairs, got int"):
        branches.update(3)
    with pytest.raises(TypeError, match="got int"):
        branches["x"] = 3
