"""What an operator reads."""

from __future__ import annotations

import logging

import pytest

from resilience_kit.events import (
    AccessLatched,
    AccessRestored,
    CallCancelled,
    CallDelayed,
    CallersParked,
    CallFailed,
    CallRejected,
    CallSucceeded,
    ConfigChange,
    ConfigRejected,
    ConfigReloaded,
    EventStream,
    NestedRetry,
    OptionsIgnored,
    RetryScheduled,
    StateChanged,
    StrategyChanged,
    default_stream,
)
from resilience_kit.log import attach_logging
from resilience_kit.outcome import FailureKind

EVENTS = [
    (
        CallersParked(operation="api.example.com", seconds=2.0),
        "INFO",
        "host 'api.example.com' asks for a pause of 2.0 s; all its callers obey",
    ),
    (
        AccessLatched(operation="api.example.com", why="credential", retry_after=60.0),
        "WARNING",
        "host 'api.example.com' refuses the credential; next trial in 60.0 s",
    ),
    (
        AccessRestored(operation="api.example.com", why="billing"),
        "INFO",
        "host 'api.example.com' serves the account again",
    ),
    (
        StateChanged(operation="op", old="closed", new="open", reason="5 failures in a row", at=1.0),
        "WARNING",
        "circuit 'op': closed -> open (5 failures in a row)",
    ),
    (
        StateChanged(operation="op", old="closed", new="forced_open", reason="by hand", at=1.0),
        "WARNING",
        "circuit 'op': closed -> forced_open (by hand)",
    ),
    (
        StateChanged(operation="op", old="half_open", new="closed", reason="the trial succeeded", at=1.0),
        "INFO",
        "circuit 'op': half_open -> closed (the trial succeeded)",
    ),
    (
        RetryScheduled(operation="op", attempt=2, delay=1.5, kind=FailureKind.TIMEOUT, error_type="ReadTimeout"),
        "INFO",
        "'op': attempt 2 failed (ReadTimeout, timeout); next one in 1.500 s",
    ),
    (
        CallFailed(operation="op", attempts=3, duration=4.04, kind=FailureKind.TIMEOUT, error_type="X", reason="all 3 failed"),
        "WARNING",
        "'op': failed after 3 attempts in 4.0 s (X, timeout): all 3 failed",
    ),
    (
        CallFailed(operation="op", attempts=1, duration=0.0, kind=FailureKind.UNKNOWN, error_type="X", reason="'a\nb' refused"),
        "WARNING",
        "'op': failed after 1 attempt in 0.0 s (X, unknown): 'a b' refused",
    ),
    (CallDelayed(operation="op", guard="host", seconds=1.04), "DEBUG", "'op': waited 1.0 s for its turn at 'host'"),
    (CallRejected(operation="op", guard="host", retry_after=2.04), "DEBUG", "'op': refused by 'host'; retry after 2.0 s"),
    (CallRejected(operation="op", guard="host", retry_after=None), "DEBUG", "'op': refused by 'host'"),
    (StrategyChanged(operation="op", old="", new="critical"), "INFO", "'op': strategy changed from none to critical"),
    (StrategyChanged(operation="op", old="balanced", new="critical"), "INFO", "'op': strategy changed from balanced to critical"),
    (
        ConfigReloaded(changes=(ConfigChange("qa", "deadline", 30.0, 20.0), ConfigChange("qa", "retry_attempts", 3, None))),
        "INFO",
        "configuration reloaded: 'qa' deadline 30.0 -> 20.0; 'qa' retry_attempts 3 -> None",
    ),
    (
        ConfigReloaded(changes=tuple(ConfigChange(name, "deadline", 1.0, 2.0) for name in "abcdefghijkl")),
        "INFO",
        "configuration reloaded: " + "; ".join(f"'{name}' deadline 1.0 -> 2.0" for name in "abcdefghij") + "; and 2 more",
    ),
    (ConfigReloaded(changes=()), "INFO", "configuration reloaded: nothing changes for the operations in use"),
    (
        ConfigRejected(errors=("RESILIENCE_PRESET: must be a name", "a: must be b")),
        "ERROR",
        "configuration not reloaded, the old one stays: RESILIENCE_PRESET: must be a name; a: must be b",
    ),
    (
        NestedRetry(operation="op", inner="the SDK's client", remedy="build it with max_retries=0"),
        "WARNING",
        "'op': the SDK's client retries too, so this operation did not; build it with max_retries=0",
    ),
    (
        OptionsIgnored(operation="op", options="circuit breaker options"),
        "WARNING",
        "'op' is already in use with other circuit breaker options; those of its first use stay",
    ),
]


@pytest.mark.parametrize(("event", "level", "sentence"), EVENTS)
def test_each_event_has_its_sentence_and_level(event, level, sentence, caplog):
    """Nothing of it is an error's text, an argument or a result."""
    caplog.set_level(logging.DEBUG, "resilience_kit")
    stream = EventStream()
    attach_logging(stream)
    stream.emit(event)
    assert [("resilience_kit", level, sentence)] == [(each.name, each.levelname, each.message) for each in caplog.records]


@pytest.mark.parametrize(("event", "level", "sentence"), EVENTS)
def test_what_is_below_the_level_is_not_built(event, level, sentence, caplog):
    """Whoever asks before building an event is told so."""
    stream = EventStream()
    attach_logging(stream)
    for threshold in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        caplog.set_level(threshold, "resilience_kit")
        caplog.clear()
        stream.emit(event)
        assert (logging.getLevelNamesMapping()[level] >= threshold) == bool(caplog.records)
        assert stream.has_listener(type(event)) or not caplog.records


def test_what_comes_with_every_call_is_not_logged():
    """A call that ends well, is cancelled or waits less than a second makes no line."""
    stream = EventStream()
    attach_logging(stream)
    assert (False, False) == (stream.has_listener(CallSucceeded), stream.has_listener(CallCancelled))


def test_a_short_wait_is_not_logged(caplog):
    """Nobody wants to read of milliseconds."""
    caplog.set_level(logging.DEBUG, "resilience_kit")
    stream = EventStream()
    attach_logging(stream)
    stream.emit(CallDelayed(operation="op", guard="host", seconds=0.5))
    assert [] == caplog.messages


def test_a_stream_is_logged_once_however_often_it_is_asked_for(caplog):
    """Whoever shares a stream has it logged, and nobody twice."""
    stream = EventStream()
    attach_logging(stream)
    attach_logging(stream)
    stream.emit(AccessLatched(operation="h", why="billing", retry_after=1.0))
    assert 1 == len(caplog.messages)


def test_the_default_stream_is_logged_from_the_start():
    """A breaker that stands alone reports to it before there is any orchestrator."""
    assert default_stream().may_have_listener(StateChanged)
