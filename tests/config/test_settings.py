"""`ResilienceSettings`: variables, arguments and the file; every wrong value is a sentence."""

import pytest
from pydantic import ValidationError

from resilience_kit.config import ResilienceConfig, ResilienceSettings, ResilienceStrategy, variable_of
from resilience_kit.config.overlay import SETTING_NAMES
from resilience_kit.config.schema_types import RULES, CustomConfig

PRESET, CUSTOM, OF_QA = "RESILIENCE_PRESET", "RESILIENCE_CUSTOM_CONFIG", "RESILIENCE_OPERATION_QA"
STRATEGIES = "known: aggressive, balanced, conservative, critical"


def test_without_any_word_everything_is_balanced():
    """No variable, no argument: the preset `simple`, which is the strategy balanced."""
    settings = ResilienceSettings()
    assert ("simple", True, None, {}) == (settings.preset, settings.enabled, settings.custom_config, settings.operation_overrides)
    assert ResilienceConfig.from_strategy("balanced") == settings.default


@pytest.mark.parametrize("strategy", list(ResilienceStrategy))
def test_a_strategy_as_preset_is_that_strategy(variables, strategy):
    """RESILIENCE_PRESET takes the name of a strategy, too."""
    variables(RESILIENCE_PRESET=strategy.value)
    assert ResilienceConfig.from_strategy(strategy) == ResilienceSettings().default


def test_a_presets_own_numbers_replace_those_of_its_strategy(variables):
    """Production: 5 attempts, threshold 10, recovery 120; delays and deadline are those of conservative."""
    variables(RESILIENCE_PRESET="production")
    config = ResilienceSettings().default
    assert (5, 10, 120.0) == (
        config.retry.max_attempts,
        config.circuit_breaker.failure_threshold,
        config.circuit_breaker.recovery_timeout,
    )
    assert (4.0, 30.0, 120.0) == (config.retry.base_delay, config.retry.max_delay, config.deadline)


def test_custom_config_changes_the_presets_default_numbers(variables):
    """Each setting of RESILIENCE_CUSTOM_CONFIG reaches its option; the rest is the preset's."""
    variables(
        RESILIENCE_PRESET="production",
        RESILIENCE_CUSTOM_CONFIG="""{"retry_attempts": 4, "circuit_breaker_threshold": 6, "recovery_timeout": 45,
            "base_delay": 0.5, "max_delay": 20, "backoff_factor": 3, "jitter": "none", "deadline": 60, "attempt_timeout": 15}""",
    )
    config = ResilienceSettings().default
    retry, breaker = config.retry, config.circuit_breaker
    assert (4, 0.5, 20.0, 3.0, None) == (
        retry.max_attempts,
        retry.base_delay,
        retry.max_delay,
        retry.backoff_factor,
        retry.jitter,
    )
    assert (6, 45.0, 60.0, 15.0) == (breaker.failure_threshold, breaker.recovery_timeout, config.deadline, config.attempt_timeout)


def test_custom_config_may_name_another_default_strategy(variables):
    """The strategy's delays and deadline come in; the preset's own numbers stay unless they are changed, too."""
    variables(RESILIENCE_PRESET="production", RESILIENCE_CUSTOM_CONFIG='{"default_strategy": "critical"}')
    config = ResilienceSettings().default
    assert (5, 60.0, 300.0) == (config.retry.max_attempts, config.retry.max_delay, config.deadline)


@pytest.mark.parametrize("strategy", list(ResilienceStrategy))
def test_a_default_strategy_over_no_named_preset_counts_whole(variables, tmp_path, strategy):
    """Nobody has said the numbers of `simple`; a variable's, a file's and an argument's strategy alike."""
    expected = ResilienceConfig.from_strategy(strategy)
    path = tmp_path / "app.toml"
    path.write_text(f'default_strategy = "{strategy}"')
    assert [expected] * 2 == [
        ResilienceSettings(custom_config={"default_strategy": strategy}).default,
        ResilienceSettings(config_file=path).default,
    ]
    variables(RESILIENCE_CUSTOM_CONFIG=f'{{"default_strategy": "{strategy}"}}')
    assert expected == ResilienceSettings().default


