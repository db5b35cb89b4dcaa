# Dispatch against a backend that tells what it was given: slots, workspace, stream, device, life of
# descriptors, errors of each phase, and what happens where there is no kernel.
from __future__ import annotations

import pytest


def test_workspace_is_device_memory_of_the_asked_size(toy):
    toy("""
        a = full(1, 3)
        for size in (256, 0, 1, 1 << 20):
            toy.want_workspace = size
            ic.cache_clear()
            for _ in range(3):
                assert ic.add(a, a).tolist() == [2, 2, 2]
                assert (toy.got_workspace, toy.workspace_aligned) == (size, 1)
    """)


def test_explicit_workspace(toy):
    toy("""
        a = full(1, 3)
        d = ic.add.describe(a, a)
        assert d.workspace_bytes == 256
        memory = lambda bytes, device="toy:0": ic.empty((bytes,), dtype=ic.uint8, device=device)
        assert d(a, a, workspace=memory(256)).tolist() == [2, 2, 2]
        assert d(a, a, workspace=memory(300)).tolist() == [2, 2, 2]
        cases = [
            (memory(255), "add: workspace has 255 bytes, but 256 are needed"),
            (memory(0), "add: workspace has 0 bytes, but 256 are needed"),
            (memory(256, "toy:1"), "add: workspace is on toy:1, but the descriptor is for toy:0"),
            (memory(300).narrow(0, 8, 256), "which is not a multiple of 64"),
            (memory(600).as_strided((256,), (2,)), "add: workspace must be contiguous"),
        ]
        for workspace, message in cases:
            with pytest.raises(ic.InvalidArgument, match=message):
                d(a, a, workspace=workspace)
        with pytest.raises(ic.ArgumentTypeError, match="add: workspace must be .*, not bytearray"):
            d(a, a, workspace=bytearray(256))
        message = "add: the descriptor is for toy:0, but the tensors are on toy:1"
        with pytest.raises(ic.DeviceMismatch, match=message):
            d(full(1, 3, device="toy:1"), full(1, 3, device="toy:1"))
    """)


def test_slots_hold_what_the_call_says(toy):
    toy("""
        c, a, b = full(0, 2, 3), full(1, 2, 4), full(1, 4, 3)
        ic.gemm(c, a, b); assert (toy.got_alpha, toy.got_beta) == (1.0, 0.0)
        ic.gemm(c, a, b, alpha=0.5, beta=2); assert (toy.got_alpha, toy.got_beta) == (0.5, 2.0)
        ic.gemm(c, a, b, beta=3.5); assert (toy.got_alpha, toy.got_beta) == (1.0, 3.5)
        ic.matmul(a, b, alpha=0.25); assert (toy.got_alpha, toy.got_beta) == (0.25, 0.0)
        d = ic.gemm.describe(c, a, b, alpha=7.0)
        d(c, a, b); assert (toy.got_alpha, toy.got_beta) == (7.0, 0.0)
        d(c, a, b, beta=1.0); assert (toy.got_alpha, toy.got_beta) == (7.0, 1.0)
        x = full(1, 2, 3, 4)
        ic.sum(x, dim=(-1, 0)); assert (toy.got_dim_count, sorted(toy.got_dims[:2])) == (2, [0, 2])
        assert toy.planned_dim_count == 2
        ic.sum(x, dim=1); assert (toy.got_dim_count, toy.got_dims[0]) == (1, 1)
        ic.sum(x, dim=-2); assert (toy.got_dim_count, toy.got_dims[0]) == (1, 1)
    """)


def test_broadcast_inputs_arrive_expanded(toy):
    toy("""
        shapes = {(3,): [0, 1], (2, 1): [1, 0], (1, 3): [0, 1], (): [0, 0], (2, 3): [3, 1]}
        for other, strides in shapes.items():
            for _ in range(2):
                assert ic.add(full(1, 2, 3), full(2, *other)).tolist() == [[3.0] * 3] * 2
                assert (toy.got_ndim, toy.got_shape[:2], toy.got_strides[:2]) == (2, [2, 3], strides), other
    """)


