"""Reading texts: what JSON and TOML readers let through in silence is refused."""

import codecs
import functools
import json
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience_kit._nesting import nesting_depth
from resilience_kit.config.parsing import MAX_TEXT_BYTES, read_file, strict_json
from resilience_kit.config.redaction import redact_value
from resilience_kit.errors import REDACTED, ConfigurationError


def test_plain_json_is_read():
    """The value, as the standard reader gives it."""
    assert {"a": [1, 2.5, None, True]} == strict_json('{"a": [1, 2.5, null, true]}', "X")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"a": 1, "a": 2}', "X.a: must not be given twice"),
        ('{"b": {"a": 1, "c": 0, "a": 2}}', "X.b.a: must not be given twice"),
        ('{"b": [{"a b": 1, "a b": 2}]}', "X.b[0]['a b']: must not be given twice"),
        ("[NaN]", "X[0]: must be a finite number"),
        ("[0, -Infinity]", "X[1]: must be a finite number"),
        ('{"a": 1e999}', "X.a: must be a finite number"),
        ("9007199254740993", "X: must be a number from -2**53 to 2**53"),
        ("-9007199254740993", "X: must be a number from -2**53 to 2**53"),
        ("", "X: must be JSON: Expecting value at line 1 column 1"),
        ("{'a': 1}", "X: must be JSON: Expecting property name enclosed in double quotes at line 1 column 2"),
        ('["\\ud800"]', "X[0]: must hold no control, format or other unprintable character, but holds U+D800"),
        pytest.param("9" * 5000, "X: must be a number from -2**53 to 2**53", id="digits"),
        pytest.param("[" * 200_000, "X: must not be nested more than 64 deep", id="deep"),
        pytest.param("[" * 65 + "]" * 65, f"X{'[0]' * 64}: must not be nested more than 64 deep", id="deeper"),
        pytest.param(" " * (MAX_TEXT_BYTES + 1), f"X: must be at most {MAX_TEXT_BYTES} characters long", id="long"),
        pytest.param('["' + "x" * 65537 + '"]', "X[0]: must be at most 65536 characters long", id="string"),
        pytest.param(str({f"{n}": n for n in range(10_001)}).replace("'", '"'), "X: must hold at most 10000 keys", id="keys"),
        pytest.param(
            str([{f"{n}": n for n in range(5_001)}] * 2).replace("'", '"'), "X[1]: must hold at most 4999 keys", id="all-keys"
        ),
    ],
)
def test_json_that_must_not_be_obeyed_is_a_sentence(sentences, text, sentence):
    """Duplicate keys, numbers that are not finite or huge, broken, deep and long texts, with path (invariants 72 to 74)."""
    assert [sentence] == sentences(strict_json, text, "X")


@pytest.mark.parametrize("depth", [65, 151, 500, 1000, 3000, 100_000])
@pytest.mark.parametrize("shape", ["[{}", '{{"a":{}', '[{{"a b":{}'])
def test_depth_is_judged_before_any_parser_is_asked(sentences, depth, shape):
    """By the same rule on every interpreter, whether the text is whole or ends in the middle (invariants 72 and 73)."""
    opened, closed = shape.format(""), {"[": "]", "{": "}"}
    text = opened * depth
    ends = "".join(closed[sign] for sign in reversed(opened) if sign in closed)
    for whole in (text, text + "1" + ends * depth):
        (sentence,) = sentences(strict_json, whole, "X")
        assert sentence.startswith("X")
        assert sentence.endswith(": must not be nested more than 64 deep")


