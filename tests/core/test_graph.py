# Graphs: what is recorded and what is not, that replays follow the tensors' contents, and that they cost
# neither an allocation nor a look-up. On `cpu` core replays its own list of calls; `sim` captures.
# ruff: noqa: F722 -- annotations are operator signatures
from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

import infinicore as ic
from infinicore import _graph
from infinicore._dispatch import Operator
from infinicore.schema import In, Out, Schema, Tensor


def tensor(values, device, dtype=np.float32):
    return ic.from_numpy(np.array(values, dtype=dtype)).to(device)


def test_replay_follows_the_input(device):
    a, b = tensor([[1, 2], [3, 4]], device), tensor([[1, 0], [0, 2]], device)
    with ic.graph(device) as g:
        y = ic.matmul(a, b)
    g.run()
    assert y.tolist() == [[1, 4], [3, 8]]
    a.copy_(tensor([[5, 6], [7, 8]], device))
    g.run()
    assert y.tolist() == [[5, 12], [7, 16]]
    assert isinstance(g, ic.Graph)
    assert g.device == device


def test_function_form(device):
    a = tensor([1, 2], device)
    assert ic.is_graph_recording() is False
    ic.start_graph_recording(device)
    assert ic.is_graph_recording() is True
    y = ic.add(a, a)
    z = ic.mul(y, a)
    g = ic.stop_graph_recording()
    assert ic.is_graph_recording() is False
    assert isinstance(g, ic.Graph)
    g.run()
    assert z.tolist() == [2, 8]


def test_recording_does_not_run(cpu):
    a = tensor([1, 2], cpu)
    out = tensor([0, 0], cpu)
    with ic.graph(cpu) as g:
        ic.add(a, a, out=out)
    assert out.tolist() == [0, 0]
    assert (len(g), g.captured) == (1, False)
    assert repr(g) == "<infinicore graph on cpu:0: 1 calls>"
    g.run()
    assert out.tolist() == [2, 4]


def test_replay_allocates_and_looks_up_nothing(device):
    x = tensor(np.ones((8, 16)), device)
    w, gain = tensor(np.ones((16, 16)), device), tensor(np.ones(16), device)
    with ic.graph(device) as g:
        h = x
        for _ in range(5):
            h = ic.add(ic.matmul(ic.rms_norm(h, gain), w), h)
    g.run()
    ic.synchronize(device)
    memory, cache = ic.memory_stats(device), ic.cache_info()
    for _ in range(10):
        g.run()
    assert ic.memory_stats(device) == memory
    assert ic.cache_info() == cache
    assert np.isfinite(h.to("cpu").numpy()).all()


def test_same_result_as_without_graph(device):
    rng = np.random.default_rng(1)
    x, w = tensor(rng.standard_normal((6, 8)), device), tensor(rng.standard_normal((8, 8)), device)

    def model(x):
        h = ic.silu(ic.matmul(x, w))
        parts = [h.narrow(1, 0, 4), h.narrow(1, 4, 4), h]
        return ic.softmax(ic.cat(parts, dim=1), axis=-1)

    want = model(x).tolist()
    with ic.graph(device) as g:
        y = model(x)
    for _ in range(3):
        g.run()
        assert y.tolist() == want


def test_inputs_and_temporaries_live_with_the_graph(device):
    x = tensor(np.arange(4096), device)
    one = tensor(np.ones(4096), device)
    with ic.graph(device) as g:
        # The first sum has no other owner than the graph, and soon `one` neither.
        y = ic.add(ic.add(x, x), one)
    del one
    gc.collect()
    noise = [ic.full((4096,), -1.0, dtype=ic.float32, device=device) for _ in range(20)]
    for _ in range(2):
        g.run()
        assert y.tolist()[:3] == [1.0, 3.0, 5.0]
        noise = [ic.full((4096,), -1.0, dtype=ic.float32, device=device) for _ in range(20)]
    assert all(n[7].item() == -1.0 for n in noise)
    del noise
    ic.synchronize(device)
    before = ic.memory_stats(device)["allocated"]
    del g, y
    gc.collect()
    ic.synchronize(device)
    ic.empty_cache(device)  # memory that another stream used is given back when somebody looks
    assert ic.memory_stats(device)["allocated"] <= before - 3 * 4096 * 4


def test_plain_scalars_are_frozen(cpu):
    a, b, c = (tensor(np.eye(2) * n, cpu) for n in (1, 1, 0))
    alpha = 2.0
    with ic.graph(cpu) as g:
        ic.gemm(c, a, b, alpha=alpha)
    alpha = 3.0
    g.run()
    assert c.tolist() == [[2, 0], [0, 2]]


def test_copies_and_fills_are_recorded(device):
    a, b = tensor([1, 2, 3], device), tensor([0, 0, 0], device)
    with ic.graph(device) as g:
        b.copy_(a)
        b += a
        a.fill_(7)
    g.run()
    assert (a.tolist(), b.tolist()) == ([7, 7, 7], [2, 4, 6])
    g.run()
    assert b.tolist() == [14, 14, 14]


