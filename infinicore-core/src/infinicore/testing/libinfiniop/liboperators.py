# Finds and opens libinfinirt and libinfiniop and gives their functions types. `LIBINFINIOP` is the one
# instance that a process shares; it is made when it is first read.
"""The two shared libraries as one object."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path
from typing import Any

from infinicore.discovery import LIBRARIES
from infinicore.testing.libinfiniop.op_register import OpRegister, bind

__all__ = ["LIBINFINIOP", "InfiniLib", "library_folder", "open_lib"]

LIBINFINIOP: InfiniLib

# What is no operator: handles, tensor descriptors, and the part of the runtime that scripts use.
_PROTOTYPES = """
infiniStatus_t infiniopCreateHandle(infiniopHandle_t *handle_ptr);
infiniStatus_t infiniopDestroyHandle(infiniopHandle_t handle);
infiniStatus_t infiniopCreateTensorDescriptor(infiniopTensorDescriptor_t *desc_ptr, size_t ndim,
 const size_t *shape, const ptrdiff_t *strides, infiniDtype_t dtype);
infiniStatus_t infiniopDestroyTensorDescriptor(infiniopTensorDescriptor_t desc);
infiniStatus_t infiniopGetDescriptorDeviceType(infiniopOperatorDescriptor_t desc, int *device_type);
infiniStatus_t infiniopGetDescriptorDeviceId(infiniopOperatorDescriptor_t desc, int *device_id);
infiniStatus_t infinirtInit();
infiniStatus_t infinirtGetAllDeviceCount(int *count_array);
infiniStatus_t infinirtGetDeviceCount(infiniDevice_t device, int *count);
infiniStatus_t infinirtSetDevice(infiniDevice_t device, int device_id);
infiniStatus_t infinirtGetDevice(infiniDevice_t *device_ptr, int *device_id_ptr);
infiniStatus_t infinirtDeviceSynchronize();
infiniStatus_t infinirtStreamCreate(void **stream_ptr);
infiniStatus_t infinirtStreamDestroy(void *stream);
infiniStatus_t infinirtStreamSynchronize(void *stream);
infiniStatus_t infinirtMalloc(void **p_ptr, size_t size);
infiniStatus_t infinirtFree(void *ptr);
infiniStatus_t infinirtMemcpy(void *dst, const void *src, size_t size, infinirtMemcpyKind_t kind);
"""


class InfiniLib:
    """The functions of both libraries.

    Parameters
    ----------
    librt, libop : ctypes.CDLL
        The runtime and the operators; a function is looked for in the operators first.
    """

    def __init__(self, librt: ctypes.CDLL, libop: ctypes.CDLL) -> None:
        self.librt = librt
        self.libop = libop

    def __getattr__(self, name: str) -> Any:
        for library in (self.libop, self.librt):
            if hasattr(library, name):
                return getattr(library, name)
        raise AttributeError(f"Attribute {name} not found in library")


def library_folder() -> Path:
    """Return the folder of the libraries: ``$INFINI_ROOT/lib``, else ``~/.infini/lib``, else the wheel's."""
    inside = "bin" if platform.system() == "Windows" else "lib"
    root = os.environ.get("INFINI_ROOT")
    if root:
        return Path(root).expanduser() / inside
    home = Path.home() / ".infini" / inside
    if (home / _file_name("infiniop")).exists():
        return home
    return Path(LIBRARIES)


def open_lib() -> InfiniLib:
    """Open the libraries and give every function its types.

    Raises
    ------
    AssertionError
        The folder of `library_folder` lacks one of them.
    """
    folder = library_folder()
    paths = {name: folder / _file_name(name) for name in ("infiniop", "infinirt")}
    for name, path in paths.items():
        if not path.exists():
            raise AssertionError(
                f"Cannot find {name}.dll or lib{name}.so. Check if INFINI_ROOT is set correctly. "
                f"(There is no {path})"
            )
    librt = ctypes.CDLL(str(paths["infinirt"]))  # first: the operators need it
    library = InfiniLib(librt, ctypes.CDLL(str(paths["infiniop"])))
    for prototype in _PROTOTYPES.replace(",\n", ",").strip().splitlines():
        bind(library, prototype)
    if hasattr(library, "infiniGetLastError"):
        library.infiniGetLastError.argtypes, library.infiniGetLastError.restype = [], ctypes.c_char_p
    OpRegister.register_lib(library)
    return library


def _file_name(name: str) -> str:
    return f"{name}.dll" if platform.system() == "Windows" else f"lib{name}.so"


def __getattr__(name: str) -> Any:
    if name == "LIBINFINIOP":
        library = globals()[name] = open_lib()
        return library
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
