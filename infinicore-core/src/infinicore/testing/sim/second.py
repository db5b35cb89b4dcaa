# The module that the plug-in record of "sim2" names: hands over the second table of the simulated library.
# A library that serves two vendors exports two functions, and a capsule can be made from either.
"""``capsule`` holds the tables of the simulated vendor ``sim2``."""

from __future__ import annotations

import ctypes
import importlib

_library = ctypes.CDLL(importlib.import_module("infinicore.testing.sim._backend").__file__)
_library.infinicore_backend_sim2.restype = ctypes.c_void_p

_new = ctypes.pythonapi.PyCapsule_New
_new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_new.restype = ctypes.py_object

_NAME = b"infinicore.backend.v1"  # kept here, since a capsule only borrows its name

capsule = _new(_library.infinicore_backend_sim2(), _NAME, None)
