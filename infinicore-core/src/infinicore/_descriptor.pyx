# Descriptors: one operator planned for one set of layouts, and the bounded cache that finds them again.
# A key is words that memcmp compares: operator, context, a layout address per tensor, and the Static values.
cimport cython
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

from infinicore._status cimport check
from infinicore.abi cimport infini_int_list, infini_operator, infini_slot, infiniStatus_t


cdef uint64_t hash_words(const uint64_t *key, size_t words) noexcept nogil:
    cdef uint64_t value = <uint64_t> 0x9E3779B97F4A7C15 ^ <uint64_t> words
    cdef size_t i
    for i in range(words):
        value = (value ^ key[i]) * <uint64_t> 0xFF51AFD7ED558CCD
        value ^= value >> 32
    return value


@cython.final
cdef class _Ints:
    """A Static tuple of integers in memory that lives as long as the descriptor."""
    cdef infini_int_list header
    cdef int64_t *items

    def __dealloc__(self):
        free(self.items)


@cython.final
@cython.no_gc_clear  # the destructor needs the context
cdef class Descriptor:
    """One operator planned for one set of layouts: the vendor's plan, and what core worked out around it."""

    def __init__(self):
        raise TypeError("descriptors are made by calling an operator, or by its describe() method")

    def __dealloc__(self):
        if self.handle != NULL:
            try:
                self.context.activate()
            except BaseException:
                # The device is gone; the plan is host memory of the plug-in and is still given back.
                pass
            with nogil:
                self.kernel.destroy(self.handle)
        free(self.key)
        free(self.slots)

    cdef int create(self, const infini_operator *kernel, const infini_slot *args) except -1:
        cdef infiniStatus_t status
        cdef infini_descriptor handle = NULL
        self.context.activate()
        with nogil:
            status = kernel.create(args, &handle)
        check(status, self.name)
        self.kernel = kernel
        self.handle = handle
        with nogil:
            status = kernel.workspace(handle, &self.workspace_bytes)
        check(status, self.name)
        return 0

    cdef int set_key(self, const uint64_t *key, size_t words) except -1:
        self.key = <uint64_t *> malloc(words * sizeof(uint64_t))
        if self.key == NULL:
            raise MemoryError()
        memcpy(self.key, key, words * sizeof(uint64_t))
        self.words = words
        self.hash = hash_words(key, words)
        return 0

    cdef int set_slots(self, int count) except -1:
        self.slots = <infini_slot *> calloc(max(count, 1), sizeof(infini_slot))
        if self.slots == NULL:
            raise MemoryError()
        self.slot_count = count
        return 0

    cdef const infini_int_list *hold_ints(self, object values) except NULL:
        cdef _Ints ints = _Ints.__new__(_Ints)
        cdef Py_ssize_t i, count = len(values)
        ints.items = <int64_t *> malloc(max(count, 1) * sizeof(int64_t))
        if ints.items == NULL:
            raise MemoryError()
        for i in range(count):
            ints.items[i] = values[i]
        ints.header.count = count
        ints.header.items = ints.items
        if self.buffers is None:
            self.buffers = []
        self.buffers.append(ints)
        return &ints.header


