# What `python -m infinicore` says: every backend with its state and reason, and the environment. The
# dictionary is a stable interface (--json); the text is for people.
"""The report on backends and environment."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import infinicore
from infinicore._backend import backends
from infinicore.discovery import Plugin

__all__ = ["ENVIRONMENT", "render", "report"]

# Every variable that infinicore reads, and what it is for.
ENVIRONMENT = {
    "INFINICORE_BACKENDS": "which backends may be used: cpu,cuda allows these, -ascend,-bang all but these",
    "INFINICORE_BACKEND_PATH": "folders with plug-in libraries libinfinicore_<name>.so, separated by colons",
    "INFINICORE_CPU_DEVICES": "how many devices the CPU poses as; 1 without it",
    "INFINICORE_CPU_ISA": "instruction set of the CPU kernels, at most what the processor has",
    "INFINICORE_CUDA_TF32": "1: products of float32 on cuda may use TF32, ten bits of fraction",
    "INFINICORE_DEVICE": "device of a thread that has chosen none; cpu:0 without it",
    "INFINICORE_FALLBACK": "cpu: operators that a device lacks run on the CPU, and are counted",
    "INFINICORE_LAUNCH_BLOCKING": "1: every operator waits for its work, so that it reports its own failures",
    "INFINICORE_LOG_LEVEL": 'debug, info, warning, error or off: what reaches the logger "infinicore"',
    "INFINICORE_NUM_THREADS": "threads of the CPU kernels; all cores of this process without it",
    "INFINICORE_ONEDNN": "0: large products on the CPU do without oneDNN",
    "INFINICORE_SIM_DEVICES": "devices of each simulated vendor",
    "INFINICORE_SIM_MEMORY": "bytes of memory of each simulated device",
    "INFINICORE_SIM_TIMEOUT": "seconds that a simulated collective waits for its ranks",
    "INFINICORE_TEST_TIER": "what results of a backend's tests come from: simulated, double or hardware",
}


def report() -> dict[str, Any]:
    """Describe every backend, opening each to do so, and the environment.

    Returns
    -------
    dict
        ``{"version", "backends": [{"name", "vendor", "version", "abi": {"major", "minor"}, "state", "reason",
        "trail": [{"what", "where", "result"}], "devices": [{"index", "name", "memory_bytes"}],
        "operators": {"native": [], "reference": [], "lost": {}}}], "environment": {}}``. Members are only
        ever added. ``abi`` is None for a backend whose plug-in could not be loaded, or was not tried.
    """
    variables = {name: os.environ[name] for name in sorted(os.environ) if name.startswith("INFINICORE_")}
    names = sorted(backends, key=lambda name: (name != "cpu", name))
    return {
        "version": infinicore.__version__,
        "backends": [_describe(backends[name]) for name in names],
        "environment": variables,
    }


def _describe(backend: Any) -> dict[str, Any]:
    devices, operators = backend.devices, backend.operators  # these open it: state and reason come after
    abi = backend.abi_version
    return {
        "name": backend.name,
        "vendor": backend.vendor,
        "version": backend.version,
        "abi": None if abi is None else {"major": abi[0], "minor": abi[1]},
        "state": backend.state,
        "reason": backend.reason,
        "trail": [dict(step) for step in backend.trail],
        "devices": devices,
        "operators": operators,
    }


def render(data: dict[str, Any]) -> str:
    """Lay out what `report` returned for people."""
    lines = [f"infinicore {data['version']}", ""]
    rows: list[tuple[str, ...]] = [("backend", "state", "version", "operators", "devices")]
    rows += [_row(entry) for entry in data["backends"]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    notes: list[list[str]] = [[], *(_notes(entry) for entry in data["backends"])]
    for row, more in zip(rows, notes, strict=True):
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        lines += [" " * (widths[0] + 2) + note for note in more]
    if backends.problems:
        lines += ["", "not usable", *(f"  {problem}" for problem in backends.problems)]
    lines += ["", *_environment(data["environment"])]
    return "\n".join(lines)


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    ready = entry["state"] == "ready"
    native, reference = (len(entry["operators"][kind]) for kind in ("native", "reference"))
    kinds = Counter((device["name"], device["memory_bytes"]) for device in entry["devices"])
    devices = ", ".join(f"{count} x {name} ({size / 2**30:.1f} GiB)" for (name, size), count in kinds.items())
    operators = f"{native} of {native + reference}" if ready else "-"
    return entry["name"], entry["state"], entry["version"] or "-", operators, devices or "-"


def _notes(entry: dict[str, Any]) -> list[str]:
    notes = [entry["reason"]] if entry["reason"] else []
    notes += [f"looked for {step['what']} in {step['where']}: {step['result']}" for step in entry["trail"]]
    if entry["state"] in ("unavailable", "failed"):
        plugin = backends[entry["name"]].plugin
        if isinstance(plugin, Plugin) and plugin.hint:
            notes.append(f"try: {plugin.hint}")
    notes += [f"lost {name}: {why}" for name, why in entry["operators"]["lost"].items()]
    return notes


def _environment(variables: dict[str, str]) -> list[str]:
    if not variables:
        return ["environment: no INFINICORE_* variable is set"]
    unknown = "infinicore reads no variable of this name"
    lines = [f"  {name}={value}  ({ENVIRONMENT.get(name, unknown)})" for name, value in variables.items()]
    return ["environment", *lines]
