# `python -m infinicore`: the structure that programs read, and the table that people do.
from __future__ import annotations

import json
import subprocess
import sys

import pytest

import infinicore
from infinicore.report import ENVIRONMENT


@pytest.fixture
def run(world):
    def run(*arguments, **environment):
        return world.run("-m", "infinicore", *arguments, **environment).stdout

    return run


def types_of(value):
    """The shape of a JSON value: names and types, the first element of a list for all."""
    if isinstance(value, dict):
        return {key: types_of(item) for key, item in value.items()}
    return [types_of(value[0])] if isinstance(value, list) and value else type(value)


def test_structure(world, run):
    world.library("fake")
    data = json.loads(run("--json"))
    assert list(data) == ["version", "backends", "environment"]
    assert data["version"] == infinicore.__version__
    assert [entry["name"] for entry in data["backends"]] == ["cpu", "fake"]
    for entry in data["backends"]:
        lost = entry["operators"].pop("lost")
        assert all(isinstance(text, str) for item in lost.items() for text in item)
        entry["operators"]["native"] = entry["operators"]["native"] or [""]
        entry["operators"]["reference"] = entry["operators"]["reference"] or [""]
        assert types_of(entry) == {
            "name": str,
            "vendor": str,
            "version": str,
            "abi": {"major": int, "minor": int},
            "state": str,
            "reason": str,
            "trail": list,
            "devices": [{"index": int, "name": str, "memory_bytes": int}],
            "operators": {"native": [str], "reference": [str]},
        }
    assert data["environment"] == {"INFINICORE_BACKEND_PATH": str(world.plugins)}


def test_every_state(world, run):
    world.library("ready")
    world.library("broken", PREPARE="runtime.synchronize=NULL;")
    world.library("denied")
    world.library(
        "absent",
        OPEN_BODY='host->trail("libx.so", "ld.so", "not found");'
        'return host->fail(INFINI_STATUS_UNAVAILABLE, "no libx");',
    )
    data = json.loads(run("--json", INFINICORE_BACKENDS="-denied"))
    entries = {entry["name"]: entry for entry in data["backends"]}
    assert {name: (entry["state"], entry["reason"]) for name, entry in entries.items()} == {
        "cpu": ("ready", ""),
        "ready": ("ready", ""),
        "broken": ("failed", "runtime member 'synchronize' is NULL"),
        "denied": ("disabled", "INFINICORE_BACKENDS=-denied excludes it"),
        "absent": ("unavailable", "no libx"),
    }
    assert entries["absent"]["trail"] == [{"what": "libx.so", "where": "ld.so", "result": "not found"}]
    assert [entries[name]["abi"] for name in ("ready", "denied")] == [entries["cpu"]["abi"], None]
    assert entries["ready"]["devices"][1] == {"index": 1, "name": "Fake 1", "memory_bytes": 2**30}
    for name in ("broken", "denied", "absent"):
        assert entries[name]["devices"] == []
        assert entries[name]["operators"] == {"native": [], "reference": [], "lost": {}}


def test_cpu_has_every_operator_natively_or_by_reference(run):
    import infinicore.ops  # noqa: F401
    from infinicore import schema

    [cpu] = json.loads(run("--json"))["backends"]
    native, reference = (set(cpu["operators"][kind]) for kind in ("native", "reference"))
    assert native | reference == set(schema.OPERATORS)
    assert not native & reference


def test_table(world, run):
    world.library("fake")
    world.wheel(
        "acme",
        'Plugin("acme", "Acme", "infinicore_acme._backend", hint="install the Acme driver")',
        native="import ctypes; ctypes.CDLL('libacme.so.7')",
    )
    world.wheel("Wrong", "None")
    text = run(INFINICORE_DEVICE="cpu", INFINICORE_DEVISE="cpu")
    lines = text.splitlines()
    assert lines[0] == f"infinicore {infinicore.__version__}"
    assert lines[2].split() == ["backend", "state", "version", "operators", "devices"]
    rows = {line.split()[0]: line for line in lines[3:] if line and not line.startswith(" ")}
    assert rows["fake"].split()[:3] == ["fake", "ready", "1.2"]
    assert rows["fake"].endswith("1 x Fake 0 (1.0 GiB), 1 x Fake 1 (1.0 GiB)")
    assert rows["acme"].split() == ["acme", "unavailable", "1.0", "-", "-"]
    notes = [line.strip() for line in lines if line.startswith(" ")]
    for note in (
        "libacme.so.7 is not on this machine",
        "looked for libacme.so.7 in the dynamic loader's search path: "
        "cannot open shared object file: No such file or directory",
        "try: install the Acme driver",
        f"lost frobnicate: infinicore-core {infinicore.__version__} has no operator of this name",
        f"INFINICORE_DEVICE=cpu  ({ENVIRONMENT['INFINICORE_DEVICE']})",
        "INFINICORE_DEVISE=cpu  (infinicore reads no variable of this name)",
    ):
        assert note in notes
    assert any(note.startswith("infinicore-Wrong 1.0 registers a backend called 'Wrong'") for note in notes)


def test_sick_device_does_not_hide_the_others(world, run):
    world.library("fake", SICK=0)
    [_, fake] = json.loads(run("--json"))["backends"]
    assert fake["devices"] == [
        {"index": 0, "name": "fake:0: device_info: fell off the bus", "memory_bytes": 0},
        {"index": 1, "name": "Fake 1", "memory_bytes": 2**30},
    ]


def test_equal_devices_share_a_line():
    from infinicore.report import _row

    devices = [{"index": index, "name": "Acme 1", "memory_bytes": 80 * 2**30} for index in range(8)]
    entry = {
        "name": "acme",
        "state": "ready",
        "version": "",
        "devices": devices,
        "operators": {"native": ["add"], "reference": ["gemm", "sum"]},
    }
    assert _row(entry) == ("acme", "ready", "-", "1 of 3", "8 x Acme 1 (80.0 GiB)")


def test_help_and_wrong_option():
    for option, status in ("--help", 0), ("--jsn", 2):
        done = subprocess.run([sys.executable, "-m", "infinicore", option], capture_output=True, text=True)
        assert done.returncode == status
        assert "python -m infinicore" in done.stdout + done.stderr
