# Backends: a registry of plug-ins, each with its tables, its state, and why it is in that state.
# Nothing of a vendor's is loaded before first use, and every vendor call runs without the GIL.
"""The registry of backends."""

from cpython.pycapsule cimport PyCapsule_CheckExact, PyCapsule_GetName, PyCapsule_GetPointer
from libc.stdint cimport int32_t, uint64_t, uintptr_t
from libc.stdio cimport fprintf, stderr
from libc.stdlib cimport calloc
from libc.string cimport memcpy, strcmp
from infinicore.abi cimport *
from infinicore._status cimport check, interrupted, read_messages_of, take_message
from infinicore.registry cimport infini_entry, infini_listener, infini_registry_api

import os
import sys
from _thread import RLock  # the one of threading, which takes long to import
from collections.abc import Mapping

from infinicore import discovery, errors, loading

cdef extern from "<dlfcn.h>" nogil:
    void *dlopen(const char *filename, int flag)
    void *dlsym(void *handle, const char *symbol)
    char *dlerror()
    enum: RTLD_NOW, RTLD_LOCAL

ctypedef const infini_backend *(*backend_function)() noexcept nogil
ctypedef const infini_registry_api *(*registry_function)() noexcept nogil

cdef int _MAX_BACKENDS = 32  # as _device.MAX_BACKENDS: that module cimports this one


# ---- tables --------------------------------------------------------------------------------------

# Members of infini_runtime in order, all function pointers; tests/abi compares them with the header.
RUNTIME_MEMBERS = (
    "device_info", "set_device", "synchronize", "memory_info",
    "malloc_device", "free_device", "malloc_host", "free_host", "malloc_async", "free_async",
    "memcpy_sync", "memcpy_async", "memset_async",
    "stream_create", "stream_destroy", "stream_synchronize", "stream_wait_event",
    "event_create", "event_destroy", "event_record", "event_query", "event_synchronize", "event_elapsed",
    "capture_begin", "capture_end",
    "graph_destroy", "graph_instantiate", "graph_launch", "graph_exec_destroy",
    "resources", "can_access_peer", "graph_update",
)
# Of those, the ones a plug-in may leave out: each group wholly or not at all.
RUNTIME_OPTIONAL = (
    ("malloc_async", "free_async"),
    ("capture_begin", "capture_end",
     "graph_destroy", "graph_instantiate", "graph_launch", "graph_exec_destroy"),
    ("resources",),
    ("can_access_peer",),
    ("graph_update",),
)


cdef const void *whole(const void *table, size_t size) except NULL:
    """`table` if it is at least `size` bytes long, else an immortal copy padded with zeros.

    A plug-in of an older minor has shorter tables. Padded, every reader sees NULL for what they lack."""
    cdef uint64_t given = (<const infini_header *>table).struct_size
    if given >= size:
        return table
    cdef void *copy = calloc(1, size)
    if copy == NULL:
        raise errors.OutOfMemory("no host memory for the tables of a plug-in")
    memcpy(copy, table, given)
    return copy


cdef str text_of(const char *text):
    return "" if text == NULL else text.decode("utf-8", "replace")


cdef int check_header(const void *table, str what, str distribution) except -1:
    cdef const infini_header *header = <const infini_header *>table
    if header.abi_major != INFINI_ABI_MAJOR:
        raise loading.Refused(
            "failed", loading.version_conflict(distribution, header.abi_major, INFINI_ABI_MAJOR))
    if header.struct_size < sizeof(infini_header):
        size = header.struct_size
        raise loading.Refused("failed", f"{distribution}: the {what} table says it is {size} bytes long")
    return 0


cdef int check_runtime(const infini_runtime *runtime) except -1:
    cdef void **members = <void **>(<char *>runtime + sizeof(infini_header))
    cdef int i
    absent = set()
    for i in range(len(RUNTIME_MEMBERS)):
        if members[i] == NULL:
            absent.add(RUNTIME_MEMBERS[i])
    for group in RUNTIME_OPTIONAL:
        if absent.issuperset(group):
            absent.difference_update(group)
    for name in RUNTIME_MEMBERS:  # in the header's order, so that the same defect reads the same
        if name in absent:
            raise loading.Refused("failed", f"runtime member '{name}' is NULL")
    return 0


