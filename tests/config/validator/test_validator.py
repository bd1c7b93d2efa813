"""`ResilienceConfigValidator`: what is valid, what is warned of, what is suggested."""

import json

import pytest

from resilience_kit.config import (
    PRESETS,
    TEMPLATES,
    ClientRateLimits,
    ConfigValidator,
    ResilienceConfigValidator,
    ResilienceSettings,
    ValidationResult,
)
from resilience_kit.config.text_models import CUSTOM
from resilience_kit.errors import ConfigurationError
from resilience_kit.testing import FakeClock

BOUNDS = {
    "retry_attempts": (1, 10),
    "circuit_breaker_threshold": (1, 20),
    "recovery_timeout": (10, 300),
    "base_delay": (0.1, 10),
    "max_delay": (1, 120),
    "backoff_factor": (1, 5),
    "deadline": (1, 600),
    "attempt_timeout": (1, 600),
}


@pytest.fixture
def validator():
    """A validator on a clock that stands still."""
    return ResilienceConfigValidator(clock=FakeClock(auto_advance=False))


ENDS = ", and the deadline ends a call after"
REFUSED = ", and would be refused there"


class Raising:
    """Raises whenever something is done with it."""

    def __getattribute__(self, name):
        raise RuntimeError(name)

    __bool__ = __str__ = __repr__ = __len__ = __hash__ = None


def test_there_are_two_names_for_it():
    """The old one is kept."""
    assert ConfigValidator is ResilienceConfigValidator


def test_a_result_is_true_when_valid():
    """And goes into JSON with four keys."""
    empty = {"errors": [], "warnings": [], "suggestions": []}
    assert ValidationResult(is_valid=True)
    assert not ValidationResult(is_valid=False)
    assert {"is_valid": True, **empty} == ValidationResult(is_valid=True).to_dict()
    full = ValidationResult(False, ["e"], ["w"], ["s"])
    assert {"is_valid": False, "errors": ["e"], "warnings": ["w"], "suggestions": ["s"]} == full.to_dict()


@pytest.mark.parametrize(("name", "bounds"), BOUNDS.items())
def test_both_ends_of_a_range_are_valid(validator, name, bounds):
    """By itself, as a mapping and as a text."""
    for value in bounds:
        assert validator.validate_custom_config({name: value}).is_valid
        assert validator.validate_json_string(json.dumps({name: value})).is_valid


@pytest.mark.parametrize(
    "value",
    [
        *[{"jitter": kind} for kind in ("full", "equal", "proportional", "none")],
        {"default_strategy": "CRITICAL"},
        {"operation_overrides": {"any name at all": "balanced", "\u6587": "critical"}},
        {"operation_overrides": {}},
    ],
)
def test_names_are_valid(validator, value):
    """Kinds of jitter, strategies in any case, operations of any name."""
    assert validator.validate_custom_config(value).is_valid


def test_what_was_read_comes_with_the_result(validator):
    """So that nobody has to read the text again, with a reader that sees something else in it."""
    text = b'{"retry_attempts": 2, "operation_overrides": {"qa": "CRITICAL"}}'
    result = validator.validate_with_security_checks(text)
    assert {"retry_attempts": 2, "operation_overrides": {"qa": "critical"}} == result.settings
    assert ResilienceSettings(custom_config=result.settings).default.retry.max_attempts == 2


def test_every_mistake_is_told_at_once(validator):
    """With the nearest names as suggestions."""
    result = validator.validate_custom_config({"retry_attempts": 0, "dedline": 5, "jitter": "ful", "api_key": "hunter2"})
    assert [
        "retry_attempts: must be a whole number from 1 to 10, got 0",
        "jitter: must be one of the known names; did you mean 'full'?, got 'ful'",
        "dedline: is not a setting; did you mean 'deadline'?",
        f"api_key: is not a setting; known: {', '.join(sorted(CUSTOM.rules))}",
    ] == result.errors
    assert [
        "jitter: did you mean 'full'?",
        "dedline: did you mean 'deadline'?",
        "api_key: take it out; a configuration holds no secrets",
    ] == result.suggestions


def test_at_most_twenty_mistakes_are_told(validator):
    """A short text gets no long answer."""
    result = validator.validate_custom_config({f"n{n}": n for n in range(50)})
    assert 21 == len(result.errors)
    assert "configuration: holds more mistakes than are told here" == result.errors[-1]


