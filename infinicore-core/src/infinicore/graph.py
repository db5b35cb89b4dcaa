# Graphs for users: record what a thread asks of a device once, run it many times.
# The work is in `_graph`; this file gives it the names that programs know.
"""Record operators once and run them many times with one call."""

from __future__ import annotations

from infinicore import _graph
from infinicore._graph import is_graph_recording
from infinicore.errors import ArgumentTypeError, Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from infinicore import Stream, device

__all__ = ["Graph", "graph", "is_graph_recording", "start_graph_recording", "stop_graph_recording"]


class Graph:
    """Recorded calls, ready to run again on the memory they were recorded with.

    Tensors that the calls use stay alive with the graph, temporaries made while recording included. Plain
    scalars keep their recorded values; what changes from run to run is what the tensors contain.

    Parameters
    ----------
    graph : _infinicore.Graph
        The native graph, as recording makes it.

    Raises
    ------
    TypeError
        `graph` is something else.

    Examples
    --------
    >>> import infinicore as ic
    >>> x, y = (ic.ones((2,), dtype=ic.float32, device="cpu") for _ in range(2))
    >>> ic.start_graph_recording("cpu")
    >>> _ = ic.add(x, x, out=y)
    >>> step = ic.stop_graph_recording()
    >>> len(step), step.device
    (1, device(type='cpu', index=0))
    >>> step.run()
    >>> y.tolist()
    [2.0, 2.0]
    """

    def __init__(self, graph: _graph.Graph) -> None:
        if not isinstance(graph, _graph.Graph):
            raise ArgumentTypeError(f"Expected _infinicore.Graph, got {type(graph).__name__}")
        self._graph = graph

    @property
    def device(self) -> device:
        """The device it was recorded on."""
        return self._graph.device

    @property
    def captured(self) -> bool:
        """Whether the backend's own capture replays it, rather than core's loop."""
        return self._graph.captured

    def __len__(self) -> int:
        """How many calls core recorded; 0 where the backend captured them."""
        return len(self._graph)

    def run(self, stream: Stream | None = None) -> None:
        """Queue the recorded calls on `stream` (the current one by default) again.

        Makes no allocation and looks up no descriptor.
        """
        self._graph.run(stream)

    def update(self, other: Graph) -> None:
        """Run what `other` recorded from now on, instead of what this graph did.

        A backend that can changes its executable graph in place, which costs less than a new one; where it
        cannot, because the calls differ in more than their arguments, a new one is made. Runs that are queued
        already are not affected. `other` stays usable; the two share their memory, temporaries included.

        Parameters
        ----------
        other : Graph
            A graph that was recorded on the same device.

        Raises
        ------
        TypeError
            `other` is no graph.
        DeviceMismatch
            `other` was recorded on another device.

        Examples
        --------
        >>> import infinicore as ic
        >>> x = ic.full((2,), 3.0, dtype=ic.float32, device="cpu")
        >>> y = ic.empty((2,), dtype=ic.float32, device="cpu")
        >>> with ic.graph("cpu") as step:
        ...     _ = ic.add(x, x, out=y)
        >>> with ic.graph("cpu") as other:
        ...     _ = ic.mul(x, x, out=y)
        >>> step.update(other)
        >>> step.run()
        >>> y.tolist()
        [9.0, 9.0]
        """
        if not isinstance(other, Graph):
            raise ArgumentTypeError(
                f"Graph.update: other must be an infinicore.Graph, not {type(other).__name__}"
            )
        self._graph.update(other._graph)

    def __repr__(self) -> str:
        return repr(self._graph)


def start_graph_recording(device: device | str | None = None) -> None:
    """Record this thread's operators on a device instead of running them, until `stop_graph_recording`.

    Operators return tensors whose memory the graph will fill when it runs. Reading values on the host
    meanwhile raises; so does work on another device, and a second recording on the same thread.

    Parameters
    ----------
    device : device or str, optional
        The current device by default.
    """
    _graph.start_recording(device)


def stop_graph_recording() -> Graph:
    """End the recording of this thread.

    Returns
    -------
    Graph

    Raises
    ------
    Error
        This thread does not record, or the backend could not capture what was recorded.
    """
    return Graph(_graph.stop_recording())


class graph(Graph):
    """Record the body of a ``with`` block, whose operators do not run; afterwards this is the `Graph`.

    Parameters
    ----------
    device : device or str, optional
        The current device by default.

    Examples
    --------
    >>> import infinicore as ic
    >>> x = ic.ones((2, 2), dtype=ic.float32, device="cpu")
    >>> with ic.graph("cpu") as step:
    ...     y = ic.matmul(x, x)
    >>> _ = x.fill_(3)
    >>> step.run()
    >>> y.tolist()
    [[18.0, 18.0], [18.0, 18.0]]
    """

    # `infinicore.graph` is this class, and also the name of this module.
    Graph = Graph

    def __init__(self, device: device | str | None = None) -> None:
        self._on = device
        self._recorded: _graph.Graph | None = None

    @property
    def _graph(self) -> _graph.Graph:  # type: ignore[override]
        if self._recorded is None:
            raise Error("graph: nothing is recorded yet; use it after its with block")
        return self._recorded

    def __enter__(self) -> graph:
        _graph.start_recording(self._on)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._recorded = _graph.stop_recording()
        elif is_graph_recording():
            _graph.abort_recording()

    def __repr__(self) -> str:
        return "<infinicore graph: nothing recorded yet>" if self._recorded is None else repr(self._recorded)
