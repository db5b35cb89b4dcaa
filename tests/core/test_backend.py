# Backends: what core checks before it trusts a plug-in's tables, what each defect is called, the services it
# lends to plug-ins, and what threads and fork() do.
from __future__ import annotations

import re

import pytest

import infinicore
from infinicore.discovery import number_of

CORE = f"infinicore-core {infinicore.__version__}"

# Prints the state and reason of backend "fake" after an attempt to open it.
ATTEMPT = """
    import infinicore as ic
    backend = ic.backends["fake"]
    try: backend.open()
    except ic.BackendUnavailable as error: assert str(error).startswith(f"fake: {backend.reason}")
    print(backend.state, "|", backend.reason)
"""


def attempt(world, **environment):
    state, _, reason = world.output(ATTEMPT, **environment).partition(" | ")
    return state.strip(" |"), reason


# ---- versions of the ABI -------------------------------------------------------------------------


def test_older_minor_works_and_lacks_what_it_does_not_know(world):
    # As compiled with the header of minor 0: no flags, no resources. Behind the short tables lies rubbish.
    world.library(
        "fake",
        MINOR=0,
        BACKEND_BYTES="offsetof(infini_backend,flags)",
        FLAGS=255,
        RUNTIME_BYTES="offsetof(infini_runtime,resources)",
        PREPARE="runtime.resources=(void*)1;runtime.can_access_peer=(void*)1;",
    )
    code = """
        import infinicore as ic
        backend = ic.backends["fake"].open()
        print(backend.abi_version, backend.state, backend.flags, backend.host_memory)
        print(ic.memory_info("fake:1"))
    """
    assert world.output(code).splitlines() == ["(1, 0) ready 0 False", f"({2**29}, {2**30 + 1})"]


def test_newer_minor_works(world):
    world.library("fake", MINOR=9, BACKEND_BYTES="sizeof(table)", PREPARE="table.unknown[0]=(void*)1;")
    code = (
        "import infinicore as ic; fake = ic.backends['fake'].open(); print(fake.abi_version, fake.devices[1])"
    )
    assert world.output(code) == f"(1, 9) {{'index': 1, 'name': 'Fake 1', 'memory_bytes': {2**30}}}"


@pytest.mark.parametrize(
    ("major", "reason"),
    [
        (2, f"{{library}} needs plug-in ABI 2, {CORE} has 1: upgrade infinicore-core"),
        (0, f"{{library}} has plug-in ABI 0, {CORE} needs 1: upgrade {{library}}"),
    ],
)
def test_other_major_says_which_side_to_upgrade(world, major, reason):
    library = world.library("fake", MAJOR=major)
    assert attempt(world) == ("failed", reason.format(library=library))


def test_capsule_of_another_major_is_read_from_its_name_alone(world, tmp_path, capsule_source):
    # The tables behind such a capsule may look like anything: here they are a sound plug-in of this major.
    library = world.library("fake", folder=tmp_path)
    world.wheel(
        "fake",
        'Plugin("fake", "Acme", "infinicore_fake._backend")',
        native=capsule_source(library, b"infinicore.backend.v2"),
    )
    reason = f"infinicore-fake 1.0 needs plug-in ABI 2, {CORE} has 1: upgrade infinicore-core"
    assert attempt(world) == ("failed", reason)


def test_runtime_table_of_another_major(world):
    library = world.library("fake", RUNTIME_MAJOR=3)
    assert attempt(world) == (
        "failed",
        f"{library} needs plug-in ABI 3, {CORE} has 1: upgrade infinicore-core",
    )