def test_single_numbers_stay_over_a_default_strategy(variables):
    """Whoever names them; and those of a preset that somebody names, be it `simple`."""
    variables(RESILIENCE_CUSTOM_CONFIG='{"default_strategy": "critical", "retry_attempts": 9}')
    assert (9, 10) == numbers(ResilienceSettings())
    assert (9, 5) == numbers(ResilienceSettings(preset="simple"))


def numbers(settings):
    """Attempts and threshold."""
    return settings.default.retry.max_attempts, settings.default.circuit_breaker.failure_threshold


def test_custom_config_adds_to_the_presets_overrides(variables):
    """Its operation_overrides rank with the preset's and replace one of the same name."""
    variables(
        RESILIENCE_PRESET="production", RESILIENCE_CUSTOM_CONFIG='{"operation_overrides": {"qa": "balanced", "mine": "critical"}}'
    )
    settings = ResilienceSettings()
    assert ["balanced", "critical", "aggressive", None] == [
        settings.preset_strategy(name) for name in ("qa", "mine", "sentiment", "other")
    ]
    assert settings.operator_strategy("qa") is None


@pytest.mark.parametrize("operation", ["key points", "key-points", "Key.Points", "key_points"])
def test_a_variable_spells_an_operation_in_capitals(variables, operation):
    """_ stands for every sign that is no letter or digit."""
    variables(RESILIENCE_OPERATION_KEY_POINTS="critical")
    assert "RESILIENCE_OPERATION_KEY_POINTS" == variable_of(operation)
    assert ResilienceStrategy.CRITICAL is ResilienceSettings().operator_strategy(operation)
    assert ResilienceSettings().operator_strategy("keypoints") is None


@pytest.mark.parametrize(
    ("text", "enabled"),
    [
        ("true", True),
        ("TRUE", True),
        ("1", True),
        ("yes", True),
        ("on", True),
        ("false", False),
        ("0", False),
        ("No", False),
        ("off", False),
    ],
)
def test_enabled_is_a_switch(variables, text, enabled):
    """The usual words for on and off, in any case."""
    variables(RESILIENCE_ENABLED=text)
    assert enabled is ResilienceSettings().enabled


def test_arguments_beat_variables_and_variables_fill_the_rest(variables):
    """Each argument replaces its variable; settings and operations are joined one by one."""
    variables(
        RESILIENCE_PRESET="production",
        RESILIENCE_CUSTOM_CONFIG='{"deadline": 50, "retry_attempts": 2}',
        RESILIENCE_OPERATION_QA="aggressive",
        RESILIENCE_OPERATION_OTHER="critical",
        RESILIENCE_ENABLED="false",
    )
    settings = ResilienceSettings(
        preset="simple", custom_config={"deadline": 20}, operation_overrides={"QA": "balanced"}, enabled=True
    )
    assert ("simple", True, {"deadline": 20.0, "retry_attempts": 2}) == (
        settings.preset,
        settings.enabled,
        settings.custom_config,
    )
    assert {"qa": "balanced", "other": "critical"} == settings.operation_overrides


def test_custom_config_may_be_given_as_text():
    """As an argument it may be JSON, as in the variable."""
    assert {"deadline": 20.0} == ResilienceSettings(custom_config='{"deadline": 20}').custom_config


def test_capitals_win_over_other_spellings_of_a_variable(monkeypatch):
    """A variable in small letters counts, unless the same one in capitals is there."""
    monkeypatch.setenv("resilience_preset", "critical")
    assert "critical" == ResilienceSettings().preset
    monkeypatch.setenv("RESILIENCE_PRESET", "balanced")
    assert "balanced" == ResilienceSettings().preset


def test_settings_are_frozen():
    """Read once; nobody changes them for the others."""
    with pytest.raises(ValidationError, match="frozen"):
        ResilienceSettings().preset = "production"


OPERATIONS = "must map at most 10 operation names of at most 200 characters to strategies"


