"""Real and likely answers of AI providers, as data."""

import importlib
import json
from pathlib import Path

import pytest

from resilience_kit.classification import Verdict, classify, classify_ai_exception, classify_response

HERE = Path(__file__).parent
REAL_MODULES = {"asyncio", "builtins", "json.decoder", "socket", "ssl"}


def _cases(name):
    rows = [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").splitlines()]
    return [pytest.param(row, id=f"{number}-{row['id']}") for number, row in enumerate(rows)]


def _exception(path, message, cause=None):
    """An instance of a standard class, or of one that has the name and module of a library's."""
    module, _, name = path.rpartition(".")
    if module in REAL_MODULES:
        error = getattr(importlib.import_module(module), name)
        exc = error(message, "", 0) if name == "JSONDecodeError" else error(message)
    else:
        exc = type(name, (Exception,), {"__module__": module})(message)
    if cause is not None:
        exc.__cause__ = _exception(cause, "")
    return exc


def _verdict(row):
    if row["status"] is None:
        found = row["exception"]
        return classify(_exception(found["class"], found["message"], found.get("cause")))
    return classify_response(row["status"], row["headers"], row["body"], provider=row.get("provider"), now=row.get("now"))


def _as_data(verdict):
    return {
        "kind": verdict.kind.value,
        "retryable": verdict.retryable,
        "counts_against_breaker": verdict.counts_against_breaker,
        "retry_after_s": verdict.retry_after,
    }


@pytest.mark.table("row", _cases("provider_errors.jsonl"))
def test_a_labelled_case_gets_its_verdict(row):
    """Each labelled case is judged as its label says, or as its second label where the matter is disputed."""
    actual = _as_data(_verdict(row))
    second = row.get("alt_expected", {}) if row.get("ambiguous") else {}
    accepted = row["expected"] | {key: value for key, value in second.items() if value == actual[key]}
    assert accepted == actual


@pytest.mark.table("row", _cases("further_errors.jsonl"))
def test_a_further_case_gets_its_verdict(row):
    """What providers answer beside the labelled cases is judged by the same rules."""
    actual = _as_data(_verdict(row))
    del actual["retry_after_s"]
    assert row["expected"] == actual


@pytest.mark.table("row", [case for case in _cases("provider_errors.jsonl") if isinstance(case.values[0]["body"], dict)])
def test_the_shape_of_a_body_does_not_matter(row):
    """Bytes, text and parsed JSON give one verdict."""
    text = json.dumps(row["body"])
    expected = _verdict(row)
    assert [expected] * 3 == [_verdict(row | {"body": body}) for body in (text, text.encode(), "\ufeff" + text)]


def test_a_quota_never_has_a_hint_unless_it_can_be_retried():
    """No case that is a quota and final carries a wait."""
    verdicts = [_verdict(case.values[0]) for case in _cases("provider_errors.jsonl")]
    assert not [each for each in verdicts if each.kind == "quota" and not each.retryable and each.retry_after is not None]


def test_the_boolean_twin():
    """`classify_ai_exception` is the verdict's `retryable`."""
    assert [True, False] == [classify_ai_exception(TimeoutError()), classify_ai_exception(ValueError())]


def test_the_verdict_is_the_one_of_the_ground_rooms():
    """`Verdict` is re-exported, not made anew."""
    assert Verdict is importlib.import_module("resilience_kit.outcome").Verdict
