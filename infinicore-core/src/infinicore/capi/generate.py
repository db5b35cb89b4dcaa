# Renders the public C API of operators: the headers that programs include, and the C++ that libinfiniop is
# made of. Names without an operator come from prototypes.txt and return NOT_IMPLEMENTED.
"""Headers and functions of libinfiniop, from operator signatures and the list of public names."""

from __future__ import annotations

import os
import re
from pathlib import Path

from infinicore.capi.checks import Compiler, Unsupported
from infinicore.cforms import CArgument, CForm, write_if_changed
from infinicore.schema import DTYPES, EMPTY, OPERATORS, VARIABLES, Parameter, Schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["Public", "cxx_operators", "public_names", "write_functions", "write_public_headers"]

_GENERATED = "generated; do not edit"


# ---- the public names --------------------------------------------------------------------------------------


class Public:
    """One header of ``infiniop/ops``: its enumerations and its functions.

    Attributes
    ----------
    header : str
        ``"add.h"``, ``"dequant/per_tensor_dequant_int8.h"``.
    enums : list of str
        ``"infiniopRoPEAlgo_t { INFINIOP_ROPE_ALGO_GPT_J = 0, ... }"``.
    prototypes : dict of str to str
        Function name -> prototype, in the header's order.
    """

    def __init__(self, header: str) -> None:
        self.header = header
        self.enums: list[str] = []
        self.prototypes: dict[str, str] = {}

    def add(self, prototype: str) -> None:
        """Take up a function, or another spelling of one."""
        self.prototypes[re.findall(r"\w+(?=\()", prototype)[0]] = prototype


def public_names() -> list[Public]:
    """Everything in prototypes.txt."""
    found: list[Public] = []
    for line in (Path(__file__).parent / "prototypes.txt").read_text().splitlines():
        if line.startswith("## "):
            found.append(Public(line[3:]))
        elif line.startswith("enum "):
            found[-1].enums.append(line[5:])
        elif line.startswith("infiniop"):
            found[-1].add(f"infiniStatus_t {line};")
        elif line and not line.startswith("#"):
            for prototype in _expand(line):
                found[-1].add(prototype)
    return found


def _expand(line: str) -> Iterator[str]:
    """The functions that ``Base: create | execute`` stands for."""
    left, _, right = line.partition(": ")
    base, _, mark = left.partition(" ")
    create, execute = (
        [w.strip() for w in part.split(", ") if w.strip()] for part in f"{right} ".split(" | ")
    )
    descriptor = f"infiniop{base}Descriptor_t"
    tensors = [w if " " in w else f"infiniopTensorDescriptor_t {w}" for w in create]
    pointers = [w if " " in w else f"void {w}" if w[0] == "*" else f"const void *{w}" for w in execute]
    workspace = [] if mark else ["void *workspace", "size_t workspace_size"]

    def function(name: str, *arguments: str) -> str:
        return f"infiniStatus_t {name}({', '.join(arguments)});"

    yield function(
        f"infiniopCreate{base}Descriptor", "infiniopHandle_t handle", f"{descriptor} *desc_ptr", *tensors
    )
    if workspace:
        yield function(f"infiniopGet{base}WorkspaceSize", f"{descriptor} desc", "size_t *size")
    yield function(f"infiniop{base}", f"{descriptor} desc", *workspace, *pointers, "void *stream")
    yield function(f"infiniopDestroy{base}Descriptor", f"{descriptor} desc")


def headers() -> tuple[list[Public], set[str]]:
    """Every header with the functions that signatures render in place, and the names of those functions."""
    found = public_names()
    by_function = {name: public for public in found for name in public.prototypes}
    rendered: set[str] = set()
    for operator in sorted(OPERATORS):
        form = CForm(OPERATORS[operator])
        base = OPERATORS[operator].c.of or OPERATORS[operator].c.base
        home = by_function.get(f"infiniop{base}")
        if home is None:
            home = next((p for p in found if p.header == f"{operator}.h"), None) or Public(f"{operator}.h")
            if home not in found:
                found.append(home)
        for prototype in form.prototypes():
            home.add(prototype)
            by_function[name := re.findall(r"\w+(?=\()", prototype)[0]] = home
            rendered.add(name)
    return sorted(found, key=lambda public: public.header), rendered


