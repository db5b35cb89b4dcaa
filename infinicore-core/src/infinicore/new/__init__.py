# Begins an operator or a backend: writes the files of a working one from templates, for its author to change.
# `python -m infinicore.new` is its command; the guides of the documentation walk through what it writes.
"""Scaffolds of operators and backends."""

from __future__ import annotations

import keyword
import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from string import Template

import infinicore
from infinicore.discovery import ALIASES
from infinicore.errors import InvalidArgument
from infinicore.schema import OPERATORS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from importlib.resources.abc import Traversable

__all__ = ["new_backend", "new_operator"]

# What C++ reserves and Python does not: a name becomes a struct's, a namespace's and a file's.
_CPP = frozenset(
    "alignas alignof auto bitand bitor bool catch char class compl const default delete do double enum "
    "explicit export extern float friend goto inline int long mutable namespace new noexcept not_eq "
    "nullptr operator private protected public register short signed sizeof static struct switch template "
    "this throw typedef typeid typename union unsigned using virtual void volatile xor".split()
)
_VENDORS = ("cpu", "sim", "cuda", "ascend", "bang", "kunlun", "metax", "moore", "iluvatar", "hygon", "qy")


def new_operator(name: str, tree: str | os.PathLike[str] = ".") -> list[Path]:
    """Begin operator `name` in a source tree of infinicore: signature, kernel, tests, stubs.

    Parameters
    ----------
    name : str
        Lower case, words joined by underscores. It becomes the Python call and the C struct.
    tree : path
        A folder of the source tree, or one inside it.

    Returns
    -------
    list of Path
        The files that were written or changed.

    Raises
    ------
    InvalidArgument
        The name is no such name or taken, or there is no source tree.
    """
    what = "operator"
    _check_name(what, name, r"[a-z][a-z0-9]*(_[a-z0-9]+)*", "lower-case words joined by underscores")
    root = _source_tree(Path(tree))
    core, tests = root / "infinicore-core" / "src" / "infinicore", root / "tests"
    if name in OPERATORS or hasattr(infinicore.ops, name):
        raise InvalidArgument(f"operator {name}: infinicore.ops has one of that name")
    if hasattr(infinicore, name):
        raise InvalidArgument(f"operator {name}: infinicore.{name} is something else")
    values = {"name": name, "Class": "".join(word.capitalize() for word in name.split("_"))}
    templates = files("infinicore.new") / "templates" / "operator"
    made = {
        core / "ops" / f"{name}.py": "ops.py.in",
        core / "cpu" / "kernels" / f"{name}.cpp": "kernel.cpp.in",
        tests / "operators" / f"test_{name}.py": "test.py.in",
    }
    _refuse_existing(what, name, made)
    init, references = core / "ops" / "__init__.py", tests / "core" / "test_references.py"
    changed = {
        init: _exported(init.read_text(), name),
        references: _before(references, "# ---- the tests ---", _filled(templates / "witness.py.in", values)),
    }
    for path, template in made.items():
        path.write_text(_filled(templates / template, values))
    for path, text in changed.items():
        path.write_text(text)
    subprocess.run([sys.executable, str(root / "infinicore-core" / "stubs.py")], check=True)
    return [*made, *changed, core / "ops" / "__init__.pyi", core / "__init__.pyi"]


def new_backend(name: str, into: str | os.PathLike[str] = ".", vendor: str | None = None) -> list[Path]:
    """Begin the plug-in wheel of backend `name`: a device that works, in a folder ``infinicore-<name>``.

    Parameters
    ----------
    name : str
        Lower-case letters and digits. It becomes the device string.
    into : path
        The folder in which the wheel's folder is made.
    vendor : str, optional
        Who makes the device, as people read it. The name, capitalised, where it is not given.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    InvalidArgument
        The name is no such name or taken, or the folder is there already.
    """
    what = "backend"
    _check_name(what, name, r"[a-z][a-z0-9]*", "lower-case letters and digits")
    if name in _VENDORS or name in ALIASES:
        raise InvalidArgument(f"backend {name}: {ALIASES.get(name, name)} is a device that infinicore knows")
    vendor = name.capitalize() if vendor is None else vendor
    if not re.fullmatch(r"[\w][\w .&+-]*", vendor):
        raise InvalidArgument(f"backend {name}: vendor={vendor!r} is no name of letters, digits and spaces")
    folder = Path(into) / f"infinicore-{name}"
    _refuse_existing(what, name, [folder])
    if not folder.parent.is_dir():
        raise InvalidArgument(f"backend {name}: there is no folder {folder.parent}")
    written = []
    for place, template in _templates(files("infinicore.new") / "templates" / "backend"):
        path = folder / place.replace("NAME", name).removesuffix(".in")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_filled(template, {"name": name, "vendor": vendor}))
        written.append(path)
    version = folder / "VERSION"
    if (folder.parent / "infinicore-core" / "VERSION").is_file():
        version.symlink_to("../VERSION")  # in infinicore's own tree there is one version
    else:
        version.write_text(f"{infinicore.__version__}\n")
    return [*written, version]


# ---- helpers -----------------------------------------------------------------------------------------------


def _check_name(what: str, name: str, pattern: str, rule: str) -> None:
    if not re.fullmatch(pattern, name):
        raise InvalidArgument(f"{what} {name!r}: a name is {rule}")
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name in _CPP:
        raise InvalidArgument(f"{what} {name}: the word is reserved in Python or C++")


def _refuse_existing(what: str, name: str, paths: Iterable[Path]) -> None:
    for path in paths:
        if path.exists():
            raise InvalidArgument(f"{what} {name}: {path} exists")


def _source_tree(folder: Path) -> Path:
    """Find the root of the source tree at or above a folder."""
    for root in (folder.resolve(), *folder.resolve().parents):
        if (root / "infinicore-core" / "src" / "infinicore" / "ops" / "__init__.py").is_file():
            return root
    raise InvalidArgument(f"{folder} is not inside a source tree of infinicore: operators are written there")


def _filled(template: Traversable, values: dict[str, str]) -> str:
    return Template(template.read_text(encoding="utf-8")).substitute(values)


def _templates(folder: Traversable, place: str = "") -> Iterator[tuple[str, Traversable]]:
    """Yield the templates under a folder, each with its path."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _templates(entry, f"{place}{entry.name}/")
        elif entry.name.endswith(".in"):
            yield place + entry.name, entry


def _exported(text: str, name: str) -> str:
    """Add an operator of a module of its own to the text of ``ops/__init__.py``, in alphabetical place."""
    lines = text.splitlines()
    line = f"from infinicore.ops.{name} import {name}"
    imports = [i for i, present in enumerate(lines) if present.startswith("from infinicore.ops.")]
    later = [i for i in imports if lines[i].split()[1] > line.split()[1]]
    end = next(i for i, present in enumerate(lines) if present == "__all__ = [")
    lines.insert(later[0] if later else end - 1, line)
    first = lines.index("__all__ = [") + 1
    last = lines.index("]", first)
    lines[first:last] = sorted([*lines[first:last], f'    "{name}",'])
    return "\n".join(lines) + "\n"


def _before(path: Path, marker: str, addition: str) -> str:
    """Insert text before the line that begins with `marker`."""
    text = path.read_text()
    at = text.find(f"\n{marker}") + 1
    if not at:
        raise InvalidArgument(f"{path} has no line {marker!r} before which the witness could stand")
    return text[:at] + addition + text[at:]
