# Discovery: what is found, from where, what is left out and why. It reads metadata and loads nothing.
from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinicore.discovery import (
    ALIASES,
    NUMBERS,
    TORCH_TYPES,
    Filter,
    Plugin,
    discover,
    library_name,
    number_of,
)

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,11}", fullmatch=True)


def test_importing_infinicore_loads_no_plugin(world):
    world.library("fake")
    world.wheel("boom", "1 / 0")
    code = """
        import sys, infinicore
        unwanted = {"infinicore_boom", "importlib.metadata", "ctypes", "logging", "numpy", "torch"}
        assert not unwanted & set(sys.modules)
        assert dict(infinicore.backends).keys() == {"cpu", "fake", "boom"}
        assert {backend.state for backend in infinicore.backends.values()} == {"found"}
        assert "infinicore_boom" not in sys.modules
        print("libinfinicore_fake" in open("/proc/self/maps").read())
    """
    assert world.output(code) == "False"


def test_library_is_found_at_run_time_and_opened_on_first_use(world):
    world.library("fake")
    code = """
        import infinicore
        from infinicore import get_device_count
        print(infinicore.backends["fake"].state, get_device_count("fake"), infinicore.backends["fake"].state)
    """
    assert world.output(code) == "found 2 ready"


def test_wheel_brings_a_backend_through_its_capsule(world, tmp_path, capsule_source):
    library = world.library("acme", folder=tmp_path)
    world.wheel(
        "acme",
        'Plugin("acme", "Acme", "infinicore_acme._backend", aliases=["roadrunner"], torch_type="xla")',
        version="3.1",
        native=capsule_source(library),
    )
    code = """
        import infinicore as ic
        backend = ic.backends["acme"]
        print(backend.distribution, backend.version, backend.state, backend.number >= 1000)
        print(ic.device("roadrunner:1"), ic.device("acme").torch_type, backend.vendor, backend.state)
        backend.open()
        print(backend.version, backend.vendor, backend.state, backend.device_count)
        ic.backends["cpu"].open()  # of this tree too, as old or new as the library
        print(backend.abi_version == ic.backends["cpu"].abi_version)
    """
    assert world.output(code).splitlines() == [
        "infinicore-acme 3.1 3.1 found True",
        "acme:1 xla Acme found",
        "1.2 Tests ready 2",
        "True",
    ]


@pytest.mark.parametrize(
    ("value", "states"),
    [
        ("cpu,fake", {"cpu": "found", "fake": "found", "other": "disabled"}),
        ("fake", {"cpu": "found", "fake": "found", "other": "disabled"}),
        ("-other", {"cpu": "found", "fake": "found", "other": "disabled"}),
        ("!fake, !other", {"cpu": "found", "fake": "disabled", "other": "disabled"}),
        ("fake,other,-other", {"cpu": "found", "fake": "found", "other": "disabled"}),
        ("", {"cpu": "found", "fake": "found", "other": "found"}),
    ],
)
def test_allow_and_deny_list(world, value, states):
    for name in ("fake", "other"):
        # Never loaded: a file with the right string in it is enough.
        (world.plugins / f"lib{name}.so").write_bytes(b"\x7fELF\0infinicore_backend\0")
    code = "import infinicore as ic; print({name: backend.state for name, backend in ic.backends.items()})"
    assert eval(world.output(code, INFINICORE_BACKENDS=value)) == states


def test_disabled_backend_says_which_variable_and_stays_unloaded(world):
    world.library("fake")
    world.library("other")
    code = """
        import infinicore as ic
        for name in ("fake", "other"):
            try: ic.set_device(name)
            except ic.BackendUnavailable as error: print(error)
        print("libinfinicore_" in open("/proc/self/maps").read(), ic.backends["fake"].devices)
    """
    assert world.output(code, INFINICORE_BACKENDS="cuda,-fake").splitlines() == [
        "fake: INFINICORE_BACKENDS=cuda,-fake excludes it",
        "other: INFINICORE_BACKENDS=cuda,-fake does not list it",
        "False []",
    ]


