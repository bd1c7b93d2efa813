"""Shell completions. A wrong environment offers fewer of them, and never an error."""

from __future__ import annotations

from resilience_kit.errors import ConfigurationError


def strategies() -> list[str]:
    """List the names of strategies."""
    from resilience_kit.config import ResilienceStrategy

    return [each.value for each in ResilienceStrategy]


def templates() -> list[str]:
    """List the names of templates."""
    from resilience_kit.config import TEMPLATES

    return [*TEMPLATES]


def configurations() -> list[str]:
    """List the names of presets, strategies and templates."""
    from resilience_kit.cli.config.diff import NAMES

    return [*NAMES]


def operations() -> list[str]:
    """List the operations that the environment or its preset names."""
    from resilience_kit.cli.config.operations import named_operations
    from resilience_kit.config import ResilienceSettings

    try:
        return named_operations(ResilienceSettings())
    except ConfigurationError:
        return []
