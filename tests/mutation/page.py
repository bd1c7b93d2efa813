"""Summary of the mutants of each room: how many were made, tried and noticed, and what is wrong with the run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KILLED, SURVIVED, TIMED_OUT = "killed", "survived", "timed out"
#: What is known of a survivor's tests ends so when they were the quick ones.
QUICK = " quick"
_HEAD = """# Mutants

`make mutate` makes thousands of small changes to the code, one at a time (a `<` for a `<=`, an argument left out, a statement
dropped), and runs for each the tests that run the changed statement. A mutant that no test notices is a line that the tests run
and do not test. `tests/mutation/mutants.py` tells which changes are made. *Tried* are the mutants that the runs so far have
come to, and *noticed* is a share of those; *out of time* are the ones that hang, which is noticed. *Quick only* counts survivors
that have met the quick tests of their room alone. The reason for each survivor is in `tests/mutation/survivors.md`.
"""


@dataclass(frozen=True, slots=True)
class Room:
    """Modules, their own tests and others that run them, by folder, and the share of mutants that has to be noticed."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]
    others: tuple[str, ...] = ()
    at_least: float = 0.0

    def files(self, package: Path) -> Iterator[Path]:
        """The modules' files."""
        for module in self.modules:
            path = package / module
            yield from [path] if path.suffix else sorted(path.rglob("*.py"))


_DRIVEN = ("tests/execution", "tests/orchestrator")
_ORCHESTRATOR = tuple(f"orchestrator/{name}.py" for name in ("service", "registry", "settings_reloader"))
ROOMS = {
    "breaker": Room(("policies/breaker",), ("tests/policies/breaker",), _DRIVEN, at_least=0.95),
    "retry": Room(("policies/retry.py", "policies/retry_budget.py"), ("tests/policies/retry",), _DRIVEN),
    "drivers": Room(
        ("execution", *_ORCHESTRATOR),
        _DRIVEN,
        ("tests/policies", "tests/metrics"),
        at_least=0.95,
    ),
    "classifier": Room(("classification",), ("tests/classification",), ("tests/policies/retry",)),
}


@dataclass(frozen=True, slots=True)
class Tally:
    """How many mutants of something met which fate."""

    killed: int
    hung: int
    survived: int

    @classmethod
    def of(cls, mutants: Iterable[Mapping[str, Any]]) -> Tally:
        """Counted."""
        verdicts = [mutant["verdict"] for mutant in mutants]
        return cls(*(verdicts.count(verdict) for verdict in (KILLED, TIMED_OUT, SURVIVED)))

    @property
    def all(self) -> int:
        """The number of mutants."""
        return self.killed + self.hung + self.survived

    @property
    def share(self) -> float:
        """The share of mutants that were noticed; of none, all."""
        return 1.0 if not self.all else (self.killed + self.hung) / self.all

    def cells(self) -> str:
        """As cells of a table."""
        return f"{self.all} | {self.killed} | {self.hung} | {self.survived} | {self.share:.1%}"


def reasons_in(text: str) -> dict[str, str]:
    """Label -> reason, of a Markdown file in which a heading is a reason and the lines of its list are labels."""
    reasons, reason = {}, ""
    for line in text.splitlines():
        if line.startswith("## "):
            reason = line.removeprefix("## ")
        elif line.startswith("- "):
            reasons[line.removeprefix("- ").strip("`")] = reason
    return reasons


def to_markdown(
    results: Mapping[str, Sequence[Mapping[str, Any]]], reasons: Mapping[str, str], made: Mapping[str, int]
) -> tuple[str, list[str]]:
    """The report, and what is wrong: mutants not tried of all that were `made`, too many survivors, or one without a reason."""
    wrong = []
    for room, mutants in results.items():
        if len(mutants) < made[room]:
            wrong.append(f"{room}: {made[room] - len(mutants)} of {made[room]} mutants not tried")
        if Tally.of(mutants).share < ROOMS[room].at_least:
            wrong.append(f"{room}: {Tally.of(mutants).share:.1%} noticed, and it must be {ROOMS[room].at_least:.0%}")
        wrong += [f"{room}: no reason for {label(each)}" for each in _survivors(mutants) if label(each) not in reasons]
    return f"{_HEAD}\n{_overview(results, made)}\n", wrong


def label(mutant: Mapping[str, Any]) -> str:
    """How people name a mutant, whatever its line number."""
    place = f"{mutant['path'].removeprefix('resilience_kit/')} {mutant['function'] or '(module)'}"
    return f"{place}: {mutant['before']} -> {mutant['after']}".replace("`", "'")


def _survivors(mutants: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [mutant for mutant in mutants if mutant["verdict"] == SURVIVED]


def _overview(results: Mapping[str, Sequence[Mapping[str, Any]]], made: Mapping[str, int]) -> str:
    head = ("room", "mutants", "tried", "killed", "out of time", "survived", "noticed", "quick only", "at least")
    lines = [f"| {' | '.join(head)} |", f"| --- {'| ---: ' * (len(head) - 1)}|"]
    for room, mutants in results.items():
        quick = sum(mutant["tests"].endswith(QUICK) for mutant in _survivors(mutants))
        least = f"{ROOMS[room].at_least:.0%}" if ROOMS[room].at_least else ""
        lines.append(f"| {room} | {made[room]} | {Tally.of(mutants).cells()} | {quick} | {least} |")
    return "\n".join(lines)


def read(kept: Path) -> dict[str, list[dict[str, Any]]]:
    """What is known of the rooms."""
    return {room: json.loads((kept / f"{room}.json").read_text()) for room in ROOMS if (kept / f"{room}.json").exists()}
