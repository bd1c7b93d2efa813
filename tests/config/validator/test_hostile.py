"""More than a hundred inputs that somebody might try: each is refused with its path and its rule (invariants 72, 74 and 76)."""

import json

import pytest

from resilience_kit._nesting import MAX_PARSED_DEPTH, nesting_depth
from resilience_kit.config import ResilienceConfigValidator
from resilience_kit.config.text_models import CUSTOM

RULES = CUSTOM.rules
ROOT = "configuration"
TOO_LONG = "must be at most 4096 bytes long"
TOO_DEEP = "must not be nested more than 10 deep"
TWICE = "must not be given twice"
FINITE = "must be a finite number"
HUGE = "must be a number from -2**53 to 2**53"
HIDDEN = "must hold no control, format or other unprintable character, but holds U+"
NO_OBJECT = "must be an object of settings"
NO_JSON = "must be JSON: "
NO_SETTING = "is not a setting; "
NO_STRATEGY = "must be the name of a strategy; "
SECRET = "sk-proj-Zm9vYmFyYmF6cXV4"

NUMBERS = {
    "retry_attempts": (1, 10),
    "circuit_breaker_threshold": (1, 20),
    "recovery_timeout": (10, 300),
    "base_delay": (0.1, 10),
    "max_delay": (1, 120),
    "backoff_factor": (1, 5),
    "deadline": (1, 600),
    "attempt_timeout": (1, 600),
}