@pytest.mark.parametrize(
    ("name", "value", "rest"),
    [
        (PRESET, "prodution", ": must be the name of a preset or of a strategy; did you mean 'production'?, got 'prodution'"),
        (OF_QA, "critcal", ": must be the name of a strategy; did you mean 'critical'?, got 'critcal'"),
        (OF_QA, "", f": must be the name of a strategy; {STRATEGIES}, got ''"),
        ("RESILIENCE_OPERATION_", "critical", ": must end with the name of an operation"),
        ("RESILIENCE_ENABLED", "maybe", ": must be true or false, got 'maybe'"),
        ("RESILIENCE_ENABLED", "", ": must be true or false, got ''"),
        ("RESILIENCE_CONFIG_FILE", "", ": must be the path of a file, got ''"),
        (CUSTOM, "", ": must be JSON: Expecting value at line 1 column 1"),
        (CUSTOM, "[]", ": must be an object of settings"),
        (CUSTOM, "{}", ": must hold at least one setting"),
        (CUSTOM, '{"deadline": NaN}', ".deadline: must be a finite number"),
        (CUSTOM, '{"deadline": 5, "deadline": 6}', ".deadline: must not be given twice"),
        (CUSTOM, '{"dedline": "sk-secret"}', ".dedline: is not a setting; did you mean 'deadline'?"),
        (CUSTOM, '{"api_key": "sk-secret"}', f".api_key: is not a setting; known: {', '.join(sorted(SETTING_NAMES))}"),
        (CUSTOM, '{"operations": {}}', ".operations: is not a setting; only a file may hold 'operations'"),
        (CUSTOM, '{"preset": "sk-secret"}', ".preset: is not a setting; only a file may hold 'preset'"),
        (CUSTOM, '{"oprations": {}}', ".oprations: is not a setting; did you mean 'operation_overrides'?"),
        (CUSTOM, '{"deadline": null}', ".deadline: must be a number of seconds from 1 to 600, got None"),
        (
            CUSTOM,
            '{"default_strategy": "careful"}',
            f".default_strategy: must be the name of a strategy; {STRATEGIES}, got 'careful'",
        ),
        (
            CUSTOM,
            '{"operation_overrides": {"qa": 3}}',
            f".operation_overrides.qa: must be the name of a strategy; {STRATEGIES}, got 3",
        ),
        (CUSTOM, '{"operation_overrides": {"": "critical"}}', f".operation_overrides['']: {OPERATIONS}, got ''"),
        (CUSTOM, '{"operation_overrides": "critical"}', f".operation_overrides: {OPERATIONS}, got 'critical'"),
        (CUSTOM, '{"jitter": "ful"}', ".jitter: must be one of the known names; did you mean 'full'?, got 'ful'"),
        (CUSTOM, '{"max_delay": 1}', ".max_delay: must be at least base_delay 2.0, got 1.0"),
        (CUSTOM, '{"base_delay": 5, "max_delay": 4}', ".base_delay: must not exceed max_delay 4.0, got 5.0"),
        (CUSTOM, '{"attempt_timeout": 31}', ".attempt_timeout: must not exceed deadline 30.0, got 31.0"),
    ],
)
def test_a_wrong_variable_is_a_sentence(variables, sentences, name, value, rest):
    """Variable, rule, nearest valid name; a value in the wrong place is not repeated (invariants 72, 74 and 76)."""
    variables(**{name: value})
    assert [name + rest] == sentences(ResilienceSettings)


RANGES = [
    ("retry_attempts", "whole number", 1, 10),
    ("circuit_breaker_threshold", "whole number", 1, 20),
    ("recovery_timeout", "number of seconds", 10, 300),
    ("base_delay", "number of seconds", 0.1, 10),
    ("max_delay", "number of seconds", 1, 120),
    ("backoff_factor", "number", 1, 5),
    ("deadline", "number of seconds", 1, 600),
    ("attempt_timeout", "number of seconds", 1, 600),
]


