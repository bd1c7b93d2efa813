"""The exported JSON Schema and the validator: what one takes, the other takes, too."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience_kit.config import (
    PRESETS,
    TEMPLATES,
    ResilienceConfig,
    ResilienceConfigValidator,
    ResilienceSettings,
    ResilienceStrategy,
    json_schema,
    resolve,
)
from resilience_kit.config.schema_types import file_settings
from resilience_kit.errors import ConfigurationError

VALIDATOR = ResilienceConfigValidator()
#: Rules between settings and of texts as a whole, which the schema leaves to its comment.
RELATIONS = ("must not exceed", "must be at least base_delay", "must leave time", "must not differ", "must hold no control")
TYPES = {"object": dict, "array": list, "string": str, "integer": (int, float), "number": (int, float)}


def takes(schema: dict[str, Any], value: Any, root: dict[str, Any]) -> bool:
    """Whether a value is valid by draft 2020-12, as far as our schemas go."""
    told = set(schema) - {"title", "default", "description", "unit", "$defs", "$schema", "$comment"}
    return all(RULES[name](schema[name], value, schema, root) for name in told)


def is_type(kind: str, value: Any) -> bool:
    """Of JSON's types; a boolean is no number."""
    if isinstance(value, bool) or not isinstance(value, TYPES[kind]):
        return False
    return kind != "integer" or float(value).is_integer()  # 20.0 is an integer there


def is_number(value: Any) -> bool:
    """What bounds are for."""
    return is_type("number", value)


RULES: dict[str, Any] = {
    "$ref": lambda ref, value, _, root: takes(root["$defs"][ref.rpartition("/")[2]], value, root),
    "anyOf": lambda each, value, _, root: any(takes(one, value, root) for one in each),
    "type": lambda kind, value, *_: is_type(kind, value),
    "enum": lambda names, value, *_: value in names and not isinstance(value, bool),
    "pattern": lambda text, value, *_: not isinstance(value, str) or re.search(text, value) is not None,
    "minimum": lambda low, value, *_: not is_number(value) or value >= low,
    "maximum": lambda high, value, *_: not is_number(value) or value <= high,
    "minLength": lambda low, value, *_: not isinstance(value, str) or len(value) >= low,
    "maxLength": lambda high, value, *_: not isinstance(value, str) or len(value) <= high,
    "maxItems": lambda high, value, *_: not isinstance(value, list) or len(value) <= high,
    "items": lambda each, value, _, root: not isinstance(value, list) or all(takes(each, item, root) for item in value),
    "minProperties": lambda low, value, *_: not isinstance(value, dict) or len(value) >= low,
    "maxProperties": lambda high, value, *_: not isinstance(value, dict) or len(value) <= high,
    "required": lambda names, value, *_: not isinstance(value, dict) or set(names) <= set(value),
    "propertyNames": lambda each, value, _, root: not isinstance(value, dict) or all(takes(each, name, root) for name in value),
    "properties": lambda known, value, _, root: (
        not isinstance(value, dict) or all(takes(known[name], each, root) for name, each in value.items() if name in known)
    ),
    "additionalProperties": lambda each, value, schema, root: (
        not isinstance(value, dict)
        or all(
            each is not False and takes(each, item, root)
            for name, item in value.items()
            if name not in schema.get("properties", {})
        )
    ),
}

names = st.sampled_from(
    [each.value for each in ResilienceStrategy] + ["CRITICAL", "Balanced", "balansed", "", "cr\u0131tical", "critical\n"]
)
preset_names = names | st.sampled_from([*PRESETS, "PRODUCTION", "Simple", "prod"])
numbers = st.integers(-1, 700) | st.integers(1, 20).map(float) | st.floats(0, 700, allow_nan=False) | st.booleans()
odd = st.none() | st.just("5") | st.just([]) | st.just({})
plain = st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=8)