cdef str missing_phase(const infini_operator *operator):
    if operator.create == NULL:
        return "create"
    if operator.workspace == NULL:
        return "workspace"
    if operator.execute == NULL:
        return "execute"
    if operator.destroy == NULL:
        return "destroy"
    return None


# ---- one backend ---------------------------------------------------------------------------------

cdef class Backend:
    """A backend: a plug-in's tables, its state, and why it is in that state.

    Backends are made by discovery; look them up in `infinicore.backends`.

    Attributes
    ----------
    name : str
        Device string.
    vendor, version, distribution : str
        Who makes the device; the plug-in's version; the wheel or library file that brought it.
    number : int
        ``infiniDevice_t``, or a stable number >= 1000.
    reason : str
        Why it is not ready, "" when it is or has not been tried.
    trail : list of dict
        What was looked for, where, and with what result: ``{"what", "where", "result"}``.
    lost : dict of str to str
        Operators whose kernels are refused, and why.
    device_count : int
        Number of devices once ready.
    """

    def __cinit__(self, candidate not None, int slot):
        self.record = candidate
        self.library = getattr(candidate, "library", None)
        self.name = candidate.name
        self.distribution = candidate.distribution
        self.version = candidate.version
        self.vendor = ""
        self.number = discovery.number_of(self.name)
        self.slot = slot
        self.reason = ""
        self.condition = "found"
        self.trail = []
        self.lost = {}
        self.kernels = {}
        self.unmatched = {}
        self.contexts = []

    def __repr__(self):
        return f"<infinicore backend {self.name!r}: {self.condition}>"

    @property
    def state(self):
        """``"found"``, ``"disabled"``, ``"unavailable"``, ``"ready"`` or ``"failed"``."""
        return self.condition

    @property
    def abi_version(self):
        """(major, minor) of the plug-in ABI that it was built for; None until it is loaded."""
        return self.abi

    @property
    def plugin(self):
        """What its wheel says about it (`infinicore.discovery.Plugin`); None when that cannot be read."""
        with _lock:
            try:
                return read_record(self)
            except loading.Refused:
                return None

    @property
    def devices(self):
        """Its devices, ``{"index", "name", "memory_bytes"}`` each; opens it, and is [] when that fails."""
        from infinicore._device import device_info
        try:
            self.ensure_ready()
        except errors.BackendUnavailable:
            return []
        found = []
        for index in range(self.device_count):
            try:
                info = device_info(f"{self.name}:{index}")
            except errors.Error as error:  # one sick device must not hide the others
                info = {"name": str(error), "memory_bytes": 0}
            found.append({"index": index, "name": info["name"], "memory_bytes": info["memory_bytes"]})
        return found

    @property
    def operators(self):
        """Names of operators with a kernel ("native"), with only a reference body ("reference"), and
        those whose kernels are refused with the reason ("lost"); opens it, empty when that fails."""
        try:
            self.ensure_ready()
        except errors.BackendUnavailable:
            return {"native": [], "reference": [], "lost": {}}
        known = schemas()
        for name in list(self.unmatched):
            self.find(name)
        return {
            "native": sorted(self.kernels),
            "reference": sorted(set(known) - set(self.kernels)),
            "lost": dict(sorted(self.lost.items())),
        }

    def open(self):
        """Load the plug-in and open its devices, if that was not done before.

        Returns
        -------
        Backend
            Itself.

        Raises
        ------
        infinicore.BackendUnavailable
            It cannot be used; the message says why.
        """
        self.ensure_ready()
        return self

    cdef int ensure_ready(self) except -1:
        if self.ready:
            return 0
        with _lock:
            if not self.ready and not self.opened and not self.disabled:
                self.opened = True
                try:
                    attempt(self, True)
                except BaseException:  # Ctrl-C and the like: the next use tries again
                    self.opened = False
                    raise
        if not self.ready:
            raise unavailable(self) from self.cause
        return 0

    cdef const infini_operator *find(self, str name) except? NULL:
        address = self.kernels.get(name)
        if address is None and self.unmatched and name in self.unmatched:
            with _lock:
                if name in self.unmatched:
                    match(self, name)
            address = self.kernels.get(name)
        if address is None:
            return NULL
        # Asked each time, since somebody may have put another kernel in its place.
        cdef bytes encoded = name.encode()
        return registry().find(self.entry, encoded)


