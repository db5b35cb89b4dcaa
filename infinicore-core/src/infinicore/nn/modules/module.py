# The base class of modules: it remembers which attributes are parameters, buffers and modules.
# Their values are ordinary attributes, so that reading one in `forward` costs what any attribute costs.
"""Modules."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import infinicore
from infinicore import interop
from infinicore._dtype import get as as_dtype
from infinicore._tensor import Tensor
from infinicore.errors import ArgumentTypeError, DTypeError, InvalidArgument
from infinicore.nn.parameter import Parameter

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Module"]

# What a registered attribute is. A transient buffer is one that state dicts leave out.
PARAMETER, BUFFER, TRANSIENT, MODULE = "parameter", "buffer", "transient buffer", "module"
EXTRA = "_extra_state"


class _IncompatibleKeys(NamedTuple):
    """What a state dict and a module do not share."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"_IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


class Module:
    """Base class of everything that has weights; write `forward`, and assign what it uses to attributes.

    A :class:`Parameter` or a :class:`Module` that is assigned to an attribute is registered under that name;
    other values are ordinary attributes, unless `register_buffer` made theirs a buffer. Names, orders and
    state dicts are PyTorch's. There is no gradient: modules run models, they do not train them.

    Attributes
    ----------
    training : bool
        What `train` and `eval` set; True at first.

    Examples
    --------
    >>> import infinicore as ic
    >>> class Scale(ic.nn.Module):
    ...     def __init__(self, size):
    ...         super().__init__()
    ...         self.weight = ic.nn.Parameter(ic.ones((size,), dtype=ic.float32, device="cpu"))
    ...
    ...     def forward(self, x):
    ...         return x * self.weight
    >>> list(Scale(2).state_dict())
    ['weight']
    """

    training: bool
    _kinds: dict[str, str]  # name of each registered attribute -> what it is, in the order of registration

    def __init__(self) -> None:
        object.__setattr__(self, "_kinds", {})
        self.training = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the result of a call; subclasses say how."""
        raise NotImplementedError(f"{type(self).__name__} has no forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call `forward`."""
        return self.forward(*args, **kwargs)

    # ---- registering ----

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter, or with None the name of one that is absent."""
        self._register(name, param, PARAMETER, Parameter)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that moves with the module but is no parameter.

        Parameters
        ----------
        name : str
            The attribute.
        tensor : Tensor or None
            The buffer.
        persistent : bool
            Whether state dicts hold it.
        """
        self._register(name, tensor, BUFFER if persistent else TRANSIENT, Tensor)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a child module."""
        self._register(name, module, MODULE, Module)

    def register_module(self, name: str, module: Module | None) -> None:
        """Add a child module; the same as `add_module`."""
        self.add_module(name, module)

    def _register(self, name: str, value: Any, kind: str, wanted: type) -> None:
        where = f"{type(self).__name__}: {kind} {name!r}"
        if "_kinds" not in self.__dict__:
            raise AttributeError(f"{where}: call super().__init__() before it is registered")
        if not isinstance(name, str):
            raise ArgumentTypeError(f"{where}: a name is a str, got {type(name).__name__}")
        if not name or "." in name:
            raise InvalidArgument(f"{where}: a name is not empty and has no '.'")
        same = {kind, BUFFER, TRANSIENT} if kind in (BUFFER, TRANSIENT) else {kind}
        if self._kinds.get(name) not in same and hasattr(self, name):
            raise InvalidArgument(f"{where}: the module has another attribute of this name")
        if value is not None and not isinstance(value, wanted):
            raise ArgumentTypeError(
                f"{where}: expected {wanted.__name__} or None, got {type(value).__name__}"
            )
        self._kinds[name] = kind
        object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        kinds = self.__dict__.get("_kinds", {})
        known = kinds.get(name)
        kind = PARAMETER if isinstance(value, Parameter) else MODULE if isinstance(value, Module) else known
        if kind is None:
            object.__setattr__(self, name, value)
            return
        if "_kinds" not in self.__dict__:
            raise AttributeError(
                f"{type(self).__name__}: {kind} {name!r}: call super().__init__() before it is assigned"
            )
        if kind is known and value is not None:
            wanted = {PARAMETER: Parameter, MODULE: Module}.get(kind, Tensor)
            if not isinstance(value, wanted):
                raise ArgumentTypeError(
                    f"{type(self).__name__}: {kind} {name!r}: expected {wanted.__name__} or None, got "
                    f"{type(value).__name__}"
                )
        elif kind is not known:
            kinds.pop(name, None)  # what changes its kind comes last
        kinds[name] = kind
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._kinds.pop(name, None)

    def __getattr__(self, name: str) -> Any:  # only for what does not exist; type checkers know no better
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def _own(self, *kinds: str) -> list[tuple[str, Any]]:
        """List what this module itself has of some kinds; names that stand for None are left out."""
        values = self.__dict__
        return [
            (name, values[name])
            for name, kind in self._kinds.items()
            if kind in kinds and values[name] is not None
        ]

    # Read-only: a name and its value are registered and removed as attributes.

    @property
    def _parameters(self) -> Mapping[str, Parameter | None]:
        return MappingProxyType({n: self.__dict__[n] for n, k in self._kinds.items() if k is PARAMETER})

    @property
    def _buffers(self) -> Mapping[str, Tensor | None]:
        return MappingProxyType(
            {n: self.__dict__[n] for n, k in self._kinds.items() if k in (BUFFER, TRANSIENT)}
        )

    @property
    def _modules(self) -> Mapping[str, Module | None]:
        return MappingProxyType({n: self.__dict__[n] for n, k in self._kinds.items() if k is MODULE})

    # ---- walking ----

    def named_modules(
        self, memo: set[int] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """Yield this module and all below it, with dotted names; a module of two names once, by default."""
        memo = set() if memo is None else memo
        if remove_duplicate:
            if id(self) in memo:
                return
            memo.add(id(self))
        yield prefix, self
        for name, module in self._own(MODULE):
            yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """Yield this module and all below it."""
        for _, module in self.named_modules():
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield the modules one level below, with their names."""
        seen = set()
        for name, module in self._own(MODULE):
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """Yield the modules one level below."""
        for _, module in self.named_children():
            yield module

    def _named(
        self, kinds: tuple[str, ...], prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen = set()
        modules = self.named_modules(None, prefix, remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, value in module._own(*kinds):
                if remove_duplicate:
                    if id(value) in seen:
                        continue
                    seen.add(id(value))
                yield f"{path}.{name}" if path else name, value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Yield the parameters, with their dotted names; one that is shared only once, by default."""
        return self._named((PARAMETER,), prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Yield the parameters, of this module alone with ``recurse=False``."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield the buffers, with their dotted names; one that is shared only once, by default."""
        return self._named((BUFFER, TRANSIENT), prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Yield the buffers, of this module alone with ``recurse=False``."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def get_submodule(self, target: str) -> Module:
        """Return the module with a dotted name; ``""`` is this one."""
        return self._get(target, (MODULE,)) if target else self

    def get_parameter(self, target: str) -> Parameter:
        """Return the parameter with a dotted name."""
        return self._get(target, (PARAMETER,))

    def get_buffer(self, target: str) -> Tensor:
        """Return the buffer with a dotted name."""
        return self._get(target, (BUFFER, TRANSIENT))

    def _get(self, target: str, kinds: tuple[str, ...]) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if module._kinds.get(name) not in kinds:
            raise AttributeError(f"{type(module).__name__} has no {kinds[0]} {name!r}")
        return getattr(module, name)

    def apply(self, fn: Callable[[Module], object]) -> Self:
        """Call a function with every module, children first; returns this module."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def train(self, mode: bool = True) -> Self:
        """Set `training` of this module and all below it; returns this module."""
        if not isinstance(mode, bool):
            raise ArgumentTypeError(f"train: mode: expected a bool, got {type(mode).__name__}")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Set `training` to False; returns this module."""
        return self.train(False)

    # ---- devices and dtypes ----

    def to(self, *args: Any, dtype: Any = None, device: Any = None, non_blocking: bool = False) -> Self:
        """Move parameters and buffers to a device, and those that are not integers to a dtype.

        Parameter objects stay the same, so that shared ones stay shared.

        Parameters
        ----------
        *args : dtype, device, str or Tensor
            A dtype, a device (or its name), both, or a tensor whose dtype and device are taken.
        dtype, device : optional
            The same by keyword.
        non_blocking : bool
            Do not wait for copies out of pinned host memory.

        Returns
        -------
        Module
            This module.

        Raises
        ------
        DTypeError
            If the dtype is an integer's.
        """
        for argument in args:
            if isinstance(argument, Tensor):
                dtype, device = argument.dtype, argument.device
            elif _is_dtype(argument):
                dtype = argument
            elif argument is not None:
                device = argument
        dtype = None if dtype is None else as_dtype(dtype)
        if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
            raise DTypeError(f"Module.to: dtype: expected a floating-point or complex dtype, got {dtype}")

        def moved(tensor: Tensor) -> Tensor:
            converts = tensor.dtype.is_floating_point or tensor.dtype.is_complex
            return tensor.to(dtype=dtype if converts else None, device=device, non_blocking=non_blocking)

        return self._apply(moved)

    def _apply(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Replace every parameter and buffer by what a function makes of it."""
        done: dict[
            int, tuple[Tensor, Tensor]
        ] = {}  # keeps the old tensors too: an id lives as long as they do
        for module in self.modules():
            for name, old in module._own(PARAMETER, BUFFER, TRANSIENT):
                if id(old) not in done:
                    new = function(old)
                    if isinstance(old, Parameter):
                        old.data = new
                        new = old
                    done[id(old)] = old, new
                object.__setattr__(module, name, done[id(old)][1])
        return self

    # ---- state dicts ----

    def get_extra_state(self) -> Any:
        """Return what the state dict holds beside this module's tensors; override it where there is any."""
        raise NotImplementedError(f"{type(self).__name__} has no extra state")

    def set_extra_state(self, state: Any) -> None:
        """Take back what `get_extra_state` returned."""
        raise NotImplementedError(f"{type(self).__name__} has no extra state")

    def _has_extra_state(self) -> bool:
        return type(self).get_extra_state is not Module.get_extra_state

    def state_dict(
        self, destination: dict[str, Any] | None = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Any]:
        """Collect parameters and persistent buffers under their dotted names.

        Parameters
        ----------
        destination : dict, optional
            Where the entries go; a new ordered dictionary when absent.
        prefix : str
            What stands before each name.
        keep_vars : bool
            Return the `Parameter` objects themselves, not plain tensors over the same memory.

        Returns
        -------
        dict
            `destination`. The tensors share the module's memory.
        """
        entries: dict[str, Any] = OrderedDict() if destination is None else destination
        for kind in (PARAMETER, BUFFER):
            for name, value in self._own(kind):
                entries[prefix + name] = value if keep_vars else Tensor(value)
        if self._has_extra_state():
            entries[prefix + EXTRA] = self.get_extra_state()
        for name, module in self._own(MODULE):
            module.state_dict(destination=entries, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        return entries

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> _IncompatibleKeys:
        """Take over the values of a state dict, or, if anything does not fit, none of them.

        Parameters
        ----------
        state_dict : mapping
            Dotted names to tensors: infinicore's, PyTorch's or NumPy's.
        strict : bool
            Whether a key that is missing or unexpected is an error.
        assign : bool
            Share the memory of the given tensors, and take their dtype and device, instead of copying the
            values into this module's dtype and device.

        Returns
        -------
        tuple
            ``missing_keys`` and ``unexpected_keys``, lists of names.

        Raises
        ------
        InvalidArgument
            Keys do not match and `strict` is set, or a shape differs. The message lists all of them.
        """
        if not isinstance(state_dict, Mapping):
            raise ArgumentTypeError(
                f"load_state_dict: state_dict: expected a mapping, got {type(state_dict).__name__}"
            )
        missing: list[str] = []
        problems: list[str] = []
        known: set[str] = set()
        steps: list[Callable[[], object]] = []
        for path, module in self.named_modules(remove_duplicate=False):
            prefix = f"{path}." if path else ""
            for name, value in (*module._own(PARAMETER), *module._own(BUFFER)):
                key = prefix + name
                known.add(key)
                if key not in state_dict:
                    missing.append(key)
                    continue
                source = _tensor_of(key, state_dict[key], problems)
                if source is None:
                    continue
                if source.shape != value.shape:
                    problems.append(
                        f"size mismatch for {key}: the state dict has shape {source.shape}, the module "
                        f"{value.shape}"
                    )
                steps.append(_loading(module, name, value, source, assign))
            if module._has_extra_state():
                known.add(prefix + EXTRA)
                if prefix + EXTRA in state_dict:
                    steps.append(_setting(module, state_dict[prefix + EXTRA]))
                else:
                    missing.append(prefix + EXTRA)
        unexpected = [key for key in state_dict if key not in known]
        if strict and missing:
            problems.insert(0, f"Missing key(s) in state_dict: {_quoted(missing)}")
        if strict and unexpected:
            problems.insert(0, f"Unexpected key(s) in state_dict: {_quoted(unexpected)}")
        if problems:
            listed = "".join(f"\n    {problem}" for problem in problems)
            raise InvalidArgument(f"Error(s) in loading state_dict for {type(self).__name__}:{listed}")
        for step in steps:
            step()
        return _IncompatibleKeys(missing, unexpected)

    # ---- printing ----

    def extra_repr(self) -> str:
        """Return what `repr` shows between the parentheses, before the children."""
        return ""

    def _lines(self) -> list[str]:
        """Return the children as `repr` shows them."""
        return [f"({name}): {module!r}" for name, module in self._own(MODULE)]

    def __repr__(self) -> str:
        extra, lines = self.extra_repr(), self._lines()
        name = type(self).__name__
        if not lines:
            return f"{name}({extra})"
        body = [*extra.splitlines(), *lines]
        return f"{name}(\n" + "\n".join("  " + line.replace("\n", "\n  ") for line in body) + "\n)"


def empty_parameter(size: tuple[int, ...], device: Any, dtype: Any) -> Parameter:
    """Return a parameter with undefined values, on the CPU and of float32 unless told otherwise."""
    return Parameter(infinicore.empty(size, dtype=dtype or infinicore.float32, device=device or "cpu"))


def filled_parameter(size: tuple[int, ...], value: float, device: Any, dtype: Any) -> Parameter:
    """Return a parameter with one value everywhere."""
    parameter = empty_parameter(size, device, dtype)
    parameter.fill_(value)
    return parameter


def _is_dtype(value: Any) -> bool:
    try:
        as_dtype(value)
    except DTypeError:
        return False
    return True


def _tensor_of(key: str, value: Any, problems: list[str]) -> Tensor | None:
    """Read an entry of a state dict; what is no tensor of anybody is a problem."""
    if isinstance(value, Tensor):
        return value
    package = type(value).__module__.partition(".")[0]
    try:
        if package == "numpy":
            return interop.from_numpy(value)
        if any(kind.__module__.partition(".")[0] == "torch" for kind in type(value).__mro__):
            return interop.from_torch(value.detach())
    except infinicore.Error as error:
        problems.append(f"{key}: {error}")
        return None
    problems.append(f"{key}: expected a tensor, got {type(value).__name__}")
    return None


def _loading(module: Module, name: str, old: Tensor, source: Tensor, assign: bool) -> Callable[[], object]:
    if not assign:
        return lambda: old.copy_(source)
    if isinstance(old, Parameter):
        return lambda: setattr(old, "data", source)
    return lambda: setattr(module, name, source)


def _setting(module: Module, state: Any) -> Callable[[], object]:
    return lambda: module.set_extra_state(state)


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