def settings_of(what: str) -> st.SearchStrategy[dict[str, Any]]:
    """Settings that are right, nearly right, or wrong."""
    known = json_schema(what)["properties"]
    values = {
        name: st.one_of(numbers, odd) if "minimum" in told else st.one_of(names, odd, st.just("full"), st.just("None"), plain)
        for name, told in known.items()
    }
    overrides = st.dictionaries(plain | st.just("x" * 201), names, max_size=12)
    sections = st.dictionaries(plain, st.fixed_dictionaries({}, optional={"strategy": names, "deadline": numbers}), max_size=3)
    values |= {
        name: each
        for name, each in {
            "operation_overrides": overrides | odd,
            "operations": sections | odd,
            "preset": preset_names | odd,
            "contexts": st.lists(plain, max_size=22) | odd,
            "unknown": odd,
        }.items()
        if name in known or name == "unknown"
    }
    required = json_schema(what).get("required", [])
    right = {
        "name": plain,
        "retry_attempts": st.sampled_from([3, 3.0, 3.5]),
        "circuit_breaker_threshold": st.sampled_from([5, 5.0]),
    }
    right |= {"recovery_timeout": st.just(60), "default_strategy": names}
    needed = {name: right[name] for name in required}
    return st.fixed_dictionaries(needed, optional={name: each for name, each in values.items() if name not in needed})


def verdict(found: Any) -> bool | None:
    """Whether the validator takes it; None where only a relation between settings is in the way."""
    if found is True or getattr(found, "is_valid", False):
        return True
    wrong = found.violations if hasattr(found, "violations") else found
    return None if all(each.rule.startswith(RELATIONS) for each in wrong) else False


def file_verdict(content: Any) -> Any:
    """True, or what is wrong."""
    try:
        file_settings(content, "file")
    except ConfigurationError as error:
        return error.errors
    return True


@pytest.mark.parametrize("what", ["custom_config", "preset", "template_overrides", "file"])
@given(st.data())
def test_schema_and_validator_take_the_same(what, data):
    """In both directions, for each text that there is a schema of."""
    value = data.draw(settings_of(what))
    found = {
        "custom_config": VALIDATOR.validate_custom_config,
        "preset": VALIDATOR.validate_preset,
        "template_overrides": lambda each: VALIDATOR.validate_template_based_config("maximum_reliability", each),
        "file": file_verdict,
    }[what](json.loads(json.dumps(value)))
    schema = json_schema(what)
    judged = verdict(found)
    assert judged is None or judged == takes(schema, value, schema)


@pytest.mark.parametrize("setting", ["retry_attempts", "circuit_breaker_threshold"])
def test_a_whole_number_may_be_written_as_a_float(setting, monkeypatch):
    """JSON has one kind of number: 5.0 is an integer by the schema, and everywhere here."""
    result = VALIDATOR.validate_json_string(f'{{"{setting}": 5.0}}')
    assert (True, int) == (result.is_valid, type(result.settings[setting]))
    monkeypatch.setenv("RESILIENCE_CUSTOM_CONFIG", f'{{"{setting}": 5.0}}')
    config = ResilienceSettings().default
    assert config == resolve("op", settings=ResilienceSettings(), custom_config={setting: 5.0})
    assert isinstance(config, ResilienceConfig)
    assert not VALIDATOR.validate_json_string(f'{{"{setting}": 5.5}}').is_valid


@pytest.mark.parametrize("name", TEMPLATES)
def test_limits_are_counted_over_what_is_given_not_over_the_template(name):
    """Ten operations more than the template has are ten, as the schema says; eleven are too many."""
    ten = {f"own {number}": "critical" for number in range(10)}
    schema = json_schema("template_overrides")
    for overrides, expected in ((ten, True), ({**ten, "another": "critical"}, False)):
        value = {"operation_overrides": overrides}
        assert expected == VALIDATOR.validate_template_based_config(name, value).is_valid == takes(schema, value, schema)
    found = VALIDATOR.validate_template_based_config(name, {"operation_overrides": ten})
    assert len(found.settings["operation_overrides"]) == 10 + len(TEMPLATES[name].get("operation_overrides", {}))


def test_the_schema_of_a_file_knows_the_presets():
    """In any case, as the file's reader does; nothing else."""
    schema = json_schema("file")
    for name, expected in (("production", True), ("Production", True), ("critical", True), ("prod", False), ("", False)):
        assert expected == takes(schema, {"preset": name}, schema) == (file_verdict({"preset": name}) is True)
