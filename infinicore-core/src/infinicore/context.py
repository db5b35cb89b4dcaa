# What is current: the device and stream of this thread, and graph recording on it.
"""The current device and stream, and recording."""

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
    """
    return device_count(device)


def get_stream() -> int:
    """Return the handle of this thread's stream on the current device; 0 is the default stream."""
    return current_stream_handle()


def sync_device() -> None:
    """Wait for everything on the current device."""
    synchronize()


def sync_stream() -> None:
    """Wait for everything on this thread's stream on the current device."""
    synchronize_stream()


# Graphs are loaded when somebody uses one.


def is_graph_recording() -> bool:
    """Tell whether this thread records a graph."""
    from infinicore._graph import is_graph_recording

    return is_graph_recording()


def start_graph_recording(device: str | device | None = None) -> None:
    """Record what this thread asks of a device from here on, instead of running it.

    Parameters
    ----------
    device : str or device, optional
        By default the current device.
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
    """
    from infinicore.graph import stop_graph_recording

    return stop_graph_recording()
