# The frame of the conformance kit: what a check is, what it is given, and what comes of running it. The
# checks themselves are in `checks`; the command line, pytest and core's own tests all run them from here.
"""Checks of one backend."""

from __future__ import annotations

import dataclasses
import functools
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import infinicore as ic
from infinicore.schema import OPERATORS, Schema

if TYPE_CHECKING:
    from infinicore.testing.known_failures import KnownFailures
    from infinicore.testing.strategies import DrawnCall, DrawnTensor
    from infinicore.testing.tables import Runtime

__all__ = [
    "CATEGORIES",
    "Check",
    "Options",
    "Outcome",
    "Skip",
    "Target",
    "check",
    "check_each_operator",
    "collect",
    "run",
]

#: What `Options.tests` chooses from.
CATEGORIES = ("basic", "concurrency", "exception", "leak", "performance", "stress", "module")
#: The dtypes in which an operator is tried where one will do, the best first.
PREFERRED = ("f32", "f16", "bf16", "f64", "i32", "i64")
NEEDS_HYPOTHESIS = "it draws calls with hypothesis, which is not installed: pip install hypothesis"


class Skip(Exception):
    """A check does not apply to the backend, or cannot run here; the message says why."""


@dataclass(frozen=True)
class Options:
    """What is run, and how much of it.

    Attributes
    ----------
    backend : str
        The device string, with or without an index.
    operators : tuple of str
        Only these, and none where it is empty; None for all.
    tests : tuple of str
        Categories.
    threads : int
        How many threads work at once where threads do.
    iterations : int
        Drawn calls per operator and combination of dtypes; repetitions elsewhere follow from it.
    seed : int
        What is drawn.
    """

    backend: str
    operators: tuple[str, ...] | None = None
    tests: tuple[str, ...] = CATEGORIES
    threads: int = 4
    iterations: int = 5
    seed: int = 0


class Target:
    """The backend under test, and what the checks share about it.

    Parameters
    ----------
    options
        The backend's name and the amounts.
    known
        Its known failures, for tolerances; none by default.

    Raises
    ------
    infinicore.BackendUnavailable
        It cannot be used; the message says why.
    """

    def __init__(self, options: Options, known: KnownFailures | None = None) -> None:
        if options.backend.split(":")[0] in ("sim", "sim2"):
            from infinicore.testing import sim

            sim.enable()
        self.options, self.known = options, known
        self.device = ic.device(options.backend)
        self.name = self.device.type
        self.backend = ic.backends[self.name].open()
        self.native = set(self.backend.operators["native"])

    def chosen(self) -> list[Schema]:
        """List the operators to check: all of infinicore, or those that were asked for."""
        wanted = self.options.operators
        unknown = sorted(set(wanted or ()) - set(OPERATORS))
        if unknown:
            raise ic.InvalidArgument(f"infinicore has no operator {', '.join(unknown)}")
        return [OPERATORS[name] for name in sorted(OPERATORS if wanted is None else wanted)]

    @functools.cached_property
    def runtime(self) -> Runtime:
        """The runtime and collectives tables of the plug-in."""
        from infinicore.testing.tables import Runtime

        return Runtime(self.name)

    @functools.cache  # noqa: B019 (a target lives as long as the process)
    def drawn(self, name: str, more: int = 0) -> tuple[DrawnCall, ...]:
        """Draw calls of an operator, ``iterations`` many; the same at every run with the same seed.

        `more` gives others.
        """
        from infinicore.testing.strategies import combinations

        schema = OPERATORS[name]
        read = {p.dtype for p in schema.tensors if p.role != "out"}
        first = next(combinations(schema))
        # Dtypes that no input fixes: outputs of them have to be given, or there would be nothing to change.
        open_words = {word: dtype for word, dtype in first.items() if word not in read}
        options = dataclasses.replace(self.options, seed=self.options.seed + (more << 32))
        return draw(schema, options, open_words)

    @functools.cache  # noqa: B019
    def sample(self, name: str) -> DrawnCall:
        """Choose one call of an operator that the device runs: the largest drawn, in a usual dtype.

        Its outputs are given, and are none of its inputs. Each input has different elements, if that can be
        had: threads that take each other's are not seen otherwise.
        """
        from infinicore.testing.conformance import Launch
        from infinicore.testing.strategies import combinations

        calls = list(self.drawn(name))
        for more in range(1, 4):
            if not min(map(even, calls)):
                break
            calls += self.drawn(name, more)
        calls.sort(key=lambda call: (-even(call), elements(call)), reverse=True)
        for dtypes in sorted(combinations(OPERATORS[name]), key=rarity):
            for call in calls:
                call = dataclasses.replace(call.retyped(dtypes), give_out=True, alias={})
                try:
                    call.resolved()
                    Launch(call, self.device)()
                    ic.synchronize(self.device)
                except ic.Error:
                    continue  # that it should have run is for the check of its results to say
                return call
        raise Skip(f"no drawn call of {name} runs on {self.device}")


def rarity(dtypes: dict[str, str]) -> int:
    """Order combinations of dtypes: the usual ones first."""
    return sum(PREFERRED.index(d) if d in PREFERRED else len(PREFERRED) for d in dtypes.values())


def tensors_of(call: DrawnCall) -> list[DrawnTensor]:
    """List the tensors of a call, those of lists one by one."""
    from infinicore.testing.strategies import DrawnTensor

    items = [item for value in call.slots for item in (value if isinstance(value, tuple) else (value,))]
    return [item for item in items if isinstance(item, DrawnTensor)]


def elements(call: DrawnCall) -> int:
    """Count the elements of a call's tensors."""
    return sum(int(functools.reduce(int.__mul__, item.layout.shape, 1)) for item in tensors_of(call))