# ---- defects of the tables -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        ("runtime.memset_async=NULL;", "runtime member 'memset_async' is NULL"),
        ("runtime.header.struct_size=64;", "runtime member 'free_host' is NULL"),
        ("runtime.malloc_async=(void*)1;", "runtime member 'free_async' is NULL"),
        ("runtime.capture_begin=(void*)1;", "runtime member 'capture_end' is NULL"),
        ("table.known.runtime=NULL;", "backend member 'runtime' is NULL"),
        ("table.known.open=NULL;", "backend member 'open' is NULL"),
        ("table.known.name=NULL;", "backend member 'name' is NULL"),
        ("table.known.operators=NULL;", "backend member 'operators' is NULL"),
        ("table.known.header.struct_size=4;", "{library}: the backend table says it is 4 bytes long"),
        ("add.name=NULL;", "operator 0 of 2 has no name"),
        ('add.name="frobnicate";', "operator 'frobnicate' is there twice"),
        ('table.known.name="other";', "the plug-in calls itself 'other', {library} offers it as 'fake'"),
        ("table.known.device_type=1;", "the plug-in says that its device type is 1, 'fake' has -1"),
        ("return NULL;", "infinicore_backend() returned NULL"),
    ],
)
def test_defective_tables_fail_with_the_name_of_what_is_wrong(world, prepare, reason):
    library = world.library("fake", PREPARE=prepare)
    assert attempt(world) == ("failed", reason.format(library=library))


@pytest.mark.parametrize(
    ("record", "native", "state", "reason"),
    [
        ("1 / 0", "", "failed", "importing infinicore_fake raised ZeroDivisionError: division by zero"),
        ("{}", "", "failed", "infinicore_fake:plugin is a dict, not an infinicore.discovery.Plugin"),
        (
            'Plugin("other", "", "")',
            "",
            "failed",
            "infinicore_fake:plugin calls itself 'other', its entry point calls it 'fake'",
        ),
        (None, "", "failed", "infinicore_fake._backend has no attribute 'capsule'"),
        (None, "capsule = 3", "failed", "infinicore_fake._backend.capsule is a int, not a capsule"),
        (
            None,
            "from _datetime import datetime_CAPI as capsule",
            "failed",
            "infinicore_fake._backend.capsule is a capsule of 'datetime.datetime_CAPI', "
            "not of 'infinicore.backend.v1'",
        ),
        (
            None,
            'raise RuntimeError("the vendor is on holiday")',
            "failed",
            "importing infinicore_fake._backend raised RuntimeError: the vendor is on holiday",
        ),
        (
            None,
            "import ctypes; ctypes.CDLL('libacme_driver.so.7')",
            "unavailable",
            "libacme_driver.so.7 is not on this machine",
        ),
        (
            None,
            "import no_such_module",
            "failed",
            "importing infinicore_fake._backend raised ModuleNotFoundError: No module named 'no_such_module'",
        ),
    ],
)  # fmt: skip
def test_defective_wheels(world, record, native, state, reason):
    world.wheel("fake", record or 'Plugin("fake", "Acme", "infinicore_fake._backend")', native=native)
    assert attempt(world) == (state, reason)


def test_error_shows_reason_trail_and_hint_and_chains_its_cause(world):
    world.wheel(
        "fake",
        'Plugin("fake", "Acme", "infinicore_fake._backend", hint="install the Acme driver")',
        native="import ctypes; ctypes.CDLL('libacme_driver.so.7')",
    )
    code = """
        import infinicore as ic
        for _ in range(2):
            try: ic.set_device("fake")
            except ic.BackendUnavailable as error: print(error, type(error.__cause__).__name__, sep="\\n")
        print(ic.backends["fake"].trail)
    """
    text = [
        "fake: libacme_driver.so.7 is not on this machine",
        "  looked for libacme_driver.so.7 in the dynamic loader's search path: "
        "cannot open shared object file: No such file or directory",
        "  try: install the Acme driver",
        "OSError",
    ]
    *shown, trail = world.output(code).splitlines()
    assert shown == text + text  # the second time as the first, and found out once
    assert eval(trail) == [
        {
            "what": "libacme_driver.so.7",
            "where": "the dynamic loader's search path",
            "result": "cannot open shared object file: No such file or directory",
        }
    ]


