# Plug-ins as users meet them: wheels, built and installed, each in the state that it should be in, with the
# words that it should have. Every scenario runs in a fresh process, since a process keeps what it opened.
from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import infinicore as ic

Python = Callable[..., "subprocess.CompletedProcess[str]"]
VERSION = ic.__version__
PLUGINS = {"broken", "example", "faulty", "mismatch", "missing", "newer", "next", "sim", "sim2", "stale"}
LOST = (
    f"infinicore-mismatch {VERSION} was built for another signature of neg (fingerprint 0x0123456789abcdef) "
    f"than that of infinicore-core {VERSION} ({ic.schema.OPERATORS['neg'].fingerprint:#018x}): "
    "rebuild it for this version"
)
REASONS = {
    "broken": "importing infinicore_broken._backend raised RuntimeError: "
    "the Broken SDK could not initialise: error 17",
    "missing": "the driver library libmissing_driver.so.4 is not installed",
    "next": f"infinicore-next {VERSION} needs plug-in ABI 2, infinicore-core {VERSION} has 1: "
    "upgrade infinicore-core",
}
STATES = {"broken": "failed", "missing": "unavailable", "next": "failed"}
TRAIL = [
    {"what": "libmissing_driver.so.4", "where": "MISSING_HOME", "result": "not set"},
    {"what": "libmissing_driver.so.4", "where": "the dynamic loader's path", "result": "not found"},
]


# ---- the report ------------------------------------------------------------------------------------------


def test_the_report_says_what_became_of_each(python: Python) -> None:
    report = json.loads(python("-m", "infinicore", "--json").stdout)
    assert set(report) == {"version", "backends", "environment"}
    assert report["version"] == VERSION
    backends = {entry.pop("name"): entry for entry in report["backends"]}
    assert set(backends) == PLUGINS | {"cpu"}
    keys = {"vendor", "version", "abi", "state", "reason", "trail", "devices", "operators"}
    assert {frozenset(entry) for entry in backends.values()} == {frozenset(keys)}
    assert {name: entry["state"] for name, entry in backends.items()} == {
        name: STATES.get(name, "ready") for name in backends
    }
    assert {name: entry["reason"] for name, entry in backends.items() if entry["reason"]} == REASONS
    assert {name: entry["version"] for name, entry in backends.items()} == dict.fromkeys(backends, VERSION)
    minors = {name: tuple((entry["abi"] or {}).values()) for name, entry in backends.items()}
    assert minors["stale"] == (1, 0)
    assert minors["newer"] == (1, 99)
    assert minors["example"] == minors["sim"] == minors["sim2"] == minors["cpu"]
    assert backends["missing"]["trail"] == TRAIL
    lost = {name: entry["operators"]["lost"] for name, entry in backends.items()}
    assert {name: operators for name, operators in lost.items() if operators} == {"mismatch": {"neg": LOST}}
    native = {name: entry["operators"]["native"] for name, entry in backends.items()}
    assert native["example"] == native["stale"] == native["newer"] == ["add", "neg"]
    assert native["mismatch"] == ["add"]
    assert native["sim"] == native["sim2"] == native["cpu"]
    assert "neg" in backends["mismatch"]["operators"]["reference"]
    assert [device["index"] for device in backends["sim"]["devices"]] == [0, 1]
    assert backends["example"]["devices"][0]["name"] == "Example device"


def test_the_report_for_people_holds_every_sentence(python: Python) -> None:
    text = python("-m", "infinicore").stdout
    for sentence in [
        *REASONS.values(),
        f"lost neg: {LOST}",
        "looked for libmissing_driver.so.4 in MISSING_HOME: not set",
        "try: install the Missing driver 4.2 or newer",
    ]:
        assert sentence in text


# ---- using them ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["example", "stale", "newer"])
def test_plug_ins_of_every_minor_compute(python: Python, name: str) -> None:
    done = python(
        f"""
        import infinicore as ic
        a = ic.from_list([[1.0, 2.0], [3.0, 4.0]], dtype=ic.float32, device="{name}")
        b = a.permute([1, 0])
        print((a + b).tolist(), (-b).tolist(), a.device)
        start, end = (ic.DeviceEvent(enable_timing=True, device="{name}") for _ in range(2))
        start.record(), end.record(), end.synchronize()
        print(0 <= start.elapsed_time(end) < 1000)
        with ic.graph("{name}") as graph:  # no capture members: core records it itself
            c = a + b
        graph.run()
        print(c.tolist(), graph.captured)
        """
    )
    assert done.stdout.splitlines() == [
        f"[[2.0, 5.0], [5.0, 8.0]] [[-1.0, -3.0], [-2.0, -4.0]] {name}:0",
        "True",
        "[[2.0, 5.0], [5.0, 8.0]] False",
    ]