#: (what comes in, where it is wrong, how the rule begins)
SIZE_AND_ENCODING = [
    ("", ROOT, NO_JSON),
    (" ", ROOT, NO_JSON),
    (b"", ROOT, NO_JSON),
    (" " * 4097, ROOT, TOO_LONG),
    ("x" * 10_000_000, ROOT, TOO_LONG),
    (b"x" * 10_000_000, ROOT, TOO_LONG),
    (bytearray(5000), ROOT, TOO_LONG),
    ("\u00e9" * 2049, ROOT, TOO_LONG),
    ("\U0001f600" * 1025, ROOT, TOO_LONG),
    (b"\xff\xfe{\x00}\x00", ROOT, "must be text in UTF-8"),
    (b"\xc3\x28", ROOT, "must be text in UTF-8"),
    (b"\xed\xa0\x80", ROOT, "must be text in UTF-8"),
    (b"\xc0\xaf", ROOT, "must be text in UTF-8"),
    ('{"deadline": 5}'.encode("utf-16"), ROOT, "must be text in UTF-8"),
    ('{"deadline": 5}'.encode("utf-32-be"), ROOT, NO_JSON),
    ('\ufeff{"deadline": 5}', ROOT, NO_JSON),
    (b'\xef\xbb\xbf{"deadline": 5}', ROOT, NO_JSON),
    ("\0", ROOT, NO_JSON),
    ("\ud800", ROOT, NO_JSON),
]
SYNTAX = [
    ("{", ROOT, NO_JSON),
    ("}", ROOT, NO_JSON),
    ('{"deadline"', ROOT, NO_JSON),
    ('{"deadline": }', ROOT, NO_JSON),
    ('{"deadline": 5,}', ROOT, NO_JSON),
    ('{"deadline": 5} {}', ROOT, NO_JSON),
    ('{"deadline": 5}\0', ROOT, NO_JSON),
    ("{'deadline': 5}", ROOT, NO_JSON),
    ("{deadline: 5}", ROOT, NO_JSON),
    ('{"deadline": 5 // soon\n}', ROOT, NO_JSON),
    ('{"deadline": /* soon */ 5}', ROOT, NO_JSON),
    ('{"deadline": 05}', ROOT, NO_JSON),
    ('{"deadline": +5}', ROOT, NO_JSON),
    ('{"deadline": 0x10}', ROOT, NO_JSON),
    ('{"deadline": 5.}', ROOT, NO_JSON),
    ('{"deadline": .5}', ROOT, NO_JSON),
    ('{"deadline": 1_0}', ROOT, NO_JSON),
    ('{"deadline": "5}', ROOT, NO_JSON),
    ('{"jitter": "fu\\ll"}', ROOT, NO_JSON),
    ('{"jitter": "\\u00"}', ROOT, NO_JSON),
    ('{"jitter": "fu\nll"}', ROOT, NO_JSON),
    ("deadline = 5", ROOT, NO_JSON),
    ("deadline: 5", ROOT, NO_JSON),
    ("!!python/object/apply:os.system ['id']", ROOT, NO_JSON),
    ("<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>", ROOT, NO_JSON),
    ("__import__('os').system('id')", ROOT, NO_JSON),
    ("undefined", ROOT, NO_JSON),
]
STRUCTURE = [
    ("null", ROOT, NO_OBJECT),
    ("true", ROOT, NO_OBJECT),
    ("3", ROOT, NO_OBJECT),
    ('"deadline"', ROOT, NO_OBJECT),
    ("[]", ROOT, NO_OBJECT),
    ('[["deadline", 5]]', ROOT, NO_OBJECT),
    ("{}", ROOT, "must hold at least one setting"),
    ("[" * 11 + "]" * 11, "[0]" * 10, TOO_DEEP),
    ("[" * 2000 + "]" * 2000, ROOT, TOO_DEEP),
    ("[" * 4096, ROOT, TOO_DEEP),
    ('{"a":' * 800, ROOT, TOO_DEEP),
    ('{"a":' * 11, ROOT, TOO_DEEP),
    ('{"a":' * 10, ROOT, NO_JSON),
    ('["' + "[" * 60 + '", [1}', ROOT, NO_JSON),
    ('{"a":' * 11 + "1" + "}" * 11, ".".join("a" * 10), TOO_DEEP),
    ('{"deadline": 5, "deadline": 6}', "deadline", TWICE),
    ('{"deadline": 5, "dead\\u006cine": 6}', "deadline", TWICE),
    ('{"operation_overrides": {"qa": "critical", "qa": "balanced"}}', "operation_overrides.qa", TWICE),
    ('{"": 1, "": 2}', "['']", TWICE),
    (f'{{"{SECRET}": 1, "{SECRET}": 2}}', "[<name not shown>]", TWICE),
    (json.dumps({f"n{n}": n for n in range(51)}), ROOT, "must hold at most 50 keys"),
    (json.dumps({"deadline": list(range(21))}), "deadline", "must hold at most 20 items"),
    (json.dumps({"jitter": "x" * 201}), "jitter", "must be at most 200 characters long"),
    (json.dumps({"x" * 201: 1}), "[<name not shown>]", "must be at most 200 characters long"),
    ('{"deadline": NaN}', "deadline", FINITE),
    ('{"deadline": Infinity}', "deadline", FINITE),
    ('{"deadline": -Infinity}', "deadline", FINITE),
    ('{"deadline": 1e999}', "deadline", FINITE),
    ('{"deadline": -1e999}', "deadline", FINITE),
    ('{"deadline": ' + "9" * 4000 + "}", "deadline", HUGE),
    ('{"deadline": -' + "9" * 4000 + "}", "deadline", HUGE),
    ('{"deadline": 9007199254740993}', "deadline", HUGE),
    ('{"retry_attempts": 18446744073709551616}', "retry_attempts", HUGE),
]
CHARACTERS = [
    (
        json.dumps({"operation_overrides": {f"q{char}a": "critical"}}),
        "operation_overrides[<name not shown>]",
        f"{HIDDEN}{ord(char):04X}",
    )
    for char in ("\0", "\n", "\x1b", "\x7f", "\x85", "\xad", "\u061c", "\u200b", "\u200d", "\u200e", "\u2028", "\u202e", "\u2066")
] + [
    ('{"operation_overrides": {"q\\ud800a": "critical"}}', "operation_overrides[<name not shown>]", HIDDEN + "D800"),
    ('{"operation_overrides": {"q\ufeffa": "critical"}}', "operation_overrides[<name not shown>]", HIDDEN + "FEFF"),
    ('{"operation_overrides": {"q\U000e0041a": "critical"}}', "operation_overrides[<name not shown>]", HIDDEN + "E0041"),
    ('{"jitter": "full\u200b"}', "jitter", HIDDEN + "200B"),
    ('{"dead\u200bline": 5}', "[<name not shown>]", HIDDEN + "200B"),
]
NAMES = [
    ('{"dedline": 5}', "dedline", NO_SETTING + "did you mean 'deadline'?"),
    ('{"Deadline": 5}', "Deadline", NO_SETTING + "did you mean 'deadline'?"),
    ('{"deadline ": 5}', "['deadline ']", NO_SETTING + "did you mean 'deadline'?"),
    ('{"d\u0435adline": 5}', "['d\u0435adline']", NO_SETTING + "did you mean 'deadline'?"),
    ('{"retryAttempts": 5}', "retryAttempts", NO_SETTING + "did you mean 'retry_attempts'?"),
    ('{"preset": "production"}', "preset", NO_SETTING),
    ('{"operations": {"qa": {"deadline": 5}}}', "operations", NO_SETTING),
    ('{"__proto__": {"deadline": 5}}', "__proto__", NO_SETTING),
    ('{"__class__": "os"}', "__class__", NO_SETTING),
    ('{"constructor": {}}', "constructor", NO_SETTING),
    ('{"": 5}', "['']", NO_SETTING),
    ('{"$ref": "file:///etc/passwd"}', "['$ref']", NO_SETTING),
    ('{"deadline.x": 5}', "['deadline.x']", NO_SETTING),
    ('{"deadline": 5, "<script>alert(1)</script>": 1}', "['<script>alert(1)</script>']", NO_SETTING),
    (f'{{"api_key": "{SECRET}"}}', "api_key", NO_SETTING),
    ('{"password": "hunter2"}', "password", NO_SETTING),
    ('{"Authorization": "Bearer abc"}', "Authorization", NO_SETTING),
    (f'{{"{SECRET}": 1}}', "[<name not shown>]", NO_SETTING),
]
VALUES = [
    *[
        (json.dumps({name: wrong}), name, RULES[name])
        for name, (low, high) in NUMBERS.items()
        for wrong in (low - 1, high + 1, True, None, str(low), [low], {"value": low})
    ],
    ('{"retry_attempts": 3.5}', "retry_attempts", RULES["retry_attempts"]),
    ('{"default_strategy": "cr\u0131t\u0131cal"}', "default_strategy", "must be the name of a strategy"),
    ('{"retry_attempts": 3.5}', "retry_attempts", RULES["retry_attempts"]),
    ('{"retry_attempts": -0}', "retry_attempts", RULES["retry_attempts"]),
    ('{"retry_attempts": 1.05e1}', "retry_attempts", RULES["retry_attempts"]),
    ('{"deadline": 0.99999}', "deadline", RULES["deadline"]),
    ('{"deadline": 600.00001}', "deadline", RULES["deadline"]),
    ('{"base_delay": 1e-320}', "base_delay", RULES["base_delay"]),
    ('{"jitter": "ful"}', "jitter", RULES["jitter"] + "; did you mean 'full'?"),
    ('{"jitter": "FULL"}', "jitter", RULES["jitter"]),
    ('{"jitter": null}', "jitter", RULES["jitter"]),
    ('{"jitter": false}', "jitter", RULES["jitter"]),
    ('{"default_strategy": "critcal"}', "default_strategy", NO_STRATEGY + "did you mean 'critical'?"),
    ('{"default_strategy": ""}', "default_strategy", NO_STRATEGY),
    ('{"default_strategy": "_missing_"}', "default_strategy", NO_STRATEGY),
    ('{"default_strategy": 0}', "default_strategy", NO_STRATEGY),
    ('{"default_strategy": ["critical"]}', "default_strategy", NO_STRATEGY),
    ('{"default_strategy": {"critical": 1}}', "default_strategy", NO_STRATEGY),
    ('{"operation_overrides": "critical"}', "operation_overrides", RULES["operation_overrides"]),
    ('{"operation_overrides": ["qa"]}', "operation_overrides", RULES["operation_overrides"]),
    ('{"operation_overrides": {"": "critical"}}', "operation_overrides['']", RULES["operation_overrides"]),
    ('{"operation_overrides": {"qa": "urgent"}}', "operation_overrides.qa", NO_STRATEGY),
    ('{"operation_overrides": {"qa": {"deadline": 5}}}', "operation_overrides.qa", NO_STRATEGY),
    (
        json.dumps({"operation_overrides": {f"o{n}": "critical" for n in range(11)}}),
        "operation_overrides",
        "must map at most 10 ",
    ),
]
LOGIC = [
    ('{"base_delay": 5, "max_delay": 4.9}', "base_delay", "must not exceed max_delay 4.9"),
    ('{"base_delay": 10, "max_delay": 1, "deadline": 5}', "base_delay", "must not exceed max_delay 1"),
    ('{"attempt_timeout": 6, "deadline": 5}', "attempt_timeout", "must not exceed deadline 5"),
    ('{"attempt_timeout": 11, "default_strategy": "aggressive"}', "attempt_timeout", "must not exceed deadline 10"),
    ('{"max_delay": 2, "default_strategy": "critical"}', "max_delay", "must be at least base_delay 3"),
    (
        '{"retry_attempts": 9, "base_delay": 10, "deadline": 40, "jitter": "equal"}',
        "deadline",
        "must leave time for the last attempt",
    ),
    (
        '{"retry_attempts": 2, "base_delay": 5, "deadline": 4, "jitter": "none"}',
        "deadline",
        "must leave time for the last attempt",
    ),
    (
        '{"retry_attempts": 4, "base_delay": 1, "max_delay": 9, "backoff_factor": 3, "deadline": 10, "jitter": "proportional"}',
        "deadline",
        "must leave time for the last attempt, before which at least 10.4 s are waited",
    ),
]
HOSTILE = [*SIZE_AND_ENCODING, *SYNTAX, *STRUCTURE, *CHARACTERS, *NAMES, *VALUES, *LOGIC]