@cython.final
cdef class Cache:
    """A bounded map from key to `Descriptor`; the least recently used one leaves first."""

    def __cinit__(self, size_t bound=4096):
        self.bound = bound
        self.table = [None] * 64
        self.mask = 63

    @property
    def limit(self):
        """How many descriptors are kept; lowering it evicts at once."""
        return self.bound

    @limit.setter
    def limit(self, size_t bound):
        victims = None
        with cython.critical_section(self):
            self.bound = bound
            victims = self._shrink(bound)
            self.evictions += len(victims)
        # Descriptors die here, outside the critical section: their destructors run vendor code.
        victims = None

    def clear(self, object backend=None):
        """Forget every descriptor, or those of one backend. Running calls keep theirs until they return."""
        cdef Descriptor entry, older
        victims = []
        with cython.critical_section(self):
            entry = self.newest
            while entry is not None:
                older = entry.older
                if backend is None or entry.context.backend is backend:
                    self._remove(entry)
                    victims.append(entry)
                entry = older
        count = len(victims)
        victims = None
        return count

    def keys(self):
        """The operator names of what is kept, most recently used first."""
        cdef Descriptor entry
        names = []
        with cython.critical_section(self):
            entry = self.newest
            while entry is not None:
                names.append(entry.name)
                entry = entry.older
        return names

    cdef Descriptor find(self, const uint64_t *key, size_t words):
        cdef Descriptor entry
        cdef uint64_t hash = hash_words(key, words)
        with cython.critical_section(self):
            entry = self._lookup(key, words, hash)
            if entry is None:
                self.misses += 1
            else:
                self.hits += 1
                if self.newest is not entry:
                    self._unlink(entry)
                    self._push(entry)
        return entry

    cdef Descriptor store(self, Descriptor descriptor):
        cdef Descriptor present
        victims = None
        with cython.critical_section(self):
            present = self._lookup(descriptor.key, descriptor.words, descriptor.hash)
            if present is None and self.bound > 0:
                victims = self._shrink(self.bound - 1)
                self.evictions += len(victims)
                if self.size > self.mask:
                    self._grow()
                descriptor.bucket_next = <Descriptor> self.table[descriptor.hash & self.mask]
                self.table[descriptor.hash & self.mask] = descriptor
                self._push(descriptor)
                descriptor.cached = True
                self.size += 1
        return descriptor if present is None else present

    cdef Descriptor _lookup(self, const uint64_t *key, size_t words, uint64_t hash):
        cdef Descriptor entry = <Descriptor> self.table[hash & self.mask]
        while entry is not None:
            if entry.hash == hash and entry.words == words:
                if memcmp(entry.key, key, words * sizeof(uint64_t)) == 0:
                    return entry
            entry = entry.bucket_next
        return None

    cdef int _unlink(self, Descriptor descriptor) except -1:
        if descriptor.newer is not None:
            descriptor.newer.older = descriptor.older
        else:
            self.newest = descriptor.older
        if descriptor.older is not None:
            descriptor.older.newer = descriptor.newer
        else:
            self.oldest = descriptor.newer
        descriptor.newer = None
        descriptor.older = None
        return 0

    cdef int _push(self, Descriptor descriptor) except -1:
        descriptor.older = self.newest
        if self.newest is not None:
            self.newest.newer = descriptor
        else:
            self.oldest = descriptor
        self.newest = descriptor
        return 0

    cdef int _remove(self, Descriptor descriptor) except -1:
        cdef size_t bucket = descriptor.hash & self.mask
        cdef Descriptor entry = <Descriptor> self.table[bucket]
        if entry is descriptor:
            self.table[bucket] = descriptor.bucket_next
        else:
            while entry.bucket_next is not descriptor:
                entry = entry.bucket_next
            entry.bucket_next = descriptor.bucket_next
        descriptor.bucket_next = None
        descriptor.cached = False
        self._unlink(descriptor)
        self.size -= 1
        return 0

    # Take entries out until `bound` are left; the caller drops them once the critical section is over.
    cdef list _shrink(self, size_t bound):
        cdef list victims = []
        cdef Descriptor entry
        while self.size > bound:
            entry = self.oldest
            if entry.used and self.size > 1:
                # An operator found it again by itself since we last looked here: a second chance.
                entry.used = False
                self._unlink(entry)
                self._push(entry)
                continue
            self._remove(entry)
            victims.append(entry)
        return victims

    cdef int _grow(self) except -1:
        cdef Descriptor entry
        cdef size_t size = 4 * (self.mask + 1)
        cdef list table = [None] * size
        self.mask = size - 1
        entry = self.newest
        while entry is not None:
            entry.bucket_next = <Descriptor> table[entry.hash & self.mask]
            table[entry.hash & self.mask] = entry
            entry = entry.older
        self.table = table
        return 0
