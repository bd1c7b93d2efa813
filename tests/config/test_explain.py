"""`explain`: every option with its source, by the very layers that `resolve` folds."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience_kit.config import ExplainedField, Explanation, ResilienceConfig, ResilienceSettings, resolve
from resilience_kit.config.call_options import UNSET, CallOptions
from resilience_kit.config.explain import explain, options_of
from resilience_kit.guards import Permit
from resilience_kit.policies.breaker import CircuitBreakerConfig, FailureRateWindow
from resilience_kit.policies.retry import RetryConfig


@pytest.fixture
def everything(variables, tmp_path):
    """Settings in which every source says something of `qa`, and the path of their file."""
    path = tmp_path / "app.toml"
    path.write_text(
        "retry_attempts = 4\ndeadline = 90\nrecovery_timeout = 50\n[operations.qa]\nretry_attempts = 6\nattempt_timeout = 25\n"
    )
    variables(
        RESILIENCE_PRESET="production",
        RESILIENCE_CONFIG_FILE=str(path),
        RESILIENCE_CUSTOM_CONFIG='{"retry_attempts": 2, "max_delay": 20}',
        RESILIENCE_OPERATION_QA="conservative",
    )
    return ResilienceSettings(), path


def test_each_source_is_told_with_what_it_overruled(everything):
    """In their order, strongest first."""
    settings, path = everything
    found = explain("qa", settings=settings, options=CallOptions(strategy="aggressive", deadline=60.0), live="critical")
    attempts = found["retry_attempts"]
    assert (7, "set_strategy") == (attempts.value, attempts.source)
    assert [
        (5, "RESILIENCE_OPERATION_QA"),
        (6, f"file {path}: operations.qa"),
        (2, "strategy argument"),
        (7, "preset production: operation_overrides.qa"),
        (2, "RESILIENCE_CUSTOM_CONFIG"),
        (4, f"file {path}"),
        (5, "preset production"),
        (3, "default"),
    ] == list(attempts.overridden)


def test_every_option_names_its_source(everything):
    """Preset, strategy, policies and what nobody spoke of."""
    settings, path = everything
    found = explain("qa", settings=settings, options=CallOptions(deadline=60.0, idempotent=False))
    assert {
        "enabled": (True, "default"),
        "preset": ("production", "RESILIENCE_PRESET"),
        "strategy": ("conservative", "RESILIENCE_OPERATION_QA"),
        "max_delay": (30.0, "RESILIENCE_OPERATION_QA"),
        "deadline": (60.0, "deadline argument"),
        "attempt_timeout": (25.0, f"file {path}: operations.qa"),
        "idempotent": (False, "idempotent argument"),
        "circuit_open": ("reject", "default"),
        "jitter": ("full", "RESILIENCE_OPERATION_QA"),
    } == {
        name: (found[name].value, found[name].source)
        for name in (
            "enabled",
            "preset",
            "strategy",
            "max_delay",
            "deadline",
            "attempt_timeout",
            "idempotent",
            "circuit_open",
            "jitter",
        )
    }


def test_what_gave_way_is_said_to_come_from_whom_it_gave_way_to():
    """A deadline that shortens the attempt timeout decided that, too."""
    settings = ResilienceSettings(custom_config={"attempt_timeout": 20})
    field = explain("op", settings=settings, options=CallOptions(deadline=3.0))["attempt_timeout"]
    assert (3.0, "deadline argument", [(20.0, "ResilienceSettings(custom_config)"), (12.0, "default")]) == (
        field.value,
        field.source,
        list(field.overridden),
    )


@pytest.mark.parametrize(
    ("section", "option", "value", "note"),
    [
        ({"attempt_timeout": 45}, "attempt_timeout", 30, "45, cut to the deadline"),
        ({"attempt_timeout": 25}, "attempt_timeout", 25, ""),
        ({"strategy": "aggressive", "base_delay": 5}, "max_delay", 5, ""),
        ({"max_delay": 1}, "base_delay", 1, "2, cut to max_delay"),
    ],
)
def test_a_value_that_was_cut_says_so(tmp_path, section, option, value, note):
    """What was asked for, and why it is not so; ready for JSON, and in brackets for people."""
    path = tmp_path / "app.json"
    path.write_text(json.dumps({"operations": {"qa": section}}))
    explained = explain("qa", settings=ResilienceSettings(config_file=path))
    field, source = explained[option], f"file {path}: operations.qa"
    assert (value, source, note) == (field.value, field.source, explained.to_dict()["fields"][option]["note"])
    assert f"from {source} ({note});" in str(field) or not note


@pytest.mark.parametrize(
    ("asked", "live", "option", "note"),
    [
        (CallOptions(deadline=3.0, attempt_timeout=9.5), None, "attempt_timeout", "9.5, cut to the deadline"),
        (CallOptions(deadline=3.0), None, "attempt_timeout", ""),
        (
            CallOptions(custom_config=ResilienceConfig(attempt_timeout=20), deadline=3.0),
            None,
            "attempt_timeout",
            "20, cut to the deadline",
        ),
        (
            CallOptions(custom_config=ResilienceConfig(attempt_timeout=20)),
            "aggressive",
            "attempt_timeout",
            "20, cut to the deadline",
        ),
        (CallOptions(custom_config=ResilienceConfig(attempt_timeout=20), deadline=None), None, "attempt_timeout", ""),
    ],
)
def test_what_the_code_asks_for_is_cut_as_well(asked, live, option, note):
    """By an argument or a change while running."""
    assert note == explain("qa", settings=ResilienceSettings(), options=asked, live=live)[option].note


def test_a_longest_recovery_is_raised(tmp_path):
    """By a section, over what the code says."""
    path = tmp_path / "app.json"
    path.write_text('{"operations": {"qa": {"base_delay": 8, "recovery_timeout": 200}}}')
    code = ResilienceConfig(retry=RetryConfig(max_delay=4), circuit_breaker=CircuitBreakerConfig(max_recovery_timeout=90))
    found = explain("qa", settings=ResilienceSettings(config_file=path), options=CallOptions(custom_config=code))
    assert ("90, raised to recovery_timeout", "4, raised to base_delay") == (
        found["max_recovery_timeout"].note,
        found["max_delay"].note,
    )


def test_what_is_switched_off_is_not_cut(variables):
    """No value, no note."""
    variables(RESILIENCE_ENABLED="false")
    found = explain("op", settings=ResilienceSettings(custom_config={"attempt_timeout": 20}), options=CallOptions(deadline=3.0))
    assert {""} == {each.note for each in found.fields}


def test_a_strategy_undoes_what_lies_below_it():
    """Of what the code does not speak of, the strategy's numbers count; whose doing that is, is told."""
    settings = ResilienceSettings(custom_config={"attempt_timeout": 20})
    field = explain("op", settings=settings, options=CallOptions(strategy="critical"))["attempt_timeout"]
    assert (90.0, "strategy argument") == (field.value, field.source)


