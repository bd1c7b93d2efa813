"""Each field, default, range, unit and meaning stands in one place; all that is told of them is derived, and does not drift."""

import dataclasses
import inspect
import json
import re
from pathlib import Path
from runpy import run_path

import pytest

from resilience_kit import CircuitBreakerConfig, FailureRateWindow, ResilienceConfig, RetryConfig
from resilience_kit.config import (
    STRATEGY_NUMBERS,
    ClientRateLimits,
    CustomConfig,
    ResilienceConfigValidator,
    ResilienceSettings,
    json_schema,
)
from resilience_kit.config.field_docs import environment_variables, field_descriptions
from resilience_kit.config.overlay import FIELDS, SETTING_NAMES
from resilience_kit.config.presets import Preset
from resilience_kit.config.sanitize import UNTRUSTED, TextLimits
from resilience_kit.config.text_models import CUSTOM, FILE, OPERATION, PRESET
from resilience_kit.errors import ConfigurationError
from resilience_kit.http.pacing_config import PacingConfig
from resilience_kit.policies.bulkhead import AdaptiveLimit, BulkheadConfig
from resilience_kit.policies.hedge import HedgeConfig
from resilience_kit.policies.rate_limit import RateLimitConfig
from resilience_kit.policies.retry_budget import RetryBudgetConfig

ROOT = Path(__file__).parents[2]
OPTIONS = [
    ResilienceConfig,
    RetryConfig,
    RetryBudgetConfig,
    CircuitBreakerConfig,
    FailureRateWindow,
    ClientRateLimits,
    RateLimitConfig,
    BulkheadConfig,
    AdaptiveLimit,
    HedgeConfig,
    PacingConfig,
]
NUMBERS = [name for name, told in json_schema()["properties"].items() if "minimum" in told]
GENERATOR = run_path(str(ROOT / "docs" / "generate_defaults.py"))


def valid(**settings):
    """Whether the validator takes some settings."""
    return ResilienceConfigValidator().validate_custom_config(settings).is_valid


def test_every_setting_is_in_the_model_and_sets_an_option():
    """Names of the model, of what code may give, and of the option classes' fields."""
    assert set(SETTING_NAMES) == set(CustomConfig.__annotations__) == set(json_schema()["properties"])
    assert all(option in {field.name for field in dataclasses.fields(owner)} for owner, option in FIELDS.values())


@pytest.mark.parametrize("model", [CUSTOM, FILE, OPERATION, PRESET])
def test_every_field_of_a_model_is_described(model):
    """In the schema, which the docs and the command line take the sentences from, and by a rule."""
    told = model.adapter.json_schema()["properties"]
    assert [] == [name for name, each in told.items() if not each.get("description")]
    assert set(told) == set(model.rules)


@pytest.mark.parametrize("name", NUMBERS)
def test_schema_rule_and_validator_agree_on_a_range(name):
    """Both ends are in, one step beyond is out; the unit is told by the rule as it is by the schema."""
    told, rule = json_schema()["properties"][name], CUSTOM.rules[name]
    low, high = told["minimum"], told["maximum"]
    assert (float(low), float(high)) == tuple(float(each) for each in re.findall(r"[\d.]+", rule))
    assert (told.get("unit") == "seconds") == ("seconds" in rule)
    assert (told["type"] == "integer") == ("whole" in rule)
    step = 1 if told["type"] == "integer" else 1e-6
    assert [True, True, False, False] == [valid(**{name: value}) for value in (low, high, low - step, high + step)]


def test_schema_and_validator_agree_on_names():
    """Every name of an enumeration is taken."""
    told = json_schema()["properties"]
    assert all(valid(jitter=name) for name in told["jitter"]["enum"])
    strategies = json_schema()["$defs"]["ResilienceStrategy"]["enum"]
    assert all(valid(default_strategy=name) for name in strategies)
    overrides = told["operation_overrides"]
    most, longest = overrides["maxProperties"], overrides["propertyNames"]["maxLength"]
    assert [True, False] == [valid(operation_overrides={str(n): "critical" for n in range(most + more)}) for more in (0, 1)]
    assert [True, False] == [valid(operation_overrides={"x" * (longest + more): "critical"}) for more in (0, 1)]


