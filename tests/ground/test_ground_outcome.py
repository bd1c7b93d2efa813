"""Plain data about attempts."""

from __future__ import annotations

import pytest

from resilience_kit.outcome import FailureKind, Outcome, OutcomeKind, Verdict


def test_kinds_are_words():
    """Values that can be written to JSON, as the contract spells them."""
    assert [
        "transient", "rate_limit", "quota", "auth", "permission", "invalid_request", "not_found", "content_filter",
        "context_length", "timeout", "connection", "overloaded", "server_error", "conflict", "unknown",
    ] == list(FailureKind)  # fmt: skip
    assert ["success", "failure", "ignored", "cancelled"] == list(OutcomeKind)


def test_data_cannot_be_changed():
    """Verdicts and outcomes are values."""
    verdict = Verdict(FailureKind.TIMEOUT, retryable=True, counts_against_breaker=True)
    outcome = Outcome(OutcomeKind.FAILURE, 0.5, verdict)
    assert (None, 0.5, None) == (verdict.retry_after, outcome.duration, outcome.error)
    for value, name in ((verdict, "kind"), (outcome, "duration")):
        with pytest.raises(AttributeError):
            setattr(value, name, None)
    assert verdict == Verdict(FailureKind.TIMEOUT, retryable=True, counts_against_breaker=True)
