"""Writes the tables of defaults in README.md and docs/ from the code: `python docs/generate_defaults.py`.

A table stands between `<!-- defaults: module:Name -->` or `<!-- table: name -->` and `<!-- end -->`. Names and defaults come
from the signature; the sentences in the last column are the page's own and stay. A test compares every page with this output.
"""  # noqa: INP001 - a program, not a package

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from resilience_kit import ResilienceStrategy
from resilience_kit.classification.http_status import STATUS, by_status
from resilience_kit.classification.kit import MEANINGS
from resilience_kit.config import PRESETS, STRATEGY_NUMBERS
from resilience_kit.config.custom import RULES
from resilience_kit.outcome import Verdict

ROOT = Path(__file__).parent.parent
_TABLE = re.compile(r"(?P<head><!-- (?P<kind>defaults|table): (?P<what>\S+) -->\n)(?P<body>.*?)(?P<tail><!-- end -->)", re.DOTALL)
_ROW = re.compile(r"^\| `(?P<field>\w+)` \|(?P<rest>.*)\|$", re.MULTILINE)
_OTHER_STATUSES = (400, 500, 502)


def filled(text: str) -> str:
    """A page with its tables written anew."""
    return _TABLE.sub(_written, text)


def _written(found: re.Match[str]) -> str:
    kind, what = found["kind"], found["what"]
    rows = _defaults(what, found["body"]) if kind == "defaults" else _TABLES[what](found["body"])
    return found["head"] + "".join(f"| {' | '.join(row)} |\n" for row in rows) + found["tail"]


def _sentences(body: str) -> dict[str, str]:
    return {row["field"]: row["rest"].rsplit(" | ", 1)[-1].strip() for row in _ROW.finditer(body)}


def _defaults(what: str, body: str) -> Iterable[Sequence[str]]:
    module, _, name = what.partition(":")
    owner: Any = import_module(module)
    for part in name.split("."):
        owner = getattr(owner, part)
    told = _sentences(body)
    yield "field", "default", "what it decides"
    yield "---", "---", "---"
    for parameter in inspect.signature(owner).parameters.values():
        if parameter.name != "self" and parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            yield f"`{parameter.name}`", _default(owner, parameter), told.get(parameter.name, "TODO")


def _default(owner: Any, parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return "required"
    if dataclasses.is_dataclass(owner):
        field = next((each for each in dataclasses.fields(owner) if each.name == parameter.name), None)
        if field is not None and field.default_factory is not dataclasses.MISSING:
            return f"`{getattr(field.default_factory, '__name__', 'made anew')}()`"
    return f"`{_constant(owner, parameter.default) or _shown(parameter.default)}`"


def _constant(owner: Any, value: object) -> str | None:
    """The name that a default has in its module, as in `clock=SYSTEM_CLOCK`."""
    return next((name for name, known in vars(inspect.getmodule(owner)).items() if known is value and name.isupper()), None)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, type):
        return value.__name__
    return repr(value)


def _strategies(_body: str) -> Iterable[Sequence[str]]:
    names = [field.name for field in dataclasses.fields(STRATEGY_NUMBERS[ResilienceStrategy.BALANCED])]
    yield "strategy", *(f"`{name}`" for name in names)
    yield ("---",) * (len(names) + 1)
    for strategy, numbers in STRATEGY_NUMBERS.items():
        yield f"`{strategy.value}`", *(f"{getattr(numbers, name):g}" for name in names)


def _presets(_body: str) -> Iterable[Sequence[str]]:
    yield "preset", "attempts", "threshold", "recovery (s)", "default strategy", "operations with another strategy", "contexts"
    yield ("---",) * 7
    for preset in PRESETS.values():
        numbers = (preset.retry_attempts, preset.circuit_breaker_threshold, f"{preset.recovery_timeout:g}")
        overrides = ", ".join(f"{name}: {strategy.value}" for name, strategy in preset.operation_overrides.items()) or "-"
        yield f"`{preset.name}`", *map(str, numbers), preset.default_strategy.value, overrides, ", ".join(preset.contexts)


def _settings(body: str) -> Iterable[Sequence[str]]:
    told = _sentences(body)
    yield "setting", "rule for a text", "what it changes"
    yield "---", "---", "---"
    for name, rule in RULES.items():
        yield f"`{name}`", rule.removeprefix("must be ").removeprefix("must "), told.get(name, "TODO")


def _verdict(verdict: Verdict) -> tuple[str, str, str]:
    return f"`{verdict.kind.value}`", _yes(verdict.retryable), _yes(verdict.counts_against_breaker)


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


def _statuses(_body: str) -> Iterable[Sequence[str]]:
    yield "status", "kind", "retried", "counts against the breaker"
    yield ("---",) * 4
    for status in sorted({*STATUS, *_OTHER_STATUSES}):
        yield str(status), *_verdict(by_status(status))


def _own_errors(_body: str) -> Iterable[Sequence[str]]:
    yield "error", "kind", "retried", "counts against the breaker"
    yield ("---",) * 4
    for error, verdict in MEANINGS.items():
        yield f"`{error.__name__}`", *_verdict(verdict)


_TABLES: dict[str, Callable[[str], Iterable[Sequence[str]]]] = {
    "strategies": _strategies,
    "presets": _presets,
    "settings": _settings,
    "statuses": _statuses,
    "own-errors": _own_errors,
}


def main() -> None:
    """Write every page that has changed."""
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = page.read_text(encoding="utf-8")
        if filled(text) != text:
            page.write_text(filled(text), encoding="utf-8")


if __name__ == "__main__":
    main()
