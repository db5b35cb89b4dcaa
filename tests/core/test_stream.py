# Streams and events on the devices that are always there: current streams, ordering, times, refusals.
from __future__ import annotations

import gc
import threading
import time

import pytest

import infinicore as ic

# ---- streams -----------------------------------------------------------------------------------------


def test_stream(device):
    s = ic.Stream(device)
    assert s.device == device
    assert isinstance(s.handle, int)
    assert repr(s) == f"Stream(device='{device}', handle={s.handle:#x})"
    s.synchronize()
    deadline = time.monotonic() + 30
    while not s.query():
        assert time.monotonic() < deadline
    with pytest.raises(ic.InvalidArgument, match="__init__ was called twice"):
        if not s.handle:
            pytest.skip("the device has only its default stream")
        s.__init__(device)


def test_default_device_is_the_current_one(device):
    before = ic.get_device()
    ic.set_device(device)
    try:
        assert ic.Stream().device == device
        assert ic.current_stream().device == device
        assert ic.DeviceEvent().device == device
    finally:
        ic.set_device(before)


def test_current_stream(device):
    default = ic.current_stream(device)
    assert default.handle == 0
    s = ic.Stream(device)
    with ic.stream(s) as entered:
        assert entered is s
        assert ic.current_stream(device) == s
        assert hash(ic.current_stream(device)) == hash(s)
        with ic.stream(default):
            assert ic.current_stream(device) == default
        with ic.stream(None):
            assert ic.current_stream(device) == s
        seen = []
        thread = threading.Thread(target=lambda: seen.append(ic.current_stream(device)))
        thread.start()
        thread.join()
        assert seen == [default]
    assert ic.current_stream(device) == default
    assert s != "s"


def test_stream_is_restored_after_an_error(device):
    s = ic.Stream(device)
    with pytest.raises(ZeroDivisionError), ic.stream(s):
        1 / 0  # noqa: B018
    assert ic.current_stream(device).handle == 0


@pytest.mark.parametrize("bad", ["cpu", 3, object()])
def test_stream_wants_a_stream(bad):
    with pytest.raises(ic.ArgumentTypeError, match=r"stream: expected an infinicore\.Stream, not"):
        ic.stream(bad)


def test_unknown_device():
    with pytest.raises(ic.UnknownDevice):
        ic.Stream("abacus")
    with pytest.raises(ic.DeviceNotFound):
        ic.Stream("cpu:7")
    with pytest.raises(ic.UnknownDevice):
        ic.DeviceEvent(device="abacus")


def test_work_on_a_stream(device):
    s = ic.Stream(device)
    with ic.stream(s):
        x = ic.full((100,), 1.0, dtype=ic.float32, device=device)
        for _ in range(100):
            x = ic.add(x, x) if float(x[0].item()) < 8 else x
    # The default stream waits for it on the device.
    ic.current_stream(device).wait_stream(s)
    assert x.tolist() == [8.0] * 100


def test_memory_of_a_finished_stream_is_not_reused_too_early(device):
    results = []
    for n in range(50):
        s = ic.Stream(device)
        with ic.stream(s):
            x = ic.full((64,), float(n), dtype=ic.float32, device=device)
            results.append(ic.add(x, x))
        s.synchronize()
        del s, x
    assert [r[0].item() for r in results] == [2.0 * n for n in range(50)]


# ---- events ------------------------------------------------------------------------------------------


def test_event_attributes(device):
    event = ic.DeviceEvent(device=device)
    assert event.device == device
    assert (event.enable_timing, event.blocking, event.interprocess, event.is_recorded) == (False,) * 4
    assert repr(event) == (
        f"DeviceEvent(device='{device}', enable_timing=False, blocking=False, interprocess=False, "
        "is_recorded=False)"
    )
    event = ic.DeviceEvent(True, device, blocking=True)
    assert (event.enable_timing, event.blocking) == (True, True)
    event.record()
    assert event.is_recorded
    assert isinstance(event.handle, int)


