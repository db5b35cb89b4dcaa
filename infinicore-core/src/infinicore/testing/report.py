# What came of the checks of a backend: a dictionary that is a stable interface (--json), and what page.py and
# the documentation show of it.
"""Reports of the conformance kit."""

from __future__ import annotations

import datetime
import os
import platform
from collections import Counter
from dataclasses import asdict
from typing import Any

import infinicore as ic
from infinicore.schema import DTYPES, OPERATORS, Schema
from infinicore.testing.known_failures import FILE, KnownFailures
from infinicore.testing.suite import Options, Outcome

__all__ = ["SIGNS", "TIERS", "cell", "dtype_columns", "findings", "make", "summary", "tier_of"]

FORMAT = 1
#: Where a result comes from.
TIERS = {
    "simulated": "a simulated device, whose kernels are those of the CPU",
    "double": "a double of the vendor's SDK, on the CPU: no silicon took part",
    "hardware": "the device itself",
    "not stated": "nobody said whether a device or a double of its SDK ran this",
}
#: State of a combination of dtypes -> what a table shows.
SIGNS = {
    "native": "●",
    "reference": "○",
    "partial": "◐",
    "refused": "–",
    "absent": "·",
    "failed": "✗",
    "known": "!",
}
MEANINGS = {
    "native": "a kernel of the backend, right in every call",
    "reference": "the NumPy body, on the CPU",
    "partial": "not in every layout or combination with the dtypes of the other tensors",
    "refused": "raises OperatorNotSupported",
    "absent": "no kernel",
    "failed": "wrong",
    "known": f"wrong, and listed in {FILE}",
}


def tier_of(backend: str, said: str | None = None) -> str:
    """Return the tier of a backend's results: what was said, the environment's, or what is known of it.

    A plug-in of a vendor cannot tell a device from a double of its SDK, so that somebody has to say it.
    """
    told = said or os.environ.get("INFINICORE_TEST_TIER")
    if told:
        if told not in TIERS:
            raise ic.InvalidArgument(f"tier {told!r} is none of {', '.join(TIERS)}")
        return told
    return {"cpu": "hardware", "sim": "simulated", "sim2": "simulated"}.get(backend, "not stated")


def make(
    options: Options,
    outcomes: list[Outcome],
    known: KnownFailures,
    *,
    tier: str | None = None,
    seconds: float = 0.0,
) -> dict[str, Any]:
    """Put a report together.

    Returns
    -------
    dict
        ``{"format", "infinicore", "backend": {"name", "vendor", "version", "devices"}, "tier", "date",
        "machine", "options", "seconds", "counts", "findings": [id], "checks": [{"id", "category", "state",
        "seconds", "message"}], "coverage": {operator: {dtypes: {"state", "calls", "ulps"}}}, "performance":
        {operator: {"microseconds", "cpu", "torch", "elements"}}}``. Members are only ever added.
    """
    name = ic.device(options.backend).type
    backend = ic.backends[name]
    outcomes = outcomes + _stale(options, outcomes, known)
    return {
        "format": FORMAT,
        "infinicore": ic.__version__,
        "backend": {
            "name": name,
            "vendor": backend.vendor,
            "version": backend.version,
            "devices": backend.devices,
        },
        "tier": tier_of(name, tier),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": {
            "system": platform.platform(),
            "python": platform.python_version(),
            "cpus": os.cpu_count(),
        },
        "options": asdict(options),
        "seconds": round(seconds, 1),
        "counts": dict(Counter(outcome.state for outcome in outcomes)),
        "findings": [outcome.id for outcome in outcomes if outcome.is_finding],
        "checks": [
            {
                "id": o.id,
                "category": o.category,
                "state": o.state,
                "seconds": round(o.seconds, 4),
                "message": o.message,
            }
            for o in outcomes
        ],
        "coverage": _coverage(outcomes),
        "performance": {
            o.id.partition(".")[2]: o.facts for o in outcomes if o.category == "performance" and o.facts
        },
    }


