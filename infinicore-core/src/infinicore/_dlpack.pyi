# DLPack: lending tensors to other libraries and borrowing theirs.
from typing import Any, Protocol

from typing_extensions import CapsuleType, disjoint_base

from infinicore._device import _AnyDevice
from infinicore._tensor import Tensor

class _SupportsDLPack(Protocol):
    # What the array API asks of an array.
    def __dlpack__(self, *, stream: Any = ...) -> CapsuleType: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...

@disjoint_base
class Loan: ...

def export(
    tensor: Tensor,
    stream: int | None,
    max_version: tuple[int, int] | None,
    dl_device: tuple[int, int] | None,
    copy: bool | None,
) -> CapsuleType: ...
def from_dlpack(
    x: _SupportsDLPack | CapsuleType, *, device: _AnyDevice | None = None, copy: bool | None = None
) -> Tensor: ...
