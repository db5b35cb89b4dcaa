# Pages written from the sources: one per operator (signature, docstring and NumPy body), one per other public
# name (its docstring), one per folder of the tree. conf.py calls `write`; tests run the examples.
"""Pages rendered from signatures, docstrings and the files of the tree."""

from __future__ import annotations

import ast
import inspect
import json
import math
import re
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import infinicore as ic
from infinicore.schema import DTYPES, EMPTY, OPERATORS, VARIABLES, CallParameter, Elements, c_prototypes

ROOT = Path(__file__).resolve().parents[1]
LONG = {short: long for short, (_, long) in DTYPES.items()}


def write(docs: Path) -> None:
    """Write every page under folder `docs`; a page that has not changed keeps its time."""
    write_folder(docs / "operators", {"index": operator_index(), **operator_pages()})
    write_folder(docs / "api", {"index": api_index(), **api_pages()})
    write_folder(docs / "tree", tree_pages())
    write_folder(docs / "backends", backend_pages())
    write_folder(docs / "support", support_pages(reports(docs)))


def write_folder(folder: Path, pages: dict[str, str]) -> None:
    """Make `folder` hold exactly these pages."""
    folder.mkdir(exist_ok=True)
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)
    for path in folder.iterdir():
        if path.stem not in pages:
            path.unlink()


# ---- operators ---------------------------------------------------------------------------------------------


def operators() -> dict[str, Any]:
    """List the operators that `infinicore.ops` offers: dispatched ones, and functions over them."""
    entries = {name: getattr(ic.ops, name) for name in sorted(ic.ops.__all__)}
    return {name: entry for name, entry in entries.items() if not isinstance(entry, type)}


def schema_of(name: str, entry: Any) -> Any:
    """Find the signature behind an entry; None for a function that only combines others."""
    return getattr(entry, "schema", None) or OPERATORS.get(name)


def documentation(entry: Any) -> str:
    """Return the docstring of an entry, without its indentation."""
    schema = getattr(entry, "schema", None)
    return inspect.cleandoc((schema.doc if schema is not None else entry.__doc__) or "")


def module_of(name: str, entry: Any) -> str:
    """Name the module of `infinicore.ops` that an entry was written in: its family."""
    schema = schema_of(name, entry)
    return str((schema.body if schema is not None else entry).__module__)


def families() -> dict[str, list[str]]:
    """Map the title of each family, in the order of its module's name, to its operators."""
    import sys

    found: dict[str, list[str]] = {}
    for name, entry in sorted(operators().items(), key=lambda item: (module_of(*item), item[0])):
        title = (
            (sys.modules[module_of(name, entry)].__doc__ or module_of(name, entry)).strip().splitlines()[0]
        )
        found.setdefault(title.rstrip("."), []).append(name)
    return found


def operator_index() -> str:
    """Write the index: a table per family."""
    parts = [heading("Every operator", "=")]
    entries = operators()
    for title, names in families().items():
        rows = [(f":doc:`{name}`", summary(documentation(entries[name]))) for name in names]
        tree = ".. toctree::\n   :hidden:\n\n" + "".join(f"   {name}\n" for name in names)
        parts += [heading(title, "-"), table((), rows, "20 80"), tree]
    return "\n".join(parts)


def operator_pages() -> dict[str, str]:
    """Write a page per operator."""
    return {name: operator_page(name, entry) for name, entry in operators().items()}


def operator_page(name: str, entry: Any) -> str:
    """Write the page of one operator."""
    schema, text = schema_of(name, entry), documentation(entry)
    call = str(entry.schema.call) if hasattr(entry, "schema") else f"{name}{plain_signature(entry)}"
    home = "infinicore" if getattr(ic, name, None) is entry else "infinicore.ops"
    parts = [heading(name, "="), f".. py:function:: {home}.{call}\n", indented(rendered(text)) + "\n"]
    if schema is not None:
        parts += [heading("Shapes and dtypes", "-"), slots(schema), *legend(schema)]
        parts += [heading("Checked before anything runs", "-"), *checks(schema)]
    if "Examples\n" not in text and (example := example_of(name, entry)):
        parts += [heading("Example", "-"), code("pycon", example)]
    if schema is not None:
        parts += [
            heading("Reference", "-"),
            "What every backend is compared with, computed in float64:\n",
            code("python", body_of(schema)),
            heading("In C", "-"),
            code("c", "\n".join(c_prototypes(schema.name))),
        ]
    return "\n".join(parts)


