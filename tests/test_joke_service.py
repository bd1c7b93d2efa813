"""The parts of the joke service that need no server."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

FOLDER = Path(__file__).parent.parent / "examples" / "joke_service"
HISTORY, MODELS, PAGE = (run_path(str(FOLDER / f"{name}.py")) for name in ("history", "models", "page"))
Happened, runs_of = HISTORY["Happened"], HISTORY["runs_of"]


def told(*events: Any) -> list[tuple[str, str | None]]:
    """Outcome and error of each run of a job to which these things happened, a second between them."""
    began = datetime(2026, 1, 1, tzinfo=UTC)
    given = [event if isinstance(event, tuple) else (event,) for event in events]
    happened = [Happened(began + timedelta(seconds=second), *event) for second, event in enumerate(given)]
    return [(run["outcome"], run["error"]) for run in runs_of(happened)]


FAILED, REFUSED = ("trouble", "ServerError", False), ("trouble", "CircuitBreakerOpenError", True)


@pytest.mark.parametrize(
    ("events", "runs"),
    [
        ([], []),
        (["deferred"], []),
        (["deferred", "started"], [("running", None)]),
        (["deferred", "started", "succeeded"], [("succeeded", None)]),
        (
            ["deferred", "started", FAILED, "deferred_for_retry", "scheduled", "started", "succeeded"],
            [("retried", "ServerError"), ("succeeded", None)],
        ),
        (["started", REFUSED, "deferred_for_retry"], [("postponed", "CircuitBreakerOpenError")]),
        (["started", "deferred_for_retry", "started"], [("interrupted", None), ("running", None)]),
        (["started", FAILED, "failed"], [("failed", "ServerError")]),
        (["started", "abort_requested", "aborted"], [("aborted", None)]),
        (["started", FAILED, "failed", "retried", "started", "succeeded"], [("failed", "ServerError"), ("succeeded", None)]),
        (["succeeded", FAILED], []),
    ],
)
def test_runs_are_told_from_events(events: list[Any], runs: list[tuple[str, str | None]]) -> None:
    """A run that fails is not one that a guard refused, nor one that was cut off."""
    assert runs == told(*events)


TYPES = ["deferred", "started", "deferred_for_retry", "succeeded", "failed", "aborted", "scheduled", "retried"]
WHAT = st.sampled_from([*TYPES, FAILED, REFUSED])


@given(st.lists(WHAT, max_size=12))
def test_any_history_can_be_told(events: list[Any]) -> None:
    """One run for each start, each with an outcome that the page knows, whatever was written down."""
    runs = told(*events)
    assert events.count("started") == len(runs)
    known = set(re.findall(r"(\w+): \[", PAGE["PAGE"].partition("MARKS = {")[2].partition("}")[0]))
    assert {"succeeded", "retried", "failed", "aborted", "postponed", "interrupted", "running"} == known
    assert known >= {outcome for outcome, _ in runs}


TEXTS = st.text(st.characters(codec=None), max_size=90)


@given(TEXTS, TEXTS, st.one_of(st.none(), st.integers(), st.floats()))
def test_what_is_taken_in_can_be_stored(asked_by: str, topic: str, joke_id: float | None) -> None:
    """PostgreSQL takes what the models let pass: text without NUL and lone surrogates, JSON without NaN (invariant 70)."""
    for values in ({"asked_by": asked_by}, {"topic": topic}, {"joke_id": joke_id}):
        try:
            wanted = MODELS["FetchJoke"].model_validate(values)
        except ValidationError:
            continue
        stored = json.dumps(wanted.model_dump(exclude_none=True), allow_nan=False, ensure_ascii=False).encode()
        assert b"\x00" not in stored


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "x" * 3000])
def test_what_the_joke_api_says_can_be_stored(text: str) -> None:
    """Or it is no joke, and what it says is in no error."""
    joke = {"id": 1, "type": "general", "setup": "s", "punchline": "p"}
    assert 1 == MODELS["Joke"].model_validate(joke | {"more": "fields"}).id
    with pytest.raises(ValidationError) as caught:
        MODELS["Joke"].model_validate(joke | {"setup": text})
    assert text not in str(caught.value)


def test_the_page_runs_its_own_script_only() -> None:
    """The policy names the hash of what stands in the page, and nothing in it comes from elsewhere."""
    for tag in ("script", "style"):
        [text] = re.findall(rf"<{tag}>(.*?)</{tag}>", PAGE["PAGE"], re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in PAGE["POLICY"]
    assert [] == re.findall(r" (?:src|href|style|on\w+)=\"(?!data:)", PAGE["PAGE"])
