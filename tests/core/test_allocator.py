# The caching allocator: reuse, merging, statistics, streams, exhaustion, threads, fork, end of the process.
from __future__ import annotations

import gc
import itertools
import os
import random
import resource
import subprocess
import sys
import textwrap
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

import infinicore as ic


def block(nbytes, device="cpu"):
    return ic.empty((nbytes,), dtype=ic.uint8, device=device)


def stats(device="cpu", **options):
    return ic.memory_stats(device, **options)


@pytest.fixture
def simulated():
    from infinicore.testing import sim

    sim.enable()
    ic.empty_cache("sim:0")
    return sim


def run(code, **environment):
    """Run a program of its own; what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_a_hundred_thousand_tensors_leave_nothing_behind():
    """C80: memory is back where it was."""

    def churn(count):
        for i in range(count):
            tensor = ic.empty((4, i % 512), dtype=ic.float32, device="cpu")
            tensor.T.narrow(1, 1, 2)

    churn(2000)
    gc.collect()
    before, resident = stats(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    churn(100_000)
    after = stats()
    for name in ("allocated", "live", "reserved", "segment_allocations"):
        assert after[name] == before[name]
    assert after["allocations"] - before["allocations"] == 100_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident < 8 << 10  # KiB


def test_freed_memory_is_reused(device):
    for nbytes in (1, 100, 5000, 1 << 20, 3 << 20, 25 << 20):
        first = block(nbytes, device)
        place = first.data_ptr()
        del first
        segments = stats(device)["segment_allocations"]
        assert block(nbytes, device).data_ptr() == place
        assert stats(device)["segment_allocations"] == segments


def test_alignment(device):
    tensors = [block(nbytes, device) for nbytes in (0, 1, 63, 64, 65, 1000, 2 << 20, 11 << 20)]
    assert all(tensor.data_ptr() % 64 == 0 for tensor in tensors)
    assert all(tensor.data_ptr() for tensor in tensors)
    assert block(11 << 20).data_ptr() % (2 << 20) == 0


@given(st.lists(st.tuples(st.integers(0, 3 << 20), st.integers(0, 7)), max_size=60))
def test_blocks_never_overlap_and_merge_again(steps):
    """Whatever the order of allocation and release, live blocks are disjoint and free ones become whole."""
    ic.empty_cache("cpu")
    before = stats()
    live = []
    for nbytes, victim in steps:
        live.append(block(nbytes))
        if victim < len(live) and victim % 2:
            live.pop(victim)
        spans = sorted((tensor.data_ptr(), tensor.data_ptr() + tensor.numel()) for tensor in live)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    live.clear()
    assert stats()["allocated"] == before["allocated"]
    ic.empty_cache("cpu")
    assert stats()["reserved"] == before["reserved"]


def test_statistics():
    ic.empty_cache("cpu")
    ic.reset_peak_memory_stats("cpu")
    before = stats()
    tensors = [block(1000) for _ in range(10)]
    during = stats()
    assert during["live"] == before["live"] + 10
    assert during["allocations"] == before["allocations"] + 10
    assert during["allocated"] == before["allocated"] + 10 * 1024
    tensors.clear()
    after = stats()
    assert after["frees"] == before["frees"] + 10
    assert after["allocated"] == before["allocated"]
    assert after["allocated_peak"] == during["allocated"]
    assert after["reserved"] >= after["allocated"]


def test_views_and_storage_count_once():
    before = stats()["live"]
    base = block(4096)
    views = [base[i:] for i in range(100)]
    assert stats()["live"] == before + 1
    del base
    assert stats()["live"] == before + 1
    views.clear()
    assert stats()["live"] == before


def test_empty_cache_gives_memory_back(simulated):
    free, _ = ic.memory_info("sim:0")
    tensor = block(64 << 20, "sim:0")
    assert ic.memory_info("sim:0")[0] <= free - (64 << 20)
    del tensor
    assert ic.memory_info("sim:0")[0] <= free - (64 << 20)
    assert ic.empty_cache("sim:0") >= 64 << 20
    assert ic.memory_info("sim:0")[0] == free


def test_the_host_does_not_hoard():
    """What is cached of the host's memory is bounded; a device's cache is not."""
    total = ic.memory_info("cpu")[1]
    tensors = [block(64 << 20) for _ in range(max(total // 8, 256 << 20) // (64 << 20) + 2)]
    assert stats()["reserved"] > max(total // 8, 256 << 20)
    tensors.clear()
    assert stats()["reserved"] - stats()["allocated"] <= max(total // 8, 256 << 20)


def test_exhausted_memory_is_reclaimed_first(simulated):
    """Cached blocks of another size do not stand in the way."""
    free, _ = ic.memory_info("sim:1")
    pieces = [block(free // 8, "sim:1") for _ in range(6)]
    pieces.clear()
    retries = stats("sim:1")["retries"]
    large = block(free // 2 + (free // 4), "sim:1")
    assert stats("sim:1")["retries"] == retries + 1
    with pytest.raises(ic.OutOfMemory, match=f"sim:1: out of memory: {free} bytes requested") as caught:
        block(free, "sim:1")
    assert "held" in str(caught.value) or "holds" in str(caught.value)
    del large
    assert block(free // 2, "sim:1").numel() == free // 2
    ic.empty_cache("sim:1")


def test_streams_have_memory_of_their_own(simulated):
    """A block freed on one stream is not handed to another: their order is not known."""
    one, two = ic.Stream("sim:0"), ic.Stream("sim:0")
    with ic.stream(one):
        first = block(1000, "sim:0")
        place = first.data_ptr()
        del first
    with ic.stream(two):
        assert block(1000, "sim:0").data_ptr() != place
    with ic.stream(one):
        assert block(1000, "sim:0").data_ptr() == place


def test_record_stream_delays_reuse(simulated):
    side = ic.Stream("sim:0")
    tensor = block(3 << 20, "sim:0")
    place = tensor.data_ptr()
    with simulated.hold(side):
        tensor.record_stream(side)
        del tensor
        assert stats("sim:0")["pending"] == 1
        other = block(3 << 20, "sim:0")
        assert other.data_ptr() != place
    side.synchronize()
    ic.empty_cache("sim:0")
    assert stats("sim:0")["pending"] == 0
    del other


def test_asynchronous_copies_hold_pinned_memory(simulated):
    ic.set_device("sim:0")
    try:
        source = ic.full((1000,), 3, dtype=ic.float32, device="cpu", pin_memory=True)
    finally:
        ic.set_device("cpu")
    stream = ic.Stream("sim:0")
    with simulated.hold(stream), ic.stream(stream):
        there = source.to("sim:0", non_blocking=True)
        del source
        assert stats("sim:0", pinned=True)["pending"] == 1
    stream.synchronize()
    assert there.tolist() == [3] * 1000
    ic.empty_cache("sim:0")
    assert stats("sim:0", pinned=True)["pending"] == 0


def test_threads_share_one_allocator():
    errors = []

    def work(seed):
        generator = random.Random(seed)
        kept = []
        for _ in range(500):
            tensor = ic.full((generator.randrange(1, 5000),), seed, dtype=ic.uint8, device="cpu")
            kept.append(tensor)
            if len(kept) > 20:
                old = kept.pop(generator.randrange(20))
                if set(old.tobytes()) != {seed}:
                    errors.append(seed)

    gc.collect()
    before = stats()["live"]
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert stats()["live"] == before


def test_the_process_ends_with_live_tensors():
    assert run("""
        import infinicore as ic
        from infinicore.testing import sim
        sim.enable()
        class Holder:
            def __del__(self):
                print(self.tensor.shape)
        kept = Holder()
        kept.tensor = ic.ones((3,), dtype=ic.float32, device="sim:0")
        cycle = [ic.ones((3,), dtype=ic.float32, device="cpu"), kept]
        cycle.append(cycle)
        ic.stray = cycle[0]
        capsule = ic.ones((3,), dtype=ic.float32, device="cpu").__dlpack__()
        print("end", flush=True)
    """).startswith("end")


def test_other_libraries_may_outlive_us():
    assert (
        run("""
        import sys, numpy
        import infinicore as ic
        numpy.kept = ic.ones((3,), dtype=ic.float32, device="cpu").numpy()
        numpy.also = numpy.from_dlpack(ic.ones((3,), dtype=ic.float32, device="cpu"))
        print(int(numpy.kept.sum() + numpy.also.sum()))
    """)
        == "6"
    )


def test_fork():
    assert (
        run("""
        import os, warnings
        warnings.simplefilter("ignore")
        import infinicore as ic
        from infinicore.testing import sim
        sim.enable()
        here = ic.ones((1000,), dtype=ic.float32, device="cpu")
        there = ic.ones((1000,), dtype=ic.float32, device="sim:0")
        child = os.fork()
        if child == 0:
            status = 1
            try:
                assert here.tolist() == [1.0] * 1000
                assert (ic.zeros((1000,), dtype=ic.float32, device="cpu")).tolist() == [0.0] * 1000
                del there
                try:
                    for size in range(1, 100):
                        ic.empty((size << 20,), dtype=ic.float32, device="sim:0")
                except ic.BackendError:
                    status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert there.tolist() == [1.0] * 1000
        print("parent")
    """)
        == "parent"
    )


def test_an_overflow_is_no_allocation():
    with pytest.raises(ic.OutOfMemory, match=r"\d+ bytes requested"):
        ic.empty((2**62,), dtype=ic.uint8, device="cpu")