@pytest.mark.parametrize(("name", "kind", "low", "high"), RANGES)
def test_ranges_bind_text(sentences, name, kind, low, high):
    """Both ends are allowed, what lies beyond is refused, and so are bool, text and null (invariant 74)."""
    wide = {"base_delay": 0.1, "max_delay": 120, "deadline": 600}
    for right in (low, high):
        assert right == ResilienceSettings(custom_config={**wide, name: right}).custom_config[name]
    for wrong in (low - 0.05, high + 1, True, str(low), None, float("nan")):
        (sentence,) = sentences(ResilienceSettings, custom_config={**wide, name: wrong})
        assert sentence.startswith(f"custom_config.{name}: must be a {kind} from {low:g} to {high:g}, got ")


def test_at_most_ten_overrides_in_a_text(sentences):
    """An eleventh is refused; variables are not limited."""
    ten = {f"op{number}": "critical" for number in range(10)}
    assert 10 == len(ResilienceSettings(custom_config={"operation_overrides": ten}).custom_config["operation_overrides"])
    (sentence,) = sentences(ResilienceSettings, custom_config={"operation_overrides": {**ten, "more": "critical"}})
    assert sentence.startswith("custom_config.operation_overrides: must map at most 10")
    assert 11 == len(ResilienceSettings(operation_overrides={**ten, "more": "critical"}).operation_overrides)


def test_every_setting_has_its_rule_and_its_option():
    """The model of the text, the rules and the options name the same settings."""
    assert set(SETTING_NAMES) == set(CustomConfig.__annotations__) == set(RULES) - {"preset", "operations"}


def test_all_wrong_values_are_told_at_once(variables, sentences):
    """Arguments, variables and misspelt variables in one error."""
    variables(
        RESILIENCE_PRESSET="simple",
        RESILIENCE_CUSTOM_CONFIG='{"deadline": 0, "jiter": "full"}',
        RESILIENCE_OPERATION_QA="x",
        RESILIENCE_ENABLED="?",
    )
    found = sentences(ResilienceSettings, preset="none", operation_overrides={"other": "y"})
    assert [
        "RESILIENCE_PRESSET",
        "preset",
        "RESILIENCE_CUSTOM_CONFIG.deadline",
        "RESILIENCE_CUSTOM_CONFIG.jiter",
        "RESILIENCE_OPERATION_QA",
        "operation_overrides.other",
        "RESILIENCE_ENABLED",
    ] == [sentence.partition(":")[0] for sentence in found]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("RESILIENCE_PRESSET", "RESILIENCE_PRESET"),
        ("RESILIENCE_PRESETS", "RESILIENCE_PRESET"),
        ("RESILIENCE_ENABLE", "RESILIENCE_ENABLED"),
        ("RESILIENCE_CUSTOMCONFIG", "RESILIENCE_CUSTOM_CONFIG"),
        ("RESILIENCE_CONFIGFILE", "RESILIENCE_CONFIG_FILE"),
        ("RESILIENCE_OPERATIONS_QA", "RESILIENCE_OPERATION_QA"),
        ("RESILIENCE_OPERTION_KEY_POINTS", "RESILIENCE_OPERATION_KEY_POINTS"),
        ("RESILIENCE_OPERATION", "RESILIENCE_OPERATION_<NAME>"),
    ],
)
def test_a_misspelt_variable_is_refused(variables, sentences, name, meant):
    """A word that nobody would hear is told, with the name that was meant; its value is not."""
    variables(**{name: "critical"})
    assert [f"{name}: unknown variable; did you mean {meant!r}?"] == sentences(ResilienceSettings)


@pytest.mark.parametrize("name", ["RESILIENCE_STRATEGY", "RESILIENCE_TEAM", "RESILIENCE_API_KEY"])
def test_a_variable_that_is_none_of_ours_is_told_once(variables, caplog, monkeypatch, name):
    """It may be a setting that somebody believes in. Its value is not told, and it is no error (invariant 76)."""
    monkeypatch.setattr("resilience_kit.config.variables._warned_of", set())
    variables(**{name: "sk-canary-7f3a"})
    assert ["simple"] * 2 == [ResilienceSettings().preset for _ in range(2)]
    known = "RESILIENCE_PRESET, RESILIENCE_CUSTOM_CONFIG, RESILIENCE_CONFIG_FILE, RESILIENCE_ENABLED, RESILIENCE_OPERATION_<NAME>"
    assert [f"{name} is no variable of resilience_kit and changes nothing; known: {known}"] == caplog.messages


