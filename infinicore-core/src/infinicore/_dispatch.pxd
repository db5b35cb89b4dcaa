# Operators as Python calls them: arguments to slots, slots to a cached descriptor, descriptor to the kernel.
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t
from infinicore.abi cimport infini_operator, infini_slot, infini_tensor, infinirtStream_t
from infinicore._descriptor cimport Descriptor
from infinicore._device cimport Context
from infinicore._graph cimport Recorder

# What a parameter of the Python call becomes.
cdef enum ParameterKind:
    CALL_TENSOR
    CALL_TENSORS
    CALL_OUT            # `out=`: one tensor, or a tuple with one per output
    CALL_NAMED_OUT      # one of several outputs under a name of its own, beside `out=`
    CALL_RESERVED       # only its default is accepted
    CALL_INT
    CALL_FLOAT
    CALL_BOOL
    CALL_ENUM
    CALL_DTYPE
    CALL_INTS

cdef struct Parameter:
    PyObject *name      # interned; the Operator's `names` own it
    PyObject *type      # of an enum
    int slot
    int kind
    bint keyed          # its value is part of the key
    bint optional       # None is allowed
    bint required

# One call in progress, on the C stack. Arrays point at the inline ones unless the signature is longer.
cdef struct Frame:
    PyObject **values       # per call parameter: borrowed from the caller; NULL: not given
    infini_slot *slots      # per slot
    PyObject **tensors      # per slot: the Tensor, or the tuple of them; NULL: none
    infini_tensor *views    # per slot: room for an expanded view
    uint64_t *key
    size_t words
    size_t capacity
    PyObject *context       # borrowed; NULL: no tensor yet
    int first               # the parameter that decided the context,
    Py_ssize_t first_item   # and which of its items, or -1
    int owned_count
    PyObject *owned[8]      # references that live until the call returns
    void *blocks            # heap memory that lives until the call returns: a chain
    PyObject *inline_values[24]
    infini_slot inline_slots[24]
    PyObject *inline_tensors[24]
    infini_tensor inline_views[24]
    uint64_t inline_key[72]

cdef class Operator:
    cdef void *vectorcall           # where tp_vectorcall_offset points
    cdef readonly object schema
    cdef readonly str name          # of the kernel; __name__ is the Python call's
    cdef str call_name
    cdef uint64_t number            # unique in the process: the first word of its keys
    cdef tuple names
    cdef list defaults              # per call parameter, as the signature writes it; EMPTY: required
    cdef Parameter *parameters
    cdef int parameter_count
    cdef int positional_count
    cdef int slot_count
    cdef infini_slot *template      # plain defaults and fixed scalars
    cdef signed char *kinds         # SlotKind per slot
    cdef signed char *keyed         # per slot: the descriptor knows its value
    cdef signed char *reads         # per slot: a tensor that is read
    cdef signed char *writes        # per slot: a tensor that is written
    cdef signed char *alias         # per slot: an output may be exactly this input
    cdef int *outputs               # slots that `out=` fills
    cdef int output_count
    cdef bint names_outputs         # some parameter is CALL_NAMED_OUT
    cdef int *returned              # slots that come back
    cdef int returned_count
    cdef int write_count
    cdef object guard
    cdef list guard_slots
    cdef Descriptor last            # of the latest call
    cdef uint64_t hits              # calls that `last` served

    cdef int open_frame(self, Frame *frame) except -1
    cdef int bind(self, Frame *frame, PyObject **arguments, Py_ssize_t count, PyObject *keywords) except -1
    cdef int gather(self, Frame *frame, BoundDescriptor bound) except -1
    cdef int take_tensor(self, Frame *frame, int position, Py_ssize_t item, int slot,
                         PyObject *value) except -1
    cdef int take_tensors(self, Frame *frame, int position, PyObject *value) except -1
    cdef int take_outputs(self, Frame *frame, int position, PyObject *value) except -1
    cdef PyObject *join_outputs(self, Frame *frame, int position, PyObject *value) except? NULL
    cdef int take_scalar(self, Frame *frame, int position, PyObject *value) except -1
    cdef int take_other(self, Frame *frame, int position, object value) except -1
    cdef int check_device(self, Frame *frame, Context context, int position, Py_ssize_t item) except -1
    cdef str name_of(self, int position, Py_ssize_t item)
    cdef Descriptor find(self, Frame *frame)
    cdef Descriptor plan(self, Frame *frame)
    cdef Descriptor remember(self, Descriptor descriptor)
    cdef int forget(self) except -1
    cdef int compile_slot(self, int index, object p, object call) except -1
    cdef int compile_parameter(self, int position, object parameter) except -1
    cdef int fill_slot(self, infini_slot *slot, object p, object value) except -1
    cdef Py_ssize_t position_of(self, object name) except -1
    cdef object too_many(self, Py_ssize_t count)
    cdef object missing(self, Frame *frame)
    cdef bint push_value(self, Frame *frame, object value) except -1
    cdef object wrong_type(self, int position, Py_ssize_t item, PyObject *value, str wanted)
    cdef int create(self, Frame *frame, Descriptor descriptor, const infini_operator *kernel) except -1
    cdef int find_kernel(self, Frame *frame, Descriptor descriptor) except -1
    cdef int explain(self, Descriptor descriptor) except -1
    cdef list written_values(self, Frame *frame)
    cdef bint is_called(self, int slot)
    cdef object unsupported(self, Context context)
    cdef object call(self, PyObject **arguments, Py_ssize_t count, PyObject *keywords, BoundDescriptor bound,
                     object workspace)
    cdef object run(self, Frame *frame, Descriptor descriptor, object workspace)
    cdef int check_values(self, Frame *frame, Descriptor descriptor) except -1
    cdef bint overlaps(self, Frame *frame, PyObject *found) except -1
    cdef object run_through_temporaries(self, Frame *frame, list slots)
    cdef int use_on_stream(self, Frame *frame, infinirtStream_t stream) except -1
    cdef int record(self, Frame *frame, Descriptor descriptor, Recorder recorder, object workspace) except -1
    cdef object results(self, Frame *frame)
    cdef list scalars(self, Frame *frame, Descriptor descriptor)
    cdef int run_reference(self, Frame *frame, Descriptor descriptor) except -1
    cdef int run_on_cpu(self, Frame *frame, Descriptor descriptor) except -1

# An operator planned once for explicit use: `infinicore.gemm.describe(c, a, b)`.
cdef class BoundDescriptor:
    cdef Operator op
    cdef Descriptor descriptor
    cdef list values            # scalars as describe() was given them, per call parameter; None elsewhere
    cdef list layouts           # per slot: what its tensors must look like
    cdef int check_call(self, Frame *frame) except -1
