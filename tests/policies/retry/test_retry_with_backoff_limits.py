"""What `retry_with_backoff` does not do: each line of its docstring, and of the table in docs/reference/retry.md."""

from __future__ import annotations

import asyncio
import inspect
import logging
from pathlib import Path

import pytest

from resilience_kit import get_orchestrator, idempotency_key, remaining_time, retry_with_backoff, set_orchestrator
from resilience_kit.errors import AuthenticationError, InvalidRequestError, QuotaExceededError, RateLimitError, ServerError
from resilience_kit.events import Event

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "retry.md"


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits, which take no time."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return waits


@pytest.mark.parametrize("error", [AuthenticationError("401"), InvalidRequestError("400"), QuotaExceededError("429")], ids=str)
async def test_an_error_that_cannot_get_better_is_tried_again_unless_the_classifier_is_asked(
    error: Exception, slept: list[float]
) -> None:
    """By default every exception is; with `retry_exceptions=None` the classifier decides."""

    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        await retry_with_backoff(fail)
    assert 3 == len(slept)
    with pytest.raises(type(error)):
        await retry_with_backoff(fail, retry_exceptions=None)
    assert 3 == len(slept)


@pytest.mark.parametrize("retry_exceptions", [(Exception,), None])
async def test_the_hint_of_a_service_is_not_read(retry_exceptions: object, slept: list[float]) -> None:
    """A service that asks for 50 seconds is asked again after one."""

    def refuse() -> None:
        raise RateLimitError("slow down", retry_after=50.0)

    with pytest.raises(RateLimitError):
        await retry_with_backoff(refuse, retry_exceptions=retry_exceptions, jitter=False)
    assert [1.0, 2.0, 4.0] == slept


async def test_nothing_else_is_done(slept: list[float], caplog: pytest.LogCaptureFixture) -> None:
    """No circuit, budget, key, deadline, event, count, log line or note, in twenty calls that fail."""
    set_orchestrator(None)
    events: list[Event] = []
    forget = get_orchestrator().add_listener(events.append)
    seen = set()

    async def fail() -> None:
        seen.add((idempotency_key(), remaining_time()))
        raise ServerError("500")

    with caplog.at_level(logging.DEBUG, "resilience_kit"):
        for _ in range(20):
            with pytest.raises(ServerError) as raised:
                await retry_with_backoff(fail)
            assert not hasattr(raised.value, "__notes__")
    forget()
    assert ({(None, None)}, [], [], []) == (seen, events, caplog.records, get_orchestrator().operations)
    assert 60 == len(slept)
    set_orchestrator(None)


def test_docstring_and_page_say_so_at_their_top() -> None:
    """The first line says that it does nothing else, and what follows names what is missing."""
    first, _, rest = inspect.getdoc(retry_with_backoff).partition("\n")
    assert first.endswith("and do nothing else.")
    for missing in ("circuit breaker", "deadline", "retry budget", "Retry-After", "idempotency key", "metric", "event"):
        assert missing in rest
    section = PAGE.read_text(encoding="utf-8").partition("## retry_with_backoff, and what it does not do")[2]
    for missing in ("circuit breaker", "classification", "Retry-After", "deadline", "idempotency key", "metrics"):
        assert missing in section.lower() or missing in section
