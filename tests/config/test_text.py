"""Reading texts: what JSON and TOML readers let through in silence is refused."""

import os

import pytest

from resilience_kit.config.text import LARGEST, read_file, shown, strict_json
from resilience_kit.errors import NOT_SHOWN, ConfigurationError


def test_plain_json_is_read():
    """The value, as the standard reader gives it."""
    assert {"a": [1, 2.5, None, True]} == strict_json('{"a": [1, 2.5, null, true]}', "X")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ('{"a": 1, "a": 2}', "must not hold the key 'a' twice"),
        ('{"b": {"a": 1, "c": 0, "a": 2}}', "must not hold the key 'a' twice"),
        ("[NaN]", "must hold finite numbers only, not NaN"),
        ("[-Infinity]", "must hold finite numbers only, not -Infinity"),
        ("[1e999]", "must hold finite numbers only"),
        ("", "must be JSON: Expecting value at line 1 column 1"),
        ("{'a': 1}", "must be JSON: Expecting property name enclosed in double quotes at line 1 column 2"),
        pytest.param("9" * 5000, "must not hold a number of thousands of digits", id="digits"),
        pytest.param("[" * 200_000, "must not be nested so deeply", id="deep"),
        pytest.param(" " * (LARGEST + 1), f"must be at most {LARGEST} characters long", id="long"),
    ],
)
def test_json_that_must_not_be_obeyed_is_a_sentence(sentences, text, rule):
    """Duplicate keys, numbers that are not finite, broken, deep and long texts (invariants 72 to 74)."""
    assert [f"X: {rule}"] == sentences(strict_json, text, "X")


def test_the_text_is_not_repeated(sentences):
    """A secret in a broken text stays out of the message."""
    (sentence,) = sentences(strict_json, '{"key": sk-secret}', "X")
    assert "secret" not in sentence


def test_files_are_read_by_their_ending(tmp_path):
    """.json and .toml, in any case."""
    (tmp_path / "a.json").write_text('{"deadline": 5}')
    (tmp_path / "b.TOML").write_text("deadline = 5")
    assert {"deadline": 5} == read_file(tmp_path / "a.json") == read_file(tmp_path / "b.TOML")


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("a.yaml", b"", "must be a .toml or a .json file"),
        ("a.toml", b"a = 1\na = 2", "must be TOML: Cannot overwrite a value"),
        pytest.param("a.toml", b"a = " + b"9" * 5000, "must be TOML", id="digits"),
        ("a.json", b"\xff", "must be text in UTF-8"),
        pytest.param("a.json", b" " * (LARGEST + 1), f"must be at most {LARGEST} bytes long", id="long"),
        ("a.json", b"{", "must be JSON: Expecting property name"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_sentence(sentences, tmp_path, name, content, rule):
    """The sentence names the file (invariants 72 and 73)."""
    path = tmp_path / name
    path.write_bytes(content)
    (sentence,) = sentences(read_file, path)
    assert sentence.startswith(f"{path}: {rule}")


def test_what_is_no_file_is_refused(sentences, tmp_path):
    """Missing files and folders; a pipe would otherwise be waited for."""
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("missing.json", "pipe.json"):
        path = tmp_path / name
        assert [f"{path}: must be a file that exists"] == sentences(read_file, path)


def test_a_file_that_cannot_be_opened_is_a_sentence(monkeypatch, tmp_path, sentences):
    """The system's reason is told."""
    path = tmp_path / "a.json"
    path.write_text("{}")

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "read_text", refuse)
    assert [f"{path}: must be readable: Permission denied"] == sentences(read_file, path)


@pytest.mark.parametrize("value", [None, True, 3, 2.5, "short"])
def test_short_values_are_shown(value):
    """What fits into a sentence helps its reader."""
    assert value is shown(value)


@pytest.mark.parametrize("value", [pytest.param(10**5000, id="huge"), "x" * 65, ["a"], {"a": 1}])
def test_long_and_nested_values_are_not_shown(value):
    """They may hold a secret, and an int of thousands of digits cannot even be printed."""
    assert NOT_SHOWN is shown(value)
    assert "X: wrong" == str(ConfigurationError([("X", "wrong", shown(value))]))
