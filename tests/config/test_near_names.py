"""Operations that a configuration names, and that are nearly those of the application."""

from __future__ import annotations

import pytest

from resilience_kit import AIServiceResilience, set_orchestrator, with_resilience
from resilience_kit.config import ResilienceSettings
from resilience_kit.config.near_names import near_names


@pytest.mark.parametrize(
    ("named", "known", "meant"),
    [
        ("sumarize", ["summarize", "qa"], "summarize"),
        ("summarise", ["summarize"], "summarize"),
        ("keypoints", ["key points"], "key points"),
        ("summarize", ["summarize"], None),
        ("SUMMARIZE", ["summarize"], None),
        ("key_points", ["key points"], None),
        ("translate", ["summarize"], None),
        ("qb", ["qa"], None),
        ("chat_3", ["chat_4", "chat-35"], None),
        ("chat", ["chats"], "chats"),
    ],
)
def test_a_name_is_near_or_it_is_not(named, known, meant):
    """Spelled as a variable does; not names of two letters, nor those that differ in digits only."""
    found = list(near_names({named: "X"}, known))
    assert ([] if meant is None else [("X", named, meant)]) == [tuple(each) for each in found]


def test_one_that_is_named_itself_is_not_meant():
    """Both are there."""
    assert [] == list(near_names({"summarise": "X", "summarize": "Y"}, ["summarize"]))


@pytest.fixture
def warnings(caplog):
    """What is logged about near names."""
    return lambda: [each.getMessage() for each in caplog.records if "did you mean" in each.getMessage()]


VARIABLE = "RESILIENCE_OPERATION_SUMARIZE names the operation 'sumarize'; did you mean 'summarize'?"


def test_the_first_use_of_a_near_name_logs_one_line(variables, warnings):
    """Once, whatever the number of functions and calls; other operations log none."""
    variables(RESILIENCE_OPERATION_SUMARIZE="critical")
    kit = AIServiceResilience()
    kit.with_resilience("translate")(len)("text")
    assert [] == warnings()
    for _ in range(2):
        kit.with_resilience("summarize")(len)("text")
        kit.call_with_resilience(len, "summarize", "text")
    assert [VARIABLE] == warnings()


def test_the_default_orchestrator_logs_it_too(variables, warnings):
    """At the first call, when it reads the environment."""
    variables(RESILIENCE_OPERATION_SUMARIZE="critical")
    set_orchestrator(None)
    protected = with_resilience("summarize")(len)
    assert [] == warnings()
    protected("text")
    protected("text")
    set_orchestrator(None)
    assert [VARIABLE] == warnings()


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ('[operations.summarise]\nstrategy = "critical"\n', "operations.summarise"),
        ('[operation_overrides]\nsummarise = "critical"\n', "operation_overrides.summarise"),
    ],
)
def test_a_file_is_named_with_the_place(tmp_path, warnings, text, source):
    """Section or override."""
    path = tmp_path / "a.toml"
    path.write_text(text)
    AIServiceResilience(ResilienceSettings(config_file=path)).with_resilience("summarize")(len)
    (line,) = warnings()
    assert line.startswith(f"file {path}: operation")
    assert line.endswith(f"{source.partition('.')[2]} names the operation 'summarise'; did you mean 'summarize'?")


def test_custom_settings_are_looked_at(warnings):
    """Their operation_overrides are an operator's words, too; those of a preset are not."""
    custom = {"operation_overrides": {"summarise": "critical"}}
    AIServiceResilience(ResilienceSettings(custom_config=custom)).with_resilience("summarize")(len)
    source = "ResilienceSettings(custom_config): operation_overrides.summarise"
    assert [f"{source} names the operation 'summarise'; did you mean 'summarize'?"] == warnings()
    AIServiceResilience(ResilienceSettings(preset="production")).with_resilience("sumarize")(len)
    assert 1 == len(warnings())


def test_a_name_that_is_in_use_is_not_misspelt(variables, warnings):
    """Two operations may have names that are near."""
    variables(RESILIENCE_OPERATION_KEY_POINTS="critical")
    kit = AIServiceResilience()
    kit.with_resilience("key points")(len)
    kit.with_resilience("key point")(len)
    assert [] == warnings()


def test_a_reload_is_looked_at(variables, warnings):
    """Operations that were in use before are compared with what is read anew."""
    kit = AIServiceResilience()
    kit.with_resilience("summarize")(len)
    variables(RESILIENCE_OPERATION_SUMARIZE="critical")
    kit.reload()
    kit.reload(ResilienceSettings(custom_config={"deadline": 9}))
    assert [VARIABLE] == warnings()