def test_library_that_needs_an_absent_library_is_unavailable(world, tmp_path):
    import subprocess

    driver = tmp_path / "libacme_driver.so.7"
    subprocess.run(
        ["cc", "-shared", "-xc", "/dev/null", f"-Wl,-soname,{driver.name}", "-o", driver], check=True
    )
    (tmp_path / "libacme_driver.so").symlink_to(driver)
    flags = f"cc -Wl,--no-as-needed -L{tmp_path} -lacme_driver"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CC", flags)
        world.library("fake")
    assert attempt(world) == ("unavailable", "libacme_driver.so.7 is not on this machine")


# ---- open() --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "state", "reason"),
    [
        (
            'return host->fail(INFINI_STATUS_UNAVAILABLE, "the driver was not found");',
            "unavailable",
            "the driver was not found",
        ),
        ("return INFINI_STATUS_UNAVAILABLE;", "unavailable", "the plug-in does not say why"),
        (
            'return host->fail(INFINI_STATUS_INTERNAL_ERROR, "bad firmware");',
            "failed",
            "opening it failed: bad firmware",
        ),
        (
            "return (infiniStatus_t)77;",
            "failed",
            "opening it failed: status 77, which this infinicore does not know",
        ),
        ("*device_count = 0; return INFINI_STATUS_SUCCESS;", "unavailable", "there is no device"),
    ],
)
def test_open_that_fails(world, body, state, reason):
    world.library("fake", OPEN_BODY=body)
    assert attempt(world) == (state, reason)


def test_open_runs_once_whatever_it_answers_and_from_however_many_threads(world):
    path = world.library("fake", OPEN_BODY="pause_ms(50);")
    code = f"""
        import ctypes, threading, infinicore as ic
        threads = [threading.Thread(target=ic.get_device_count, args=("fake",)) for _ in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(ctypes.c_int.in_dll(ctypes.CDLL({str(path)!r}), "opened").value, ic.backends["fake"].state)
    """
    assert world.output(code) == "1 ready"


def test_trail_is_kept_in_order(world):
    body = (
        'host->trail("libacme.so.2", "ld.so", "not found");'
        'host->trail("libacme.so.1", "/opt/acme", "wrong version");'
        'return host->fail(INFINI_STATUS_UNAVAILABLE, "no usable libacme");'
    )
    world.library("fake", OPEN_BODY=body)
    code = (
        "import infinicore as ic; ic.get_device_count('fake'); print(*ic.backends['fake'].trail, sep='\\n')"
    )
    first, second = map(eval, world.output(code).splitlines())
    assert first == {"what": "libacme.so.2", "where": "ld.so", "result": "not found"}
    assert second == {"what": "libacme.so.1", "where": "/opt/acme", "result": "wrong version"}


# ---- operators -----------------------------------------------------------------------------------


def add_fingerprint():
    import infinicore.ops  # noqa: F401
    from infinicore import schema

    return schema.OPERATORS["add"].fingerprint


def test_operator_of_this_signature_is_native_and_an_unknown_one_is_noted(world):
    world.library("fake", ADD_FINGERPRINT=f"{add_fingerprint()}ull")
    code = """
        import infinicore as ic
        operators = ic.backends["fake"].operators
        reference = operators["reference"]
        print(operators["native"], "gemm" in reference, "add" in reference, operators["lost"])
    """
    lost = {"frobnicate": f"{CORE} has no operator of this name"}
    assert world.output(code) == f"['add'] True False {lost}"


def test_kernel_of_an_operator_defined_later_is_taken_up(world):
    world.library("fake")
    code = """
        import types, infinicore as ic
        from infinicore import schema
        ic.backends["fake"].open()
        schema.OPERATORS["frobnicate"] = types.SimpleNamespace(fingerprint=7)
        operators = ic.backends["fake"].operators
        print(operators["native"], sorted(operators["lost"]))
    """
    assert world.output(code) == "['frobnicate'] ['add']"