def test_elapsed_time(device):
    start, end = (
        ic.DeviceEvent(enable_timing=True, device=device),
        ic.DeviceEvent(enable_timing=True, device=device),
    )
    start.record()
    start.synchronize()
    time.sleep(0.01)
    end.record()
    end.synchronize()
    elapsed = start.elapsed_time(end)
    assert isinstance(elapsed, float)
    assert 9 <= elapsed <= 5000
    assert start.elapsed_time(start) == 0


def test_elapsed_time_needs_timing_and_records(device):
    timed, untimed = ic.DeviceEvent(True, device), ic.DeviceEvent(False, device)
    timed.record()
    untimed.record()
    for start, end in [(timed, untimed), (untimed, timed)]:
        with pytest.raises(RuntimeError, match=r"^Cannot measure elapsed time when timing is disabled$"):
            start.elapsed_time(end)
    for start, end, which in [
        (timed, ic.DeviceEvent(True, device), "end"),
        (ic.DeviceEvent(True, device), timed, "start"),
    ]:
        with pytest.raises(RuntimeError, match=f"the {which} event was not recorded"):
            start.elapsed_time(end)
    with pytest.raises(TypeError):
        timed.elapsed_time(None)


def test_event_between_streams(device):
    producer, consumer = ic.Stream(device), ic.Stream(device)
    with ic.stream(producer):
        x = ic.full((1 << 16,), 3.0, dtype=ic.float32, device=device)
        x = ic.add(x, x)
        event = producer.record_event()
    consumer.wait_event(event)
    with ic.stream(consumer):
        y = ic.add(x, x)
        assert y[-1].item() == 12.0
    event.wait()
    event.wait(producer)
    event.synchronize()
    assert event.query() is True


def test_event_that_was_never_recorded_holds_nothing_up(device):
    event = ic.DeviceEvent(device=device)
    assert event.query() is True
    event.synchronize()
    event.wait()
    assert not event.is_recorded


def test_interprocess_events_are_refused():
    with pytest.raises(ic.InvalidArgument, match="interprocess=True is not supported"):
        ic.DeviceEvent(interprocess=True)


@pytest.mark.parametrize("method", ["record", "wait"])
def test_event_wants_a_stream(method):
    event = ic.DeviceEvent(device="cpu")
    event.record()
    with pytest.raises(
        ic.ArgumentTypeError, match=f"DeviceEvent.{method}: stream must be an infinicore.Stream, not str"
    ):
        getattr(event, method)("cpu")
    # A raw handle, as get_stream() gives it.
    getattr(event, method)(0)


def test_what_is_no_event_or_stream_is_named():
    side, event = ic.Stream("cpu"), ic.DeviceEvent(enable_timing=True, device="cpu")
    for act, message in (
        (lambda: event.elapsed_time(5), "elapsed_time: other: expected an infinicore.DeviceEvent, got int"),
        (
            lambda: side.wait_event(None),
            "wait_event: event: expected an infinicore.DeviceEvent, got NoneType",
        ),
        (lambda: side.record_event("x"), "record_event: event: expected an infinicore.DeviceEvent, got str"),
        (
            lambda: side.wait_stream(event),
            "wait_stream: other: expected an infinicore.Stream, got DeviceEvent",
        ),
    ):
        with pytest.raises(ic.ArgumentTypeError, match=message):
            act()


def test_event_init_twice():
    event = ic.DeviceEvent(device="cpu")
    if event.handle:
        with pytest.raises(ic.InvalidArgument, match="__init__ was called twice"):
            event.__init__()


def test_streams_and_events_outlive_everything_else(device):
    event = ic.Stream(device).record_event()
    gc.collect()
    assert event.query() in (True, False)
    event.synchronize()
    event.record(ic.Stream(device))
    event.synchronize()
    assert event.query()
