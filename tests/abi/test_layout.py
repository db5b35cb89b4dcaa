# The ABI only grows at its ends: the recorded layout against the headers, and the rule against headers that
# were changed in every way that it must refuse.
from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
spec = importlib.util.spec_from_file_location("abi_layout", HERE / "layout.py")
layout = importlib.util.module_from_spec(spec)
spec.loader.exec_module(layout)


@pytest.fixture(scope="module")
def recorded():
    return layout.SNAPSHOT.read_text().splitlines()


@pytest.fixture(scope="module")
def now():
    return layout.measure(layout.include_folder())


@pytest.fixture
def changed(tmp_path):
    """Measure the headers after a replacement in one of them."""

    def measure(old, new, header="infinicore/abi.h", **more):
        include = tmp_path / "include"
        shutil.copytree(layout.include_folder(), include, dirs_exist_ok=True)
        for before, after in [(old, new), *more.items()]:
            text = (include / header).read_text()
            assert text.count(before) == 1, before
            (include / header).write_text(text.replace(before, after))
        return layout.measure(include)

    return measure


def test_nothing_moved_changed_or_went(recorded, now):
    assert layout.violations(recorded, now) == []


def test_recorded_layout_is_current(recorded, now):
    assert now == recorded, "what was appended is not recorded yet: python tests/abi/layout.py --write"


def test_every_table_is_measured(now):
    tables = (
        "header tensor tensor_list int_list slot host device_info resources runtime unique_id ccl "
        "operator backend"
    )
    assert [line.split()[1] for line in now if line.startswith("struct ")] == [
        f"infini_{table}" for table in tables.split()
    ]


def test_measured_members_fill_their_structs(now):
    # A member that the reader of the header overlooked would leave a gap of its size.
    parsed = layout._parse(now)
    for name, size in parsed.items():
        if not name.startswith("struct ") or name == "struct infini_slot":
            continue
        end = 0
        for member, (offset, extent, _) in (
            item for item in parsed.items() if item[0].startswith(name[7:] + ".")
        ):
            assert 0 <= int(offset) - end < 8, member
            end = int(offset) + int(extent)
        assert 0 <= int(size[0]) - end < 8, name


MINOR = "INFINI_ABI_MINOR 2"
LAST = "  infiniStatus_t (*graph_update)(infinirtGraphExec_t exec, infinirtGraph_t graph);\n"


def test_appending_a_member_with_a_new_minor_is_allowed(recorded, changed):
    new = changed(LAST, LAST + "  infiniStatus_t (*since_1_3)(void);\n", **{MINOR: "INFINI_ABI_MINOR 3"})
    assert "infini_runtime.since_1_3 264 8 infiniStatus_t (*)(void)" in new
    assert layout.violations(recorded, new) == []


def test_appending_a_status_a_device_and_a_struct_is_allowed(recorded, changed):
    last = "INFINI_STATUS_INDEX_OUT_OF_RANGE = 105,"
    device = "  INFINI_DEVICE_TYPE_COUNT"
    new = changed(
        last,
        last + " INFINI_STATUS_NEW = 106,",
        "infinicore.h",
        **{device: "  INFINI_DEVICE_NEW = 10,\n" + device},
    )
    assert "INFINI_STATUS_NEW 106" in new
    assert "INFINI_DEVICE_TYPE_COUNT 11" in new
    assert layout.violations(recorded, new) == []


def test_renaming_a_parameter_is_allowed(recorded, changed):
    new = changed("(*set_device)(int32_t device)", "(*set_device)(int32_t index)")
    assert layout.violations(recorded, new) == []


def test_another_major_is_another_abi(recorded, changed):
    new = changed(
        "INFINI_ABI_MAJOR 1", "INFINI_ABI_MAJOR 2", **{"  infiniStatus_t (*synchronize)(void);\n": ""}
    )
    assert layout.violations(recorded, new) == []


@pytest.mark.parametrize(
    ("old", "new", "header", "complaint"),
    [
        (
            LAST,
            LAST + "  void (*late)(void);\n",
            "infinicore/abi.h",
            "members are new, and the minor is still 2",
        ),
        (
            "  infiniStatus_t (*synchronize)(void);\n",
            "  infiniStatus_t (*synchronize)(void);\n  void (*early)(void);\n",
            "infinicore/abi.h",
            "infini_runtime.early is new, and not at the end",
        ),
        (LAST, "", "infinicore/abi.h", "infini_runtime.graph_update is gone"),
        (
            "(*memory_info)(uint64_t *free_bytes, uint64_t *total_bytes)",
            "(*memory_info)(uint64_t *free_bytes)",
            "infinicore/abi.h",
            "infini_runtime.memory_info was 32 8 infiniStatus_t (*)(uint64_t *, uint64_t *), "
            "is 32 8 infiniStatus_t (*)(uint64_t *)",
        ),
        (
            "char driver[64];",
            "char driver[60];",
            "infinicore/abi.h",
            "infini_device_info.runtime was 200 64 char[64], is 196 64 char[64]",
        ),
        (
            "int32_t dlpack_type;",
            "uint32_t dlpack_type;",
            "infinicore/abi.h",
            "infini_backend.dlpack_type was 36 4 int32_t, is 36 4 uint32_t",
        ),
        (
            "  const infini_tensor *items;\n",
            "  const infini_tensor *items;\n  void *more;\n",
            "infinicore/abi.h",
            "infini_tensor_list.more is new, and infini_tensor_list has no header that tells its size",
        ),
        (
            "INFINI_STATUS_TIMEOUT = 103",
            "INFINI_STATUS_TIMEOUT = 99",
            "infinicore.h",
            "INFINI_STATUS_TIMEOUT was 103, is 99",
        ),
        ("  INFINI_DTYPE_C16 = 15,", "", "infinicore.h", "INFINI_DTYPE_C16 is gone"),
    ],
)  # fmt: skip
def test_every_other_change_is_refused(recorded, changed, old, new, header, complaint):
    assert complaint in layout.violations(recorded, changed(old, new, header))


def test_swapping_two_members_is_refused(recorded, changed):
    first, second = "  const char *vendor;", "  const char *version;"
    new = changed(first, "  const char *swap;", **{second: first, "  const char *swap;": second})
    assert layout.violations(recorded, new) == [
        "infini_backend.vendor was 16 8 const char *, is 24 8 const char *",
        "infini_backend.version was 24 8 const char *, is 16 8 const char *",
    ]


def test_member_in_the_padding_at_the_end_is_refused():
    old = ["abi 1 1", "struct t 16", "t.header 0 8 infini_header", "t.a 8 4 int32_t"]
    new = ["abi 1 2", *old[1:], "t.b 12 4 int32_t"]
    assert layout.violations(old, new) == ["t.b is new, and not at the end"]


def test_command_reports_and_refuses_to_record_a_break(tmp_path):
    for file in HERE.glob("layout.*"):
        shutil.copy(file, tmp_path)
    snapshot = tmp_path / "layout.txt"
    broken = snapshot.read_text().replace("INFINICCL_SUM 0", "INFINICCL_SUM 9")
    snapshot.write_text(broken)
    done = subprocess.run([sys.executable, tmp_path / "layout.py", "--write"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "INFINICCL_SUM was 9, is 0\n")
    assert snapshot.read_text() == broken
