# What dispatch asks about layouts: whether one overlaps itself, how it broadcasts, how errors call it.
from infinicore._tensor cimport Layout

# Whether two elements of the layout share memory.
cdef bint overlaps_itself(Layout layout) except -1

# The layout broadcast to `shape`, with stride 0 along what was 1 or missing.
cdef Layout expanded_layout(Layout layout, object shape)

# The contiguous layout of a schema.Spec, and the Spec of a layout.
cdef Layout layout_of_spec(object spec)
cdef object spec_of(Layout layout)

# A layout, a tuple of them, or None, in messages.
cdef str describe_layouts(object layouts)
