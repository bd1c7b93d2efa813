"""Whatever bytes, text, JSON or mapping comes in: a valid configuration, or a result that tells why not (invariant 72)."""

import json
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resilience_kit.config import ResilienceConfigValidator, ResilienceSettings
from resilience_kit.config.text_models import CUSTOM
from resilience_kit.errors import ConfigurationError

VALIDATOR = ResilienceConfigValidator()
NAMES = st.sampled_from([*CUSTOM.rules, "preset", "api_key", "operations"]) | st.text(max_size=12)
WORDS = st.sampled_from(["critical", "balanced", "CRITICAL", "full", "none", "sk-proj-abcdef"]) | st.text(max_size=12)
NUMBERS = st.integers() | st.floats() | st.integers(0, 20) | st.floats(0.1, 600)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=15,
)
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "retry_attempts": st.integers(1, 10),
        "circuit_breaker_threshold": st.integers(1, 20),
        "recovery_timeout": st.floats(10, 300) | st.integers(10, 300),
        "base_delay": st.floats(0.1, 10),
        "max_delay": st.floats(1, 120),
        "backoff_factor": st.floats(1, 5),
        "jitter": st.sampled_from(["full", "equal", "proportional", "none"]),
        "deadline": st.floats(1, 600),
        "attempt_timeout": st.floats(1, 600),
        "default_strategy": st.sampled_from(["aggressive", "balanced", "conservative", "critical"]),
        "operation_overrides": st.dictionaries(st.text(string.printable[:95], min_size=1), st.just("critical"), max_size=10),
    },
)


def settled(data):
    """The result, which has reasons exactly when it is invalid, and settings exactly when it is valid; it goes into JSON."""
    result = VALIDATOR.validate_with_security_checks(data)
    assert result.is_valid == (not result.errors) == (not result.violations) == (result.settings is not None)
    assert json.dumps(result.to_dict()).isprintable()
    return result


def _loads(config, preset):
    """Whether a preset takes a configuration."""
    try:
        return bool(ResilienceSettings(custom_config=config, preset=preset).default)
    except ConfigurationError:
        return False


@given(st.binary(max_size=5000) | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"[" * 4096)
@example(b'{"a":' * 819)
def test_any_bytes(data):
    """Mostly no UTF-8."""
    settled(data)


@given(st.text() | st.text('[]{}",:0123456789.eE-+NaIfinty \\u', max_size=60) | st.text(st.characters(codec=None), max_size=20))
def test_any_text(text):
    """Mostly no JSON."""
    settled(text)


@given(VALUES)
def test_any_json(content):
    """Mostly no configuration; a text and a mapping end alike."""
    by_text = settled(json.dumps(content))
    if isinstance(content, dict):
        assert by_text.errors == settled(content).errors


@given(CONFIGS, st.data())
def test_mutated_json(config, data):
    """A valid text with some of its signs taken out, doubled or replaced."""
    text = list(json.dumps(config))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place] = data.draw(
            st.sampled_from(["", text[place] * 2, "{", "}", '"', ",", ":", "9", "-", "\\", "e999", "\u202e", "null"])
        )
    settled("".join(text))


@given(CONFIGS)
def test_what_is_in_its_ranges_is_valid_or_contradicts_itself(config):
    """And what is valid without a warning is taken by every preset."""
    result = settled(config)
    assert (
        result
        or not config
        or all(each.path in ("base_delay", "max_delay", "attempt_timeout", "deadline") for each in result.violations)
    )
    if result and not any("contradicts" in warning for warning in result.warnings):
        assert all(_loads(config, preset) for preset in ("simple", "development", "production"))


@given(CONFIGS, st.sampled_from(["simple", "production", "aggressive"]))
def test_what_is_valid_for_a_preset_is_taken_by_it(config, preset):
    """The validator and the settings agree."""
    if ResilienceConfigValidator(preset=preset).validate_custom_config(config):
        assert _loads(config, preset)


@given(VALUES, VALUES)
def test_any_preset_and_any_template(name, content):
    """The other doors end in results, too."""
    assert VALIDATOR.validate_preset(content).errors or isinstance(content, dict)
    assert isinstance(VALIDATOR.validate_template_based_config(name, content).is_valid, bool)
    assert isinstance(VALIDATOR.validate_template_based_config("low_latency", content).is_valid, bool)


@pytest.mark.parametrize("value", [10**400, -(10**5000), 2**53, float("inf")], ids=["1e400", "-1e5000", "2**53", "inf"])
def test_numbers_beyond_every_range(value):
    """Also those that no float can hold and nobody can print."""
    assert not settled({"deadline": value})