def plain_signature(function: Callable[..., Any]) -> str:
    """Return a Python function's parameters without annotations."""
    signature = inspect.signature(function)
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return str(inspect.Signature(bare))


def rendered(docstring: str) -> str:
    """Turn a numpydoc docstring into reStructuredText."""
    from sphinx.ext.napoleon import Config, NumpyDocstring

    return str(
        NumpyDocstring(docstring, Config(napoleon_use_rtype=False, napoleon_use_admonition_for_notes=False))
    )


def slots(schema: Any) -> str:
    """Make the table of an operator's slots."""
    rows = []
    for p in schema.parameters:
        public = f"``{schema.call.names[p.index]}``"
        if p.is_tensor:
            role = "out" if p.index in schema.call.outputs else p.role
            kind = "list of tensors" if p.kind == "tensors" else "tensor"
            what = {"in": "", "out": ", written", "inout": ", read and written"}[role]
            dims = ", ".join(d.text for d in p.dims) + ("," if len(p.dims) == 1 else "")
            rows.append(
                (public, ("optional " if p.optional else "") + kind + what, dtype_text(p), f"``({dims})``")
            )
        elif p.index not in schema.call.fixed:
            kind = p.enum.__name__ if p.enum is not None else {"ints": "tuple of int"}.get(p.kind, p.kind)
            rows.append((public, kind + (", planned on" if p.static else ""), "", ""))
    return table(("", "is", "dtype", "shape"), rows, "20 30 25 25")


def dtype_text(parameter: Any) -> str:
    """Write the dtypes of a tensor: a variable by its letter, others in full."""
    if parameter.dtype in VARIABLES:
        return f"``{parameter.dtype}``"
    return ", ".join(LONG[dtype] for dtype in parameter.dtypes())


def legend(schema: Any) -> Iterator[str]:
    """Say what the letters and signs of the table mean, as far as they occur."""
    for variable in dict.fromkeys(p.dtype for p in schema.tensors if p.dtype in VARIABLES):
        allowed = VARIABLES[variable]
        names = (
            "any dtype" if set(allowed) == set(DTYPES) else "one of " + ", ".join(LONG[d] for d in allowed)
        )
        yield f"``{variable}`` is {names}.\n"
    dims = [d for p in schema.tensors for d in p.dims]
    if any(d.star for d in dims):
        yield "A starred name stands for any number of dimensions.\n"
    if any(d.broadcast for d in dims):
        yield "``~``: size 1, or a missing leading dimension, broadcasts.\n"
    if schema.inplace:
        public = dict(zip((p.name for p in schema.parameters), schema.call.names, strict=True))
        names = " or ".join(f"``{public[n]}``" for n in sorted(schema.inplace))
        yield f"In place: an output may be exactly {names}.\n"


def checks(schema: Any) -> Iterator[str]:
    """List the errors that follow from the signature alone."""
    public = dict(zip((p.name for p in schema.parameters), schema.call.names, strict=True))

    def where(holds: Callable[[Any], bool]) -> list[str]:
        return [f"``{public[p.name]}``" for p in schema.tensors if holds(p)]

    for name in dict.fromkeys(d.name for p in schema.tensors for d in p.dims if d.number is None):
        names = where(lambda p, name=name: any(d.name == name for d in p.dims))
        if len(names) > 1:
            yield f"- ``ShapeError``: ``{name}`` differs between {joined(names)}."
    for variable in dict.fromkeys(p.dtype for p in schema.tensors if p.dtype in VARIABLES):
        names = where(lambda p, variable=variable: p.dtype == variable)
        if set(VARIABLES[variable]) != set(DTYPES):
            yield f"- ``DTypeError``: {' or '.join(names)} has a dtype that is no ``{variable}``."
        if len(names) > 1:
            yield f"- ``DTypeError``: the dtypes of {joined(names)} differ."
    for p in schema.tensors:
        if p.dtype not in VARIABLES:
            allowed = " or ".join(LONG[d] for d in p.dtypes())
            yield f"- ``DTypeError``: ``{public[p.name]}`` is not {allowed}."
    yield "- What holds for every operator: :doc:`/operators`.\n"


