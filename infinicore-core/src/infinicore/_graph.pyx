# Graph recording: the vendor's capture where there is one, else a list of calls replayed in one C loop.
# While a thread records, operators do not run: they run when the graph does, on the same memory.
cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

from infinicore._descriptor cimport SLOT_INTS, SLOT_TENSOR, SLOT_TENSORS, Descriptor
from infinicore._device cimport Context, ThreadState, as_device, thread_state
from infinicore._status cimport check
from infinicore._storage cimport Storage, allocate
from infinicore._stream cimport LAUNCH_BLOCKING, Stream, stream_handle
from infinicore.abi cimport (
    INFINI_STATUS_NOT_IMPLEMENTED, INFINI_STATUS_SUCCESS, INFINIRT_STREAM_CAPTURE_MODE_RELAXED,
    infini_int_list, infini_runtime, infini_slot, infini_tensor, infini_tensor_list, infiniStatus_t,
    infinirtGraph_t, infinirtGraphExec_t, infinirtStream_t)

from _thread import _local

from infinicore._device import _captures
from infinicore.errors import DeviceMismatch, Error

__all__ = ["Graph", "abort_recording", "is_graph_recording", "start_recording", "stop_recording"]

# The strong reference behind ThreadState.recorder, which dies with its thread.
_owner = _local()


cdef bint can_capture(const infini_runtime *runtime) noexcept:
    return runtime.capture_begin != NULL


# The bytes behind the slots of one call, and the copy itself: slots first, then what they point at.
cdef size_t slots_size(const infini_slot *slots, const signed char *kinds, int count) noexcept nogil:
    cdef size_t size = count * sizeof(infini_slot)
    cdef int i
    for i in range(count):
        if slots[i].tensor == NULL:
            continue
        if kinds[i] == SLOT_TENSOR:
            size += sizeof(infini_tensor)
        elif kinds[i] == SLOT_TENSORS:
            size += sizeof(infini_tensor_list) + slots[i].tensors.count * sizeof(infini_tensor)
        elif kinds[i] == SLOT_INTS:
            size += sizeof(infini_int_list) + slots[i].ints.count * sizeof(slots[i].ints.items[0])
    return size


cdef void copy_slots(char *block, const infini_slot *slots, const signed char *kinds,
                     int count) noexcept nogil:
    cdef infini_slot *copy = <infini_slot *> block
    cdef infini_tensor_list *tensors
    cdef infini_int_list *ints
    cdef char *free_space = block + count * sizeof(infini_slot)
    cdef size_t size
    cdef int i
    memcpy(block, slots, count * sizeof(infini_slot))
    for i in range(count):
        if slots[i].tensor == NULL:
            continue
        if kinds[i] == SLOT_TENSOR:
            memcpy(free_space, slots[i].tensor, sizeof(infini_tensor))
            copy[i].tensor = <infini_tensor *> free_space
            free_space += sizeof(infini_tensor)
        elif kinds[i] == SLOT_TENSORS:
            tensors = <infini_tensor_list *> free_space
            size = slots[i].tensors.count * sizeof(infini_tensor)
            tensors.count = slots[i].tensors.count
            tensors.items = <infini_tensor *> (free_space + sizeof(infini_tensor_list))
            memcpy(<void *> tensors.items, slots[i].tensors.items, size)
            copy[i].tensors = tensors
            free_space += sizeof(infini_tensor_list) + size
        elif kinds[i] == SLOT_INTS:
            ints = <infini_int_list *> free_space
            size = slots[i].ints.count * sizeof(slots[i].ints.items[0])
            ints.count = slots[i].ints.count
            ints.items = <int64_t *> (free_space + sizeof(infini_int_list))
            memcpy(<void *> ints.items, slots[i].ints.items, size)
            copy[i].ints = ints
            free_space += sizeof(infini_int_list) + size