def test_the_schemas_differ_in_what_they_are_for():
    """A custom configuration holds something, what goes over a template may hold nothing; a file knows sections."""
    assert [1, None] == [json_schema(what).get("minProperties") for what in ("custom_config", "template_overrides")]
    assert {"preset", "operations"} == json_schema("file")["properties"].keys() - json_schema()["properties"].keys()
    assert json_schema("template_overrides")["properties"] == json_schema()["properties"]
    required = [each.name for each in dataclasses.fields(Preset) if each.default is each.default_factory is dataclasses.MISSING]
    assert required == json_schema("preset")["required"]
    assert all(schema["additionalProperties"] is False for schema in (json_schema(), json_schema("file"), json_schema("preset")))


def test_the_schema_is_json_and_tells_the_limits():
    """Those that JSON Schema has no words for stand in its comment."""
    numbers = re.findall(r"\d+", json.loads(json.dumps(json_schema()))["$comment"])
    assert [str(getattr(UNTRUSTED, name)) for name in ("size", "depth", "string", "items", "keys")] == numbers


def test_an_unknown_schema_is_refused(sentences):
    """With the nearest name."""
    known = "'custom_config', 'file', 'preset', 'template_overrides'"
    assert [f"json_schema.what: must be one of {known}; did you mean 'file'?, got 'fil'"] == sentences(json_schema, "fil")


@pytest.mark.parametrize("strategy", STRATEGY_NUMBERS)
def test_every_strategys_numbers_are_in_the_ranges_of_a_text(strategy):
    """What code may name, a text may say."""
    numbers = dataclasses.asdict(STRATEGY_NUMBERS[strategy])
    renamed = {"retry_attempts": "max_attempts", "circuit_breaker_threshold": "failure_threshold"}
    assert valid(**{name: numbers[renamed.get(name, name)] for name in NUMBERS if renamed.get(name, name) in numbers})


@pytest.mark.parametrize("owner", [*OPTIONS, TextLimits], ids=lambda owner: owner.__name__)
def test_every_option_is_explained_where_it_stands(owner):
    """The docstring tells what each field means; the tables of the docs are made of it."""
    assert set(field_descriptions(owner)) == set(inspect.signature(owner).parameters)


@pytest.mark.parametrize("owner", OPTIONS, ids=lambda owner: owner.__name__)
def test_every_option_is_held_to_a_rule(owner):
    """Which a value that fits nowhere is told; the tables show that rule."""
    rules = GENERATOR["_rules"](owner)
    assert set(rules) == set(inspect.signature(owner).parameters)
    assert all(rules.values())


@pytest.mark.parametrize("owner", OPTIONS, ids=lambda owner: owner.__name__)
def test_option_class_has_one_generated_table_in_the_reference(owner):
    """Exactly one page of the reference holds the generated table of each option class."""
    pages = [page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md")]
    assert 1 == sum(text.count(f":{owner.__name__} -->") for text in pages)


def test_the_variables_are_those_that_the_settings_read(variables):
    """Every name, the default that is told, and every spelling of the switch."""
    told = {each.name: each for each in environment_variables()}
    assert {"RESILIENCE_" + name for name in ("PRESET", "CUSTOM_CONFIG", "OPERATION_<NAME>", "ENABLED", "CONFIG_FILE")} == set(
        told
    )
    assert (told["RESILIENCE_PRESET"].default, told["RESILIENCE_ENABLED"].default) == (
        ResilienceSettings().preset,
        str(ResilienceSettings().enabled).lower(),
    )
    for spelling in re.findall(r"[a-z0-9]+", told["RESILIENCE_ENABLED"].accepts.replace("or", "")):
        variables(RESILIENCE_ENABLED=spelling)
        assert (spelling in ("true", "1", "yes", "on")) == ResilienceSettings().enabled


@pytest.mark.parametrize(
    "name", ["RESILIENCE_PRESET", "RESILIENCE_CUSTOM_CONFIG", "RESILIENCE_OPERATION_QA", "RESILIENCE_CONFIG_FILE"]
)
def test_every_variable_is_read(variables, name):
    """A value that fits none of them is refused in the name of each."""
    variables(**{name: "[]"})
    with pytest.raises(ConfigurationError) as caught:
        ResilienceSettings()
    assert any(name in str(each) or str(each).startswith("[]") for each in caught.value.errors)
