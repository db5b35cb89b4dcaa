# Status codes become exceptions here, with the message that the plug-in stored on the calling thread.
from __future__ import annotations

import json

import pytest

import infinicore.errors as errors

CALL = """
    import ctypes, json, sys, infinicore as ic
    library = ctypes.CDLL({path!r})
    ic.backends["fake"].open()
    status, message = (kind.in_dll(library, name) for kind, name in
                       ((ctypes.c_int32, "next_status"), (ctypes.c_char_p, "next_message")))
    def call(code, text):
        status.value, message.value = code, text
        try: ic.synchronize("fake:0")
        except ic.Error as error: return [type(error).__name__, str(error)]
        return None
"""

EXPECTED = {
    0: None,
    1: ("InternalError", "internal error"),
    2: ("OperatorNotSupported", "not implemented"),
    3: ("InvalidArgument", "bad parameter"),
    4: ("InvalidArgument", "a required pointer is NULL"),
    5: ("UnknownDevice", "device type not supported"),
    6: ("DeviceNotFound", "device not found"),
    7: ("BackendError", "device not initialized"),
    8: ("OperatorNotSupported", "device architecture not supported"),
    10: ("DTypeError", "element type not supported"),
    11: ("ShapeError", "shape not supported"),
    12: ("StrideError", "strides not supported"),
    13: ("InvalidArgument", "workspace too small"),
    100: ("OutOfMemory", "out of memory"),
    101: ("BackendUnavailable", "unavailable"),
    102: ("InternalError", "not ready, where that is no valid answer"),
    103: ("Timeout", "timed out"),
    104: ("PeerFailed", "a peer failed"),
    105: ("OutOfRange", "index out of range"),
}


@pytest.fixture(scope="module")
def call(shared_world):
    path = shared_world.plugins / "libinfinicore_fake.so"

    def run(body):
        return json.loads(shared_world.output(CALL.format(path=str(path)) + body))

    return run


def test_every_code_has_its_exception_and_words_of_its_own(call):
    answers = call(f"    print(json.dumps([call(code, None) for code in {list(EXPECTED)}]))")
    expected = [found and [found[0], f"fake:0: synchronize: {found[1]}"] for found in EXPECTED.values()]
    assert answers == expected


def test_every_code_of_the_header_is_mapped():
    import re
    from pathlib import Path

    header = (Path(errors.__file__).parent / "include" / "infinicore.h").read_text()
    codes = {int(value) for value in re.findall(r"INFINI_STATUS_\w+ = (\d+)", header)}
    assert codes == set(EXPECTED)


def test_message_of_the_plugin_is_shown_once(call):
    answers = call(
        "    print(json.dumps([call(11, b'rows differ'), call(11, None), call(1, b'x'), call(2, None)]))"
    )
    assert answers == [
        ["ShapeError", "fake:0: synchronize: rows differ"],
        ["ShapeError", "fake:0: synchronize: shape not supported"],
        ["InternalError", "fake:0: synchronize: x"],
        ["OperatorNotSupported", "fake:0: synchronize: not implemented"],
    ]


def test_message_of_another_code_is_not_shown(call):
    # A plug-in stored a message for a failure that it then recovered from.
    answers = call("    library.call_fail(11, b'stale'); print(json.dumps([call(12, None)]))")
    assert answers == [["StrideError", "fake:0: synchronize: strides not supported"]]


def test_unknown_code_is_named(call):
    answers = call("    print(json.dumps([call(9, None), call(4242, b'odd'), call(-1, None)]))")
    assert answers == [
        ["InternalError", "fake:0: synchronize: status 9, which this infinicore does not know"],
        ["InternalError", "fake:0: synchronize: status 4242, which this infinicore does not know: odd"],
        ["InternalError", "fake:0: synchronize: status -1, which this infinicore does not know"],
    ]


def test_bad_index_is_an_index_error(call):
    answers = call(
        "    print(json.dumps([call(105, b'index 7 is out of range for v = 5'), call(3, b'k is 0')]))"
    )
    assert answers == [
        ["OutOfRange", "fake:0: synchronize: index 7 is out of range for v = 5"],
        ["InvalidArgument", "fake:0: synchronize: k is 0"],
    ]


@pytest.mark.parametrize("character", ["a", "é", "語", "🐢"])
def test_long_message_is_cut_between_characters(call, character):
    for offset in range(len(character.encode())):
        text = "x" * offset + character * 5000
        [[_, shown]] = call(f"    print(json.dumps([call(1, {text.encode()!r})]))")
        shown = shown.removeprefix("fake:0: synchronize: ")
        assert shown.endswith("...")
        assert text.startswith(shown.removesuffix("..."))
        assert 4096 - 8 < len(shown.encode()) < 4096


def test_message_that_just_fits_is_whole(call):
    text = "y" * 4095
    assert call(f"    print(json.dumps(call(1, b'{text}')))")[1].endswith(text)
    assert "..." not in call(f"    print(json.dumps(call(1, b'{text}')))")[1]


def test_message_that_is_not_utf8_does_not_break_the_error(call):
    assert call("    print(json.dumps(call(1, b'\\xff\\xfe bad')))")[1].endswith("\ufffd\ufffd bad")


def test_messages_belong_to_threads(call):
    answers = call("""
    import threading
    barrier, seen = threading.Barrier(2), {}
    library.call_fail.restype = ctypes.c_int32
    ic.synchronize("fake:0")
    def run(name):
        for _ in range(50):
            library.call_fail(1, name.encode())
            barrier.wait()
            status.value, message.value = 1, None
            try: ic.synchronize("fake:0")
            except ic.Error as error: seen.setdefault(name, set()).add(str(error))
            barrier.wait()
    threads = [threading.Thread(target=run, args=(name,)) for name in ("left", "right")]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(json.dumps({name: sorted(texts) for name, texts in seen.items()}))
""")
    assert answers == {name: [f"fake:0: synchronize: {name}"] for name in ("left", "right")}


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("InvalidArgument", ValueError),
        ("ShapeError", ValueError),
        ("StrideError", ValueError),
        ("DTypeError", TypeError),
        ("ArgumentTypeError", TypeError),
        ("DeviceMismatch", ValueError),
        ("OutOfRange", IndexError),
        ("OutOfMemory", MemoryError),
        ("UnknownDevice", ValueError),
        ("OperatorNotSupported", NotImplementedError),
        ("Timeout", TimeoutError),
        ("PeerFailed", ConnectionError),
    ],
)
def test_exceptions_are_also_the_builtin_ones(name, builtin):
    kind = getattr(errors, name)
    assert issubclass(kind, builtin)
    assert issubclass(kind, errors.Error)
    assert str(kind("words")) == "words"


def test_there_is_one_hierarchy():
    assert issubclass(errors.Error, RuntimeError)
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), errors.Error), name
        assert getattr(errors, name).__doc__, name
