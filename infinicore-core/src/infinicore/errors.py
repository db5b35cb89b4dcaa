# Every exception infinicore raises. One root, and each class is also the built-in exception that a
# caller who has never heard of infinicore would catch (ValueError, TypeError, MemoryError, ...).
"""Exceptions of infinicore: one hierarchy, rooted at `Error`."""

from __future__ import annotations

__all__ = [
    "ArgumentTypeError",
    "BackendError",
    "BackendUnavailable",
    "DTypeError",
    "DeviceMismatch",
    "DeviceNotFound",
    "Error",
    "ExchangeError",
    "InternalError",
    "InvalidArgument",
    "OperatorNotSupported",
    "OutOfMemory",
    "OutOfRange",
    "PeerFailed",
    "ShapeError",
    "StrideError",
    "Timeout",
    "UnknownDevice",
]


class Error(RuntimeError):
    """Root of every exception that infinicore raises."""


class InvalidArgument(Error, ValueError):
    """An argument has the right type and an impossible value."""


class ShapeError(InvalidArgument):
    """Shapes do not fit the operator's signature or the view that was asked for."""


class StrideError(InvalidArgument):
    """A tensor is laid out in a way that this operation cannot take."""


class DTypeError(Error, TypeError):
    """A tensor has an element type that this operation cannot take."""


class ArgumentTypeError(Error, TypeError):
    """An argument is an object of the wrong type, is missing, or is one too many."""


class DeviceMismatch(InvalidArgument):
    """Operands live on different devices."""


class OutOfRange(Error, IndexError):
    """An index points outside the dimension it indexes."""


class ExchangeError(Error, BufferError):
    """Memory cannot be handed to, or taken from, another library in the way it asked for."""


class OutOfMemory(Error, MemoryError):
    """A device, or the host, has no memory left for the request."""


class BackendError(Error):
    """Something about a backend or a device, rather than about an argument."""


class BackendUnavailable(BackendError):
    """The backend cannot be used in this process; the message says why."""


class DeviceNotFound(BackendError):
    """The backend is there, a device with this index is not."""


class UnknownDevice(BackendError, ValueError):
    """A device string names no backend that is present."""


class OperatorNotSupported(Error, NotImplementedError):
    """A backend has no kernel for this operator, or not for this combination of types and layouts."""


class Timeout(Error, TimeoutError):
    """A device or a peer did not answer in time."""


class PeerFailed(Error, ConnectionError):
    """Another rank of a collective died; the message says which."""


class InternalError(Error):
    """A defect in infinicore or in a plug-in. Please report it."""
