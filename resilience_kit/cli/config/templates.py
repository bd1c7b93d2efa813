"""`resilience-kit config templates`: lists or prints templates of settings."""

from __future__ import annotations

from resilience_kit._checks import did_you_mean
from resilience_kit.cli.errors import CliError
from resilience_kit.cli.output import Output, table
from resilience_kit.config import TEMPLATES, Template, dump, get_template

_NUMBERS = ("retry_attempts", "circuit_breaker_threshold", "recovery_timeout", "default_strategy")


def list_templates(output: Output) -> int:
    """List the templates with their purposes."""
    rows = [(each.name, *(each[number] for number in _NUMBERS), each.description) for each in TEMPLATES.values()]
    output.show([each.to_dict() for each in TEMPLATES.values()], table("templates", ("", *_NUMBERS, "for"), rows))
    return 0


def show_template(output: Output, name: str) -> int:
    """Print one template, as TOML or as JSON. Raises CliError for an unknown name."""
    template = get_template(name)
    if template is None:
        raise CliError(f"{name!r} is not the name of a template{did_you_mean(name, TEMPLATES)}")
    output.show(template.to_dict(), _toml(template))
    return 0


def _toml(template: Template) -> str:
    return f"# {template.name}: {template.description}\n{dump(template.settings(), 'toml')}".rstrip("\n")