def test_disabled_explains_why_everything_is_off(variables):
    """None stands for what is off."""
    variables(RESILIENCE_ENABLED="false")
    found = explain("op", settings=ResilienceSettings())
    assert [(None, "RESILIENCE_ENABLED")] * 3 == [
        (found[name].value, found[name].source) for name in ("retry_attempts", "circuit_breaker_threshold", "deadline")
    ]
    assert (False, "RESILIENCE_ENABLED") == (found["enabled"].value, found["enabled"].source)


def test_a_custom_config_decides_everything():
    """Also what is like the default in it."""
    custom = ResilienceConfig(retry=None, deadline=5.0)
    found = explain("op", settings=ResilienceSettings(), options=CallOptions(custom_config=custom))
    assert {"custom_config argument"} == {each.source for each in found.fields} - {"default"}
    assert ["enabled", "preset"] == [each.name for each in found.fields if each.source == "default"]
    assert (None, 5.0) == (found["retry_attempts"].value, found["deadline"].value)


def test_mappings_of_code_are_explained_too():
    """Their default strategy and their numbers, or their strategy for the operation."""
    custom = {"default_strategy": "critical", "retry_attempts": 2, "operation_overrides": {"qa": "aggressive"}}
    sources = [
        (found["strategy"].value, found["retry_attempts"].value, found["max_delay"].source)
        for found in (
            explain(name, settings=ResilienceSettings(), options=CallOptions(custom_config=custom)) for name in ("qa", "other")
        )
    ]
    assert [("aggressive", 2, "custom_config argument"), ("critical", 2, "custom_config argument")] == sources


def test_sources_of_settings_made_in_code(variables):
    """An argument beats its variable, and what it overruled is told."""
    variables(RESILIENCE_CUSTOM_CONFIG='{"deadline": 50, "default_strategy": "critical"}', RESILIENCE_OPERATION_QA="critical")
    settings = ResilienceSettings(custom_config={"deadline": 20}, operation_overrides={"qa": "balanced"}, preset="simple")
    deadline = explain("other", settings=settings)["deadline"]
    assert (20.0, "ResilienceSettings(custom_config)") == (deadline.value, deadline.source)
    assert [(50, "RESILIENCE_CUSTOM_CONFIG"), (30.0, "preset simple"), (30.0, "default")] == list(deadline.overridden)
    strategy = explain("qa", settings=settings)["strategy"]
    assert ("balanced", "ResilienceSettings(operation_overrides)") == (strategy.value, strategy.source)
    assert ("critical", "RESILIENCE_OPERATION_QA") == strategy.overridden[0]
    assert "ResilienceSettings(preset)" == explain("qa", settings=settings)["preset"].source


