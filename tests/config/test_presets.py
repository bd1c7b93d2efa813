"""Presets and the recommendation of one."""

import pytest

from resilience_kit.config import PRESETS, ResilienceStrategy, get_preset, list_presets, recommend_preset

TABLE = [
    ("simple", 3, 5, 60, "balanced", {}, ("all",)),
    ("development", 2, 3, 30, "aggressive", {"sentiment": "aggressive", "qa": "balanced"}, ("development", "testing")),
    (
        "production",
        5,
        10,
        120,
        "conservative",
        {
            "qa": "critical",
            "sentiment": "aggressive",
            "summarize": "conservative",
            "key_points": "balanced",
            "questions": "balanced",
        },
        ("production", "staging"),
    ),
]


@pytest.mark.parametrize(("name", "attempts", "threshold", "recovery", "default", "overrides", "contexts"), TABLE)
def test_a_preset_is_its_row_of_the_table(name, attempts, threshold, recovery, default, overrides, contexts):
    """Numbers, default strategy, overrides and contexts of each preset."""
    preset = get_preset(name)
    assert PRESETS[name] is preset
    assert (name, attempts, threshold, recovery, default) == (
        preset.name,
        preset.retry_attempts,
        preset.circuit_breaker_threshold,
        preset.recovery_timeout,
        preset.default_strategy,
    )
    assert (overrides, contexts) == (dict(preset.operation_overrides), preset.contexts)


def test_presets_are_listed_by_name():
    """Three of them; the strategies' names are accepted but not listed."""
    assert ["simple", "development", "production"] == list_presets()


@pytest.mark.parametrize("strategy", list(ResilienceStrategy))
def test_a_strategy_is_a_preset_too(strategy):
    """That strategy for all operations, without overrides."""
    preset = get_preset(strategy)
    assert (strategy, {}) == (preset.default_strategy, dict(preset.operation_overrides))


def test_presets_cannot_be_changed():
    """Nobody changes a preset for everybody else."""
    with pytest.raises(TypeError):
        PRESETS["mine"] = PRESETS["simple"]
    with pytest.raises(TypeError):
        PRESETS["production"].operation_overrides["qa"] = ResilienceStrategy.BALANCED


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [("prodution", "did you mean 'production'?, got 'prodution'"), (7, "known: aggressive, balanced, conservative, critical, ")],
)
def test_an_unknown_preset_is_a_sentence(sentences, wrong, hint):
    """With the nearest name of a preset or strategy, or all of them."""
    (sentence,) = sentences(get_preset, wrong)
    assert sentence.startswith(f"preset: must be the name of a preset or of a strategy; {hint}")


@pytest.mark.table(
    ("environment", "preset", "confidence"),
    [
        ("development", "development", 0.95),
        ("dev", "development", 0.95),
        ("Test", "development", 0.95),
        ("ci", "development", 0.95),
        (" prod ", "production", 0.95),
        ("staging", "production", 0.95),
        ("stag", "production", 0.95),
        ("live", "production", 0.95),
        ("prod-eu-1", "production", 0.85),
        ("eu_west.production2", "production", 0.85),
        ("pre-prod", "production", 0.85),
        ("preprod", "production", 0.85),
        ("my-dev-box", "development", 0.85),
        ("testing3", "development", 0.85),
        ("nonprod", "development", 0.85),
        ("non-prod-1", "development", 0.85),
        ("not_production", "development", 0.85),
        ("product-service", "simple", 0.5),
        ("device", "simple", 0.5),
        ("dev-of-prod", "simple", 0.5),
        ("", "simple", 0.5),
        ("moon", "simple", 0.5),
    ],
)
def test_an_environment_gets_its_preset(environment, preset, confidence):
    """Whole words decide; what is unknown or means both is `simple`, with little confidence."""
    found = recommend_preset(environment)
    assert (preset, confidence) == found[:2]
    assert repr(environment) in found.reasoning


@pytest.mark.parametrize(
    ("given", "preset", "reason"),
    [
        ({}, "simple", "no variable names the environment"),
        ({"APP_ENV": "prod", "ENVIRONMENT": "dev"}, "production", "APP_ENV='prod' names production"),
        ({"APP_ENV": "moon", "ENVIRONMENT": "dev"}, "development", "ENVIRONMENT='dev' names development"),
        ({"APP_ENV": "", "ENV": "live-2"}, "production", "ENV='live-2' looks like production"),
        ({"CI": "true"}, "development", "CI is set"),
        ({"CI": "false"}, "simple", "no variable names the environment"),
        ({"APP_ENV": "moon", "CI": "1"}, "development", "CI is set"),
        ({"ENV": "moon"}, "simple", "ENV='moon' is not known"),
        ({"ENV": "dev-prod"}, "simple", "ENV='dev-prod' names both development and production"),
        ({"KUBERNETES_NAMESPACE": "shop-prod"}, "production", "KUBERNETES_NAMESPACE='shop-prod' looks like production"),
        ({"POD_NAMESPACE": "staging"}, "production", "POD_NAMESPACE='staging' names production"),
        (
            {"KUBERNETES_NAMESPACE": "shop", "KUBERNETES_SERVICE_HOST": "10.0.0.1"},
            "production",
            "KUBERNETES_SERVICE_HOST is set, as in a Kubernetes cluster",
        ),
        (
            {"KUBERNETES_NAMESPACE": "dev", "KUBERNETES_SERVICE_HOST": ""},
            "development",
            "KUBERNETES_NAMESPACE='dev' names development",
        ),
        ({"HOSTNAME": "web-prod-7d9f-x2k"}, "production", "the host's name 'web-prod-7d9f-x2k' looks like production"),
        ({"HOSTNAME": "moon", "ENV": "dev-prod"}, "simple", "ENV='dev-prod' names both development and production"),
        ({"CI": "1", "HOSTNAME": "prod-1"}, "development", "CI is set"),
    ],
)
def test_variables_name_the_environment_when_nobody_does(variables, given, preset, reason):
    """APP_ENV, ENVIRONMENT, ENV, CI, the namespace, the host's name, the cluster; the first that says something known."""
    variables(**given)
    found = recommend_preset()
    assert (preset, reason) == (found.preset_name, found.reasoning)


def test_the_less_a_source_means_the_less_sure_is_what_it_says(variables):
    """A name given for the purpose is worth more than a namespace, that more than a host's name, that more than a cluster."""
    found = []
    for name, value in {"KUBERNETES_SERVICE_HOST": "x", "HOSTNAME": "prod", "POD_NAMESPACE": "prod", "ENV": "prod-1"}.items():
        variables(**{name: value})
        found.append(recommend_preset()[:2])
    assert [("production", 0.6), ("production", 0.7), ("production", 0.8), ("production", 0.85)] == found


def test_the_system_tells_the_hosts_name_where_no_variable_does(monkeypatch):
    """As on a machine that is no container."""
    monkeypatch.setattr("socket.gethostname", lambda: "live-db-1")
    assert ("production", 0.7, "the host's name 'live-db-1' looks like production") == recommend_preset()


def test_an_environment_is_text(sentences):
    """A number is refused with a sentence."""
    assert ["environment: must be the name of an environment, got 3"] == sentences(recommend_preset, 3)
