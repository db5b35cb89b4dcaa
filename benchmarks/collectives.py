# All-reduce between processes of this machine against torch.distributed's gloo and against the machine's copy
# bandwidth; the contestants take turns in the same processes of one run.
"""Measure collectives: ``python benchmarks/collectives.py [ranks]``."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.distributed as dist

import infinicore as ic
from infinicore.distributed import Communicator

SIZES = (4 << 10, 64 << 10, 1 << 20, 16 << 20, 64 << 20)  # bytes
ROUNDS = 20  # contestants alternate, and the best round of each counts: other work only adds time


def seconds(call: Callable[[], object], calls: int, wait: Callable[[], object]) -> float:
    """Time per call of one round that all ranks begin together."""
    wait()
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def rank_main(rank: int, ranks: int, port: str, name: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks)
    communicator = Communicator(ranks, rank, name.encode(), "cpu")
    rows = []
    for size in SIZES:
        ours = ic.full((size // 4,), 1.0, dtype=ic.float32, device="cpu")
        theirs = torch.ones(size // 4)
        source, target = np.ones(size // 4, np.float32), np.ones(size // 4, np.float32)
        contestants: dict[str, Callable[[], object]] = {
            "ours": lambda: communicator.all_reduce(ours, "max"),
            "gloo": lambda: dist.all_reduce(theirs, dist.ReduceOp.MAX),
            "copy": lambda: np.copyto(target, source),
        }
        calls = max(1, min(500, (4 << 20) // size))
        best = dict.fromkeys(contestants, float("inf"))
        for _ in range(ROUNDS):
            for key, call in contestants.items():
                best[key] = min(best[key], seconds(call, calls, communicator.barrier))
        rows.append(best)
    # A round is as slow as its slowest rank.
    slowest: list[dict[str, float]] = [{} for _ in rows]
    for place, row in enumerate(rows):
        for key, value in row.items():
            gathered = communicator.all_reduce(ic.from_list([value], dtype=ic.float64), "max")
            slowest[place][key] = gathered.item()
    if rank == 0:
        print(json.dumps(slowest))
    communicator.destroy()
    dist.destroy_process_group()


def main() -> None:
    ranks = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    name = Communicator.unique_id("cpu").decode()
    environment = {**os.environ, "INFINICORE_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--rank"]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(ranks), port, name], env=environment, text=True, stdout=subprocess.PIPE
        )
        for rank in range(ranks)
    ]
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        sys.exit("a rank failed")
    print(f"all-reduce of f32 between {ranks} processes, each with one thread; time ratios, more is better")
    print(f"{'bytes':>10} {'gloo ÷ ours':>12} {'copy ÷ ours':>12}")
    for size, row in zip(SIZES, json.loads(outputs[0]), strict=True):
        print(f"{size:>10} {row['gloo'] / row['ours']:>12.2f} {row['copy'] / row['ours']:>12.2f}")
    print("copy: every rank copies as many bytes from one array to another, all at once; less cannot be done")


if __name__ == "__main__":
    if "--rank" in sys.argv:
        arguments = sys.argv[sys.argv.index("--rank") + 1 :]
        rank_main(int(arguments[0]), int(arguments[1]), arguments[2], arguments[3])
    else:
        main()