def test_list_that_names_nothing_or_excludes_cpu_is_reported(world):
    code = "import infinicore as ic; print(*ic.backends.problems, sep='\\n'); print(ic.backends['cpu'].state)"
    done = world.python(code, INFINICORE_BACKENDS="-cpu,-asend,-cuda")
    problems = [
        "INFINICORE_BACKENDS=-cpu,-asend,-cuda names 'asend', which is not installed",
        "INFINICORE_BACKENDS=-cpu,-asend,-cuda excludes 'cpu', which is always there: ignored",
    ]
    assert done.stdout.splitlines() == [*problems, "found"]
    assert all(problem in done.stderr for problem in problems)


def test_two_distributions_of_one_name_are_refused_and_both_named(world):
    record = 'Plugin("acme", "Acme", "infinicore_acme._backend")'
    world.wheel("acme", record, version="1.0")
    world.wheel("acme", record, distribution="acme-accelerator", version="2.0")
    code = """
        import infinicore as ic
        print(ic.backends["acme"].state)
        try: ic.set_device("acme")
        except ic.BackendUnavailable as error: print(error)
    """
    state, message = world.output(code).splitlines()
    assert state == "failed"
    assert message.startswith("acme: more than one plug-in is called 'acme': ")
    assert "infinicore-acme 1.0" in message
    assert "acme-accelerator 2.0" in message
    assert message.endswith("; keep one of them")


def test_same_distribution_twice_on_the_path_counts_once(world, tmp_path):
    root = world.wheel("acme", 'Plugin("acme", "Acme", "infinicore_acme._backend")')
    code = f"""
        import shutil, sys, infinicore as ic
        shutil.copytree({str(root.parent)!r}, {str(tmp_path / "again")!r})
        sys.path.append({str(tmp_path / "again")!r})
        print(ic.backends["acme"].state)
    """
    assert world.output(code) == "found"


def test_damaged_distribution_does_not_hide_the_others(world):
    world.wheel("acme", 'Plugin("acme", "Acme", "infinicore_acme._backend")')
    damaged = world.site / "damaged-1.0.dist-info"
    damaged.mkdir()
    (damaged / "entry_points.txt").write_bytes(b"[infinicore.backends]\nname = \xff\xfe")
    code = "import infinicore as ic; print(list(ic.backends)); print(*ic.backends.problems)"
    names, problem = world.output(code).splitlines()
    assert names == "['cpu', 'acme']"
    assert problem.startswith("entry points of ")
    assert " cannot be read: " in problem


@pytest.mark.parametrize(
    ("name", "owner"), [("cpu", "infinicore-core itself"), ("nvidia", "an alias of 'cuda'")]
)
def test_reserved_names_are_ignored_and_reported(world, name, owner):
    world.wheel(name, "None")
    code = "import infinicore as ic; print(list(ic.backends)); print(*ic.backends.problems)"
    names, problem = world.output(code).splitlines()
    assert names == "['cpu']"
    assert problem == f"infinicore-{name} 1.0 offers a backend called {name!r}, which is {owner}: ignored"


def test_unusable_path_entries_are_reported(world, tmp_path):
    (world.plugins / "libhelper.so").write_bytes(b"\x7fELF no such symbol")
    (world.plugins / "notes.sodium").write_text("infinicore_backend")
    (world.plugins / "libempty.so").write_bytes(b"")
    (world.plugins / "libinfinicore_Loud.so").write_bytes(b"\x7fELF\0infinicore_backend\0")
    candidates, problems = discover(f"{world.plugins}:{tmp_path / 'absent'}")
    assert not {"helper", "notes", "empty", "Loud"} & set(candidates)
    empty, loud = world.plugins / "libempty.so", world.plugins / "libinfinicore_Loud.so"
    assert problems == [
        f"{empty} in INFINICORE_BACKEND_PATH cannot be read: cannot mmap an empty file",
        f"{loud} is not called after a backend: rename it to libinfinicore_<name>.so",
        f"INFINICORE_BACKEND_PATH lists {tmp_path / 'absent'}: No such file or directory",
    ]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("libinfinicore_sim.so", "sim"),
        ("sim.so", "sim"),
        ("libsim.so.1.2", "sim"),
        ("/a/b/infinicore-sim.so", "sim"),
    ],
)
def test_library_names(file, name):
    assert library_name(file) == name