# ---- headers -----------------------------------------------------------------------------------------------


def write_public_headers(directory: str | os.PathLike[str]) -> list[Path]:
    """Write ``infiniop.h``, ``infiniop/ops/*.h`` and ``infiniop/operators.hpp`` under `directory`.

    Returns
    -------
    list of pathlib.Path
        The files that changed.
    """
    folder = Path(directory) / "infiniop" / "ops"
    found, rendered = headers()
    texts = {folder / public.header: _header(public, rendered) for public in found}
    umbrella = ["handle.h", "tensor_descriptor.h", "operator_descriptor.h"]
    umbrella += [f"ops/{public.header}" for public in found]
    lines = [
        f"/* infiniop.h -- every operator of the public C API; {_GENERATED}. */",
        "#ifndef INFINIOP_H",
        "#define INFINIOP_H",
        "",
        *(f'#include "infiniop/{name}"' for name in umbrella),
        "",
        "#endif /* INFINIOP_H */",
        "",
    ]
    texts[Path(directory) / "infiniop.h"] = "\n".join(lines)
    texts[folder.parent / "operators.hpp"] = cxx_operators()
    for path in folder.rglob("*.h"):
        if path not in texts:  # the header of an operator that is no more
            path.unlink()
    return [path for path, text in texts.items() if write_if_changed(path, text)]


def _header(public: Public, rendered: set[str]) -> str:
    guard = "INFINIOP_OPS_" + re.sub(r"\W", "_", public.header.removesuffix(".h")).upper() + "_H"
    above = "../" * (1 + public.header.count("/"))
    text = " ".join(public.prototypes.values())
    descriptors = sorted(set(re.findall(r"infiniop\w+Descriptor_t", text)) - {"infiniopTensorDescriptor_t"})
    lines = [
        f"/* infiniop/ops/{public.header} -- {_GENERATED}. */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        f'#include "{above}operator_descriptor.h"',
    ]
    own = {e.split()[0] for e in public.enums}
    for other in public_names():
        names = {e.split()[0] for e in other.enums} - own
        if other.header != public.header and any(re.search(rf"\b{n}\b", text) for n in names):
            lines.append(f'#include "{above}ops/{other.header}"')
    for enum in public.enums:
        name, _, members = enum.partition(" ")
        lines += ["", f"typedef enum {members} {name};"]
    lines += ["", *(f"typedef struct InfiniopDescriptor *{name};" for name in descriptors)]
    lines += ["", "#ifdef __cplusplus", 'extern "C" {', "#endif", ""]
    missing = [name for name in public.prototypes if name not in rendered]
    if missing and len(missing) < len(public.prototypes):
        lines += [f"/* {', '.join(missing)}: INFINI_STATUS_NOT_IMPLEMENTED in this version. */", ""]
    elif missing:
        lines += ["/* INFINI_STATUS_NOT_IMPLEMENTED in this version. */", ""]
    lines += [f"INFINI_API {prototype}" for prototype in public.prototypes.values()]
    lines += ["", "#ifdef __cplusplus", "}", "#endif", "", f"#endif /* {guard} */", ""]
    return "\n".join(lines)


# ---- functions ---------------------------------------------------------------------------------------------


