"""Reports of samples: medians, spread, ratios and verdicts, as Markdown and as JSON. Measures nothing."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any

PER_CALL = "ns a call"


@dataclass(frozen=True, slots=True)
class Spread:
    """A middle value and what lies around it: of samples the median and the quartiles, of runs the median and the extremes."""

    low: float
    mid: float
    high: float

    @classmethod
    def of_samples(cls, samples: Sequence[float]) -> Spread:
        """Return the quartiles of the samples of one run."""
        if len(samples) == 1:
            return cls(samples[0], samples[0], samples[0])
        low, mid, high = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(low, mid, high)

    @classmethod
    def of_runs(cls, runs: Iterable[Spread]) -> Spread:
        """Return the median and the extremes of the runs' medians."""
        middles = sorted(run.mid for run in runs)
        return cls(middles[0], statistics.median(middles), middles[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One contender: what it costs in the unit of its row, and the ratio to the contender that it is held against."""

    contender: str
    against: str
    cost: Spread
    ratio: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Contenders that did the same work."""

    title: str
    figures: tuple[Figure, ...]
    unit: str = PER_CALL

    def of(self, contender: str) -> Figure:
        """Return the figures of one contender."""
        return next(each for each in self.figures if each.contender == contender)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """What is read from very many samples of one contender: the median, the 99th percentile and the longest."""

    contender: str
    against: str
    samples: int
    mid: float
    p99: float
    high: float

    @classmethod
    def of_samples(cls, contender: str, against: str, samples: Iterable[float]) -> Tail:
        """By nearest rank."""
        ordered = sorted(samples)
        mid, p99 = (ordered[max(0, math.ceil(len(ordered) * share) - 1)] for share in (0.5, 0.99))
        return cls(contender=contender, against=against, samples=len(ordered), mid=mid, p99=p99, high=ordered[-1])

    @classmethod
    def of_runs(cls, runs: Sequence[Tail]) -> Tail:
        """Return the medians over the runs, and the maximum of all."""
        mid, p99 = statistics.median(run.mid for run in runs), statistics.median(run.p99 for run in runs)
        samples, high = sum(run.samples for run in runs), max(run.high for run in runs)
        return cls(contender=runs[0].contender, against=runs[0].against, samples=samples, mid=mid, p99=p99, high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class TailRow:
    """Contenders that did the same work, where the rare long ones matter."""

    title: str
    unit: str
    tails: tuple[Tail, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is to be shown: `contender` costs at most `limit` times what `against` costs, in the row of that title."""

    row: str
    contender: str
    against: str
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a run says of a target."""

    target: Target
    ratio: Spread

    @property
    def holds(self) -> bool:
        """Whether the median is within the limit."""
        return self.ratio.mid <= self.target.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """Objects that only the cyclic collector could free, after so many calls. `promised`: there must be none."""

    row: str
    contender: str
    calls: int
    objects: int
    promised: bool

    @property
    def holds(self) -> bool:
        """Whether a promise is kept, or there is none."""
        return not (self.promised and self.objects)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run, or several merged into one."""

    environment: Mapping[str, str]
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]
    garbage: tuple[Garbage, ...]
    tails: tuple[TailRow, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether every target is met."""
        return all(each.holds for each in self.findings) and all(each.holds for each in self.garbage)


# --- from samples ------------------------------------------------------------------------------------------------------------


def ratios(samples: Sequence[float], of: Sequence[float]) -> Spread:
    """Return the ratio of two contenders, round by round: what slows the machine for a round cancels out."""
    return Spread.of_samples([each / other for each, other in zip(samples, of, strict=True)])


def row(title: str, samples: Mapping[str, Sequence[float]], against: Mapping[str, str], unit: str = PER_CALL) -> Row:
    """Return a row from samples; `against` maps each contender to the one that it is divided by."""
    return Row(
        title=title,
        unit=unit,
        figures=tuple(
            Figure(
                contender=name,
                against=against[name],
                cost=Spread.of_samples(own),
                ratio=ratios(own, samples[against[name]]),
            )
            for name, own in ((name, samples[name]) for name in against)
        ),
    )


def finding(target: Target, samples: Mapping[str, Sequence[float]]) -> Finding:
    """Compare the samples of a row with a target."""
    return Finding(target=target, ratio=ratios(samples[target.contender], samples[target.against]))


def merged(runs: Sequence[Report]) -> Report:
    """Several runs of the same benchmark as one: medians of their medians, and the most garbage of any."""
    return Report(
        environment={**runs[0].environment, "runs": str(len(runs))},
        rows=tuple(_merged_row(same) for same in zip(*(run.rows for run in runs), strict=True)),
        findings=tuple(
            Finding(target=same[0].target, ratio=Spread.of_runs(each.ratio for each in same))
            for same in zip(*(run.findings for run in runs), strict=True)
        ),
        garbage=tuple(max(same, key=lambda each: each.objects) for same in zip(*(run.garbage for run in runs), strict=True)),
        tails=tuple(_merged_tails(same) for same in zip(*(run.tails for run in runs), strict=True)),
    )


def _merged_tails(rows: tuple[TailRow, ...]) -> TailRow:
    return replace(rows[0], tails=tuple(Tail.of_runs(same) for same in zip(*(row.tails for row in rows), strict=True)))


def _merged_row(rows: tuple[Row, ...]) -> Row:
    return replace(
        rows[0],
        figures=tuple(
            Figure(
                contender=same[0].contender,
                against=same[0].against,
                cost=Spread.of_runs(each.cost for each in same),
                ratio=Spread.of_runs(each.ratio for each in same),
            )
            for same in zip(*(row.figures for row in rows), strict=True)
        ),
    )


# --- JSON --------------------------------------------------------------------------------------------------------------------


def to_json(report: Report) -> dict[str, Any]:
    """Ready for `json.dump`; verdicts are written out beside the figures."""
    document = asdict(report)
    for each, told in zip(report.findings, document["findings"], strict=True):
        told["holds"] = each.holds
    return {**document, "holds": report.holds}


def from_json(document: Mapping[str, Any]) -> Report:
    """Return the report that `to_json` wrote."""
    return Report(
        environment=document["environment"],
        rows=tuple(Row(**{**each, "figures": tuple(map(_figure, each["figures"]))}) for each in document["rows"]),
        findings=tuple(Finding(target=Target(**each["target"]), ratio=Spread(**each["ratio"])) for each in document["findings"]),
        garbage=tuple(Garbage(**each) for each in document["garbage"]),
        tails=tuple(
            TailRow(**{**each, "tails": tuple(Tail(**tail) for tail in each["tails"])}) for each in document.get("tails", ())
        ),
    )


def _figure(document: Mapping[str, Any]) -> Figure:
    return Figure(**{**document, "cost": Spread(**document["cost"]), "ratio": Spread(**document["ratio"])})


# --- Markdown ----------------------------------------------------------------------------------------------------------------


def table(head: Sequence[str], lines: Iterable[Sequence[str]], *, numbers: bool = True) -> str:
    """Return a Markdown table; of `numbers`, all columns but the first are aligned to the right."""
    rules = ["---", *["---:" if numbers else "---"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rules, *lines))


def machine() -> str:
    """Return the interpreter and the machine that figures depend on."""
    return f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} processors"


def to_markdown(report: Report) -> str:
    """Return the targets, then the figures behind them."""
    environment = "; ".join(f"{name} {value}" for name, value in report.environment.items())
    costs = "\n\n".join(map(costs_section, report.rows))
    sections = {"Targets": targets_table(report.findings), "Costs": costs, "Garbage": garbage_table(report.garbage)}
    return "\n\n".join([environment, *(f"## {title}\n\n{body}" for title, body in sections.items())])


def targets_table(findings: Iterable[Finding]) -> str:
    """Return one line a target."""
    return table(
        ("row", "contender", "against", "ratio", "spread", "at most", "verdict"),
        (
            (f.target.row, f.target.contender, f.target.against, *ratio_cells(f.ratio), f"{f.target.limit:.3g}", verdict(f.holds))
            for f in findings
        ),
    )


def costs_section(row: Row) -> str:
    """Return a row as a section, one line a contender."""
    lines = [(each.contender, *around(each.cost, nanoseconds), *ratio_cells(each.ratio), each.against) for each in row.figures]
    return f"### {row.title}\n\n{table(('contender', row.unit, 'spread', 'ratio', 'spread', 'to'), lines)}"


def tails_section(row: TailRow) -> str:
    """Return a row as a section, one line a contender; each ratio is that of the figure before it."""
    by_name = {each.contender: each for each in row.tails}
    lines = []
    for each in row.tails:
        other = by_name[each.against]
        ratios = (f"{each.mid / other.mid:.3f}", f"{each.p99 / other.p99:.3f}")
        figures = (nanoseconds(each.mid), ratios[0], nanoseconds(each.p99), ratios[1], nanoseconds(each.high))
        lines.append((each.contender, nanoseconds(each.samples), *figures, each.against))
    head = ("contender", "samples", f"median, {row.unit}", "ratio", f"99 %, {row.unit}", "ratio", f"longest, {row.unit}", "to")
    return f"### {row.title}\n\n{table(head, lines)}"


def garbage_table(garbage: Iterable[Garbage]) -> str:
    """Return one line a row."""
    lines = []
    for title, found in groupby(garbage, key=lambda each: each.row):
        left = list(found)
        told = ", ".join(f"{each.contender} {each.objects / each.calls:.3g}" for each in left)
        lines.append((title, told, verdict(all(each.holds for each in left))))
    return table(("row", "objects a call", "verdict"), lines)


def ratio_cells(ratio: Spread) -> tuple[str, str]:
    """Return a ratio's two cells."""
    return around(ratio, lambda value: f"{value:.3f}")


def around(spread: Spread, shown: Callable[[float], str]) -> tuple[str, str]:
    """Return the two cells of a spread: the middle and the range."""
    return shown(spread.mid), f"{shown(spread.low)} - {shown(spread.high)}"


def nanoseconds(value: float) -> str:
    """Format whole nanoseconds with spaced thousands."""
    return f"{value:,.0f}".replace(",", " ")


def verdict(holds: bool) -> str:
    """Return pass or over."""
    return "pass" if holds else "over"
