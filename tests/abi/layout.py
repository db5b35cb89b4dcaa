# The layout of the plug-in ABI: reads the structs and enumerators of the C headers, asks the compiler where
# every member lies, and says which changes break a plug-in that is already built.
"""Layout of the plug-in ABI. ``python tests/abi/layout.py --write`` updates ``layout.txt``."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SNAPSHOT = HERE / "layout.txt"
HEADERS = ("infinicore.h", "infinirt.h", "infiniccl.h", "infinicore/abi.h")

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_STRUCT = re.compile(r"typedef (?:struct|union)\s+(\w+)\s*\{(.*?)\n\}\s*\w+;", re.DOTALL)
_ENUM = re.compile(r"enum\s*\w*\s*\{(.*?)\}", re.DOTALL)
_FUNCTION = re.compile(r"(.+)\(\*(\w+)\)\((.*)\)")
_DATA = re.compile(r"(.+?)(\w+)(\[\w+\])?")


def include_folder() -> Path:
    """Where the headers of the package are."""
    import infinicore

    return Path(infinicore.__file__).parent / "include"


def structs(text: str) -> dict[str, dict[str, str]]:
    """Members of every struct in `text`, in order, with their types."""
    found = {}
    for name, body in _STRUCT.findall(_COMMENT.sub("", text)):
        declarations = (" ".join(part.split()) for part in body.split(";") if part.strip())
        found[name] = dict(map(_member, declarations))
    return found


def _member(declaration: str) -> tuple[str, str]:
    """Name and type of a member; names of parameters are not part of the type."""
    if function := _FUNCTION.fullmatch(declaration):
        parameters = ", ".join(_without_name(parameter.strip()) for parameter in function[3].split(","))
        return function[2], f"{function[1].strip()} (*)({parameters})"
    data = _DATA.fullmatch(declaration)
    assert data, declaration
    return data[2], data[1].strip() + (data[3] or "")


def _without_name(parameter: str) -> str:
    match = re.fullmatch(r"(.*[\s*])\w+", parameter)
    return match[1].strip() if match else parameter


def enumerators(text: str) -> list[str]:
    """Every enumerator in `text`."""
    bodies = _ENUM.findall(_COMMENT.sub("", text))
    return [item.split("=")[0].strip() for body in bodies for item in body.split(",") if item.strip()]


def measure(include: Path) -> list[str]:
    """Ask the compiler for the layout that the headers under `include` have.

    Returns
    -------
    list of str
        ``abi MAJOR MINOR``; per struct ``struct NAME SIZE`` and ``NAME.MEMBER OFFSET SIZE TYPE``;
        ``ENUMERATOR VALUE``.
    """
    text = "\n".join((include / header).read_text() for header in HEADERS)
    prints = ['"abi %d %d\\n", INFINI_ABI_MAJOR, INFINI_ABI_MINOR']
    for struct, members in structs(text).items():
        prints.append(f'"struct {struct} %zu\\n", sizeof({struct})')
        for member, kind in members.items():
            place = f"offsetof({struct}, {member}), sizeof((({struct} *)0)->{member})"
            prints.append(f'"{struct}.{member} %zu %zu {kind}\\n", {place}')
    prints += [f'"{name} %d\\n", (int){name}' for name in enumerators(text)]
    body = "".join(f"  printf({line});\n" for line in prints)
    included = "".join(f"#include <{header}>\n" for header in ("infinicore/abi.h", "infiniccl.h", "stdio.h"))
    source = f"{included}int main(void) {{\n{body}}}\n"
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "layout")
        command = [
            *os.environ.get("CC", "cc").split(),
            "-std=c11",
            f"-I{include}",
            "-xc",
            "-",
            "-o",
            str(program),
        ]
        subprocess.run(command, input=source, text=True, check=True)
        return subprocess.run([program], capture_output=True, text=True, check=True).stdout.splitlines()


def violations(old: list[str], new: list[str]) -> list[str]:
    """What in `new` breaks a plug-in or a core that was built for `old`, one sentence each.

    Within one major, a struct that begins with a header may gain members at its end if the minor grows with
    it, and an enumeration may gain values. Nothing that is there may move, change its type or value, or go.
    """
    before, after = _parse(old), _parse(new)
    if before["abi"][0] != after["abi"][0]:
        return []
    found = []
    for name in before.keys() - {"abi"}:
        # How many devices there are is allowed to grow.
        if name.startswith("struct ") or name == "INFINI_DEVICE_TYPE_COUNT":
            continue
        if name not in after:
            found.append(f"{name} is gone")
        elif after[name] != before[name]:
            found.append(f"{name} was {' '.join(before[name])}, is {' '.join(after[name])}")
    appended = [name for name in after.keys() - before.keys() if f"struct {name.split('.')[0]}" in before]
    for name in appended:
        struct = name.split(".")[0]
        if f"{struct}.header" not in before:
            found.append(f"{name} is new, and {struct} has no header that tells its size")
        # Not in the padding at the end either: there, an older table would seem to reach it.
        elif int(after[name][0]) < int(before[f"struct {struct}"][0]):
            found.append(f"{name} is new, and not at the end")
    if appended and int(after["abi"][1]) <= int(before["abi"][1]):
        found.append(f"members are new, and the minor is still {before['abi'][1]}")
    return sorted(found)


def _parse(lines: list[str]) -> dict[str, tuple[str, ...]]:
    table = {}
    for line in lines:
        if line.startswith("struct "):
            name, size = line.rsplit(" ", 1)
            table[name] = (size,)
        else:
            name, *rest = line.split(" ", 3)
            table[name] = tuple(rest)
    return table


def main() -> int:
    """Run the command; the exit status is 1 when the layout broke."""
    parser = argparse.ArgumentParser(
        description="Compare the layout of the plug-in ABI with the recorded one."
    )
    parser.add_argument("--write", action="store_true", help="record it, unless it breaks what was recorded")
    options = parser.parse_args()
    now = measure(include_folder())
    broken = violations(SNAPSHOT.read_text().splitlines(), now) if SNAPSHOT.exists() else []
    for sentence in broken:
        print(sentence)
    if options.write and not broken:
        SNAPSHOT.write_text("\n".join(now) + "\n")
    return bool(broken)


if __name__ == "__main__":
    raise SystemExit(main())
