"""One redaction for all rooms: every shape of a key that is known is left out by each of them."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience_kit import ConfigurationError, ResilienceConfig, RetryConfig
from resilience_kit._redaction import REDACTION_PLACEHOLDER, contains_secret, is_secret_name, redact_text
from resilience_kit.cli.app import run
from resilience_kit.config.redaction import json_path, redact_value, redact_value_at
from resilience_kit.errors import REDACTED
from resilience_kit.events import EventStream, StateChanged
from resilience_kit.http.excerpts import excerpt, redacted
from resilience_kit.log import attach_logging

#: Short ones: whatever is 20 signs long and holds a digit is recognised without its beginning.
KEYS = (
    "sk-abc123", "sk-ant-api03-Ab", "sk-proj-Ab_c", "sk-or-v1-00aa", "sk_live_Ab1", "xai-Abc", "gsk_Abc", "gsk-Abc", "pplx-Abc",
    "AIzaSyA1", "hf_Abc", "r8_Abc", "AKIAIOSFODNN7", "ASIAIOSFODNN7", "ghp_Abc", "gho_Abc", "github_pat_Abc", "glpat-Abc",
    "xoxb-Abc", "csk-Abc", "tvly-Abc", "nvapi-Abc", "pcsk_Abc", "whsec_Abc", "lsv2_Abc", "dop_v1_Abc", "ya29.Abc",
    "fw_3ZabcdefghijK", "pa-abcdefgh1234", "npm_abcdefgh1234", "jina_abcdefgh1234", "SG.abcdefghijklmnop.q", "dapi0123abcd",
    "eyJhbGciOi.eyJzdWIi.sig", "0123456789abcdef0123456789",
)  # fmt: skip
#: A text with a secret in it that has no shape of its own.
PLACES = (
    "Authorization: Bearer {}", "Authorization: Basic {}", "authorization: token {}", "x-api-key: {}", "X-Goog-Api-Key: {}",
    "api-key={}", "api_key={}", '{{"api_key": "{}"}}', "{{'password': '{}'}}", "AWS_SECRET_ACCESS_KEY={}", "client_secret={}",
    "access_token={}", "Cookie: {}", "https://api.example/v1?api_key={}&page=2", "https://api.example/v1?page=2&sig={}",
    "https://api.example/v1?key={}", "https://me:{}@api.example/v1", "postgresql://me:{}@db/jobs", "redis://:{}@cache",
    "openaiApiKey: {}", "password='{} and more'", '"token": "{}"', "token={}", "pwd={}", "AccountKey={}", "SharedAccessKey={}",
    "('authorization', '{}')", "(b'x-api-key', b'{}')", "'api_key' => '{}'", "Cookie: a=b; c={}",
    "Incorrect API key provided: {}",
)  # fmt: skip
TEXTS = [(key, key) for key in KEYS] + [(pattern.format("hunter"), "hunter") for pattern in PLACES]
HARMLESS = (
    "The model 'gpt-4o-mini' does not exist; Limit 500, Used 500, Requested 1.",
    "max_tokens: 100000 > 8192, which is the maximum",
    "invalid api key", "api_key: must be text", "password: is required", "Unexpected token: '<'", "token: 5",
    "'api_key': 'must be text'",
    "task-1 of asia-east1 in Asia", "sg.example.com", "key-value store", "monkey-patch", "ms-marco-MiniLM", "balanced",
)  # fmt: skip


#: A text, and the secret in it.
planted = pytest.mark.table(("text", "secret"), TEXTS)


@planted
def test_the_redaction_knows_every_shape(text: str, secret: str) -> None:
    """Alone, in a sentence, in quotes, and where paths are kept."""
    for written in (text, f"it says {text}, and fails", f"'{text}'", f"({text})"):
        assert contains_secret(written)
        assert secret not in redact_text(written)
        assert REDACTION_PLACEHOLDER in redact_text(written)
    assert secret not in redact_text(text, keep_paths=True) or secret == KEYS[-1]


@planted
def test_settings_repeat_no_secret(text: str, secret: str) -> None:
    """Neither as a value nor as a name, nor in the words of an option that is refused."""
    assert REDACTED is redact_value(text)
    assert REDACTED is redact_value_at(("retry", "api_key"), "x")
    assert secret not in json_path((text,))
    with pytest.raises(ConfigurationError) as refused:
        ResilienceConfig(deadline=text, retry=RetryConfig(base_delay=1.0))  # type: ignore[arg-type]  # what is refused
    assert secret not in str(refused.value) or secret == KEYS[-1]


@planted
def test_http_repeats_no_secret(text: str, secret: str) -> None:
    """Whatever a service quotes."""
    assert secret not in redacted(text)
    assert secret not in str(excerpt({"error": {"message": f"refused: {text}"}}))


@planted
def test_logs_repeat_no_secret(text: str, secret: str, caplog: pytest.LogCaptureFixture) -> None:
    """A person who forces a circuit open may paste anything as the reason."""
    events = EventStream()
    attach_logging(events)
    caplog.clear()
    caplog.set_level(logging.DEBUG, "resilience_kit")
    events.emit(StateChanged(operation="a", old="closed", new="forced_open", reason=f"see {text}", at=1.0))
    (record,) = caplog.records
    assert secret not in record.getMessage() or secret == KEYS[-1]


@planted
def test_jobs_repeat_no_secret(text: str, secret: str) -> None:
    """Procrastinate and psycopg's pool write what they are given."""
    jobs = pytest.importorskip("resilience_kit.jobs.redaction", reason="needs the extra jobs", exc_type=ImportError)
    for filtered in (jobs.Redaction(), jobs.PoolLogFilter()):
        record = logging.LogRecord("procrastinate", logging.INFO, "x.py", 1, "queue %s", (text,), None)
        filtered.filter(record)
        assert secret not in record.getMessage() or secret == KEYS[-1]


@planted
def test_the_command_line_repeats_no_secret(text: str, secret: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A file of settings with a key in the wrong place is refused without it."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"strategy": text}), encoding="utf-8")
    assert 0 != run(["config", "validate", str(path)])
    assert secret not in "".join(capsys.readouterr())


@pytest.mark.table("text", HARMLESS)
def test_words_of_every_day_stay(text: str) -> None:
    """A message that says nothing helps nobody."""
    assert text == redact_text(text)
    assert not contains_secret(text)


def test_paths_stay_where_they_are_wanted() -> None:
    """A traceback without its files is of no use."""
    line = 'File "/usr/lib/python3.11/site-packages/resilience_kit/jobs/run.py", line 12'
    assert line == redact_text(line, keep_paths=True)


@pytest.mark.parametrize(
    "name", ["api_key", "Authorization", "x-api-key", "dbPassword", "session_token", "private-key", "cookie"]
)
def test_names_tell_of_secrets(name: str) -> None:
    """Settings and headers by such a name are never shown."""
    assert is_secret_name(name)
    assert not is_secret_name("strategy")
    assert not is_secret_name(5)


@given(st.text())
def test_any_text_is_redacted_once(text: str) -> None:
    """What is redacted stays as it is when another room redacts it again."""
    assert redact_text(redact_text(text)) == redact_text(text)


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece", ["key-", "a-", "api_key", "://", "bearer ", "sk-", "token=", "a1/", "-----", "secret_access_key", "x@"]
)
def test_no_text_takes_long(piece: str) -> None:
    """The time grows with the length, not with its square."""
    text = piece * (200_000 // len(piece))
    began = time.process_time()
    redact_text(text)
    contains_secret(text)
    assert time.process_time() - began < 5.0
