"""Who comes first in each row of benchmarks/peers.py, as tables and as what there is to draw. Nothing is measured here."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from statistics import geometric_mean

from report import Report, Row, Spread, around, nanoseconds, ratio_cells, table

#: Panel -> contender, cheapest first -> "sync" or "async" -> its ratio.
Panels = dict[str, dict[str, dict[str, Spread]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where one contender stands in a row: its place among so many, and the nearest other with its cost by this one's.

    `always`: it is first in each run, not only in the median of them (of a single run: by the quartiles).
    """

    row: str
    place: int
    of: int
    nearest: str
    ratio: Spread
    always: bool

    @property
    def verdict(self) -> str:
        """In one or two words."""
        return "first" if self.always else "first by median" if self.place == 1 else "not first"


def places(row: Row, unranked: Container[str]) -> dict[str, int]:
    """By contender its place by the medians of the ratios; whoever has the same median shares one."""
    ranked = {each.contender: each.ratio.mid for each in row.figures if each.contender not in unranked}
    return {name: 1 + sum(other < own for other in ranked.values()) for name, own in ranked.items()}


def standing(row: Row, contender: str, unranked: Container[str]) -> Standing:
    """Where the contender that all ratios of the row are to stands in it. Raises `ValueError` where it is alone."""
    ranked = places(row, unranked)
    others = [each for each in row.figures if each.contender in ranked and each.contender != contender]
    if not others:
        raise ValueError(f"{row.title}: {contender} has nobody to be compared with")
    nearest = min(others, key=lambda each: each.ratio.mid)
    return Standing(
        row=row.title,
        place=ranked[contender],
        of=len(ranked),
        nearest=nearest.contender,
        ratio=nearest.ratio,
        always=all(each.ratio.low > 1 for each in others),
    )


def standings(report: Report, contender: str, unranked: Container[str]) -> list[Standing]:
    """Those of one contender in all rows."""
    return [standing(row, contender, unranked) for row in report.rows]


# --- Markdown ----------------------------------------------------------------------------------------------------------------


def standings_table(found: Iterable[Standing]) -> str:
    """Return one line a row."""
    return table(
        ("row", "the kit's place", "the fastest other", "its cost by the kit's", "spread", "the kit is"),
        ((each.row, f"{each.place} of {each.of}", each.nearest, *ratio_cells(each.ratio), each.verdict) for each in found),
    )


def costs_table(row: Row, unranked: Container[str]) -> str:
    """One line a contender, cheapest first; whoever does not take part has no place."""
    ranked = places(row, unranked)
    return table(
        ("contender", "place", "ns a call", "spread", "by the kit's", "spread"),
        (
            (
                each.contender,
                str(ranked.get(each.contender, "")),
                *around(each.cost, nanoseconds),
                *ratio_cells(each.ratio),
            )
            for each in sorted(row.figures, key=lambda each: each.ratio.mid)
        ),
    )


def parts(report: Report, contender: str, unranked: Container[str]) -> dict[str, str]:
    """Return the sections of a page by their names."""
    costs = "\n\n".join(f"### {row.title}\n\n{costs_table(row, unranked)}" for row in report.rows)
    return {
        "environment": "; ".join(f"{name} {value}" for name, value in report.environment.items()),
        "standings": standings_table(standings(report, contender, unranked)),
        "costs": costs,
    }


# --- to draw ---------------------------------------------------------------------------------------------------------------


def panels(rows: Iterable[Row]) -> Panels:
    """Combine rows whose titles differ only in "sync" and "async" into one panel each."""
    found: Panels = {}
    for row in rows:
        title, _, kind = row.title.rpartition(", ")
        for each in row.figures:
            found.setdefault(title, {}).setdefault(each.contender, {})[kind] = each.ratio
    return {title: dict(sorted(lines.items(), key=lambda line: _middle(line[1]))) for title, lines in found.items()}


def _middle(line: Mapping[str, Spread]) -> float:
    return geometric_mean(ratio.mid for ratio in line.values())