def test_a_backend_that_is_not_ready_says_why_whoever_asks(python: Python) -> None:
    done = python(
        """
        import infinicore as ic
        for name in ("broken", "missing", "next"):
            for use in (lambda: ic.empty((1,), dtype=ic.float32, device=name), ic.backends[name].open):
                try:
                    use()
                except ic.BackendUnavailable as error:
                    print(str(error))
        """
    )
    missing = [
        f"missing: {REASONS['missing']}",
        "  looked for libmissing_driver.so.4 in MISSING_HOME: not set",
        "  looked for libmissing_driver.so.4 in the dynamic loader's path: not found",
        "  try: install the Missing driver 4.2 or newer",
    ]
    assert done.stdout.splitlines() == [
        *[f"broken: {REASONS['broken']}"] * 2,
        *missing * 2,
        *[f"next: {REASONS['next']}"] * 2,
    ]


def test_the_trail_follows_the_environment(python: Python, tmp_path: Path) -> None:
    report = json.loads(python("-m", "infinicore", "--json", MISSING_HOME=str(tmp_path)).stdout)
    (missing,) = (entry for entry in report["backends"] if entry["name"] == "missing")
    where = f"{tmp_path}/lib/libmissing_driver.so.4"
    assert missing["trail"][0] == {"what": "libmissing_driver.so.4", "where": where, "result": "not found"}


def test_a_lost_operator_is_missed_and_nothing_else(python: Python) -> None:
    done = python(
        """
        import infinicore as ic
        a = ic.from_list([1.0, -2.0], dtype=ic.float32, device="mismatch")
        print((a + a).tolist())
        try:
            ic.neg(a)
        except ic.OperatorNotSupported as error:
            print(error)
        with ic.fallback("cpu"):
            print(ic.neg(a).tolist(), ic.fallback_counts())
        """
    )
    added, refused, fallen = done.stdout.splitlines()
    assert added == "[2.0, -4.0]"
    assert LOST in refused
    assert "example" in refused or "cpu" in refused  # who has it
    assert fallen.startswith("[-1.0, 2.0] ")
    assert "neg" in fallen


def test_two_simulated_vendors_and_the_cpu_work_side_by_side(python: Python) -> None:
    done = python(
        """
        import infinicore as ic
        values = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
        tensors = {name: ic.from_list(values, dtype=ic.float32, device=name)
                   for name in ("cpu", "sim:0", "sim:1", "sim2:0", "example")}
        for name, a in tensors.items():
            assert str(a.device) == name or str(a.device) == name + ":0", a.device
        for here, a in tensors.items():
            for there, b in tensors.items():
                moved = a.to(there)
                assert moved.device == b.device
                assert (moved + b).tolist() == [[2.0, 4.0, 6.0], [8.0, 10.0, 12.0]]
                filled = ic.empty_like(b)
                filled.copy_(a)
                assert filled.tolist() == values
                if here != there:
                    try:
                        a + b
                        print("mixed", here, there)
                    except ic.DeviceMismatch as error:
                        assert "add" in str(error)
        for name in ("sim:1", "sim2"):
            a = tensors["cpu"].to(name)
            print(ic.softmax(ic.matmul(a, a.permute([1, 0])), axis=-1).to("cpu").tolist()[0][0] < 1e-5)
        print(sorted(b for b in ic.backends if ic.backends[b].state == "ready"))
        """
    )
    assert done.stdout.splitlines() == ["True", "True", "['cpu', 'example', 'sim', 'sim2']"]


def test_the_environment_chooses(python: Python) -> None:
    code = """
        import infinicore as ic
        chosen = {name: ic.backends[name] for name in ("example", "sim", "sim2")}
        print({name: (backend.state, backend.reason) for name, backend in chosen.items()})
        try:
            ic.empty((1,), dtype=ic.float32, device="sim")
        except ic.BackendUnavailable as error:
            print(error)
        """
    allowed = python(code, INFINICORE_BACKENDS="example").stdout
    reason = "INFINICORE_BACKENDS=example does not list it"
    states = {"example": ("found", ""), "sim": ("disabled", reason), "sim2": ("disabled", reason)}
    assert allowed == f"{states}\nsim: {reason}\n"
    denied = python(code, INFINICORE_BACKENDS="-sim").stdout
    reason = "INFINICORE_BACKENDS=-sim excludes it"
    states = {"example": ("found", ""), "sim": ("disabled", reason), "sim2": ("found", "")}
    assert denied == f"{states}\nsim: {reason}\n"


def test_the_library_of_a_wheel_works_without_it(python: Python, site: Path, tmp_path: Path) -> None:
    (library,) = (site / "infinicore_example").glob("libinfinicore_example.so")
    shutil.copy(library, tmp_path / "libinfinicore_example.so")
    code = f"""
        import sys
        sys.path.remove({str(site)!r})
        import infinicore as ic
        a = ic.from_list([1.0, 2.0], dtype=ic.float32, device="example")
        print(ic.backends["example"].distribution, (-a).tolist())
        """
    done = python(code, INFINICORE_BACKEND_PATH=str(tmp_path))
    assert done.stdout == f"{tmp_path}/libinfinicore_example.so [-1.0, -2.0]\n"


# ---- safety ----------------------------------------------------------------------------------------------


