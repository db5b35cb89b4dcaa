# Where infinicore-cuda and cuda-pathfinder find a library, each asked in a process that has loaded nothing.
# Run by test_libraries.py, in an environment of its own: PROBE, and on the standard input a list of cases.
"""Print, for each case, the files that both found: ``[[ours, theirs], ...]`` in JSON."""

from __future__ import annotations

import ctypes
import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from cuda.pathfinder import DynamicLibNotFoundError, load_nvidia_dynamic_lib

probe = ctypes.CDLL(sys.argv[1])
probe.found.restype = ctypes.c_char_p


def ours(name: str) -> str:
    return probe.found(name.encode()).decode()


def theirs(name: str) -> str:
    try:
        return load_nvidia_dynamic_lib(name).abs_path or ""
    except DynamicLibNotFoundError:
        return ""
    except RuntimeError as error:  # a file that cannot be opened
        return f"RuntimeError: {error}"


def alone(search: Callable[[str], str], case: dict[str, Any]) -> str:
    """Search in a child, whose environment and loaded libraries are the case's."""
    end, start = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.environ.update(case["environment"])
            for path in case["loaded"]:
                ctypes.CDLL(path)
            os.write(start, search(case["name"]).encode())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(start)
    with open(end) as said:
        path = said.read()
    assert os.waitpid(child, 0)[1] == 0
    return os.path.realpath(path) if os.path.isabs(path) else path


sys.path.insert(0, None)  # type: ignore[arg-type]  # Python passes over what is no text
warnings.simplefilter("ignore")  # cuda-pathfinder's, where CUDA_PATH is not CUDA_HOME
answers = []
for case in json.load(sys.stdin):
    for source, target in case["files"]:
        os.link(source, target)
    answers.append([alone(ours, case), alone(theirs, case)])
    for _, target in case["files"]:
        os.unlink(target)
print(json.dumps(answers))
