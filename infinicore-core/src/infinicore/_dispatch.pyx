# cython: boundscheck=False, wraparound=False
# Operators as Python calls them: arguments to slots, slots to a cached descriptor, descriptor to the kernel.
# A cached call builds no Python object but its result: a Frame on the C stack holds everything else.
cimport cython
from cpython.bool cimport PyBool_Check
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_Check, PyFloat_CheckExact
from cpython.long cimport PyLong_Check, PyLong_CheckExact
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport int64_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from infinicore._backend cimport Backend, explains, find_backend
from infinicore._descriptor cimport (
    SLOT_F64, SLOT_I64, SLOT_INTS, SLOT_TENSOR, SLOT_TENSORS, Cache, Descriptor)
from infinicore._device cimport Context, ThreadState, as_device, current_context, thread_state
from infinicore._dtype cimport dtype, dtype_of
from infinicore._geometry cimport describe_layouts, expanded_layout, layout_of_spec, overlaps_itself, spec_of
from infinicore._graph cimport Recorder, recorder_for
from infinicore._status cimport check
from infinicore._storage cimport Storage, allocate
from infinicore._stream cimport LAUNCH_BLOCKING, stream_handle
from infinicore._tensor cimport Layout, Tensor, contiguous_layout, empty_tensor
from infinicore.abi cimport (
    INFINI_LOG_DEBUG, INFINI_STATUS_SUCCESS, infini_operator, infini_slot, infini_tensor, infini_tensor_list,
    infiniStatus_t, infinirtStream_t)

import atexit
from collections import namedtuple

from infinicore import schema as _schema
from infinicore._fallback import fallback, fallback_counts, fallback_device, note_fallback
from infinicore.errors import (
    ArgumentTypeError, DeviceMismatch, DTypeError, InternalError, InvalidArgument, OperatorNotSupported,
    ShapeError, StrideError)

__all__ = [
    "BoundDescriptor", "CacheInfo", "Operator", "cache_clear", "cache_info", "fallback", "fallback_counts",
    "set_cache_limit"]

cdef extern from *:
    """
    /* Cython has no spelling for a vectorcall slot, so it is put into the finished type. */
    static void infini_enable_vectorcall(PyTypeObject *type, Py_ssize_t offset) {
      type->tp_vectorcall_offset = offset;
      type->tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL;
      type->tp_call = PyVectorcall_Call;
      PyType_Modified(type);
    }
    """
    void infini_enable_vectorcall(PyTypeObject *type, Py_ssize_t offset)

cdef extern from "Python.h":
    Py_ssize_t PyVectorcall_NARGS(size_t count) noexcept
    bint PyObject_TypeCheck(PyObject *value, PyTypeObject *type) noexcept
    long long PyLong_AsLongLongAndOverflow(object value, int *overflow) except? -1
    PyTypeObject *Py_TYPE(PyObject *value) noexcept
    PyObject *Py_True
    PyObject *Py_False
    PyObject *Py_None

# How a keyed scalar is written into a key: a tag, then its value. The tag keeps 1, 1.0 and True apart.
cdef enum Tag:
    TAG_NONE = 1
    TAG_INT
    TAG_FLOAT
    TAG_BOOL
    TAG_DTYPE
    TAG_LIST
    TAG_TENSORS
    TAG_ABSENT

cdef object EMPTY = _schema.EMPTY
cdef PyTypeObject *TENSOR_TYPE = <PyTypeObject *> Tensor
cdef Cache CACHE = Cache(4096)
cdef uint64_t _numbers = 0
cdef list _operators = []           # every Operator made, for cache_info() and cache_clear()

CacheInfo = namedtuple("CacheInfo", "hits misses evictions size limit")
CacheInfo.__doc__ = "Look-ups that hit and missed; descriptors evicted, kept, and the most to keep."


# ---- the frame of one call ---------------------------------------------------------------------------

cdef void *take_block(Frame *frame, size_t size) except NULL:
    """Heap memory that lives until the call returns."""
    cdef void **block = <void **> malloc(sizeof(void *) + size)
    if block == NULL:
        raise MemoryError()
    block[0] = frame.blocks
    frame.blocks = block
    return block + 1


cdef int own(Frame *frame, object value) except -1:
    """Keep a reference until the call returns."""
    if frame.owned_count == 8:
        # Full: the last place becomes a list that takes this one and all that follow.
        if not isinstance(<object> frame.owned[7], list):
            rest = [<object> frame.owned[7]]
            Py_INCREF(rest)
            Py_DECREF(<object> frame.owned[7])
            frame.owned[7] = <PyObject *> rest
        (<list> frame.owned[7]).append(value)
        return 0
    Py_INCREF(value)
    frame.owned[frame.owned_count] = <PyObject *> value
    frame.owned_count += 1
    return 0


cdef void close_frame(Frame *frame) noexcept:
    cdef void **block
    while frame.blocks != NULL:
        block = <void **> frame.blocks
        frame.blocks = block[0]
        free(block)
    while frame.owned_count > 0:
        frame.owned_count -= 1
        Py_DECREF(<object> frame.owned[frame.owned_count])


cdef inline int push(Frame *frame, uint64_t word) except -1:
    if frame.words == frame.capacity:
        grow_key(frame)
    frame.key[frame.words] = word
    frame.words += 1
    return 0


cdef int grow_key(Frame *frame) except -1:
    cdef uint64_t *key = <uint64_t *> take_block(frame, 2 * frame.capacity * sizeof(uint64_t))
    memcpy(key, frame.key, frame.words * sizeof(uint64_t))
    frame.key = key
    frame.capacity *= 2
    return 0


cdef inline uint64_t float_bits(double value) noexcept nogil:
    cdef uint64_t bits
    memcpy(&bits, &value, sizeof(bits))
    return bits


# ---- overlap -----------------------------------------------------------------------------------------

cdef inline bint ranges_meet(Tensor left, Tensor right) noexcept:
    cdef char *a = <char *> left.view.data
    cdef char *b = <char *> right.view.data
    return a + left.layout.low < b + right.layout.high and b + right.layout.low < a + left.layout.high


cdef inline bint same_place(Tensor left, Tensor right) noexcept:
    return left.view.data == right.view.data and left.layout is right.layout


# ---- operators ---------------------------------------------------------------------------------------

