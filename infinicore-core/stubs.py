"""Write the type stubs of the operators from their signatures; run it after a signature changed.

``python stubs.py`` writes ``src/infinicore/ops/__init__.pyi``, and in ``src/infinicore/__init__.pyi`` what
comes from there and ``__all__``. Nothing needs to be built. A test checks that both are current.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import types
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent / "src" / "infinicore"

OPS_HEAD = """\
# The operators as type checkers see them: written by infinicore-core/stubs.py, change the signatures instead.
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from infinicore._dispatch import Operator
from infinicore._tensor import Tensor
"""

OPS_MIDDLE = """
_P = ParamSpec("_P")
_R = TypeVar("_R")

def _operator(call: Callable[_P, _R], /) -> Operator[_P, _R]: ...
"""


def imported(name: str) -> Any:
    """Import a module of the package without the package's own ``__init__``, which needs compiled modules."""
    if "infinicore" not in sys.modules:
        package = types.ModuleType("infinicore")
        package.__path__ = [str(PACKAGE)]
        sys.modules["infinicore"] = package
    __import__(name)
    return sys.modules[name]


def public() -> dict[str, Any]:
    """Return what `infinicore.ops` offers: operators, functions that call them, and enumerations."""
    ops = imported("infinicore.ops")
    return {name: getattr(ops, name) for name in sorted(ops.__all__)}


def type_of(schema: Any, call: Any, parameter: Any) -> str:
    """Return the type of one parameter of a call, as Python spells it."""
    if parameter.slot == parameter.OUT:
        kind = tensors(len(call.outputs))
        if any(p.slot in call.outputs for p in call.parameters):  # the others have names of their own
            kind = f"Tensor | {kind}"
    elif parameter.slot == parameter.RESERVED:
        kind = "None" if parameter.default is None else type(parameter.default).__name__
    else:
        slot = schema.parameters[parameter.slot]
        kind = {
            "tensor": "Tensor",
            "tensors": "list[Tensor] | tuple[Tensor, ...]",
            "ints": "int | Sequence[int]",
            "enum": slot.enum.__name__ if slot.enum is not None else "",
        }.get(slot.kind, slot.kind)
        if slot.optional and parameter.required:  # must be passed, and may be passed as None
            return f"{kind} | None"
    return f"{kind} | None" if parameter.default is None and kind != "None" else kind


def tensors(count: int) -> str:
    """Return the type of one or several tensors."""
    return "Tensor" if count == 1 else f"tuple[{', '.join(['Tensor'] * count)}]"


def operator(schema: Any) -> str:
    """Return the call of an operator as a decorated function."""
    call = schema.call
    words = []
    for parameter in call.parameters:
        if parameter.keyword_only and "*" not in words:
            words.append("*")
        word = f"{parameter.name}: {type_of(schema, call, parameter)}"
        if not parameter.required:
            default = parameter.default
            enum = type(default).__name__ if hasattr(default, "name") else None
            word += f" = {enum}.{default.name}" if enum else f" = {default!r}"
        words.append(word)
    return "@_operator\n" + definition(call.name, words, tensors(len(call.returns)))


def function(name: str, entry: Any) -> str:
    """Return the signature of a Python function."""
    signature = inspect.signature(entry)
    words = []
    for parameter in signature.parameters.values():
        if parameter.kind == parameter.KEYWORD_ONLY and "*" not in words:
            words.append("*")
        words.append(plain(str(parameter)))
    return definition(name, words, plain(inspect.formatannotation(signature.return_annotation)))


def plain(text: str) -> str:
    """Return an annotation or a parameter as a stub writes it."""
    return text.replace("infinicore.schema.", "").replace("'", '"')


def definition(name: str, words: list[str], result: str) -> str:
    """Lay a function out as ruff does."""
    text = f"def {name}({', '.join(words)}) -> {result}: ...\n"
    if len(text) > 111:
        text = f"def {name}(\n    {', '.join(words)}\n) -> {result}: ...\n"
    if max(map(len, text.splitlines())) > 110:
        text = f"def {name}(\n" + "".join(f"    {word},\n" for word in words) + f") -> {result}: ...\n"
    return text


def ops_stub() -> str:
    """Return the text of ``ops/__init__.pyi``."""
    imports, definitions = "", ""
    for name, entry in public().items():
        schema = getattr(entry, "schema", entry)  # `wrap` is the identity where nothing is built
        if isinstance(entry, type):
            imports += f"from {entry.__module__} import {name}\n"
        elif hasattr(schema, "call"):
            definitions += operator(schema)
        else:
            definitions += function(name, entry)
    exports = "".join(f'    "{name}",\n' for name in public())
    # No operator may hide a built-in type that is written above.
    assert not {"int", "float", "bool", "list", "tuple"} & set(public())
    return OPS_HEAD + imports + f"\n__all__ = [\n{exports}]\n" + OPS_MIDDLE + definitions


def package_stub(text: str) -> str:
    """Return the text of the package's ``__init__.pyi`` with operators and ``__all__`` brought up to date."""
    own = ("zeros", "ones")  # creation functions claim these names, see __init__.py
    names = [name for name in public() if name not in own]
    lines = "".join(f"from infinicore.ops import {name} as {name}\n" for name in names)
    text = re.sub(r"(?:^from infinicore\.ops import .*\n)+", lines, text, count=1, flags=re.MULTILINE)
    exports = "".join(f'    "{name}",\n' for name in sorted(exported(text)))
    return re.sub(r"^__all__ = \[\n[^]]*\]", f"__all__ = [\n{exports}]", text, count=1, flags=re.MULTILINE)


def exported(text: str) -> set[str]:
    """Return the public names that a stub defines or imports under their own name."""
    names: set[str | None] = set()
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.ImportFrom):
            names.update(alias.asname for alias in statement.names)
        elif isinstance(statement, ast.FunctionDef):
            names.add(statement.name)
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            names.add(statement.target.id)
    return {name for name in names if name and not name.startswith("_")}


def main() -> None:
    """Write both files."""
    (PACKAGE / "ops" / "__init__.pyi").write_text(ops_stub())
    package = PACKAGE / "__init__.pyi"
    package.write_text(package_stub(package.read_text()))


if __name__ == "__main__":
    main()