cdef object unavailable(Backend backend):
    """The exception that says why this backend cannot be used."""
    cdef list lines = [f"{backend.name}: {backend.reason or 'it is being opened'}"]
    for step in backend.trail:
        lines.append(f"  looked for {step['what']} in {step['where']}: {step['result']}")
    record = backend.record
    if isinstance(record, discovery.Plugin) and record.hint:
        lines.append(f"  try: {record.hint}")
    return errors.BackendUnavailable("\n".join(lines))


cdef int attempt(Backend backend, bint wanted) except -1:
    """Load the tables and, if `wanted`, open the devices; keeps the reason of a failure. Locked."""
    try:
        load(backend)
        if wanted:
            open_devices(backend)
            backend.condition, backend.reason, backend.ready = "ready", "", True
            explain(backend)
    except loading.Refused as refused:
        backend.condition, backend.reason = refused.condition, refused.reason
        backend.trail.extend(refused.trail)
        # Without its traceback: that would keep the frames of the import alive.
        backend.cause = None if refused.__cause__ is None else refused.__cause__.with_traceback(None)
        backend.opened = True
        explain(backend)
    return 0


cdef int explain(Backend backend) except -1:
    """Log what an attempt to open it came to."""
    if not explains():
        return 0
    for step in backend.trail:
        log(INFINI_LOG_DEBUG,
            f"{backend.name}: looked for {step['what']} in {step['where']}: {step['result']}")
    if not backend.ready:
        log(INFINI_LOG_DEBUG, f"{backend.name}: {backend.condition}: {backend.reason}")
        return 0
    log(INFINI_LOG_DEBUG,
        f"{backend.name}: opened {backend.distribution}, plug-in ABI {backend.abi[0]}.{backend.abi[1]}: "
        f"{backend.device_count} device(s), {len(backend.kernels)} kernel(s)")
    for name, why in sorted(backend.lost.items()):
        log(INFINI_LOG_DEBUG, f"{backend.name}: refused its kernel of {name}: {why}")
    return 0


cdef object read_record(Backend backend):
    if not isinstance(backend.record, discovery.Plugin):
        backend.record = loading.load_record(backend.record)
        backend.vendor = backend.record.vendor
    return backend.record


cdef int load(Backend backend) except -1:
    """Get hold of the tables and check them. Touches no device."""
    if backend.table != NULL:
        return 0
    record = read_record(backend)
    cdef const infini_backend *table
    if backend.library is not None:
        table = open_library(backend.library)
    else:
        backend.capsule = loading.import_capsule(record)
        table = unwrap(backend.capsule, record.module, backend.distribution)
    if table == NULL:
        raise loading.Refused("failed", "infinicore_backend() returned NULL")
    check_header(table, "backend", backend.distribution)
    backend.abi = (table.header.abi_major, table.header.abi_minor)
    cdef const void *original = table
    table = <const infini_backend *>whole(table, sizeof(infini_backend))
    check_identity(backend, table)
    if table.runtime == NULL:
        raise loading.Refused("failed", "backend member 'runtime' is NULL")
    check_header(table.runtime, "runtime", backend.distribution)
    backend.runtime = <const infini_runtime *>whole(table.runtime, sizeof(infini_runtime))
    check_runtime(backend.runtime)
    if table.ccl != NULL:
        check_header(table.ccl, "collectives", backend.distribution)
        backend.ccl = <const infini_ccl *>whole(table.ccl, sizeof(infini_ccl))
    if table.operator_count and table.operators == NULL:
        raise loading.Refused("failed", "backend member 'operators' is NULL")
    backend.dlpack_type = table.dlpack_type
    backend.flags = table.flags
    backend.host_memory = table.flags & INFINI_BACKEND_HOST_MEMORY != 0
    read_operators(backend, table)
    share(backend, <const infini_backend *>original)
    backend.table = table
    return 0


cdef int share(Backend backend, const infini_backend *table) except -1:
    """Show the tables to libinfinirt, which opens them once for C and Python."""
    cdef const infini_registry_api *api = registry()
    cdef bytes source = backend.distribution.encode()
    cdef const char *text = source
    with nogil:
        backend.entry = api.adopt(table, text)
    if backend.entry == NULL:
        raise loading.Refused("failed", text_of(api.host.message()))
    if backend.slot < _MAX_BACKENDS:
        _entries[backend.slot] = backend.entry
    return 0


