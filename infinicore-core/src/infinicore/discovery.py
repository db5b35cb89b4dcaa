# Which plug-ins are there: reads the metadata of installed distributions and the names of library
# files. Nothing here imports a vendor package or opens a vendor library.
"""Discovery of backend plug-ins, by metadata only.

A backend comes from one of three places:

- ``cpu``, which is part of infinicore;
- a distribution with an entry point in the group ``infinicore.backends``, whose name is the device
  string and whose object is a `Plugin`;
- a library ``libinfinicore_<name>.so`` (or ``<name>.so``) that exports ``infinicore_backend``, in a folder
  that ``INFINICORE_BACKEND_PATH`` lists.

``INFINICORE_BACKENDS`` restricts them: ``cpu,cuda`` allows only these, ``-ascend,-bang`` (or
``!ascend,!bang``) allows all but these, ``cuda,sim,-sim`` is read as the first minus the second.
``cpu`` is always allowed: errors, copies and references need it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.metadata import EntryPoint
    from typing import Any

__all__ = [
    "ALIASES",
    "ENTRY_POINT_GROUP",
    "LIBRARIES",
    "NUMBERS",
    "TORCH_TYPES",
    "Candidate",
    "Filter",
    "Plugin",
    "discover",
    "number_of",
]

ENTRY_POINT_GROUP = "infinicore.backends"

# The public enumeration infiniDevice_t. Everything else is numbered by number_of().
NUMBERS = {
    "cpu": 0, "cuda": 1, "bang": 2, "ascend": 3, "metax": 4, "moore": 5, "iluvatar": 6, "kunlun": 7,
    "hygon": 8, "qy": 9,
}  # fmt: skip

# Other names of the public devices: PyTorch's, the vendor's, the C enumerator's.
ALIASES = {"nvidia": "cuda", "npu": "ascend", "mlu": "bang", "cambricon": "bang", "musa": "moore"}

# What PyTorch calls a public device. These vendors' PyTorch builds answer to "cuda".
TORCH_TYPES = {
    "cpu": "cpu", "cuda": "cuda", "bang": "mlu", "ascend": "npu", "metax": "cuda", "moore": "musa",
    "iluvatar": "cuda", "kunlun": "cuda", "hygon": "cuda", "qy": "cuda",
}  # fmt: skip


def _is_name(text: str) -> bool:
    """Tell whether a backend may be called so: a letter, then letters, digits and underscores; lower case."""
    return text.isascii() and text.isidentifier() and text.islower() and text[0] != "_"


_FIELDS = ("name", "vendor", "module", "aliases", "torch_type", "hint")


class Plugin:
    """What a vendor wheel says about its backend, before anything of the vendor's is loaded.

    The object behind an ``infinicore.backends`` entry point. The module that makes it is imported on
    first use of the device, must be plain Python and must not touch the driver.

    Parameters
    ----------
    name : str
        Device string, as in ``infinicore.device(name)``; the name of the entry point.
    vendor : str
        Who makes the device, for reports.
    module : str
        Extension module that holds the attribute ``capsule`` (see ``capsule.pyx``), for example
        ``"infinicore_sim._backend"``.
    aliases : tuple of str, optional
        Other device strings for this backend.
    torch_type : str, optional
        PyTorch's device type; by default the backend's own name.
    hint : str, optional
        What the user can do when the backend is unavailable: one line, shown with the reason.
    """

    __slots__ = _FIELDS

    name: str
    vendor: str
    module: str
    aliases: tuple[str, ...]
    torch_type: str
    hint: str

    def __init__(
        self,
        name: str,
        vendor: str,
        module: str,
        *,
        aliases: Iterable[str] = (),
        torch_type: str | None = None,
        hint: str = "",
    ) -> None:
        values = (name, vendor, module, tuple(aliases), torch_type or name, hint)
        for field, value in zip(_FIELDS, values, strict=True):
            object.__setattr__(self, field, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Plugin.{name} cannot be changed: a plug-in record is immutable")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"Plugin.{name} cannot be deleted: a plug-in record is immutable")

    def __repr__(self) -> str:
        return "Plugin(" + ", ".join(f"{field}={getattr(self, field)!r}" for field in _FIELDS) + ")"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plugin):
            return NotImplemented
        return all(getattr(self, field) == getattr(other, field) for field in _FIELDS)

    def __hash__(self) -> int:
        return hash((self.name, self.module))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, tuple(getattr(self, field) for field in _FIELDS)


def _rebuild(
    name: str, vendor: str, module: str, aliases: tuple[str, ...], torch_type: str, hint: str
) -> Plugin:
    return Plugin(name, vendor, module, aliases=aliases, torch_type=torch_type, hint=hint)


CPU = Plugin("cpu", "infinicore", "")

# Where the shared libraries of infinicore lie: libinfinirt.so and its kin, and the cpu backend.
LIBRARIES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib")


class Candidate:
    """A place that offers a backend: an entry point, or a library file.

    Attributes
    ----------
    name : str
        Device string.
    distribution : str
        "infinicore-sim 1.2.0", or the path of the library.
    version : str
        Version of the distribution; "" for a library file.
    entry_point : importlib.metadata.EntryPoint or None
    library : str or None
        Path of the library file.
    """

    __slots__ = ("distribution", "entry_point", "library", "name", "version")

    def __init__(
        self,
        name: str,
        distribution: str,
        version: str = "",
        entry_point: EntryPoint | None = None,
        library: str | None = None,
    ) -> None:
        self.name = name
        self.distribution = distribution
        self.version = version
        self.entry_point = entry_point
        self.library = library

    def __repr__(self) -> str:
        return f"Candidate({self.name!r} from {self.distribution!r})"


class Filter:
    """The allow and deny list of ``INFINICORE_BACKENDS``."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.allowed: set[str] = set()
        self.denied: set[str] = set()
        for word in text.replace(";", ",").split(","):
            word = word.strip().lower()
            if word[:1] in ("-", "!"):
                self.denied.add(canonical(word[1:].strip()))
            elif word:
                self.allowed.add(canonical(word))

    def allows(self, name: str) -> bool:
        """Whether backend `name` may be used."""
        return name == "cpu" or (name not in self.denied and (not self.allowed or name in self.allowed))

    def named(self) -> set[str]:
        """Every backend that the list names."""
        return self.allowed | self.denied


