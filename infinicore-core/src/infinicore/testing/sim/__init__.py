# The simulated accelerator: its plug-in records, and a way to keep one of its streams busy.
# Nothing here is loaded, and no wheel registers it, unless a test asks for it.
"""A simulated accelerator, to test with what only hardware shows otherwise.

Its device memory faults when the host touches it. Its streams are threads: what is not waited for has not
happened. Its events measure real time, its graphs are captured, its collectives join the devices of a
process, and its operators are the CPU backend's kernels on its own memory.

There are two of it, ``sim`` and ``sim2``, since several vendors in one process are to be tested. A program
calls `enable`; a wheel offers them with the entry points ``sim = infinicore.testing.sim:plugin`` and
``sim2 = infinicore.testing.sim:plugin2`` in the group ``infinicore.backends``.

===========================  ==========================================================
``INFINICORE_SIM_DEVICES``   devices of each vendor (2)
``INFINICORE_SIM_MEMORY``    bytes of memory of each device (4 GiB, used as it is touched)
``INFINICORE_SIM_TIMEOUT``   seconds that a collective waits for its ranks (30)
===========================  ==========================================================
"""

from __future__ import annotations

import atexit
import ctypes
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from infinicore.discovery import ENTRY_POINT_GROUP, Plugin

if TYPE_CHECKING:
    from types import TracebackType

    from infinicore import Stream

__all__ = ["enable", "hold", "plugin", "plugin2"]

plugin = Plugin("sim", "Simulated", "infinicore.testing.sim._backend")
plugin2 = Plugin("sim2", "Simulated 2", "infinicore.testing.sim.second")


@atexit.register
def _stop() -> None:
    """Bring the devices' threads to rest, if there are any, while all that they use is still there."""
    library = sys.modules.get(plugin.module)
    if library is not None:
        ctypes.CDLL(library.__file__).infinicore_sim_stop()


def enable() -> None:
    """Offer ``sim`` and ``sim2`` to this process, as an installed wheel would.

    Child processes do not inherit it. Where a wheel offers them already nothing changes.
    """
    import infinicore

    if plugin.name in infinicore.backends:
        return
    # Discovery reads metadata alone, so metadata is all that an installed wheel is.
    folder = tempfile.mkdtemp(prefix="infinicore-sim-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    metadata = Path(folder, f"infinicore_sim-{infinicore.__version__}.dist-info")
    metadata.mkdir()
    Path(metadata, "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: infinicore-sim\nVersion: {infinicore.__version__}\n"
    )
    Path(metadata, "entry_points.txt").write_text(
        f"[{ENTRY_POINT_GROUP}]\n{plugin.name} = {__name__}:plugin\n{plugin2.name} = {__name__}:plugin2\n"
    )
    sys.path.append(folder)
    infinicore.backends.refresh()


class hold:
    """Keep a stream of a simulated device busy until it is released.

    What is queued on the stream meanwhile does not run, so a test can tell whether a call really is
    asynchronous and whether something waited. It works through the plug-in tables alone: the stream stands at
    a barrier of two ranks, and to release it is to let the other rank arrive.

    Parameters
    ----------
    stream : Stream
        A stream of a simulated device; ``infinicore.current_stream(device)`` gives the default one.

    Examples
    --------
    >>> with hold(stream):
    ...     event = stream.record_event()
    ...     assert not event.query()
    >>> event.synchronize()
    """

    def __init__(self, stream: Stream) -> None:
        import infinicore
        from infinicore.testing.tables import Tables

        self._ccl = Tables.of(stream.device.type).ccl
        self._communicators = (ctypes.c_void_p * 2)()
        devices = (ctypes.c_int32 * 2)(stream.device.index, stream.device.index)
        self._ccl.init_all(2, devices, self._communicators)
        self._other = infinicore.Stream(stream.device)
        self._held = True
        self._ccl.barrier(ctypes.c_void_p(self._communicators[0]), ctypes.c_void_p(stream.handle))

    def release(self) -> None:
        """Let the stream go on; a second call does nothing."""
        if self._held:
            self._held = False
            self._ccl.barrier(ctypes.c_void_p(self._communicators[1]), ctypes.c_void_p(self._other.handle))
            self._other.synchronize()
            for communicator in self._communicators:
                self._ccl.destroy(ctypes.c_void_p(communicator))

    def __enter__(self) -> hold:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