@cython.final
cdef class Operator:
    """An operator: call it with tensors, see `infinicore.ops` for what each one takes.

    Parameters
    ----------
    schema : infinicore.schema.Schema
        Signature, checks and reference body.
    """

    def __cinit__(self, schema):
        global _numbers
        cdef int i
        call = schema.call
        self.schema = schema
        self.name = schema.name
        self.call_name = call.name
        _numbers += 1
        self.number = _numbers
        self.vectorcall = <void *> call_operator
        if _numbers == 1:
            infini_enable_vectorcall(
                <PyTypeObject *> Operator, <char *> &self.vectorcall - <char *> <PyObject *> self)
        self.parameter_count = len(call.parameters)
        self.slot_count = len(schema.parameters)
        self.parameters = <Parameter *> calloc(max(1, self.parameter_count), sizeof(Parameter))
        self.template = <infini_slot *> calloc(max(1, self.slot_count), sizeof(infini_slot))
        # One block for the five arrays with a byte per slot.
        self.kinds = <signed char *> calloc(max(1, self.slot_count), 5)
        self.outputs = <int *> calloc(len(call.outputs) + len(call.returns) + 1, sizeof(int))
        if self.parameters == NULL or self.template == NULL or self.kinds == NULL or self.outputs == NULL:
            raise MemoryError()
        self.keyed = self.kinds + self.slot_count
        self.reads = self.kinds + 2 * self.slot_count
        self.writes = self.kinds + 3 * self.slot_count
        self.alias = self.kinds + 4 * self.slot_count
        self.output_count = len(call.outputs)
        self.returned_count = len(call.returns)
        self.returned = self.outputs + self.output_count
        for i in range(self.output_count):
            self.outputs[i] = call.outputs[i]
        for i in range(self.returned_count):
            self.returned[i] = call.returns[i]
        for i in range(self.slot_count):
            self.compile_slot(i, schema.parameters[i], call)
        self.names = tuple([_intern(p.name) for p in call.parameters])
        self.defaults = [p.default for p in call.parameters]
        for i in range(self.parameter_count):
            self.compile_parameter(i, call.parameters[i])
        self.guard = schema.guard
        if self.guard is not None:
            code = self.guard.__code__
            self.guard_slots = [schema.by_name[n].index for n in
                                code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]]
        _operators.append(self)

    cdef int compile_slot(self, int index, object p, object call) except -1:
        self.kinds[index] = {"tensor": SLOT_TENSOR, "tensors": SLOT_TENSORS, "ints": SLOT_INTS,
                             "float": SLOT_F64}.get(p.kind, SLOT_I64)
        if p.is_tensor:
            self.reads[index] = p.role == "in"
            self.writes[index] = p.role != "in"
            self.write_count += self.writes[index]
            self.alias[index] = p.name in self.schema.inplace
            return 0
        self.keyed[index] = p.keyed or p.kind == "ints"
        if not self.keyed[index]:
            value = call.fixed.get(index, p.default)
            if value is not EMPTY:
                self.fill_slot(&self.template[index], p, self.schema.convert(p, value))
        return 0

    cdef int compile_parameter(self, int position, object parameter) except -1:
        cdef Parameter *p = &self.parameters[position]
        p.name = <PyObject *> self.names[position]
        p.slot = parameter.slot
        p.required = parameter.default is EMPTY
        if not parameter.keyword_only:
            self.positional_count = position + 1
        if parameter.slot == parameter.OUT:
            p.kind = CALL_OUT
        elif parameter.slot == parameter.RESERVED:
            p.kind = CALL_RESERVED
        else:
            slot = self.schema.parameters[parameter.slot]
            if slot.role == "out":
                p.kind = CALL_NAMED_OUT
                self.names_outputs = True
                return 0
            p.kind = {"tensor": CALL_TENSOR, "tensors": CALL_TENSORS, "int": CALL_INT, "float": CALL_FLOAT,
                      "bool": CALL_BOOL, "enum": CALL_ENUM, "dtype": CALL_DTYPE, "ints": CALL_INTS}[slot.kind]
            p.keyed = self.keyed[p.slot]
            p.optional = slot.optional or parameter.default is None
            if slot.enum is not None:
                p.type = <PyObject *> slot.enum
            if not slot.is_tensor and not p.keyed and not p.required:
                self.fill_slot(&self.template[p.slot], slot, self.schema.convert(slot, parameter.default))
        return 0

    cdef int fill_slot(self, infini_slot *slot, object p, object value) except -1:
        """A converted plain value, as its slot holds it."""
        if p.kind == "float":
            slot.f64 = value
        elif p.kind == "dtype":
            slot.i64 = _schema.DTYPES[value][0]
        else:
            slot.i64 = value
        return 0

    def __dealloc__(self):
        free(self.parameters)
        free(self.template)
        free(self.kinds)
        free(self.outputs)

    # Python reaches a call through the vectorcall slot; this is for `operator.__call__` itself.
    def __call__(self, *args, **kwargs):
        return call_with(self, args, kwargs, None, None)

    def describe(self, *args, **kwargs):
        """Plan a call without running it.

        Takes what a call takes. Plain scalars given here are the defaults of the descriptor's calls.

        Returns
        -------
        BoundDescriptor
            Call it with tensors of the same layouts: ``d(c, a, b, workspace=w, stream=s)``.
        """
        return describe(self, args, kwargs)

    @property
    def __name__(self):
        return self.call_name

    @property
    def __qualname__(self):
        return self.call_name

    @property
    def __module__(self):
        return self.schema.body.__module__

    @property
    def __doc__(self):
        return self.schema.doc

    @property
    def __signature__(self):
        import inspect
        parameters = []
        for p in self.schema.call.parameters:
            kind = "KEYWORD_ONLY" if p.keyword_only else "POSITIONAL_OR_KEYWORD"
            default = inspect.Parameter.empty if p.required else p.default
            parameters.append(inspect.Parameter(p.name, getattr(inspect.Parameter, kind), default=default))
        return inspect.Signature(parameters)

    def __repr__(self):
        return f"<operator infinicore.{self.schema.call}>"

    def __reduce__(self):
        return self.call_name

    # -- arguments to slots --

    cdef int open_frame(self, Frame *frame) except -1:
        cdef size_t slots = self.slot_count
        frame.owned_count = 0
        frame.blocks = NULL
        frame.context = NULL
        frame.key = frame.inline_key
        frame.capacity = 72
        frame.key[0] = self.number
        frame.words = 2  # the context comes second
        frame.slots = frame.inline_slots
        frame.tensors = frame.inline_tensors
        frame.views = frame.inline_views
        frame.values = frame.inline_values
        if slots > 24:
            frame.slots = <infini_slot *> take_block(frame, slots * sizeof(infini_slot))
            frame.tensors = <PyObject **> take_block(frame, slots * sizeof(PyObject *))
            frame.views = <infini_tensor *> take_block(frame, slots * sizeof(infini_tensor))
        if self.parameter_count > 24:
            frame.values = <PyObject **> take_block(frame, self.parameter_count * sizeof(PyObject *))
        memcpy(frame.slots, self.template, slots * sizeof(infini_slot))
        memset(frame.tensors, 0, slots * sizeof(PyObject *))
        return 0

    cdef int bind(self, Frame *frame, PyObject **arguments, Py_ssize_t count, PyObject *keywords) except -1:
        cdef PyObject *name
        cdef Py_ssize_t i, j, named = 0 if keywords == NULL else PyTuple_GET_SIZE(<object> keywords)
        if count > self.positional_count:
            raise self.too_many(count)
        memcpy(frame.values, arguments, count * sizeof(PyObject *))
        memset(frame.values + count, 0, (self.parameter_count - count) * sizeof(PyObject *))
        for i in range(named):
            name = <PyObject *> PyTuple_GET_ITEM(<object> keywords, i)
            # Names in source code are interned: the same string is the same object.
            for j in range(self.parameter_count - 1, -1, -1):
                if self.parameters[j].name == name:
                    break
            else:
                j = self.position_of(<object> name)
            if frame.values[j] != NULL:
                raise ArgumentTypeError(
                    f"{self.call_name}() got multiple values for argument '{self.names[j]}'")
            frame.values[j] = arguments[count + i]
        return 0

    cdef Py_ssize_t position_of(self, object name) except -1:
        cdef Py_ssize_t i
        for i in range(self.parameter_count):
            if self.names[i] == name:
                return i
        raise ArgumentTypeError(f"{self.call_name}() got an unexpected keyword argument '{name}'; "
                                f"it is {self.schema.call}")

    cdef object too_many(self, Py_ssize_t count):
        takes = self.positional_count
        word = "argument" if takes == 1 else "arguments"
        verb = "was" if count == 1 else "were"
        return ArgumentTypeError(
            f"{self.call_name}() takes {takes} positional {word} but {count} {verb} given; "
            f"it is {self.schema.call}")

    cdef int gather(self, Frame *frame, BoundDescriptor bound) except -1:
        cdef int position
        cdef Parameter *p
        cdef PyObject *value
        cdef Context context
        for position in range(self.parameter_count):
            p = &self.parameters[position]
            value = frame.values[position]
            if value == NULL and bound is not None and bound.values[position] is not None:
                value = frame.values[position] = <PyObject *> bound.values[position]
            if value == NULL:
                if p.required:
                    raise self.missing(frame)
                if p.kind >= CALL_INT:
                    if not p.keyed:
                        continue  # the template has it
                    value = <PyObject *> self.defaults[position]
            if p.kind == CALL_TENSOR:
                self.take_tensor(frame, position, -1, p.slot, value)
            elif p.kind == CALL_OUT:
                self.take_outputs(frame, position, value)
            elif p.kind >= CALL_INT:
                self.take_scalar(frame, position, value)
            elif p.kind == CALL_TENSORS:
                self.take_tensors(frame, position, value)
            elif p.kind == CALL_NAMED_OUT:
                pass  # take_outputs has seen to it
            elif value != NULL and not is_default(<object> value, self.defaults[position]):
                raise InvalidArgument(f"{self.call_name}: {self.names[position]} is reserved, it must be "
                                      f"{self.defaults[position]!r} and not {<object> value!r}")
        if frame.context == NULL:
            context = current_context()
            frame.context = <PyObject *> context
        frame.key[1] = <uint64_t> <uintptr_t> frame.context
        return 0

    cdef object missing(self, Frame *frame):
        cdef int i
        names = [f"'{self.names[i]}'" for i in range(self.parameter_count)
                 if self.parameters[i].required and frame.values[i] == NULL]
        word = "argument" if len(names) == 1 else "arguments"
        return ArgumentTypeError(
            f"{self.call_name}() missing {len(names)} required {word}: {', '.join(names)}; "
            f"it is {self.schema.call}")

    cdef int check_device(self, Frame *frame, Context context, int position, Py_ssize_t item) except -1:
        if frame.context == NULL:
            frame.context = <PyObject *> context
            frame.first = position
            frame.first_item = item
            return 0
        raise DeviceMismatch(
            f"{self.call_name}: {self.name_of(position, item)} is on {context.device}, "
            f"but {self.name_of(frame.first, frame.first_item)} is on {(<Context> frame.context).device}")

    cdef str name_of(self, int position, Py_ssize_t item):
        """A call parameter, or one item of it, in messages."""
        return self.names[position] if item < 0 else f"{self.names[position]}[{item}]"

    cdef int take_tensor(self, Frame *frame, int position, Py_ssize_t item, int slot,
                         PyObject *value) except -1:
        cdef Tensor tensor
        if value == NULL or value == Py_None:
            if not self.parameters[position].optional and self.parameters[position].kind != CALL_OUT:
                raise self.wrong_type(position, item, Py_None, "an infinicore.Tensor")
            return push(frame, TAG_ABSENT)
        if Py_TYPE(value) != TENSOR_TYPE and not PyObject_TypeCheck(value, TENSOR_TYPE):
            raise self.wrong_type(position, item, value, "an infinicore.Tensor")
        tensor = <Tensor> value
        if <PyObject *> tensor.context != frame.context:
            self.check_device(frame, tensor.context, position, item)
        frame.tensors[slot] = value
        frame.slots[slot].tensor = &tensor.view
        return push(frame, <uint64_t> <uintptr_t> <PyObject *> tensor.layout)

    cdef int take_tensors(self, Frame *frame, int position, PyObject *value) except -1:
        cdef int slot = self.parameters[position].slot
        cdef Py_ssize_t i, count
        cdef infini_tensor_list *header
        cdef infini_tensor *items
        cdef Tensor tensor
        if value == NULL or value == Py_None:
            if not self.parameters[position].optional:
                raise self.wrong_type(position, -1, Py_None, "a list or tuple of infinicore.Tensor")
            return push(frame, TAG_ABSENT)
        given = <object> value
        if not PyTuple_CheckExact(given):
            if not isinstance(given, (list, tuple)):
                raise self.wrong_type(position, -1, value, "a list or tuple of infinicore.Tensor")
            # Others may change a list while the kernel runs without the GIL.
            given = tuple(given)
            own(frame, given)
        count = PyTuple_GET_SIZE(given)
        header = <infini_tensor_list *> take_block(
            frame, sizeof(infini_tensor_list) + count * sizeof(infini_tensor))
        items = <infini_tensor *> (header + 1)
        header.count = count
        header.items = items
        push(frame, TAG_TENSORS)
        push(frame, count)
        for i in range(count):
            item = <object> PyTuple_GET_ITEM(given, i)
            if not isinstance(item, Tensor):
                raise self.wrong_type(position, i, <PyObject *> item, "an infinicore.Tensor")
            tensor = <Tensor> item
            if <PyObject *> tensor.context != frame.context:
                self.check_device(frame, tensor.context, position, i)
            items[i] = tensor.view
            push(frame, <uint64_t> <uintptr_t> <PyObject *> tensor.layout)
        frame.tensors[slot] = <PyObject *> given
        frame.slots[slot].tensors = header
        return 0

    cdef int take_outputs(self, Frame *frame, int position, PyObject *value) except -1:
        cdef int i
        if self.output_count == 1:
            return self.take_tensor(frame, position, -1, self.outputs[0], value)
        if self.names_outputs:
            value = self.join_outputs(frame, position, value)
        if value == NULL or value == Py_None:
            return push(frame, TAG_ABSENT)
        given = <object> value
        if not isinstance(given, (list, tuple)) or len(given) != self.output_count:
            names = ", ".join([p.name for p in self.schema.outputs if p.index in self.schema.call.outputs])
            raise self.wrong_type(position, -1, value, f"a tuple of {self.output_count} tensors ({names})")
        if not isinstance(given, tuple):
            given = tuple(given)
            own(frame, given)
        for i in range(self.output_count):
            self.take_tensor(frame, position, i, self.outputs[i], <PyObject *> given[i])
        return 0

    cdef PyObject *join_outputs(self, Frame *frame, int position, PyObject *value) except? NULL:
        """`out=` with the outputs that the call names otherwise, so that all that follows sees one tuple."""
        cdef int i, slot
        cdef list named = []
        for i in range(self.parameter_count):
            if self.parameters[i].kind == CALL_NAMED_OUT:
                if frame.values[i] != NULL and frame.values[i] != Py_None:
                    named.append(i)
        given = None if value == NULL else <object> value
        if given is not None and not isinstance(given, Tensor):
            if named:
                raise InvalidArgument(
                    f"{self.call_name}: {self.names[named[0]]} is given, so out must be one tensor or None "
                    f"and not {type(given).__name__}")
            return value
        if given is None and not named:
            return value
        joined = [given] + [None] * (self.output_count - 1)
        for i in named:
            slot = self.parameters[i].slot
            for place in range(self.output_count):
                if self.outputs[place] == slot:
                    if not isinstance(<object> frame.values[i], Tensor):
                        raise self.wrong_type(i, -1, frame.values[i], "an infinicore.Tensor")
                    joined[place] = <object> frame.values[i]
            frame.values[i] = NULL
        given = tuple(joined)
        own(frame, given)
        frame.values[position] = <PyObject *> given
        return frame.values[position]

    cdef int take_scalar(self, Frame *frame, int position, PyObject *value) except -1:
        cdef Parameter *p = &self.parameters[position]
        cdef infini_slot *slot = &frame.slots[p.slot]
        cdef int overflow = 0
        if p.kind == CALL_FLOAT:
            if PyFloat_CheckExact(<object> value):
                slot.f64 = PyFloat_AS_DOUBLE(<object> value)
            elif PyLong_CheckExact(<object> value):
                slot.i64 = PyLong_AsLongLongAndOverflow(<object> value, &overflow)
                if overflow:
                    return self.take_other(frame, position, <object> value)
                slot.f64 = <double> slot.i64
            else:
                return self.take_other(frame, position, <object> value)
            if p.keyed:
                push(frame, TAG_FLOAT)
                push(frame, float_bits(slot.f64))
            return 0
        if (p.kind == CALL_INT and PyLong_CheckExact(<object> value)) or (
                p.kind == CALL_ENUM and <PyObject *> Py_TYPE(value) == p.type):
            slot.i64 = PyLong_AsLongLongAndOverflow(<object> value, &overflow)
            if overflow:
                return self.take_other(frame, position, <object> value)
            if p.keyed:
                push(frame, TAG_INT)
                push(frame, <uint64_t> slot.i64)
            return 0
        if p.kind == CALL_BOOL and (value == Py_True or value == Py_False):
            slot.i64 = value == Py_True
            if p.keyed:
                push(frame, TAG_BOOL)
                push(frame, <uint64_t> slot.i64)
            return 0
        return self.take_other(frame, position, <object> value)

    # Everything unusual: other types than the expected one, tuples, dtypes, None where it means something.
    cdef int take_other(self, Frame *frame, int position, object value) except -1:
        cdef Parameter *p = &self.parameters[position]
        schema = self.schema
        slot = schema.parameters[p.slot]
        if not p.keyed:
            return self.fill_slot(&frame.slots[p.slot], slot, schema.convert(slot, value))
        if not self.push_value(frame, value):
            converted = schema.convert(slot, value)
            if slot.kind == "dtype":
                push(frame, TAG_DTYPE)
                push(frame, _schema.DTYPES[converted][0])
            elif not self.push_value(frame, converted):
                raise InternalError(f"{self.name}: {slot.name}={value!r} has no place in a key")
        return 0

    cdef bint push_value(self, Frame *frame, object value) except -1:
        """Write a scalar into the key as the caller wrote it; False if of no known type or too large."""
        cdef int overflow = 0
        cdef long long number
        if value is None:
            push(frame, TAG_NONE)
        elif PyBool_Check(value):
            push(frame, TAG_BOOL)
            push(frame, value is True)
        elif PyLong_Check(value):
            number = PyLong_AsLongLongAndOverflow(value, &overflow)
            if overflow:
                return False  # `schema.convert` says so
            push(frame, TAG_INT)
            push(frame, <uint64_t> number)
        elif PyFloat_Check(value):
            push(frame, TAG_FLOAT)
            push(frame, float_bits(PyFloat_AS_DOUBLE(value)))
        elif isinstance(value, dtype):
            push(frame, TAG_DTYPE)
            push(frame, (<dtype> value).code)
        elif isinstance(value, (tuple, list)):
            push(frame, TAG_LIST)
            push(frame, len(value))
            for item in value:
                if not self.push_value(frame, item):
                    # NumPy's integers, for one. Of others `schema.convert` says what is wrong.
                    if (PyLong_Check(item) or not hasattr(item, "__index__")
                            or not self.push_value(frame, item.__index__())):
                        return False
        else:
            return False
        return True

    cdef object wrong_type(self, int position, Py_ssize_t item, PyObject *value, str wanted):
        return ArgumentTypeError(f"{self.call_name}: {self.name_of(position, item)} must be {wanted}, "
                                 f"not {type_name(<object> value)}")

    # -- slots to a descriptor --

    cdef Descriptor find(self, Frame *frame):
        cdef Descriptor descriptor
        with cython.critical_section(self):
            descriptor = self.last
            if (descriptor is not None and descriptor.words == frame.words and descriptor.cached
                    and memcmp(descriptor.key, frame.key, frame.words * sizeof(uint64_t)) == 0):
                self.hits += 1
                descriptor.used = True
            else:
                descriptor = None
        if descriptor is None:
            descriptor = CACHE.find(frame.key, frame.words)
            if descriptor is not None:
                self.remember(descriptor)
        return descriptor

    cdef Descriptor remember(self, Descriptor descriptor):
        cdef Descriptor before
        with cython.critical_section(self):
            before = self.last
            self.last = descriptor
        # `before` may die here, outside the critical section.
        before = None
        return descriptor

    cdef int forget(self) except -1:
        """Let go of a last descriptor that the cache has dropped."""
        cdef Descriptor before = None
        with cython.critical_section(self):
            if self.last is not None and not self.last.cached:
                before = self.last
                self.last = None
        before = None
        return 0

    cdef Descriptor plan(self, Frame *frame):
        """Everything that is worked out once per key: checks, shapes, the vendor's plan."""
        cdef Context context = <Context> frame.context
        cdef Descriptor descriptor = Descriptor.__new__(Descriptor)
        cdef Layout layout
        cdef int i
        schema = self.schema
        resolved = schema.resolve(self.written_values(frame))
        descriptor.name = self.name
        descriptor.context = context
        descriptor.set_key(frame.key, frame.words)
        descriptor.set_slots(self.slot_count)
        descriptor.specs = resolved.specs
        descriptor.values = resolved.values
        layouts, expanded, outputs = [], [None] * self.slot_count, [None] * self.slot_count
        for i in range(self.slot_count):
            if frame.tensors[i] != NULL:
                if self.kinds[i] == SLOT_TENSORS:
                    layouts.extend([(<Tensor> tensor).layout for tensor in <tuple> frame.tensors[i]])
                else:
                    layout = (<Tensor> frame.tensors[i]).layout
                    layouts.append(layout)
                    if i in resolved.expand:
                        expanded[i] = expanded_layout(layout, resolved.specs[i].shape)
                        descriptor.expands = True
            if self.writes[i]:
                if frame.tensors[i] != NULL:
                    outputs[i] = (<Tensor> frame.tensors[i]).layout
                    if overlaps_itself(<Layout> outputs[i]):
                        raise StrideError(
                            f"{self.name}: {schema.parameters[i].name} is {describe_layouts(outputs[i])}: "
                            "elements that are written share memory")
                else:
                    outputs[i] = layout_of_spec(resolved.specs[i])
            elif self.keyed[i]:
                p = schema.parameters[i]
                if self.kinds[i] == SLOT_INTS:
                    descriptor.slots[i].ints = descriptor.hold_ints(resolved.values[i])
                else:
                    self.fill_slot(&descriptor.slots[i], p, resolved.values[i])
                frame.slots[i] = descriptor.slots[i]
        descriptor.layouts = tuple(layouts)
        descriptor.expanded = tuple(expanded)
        descriptor.outputs = tuple(outputs)
        self.find_kernel(frame, descriptor)
        if explains():
            self.explain(descriptor)
        return descriptor

    cdef int find_kernel(self, Frame *frame, Descriptor descriptor) except -1:
        """Let the backend plan, or keep the reason why it does not where the operator may run otherwise."""
        cdef Context context = descriptor.context
        cdef const infini_operator *kernel = context.backend.find(self.name)
        if kernel == NULL:
            descriptor.refusal = self.unsupported(context)
            if context.backend.name != "cpu" and fallback_device() is None:
                raise descriptor.refusal
            return 0
        try:
            self.create(frame, descriptor, kernel)
        except (OperatorNotSupported, DTypeError, ShapeError, StrideError) as refusal:
            # The kernel is there and does not take this combination.
            if fallback_device() is None:
                raise
            descriptor.refusal = refusal.with_traceback(None)
        return 0

    cdef int explain(self, Descriptor descriptor) except -1:
        """Log the way from the call to what runs: once per plan, since later calls find it in the cache."""
        from infinicore._backend import log
        cdef Context context = descriptor.context
        words = []
        for p, name, spec, value in zip(
                self.schema.parameters, self.schema.call.names, descriptor.specs, descriptor.values):
            if p.is_tensor and spec is not None:
                words.append(f"{name}={spec}")
            elif self.keyed[p.index]:
                words.append(f"{name}={value}")
        if descriptor.refusal is None:
            what = (f"kernel of {context.backend.distribution} on {context.device}, "
                    f"workspace {descriptor.workspace_bytes} bytes")
        else:
            what = "its NumPy body" if context.backend.name == "cpu" else f"the CPU ({descriptor.refusal})"
        log(INFINI_LOG_DEBUG,
            f"infinicore.{self.call_name} -> {self.name} (in C: infiniop{self.schema.c.base}) -> {what}: "
            f"{', '.join(words)}")
        return 0

    cdef int create(self, Frame *frame, Descriptor descriptor, const infini_operator *kernel) except -1:
        """Show the kernel the call as it will be, outputs without memory where they are still to be made."""
        cdef size_t size = max(1, self.slot_count) * sizeof(infini_slot)
        cdef infini_slot *slots = <infini_slot *> take_block(frame, size)
        cdef Layout layout
        cdef int i
        memcpy(slots, frame.slots, self.slot_count * sizeof(infini_slot))
        for i in range(self.slot_count):
            layout = None
            if descriptor.expanded[i] is not None:
                layout = <Layout> descriptor.expanded[i]
            elif self.writes[i] and frame.tensors[i] == NULL:
                layout = <Layout> descriptor.outputs[i]
            if layout is not None:
                frame.views[i].data = NULL
                describe_layout(&frame.views[i], layout)
                slots[i].tensor = &frame.views[i]
        return descriptor.create(kernel, slots)

    cdef list written_values(self, Frame *frame):
        """What `Schema.resolve` takes, per slot: specs of tensors, scalars as the caller wrote them."""
        cdef int i
        cdef Parameter *p
        values = [None] * self.slot_count
        for i in range(self.slot_count):
            if frame.tensors[i] != NULL:
                if self.kinds[i] == SLOT_TENSORS:
                    values[i] = [spec_of((<Tensor> tensor).layout) for tensor in <tuple> frame.tensors[i]]
                else:
                    values[i] = spec_of((<Tensor> frame.tensors[i]).layout)
        for index, value in self.schema.call.fixed.items():
            values[index] = value
        for i in range(self.parameter_count):
            p = &self.parameters[i]
            if p.kind >= CALL_INT:
                values[p.slot] = <object> frame.values[i] if frame.values[i] != NULL else self.defaults[i]
        for i, parameter in enumerate(self.schema.parameters):
            if not parameter.is_tensor and values[i] is None and parameter.default is not EMPTY:
                if i not in self.schema.call.fixed and not self.is_called(i):
                    values[i] = parameter.default
        return values

    cdef bint is_called(self, int slot):
        cdef int i
        for i in range(self.parameter_count):
            if self.parameters[i].slot == slot:
                return True
        return False

    cdef object unsupported(self, Context context):
        from infinicore._backend import backends
        cdef Backend backend
        native = []
        # Of the others only those in use: naming a possibility must not load vendor libraries.
        find_backend("cpu").ensure_ready()
        for backend in backends.values():
            if backend.ready and backend.find(self.name) != NULL:
                native.append(backend.name)
        lost = context.backend.lost.get(self.name)
        reason = f" ({lost})" if lost else ""
        where = f"backends that have it: {', '.join(native)}" if native else "no open backend has it"
        return OperatorNotSupported(
            f"{self.name}: {context.backend.name} has no kernel for it{reason}; {where}. "
            'infinicore.fallback("cpu") or INFINICORE_FALLBACK=cpu runs it on the CPU')

    # -- the call --

    cdef object call(self, PyObject **arguments, Py_ssize_t count, PyObject *keywords, BoundDescriptor bound,
                     object workspace):
        cdef Frame frame
        cdef Descriptor descriptor
        self.open_frame(&frame)
        try:
            self.bind(&frame, arguments, count, keywords)
            self.gather(&frame, bound)
            if bound is None:
                descriptor = self.find(&frame)
                if descriptor is None:
                    descriptor = self.remember(CACHE.store(self.plan(&frame)))
            else:
                descriptor = bound.descriptor
                bound.check_call(&frame)
            return self.run(&frame, descriptor, workspace)
        finally:
            if frame.blocks != NULL or frame.owned_count != 0:
                close_frame(&frame)

    cdef object run(self, Frame *frame, Descriptor descriptor, object workspace):
        cdef Context context = descriptor.context
        cdef ThreadState *state = thread_state()
        cdef infinirtStream_t stream = state.streams[context.slot]
        cdef uint64_t bytes = descriptor.workspace_bytes
        cdef void *scratch = NULL
        cdef Storage storage
        cdef Tensor tensor
        cdef Recorder recorder = None
        cdef infiniStatus_t status
        cdef bint given = False
        cdef int i
        if not context.backend.ready:
            context.backend.ensure_ready()
        for i in range(self.slot_count):
            if self.writes[i]:
                if frame.tensors[i] != NULL:
                    given = True
            elif self.keyed[i]:
                frame.slots[i] = descriptor.slots[i]
        if self.guard is not None:
            self.check_values(frame, descriptor)
        if given:
            if self.overlaps(frame, NULL):
                slots = []
                self.overlaps(frame, <PyObject *> slots)
                return self.run_through_temporaries(frame, slots)
        for i in range(self.output_count):
            if frame.tensors[self.outputs[i]] == NULL:
                tensor = empty_tensor(context, <Layout> descriptor.outputs[self.outputs[i]])
                own(frame, tensor)
                frame.tensors[self.outputs[i]] = <PyObject *> tensor
                frame.slots[self.outputs[i]].tensor = &tensor.view
        if descriptor.kernel == NULL:
            if fallback_device() is None and context.backend.name != "cpu":
                raise type(descriptor.refusal)(*descriptor.refusal.args)
            if state.recorder != NULL:
                raise OperatorNotSupported(
                    f"{self.name}: has no kernel on {context.device}, so no graph can record it")
            if context.backend.name == "cpu":
                self.run_reference(frame, descriptor)
            else:
                self.run_on_cpu(frame, descriptor)
            return self.results(frame)
        if descriptor.expands:
            for i in range(self.slot_count):
                if descriptor.expanded[i] is not None:
                    frame.views[i].data = (<Tensor> frame.tensors[i]).view.data
                    describe_layout(&frame.views[i], <Layout> descriptor.expanded[i])
                    frame.slots[i].tensor = &frame.views[i]
        if state.recorder != NULL:
            recorder = recorder_for(context, self.name)
        if workspace is not None:
            scratch = given_workspace(descriptor, workspace, stream)
        elif recorder is not None:
            scratch = recorder.workspace(bytes, stream)
        elif bytes != 0:
            storage = allocate(context, bytes)
            scratch = storage.data
        self.use_on_stream(frame, stream)
        if recorder is not None:
            self.record(frame, descriptor, recorder, workspace)
            if not recorder.capturing:
                recorder.add(descriptor, scratch, frame.slots, self.kinds, self.slot_count)
                return self.results(frame)
        context.activate()
        with nogil:
            status = descriptor.kernel.execute(descriptor.handle, scratch, bytes, frame.slots, stream)
            if LAUNCH_BLOCKING and status == INFINI_STATUS_SUCCESS and recorder is None:
                status = context.runtime.stream_synchronize(stream)
        if status != INFINI_STATUS_SUCCESS:
            check(status, self.name)
        return self.results(frame)

    cdef object results(self, Frame *frame):
        cdef int i
        if self.returned_count == 1:
            return <object> frame.tensors[self.returned[0]]
        return tuple([<object> frame.tensors[self.returned[i]] for i in range(self.returned_count)])

    cdef int use_on_stream(self, Frame *frame, infinirtStream_t stream) except -1:
        """Tell memory of other streams that this one uses it, so that nobody reuses it too early."""
        cdef Tensor tensor
        cdef int i
        for i in range(self.slot_count):
            if frame.tensors[i] == NULL:
                continue
            if self.kinds[i] == SLOT_TENSORS:
                for tensor in <tuple> frame.tensors[i]:
                    if tensor.storage.stream != stream:
                        tensor.storage.record_stream(stream)
            else:
                tensor = <Tensor> frame.tensors[i]
                if tensor.storage.stream != stream:
                    tensor.storage.record_stream(stream)
        return 0

    cdef int record(self, Frame *frame, Descriptor descriptor, Recorder recorder, object workspace) except -1:
        """The graph keeps alive what this call uses."""
        cdef Tensor tensor
        cdef int i
        recorder.held.append(descriptor)
        if workspace is not None:
            recorder.hold((<Tensor> workspace).storage)
        for i in range(self.slot_count):
            if frame.tensors[i] == NULL:
                continue
            found = <object> frame.tensors[i]
            for tensor in found if self.kinds[i] == SLOT_TENSORS else (found,):
                recorder.hold(tensor.storage)
                recorder.held.append(tensor.layout)
        return 0

    cdef int check_values(self, Frame *frame, Descriptor descriptor) except -1:
        """Run the operator's own check of plain values."""
        cdef int i
        values = self.scalars(frame, descriptor)
        arguments = {}
        for i in self.guard_slots:
            p = self.schema.parameters[i]
            arguments[p.name] = descriptor.specs[i] if p.is_tensor else values[i]
        self.guard(**arguments)
        return 0

    cdef list scalars(self, Frame *frame, Descriptor descriptor):
        """Final scalars of this call, per slot; None for tensors."""
        cdef int i
        values = list(descriptor.values)
        for i in range(self.slot_count):
            if self.kinds[i] == SLOT_F64 and not self.keyed[i]:
                values[i] = frame.slots[i].f64
            elif self.kinds[i] == SLOT_I64 and not self.keyed[i]:
                p = self.schema.parameters[i]
                if p.kind == "dtype":
                    values[i] = dtype_of(<int> frame.slots[i].i64).short
                else:
                    values[i] = self.schema.convert(p, bool(frame.slots[i].i64) if p.kind == "bool"
                                                    else frame.slots[i].i64)
        return values

    # -- overlap --

    cdef bint overlaps(self, Frame *frame, PyObject *found) except -1:
        """Whether a written tensor shares memory with another operand in a way the kernel may not see.

        Appends the slots of such tensors to the list `found`, or stops at the first where it is NULL."""
        cdef Tensor written, other
        cdef int i, j
        cdef bint clash, any = False
        for i in range(self.slot_count):
            if not self.writes[i] or frame.tensors[i] == NULL:
                continue
            written = <Tensor> frame.tensors[i]
            clash = False
            for j in range(self.slot_count):
                if j == i or frame.tensors[j] == NULL:
                    continue
                if self.kinds[j] == SLOT_TENSORS:
                    for other in <tuple> frame.tensors[j]:
                        clash |= ranges_meet(written, other)
                    continue
                other = <Tensor> frame.tensors[j]
                if not ranges_meet(written, other):
                    continue
                if self.writes[j]:
                    raise InvalidArgument(
                        f"{self.name}: {self.schema.parameters[i].name} and {self.schema.parameters[j].name} "
                        "are both written and share memory")
                clash |= not (self.alias[j] and same_place(written, other))
            if clash:
                any = True
                if found == NULL:
                    return True
                (<list> found).append(i)
        return any

    cdef object run_through_temporaries(self, Frame *frame, list slots):
        """Compute overlapping outputs elsewhere, then copy."""
        cdef Tensor tensor, temporary
        cdef Layout layout
        cdef int i, position
        pairs = {}
        for i in slots:
            tensor = <Tensor> frame.tensors[i]
            layout = tensor.layout
            temporary = empty_tensor(
                tensor.context, contiguous_layout(layout.dtype, layout.ndim, layout.shape))
            if self.schema.parameters[i].role == "inout":
                temporary.copy_(tensor)
            pairs[i] = (tensor, temporary)
        arguments = []
        for position in range(self.parameter_count):
            given = <object> frame.values[position] if frame.values[position] != NULL else None
            if self.parameters[position].kind == CALL_OUT and given is not None:
                if self.output_count == 1:
                    given = pairs[self.outputs[0]][1] if self.outputs[0] in pairs else given
                else:
                    given = tuple([pairs[self.outputs[i]][1] if self.outputs[i] in pairs else given[i]
                                   for i in range(self.output_count)])
            elif self.parameters[position].kind != CALL_NAMED_OUT and (
                    self.parameters[position].slot in pairs):
                given = pairs[self.parameters[position].slot][1]
            if frame.values[position] != NULL:
                arguments.append((self.names[position], given))
        # Through the cache, not through `bound`: the temporaries have layouts of their own.
        call_with(self, (), dict(arguments), None, None)
        for tensor, temporary in pairs.values():
            tensor.copy_(temporary)
        return self.results(frame)

    # -- without a kernel --

    cdef int run_reference(self, Frame *frame, Descriptor descriptor) except -1:
        """The NumPy body, on this host's memory."""
        cdef int i
        note_fallback(self.name, "cpu", "its NumPy body runs")
        values = self.scalars(frame, descriptor)
        for i in range(self.slot_count):
            if frame.tensors[i] == NULL:
                continue
            if self.kinds[i] == SLOT_TENSORS:
                values[i] = [(<object> tensor).numpy() for tensor in <tuple> frame.tensors[i]]
            else:
                values[i] = (<object> frame.tensors[i]).numpy()
                if descriptor.expanded[i] is not None:
                    values[i] = _schema.np.broadcast_to(values[i], descriptor.specs[i].shape)
        results = self.schema.run_reference(values)
        for p, result in zip(self.schema.outputs, results):
            # One rounding, from the precision of the body to the output's.
            values[p.index][...] = _schema.np.asarray(result).astype(values[p.index].dtype)
        return 0

    cdef int run_on_cpu(self, Frame *frame, Descriptor descriptor) except -1:
        """Copies on the CPU, the same operator there, and the results back."""
        cdef int i, position
        note_fallback(self.name, descriptor.context.backend.name, "it runs on the CPU")
        keywords = {}
        copies = {}
        for i in range(self.slot_count):
            if frame.tensors[i] == NULL:
                continue
            if self.kinds[i] == SLOT_TENSORS:
                copies[i] = [(<object> tensor).to("cpu") for tensor in <tuple> frame.tensors[i]]
            else:
                copies[i] = (<object> frame.tensors[i]).to("cpu")
        for position in range(self.parameter_count):
            if self.parameters[position].kind == CALL_OUT:
                outs = tuple([copies[self.outputs[i]] for i in range(self.output_count)])
                keywords[self.names[position]] = outs[0] if self.output_count == 1 else outs
            elif self.parameters[position].kind != CALL_NAMED_OUT and (
                    self.parameters[position].slot in copies):
                keywords[self.names[position]] = copies[self.parameters[position].slot]
            elif frame.values[position] != NULL:
                keywords[self.names[position]] = <object> frame.values[position]
        call_with(self, (), keywords, None, None)
        for i in range(self.slot_count):
            if self.writes[i]:
                (<object> frame.tensors[i]).copy_(copies[i])
        return 0