@given(
    st.recursive(
        st.none() | st.text(max_size=5) | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    )
)
def test_the_scan_sees_the_depth_of_any_json(value):
    """Brackets in strings are none, escaped quotes end no string."""

    def depth(of):
        inner = of.values() if isinstance(of, dict) else of if isinstance(of, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    for indent in (None, 1):
        for ascii_only in (True, False):
            assert depth(value) == nesting_depth(json.dumps(value, indent=indent, ensure_ascii=ascii_only), -1)


@pytest.mark.slow
def test_the_scan_costs_no_square():
    """A megabyte of quotes, backslashes or brackets is looked at once."""
    for sign in ('"', '\\"', "\\", "[", "]", '"[', "'", '"""', "#["):
        for toml in (False, True):
            begun = time.perf_counter()
            nesting_depth("[[" + sign * (1_000_000 // len(sign)), 1, toml=toml)
            assert time.perf_counter() - begun < 5.0


@pytest.mark.parametrize(
    ("text", "depth"),
    [
        ("a = [[1], [2, [3]]]", 3),
        ('a = "[[[" # [[[[\nb = [1]', 1),
        ("a = '[[[\\'\nb = [[1]]", 2),
        ('a = """[[ "" [[\n[["""\nb = [1]', 1),
        ("a = '''[[ '' [[\n[['''\nb = [1]", 1),
        ('a = "[[[\nb = [1]', 1),
        ("[[tables]]\na = {b = [1]}", 2),
    ],
)
def test_the_scan_knows_the_strings_and_comments_of_toml(text, depth):
    """A string in single quotes has no escapes; one line's ends with the line."""
    assert depth == nesting_depth(text, -1, toml=True)


def test_toml_that_is_too_deep_is_refused_by_the_same_rule(sentences, tmp_path):
    """However deep: by the scan, or by the copy that follows."""
    path = tmp_path / "a.toml"
    for depth in (65, 200, 5000, 20_000):
        path.write_text("a = " + "[" * depth + "]" * depth)
        (sentence,) = sentences(read_file, path)
        assert sentence.endswith("must not be nested more than 64 deep")


# --- byte order marks ----------------------------------------------------------------------------------------------------------

MARKED = codecs.BOM_UTF8


@pytest.mark.parametrize(("name", "content"), [("a.toml", b"deadline = 5"), ("a.json", b'{"deadline": 5}')])
def test_a_file_with_a_byte_order_mark_is_read(tmp_path, name, content):
    """As Windows editors save it."""
    path = tmp_path / name
    path.write_bytes(MARKED + content)
    assert {"deadline": 5} == read_file(path)


def test_a_text_with_a_byte_order_mark_is_read():
    """Such as the value of a variable."""
    assert {"deadline": 5} == strict_json("\ufeff" + '{"deadline": 5}', "X")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["a.toml", "a.json"])
def test_a_file_in_another_encoding_is_told_by_its_name(sentences, tmp_path, name, encoding):
    """PowerShell writes UTF-16 by default."""
    path = tmp_path / name
    path.write_bytes("deadline = 5".encode(encoding))
    (sentence,) = sentences(read_file, path)
    assert f"{path}: must be text in UTF-8, but is in UTF-{'32' if '32' in encoding else '16'}: save it as UTF-8" == sentence


def test_a_file_that_holds_a_mark_only_is_empty(sentences, tmp_path):
    """As one without it."""
    path = tmp_path / "a.toml"
    path.write_bytes(MARKED + b" \n")
    assert [f"{path}: must not be empty"] == sentences(read_file, path)


def test_the_largest_that_is_allowed_is_read():
    """64 levels, a string of 64 KiB, 10 000 keys, whole numbers to 2**53 (invariant 73)."""
    for value in ("x" * 65536, {str(n): n for n in range(10_000)}, [2**53, -(2**53)]):
        assert value == strict_json(json.dumps(value), "X")
    assert [] == functools.reduce(lambda inner, _: inner[0], range(63), strict_json("[" * 64 + "]" * 64, "X"))


def test_many_repeated_keys_are_found_at_once(sentences):
    """A text of 1 MiB does not cost the square of its keys."""
    text = "{" + ",".join(f'"{n % 60_000}": 1' for n in range(60_001)) + "}"
    assert ["X['0']: must not be given twice"] == sentences(strict_json, text, "X")


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
        pytest.param("a.json", b" " * (MAX_TEXT_BYTES + 1), f"must be at most {MAX_TEXT_BYTES} bytes long", id="long"),
        ("a.json", b"{", "must be JSON: Expecting property name"),
        ("a.json", b"", "must not be empty"),
        ("a.toml", b" \n\t", "must not be empty"),
        ("a.toml", b"[sk-proj-abc]\n[sk-proj-abc]", "must be TOML: Cannot declare ... twice (at line 2, column 13)"),
        ("a.toml", b'["a\')b"]\n["a\')b"]', "must be TOML: Cannot declare ... twice (at line 2, column "),
        ("a.toml", b"x = {a=1, a=2}", "must be TOML: "),
        ("a.toml", b"a = {b=1}\n[a.c]", "must be TOML: Cannot declare ... twice (at line 2, column 5)"),
        ("a.toml", b"# ok\n" + b"a." * 65 + b"a = 1", "must not be nested more than 64 deep, as the dots in line 2 say"),
        pytest.param("a.toml", b"a = [" + b"1," * 25_000 + b"]", "must be shorter: it holds more than 25000 keys", id="items"),
        ("a.json", b"1e999", "must be a finite number"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_sentence(sentences, tmp_path, name, content, rule):
    """The sentence names the file (invariants 72 and 73)."""
    path = tmp_path / name
    path.write_bytes(content)
    (sentence,) = sentences(read_file, path)
    assert sentence.startswith(f"{path}: {rule}")


def test_a_place_in_a_file_is_named_with_it(sentences, tmp_path):
    """File, JSON path and rule; TOML's dates are no values of ours (invariants 72 and 73)."""
    for name, content in {"a.json": '{"b": {"c": [1e999]}}', "a.toml": "b.c = [inf]", "b.toml": "b.c = [2026-01-01]"}.items():
        (tmp_path / name).write_text(content)
    value = "must be text, a number, true, false, null, a list or an object"
    for name, rule in {"a.json": "must be a finite number", "a.toml": "must be a finite number", "b.toml": value}.items():
        assert [f"{tmp_path / name}: b.c[0]: {rule}"] == sentences(read_file, tmp_path / name)


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

    monkeypatch.setattr(type(path), "open", refuse)
    assert [f"{path}: must be readable: Permission denied"] == sentences(read_file, path)


@pytest.mark.parametrize("value", [None, True, 3, 2.5, "short"])
def test_short_values_are_shown(value):
    """What fits into a sentence helps its reader."""
    assert value is redact_value(value)


SECRETS = ["sk-proj-abc", "Bearer abc", "ghp_abc", "eyJhbGciOi", "AKIAIOSFODNN7", "x1" * 10, "redis://:pw@host", "-----BEGIN X"]


@pytest.mark.parametrize("value", [pytest.param(10**5000, id="huge"), "x" * 65, ["a"], {"a": 1}, *SECRETS])
def test_long_nested_and_secret_looking_values_are_not_shown(value):
    """They are or may hold a secret, and an int of thousands of digits cannot even be printed (invariant 76)."""
    assert REDACTED is redact_value(value)
    assert "X: wrong" == str(ConfigurationError([("X", "wrong", redact_value(value))]))


def test_comments_and_lines_of_toml_that_only_look_costly_are_read(tmp_path):
    """Dots in a comment, and as many of them as a name may have."""
    path = tmp_path / "a.toml"
    path.write_text("# " + "." * 200 + "\n" + "a." * 60 + "a = 1\n")
    assert {"a"} == read_file(path).keys()


def test_a_file_that_grows_while_it_is_read_is_refused(monkeypatch, tmp_path, sentences):
    """What was measured is not what is there: no more than 1 MiB is read in any case (invariant 73)."""
    path = tmp_path / "a.json"
    path.write_bytes(b" " * (MAX_TEXT_BYTES + 1))
    small = path.parent.stat()
    monkeypatch.setattr(type(path), "stat", lambda self, **_: small)
    monkeypatch.setattr(type(path), "is_file", lambda self: True)
    assert [f"{path}: must be at most {MAX_TEXT_BYTES} bytes long"] == sentences(read_file, path)
