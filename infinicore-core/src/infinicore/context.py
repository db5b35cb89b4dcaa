# What is current: the device and stream of this thread, and graph recording on it.
"""The current device and stream, and recording.

Examples
--------
>>> import infinicore as ic
>>> ic.context.set_device("cpu")
>>> ic.context.get_device(), ic.context.get_device_count("cpu")
(device(type='cpu', index=0), 1)
"""

from __future__ import annotations

from infinicore._device import (
    current_device,
    current_stream_handle,
    device_count,
    set_device,
    synchronize,
    synchronize_stream,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from infinicore import device
    from infinicore.graph import Graph

__all__ = [
    "get_device",
    "get_device_count",
    "get_stream",
    "is_graph_recording",
    "set_device",
    "start_graph_recording",
    "stop_graph_recording",
    "sync_device",
    "sync_stream",
]


def get_device() -> device:
    """Return the device that is current on this thread.

    Returns
    -------
    device
        What `set_device` chose on this thread, else ``INFINICORE_DEVICE``, else ``cpu:0``.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.get_device().type in list(ic.backends)
    True
    """
    return current_device()


def get_device_count(device: str | device = "cpu") -> int:
    """Count the devices of a backend.

    Parameters
    ----------
    device : str or device, optional
        Name of a backend, such as ``"cuda"``.

    Returns
    -------
    int
        0 when the backend is not installed or cannot be used; ``infinicore.backends`` says why.

    Raises
    ------
    infinicore.UnknownDevice
        No backend has this name.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.get_device_count("cpu")
    1
    """
    return device_count(device)


def get_stream() -> int:
    """Return the handle of this thread's stream on the current device; 0 is the default stream.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.set_device("cpu")
    >>> ic.get_stream()
    0
    """
    return current_stream_handle()


def sync_device() -> None:
    """Wait for everything on the current device.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.sync_device()
    """
    synchronize()


def sync_stream() -> None:
    """Wait for everything on this thread's stream on the current device.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.sync_stream()
    """
    synchronize_stream()


# Graphs are loaded when somebody uses one.


def is_graph_recording() -> bool:
    """Tell whether this thread records a graph.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.is_graph_recording()
    False
    """
    from infinicore._graph import is_graph_recording

    return is_graph_recording()


def start_graph_recording(device: str | device | None = None) -> None:
    """Record what this thread asks of a device from here on, instead of running it.

    Parameters
    ----------
    device : str or device, optional
        By default the current device.

    Examples
    --------
    >>> import infinicore as ic
    >>> a, b = (ic.ones((2,), dtype=ic.float32, device="cpu") for _ in range(2))
    >>> ic.start_graph_recording("cpu")
    >>> _ = ic.add(a, a, out=b)
    >>> graph = ic.stop_graph_recording()
    >>> _ = a.fill_(3)
    >>> graph.run()
    >>> b.tolist()
    [6.0, 6.0]
    """
    from infinicore.graph import start_graph_recording

    start_graph_recording(device)


def stop_graph_recording() -> Graph:
    """End the recording that `start_graph_recording` began on this thread.

    Returns
    -------
    Graph
        What was recorded; its ``run()`` runs it.

    Raises
    ------
    RuntimeError
        Nothing is being recorded on this thread.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.start_graph_recording("cpu")
    >>> isinstance(ic.stop_graph_recording(), ic.Graph)
    True
    """
    from infinicore.graph import stop_graph_recording

    return stop_graph_recording()
