# A tensor that a module owns as a weight: assigning one to an attribute of a module registers it there.
# It is a handle of its own, so a module that moves to another device keeps its Parameter objects.
"""Parameters."""

from __future__ import annotations

from typing import Any, NoReturn, SupportsIndex

from infinicore._tensor import Tensor
from infinicore.errors import InvalidArgument

__all__ = ["Parameter"]


class Parameter(Tensor):
    """A tensor that :class:`infinicore.nn.Module` registers when it becomes an attribute.

    Parameters
    ----------
    data : Tensor
        The values; their memory is shared, not copied.

    Raises
    ------
    InvalidArgument
        If `data` is no tensor; a copy or a pickle of a parameter is asked for (use `clone`, or the state
        dict of its module).

    Examples
    --------
    >>> import infinicore as ic
    >>> weight = ic.nn.Parameter(ic.ones((2,), dtype=ic.float32, device="cpu"))
    >>> isinstance(weight, ic.Tensor), (weight + 1).tolist()
    (True, [2.0, 2.0])
    """

    __slots__ = ()

    def __init__(self, data: Tensor) -> None:
        if not isinstance(data, Tensor):
            raise InvalidArgument(
                f"Parameter: data: expected an infinicore.Tensor, got {type(data).__name__} {data!r}"
            )
        super().__init__(data)

    @property
    def data(self) -> Tensor:
        """A plain tensor over the same memory; assigning a tensor makes the parameter share its memory."""
        return Tensor(self)

    @data.setter
    def data(self, value: Tensor) -> None:
        Tensor.__init__(self, value)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{Tensor(self)!r}"

    def __deepcopy__(self, memo: Any) -> NoReturn:
        raise InvalidArgument("Parameter: deepcopy: not supported! Copy its values with clone()")

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise InvalidArgument("Parameter: copy and pickle: not supported! Save the state dict of its module")
