"""Settings written as text read back as the same settings (invariant 77)."""

import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience_kit.config import TEMPLATES, ResilienceSettings, dump
from resilience_kit.config.parsing import read_file, strict_json
from resilience_kit.config.schema_types import file_settings

STRATEGIES = st.sampled_from(["aggressive", "balanced", "conservative", "critical"])
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=10)
NUMBERS = {
    "retry_attempts": st.integers(1, 10),
    "recovery_timeout": st.floats(10, 300),
    "base_delay": st.floats(0.1, 1),
    "max_delay": st.floats(1, 120),
    "backoff_factor": st.floats(1, 5),
    "jitter": st.sampled_from(["full", "none"]),
    "deadline": st.floats(1, 600),
}
FILES = st.fixed_dictionaries(
    {},
    optional={
        "preset": st.sampled_from(["simple", "production", "critical"]),
        "default_strategy": STRATEGIES,
        "operation_overrides": st.dictionaries(NAMES, STRATEGIES, max_size=5),
        "operations": st.dictionaries(NAMES, st.fixed_dictionaries({}, optional={"strategy": STRATEGIES, **NUMBERS}), max_size=3),
        **NUMBERS,
    },
)


@given(FILES)
def test_what_is_written_reads_back_as_it_was(settings):
    """load(dump(cfg)) == cfg, as JSON and as TOML, names with any sign in them included (invariant 77)."""
    valid = file_settings(settings, "before")
    assert valid == file_settings(strict_json(dump(valid), "json"), "json")
    assert valid == file_settings(tomllib.loads(dump(valid, "toml")), "toml")


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("kind", ["json", "toml"])
def test_a_template_is_written_as_a_file(tmp_path, name, kind):
    """A file to begin with, which means what the template means."""
    path = tmp_path / f"a.{kind}"
    path.write_text(dump(TEMPLATES[name], kind), encoding="utf-8")
    assert TEMPLATES[name].settings() == read_file(path)
    numbers = {key: value for key, value in TEMPLATES[name].settings().items() if key != "operation_overrides"}
    assert ResilienceSettings(config_file=path).default == ResilienceSettings(custom_config=json.dumps(numbers)).default


def test_toml_is_written_to_be_read_by_people():
    """Bare keys where they can be, tables after the values."""
    settings = {
        "operation_overrides": {"qa": "critical", "my op": "balanced"},
        "deadline": 5.0,
        "operations": {"a.b": {"jitter": "none"}},
    }
    assert """deadline = 5.0
[operation_overrides]
qa = "critical"
"my op" = "balanced"
[operations]
[operations."a.b"]
jitter = "none"
""" == dump(settings, "toml")


def test_another_kind_of_text_is_refused(sentences):
    """With the nearest name."""
    assert ["dump.kind: must be one of 'json', 'toml'; did you mean 'toml'?, got 'tom'"] == sentences(dump, {}, "tom")