def test_descriptors_are_given_back_at_every_end(toy):
    done = toy("""
        a, b = full(1, 3), full(1, 4)
        ic.add(a, a); ic.add(b, b); ic.add(a, a)
        assert (toy.created, toy.destroyed) == (2, 0)
        ic.set_cache_limit(1)
        assert toy.destroyed == 1
        ic.add(b, b); ic.add(a, a)
        assert toy.created == 4
        ic.cache_clear("toy")
        assert toy.destroyed == 4
        ic.set_cache_limit(0)
        ic.add(a, a); ic.add(a, a)
        d = ic.add.describe(a, a)
        assert toy.created - toy.destroyed <= 2   # the descriptor, and the one of the last call
        ic.set_cache_limit(16)
        ic.add(a, a)                              # alive when the process ends
    """)
    created, destroyed = (int(word) for word in done.stderr.split() if word.isdigit())
    assert created == destroyed == 8


def test_a_failed_create_is_an_error_of_its_status(toy):
    toy("""
        a = full(1, 3)
        statuses = {2: ic.OperatorNotSupported, 10: ic.DTypeError, 11: ic.ShapeError, 12: ic.StrideError,
                    3: ic.InvalidArgument, 1: ic.InternalError, 100: ic.OutOfMemory}
        for status, error in statuses.items():
            toy.fail_create = status
            for _ in range(2):
                with pytest.raises(error, match="add: the toy refuses to plan this"): ic.add(a, a)
        toy.fail_create = 0
        assert ic.add(a, a).tolist() == [2, 2, 2]
        assert (toy.created, toy.executed) == (1, 1)
    """)


def test_a_failed_execute_is_an_error_and_the_next_call_works(toy):
    toy("""
        a = full(1, 3)
        toy.fail_execute = 1
        with pytest.raises(ic.InternalError, match="add: the toy fails to execute"): ic.add(a, a)
        toy.fail_execute = 0
        assert ic.add(a, a).tolist() == [2, 2, 2]
        assert toy.created == 1
    """)


def test_devices_do_not_mix(toy):
    toy("""
        a, b, c = full(1, 3), full(1, 3, device="toy:1"), full(1, 3, device="cpu")
        with pytest.raises(ic.DeviceMismatch, match="^add: other is on toy:1, but input is on toy:0$"):
            ic.add(a, b)
        with pytest.raises(ic.DeviceMismatch, match="^add: out is on cpu:0, but input is on toy:0$"):
            ic.add(a, a, out=c)
        message = "^cat: tensors\\[1\\] is on cpu:0, but tensors\\[0\\] is on toy:0$"
        with pytest.raises(ic.DeviceMismatch, match=message):
            ic.cat([a, c])
        assert ic.add(b, b).device == ic.device("toy:1")
        assert toy.got_device == 1
        ic.add(a, a)
        assert toy.got_device == 0
    """)


def test_each_device_has_its_own_descriptors(toy):
    toy("""
        a, b = full(1, 3), full(1, 3, device="toy:1")
        for _ in range(2): ic.add(a, a); ic.add(b, b)
        assert toy.created == 2
    """)


def test_the_kernel_runs_without_the_gil(toy):
    toy("""
        import threading, time
        a = full(1, 3)
        ic.add(a, a)
        toy.gate_wanted = 1
        opener = threading.Timer(0.05, lambda: setattr(toy, "gate", 1))
        opener.start()
        assert ic.add(a, a).tolist() == [2, 2, 2]   # a Timeout if the timer's thread could not run
        opener.join()
    """)


def test_calls_go_to_the_current_stream(toy):
    toy("""
        import threading
        a = full(1, 3)
        assert ic.add(a, a) is not None and toy.got_stream == 0
        s, t = ic.Stream("toy:0"), ic.Stream("toy:0")
        assert s.handle and t.handle and s.handle != t.handle
        with ic.stream(s):
            ic.add(a, a); assert toy.got_stream == s.handle
            with ic.stream(t):
                ic.add(a, a); assert toy.got_stream == t.handle
            with ic.stream(None):
                ic.add(a, a); assert toy.got_stream == s.handle
            # Another thread has its own current stream; another device too.
            thread = threading.Thread(target=ic.add, args=(a, a)); thread.start(); thread.join()
            assert toy.got_stream == 0
            b = full(1, 3, device="toy:1")
            ic.add(b, b); assert toy.got_stream == 0
            with pytest.raises(ZeroDivisionError):
                with ic.stream(t): 1 / 0
            ic.add(a, a); assert toy.got_stream == s.handle
        ic.add(a, a); assert toy.got_stream == 0
        d = ic.add.describe(a, a)
        d(a, a, stream=s); assert toy.got_stream == s.handle
        d(a, a); assert toy.got_stream == 0
        with pytest.raises(ic.DeviceMismatch, match="add: stream is on toy:1, but toy:0 was expected"):
            d(a, a, stream=ic.Stream("toy:1"))
    """)


