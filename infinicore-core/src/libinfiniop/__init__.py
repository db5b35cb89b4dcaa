# The name under which test scripts written for the C API import its bindings: the very modules of
# infinicore.testing.libinfiniop, so that a class imported by either name is the same class.
"""Alias of `infinicore.testing.libinfiniop`."""

import sys

from infinicore.testing import libinfiniop
from infinicore.testing.libinfiniop import datatypes, devices, liboperators, op_register, structs, utils

for _module in (datatypes, devices, liboperators, op_register, structs, utils):
    sys.modules[f"{__name__}.{_module.__name__.rpartition('.')[2]}"] = _module
sys.modules[__name__] = libinfiniop
