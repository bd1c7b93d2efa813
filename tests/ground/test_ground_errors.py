"""The tree of errors: its shape, its words, and that every error survives pickle and copy."""

from __future__ import annotations

import builtins
import copy
import pickle
import re
from datetime import UTC, datetime
from decimal import Decimal

import circuitbreaker
import pytest

from resilience_kit import errors
from resilience_kit.errors import REDACTED, ConfigurationError, Violation

MONEY = (Decimal("5.00"), Decimal("4.90"), Decimal("0.20"), datetime(2026, 1, 2, tzinfo=UTC))
EXAMPLES = [
    errors.ResilienceError("words"),
    errors.Rejected("summarize", 2.0),
    errors.CircuitBreakerOpenError("summarize", 12.0),
    errors.CircuitBreakerOpenError("summarize", None, "forced open: maintenance"),
    errors.RateLimitExceededError("summarize", 0.25),
    errors.BulkheadFullError("summarize"),
    errors.CredentialRefusedError("api.example.com", 60.0),
    errors.BillingStoppedError("api.example.com"),
    errors.BudgetExceededError("day", 3.0, *MONEY),
    errors.DeadlineExceededError("too late"),
    ConfigurationError([("RetryConfig.base_delay", "must be positive", -1), ("file", "is not JSON", REDACTED)]),
    errors.StreamInterruptedError("chat", 3, ("a", "b", "c")),
    errors.FallbackExhaustedError("chat", [ValueError("x"), KeyError("y")]),
    errors.LedgerError("corrupt"),
    errors.AIServiceError("x"),
    errors.TransientAIError("x"),
    errors.RateLimitError("slow down", 7.5),
    errors.RateLimitError(),
    errors.ServerError("x"),
    errors.ServiceUnavailableError("x"),
    errors.APIConnectionError("x"),
    errors.APITimeoutError("x"),
    errors.PermanentAIError("x"),
    errors.AuthenticationError("x"),
    errors.PermissionDeniedError("x"),
    errors.ResourceNotFoundError("x"),
    errors.QuotaExceededError("x"),
    errors.InvalidRequestError("x"),
    errors.ContextLengthError("x"),
    errors.ContentFilterError("x"),
]


def drawn_tree() -> dict[str, str]:
    """Each error of the docstring's drawing with the one that it hangs under."""
    found: dict[str, str] = {}
    above: list[str] = []
    for line in errors.__doc__.splitlines()[2:]:
        match = re.match(r"    ((?:[│ ] {3})*)([├└]── )?(\w+) {2,}|    ((?:[│ ] {3})*)([├└]── )(\w+)$", line)
        if match is None:
            continue
        indent, branch, name = match.group(1, 2, 3) if match.group(3) else match.group(4, 5, 6)
        depth = len(indent) // 4 + (branch is not None)
        above[depth:] = [name]
        found[name] = above[depth - 1] if depth else "Exception"
    return found


def test_the_tree_is_as_drawn():
    """Every error hangs under the one that the docstring's drawing says, and none is left out of it."""
    ours = {
        name: cls for name, cls in vars(errors).items()
        if isinstance(cls, type) and issubclass(cls, Exception) and cls.__module__ == errors.__name__
    }  # fmt: skip
    assert {name: cls.__bases__[0].__name__ for name, cls in ours.items()} == drawn_tree()


@pytest.mark.parametrize(("line", "second"), [
    ("CircuitBreakerOpenError", circuitbreaker.CircuitBreakerError),
    ("DeadlineExceededError", TimeoutError),
    ("ConfigurationError", ValueError),
    ("APIConnectionError", ConnectionError),
    ("APITimeoutError", TimeoutError),
])  # fmt: skip
def test_second_bases_are_as_drawn(line, second):
    """`also a ...` in the drawing is a base class."""
    said = re.search(rf"{line} +also a ([\w.]+)", errors.__doc__)
    assert said is not None
    assert second.__name__ == said.group(1).split(".")[-1]
    assert issubclass(getattr(errors, line), second)
    assert len(getattr(errors, line).__bases__) == 2


def pickled(protocol):
    """Through bytes and back."""
    return lambda error: pickle.loads(pickle.dumps(error, protocol))


