# Graphs through the capture members of a runtime table, and without them on a backend that has none.
from __future__ import annotations

import pytest


def test_capture(toy):
    toy(
        """
        a, out = full(1, 4), full(0, 4)
        with ic.graph("toy:0") as g:
            ic.add(a, a, out=out)
            ic.add(out, a, out=out)
            assert toy.got_stream != 0
        assert g.captured and len(g) == 0
        assert repr(g) == "<infinicore graph on toy:0: captured by the backend>"
        assert out.tolist() == [0] * 4 and toy.executed == 2
        g.run(); assert out.tolist() == [3] * 4
        a.fill_(5); g.run(); assert out.tolist() == [15] * 4
        assert (toy.executed, toy.launched, toy.got_stream) == (2, 2, 0)
        s = ic.Stream("toy:0")
        g.run(s); assert toy.got_stream == s.handle
        with ic.stream(s): g.run(); assert toy.got_stream == s.handle
        assert ic.current_stream("toy:0").handle == 0
        assert toy.graphs_alive == 2
        del g
        assert toy.graphs_alive == 0
        """,
        "CAPTURE",
    )


@pytest.mark.parametrize("macros", [(), ("CAPTURE",)])
def test_both_ways_count_the_same(toy, macros):
    toy(
        """
        toy.want_workspace = 4096
        a, out = full(1, 4), full(0, 4)
        with ic.graph("toy:0") as g:
            for _ in range(3): ic.add(a, a, out=out)
        memory, cache, created = ic.memory_stats("toy:0"), ic.cache_info(), toy.created
        for _ in range(5): g.run()
        assert (ic.memory_stats("toy:0"), ic.cache_info(), toy.created) == (memory, cache, created)
        assert out.tolist() == [2] * 4
        # The descriptors belong to the graph too.
        ic.cache_clear()
        assert toy.destroyed == 0
        g.run()
        del g
        assert toy.destroyed == toy.created == 1
        """,
        *macros,
    )


def test_replay_names_the_call_that_fails(toy):
    toy("""
        a = full(1, 4)
        with ic.graph("toy:0") as g:
            ic.add(a, a); ic.add(a, a)
        toy.fail_execute = 1
        with pytest.raises(ic.InternalError, match="Graph.run: call 0, add: the toy fails"): g.run()
        toy.fail_execute = 0
        g.run()
    """)


def test_workspaces_belong_to_the_graph(toy):
    toy("""
        a, out = full(1, 4), full(0, 4)
        with ic.graph("toy:0") as g:
            toy.want_workspace = 512; ic.add(a, a, out=out)
            ic.cache_clear()
            toy.want_workspace = 2048; ic.add(a, out, out=out)
        others = [full(9, 128), full(9, 512)]
        for _ in range(3):
            g.run()
            assert toy.workspace_aligned == 1 and out.tolist() == [3] * 4
        assert others[0].tolist() == [9] * 128 and others[1].tolist() == [9] * 512
        workspace = ic.empty((2048,), dtype=ic.uint8, device="toy:0")
        d = ic.add.describe(a, a)
        with ic.graph("toy:0") as g: d(a, a, out=out, workspace=workspace)
        del workspace
        others = [full(9, 512) for _ in range(4)]
        g.run()
        assert all(o.tolist() == [9] * 512 for o in others)
    """)


def test_broken_capture(toy):
    toy(
        """
        a = full(1, 4)
        toy.broken_capture = 1
        ic.start_graph_recording("toy:0")
        ic.add(a, a)
        with pytest.raises(ic.InternalError, match="stop_graph_recording: the capture was broken"):
            ic.stop_graph_recording()
        assert not ic.is_graph_recording() and ic.current_stream("toy:0").handle == 0
        with pytest.raises(ZeroDivisionError):
            with ic.graph("toy:0"): 1 / 0
        toy.broken_capture = 0
        with pytest.raises(ZeroDivisionError):
            with ic.graph("toy:0"): 1 / 0
        assert toy.graphs_alive == 0
        with ic.graph("toy:0") as g: b = ic.add(a, a)
        g.run()
        assert b.tolist() == [2] * 4
        """,
        "CAPTURE",
    )


def test_a_thread_that_ends_while_it_records(toy):
    toy(
        """
        import gc, threading
        a = full(1, 4)
        def work():
            ic.start_graph_recording("toy:1")
            ic.add(full(1, 4, device="toy:1"), full(1, 4, device="toy:1"))
        thread = threading.Thread(target=work); thread.start(); thread.join()
        gc.collect()
        assert not ic.is_graph_recording()
        assert ic.add(a, a).tolist() == [2] * 4
        """,
    )


def test_exit_while_recording(toy):
    toy("a = full(1, 4); ic.start_graph_recording('toy:0'); b = ic.add(a, a)", "CAPTURE")
    toy("a = full(1, 4); ic.start_graph_recording('toy:0'); b = ic.add(a, a)")
