"""`resilience-kit presets`: lists the presets and recommends one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from resilience_kit.cli.output import Output, table
from resilience_kit.config import PRESETS, Recommendation, ResilienceStrategy, recommend_preset

_COLUMNS = ("", "attempts", "threshold", "recovery (s)", "strategy", "operations with another", "contexts", "for")


def show_presets(output: Output, environment: str | None) -> int:
    """Show the presets with their numbers, and the one recommended for `environment`; None: the present one."""
    advice = recommend_preset(environment)
    data = {"presets": [each.to_dict() for each in PRESETS.values()], "recommendation": advice._asdict()}
    strategies = f"a strategy's name is a preset's, too: {', '.join(ResilienceStrategy)}"
    output.show(data, table("presets", _COLUMNS, _rows()), strategies, _sentence(advice))
    return 0


def _rows() -> Iterator[Sequence[object]]:
    for each in PRESETS.values():
        operations = ", ".join(f"{name} {strategy}" for name, strategy in each.operation_overrides.items())
        yield (
            each.name,
            each.retry_attempts,
            each.circuit_breaker_threshold,
            each.recovery_timeout,
            each.default_strategy,
            operations or "-",
            ", ".join(each.contexts),
            each.description,
        )


def _sentence(advice: Recommendation) -> str:
    return f"recommended: {advice.preset_name} (confidence {advice.confidence:g}): {advice.reasoning}"
