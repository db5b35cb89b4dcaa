# The caching allocator (two-level size classes, merging neighbours, one pool per stream) and Storage,
# the object that owns one allocation. Block headers live on the host: device memory is never touched.
cimport cython
from libc.stdint cimport uintptr_t
from libc.stdlib cimport calloc, free, malloc
from infinicore._device cimport as_device, current_context, current_stream
from infinicore._status cimport check
from infinicore.abi cimport *

import os

from infinicore._device import _captures
from infinicore.errors import BackendError, InvalidArgument, OutOfMemory

cdef extern from *:
    """
    static inline int infini_log2(uint64_t value) { return 63 - __builtin_clzll(value); }
    static inline int infini_lowest(uint64_t value) { return __builtin_ctzll(value); }
    """
    int infini_log2(uint64_t value) noexcept nogil
    int infini_lowest(uint64_t value) noexcept nogil

cdef enum:
    IN_USE = 0
    IN_QUICK = 1
    IN_CLASS = 2

cdef uint64_t MIB = 1 << 20
cdef uint64_t LARGE = MIB                 # requests above it come from the large pools
cdef uint64_t SMALL_SEGMENT = 2 * MIB
cdef uint64_t MEDIUM_SEGMENT = 20 * MIB   # shared by large requests below 10 MiB
cdef uint64_t LARGEST = <uint64_t>1 << 56

cdef list _allocators = []                # all of them: for a forked child and for reports


# ---- one pool: two-level segregated free lists -------------------------------------------------------

cdef inline void class_of(uint64_t size, int *power, int *fine) noexcept nogil:
    """The class that holds free blocks of `size` granules."""
    cdef int log
    if size < FINE:
        power[0] = 0
        fine[0] = <int>size
    else:
        log = infini_log2(size)
        power[0] = log - 3
        fine[0] = <int>((size >> (log - 4)) & (FINE - 1))


cdef inline void link(Pool *pool, Block *block) noexcept nogil:
    cdef int power, fine
    class_of(block.size, &power, &fine)
    block.prev = NULL
    block.next = pool.classes[power][fine]
    if block.next != NULL:
        block.next.prev = block
    pool.classes[power][fine] = block
    pool.powers |= <uint64_t>1 << power
    pool.fine[power] |= <uint32_t>1 << fine
    block.state = IN_CLASS


cdef inline void unlink(Pool *pool, Block *block) noexcept nogil:
    cdef int power, fine
    class_of(block.size, &power, &fine)
    if block.prev != NULL:
        block.prev.next = block.next
    else:
        pool.classes[power][fine] = block.next
    if block.next != NULL:
        block.next.prev = block.prev
    if pool.classes[power][fine] == NULL:
        pool.fine[power] &= ~(<uint32_t>1 << fine)
        if pool.fine[power] == 0:
            pool.powers &= ~(<uint64_t>1 << power)


cdef Block *find(Pool *pool, uint64_t size) noexcept nogil:
    """A free block of at least `size` granules, or NULL: the class of `size` is searched a few steps,
    every higher class fits without looking."""
    cdef int power, fine, steps = 0
    cdef uint64_t powers
    cdef uint32_t mask
    cdef Block *block
    class_of(size, &power, &fine)
    block = pool.classes[power][fine]
    while block != NULL and steps < 16:
        if block.size >= size:
            return block
        block = block.next
        steps += 1
    mask = pool.fine[power] & ~((<uint32_t>2 << fine) - 1)
    if mask == 0:
        powers = pool.powers & ~((<uint64_t>2 << power) - 1)
        if powers == 0:
            return NULL
        power = infini_lowest(powers)
        mask = pool.fine[power]
    return pool.classes[power][infini_lowest(mask)]


cdef Block *carve(Pool *pool, Block *block, uint64_t size, uint64_t smallest) noexcept nogil:
    """Take a block out of its list and give back what it has beyond `size`, if that is worth a block."""
    cdef Block *rest
    unlink(pool, block)
    block.state = IN_USE
    if block.size - size >= smallest:
        rest = <Block *>malloc(sizeof(Block))
        if rest != NULL:                  # without a header the block is simply handed out whole
            rest.segment = block.segment
            rest.size = block.size - size
            rest.data = NULL              # set by the caller, who knows the granule
            rest.before = block
            rest.after = block.after
            if rest.after != NULL:
                rest.after.before = rest
            block.after = rest
            block.size = size
    return block