def test_operator_of_another_signature_is_lost_and_the_rest_stays(world):
    library = world.library("fake", ADD_FINGERPRINT="0x1234ull")
    code = """
        import infinicore as ic
        operators = ic.backends["fake"].operators
        print(operators["native"], "add" in operators["reference"], ic.backends["fake"].state)
        print(operators["lost"]["add"])
    """
    operators, message = world.output(code).splitlines()
    assert operators == "[] True ready"
    assert message == (
        f"{library} was built for another signature of add (fingerprint 0x0000000000001234) "
        f"than that of {CORE} ({add_fingerprint():#018x}): rebuild it for this version"
    )


def test_operator_without_a_phase_is_lost(world):
    world.library("fake", PREPARE="add.workspace=NULL;")
    code = "import infinicore as ic; print(ic.backends['fake'].operators['lost'])"
    assert eval(world.output(code))["add"] == "operator member 'workspace' is NULL"


# ---- services for plug-ins -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "shown"),
    [(None, "we"), ("debug", "diwe"), ("info", "iwe"), ("error", "e"), ("off", ""), ("35", "e")],
)
def test_log_level_of_the_environment_is_honoured(world, level, shown):
    path = world.library("fake")
    code = f"""
        import ctypes, infinicore as ic
        ic.backends["fake"].open()
        log = ctypes.CDLL({str(path)!r}).call_log
        for level, letter in (10, b"d"), (20, b"i"), (30, b"w"), (40, b"e"):
            log(level, b"message " + letter)
    """
    done = world.python(code, **({"INFINICORE_LOG_LEVEL": level} if level else {}))
    assert "".join(re.findall(r"message (\w)", done.stderr)) == shown


def test_log_goes_through_the_logger_that_a_program_set_up(world):
    path = world.library("fake")
    code = f"""
        import ctypes, logging, sys, infinicore as ic
        logging.basicConfig(level="DEBUG", format="%(name)s|%(levelname)s|%(message)s", stream=sys.stdout)
        ic.backends["fake"].open()
        ctypes.CDLL({str(path)!r}).call_log(10, "caf\\u00e9".encode())
    """
    assert world.output(code) == "infinicore|DEBUG|café"


def test_the_way_of_a_call_is_logged_where_it_is_asked_for(world):
    library = world.library("fake", ADD_FINGERPRINT="0x1234ull")
    world.library("broken", OPEN_BODY="return INFINI_STATUS_UNAVAILABLE;")
    code = """
        import infinicore as ic
        ic.backends["fake"].open()
        try: ic.backends["broken"].open()
        except ic.BackendUnavailable: pass
        a, b = (ic.ones(shape, dtype=ic.float32, device="cpu") for shape in ((2, 3), (3, 4)))
        for _ in range(3): ic.matmul(a, b)
    """
    for level in ("debug", "trace", "10"):
        lines = world.python(code, INFINICORE_LOG_LEVEL=level).stderr.splitlines()
        said = [line.removeprefix("infinicore DEBUG: ") for line in lines]
        (line,) = [line for line in said if line.startswith("fake: opened ")]
        assert re.fullmatch(
            rf"fake: opened {library}, plug-in ABI 1\.\d+: 2 device\(s\), 0 kernel\(s\)", line
        )
        assert any(line.startswith("fake: refused its kernel of add: ") for line in said)
        assert any(line.startswith("broken: unavailable: ") for line in said)
        # Once: the calls that follow find the plan in the cache.
        (line,) = [line for line in said if line.startswith("infinicore.matmul -> ")]
        assert line.startswith(
            "infinicore.matmul -> gemm (in C: infiniopGemm) -> kernel of infinicore-core on cpu"
        )
        assert line.endswith(": out=f32[2, 4], input=f32[2, 3], other=f32[3, 4]")
        assert said.index(line) > next(i for i, text in enumerate(said) if text.startswith("cpu: opened "))
    for level in (None, "info", "warning"):
        done = world.python(code, **({"INFINICORE_LOG_LEVEL": level} if level else {}))
        assert done.stderr == ""


