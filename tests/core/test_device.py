# Devices: how they are written, compared and printed, what using one that is not there says, and what is
# current on which thread.
from __future__ import annotations

import copy
import pickle
import threading
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

import infinicore as ic
from infinicore._device import NativeDevice
from infinicore.discovery import ALIASES, NUMBERS, TORCH_TYPES

# ---- writing one ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "type", "index"),
    [
        (("cuda:0",), "cuda", 0),
        (("cpu", 0), "cpu", 0),
        ((ic.device("cuda:1"),), "cuda", 1),
        ((), "cpu", 0),
        ((None, 2), "cpu", 2),
        (("nvidia", 0), "cuda", 0),
        (("nvidia:3",), "cuda", 3),
        (("npu",), "ascend", 0),
        (("mlu:1",), "bang", 1),
        (("cambricon",), "bang", 0),
        (("musa",), "moore", 0),
        (("qy:12",), "qy", 12),
    ],
)
def test_ways_to_write_a_device(arguments, type, index):
    made = ic.device(*arguments)
    assert (made.type, made.index) == (type, index)


def test_keywords():
    assert ic.device(type="cuda", index=1) == ic.device("cuda:1")


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_every_public_device_can_be_written_without_its_hardware(name):
    assert repr(ic.device(name, 1)) == f"device(type={name!r}, index=1)"
    assert str(ic.device(name, 1)) == f"{name}:1"


def test_printing_is_as_in_the_documentation():
    assert repr(ic.device("cuda", 0)) == "device(type='cuda', index=0)"
    assert str(ic.device("cuda", 0)) == "cuda:0"


@given(st.sampled_from([*NUMBERS, *ALIASES]), st.integers(0, 2**31 - 1))
def test_text_reads_back(name, index):
    made = ic.device(name, index)
    texts = ic.device(str(made)), eval(repr(made), {"device": ic.device})
    for again in *texts, ic.device(made), copy.copy(made), pickle.loads(pickle.dumps(made)):
        assert again == made
        assert hash(again) == hash(made)
        assert (again.type, again.index) == (ALIASES.get(name, name), index)


@given(st.text(max_size=12))
def test_any_string_is_a_device_or_a_value_error(text):
    try:
        made = ic.device(text)
    except ic.Error as error:
        assert isinstance(error, ValueError)
    else:
        assert made.type in ic.backends or made.type in NUMBERS


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (("cpu:0", 1), ValueError, '`index` should not be provided when `type` contains ":"'),
        ((ic.device("cpu"), 1), ValueError, "`index` should not be provided when `type` is a device"),
        (("cpu:",), ValueError, "device 'cpu:': the index after \":\" is '', not a number"),
        (("cpu:x",), ValueError, "device 'cpu:x': the index after \":\" is 'x', not a number"),
        (("cpu:-1",), ValueError, "device 'cpu:-1': the index after \":\" is '-1', not a number"),
        (("cpu", -1), ValueError, "device 'cpu': index is -1, and must be 0 or greater"),
        (("cpu", 2**31), ValueError, "device 'cpu': index is 2147483648, and must be 0 or greater"),
        (("cpu", "0"), TypeError, "device 'cpu': index is '0', not an integer"),
        (("cpu", 0.5), TypeError, "device 'cpu': index is 0.5, not an integer"),
        ((3,), TypeError, "device: type is 3, neither a string nor a device"),
        ((int,), TypeError, "device: type is <class 'int'>, neither a string nor a device"),
    ],
)
def test_wrong_arguments(arguments, kind, message):
    with pytest.raises(kind) as caught:
        ic.device(*arguments)
    assert isinstance(caught.value, ic.Error)
    assert str(caught.value) == message


def test_unknown_name_lists_what_is_present(world):
    world.library("fake")
    code = """
        import infinicore as ic
        try: ic.device("fpga:1")
        except ic.UnknownDevice as error: print(error)
    """
    assert world.output(code) == "unknown device 'fpga': present are 'cpu', 'fake'"