def test_an_empty_configuration_is_shown_the_templates(validator):
    """Nothing is no configuration."""
    assert [f"begin with a template: {', '.join(TEMPLATES)}"] == validator.validate_json_string("{}").suggestions


@pytest.mark.parametrize(
    ("config", "warnings", "suggestions"),
    [
        ({"retry_attempts": 3}, [], []),
        (
            {"retry_attempts": 3, "circuit_breaker_threshold": 2},
            ["circuit_breaker_threshold: 2 is below retry_attempts 3, so one failing call opens the circuit"],
            ["circuit_breaker_threshold: at least 3"],
        ),
        (
            {"retry_attempts": 5, "deadline": 24, "default_strategy": "balanced"},
            [f"retry_attempts: the waits between them may take 24 s{ENDS} 24 s (over the preset simple)"],
            ["deadline: above 24, or fewer retry_attempts"],
        ),
        (
            {"retry_attempts": 2, "attempt_timeout": 20},
            [
                f"attempt_timeout: contradicts the deadline of the presets development{REFUSED}",
                f"retry_attempts: 2 attempts and the waits between them may take 42 s{ENDS} 30 s (over the preset simple)",
            ],
            ["deadline: give it, too", "deadline: above 42, or fewer retry_attempts"],
        ),
        ({"retry_attempts": 1, "attempt_timeout": 10, "deadline": 10}, [], []),
        ({"default_strategy": "critical", "retry_attempts": 9}, [], []),
        (
            {"default_strategy": "critical", "circuit_breaker_threshold": 6},
            ["circuit_breaker_threshold: 6 is below retry_attempts 7, so one failing call opens the circuit"],
            ["circuit_breaker_threshold: at least 7"],
        ),
        (
            {"max_delay": 1},
            [f"max_delay: contradicts the base_delay of the presets simple, production{REFUSED}"],
            ["base_delay: give it, too"],
        ),
        (
            {"attempt_timeout": 600},
            [f"attempt_timeout: contradicts the deadline of the presets simple, development, production{REFUSED}"],
            ["deadline: give it, too"],
        ),
    ],
)
def test_what_is_hardly_meant_is_a_warning(validator, config, warnings, suggestions):
    """Attempts that find the circuit open, waits beyond the deadline, numbers that contradict some preset's."""
    result = validator.validate_custom_config(config)
    assert (True, warnings, suggestions) == (result.is_valid, result.warnings, result.suggestions)


@pytest.mark.parametrize("jitter", ["full", "none"])
def test_waits_that_may_be_short_enough_are_allowed(validator, jitter):
    """With full jitter a wait may be nothing, so that no attempt is out of reach."""
    config = {"retry_attempts": 3, "base_delay": 5, "deadline": 9, "jitter": jitter}
    assert (jitter == "full") == validator.validate_custom_config(config).is_valid


def test_with_a_preset_its_contradictions_are_errors():
    """What a validator for production calls valid, production takes."""
    validator = ResilienceConfigValidator(preset="production")
    assert ["max_delay: must be at least base_delay 4.0, got 1.0"] == validator.validate_custom_config({"max_delay": 1}).errors
    with pytest.raises(ConfigurationError, match="did you mean 'production'"):
        ResilienceConfigValidator(preset="prodution")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid(validator, name):
    """With nothing to warn of."""
    result = validator.validate_preset(PRESETS[name].to_dict())
    assert (True, [], PRESETS[name].to_dict()) == (result.is_valid, result.warnings, result.settings)


def test_a_preset_needs_its_numbers(validator):
    """What `Preset` has no default for is required; a preset has no deadline."""
    known = "circuit_breaker_threshold, contexts, default_strategy, description, name, operation_overrides, recovery_timeout"
    assert [
        "retry_attempts: must be a whole number from 1 to 10, got 11",
        "circuit_breaker_threshold: is required",
        "recovery_timeout: is required",
        "default_strategy: is required",
        "contexts: must be a list of at most 20 texts, got 'all'",
        f"deadline: is not a setting; known: {known}, retry_attempts",
    ] == validator.validate_preset({"name": "mine", "retry_attempts": 11, "contexts": "all", "deadline": 5}).errors


def test_a_template_is_changed_by_what_is_put_over_it(validator):
    """Operations are put together; the rest is replaced."""
    result = validator.validate_template_based_config(
        "robust_production", {"retry_attempts": 4, "operation_overrides": {"qa": "balanced", "new": "critical"}}
    )
    assert 4 == result.settings["retry_attempts"]
    assert 180.0 == result.settings["recovery_timeout"]
    assert {"qa": "balanced", "summarize": "conservative", "new": "critical"} == result.settings["operation_overrides"]


