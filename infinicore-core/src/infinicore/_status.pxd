# Status codes of the ABI and the one place that turns them into exceptions.
from infinicore.abi cimport infiniStatus_t

# Raise the exception that matches `status`, with this thread's stored message, prefixed by `where`
# (an operator or runtime function name; may be None). SUCCESS returns 0. Needs the GIL.
cdef int check(infiniStatus_t status, object where=*) except -1

# Host service: store `message` (copied) for this thread, return `code`.
cdef infiniStatus_t fail(infiniStatus_t code, const char *message) noexcept nogil

# This thread's message; valid until the next fail() on it.
cdef const char *last_message() noexcept nogil

# This thread's message if it belongs to `status` (else ""), cleared.
cdef str take_message(infiniStatus_t status)
