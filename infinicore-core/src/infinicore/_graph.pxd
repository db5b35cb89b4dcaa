# Graph recording: the vendor's capture where there is one, else a list of calls replayed in one C loop.
cimport cython
from libc.stdint cimport uint64_t
from infinicore.abi cimport (
    infini_descriptor, infini_operator, infini_slot, infinirtGraph_t, infinirtGraphExec_t, infinirtStream_t)
from infinicore._descriptor cimport Descriptor
from infinicore._device cimport Context
from infinicore._storage cimport Storage

# One call of a replay.
cdef struct Node:
    const infini_operator *kernel
    infini_descriptor handle
    void *workspace
    uint64_t bytes
    infini_slot *slots                 # owned, with all they point at in the same block

# What a thread is recording; ThreadState.recorder borrows it.
cdef class Recorder:
    cdef readonly Context context
    cdef bint capturing                # by the vendor's capture members
    cdef object stream                 # the Stream that captures
    cdef infinirtStream_t previous     # the thread's stream before
    cdef infinirtGraph_t graph         # what the vendor captured
    cdef cython.pymutex running        # held by a replay: two at once would share the temporaries
    cdef list held                     # layouts, descriptors and whatever else the nodes point at
    cdef list storages                 # memory that the nodes use
    cdef set seen                      # ids of what is in `storages`
    cdef dict workspaces               # stream -> Storage that is large enough for the calls so far
    cdef Node *nodes
    cdef size_t count
    cdef size_t capacity
    # The calls of this recording keep `storage` alive.
    cdef int hold(self, Storage storage) except -1
    # A workspace that belongs to the recording.
    cdef void *workspace(self, uint64_t bytes, infinirtStream_t stream) except? NULL
    # Note one call. `kinds` has a SlotKind per slot.
    cdef int add(self, Descriptor descriptor, void *workspace, const infini_slot *slots,
                 const signed char *kinds, int count) except -1

cdef class Graph:
    cdef readonly Context context
    cdef Recorder recorder             # owns the nodes and keeps the memory alive; shared after an update
    cdef infinirtGraphExec_t exec
    cdef set streams                   # handles it has run on
    cdef cython.pymutex changing       # held by who runs or updates it

# The recording in progress on this thread if it is on `context`, else None. Raises if it is on another
# device: such work would run now and be missing from the graph.
cdef Recorder recorder_for(Context context, str what)

# The stream for work that must happen now although this thread records: constants that are copied to the
# device.
cdef infinirtStream_t stream_for_now(Context context) noexcept

# Raise if this thread is recording on `context`: nothing has run yet that the host could read.
cdef int refuse_host_read(Context context, str what) except -1