def test_other_libraries_devices_are_understood():
    foreign = types.SimpleNamespace(type="npu", index=None)
    assert ic.device(foreign) == ic.device("ascend:0")


@pytest.mark.torch
def test_torch_devices_are_understood(torch):
    assert ic.device(torch.device("cuda:1")) == ic.device("cuda:1")
    assert ic.device(torch.device("cpu")) == ic.device()


def test_comparing_and_hashing():
    assert ic.device("cpu", 0) == ic.device("cpu")
    assert ic.device("cpu") != ic.device("cpu:1")
    assert ic.device("cpu") != ic.device("cuda")
    assert ic.device("cpu") != "cpu:0"
    assert {ic.device("cpu"): 1}[ic.device("cpu", 0)] == 1
    assert len({ic.device("nvidia"), ic.device("cuda"), ic.device("cuda:1")}) == 2


def test_devices_are_immutable():
    for name in ("type", "index"):
        with pytest.raises(AttributeError):
            setattr(ic.device(), name, 1)


def test_torch_types():
    assert {name: ic.device(name).torch_type for name in NUMBERS} == TORCH_TYPES


# ---- the native form -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_native_device(name):
    native = ic.device(name, 1)._underlying
    enumerator = {"cuda": "NVIDIA", "bang": "CAMBRICON"}.get(name, name.upper())
    assert native.type == getattr(NativeDevice.Type, enumerator) == NUMBERS[name]
    assert native.index == 1
    assert native == ic.device(name, 1)._underlying
    assert native != ic.device(name, 2)._underlying
    assert ic.device._from_infinicore_device(native) == ic.device(name, 1)
    assert repr(native) == f"Device(Device.Type.{enumerator}, 1)"


def test_native_type_outside_the_enumeration_and_unknown_number(world):
    world.library("fake")
    code = """
        import types, infinicore as ic
        native = ic.device("fake:1")._underlying
        print(native.type >= 1000, ic.device._from_infinicore_device(native))
        try: ic.device(types.SimpleNamespace(type=999, index=0))
        except ic.UnknownDevice as error: print(error)
    """
    assert world.output(code).splitlines() == ["True fake:1", "no backend has the device number 999"]


# ---- using one -----------------------------------------------------------------------------------


def test_questions_about_the_cpu():
    info = ic.device_info("cpu")
    assert info["name"] and info["architecture"]
    assert info["memory_bytes"] > 0
    free, total = ic.memory_info(ic.device("cpu"))
    assert 0 < free <= total
    assert ic.synchronize("cpu") is None


def test_questions_about_a_plugin(shared_world):
    code = """
        import infinicore as ic
        info = ic.device_info("fake:1")
        print(*(info[key] for key in ("name", "memory_bytes", "compute_units", "warp_width", "architecture")))
        print(ic.memory_info("fake:1"), ic.memory_info("fake"))
    """
    assert shared_world.output(code).splitlines() == [
        f"Fake 1 {2**30} 4 32 " + "x" * 32,
        f"({2**29}, {2**30 + 1}) ({2**29}, {2**30})",
    ]


def test_device_that_the_backend_lacks(world):
    world.library("fake")
    world.library("lonely", DEVICES=1)
    code = """
        import infinicore as ic
        for name in ("fake:2", "lonely:1", "cpu:1"):
            try: ic.set_device(name)
            except ic.DeviceNotFound as error: print(error)
    """
    assert world.output(code).splitlines() == [
        "fake:2: fake has 2 devices (fake:0 .. fake:1)",
        "lonely:1: lonely has 1 device (lonely:0)",
        "cpu:1: cpu has 1 device (cpu:0)",
    ]