cdef int check_identity(Backend backend, const infini_backend *table) except -1:
    if table.name == NULL:
        raise loading.Refused("failed", "backend member 'name' is NULL")
    if table.open == NULL:
        raise loading.Refused("failed", "backend member 'open' is NULL")
    cdef str name = text_of(table.name)
    if name != backend.name:
        offered = f"{backend.distribution} offers it as {backend.name!r}"
        raise loading.Refused("failed", f"the plug-in calls itself {name!r}, {offered}")
    expected = discovery.NUMBERS.get(name, -1)
    if table.device_type != expected:
        raise loading.Refused("failed", f"the plug-in says that its device type is {table.device_type}, "
                                        f"{name!r} has {expected}")
    backend.vendor = text_of(table.vendor) or backend.vendor
    backend.version = text_of(table.version) or backend.version
    return 0


cdef int read_operators(Backend backend, const infini_backend *table) except -1:
    cdef const infini_operator *operator
    cdef uint64_t i
    cdef str name
    for i in range(table.operator_count):
        operator = table.operators[i]
        if operator == NULL or operator.name == NULL:
            raise loading.Refused("failed", f"operator {i} of {table.operator_count} has no name")
        name = text_of(operator.name)
        if operator.header.abi_major != INFINI_ABI_MAJOR:
            backend.lost[name] = loading.version_conflict(
                backend.distribution, operator.header.abi_major, INFINI_ABI_MAJOR)
            continue
        operator = <const infini_operator *>whole(operator, sizeof(infini_operator))
        phase = missing_phase(operator)
        if phase is not None:
            backend.lost[name] = f"operator member '{phase}' is NULL"
        elif name in backend.unmatched:
            raise loading.Refused("failed", f"operator '{name}' is there twice")
        else:
            backend.unmatched[name] = <uintptr_t>operator
    from infinicore import __version__
    for name in list(backend.unmatched):
        if not match(backend, name):
            backend.lost[name] = f"infinicore-core {__version__} has no operator of this name"
    return 0


cdef bint match(Backend backend, str name) except -1:
    """Accept or refuse the kernel of operator `name` once core knows its signature; False until then."""
    schema = schemas().get(name)
    if schema is None:
        return False
    address = backend.unmatched.pop(name)
    backend.lost.pop(name, None)
    cdef uint64_t theirs = (<const infini_operator *><uintptr_t>address).fingerprint
    cdef uint64_t ours = schema.fingerprint
    if theirs == ours:
        backend.kernels[name] = address
    else:
        from infinicore import __version__
        backend.lost[name] = (
            f"{backend.distribution} was built for another signature of {name} (fingerprint {theirs:#018x}) "
            f"than that of infinicore-core {__version__} ({ours:#018x}): rebuild it for this version")
    return True


cdef int open_devices(Backend backend) except -1:
    cdef const infini_registry_api *api = registry()
    cdef int32_t count = 0
    cdef infiniStatus_t status
    cdef const char *words[3]
    cdef uint64_t i = 0
    with nogil:
        status = api.open(backend.entry, &count)
    while api.step(backend.entry, i, words):
        backend.trail.append(dict(zip(("what", "where", "result"), [text_of(word) for word in words])))
        i += 1
    if status == INFINI_STATUS_UNAVAILABLE:
        raise loading.Refused("unavailable", take_message(status) or "the plug-in does not say why")
    try:
        check(status)
    except errors.Error as error:
        raise loading.Refused("failed", f"opening it failed: {error}") from error
    backend.device_count = count
    backend.contexts = [None] * count
    return 0


cdef dict schemas():
    # Late: operator signatures are not needed to import infinicore._backend, and import it themselves.
    from infinicore import ops, schema
    assert ops is not None  # importing it registers them
    return schema.OPERATORS


cdef const infini_backend *unwrap(object capsule, str module, str distribution) except? NULL:
    """The backend table in `capsule`."""
    if not PyCapsule_CheckExact(capsule):
        raise loading.Refused("failed", f"{module}.capsule is a {type(capsule).__name__}, not a capsule")
    cdef const char *name = PyCapsule_GetName(capsule)
    if name == NULL or strcmp(name, INFINI_BACKEND_CAPSULE) != 0:
        given = text_of(name)
        major = given.removeprefix("infinicore.backend.v")
        if major != given and major.isdecimal():
            raise loading.Refused(
                "failed", loading.version_conflict(distribution, int(major), INFINI_ABI_MAJOR))
        raise loading.Refused("failed", f"{module}.capsule is a capsule of {given!r}, not of "
                                        f"{text_of(INFINI_BACKEND_CAPSULE)!r}")
    return <const infini_backend *>PyCapsule_GetPointer(capsule, name)


