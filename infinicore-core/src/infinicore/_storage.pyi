# Allocations and the caching allocator.
from typing import Any, NoReturn, TypedDict, final

from infinicore._device import Context, _AnyDevice

class _MemoryStats(TypedDict):
    allocated: int
    allocated_peak: int
    reserved: int
    reserved_peak: int
    live: int
    allocations: int
    frees: int
    segment_allocations: int
    segment_frees: int
    retries: int
    pending: int

@final
class Allocator:
    def __init__(self, *args: Any, **kwargs: Any) -> NoReturn: ...  # made by contexts
    def statistics(self) -> _MemoryStats: ...
    def empty(self) -> int: ...
    def reset_peak(self) -> None: ...

@final
class Storage:
    def __init__(self, *args: Any, **kwargs: Any) -> NoReturn: ...  # made by tensors
    @property
    def bytes(self) -> int: ...
    @property
    def context(self) -> Context: ...
    @property
    def pinned(self) -> bool: ...

def memory_stats(device: _AnyDevice | None = None, *, pinned: bool = False) -> _MemoryStats: ...
def reset_peak_memory_stats(device: _AnyDevice | None = None) -> None: ...
def empty_cache(device: _AnyDevice | None = None) -> int: ...
