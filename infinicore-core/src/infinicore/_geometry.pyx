# cython: boundscheck=False, wraparound=False
# What dispatch asks about layouts: whether one overlaps itself, how it broadcasts, how errors call it.
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free, malloc

from infinicore._dtype cimport dtype, dtype_of
from infinicore._tensor cimport MAX_DIMS, Layout, contiguous_layout, intern_layout

from infinicore import schema as _schema


cdef bint overlaps_itself(Layout layout) except -1:
    cdef int i, j, rank = 0
    cdef int64_t extent = 1, stride, offset, _count
    cdef int64_t size[MAX_DIMS]
    cdef int64_t step[MAX_DIMS]
    cdef int64_t index[MAX_DIMS]
    cdef unsigned char *seen
    if layout.numel <= 1 or layout.contiguous:
        return False
    for i in range(layout.ndim):
        if layout.shape[i] == 1:
            continue
        stride = layout.strides[i] if layout.strides[i] >= 0 else -layout.strides[i]
        if stride == 0:
            return True
        j = rank
        while j > 0 and step[j - 1] > stride:
            step[j], size[j] = step[j - 1], size[j - 1]
            j -= 1
        step[j], size[j] = stride, layout.shape[i]
        rank += 1
    # Usual layouts: each stride clears all that the smaller ones reach.
    for i in range(rank):
        if step[i] < extent:
            break
        extent += step[i] * (size[i] - 1)
    else:
        return False
    # Interleaved ones: mark every element.
    extent = 1
    for i in range(rank):
        extent += step[i] * (size[i] - 1)
        index[i] = 0
    seen = <unsigned char *> calloc(extent // 8 + 1, 1)
    if seen == NULL:
        raise MemoryError()
    try:
        offset = 0
        for _count in range(layout.numel):
            if seen[offset >> 3] & (1 << (offset & 7)):
                return True
            seen[offset >> 3] |= 1 << (offset & 7)
            for i in range(rank):
                index[i] += 1
                offset += step[i]
                if index[i] < size[i]:
                    break
                offset -= step[i] * size[i]
                index[i] = 0
        return False
    finally:
        free(seen)


cdef Layout expanded_layout(Layout layout, object shape):
    cdef int ndim = len(shape), i, missing = ndim - layout.ndim
    cdef int64_t *sizes = <int64_t *> malloc(2 * max(ndim, 1) * sizeof(int64_t))
    cdef int64_t *strides = sizes + ndim
    if sizes == NULL:
        raise MemoryError()
    try:
        for i in range(ndim):
            sizes[i] = shape[i]
            if i < missing or (layout.shape[i - missing] == 1 and sizes[i] != 1):
                strides[i] = 0
            else:
                strides[i] = layout.strides[i - missing]
        return intern_layout(layout.dtype, ndim, sizes, strides)
    finally:
        free(sizes)


cdef Layout layout_of_spec(object spec):
    cdef int ndim = len(spec.shape), i
    cdef dtype element = dtype_of(_schema.DTYPES[spec.dtype][0])
    cdef int64_t *sizes = <int64_t *> malloc(max(ndim, 1) * sizeof(int64_t))
    if sizes == NULL:
        raise MemoryError()
    try:
        for i in range(ndim):
            sizes[i] = spec.shape[i]
        return contiguous_layout(element, ndim, sizes)
    finally:
        free(sizes)


cdef object spec_of(Layout layout):
    cdef int i
    return _schema.Spec([layout.shape[i] for i in range(layout.ndim)], layout.dtype.short)


cdef str describe_layouts(object layouts):
    cdef Layout layout
    cdef int i
    if layouts is None:
        return "absent"
    if isinstance(layouts, tuple):
        return "[" + ", ".join([describe_layouts(item) for item in layouts]) + "]"
    layout = layouts
    shape = tuple([layout.shape[i] for i in range(layout.ndim)])
    strides = tuple([layout.strides[i] for i in range(layout.ndim)])
    return f"{layout.dtype.name} {shape} with strides {strides}"
