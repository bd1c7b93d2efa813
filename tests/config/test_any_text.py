"""Whatever text comes in, what comes out is settings or a ConfigurationError."""

import json

from hypothesis import given
from hypothesis import strategies as st

from resilience_kit.config import ResilienceSettings
from resilience_kit.config.overlay import SETTING_NAMES
from resilience_kit.errors import ConfigurationError

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["critical", "full", "none"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)
NAMES = st.sampled_from(SETTING_NAMES) | st.text(max_size=20)


def settings_or_sentences(**arguments):
    """True when the arguments make settings, False when they are refused as they should be; anything else escapes."""
    try:
        return ResilienceSettings(**arguments).default.retry is not None
    except ConfigurationError as error:
        return not str(error)


@given(st.text() | st.text('[]{}",:0123456789.eE-+NaIfinty \\u', max_size=60))
def test_any_text_is_settings_or_refused(text):
    """Also what is hardly JSON (invariant 72)."""
    settings_or_sentences(custom_config=text)


@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_any_json_is_settings_or_refused(content):
    """Right names with wrong values, wrong names, and right ones (invariant 72)."""
    as_mapping, as_text = (settings_or_sentences(custom_config=each) for each in (content, json.dumps(content)))
    assert as_mapping == as_text


@given(VALUES, st.dictionaries(st.text(max_size=10), VALUES, max_size=3))
def test_any_preset_and_overrides_are_settings_or_refused(preset, overrides):
    """Values of any type (invariant 72)."""
    settings_or_sentences(preset=preset, operation_overrides=overrides, enabled=preset)