cdef inline void describe_layout(infini_tensor *view, Layout layout) noexcept:
    view.shape = layout.shape
    view.strides = layout.strides
    view.ndim = layout.ndim
    view.dtype = layout.dtype.code


cdef bint is_default(object value, object default) except -1:
    # Types first: tensors compare element by element.
    return value is default or (type(value) is type(default) and value == default)


cdef str type_name(object value):
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


cdef object _intern(str name):
    import sys
    return sys.intern(name)


# The vectorcall slot of Operator.
cdef object call_operator(object operator, PyObject **arguments, size_t count, PyObject *keywords):
    return (<Operator> operator).call(arguments, PyVectorcall_NARGS(count), keywords, None, None)


cdef object call_with(Operator op, tuple args, dict kwargs, BoundDescriptor bound, object workspace):
    """A call from a tuple and a dictionary."""
    cdef tuple names = tuple(kwargs)
    cdef list flat = [*args, *kwargs.values()]
    cdef Py_ssize_t i, count = len(flat)
    cdef PyObject **arguments = <PyObject **> malloc((count + 1) * sizeof(PyObject *))
    if arguments == NULL:
        raise MemoryError()
    try:
        for i in range(count):
            arguments[i] = <PyObject *> flat[i]
        return op.call(arguments, len(args), <PyObject *> names, bound, workspace)
    finally:
        free(arguments)


