# The headers compile as the languages they promise, without a warning, and what Cython and the runtime
# believe about them is what they say.
from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from pathlib import Path

import pytest

import infinicore

HERE = Path(__file__).parent
PACKAGE = Path(infinicore.__file__).parent
INCLUDE = PACKAGE / "include"
spec = importlib.util.spec_from_file_location("abi_layout", HERE / "layout.py")
layout = importlib.util.module_from_spec(spec)
spec.loader.exec_module(layout)

STRICT = ["-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", f"-I{INCLUDE}"]
C = [*os.environ.get("CC", "cc").split(), "-std=c11", "-xc"]
CXX = [*os.environ.get("CXX", "c++").split(), "-std=c++17", "-xc++"]

USE = """
static const infini_backend *core(const infini_host *host) {
  return INFINI_HAS(infini_host, host, backend) ? host->backend("cpu") : NULL;
}
static infini_operator add = {INFINI_HEADER(infini_operator), "add", 0, NULL, NULL, NULL, NULL};
const infini_backend *infinicore_backend(void) { return add.create == NULL ? core(NULL) : NULL; }
"""


def compile_text(command, text):
    return subprocess.run([*command, *STRICT, "-"], input=text, capture_output=True, text=True)


@pytest.mark.parametrize("command", [C, CXX], ids=["c11", "c++17"])
@pytest.mark.parametrize("header", layout.HEADERS)
def test_every_header_compiles_alone_and_twice(command, header):
    done = compile_text(
        command, f"#include <{header}>\n#include <{header}>\nint main(void) {{ return 0; }}\n"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [C, CXX], ids=["c11", "c++17"])
def test_macros_compile_where_a_plugin_uses_them(command):
    done = compile_text(command, "#include <infinicore/abi.h>\n" + USE)
    assert done.returncode == 0, done.stderr


def test_plugin_sugar_compiles():
    kernel = """
    #include <infinicore/plugin.hpp>
    #define INFINI_FINGERPRINT_add 7ull
    struct infini_add_args { const infini_tensor *out, *input, *other; };
    struct Add {
      explicit Add(const infini_add_args &) {}
      uint64_t workspace() const { return 0; }
      void execute(const infini_add_args &, void *, infinirtStream_t) const {
        throw infini::Error(INFINI_STATUS_TIMEOUT, "late");
      }
    };
    extern const infini_operator add;
    const infini_operator add = INFINI_KERNEL(add, Add);
    """
    done = compile_text(CXX, kernel)
    assert done.returncode == 0, done.stderr


def test_strict_compilation_can_fail():
    assert (
        compile_text(C, "#include <infinicore/abi.h>\nint first(int unused) { return 0; }\n").returncode != 0
    )


def cython_structs():
    """Members of every struct in abi.pxd, in order."""
    found, members = {}, None
    lines = iter((PACKAGE / "abi.pxd").read_text().splitlines())
    for line in lines:
        if match := re.fullmatch(r"    ctypedef (?:struct|union) (\w+):", line):
            members = found.setdefault(match[1], [])
        elif not line.startswith("        "):
            members = None
        elif members is not None and (
            match := re.match(r" {8}\S.*?(?:\(\*(\w+)\)\(|(\w+)(?:\[\d+\])?$)", line)
        ):
            members.append(match[1] or match[2])
    return found


def test_abi_pxd_has_the_structs_of_the_header_member_for_member():
    header = layout.structs((INCLUDE / "infinicore" / "abi.h").read_text())
    assert cython_structs() == {name: list(members) for name, members in header.items()}


def test_abi_pxd_names_every_status_and_dtype():
    text = (PACKAGE / "abi.pxd").read_text()
    names = layout.enumerators((INCLUDE / "infinicore.h").read_text())
    wanted = {name for name in names if name.startswith(("INFINI_STATUS", "INFINI_DTYPE"))}
    assert len(wanted) == 19 + 20
    assert wanted <= set(re.findall(r"^ {8}(INFINI_\w+)$", text, re.MULTILINE))


def test_runtime_members_that_are_checked_at_load_are_those_of_the_header():
    from infinicore._backend import RUNTIME_MEMBERS, RUNTIME_OPTIONAL

    header = list(layout.structs((INCLUDE / "infinicore" / "abi.h").read_text())["infini_runtime"])
    assert header == ["header", *RUNTIME_MEMBERS]
    assert {name for group in RUNTIME_OPTIONAL for name in group} < set(RUNTIME_MEMBERS)


def test_capsule_name_carries_the_major():
    text = (INCLUDE / "infinicore" / "abi.h").read_text()
    major = re.search(r"#define INFINI_ABI_MAJOR (\d+)", text)[1]
    assert f'#define INFINI_BACKEND_CAPSULE "infinicore.backend.v{major}"' in text
