# An operator is a Python function with a typed signature. This module reads that signature once and answers
# everything the rest of the system asks about it: slots, shapes, dtypes, Python call, C forms, fingerprint.
"""Operator schemas: the one text from which calls, checks, headers, tests and documentation come.

A signature is written with markers (see `infinicore.ops`)::

    @operator(inplace="x")
    def rms_norm(out: Out[Tensor, "F *r n"], x: In[Tensor, "F *r n"], weight: In[Tensor, "W n"],
                 *, epsilon: Static[float] = 1e-5):
        "docstring"
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + epsilon) * weight

Grammar
-------
``In``, ``Out`` or ``InOut[Tensor, "DTYPE dims"]``, ``| None`` when optional; ``In[TensorList, "DTYPE
dims"]``; or a scalar: ``bool``, ``int``, ``float``, an ``IntEnum``, ``DType``, ``tuple[int, ...]``;
``Static[scalar]`` when a kernel may plan on the value.

DTYPE is a literal (``i32``), a set (``f16|bf16|f32``) or a variable of `VARIABLES`, which has one value per
call. A dim is a number, a symbol, one ``*name`` (any number of dimensions), ``name~`` or ``*name~`` (size 1,
or a missing leading dimension, broadcasts), ``name//2`` (exact division) or the name of an ``int`` parameter.
In a list, a symbol that no other parameter uses belongs to each item alone.

This module and `infinicore.ops` import neither NumPy nor anything compiled: a build script reads them too.
"""

from __future__ import annotations

from infinicore.errors import ArgumentTypeError, OutOfRange

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Annotated, Any, TypeVar
    from typing import Annotated as In
    from typing import Annotated as InOut
    from typing import Annotated as Out

    import numpy as np

    _T = TypeVar("_T")
    Static = Annotated[_T, "static"]
    Tensor = Any
    TensorList = Any
    DType = Any

__all__ = [
    "DTYPES",
    "EMPTY",
    "OPERATORS",
    "VARIABLES",
    "C",
    "Call",
    "CallParameter",
    "DType",
    "Elements",
    "In",
    "InOut",
    "Out",
    "Parameter",
    "Resolved",
    "Schema",
    "Spec",
    "Static",
    "Tensor",
    "TensorList",
    "Values",
    "c_prototypes",
    "canonical_axis",
    "check_indices",
    "dim_of_input",
    "np",
    "operator",
    "spelling",
    "write_headers",
]

# ---- dtypes ------------------------------------------------------------------------------------------------

# Short name -> (infiniDtype_t, long name), in the order of the public enumeration.
DTYPES: dict[str, tuple[int, str]] = {
    "byte": (1, "byte"),
    "bool": (2, "bool"),
    "i8": (3, "int8"),
    "i16": (4, "int16"),
    "i32": (5, "int32"),
    "i64": (6, "int64"),
    "u8": (7, "uint8"),
    "u16": (8, "uint16"),
    "u32": (9, "uint32"),
    "u64": (10, "uint64"),
    "f8": (11, "float8"),
    "f16": (12, "float16"),
    "f32": (13, "float32"),
    "f64": (14, "float64"),
    "c16": (15, "complex16"),
    "c32": (16, "complex32"),
    "c64": (17, "complex64"),
    "c128": (18, "complex128"),
    "bf16": (19, "bfloat16"),
}

_ANY = tuple(DTYPES)
_FLOATS = ("f16", "bf16", "f32", "f64")
_INTS = ("i32", "i64", "i8", "i16", "u8", "u16", "u32", "u64")
_COMPLEX = ("c64", "c128", "c32", "c16")

# What a dtype variable may stand for.
VARIABLES: dict[str, tuple[str, ...]] = {
    "T": _ANY,  # anything
    "D": _ANY,  # anything: the destination of a cast
    "S": _ANY,  # anything: the source of a cast
    "N": (*_FLOATS, *_INTS, *_COMPLEX),  # numbers
    "R": (*_FLOATS, "f8", *_INTS, "bool"),  # whatever has an order
    "F": _FLOATS,
    "W": _FLOATS,  # floats, of its own: weights and tables
    "I": _INTS,
}


