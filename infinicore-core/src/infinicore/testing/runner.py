# Runs the checks of a backend in a process of its own, one after the other, so that a plug-in that dies or
# hangs costs one check and not the report. The worker says over a pipe what it starts and what came of it.
"""Run a suite, and survive it."""

from __future__ import annotations

import faulthandler
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import IO, Any

import infinicore as ic
from infinicore.testing.known_failures import KnownFailures, load
from infinicore.testing.suite import Options, Outcome, Target, collect, run

__all__ = ["TIMEOUT", "run_here", "run_isolated", "work"]

TIMEOUT = 300.0  # seconds for one check
Progress = Callable[[Outcome, int, int], None]


def run_here(options: Options, known: KnownFailures, progress: Progress | None = None) -> list[Outcome]:
    """Run the checks in this process.

    Parameters
    ----------
    options, known
        What to run, and what is known to fail.
    progress
        Called after each check with what came of it, its number from 1, and how many there are.
    """
    target = Target(options, known)
    checks = collect(target)
    outcomes = []
    for number, item in enumerate(checks, 1):
        outcomes.append(known.apply(run(target, item)))
        if progress is not None:
            progress(outcomes[-1], number, len(checks))
    ic.empty_cache()  # what the checks' streams gave back goes back to the devices
    return outcomes


def run_isolated(
    options: Options,
    known: KnownFailures,
    path: str | None = None,
    progress: Progress | None = None,
    timeout: float = TIMEOUT,
) -> list[Outcome]:
    """Run the checks in another process; begin a new one behind a check that killed it, hung, or left a
    device that refuses everything from then on, as CUDA's does after a wrong address.

    Parameters
    ----------
    options, known, progress
        As in `run_here`.
    path
        The known_failures.toml that `known` was read from.
    timeout
        Seconds for one check.

    Raises
    ------
    RuntimeError
        The process could not begin; the message is what it said.
    """
    outcomes: list[Outcome] = []
    total = 0
    while True:
        with _Worker(options, path, skip=len(outcomes)) as worker:
            for message in worker.messages(timeout):
                if "total" in message:
                    total = message["total"]
                elif "outcome" in message:
                    outcomes.append(known.apply(Outcome(**message["outcome"])))
                    if progress is not None:
                        progress(outcomes[-1], len(outcomes), total)
            if worker.finished:
                return outcomes
            if worker.lost_device:
                continue
            if worker.running is None:
                why = f"the checks of {options.backend} cannot run:\n{worker.said()}"
                if not outcomes:
                    raise RuntimeError(why)
                # A device that was lost for good: what came of the checks before is still worth a report.
                outcomes.append(Outcome("kit.goes_on", outcomes[-1].category, "failed", message=why))
                return outcomes
            lost = Outcome(worker.running["id"], worker.running["category"], "failed")
            lost.message = worker.ending(timeout)
            lost.seconds = time.monotonic() - worker.started
            outcomes.append(known.apply(lost))
            if progress is not None:
                progress(outcomes[-1], len(outcomes), total)


class _Worker:
    """A process that runs checks, and what it said last.

    Attributes
    ----------
    running : dict or None
        ``id`` and ``category`` of the check that began and did not end.
    finished : bool
        It ran all of its checks.
    lost_device : bool
        It ended because the check before broke the device for this process.
    """

    def __init__(self, options: Options, path: str | None, skip: int) -> None:
        self.running: dict[str, str] | None = None
        self.finished = self.hung = self.lost_device = False
        self.started = time.monotonic()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        reader, writer = os.pipe()
        self._pipe = os.fdopen(reader, "rb", buffering=0)
        job = json.dumps({"options": asdict(options), "known": path, "skip": skip, "pipe": writer})
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from infinicore.testing.runner import work; work()", job],
            pass_fds=[writer],
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        os.close(writer)

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._pipe.close()
        self._errors.close()

    def messages(self, timeout: float) -> Any:
        """Yield what it says until it ends, or says nothing for too long."""
        rest = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            while True:
                if not selector.select(timeout):
                    self.hung = True
                    self._process.send_signal(signal.SIGABRT)  # faulthandler says where it stands
                    try:
                        self._process.wait(10)
                    except subprocess.TimeoutExpired:
                        self._process.kill()
                    return
                content = self._pipe.read(1 << 16)
                if not content:
                    self._process.wait()
                    return
                *lines, rest = (rest + content).split(b"\n")
                for line in lines:
                    message = json.loads(line)
                    if "start" in message:
                        self.running, self.started = message["start"], time.monotonic()
                    elif "outcome" in message:
                        self.running = None
                    self.finished = self.finished or "end" in message
                    self.lost_device = self.lost_device or "lost" in message
                    yield message

    def said(self) -> str:
        """Return the end of what it wrote."""
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - 3000))
        return self._errors.read().decode("utf-8", "replace").strip()

    def ending(self, timeout: float) -> str:
        """Say how it ended in the middle of a check."""
        if self.hung:
            return f"nothing came of it in {timeout:g} s\n{self.said()}"
        code = self._process.returncode
        how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return f"the process {how}\n{self.said()}"


def work() -> None:
    """Be the worker: run what the first argument says, and tell it over the pipe."""
    faulthandler.enable()
    job = json.loads(sys.argv[1])
    options = job["options"]
    for name in ("operators", "tests"):
        options[name] = None if options[name] is None else tuple(options[name])
    with os.fdopen(job["pipe"], "w", buffering=1) as pipe:

        def say(**message: Any) -> None:
            pipe.write(json.dumps(message) + "\n")

        target = Target(Options(**options), load(job["known"]))
        checks = collect(target)
        say(total=len(checks))
        for item in checks[job["skip"] :]:
            say(start={"id": item.id, "category": item.category})
            outcome = run(target, item)
            say(outcome=asdict(outcome))
            if outcome.state == "failed" and not usable(target):
                say(lost=True)
                return
        say(end=True)


def usable(target: Target) -> bool:
    """Tell whether the device still computes: a failure of one check must not fail those after it."""
    try:
        return bool((ic.ones((1,), dtype=ic.float32, device=target.device) + 1.0).tolist() == [2.0])
    except ic.Error:
        return False