@cython.final
@cython.no_gc_clear  # the destructor needs the context
cdef class Recorder:
    """What one thread is recording: nodes, and everything they point at."""

    def __cinit__(self):
        self.held = []
        self.storages = []
        self.seen = set()
        self.workspaces = {}

    def __dealloc__(self):
        cdef size_t i
        for i in range(self.count):
            free(self.nodes[i].slots)
        free(self.nodes)
        if self.graph == NULL:
            return
        try:
            self.context.activate()
        except BaseException:
            return
        with nogil:
            self.context.runtime.graph_destroy(self.graph)

    cdef int hold(self, Storage storage) except -1:
        cdef uintptr_t identity = <uintptr_t> <PyObject *> storage
        if identity not in self.seen:
            self.seen.add(identity)
            self.storages.append(storage)
        return 0

    cdef void *workspace(self, uint64_t bytes, infinirtStream_t stream) except? NULL:
        cdef Storage storage
        if bytes == 0:
            return NULL
        # Calls on one stream run one after the other, so they can share; a replaced one stays held.
        storage = <Storage> self.workspaces.get(<uintptr_t> stream)
        if storage is None or storage.bytes < bytes:
            storage = allocate(self.context, bytes)
            self.hold(storage)
            self.workspaces[<uintptr_t> stream] = storage
        return storage.data

    cdef int add(self, Descriptor descriptor, void *workspace, const infini_slot *slots,
                 const signed char *kinds, int count) except -1:
        cdef Node *node
        cdef size_t capacity
        cdef char *block
        if self.count == self.capacity:
            capacity = max(16, 2 * self.capacity)
            node = <Node *> realloc(self.nodes, capacity * sizeof(Node))
            if node == NULL:
                raise MemoryError()
            self.nodes = node
            self.capacity = capacity
        block = <char *> malloc(slots_size(slots, kinds, count))
        if block == NULL:
            raise MemoryError()
        copy_slots(block, slots, kinds, count)
        node = &self.nodes[self.count]
        node.kernel = descriptor.kernel
        node.handle = descriptor.handle
        node.workspace = workspace
        node.bytes = descriptor.workspace_bytes
        node.slots = <infini_slot *> block
        self.count += 1
        return 0


@cython.final
@cython.no_gc_clear  # the destructor needs the context
cdef class Graph:
    """Recorded calls, ready to run again on the memory they were recorded with.

    Made by `infinicore.stop_graph_recording`. Plain scalars are frozen at their recorded values; what
    changes from run to run is the contents of the tensors.
    """

    def __init__(self):
        raise TypeError("graphs are made by recording: see infinicore.graph")

    def __dealloc__(self):
        if self.exec == NULL:
            return
        try:
            self.context.activate()
        except BaseException:
            return
        with nogil:
            self.context.runtime.graph_exec_destroy(self.exec)

    @property
    def device(self):
        """The device it was recorded on."""
        return self.context.device

    @property
    def captured(self):
        """Whether the backend's own capture replays it, rather than core's loop."""
        return self.recorder.capturing

    def __len__(self):
        return self.recorder.count

    def run(self, stream=None):
        """Queue the recorded calls on `stream` (the current one by default) again.

        Makes no allocation and looks up no descriptor.
        """
        cdef infinirtStream_t target = stream_handle(stream, self.context, "Graph.run")
        cdef infiniStatus_t status
        cdef const infini_runtime *waits = self.context.runtime if LAUNCH_BLOCKING else NULL
        cdef size_t failed = 0
        cdef Recorder recorder
        cdef Storage storage
        cdef object name = "Graph.run"
        if recorder_for(self.context, "Graph.run") is not None:
            raise Error("Graph.run: a graph cannot run while this thread records another")
        self.context.activate()
        with self.changing:
            recorder = self.recorder
            if <uintptr_t> target not in self.streams:
                self.streams.add(<uintptr_t> target)
                for storage in recorder.storages:
                    if storage.stream != target:
                        storage.record_stream(target)
            with recorder.running:
                with nogil:
                    if self.exec != NULL:
                        status = self.context.runtime.graph_launch(self.exec, target)
                        if waits != NULL and status == INFINI_STATUS_SUCCESS:
                            status = waits.stream_synchronize(target)
                    else:
                        status = replay(recorder.nodes, recorder.count, target, waits, &failed)
        if status != INFINI_STATUS_SUCCESS:
            if not recorder.capturing:
                name = f"Graph.run: call {failed}, {recorder.nodes[failed].kernel.name.decode()}"
            check(status, name)

    def update(self, Graph other not None):
        """Run what `other` recorded from now on; see `infinicore.Graph.update`."""
        cdef const infini_runtime *runtime = self.context.runtime
        cdef infinirtGraphExec_t exec = NULL
        cdef infiniStatus_t status = INFINI_STATUS_NOT_IMPLEMENTED
        cdef Recorder recorder
        if other.context is not self.context:
            raise DeviceMismatch(f"Graph.update: the graph is on {self.context.device}, "
                                 f"but other is on {other.context.device}")
        with other.changing:
            recorder = other.recorder
        self.context.activate()
        with self.changing:
            if recorder.capturing and recorder is not self.recorder:
                with nogil:
                    if runtime.graph_update != NULL:
                        status = runtime.graph_update(self.exec, recorder.graph)
                    if status == INFINI_STATUS_NOT_IMPLEMENTED:
                        status = runtime.graph_instantiate(recorder.graph, &exec)
                        if status == INFINI_STATUS_SUCCESS:
                            runtime.graph_exec_destroy(self.exec)
                            self.exec = exec
                check(status, "Graph.update")
            self.recorder = recorder
            self.streams = set()

    def __repr__(self):
        how = "captured by the backend" if self.recorder.capturing else f"{self.recorder.count} calls"
        return f"<infinicore graph on {self.context.device}: {how}>"