# From here on `infinicore.ops` makes callables of its signatures.
_schema.wrap = Operator


# ---- explicit descriptors ----------------------------------------------------------------------------

cdef BoundDescriptor describe(Operator op, tuple args, dict kwargs):
    cdef BoundDescriptor bound = BoundDescriptor.__new__(BoundDescriptor)
    cdef Frame frame
    cdef PyObject **arguments
    cdef tuple names = tuple(kwargs)
    cdef list flat = [*args, *kwargs.values()]
    cdef Py_ssize_t i
    op.open_frame(&frame)
    try:
        arguments = <PyObject **> take_block(&frame, (len(flat) + 1) * sizeof(PyObject *))
        for i in range(len(flat)):
            arguments[i] = <PyObject *> flat[i]
        op.bind(&frame, arguments, len(args), <PyObject *> names)
        op.gather(&frame, None)
        bound.op = op
        bound.descriptor = op.plan(&frame)
        if bound.descriptor.kernel == NULL:
            raise bound.descriptor.refusal
        bound.values = [None] * op.parameter_count
        for i in range(op.parameter_count):
            if op.parameters[i].kind >= CALL_INT and frame.values[i] != NULL:
                bound.values[i] = <object> frame.values[i]
        bound.layouts = [None] * op.slot_count
        for i in range(op.slot_count):
            if op.writes[i]:
                bound.layouts[i] = bound.descriptor.outputs[i]
            elif frame.tensors[i] != NULL and op.kinds[i] == SLOT_TENSORS:
                bound.layouts[i] = tuple([(<Tensor> tensor).layout for tensor in <tuple> frame.tensors[i]])
            elif frame.tensors[i] != NULL:
                bound.layouts[i] = (<Tensor> frame.tensors[i]).layout
        return bound
    finally:
        close_frame(&frame)


