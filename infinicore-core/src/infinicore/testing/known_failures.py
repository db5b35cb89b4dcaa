# What a backend is known to fail, from the known_failures.toml that its plug-in ships. Strict: a check that
# is listed and passes is a failure too, so that the file is never longer than the truth.
"""Known failures of a backend."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infinicore.errors import InvalidArgument
from infinicore.testing.suite import Outcome

if TYPE_CHECKING:
    from infinicore.testing.tolerance import Tolerance

__all__ = ["FILE", "Failure", "KnownFailures", "find", "load"]

FILE = "known_failures.toml"
_KEYS = {
    "failure": {"test", "reason", "issue"},
    "tolerance": {"operator", "dtype", "ulps", "rtol", "atol", "reason"},
}
_NEEDED = {"failure": {"test", "reason"}, "tolerance": {"operator", "dtype", "reason"}}


@dataclass(frozen=True)
class Failure:
    """An entry: the ids of checks (``*`` stands for anything), why they fail, and where that is worked on."""

    test: str
    reason: str
    issue: str = ""


@dataclass
class KnownFailures:
    """The content of a known_failures.toml.

    Attributes
    ----------
    failures : list of Failure
    tolerances : dict of (str, str) to dict
        ``(operator, long name of the dtype)`` to ``ulps``, ``rtol`` and ``atol``.
    """

    failures: list[Failure] = field(default_factory=list)
    tolerances: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)

    def reason(self, test: str) -> str | None:
        """Return why a check is known to fail; None where it is not."""
        for entry in self.failures:
            if fnmatchcase(test, entry.test):
                return entry.reason + (f" ({entry.issue})" if entry.issue else "")
        return None

    def tolerance(self, operator: str, dtype: str) -> Tolerance:
        """Look up a tolerance: the backend's own, else that of every backend."""
        from infinicore.testing.tolerance import Tolerance, tolerance

        own = self.tolerances.get((operator, dtype))
        return tolerance(operator, dtype) if own is None else Tolerance(**own)

    def apply(self, outcome: Outcome) -> Outcome:
        """Turn the failure of a listed check into a known one, and its success into an unexpected one."""
        reason = self.reason(outcome.id)
        if reason is not None and outcome.state == "failed":
            outcome.state, outcome.message = "known", f"{reason}\n{outcome.message}"
        elif reason is not None and outcome.state == "passed":
            outcome.state = "unexpected"
            outcome.message = f"{FILE} lists it as failing ({reason}), but it passes: remove the entry"
        return outcome

    def unmatched(self, tests: list[str]) -> list[str]:
        """List the entries that name none of these checks."""
        return [f.test for f in self.failures if not any(fnmatchcase(test, f.test) for test in tests)]


def find(module: str) -> Path | None:
    """Find the file that a plug-in ships: beside its module, as `Plugin.module` names it."""
    try:
        spec = importlib.util.find_spec(module.rpartition(".")[0]) if "." in module else None
    except ImportError:
        return None
    folders = spec.submodule_search_locations if spec is not None else None
    paths = [Path(folder, FILE) for folder in folders or ()]
    return next((path for path in paths if path.is_file()), None)


def load(path: Path | str | None) -> KnownFailures:
    """Read a known_failures.toml; no path gives an empty one.

    Raises
    ------
    InvalidArgument
        The file is not what it should be; the message says where.
    """
    if path is None:
        return KnownFailures()
    path = Path(path)
    data = _parse(path)
    known = KnownFailures()
    for table, entries in data.items():
        if table not in _KEYS or not isinstance(entries, list):
            raise InvalidArgument(f"{path}: [[failure]] and [[tolerance]] are what it may hold, not {table}")
        for number, entry in enumerate(entries, 1):
            where = f"{path}: {table} {number}"
            missing, unknown = _NEEDED[table] - entry.keys(), entry.keys() - _KEYS[table]
            if missing or unknown:
                wrong = f"has no {sorted(missing)[0]}" if missing else f"has an unknown {sorted(unknown)[0]}"
                raise InvalidArgument(f"{where} {wrong}")
            if table == "failure":
                known.failures.append(Failure(**entry))
            else:
                numbers = {key: float(entry[key]) for key in ("ulps", "rtol", "atol") if key in entry}
                known.tolerances[entry["operator"], entry["dtype"]] = numbers
    return known


def _parse(path: Path) -> dict[str, Any]:
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        try:
            import tomli as tomllib  # type: ignore[no-redef]
        except ModuleNotFoundError:
            raise InvalidArgument(f"{path}: Python 3.10 needs the package tomli to read it") from None
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InvalidArgument(f"{path}: {error}") from None
