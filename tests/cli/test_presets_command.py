"""`resilience-kit presets`."""

from __future__ import annotations

import pytest

from resilience_kit.config import PRESETS


def test_presets_are_listed_with_their_numbers(told) -> None:
    """Attempts, threshold, recovery, strategy, operations; and the names that are presets, too."""
    code, out, err = told("presets")
    lines = [line.split() for line in out.splitlines()]
    assert (0, "") == (code, err)
    for name, numbers in {
        "simple": "3 5 60 balanced",
        "development": "2 3 30 aggressive",
        "production": "5 10 120 conservative",
    }.items():
        assert any(line[:5] == [name, *numbers.split()] for line in lines)
    assert "a strategy's name is a preset's, too: aggressive, balanced, conservative, critical" in out.splitlines()


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("APP_ENV", "prod-eu-1", "recommended: production (confidence 0.85): APP_ENV='prod-eu-1' looks like production"),
        ("CI", "true", "recommended: development (confidence 0.9): CI is set"),
        ("EDITOR", "vi", "recommended: simple (confidence 0.5): no variable names the environment"),
    ],
)
def test_the_recommendation_has_its_reason(variable, value, expected, told, monkeypatch) -> None:
    """From what this environment says of itself."""
    monkeypatch.setenv(variable, value)
    assert expected == told("presets").out.splitlines()[-1]


def test_an_environment_can_be_named(told) -> None:
    """`--for` asks about another one; JSON holds the same as the tables."""
    answer = told("presets", "--for", "staging", "--json").json
    assert [*PRESETS] == [each["name"] for each in answer["presets"]]
    assert {"qa": "critical"}.items() <= answer["presets"][2]["operation_overrides"].items()
    assert ("production", 0.95) == (answer["recommendation"]["preset_name"], answer["recommendation"]["confidence"])