def test_log_level_that_is_none_is_reported(world):
    done = world.python("import infinicore", INFINICORE_LOG_LEVEL="loud")
    assert "INFINICORE_LOG_LEVEL=loud is none of trace, debug, info, " in done.stderr


def test_host_lends_tables_of_ready_backends_only(world):
    path = world.library("fake")
    world.library("other")
    code = f"""
        import ctypes, infinicore as ic
        ic.backends["fake"].open()
        table = ctypes.CDLL({str(path)!r}).call_backend
        table.restype = ctypes.c_void_p
        print(table(b"fake") is not None, table(b"other"), table(b"absent"), ic.backends["other"].state)
        print(table(b"cpu") is not None, ic.backends["cpu"].open().state)
    """
    assert world.output(code).splitlines() == ["True None None found", "True ready"]


def test_plugin_may_use_the_cpu_backend_while_it_opens(world):
    world.library("fake", OPEN_BODY='if (!host->backend("cpu")) return INFINI_STATUS_INTERNAL_ERROR;')
    assert attempt(world) == ("ready", "")


def test_message_logged_while_the_interpreter_goes_away_is_printed(world):
    path = world.library("fake")
    code = f"""
        import ctypes, infinicore as ic
        ic.backends["fake"].open()
        library = ctypes.PyDLL({str(path)!r})
        ic.late = type("Late", (), {{"__del__": lambda self: library.call_log(40, b"late")}})()
    """
    assert "late" in world.python(code).stderr


# ---- names ---------------------------------------------------------------------------------------


def test_cuda_is_the_one_compatible_vendor_when_infinicore_cuda_is_absent(world):
    world.library("metax", DEVICE_TYPE=4, FLAGS=2)
    world.library("fake")
    code = """
        import infinicore as ic
        before = ic.device("cuda", 1)
        print(before, ic.backends["metax"].state)
        ic.set_device("cuda:1")
        now = ic.get_device()
        print(now, now == before, hash(now) == hash(before), ic.get_device_count("cuda"))
        print(ic.backends["fake"].state)
    """
    assert world.output(code).splitlines() == ["cuda:1 found", "metax:1 True True 2", "found"]


def test_cuda_with_two_compatible_vendors_lists_them(world):
    world.library("metax", DEVICE_TYPE=4, FLAGS=2)
    world.library("hygon", DEVICE_TYPE=8, FLAGS=2)
    code = """
        import infinicore as ic
        try: ic.set_device("cuda")
        except ic.BackendUnavailable as error: print(error)
    """
    assert world.output(code) == "cuda: 'hygon' and 'metax' both answer to it: write the one you mean"


def test_cuda_is_infinicore_cuda_when_that_is_ready(world):
    world.library("metax", DEVICE_TYPE=4, FLAGS=2)
    world.library("cuda", DEVICE_TYPE=1)
    code = (
        "import infinicore as ic; ic.set_device('nvidia'); print(ic.get_device(), ic.backends['metax'].state)"
    )
    assert world.output(code) == "cuda:0 found"


def test_cuda_without_driver_gives_way_to_a_compatible_vendor_and_else_says_why(world):
    world.library(
        "cuda", DEVICE_TYPE=1, OPEN_BODY='return host->fail(INFINI_STATUS_UNAVAILABLE, "no NVIDIA driver");'
    )
    code = """
        import infinicore as ic
        try: ic.set_device("cuda"); print(ic.get_device())
        except ic.BackendUnavailable as error: print(error)
    """
    assert world.output(code) == "cuda: no NVIDIA driver"
    world.library("metax", DEVICE_TYPE=4, FLAGS=2)
    assert world.output(code) == "metax:0"


