"""The command `resilience-kit doctor`: gathers the findings and shows them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from rich.text import Text

from resilience_kit.cli.config.code import operations_of
from resilience_kit.cli.doctor.environment import look_at_environment
from resilience_kit.cli.doctor.finding import Finding, Health
from resilience_kit.cli.doctor.jobs import look_at_jobs
from resilience_kit.cli.doctor.libraries import look_at_libraries
from resilience_kit.cli.doctor.stores import look_at_stores
from resilience_kit.cli.doctor.traps import look_at_traps
from resilience_kit.cli.output import Grid, Output, table

_SIGN = {Health.FINE: ("ok", "green"), Health.NOTE: ("note", "yellow"), Health.PROBLEM: ("problem", "bold red")}


def findings(*, stores: bool, app: str | None = None) -> Iterator[Finding]:
    """All there is to find, area by area.

    `stores`: connect to those that the environment names; the kit itself uses none. `app`: whose operations are known.
    """
    yield from look_at_libraries()
    yield from look_at_traps()
    yield from look_at_environment(() if app is None else operations_of(app))
    yield from look_at_jobs()
    if stores:
        yield from look_at_stores()


def examine(output: Output, *, stores: bool, app: str | None = None) -> int:
    """Show the findings; 1 when one of them is a problem, else 0."""
    found = list(findings(stores=stores, app=app))
    problems = sum(each.health is Health.PROBLEM for each in found)
    output.show({"problems": problems, "findings": [each.to_dict() for each in found]}, *_tables(found), _sum(problems))
    return int(problems > 0)


def _tables(found: list[Finding]) -> Iterator[Grid]:
    for area, group in groupby(found, key=lambda each: each.area):
        yield table(area, ["", "", ""], [(Text(*_SIGN[each.health]), each.subject, _told(each)) for each in group])


def _told(finding: Finding) -> str:
    return f"{finding.text}\n-> {finding.remedy}" if finding.remedy else finding.text


def _sum(problems: int) -> str:
    return f"{problems} problem{'s' * (problems != 1)} found" if problems else "nothing to mend"