def even(call: DrawnCall) -> int:
    """Count the tensors of a call that are read and have one value all over, or none."""
    values = [item.values for item in tensors_of(call) if item.values is not None]
    return sum(not array.size or bool((array == array.flat[0]).all()) for array in values)


CHOICE = 4  # calls that are drawn for each one that is run


def draw(
    schema: Schema, options: Options, dtypes: dict[str, str], *, special: bool = False
) -> tuple[DrawnCall, ...]:
    """Draw calls of an operator with hypothesis: ``options.iterations`` many, as unlike as they come.

    The same ones with `special`, but for elements: NaN, infinities and extremes are among them.
    """
    from hypothesis import HealthCheck, Phase, given, seed, settings

    from infinicore.testing.strategies import calls

    found: list[DrawnCall] = []

    @seed(options.seed)
    @settings(
        max_examples=CHOICE * options.iterations + 1,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(calls(schema, dtypes=dtypes, special=special))
    def keep(call: DrawnCall) -> None:
        found.append(call)

    keep()
    return tuple(various(found[1:] or found, options.iterations))  # the simplest comes first


def various(calls: list[DrawnCall], count: int) -> list[DrawnCall]:
    """Choose calls: the last, then each time the first of those that show most of what is not shown yet."""
    shows = {number: traits(call) for number, call in enumerate(calls)}
    chosen: list[DrawnCall] = []
    shown: set[object] = set()
    while shows and len(chosen) < count:
        best = max(shows, key=lambda number: len(shows[number] - shown)) if chosen else max(shows)
        shown |= shows.pop(best)
        chosen.append(calls[best])
    return chosen


def traits(call: DrawnCall) -> set[object]:
    """List what tells a call from others: layouts by slot, what is absent or shared, values that choose."""
    from infinicore.testing.strategies import DrawnTensor

    found: set[object] = {("out is given", call.give_out), ("alias", *sorted(call.alias.items()))}
    for p, value in zip(call.schema.parameters, call.slots, strict=True):
        if p.role == "out" and (p.index in call.alias or not call.give_out):
            continue  # its layout is not the one drawn
        found.add((p.name, "absent", value is None))
        if p.kind in ("bool", "enum"):
            found.add((p.name, value))
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, DrawnTensor):
                found |= {(p.name, trait) for trait in item.layout.traits()}
    return found


# ---- checks --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """Something that must hold of a backend.

    Attributes
    ----------
    id : str
        ``area.name``, or ``area.operator[.dtypes]``; what known_failures.toml names.
    category : str
        One of `CATEGORIES`.
    body : function
        Takes the `Target`; raises where the backend fails, `Skip` where it has nothing to check. May return
        what it found out for the report.
    """

    id: str
    category: str
    body: Callable[[Target], dict[str, Any] | None] = field(repr=False)

    @property
    def group(self) -> str:
        """What progress is told by: all dtypes of an operator together."""
        return ".".join(self.id.split(".")[:2])


@dataclass
class Outcome:
    """What came of a check.

    Its `state` is passed, failed, skipped, known (it fails, and is listed as such) or unexpected (it passes,
    and is listed as failing).
    """

    id: str
    category: str
    state: str
    seconds: float = 0.0
    message: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def is_finding(self) -> bool:
        """Whether the backend fails because of it."""
        return self.state in ("failed", "unexpected")


_OnTarget = TypeVar("_OnTarget", bound="Callable[[Target], Any]")
_OnCall = TypeVar("_OnCall", bound="Callable[[Target, DrawnCall], Any]")
_Source = TypeVar("_Source", bound="Callable[[Target], Iterator[Check]]")
_SOURCES: list[Callable[[Target], Iterator[Check]]] = []


def check(category: str, area: str) -> Callable[[_OnTarget], _OnTarget]:
    """Register a function as one check: ``area.name_of_the_function``."""

    def register(body: _OnTarget) -> _OnTarget:
        _SOURCES.append(lambda target: iter([Check(f"{area}.{body.__name__}", category, body)]))
        return body

    return register


def check_each_operator(category: str, area: str) -> Callable[[_OnCall], _OnCall]:
    """Register a function as a check of every operator that has a kernel; it is given a call of it."""

    def register(body: _OnCall) -> _OnCall:
        def one(name: str) -> Check:
            return Check(f"{area}.{name}", category, lambda target: body(target, target.sample(name)))

        _SOURCES.append(lambda t: (one(s.name) for s in t.chosen() if s.name in t.native))
        return body

    return register


def check_source(source: _Source) -> _Source:
    """Register a function that yields checks."""
    _SOURCES.append(source)
    return source


def collect(target: Target) -> list[Check]:
    """List the checks of a backend, in the order in which they run."""
    from infinicore.testing import checks  # noqa: F401  (registers them)

    found = [item for source in _SOURCES for item in source(target)]
    return [item for item in found if item.category in target.options.tests]


def run(target: Target, item: Check) -> Outcome:
    """Run a check."""
    started = time.perf_counter()
    outcome = Outcome(item.id, item.category, "passed")
    try:
        outcome.facts = item.body(target) or {}
        ic.synchronize(target.device)  # what fails later belongs to this check still
    except Skip as reason:
        outcome.state, outcome.message = "skipped", str(reason)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "hypothesis":
            outcome.state, outcome.message = "skipped", NEEDS_HYPOTHESIS
        else:
            outcome.state, outcome.message = "failed", explain(error)
    outcome.seconds = time.perf_counter() - started
    return outcome


def explain(error: BaseException) -> str:
    """Say what was raised: an assertion's own words, anything else with where it came from."""
    if isinstance(error, AssertionError) and str(error):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} (in {last.name}, line {last.lineno} of {last.filename})"
