# infinicore.context: the functions that existing programs call, also as infinicore.<name>.
from __future__ import annotations

import pytest

import infinicore as ic
from infinicore import context


def test_every_name_is_also_in_the_package():
    for name in context.__all__:
        assert getattr(ic, name) is getattr(context, name)


def test_get_device_after_set_device():
    ic.set_device(ic.device("cpu"))
    device = context.get_device()
    assert isinstance(device, ic.device)
    assert device == ic.device("cpu")
    assert device._underlying.type == 0


def test_device_counts(world):
    assert ic.get_device_count("cpu") == ic.get_device_count() == ic.get_device_count(ic.device("cpu")) == 1
    code = "import infinicore as ic; print(ic.get_device_count('cuda'), ic.get_device_count('nvidia'))"
    assert world.output(code) == "0 0"


def test_device_count_of_an_unknown_backend():
    with pytest.raises(ic.UnknownDevice, match="unknown device 'fpga'"):
        ic.get_device_count("fpga")


def test_streams_and_synchronisation():
    ic.set_device("cpu")
    assert ic.get_stream() == 0
    assert ic.sync_stream() is None
    assert ic.sync_device() is None


def test_synchronisation_reports_what_the_device_says(world):
    path = world.library("fake")
    code = f"""
        import ctypes, infinicore as ic
        ic.set_device("fake:1")
        ctypes.c_int32.in_dll(ctypes.CDLL({str(path)!r}), "next_status").value = 103
        try: ic.sync_device()
        except TimeoutError as error: print(error)
    """
    assert world.output(code) == "fake:1: synchronize: timed out"


def test_recording_is_off_and_cannot_be_stopped():
    assert ic.is_graph_recording() is False
    with pytest.raises(RuntimeError):
        ic.stop_graph_recording()
    assert ic.is_graph_recording() is False


def test_recording_starts_and_stops():
    ic.start_graph_recording("cpu")
    try:
        assert ic.is_graph_recording() is True
    finally:
        graph = ic.stop_graph_recording()
    assert ic.is_graph_recording() is False
    graph.run()
