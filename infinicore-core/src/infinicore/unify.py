# Binding: what the symbols of a signature stand for in one call, and which argument disagrees.
# Runs once per new combination of layouts; the result is cached by the dispatcher.
"""Bind the symbols of a `Schema` to the shapes, dtypes and values of one call."""

from __future__ import annotations

from operator import index

from infinicore.errors import ArgumentTypeError, DTypeError, InvalidArgument, ShapeError
from infinicore.schema import DTYPES, VARIABLES, Dim, Parameter, Resolved, Schema, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

__all__ = ["call_hook", "convert", "resolve"]


def resolve(schema: Schema, values: Sequence[Any]) -> Resolved:
    """Implementation of `Schema.resolve`."""
    specs, scalars = _split(schema, values)
    if schema.canonical is not None:
        for name, value in call_hook(schema.canonical, schema, specs, scalars).items():
            scalars[schema.by_name[name].index] = value
    for p in schema.scalars:
        scalars[p.index] = convert(schema, p, scalars[p.index])
    binding = _Binding(schema, specs, scalars)
    binding.bind_dtypes()
    binding.bind_inputs()
    if schema.errors is not None:
        call_hook(schema.errors, schema, specs, scalars)
    expand = binding.expand_inputs()
    binding.settle_outputs()
    return Resolved(specs, scalars, expand, binding.symbols)


def call_hook(hook: Callable[..., Any], schema: Schema, specs: Sequence[Any], values: Sequence[Any]) -> Any:
    """Call `hook` with the specs and values of the slots that its parameters name."""
    code = hook.__code__
    named = {}
    for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]:
        p = schema.by_name[name]
        named[name] = specs[p.index] if p.is_tensor else values[p.index]
    return hook(**named)


