# From a candidate to a plug-in's capsule: imports the vendor's record and its extension module, and says
# in one sentence what stopped it. The tables behind the capsule are _backend's business.
"""Load plug-ins, and explain why one does not load."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from types import ModuleType

from infinicore.discovery import CPU, Candidate, Plugin

__all__ = [
    "Refused",
    "explain_dlopen_error",
    "explain_import_error",
    "import_capsule",
    "load_record",
    "version_conflict",
]

_MISSING = "cannot open shared object file: "


class Refused(Exception):
    """A plug-in cannot be used.

    Attributes
    ----------
    condition : str
        "unavailable" when the machine lacks something, "failed" when the plug-in is at fault.
    reason : str
        One sentence for the user.
    trail : list of dict
        Steps of the search that led here: ``{"what", "where", "result"}``.
    """

    def __init__(self, condition: str, reason: str, trail: Iterable[dict[str, str]] = ()) -> None:
        super().__init__(reason)
        self.condition = condition
        self.reason = reason
        self.trail = list(trail)


def load_record(candidate: Candidate) -> Plugin:
    """Import the `Plugin` behind an entry point; a library file and cpu have none of their own."""
    if candidate.name == "cpu":
        return CPU
    if candidate.entry_point is None:
        return Plugin(candidate.name, "", "")
    point = candidate.entry_point
    try:
        record = point.load()
    except Exception as error:
        raise explain_import_error(point.module, error) from error
    if not isinstance(record, Plugin):
        kind = type(record).__name__
        raise Refused("failed", f"{point.value} is a {kind}, not an infinicore.discovery.Plugin")
    if record.name != candidate.name:
        names = f"calls itself {record.name!r}, its entry point calls it {candidate.name!r}"
        raise Refused("failed", f"{point.value} {names}")
    return record


def import_capsule(record: Plugin) -> object:
    """Import a plug-in's extension module and return its attribute ``capsule``."""
    try:
        module = _import_local(record.module)
    except Exception as error:
        raise explain_import_error(record.module, error) from error
    try:
        return module.capsule
    except AttributeError:
        raise Refused("failed", f"{record.module} has no attribute 'capsule'") from None


def _import_local(name: str) -> ModuleType:
    from importlib import import_module

    # A program may have asked for RTLD_GLOBAL; vendor libraries that export the same names would then
    # see each other's.
    flags = sys.getdlopenflags()
    if not flags & os.RTLD_GLOBAL:
        return import_module(name)
    sys.setdlopenflags(flags & ~os.RTLD_GLOBAL)
    try:
        return import_module(name)
    finally:
        sys.setdlopenflags(flags)


def explain_import_error(module: str, error: Exception) -> Refused:
    """Turn what importing `module` raised into a `Refused`."""
    text = str(error)
    library, why = _split(text)
    if library and isinstance(error, (ImportError, OSError)):
        return missing_library(library, why)
    raised = type(error).__name__ + (f": {text}" if text else "")
    return Refused("failed", f"importing {module} raised {raised}")


def explain_dlopen_error(library: str, text: str) -> Refused:
    """Turn what ``dlerror()`` said about `library` into a `Refused`."""
    missing, why = _split(text)
    if missing and missing != library:
        return missing_library(missing, why)
    return Refused("failed", f"loading {library} failed: {text}")


def _split(text: str) -> tuple[str, str]:
    """Return the library that the dynamic loader did not find, and its words; else empty strings."""
    library, _, why = text.partition(": ")
    return (library, why) if why.startswith(_MISSING) and " " not in library else ("", "")


def missing_library(library: str, why: str) -> Refused:
    """The plug-in is sound, a library that it is linked against is not on this machine."""
    step = {"what": library, "where": "the dynamic loader's search path", "result": why}
    return Refused("unavailable", f"{library} is not on this machine", [step])


def version_conflict(distribution: str, theirs: int, ours: int) -> str:
    """Say which side to upgrade when the majors of the plug-in ABI differ.

    Parameters
    ----------
    distribution : str
        The plug-in's wheel and version, or the path of its library.
    theirs, ours : int
        ABI majors of the plug-in and of this infinicore.
    """
    from infinicore import __version__

    core = f"infinicore-core {__version__}"
    wheel = distribution.split(" ")[0]
    if theirs > ours:
        return f"{distribution} needs plug-in ABI {theirs}, {core} has {ours}: upgrade infinicore-core"
    return f"{distribution} has plug-in ABI {theirs}, {core} needs {ours}: upgrade {wheel}"