@pytest.mark.parametrize("name", ["RESILIENCE_API_KEY", "RESILIENCE_TEAM", "RESILIENT_PRESET"])
def test_variables_of_others_are_left_alone(variables, name):
    """Only a name close to one of ours is taken for a mistake."""
    variables(**{name: "anything"})
    assert "simple" == ResilienceSettings().preset


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"custom_config": 5}, "custom_config: must be an object of settings, got 5"),
        ({"custom_config": [1]}, "custom_config: must be an object of settings"),
        (
            {"custom_config": "{"},
            "custom_config: must be JSON: Expecting property name enclosed in double quotes at line 1 column 2",
        ),
        ({"custom_config": {3: 4}}, "custom_config[3]: is not a setting; known: " + ", ".join(sorted(SETTING_NAMES))),
        ({"operation_overrides": "qa"}, "operation_overrides: must map operation names to strategies"),
        ({"operation_overrides": {3: "critical"}}, "operation_overrides: must map operation names to strategies"),
        ({"operation_overrides": {"": "critical"}}, "operation_overrides: must map operation names to strategies"),
        ({"enabled": 1}, "enabled: must be true or false, got 1"),
        ({"config_file": 7}, "config_file: must be the path of a file, got 7"),
        (
            {"operation_overrides": {"a-b": "critical", "a.b": "balanced"}},
            "operation_overrides.a.b: must not differ from another name of RESILIENCE_OPERATION_A_B",
        ),
    ],
)
def test_a_wrong_argument_is_a_sentence(sentences, arguments, sentence):
    """Arguments are held to the rules of their variables."""
    assert [sentence] == sentences(ResilienceSettings, **arguments)


def test_a_file_lies_below_the_variables(variables, tmp_path):
    """The file's preset and settings count where no variable speaks; its overrides are the operator's word."""
    path = tmp_path / "resilience.toml"
    path.write_text(
        """preset = "production"
        deadline = 40
        retry_attempts = 2
        [operation_overrides]
        qa = "balanced"
        key-points = "critical"
        """
    )
    variables(
        RESILIENCE_CONFIG_FILE=str(path), RESILIENCE_CUSTOM_CONFIG='{"retry_attempts": 4}', RESILIENCE_OPERATION_QA="aggressive"
    )
    settings = ResilienceSettings()
    assert ("production", {"deadline": 40.0, "retry_attempts": 4}, path) == (
        settings.preset,
        settings.custom_config,
        settings.config_file,
    )
    assert ("aggressive", "critical") == (settings.operator_strategy("qa"), settings.operator_strategy("key_points"))


def test_a_file_may_hold_the_preset_alone(tmp_path):
    """Then there is nothing over it."""
    path = tmp_path / "resilience.json"
    path.write_text('{"preset": "critical"}')
    settings = ResilienceSettings(config_file=path)
    assert ("critical", None) == (settings.preset, settings.custom_config)


SPELLED_ALIKE = '{"operation_overrides": {"a b": "critical", "a-b": "balanced"}}'


@pytest.mark.parametrize(
    ("content", "rest"),
    [
        ('{"presett": "critical"}', "presett: is not a setting; did you mean 'preset'?"),
        (
            '{"preset": "critcal"}',
            "preset: must be the name of a preset or of a strategy; did you mean 'critical'?, got 'critcal'",
        ),
        ("[1]", "must be an object of settings"),
        ('{"deadline": "5"}', "deadline: must be a number of seconds from 1 to 600, got '5'"),
        ('{"max_delay": 1}', "max_delay: must be at least base_delay 2.0, got 1.0"),
        (SPELLED_ALIKE, "operation_overrides.a-b: must not differ from another name of RESILIENCE_OPERATION_A_B"),
    ],
)
def test_a_wrong_file_is_a_sentence(sentences, tmp_path, content, rest):
    """File, place in it, rule (invariants 72 and 74)."""
    path = tmp_path / "resilience.json"
    path.write_text(content)
    assert [f"{path}: {rest}"] == sentences(ResilienceSettings, config_file=path)


