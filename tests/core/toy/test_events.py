# Events and streams of a backend whose answers can be chosen: events that have not happened, several
# devices, and what is alive at exit.
from __future__ import annotations


def test_an_event_that_has_not_happened(toy):
    toy("""
        start, end = ic.DeviceEvent(True, "toy:0"), ic.DeviceEvent(True, "toy:0")
        start.record(); end.record()
        toy.event_answer = 101 + 1                       # INFINI_STATUS_NOT_READY
        assert end.query() is False
        with pytest.raises(RuntimeError, match="both events must have happened; call synchronize"):
            start.elapsed_time(end)
        toy.event_answer = 1
        with pytest.raises(ic.InternalError, match="DeviceEvent.query"): end.query()
        toy.event_answer = 0
        assert end.query() is True and start.elapsed_time(end) >= 0
    """)


def test_events_of_two_devices(toy):
    toy("""
        here, there = ic.DeviceEvent(True, "toy:0"), ic.DeviceEvent(True, "toy:1")
        here.record(); there.record()
        with pytest.raises(ic.DeviceMismatch, match="events are on toy:0 and toy:1"): here.elapsed_time(there)
        message = "DeviceEvent.record: stream is on toy:1, but toy:0 was expected"
        with pytest.raises(ic.DeviceMismatch, match=message):
            here.record(ic.Stream("toy:1"))
        here.wait(ic.Stream("toy:1"))                    # a stream of the same vendor's other device can wait
        with pytest.raises(ic.DeviceMismatch, match="DeviceEvent.wait: stream is on cpu:0"):
            here.wait(ic.current_stream("cpu"))
    """)


def test_streams_are_recycled(toy):
    toy("""
        import gc
        s = ic.Stream("toy:0")
        handle = s.handle
        del s; gc.collect()
        t, u = ic.Stream("toy:0"), ic.Stream("toy:0")
        assert t.handle == handle and u.handle != handle
        assert ic.Stream("toy:1").handle not in (t.handle, u.handle)
    """)


def test_exit_with_everything_alive(toy):
    toy("""
        s, event = ic.Stream("toy:1"), ic.DeviceEvent(True, "toy:1")
        with ic.stream(s):
            x = full(1, 8, device="toy:1")
            y = ic.add(x, x)
        event.record(s)
        ic.stream(s).__enter__()
        cycle = [s, event, x]; cycle.append(cycle)
    """)