cdef infiniStatus_t replay(const Node *nodes, size_t count, infinirtStream_t stream,
                           const infini_runtime *waits, size_t *failed) noexcept nogil:
    """`waits`, where it is not NULL, is whose stream to wait for after each call."""
    cdef infiniStatus_t status
    cdef const Node *node
    cdef size_t i
    for i in range(count):
        node = &nodes[i]
        status = node.kernel.execute(node.handle, node.workspace, node.bytes, node.slots, stream)
        if waits != NULL and status == INFINI_STATUS_SUCCESS:
            status = waits.stream_synchronize(stream)
        if status != INFINI_STATUS_SUCCESS:
            failed[0] = i
            return status
    return INFINI_STATUS_SUCCESS


cdef Recorder recorder_for(Context context, str what):
    cdef PyObject *borrowed = thread_state().recorder
    if borrowed == NULL:
        return None
    cdef Recorder recorder = <Recorder> borrowed
    if recorder.context is not context:
        raise DeviceMismatch(f"{what}: this thread records a graph on {recorder.context.device}, "
                             f"but the operands are on {context.device}")
    return recorder


cdef infinirtStream_t stream_for_now(Context context) noexcept:
    cdef ThreadState *state = thread_state()
    cdef Recorder recorder
    if state.recorder != NULL:
        recorder = <Recorder> state.recorder
        if recorder.capturing and recorder.context is context:
            return recorder.previous
    return state.streams[context.slot]


cdef int refuse_host_read(Context context, str what) except -1:
    cdef PyObject *recorder = thread_state().recorder
    if recorder != NULL and (<Recorder> recorder).context is context:
        raise Error(f"{what}: this thread records a graph on {context.device}; "
                    "values exist once the graph has run")
    return 0


def is_graph_recording():
    """Whether this thread is recording a graph.

    Returns
    -------
    bool
    """
    return thread_state().recorder != NULL


def start_recording(device=None):
    """Record this thread's operators on `device` (the current one by default) instead of running them."""
    cdef Context context = as_device(device).context()
    cdef Recorder recorder
    cdef Stream stream
    cdef infinirtStream_t raw
    cdef infiniStatus_t status
    if thread_state().recorder != NULL:
        raise Error("start_graph_recording: this thread already records a graph "
                    f"on {(<Recorder> thread_state().recorder).context.device}; stop it first")
    recorder = Recorder.__new__(Recorder)
    recorder.context = context
    recorder.previous = thread_state().streams[context.slot]
    if can_capture(context.runtime):
        # Vendors cannot capture the default stream, and nobody else may queue on a capturing one.
        stream = Stream(context.device)
        raw = stream.raw
        context.activate()
        with nogil:
            # Relaxed: the allocator may ask the device for memory meanwhile.
            status = context.runtime.capture_begin(raw, INFINIRT_STREAM_CAPTURE_MODE_RELAXED)
        check(status, "start_graph_recording")
        _captures.append(context)
        recorder.capturing = True
        recorder.stream = stream
        thread_state().streams[context.slot] = raw
    _owner.recorder = recorder
    thread_state().recorder = <PyObject *> recorder


cdef Recorder take_recorder(str what):
    """End this thread's recording, whatever comes next."""
    cdef PyObject *borrowed = thread_state().recorder
    if borrowed == NULL:
        raise Error(f"{what}: this thread does not record a graph")
    cdef Recorder recorder = <Recorder> borrowed
    thread_state().recorder = NULL
    _owner.recorder = None
    if recorder.capturing:
        thread_state().streams[recorder.context.slot] = recorder.previous
    return recorder


def stop_recording():
    """End the recording of this thread and return its `Graph`."""
    cdef Recorder recorder = take_recorder("stop_graph_recording")
    cdef Graph graph = Graph.__new__(Graph)
    cdef infinirtStream_t raw
    cdef infiniStatus_t status
    graph.context = recorder.context
    graph.recorder = recorder
    graph.streams = set()
    if recorder.capturing:
        raw = (<Stream> recorder.stream).raw
        recorder.context.activate()
        with nogil:
            status = recorder.context.runtime.capture_end(raw, &recorder.graph)
        _captures.remove(recorder.context)
        check(status, "stop_graph_recording")
        with nogil:
            status = recorder.context.runtime.graph_instantiate(recorder.graph, &graph.exec)
        check(status, "stop_graph_recording")
    return graph


def abort_recording():
    """End the recording of this thread and forget it; for when an error interrupts it."""
    cdef Recorder recorder = take_recorder("abort_recording")
    cdef infinirtGraph_t graph = NULL
    cdef infinirtStream_t raw
    if recorder.capturing:
        raw = (<Stream> recorder.stream).raw
        recorder.context.activate()
        with nogil:
            # A failed call may have broken the capture; ending it is what matters.
            recorder.context.runtime.capture_end(raw, &graph)
            if graph != NULL:
                recorder.context.runtime.graph_destroy(graph)
        _captures.remove(recorder.context)