# ---- markers -----------------------------------------------------------------------------------------------

EMPTY = type("EMPTY", (), {"__repr__": lambda self: "EMPTY", "__slots__": ()})()  # "has no default"


class _TensorMark:
    """What ``In[Tensor, "F n"]`` evaluates to."""

    __slots__ = ("kind", "optional", "role", "text")

    def __init__(self, role: str, kind: str, text: str, optional: bool = False) -> None:
        self.role, self.kind, self.text, self.optional = role, kind, text, optional

    def __or__(self, other: None) -> _TensorMark:
        if other is not None:
            raise TypeError("a tensor parameter may only be joined with None")
        return _TensorMark(self.role, self.kind, self.text, True)


class _StaticMark:
    """What ``Static[int]`` evaluates to."""

    __slots__ = ("type",)

    def __init__(self, type: Any) -> None:
        self.type = type


if not TYPE_CHECKING:  # a type checker sees aliases of Annotated instead

    class Tensor:
        """Marker: the parameter is one tensor."""

    class TensorList:
        """Marker: the parameter is a sequence of tensors."""

    class DType:
        """Marker: the parameter is an element type."""

    class _Role:
        __slots__ = ("role",)

        def __init__(self, role):
            self.role = role

        def __getitem__(self, item):
            marker, text = item
            return _TensorMark(self.role, "tensors" if marker is TensorList else "tensor", text)

    class _Static:
        def __getitem__(self, type):
            return _StaticMark(type)

    class _LazyNumPy:
        """``np`` for reference bodies: NumPy is imported when the first attribute is read."""

        def __getattr__(self, name):
            import numpy

            value = getattr(numpy, name)
            setattr(self, name, value)
            return value

    In, Out, InOut, Static, np = _Role("in"), _Role("out"), _Role("inout"), _Static(), _LazyNumPy()


class Elements:
    """Which values a tensor's elements may have, for ``draw``: ``low <= element <= high``."""

    __slots__ = ("high", "low")

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high


class Values:
    """A tensor's elements themselves, for ``draw`` where bounds cannot say which ones are legal."""

    __slots__ = ("items",)

    def __init__(self, items: Sequence[Any]) -> None:
        self.items = items


class C:
    """The public C form of an operator, where it differs from the rule.

    The rule: the functions carry the operator's name in camel case; ``create`` takes tensors and `Static`
    values, ``execute`` takes tensors and the rest, both in slot order.

    Parameters
    ----------
    base : str
        The name inside the functions: ``"RMSNorm"`` gives ``infiniopCreateRMSNormDescriptor``.
    create, execute : str, optional
        The arguments, separated by commas: ``[C type] name[@slot]``. The slot's name is `name` where it is
        not given. A slot that is absent from both is filled from the signature's default. Two forms stand for
        no slot: ``size_t n@.count`` is the length of the lists before it, ``int batch_size@[b]`` the size of
        dimension ``b``. In ``execute``, ``void **data_ptr@out`` with ``size_t *dlen@[n]`` is an output that
        the function counts, allocates and hands back, with its size.
    suffix : str
        What tensor descriptors of ``create`` carry behind their name.
    workspace : bool
        False: there is no workspace function and ``execute`` takes none; core's allocator provides it.
    of : str, optional
        The name of another C form whose descriptor type, workspace and destroy functions this one shares.
    """

    __slots__ = ("base", "create", "execute", "of", "suffix", "workspace")

    def __init__(
        self,
        base: str,
        create: str | None = None,
        execute: str | None = None,
        *,
        suffix: str = "_desc",
        workspace: bool = True,
        of: str | None = None,
    ) -> None:
        self.base, self.create, self.execute = base, create, execute
        self.suffix, self.workspace, self.of = suffix, workspace, of


# ---- what a signature is made of ---------------------------------------------------------------------------


