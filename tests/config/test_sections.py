"""A file's sections: what the operator says of single operations, in numbers."""

import json

import pytest

from resilience_kit.config import ResilienceConfig, ResilienceSettings, resolve
from resilience_kit.config.overlay import FIELDS
from resilience_kit.config.schema_types import OPERATION_SETTING_NAMES, RULES
from resilience_kit.policies.breaker import CircuitBreakerConfig
from resilience_kit.policies.retry import RetryConfig


@pytest.fixture
def settings(tmp_path):
    """Settings of a file with the content given."""

    def of(content, **arguments):
        path = tmp_path / "app.json"
        path.write_text(json.dumps(content))
        return ResilienceSettings(config_file=path, **arguments)

    return of


def test_a_section_changes_single_numbers_of_what_lies_below(settings):
    """Of the preset's word, of a strategy argument and of the code's own config alike."""
    read = settings({"operations": {"qa": {"retry_attempts": 6, "deadline": 50}}})
    custom = ResilienceConfig(retry=RetryConfig(exclude_exceptions=(KeyError,)), deadline=9.0)
    numbers = [
        (config.retry.max_attempts, config.deadline, config.retry.max_delay)
        for config in (
            resolve("qa", settings=read),
            resolve("qa", settings=read, strategy="critical"),
            resolve("qa", settings=read, custom_config=custom),
            resolve("other", settings=read),
        )
    ]
    assert [(6, 50.0, 10.0), (6, 50.0, 60.0), (6, 50.0, 60.0), (3, 30.0, 10.0)] == numbers
    assert (KeyError,) == resolve("qa", settings=read, custom_config=custom).retry.exclude_exceptions


def test_a_section_may_name_a_strategy_and_change_it(settings):
    """Its strategy replaces the code's, its numbers replace its strategy's."""
    read = settings({"operations": {"qa": {"strategy": "critical", "retry_attempts": 4}}})
    expected = ResilienceConfig.from_strategy("critical").replace(
        retry=RetryConfig(max_attempts=4, base_delay=3.0, max_delay=60.0),
    )
    assert expected == resolve("qa", settings=read, strategy="aggressive")
    assert "critical" == read.operator_strategy("qa")


@pytest.mark.parametrize("live", [None, "aggressive"])
def test_the_variable_beats_the_section_in_what_a_strategy_decides(settings, variables, live):
    """The attempt timeout, of which no strategy speaks, stays; set_strategy beats both."""
    variables(RESILIENCE_OPERATION_QA="conservative")
    read = settings({"operations": {"qa": {"strategy": "critical", "retry_attempts": 4, "attempt_timeout": 20}}})
    config = resolve("qa", settings=read, live=live)
    expected = ResilienceConfig.from_strategy(live or "conservative")
    assert expected.replace(attempt_timeout=min(20.0, expected.deadline)) == config


def test_the_variable_beats_the_section_over_a_custom_config_too(settings, variables):
    """Whose own options stay where neither speaks."""
    variables(RESILIENCE_OPERATION_QA="aggressive")
    read = settings({"operations": {"qa": {"retry_attempts": 4, "attempt_timeout": 5}}})
    config = resolve("qa", settings=read, custom_config=ResilienceConfig(idempotent=False))
    assert (2, 5.0, False) == (config.retry.max_attempts, config.attempt_timeout, config.idempotent)


@pytest.mark.parametrize("operation", ["key points", "key-points", "Key_Points"])
def test_a_section_is_found_by_every_spelling_of_its_operation(settings, operation):
    """As a variable is."""
    read = settings({"operations": {"key.points": {"deadline": 44}}})
    assert 44.0 == resolve(operation, settings=read).deadline


def test_what_contradicts_a_sections_number_gives_way(settings):
    """The operator's word holds whatever numbers the code has; a live reload cannot fail on them."""
    read = settings(
        {
            "operations": {
                "long": {"base_delay": 8},
                "short": {"max_delay": 1},
                "slow": {"attempt_timeout": 100},
                "rest": {"recovery_timeout": 200},
            }
        }
    )
    long, short = (resolve(name, settings=read, strategy="aggressive").retry for name in ("long", "short"))
    assert [(8.0, 8.0), (1.0, 1.0)] == [(retry.base_delay, retry.max_delay) for retry in (long, short)]
    assert 10.0 == resolve("slow", settings=read, strategy="aggressive").attempt_timeout
    code = ResilienceConfig(circuit_breaker=CircuitBreakerConfig(max_recovery_timeout=90.0))
    breaker = resolve("rest", settings=read, custom_config=code).circuit_breaker
    assert (200.0, 200.0) == (breaker.recovery_timeout, breaker.max_recovery_timeout)