def test_refresh_finds_what_was_installed_meanwhile_and_drops_what_went(world, tmp_path):
    later = world.library("later", folder=tmp_path)
    world.library("fake")
    gone = world.library("gone")
    code = f"""
        import os, shutil, infinicore as ic
        print(sorted(ic.backends), ic.get_device_count("fake"))
        opened = ic.backends["fake"]
        shutil.move({str(later)!r}, {str(world.plugins)!r})
        os.remove({str(gone)!r})
        ic.backends.refresh()
        print(sorted(ic.backends), ic.backends["fake"] is opened, ic.get_device_count("later"))
    """
    assert world.output(code).splitlines() == [
        "['cpu', 'fake', 'gone'] 2",
        "['cpu', 'fake', 'later'] True 2",
    ]


def test_refresh_tries_a_failed_backend_again(world):
    world.library(
        "fake", OPEN_BODY='if (!getenv("DRIVER")) return host->fail(INFINI_STATUS_UNAVAILABLE, "no driver");'
    )
    code = """
        import ctypes, os, infinicore as ic
        print(ic.get_device_count("fake"), ic.backends["fake"].reason)
        os.environ["DRIVER"] = "1"
        print(ic.get_device_count("fake"))
        ic.backends.refresh()
        print(ic.get_device_count("fake"))
    """
    assert world.output(code).splitlines() == ["0 no driver", "0", "2"]


def test_mapping_protocol(world):
    world.library("fake")
    code = """
        import infinicore as ic
        known = ic.backends
        print(len(known), "fake" in known, "nvidia" in known, known.get("x"), known)
        for wrong in (KeyError, ValueError, ic.UnknownDevice):
            try: ic.backends["x"]
            except wrong as error: print(error)
    """
    assert world.output(code).splitlines() == [
        "2 True False None {'cpu': found, 'fake': found}",
        *["unknown backend 'x': present are 'cpu', 'fake'"] * 3,
    ]


def test_plugin_is_a_value_and_cannot_change():
    plugin = Plugin("sim", "Simulated", "infinicore_sim._backend", aliases=["simulator"], hint="none needed")
    assert plugin == Plugin(
        "sim", "Simulated", "infinicore_sim._backend", aliases=("simulator",), hint="none needed"
    )
    assert plugin != Plugin("sim", "Simulated", "infinicore_sim._backend")
    assert pickle.loads(pickle.dumps(plugin)) == plugin
    assert {plugin: 1}[plugin] == 1
    assert (plugin.aliases, plugin.torch_type) == (("simulator",), "sim")
    with pytest.raises(AttributeError, match=r"Plugin\.name cannot be changed"):
        plugin.name = "other"
    with pytest.raises(AttributeError, match=r"Plugin\.hint cannot be deleted"):
        del plugin.hint


def test_public_numbers_are_those_of_the_header():
    header = (Path(__import__("infinicore").__file__).parent / "include" / "infinicore.h").read_text()
    enumerators = {"nvidia": "cuda", "cambricon": "bang"}
    body = header.split("INFINI_DEVICE_CPU = 0")[1].split("INFINI_DEVICE_TYPE_COUNT")[0]
    numbers = {"cpu": 0}
    for line in body.strip(", \n").splitlines():
        name, value = line.strip(" ,").split(" = ")
        name = name.removeprefix("INFINI_DEVICE_").lower()
        numbers[enumerators.get(name, name)] = int(value)
    assert numbers == NUMBERS
    assert set(TORCH_TYPES) == set(NUMBERS)
    assert set(ALIASES.values()) < set(NUMBERS)


@given(NAMES)
def test_numbers_outside_the_enumeration_are_stable_and_large(name):
    number = number_of(name)
    assert number == number_of(name)
    assert number == NUMBERS[name] if name in NUMBERS else 1000 <= number < 2**31


def test_a_number_never_changes():
    assert number_of("sim") == 785040888  # programs and files may keep it


@given(st.sets(NAMES, max_size=4), st.sets(NAMES, max_size=4), NAMES)
def test_filter_is_allowed_minus_denied(allowed, denied, name):
    chosen = Filter(",".join([*sorted(allowed), *("-" + word for word in sorted(denied))]))
    allowed, denied = ({ALIASES.get(word, word) for word in words} for words in (allowed, denied))
    assert chosen.allows(name) == (name == "cpu" or ((not allowed or name in allowed) and name not in denied))
    assert chosen.named() == allowed | denied