PICKLED = [pickled(protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]


def facts(error):
    """What an error tells, in a form that can be compared."""
    told = {key: repr(value) for key, value in vars(error).items()}
    return type(error), str(error), repr(error.args), told


@pytest.mark.table("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.table("again", [copy.copy, copy.deepcopy, *PICKLED])
def test_errors_survive_pickle_and_copy(error, again):
    """Class, words, arguments, attributes and notes are the same afterwards."""
    error = copy.copy(error)
    error.add_note("seen")
    assert facts(error) == facts(again(error))


@pytest.mark.parametrize(("error", "words"), [
    (errors.Rejected("summarize"), "'summarize' refused the call"),
    (errors.Rejected("summarize", 2.0), "'summarize' refused the call; try again in 2.0 s"),
    (errors.Rejected(), "'' refused the call"),
    (errors.CircuitBreakerOpenError("summarize", 12.0), "Circuit breaker is open: 'summarize'; next trial in 12.0 s"),
    (errors.CircuitBreakerOpenError("summarize", None, "why"), "Circuit breaker is open: 'summarize'; why"),
    (errors.CircuitBreakerOpenError("summarize"), "Circuit breaker is open: 'summarize'"),
    (errors.RateLimitExceededError("x", 0.25), "rate limit of 'x' is used up; try again in 0.2 s"),
    (errors.BulkheadFullError("x"), "bulkhead 'x' is full"),
    (errors.CredentialRefusedError("x"), "the credential for 'x' was refused; replace it"),
    (errors.BillingStoppedError("x", 6.0), "the account at 'x' has no credit or quota left; next trial in 6.0 s"),
    (
        errors.BudgetExceededError("day", 3.0, *MONEY),
        ("budget 'day' does not allow this call: limit 5.00 USD, spent 4.90, held 0.20; "
        "resets at 2026-01-02T00:00:00+00:00; try again in 3.0 s"),
    ),
    (errors.BudgetExceededError("day"), "budget 'day' does not allow this call: limit None USD, spent None, held None"),
    (
        ConfigurationError([("a.b", "must be positive", -1), ("c", "is a secret", REDACTED)]),
        "a.b: must be positive, got -1; c: is a secret",
    ),
    (errors.StreamInterruptedError("chat", 3), "stream of 'chat' broke after 3 items"),
    (errors.FallbackExhaustedError("chat", [ValueError(), KeyError()]), "every fallback of 'chat' failed: ValueError, KeyError"),
])  # fmt: skip
def test_errors_speak(error, words):
    """Who, number, when or what next."""
    assert words == str(error)


def test_refusals_tell_name_and_hint():
    """Also those built with less."""
    refusal = errors.CircuitBreakerOpenError("x", 1.5)
    assert ("x", 1.5, None) == (refusal.name, refusal.retry_after, refusal.reason)
    assert ("", None) == (errors.Rejected().name, errors.Rejected().retry_after)


def test_violations_can_be_read_one_by_one():
    """As (path, rule, got)."""
    error = ConfigurationError(iter([("a", "b", 1)]))
    assert (Violation("a", "b", 1),) == error.errors
    (path, rule, got), *_ = error.errors
    assert ("a", "b", 1) == (path, rule, got)


def test_what_is_not_shown_stays_one_thing():
    """It has a text of its own, and is itself after pickle."""
    assert "<not shown>" == repr(REDACTED)
    assert REDACTED is pickle.loads(pickle.dumps(REDACTED))


def test_a_value_that_cannot_be_shown_does_not_hide_the_rule():
    """An int of 5000 digits, or an object whose repr raises."""

    class Shy:
        def __repr__(self):
            raise RuntimeError

    assert "a: b, got a int that cannot be shown" == str(Violation("a", "b", 10**5000))
    assert "a: b, got a Shy that cannot be shown" == str(ConfigurationError([("a", "b", Shy())]))


def test_no_error_hides_a_builtin():
    """`from resilience_kit.errors import *` would shadow nothing of Python's."""
    assert set() == {name for name in vars(errors) if name.endswith("Error")} & set(dir(builtins))