def body_of(schema: Any) -> str:
    """Return the source of a NumPy body, without signature and docstring."""
    lines = textwrap.dedent(inspect.getsource(schema.body)).splitlines()
    function = ast.parse("\n".join(lines)).body[0]
    assert isinstance(function, ast.FunctionDef)
    statements = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return textwrap.dedent("\n".join(lines[statements[0].lineno - 1 :]))


# ---- examples ----------------------------------------------------------------------------------------------


class Plain:
    """Stands for hypothesis' strategies where an operator's `draw` is asked for one plain call."""

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def map(self, function: Callable[[Any], Any]) -> Plain:
        """Apply a function to the value."""
        return Plain(function(self.value))

    def filter(self, function: Callable[[Any], bool]) -> Plain:
        """Keep the value: the example is left out where it turns out not to be legal."""
        return self

    @staticmethod
    def integers(min_value: int = 0, max_value: int | None = None) -> Plain:
        """Give 2, or what is nearest to it."""
        value = max(2, min_value)
        return Plain(value if max_value is None else min(value, max_value))

    @staticmethod
    def floats(min_value: float = 0.0, max_value: float = 1.0, **options: Any) -> Plain:
        """Give 0.5, or what is nearest to it."""
        return Plain(min(max(0.5, min_value), max_value))

    @staticmethod
    def booleans() -> Plain:
        """Give False."""
        return Plain(False)

    @staticmethod
    def none() -> Plain:
        """Give None."""
        return Plain(None)

    @staticmethod
    def just(value: Any) -> Plain:
        """Give the value."""
        return Plain(value)

    @staticmethod
    def sampled_from(values: Any) -> Plain:
        """Give the first value."""
        return Plain(next(iter(values)))

    @staticmethod
    def one_of(*choices: Plain) -> Plain:
        """Give the last choice: the first is mostly None."""
        return choices[-1]

    @staticmethod
    def lists(elements: Plain, *, min_size: int = 0, max_size: int = 2, **options: Any) -> Plain:
        """Give two equal elements, or the nearest number of them."""
        return Plain([elements.value] * min(max(2, min_size), max_size))

    @staticmethod
    def tuples(*elements: Plain) -> Plain:
        """Give a tuple."""
        return Plain(tuple(element.value for element in elements))

    @staticmethod
    def permutations(values: Any) -> Plain:
        """Give the order as it is, reversed, so that something moves."""
        return Plain([*values][::-1])


#: Values of the example's tensors: exact in every float dtype, no two neighbours alike.
FLOATS = (1.0, -2.0, 0.5, 3.0, -0.25, 1.5, -1.0, 2.0, 0.75)


def example_of(name: str, entry: Any) -> str:
    """Write a small call of an operator and what it really prints; nothing where no plain call is legal."""
    schema = getattr(entry, "schema", None) or OPERATORS.get(name)
    if schema is None:
        return ""
    prefix = "ic" if getattr(ic, name, None) is entry else "ic.ops"
    try:
        lines, names = example_tensors(schema)
        lines.append(f"{prefix}.{name}({example_arguments(schema, names)})")
        return session(["import infinicore as ic", "ic.set_printoptions(precision=4)"], lines)
    except (ic.Error, AttributeError, KeyError, TypeError, ValueError):
        return ""
    finally:
        ic.set_printoptions(precision=8)