@cython.final
cdef class BoundDescriptor:
    """An operator planned once for explicit use, made by `Operator.describe`.

    Call it like the operator, with tensors of the layouts it was made for. Scalars that are not given again
    keep the values of ``describe()``. It belongs to no cache and lives as long as this object.

    Examples
    --------
    >>> d = infinicore.gemm.describe(c, a, b, alpha=0.5)
    >>> w = infinicore.empty((d.workspace_bytes,), dtype=infinicore.uint8)
    >>> d(c, a, b, workspace=w)
    """

    def __init__(self):
        raise TypeError("descriptors are made by the describe() method of an operator")

    @property
    def operator(self):
        """The `Operator` it belongs to."""
        return self.op

    @property
    def workspace_bytes(self):
        """Bytes of device memory that a call needs beside its tensors."""
        return self.descriptor.workspace_bytes

    @property
    def device(self):
        """The device it was made for."""
        return self.descriptor.context.device

    def __call__(self, *args, workspace=None, stream=None, **kwargs):
        """Run the operator.

        Parameters
        ----------
        *args, **kwargs
            As for the operator.
        workspace : Tensor, optional
            At least `workspace_bytes` bytes on the same device, 64-byte aligned; the allocator's by default.
        stream : Stream, optional
            This thread's current stream by default.
        """
        cdef Context context = self.descriptor.context
        cdef infinirtStream_t before = thread_state().streams[context.slot]
        if stream is None:
            return call_with(self.op, args, kwargs, self, workspace)
        thread_state().streams[context.slot] = stream_handle(stream, context, self.descriptor.name)
        try:
            return call_with(self.op, args, kwargs, self, workspace)
        finally:
            thread_state().streams[context.slot] = before

    def __repr__(self):
        return (f"<descriptor of {self.op.schema.call} on {self.descriptor.context.device}, "
                f"{self.descriptor.workspace_bytes} bytes of workspace>")

    cdef int check_call(self, Frame *frame) except -1:
        """Raise unless the call is one that this descriptor was made for."""
        cdef Operator op = self.op
        cdef int i
        cdef Parameter *p
        if frame.context != <PyObject *> self.descriptor.context:
            raise DeviceMismatch(f"{op.name}: the descriptor is for {self.descriptor.context.device}, "
                                 f"but the tensors are on {(<Context> frame.context).device}")
        for i in range(op.slot_count):
            given = None
            if frame.tensors[i] != NULL and op.kinds[i] == SLOT_TENSORS:
                given = tuple([(<Tensor> tensor).layout for tensor in <tuple> frame.tensors[i]])
            elif frame.tensors[i] != NULL:
                given = (<Tensor> frame.tensors[i]).layout
            elif op.writes[i]:
                continue
            # Layouts are interned, so that equal ones are identical.
            if given != self.layouts[i]:
                raise InvalidArgument(
                    f"{op.name}: {op.schema.parameters[i].name} is {describe_layouts(given)}, "
                    f"but the descriptor was made for {describe_layouts(self.layouts[i])}")
        for i in range(op.parameter_count):
            p = &op.parameters[i]
            if p.kind < CALL_INT or not p.keyed or frame.values[i] == NULL:
                continue
            planned = op.defaults[i] if self.values[i] is None else self.values[i]
            if <object> frame.values[i] != planned:
                raise InvalidArgument(f"{op.name}: {op.names[i]} is {<object> frame.values[i]!r}, "
                                      f"but the descriptor was made for {planned!r}")
        return 0


