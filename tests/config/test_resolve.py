"""The order of precedence, level by level."""

import itertools

import pytest

from resilience_kit.config import UNSET, ResilienceConfig, ResilienceSettings, check_operation, resolve
from resilience_kit.policies.retry import RetryConfig

STRATEGIES = "known: aggressive, balanced, conservative, critical"
BALANCED = ResilienceSettings()


def test_the_order_of_precedence(variables):
    """Taking away the highest level, one at a time, always uncovers the next."""
    variables(
        RESILIENCE_PRESET="production", RESILIENCE_CUSTOM_CONFIG='{"deadline": 111}', RESILIENCE_OPERATION_QA="conservative"
    )
    with_variable = ResilienceSettings()
    without = with_variable.model_copy(update={"operation_overrides": {}})
    levels = {"strategy": "aggressive", "registered": "balanced"}
    custom = ResilienceConfig(deadline=77.0)
    assert [
        ("live", 300.0),
        ("operator", 120.0),
        ("custom_config", 77.0),
        ("strategy", 10.0),
        ("registered", 30.0),
        ("preset's override", 300.0),
        ("preset's default", 111.0),
        ("balanced", 30.0),
    ] == [
        ("live", resolve("qa", settings=with_variable, live="critical", custom_config=custom, **levels).deadline),
        ("operator", resolve("qa", settings=with_variable, custom_config=custom, **levels).deadline),
        ("custom_config", resolve("qa", settings=without, custom_config=custom, **levels).deadline),
        ("strategy", resolve("qa", settings=without, **levels).deadline),
        ("registered", resolve("qa", settings=without, registered="balanced").deadline),
        ("preset's override", resolve("qa", settings=without).deadline),
        ("preset's default", resolve("other", settings=without).deadline),
        ("balanced", resolve("other", settings=BALANCED).deadline),
    ]


LEVELS = {
    "live": {"live": "critical"},
    "operator": {},
    "custom": {"custom_config": {"default_strategy": "aggressive"}},
    "strategy": {"strategy": "conservative"},
    "registered": {"registered": "balanced"},
}
DEADLINES = {"live": 300.0, "operator": 120.0, "custom": 10.0, "strategy": 120.0, "registered": 30.0, "none": 99.0}


@pytest.mark.table("present", [c for n in range(6) for c in itertools.combinations(LEVELS, n)])
def test_every_combination_of_levels_obeys_the_highest(present):
    """All 32 combinations of five levels over a preset of its own."""
    settings = ResilienceSettings(custom_config={"deadline": 99})
    if "operator" in present:
        settings = settings.model_copy(update={"operation_overrides": {"op": "conservative"}})
    arguments = {name: value for level in present for name, value in LEVELS[level].items()}
    assert DEADLINES[present[0] if present else "none"] == resolve("op", settings=settings, **arguments).deadline


def test_an_operators_strategy_without_custom_config_is_exactly_that_strategy():
    """Nothing of the preset's default shines through."""
    settings = ResilienceSettings(
        preset="production", custom_config={"attempt_timeout": 5}, operation_overrides={"op": "aggressive"}
    )
    assert ResilienceConfig.from_strategy("aggressive") == resolve("op", settings=settings)


def test_an_operators_strategy_keeps_what_it_does_not_speak_of():
    """The numbers are the operator's, the exceptions and idempotency are the code's."""
    custom = ResilienceConfig(retry=RetryConfig(max_attempts=9, exclude_exceptions=(KeyError,)), idempotent=False)
    config = resolve("op", settings=BALANCED, custom_config=custom, live="critical")
    assert (7, (KeyError,), False, 300.0) == (
        config.retry.max_attempts,
        config.retry.exclude_exceptions,
        config.idempotent,
        config.deadline,
    )


def test_a_mapping_changes_the_level_below_it():
    """The strategy's numbers, or the preset's, with some of them replaced; a text's ranges do not bind code."""
    config = resolve("op", settings=BALANCED, strategy="critical", custom_config={"retry_attempts": 12, "recovery_timeout": 0.5})
    assert (12, 0.5, 300.0) == (config.retry.max_attempts, config.circuit_breaker.recovery_timeout, config.deadline)
    assert 10.0 == resolve("op", settings=BALANCED, custom_config={"jitter": None}).retry.max_delay


def test_a_mapping_may_override_single_operations():
    """An overridden operation keeps its strategy's numbers, the others get the mapping's."""
    custom = {"operation_overrides": {"qa": "critical"}, "retry_attempts": 2}
    assert ResilienceConfig.from_strategy("critical") == resolve("qa", settings=BALANCED, custom_config=custom)
    assert 2 == resolve("other", settings=BALANCED, custom_config=custom).retry.max_attempts