cdef void merge(Pool *pool, Block *block) noexcept nogil:
    """Join a block with its free neighbours and list the result."""
    cdef Block *other = block.after
    if other != NULL and other.state == IN_CLASS:
        unlink(pool, other)
        block.size += other.size
        block.after = other.after
        if block.after != NULL:
            block.after.before = block
        free(other)
    other = block.before
    if other != NULL and other.state == IN_CLASS:
        unlink(pool, other)
        other.size += block.size
        other.after = block.after
        if other.after != NULL:
            other.after.before = other
        free(block)
        block = other
    link(pool, block)


cdef void flush(Pool *pool) noexcept nogil:
    """Turn the quick lists into mergeable free blocks."""
    cdef Block *block
    cdef Block *following
    cdef int size
    for size in range(QUICK):
        block = pool.quick[size]
        pool.quick[size] = NULL
        while block != NULL:
            following = block.next
            merge(pool, block)
            block = following


# ---- the allocator -----------------------------------------------------------------------------------

@cython.final
cdef class Allocator:
    """The caching allocator of one device, or of the pinned host memory of its backend."""

    def __cinit__(self, Context context, bint pinned=False):
        cdef uint64_t free_bytes = 0, total = 0
        self.context = context
        self.pinned = pinned
        self.pending = []
        # The ABI promises 64 bytes; devices like their coalesced 512.
        self.shift = 6 if context.host_memory or pinned else 9
        self.cache_limit = LARGEST
        if context.host_memory and not pinned:
            # A device's memory is ours to keep; the host's is shared with every other program.
            context.activate()
            with nogil:
                context.runtime.memory_info(&free_bytes, &total)
            self.cache_limit = max(total // 8, 256 * MIB)
        _allocators.append(self)

    def __init__(self, *args, **kwargs):
        pass

    cdef Pool *pool(self, infinirtStream_t stream, bint large) except NULL:
        cdef Pool *pool = self.pools
        while pool != NULL:
            if pool.stream == stream and pool.large == large:
                return pool
            pool = pool.next
        infini_lock(&self.mutex)
        pool = self.pools
        while pool != NULL and not (pool.large == large and pool.stream == stream):
            pool = pool.next          # another thread may just have made it
        if pool == NULL:
            pool = <Pool *>calloc(1, sizeof(Pool))
            if pool != NULL:
                pool.stream = stream
                pool.large = large
                pool.next = self.pools
                self.pools = pool
        infini_unlock(&self.mutex)
        if pool == NULL:
            raise OutOfMemory("allocator: no host memory for its own tables")
        return pool

    cdef Storage take(self, uint64_t bytes, infinirtStream_t stream):
        cdef uint64_t size = (bytes + (<uint64_t>1 << self.shift) - 1) >> self.shift
        cdef bint large = bytes > LARGE
        cdef Pool *pool = self.pools
        cdef Block *block
        cdef Storage storage
        if bytes > LARGEST:
            raise self.exhausted(bytes, bytes)
        if size == 0:
            size = 1                      # an empty tensor still has an address of its own
        if pool == NULL or pool.stream != stream or pool.large != large:
            pool = self.pool(stream, large)
        infini_lock(&self.mutex)
        if size < QUICK and pool.quick[size] != NULL:
            block = pool.quick[size]
            pool.quick[size] = block.next
            block.state = IN_USE
        else:
            block = self.cut(pool, size)
        if block == NULL:
            infini_unlock(&self.mutex)
            block = self.grow(pool, size << self.shift, bytes)
            infini_lock(&self.mutex)
        self.allocated += block.size << self.shift
        if self.allocated > self.allocated_peak:
            self.allocated_peak = self.allocated
        self.allocations += 1
        self.live += 1
        infini_unlock(&self.mutex)
        storage = Storage.__new__(Storage)
        storage.data = block.data
        storage.bytes = bytes
        storage.context = self.context
        storage.pinned = self.pinned
        storage.stream = stream
        storage.allocator = self
        storage.block = block
        return storage

    cdef Block *cut(self, Pool *pool, uint64_t size) noexcept nogil:
        """A block of `size` granules from the pool's size classes, or NULL. The lock is held."""
        cdef Block *block = find(pool, size)
        if block == NULL:
            return NULL
        block = carve(pool, block, size, MIB >> self.shift if pool.large else 1)
        if block.after != NULL and block.after.data == NULL:
            block.after.data = block.data + (block.size << self.shift)
            link(pool, block.after)
        return block

    cdef Block *grow(self, Pool *pool, uint64_t bytes, uint64_t requested) except NULL:
        """A block when the free lists have none: reclaim, then ask the runtime, then reclaim harder."""
        cdef uint64_t size = bytes >> self.shift, want
        cdef infiniStatus_t status
        cdef void *data = NULL
        cdef Segment *segment
        cdef Block *block
        cdef int attempt
        cdef const infini_runtime *runtime = self.context.runtime
        if self.abandoned:
            raise BackendError(f"{self.context.device}: was in use before this process was forked and "
                               "cannot be used in the child; start it with the 'spawn' method")
        self.settle(False)
        infini_lock(&self.mutex)
        block = self.cut(pool, size)
        if block == NULL:
            flush(pool)
            block = self.cut(pool, size)
        infini_unlock(&self.mutex)
        if block != NULL:
            return block
        if not pool.large:
            want = SMALL_SEGMENT
        elif bytes < MEDIUM_SEGMENT // 2:
            want = MEDIUM_SEGMENT
        else:
            want = (bytes + SMALL_SEGMENT - 1) // SMALL_SEGMENT * SMALL_SEGMENT
        self.context.activate()
        for attempt in range(3):
            with nogil:
                if self.pinned:
                    status = runtime.malloc_host(want, &data)
                else:
                    status = runtime.malloc_device(want, &data)
            if status == INFINI_STATUS_SUCCESS:
                break
            if status != INFINI_STATUS_OUT_OF_MEMORY:
                check(status, "malloc_host" if self.pinned else "malloc_device")
            if attempt == 0:
                self.retries += 1
                self.settle(True)
                self.trim()
            else:                         # perhaps the exact size still fits
                want = (bytes + 4095) // 4096 * 4096
        if status != INFINI_STATUS_SUCCESS:
            raise self.exhausted(requested, want)
        segment = <Segment *>malloc(sizeof(Segment))
        block = <Block *>malloc(sizeof(Block))
        if segment == NULL or block == NULL:
            free(segment)
            free(block)
            raise OutOfMemory("allocator: no host memory for its own tables")
        segment.data = <char *>data
        segment.bytes = want
        segment.pool = pool
        segment.first = block
        block.data = segment.data
        block.size = want >> self.shift
        block.segment = segment
        block.before = NULL
        block.after = NULL
        infini_lock(&self.mutex)
        segment.next = pool.segments
        pool.segments = segment
        self.reserved += want
        if self.reserved > self.reserved_peak:
            self.reserved_peak = self.reserved
        self.segment_allocations += 1
        link(pool, block)
        block = carve(pool, block, size, MIB >> self.shift if pool.large else 1)
        if block.after != NULL:
            block.after.data = block.data + (block.size << self.shift)
            link(pool, block.after)
        infini_unlock(&self.mutex)
        return block

    cdef void give(self, Block *block) noexcept:
        """Return a block. Work still queued on its own stream is ordered before any reuse."""
        cdef Pool *pool = block.segment.pool
        infini_lock(&self.mutex)
        self.allocated -= block.size << self.shift
        self.frees += 1
        self.live -= 1
        if block.size < QUICK:
            block.next = pool.quick[block.size]
            pool.quick[block.size] = block
            block.state = IN_QUICK
        else:
            merge(pool, block)
        infini_unlock(&self.mutex)

    cdef void give_after(self, Block *block, list streams):
        """Return a block once the work now queued on `streams` is done."""
        cdef infinirtEvent_t event
        cdef infinirtStream_t stream
        cdef const infini_runtime *runtime = self.context.runtime
        if self.abandoned or not self.context.backend.ready:
            return                        # nobody will use that memory again
        events = []
        self.context.activate()
        for address in streams:
            stream = <infinirtStream_t><uintptr_t>address
            event = NULL
            with nogil:
                status = runtime.event_create(INFINIRT_EVENT_DISABLE_TIMING, &event)
                if status == INFINI_STATUS_SUCCESS:
                    status = runtime.event_record(event, stream)
            if event != NULL:
                events.append(<uintptr_t>event)
            if status != INFINI_STATUS_SUCCESS:  # a foreign stream that was destroyed meanwhile, say
                with nogil:
                    status = runtime.synchronize()
                check(status, "synchronize")
        self.pending.append((<uintptr_t>block, events))

    cdef int settle(self, bint wait) except -1:
        """Take back pending blocks whose events are done; with `wait`, all of them."""
        cdef infiniStatus_t status
        cdef infinirtEvent_t event
        cdef const infini_runtime *runtime = self.context.runtime
        if not self.pending or self.abandoned or not self.context.backend.ready:
            return 0
        self.context.activate()
        waiting, self.pending = self.pending, []
        for block, events in waiting:
            while events:
                event = <infinirtEvent_t><uintptr_t>events[-1]
                with nogil:
                    status = runtime.event_synchronize(event) if wait else runtime.event_query(event)
                if status == INFINI_STATUS_NOT_READY:
                    break
                events.pop()
                with nogil:
                    runtime.event_destroy(event)
            if events:
                self.pending.append((block, events))
            else:
                self.give(<Block *><uintptr_t>block)
        return 0

    cdef uint64_t trim(self) except? 0xFFFFFFFFFFFFFFFF:
        """Give every segment that is entirely free back to the runtime; returns the bytes."""
        cdef Pool *pool
        cdef Segment **place
        cdef Segment *segment
        cdef Segment *unused = NULL
        cdef uint64_t bytes = 0
        cdef const infini_runtime *runtime = self.context.runtime
        if self.abandoned or not self.context.backend.ready or self.context in _captures:
            return 0
        self.context.activate()
        with nogil:                       # blocks are reused in stream order; the runtime frees at once
            status = runtime.synchronize()
        check(status, "synchronize")
        infini_lock(&self.mutex)
        pool = self.pools
        while pool != NULL:
            flush(pool)
            place = &pool.segments
            while place[0] != NULL:
                segment = place[0]
                if segment.first.state == IN_CLASS and segment.first.after == NULL:
                    unlink(pool, segment.first)
                    free(segment.first)
                    place[0] = segment.next
                    segment.next = unused
                    unused = segment
                    bytes += segment.bytes
                    self.segment_frees += 1
                else:
                    place = &segment.next
            pool = pool.next
        self.reserved -= bytes
        infini_unlock(&self.mutex)
        while unused != NULL:
            segment = unused
            unused = segment.next
            with nogil:
                if self.pinned:
                    runtime.free_host(segment.data)
                else:
                    runtime.free_device(segment.data)
            free(segment)
        return bytes

    cdef object exhausted(self, uint64_t requested, uint64_t segment):
        """The OutOfMemory to raise."""
        cdef uint64_t free_bytes = 0, total = 0
        with nogil:
            self.context.runtime.memory_info(&free_bytes, &total)
        kind = "pinned host memory of " if self.pinned else ""
        return OutOfMemory(
            f"{kind}{self.context.device}: out of memory: {requested} bytes requested; {free_bytes} of "
            f"{total} bytes "
            f"are free on the device; this process holds {self.reserved} bytes, {self.allocated} of them in "
            "tensors")

    def statistics(self):
        """The numbers of `memory_stats`."""
        return {
            "allocated": self.allocated, "allocated_peak": self.allocated_peak,
            "reserved": self.reserved, "reserved_peak": self.reserved_peak,
            "live": self.live, "allocations": self.allocations, "frees": self.frees,
            "segment_allocations": self.segment_allocations, "segment_frees": self.segment_frees,
            "retries": self.retries, "pending": len(self.pending),
        }

    def empty(self):
        """Give back what can be given back; returns the bytes."""
        self.settle(True)
        return self.trim()

    def reset_peak(self):
        """Start the peaks anew at the present values."""
        self.allocated_peak = self.allocated
        self.reserved_peak = self.reserved


# ---- storage -----------------------------------------------------------------------------------------

@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class Storage:
    """One allocation, shared by every view of it; or somebody else's memory and its owner."""

    def __init__(self):
        raise InvalidArgument("Storage: made by tensors only")

    cdef int record_stream(self, infinirtStream_t stream) except -1:
        if self.block == NULL or (stream == self.stream and not self.pinned):
            return 0
        address = <uintptr_t>stream
        if self.used_on is None:
            self.used_on = [address]
        elif address not in self.used_on:
            self.used_on.append(address)
        return 0

    def __dealloc__(self):
        cdef Allocator allocator
        if self.block == NULL:
            return
        allocator = <Allocator>self.allocator
        if self.used_on is None:
            allocator.give(self.block)
            if allocator.reserved - allocator.allocated > allocator.cache_limit:
                allocator.trim()
        else:
            allocator.give_after(self.block, self.used_on)


cdef Allocator allocator_of(Context context):
    if context.allocator is None:
        context.allocator = Allocator.__new__(Allocator, context, False)
    return <Allocator>context.allocator


cdef Storage allocate(Context context, uint64_t bytes):
    if context is None:
        raise InvalidArgument("tensor: used before it was initialised")
    cdef object allocator = context.allocator
    if allocator is None:
        allocator = allocator_of(context)
    return (<Allocator>allocator).take(bytes, current_stream(context))


cdef Storage allocate_pinned(Context context, Context host, uint64_t bytes):
    cdef Storage storage
    if context.pinned is None:
        context.pinned = Allocator.__new__(Allocator, context, True)
    storage = (<Allocator>context.pinned).take(bytes, NULL)
    storage.context = host
    return storage


cdef Storage wrap(Context context, void *data, uint64_t bytes, object owner):
    cdef Storage storage = Storage.__new__(Storage)
    storage.data = data
    storage.bytes = bytes
    storage.context = context
    storage.stream = current_stream(context)
    storage.owner = owner
    return storage


def _after_fork():
    """In a forked child: the host's memory is a copy of its own, a device is the parent's."""
    cdef Allocator allocator
    for entry in _allocators:
        allocator = <Allocator>entry
        if not allocator.context.host_memory:
            allocator.abandoned = True
            allocator.pending = []


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def memory_stats(device=None, *, pinned=False):
    """What the caching allocator of a device holds.

    Parameters
    ----------
    device : device or str, optional
        The current device if omitted.
    pinned : bool
        The pinned host memory of that device instead.

    Returns
    -------
    dict
        ``allocated`` and ``allocated_peak``: bytes in tensors; ``reserved`` and ``reserved_peak``: bytes
        taken from the device; ``live``: allocations alive; ``allocations``, ``frees``: counts so far;
        ``segment_allocations``, ``segment_frees``: calls of the runtime; ``retries``: times that memory
        ran out and was reclaimed; ``pending``: freed blocks that another stream still uses.

    Examples
    --------
    >>> import infinicore as ic
    >>> before = ic.memory_stats("cpu")["allocated"]
    >>> t = ic.empty((256,), dtype=ic.float32, device="cpu")
    >>> ic.memory_stats("cpu")["allocated"] - before
    1024
    """
    cdef Context context = current_context() if device is None else as_device(device).context()
    if pinned:
        allocator = context.pinned
        if allocator is None:
            allocator = context.pinned = Allocator.__new__(Allocator, context, True)
    else:
        allocator = allocator_of(context)
    return allocator.statistics()


def reset_peak_memory_stats(device=None):
    """Start ``allocated_peak`` and ``reserved_peak`` of a device anew at the present values.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.reset_peak_memory_stats("cpu")
    >>> statistics = ic.memory_stats("cpu")
    >>> statistics["allocated_peak"] == statistics["allocated"]
    True
    """
    cdef Context context = current_context() if device is None else as_device(device).context()
    allocator_of(context).reset_peak()


def empty_cache(device=None):
    """Give unused memory, pinned host memory included, back to the device.

    Parameters
    ----------
    device : device or str, optional
        The current device if omitted.

    Returns
    -------
    int
        Bytes given back. Waits for the device's work to finish.

    Examples
    --------
    >>> import infinicore as ic
    >>> released = ic.empty_cache("cpu")  # bytes
    """
    cdef Context context = current_context() if device is None else as_device(device).context()
    cdef uint64_t bytes = 0
    for allocator in (context.allocator, context.pinned):
        if allocator is not None:
            bytes += allocator.empty()
    return bytes
