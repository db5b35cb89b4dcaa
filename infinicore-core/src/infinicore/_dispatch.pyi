# Operators as Python calls them, explicit descriptors, and the descriptor cache as users see it.
# An operator is generic in its call and in what that returns: `infinicore/ops/__init__.pyi` has them all.
from inspect import Signature
from typing import Any, Generic, NamedTuple, NoReturn, ParamSpec, TypeVar, final

from infinicore._device import _AnyDevice
from infinicore._device import device as _Device
from infinicore._fallback import fallback as fallback
from infinicore._fallback import fallback_counts as fallback_counts
from infinicore._stream import _AnyStream
from infinicore._tensor import Tensor
from infinicore.schema import Schema

__all__ = [
    "BoundDescriptor",
    "CacheInfo",
    "Operator",
    "cache_clear",
    "cache_info",
    "fallback",
    "fallback_counts",
    "set_cache_limit",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_R_co = TypeVar("_R_co", covariant=True)

@final
class Operator(Generic[_P, _R_co]):
    def __new__(cls, schema: Schema) -> Operator[..., Any]: ...
    @property
    def schema(self) -> Schema: ...
    @property
    def name(self) -> str: ...
    @property
    def __name__(self) -> str: ...
    @property
    def __qualname__(self) -> str: ...
    @property
    def __signature__(self) -> Signature: ...
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...
    def describe(self, *args: _P.args, **kwargs: _P.kwargs) -> BoundDescriptor[_P, _R_co]: ...

@final
class BoundDescriptor(Generic[_P, _R_co]):
    def __init__(self, *args: Any, **kwargs: Any) -> NoReturn: ...  # made by Operator.describe
    @property
    def operator(self) -> Operator[_P, _R_co]: ...
    @property
    def workspace_bytes(self) -> int: ...
    @property
    def device(self) -> _Device: ...
    def __call__(
        self, *args: Any, workspace: Tensor | None = None, stream: _AnyStream | None = None, **kwargs: Any
    ) -> _R_co: ...

class CacheInfo(NamedTuple):
    hits: int
    misses: int
    evictions: int
    size: int
    limit: int

def cache_info() -> CacheInfo: ...
def cache_clear(device: _AnyDevice | None = None) -> int: ...
def set_cache_limit(limit: int) -> int: ...
