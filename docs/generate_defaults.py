"""Writes what docs/ tells of options from the code: `python docs/generate_defaults.py`.

In README.md and docs/ a table stands between `<!-- defaults: module:Name -->` or `<!-- table: name -->` and `<!-- end -->`.
Of an option class all columns come from the code: defaults from the signature, rules from what its checks say to an unfit value,
meanings from its docstring. Of functions and other classes the sentences in the last column are the page's own and stay.
A test compares every page with this output.
"""  # noqa: INP001 - a program, not a package

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from resilience_kit import (
    ConfigurationError,
    ResilienceStrategy,
)
from resilience_kit.classification.http_status import STATUS, by_status
from resilience_kit.classification.own_errors import VERDICTS
from resilience_kit.config import PRESETS, STRATEGY_NUMBERS, TEMPLATES
from resilience_kit.config.field_docs import environment_variables, field_descriptions
from resilience_kit.config.sanitize import TRUSTED, UNTRUSTED, TextLimits
from resilience_kit.config.text_models import FILE, PRESET, Model
from resilience_kit.outcome import Verdict

ROOT = Path(__file__).parent.parent
_TABLE = re.compile(r"(?P<head><!-- (?P<kind>defaults|table): (?P<what>\S+) -->\n)(?P<body>.*?)(?P<tail><!-- end -->)", re.DOTALL)
_ROW = re.compile(r"^\| `(?P<field>\w+)` \|(?P<rest>.*)\|$", re.MULTILINE)
_OTHER_STATUSES = (400, 500, 502)


def filled(text: str) -> str:
    """Return a page with its tables generated anew."""
    return _TABLE.sub(_written, text)


def _written(found: re.Match[str]) -> str:
    kind, what = found["kind"], found["what"]
    rows = _defaults(what, found["body"]) if kind == "defaults" else _TABLES[what](found["body"])
    return found["head"] + _table(rows) + found["tail"]


def _sentences(body: str) -> dict[str, str]:
    return {row["field"]: row["rest"].rsplit(" | ", 1)[-1].strip() for row in _ROW.finditer(body)}


def _defaults(what: str, body: str) -> Iterable[Sequence[str]]:
    module, _, name = what.partition(":")
    owner: Any = import_module(module)
    for part in name.split("."):
        owner = getattr(owner, part)
    if dataclasses.is_dataclass(owner) and field_descriptions(owner):
        yield from _options(owner)
        return
    told = _sentences(body)
    yield "field", "default", "what it decides"
    yield "---", "---", "---"
    for parameter in inspect.signature(owner).parameters.values():
        if parameter.name != "self" and parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            yield f"`{parameter.name}`", _default(owner, parameter), told.get(parameter.name, "TODO")


def _options(owner: Any) -> Iterable[Sequence[str]]:
    meanings, rules = field_descriptions(owner), _rules(owner)
    yield "field", "default", "rule", "what it decides"
    yield ("---",) * 4
    for parameter in inspect.signature(owner).parameters.values():
        yield f"`{parameter.name}`", _default(owner, parameter), rules[parameter.name], meanings.get(parameter.name, "TODO")


class _Unfit:
    """A value that fits nowhere."""

    def __str__(self) -> str:
        return ""


def _rules(owner: Any) -> dict[str, str]:
    """Collect, field by field, what the checks of an option class say to a value that fits nowhere."""
    return {name: _rule(owner, name) for name in inspect.signature(owner).parameters}


def _rule(owner: Any, field: str) -> str:
    needed = {each.name: 1 for each in inspect.signature(owner).parameters.values() if each.default is each.empty}
    try:
        owner(**{**needed, field: _Unfit()})
    except ConfigurationError as error:
        rule = next(each.rule for each in error.errors if each.path.endswith(f".{field}"))
        return _short(rule) + (", or None" if _may_be_none(owner, field) and "None" not in rule else "")
    raise AssertionError(f"{owner.__name__}.{field} takes anything")


