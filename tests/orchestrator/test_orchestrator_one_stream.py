"""One stream of events: what parts without an orchestrator of their own emit reaches the default one, once."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import textwrap
import weakref
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from resilience_kit import get_orchestrator, set_orchestrator
from resilience_kit.config import ResilienceSettings
from resilience_kit.errors import ConfigurationError, ServerError
from resilience_kit.events import (
    AccessLatched,
    CallFailed,
    CallSucceeded,
    Event,
    EventStream,
    StateChanged,
    default_stream,
)
from resilience_kit.http import APIClient, ResilientTransport
from resilience_kit.http.pacing import Pacing, shared_pacing
from resilience_kit.orchestrator import AIServiceResilience
from resilience_kit.outcome import FailureKind, Outcome, OutcomeKind, Verdict
from resilience_kit.policies.breaker import CircuitBreaker, StoredState, flush_stores
from resilience_kit.policies.breaker.states import CircuitState

REFUSED = Outcome(OutcomeKind.IGNORED, verdict=Verdict(FailureKind.AUTH, retryable=False, counts_against_breaker=False))


def trip() -> None:
    """A breaker that stands alone opens."""
    CircuitBreaker(name="alone").force_open("by hand")


def latch() -> None:
    """A host refuses a credential."""
    Pacing().for_host("h", "key").admit().settle(REFUSED)


def latch_shared() -> None:
    """The same with the pacing of the process."""
    pacing = shared_pacing()
    pacing.reset("shared.example", "key")
    pacing.for_host("shared.example", "key").admit().settle(REFUSED)
    pacing.reset("shared.example", "key")


def fail(http: Any) -> None:
    """A request fails."""
    with http, pytest.raises((ServerError, httpx.HTTPStatusError)):
        http.get("https://h/x").raise_for_status()


def request() -> None:
    """One of a JSON client."""
    fail(APIClient("https://h", client=httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(501)))))


def send() -> None:
    """One through a transport."""
    inner = httpx.MockTransport(lambda _: httpx.Response(501, headers={"x-should-retry": "false"}))
    fail(httpx.Client(transport=ResilientTransport(inner, pacing=None)))


PARTS = {
    "breaker": (trip, StateChanged),
    "pacing": (latch, AccessLatched),
    "shared pacing": (latch_shared, AccessLatched),
    "client": (request, CallFailed),
    "transport": (send, CallFailed),
}


@pytest.fixture(params=PARTS)
def part(request: pytest.FixtureRequest) -> Any:
    """What makes each part emit an event, and of which type."""
    return PARTS[request.param]


def test_what_a_part_emits_reaches_the_default_orchestrator_once(part: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Its listeners hear each event once, and each is one line of the log."""
    emit, kind = part
    heard: list[Event] = []
    get_orchestrator().add_listener(heard.append, kind)
    emit()
    assert [kind] == [type(event) for event in heard]
    assert 1 == len([record for record in caplog.records if record.levelno == logging.WARNING])


def test_a_part_is_logged_before_there_is_an_orchestrator(part: Any, caplog: pytest.LogCaptureFixture) -> None:
    """And not twice when there is one."""
    emit, _ = part
    emit()
    get_orchestrator()
    emit()
    assert 2 == len([record for record in caplog.records if record.levelno == logging.WARNING])


def test_parts_made_before_an_orchestrator_reach_the_one_that_is_the_default_then() -> None:
    """Made lazily, or set, or replaced: the default one is looked up when something happens."""
    breaker, pacing = CircuitBreaker(name="alone"), Pacing()
    heard: dict[str, list[str]] = {name: [] for name in ("lazy", "first", "second")}

    def happen() -> None:
        breaker.force_open("by hand")
        breaker.reset()
        pacing.reset("h", "key")
        pacing.for_host("h", "key").admit().settle(REFUSED)

    happen()
    get_orchestrator().add_listener(lambda event: heard["lazy"].append(event.operation))
    happen()
    for name in ("first", "second"):
        kit = AIServiceResilience(ResilienceSettings())
        kit.add_listener(lambda event, name=name: heard[name].append(event.operation))
        set_orchestrator(kit)
        happen()
    set_orchestrator(None)
    happen()
    assert {name: ["alone", "alone", "h"] for name in heard} == heard


def test_the_lazy_default_takes_over_the_stream_that_was_there() -> None:
    """Whoever listened to it before hears of the orchestrator's own calls, too, also of those that are made at once."""
    heard: list[Event] = []
    default_stream().add_listener(heard.append, CallSucceeded)
    kit = get_orchestrator()
    kit.call_with_resilience(int, "op")
    assert [("op", True)] == [(event.operation, kit.events is default_stream()) for event in heard]


def test_a_fresh_default_hears_nothing_of_the_one_before() -> None:
    """What a test leaves behind is gone after `set_orchestrator(None)`: listeners and the numbers of clients."""
    heard: list[Event] = []
    get_orchestrator().add_listener(heard.append)
    set_orchestrator(None)
    for emit, _ in PARTS.values():
        emit()
    assert [] == heard
    set_orchestrator(None)
    assert [] == get_orchestrator().operations