def test_a_section_switches_on_only_what_it_speaks_of(settings):
    """A number of retries means retries; a deadline means neither retries nor a breaker."""
    read = settings({"operations": {"a": {"deadline": 5}, "b": {"retry_attempts": 4}, "c": {"recovery_timeout": 30}}})
    bare = ResilienceConfig(retry=None, circuit_breaker=None)
    a, b, c = (resolve(name, settings=read, custom_config=bare) for name in "abc")
    assert bare.replace(deadline=5.0) == a
    assert (4, None) == (b.retry.max_attempts, b.circuit_breaker)
    assert (None, 30.0) == (c.retry, c.circuit_breaker.recovery_timeout)


def test_the_settings_of_a_section_are_those_of_single_options():
    """And a strategy; with the ranges of the others."""
    assert {*FIELDS, "strategy"} == set(OPERATION_SETTING_NAMES)
    assert set(FIELDS) <= set(RULES)


@pytest.mark.parametrize(
    ("section", "rest"),
    [
        ({"retry_attempts": 50}, "operations.qa.retry_attempts: must be a whole number from 1 to 10, got 50"),
        ({"deadline": "5"}, "operations.qa.deadline: must be a number of seconds from 1 to 600, got '5'"),
        ({"dedline": 5}, "operations.qa.dedline: is not a setting; did you mean 'deadline'?"),
        ({"default_strategy": "critical"}, "operations.qa.default_strategy: is not a setting; did you mean 'strategy'?"),
        ({"preset": 1}, f"operations.qa.preset: is not a setting; known: {', '.join(sorted(OPERATION_SETTING_NAMES))}"),
        (
            {"strategy": "critcal"},
            "operations.qa.strategy: must be the name of a strategy; did you mean 'critical'?, got 'critcal'",
        ),
        ({"jitter": "ful"}, "operations.qa.jitter: must be one of the known names; did you mean 'full'?, got 'ful'"),
        (5, "operations.qa: must be an object of settings, got 5"),
        ({"base_delay": 5, "max_delay": 4}, "operations.qa.base_delay: must not exceed max_delay 4.0, got 5.0"),
        (
            {"strategy": "aggressive", "base_delay": 8},
            "operations.qa.base_delay: must not exceed max_delay 5.0, got 8.0",
        ),
        (
            {"deadline": 5, "attempt_timeout": 6},
            "operations.qa.attempt_timeout: must not exceed deadline 5.0, got 6.0",
        ),
    ],
)
def test_a_wrong_section_is_a_sentence(sentences, settings, tmp_path, section, rest):
    """File, place in it, rule, nearest name; also where it contradicts itself or its strategy (invariants 72 and 74)."""
    assert [f"{tmp_path / 'app.json'}: {rest}"] == sentences(settings, {"operations": {"qa": section}})


@pytest.mark.parametrize(
    ("content", "rest"),
    [
        ({"operations": [1]}, "operations: must map operation names of at most 200 characters to objects of settings"),
        (
            {"operations": {"a b": {"deadline": 5}, "a-b": {"deadline": 6}}},
            "operations.a-b: must not differ from another name of RESILIENCE_OPERATION_A_B",
        ),
        (
            {"operations": {"qa": {"strategy": "critical"}}, "operation_overrides": {"QA": "balanced"}},
            "operations.qa.strategy: must not differ from the operation_overrides of the same file",
        ),
    ],
)
def test_sections_that_do_not_go_together_are_a_sentence(sentences, settings, tmp_path, content, rest):
    """Two words of one file about one operation."""
    assert [f"{tmp_path / 'app.json'}: {rest}"] == sentences(settings, content)


def test_an_operation_is_called_as_the_file_writes_it(settings):
    """The names that only a variable knows, and others, are left as they are."""
    read = settings({"operations": {"Ask twice": {"deadline": 5}}, "operation_overrides": {"a-b": "critical"}})
    assert ["Ask twice", "a-b", "other-one"] == [read.original_name(name) for name in ("ask_twice", "A.B", "other-one")]


def test_a_section_may_repeat_the_files_override(settings):
    """What is said twice alike is no contradiction."""
    read = settings({"operations": {"qa": {"strategy": "critical"}}, "operation_overrides": {"QA": "critical"}})
    assert ResilienceConfig.from_strategy("critical") == resolve("qa", settings=read)