def test_the_operations_of_a_copy_are_its_own(variables):
    """Settings may be copied with other operation_overrides."""
    variables(RESILIENCE_OPERATION_QA="critical")
    copy = ResilienceSettings().model_copy(update={"operation_overrides": {"qa": "aggressive", "b": "balanced"}})
    found = [explain(name, settings=copy)["strategy"] for name in ("qa", "b", "c")]
    by_copy = "ResilienceSettings(operation_overrides)"
    assert [("aggressive", by_copy), ("balanced", by_copy), ("balanced", "default")] == [
        (each.value, each.source) for each in found
    ]
    without = ResilienceSettings().model_copy(update={"operation_overrides": {"other": "critical"}})
    assert "default" == explain("qa", settings=without)["strategy"].source


def test_an_explanation_is_ready_for_json(everything):
    """As a mapping; values are plain."""
    settings, _path = everything
    read = json.loads(json.dumps(explain("qa", settings=settings).to_dict()))
    assert ("qa", 5, "RESILIENCE_OPERATION_QA") == (
        read["operation"],
        read["fields"]["retry_attempts"]["value"],
        read["fields"]["retry_attempts"]["source"],
    )
    assert {"value": 3, "source": "default"} == read["fields"]["retry_attempts"]["overridden"][-1]


def test_an_explanation_reads_as_text():
    """One option a line; what a stronger source said alike is left out."""
    field = ExplainedField(name="deadline", value=5.0, source="a", overridden=((5.0, "b"), (None, "c")))
    explained = Explanation(operation="op", fields=(field, ExplainedField(name="jitter", value="full", source="default")))
    assert "deadline = 5.0 from a; instead of none from c\njitter = full from default" == str(explained)


def test_an_unknown_option_is_a_key_error():
    """With the nearest name."""
    with pytest.raises(KeyError, match="'dedline' is not an option; did you mean 'deadline'"):
        explain("op", settings=ResilienceSettings())["dedline"]


class SecretGuard:
    """A guard whose own fields are nobody's business."""

    name = "tenant limit"
    secret = "sk-canary-7f3a"

    def admit(self) -> Permit:
        raise NotImplementedError

    def fits(self, cost: float) -> bool:
        raise NotImplementedError


def test_objects_are_told_by_name():
    """Exceptions, hooks, guards and windows; nothing that they hold (invariant 76)."""
    config = ResilienceConfig(
        retry=RetryConfig(exclude_exceptions=(KeyError,), before_sleep=print, jitter=None),
        circuit_breaker=CircuitBreakerConfig(window=FailureRateWindow(size=10), expected_exception=lambda *_: "sk-canary-7f3a"),
        guards=(SecretGuard(),),
    )
    found = options_of(config)
    assert (["KeyError"], "print", ["tenant limit"], "none", 10) == (
        found["exclude_exceptions"],
        found["before_sleep"],
        found["guards"],
        found["jitter"],
        found["window"]["size"],
    )
    assert "canary" not in json.dumps(found)


STRATEGY = st.sampled_from(["aggressive", "balanced", "conservative", "critical", None])
NUMBERS = st.fixed_dictionaries(
    {}, optional={"retry_attempts": st.integers(1, 10), "deadline": st.integers(1, 600), "jitter": st.just("none")}
)
CUSTOM = st.none() | NUMBERS | st.just(ResilienceConfig(retry=None, deadline=7.0, attempt_timeout=5.0))


@given(STRATEGY, STRATEGY, STRATEGY, STRATEGY, CUSTOM, NUMBERS, st.sampled_from([UNSET, None, 3.0]), st.booleans())
def test_what_is_explained_is_what_is_resolved(strategy, registered, live, operator, custom, numbers, deadline, enabled):
    """Whatever the layers: one rule, not two."""
    settings = ResilienceSettings(
        custom_config=numbers or None, operation_overrides={"op": operator} if operator else None, enabled=enabled
    )
    asked, strategies = (
        {"strategy": strategy, "custom_config": custom, "deadline": deadline},
        {"registered": registered, "live": live},
    )
    config = resolve("op", settings=settings, **asked, **strategies)
    explained = explain("op", settings=settings, options=CallOptions(**asked), **strategies)
    assert options_of(config) == {name: explained[name].value for name in options_of(config)}


def test_a_wrong_word_that_an_argument_hides_is_not_told(variables):
    """It counts for nothing, and may be a secret in the wrong place (invariant 76)."""
    variables(RESILIENCE_OPERATION_QA="sk-canary-7f3a")
    found = explain("qa", settings=ResilienceSettings(operation_overrides={"qa": "critical"}))
    assert "ResilienceSettings(operation_overrides)" == found["strategy"].source
    assert "canary" not in str(found.to_dict())
