# The cpu's table of collectives called as a C program would: what infiniccl* hands on, argument by argument.
# Python never passes most of this.
"""Statuses of the cpu's collectives table."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pytest

import infinicore as ic
from infinicore.testing.tables import Tables

F32, C64, SUM, MAX = 13, 17, 0, 2
BUFFER, COMM = (ctypes.c_float * 4)(1, 2, 3, 4), (ctypes.c_void_p * 1)()


class UniqueId(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint32), ("bytes", ctypes.c_char * 4092)]


@pytest.fixture
def ccl(cpu: ic.device) -> Any:
    ic.empty((1,), dtype=ic.float32, device=cpu)
    return Tables.of("cpu").ccl


@pytest.fixture
def comm(ccl: Any) -> ctypes.c_void_p:
    handles = (ctypes.c_void_p * 1)()
    ccl.init_all(1, None, handles)
    return ctypes.c_void_p(handles[0])


def all_reduce(
    ccl: Any, comm: Any, *, buffer: Any = BUFFER, count: int = 4, dtype: int = F32, op: int = SUM
) -> None:
    ccl.all_reduce(buffer, buffer, ctypes.c_uint64(count), dtype, op, comm, None)


CASES: list[tuple[int, Callable[[Any, Any], object], str]] = [
    (4, lambda ccl, comm: all_reduce(ccl, None), "all_reduce: comm is NULL"),
    (4, lambda ccl, comm: all_reduce(ccl, comm, buffer=None), "all_reduce: send is NULL, count is 4"),
    (10, lambda ccl, comm: all_reduce(ccl, comm, dtype=0), "all_reduce: unknown dtype 0"),
    (10, lambda ccl, comm: all_reduce(ccl, comm, dtype=99), "all_reduce: unknown dtype 99"),
    (10, lambda ccl, comm: all_reduce(ccl, comm, dtype=C64, op=MAX), "complex numbers have no order"),
    (3, lambda ccl, comm: all_reduce(ccl, comm, op=5), "all_reduce: unknown reduction 5"),
    (3, lambda ccl, comm: all_reduce(ccl, comm, count=2**63), "elements are more than there is memory"),
    (3, lambda ccl, comm: ccl.send(BUFFER, ctypes.c_uint64(4), F32, -1, comm, None), "there is no rank -1"),
    (3, lambda ccl, comm: ccl.group_end(), "group_end: there was no group_start"),
    (3, lambda ccl, comm: ccl.init_all(0, None, COMM), "0 ranks, expected 1 to 64"),
    (6, lambda ccl, comm: ccl.init_all(1, (ctypes.c_int32 * 1)(777), COMM), "device 777 does not"),
    (4, lambda ccl, comm: ccl.all_gather_v(BUFFER, BUFFER, None, F32, comm, None), "counts is NULL"),
    (4, lambda ccl, comm: ccl.unique_id(None), "out is NULL"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "call", "message"), CASES, ids=[message for _, _, message in CASES])
def test_statuses(ccl: Any, comm: Any, status: int, call: Callable[[Any, Any], object], message: str) -> None:
    with pytest.raises(ic.Error, match=rf"({message}).*\(status {status}\)"):
        call(ccl, comm)
    ccl.destroy(comm)


def test_what_is_allowed(ccl: Any, comm: Any) -> None:
    all_reduce(ccl, comm, buffer=None, count=0)
    ccl.destroy(None)
    ccl.group_start()
    ccl.group_end()
    ccl.destroy(comm)


def test_an_id_padded_with_zeros_is_the_same_id(ccl: Any) -> None:
    """The public C API carries it in an array of 128 bytes."""
    identity, handle = UniqueId(), ctypes.c_void_p()
    ccl.unique_id(ctypes.byref(identity))
    assert 0 < identity.size <= 128
    identity.size = 128
    ccl.init_rank(1, 0, ctypes.byref(identity), ctypes.byref(handle))
    all_reduce(ccl, handle)
    ccl.destroy(handle)
