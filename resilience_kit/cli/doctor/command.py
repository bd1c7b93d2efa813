"""The command `resilience-kit doctor`: gathers the findings and shows them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from rich.text import Text

from resilience_kit.cli.config.app_loader import operations_of
from resilience_kit.cli.doctor.environment import inspect_environment
from resilience_kit.cli.doctor.finding import Finding, Severity
from resilience_kit.cli.doctor.jobs import inspect_jobs
from resilience_kit.cli.doctor.libraries import inspect_libraries
from resilience_kit.cli.doctor.pitfalls import inspect_pitfalls
from resilience_kit.cli.doctor.stores import inspect_stores
from resilience_kit.cli.output import Grid, Output, table

_SIGN = {Severity.OK: ("ok", "green"), Severity.INFO: ("note", "yellow"), Severity.PROBLEM: ("problem", "bold red")}


def findings(*, stores: bool, app: str | None = None) -> Iterator[Finding]:
    """Yield all findings, area by area.

    `stores`: connect to those that the environment names. `app`: the application whose operations are known.
    """
    yield from inspect_libraries()
    yield from inspect_pitfalls()
    yield from inspect_environment(() if app is None else operations_of(app))
    yield from inspect_jobs()
    if stores:
        yield from inspect_stores()


def run_doctor(output: Output, *, stores: bool, app: str | None = None) -> int:
    """Show the findings; return 1 if one of them is a problem, else 0."""
    found = list(findings(stores=stores, app=app))
    problems = sum(each.severity is Severity.PROBLEM for each in found)
    output.show({"problems": problems, "findings": [each.to_dict() for each in found]}, *_tables(found), _problem_count(problems))
    return int(problems > 0)


def _tables(found: list[Finding]) -> Iterator[Grid]:
    for area, group in groupby(found, key=lambda each: each.area):
        yield table(area, ["", "", ""], [(Text(*_SIGN[each.severity]), each.subject, _finding_text(each)) for each in group])


def _finding_text(finding: Finding) -> str:
    return f"{finding.text}\n-> {finding.remedy}" if finding.remedy else finding.text


def _problem_count(problems: int) -> str:
    return f"{problems} problem{'s' * (problems != 1)} found" if problems else "nothing needs attention"
