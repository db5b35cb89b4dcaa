# Status codes of the plug-in ABI: the thread's error message, and the one place that turns a code into
# an exception.
"""Status codes and the thread's last error message."""

from libc.stdint cimport int32_t
from infinicore.abi cimport *

from infinicore import errors

cdef extern from * nogil:
    """
    #include <string.h>

    /* One message per thread, in static thread storage: storing one allocates nothing, so it works
     * when memory is what ran out. */
    enum { INFINICORE_MESSAGE_BYTES = 4096 };
    static _Thread_local char infinicore_message[INFINICORE_MESSAGE_BYTES];
    static _Thread_local int32_t infinicore_message_code;

    static void infinicore_store_message(int32_t code, const char *text) {
      size_t size = text ? strlen(text) : 0;
      if (size >= INFINICORE_MESSAGE_BYTES) {
        /* Cut before the first byte of the character that no longer fits (UTF-8 continuation
         * bytes are 10xxxxxx), and leave room for the mark of the cut. */
        size = INFINICORE_MESSAGE_BYTES - sizeof "...";
        while (size > 0 && ((unsigned char)text[size] & 0xC0) == 0x80) --size;
        memmove(infinicore_message, text, size);
        memcpy(infinicore_message + size, "...", sizeof "...");
      } else {
        if (size) memmove(infinicore_message, text, size); /* text may be the stored message itself */
        infinicore_message[size] = 0;
      }
      infinicore_message_code = code;
    }
    """
    const char *infinicore_message
    int32_t infinicore_message_code
    void infinicore_store_message(int32_t code, const char *text)


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


cdef infiniStatus_t fail(infiniStatus_t code, const char *message) noexcept nogil:
    infinicore_store_message(<int32_t>code, message)
    return code


cdef const char *last_message() noexcept nogil:
    return infinicore_message


cdef str take_message(infiniStatus_t status):
    """The message stored for `status` on this thread ("" if there is none), which is then forgotten."""
    # A message of another code is left over from a failure that nobody turned into an exception.
    cdef str text = ""
    if infinicore_message_code == <int32_t>status:
        text = infinicore_message.decode("utf-8", "replace")
    infinicore_store_message(0, NULL)
    return text


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