def test_public_device_without_plugin_names_the_wheel_to_install(world):
    code = """
        import infinicore as ic
        try: ic.set_device("npu:1")
        except ic.BackendUnavailable as error: print(error)
    """
    assert world.output(code).splitlines() == [
        "ascend: no plug-in for it is installed",
        "  try: pip install infinicore-ascend",
    ]


def test_two_plugins_of_one_number_are_refused(world):
    code = """
        import infinicore as ic
        from infinicore import discovery
        discovery.number_of = lambda name: 0 if name == "cpu" else 4711
        print(ic.backends["fake"].state, ic.backends["other"].state, ic.backends["other"].reason)
    """
    world.library("fake")
    world.library("other")
    assert world.output(code) == (
        "found failed its device number 4711 is that of 'fake': one of the two needs another name"
    )
    assert number_of("fake") != number_of("other")


# ---- processes and threads -----------------------------------------------------------------------

FORK = """
    import os, sys, infinicore as ic
    def child(body):
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            try: body()
            except BaseException as error: print(type(error).__name__, error)
            finally: sys.stdout.flush(); os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
"""


def test_backend_found_before_fork_works_in_the_child(world):
    world.library("fake")
    code = (
        FORK
        + """
    len(ic.backends)
    child(lambda: print(ic.memory_info("fake:1")[1] - 2**30, ic.device_info("cpu")["name"] != ""))
    print(ic.backends["fake"].state)
    """
    )
    assert world.output(code).splitlines() == ["1 True", "found"]


def test_accelerator_opened_before_fork_is_refused_in_the_child_and_cpu_goes_on(world):
    world.library("fake")
    code = (
        FORK
        + """
    ic.set_device("fake:1"); ic.device_info("cpu")
    child(lambda: ic.synchronize("fake:1"))
    child(lambda: ic.memory_info())
    child(lambda: ic.set_device("fake:0"))
    child(lambda: print(ic.memory_info("cpu")[1] > 0))
    child(lambda: ic.backends.refresh() or ic.set_device("fake:0"))
    print(ic.backends["fake"].state, ic.memory_info("fake:0")[1] - 2**30)
    """
    )
    refusal = (
        "BackendUnavailable fake: it was opened before fork(), and its driver does not work in the child: "
        'start the process with multiprocessing\'s "spawn", or fork before the first use'
    )
    assert world.output(code).splitlines() == [refusal, refusal, refusal, "True", refusal, "ready 0"]


def test_fork_while_another_thread_opens_a_backend(world):
    world.library("fake", OPEN_BODY="pause_ms(300);")
    code = (
        FORK
        + """
    import threading, time
    thread = threading.Thread(target=ic.get_device_count, args=("fake",))
    thread.start()
    time.sleep(0.1)
    child(lambda: print(ic.device_info("cpu")["name"] != ""))
    thread.join()
    print(ic.backends["fake"].state)
    """
    )
    assert world.output(code).splitlines() == ["True", "ready"]


def test_vendor_calls_run_without_the_gil(world):
    path = world.library("fake")
    code = f"""
        import ctypes, threading, time, infinicore as ic
        ic.backends["fake"].open()
        ctypes.c_int.in_dll(ctypes.CDLL({str(path)!r}), "sleep_ms").value = 400
        thread = threading.Thread(target=ic.synchronize, args=("fake",))
        thread.start()
        ticks = 0
        while thread.is_alive():
            time.sleep(0.01)
            ticks += 1
        print(ticks > 3)
    """
    assert world.output(code) == "True"


def test_process_ends_cleanly_with_backends_open(world):
    world.library("fake")
    done = world.python("import infinicore as ic; ic.set_device('fake:1'); ic.get_stream()")
    assert (done.returncode, done.stderr) == (0, "")
