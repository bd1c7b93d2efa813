"""What errors repeat of an answer and of a request: the service's words, and no secret."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience_kit.http.credentials import host_of
from resilience_kit.http.excerpts import excerpt, redacted, request_id, secrets_of


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "no such model", "type": "x"}}, "no such model"),
        ({"error": "no such model"}, "no such model"),
        ({"detail": [{"loc": ["body"], "msg": "field required", "input": {"prompt": "mine"}}]}, "field required"),
        ({"error": {"code": "not_found"}}, "not_found"),
        ({"data": "mine"}, None),
        ([], None),
        (b'{"message": "in bytes"}', "in bytes"),
        (b'{"message": "cut', None),
        ("  plain\n words ", "plain words"),
        ("<html><title>502 Bad Gateway</title><p>mine</p></html>", "502 Bad Gateway"),
        ("", None),
        (None, None),
        ('"quoted"', "quoted"),
        ("\xff".encode("latin-1"), "\ufffd"),
    ],
)
def test_only_the_words_for_what_is_wrong_are_kept(body: object, words: str | None) -> None:
    """Services repeat whole requests in the rest."""
    assert words == excerpt(body)
    if isinstance(body, dict):
        assert words == excerpt(json.dumps(body).encode())


def test_an_excerpt_is_short() -> None:
    """At most 300 characters, of however much."""
    assert 300 == len(excerpt({"message": "word " * 100_000}) or "")
    assert None is excerpt("[" * 100_000)


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-proj-abc. ",
        "header Bearer abc.def is wrong",
        "Basic dXNlcjpwdw== refused",
        "AKIAIOSFODNN7 and AIzaSyA1 and eyJhbGciOi.eyJz.sig",
        "connect to https://user:hunter2@proxy failed",
        "-----BEGIN PRIVATE KEY-----",
        "token 0123456789abcdef0123456789abcdef",
    ],
)
def test_what_looks_like_a_key_is_taken_out(text: str) -> None:
    """Whoever sent it."""
    for secret in ("sk-proj-abc", "abc.def", "dXNlcjpwdw", "AKIAIOS", "AIzaSy", "eyJ", "hunter2", "PRIVATE", "0123456789abcdef"):
        assert secret not in redacted(text)
    assert "..." in redacted(text)


def test_words_of_every_day_stay() -> None:
    """Names of models and limits are what the message is about."""
    text = "The model 'gpt-4o-mini' does not exist; Limit 500, Used 500, Requested 1."
    assert text == redacted(text)


GIVEN: dict[str, Any] = {
    "headers": [("X-Key", "canary-1"), (b"X-Other", b"canary")],
    "params": {"page": "canary-2", "list": ["canary-3"]},
    "json": {"password": "canary-4", "prompt": "canary-5 " * 10, "model": "gpt-x", "max": 5},
    "data": b"canary-6 " * 10,
    "auth": ("me", "canary-7"),
    "cookies": {"a": "canary-8"},
}


def test_what_was_sent_is_taken_out() -> None:
    """Credentials, queries, cookies and long texts of the body; not the name of a model."""
    secrets = set(
        secrets_of("https://u:canary-9@a.example", {"Authorization": "Bearer canary-a"}, "/x?q=canary%20b#canary-c", GIVEN)
    )
    text = " ".join([*(f"canary-{sign}" for sign in "123478a9c"), "canary b", "canary-5 " * 10, "canary-6 " * 10, "gpt-x"])
    assert "canary" not in redacted(text, secrets)
    assert redacted(text, secrets).endswith("gpt-x")


def test_looking_for_secrets_is_bounded() -> None:
    """However large or deep the request is."""
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    assert 200 >= len(list(secrets_of("https://a", None, "/", {"params": {"a": ["x" * 10] * 10_000}, "json": deep})))
    assert [] == list(secrets_of("https://[", None, "http://[", {"headers": 5}))


@given(st.text(max_size=50), st.text(max_size=50))
def test_no_text_breaks_the_wording(text: str, secret: str) -> None:
    """Whatever a service says."""
    assert "\n" not in redacted(text, [secret] * bool(secret))
    excerpt(text)
    assert isinstance(host_of(text), str)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [({}, None), ({"x-request-id": "req_1"}, "req_1"), ({"request-id": "a" * 500}, "a" * 128), ({"cf-ray": "a\x1b[0m"}, None)],
)
def test_the_request_id_is_short_and_printable(headers: dict[str, str], expected: str | None) -> None:
    """It stands in a message that operators see in a terminal."""
    assert expected == request_id(headers)