def is_short(data):
    """Whether an input may be shown in the name of a test."""
    return len(data) < 60 and str(data).isascii()


def told(data):
    """The name of a test."""
    return repr(data) if isinstance(data, str | bytes) and is_short(data) else ""


def test_there_are_more_than_a_hundred_of_them():
    """As many different ones as are asked for."""
    assert len({bytes(each[0]) if isinstance(each[0], bytes | bytearray) else each[0] for each in HOSTILE}) > 100


@pytest.mark.table(("data", "path", "rule"), HOSTILE, ids=told)
def test_a_hostile_input_is_refused_with_path_and_rule(data, path, rule):
    """One violation, which says where and why; nothing read, nothing raised."""
    result = ResilienceConfigValidator().validate_with_security_checks(data)
    assert [path] == [each.path for each in result.violations]
    assert rule == result.violations[0].rule[: len(rule)]
    assert (False, None, []) == (result.is_valid, result.settings, result.warnings)


@pytest.mark.table(("data", "path", "rule"), HOSTILE, ids=told)
def test_what_is_said_can_be_sent_and_repeats_no_secret(data, path, rule):
    """The result is JSON of a bounded size, printable, and without what looks like a secret (invariant 76)."""
    answer = json.dumps(ResilienceConfigValidator().validate_with_security_checks(data).to_dict(), ensure_ascii=False)
    assert answer.isprintable()
    assert len(answer) < 2000
    assert not any(secret in answer for secret in (SECRET, "hunter2", "Bearer"))


@pytest.mark.table("data", [text for text, _, _ in [*STRUCTURE, *CHARACTERS, *NAMES, *VALUES, *LOGIC]], ids=told)
def test_a_mapping_is_held_to_the_same_rules_as_a_text(data):
    """What JSON can say at all is refused in the same words when it comes as a mapping."""
    if nesting_depth(data, MAX_PARSED_DEPTH) > MAX_PARSED_DEPTH:
        return  # of a text that is not parsed no place is told
    try:
        content = json.loads(data)
    except ValueError:
        return
    if "twice" in (text := ResilienceConfigValidator().validate_json_string(data)).errors[0]:
        return
    assert text.errors == ResilienceConfigValidator().validate_custom_config(content).errors
