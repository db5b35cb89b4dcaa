# Running on the CPU what a backend has no kernel for: the user's choice, counted, and reported once each.
# `_dispatch` does the running; this file keeps the choice and the counts.
"""The choice to run operators without a kernel on the CPU."""

from __future__ import annotations

import os
from contextvars import ContextVar, Token

from infinicore.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

__all__ = ["fallback", "fallback_counts"]

# One choice for the process, and one for a context (a thread, a task) that overrides it inside `with`.
_process: str | None = os.environ.get("INFINICORE_FALLBACK") or None
_scope: ContextVar[tuple[str | None] | None] = ContextVar("infinicore.fallback", default=None)
_counts: dict[tuple[str, str], int] = {}


def _checked(device: Any, where: str) -> str | None:
    if device is None or getattr(device, "type", device) == "cpu":
        return None if device is None else "cpu"
    raise InvalidArgument(f'{where}: operators can fall back to "cpu" only, not to {device!r}')


def fallback_device() -> str | None:
    """Return where operators without a kernel may run now: "cpu" or None."""
    scoped = _scope.get()
    return scoped[0] if scoped is not None else _checked(_process, "INFINICORE_FALLBACK")


class fallback:
    """Let operators that a backend has no kernel for run on the CPU, on copies; see `fallback_counts`.

    ``infinicore.fallback("cpu")`` holds for the process from then on, ``infinicore.fallback(None)`` ends it;
    ``with infinicore.fallback("cpu"):`` holds inside the block, for the thread that runs it.

    Parameters
    ----------
    device : "cpu" or None

    Examples
    --------
    >>> import infinicore as ic
    >>> with ic.fallback("cpu"):
    ...     pass  # a backend without a kernel lets the CPU compute here
    """

    def __init__(self, device: Any) -> None:
        global _process
        self._device = _checked(device, "fallback")
        self._before = _process
        self._tokens: list[Token[tuple[str | None] | None]] = []
        _process = self._device

    def __enter__(self) -> fallback:
        global _process
        if not self._tokens:
            _process = self._before  # the choice was meant for the block only
        self._tokens.append(_scope.set((self._device,)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _scope.reset(self._tokens.pop())


def note_fallback(operator: str, backend: str, what: str) -> None:
    """Count one call of `operator` that ran without a kernel of `backend`; log the first of each."""
    key = (operator, backend)
    count = _counts.get(key, 0)
    _counts[key] = count + 1
    if count == 0:
        import logging

        logging.getLogger("infinicore").warning("%s has no kernel on %s: %s", operator, backend, what)


def fallback_counts() -> dict[tuple[str, str], int]:
    """How often operators ran without a kernel of their backend.

    Returns
    -------
    dict of (str, str) to int
        ``(operator, backend)`` to calls. On ``"cpu"`` the NumPy body ran, otherwise the operator on the CPU.

    Examples
    --------
    >>> import infinicore as ic
    >>> isinstance(ic.fallback_counts(), dict)
    True
    """
    return dict(_counts)