cdef void *given_workspace(Descriptor descriptor, object workspace, infinirtStream_t stream) except? NULL:
    """The memory of a workspace that the caller brought."""
    cdef Tensor tensor
    cdef int64_t bytes
    if not isinstance(workspace, Tensor):
        raise ArgumentTypeError(
            f"{descriptor.name}: workspace must be an infinicore.Tensor, not {type_name(workspace)}")
    tensor = <Tensor> workspace
    if tensor.context is not descriptor.context:
        raise DeviceMismatch(f"{descriptor.name}: workspace is on {tensor.context.device}, "
                             f"but the descriptor is for {descriptor.context.device}")
    if not tensor.layout.contiguous:
        raise StrideError(
            f"{descriptor.name}: workspace must be contiguous, it is {describe_layouts(tensor.layout)}")
    bytes = tensor.layout.high
    if <uint64_t> bytes < descriptor.workspace_bytes:
        raise InvalidArgument(f"{descriptor.name}: workspace has {bytes} bytes, "
                              f"but {descriptor.workspace_bytes} are needed")
    if descriptor.workspace_bytes == 0:
        return NULL
    if <uintptr_t> tensor.view.data % 64:
        raise InvalidArgument(f"{descriptor.name}: workspace starts at {<uintptr_t> tensor.view.data:#x}, "
                              "which is not a multiple of 64")
    if tensor.storage.stream != stream:
        tensor.storage.record_stream(stream)
    return tensor.view.data


