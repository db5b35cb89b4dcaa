# One registration per operator of the schema: it gives the operator's C functions their ctypes signatures,
# read from the very prototypes that the C library is generated from.
"""Types of the operators' C functions."""

from __future__ import annotations

import re
from collections.abc import Callable
from ctypes import POINTER, c_bool, c_float, c_int, c_int64, c_size_t, c_uint64, c_void_p
from typing import Any

import infinicore.ops  # noqa: F401  (registers the operators)
from infinicore.schema import OPERATORS, c_prototypes
from infinicore.testing.libinfiniop.structs import (
    infiniopHandle_t,
    infiniopOperatorDescriptor_t,
    infiniopTensorDescriptor_t,
)

__all__ = ["OpRegister", "bind"]

_Registration = Callable[[Any], None]

_VALUES: dict[str, Any] = {
    "bool": c_bool,
    "float": c_float,
    "int": c_int,
    "int64_t": c_int64,
    "size_t": c_size_t,
    "infiniopHandle_t": infiniopHandle_t,
    "infiniopTensorDescriptor_t": infiniopTensorDescriptor_t,
}
_POINTERS: dict[str, Any] = {
    "infiniopHandle_t": POINTER(infiniopHandle_t),
    "infiniopTensorDescriptor_t": POINTER(infiniopTensorDescriptor_t),
}


class OpRegister:
    """The functions that give a library's operators their types."""

    registry: list[_Registration] = []

    @classmethod
    def operator(cls, registration: _Registration) -> _Registration:
        """Add a function that is called with each library that is opened."""
        cls.registry.append(registration)
        return registration

    @classmethod
    def register_lib(cls, lib: Any) -> None:
        """Call every registration with `lib`."""
        for registration in cls.registry:
            registration(lib)


def bind(lib: Any, prototype: str) -> None:
    """Give the function of a C prototype its ctypes signature.

    A library that lacks the function is left alone: an older one has fewer operators, and whoever needs the
    missing one is told by `InfiniLib`.
    """
    match = re.fullmatch(r"infiniStatus_t (\w+)\((.*)\);", prototype)
    assert match is not None, prototype
    name, inside = match.groups()
    function = getattr(lib, name, None)
    if function is not None:
        function.argtypes = [_ctype(argument) for argument in filter(None, inside.split(","))]
        function.restype = c_int


def _ctype(argument: str) -> Any:
    """Translate ``const size_t *shape``. Data pointers take whatever ctypes can turn into an address."""
    words = re.sub(r"\bconst\b", "", argument)
    type_name, name = re.findall(r"\w+", words)
    if "*" not in words:
        if type_name in _VALUES:
            return _VALUES[type_name]
        return infiniopOperatorDescriptor_t if type_name.endswith("Descriptor_t") else c_int  # enumerations
    if type_name in _POINTERS:
        return _POINTERS[type_name]
    if type_name.endswith("Descriptor_t"):
        return POINTER(infiniopOperatorDescriptor_t)
    return POINTER(c_uint64) if (type_name, name) == ("size_t", "size") else c_void_p


def _registration(name: str) -> _Registration:
    def register(lib: Any) -> None:
        for prototype in c_prototypes(name):
            bind(lib, prototype)

    register.__name__ = f"{name}_"
    register.__doc__ = f"Give the C functions of operator {name} their types."
    return register


for _name in OPERATORS:
    OpRegister.operator(_registration(_name))
