# The conformance kit inside pytest: `pytest --infinicore-backend NAME` adds an item per check to what else
# is collected, with the plug-in's known failures as strict xfails. Without the option it does nothing.
"""A pytest plug-in that checks a backend of infinicore.

Where infinicore-core is installed pytest finds it by itself; elsewhere it is
``-p infinicore.testing.pytest_plugin``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from infinicore.testing.suite import Check, Target

# What it needs is imported when the option is there: pytest loads this module wherever core is installed.


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the command ``infinicore-test``, under longer names."""
    group = parser.getgroup("infinicore", "conformance of an infinicore backend")
    group.addoption("--infinicore-backend", metavar="NAME", help="check this backend")
    group.addoption("--infinicore-operators", metavar="OP,OP", help="only these operators")
    group.addoption("--infinicore-test", action="append", metavar="CATEGORY", help="only this category")
    group.addoption("--infinicore-threads", type=int, default=4, help="threads at once")
    group.addoption(
        "--infinicore-iterations", type=int, default=5, help="drawn calls per operator and dtypes"
    )
    group.addoption(
        "--infinicore-known-failures", metavar="FILE", help="instead of the file that the plug-in ships"
    )


@pytest.hookimpl(tryfirst=True)  # before -k and -m choose
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add the checks of the backend."""
    if config.getoption("--infinicore-backend") is not None:
        items += checks(session, config)


def checks(session: pytest.Session, config: pytest.Config) -> Iterator[pytest.Item]:
    """Make an item per check."""
    from infinicore import Error
    from infinicore.testing import known_failures
    from infinicore.testing.suite import CATEGORIES, Options, Target, collect

    option = config.getoption
    operators = option("--infinicore-operators")
    try:
        options = Options(
            option("--infinicore-backend"),
            tuple(operators.split(",")) if operators else None,
            tuple(option("--infinicore-test") or CATEGORIES),
            option("--infinicore-threads"),
            option("--infinicore-iterations"),
        )
        target = Target(options)
        plugin = target.backend.plugin
        found = known_failures.find(plugin.module) if plugin is not None else None
        target.known = known_failures.load(option("--infinicore-known-failures") or found)
        collected = collect(target)
    except Error as error:
        raise pytest.UsageError(str(error)) from None
    for one in collected:
        yield Item.from_parent(session, name=f"{target.device}.{one.id}", check=one, target=target)


class Item(pytest.Item):
    """A check as pytest runs it."""

    def __init__(self, *, check: Check, target: Target, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.check, self.target = check, target
        assert target.known is not None
        reason = target.known.reason(check.id)
        if reason is not None:
            self.add_marker(pytest.mark.xfail(reason=reason, strict=True))

    def runtest(self) -> None:
        """Run it."""
        from infinicore.testing.suite import run

        outcome = run(self.target, self.check)
        if outcome.state == "skipped":
            pytest.skip(outcome.message)
        if outcome.state == "failed":
            raise Finding(outcome.message)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show what was found, without the traceback of the kit."""
        if isinstance(excinfo.value, Finding):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[str, None, str]:
        """Say where it comes from: the suite, no file."""
        return "infinicore", None, self.name


class Finding(Exception):
    """A check failed."""