def test_set_device_reaches_the_driver_once_per_thread_and_change(world):
    path = world.library("fake")
    code = f"""
        import ctypes, threading, infinicore as ic
        calls = lambda: ctypes.c_int.in_dll(ctypes.CDLL({str(path)!r}), "set_device_calls").value
        ic.set_device("fake:1"); ic.set_device("fake:1"); ic.memory_info(); ic.synchronize()
        print(calls())
        ic.set_device("fake:0"); ic.memory_info("fake:1"); ic.memory_info()
        print(calls())
        thread = threading.Thread(target=ic.memory_info, args=("fake:0",))
        thread.start(); thread.join()
        print(calls())
    """
    assert world.output(code).split() == ["1", "4", "5"]


def test_device_strings_follow_a_discovery(world, tmp_path):
    record = 'Plugin("{0}", "Acme", "infinicore_{0}._backend", aliases=["turbo"])'
    old = world.wheel("old", record.format("old"))
    code = f"""
        import shutil, infinicore as ic
        print(ic.get_device_count("turbo"), ic.device("turbo"))
        shutil.rmtree({str(old)!r}); shutil.rmtree({str(world.site / "infinicore_old-1.0.dist-info")!r})
        shutil.copytree({str(tmp_path / "later" / "site")!r}, {str(world.site)!r}, dirs_exist_ok=True)
        ic.backends.refresh()
        print(ic.get_device_count("turbo"), ic.device("turbo"))
        try: ic.device("old")
        except ic.UnknownDevice as error: print(error)
    """
    (tmp_path / "later").mkdir()
    later = type(world)(tmp_path / "later")
    later.wheel("new", record.format("new"))
    assert world.output(code).splitlines() == [
        "0 old:0",
        "0 new:0",
        "unknown device 'old': present are 'cpu', 'new'",
    ]


def test_too_many_devices(world):
    world.library("fake", DEVICES=400)
    code = """
        import infinicore as ic
        opened = 0
        try:
            for index in range(400): ic.memory_info(f"fake:{index}"); opened += 1
        except ic.BackendError as error: print(opened, error)
    """
    assert world.output(code) == "256 fake:256: this process has 256 devices open already"


# ---- what is current -----------------------------------------------------------------------------


def test_each_thread_has_its_own_current_device(world):
    world.library("fake")
    code = """
        import threading, infinicore as ic
        barrier, seen = threading.Barrier(3), {}
        def run(name):
            before = str(ic.get_device())
            barrier.wait()
            ic.set_device(name)
            barrier.wait()
            seen[name] = before, str(ic.get_device()), ic.memory_info()[1] - 2**30
        threads = [threading.Thread(target=run, args=(f"fake:{i}",)) for i in (0, 1)]
        for thread in threads: thread.start()
        ic.set_device("cpu")
        barrier.wait(); barrier.wait()
        for thread in threads: thread.join()
        print(dict(sorted(seen.items())), ic.get_device())
    """
    assert world.output(code) == "{'fake:0': ('cpu:0', 'fake:0', 0), 'fake:1': ('cpu:0', 'fake:1', 1)} cpu:0"


def test_default_device_of_the_environment(world):
    world.library("fake")
    code = "import infinicore as ic; print(ic.get_device(), ic.backends['fake'].state, ic.memory_info()[1])"
    assert world.output(code, INFINICORE_DEVICE="fake:1") == f"fake:1 found {2**30 + 1}"


def test_wrong_default_device_names_the_variable(world):
    code = """
        import infinicore as ic
        for ask in (ic.get_device, ic.synchronize):
            try: ask()
            except ValueError as error: print(type(error).__name__, error)
    """
    message = "UnknownDevice INFINICORE_DEVICE=fpga: unknown device 'fpga': present are 'cpu'"
    assert world.output(code, INFINICORE_DEVICE="fpga").splitlines() == [message] * 2


def test_failed_set_device_changes_nothing():
    before = ic.get_device()
    with pytest.raises(ic.DeviceNotFound):
        ic.set_device("cpu:7")
    assert ic.get_device() == before


def test_many_threads_open_one_device():
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(ic.memory_info("cpu")[1])) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 16
    assert len(set(seen)) == 1
