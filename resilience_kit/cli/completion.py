"""What the shell may complete a word to. A wrong environment completes to less, and never to an error."""

from __future__ import annotations

from resilience_kit.errors import ConfigurationError


def strategies() -> list[str]:
    """Names of strategies."""
    from resilience_kit.config import ResilienceStrategy

    return [each.value for each in ResilienceStrategy]


def templates() -> list[str]:
    """Names of templates."""
    from resilience_kit.config import TEMPLATES

    return [*TEMPLATES]


def configurations() -> list[str]:
    """Names of all that can be compared without a file."""
    from resilience_kit.cli.config.diff import NAMES

    return [*NAMES]


def operations() -> list[str]:
    """Operations that the environment or its preset speaks of."""
    from resilience_kit.cli.config.operations import named_operations
    from resilience_kit.config import ResilienceSettings

    try:
        return named_operations(ResilienceSettings())
    except ConfigurationError:
        return []