# ---- the cache, as users see it ----------------------------------------------------------------------

def cache_info():
    """How the descriptor cache does.

    Returns
    -------
    CacheInfo
        ``hits`` and ``misses`` count look-ups, one per operator call; replaying a graph makes none.

    Examples
    --------
    >>> import infinicore as ic
    >>> info = ic.cache_info()
    >>> info.size <= info.limit
    True
    """
    cdef Operator op
    cdef uint64_t hits = CACHE.hits
    for op in _operators:
        hits += op.hits
    return CacheInfo(hits, CACHE.misses, CACHE.evictions, CACHE.size, CACHE.limit)


def cache_clear(device=None):
    """Forget every descriptor, or those of one device's backend; calls in progress keep theirs.

    Parameters
    ----------
    device : device or str, optional

    Returns
    -------
    int
        How many were forgotten.

    Examples
    --------
    >>> import infinicore as ic
    >>> _ = ic.cache_clear()
    >>> ic.cache_info().size
    0
    """
    cdef Operator op
    count = CACHE.clear(None if device is None else as_device(device).context().backend)
    for op in _operators:
        op.forget()
    return count


def set_cache_limit(limit):
    """Keep at most `limit` descriptors from now on; 0 keeps none. Returns the limit before.

    Examples
    --------
    >>> import infinicore as ic
    >>> limit = ic.cache_info().limit
    >>> ic.set_cache_limit(100) == limit
    True
    >>> ic.set_cache_limit(limit)
    100
    """
    before = CACHE.limit
    if not isinstance(limit, int) or limit < 0:
        raise InvalidArgument(f"set_cache_limit: limit is {limit!r}, but must be an int of 0 or more")
    CACHE.limit = limit
    return before


# Descriptors are destroyed while their plug-ins and the interpreter are whole.
atexit.register(cache_clear)