def test_numbers_as_operands_are_recorded(device):
    a = tensor([1, 2, 3], device)
    with ic.graph(device) as g:
        b = a * 3.0625 + 0.125  # numbers that no other test uses: nothing on the device holds them yet
    for scale in (1, 2):
        a.copy_(tensor([scale, 2 * scale, 3 * scale], device))
        g.run()
        assert b.tolist() == [n * scale * 3.0625 + 0.125 for n in (1, 2, 3)]


def test_overlapping_output_is_recorded(device):
    base = tensor([1, 2, 3, 4], device)
    with ic.graph(device) as g:
        ic.add(base.narrow(0, 0, 3), base.narrow(0, 0, 3), out=base.narrow(0, 1, 3))
    g.run()
    assert base.tolist() == [1, 2, 4, 6]
    g.run()
    assert base.tolist() == [1, 2, 4, 8]


def test_lists_and_tuples_are_copied(cpu):
    x = tensor(np.arange(24).reshape(2, 3, 4), cpu)
    with ic.graph(cpu) as g:
        parts = [x, x]
        joined = ic.cat(parts, dim=1)
        parts.clear()
        total = ic.sum(joined, dim=(0, 2))
    gc.collect()
    g.run()
    assert total.tolist() == [float(v) for v in np.tile(np.arange(24).reshape(2, 3, 4).sum(axis=(0, 2)), 2)]


def test_replay_on_a_stream(device):
    x = tensor(np.ones(1000), device)
    with ic.graph(device) as g:
        y = ic.add(x, x)
    s = ic.Stream(device)
    g.run(s)
    s.synchronize()
    with ic.stream(s):
        g.run()
        assert y[999].item() == 2.0
    with pytest.raises(
        ic.ArgumentTypeError, match=r"Graph\.run: stream must be an infinicore.Stream, not str"
    ):
        g.run("fast")


def test_empty_graph(device):
    with ic.graph(device) as g:
        pass
    g.run()
    assert len(g) == 0


def test_graph_within_a_thread_is_its_own(device):
    """Another thread's work is neither recorded nor held up."""
    a = tensor([1, 2], device)
    found = []
    with ic.graph(device) as g:
        thread = threading.Thread(
            target=lambda: found.append((ic.is_graph_recording(), ic.add(a, a).tolist()))
        )
        thread.start()
        thread.join()
    assert found == [(False, [2, 4])]
    assert len(g) == 0


