# The numbers of infiniDtype_t by the names that test scripts use, and those of the C header. The two differ
# about complex types: scripts count the bits of one half (C64), the header those of both (C128).
"""Element types of the C API."""

from __future__ import annotations

__all__ = ["InfiniDtype", "InfiniDtypeNames", "infiniDtype_t"]


class InfiniDtype:
    """Numbers of element types by the names of scripts: ``C8`` to ``C64`` give the width of one half."""

    INVALID = 0
    BYTE = 1
    BOOL = 2
    I8 = 3
    I16 = 4
    I32 = 5
    I64 = 6
    U8 = 7
    U16 = 8
    U32 = 9
    U64 = 10
    F8 = 11
    F16 = 12
    F32 = 13
    F64 = 14
    C8 = 15
    C16 = 16
    C32 = 17
    C64 = 18
    BF16 = 19
    C128 = 18  # the one name of the header that does not clash with a script's
    COUNT = 20


class infiniDtype_t:
    """The same numbers by the names of ``infinicore.h``, where ``C16`` to ``C128`` name the whole width."""

    INVALID = 0
    BYTE = 1
    BOOL = 2
    I8 = 3
    I16 = 4
    I32 = 5
    I64 = 6
    U8 = 7
    U16 = 8
    U32 = 9
    U64 = 10
    F8 = 11
    F16 = 12
    F32 = 13
    F64 = 14
    C16 = 15
    C32 = 16
    C64 = 17
    C128 = 18
    BF16 = 19


#: Number -> the name that test scripts print.
InfiniDtypeNames: dict[int, str] = {
    number: name
    for name, number in vars(InfiniDtype).items()
    if name.isupper() and name not in ("C128", "COUNT")
}