def session(setting: list[str], statements: list[str]) -> str:
    """Run statements, and write them as a session with what the last gives: its shape where that is long."""
    namespace: dict[str, Any] = {}
    for statement in [*setting, *statements[:-1]]:
        exec(statement, namespace)
    result = eval(statements[-1], namespace)
    if len(repr(result).splitlines()) > 12 and hasattr(result, "shape"):
        result, statements = result.shape, [*statements[:-1], f"{statements[-1]}.shape"]
    return "\n".join(f">>> {statement}" for statement in [*setting, *statements]) + f"\n{result!r}"


def said_of(schema: Any) -> dict[str, Any]:
    """Ask an operator's own `draw` for one plain call."""
    return schema.draw(lambda strategy: strategy.value, Plain) if schema.draw is not None else {}


def example_tensors(schema: Any) -> tuple[list[str], dict[int, str]]:
    """Write statements that make the inputs of a call; and the argument for each slot that has one."""
    said, statements, names = said_of(schema), [], {}
    sizes: dict[str, Any] = dict(said)
    for p in schema.tensors:
        for dim in p.dims:
            if dim.divisor > 1:
                sizes.setdefault(dim.name, 2 * dim.divisor)
    for order, p in enumerate(schema.tensors):
        shape: list[int] = []
        for dim in p.dims if p.role != "out" else ():
            size = (
                dim.number
                if dim.number is not None
                else sizes.setdefault(dim.name, new_size(dim, schema, sizes))
            )
            shape += [*size] if isinstance(size, (tuple, list)) else [size // dim.divisor]
        choices = p.dtypes()
        dtype = next((d for d in ("f32", "i32", "i64", "bool") if d in choices), choices[0])
        public = schema.call.names[p.index]
        if p.role == "out" or p.index in schema.call.outputs or (p.optional and said.get(p.name) is None):
            continue
        if p.kind == "tensors":
            shapes = said.get(p.name, [tuple(shape)] * 2)
            items = [tensor_text(tuple(s), dtype, None, 3 * i) for i, s in enumerate(shapes)]
            statements += [f"{public} = [{', '.join(items)}]"]
        else:
            statements += [f"{public} = {tensor_text(tuple(shape), dtype, said.get(p.name), 2 * order)}"]
        names[p.index] = public
    for p in schema.scalars:
        if p.name in said:
            names[p.index] = literal(said[p.name])
        elif p.is_size:
            names[p.index] = literal(sizes[p.name])
    return statements, names


def new_size(dim: Any, schema: Any, sizes: dict[str, Any]) -> Any:
    """Choose a size for a symbol: small, few dimensions, and not the same for every symbol."""
    if dim.star:
        beside = [len(p.dims) - 1 for p in schema.tensors if any(d.name == dim.name for d in p.dims)]
        return (2, 2) if max(beside) == 0 else (2,) if min(beside) < 2 else ()
    return 2 + sum(size in (2, 3) for size in sizes.values()) % 2


def tensor_text(shape: tuple[int, ...], dtype: str, elements: Any, offset: int) -> str:
    """Write an expression that makes a tensor with a few different values."""
    if hasattr(elements, "items"):  # the operator says exactly which
        return f"ic.from_list({elements.items!r}, dtype=ic.{LONG[dtype]}, device='cpu')"
    count = math.prod(shape)
    if count > 16 and elements is None:
        return f"ic.ones({shape!r}, dtype=ic.{LONG[dtype]}, device='cpu')"
    if dtype == "bool":
        flat: list[Any] = [(i + offset) % 3 != 1 for i in range(count)]
    elif dtype in ("f32", "f16", "bf16", "f64"):
        flat = [FLOATS[(i + offset) % len(FLOATS)] for i in range(count)]
        if isinstance(elements, Elements):
            flat = [
                elements.low + (elements.high - elements.low) * ((i + offset) % 3 + 1) / 4
                for i in range(count)
            ]
    elif isinstance(elements, Elements):
        low, span = int(elements.low), int(elements.high) - int(elements.low) + 1
        flat = [low + (i + 1) % span for i in range(count)]
    else:
        flat = [(i + offset) % 5 for i in range(count)]
    nested: Any = flat
    for size in reversed(shape[1:]):
        nested = [nested[i : i + size] for i in range(0, len(nested), size)]
    if not shape:
        return f"ic.full((), {flat[0]!r}, dtype=ic.{LONG[dtype]}, device='cpu')"
    return f"ic.from_list({nested!r}, dtype=ic.{LONG[dtype]}, device='cpu')"


def example_arguments(schema: Any, names: dict[int, str]) -> str:
    """Write the arguments of a call; what has a default is left out unless `draw` chose it."""
    words, keyword = [], False
    for p in schema.call.parameters:
        if p.slot == CallParameter.OUT:
            text = "ic.empty(input.shape, dtype=ic.int32, device='cpu')" if p.required else None
        elif p.slot == CallParameter.RESERVED:
            text = None
        elif p.slot in names and (p.required or names[p.slot] != literal(p.default)):
            text = names[p.slot]
        elif p.required:
            slot = schema.parameters[p.slot]
            text = "None" if slot.is_tensor else literal(1 if slot.default is EMPTY else slot.default)
        else:
            text = None
        keyword |= p.keyword_only or text is None
        if text is not None:
            words.append(f"{p.name}={text}" if keyword else text)
    return ", ".join(words)


def literal(value: Any) -> str:
    """Write a scalar."""
    return f"ic.{type(value).__name__}.{value.name}" if hasattr(value, "name") else repr(value)


# ---- the other public names ------------------------------------------------------------------------------

#: Chapters of the Python API: title, and the modules whose names it has.
CHAPTERS = {
    "Tensors": ("infinicore._tensor", "infinicore.creation", "infinicore.interop", "infinicore._dlpack"),
    "Dtypes": ("infinicore._dtype", "infinicore.utils"),
    "Devices and memory": ("infinicore._backend", "infinicore._device", "infinicore._storage"),
    "Context, streams and graphs": ("infinicore.context", "infinicore._stream", "infinicore.graph"),
    "Dispatch": ("infinicore._dispatch", "infinicore._fallback"),
    "Printing": ("infinicore.printing",),
    "Variants of operators": ("infinicore",),
    "Layers": ("infinicore.nn",),
    "Functions of models": ("infinicore.nn.functional",),
}


#: Modules that programs reach as ``infinicore.<name>``: each has a page that lists what is in it.
MODULES = ("context", "distributed", "interop", "nn", "nn.functional", "utils")


def public() -> dict[str, Any]:
    """Map what a program writes after ``infinicore.`` to the object, without operators, errors and values."""
    found: dict[str, Any] = {}
    for prefix, module in (
        ("", ic),
        ("context.", ic.context),
        ("utils.", ic.utils),
        ("interop.", ic.interop),
        ("nn.", ic.nn),
        ("nn.functional.", ic.nn.functional),
    ):
        for name in module.__all__:
            entry = getattr(module, name)
            known = any(entry is other for other in (*operators().values(), *found.values()))
            error = isinstance(entry, type) and issubclass(entry, Exception)
            if not known and not error and (callable(entry) or entry is ic.backends):
                found[prefix + name] = entry
    return dict(sorted(found.items()))


def chapter_of(name: str, entry: Any) -> str:
    """Return the title of the chapter that a public name belongs to."""
    module = getattr(entry, "__module__", type(entry).__module__)
    home = max(
        (home for homes in CHAPTERS.values() for home in homes if f"{module}.".startswith(f"{home}.")),
        key=len,
    )
    return next(title for title, homes in CHAPTERS.items() if home in homes)


def api_index() -> str:
    """Write the index of the Python API: a table per chapter, the errors, and where operators are."""
    parts = [heading("The Python API", "="), "Operators have :doc:`a chapter of their own </operators>`.\n"]
    entries = public()
    for title in CHAPTERS:
        names = [name for name, entry in entries.items() if chapter_of(name, entry) == title]
        rows = [(f":doc:`{name}`", summary(text_of(entries[name])[1])) for name in names]
        tree = ".. toctree::\n   :hidden:\n\n" + "".join(f"   {name}\n" for name in names)
        parts += [heading(title, "-"), table((), rows, "30 70"), tree]
    rows = [(f":doc:`{name}`", summary(documentation(module_named(name)))) for name in MODULES]
    tree = ".. toctree::\n   :hidden:\n\n" + "".join(f"   {name}\n" for name in MODULES)
    parts += [heading("Modules", "-"), table((), rows, "30 70"), tree]
    errors = [
        (f"``{name}``", bases(getattr(ic, name)), summary(text_of(getattr(ic, name))[1]))
        for name in ic.errors.__all__
    ]
    parts += [heading("Errors", "-"), table(("error", "is also", "means"), errors, "25 25 50")]
    return "\n".join(parts)


def bases(error: type) -> str:
    """Name what an exception inherits from."""
    return ", ".join(f"``{base.__name__}``" for base in error.__bases__)


def api_pages() -> dict[str, str]:
    """Write a page per public name, and one per module."""
    entries = public()
    modules = {name: module_page(name, entries) for name in MODULES}
    return {name: api_page(name, entry) for name, entry in entries.items()} | modules


def module_named(name: str) -> Any:
    """Return the module ``infinicore.<name>``."""
    return attrgetter(name)(ic)


def module_page(name: str, entries: dict[str, Any]) -> str:
    """Write the page of a module: its docstring, and what is in it."""
    text = rendered(documentation(module_named(name))) + "\n"
    title = [heading(name, "="), f".. py:module:: infinicore.{name}\n", text]
    return "\n".join([*title, heading("Names", "-"), module_names(name, entries)])


def module_names(name: str, entries: dict[str, Any]) -> str:
    """Make the table of what is in a module, each name with a link to its page where it has one."""
    module, rows = module_named(name), []
    homes = entries | {f"/operators/{each}": entry for each, entry in operators().items()}
    homes |= {each: module_named(each) for each in MODULES}
    for each in module.__all__:
        entry = getattr(module, each)
        page = next((page for page, other in homes.items() if other is entry), None)
        text = documentation(entry) if hasattr(entry, "schema") else text_of(entry)[1]
        rows.append((f":doc:`{each} <{page}>`" if page else f"``{each}``", summary(text)))
    return table((), rows, "30 70")


def api_page(name: str, entry: Any) -> str:
    """Write the page of one public name, a class with its members."""
    call, text = text_of(entry)
    kind = "class" if isinstance(entry, type) else "function" if callable(entry) else "data"
    parts = [heading(name, "="), f".. py:{kind}:: infinicore.{name}{call}\n", indented(rendered(text)) + "\n"]
    if isinstance(entry, type):
        for member, value in members(entry):
            call, text = text_of(value)
            kind = "method" if call else "attribute"
            parts += [indented(f".. py:{kind}:: {member}{call}\n\n{indented(rendered(text))}\n")]
    if entry is ic.dtype:
        parts += [heading("All of them", "-"), dtypes()]
    return "\n".join(parts)


def dtypes() -> str:
    """Make the table of element types."""
    rows = []
    for entry in ic.DTYPES:
        also = [f"``{alias}``" for alias, name in ic.ALIASES.items() if name == entry.name]
        rows.append((f"``{entry.name}``", str(entry.itemsize), ", ".join(also) or "\\ "))
    return table(("dtype", "bytes", "also"), rows, "40 20 40")


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """List what a class of infinicore offers beside Python's own methods, in the order of its source."""
    seen = set()
    for base in kind.__mro__:
        for name, value in vars(base).items():
            if base.__module__.startswith("infinicore") and not name.startswith("_") and name not in seen:
                seen.add(name)
                if getattr(value, "__doc__", None):
                    yield name, value


def text_of(entry: Any) -> tuple[str, str]:
    """Split a docstring into the parameters of the call, which compiled ones begin with, and the rest."""
    entry = getattr(entry, "__func__", entry)  # what a classmethod wraps
    text = inspect.cleandoc(entry.__doc__ or "")
    found = re.match(r"(?:[\w.]+)(\(.*\))(?: -> .*)?\n+", text)
    if found:
        return re.sub(r"^\((Tensor )?self(, )?", "(", found[1]), text[found.end() :]
    try:
        return (plain_signature(entry), text) if callable(entry) else ("", text)
    except ValueError:
        return "", text


# ---- the tree ----------------------------------------------------------------------------------------------

SOURCES = (".py", ".pyx", ".pxd", ".h", ".hpp", ".cuh", ".c", ".cpp", ".cu", ".mlu", ".xpu")


def tracked() -> list[Path]:
    """List the sources of the tree, without what builds leave behind."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listing.returncode == 0:
        paths = [Path(name) for name in filter(None, listing.stdout.decode().split("\0"))]
    else:  # no checkout, an unpacked archive
        paths = [path.relative_to(ROOT) for path in ROOT.rglob("*")]
    built = {"build", ".nox", ".venv", "_build"}
    return [
        p for p in sorted(paths) if p.suffix in SOURCES and not built & {*p.parts} and (ROOT / p).is_file()
    ]


def tree_pages() -> dict[str, str]:
    """Write a page per folder of the tree: what each file says about itself in its first lines."""
    folders: dict[Path, list[Path]] = {}
    for path in tracked():
        folders.setdefault(path.parent, []).append(path)
    pages = {"index": tree_index([*folders])}
    for folder, files in folders.items():
        title = "the root" if folder == Path(".") else str(folder)
        rows = [(f"``{path.name}``", header(ROOT / path)) for path in files]
        pages[page_name(folder)] = "\n".join(
            [heading(title, "="), *introduction(folder), table((), rows, "25 75")]
        )
    return pages


def tree_index(folders: list[Path]) -> str:
    """Write the list of folders."""
    tree = ".. toctree::\n   :maxdepth: 1\n\n" + "".join(f"   {page_name(folder)}\n" for folder in folders)
    text = "What each file of each folder is for, in its own words: the lines that it opens with.\n"
    return "\n".join([heading("The tree", "="), text, tree])


def page_name(folder: Path) -> str:
    """Name the page of a folder."""
    return "root" if folder == Path(".") else "-".join(folder.parts)


def introduction(folder: Path) -> list[str]:
    """Say what a package is for, where it says so itself."""
    init = ROOT / folder / "__init__.py"
    if not init.is_file():
        return []
    text = ast.get_docstring(ast.parse(init.read_text()))
    return [escaped(summary(text)) + "\n"] if text else []


def header(path: Path) -> str:
    """Read the lines that a file opens with; the first sentence of a docstring where it has none."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    if lines and lines[0].startswith("#!"):
        lines = lines[1:]
    comment = []
    for line in lines:
        if line.startswith(("# distutils:", "# cython:")):
            continue
        if not line.startswith(("# ", "// ", "/* ", " * ")):
            break
        comment.append(line.lstrip("#/* ").removesuffix("*/").strip())
    found = " ".join(comment)
    if not found and path.suffix == ".py":
        found = summary(ast.get_docstring(ast.parse(text)) or "")
    before, dashes, after = found.partition(" -- ")
    return escaped(after if dashes and before.endswith(path.name) else found)


def backend_pages() -> dict[str, str]:
    """Write a page per vendor's wheel in the tree, from its README."""
    wheels = [
        path.parent
        for path in sorted(ROOT.glob("infinicore-*/README.md"))
        if path.parent.name != "infinicore-core"
    ]
    pages = {
        wheel.name: f".. include:: ../../{wheel.name}/README.md\n   :parser: myst_parser.sphinx_\n"
        for wheel in wheels
    }
    tree = ".. toctree::\n   :maxdepth: 1\n\n" + "".join(f"   {name}\n" for name in pages)
    text = "The wheels of vendors that this tree holds, each in the words of its README.\n"
    none = "" if pages else "There is none yet: ``python -m infinicore.new backend NAME`` makes one.\n"
    return {"index": "\n".join([heading("Vendors' wheels", "="), text, none, tree if pages else ""])} | pages


# ---- what backends support ---------------------------------------------------------------------------------


def reports(docs: Path) -> dict[str, dict[str, Any]]:
    """Read the reports of the conformance kit, by file name: those of this tree's own backends, which
    `nox -s docs` makes afresh in ``_reports``, and those of vendors in ``reports``.
    """
    files = sorted([*(docs / "_reports").glob("*.json"), *(docs / "reports").glob("*.json")])
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}


