# Communicator: one rank of a group of devices, over the collectives table of its backend.
from libc.stdint cimport int64_t, uint64_t
from infinicore.abi cimport infini_ccl, infinicclComm_t, infiniStatus_t, infinirtStream_t
from infinicore._device cimport Context
from infinicore._tensor cimport Layout, Tensor

cdef enum:
    MAX_RANKS = 1024

cdef class Communicator:
    cdef Context context
    cdef const infini_ccl *ccl
    cdef infinicclComm_t raw          # NULL: destroyed
    cdef readonly int rank
    cdef readonly int size
    # A tensor argument: `value` must be a tensor of our device.
    cdef Tensor operand(self, object value, str function, str argument)
    # `out` if it is given, which must be like `expected`; else `otherwise`, or a new tensor if that is None.
    cdef Tensor output(self, object out, Layout expected, Tensor otherwise, str function)
    # The share of every rank of the first axis, if they divide it evenly.
    cdef int64_t even(self, Tensor given, str function) except -1
    # The counts of all ranks in elements; returns their sum in rows of `given`.
    cdef int64_t shares(self, object counts, Tensor given, str function, uint64_t *elements) except -1
    # Make the device current and return the stream to queue on; raises if that is impossible.
    cdef infinirtStream_t ready(self, str function, bint offered) except? NULL
    # Keep tensors that a call uses until its stream is past it; copy what it received into `result`.
    cdef Tensor finish(self, str function, infiniStatus_t status, infinirtStream_t stream,
                       Tensor send, Tensor receive, Tensor result)