cdef void *symbol_of(str path, const char *name) except? NULL:
    """A function of a library, which is mapped into the process, its symbols hidden from all others."""
    cdef bytes encoded = os.fsencode(path)
    cdef const char *file = encoded
    cdef void *handle
    with nogil:
        handle = dlopen(file, RTLD_NOW | RTLD_LOCAL)
    if handle == NULL:
        raise loading.explain_dlopen_error(path, text_of(dlerror()))
    return dlsym(handle, name)


cdef const infini_backend *open_library(str path) except? NULL:
    """The table of a plug-in library."""
    cdef void *function = symbol_of(path, "infinicore_backend")
    if function == NULL:
        raise loading.Refused("failed", f"{path} does not export infinicore_backend")
    return (<backend_function>function)()


# ---- the registry that C programs share ------------------------------------------------------------------

cdef bint _exiting = False     # the interpreter is going away: take the GIL no more
cdef int _threshold = 0        # log messages below this level are dropped without taking the GIL
cdef const infini_registry_api *_registry = NULL
cdef infini_entry *_entries[32]          # by Backend.slot; _MAX_BACKENDS of them
cdef activated_function _activated = NULL
cdef infini_listener LISTENER
LISTENER.log = host_log
LISTENER.activated = host_activated
LISTENER.interrupted = interrupted


cdef const infini_registry_api *registry() except NULL:
    """The registry in libinfinirt.so, which is mapped when the first backend is loaded."""
    global _registry
    if _registry != NULL:
        return _registry
    path = os.path.join(discovery.LIBRARIES, "libinfinirt.so")
    cdef void *function = symbol_of(path, "infini_registry")
    if function == NULL:
        raise loading.Refused("failed", f"{path} does not export infini_registry")
    _registry = (<registry_function>function)()
    _registry.listen(&LISTENER)
    read_messages_of(_registry)
    return _registry


cdef void on_activation(activated_function function) noexcept:
    global _activated
    _activated = function


cdef void host_activated(const infini_entry *entry, int32_t device) noexcept nogil:
    cdef int slot
    for slot in range(_MAX_BACKENDS):
        if _entries[slot] == entry and _activated != NULL:
            _activated(slot, device)


cdef void host_log(int32_t level, const char *message) noexcept nogil:
    if level < _threshold or message == NULL:
        return
    if _exiting:
        fprintf(stderr, "infinicore: %s\n", message)
        return
    with gil:
        log(level, message.decode("utf-8", "replace"))


_LEVELS = {
    "trace": INFINI_LOG_DEBUG, "debug": INFINI_LOG_DEBUG, "info": INFINI_LOG_INFO,
    "warn": INFINI_LOG_WARNING, "warning": INFINI_LOG_WARNING,
    "err": INFINI_LOG_ERROR, "error": INFINI_LOG_ERROR, "critical": 50, "off": 1000,
}
_chosen_level = None   # from INFINICORE_LOG_LEVEL; None leaves it to Python's logging


def log(int level, str message):
    """Hand a message to the Python logger ``infinicore``.

    The module ``logging`` is imported for the first message that could be shown, not before.
    """
    if level < _threshold:
        return
    if _chosen_level is None and level < INFINI_LOG_WARNING and "logging" not in sys.modules:
        return  # nobody can have asked for it: Python shows warnings and worse by default
    import logging
    logger = logging.getLogger("infinicore")
    if _chosen_level is not None and not logger.hasHandlers():
        # Asked for by the environment and not otherwise set up: Python's last resort drops info and debug.
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(name)s %(levelname)s: %(message)s"))
        logger.addHandler(handler)
    if _chosen_level is not None:
        logger.setLevel(_chosen_level)
    logger.log(level, message)


cdef bint explains() noexcept:
    # Not for a program that set up logging at debug for its own sake: only the variable asks for this.
    return _chosen_level is not None and _threshold <= INFINI_LOG_DEBUG


def _read_log_level():
    global _chosen_level, _threshold
    text = os.environ.get("INFINICORE_LOG_LEVEL", "").strip().lower()
    if not text:
        _chosen_level, _threshold = None, 0
        return
    level = int(text) if text.isdecimal() else _LEVELS.get(text)
    if level is None:
        _chosen_level, _threshold = None, 0
        log(INFINI_LOG_WARNING,
            f"INFINICORE_LOG_LEVEL={text} is none of {', '.join(_LEVELS)} or a number: ignored")
        return
    _chosen_level, _threshold = level, level


