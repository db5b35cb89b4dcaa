# The C side of a schema: the typed argument struct that plug-ins include, and the public C functions.
# Only build scripts, the C API's generator and tests import this.
"""Render operator schemas as C."""

from __future__ import annotations

import os
from pathlib import Path

from infinicore.schema import EMPTY, OPERATORS, Parameter, Schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CArgument", "CForm", "header", "write_headers", "write_if_changed"]

# ---- the plug-in side: <infinicore/operators/*.h> ----------------------------------------------------------

_GENERATED = "generated from its signature in infinicore/ops; do not edit"

_FIELDS = {
    "tensor": "const infini_tensor *",
    "tensors": "const infini_tensor_list *",
    "ints": "const infini_int_list *",
    "float": "double ",
}

_SLOTS = {"tensor": "t", "tensors": "l", "ints": "n", "float": "d"}


def header(schema: Schema) -> str:
    """The text of ``<infinicore/operators/NAME.h>``."""
    name, guard = schema.name, f"INFINICORE_OPERATORS_{schema.name.upper()}_H"
    lines = [
        f"/* infinicore/operators/{name}.h -- {_GENERATED}. */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        "#include <infinicore/abi.h>",
        "",
        f"#define INFINI_FINGERPRINT_{name} 0x{schema.fingerprint:016x}ull",
        "/* Slot by slot: t tensor, l list of tensors, n list of ints, d double, i int64_t. */",
        f'#define INFINI_SLOTS_{name} "{"".join(_SLOTS.get(p.kind, "i") for p in schema.parameters)}"',
        "",
        "/* One field per slot: an overlay of `const infini_slot *args`. */",
        f"typedef struct infini_{name}_args {{",
        *(f"  {_FIELDS.get(p.kind, 'int64_t ')}{p.name}; /* {_remark(p)} */" for p in schema.parameters),
        f"}} infini_{name}_args;",
        "",
        f"#endif /* {guard} */",
        "",
    ]
    return "\n".join(lines)


def _remark(p: Parameter) -> str:
    if p.is_tensor:
        role = {"in": "In", "out": "Out", "inout": "InOut"}[p.role]
        return f"{role}: {p.dtype} [{p.shape_text}]" + ("; NULL when absent" if p.optional else "")
    kind = p.kind if p.enum is None else ", ".join(f"{m.name} = {m.value}" for m in p.enum)
    return f"static {kind}: known at create" if p.static else f"{kind}: known at execute only"


def write_headers(directory: str | os.PathLike[str]) -> list[Path]:
    """Implementation of `infinicore.schema.write_headers`."""
    import infinicore.ops  # noqa: F401  (registers the operators)

    folder = Path(directory) / "infinicore" / "operators"
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(OPERATORS)
    written = [p for n in names if (p := write_if_changed(folder / f"{n}.h", header(OPERATORS[n])))]
    for path in folder.glob("*.h"):
        if path.stem not in OPERATORS:  # the header of an operator that is no more
            path.unlink()
    umbrella = [
        "/* infinicore/operators.h -- every operator's header; generated, do not edit. */",
        "#ifndef INFINICORE_OPERATORS_H",
        "#define INFINICORE_OPERATORS_H",
        "",
        *(f"#include <infinicore/operators/{n}.h>" for n in names),
        "",
        "/* X(name) for every operator. */",
        "#define INFINI_OPERATORS(X) \\",
        " \\\n".join(f"  X({n})" for n in names),
        "",
        "#endif /* INFINICORE_OPERATORS_H */",
        "",
    ]
    together = write_if_changed(folder.parent / "operators.h", "\n".join(umbrella))
    from infinicore.capi.generate import write_public_headers  # which imports this module

    return written + ([together] if together else []) + write_public_headers(directory)


def write_if_changed(path: Path, text: str) -> Path | None:
    """Write `text` unless it is there already. Whoever reads meanwhile sees the old file or the new one."""
    if path.exists() and path.read_text() == text:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)
    return path


# ---- the public side: infiniopCreate..., infiniop... -------------------------------------------------------


class CArgument:
    """One argument of a public C function that stands for something of the schema.

    Attributes
    ----------
    type, name : str
        As C declares it, e.g. ``"const void *"``, ``"a"``.
    slot : Parameter or None
        The slot it fills.
    count_of : tuple of Parameter
        The lists whose length it is.
    dimension : str
        The symbol whose size it is, or ``""``.
    """

    __slots__ = ("count_of", "dimension", "name", "slot", "type")

    def __init__(
        self,
        type: str,
        name: str,
        slot: Parameter | None = None,
        count_of: tuple[Parameter, ...] = (),
        dimension: str = "",
    ) -> None:
        self.type, self.name, self.slot = type, name, slot
        self.count_of, self.dimension = count_of, dimension

    def __str__(self) -> str:
        return f"{self.type}{self.name}" if self.type.endswith("*") else f"{self.type} {self.name}"