def write_functions(path: str | os.PathLike[str]) -> None:
    """Write the C++ file with a table per operator and every public function of libinfiniop."""
    import infinicore.ops  # noqa: F401  (registers the operators)

    compiler = Compiler()
    found, rendered = headers()
    tables = [_table(OPERATORS[name], compiler) for name in sorted(OPERATORS)]
    bodies = [body for name in sorted(OPERATORS) for body in _functions(OPERATORS[name])]
    missing = [p for public in found for name, p in public.prototypes.items() if name not in rendered]
    bodies += [_missing(prototype) for prototype in missing]
    lines = [
        f"// functions.cpp -- operators of libinfiniop; {_GENERATED}.",
        '#include "operator.hpp"',
        "",
        "#include <infiniop.h>",
        "",
        "namespace infini::capi {",
        "",
        "const char *const programs[] = {",
        *(f"    {_literal(text)}," for text in compiler.programs),
        "};",
        "",
        "namespace {",
        "",
        *tables,
        "}  // namespace",
        "",
        "const Operator *const operators[] = {",
        *(f"    &op_{name}," for name in sorted(OPERATORS)),
        "    nullptr};",
        "",
        "}  // namespace infini::capi",
        "",
        "using namespace infini::capi;",
        "",
        'extern "C" {',
        *bodies,
        "}",
        "",
    ]
    write_if_changed(Path(path), "\n".join(lines))


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    # A compiler need not take a literal of any length, but joins as many as there are.
    return " ".join(f'"{escaped[i : i + 2000]}"' for i in _cuts(escaped)) or '""'


def _cuts(text: str) -> range:
    if len(text) <= 2000:
        return range(0, len(text), 2000)
    if any(text[i - 1] == "\\" for i in range(2000, len(text), 2000)):
        return range(0, len(text), len(text))  # an escape would be cut in two
    return range(0, len(text), 2000)


_KINDS = {
    "tensor": "tensor", "tensors": "tensors", "int": "integer", "float": "real", "bool": "boolean",
    "enum": "enumerator", "dtype": "dtype", "ints": "integers",
}  # fmt: skip


def _table(schema: Schema, compiler: Compiler) -> str:
    name, form = schema.name, CForm(schema)
    names = {a.slot.name: a.name for a in (*form.create, *form.execute) if a.slot is not None}
    slots = [f"    {_slot(p, names.get(p.name, p.name))}," for p in schema.parameters]
    create = [f"    {_argument(schema, a)}," for a in form.create]
    execute = [f"    {_argument(schema, a)}," for a in form.execute]
    reason, hooks = "", {}
    for hook in ("canonical", "shape", "errors", "guard"):
        function = getattr(schema, hook)
        hooks[hook] = -1
        if function is None:
            continue
        enums = {p.name: p.enum for p in schema.parameters if p.enum is not None}
        try:
            hooks[hook] = compiler.add(function, enums)
        except Unsupported as error:
            reason = str(error)
    if any(a.type.startswith("void **") for a in form.execute) and name not in COUNTED:
        reason = f"nothing says how many elements of {name} there are"
    counted = schema.by_name[COUNTED[name]].index if name in COUNTED else -1
    numbers = ", ".join(str(hooks[hook]) for hook in ("canonical", "shape", "errors", "guard"))
    return "\n".join(
        [
            f"const Slot slots_{name}[] = {{",
            *slots,
            "};",
            f"const Argument create_{name}[] = {{",
            *create,
            "    {}};",
            f"const Argument execute_{name}[] = {{",
            *execute,
            "    {}};",
            f'const Operator op_{name} = {{"{name}", {schema.fingerprint:#018x}ull, slots_{name}, '
            f"{len(schema.parameters)}, create_{name}, {len(create)}, execute_{name}, {len(execute)}, "
            f"{numbers}, {counted}, {'true' if schema.c.workspace else 'false'}, {_literal(reason)}}};",
            "",
        ]
    )


# Operators whose output is as long as one of their inputs has elements that are not zero.
COUNTED = {"masked_select": "mask"}


