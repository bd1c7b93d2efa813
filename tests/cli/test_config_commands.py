"""`resilience-kit config show | explain | schema | templates | diff`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from resilience_kit.config import TEMPLATES, json_schema

FILE = """
preset = "production"
deadline = 90
[operations.qa]
attempt_timeout = 20
[operations."ask twice"]
strategy = "aggressive"
"""


@pytest.fixture
def file(tmp_path):
    """A file of all that one may hold."""
    path = tmp_path / "resilience.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


@pytest.fixture
def six_sources(file, monkeypatch):
    """Every source that an operator has."""
    monkeypatch.setenv("RESILIENCE_CONFIG_FILE", str(file))
    monkeypatch.setenv("RESILIENCE_CUSTOM_CONFIG", '{"retry_attempts": 6, "operation_overrides": {"rank": "aggressive"}}')
    monkeypatch.setenv("RESILIENCE_OPERATION_SUMMARIZE", "critical")


def row(out: str, name: str) -> str:
    """The line of a table that begins with a name, its blanks made single."""
    return next(" ".join(line.split()) for line in out.splitlines() if line.startswith(f"{name} "))


def test_show_without_anything_tells_the_defaults(told) -> None:
    """One table, all of it from the defaults."""
    code, out, err = told("config", "show")
    lines = out.splitlines()
    assert (0, "", "every operation") == (code, err, lines[0])
    assert ["default"] * (len(lines) - 2) == [line.split()[-1] for line in lines[2:]]
    assert "retry_attempts 3 default" == row(out, "retry_attempts")


@pytest.mark.usefixtures("six_sources")
def test_show_tells_the_source_of_every_number(told, file) -> None:
    """The defaults of all operations, then each operation that somebody names, with what makes it different."""
    out = told("config", "show").out
    assert "every other operation" == out.splitlines()[0]
    assert f"preset production file {file}" == row(out, "preset")
    assert f"deadline 90 file {file}" == row(out, "deadline")
    assert "retry_attempts 6 RESILIENCE_CUSTOM_CONFIG" == row(out, "retry_attempts")
    assert "summarize critical 7 300 10 300 RESILIENCE_OPERATION_SUMMARIZE" == row(out, "summarize")
    assert "rank aggressive 2 10 3 30 RESILIENCE_CUSTOM_CONFIG: operation_overrides.rank" == row(out, "rank")
    assert row(out, "qa").startswith("qa critical 7 300 10 300 preset production")
    assert row(out, "qa").endswith(f"; file {file}: operations.qa")
    assert row(out, "ask").startswith("ask twice aggressive")


@pytest.mark.usefixtures("six_sources")
def test_show_as_json_holds_the_same(told) -> None:
    """Each option as value and source; an operation only where it is different."""
    answer = told("config", "show", "--json").json
    assert {"value": 6, "source": "RESILIENCE_CUSTOM_CONFIG"} == answer["default"]["retry_attempts"]
    assert ["ask twice", "key_points", "qa", "questions", "rank", "sentiment", "summarize"] == [*answer["operations"]]
    assert 20 == answer["operations"]["qa"]["attempt_timeout"]["value"]
    assert "idempotent" not in answer["operations"]["qa"]


def test_an_operation_is_named_as_the_preset_spells_it(told, monkeypatch) -> None:
    """A variable's spelling of a known operation is no second one."""
    monkeypatch.setenv("RESILIENCE_CUSTOM_CONFIG", '{"operation_overrides": {"key-points": "critical"}}')
    monkeypatch.setenv("RESILIENCE_OPERATION_KEY_POINTS", "aggressive")
    operations = told("config", "show", "--json").json["operations"]
    assert {"key-points": "aggressive"} == {name: fields["strategy"]["value"] for name, fields in operations.items()}


@pytest.mark.usefixtures("six_sources")
def test_explain_tells_who_decided_and_who_was_overruled(told) -> None:
    """Defaults, preset, file, variable, code, operation's variable and live change, each where it counts."""
    arguments = ("config", "explain", "summarize", "--strategy", "balanced", "--live", "aggressive")
    out = told(*arguments).out
    assert "summarize" == out.splitlines()[0]
    expected = "deadline 10 set_strategy 300 (RESILIENCE_OPERATION_SUMMARIZE); 30 (strategy argument); 120 (preset production"
    assert row(out, "deadline").startswith(expected)
    answer = told(*arguments, "--json").json
    sources = [each["source"] for each in answer["fields"]["retry_attempts"]["overridden"]]
    assert ("summarize", 2) == (answer["operation"], answer["fields"]["retry_attempts"]["value"])
    assert ["RESILIENCE_OPERATION_SUMMARIZE", "strategy argument"] == sources[:2]
    assert ["RESILIENCE_CUSTOM_CONFIG", "preset production", "default"] == sources[-3:]


