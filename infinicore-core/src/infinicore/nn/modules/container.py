# Modules that hold other modules: by position (ModuleList, Sequential) or by name (ModuleDict).
# Children are registered, so that parameters, state dicts and `to` reach them.
"""Containers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from infinicore.errors import ArgumentTypeError, InvalidArgument, OutOfRange
from infinicore.nn.modules.module import MODULE, Module

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ModuleDict", "ModuleList", "Sequential"]


class _Positions(Module):
    """Children in an order; their names are their positions unless they were given others."""

    def _names(self) -> list[str]:
        return [name for name, kind in self._kinds.items() if kind is MODULE]

    def _name(self, index: SupportsIndex) -> str:
        if not hasattr(index, "__index__"):
            raise ArgumentTypeError(
                f"{type(self).__name__}: index {index!r} is no integer, but {type(index).__name__}"
            )
        names, position = self._names(), index.__index__()
        if not -len(names) <= position < len(names):
            raise OutOfRange(
                f"{type(self).__name__}: index {position} is out of range for {len(names)} modules"
            )
        return names[position]

    def _replace(self, modules: Iterable[Module]) -> None:
        """Hold these modules instead, numbered from 0."""
        modules = list(modules)
        for name in self._names():
            delattr(self, name)
        for position, module in enumerate(modules):
            self.add_module(str(position), module)

    def __len__(self) -> int:
        return len(self._names())

    def __iter__(self) -> Iterator[Module]:
        return iter([self.__dict__[name] for name in self._names()])

    def __setitem__(self, index: SupportsIndex, module: Module) -> None:
        self.add_module(self._name(index), module)

    def __delitem__(self, index: SupportsIndex | slice) -> None:
        modules = list(self)
        if not isinstance(index, slice):
            self._name(index)
        del modules[index]
        self._replace(modules)

    def append(self, module: Module) -> Self:
        """Add a module at the end; returns this one."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add modules at the end; returns this one."""
        if not isinstance(modules, Iterable):
            raise ArgumentTypeError(
                f"{type(self).__name__}.extend: expected an iterable of modules, got {type(modules).__name__}"
            )
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: SupportsIndex, module: Module) -> None:
        """Add a module before a position; one that lies beyond the last module appends."""
        if not hasattr(index, "__index__"):
            raise ArgumentTypeError(
                f"{type(self).__name__}.insert: index {index!r} is no integer, but {type(index).__name__}"
            )
        if not isinstance(module, Module):
            raise ArgumentTypeError(
                f"{type(self).__name__}.insert: expected a Module, got {type(module).__name__}"
            )
        modules = list(self)
        modules.insert(index, module)
        self._replace(modules)

    def pop(self, index: SupportsIndex = -1) -> Module:
        """Remove a module and return it."""
        module: Module = getattr(self, self._name(index))
        del self[index]
        return module

    def __iadd__(self, modules: Iterable[Module]) -> Self:
        return self.extend(modules)


class ModuleList(_Positions):
    """Modules in a list; it has no `forward`.

    Parameters
    ----------
    modules : iterable of Module, optional
        What it holds at first.

    Examples
    --------
    >>> import infinicore as ic
    >>> layers = ic.nn.ModuleList(ic.nn.Linear(4, 4) for _ in range(3))
    >>> len(layers), layers[-1] is layers[2], len(layers[1:])
    (3, True, 2)
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.extend(modules)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> ModuleList: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Module:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return self.__dict__[self._name(index)]

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return type(self)([*self, *other])

    def _lines(self) -> list[str]:
        """Return the children, of neighbours that look alike only one."""
        runs: list[tuple[int, int, str]] = []  # first and last position, text
        for position, module in enumerate(self):
            text = repr(module)
            if runs and runs[-1][2] == text:
                runs[-1] = (runs[-1][0], position, text)
            else:
                runs.append((position, position, text))
        return [
            f"({first}): {text}" if first == last else f"({first}-{last}): {last - first + 1} x {text}"
            for first, last, text in runs
        ]


class Sequential(_Positions):
    """Modules that are called one after the other, each with what the one before it returned.

    Parameters
    ----------
    *modules : Module or mapping of str to Module
        The modules, or one mapping that also names them.

    Examples
    --------
    >>> import infinicore as ic
    >>> model = ic.nn.Sequential(ic.nn.Linear(4, 8), ic.nn.RMSNorm(8))
    >>> model(ic.ones((2, 4), dtype=ic.float32, device="cpu")).shape
    [2, 8]
    """

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        named = len(modules) == 1 and isinstance(modules[0], Mapping)
        for name, module in modules[0].items() if named else enumerate(modules):
            self.add_module(str(name), module)

    def forward(self, input: Any) -> Any:
        """Call the modules in their order."""
        for module in self:
            input = module(input)
        return input

    @overload
    def __getitem__(self, index: SupportsIndex) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Module:
        if isinstance(index, slice):
            return type(self)({name: getattr(self, name) for name in self._names()[index]})
        return self.__dict__[self._name(index)]

    def __add__(self, other: Iterable[Module]) -> Sequential:
        return type(self)(*self, *other)


class ModuleDict(Module):
    """Modules by name, in the order in which the names came; it has no `forward`.

    Parameters
    ----------
    modules : mapping or iterable of pairs, optional
        What it holds at first.

    Examples
    --------
    >>> import infinicore as ic
    >>> branches = ic.nn.ModuleDict({"up": ic.nn.Linear(4, 8), "down": ic.nn.Linear(8, 4)})
    >>> list(branches), branches["up"].out_features
    (['up', 'down'], 8)
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key: str) -> Module:
        if key not in self:
            raise KeyError(key)
        return self.__dict__[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._kinds.get(key) is MODULE

    def keys(self) -> Iterable[str]:
        """Return the names."""
        return self._modules.keys()

    def values(self) -> Iterable[Module]:
        """Return the modules."""
        return dict(self._own(MODULE)).values()

    def items(self) -> Iterable[tuple[str, Module]]:
        """Return names and modules."""
        return dict(self._own(MODULE)).items()

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add modules, or replace those of the same names."""
        pairs = modules.items() if isinstance(modules, (Mapping, ModuleDict)) else modules
        if not isinstance(pairs, Iterable):
            raise ArgumentTypeError(
                f"ModuleDict.update: expected a mapping or pairs, got {type(modules).__name__}"
            )
        for position, pair in enumerate(pairs):
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise InvalidArgument(f"ModuleDict.update: element {position} is no pair of name and module")
            self[pair[0]] = pair[1]

    def pop(self, key: str) -> Module:
        """Remove a module and return it."""
        module = self[key]
        del self[key]
        return module

    def clear(self) -> None:
        """Remove all modules."""
        for key in list(self):
            del self[key]
