# Checks that plain Python functions over operators make of their arguments. Dispatch makes its own, in the
# same words, so that nobody sees which function is which.
"""Checks of arguments."""

from __future__ import annotations

from operator import index

from infinicore.errors import ArgumentTypeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["require_integers", "require_tensors"]


def require_tensors(operator: str, **arguments: Any) -> None:
    """Refuse what is no tensor, before a function looks at its shape.

    Parameters
    ----------
    operator : str
        What was called.
    **arguments : object
        The arguments by name.

    Raises
    ------
    ArgumentTypeError
        One is no `infinicore.Tensor`.
    """
    from infinicore import Tensor  # late: operators, which call this, are read before tensors exist

    for name, value in arguments.items():
        if not isinstance(value, Tensor):
            raise ArgumentTypeError(f"{operator}: {name} must be an infinicore.Tensor, not {_kind(value)}")


def require_integers(operator: str, **arguments: Any) -> None:
    """Refuse what is no integer; `require_tensors` says the rest."""
    for name, value in arguments.items():
        try:
            index(value)
        except TypeError:
            raise ArgumentTypeError(
                f"{operator}: {name} must be an int, got {value!r} ({type(value).__name__})"
            ) from None


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