def test_explain_takes_the_code_s_custom_config(told) -> None:
    """As JSON."""
    fields = told("config", "explain", "qa", "--custom-config", '{"retry_attempts": 9}', "--json").json["fields"]
    assert (9, "custom_config argument") == (fields["retry_attempts"]["value"], fields["retry_attempts"]["source"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["", "--json"], "operation: must be a name: text that is not blank, got ''"),
        (["qa", "--strategy", "critcal"], "strategy: must be the name of a strategy; did you mean 'critical'?, got 'critcal'"),
        (["qa", "--live", "critcal"], "live: must be the name of a strategy; did you mean 'critical'?, got 'critcal'"),
        (["qa", "--custom-config", "[1]"], "--custom-config: must be a JSON object"),
        (["qa", "--custom-config", "x"], "--custom-config: must be JSON: Expecting value at line 1 column 1"),
        (["qa", "--custom-config", '{"deadlin": 0}'], "custom_config.deadlin: is not a setting; did you mean 'deadline'?"),
        (["qa", "--app", "nowhere.to.be"], "--app: cannot import 'nowhere.to.be': there is no module 'nowhere'"),
        (["qa", "--app", ""], "--app: '' must be MODULE or MODULE:ATTRIBUTE"),
        (["qa", "--app", ".code"], "--app: '.code' must be MODULE or MODULE:ATTRIBUTE"),
        (["qa", "--app", "a/b"], "--app: 'a/b' must be MODULE or MODULE:ATTRIBUTE"),
        (["qa", "--app", ".py"], "--app: '.py' must be MODULE or MODULE:ATTRIBUTE"),
        (["qa", "--app", "./a/b.py:kit"], "--app: './a/b.py:kit' must be MODULE or MODULE:ATTRIBUTE; did you mean 'a.b'?"),
        (["qa", "--app", "a", "--strategy", "b"], "--app tells what the code asks for: leave out --strategy and --custom-config"),
    ],
)  # fmt: skip
def test_explain_says_what_is_wrong(arguments, expected, sentence) -> None:
    """In one sentence."""
    assert expected == sentence("config", "explain", *arguments)


@pytest.mark.parametrize(
    ("operation", "note"),
    [
        ("summarise", "no source names the operation 'summarise'; did you mean 'summarize'?"),
        ("x", "no source names the operation 'x'"),
        ("Ask-Twice", ""),
        ("sentiment", ""),
        ("rank", ""),
    ],
)
@pytest.mark.usefixtures("six_sources")
def test_explain_says_when_nobody_speaks_of_an_operation(operation, note, told) -> None:
    """Its name may be misspelt; the answer is right all the same."""
    out = told("config", "explain", operation).out
    assert (note or "idle_timeout", 0) == (out.splitlines()[-1].strip().split("  ")[0], told("config", "explain", operation).code)
    assert note == told("config", "explain", operation, "--json").json["note"]


@pytest.mark.parametrize("option", [["--strategy", "critical"], ["--live", "critical"], ["--custom-config", '{"deadline": 9}']])
def test_an_operation_of_the_code_is_spoken_of(option, told) -> None:
    """By whoever tells what the code asks for."""
    assert "" == told("config", "explain", "x", *option, "--json").json["note"]


@pytest.mark.parametrize("arguments", [["config", "explain", "slow"], ["config", "show"]])
def test_a_value_that_was_cut_says_so(arguments, told, tmp_path, monkeypatch) -> None:
    """Beside its source, and as JSON."""
    file = tmp_path / "cut.toml"
    file.write_text("[operations.slow]\nattempt_timeout = 45\n")
    monkeypatch.setenv("RESILIENCE_CONFIG_FILE", str(file))
    if arguments[1] == "explain":
        wanted = f"attempt_timeout 30 file {file}: operations.slow (45, cut to the deadline) 12 (default)"
        assert wanted == row(told(*arguments).out, "attempt_timeout")
    answer = told(*arguments, "--json").json
    fields = answer["fields"] if arguments[1] == "explain" else answer["operations"]["slow"]
    assert (30, "45, cut to the deadline") == (fields["attempt_timeout"]["value"], fields["attempt_timeout"]["note"])