class Dim:
    """One word of a shape. ``name`` is what binds (``"d"`` of ``d//2``), ``text`` what was written."""

    __slots__ = ("broadcast", "divisor", "name", "number", "star", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.broadcast = text.endswith("~")
        name = text[:-1] if self.broadcast else text
        self.star = name.startswith("*")
        self.number = int(name) if name.isdigit() else None
        self.divisor = 1
        if "//" in name:
            name, divisor = name.split("//")
            self.divisor = int(divisor)
        self.name = name
        if self.number is None and not name.lstrip("*").isidentifier():
            raise TypeError(f"{text!r} is not a dimension")

    def __repr__(self) -> str:
        return self.text


class Parameter:
    """One slot of an operator.

    Attributes
    ----------
    name, index : str, int
        Its name, and its place among the slots.
    role : str
        ``"in"``, ``"out"``, ``"inout"``, or ``"scalar"``.
    kind : str
        ``"tensor"``, ``"tensors"``, ``"int"``, ``"float"``, ``"bool"``, ``"enum"``, ``"dtype"`` or
        ``"ints"``.
    dtype, dims : str, tuple of Dim
        The dtype word and the shape, for tensors; ``""`` and ``()`` otherwise.
    optional : bool
        The tensor may be absent (None).
    static : bool
        A kernel may plan on the value: it is there when a descriptor is created.
    is_size : bool
        The value is the size of a dimension of some tensor.
    keyed : bool
        The value joins the key of a cached plan: it is static, or a size.
    default : object
        The scalar's default, or `EMPTY`.
    enum : type or None
        The ``IntEnum`` of an ``"enum"``.
    """

    __slots__ = (
        "default",
        "dims",
        "dtype",
        "enum",
        "index",
        "is_size",
        "keyed",
        "kind",
        "name",
        "optional",
        "role",
        "static",
    )

    def __init__(self, name: str, index: int, annotation: Any, default: Any = EMPTY) -> None:
        self.name, self.index, self.default = name, index, default
        self.dtype: str = ""
        self.dims: tuple[Dim, ...] = ()
        self.enum: Any = None
        self.optional = self.static = False
        if isinstance(annotation, _TensorMark):
            self.role, self.kind, self.optional = annotation.role, annotation.kind, annotation.optional
            self.dtype, *dims = annotation.text.split()
            self.dims = tuple(map(Dim, dims))
        else:
            self.role = "scalar"
            if isinstance(annotation, _StaticMark):
                self.static, annotation = True, annotation.type
            self.kind = _scalar_kind(name, annotation)
            if self.kind == "enum":
                self.enum = annotation
        self.keyed = self.static
        self.is_size = False

    @property
    def is_tensor(self) -> bool:
        """Whether the slot holds a tensor or a list of them."""
        return self.role != "scalar"

    @property
    def shape_text(self) -> str:
        """The shape as the signature writes it, e.g. ``"*b m k"``."""
        return " ".join(d.text for d in self.dims)

    def dtypes(self) -> tuple[str, ...]:
        """Short names of the element types the signature allows here."""
        return VARIABLES.get(self.dtype) or tuple(self.dtype.split("|"))

    def __repr__(self) -> str:
        if self.is_tensor:
            words = f"{self.dtype} {self.shape_text}".strip()
            marker = "TensorList" if self.kind == "tensors" else "Tensor"
            role = {"in": "In", "out": "Out", "inout": "InOut"}[self.role]
            return f'{self.name}: {role}[{marker}, "{words}"]' + (" | None" if self.optional else "")
        kind = self.enum.__name__ if self.enum is not None else self.kind
        kind = "tuple[int, ...]" if kind == "ints" else kind
        return f"{self.name}: Static[{kind}]" if self.static else f"{self.name}: {kind}"


_SCALARS = {bool: "bool", int: "int", float: "float", tuple[int, ...]: "ints", DType: "dtype"}


def _scalar_kind(name: str, annotation: Any) -> str:
    kind = _SCALARS.get(annotation)
    if kind is None and isinstance(annotation, type) and issubclass(annotation, int):
        kind = "enum"
    if kind is None:
        raise TypeError(f"parameter {name}: {annotation!r} is not a type that a slot can hold")
    return kind


class Spec:
    """Shape and element type (short name) of one tensor of one call."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: Iterable[int], dtype: str) -> None:
        self.shape, self.dtype = tuple(shape), dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and (self.shape, self.dtype) == (other.shape, other.dtype)

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype))

    def __repr__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


class CallParameter:
    """One parameter of the Python call.

    ``slot`` is the index of the slot it fills, ``CallParameter.OUT`` for ``out=`` (one tensor, or a tuple
    with one for each slot of `Call.outputs`; the first alone where the others have parameters of their own),
    or ``CallParameter.RESERVED`` where only the default is accepted.
    """

    __slots__ = ("default", "keyword_only", "name", "slot")
    OUT = -1
    RESERVED = -2

    def __init__(self, name: str, slot: int, keyword_only: bool, default: Any) -> None:
        self.name, self.slot, self.keyword_only, self.default = name, slot, keyword_only, default

    @property
    def required(self) -> bool:
        """Whether a call must give it."""
        return self.default is EMPTY

    def __repr__(self) -> str:
        if self.required:
            return self.name
        member = getattr(self.default, "name", None)  # of an enumeration: shorter than its repr
        return f"{self.name}={member or repr(self.default)}"


class Call:
    """How Python calls an operator.

    Attributes
    ----------
    name : str
        The Python name (``matmul`` is a call of ``gemm``).
    parameters : tuple of CallParameter
    names : tuple of str
        What each slot is called in messages: the call's name for it, where it has one.
    outputs : tuple of int
        The slots that ``out=`` fills; those that are not given are allocated.
    returns : tuple of int
        The slots that come back: one tensor, or a tuple where there are several.
    fixed : dict of int to value
        Scalar slots that this call does not offer and always passes.
    """

    __slots__ = ("fixed", "name", "names", "outputs", "parameters", "returns")

    def __init__(
        self,
        name: str,
        parameters: tuple[CallParameter, ...],
        names: tuple[str, ...],
        outputs: tuple[int, ...],
        returns: tuple[int, ...],
        fixed: dict[int, Any],
    ) -> None:
        self.name, self.parameters, self.names = name, parameters, names
        self.outputs, self.returns, self.fixed = outputs, returns, fixed

    def __str__(self) -> str:
        words, star = [], False
        for p in self.parameters:
            if p.keyword_only and not star:
                words.append("*")
                star = True
            words.append(repr(p))
        return f"{self.name}({', '.join(words)})"


class Resolved:
    """What one combination of layouts and keyed values comes to. One entry per slot in each list.

    Attributes
    ----------
    specs : list
        `Spec` of each tensor (outputs inferred, broadcasting inputs in their full shape), a tuple of them for
        a list, None for scalars and absent tensors.
    values : list
        Scalars in their final form (axes non-negative, lists as tuples of int); None for tensors.
    expand : tuple of int
        Slots whose tensor must be expanded to ``specs[slot].shape``, with stride 0 where it broadcasts.
    symbols : dict
        What each symbol stands for: ``{"m": 2, "*b": (3,), "F": "f32"}``.
    """

    __slots__ = ("expand", "specs", "symbols", "values")

    def __init__(
        self, specs: list[Any], values: list[Any], expand: tuple[int, ...], symbols: dict[str, Any]
    ) -> None:
        self.specs, self.values, self.expand, self.symbols = specs, values, expand, symbols


# ---- the schema --------------------------------------------------------------------------------------------

_MASK = (1 << 64) - 1


class Schema:
    """Everything one operator's signature says.

    Attributes
    ----------
    name : str
        The operator, as kernels register it.
    parameters : tuple of Parameter
        The slots, in order.
    by_name : dict of str to Parameter
    call : Call
        The Python call.
    inplace : frozenset of str
        Inputs that an output may be (same data, same layout).
    body : function
        The reference: takes NumPy arrays and scalars by slot name, returns one array per output.
    doc : str
        The docstring.
    c : C
        The C form.
    draw : function or None
        ``draw(draw, st) -> dict``: legal values for property tests. ``draw`` is hypothesis' draw function and
        ``st`` its strategies. Keys: a dim symbol (``"n"``, ``"*s"``) to a size or tuple of sizes, a scalar's
        name to its value, a tensor's name to `Elements` or `Values` (or None: it is absent), a list's name to
        a list of shapes, a dtype variable to a dtype.
    guard : function or None
        ``guard(name=..., ...)``: a check of plain values that runs before every call, with the `Spec` of the
        tensors and the values of the scalars that it names.
    count : function or None
        ``count(name=..., ...) -> {symbol: size}``: the sizes of outputs that the elements of tensors decide,
        given as NumPy arrays. Such an operator takes its outputs; a Python function of its name counts on the
        device, allocates and calls it.
    """

    def __init__(
        self,
        body: Callable[..., Any],
        *,
        name: str | None = None,
        python: str | None = None,
        inplace: str = "",
        c: C | None = None,
        shape: Callable[..., Any] | None = None,
        canonical: Callable[..., Any] | None = None,
        errors: Callable[..., Any] | None = None,
        guard: Callable[..., Any] | None = None,
        draw: Callable[..., Any] | None = None,
        count: Callable[..., Any] | None = None,
    ) -> None:
        self.name = name or body.__name__
        self.body = body
        self.parameters = _read_parameters(body)
        self.by_name = {p.name: p for p in self.parameters}
        self.inplace = frozenset(inplace.split())
        self.c = c or C("".join(word.capitalize() for word in self.name.split("_")))
        self.shape, self.canonical, self.errors = shape, canonical, errors
        self.guard, self.draw, self.count = guard, draw, count
        self._fingerprint: int | None = None
        self._mark_dimensions()
        self._check_signature()
        self.call: Call = _read_call(self, python or _default_call(self), {})
        self.doc = body.__doc__ or ""

    # -- reading the signature --

    @property
    def tensors(self) -> tuple[Parameter, ...]:
        """The slots that hold tensors or lists of tensors."""
        return tuple(p for p in self.parameters if p.is_tensor)

    @property
    def scalars(self) -> tuple[Parameter, ...]:
        """The slots that hold values."""
        return tuple(p for p in self.parameters if not p.is_tensor)

    @property
    def outputs(self) -> tuple[Parameter, ...]:
        """The slots an execution writes: ``Out`` and ``InOut``, in order."""
        return tuple(p for p in self.parameters if p.role in ("out", "inout"))

    @property
    def static(self) -> tuple[Parameter, ...]:
        """The scalars that a kernel may plan on."""
        return tuple(p for p in self.parameters if p.static)

    @property
    def signature(self) -> str:
        """The text that the fingerprint covers: no defaults, no documentation, no C or Python form."""
        return f"{self.name}({', '.join(map(repr, self.parameters))})"

    @property
    def fingerprint(self) -> int:
        """64 bits (FNV-1a) of `signature`: a plug-in built for another one loses this operator."""
        if self._fingerprint is None:
            value = 0xCBF29CE484222325
            for byte in self.signature.encode():
                value = ((value ^ byte) * 0x100000001B3) & _MASK
            self._fingerprint = value
        return self._fingerprint

    def __repr__(self) -> str:
        return f"<Schema {self.signature}>"

    # -- one call --

    def spelled(self, python: str, doc: str, fixed: Mapping[str, Any]) -> Schema:
        """The same operator under another Python call."""
        other = object.__new__(Schema)
        other.__dict__.update(self.__dict__)
        other.call, other.doc = _read_call(self, python, fixed), doc
        return other

    def resolve(self, values: Sequence[Any]) -> Resolved:
        """Check one combination of layouts and values, and infer everything that follows from it.

        Parameters
        ----------
        values : sequence
            One entry per slot: a `Spec` for a tensor, a sequence of them for a list, the value as the caller
            wrote it for a scalar; None for an absent optional tensor and for an output that is to be
            allocated.

        Returns
        -------
        Resolved

        Raises
        ------
        ShapeError, DTypeError, ArgumentTypeError, InvalidArgument, OutOfRange
            Each names the operator, the argument, and both values.
        """
        from infinicore.unify import resolve

        return resolve(self, values)

    def infer(self, values: Sequence[Any]) -> list[tuple[tuple[int, ...], str]]:
        """``(shape, dtype)`` of each output slot, for values as `resolve` takes them."""
        specs = self.resolve(values).specs
        return [(specs[p.index].shape, specs[p.index].dtype) for p in self.outputs]

    def check(self, values: Sequence[Any]) -> None:
        """Raise what `resolve` raises, and nothing else."""
        self.resolve(values)

    def convert(self, parameter: Parameter, value: Any) -> Any:
        """A plain value as its slot holds it: int, float, bool, enum member, tuple of int, short dtype."""
        from infinicore.unify import convert

        return convert(self, parameter, value)

    def check_values(self, specs: Sequence[Any], values: Sequence[Any]) -> None:
        """Run `guard`, if there is one, on the specs and scalars of a call (one entry per slot in each)."""
        if self.guard is not None:
            from infinicore.unify import call_hook

            call_hook(self.guard, self, specs, values)

    def run_reference(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Run the body on NumPy arrays.

        `values` has one entry per slot: arrays for tensors (of outputs only shape and dtype are read), final
        values for scalars. Floats narrower than 32 bits are widened first. Returns one array per slot of
        `outputs`, in whatever dtype the body computed; the caller rounds once.
        """
        named = {
            p.name: _widen(v) if p.role in ("in", "inout") else v
            for p, v in zip(self.parameters, values, strict=True)
        }
        with np.errstate(all="ignore"):
            results = self.body(**named)
        return results if isinstance(results, tuple) else (results,)

    def _mark_dimensions(self) -> None:
        for p in self.parameters:
            for dim in p.dims:
                named = self.by_name.get(dim.name)
                if named is not None and named.kind == "int":
                    named.is_size = named.keyed = True

    def _check_signature(self) -> None:
        """What a signature must satisfy on its own; the author of an operator reads these messages."""
        for name in self.inplace:
            if name not in self.by_name or self.by_name[name].role != "in":
                raise TypeError(f"{self.name}: inplace names {name}, which is no input")
        for hook in filter(None, (self.shape, self.canonical, self.errors, self.guard, self.count)):
            for name, _, _ in _named_parameters(hook):
                if name not in self.by_name:
                    raise TypeError(f"{self.name}: {hook.__name__} names {name}, which is no slot")
        bound = {d.name for p in self.parameters if p.role in ("in", "inout") for d in p.dims}
        bound |= {p.name for p in self.parameters if p.kind == "int"}
        for p in self.parameters:
            if p.is_tensor:
                if p.optional and p.role != "in":
                    raise TypeError(f"{self.name}: {p.name} is optional, which only an input can be")
                unknown = [d for d in p.dtypes() if d not in DTYPES]
                if unknown:
                    raise TypeError(f"{self.name}: {p.name} has dtype {p.dtype!r}, which names no dtype")
                if sum(d.star for d in p.dims) > 1:
                    raise TypeError(f"{self.name}: {p.name} has more than one starred dimension")
                if p.kind == "tensors" and p.role != "in":
                    raise TypeError(f"{self.name}: {p.name} is a list, which can only be an input")
                if any(d.broadcast for d in p.dims) and (p.kind, p.role) != ("tensor", "in"):
                    raise TypeError(f"{self.name}: {p.name} broadcasts, which only a single input can")
        for p in self.parameters:
            for d in p.dims if p.role == "out" and self.shape is None else ():
                if d.number is None and d.name not in bound:
                    raise TypeError(
                        f"{self.name}: nothing says how large {p.name}'s {d.text} is; give shape="
                    )


OPERATORS: dict[str, Schema] = {}


def wrap(schema: Schema) -> Any:
    """What `operator` returns for a schema. The dispatcher replaces it before it imports `infinicore.ops`."""
    return schema


def operator(*arguments: Any, **options: Any) -> Any:
    """Make an operator of the decorated function: register its `Schema` and return what `wrap` makes of it.

    Parameters
    ----------
    name : str, optional
        The operator's name, where it is not the function's.
    python : str, optional
        The Python call, where it is not "inputs, then scalars, then ``*, out=None``". Parameters carry their
        slot's name, or say it as an annotation: ``"sum(input, dim=None, out=None)"``, ``"matmul(input: a,
        other: b)"``. ``out`` stands for all outputs. A name that is no slot is reserved: only its default is
        accepted.
    inplace : str, optional
        Names of the inputs that an output may be exactly.
    c : C, optional
        The C form, where it differs from the rule.
    shape : function, optional
        ``shape(name=..., ...) -> [(shape, dtype), ...]``: the outputs, where symbols cannot say. Like all
        functions here it is given what its parameters name: the `Spec` of tensors (a tuple for a list), the
        final value of scalars.
    canonical : function, optional
        ``canonical(name=..., ...) -> {scalar: value}``: turns what callers may write (``dim=-1``, ``None``,
        one int for a tuple) into what the slot holds. Scalars arrive as written.
    errors : function, optional
        ``errors(name=..., ...)``: raises for what symbols cannot say. Sees keyed scalars; runs once per plan.
    guard, draw, count : function, optional
        See `Schema`.
    """
    if arguments:
        return _register(arguments[0], {})
    return lambda body: _register(body, options)


def _register(body: Callable[..., Any], options: dict[str, Any]) -> Any:
    schema = Schema(body, **options)
    if schema.name in OPERATORS:
        raise TypeError(f"operator {schema.name} is defined twice")
    OPERATORS[schema.name] = schema
    return wrap(schema)


def spelling(name: str, python: str, doc: str, **fixed: Any) -> Any:
    """Another Python call of operator `name`, with the scalars of `fixed` passed always."""
    return wrap(OPERATORS[name].spelled(python, doc, fixed))


# ---- reading functions without `inspect` (which costs more to import than all of this) ---------------------


def _named_parameters(function: Callable[..., Any]) -> list[tuple[str, bool, Any]]:
    """``(name, keyword only, default)`` of a plain Python function."""
    code = function.__code__
    positional = code.co_varnames[: code.co_argcount]
    keyword = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    defaults = function.__defaults__ or ()
    first = len(positional) - len(defaults)
    found = [(n, False, defaults[i - first] if i >= first else EMPTY) for i, n in enumerate(positional)]
    found += [(n, True, (function.__kwdefaults__ or {}).get(n, EMPTY)) for n in keyword]
    return found


def _read_parameters(body: Callable[..., Any]) -> tuple[Parameter, ...]:
    annotations = body.__annotations__
    found = []
    for index, (name, _, default) in enumerate(_named_parameters(body)):
        if name not in annotations:
            raise TypeError(f"{body.__name__}: parameter {name} has no annotation")
        annotation = annotations[name]
        if isinstance(annotation, str):  # from __future__ import annotations
            annotation = eval(annotation, body.__globals__)
        found.append(Parameter(name, index, annotation, default))
    return tuple(found)


def _default_call(schema: Schema) -> str:
    positional: list[str] = []
    optional: list[str] = []
    keyword: list[str] = []
    for p in schema.parameters:
        if p.role in ("in", "inout"):
            (optional if p.optional else positional).append(p.name + ("=None" if p.optional else ""))
        elif p.role == "scalar":
            keyword.append(p.name + ("" if p.default is EMPTY else "=..."))
    if any(p.role == "out" for p in schema.parameters):
        keyword.append("out=None")
    words = positional + optional + (["*", *keyword] if keyword else [])
    return f"{schema.name}({', '.join(words)})"


def _read_call(schema: Schema, text: str, fixed: Mapping[str, Any]) -> Call:
    """Parse a Python call: ``name(parameter[: slot][=default], ..., *, ...)``, defaults being plain literals.

    By hand, because compiling three dozen functions would cost most of the time that importing the operators
    takes.
    """
    name, _, inside = text.partition("(")
    outs = [p.index for p in schema.parameters if p.role == "out"]
    parameters: list[CallParameter] = []
    filled, keyword_only = set(), False
    for word in inside.rstrip(")").split(","):
        left, equals, literal = word.partition("=")
        public, _, slot_name = (part.strip() for part in left.partition(":"))
        if public == "*":
            keyword_only = True
            continue
        slot = schema.by_name.get(slot_name or public)
        default = _literal(schema, slot, literal.strip()) if equals else EMPTY
        if public == "out":
            if slot is not None and slot.role == "inout":
                outs = [slot.index]
            index = CallParameter.OUT
        elif slot is not None:
            if slot.role == "out" and CallParameter.OUT not in [p.slot for p in parameters]:
                raise TypeError(f"{schema.name}: output {public} must come after out")
            index = slot.index
            filled.add(slot.name)
        elif equals:
            index = CallParameter.RESERVED
        else:
            raise TypeError(f"{schema.name}: the call's {public} is no slot and has no default")
        parameters.append(CallParameter(public, index, keyword_only, default))
    constant = {schema.by_name[n].index: v for n, v in fixed.items()}
    for p in schema.parameters:
        if p.index not in outs and p.index not in constant and p.name not in filled:
            raise TypeError(f"{schema.name}: the call {text} fills no slot {p.name}")
    returns = outs or [p.index for p in schema.parameters if p.role == "inout"]
    public_names = [p.name for p in schema.parameters]
    for given in parameters:
        if given.slot >= 0:
            public_names[given.slot] = given.name
    if len(outs) == 1:
        public_names[outs[0]] = "out"
    return Call(name, tuple(parameters), tuple(public_names), tuple(outs), tuple(returns), constant)


_LITERALS = {"None": None, "True": True, "False": False}


def _literal(schema: Schema, slot: Parameter | None, text: str) -> Any:
    """The value of a default; ``...`` is the signature's own."""
    if text == "...":
        return slot.default if slot is not None else EMPTY
    if text in _LITERALS:
        return _LITERALS[text]
    try:
        return int(text)
    except ValueError:
        return float(text)


# ---- reference bodies --------------------------------------------------------------------------------------

_NARROW = ("float16", "bfloat16", "float8_e4m3fn")


def _widen(value: Any) -> Any:
    """An array, or list of arrays, with narrow floats as float32; anything else as it is."""
    if isinstance(value, (list, tuple)):
        return [_widen(item) for item in value]
    return value.astype(np.float32) if value is not None and value.dtype.name in _NARROW else value


def canonical_axis(operator: str, name: str, axis: Any, of: str, ndim: int) -> int:
    """`axis` counted from the front.

    Raises
    ------
    OutOfRange
        Argument `name` of `operator` points outside the `ndim` dimensions of argument `of`.
    """
    from operator import index

    try:
        number = index(axis)
    except TypeError:
        kind = type(axis).__name__
        raise ArgumentTypeError(f"{operator}: {name} must be an int, got {axis!r} ({kind})") from None
    if not -ndim <= number < ndim:
        raise OutOfRange(f"{operator}: {name}={number} is out of range for {of}, which has ndim={ndim}")
    return number + ndim if number < 0 else number


def dim_of_input(operator: str) -> Callable[..., dict[str, int]]:
    """Make the `canonical` hook of an operator whose ``dim`` is one dimension of ``input``."""

    def canonical(input: Any, dim: Any) -> dict[str, int]:
        return {"dim": canonical_axis(operator, "dim", dim, "input", input.ndim)}

    return canonical


def check_indices(operator: str, name: str, indices: Any, of: str, symbol: str, size: int) -> None:
    """Check, in a body, that every element of array `indices` lies in ``range(size)``.

    Raises
    ------
    OutOfRange
        Names the operator, the argument `name`, the offending element, and argument `of` with its `symbol`.
    """
    wrong = indices[(indices < 0) | (indices >= size)]
    if wrong.size:
        raise OutOfRange(f"{operator}: {name} holds {wrong.flat[0]}, but {of} has {symbol}={size}")


# ---- C forms (in a module of their own: programs that only run operators never need them) ------------------


def write_headers(directory: Any) -> list[Any]:
    """Write ``infinicore/operators.h`` and ``infinicore/operators/*.h`` under include directory `directory`.

    Every operator of `OPERATORS` gets ``INFINI_FINGERPRINT_<op>`` and ``infini_<op>_args``, the typed overlay
    of its slots. A file whose content would not change is left alone, so that nothing is recompiled for it.

    Returns
    -------
    list of pathlib.Path
        The files that were written.
    """
    from infinicore.cforms import write_headers

    return write_headers(directory)


def c_prototypes(name: str) -> list[str]:
    """The public C functions of operator `name`, one prototype each."""
    from infinicore.cforms import CForm

    return CForm(OPERATORS[name]).prototypes()