def _slot(p: Parameter, name: str) -> str:
    role = {"in": "in", "out": "out", "inout": "inout", "scalar": "scalar"}[p.role]
    mask = 0
    if p.is_tensor:
        for dtype in p.dtypes():
            mask |= 1 << DTYPES[dtype][0]
    variable = f"'{p.dtype}'" if p.dtype in VARIABLES else "0"
    fallback = "nullptr" if p.default is EMPTY else _literal(_value(p.default))
    members = " ".join(str(int(m)) for m in p.enum) if p.enum is not None else ""
    flags = ", ".join("true" if flag else "false" for flag in (p.optional, p.static, p.is_size))
    return (
        f'{{"{p.name}", "{name.removesuffix("_desc")}", Role::{role}, Kind::{_KINDS[p.kind]}, {flags}, '
        f'{variable}, {mask:#x}, "{p.shape_text}", {fallback}, "{members}"}}'
    )


def _value(value: Any) -> str:
    """A default, as a program writes it."""
    if value is None:
        return "(none)"
    if isinstance(value, bool):
        return f"(bool {int(value)})"
    if isinstance(value, int):
        return f"(int {int(value)})"
    if isinstance(value, float):
        return f"(float {value!r})"
    if isinstance(value, (tuple, list)):
        return f"(tuple {' '.join(map(_value, value))})"
    return f'"{getattr(value, "short", value)}"'


def _argument(schema: Schema, a: CArgument) -> str:
    """What an argument is: ``{name, slot, meaning, width, dimension}``."""
    if a.count_of:
        return f'{{"{a.name}", {a.count_of[0].index}, Argument::count, 0, ""}}'
    if a.dimension:
        meaning = "returned_size" if a.type.endswith("*") else "dimension"
        return f'{{"{a.name}", -1, Argument::{meaning}, 0, "{a.dimension}"}}'
    assert a.slot is not None
    meaning = "returned" if a.type.endswith("**") and a.slot.role == "out" else "value"
    width = 4 if re.fullmatch(r"(const )?(u?int|int32_t|unsigned) \*", a.type) else 8
    return f'{{"{a.name}", {a.slot.index}, Argument::{meaning}, {width}, ""}}'


def _functions(schema: Schema) -> Iterator[str]:
    c, form = schema.c, CForm(schema)
    for prototype in form.prototypes():
        function = re.findall(r"\w+(?=\()", prototype)[0]
        head = prototype.removesuffix(";")
        if function.startswith("infiniopCreate"):
            given = ", ".join(["0", *(a.name for a in form.create)])
            call = f"create(op_{schema.name}, handle, desc_ptr, given + 1)"
            yield f"{head} {{\n  const Passed given[] = {{{given}}};\n  return {call};\n}}"
        elif function.startswith("infiniopGet"):
            yield f"{head} {{ return workspace_size(desc, size); }}"
        elif function.startswith("infiniopDestroy"):
            yield f"{head} {{ return destroy(desc); }}"
        else:
            given = ", ".join(["0", *(a.name for a in form.execute)])
            workspace = "workspace, workspace_size" if c.workspace else "nullptr, 0"
            call = f"execute(op_{schema.name}, desc, {workspace}, given + 1, stream)"
            yield f"{head} {{\n  const Passed given[] = {{{given}}};\n  return {call};\n}}"


def _missing(prototype: str) -> str:
    """The definition of a public function that has no operator yet; it takes no notice of its arguments."""
    head = prototype.removesuffix(";")
    name, inside = re.fullmatch(r"infiniStatus_t (\w+)\((.*)\)", head).groups()  # type: ignore[union-attr]
    types = ", ".join(re.sub(r"\w+$", "", argument).strip() for argument in inside.split(", "))
    return f'infiniStatus_t {name}({types}) {{ return not_implemented("{name}"); }}'


# ---- C++ ---------------------------------------------------------------------------------------------------


def cxx_operators() -> str:
    """The text of ``infiniop/operators.hpp``: a C++ function per operator, over its C functions."""
    import infinicore.ops  # noqa: F401  (registers the operators)

    functions = [text for name in sorted(OPERATORS) if (text := _cxx(OPERATORS[name]))]
    lines = [
        f"// infiniop/operators.hpp -- a C++ function per operator, for infinicore.hpp; {_GENERATED}.",
        "#pragma once",
        "",
        "namespace infinicore::op {",
        "",
        "// Tensors and values come in the order of the C functions; an optional tensor is a pointer, NULL",
        "// where it is absent. Each call plans anew: where one layout comes often, keep a descriptor.",
        "",
        *functions,
        "",
        "}  // namespace infinicore::op",
        "",
    ]
    return "\n".join(lines)