def support_pages(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Write a table of operators and dtypes per report, and an index of them."""
    from infinicore.testing.report import MEANINGS, SIGNS, TIERS

    rows = [
        (
            f":doc:`{name}`",
            f"{report['tier']}: {TIERS[report['tier']]}",
            str(
                sum(
                    any(c["state"] == "native" for c in cells.values())
                    for cells in report["coverage"].values()
                )
            ),
            str(len(report["findings"])),
            f"{report['date'][:10]}, infinicore {report['infinicore']}",
        )
        for name, report in found.items()
    ]
    legend = [(sign, MEANINGS[state]) for state, sign in SIGNS.items()]
    none = (
        "No report is there: ``python -m infinicore.testing --backend cpu --json docs/_reports/cpu.json``\n"
    )
    tree = ".. toctree::\n   :hidden:\n\n" + "".join(f"   {name}\n" for name in found)
    index = [
        heading("Support", "="),
        "Rendered from reports of the conformance kit (:doc:`/conformance`), never written by hand.\n",
        table(("backend", "tier", "native operators", "findings", "made"), rows, "12 40 16 12 20")
        if rows
        else none,
        "In the tables:\n",
        table((), legend, "10 90"),
        tree if found else "",
    ]
    return {"index": "\n".join(index)} | {name: support_page(name, report) for name, report in found.items()}


def support_page(name: str, report: dict[str, Any]) -> str:
    """Write the table of one report: a row per operator, a column per dtype of its main tensor."""
    from infinicore.testing.report import SIGNS, TIERS, cell, dtype_columns

    backend, columns, rows = report["backend"], dtype_columns(report), []
    for operator in sorted(report["coverage"]):
        states = [cell(report, operator, dtype) for dtype in columns]
        worst = max((ulps for _, ulps in states if ulps is not None), default=None)
        signs = [SIGNS.get(state, "") for state, _ in states]
        rows.append((f":doc:`/operators/{operator}`", *signs, "" if worst is None else f"{worst:.3g}"))
    devices = ", ".join(dict.fromkeys(device["name"] for device in backend["devices"]))
    said = f"{backend['vendor']} {backend['version']}, on {escaped(devices)}. Tier: **{report['tier']}**, "
    widths = " ".join(["18", *["4"] * len(columns), "7"])
    return "\n".join(
        [
            heading(name, "="),
            f"{said}{TIERS[report['tier']]}. {len(report['findings'])} findings.\n",
            "The last column is the worst error of any call, in units in the last place of its result.\n",
            table(("operator", *columns, "ulps"), rows, widths),
        ]
    )


# ---- reStructuredText --------------------------------------------------------------------------------------


def heading(title: str, line: str) -> str:
    """Underline a title."""
    return f"{title}\n{line * len(title)}\n"


def code(language: str, text: str) -> str:
    """Make a listing."""
    return f".. code-block:: {language}\n\n{indented(text)}\n"


def indented(text: str, by: str = "   ") -> str:
    """Indent every line that is not empty."""
    return textwrap.indent(text, by)


def joined(names: list[str]) -> str:
    """Join names as a sentence does."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def summary(docstring: str) -> str:
    """Return the first paragraph of a docstring in one line."""
    return " ".join(docstring.strip().split("\n\n")[0].split())


def escaped(text: str) -> str:
    """Keep plain text from being read as markup."""
    return "".join(f"\\{c}" if c in "\\*_|`<>" else c for c in text)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]], widths: str) -> str:
    """Make a table."""
    lines = [".. list-table::", f"   :widths: {widths}", *(["   :header-rows: 1"] if head else []), ""]
    for row in [head, *rows] if head else rows:
        lines += [("   * - " if i == 0 else "     - ") + cell for i, cell in enumerate(row)]
    return "\n".join(lines) + "\n"