class CForm:
    """The public C functions of one operator, and where each slot gets its content.

    Attributes
    ----------
    schema : Schema
    create, execute : tuple of CArgument
        What the two functions take of the schema, in C's order.
    deferred : tuple of Parameter
        Tensors that create does not know: their slot is NULL there and complete at execute. An optional input
        that neither function takes is absent.
    stored : tuple of Parameter
        Values that create is given and execute is not: the descriptor keeps them for each execute.
    twice : tuple of Parameter
        Values that both are given. They must agree.
    defaulted : tuple of Parameter
        Values that neither is given: the signature's default.
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.create = tuple(_arguments(schema, "create"))
        self.execute = tuple(_arguments(schema, "execute"))
        created = {a.slot.name for a in self.create if a.slot is not None}
        executed = {a.slot.name for a in self.execute if a.slot is not None}
        self.deferred = tuple(p for p in schema.tensors if p.name in executed - created)
        self.stored = tuple(p for p in schema.scalars if p.name in created - executed)
        self.twice = tuple(p for p in schema.scalars if p.name in created & executed)
        self.defaulted = tuple(p for p in schema.scalars if p.name not in created | executed)
        for p in schema.tensors:
            if p.name not in executed and not (p.optional and p.name not in created):
                raise TypeError(f"{schema.name}: the C form's execute lacks tensor {p.name}")
        for p in schema.static:
            if p.name in executed - created:
                raise TypeError(f"{schema.name}: {p.name} is static, but the C form gives it at execute only")
        for p in self.defaulted:
            if p.default is EMPTY:
                raise TypeError(f"{schema.name}: the C form gives no {p.name}, which has no default")

    def prototypes(self) -> list[str]:
        """Create, workspace size, execute and destroy; what it shares with another form is left out."""
        c = self.schema.c
        descriptor = f"infiniop{c.of or c.base}Descriptor_t"
        workspace = ["void *workspace", "size_t workspace_size"] if c.workspace else []
        found = [
            _function(
                f"infiniopCreate{c.base}Descriptor",
                ["infiniopHandle_t handle", f"{descriptor} *desc_ptr", *map(str, self.create)],
            )
        ]
        if c.workspace and c.of is None:
            found.append(
                _function(f"infiniopGet{c.base}WorkspaceSize", [f"{descriptor} desc", "size_t *size"])
            )
        found.append(
            _function(
                f"infiniop{c.base}",
                [f"{descriptor} desc", *workspace, *map(str, self.execute), "void *stream"],
            )
        )
        if c.of is None:
            found.append(_function(f"infiniopDestroy{c.base}Descriptor", [f"{descriptor} desc"]))
        return found


_VALUES = {"int": "int", "float": "float", "bool": "bool", "enum": "int", "dtype": "infiniDtype_t"}
_LISTS = ("ints", "tensors")


def _arguments(schema: Schema, function: str) -> list[CArgument]:
    """What `function` (``"create"`` or ``"execute"``) takes of the schema, in C's order."""
    spelled = schema.c.create if function == "create" else schema.c.execute
    words = _default_words(schema, function) if spelled is None else spelled.split(",")
    found: list[CArgument] = []
    counted = 0
    for word in map(str.strip, words):
        left, _, slot_name = word.partition("@")
        at = max(left.rfind(" "), left.rfind("*")) + 1
        type, name = left[:at].strip(), left[at:]
        slot_name = slot_name or name
        if slot_name == ".count":
            lists = tuple(a.slot for a in found[counted:] if a.slot is not None and a.slot.kind in _LISTS)
            counted = len(found)
            found.append(CArgument(type, name, count_of=lists))
        elif slot_name.startswith("["):
            found.append(CArgument(type, name, dimension=slot_name[1:-1]))
        elif slot_name in schema.by_name:
            p = schema.by_name[slot_name]
            suffix = schema.c.suffix if p.is_tensor and function == "create" else ""
            found.append(CArgument(type or _type(p, function), name + suffix, p))
        else:
            raise TypeError(f"{schema.name}: the C form's {word!r} names no slot")
    return found


def _default_words(schema: Schema, function: str) -> list[str]:
    """The rule: create takes tensors and Static values, execute takes tensors and the rest."""
    words = []
    for p in schema.parameters:
        if p.is_tensor or p.static == (function == "create"):
            words.append(p.name)
            if p.kind in _LISTS:
                words.append(f"size_t {p.name}_count@.count")
    return words


def _type(p: Parameter, function: str) -> str:
    """The C type of slot `p` where the C form gives none."""
    if p.kind in _VALUES:
        return _VALUES[p.kind]
    if p.kind == "ints":
        return "const int64_t *"
    if p.kind == "tensors":
        return "const infiniopTensorDescriptor_t *" if function == "create" else "const void *const *"
    if function == "create":
        return "infiniopTensorDescriptor_t"
    return "const void *" if p.role == "in" else "void *"


def _function(name: str, arguments: Iterable[str]) -> str:
    return f"infiniStatus_t {name}({', '.join(arguments)});"