def test_replays_from_many_threads(device):
    x = tensor(np.ones(256), device)
    with ic.graph(device) as g:
        y = ic.mul(ic.add(x, x), x)
    threads = [threading.Thread(target=lambda: [g.run() for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ic.synchronize(device)
    assert y.tolist() == [2.0] * 256


def test_a_replay_that_waits_after_every_call():
    """INFINICORE_LAUNCH_BLOCKING, of which a process hears when it starts."""
    code = """
        import infinicore as ic
        x = ic.ones((3,), dtype=ic.float32, device="cpu")
        with ic.graph("cpu") as g:
            y = (x + x) * x
        g.run()
        print(len(g), y.tolist())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "INFINICORE_LAUNCH_BLOCKING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "2 [2.0, 2.0, 2.0]\n"), done.stderr


# ---- updates -----------------------------------------------------------------------------------------


def test_an_updated_graph_runs_what_the_other_recorded(device):
    x, out = tensor([2, 3], device), tensor([0, 0], device)
    with ic.graph(device) as g:
        ic.add(x, x, out=out)
    with ic.graph(device) as same:  # as many calls: in place, where the backend can
        ic.mul(x, x, out=out)
    with ic.graph(device) as longer:
        ic.sub(ic.mul(x, x), x, out=out)
    g.run()
    assert out.tolist() == [4, 6]
    for other, wanted in ((same, [4, 9]), (longer, [2, 6]), (same, [4, 9]), (g, [4, 9])):
        g.update(other)
        g.run()
        assert out.tolist() == wanted
        other.run()  # stays usable
        assert out.tolist() == wanted


def test_an_updated_graph_keeps_the_memory_of_the_other(device):
    x = tensor(np.arange(4096), device)
    with ic.graph(device) as g:
        ic.add(x, x)
    with ic.graph(device) as other:
        y = ic.add(ic.add(x, x), x)
    g.update(other)
    del other
    gc.collect()
    noise = [ic.full((4096,), -1.0, dtype=ic.float32, device=device) for _ in range(20)]
    stream = ic.Stream(device)
    for where in (None, stream):
        g.run(where)
    stream.synchronize()
    assert y.tolist()[:3] == [0, 3, 6]
    assert all(n[7].item() == -1.0 for n in noise)


def test_updates_while_other_threads_run(device):
    x, out = tensor(np.ones(64), device), tensor(np.zeros(64), device)
    graphs = []
    for operator in (ic.add, ic.mul, ic.sub):
        with ic.graph(device) as g:
            operator(operator(x, x), x, out=out)
        graphs.append(g)
    g, *others = graphs
    threads = [threading.Thread(target=lambda: [g.run() for _ in range(50)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(25):
        for other in others:
            g.update(other)
    for thread in threads:
        thread.join()
    g.run()
    assert out.tolist() == [-1.0] * 64


def test_what_a_graph_cannot_be_updated_with(cpu, sim):
    graphs = []
    for x in (tensor([1], cpu), tensor([1], sim)):
        with ic.graph(x.device) as g:
            ic.add(x, x)
        graphs.append(g)
    with pytest.raises(
        ic.DeviceMismatch, match=r"Graph.update: the graph is on cpu:0, but other is on sim:0"
    ):
        graphs[0].update(graphs[1])
    with pytest.raises(TypeError, match=r"Graph\.update: other must be an infinicore\.Graph, not int"):
        graphs[0].update(3)


# ---- errors ------------------------------------------------------------------------------------------


def test_stop_without_start():
    with pytest.raises(RuntimeError, match="stop_graph_recording: this thread does not record a graph"):
        ic.stop_graph_recording()
    with pytest.raises(ic.Error, match="abort_recording"):
        _graph.abort_recording()


def test_start_twice(device):
    with ic.graph(device) as g:
        with pytest.raises(ic.Error, match=f"this thread already records a graph on {device}; stop it first"):
            ic.start_graph_recording(device)
        with pytest.raises(ic.Error, match="already records"), ic.graph(device):
            pass
        y = ic.full((2,), 1.0, dtype=ic.float32, device=device)
    g.run()
    assert y.tolist() == [1, 1]


def test_graph_wants_a_native_graph():
    for bad in (None, 3, "graph", object()):
        with pytest.raises(TypeError, match=r"Expected _infinicore\.Graph"):
            ic.Graph(bad)
    with pytest.raises(TypeError, match="made by recording"):
        _graph.Graph()


def test_use_before_the_end(device):
    g = ic.graph(device)
    with pytest.raises(ic.Error, match="nothing is recorded yet"):
        g.run()
    assert repr(g) == "<infinicore graph: nothing recorded yet>"
    with g, pytest.raises(ic.Error, match="nothing is recorded yet"):
        g.run()


def test_an_error_while_recording_leaves_the_thread_usable(device):
    a, b = tensor([1, 2], device), tensor([1, 2, 3], device)
    with pytest.raises(ic.ShapeError), ic.graph(device):
        ic.add(a, a)
        ic.add(a, b)
    assert ic.is_graph_recording() is False
    assert ic.add(a, a).tolist() == [2, 4]
    # Inside a recording too: the failed call is not part of it.
    with ic.graph(device) as g:
        with pytest.raises(ic.ShapeError):
            ic.add(a, b)
        y = ic.add(a, a)
    g.run()
    assert y.tolist() == [2, 4]


def test_user_error_is_not_hidden(device):
    with pytest.raises(ZeroDivisionError), ic.graph(device):
        1 / 0  # noqa: B018
    with pytest.raises(ZeroDivisionError), ic.graph(device):
        ic.stop_graph_recording()
        1 / 0  # noqa: B018
    assert ic.is_graph_recording() is False


def test_running_a_graph_while_recording(device):
    a = tensor([1, 2], device)
    with ic.graph(device) as inner:
        ic.add(a, a)
    with (
        ic.graph(device),
        pytest.raises(ic.Error, match=r"Graph.run: a graph cannot run while this thread records"),
    ):
        inner.run()


def test_work_on_another_device_is_refused(sim):
    a, b = tensor([1, 2], sim), tensor([1, 2], "cpu")
    with ic.graph(sim) as g:
        y = ic.add(a, a)
        with pytest.raises(
            ic.DeviceMismatch, match=r"add: this thread records a graph on sim:0, but .* on cpu:0"
        ):
            ic.add(b, b)
    g.run()
    assert y.tolist() == [2, 4]


def halve(out: Out[Tensor, "f32 n"], x: In[Tensor, "f32 n"]):
    """x / 2."""
    return x / 2


def test_operator_without_kernel_cannot_be_recorded(cpu):
    op = Operator(Schema(halve))
    a = tensor([2, 4], cpu)
    with (
        ic.graph(cpu),
        pytest.raises(
            ic.OperatorNotSupported, match="halve: has no kernel on cpu:0, so no graph can record it"
        ),
    ):
        op(a)
    assert op(a).tolist() == [1, 2]


@pytest.mark.parametrize("read", ["item", "tolist", "numpy", "to_cpu", "bool"])
def test_reading_while_recording(device, read):
    a = tensor([1], device)
    reads = {
        "item": lambda y: y.item(),
        "tolist": lambda y: y.tolist(),
        "numpy": lambda y: y.numpy(),
        "to_cpu": lambda y: y.to("cpu").tolist(),
        "bool": bool,
    }
    with ic.graph(device) as g:
        y = ic.add(a, a)
        with pytest.raises(ic.Error, match=f"this thread records a graph on {device}|captur"):
            reads[read](y)
    g.run()
    assert y.item() == 2.0