def test_importing_loads_nothing_of_any_plug_in(python: Python) -> None:
    done = python(
        """
        import sys
        import infinicore as ic
        assert len(ic.backends) == 11, list(ic.backends)
        maps = open("/proc/self/maps").read()
        wanted = ("_backend.abi3", "libinfini", "testing/sim", "missing_driver")
        print([name for name in wanted if name in maps])
        print([name for name in sys.modules if name.startswith(("infinicore_", "infinicore.testing"))])
        print({backend.state for backend in ic.backends.values()})
        ic.backends["example"].open()
        maps = open("/proc/self/maps").read()
        print("infinicore_example/_backend" in maps, "infinicore_stale" in maps, "testing/sim" in maps)
        """
    )
    assert done.stdout.splitlines() == ["[]", "[]", "{'found'}", "True False False"]


def test_forking_is_safe_before_first_use_and_explained_after(python: Python) -> None:
    done = python(
        """
        import os, traceback
        import infinicore as ic
        def child(body):
            pid = os.fork()
            if pid == 0:
                try:
                    body()
                    os._exit(0)
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        def compute(device):
            a = ic.from_list([1.0] * 4, dtype=ic.float32, device=device)
            assert (a + a).tolist() == [2.0] * 4
        for device in ("cpu", "sim", "sim2", "example"):
            child(lambda: compute(device))  # the parent has opened nothing of it
        assert {b.state for b in ic.backends.values() if b.name != "cpu"} == {"found"}
        compute("sim")
        a = ic.ones((4,), dtype=ic.float32, device="sim")
        def use():
            compute("cpu")
            compute("sim2")  # not opened before the fork
            try:
                compute("sim")
            except ic.BackendError as error:
                print(error, flush=True)
            try:
                a.tolist()
            except ic.Error as error:
                print("fork" in str(error), flush=True)
        child(use)
        compute("sim")  # the parent goes on
        print("parent")
        """
    )
    refused, held, parent = done.stdout.splitlines()
    assert refused.startswith("sim: it was opened before fork(), and its driver does not work in the child")
    assert (held, parent) == ("True", "parent")


@pytest.mark.parametrize("ending", ["", "sys.exit(3)", "raise KeyError", "os._exit(0)"])
def test_a_process_ends_cleanly_whatever_is_alive(python: Python, ending: str) -> None:
    status = {"": 0, "sys.exit(3)": 3, "raise KeyError": 1, "os._exit(0)": 0}[ending]
    done = python(
        f"""
        import os, sys, threading
        import infinicore as ic
        from infinicore.testing.sim import hold
        kept = []
        for name in ("cpu", "sim:0", "sim:1", "sim2", "example"):
            a = ic.from_list([[1.0] * 64] * 64, dtype=ic.float32, device=name)
            event = ic.DeviceEvent(enable_timing=True, device=name)
            stream = ic.Stream(name)
            event.record()
            with ic.graph(name) as graph:
                b = a + a
            graph.run()
            kept += [a, b, event, stream, graph, ic.add(a, a)]
        # Work that will never be done, work that is being done, and threads that are in the middle of it.
        waiting = ic.ones((8,), dtype=ic.float32, device="sim")
        ic.synchronize("sim")
        held = hold(stream := ic.Stream("sim"))
        with ic.stream(stream):
            kept.append(ic.add(waiting, waiting))
        big = ic.ones((512, 512), dtype=ic.float32, device="sim:1")
        for _ in range(20):
            big = ic.matmul(big, big)
        def work():
            while True:
                ic.add(a, a)
        for _ in range(2):
            threading.Thread(target=work, daemon=True).start()
        class Late:
            def __del__(self):
                kept and kept[0].tolist()
        late = Late()
        late.cycle = late
        print("end", flush=True)
        {ending}
        """,
        status=status,
    )
    assert done.stdout == "end\n"
    assert "Fatal Python error" not in done.stderr
    assert ("KeyError" in done.stderr) == (ending == "raise KeyError")


def test_wheels_hold_what_they_should(wheels: Path) -> None:
    names = sorted(wheel.name.split("-")[0] for wheel in wheels.glob("*.whl"))
    assert names == sorted(f"infinicore_{name}" for name in PLUGINS)
    for wheel in wheels.glob("*.whl"):
        listing = " ".join(zipfile.ZipFile(wheel).namelist())
        pure = wheel.name.startswith(("infinicore_broken", "infinicore_sim"))
        assert (".so" in listing) != pure
        if not pure:
            # One wheel for every Python, free-threaded ones aside.
            assert "abi3" in wheel.name or "t-" in wheel.name


def exports_of(library: Path) -> set[str]:
    command = ["nm", "-D", "--defined-only", str(library)]
    listing = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {line.split()[-1] for line in listing.splitlines() if " T " in line}


def test_a_plug_in_exports_one_function(site: Path) -> None:
    for name in ("example", "stale", "newer", "mismatch", "missing", "next"):
        package = site / f"infinicore_{name}"
        (module,) = package.glob("_backend*.so")
        assert exports_of(module) == {"PyInit__backend"}
        assert exports_of(package / f"libinfinicore_{name}.so") == {"infinicore_backend"}
