"""A fresh start for a test: what one has taught the process, the next does not know."""

from __future__ import annotations

import circuitbreaker
import httpx
import pytest

from resilience_kit import (
    AIServiceResilience,
    CircuitBreaker,
    FailureKind,
    Verdict,
    classify,
    get_orchestrator,
    set_orchestrator,
    with_resilience,
)
from resilience_kit.classification import register_classifier
from resilience_kit.config import ResilienceSettings
from resilience_kit.errors import CredentialRefusedError, ServerError
from resilience_kit.http import AsyncResilientTransport, ResilientTransport
from resilience_kit.http.pacing import shared_pacing
from resilience_kit.testing import FakeClock, fresh_orchestrator

URL = "https://api.openai.com/v1/models"
HEADERS = {"authorization": "Bearer not-a-key"}


class Provider(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Refuses the credential as long as it is told to."""

    refuses = True

    def handle_request(self, request):
        return httpx.Response(401 if self.refuses else 200, json={})

    async def handle_async_request(self, request):
        return self.handle_request(request)


PROVIDER = Provider()
#: Made once, as in a module under test.
CLIENT = httpx.Client(transport=ResilientTransport(PROVIDER), headers=HEADERS)


@with_resilience("ask")
def ask(fails):
    """Decorated once, as in a module under test."""
    if fails:
        raise ServerError
    return "yes"


@pytest.fixture(autouse=True)
def nothing_left():
    """Whatever the default orchestrator was."""
    yield
    set_orchestrator(None)
    shared_pacing().reset_all()


@pytest.mark.parametrize("number", [1, 2])
def test_a_refused_credential_is_not_known_to_the_next_test(fresh_orchestrator, number):
    """The first of two simulates a 401 of api.openai.com; the second, by the same client, does not see it."""
    PROVIDER.refuses = number == 1
    if number == 1:
        assert 401 == CLIENT.get(URL).status_code
        with pytest.raises(CredentialRefusedError):
            CLIENT.get(URL)
    else:
        assert 200 == CLIENT.get(URL).status_code
        assert 1 == fresh_orchestrator.get_metrics("api.openai.com")["total_calls"]


async def test_without_a_fresh_start_it_is_known():
    """Which is right in a process that serves, and shows that the block is what forgets it; async transports are the same."""
    PROVIDER.refuses = True
    transport = AsyncResilientTransport(PROVIDER)
    async with httpx.AsyncClient(transport=transport, headers=HEADERS) as client:
        assert 401 == (await client.get(URL)).status_code
        with pytest.raises(CredentialRefusedError):
            await client.get(URL)
        with fresh_orchestrator():
            PROVIDER.refuses = False
            assert 200 == (await client.get(URL)).status_code
        assert 200 == (await client.get(URL)).status_code


def test_the_orchestrator_of_before_is_back():
    """With its circuits as they were; inside the block every circuit is new."""
    before = AIServiceResilience(ResilienceSettings())
    set_orchestrator(before)
    before.get_circuit_breaker("ask").force_open("maintenance")
    with fresh_orchestrator() as kit:
        assert kit is get_orchestrator() is not before
        assert "yes" == ask(fails=False)
        assert {"ask"} == set(kit.operations)
    assert before is get_orchestrator()
    assert "forced_open" == before.get_circuit_breaker("ask").state
    set_orchestrator(None)
    with pytest.raises(ZeroDivisionError), fresh_orchestrator():
        raise ZeroDivisionError
    assert "yes" == ask(fails=False)


def test_settings_and_clock_are_those_given():
    """As of any orchestrator."""
    clock = FakeClock()
    with fresh_orchestrator(ResilienceSettings(preset="production"), clock=clock) as kit:
        assert "production" == kit.settings.preset
        with pytest.raises(ServerError):
            ask(fails=True)
    assert 4 == len(clock.sleeps)


def test_classifiers_of_a_test_are_removed():
    """Those of before stay, also where a test has replaced or removed them."""
    ours = Verdict(FailureKind.OVERLOADED, retryable=True, counts_against_breaker=True)
    theirs = Verdict(FailureKind.QUOTA, retryable=False, counts_against_breaker=False)
    forget = register_classifier(KeyError, ours)
    with fresh_orchestrator():
        assert ours == classify(KeyError())
        register_classifier(KeyError, theirs)
        register_classifier(IndexError, theirs)
        assert [theirs, theirs] == [classify(KeyError()), classify(IndexError())]
    assert (ours, FailureKind.UNKNOWN) == (classify(KeyError()), classify(IndexError()).kind)
    forget()


def test_the_librarys_monitor_shows_the_breakers_of_before():
    """Those that are still alive, under their names."""
    mine, dying = CircuitBreaker(name="fresh-mine"), [CircuitBreaker(name="fresh-dying")]
    with fresh_orchestrator() as kit:
        assert [] == list(circuitbreaker.CircuitBreakerMonitor.get_circuits())
        kit.get_circuit_breaker("fresh-mine").force_open("test")
        dying.clear()
        assert not circuitbreaker.CircuitBreakerMonitor.all_closed()
    found = circuitbreaker.CircuitBreakerMonitor.get("fresh-mine")
    assert (False, None) == (found.opened, circuitbreaker.CircuitBreakerMonitor.get("fresh-dying"))
    assert not mine.opened


def test_what_is_warned_of_once_a_process_is_warned_of_again(monkeypatch, caplog):
    """Else only the first test that looks for it would find it."""
    monkeypatch.setenv("RESILIENCE_WEATHER", "fine")
    for _ in range(2):
        caplog.clear()
        with fresh_orchestrator():
            told = [text.partition(" and ")[0] for text in caplog.messages]
            assert ["RESILIENCE_WEATHER is no variable of resilience_kit"] == told