def _may_be_none(owner: Any, field: str) -> bool:
    hint = get_type_hints(owner)[field]
    return NoneType in get_args(getattr(hint, "type", hint))


def _short(rule: str) -> str:
    return rule.removeprefix("must be ").removeprefix("must ")


def _default(owner: Any, parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return "required"
    if dataclasses.is_dataclass(owner):
        field = next((each for each in dataclasses.fields(owner) if each.name == parameter.name), None)
        if field is not None and field.default_factory is not dataclasses.MISSING:
            return f"`{getattr(field.default_factory, '__name__', 'made anew')}()`"
    return f"`{_constant(owner, parameter.default) or _shown(parameter.default)}`"


def _constant(owner: Any, value: object) -> str | None:
    """Return the name of a default in the module of its class or of a base class, as in `clock=SYSTEM_CLOCK`."""
    modules = (vars(inspect.getmodule(each)) for each in getattr(owner, "__mro__", (owner,)))
    return next((name for module in modules for name, known in module.items() if known is value and name.isupper()), None)


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


def _templates(_body: str) -> Iterable[Sequence[str]]:
    yield "template", "settings", "what for"
    yield ("---",) * 3
    for template in TEMPLATES.values():
        yield f"`{template.name}`", ", ".join(_settled(template.settings())), template.description.removeprefix("for ")


def _settled(settings: Mapping[str, Any]) -> Iterable[str]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from (f"{operation}: {strategy.value}" for operation, strategy in value.items())
        else:
            yield f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"


def _environment(_body: str) -> Iterable[Sequence[str]]:
    yield "variable", "holds", "without it", "what it decides"
    yield ("---",) * 4
    for each in environment_variables():
        yield f"`{each.name}`", each.accepts, f"`{each.default}`" if each.default else "", each.description


def _limits(_body: str) -> Iterable[Sequence[str]]:
    meanings = field_descriptions(TextLimits)
    yield "limit", "of a stranger's text", "of a file or variable", "what it counts"
    yield ("---",) * 4
    for name in (field.name for field in dataclasses.fields(TextLimits)):
        yield f"`{name}`", str(getattr(UNTRUSTED, name)), str(getattr(TRUSTED, name)), meanings.get(name, "TODO")


def _of_model(model: Model) -> Iterable[Sequence[str]]:
    schema = model.adapter.json_schema()
    yield "setting", "rule for a text", "what it decides"
    yield ("---",) * 3
    for name, rule in model.rules.items():
        needed = " (required)" if name in schema.get("required", ()) else ""
        told = schema["properties"][name]
        yield f"`{name}`", (_names(told, schema) or _short(rule)) + needed, told.get("description", "TODO")


def _names(told: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return the values of a setting that is one of a few."""
    kind = schema["$defs"][told["$ref"].rpartition("/")[2]] if "$ref" in told else told
    return f"one of {', '.join(kind['enum'])}" if "enum" in kind else ""


def _settings(_body: str) -> Iterable[Sequence[str]]:
    return _of_model(FILE)


def _preset(_body: str) -> Iterable[Sequence[str]]:
    return _of_model(PRESET)


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
    for error, verdict in VERDICTS.items():
        yield f"`{error.__name__}`", *_verdict(verdict)


_TABLES: dict[str, Callable[[str], Iterable[Sequence[str]]]] = {
    "strategies": _strategies,
    "presets": _presets,
    "settings": _settings,
    "preset": _preset,
    "templates": _templates,
    "environment": _environment,
    "limits": _limits,
    "statuses": _statuses,
    "own-errors": _own_errors,
}


def _table(rows: Iterable[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main() -> None:
    """Write every page that has changed."""
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = page.read_text(encoding="utf-8")
        if filled(text) != text:
            page.write_text(filled(text), encoding="utf-8")


if __name__ == "__main__":
    main()