def canonical(name: str) -> str:
    """The device string behind one of the public aliases, else `name` itself."""
    return ALIASES.get(name, name)


def number_of(name: str) -> int:
    """The device number of a backend: its ``infiniDevice_t``, or a stable number from 1000 up.

    The number of a backend outside the public enumeration depends on its name alone
    (``1000 + CRC-32(name) mod 2**30``), so it is the same in every process and on every machine.
    """
    number = NUMBERS.get(name)
    if number is None:
        import zlib

        number = 1000 + zlib.crc32(name.encode()) % 2**30
    return number


def discover(path: str | None = None) -> tuple[dict[str, list[Candidate]], list[str]]:
    """Find every candidate.

    Parameters
    ----------
    path : str, optional
        Value of ``INFINICORE_BACKEND_PATH``; by default the environment's.

    Returns
    -------
    candidates : dict of str to list of Candidate
        By device string. More than one candidate under a name is for the caller to refuse.
    problems : list of str
        Entry points and folders that cannot be used, one sentence each.
    """
    candidates: dict[str, list[Candidate]] = {}
    problems: list[str] = []
    for candidate in _entry_points(problems):
        candidates.setdefault(candidate.name, []).append(candidate)
    if path is None:
        path = os.environ.get("INFINICORE_BACKEND_PATH", "")
    for candidate in _libraries(path, problems):
        candidates.setdefault(candidate.name, []).append(candidate)
    return candidates, problems


def simulated(chosen: Filter) -> Iterator[Candidate]:
    """Yield the vendors of `infinicore.testing.sim` that ``INFINICORE_BACKENDS`` asks for by name."""
    for name, attribute in (("sim", "plugin"), ("sim2", "plugin2")):
        if name in chosen.allowed:
            from importlib import metadata

            point = metadata.EntryPoint(name, f"infinicore.testing.sim:{attribute}", ENTRY_POINT_GROUP)
            yield Candidate(name, "infinicore-core", entry_point=point)


def _entry_points(problems: list[str]) -> Iterator[Candidate]:
    # Imported here: it costs more than all of infinicore, and a program on the CPU never needs it.
    from importlib import metadata

    seen = set()
    for distribution in metadata.distributions():
        try:
            # Parsing every distribution's file would take most of the time, and few mention the group.
            if ENTRY_POINT_GROUP not in (distribution.read_text("entry_points.txt") or ""):
                continue
            name, version = distribution.metadata["Name"], distribution.version
            points = distribution.entry_points.select(group=ENTRY_POINT_GROUP)
        except Exception as error:  # whatever a damaged installation leads to
            problems.append(f"entry points of {distribution} cannot be read: {error}")
            continue
        if name in seen:
            continue  # Python imports the first on its path
        seen.add(name)
        for point in points:
            if _is_name(point.name):
                yield Candidate(point.name, f"{name} {version}", version, entry_point=point)
            else:
                problems.append(
                    f"{name} {version} registers a backend called {point.name!r}: "
                    "a name is a lower-case letter, then lower-case letters, digits and _"
                )


def _libraries(path: str, problems: list[str]) -> Iterator[Candidate]:
    for folder in filter(None, path.split(os.pathsep)):
        try:
            with os.scandir(folder) as entries:
                files = sorted(entry.path for entry in entries if ".so" in entry.name and entry.is_file())
        except OSError as error:
            problems.append(f"INFINICORE_BACKEND_PATH lists {folder}: {error.strerror}")
            continue
        for file in files:
            if not _exports_backend(file, problems):
                continue  # a library that a plug-in needs may lie beside it
            name = library_name(file)
            if _is_name(name):
                yield Candidate(name, file, library=file)
            else:
                problems.append(f"{file} is not called after a backend: rename it to libinfinicore_<name>.so")


def library_name(file: str) -> str:
    """The backend that a library file is called after: ``libinfinicore_sim.so.1`` holds ``sim``."""
    name = os.path.basename(file).split(".", 1)[0]
    for prefix in ("lib", "infinicore_", "infinicore-"):
        name = name.removeprefix(prefix)
    return name


def _exports_backend(file: str, problems: list[str]) -> bool:
    # The string table of a library names what it exports, so that nothing need be loaded to know.
    import mmap

    try:
        with open(file, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content[:4] == b"\x7fELF" and content.find(b"\0infinicore_backend\0") >= 0
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        problems.append(f"{file} in INFINICORE_BACKEND_PATH cannot be read: {error}")
        return False
