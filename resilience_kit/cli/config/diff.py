"""`resilience-kit config diff`: compares two presets, templates, strategies or files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from resilience_kit._checks import did_you_mean
from resilience_kit.cli.config.isolated_environment import without_variables
from resilience_kit.cli.config.operations import explain_unnamed, named_operations
from resilience_kit.cli.errors import CliError
from resilience_kit.cli.output import Output, table
from resilience_kit.config import PRESETS, TEMPLATES, ResilienceSettings, ResilienceStrategy, get_template
from resilience_kit.config.explain import Explanation, explain

#: All names of configurations.
NAMES = (*PRESETS, *(each.value for each in ResilienceStrategy), *TEMPLATES)
_SUFFIXES = {".json", ".toml"}


class Difference(NamedTuple):
    """The values of one field on both sides."""

    field: str
    a: object
    b: object


def diff(output: Output, a: str, b: str) -> int:
    """Show each field in which two configurations differ, then those of named operations.

    Each is a name or a file; variables of this environment are ignored. Raises CliError for anything else, and
    ConfigurationError for a wrong file.
    """
    found = list(_differences(_settings(a), _settings(b)))
    data = {"a": a, "b": b, "differences": [each._asdict() for each in found]}
    output.show(data, table("", ("field", a, b), found) if found else "no difference")
    return 0


def _settings(named: str) -> ResilienceSettings:
    name, template = named.lower(), get_template(named)
    with without_variables():
        if template is not None:
            return ResilienceSettings(custom_config=template.settings())
        if name in NAMES:
            return ResilienceSettings(preset=name)
        if Path(named).exists() or Path(named).suffix.lower() in _SUFFIXES:
            return ResilienceSettings(config_file=named)
    raise CliError(f"{named!r} is no preset, strategy, template or file{did_you_mean(named, NAMES)}")


def _differences(a: ResilienceSettings, b: ResilienceSettings) -> Iterator[Difference]:
    yield from _compare_operation("", explain_unnamed(a), explain_unnamed(b))
    for name in sorted({*named_operations(a), *named_operations(b)}):
        yield from _compare_operation(f"{name}.", explain(name, settings=a), explain(name, settings=b))


def _compare_operation(prefix: str, a: Explanation, b: Explanation) -> Iterator[Difference]:
    """Yield the differences of one operation. The name of the preset is not one: it is not part of the configuration."""
    for field_a, field_b in zip(a.fields, b.fields, strict=True):
        if field_a.value != field_b.value and field_a.name != "preset":
            yield Difference(f"{prefix}{field_a.name}", field_a.value, field_b.value)