# ---- no kernel ---------------------------------------------------------------------------------------


def test_missing_operator_names_who_has_it(toy):
    toy("""
        a = full(1, 3)
        message = (r'^neg: toy has no kernel for it; backends that have it: cpu. '
                   r'infinicore.fallback\\("cpu"\\) or INFINICORE_FALLBACK=cpu runs it on the CPU$')
        full(1, 3, device="cpu")
        for _ in range(2):
            with pytest.raises(ic.OperatorNotSupported, match=message): ic.neg(a)
        assert ic.fallback_counts() == {}
        assert isinstance(pytest.raises(ic.Error, ic.neg, a).value, NotImplementedError)
    """)


def test_fallback_is_chosen_counted_and_reported(toy):
    done = toy("""
        a = full(2, 3)
        with ic.fallback("cpu"):
            for n in range(1, 4):
                got = ic.neg(a)
                assert got.device == ic.device("toy:0") and got.tolist() == [-2.0] * 3
                assert ic.fallback_counts() == {("neg", "toy"): n}
            out = full(0, 3)
            assert ic.neg(a, out=out) is out and out.tolist() == [-2.0] * 3
            assert ic.cat([a, out], dim=0).tolist() == [2.0] * 3 + [-2.0] * 3
            ic.neg(a, out=a); assert a.tolist() == [-2.0] * 3
            toy.fail_create = 10
            ic.cache_clear()
            assert ic.add(a, a).tolist() == [-4.0] * 3     # the kernel refused this one
            toy.fail_create = 0
            ic.cache_clear()
            executed = toy.executed
            assert ic.add(a, a).tolist() == [-4.0] * 3 and toy.executed == executed + 1
        with pytest.raises(ic.OperatorNotSupported, match="^neg: toy has no kernel"): ic.neg(a)
        assert ic.fallback_counts()[("neg", "toy")] == 5 and ic.fallback_counts()[("add", "toy")] == 1
    """)
    assert done.stderr.count("neg has no kernel on toy: it runs on the CPU") == 1


def test_fallback_for_the_process_and_for_a_block(toy):
    toy("""
        import threading
        a = full(2, 3)
        def outcome():
            try: ic.neg(a)
            except ic.OperatorNotSupported: return "refused"
            return "ran"
        def elsewhere():
            found = []
            thread = threading.Thread(target=lambda: found.append(outcome())); thread.start(); thread.join()
            return found[0]
        assert (outcome(), elsewhere()) == ("refused", "refused")
        with ic.fallback("cpu"):
            assert (outcome(), elsewhere()) == ("ran", "refused")
            with ic.fallback(None): assert outcome() == "refused"
            assert outcome() == "ran"
        assert (outcome(), elsewhere()) == ("refused", "refused")
        ic.fallback("cpu")
        assert (outcome(), elsewhere()) == ("ran", "ran")
        with ic.fallback(None): assert (outcome(), elsewhere()) == ("refused", "ran")
        ic.fallback(None)
        assert (outcome(), elsewhere()) == ("refused", "refused")
        for bad in ("toy", 3):
            with pytest.raises(ic.InvalidArgument, match="fallback: operators can fall back to"):
                ic.fallback(bad)
        assert outcome() == "refused"
    """)


@pytest.mark.parametrize("value", ["cpu", ""])
def test_fallback_by_environment(toy, value):
    toy(
        f"""
        a = full(2, 3)
        if {bool(value)}: assert ic.neg(a).tolist() == [-2.0] * 3
        else: pytest.raises(ic.OperatorNotSupported, ic.neg, a)
        """,
        INFINICORE_FALLBACK=value,
    )


def test_fallback_to_elsewhere_is_refused(toy):
    toy(
        """
        with pytest.raises(ic.InvalidArgument, match="INFINICORE_FALLBACK: operators can fall back to"):
            ic.neg(full(2, 3))
        """,
        INFINICORE_FALLBACK="toy",
    )


def test_plain_scalars_and_statics_survive_the_fallback(toy):
    toy("""
        x = full(1, 2, 4)
        with ic.fallback("cpu"):
            y = ic.softmax(x, axis=0)
            assert y.tolist() == [[0.5] * 4] * 2
            w = full(1, 3, 4)
            assert ic.linear(x, w, alpha=2.0).tolist() == [[8.0] * 3] * 2
    """)