def _split(schema: Schema, values: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Tensors' specs and scalars' values, each in a list with one entry per slot."""
    count = len(schema.parameters)
    if len(values) != count:
        raise ArgumentTypeError(f"{schema.name}: {len(values)} values for {count} slots")
    specs: list[Any] = [None] * count
    scalars: list[Any] = [None] * count
    for p, value in zip(schema.parameters, values, strict=True):
        if not p.is_tensor:
            scalars[p.index] = value
        elif value is None:
            if p.role == "in" and not p.optional:
                raise ArgumentTypeError(f"{schema.call.name}: {_name(schema, p)} must be a tensor, got None")
        elif p.kind == "tensors":
            specs[p.index] = tuple(value)
            if not specs[p.index]:
                name = f"{schema.call.name}: {_name(schema, p)}"
                raise InvalidArgument(f"{name} has 0 tensors, but must have at least 1")
        else:
            specs[p.index] = value
    return specs, scalars


# ---- plain values ------------------------------------------------------------------------------------------

_WANTED = {
    "bool": "a bool",
    "int": "an int",
    "float": "a number",
    "ints": "a sequence of ints",
    "dtype": "a dtype",
}


def convert(schema: Schema, p: Parameter, value: Any) -> Any:
    """Implementation of `Schema.convert`."""
    try:
        if p.kind == "float":
            if not isinstance(value, (str, bytes)):
                return _in_range(schema, p, value, float(value))
        elif p.kind == "int":
            if not isinstance(value, bool):
                return _in_range(schema, p, value, index(value))
        elif p.kind == "bool":
            # NumPy's bool is no bool, and an int that is neither 0 nor 1 is a mistake.
            if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):
                return bool(value)
        elif p.kind == "ints":
            return tuple(_in_range(schema, p, item, index(item)) for item in value)
        elif p.kind == "enum":
            return _member(schema, p, value)
        else:
            return _dtype_name(value)
    except OverflowError:  # of float()
        return _in_range(schema, p, value, value)
    except (TypeError, ValueError, KeyError) as error:
        if isinstance(error, InvalidArgument):
            raise
    wanted = _WANTED.get(p.kind) or f"a {p.enum.__name__}"
    name, type_name = _name(schema, p), type(value).__name__
    raise ArgumentTypeError(f"{schema.call.name}: {name} must be {wanted}, got {value!r} ({type_name})")


def _in_range(schema: Schema, p: Parameter, value: Any, number: Any) -> Any:
    """`number`, unless it is an integer that no slot can hold."""
    if isinstance(number, int) and not -(2**63) <= number < 2**63:
        raise InvalidArgument(f"{schema.call.name}: {_name(schema, p)}={value} does not fit into 64 bits")
    return number


def _name(schema: Schema, p: Parameter) -> str:
    """What the caller calls slot `p`."""
    return schema.call.names[p.index]


def _member(schema: Schema, p: Parameter, value: Any) -> Any:
    number = index(value)
    try:
        return p.enum(number)
    except ValueError:
        members = ", ".join(f"{m.name} ({m.value})" for m in p.enum)
        left = f"{schema.call.name}: {_name(schema, p)}={number}"
        raise InvalidArgument(f"{left}, but it must be one of {members}") from None


_BY_LONG_NAME = {long: short for short, (_, long) in DTYPES.items()}


def _dtype_name(value: Any) -> str:
    short = getattr(value, "short", value)
    return short if short in DTYPES else _BY_LONG_NAME[short]


# ---- symbols -----------------------------------------------------------------------------------------------


class _Binding:
    """The symbols of one call, and which argument gave each."""

    def __init__(self, schema: Schema, specs: list[Any], scalars: list[Any]) -> None:
        self.schema, self.specs, self.values = schema, specs, scalars
        self.operator = schema.call.name
        self.symbols: dict[str, Any] = {}
        self.origin: dict[str, str] = {}  # symbol: "a has" or "a and b have"
        for p in schema.parameters:
            if p.is_size:
                self.symbols[p.name] = scalars[p.index]

    def _items(self, p: Parameter) -> list[tuple[str, Spec]]:
        """``(name, spec)`` of each tensor in slot `p`, under the names the caller uses."""
        spec, name = self.specs[p.index], _name(self.schema, p)
        if spec is None:
            return []
        if p.kind == "tensor":
            return [(name, spec)]
        return [(f"{name}[{i}]", item) for i, item in enumerate(spec)]

    # -- dtypes --

    def bind_dtypes(self) -> None:
        """Check every tensor's dtype; inputs first, so that an output is blamed rather than an input."""
        for p in _inputs_first(self.schema):
            for name, spec in self._items(p):
                self._bind_dtype(p, name, spec.dtype)

    def _bind_dtype(self, p: Parameter, name: str, dtype: str) -> None:
        allowed, got = p.dtypes(), long(dtype)
        if p.dtype not in VARIABLES:
            if dtype not in allowed:
                raise DTypeError(f"{self.operator}: {name} has dtype {got}, but must be {_one_of(allowed)}")
            return
        if dtype not in allowed:
            raise DTypeError(
                f"{self.operator}: {name} has {p.dtype}={got}, but it must be {_one_of(allowed)}"
            )
        bound = self.symbols.setdefault(p.dtype, dtype)
        other = self.origin.setdefault(p.dtype, f"{name} has")
        if bound != dtype:
            left = f"{self.operator}: {name} has {p.dtype}={got}"
            raise DTypeError(f"{left}, but {other} {p.dtype}={long(bound)}")

    # -- dimensions --

    def bind_inputs(self) -> None:
        """Bind every symbol that an input mentions: plain ones, then broadcasting ones, then ``name//2``."""
        pairs = []
        for p in _inputs_first(self.schema):
            if p.role == "out":
                continue
            local = _local_symbols(self.schema, p)
            for name, spec in self._items(p):
                sizes = self._align(p, name, spec.shape)
                pairs += [(name, d, size) for d, size in sizes if d.name not in local]
        for name, d, size in pairs:
            if not d.broadcast and d.divisor == 1:
                self._bind(name, d, size)
        exact = set(self.symbols)
        for name, d, size in pairs:
            if d.broadcast:
                self._bind_broadcast(name, d, size, d.name in exact)
        for name, d, size in pairs:
            if d.divisor != 1:
                self._bind_quotient(name, d, size)

    def _align(self, p: Parameter, name: str, shape: tuple[int, ...]) -> list[tuple[Dim, Any]]:
        """Pair each dim of `p` with the size, or for a starred one the sizes, that it covers."""
        star = next((i for i, d in enumerate(p.dims) if d.star), None)
        fixed = len(p.dims) - (star is not None)
        if len(shape) < fixed or (star is None and len(shape) != fixed):
            wanted = str(fixed) if star is None else f"at least {fixed}"
            raise ShapeError(
                f"{self.operator}: {name} has ndim={len(shape)}, but [{p.shape_text}] needs {wanted}"
            )
        if star is None:
            return list(zip(p.dims, shape, strict=True))
        after = len(p.dims) - star - 1
        end = len(shape) - after
        head, middle, tail = shape[:star], shape[star:end], shape[end:]
        return [
            *zip(p.dims[:star], head, strict=True),
            (p.dims[star], middle),
            *zip(p.dims[star + 1 :], tail, strict=False),
        ]

    def _bind(self, name: str, d: Dim, size: Any) -> None:
        if d.number is not None:
            if size != d.number:
                raise ShapeError(f"{self.operator}: {name} has a size of {size}, but it must be {d.number}")
            return
        bound = self.symbols.setdefault(d.name, size)
        if bound != size:
            raise self._mismatch(name, d, size, bound)
        self.origin.setdefault(d.name, f"{name} has")

    def _bind_broadcast(self, name: str, d: Dim, size: Any, exact: bool) -> None:
        if d.name not in self.symbols:
            self.symbols[d.name], self.origin[d.name] = size, f"{name} has"
            return
        bound = self.symbols[d.name]
        joined: Any = _broadcast(bound, size) if d.star else _broadcast((bound,), (size,))
        if joined is not None and not d.star:
            (joined,) = joined
        if joined is None or (exact and joined != bound):
            raise self._mismatch(name, d, size, bound)
        if joined != bound:  # the result is this argument's, or takes all of them
            earlier = self.origin[d.name].rsplit(" ", 1)[0]
            self.origin[d.name] = f"{name} has" if joined == size else f"{earlier} and {name} have"
        self.symbols[d.name] = joined

    def _bind_quotient(self, name: str, d: Dim, size: int) -> None:
        whole = self.symbols.setdefault(d.name, size * d.divisor)
        other = self.origin.setdefault(d.name, f"{name} has")
        if whole != size * d.divisor:
            raise ShapeError(f"{self.operator}: {name} has {d.text}={size}, but {other} {d.name}={whole}")

    def _mismatch(self, name: str, d: Dim, size: Any, bound: Any) -> ShapeError:
        other = self.origin.get(d.name, "the call says")  # of an int parameter
        left = f"{self.operator}: {name} has {d.name}={_show(size)}"
        return ShapeError(f"{left}, but {other} {d.name}={_show(bound)}")

    def _size(self, p: Parameter) -> tuple[int, ...]:
        """The shape that the symbols give slot `p`."""
        shape: list[int] = []
        for d in p.dims:
            if d.number is not None:
                shape.append(d.number)
            elif d.name not in self.symbols:
                name = _name(self.schema, p)
                raise ArgumentTypeError(
                    f"{self.operator}: {d.name} of {name} does not follow from the arguments; pass {name}"
                )
            elif d.star:
                shape.extend(self.symbols[d.name])
            else:
                whole = self.symbols[d.name]
                if whole % d.divisor:
                    other = self.origin.get(d.name, "the call says")
                    raise ShapeError(f"{self.operator}: {other} {d.name}={whole}, no multiple of {d.divisor}")
                shape.append(whole // d.divisor)
        return tuple(shape)

    # -- what follows --

    def expand_inputs(self) -> tuple[int, ...]:
        """Give broadcasting inputs their full shape; the slots where that is another one."""
        changed = []
        for p in self.schema.parameters:
            spec = self.specs[p.index]
            if p.kind == "tensor" and spec is not None and any(d.broadcast for d in p.dims):
                full = self._size(p)
                if full != spec.shape:
                    self.specs[p.index] = Spec(full, spec.dtype)
                    changed.append(p.index)
        return tuple(changed)

    def settle_outputs(self) -> None:
        """Check the outputs that were given and infer the others."""
        inferred = self._inferred()
        for p in self.schema.outputs:
            given, name = self.specs[p.index], _name(self.schema, p)
            shape, dtype = inferred.get(p.name, (None, None))
            if given is None:
                shape = self._size(p) if shape is None else shape
                self.specs[p.index] = Spec(shape, self._output_dtype(p, dtype))
            elif shape is not None:
                if given.shape != shape:
                    left = f"{self.operator}: {name} has shape {_show(given.shape)}"
                    raise ShapeError(f"{left}, but it must have shape {_show(shape)}")
            elif p.role == "out":
                for d, size in self._align(p, name, given.shape):
                    if d.divisor == 1:
                        self._bind(name, d, size)
                    else:
                        self._bind_quotient(name, d, size)

    def _inferred(self) -> dict[str, tuple[tuple[int, ...] | None, str | None]]:
        """What the operator's `shape` says of its ``Out`` slots."""
        schema = self.schema
        if schema.shape is None:
            return {}
        found = call_hook(schema.shape, schema, self.specs, self.values)
        outs = [p.name for p in schema.parameters if p.role == "out"]
        return dict(zip(outs, ((None if s is None else tuple(s), t) for s, t in found), strict=True))

    def _output_dtype(self, p: Parameter, default: str | None) -> str:
        allowed = p.dtypes()
        if p.dtype not in VARIABLES and len(allowed) == 1:
            return allowed[0]
        dtype = self.symbols.get(p.dtype, default)
        if dtype is None:
            name = _name(self.schema, p)
            raise ArgumentTypeError(
                f"{self.operator}: the dtype of {name} does not follow from the arguments; pass {name}"
            )
        return dtype


def _inputs_first(schema: Schema) -> list[Parameter]:
    order = ("in", "inout", "out")
    return sorted(schema.tensors, key=lambda p: order.index(p.role))


def _local_symbols(schema: Schema, p: Parameter) -> set[str]:
    """Symbols that belong to each item of list `p` alone."""
    if p.kind != "tensors":
        return set()
    others = {d.name for q in schema.tensors if q is not p for d in q.dims}
    return {d.name for d in p.dims} - others


def _broadcast(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape both broadcast to, or None."""
    rank = max(len(left), len(right))
    left, right = (1,) * (rank - len(left)) + left, (1,) * (rank - len(right)) + right
    joined = []
    for a, b in zip(left, right, strict=True):
        if a != b and a != 1 and b != 1:
            return None
        joined.append(b if a == 1 else a)
    return tuple(joined)


def long(dtype: str) -> str:
    """The name users write: ``float32`` for ``f32``."""
    return DTYPES[dtype][1] if dtype in DTYPES else str(dtype)


def _one_of(dtypes: Sequence[str]) -> str:
    names = [long(d) for d in dtypes]
    return names[0] if len(names) == 1 else "one of " + ", ".join(names)


def _show(size: Any) -> str:
    return str(tuple(size)) if isinstance(size, (tuple, list)) else str(size)
