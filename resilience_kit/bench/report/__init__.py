"""Reports of results as text, as JSON and as one HTML page with plots."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Final

from resilience_kit._checks import Checks
from resilience_kit.bench.report.content import Report
from resilience_kit.bench.report.html import to_html
from resilience_kit.bench.report.text import to_text

__all__ = ["Report", "write_report"]


def write_report(report: Report, format: str) -> str:  # noqa: A002 - the usual name
    """Return the report in a format. Raises ConfigurationError that suggests the nearest name for an unknown one."""
    checks = Checks("report")
    checks.one_of("format", format, _WRITERS)
    checks.raise_if_any()
    return _WRITERS[format](report)


def _to_json(report: Report) -> str:
    document = report.suite.to_dict()
    if report.regressions is not None:
        found = [{**asdict(each), "regressed": each.regressed} for each in report.regressions.comparisons]
        document["regressions"] = {**asdict(report.regressions), "comparisons": found}
    if report.trends is not None:
        document["trends"] = asdict(report.trends)
    if report.leaks:
        document["leaks"] = [asdict(each) for each in report.leaks]
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


_WRITERS: Final[dict[str, Callable[[Report], str]]] = {"text": to_text, "json": _to_json, "html": to_html}
