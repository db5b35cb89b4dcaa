# What a call costs before the kernel does anything useful: tiny tensors, so that overhead is all there is.
# Rows compare with PyTorch, the last ones with a direct C call of the kernel; taken alternately in one run.
"""Measure the overhead of calls: ``python benchmarks/dispatch.py``."""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

import infinicore as ic

ROUNDS = 60  # cases alternate, and the best round of each counts: other work on the machine only adds time
CALLS = 5000
RECORDED = 500  # calls in the graph: one replay's own cost is spread over them

# Calls of the cpu backend's `add` on 16 floats: through its operator table, and directly.
C_LOOPS = r"""
#include <infinicore/operators/add.h>
#include <string.h>
#include <time.h>

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Nanoseconds per call, or a status as a negative number. */
int measure(const infini_backend *backend, int calls, double *direct, double *table) {
  static float data[3][16];
  const int64_t shape[] = {16}, strides[] = {1};
  infini_tensor views[3];
  infini_add_args args = {&views[0], &views[1], &views[2]};
  const infini_slot *slots = (const infini_slot *)&args;
  const infini_operator *const volatile *entry = NULL;
  infini_descriptor descriptor;
  int i, status;
  for (i = 0; i < 3; ++i) views[i] = (infini_tensor){data[i], shape, strides, 1, INFINI_DTYPE_F32};
  for (i = 0; i < (int)backend->operator_count; ++i)
    if (!strcmp(backend->operators[i]->name, "add")) entry = &backend->operators[i];
  if (!entry) return -INFINI_STATUS_NOT_IMPLEMENTED;
  if ((status = (*entry)->create(slots, &descriptor))) return -status;
  infiniStatus_t (*execute)(infini_descriptor, void *, uint64_t, const infini_slot *, infinirtStream_t) =
      (*entry)->execute;
  double start = seconds();
  for (i = 0; i < calls; ++i) execute(descriptor, NULL, 0, slots, NULL);
  *direct = 1e9 * (seconds() - start) / calls;
  start = seconds();
  for (i = 0; i < calls; ++i) /* a caller holds the table: entry, function, answer */
    if ((status = (*entry)->execute(descriptor, NULL, 0, slots, NULL))) return -status;
  *table = 1e9 * (seconds() - start) / calls;
  (*entry)->destroy(descriptor);
  return 0;
}
"""


def per_call(call: Callable[[], object]) -> float:
    """Nanoseconds per call in one round, the empty lambda's included."""
    start = time.perf_counter_ns()
    for _ in range(CALLS):
        call()
    return (time.perf_counter_ns() - start) / CALLS


class CLoops:
    """`C_LOOPS`, compiled and ready to measure."""

    def __init__(self, folder: str) -> None:
        from infinicore.discovery import LIBRARIES

        source, library = Path(folder) / "loops.c", Path(folder) / "loops.so"
        source.write_text(C_LOOPS)
        include = Path(ic.__file__).parent / "include"
        command = [*os.environ.get("CC", "cc").split(), "-O2", "-shared", "-fPIC", f"-I{include}"]
        subprocess.run([*command, source, "-o", library], check=True)
        self.loops = ctypes.CDLL(str(library))
        self.backend = ctypes.CDLL(f"{LIBRARIES}/libinfinicore_cpu.so").infinicore_backend
        self.backend.restype = ctypes.c_void_p

    def measure(self) -> tuple[float, float]:
        """Nanoseconds per call in one round: directly, and through the operator table."""
        direct, table = ctypes.c_double(), ctypes.c_double()
        backend = ctypes.c_void_p(self.backend())
        status = self.loops.measure(backend, CALLS, ctypes.byref(direct), ctypes.byref(table))
        if status:
            raise SystemExit(f"the cpu backend's add answers {-status}")
        return direct.value, table.value


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    cpu = ic.device("cpu")
    a, b, out = (ic.full((16,), value, dtype=ic.float32, device=cpu) for value in (1.0, 2.0, 0.0))
    m, n, p = (ic.full((16, 16), value, dtype=ic.float32, device=cpu) for value in (1.0, 2.0, 0.0))
    ta, tb, tout = torch.ones(16), torch.ones(16), torch.empty(16)
    tm, tn, tp = torch.ones(16, 16), torch.ones(16, 16), torch.empty(16, 16)
    pairs: list[tuple[str, float, Callable[[], object], Callable[[], object]]] = [
        ("add(a, b, out=c), 16 f32", 0.4, lambda: ic.add(a, b, out=out), lambda: torch.add(ta, tb, out=tout)),
        ("add(a, b), 16 f32", 1.0, lambda: ic.add(a, b), lambda: torch.add(ta, tb)),
        (
            "empty((16,))",
            0.4,
            lambda: ic.empty((16,), dtype=ic.float32, device=cpu),
            lambda: torch.empty((16,), dtype=torch.float32, device="cpu"),
        ),
        ("narrow(a, 0, 2, 5)", 0.4, lambda: ic.narrow(a, 0, 2, 5), lambda: torch.narrow(ta, 0, 2, 5)),
        ("matmul(out=), 16x16", 1.0, lambda: ic.matmul(m, n, out=p), lambda: torch.matmul(tm, tn, out=tp)),
    ]
    step = ic.graph(cpu)
    with step:
        for _ in range(RECORDED):
            ic.add(a, b, out=out)
    cases: dict[str, Callable[[], object]] = {"lambda": lambda: None}
    for name, _, ours, theirs in pairs:
        cases["ours " + name] = ours
        cases["torch " + name] = theirs
    best = dict.fromkeys([*cases, "replay", "direct", "table"], float("inf"))
    with tempfile.TemporaryDirectory() as folder:
        loops = CLoops(folder)
        for _ in range(ROUNDS):
            for name, call in cases.items():
                best[name] = min(best[name], per_call(call))
            start = time.perf_counter_ns()
            for _ in range(CALLS // RECORDED):
                step.run()
            best["replay"] = min(best["replay"], (time.perf_counter_ns() - start) / CALLS)
            direct, table = loops.measure()
            best["direct"], best["table"] = min(best["direct"], direct), min(best["table"], table)
    print(f"{'':32}{'ours ns':>9}{'torch ns':>10}{'ours/torch':>12}{'at most':>9}")
    for name, limit, _, _ in pairs:
        ours, theirs = best["ours " + name] - best["lambda"], best["torch " + name] - best["lambda"]
        print(f"{name:32}{ours:9.0f}{theirs:10.0f}{ours / theirs:12.2f}{limit:9.1f}")
    print(f"{'':32}{'ns':>9}{'direct ns':>10}{'difference':>12}{'at most':>9}")
    for name, key in [("C call through the table", "table"), ("C call in a replayed graph", "replay")]:
        ns, direct = best[key], best["direct"]
        print(f"{name:32}{ns:9.1f}{direct:10.1f}{ns - direct:12.1f}{20:9.1f}")


if __name__ == "__main__":
    main()
