# Streams and events: owners of the vendor's handles, and the current stream of a thread.
from libc.stdint cimport uint32_t
from infinicore.abi cimport infinirtEvent_t, infinirtStream_t
from infinicore._device cimport Context

# INFINICORE_LAUNCH_BLOCKING: every call then waits for its work, so that what goes wrong on a device is
# reported by the culprit.
cdef bint LAUNCH_BLOCKING

cdef class Stream:
    cdef Context context
    cdef infinirtStream_t raw       # NULL: the device's default stream
    cdef bint owned                 # goes back to the pool with this object

cdef class DeviceEvent:
    cdef Context context
    cdef infinirtEvent_t raw
    cdef readonly bint enable_timing
    cdef readonly bint blocking
    cdef readonly bint interprocess
    cdef readonly bint is_recorded

# A stream argument on `context`: None (this thread's current one), a Stream, or a raw handle as int.
# `where` names the caller in messages.
cdef infinirtStream_t stream_handle(object value, Context context, str where) except? NULL