def test_a_deadline_argument_beats_its_config():
    """From every level; None means no deadline; an attempt timeout above it is shortened."""
    custom = ResilienceConfig(deadline=77.0, attempt_timeout=20.0)
    config = resolve("op", settings=BALANCED, custom_config=custom, deadline=3.0)
    assert (3.0, 3.0) == (config.deadline, config.attempt_timeout)
    assert resolve("op", settings=BALANCED, custom_config=custom, deadline=None).deadline is None
    assert 3.0 == resolve("op", settings=BALANCED, live="critical", deadline=3.0).deadline
    assert 77.0 == resolve("op", settings=BALANCED, custom_config=custom, deadline=UNSET).deadline
    assert "<unset>" == repr(UNSET)


def test_a_mappings_deadline_shortens_the_presets_attempt_timeout():
    """Only a conflict inside the mapping itself is the mapping's fault."""
    settings = ResilienceSettings(custom_config={"attempt_timeout": 20})
    assert 4.0 == resolve("op", settings=settings, custom_config={"deadline": 4.0}).attempt_timeout


@pytest.mark.parametrize(
    "arguments", [{}, {"live": "critical"}, {"custom_config": ResilienceConfig(deadline=5.0)}, {"deadline": 3.0}]
)
def test_disabled_switches_everything_off(variables, arguments):
    """RESILIENCE_ENABLED=false beats every level."""
    variables(RESILIENCE_ENABLED="false")
    assert ResilienceConfig(retry=None, circuit_breaker=None) == resolve("op", settings=ResilienceSettings(), **arguments)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"strategy": "balansed"}, "strategy: must be the name of a strategy; did you mean 'balanced'?, got 'balansed'"),
        ({"strategy": 3}, f"strategy: must be the name of a strategy; {STRATEGIES}, got 3"),
        ({"registered": "critcal"}, "registered: must be the name of a strategy; did you mean 'critical'?, got 'critcal'"),
        ({"live": ""}, f"live: must be the name of a strategy; {STRATEGIES}, got ''"),
        ({"custom_config": "critical"}, "custom_config: must be a ResilienceConfig or a mapping of settings, got 'critical'"),
        ({"custom_config": {"dedline": "sk-secret"}}, "custom_config.dedline: is not a setting; did you mean 'deadline'?"),
        ({"custom_config": {"retry_attempts": 0}}, "custom_config.retry_attempts: must be a whole number of at least 1, got 0"),
        ({"custom_config": {"deadline": True}}, "custom_config.deadline: must be a finite number of seconds above 0, got True"),
        ({"custom_config": {"base_delay": 11}}, "custom_config.base_delay: must not exceed max_delay 10.0, got 11"),
        ({"custom_config": {"max_delay": 1}}, "custom_config.max_delay: must be at least base_delay 2.0, got 1"),
        (
            {"custom_config": {"deadline": 3, "attempt_timeout": 4}},
            "custom_config.attempt_timeout: must not exceed deadline 3, got 4",
        ),
        (
            {"custom_config": {"default_strategy": "x"}},
            f"custom_config.default_strategy: must be the name of a strategy; {STRATEGIES}, got 'x'",
        ),
        (
            {"custom_config": {"operation_overrides": {"qa": "critcal"}}},
            "custom_config.operation_overrides.qa: must be the name of a strategy; did you mean 'critical'?, got 'critcal'",
        ),
        (
            {"custom_config": {"operation_overrides": ["qa"]}},
            "custom_config.operation_overrides: must map operations to strategies",
        ),
        ({"deadline": -1}, "ResilienceConfig.deadline: must be a finite number of seconds above 0, got -1"),
    ],
)
def test_a_wrong_value_is_a_sentence(sentences, arguments, sentence):
    """Field, rule, nearest valid name; also at a level that another one covers."""
    assert [sentence] == sentences(resolve, "op", settings=BALANCED, **arguments)
    if not {"live", "deadline"} & set(arguments):
        assert [sentence] == sentences(resolve, "op", settings=BALANCED, live="critical", **arguments)


def test_a_mappings_wrong_values_are_told_at_once(sentences):
    """One sentence a setting, over all option classes."""
    wrong = {"retry_attempts": 0, "recovery_timeout": -1, "deadline": "5"}
    assert ["custom_config.retry_attempts", "custom_config.recovery_timeout", "custom_config.deadline"] == [
        sentence.partition(":")[0] for sentence in sentences(resolve, "op", settings=BALANCED, custom_config=wrong)
    ]


def test_delays_that_the_mapping_does_not_name_are_not_its_fault():
    """A base delay above the longest one is legal in code; a mapping that touches neither leaves it so."""
    from resilience_kit.config.overlay import overlay

    base = ResilienceConfig(retry=RetryConfig(base_delay=5.0, max_delay=1.0))
    assert 4 == overlay(base, {"retry_attempts": 4}, "custom_config").retry.max_attempts


@pytest.mark.parametrize("wrong", [None, "", 3, True, b"op"])
def test_an_operation_is_named_by_text(sentences, wrong):
    """What is no text, or empty, is refused with a sentence."""
    sentence = f"operation: must be a name: text that is not blank, got {wrong!r}"
    assert [sentence] == sentences(check_operation, wrong) == sentences(resolve, wrong, settings=BALANCED)