def test_a_template_is_valid_as_it_is(validator):
    """Nothing, and an empty mapping, change nothing."""
    for overrides in (None, {}):
        result = validator.validate_template_based_config("low_latency", overrides)
        assert TEMPLATES["low_latency"].settings() == result.settings


@pytest.mark.parametrize(
    ("name", "overrides", "sentence"),
    [
        ("low_latncy", None, "template: must be the name of a template; did you mean 'low_latency'?, got 'low_latncy'"),
        (None, None, f"template: must be the name of a template; known: {', '.join(sorted(TEMPLATES))}, got None"),
        (Raising, None, f"template: must be the name of a template; known: {', '.join(sorted(TEMPLATES))}, got None"),
        ("low_latency", {"deadline": 5.5, "attempt_timeout": 6}, "attempt_timeout: must not exceed deadline 5.5, got 6.0"),
        ("low_latency", {"base_delay": 6}, "base_delay: must not exceed max_delay 5.0, got 6.0"),
        ("low_latency", {"dedline": 6}, "dedline: is not a setting; did you mean 'deadline'?"),
        ("low_latency", 3, "configuration: must be an object of settings, got 3"),
        ("low_latency", {"operation_overrides": 3}, "operation_overrides: must map at most 10 operation names"),
    ],
    ids=lambda _: "",
)
def test_a_wrong_template_or_a_wrong_change_is_a_sentence(validator, name, overrides, sentence):
    """The whole is judged, not the change alone."""
    (error,) = validator.validate_template_based_config(name, overrides).errors
    assert sentence == error[: len(sentence)]


@pytest.mark.parametrize("make", [type(None), int, list, Raising, object, set])
def test_whatever_is_handed_in_the_answer_is_a_result(validator, make):
    """Each method refuses what is no text or no mapping, and raises nothing (invariant 72)."""
    what = make()
    results = [
        validator.validate_custom_config(what),
        validator.validate_json_string(what),
        validator.validate_preset(what),
        validator.validate_with_security_checks(what),
        validator.validate_with_security_checks("{}", what),
        validator.check_rate_limit(what),
        validator.validate_template_based_config(what),
    ]
    assert not any(results)
    assert (None, None) == (validator.get_template(what), validator.suggest_template_for_config(what))
    assert validator.get_rate_limit_info(what)["allowed"]


def test_templates_are_found_by_name(validator):
    """All of them, or one."""
    assert dict(TEMPLATES) == validator.get_configuration_templates()
    assert TEMPLATES["low_latency"] is validator.get_template("Low_Latency")
    assert validator.get_template("nothing") is None


def test_the_nearest_template_is_suggested(validator):
    """With its reason; none for what is not valid."""
    assert "robust_production" == validator.suggest_template_for_config({"retry_attempts": 5, "default_strategy": "conservative"})
    assert "the same default_strategy; another retry_attempts (5, there 6)" == (
        validator.nearest_template({"retry_attempts": 5, "default_strategy": "conservative"}).reason
    )
    assert validator.suggest_template_for_config({"retry_attempts": 50}) is None


def test_a_client_that_asks_too_often_is_refused(validator):
    """Before anything is read; the seconds until its next try are told, and the refused one costs nothing."""
    assert validator.validate_with_security_checks('{"deadline": 5}', "client").is_valid
    refused = validator.validate_with_security_checks('{"deadline": 5}', "client")
    assert ["client_identifier: validations of one client must come at least 1 s after the one before"] == refused.errors
    assert (["try again in 1.0 s"], 1.0, None) == (refused.suggestions, refused.retry_after, refused.settings)
    assert validator.validate_with_security_checks('{"deadline": 5}', "other").is_valid
    assert validator.validate_with_security_checks('{"deadline": 5}').is_valid


def test_an_invalid_text_counts_too():
    """Guessing is not free."""
    validator = ResilienceConfigValidator(ClientRateLimits(per_minute=2, interval=None), clock=FakeClock(auto_advance=False))
    answers = [validator.validate_with_security_checks("{", "client").retry_after for _ in range(3)]
    assert [None, None, 60.0] == answers
    validator.reset_rate_limiter()
    assert 2 == validator.get_rate_limit_info("client")["remaining_this_minute"]