def _at_exit():
    global _exiting
    _exiting = True


# ---- fork ----------------------------------------------------------------------------------------

def _before_fork():
    # So that no other thread is in the middle of a discovery or an open(), which the child would inherit.
    _lock.acquire()


def _after_fork_in_parent():
    _lock.release()


def _after_fork_in_child():
    """No driver survives fork(); our own cpu backend does."""
    cdef Backend backend
    for backend in _backends.values():
        if backend.name != "cpu" and backend.ready:
            backend.ready = False
            backend.condition = "unavailable"
            backend.reason = (
                "it was opened before fork(), and its driver does not work in the child: "
                "start the process with multiprocessing's \"spawn\", or fork before the first use")
    from infinicore import _device
    _device.forget_thread_after_fork()
    _lock.release()


# ---- the registry --------------------------------------------------------------------------------

cdef object _lock = RLock()
cdef dict _backends = {}          # device string -> Backend; replaced, never changed, once discovered
cdef dict _slots = {}             # device string -> Backend.slot, for ever
cdef bint _discovered = False
cdef list _problems = []
cdef Backend _cuda = None         # the vendor that answers to "cuda" in place of infinicore-cuda


cdef Backend new_backend(candidate):
    cdef int slot = _slots.setdefault(candidate.name, len(_slots))
    cdef Backend backend = Backend(candidate, slot)
    if slot >= _MAX_BACKENDS:
        refuse(backend, f"this process has {_MAX_BACKENDS} backends already")
    return backend


cdef int refuse(Backend backend, str reason) except -1:
    backend.opened = True
    backend.condition, backend.reason = "failed", reason
    return 0


cdef int discover_once() except -1:
    if not _discovered:
        with _lock:
            if not _discovered:
                discover()
    return 0


cdef int discover() except -1:
    """Read what is installed now. Backends that are open stay; all others start afresh."""
    global _backends, _discovered, _problems
    cdef Backend backend, old
    candidates, problems = discovery.discover()
    chosen = discovery.Filter(os.environ.get("INFINICORE_BACKENDS", ""))
    for offer in discovery.simulated(chosen):
        candidates.setdefault(offer.name, [offer])
    # Those that were open once: device objects refer to them, and after a fork they must stay refused.
    cdef dict found = {}
    for name, old in _backends.items():
        if name == "cpu" or old.contexts:
            found[name] = old
    for name, offers in sorted(candidates.items()):
        sources = " and ".join(offer.distribution for offer in offers)
        if name == "cpu" or name in discovery.ALIASES:
            owner = "infinicore-core itself" if name == "cpu" else f"an alias of {discovery.ALIASES[name]!r}"
            problems.append(f"{sources} offers a backend called {name!r}, which is {owner}: ignored")
            continue
        if name in found:
            continue
        backend = new_backend(offers[0])
        if len(offers) > 1:
            backend.distribution = sources
            refuse(backend, f"more than one plug-in is called {name!r}: {sources}; keep one of them")
        if not chosen.allows(name):
            backend.disabled = True
            backend.condition = "disabled"
            how = "excludes it" if name in chosen.denied else "does not list it"
            backend.reason = f"INFINICORE_BACKENDS={chosen.text} {how}"
        found[name] = backend
    refuse_equal_numbers(found)
    for name in sorted(chosen.named() - set(found) - set(discovery.NUMBERS)):
        problems.append(f"INFINICORE_BACKENDS={chosen.text} names {name!r}, which is not installed")
    if "cpu" in chosen.denied:
        problems.append(f"INFINICORE_BACKENDS={chosen.text} excludes 'cpu', which is always there: ignored")
    _backends, _problems, _discovered = found, problems, True
    for problem in problems:
        log(INFINI_LOG_WARNING, problem)
    return 0


cdef int refuse_equal_numbers(dict found) except -1:
    cdef Backend backend
    owners = {}
    for backend in found.values():
        other = owners.setdefault(backend.number, backend.name)
        if other != backend.name and not backend.ready:
            refuse(backend, f"its device number {backend.number} is that of {other!r}: "
                            "one of the two needs another name")
    return 0