def _cxx(schema: Schema) -> str:
    """One function; "" where outputs are counted, which has no C++ form yet."""
    c, form = schema.c, CForm(schema)
    if schema.count is not None:
        return ""
    parameters: dict[str, str] = {}
    setup: list[str] = []

    def argument(a: CArgument, function: str) -> str:
        if a.count_of:
            return f"{a.count_of[0].name}_.size()"
        if a.dimension:
            owner, axis = next(
                (p.name, i) for p in schema.tensors for i, d in enumerate(p.dims) if d.text == a.dimension
            )
            return f"int({owner}_.shape().at({axis}))"
        p = a.slot
        assert p is not None
        name = f"{p.name}_"
        if p.kind == "ints":
            element = re.sub(r"(const )|( \*)", "", a.type)
            element = "int64_t" if element == "void" else element
            parameters.setdefault(p.name, f"std::vector<{element}> {name}")
            return f"{name}.data()"
        if p.kind == "tensors":
            if p.name not in parameters:
                parameters[p.name] = f"const std::vector<Tensor> &{name}"
                setup.append(f"std::vector<detail::TensorHandle> {name}handles;")
                setup.append(f"std::vector<infiniopTensorDescriptor_t> {name}described;")
                setup.append(f"std::vector<const void *> {name}data;")
                setup.append(f"for (const Tensor &one : {name}) {{")
                setup.append(f"  {name}handles.push_back(one.descriptor());")
                setup.append(f"  {name}described.push_back({name}handles.back().get());")
                setup.append(f"  {name}data.push_back(one.data());")
                setup.append("}")
            return f"{name}described.data()" if function == "create" else f"{name}data.data()"
        if p.is_tensor:
            pointer = name if p.optional else f"&{name}"
            if p.name not in parameters:
                parameters[p.name] = f"const Tensor {'*' if p.optional else '&'}{name}"
                if any(b.slot is p for b in form.create):
                    setup.append(f"const auto {name}described = detail::describe({pointer});")
            if function == "create":
                return f"{name}described.get()"
            address = f"detail::address({pointer})"
            plain = a.type in ("void *", "const void *")
            return address if plain else f"static_cast<{a.type}>({address})"
        parameters.setdefault(p.name, f"{a.type.removeprefix('const ')} {name}")
        return name

    created = [argument(a, "create") for a in form.create]
    executed = [argument(a, "execute") for a in form.execute]
    base, owner = c.base, c.of or c.base
    first = next(p for p in schema.tensors if p.kind == "tensor")
    tensor = f"{first.name}_"
    given = ", ".join([*parameters.values(), "const Stream &stream = {}"])
    body = [
        f"Context::Guard guard({tensor}.device());",
        "const detail::Handle handle;",
        *setup,
        f"infiniop{owner}Descriptor_t made = nullptr;",
        f"check(infiniopCreate{base}Descriptor({', '.join(['handle', '&made', *created])}));",
        f"const detail::Descriptor descriptor(made, infiniopDestroy{owner}Descriptor);",
    ]
    workspace = []
    if c.workspace:
        body += [
            "size_t bytes = 0;",
            f"check(infiniopGet{owner}WorkspaceSize(made, &bytes));",
            "const detail::Workspace workspace(bytes, stream);",
        ]
        workspace = ["workspace.get()", "bytes"]
    body.append(f"check(infiniop{base}({', '.join(['made', *workspace, *executed, 'stream.get()'])}));")
    name = schema.name + ("_" if schema.name in _RESERVED else "")
    return "\n".join([f"inline void {name}({given}) {{", *(f"  {line}" for line in body), "}"])


# Operators whose names C++ keeps for itself.
_RESERVED = ("and", "or", "not", "xor", "float", "double", "int")