APP = """
import sys
from resilience_kit import AIServiceResilience, with_resilience

print("loading")

@with_resilience("qa", strategy="critical", deadline=7)
async def ask(): ...

@with_resilience("another", custom_config={"base_delay": 20.0})
def wrong(): ...

class Box:
    kit = AIServiceResilience()

@Box.kit.with_resilience("qa", custom_config={"retry_attempts": 9})
def ask_again(): ...
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """An application in the current folder."""

    def write(source: str) -> str:
        (tmp_path / "a_shop.py").write_text(source, encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        monkeypatch.delitem(sys.modules, "a_shop", raising=False)
        return "a_shop"

    yield write
    sys.modules.pop("a_shop", None)


def test_explain_asks_the_default_orchestrator_of_an_app(told, program) -> None:
    """It knows the strategy in the code of a function that was never called, and is not stopped by a mistake in another one.

    What the app prints is not in the answer.
    """
    code, out, err = told("config", "explain", "qa", "--app", program(APP), "--json")
    fields = json.loads(out)["fields"]
    assert (0, "loading\n", "") == (code, err, json.loads(out)["note"])
    assert ("critical", "strategy argument") == (fields["strategy"]["value"], fields["strategy"]["source"])
    assert (7, "deadline argument") == (fields["deadline"]["value"], fields["deadline"]["source"])
    assert "" not in sys.path


def test_explain_asks_the_orchestrator_that_an_app_holds(told, program) -> None:
    """Named by its attribute, and with a change while running."""
    app = f"{program(APP)}:Box.kit"
    as_it_is = told("config", "explain", "qa", "--app", app, "--json")
    assert 9 == json.loads(as_it_is.out)["fields"]["retry_attempts"]["value"]
    assert (
        "no source names the operation 'qaa'; did you mean 'qa'?"
        == told("config", "explain", "qaa", "--app", app, "--json").json["note"]
    )
    changed = told("config", "explain", "qa", "--app", app, "--live", "critical", "--json")
    assert "set_strategy" == json.loads(changed.out)["fields"]["retry_attempts"]["source"]


MISCONFIGURED = """
from resilience_kit.errors import ConfigurationError
raise ConfigurationError([("JOB_TIMEOUT", "must be a number", "abc")])
"""


@pytest.mark.parametrize(
    ("source", "attribute", "expected"),
    [
        ("import not_there.at_all", "", "--app: cannot import 'a_shop': there is no module 'not_there'"),
        ("raise KeyError('sk-secret')", "", "--app: cannot import 'a_shop': it raises KeyError at {folder}/a_shop.py:1"),
        ("raise SystemExit(7)", "", "--app: cannot import 'a_shop': it raises SystemExit at {folder}/a_shop.py:1"),
        ("def f():\n  1 +", "", "--app: cannot import 'a_shop': it raises SyntaxError at {folder}/a_shop.py:2"),
        ("compile('1 +', None, 'exec')", "", "--app: cannot import 'a_shop': it raises TypeError at {folder}/a_shop.py:1"),
        ("x = 1\nint('sk-secret')", "", "--app: cannot import 'a_shop': it raises ValueError at {folder}/a_shop.py:2"),
        ("\nraise SyntaxError", "", "--app: cannot import 'a_shop': it raises SyntaxError at {folder}/a_shop.py:2"),
        (MISCONFIGURED, "", "--app: cannot import 'a_shop': JOB_TIMEOUT: must be a number, got 'abc'"),
        ("kit = 1", ":kti", "--app: the module 'a_shop' has no 'kti'"),
        ("kit = 1", ":kit", "--app: 'a_shop:kit' must be an AIServiceResilience, got int"),
    ],
)
def test_an_app_that_cannot_be_asked_is_one_sentence(source, attribute, expected, sentence, program, tmp_path) -> None:
    """And nothing of what its error says, but for one of ours, which has no secret."""
    said = sentence("config", "explain", "qa", "--app", program(source) + attribute)
    assert expected.format(folder=tmp_path) == said


@pytest.mark.parametrize("what", ["custom_config", "file", "preset", "template_overrides"])
def test_the_schema_is_json_for_people_too(what, told) -> None:
    """Of a file, unless told otherwise."""
    assert (
        json_schema(what) == told("config", "schema", "--of", what).json == told("config", "schema", "--of", what, "--json").json
    )
    assert json_schema("file") == told("config", "schema").json


def test_an_unknown_schema_is_one_sentence(sentence) -> None:
    """It names the option."""
    assert sentence("config", "schema", "--of", "fiel").startswith("Invalid value for '--of'")


def test_templates_are_listed(told) -> None:
    """With their numbers and what they are for."""
    code, out, err = told("config", "templates")
    assert (0, "", len(TEMPLATES) + 2) == (code, err, len(out.splitlines()))
    assert row(out, "low_latency").startswith("low_latency 1 2 10 aggressive for somebody who types")
    assert [*TEMPLATES] == [each["name"] for each in told("config", "templates", "--json").json]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_printed_as_a_valid_file(name, told, tmp_path) -> None:
    """What is printed can be kept, loads, and comes to the same as the template."""
    file = tmp_path / "resilience.toml"
    file.write_text(told("config", "templates", name).out, encoding="utf-8")
    assert 0 == told("config", "validate", str(file)).code
    assert (0, "no difference\n", "") == told("config", "diff", name, str(file))
    assert TEMPLATES[name].settings() == told("config", "templates", name.upper(), "--json").json["settings"]


def test_an_unknown_template_is_one_sentence(sentence) -> None:
    """With the nearest name."""
    assert "'low_latenzy' is not the name of a template; did you mean 'low_latency'?" == sentence(
        "config", "templates", "low_latenzy"
    )


def test_a_difference_is_told_by_field(told) -> None:
    """The defaults of all operations first, then operations by name."""
    code, out, err = told("config", "diff", "simple", "development")
    assert (0, "", ["field", "simple", "development"]) == (code, err, out.splitlines()[0].split())
    assert ["strategy balanced aggressive", "retry_attempts 3 2"] == [row(out, "strategy"), row(out, "retry_attempts")]
    assert "sentiment.strategy balanced aggressive" == row(out, "sentiment.strategy")
    assert "qa.strategy" not in out


def test_a_difference_as_json(told) -> None:
    """Field, A, B."""
    answer = told("config", "diff", "Critical", "BALANCED", "--json").json
    assert ("Critical", "BALANCED") == (answer["a"], answer["b"])
    assert {"field": "retry_attempts", "a": 7, "b": 3} in answer["differences"]


@pytest.mark.parametrize(("a", "b"), [("simple", "balanced"), ("production", "production")])
def test_what_comes_to_the_same_has_no_difference(a, b, told, monkeypatch) -> None:
    """Whatever is set in this environment."""
    monkeypatch.setenv("RESILIENCE_CUSTOM_CONFIG", "nonsense")
    assert (0, "no difference\n", "") == told("config", "diff", a, b)
    assert [] == told("config", "diff", a, b, "--json").json["differences"]


def test_files_are_compared_with_names(told, file) -> None:
    """A file says its preset itself."""
    out = told("config", "diff", "production", str(file)).out
    assert ["deadline 120 90", "qa.attempt_timeout 90 20"] == [row(out, "deadline"), row(out, "qa.attempt_timeout")]
    assert "key_points" not in out


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("prodction", "'prodction' is no preset, strategy, template or file; did you mean 'production'?"),
        ("no.toml", "no.toml: must be a file that exists"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(name, expected, sentence, monkeypatch, tmp_path) -> None:
    """With the nearest name where it is no file."""
    monkeypatch.chdir(tmp_path)
    assert expected == sentence("config", "diff", "simple", name)
    assert expected == sentence("config", "diff", name, "simple")


def test_a_wrong_file_is_not_compared(sentence, tmp_path) -> None:
    """It is no answer, so exit code 2."""
    file = Path(tmp_path / "x.json")
    file.write_text('{"retry_attempts": 11}')
    assert f"{file}: retry_attempts: must be a whole number from 1 to 10, got 11" == sentence(
        "config", "diff", str(file), "simple"
    )