def test_an_orchestrator_s_own_breakers_report_to_it_alone() -> None:
    """Another one than the default keeps its events to itself, and so does a part that was given its stream."""
    heard: list[Event] = []
    own: list[str] = []
    get_orchestrator().add_listener(heard.append)
    kit = AIServiceResilience(ResilienceSettings())
    kit.add_listener(lambda event: own.append(event.operation))
    kit.get_circuit_breaker("op").force_open("by hand")
    CircuitBreaker(name="given", events=kit.events).force_open("by hand")
    Pacing(events=kit.events).for_host("h", "key").admit().settle(REFUSED)
    assert ([], ["op", "given", "h"]) == (heard, own)


@pytest.mark.parametrize("given", [False, True], ids=["shared", "given"])
def test_pacing_of_a_transport_reports_to_the_transport_s_orchestrator(given: bool) -> None:
    """Unless it was given a stream: what a call causes is heard where the call is heard, and there only."""
    stream = EventStream()
    pacing = Pacing(events=stream) if given else Pacing()
    heard: dict[str, list[str]] = {"default": [], "transport": [], "given": []}
    kit = AIServiceResilience(ResilienceSettings())
    for name, listened in (("default", get_orchestrator()), ("transport", kit), ("given", stream)):
        listened.add_listener(lambda event, name=name: heard[name].append(event.operation), AccessLatched)
    inner = httpx.MockTransport(lambda _: httpx.Response(401))
    with httpx.Client(transport=ResilientTransport(inner, resilience=kit, pacing=pacing)) as client:
        client.get("https://h/x", headers={"Authorization": "Bearer key"})
    assert {"default": [], "transport": [] if given else ["h"], "given": ["h"] if given else []} == heard


def test_a_breaker_s_own_listener_hears_of_that_breaker_only() -> None:
    """Also where the breaker shares a stream with all else of its orchestrator."""
    kit = AIServiceResilience(ResilienceSettings())
    heard: list[Event] = []
    everything: list[Event] = []
    kit.add_listener(everything.append, StateChanged)
    kit.get_circuit_breaker("op").add_listener(heard.append)
    for name in ("other", "op"):
        kit.get_circuit_breaker(name).force_open("by hand")
        kit.call_with_resilience(int, "third")
    assert (["op"], ["other", "op"]) == ([each.operation for each in heard], [each.operation for each in everything])


def test_two_orchestrators_may_share_a_stream() -> None:
    """A listener that comes later is known to the plans of both."""
    stream, heard = EventStream(), []
    kits = [AIServiceResilience(ResilienceSettings(), events=stream) for _ in range(2)]
    functions = [kit.with_resilience("op")(lambda: 1) for kit in kits]
    for function in functions:
        function()
    stream.add_listener(heard.append, CallSucceeded)
    for function in functions:
        function()
    assert 2 == len(heard)
    with pytest.raises(ConfigurationError, match="events: must be an EventStream"):
        AIServiceResilience(ResilienceSettings(), events=print)  # type: ignore[arg-type]


def test_a_breaker_alone_is_logged_where_nothing_else_is_used() -> None:
    """One line on stderr, without any orchestrator."""
    script = """
        from resilience_kit.orchestrator import default
        from resilience_kit.policies.breaker import CircuitBreaker

        CircuitBreaker(name="alone").force_open("by hand")
        assert default._default is None
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True, timeout=60)
    assert "circuit 'alone': closed -> forced_open (by hand)\n" == done.stderr


def test_no_lock_is_held_while_a_restored_state_is_announced() -> None:
    """The store is waited for, and its state delivered, outside the orchestrator's lock (invariant 14)."""
    states = {"op": StoredState(CircuitState.OPEN, 3, 60.0)}
    store: Any = SimpleNamespace(load=states.get, save=lambda *_: None)
    kit = AIServiceResilience(ResilienceSettings(), store=store)
    heard: list[tuple[str, bool]] = []
    owned = kit._registry.lock._is_owned  # type: ignore[attr-defined]
    kit.add_listener(lambda event: heard.append((event.reason, owned())), StateChanged)
    assert "open" == kit.get_circuit_breaker("op").state
    kit.register_operation("op", "critical")
    assert flush_stores()
    assert [("restored", False)] == heard
    assert [] == kit._registry.loading


def test_a_stream_does_not_keep_orchestrators_alive():
    """It may outlive many of them; the last one still hears of its listeners."""
    stream = EventStream()
    before = len(stream.on_listeners_changed)
    gone = [weakref.ref(AIServiceResilience(events=stream)) for _ in range(3)]
    kit = AIServiceResilience(events=stream)
    gc.collect()
    assert [None] * 3 == [each() for each in gone]
    assert before + 1 == len(stream.on_listeners_changed)
    seen: list[object] = []
    call = kit.with_resilience("op")(lambda: 1)
    kit.add_listener(seen.append, CallSucceeded)
    call()
    assert 1 == len(seen)