def test_a_wrong_file_hides_no_wrong_variable(variables, sentences, tmp_path):
    """All that is wrong is told at once (invariant 72)."""
    file = tmp_path / "config.toml"
    file.write_text("[operations.qa]\nstrategyy = 'balanced'\n")
    variables(RESILIENCE_CONFIG_FILE=str(file), RESILIENCE_PRESET="prod", RESILIENCE_OPERATION_QA="patient")
    told = sentences(ResilienceSettings)
    assert {"RESILIENCE_OPERATION_QA", "RESILIENCE_PRESET", str(file)} == {each.partition(":")[0] for each in told}


def test_a_missing_file_is_told_along_with_misspelt_variables(variables, sentences):
    """The file that a variable names has to be there."""
    variables(RESILIENCE_CONFIG_FILE="/no/such.toml", RESILIENCE_PRESSET="simple")
    assert [
        "RESILIENCE_PRESSET: unknown variable; did you mean 'RESILIENCE_PRESET'?",
        "/no/such.toml: must be a file that exists",
    ] == sentences(ResilienceSettings)


def test_sources_answer_for_single_fields(variables):
    """What pydantic-settings asks a source for, one field at a time."""
    from resilience_kit.config.settings import _Environment

    variables(RESILIENCE_PRESET="critical")
    field = ResilienceSettings.model_fields["preset"]
    assert ("critical", "preset", False) == _Environment(ResilienceSettings).get_field_value(field, "preset")


def test_a_wrong_variable_is_told_although_an_argument_hides_it(variables, sentences):
    """Else it would be believed in until the argument goes; and it would be shown when the settings are explained."""
    for wrong, rest in {
        '{"deadline": "sk-canary-7f3a"}': ".deadline: must be a number of seconds from 1 to 600",
        "{": ": must be JSON: Expecting property name enclosed in double quotes at line 1 column 2",
    }.items():
        variables(RESILIENCE_CUSTOM_CONFIG=wrong)
        assert [CUSTOM + rest] == sentences(ResilienceSettings, custom_config={"deadline": 20})


def test_settings_are_read_again_with_the_same_arguments(variables, tmp_path):
    """The environment and the file are those of now."""
    path = tmp_path / "app.json"
    path.write_text('{"deadline": 20}')
    variables(RESILIENCE_CONFIG_FILE=str(path))
    first = ResilienceSettings(preset="production", custom_config={"retry_attempts": 9})
    assert first == first.reloaded()
    path.write_text('{"deadline": 30, "retry_attempts": 2}')
    variables(RESILIENCE_ENABLED="no", RESILIENCE_PRESET="critical")
    again = first.reloaded()
    assert ("production", {"deadline": 30.0, "retry_attempts": 9}, False) == (again.preset, again.custom_config, again.enabled)
    assert 20.0 == first.default.deadline


@pytest.mark.parametrize("name", ["RESILIENCE_PRESET", "resilience_enabled", "RESILIENCE_OPERATION_QA"])
def test_a_byte_order_mark_before_a_variables_name_is_told(sentences, monkeypatch, name):
    """The first line of a .env file that was saved with one: it would be no variable of ours, in silence."""
    monkeypatch.setenv("\ufeff" + name, "production")
    (sentence,) = sentences(ResilienceSettings)
    told = "has a byte order mark before its name: save the file that it comes from, such as .env, as UTF-8 without one"
    assert f"{name.upper()}: {told}" == sentence


def test_a_byte_order_mark_before_a_custom_config_is_dropped(variables):
    """As it is in a file."""
    variables(RESILIENCE_CUSTOM_CONFIG="\ufeff" + '{"deadline": 5}')
    assert 5.0 == ResilienceSettings().default.deadline
