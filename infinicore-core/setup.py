"""Build infinicore-core. What there is to build, and how, is in src/infinicore/build.py."""

import os
import sys
import types
from pathlib import Path

from setuptools import setup

here = Path(__file__).resolve().parent
os.chdir(here)

# infinicore.build, and the operator signatures that it writes headers from, are plain Python: import them
# under a bare package, since infinicore's own __init__ needs what is about to be compiled.
package = types.ModuleType("infinicore")
package.__path__ = [str(here / "src" / "infinicore")]
sys.modules["infinicore"] = package

from infinicore import build  # noqa: E402

setup(
    ext_modules=build.core_extensions(),
    cmdclass={"build_ext": build.BuildNative, "build_py": build.BuildPython},
)
