"""What the samples say: medians, spread, ratios and verdicts, as Markdown and as JSON. Nothing is measured here."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any


@dataclass(frozen=True, slots=True)
class Spread:
    """A middle value and what lies around it: of samples the median and the quartiles, of runs the median and the extremes."""

    low: float
    mid: float
    high: float

    @classmethod
    def of_samples(cls, samples: Sequence[float]) -> Spread:
        """The quartiles of the samples of one run."""
        if len(samples) == 1:
            return cls(samples[0], samples[0], samples[0])
        low, mid, high = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(low, mid, high)

    @classmethod
    def of_runs(cls, runs: Iterable[Spread]) -> Spread:
        """The middle and the extremes of the runs' medians."""
        middles = sorted(run.mid for run in runs)
        return cls(middles[0], statistics.median(middles), middles[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One contender: nanoseconds a call, and the ratio to the contender that it is held against."""

    contender: str
    against: str
    cost: Spread
    ratio: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Contenders that did the same work."""

    title: str
    figures: tuple[Figure, ...]


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

    @property
    def holds(self) -> bool:
        """Whether every target is met."""
        return all(each.holds for each in self.findings) and all(each.holds for each in self.garbage)


# --- from samples ------------------------------------------------------------------------------------------------------------


def ratios(samples: Sequence[float], of: Sequence[float]) -> Spread:
    """The ratio of two contenders, formed round by round: what slows the machine for a round cancels out."""
    return Spread.of_samples([each / other for each, other in zip(samples, of, strict=True)])


def row(title: str, samples: Mapping[str, Sequence[float]], against: Mapping[str, str]) -> Row:
    """A row from its samples, and by contender the name of the one that it is divided by."""
    return Row(
        title=title,
        figures=tuple(
            Figure(
                contender=name,
                against=against[name],
                cost=Spread.of_samples(own),
                ratio=ratios(own, samples[against[name]]),
            )
            for name, own in samples.items()
        ),
    )


def finding(target: Target, samples: Mapping[str, Sequence[float]]) -> Finding:
    """A target held against the samples of its row."""
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
    )


def _merged_row(rows: tuple[Row, ...]) -> Row:
    return Row(
        title=rows[0].title,
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
    """The report that `to_json` wrote."""
    return Report(
        environment=document["environment"],
        rows=tuple(Row(title=each["title"], figures=tuple(map(_figure, each["figures"]))) for each in document["rows"]),
        findings=tuple(Finding(target=Target(**each["target"]), ratio=Spread(**each["ratio"])) for each in document["findings"]),
        garbage=tuple(Garbage(**each) for each in document["garbage"]),
    )


def _figure(document: Mapping[str, Any]) -> Figure:
    return Figure(**{**document, "cost": Spread(**document["cost"]), "ratio": Spread(**document["ratio"])})


# --- Markdown ----------------------------------------------------------------------------------------------------------------


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are aligned to the right."""
    rules = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rules, *lines))


def to_markdown(report: Report) -> str:
    """Targets first, then what they rest on."""
    environment = "; ".join(f"{name} {value}" for name, value in report.environment.items())
    costs = "\n\n".join(map(_costs, report.rows))
    sections = {"Targets": _targets(report.findings), "Costs": costs, "Garbage": _garbage(report.garbage)}
    return "\n\n".join([environment, *(f"## {title}\n\n{body}" for title, body in sections.items())])


def _targets(findings: Iterable[Finding]) -> str:
    return table(
        ("row", "contender", "against", "ratio", "spread", "at most", "verdict"),
        (
            (f.target.row, f.target.contender, f.target.against, *_ratio(f.ratio), f"{f.target.limit:.3g}", verdict(f.holds))
            for f in findings
        ),
    )


def _costs(row: Row) -> str:
    lines = [(each.contender, *_around(each.cost, _nanoseconds), *_ratio(each.ratio), each.against) for each in row.figures]
    return f"### {row.title}\n\n{table(('contender', 'ns a call', 'spread', 'ratio', 'spread', 'to'), lines)}"


def _garbage(garbage: Iterable[Garbage]) -> str:
    lines = []
    for title, found in groupby(garbage, key=lambda each: each.row):
        left = list(found)
        told = ", ".join(f"{each.contender} {each.objects / each.calls:.3g}" for each in left)
        lines.append((title, told, verdict(all(each.holds for each in left))))
    return table(("row", "objects a call", "verdict"), lines)


def _ratio(ratio: Spread) -> tuple[str, str]:
    return _around(ratio, lambda value: f"{value:.3f}")


def _around(spread: Spread, shown: Callable[[float], str]) -> tuple[str, str]:
    return shown(spread.mid), f"{shown(spread.low)} - {shown(spread.high)}"


def _nanoseconds(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ")


def verdict(holds: bool) -> str:
    """In one word."""
    return "pass" if holds else "over"