def _stale(options: Options, outcomes: list[Outcome], known: KnownFailures) -> list[Outcome]:
    """Make a finding of each entry that names no check, where everything was run."""
    if options.operators is not None or set(options.tests) != set(Options("").tests):
        return []
    message = f"{FILE} lists it, but no check has that name: remove the entry"
    unmatched = known.unmatched([outcome.id for outcome in outcomes])
    return [Outcome(test, "basic", "unexpected", message=message) for test in unmatched]


def _coverage(outcomes: list[Outcome]) -> dict[str, dict[str, Any]]:
    coverage: dict[str, dict[str, Any]] = {}
    for outcome in outcomes:
        area, _, rest = outcome.id.partition(".")
        operator, _, dtypes = rest.partition(".")
        if area != "operators" or not dtypes or outcome.state == "skipped":
            continue
        facts = outcome.facts or {"state": outcome.state, "calls": 0, "ulps": None}
        coverage.setdefault(operator, {})[dtypes] = facts
    return coverage


def findings(report: dict[str, Any]) -> list[dict[str, Any]]:
    """List the checks because of which a backend fails."""
    return [check for check in report["checks"] if check["state"] in ("failed", "unexpected")]


def summary(report: dict[str, Any]) -> str:
    """Write a report in a few lines."""
    backend, counts = report["backend"], report["counts"]
    words = [
        f"{counts[state]} {state}"
        for state in ("passed", "known", "skipped", "failed", "unexpected")
        if state in counts
    ]
    states = Counter(facts["state"] for cells in report["coverage"].values() for facts in cells.values())
    lines = [
        f"{backend['name']} {backend['version']} ({backend['vendor']}): "
        f"{', '.join(words) or 'nothing to check'} in {report['seconds']:.0f} s",
        f"tier: {report['tier']} ({TIERS[report['tier']]})",
    ]
    if states:
        known = ", ".join(f"{states[state]} {state}" for state in SIGNS if state in states)
        lines.append(f"operators in combinations of dtypes: {known}")
    for reason, count in Counter(c["message"] for c in report["checks"] if c["state"] == "skipped").items():
        lines.append(f"skipped {count}: {reason}")
    return "\n".join(lines)


# ---- operators and dtypes ------------------------------------------------------------------------


def main_word(schema: Schema) -> str:
    """Return the dtype word that a table has columns for: that of the first input which has a choice."""
    choosing = [p for p in schema.tensors if len(p.dtypes()) > 1]
    inputs = [p for p in choosing if p.role != "out"]
    return (inputs or choosing)[0].dtype if choosing else ""


def dtype_columns(report: dict[str, Any]) -> list[str]:
    """List the short names of the dtypes that a table of a report needs, in the order of the enumeration."""
    used = {dtype for name in report["coverage"] for dtype in cells(report, name)}
    return [dtype for dtype in DTYPES if dtype in used]


def cells(report: dict[str, Any], operator: str) -> dict[str, list[dict[str, Any]]]:
    """Sort what is known of an operator by the dtype of its main tensors; those of the others vary."""
    schema = OPERATORS[operator]
    words = list({p.dtype: None for p in schema.tensors if len(p.dtypes()) > 1})
    found: dict[str, list[dict[str, Any]]] = {}
    for dtypes, facts in report["coverage"].get(operator, {}).items():
        if words:
            dtype = dtypes.split("-")[words.index(main_word(schema))]
        else:  # one combination: the dtype of the first tensor stands for it
            dtype = schema.tensors[0].dtypes()[0]
        found.setdefault(dtype, []).append(facts)
    return found


def cell(report: dict[str, Any], operator: str, dtype: str) -> tuple[str, float | None]:
    """Return the state of an operator with a main dtype, and its worst error; "" where it has none."""
    facts = cells(report, operator).get(dtype, [])
    states = {entry["state"] for entry in facts}
    errors = [entry["ulps"] for entry in facts if entry["ulps"] is not None]
    if not states:
        return "", None
    for state in ("failed", "known"):
        if state in states:
            return state, None
    return (states.pop() if len(states) == 1 else "partial"), max(errors, default=None)
