# Status codes of the ABI and the one place that turns them into exceptions.
from libc.stdint cimport int32_t
from infinicore.abi cimport infiniStatus_t
from infinicore.registry cimport infini_registry_api

# Raise the exception that matches `status`, with this thread's stored message, prefixed by `where`
# (an operator or runtime function name; may be None). SUCCESS returns 0. Needs the GIL.
cdef int check(infiniStatus_t status, object where=*) except -1

# Where messages are from now on: libinfinirt.so, which plug-ins, the C API and Python share.
cdef void read_messages_of(const infini_registry_api *registry) noexcept

# This thread's message; valid until the next failure on it.
cdef const char *last_message() noexcept nogil

# This thread's message if it belongs to `status` (else ""), once.
cdef str take_message(infiniStatus_t status)

# Around a call that may wait for others: wait_begins() before it, settle() for check() after it. In between,
# a plug-in that asks host->interrupted runs the handlers of signals, and settle() raises what they raised.
cdef void wait_begins() noexcept
cdef int settle(infiniStatus_t status, object where) except -1

# The host's service: 1 where a handler raised, as that of Ctrl-C does.
cdef int32_t interrupted() noexcept nogil