cdef Backend find_backend(str name):
    cdef Backend backend = _backends.get(name)
    if backend is not None:
        return backend
    cdef str known = canonical_name(name)
    backend = _backends.get(known)
    if backend is None:
        discover_once()
        backend = _backends.get(known)
    if backend is None:  # a public device, or canonical_name would have raised
        raise errors.BackendUnavailable(
            f"{name}: no plug-in for it is installed\n  try: pip install infinicore-{known}")
    return backend


cpdef str canonical_name(str name):
    """The device string that `name` stands for: itself, or what it is an alias of.

    The names of the public devices are answered without a look at what is installed.
    """
    if name in discovery.NUMBERS or name in _backends:
        return name
    known = discovery.ALIASES.get(name)
    if known is not None:
        return known
    discover_once()
    if name in _backends:
        return name
    cdef Backend backend
    for backend in _backends.values():
        # Not for the disabled: they are to stay untouched.
        record = None if backend.disabled else backend.plugin
        if record is not None and name in record.aliases:
            return backend.name
    raise errors.UnknownDevice(f"unknown device {name!r}: present are {present()}")


cdef str present():
    return ", ".join(map(repr, sorted(_backends)))


cdef Backend resolve_backend(str name):
    cdef Backend backend = _backends.get(name)
    if backend is not None and backend.ready:
        return backend
    if canonical_name(name) == "cuda":
        return resolve_cuda(name)
    backend = find_backend(name)
    backend.ensure_ready()
    return backend


cdef Backend resolve_cuda(str name):
    """infinicore-cuda when it is ready, else the one ready vendor whose plug-in is compatible with it."""
    global _cuda
    if _cuda is not None and _cuda.ready:
        return _cuda
    cdef Backend backend
    try:
        backend = find_backend(name)
        backend.ensure_ready()
        return backend
    except errors.BackendUnavailable as error:
        reason = error
    cdef list ready = []
    for backend in list(_backends.values()):
        if backend.name == "cpu" or backend.name == "cuda" or backend.disabled:
            continue
        with _lock:
            if not backend.opened:
                attempt(backend, False)
        if backend.flags & INFINI_BACKEND_CUDA_COMPATIBLE:
            try:
                backend.ensure_ready()
                ready.append(backend)
            except errors.BackendUnavailable:
                pass  # its own reason is kept, and "cuda" is not its name
    if not ready:
        raise reason
    if len(ready) > 1:
        names = " and ".join(repr(backend.name) for backend in ready)
        raise errors.BackendUnavailable(f"{name}: {names} both answer to it: write the one you mean")
    _cuda = ready[0]
    log(INFINI_LOG_INFO, f"'cuda' is {_cuda.name} in this process")
    return _cuda


cpdef str cuda_vendor():
    """Name of the vendor that answers to "cuda" in place of infinicore-cuda; None while there is none."""
    return None if _cuda is None else _cuda.name


class _NotFound(errors.UnknownDevice, KeyError):
    """A key of `infinicore.backends` that names no backend."""

    __str__ = errors.Error.__str__


class Backends(Mapping):
    """Every backend of this process by device string: ``infinicore.backends["cuda"].reason``.

    Looking one up loads nothing; asking for its devices or operators opens it.

    Examples
    --------
    >>> import infinicore as ic
    >>> ic.backends["cpu"].state in ("found", "ready")
    True
    """

    def __getitem__(self, name):
        discover_once()
        backend = _backends.get(discovery.canonical(name))
        if backend is None:
            raise _NotFound(f"unknown backend {name!r}: present are {present()}")
        return backend

    def __iter__(self):
        discover_once()
        return iter(_backends)

    def __len__(self):
        discover_once()
        return len(_backends)

    def __repr__(self):
        return "{" + ", ".join(f"{name!r}: {backend.state}" for name, backend in self.items()) + "}"

    def refresh(self):
        """Look again at what is installed and at the environment; open backends stay as they are."""
        from infinicore import _device
        with _lock:
            discover()
        _device.forget_texts()

    @property
    def problems(self):
        """What discovery could not use, one sentence each."""
        discover_once()
        return list(_problems)


backends = Backends()


def _start():
    import atexit
    atexit.register(_at_exit)
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
    _read_log_level()
    cpu = os.path.join(discovery.LIBRARIES, "libinfinicore_cpu.so")
    _backends["cpu"] = new_backend(discovery.Candidate("cpu", "infinicore-core", library=cpu))


_start()
