# Status codes of the plug-in ABI: the thread's error message, which libinfinirt keeps, and the one place that
# turns a code into an exception.
"""Status codes and the thread's last error message."""

from cpython.exc cimport PyErr_Occurred
from libc.stdint cimport int32_t
from infinicore.abi cimport *
from infinicore.registry cimport infini_registry_api

from infinicore import errors

cdef const infini_registry_api *_registry = NULL


# Code -> (exception, what to say when the plug-in stored no message of its own).
cdef dict _EXCEPTIONS = {
    <int>INFINI_STATUS_INTERNAL_ERROR: (errors.InternalError, "internal error"),
    <int>INFINI_STATUS_NOT_IMPLEMENTED: (errors.OperatorNotSupported, "not implemented"),
    <int>INFINI_STATUS_BAD_PARAM: (errors.InvalidArgument, "bad parameter"),
    <int>INFINI_STATUS_NULL_POINTER: (errors.InvalidArgument, "a required pointer is NULL"),
    <int>INFINI_STATUS_DEVICE_TYPE_NOT_SUPPORTED: (errors.UnknownDevice, "device type not supported"),
    <int>INFINI_STATUS_DEVICE_NOT_FOUND: (errors.DeviceNotFound, "device not found"),
    <int>INFINI_STATUS_DEVICE_NOT_INITIALIZED: (errors.BackendError, "device not initialized"),
    <int>INFINI_STATUS_DEVICE_ARCHITECTURE_NOT_SUPPORTED:
        (errors.OperatorNotSupported, "device architecture not supported"),
    <int>INFINI_STATUS_BAD_TENSOR_DTYPE: (errors.DTypeError, "element type not supported"),
    <int>INFINI_STATUS_BAD_TENSOR_SHAPE: (errors.ShapeError, "shape not supported"),
    <int>INFINI_STATUS_BAD_TENSOR_STRIDES: (errors.StrideError, "strides not supported"),
    <int>INFINI_STATUS_INSUFFICIENT_WORKSPACE: (errors.InvalidArgument, "workspace too small"),
    <int>INFINI_STATUS_OUT_OF_MEMORY: (errors.OutOfMemory, "out of memory"),
    <int>INFINI_STATUS_UNAVAILABLE: (errors.BackendUnavailable, "unavailable"),
    # Only an event query may answer this, and its caller handles it; anywhere else it is a defect.
    <int>INFINI_STATUS_NOT_READY: (errors.InternalError, "not ready, where that is no valid answer"),
    <int>INFINI_STATUS_TIMEOUT: (errors.Timeout, "timed out"),
    <int>INFINI_STATUS_PEER_FAILED: (errors.PeerFailed, "a peer failed"),
    <int>INFINI_STATUS_INDEX_OUT_OF_RANGE: (errors.OutOfRange, "index out of range"),
}


cdef void read_messages_of(const infini_registry_api *registry) noexcept:
    global _registry
    _registry = registry


cdef const char *last_message() noexcept nogil:
    if _registry == NULL:
        return ""
    return _registry.host.message()


cdef str take_message(infiniStatus_t status):
    """The message stored for `status` on this thread ("" if there is none), which is then forgotten."""
    # A message of another code is left over from a failure that nobody turned into an exception.
    if _registry == NULL:
        return ""
    return _registry.take_message(status).decode("utf-8", "replace")


cdef int check(infiniStatus_t status, object where=None) except -1:
    if status == INFINI_STATUS_SUCCESS:
        return 0
    cdef str text = take_message(status)
    cdef int code = <int>status
    known = _EXCEPTIONS.get(code)
    if known is None:
        exception = errors.InternalError
        text = f"status {code}, which this infinicore does not know" + (f": {text}" if text else "")
    else:
        exception, default = known
        text = text or default
    # A kernel's message may open with the operator's name already: C programs read it as it is.
    raise exception(text if where is None or text.startswith(f"{where}: ") else f"{where}: {text}")


# ---- Ctrl-C, for calls that wait for others --------------------------------------------------------------

cdef extern from *:
    """
    #include <sys/syscall.h>
    #include <unistd.h>
    /* Whether this thread is inside a call of ours: what ctypes calls must not leave an exception behind. */
    static __thread int infini_waiting = 0;
    static void infini_wait(int begins) { infini_waiting = begins; }
    /* Only the first thread runs handlers of signals; others may outlive the interpreter and its GIL. */
    static int infini_handles_signals(void) { return infini_waiting && syscall(SYS_gettid) == getpid(); }
    """
    void set_waiting "infini_wait"(int)
    bint handles_signals "infini_handles_signals"() nogil

cdef extern from "Python.h":
    int raise_pending "PyErr_CheckSignals"() noexcept  # the exception stays set: settle() raises it


cdef int32_t interrupted() noexcept nogil:
    if not handles_signals():
        return 0
    with gil:
        return raise_pending() != 0


cdef void wait_begins() noexcept:
    set_waiting(True)


cdef int settle(infiniStatus_t status, object where) except -1:
    set_waiting(False)
    if PyErr_Occurred() != NULL or status != INFINI_STATUS_SUCCESS and raise_pending() != 0:
        return -1
    return check(status, where)
