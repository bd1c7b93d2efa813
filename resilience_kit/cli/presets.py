"""`resilience-kit presets`: which presets there are, and which of them fits here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from resilience_kit.cli.output import Output, table
from resilience_kit.config import PRESETS, Recommendation, ResilienceStrategy, recommend_preset

_COLUMNS = ("", "attempts", "threshold", "recovery (s)", "strategy", "operations with another", "contexts", "for")


def show_presets(output: Output, environment: str | None) -> int:
    """Tell the presets with their numbers, and which one fits an environment of that name; None: this one here."""
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
