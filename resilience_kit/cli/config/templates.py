"""`resilience-kit config templates`: settings to begin with."""

from __future__ import annotations

from resilience_kit._checks import did_you_mean
from resilience_kit.cli.errors import CliError
from resilience_kit.cli.output import Output, table
from resilience_kit.config import TEMPLATES, Template, dump, get_template

_NUMBERS = ("retry_attempts", "circuit_breaker_threshold", "recovery_timeout", "default_strategy")


def list_templates(output: Output) -> int:
    """Tell what templates there are, and for what."""
    rows = [(each.name, *(each[number] for number in _NUMBERS), each.description) for each in TEMPLATES.values()]
    output.show([each.to_dict() for each in TEMPLATES.values()], table("templates", ("", *_NUMBERS, "for"), rows))
    return 0


def show_template(output: Output, name: str) -> int:
    """One template; for people as TOML, to begin a file with. Raises Mistake for a name that there is not."""
    template = get_template(name)
    if template is None:
        raise CliError(f"{name!r} is not the name of a template{did_you_mean(name, TEMPLATES)}")
    output.show(template.to_dict(), _toml(template))
    return 0


def _toml(template: Template) -> str:
    return f"# {template.name}: {template.description}\n{dump(template.settings(), 'toml')}".rstrip("\n")
