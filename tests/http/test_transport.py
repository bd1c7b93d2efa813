"""Transports: what is sent again, what the caller gets, and what an operation learns from it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest

from resilience_kit import (
    CircuitBreakerConfig,
    CircuitBreakerOpenError,
    CircuitState,
    ConfigurationError,
    DeadlineExceededError,
    ResilienceConfig,
    RetryConfig,
    get_orchestrator,
    set_orchestrator,
)
from resilience_kit.errors import CredentialRefusedError
from resilience_kit.events import CallFailed, NestedRetry
from resilience_kit.http import AsyncResilientTransport, ResilientTransport
from resilience_kit.http.pacing import Pacing
from resilience_kit.http.transport_options import OTHER_HOSTS
from resilience_kit.policies.hedge import HedgeConfig

Lab = Any
ERROR = {"error": {"message": "The server had an error", "type": "server_error"}}


def error(lab: Lab, status: int = 503, **headers: str) -> Any:
    """An error with its body."""
    return lab.Answer(status, (json.dumps(ERROR).encode(),), {"content-type": "application/json", **headers})


def answer(lab: Lab, body: bytes, **headers: str) -> Any:
    """A 200 with this body."""
    return lab.Answer(200, (body,), {"content-type": "application/json", **headers})


# --- what is sent again ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 529])
async def test_what_passes_by_itself_is_retried(transport_lab: Lab, status: int) -> None:
    """Two errors, then the answer: three requests, one call, 3 s of waiting, and every response closed."""
    lab = transport_lab
    lab.script(error(lab, status), error(lab, status), lab.Answer())
    response = await lab.send()
    assert (200, {"id": "1", "object": "chat.completion"}) == (response.status_code, response.json())
    assert (3, 103.0) == (lab.requests, lab.clock.monotonic())
    assert {"total_calls": 1, "successful_calls": 1, "retry_attempts": 2} == lab.counted()


async def test_the_same_is_sent_again(transport_lab: Lab) -> None:
    """Body, headers and idempotency key are the same at each attempt; another call has another key (invariant 30)."""
    lab = transport_lab
    lab.script(error(lab), lab.http.ConnectError("refused"), lab.Answer())
    await lab.send(headers={"authorization": "Bearer secret"})
    await lab.send()
    first, second, third, other = lab.service.sent
    assert (first, first) == (second, third)
    assert b'{"model":"m"}' == first.body.replace(b" ", b"")
    assert (32, True) == (len(lab.keys[0]), lab.keys[0] != lab.keys[3])
    assert "Bearer secret" == first.headers["authorization"]
    assert "authorization" not in other.headers


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_safe_methods_need_no_key(transport_lab: Lab, method: str) -> None:
    """They are repeated without one."""
    lab = transport_lab
    lab.script(error(lab), lab.Answer(pieces=() if method == "HEAD" else (b"{}",)))
    await lab.send(method)
    assert [None, None] == lab.keys


async def test_a_key_of_the_callers_stays(transport_lab: Lab) -> None:
    """Whatever its case."""
    lab = transport_lab
    lab.script(error(lab), lab.Answer())
    await lab.send(headers={"IDEMPOTENCY-KEY": "mine"})
    assert ["mine", "mine"] == lab.keys


async def test_the_keys_header_can_be_another(transport_lab: Lab) -> None:
    """As services call it."""
    lab = transport_lab
    lab.build(idempotency_header="X-Request-Token")
    lab.script(error(lab), lab.Answer())
    await lab.send()
    assert 1 == len({sent.headers["x-request-token"] for sent in lab.service.sent})


@pytest.mark.parametrize(
    ("method", "fault", "requests"),
    [
        ("POST", "error", 1),
        ("POST", "read", 1),
        ("PATCH", "error", 1),
        ("POST", "rate", 2),
        ("POST", "connect", 2),
        ("PUT", "error", 2),
        ("DELETE", "read", 2),
        ("GET", "error", 2),
    ],
)
async def test_without_a_key_only_what_was_not_carried_out_is_repeated(
    transport_lab: Lab, method: str, fault: str, requests: int
) -> None:
    """A 429 and a refused connection were not; methods that may be repeated by their nature are (invariant 30)."""
    lab = transport_lab
    lab.build(idempotency_header=None)
    faults = {
        "error": error(lab),
        "rate": error(lab, 429),
        "read": lab.http.ReadError("reset"),
        "connect": lab.http.ConnectError("refused"),
    }
    lab.script(faults[fault], lab.Answer())
    try:
        await lab.send(method)
    except lab.http.ReadError:
        assert 1 == requests
    assert (requests, [None] * requests) == (lab.requests, lab.keys)


@pytest.mark.parametrize(
    ("method", "fault", "requests"),
    [("POST", "error", 1), ("POST", "read", 1), ("POST", "rate", 2), ("POST", "connect", 2), ("PUT", "error", 2)],
)
async def test_a_key_does_not_outweigh_an_explicit_word(transport_lab: Lab, method: str, fault: str, requests: int) -> None:
    """With `idempotent=False` the key is sent, and only what was not carried out is repeated (invariant 30)."""
    lab = transport_lab
    lab.build(config=lab.config(idempotent=False))
    faults = {
        "error": error(lab),
        "rate": error(lab, 429),
        "read": lab.http.ReadError("reset"),
        "connect": lab.http.ConnectError("refused"),
    }
    lab.script(faults[fault], lab.Answer(pieces=()))
    try:
        await lab.send(method)
    except lab.http.ReadError:
        assert 1 == requests
    assert (requests, 1, False) == (lab.requests, len(set(lab.keys)), None in lab.keys)


@pytest.mark.parametrize(("header", "requests"), [("Idempotency-Key", 2), (None, 1)])
async def test_unless_the_key_is_said_to_be_heeded(transport_lab: Lab, header: str | None, requests: int) -> None:
    """`idempotency_key=True` beside it means that; without a key it means nothing."""
    lab = transport_lab
    lab.build(config=lab.config(idempotent=False, idempotency_key=True), idempotency_header=header)
    lab.script(error(lab), lab.Answer())
    await lab.send()
    assert requests == lab.requests


async def test_a_body_that_cannot_be_had_again_is_sent_once(transport_lab: Lab) -> None:
    """A generator is gone once it was read, so the first error is the last; the SDK, which can rewind, may try again."""
    lab = transport_lab

    def parts() -> Iterator[bytes]:
        yield b"part"

    async def async_parts() -> Any:
        yield b"part"

    lab.script(error(lab), lab.Answer())
    response = await lab.send(content=async_parts() if lab.asynchronous else parts(), headers={"x-stainless-retry-count": "0"})
    assert (503, 1) == (response.status_code, lab.requests)
    assert "x-should-retry" not in response.headers


async def test_a_short_body_is_taken_into_memory(transport_lab: Lab) -> None:
    """An upload of known length within `buffer_bytes` is the same at each attempt; a longer one is sent once."""
    lab = transport_lab
    lab.script(error(lab), lab.Answer())
    await lab.send(files={"file": ("name.txt", b"x" * 2000)})
    first, second = lab.service.sent
    assert (first.body, True) == (second.body, b"x" * 2000 in first.body)
    lab.build(buffer_bytes=1000)
    lab.script(error(lab), lab.Answer())
    assert 503 == (await lab.send(files={"file": ("name.txt", b"x" * 2000)})).status_code
    assert 1 == lab.requests


# --- what the caller gets --------------------------------------------------------------------------------------------------


async def test_the_last_response_is_the_callers(transport_lab: Lab) -> None:
    """Status, headers and body as the service sent them, with the attempts told; its connection is free again."""
    lab = transport_lab
    lab.script(error(lab, **{"x-request-id": "req_1"}))
    response = await lab.send()
    assert (503, ERROR, "req_1") == (response.status_code, response.json(), response.headers["x-request-id"])
    assert (3, "3", 3) == (lab.requests, response.headers["x-resilience-kit-attempts"], lab.service.closed)
    assert response.elapsed is not None
    assert {"total_calls": 1, "failed_calls": 1, "retry_attempts": 2} == lab.counted()


async def test_a_good_answer_tells_its_attempts(transport_lab: Lab) -> None:
    """Where it took more than one; a stream's head tells what it took to begin."""
    lab = transport_lab
    lab.script(error(lab), lab.http.ConnectError("refused"), lab.Answer(), lab.Answer())
    assert ["3", None] == [(await lab.send()).headers.get("x-resilience-kit-attempts") for _ in range(2)]
    events = lab.Answer(200, (b"data: {}\n\n", b"data: [DONE]\n\n"), {"content-type": "text/event-stream"})
    lab.script(error(lab), events)
    assert "2" == (await lab.send()).headers["x-resilience-kit-attempts"]


async def test_the_last_error_is_the_callers(transport_lab: Lab) -> None:
    """The library's own, with a note that tells the attempts."""
    lab = transport_lab
    last = lab.http.ReadTimeout("slow")
    lab.script(lab.http.ConnectError("refused"), last)
    with pytest.raises(lab.http.ReadTimeout) as caught:
        await lab.send()
    assert caught.value is last
    assert "'api.example.com' failed after 3 attempts" in caught.value.__notes__[0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_the_callers_mistakes_are_not_retried(transport_lab: Lab, status: int) -> None:
    """One request, and nothing against the circuit."""
    lab = transport_lab
    lab.script(lab.Answer(status))
    response = await lab.send()
    assert (status, 1, 0) == (response.status_code, lab.requests, lab.kit.get_circuit_breaker("api.example.com").failure_count)
    assert "x-resilience-kit-attempts" not in response.headers


async def test_a_hint_is_obeyed_within_bounds(transport_lab: Lab) -> None:
    """7 s are slept, 90 s are not: the response comes at once and says when to come back (invariant 29)."""
    lab = transport_lab
    lab.script(error(lab, 429, **{"retry-after": "7"}), lab.Answer())
    await lab.send()
    assert 107.0 == lab.clock.monotonic()
    lab.script(error(lab, 429, **{"retry-after": "90"}))
    assert ("90", 1) == ((await lab.send()).headers["retry-after"], lab.requests)
    assert 107.0 == lab.clock.monotonic()


async def test_a_body_that_breaks_is_read_again(transport_lab: Lab) -> None:
    """JSON is read inside the attempt, so a connection that breaks within is one more error to retry."""
    lab = transport_lab
    lab.script(lab.Answer(pieces=(b'{"id":',), breaks=lab.http.ReadError("reset")), lab.Answer())
    assert 200 == (await lab.send()).status_code
    lab.script(lab.Answer(pieces=(b'{"id":',), breaks=lab.http.ReadError("reset")))
    with pytest.raises(lab.http.ReadError):
        await lab.send()
    assert 3 == lab.requests


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(ERROR).encode(),
        b'{"id": "1", "choices": [',
        b'{"error" oops}',
        b"[1, 2",
        json.dumps({"object": "error", "id": "1", **ERROR}).encode(),
        b"",
        b" \n",
        b"<html><title>502 Bad Gateway</title></html>",
        b"upstream connect error",
        b'{"id": "1", "choices": null, "base_resp": {"status_code": 1002, "status_msg": "rate limit exceeded(RPM)"}}',
        b'{"success" : false, "message": "The server is overloaded"}',
    ],
)
async def test_a_200_may_be_an_error(transport_lab: Lab, body: bytes) -> None:
    """An error object, and JSON that stops short: retried, counted, and at last handed over as it is."""
    lab = transport_lab
    lab.script(answer(lab, body), lab.Answer())
    assert "1" == (await lab.send()).json()["id"]
    lab.script(answer(lab, body))
    response = await lab.send()
    assert (200, body, 3) == (response.status_code, response.content, lab.requests)
    counted = 0 if b"rate limit" in body else 3
    assert counted == lab.kit.get_circuit_breaker("api.example.com").failure_count


@pytest.mark.parametrize(
    "body",
    [
        b'{"id": "job", "object": "batch", "status": "failed", "error": {"code": "server_error", "message": "no"}}',
        b'{"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "unknown"}}',
        b'{"id": "1", "error": null}',
        b'["error"]',
        b'"error"',
        b"\xef\xbb\xbf{}",
        '{"text": "\u2026"}'.encode("utf-16"),
        b'data: {"choices": []}\n\n',
        b"-1.5e3",
        b'{"choices": [{"text": "an \\"error\\" is none"}], "base_resp": {"status_code": 0, "status_msg": "success"}}',
        b'{"answer": "yes", "error_count": 3, "code": 7, "success": false, "message": "see errors"}',
    ],
)
async def test_most_200s_are_answers(transport_lab: Lab, body: bytes) -> None:
    """A job that has failed was found all the same."""
    lab = transport_lab
    lab.script(answer(lab, body))
    await lab.send()
    assert ({"total_calls": 1, "successful_calls": 1}, 1) == (lab.counted(), lab.requests)


@pytest.mark.parametrize(
    ("type_", "status"),
    [("server_error", 502), ("overloaded_error", 503), ("rate_limit_error", 429), ("authentication_error", 401)],
)
async def test_an_sdk_hears_of_an_error_in_a_200(transport_lab: Lab, type_: str, status: int) -> None:
    """It takes every 200 for an answer, so the status becomes the error's."""
    lab = transport_lab
    lab.script(answer(lab, json.dumps({"error": {"type": type_, "message": "no"}}).encode()))
    assert status == (await lab.send(headers={"x-stainless-retry-count": "0"})).status_code


async def test_an_encoded_body_is_understood(transport_lab: Lab) -> None:
    """A compressed error is one, and arrives as it was sent; what cannot be decoded is as bad as a body that is cut."""
    lab = transport_lab
    packed = {"content-encoding": "gzip"}
    lab.script(answer(lab, gzip.compress(json.dumps(ERROR).encode()), **packed), answer(lab, b"no gzip", **packed), lab.Answer())
    assert (200, 3) == ((await lab.send()).status_code, lab.requests)
    lab.script(answer(lab, gzip.compress(b'{"id":"2"}'), **packed))
    assert {"id": "2"} == (await lab.send()).json()
    large = json.dumps({"id": "3", "error": [str(n) for n in range(60_000)]}).encode()
    lab.script(answer(lab, gzip.compress(large), **packed))
    assert "3" == (await lab.send()).json()["id"]
    assert 1 == lab.requests


async def test_an_endless_error_is_cut(transport_lab: Lab) -> None:
    """Of a page of 3 MB the first part is handed over, and its connection is not kept."""
    lab = transport_lab
    lab.script(lab.Answer(500, (b"x" * 2**20,) * 3, {"content-type": "text/html"}))
    response = await lab.send()
    assert (500, 2**20, 3) == (response.status_code, len(response.content), lab.service.closed)


# --- breaker, deadline, budget ---------------------------------------------------------------------------------------------


async def test_each_host_has_a_circuit(transport_lab: Lab) -> None:
    """One opens, the other does not; a refusal is ours, and sends nothing."""
    lab = transport_lab
    lab.build(config=lab.config(circuit_breaker=CircuitBreakerConfig(failure_threshold=3, recovery_timeout=30.0)))
    lab.script(error(lab))
    assert 503 == (await lab.send()).status_code
    with pytest.raises(CircuitBreakerOpenError, match=r"'api\.example\.com'; next trial in 30\.0 s"):
        await lab.send()
    lab.script(lab.Answer())
    assert 200 == (await lab.send("GET", "http://other.example:8080/")).status_code
    assert (1, ["api.example.com", "other.example:8080"]) == (lab.requests, lab.kit.operations)
    lab.clock.advance(31.0)
    assert 200 == (await lab.send()).status_code
    assert CircuitState.CLOSED is lab.kit.get_circuit_breaker("api.example.com").state


async def test_or_each_host_and_credential(transport_lab: Lab) -> None:
    """A rotated key starts clean. The name holds a fingerprint of the key and nothing of it."""
    lab = transport_lab
    config = lab.config(circuit_breaker=CircuitBreakerConfig(failure_threshold=1), retry=None)
    lab.build(config=config, breaker_per="key")
    lab.script(error(lab))
    for key in ("old-key", "new-key"):
        assert 503 == (await lab.send(headers={"authorization": key})).status_code
        with pytest.raises(CircuitBreakerOpenError):
            await lab.send(headers={"Authorization": key})
    assert 503 == (await lab.send()).status_code
    names = lab.kit.operations
    assert (3, "api.example.com") == (len(names), names[0])
    assert not any("key" in name for name in names)


@pytest.mark.slow
async def test_very_many_hosts_share_an_operation(transport_lab: Lab) -> None:
    """Beyond 256 there is one for the rest, without a breaker: nothing grows for ever."""
    lab = transport_lab
    lab.build(config=lab.config(circuit_breaker=CircuitBreakerConfig(failure_threshold=1), retry=None))
    lab.script(error(lab))
    for number in range(260):
        await lab.send("GET", f"https://host{number}.example/")
        if number >= 256:
            await lab.send("GET", f"https://host{number}.example/")
    assert (257, 8) == (len(lab.kit.operations), lab.counted(OTHER_HOSTS)["total_calls"])


async def test_a_deadline_bounds_the_clients_own_time_outs(transport_lab: Lab) -> None:
    """Each attempt gets what is left, and never more than the client itself would wait."""
    lab = transport_lab
    lab.build(config=lab.config(deadline=4.0, retry=RetryConfig(jitter=None, max_delay=1.0)))

    def slow() -> Any:
        lab.clock.advance(1.5)
        return error(lab)

    lab.script(slow)
    response = await lab.send(timeout=lab.http.Timeout(3.0, read=10.0, pool=None))
    assert (503, 2) == (response.status_code, lab.requests)
    assert [
        {"connect": 3.0, "read": 4.0, "write": 3.0, "pool": 4.0},
        {"connect": 1.5, "read": 1.5, "write": 1.5, "pool": 1.5},
    ] == [sent.timeout for sent in lab.service.sent]


async def test_without_a_deadline_they_are_the_clients_own(transport_lab: Lab) -> None:
    """Nothing is changed."""
    await transport_lab.send()
    assert {"connect": 5.0, "read": 5.0, "write": 5.0, "pool": 5.0} == transport_lab.service.sent[0].timeout


async def test_a_deadline_ends_what_is_under_way(make_lab: Callable[..., Lab], http: ModuleType) -> None:
    """An async attempt is cut off; a sync one ends by its time-outs, and what comes after is not begun (invariant 26)."""
    lab = make_lab(http, asynchronous=True)

    class Hanging:
        async def handle_async_request(self, request: Any) -> Any:
            await lab.clock.sleep_async(100.0)

        async def aclose(self) -> None:
            """Nothing is open."""

    lab.build(Hanging(), config=lab.config(deadline=2.0))
    with pytest.raises(DeadlineExceededError, match=r"'api\.example\.com' went past its deadline of 2 s in attempt 1"):
        await lab.send()
    assert 1 == lab.kit.get_circuit_breaker("api.example.com").failure_count


async def test_a_cancelled_request_says_nothing(make_lab: Callable[..., Lab], http: ModuleType) -> None:
    """Cancelled while its body is read: the response is closed, nothing is counted (invariants 4 and 28)."""
    lab = make_lab(http, asynchronous=True)
    lab.script(lab.Answer(breaks=asyncio.CancelledError()))
    with pytest.raises(asyncio.CancelledError):
        await lab.send()
    assert ({"total_calls": 1, "cancelled_calls": 1}, 0) == (lab.counted(), lab.left_open)
    assert 0 == lab.kit.get_circuit_breaker("api.example.com").failure_count


async def test_retries_may_be_off(transport_lab: Lab) -> None:
    """Then the SDK's own are nobody's business."""
    lab = transport_lab
    lab.build(config=lab.config(retry=None))
    lab.listen(NestedRetry)
    lab.script(error(lab))
    for count in ("0", "1"):
        assert "x-should-retry" not in (await lab.send(headers={"x-stainless-retry-count": count})).headers
    assert (2, []) == (lab.requests, lab.events)


# --- other layers that retry -----------------------------------------------------------------------------------------------


async def test_an_sdks_retry_is_sent_once_and_told_once(transport_lab: Lab) -> None:
    """The first error goes up as it is, so that an SDK's retries are noticed; from then on it is told to leave them."""
    lab = transport_lab
    lab.listen(NestedRetry)
    lab.script(error(lab))
    said = [
        (await lab.send(headers={"x-stainless-retry-count": count})).headers.get("x-should-retry")
        for count in ("0", "1", "1", "0")
    ]
    assert ([None, "false", "false", "false"], 3 + 1 + 1 + 3) == (said, lab.requests)
    told = [(each.operation, each.inner, each.remedy) for each in lab.events]
    assert [
        ("api.example.com", "the SDK's client", "build the client with max_retries=0 and leave retrying to the transport")
    ] == told


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (429, {"retry-after": "90"}, "false"),  # an SDK would sleep it
        (500, {"x-should-retry": "false"}, "false"),
        (409, {}, None),
        (404, {}, None),
    ],
)
async def test_what_an_sdk_must_not_repeat_it_is_told_at_once(
    transport_lab: Lab, status: int, headers: dict[str, str], said: str | None
) -> None:
    """A hint that is too long, and what the classifier calls final; for a 404 nobody has to be told."""
    lab = transport_lab
    lab.script(error(lab, status, **headers))
    assert said == (await lab.send(headers={"x-stainless-retry-count": "0"})).headers.get("x-should-retry")


async def test_an_open_circuit_is_told_as_final(transport_lab: Lab) -> None:
    """An SDK that came again would be refused, and its caller would not see the service's own error."""
    lab = transport_lab
    lab.build(config=lab.config(circuit_breaker=CircuitBreakerConfig(failure_threshold=3)))
    lab.script(error(lab))
    assert "false" == (await lab.send(headers={"x-stainless-retry-count": "0"})).headers["x-should-retry"]


async def test_an_operation_around_leaves_retrying_to_the_transport(transport_lab: Lab) -> None:
    """Three requests and not nine, for an error answer and for a broken connection; both are told, once each."""
    lab = transport_lab
    lab.listen(NestedRetry)

    async def ask() -> None:
        (await lab.send()).raise_for_status()

    protected = lab.kit.with_resilience("ask", custom_config=lab.config())(ask)
    for step, expected in ((error(lab), lab.http.HTTPStatusError), (lab.http.ConnectError("refused"), lab.http.ConnectError)):
        for _ in range(2):
            lab.script(step)
            with pytest.raises(expected):
                await protected()
            assert 3 == lab.requests
    assert [("ask", "the client's transport"), ("ask", "operation 'api.example.com'")] == [
        (each.operation, each.inner) for each in lab.events
    ]


async def test_an_operation_around_goes_on_where_the_transport_did_not(transport_lab: Lab) -> None:
    """A transport without retries has repeated nothing."""
    lab = transport_lab
    lab.build(config=lab.config(retry=None))
    lab.script(error(lab), error(lab), lab.Answer())

    @lab.kit.with_resilience("ask", custom_config=lab.config())
    async def ask() -> int:
        return (await lab.send()).raise_for_status().status_code

    assert (200, 3) == (await ask(), lab.requests)


# --- pacing ----------------------------------------------------------------------------------------------------------------


async def test_a_rate_limit_parks_everybody_with_the_key(transport_lab: Lab) -> None:
    """After a 429 with a hint nobody else is sent before its time; another key is not held back."""
    lab = transport_lab
    lab.build(config=lab.config(retry=None), pacing=Pacing(clock=lab.clock))
    lab.script(error(lab, 429, **{"retry-after": "8"}), lab.Answer())
    assert 429 == (await lab.send(headers={"authorization": "one"})).status_code
    await lab.send(headers={"authorization": "two"})
    assert 100.0 == lab.clock.monotonic()
    await lab.send(headers={"authorization": "one"})
    assert 108.0 == lab.clock.monotonic()


async def test_a_refused_credential_is_not_shown_again(transport_lab: Lab) -> None:
    """It is refused here, until somebody brings another one or a minute has passed."""
    lab = transport_lab
    lab.build(pacing=Pacing(clock=lab.clock))
    lab.script(lab.Answer(401))
    assert 401 == (await lab.send(headers={"authorization": "old"})).status_code
    with pytest.raises(CredentialRefusedError):
        await lab.send(headers={"authorization": "old"})
    lab.script(lab.Answer())
    assert 200 == (await lab.send(headers={"authorization": "new"})).status_code
    assert 1 == lab.requests


# --- the transport itself --------------------------------------------------------------------------------------------------


async def test_the_transport_that_sends_is_closed_with_it(transport_lab: Lab) -> None:
    """By the client's own `with`, too."""
    lab = transport_lab
    if lab.asynchronous:
        async with lab.client():
            pass
    else:
        with lab.client():
            pass
    assert 1000 == lab.service.closed
    lab.service.closed = 0


async def test_one_of_the_clients_library_is_made_where_none_is_given(
    transport_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first request, of whichever library that comes from; before that there is nothing to close."""
    lab = transport_lab
    lab.build(None)
    if lab.asynchronous:
        await lab.transport.aclose()
    else:
        lab.transport.close()
    made: list[Any] = []

    def sender(limits: Any) -> Any:
        made.append((limits.max_connections, limits.max_keepalive_connections))
        return lab.service

    monkeypatch.setattr(lab.http, "AsyncHTTPTransport" if lab.asynchronous else "HTTPTransport", sender)
    assert (200, 200) == ((await lab.send()).status_code, (await lab.send()).status_code)
    assert [(1000, 100)] == made


def test_the_default_orchestrator_is_asked_where_none_is_given() -> None:
    """Whichever it is at the time of the request."""
    sent: list[httpx.Request] = []

    def service(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json={})

    with httpx.Client(transport=ResilientTransport(httpx.MockTransport(service))) as client:
        for _ in range(2):
            set_orchestrator(None)
            client.get("https://api.example.com/")
            assert ["api.example.com"] == get_orchestrator().operations
    set_orchestrator(None)
    assert 2 == len(sent)


async def test_libraries_must_not_be_mixed(make_lab: Callable[..., Lab]) -> None:
    """An httpx transport in an httpx2 client would end in a bare AssertionError."""
    lab, other = make_lab(httpx2, asynchronous=False), make_lab(httpx, asynchronous=False)
    lab.build(other.service)
    with pytest.raises(ConfigurationError, match=r"must be of the client's own library: httpx2\.HTTPTransport for an httpx2"):
        await lab.send()
    assert (1, 0) == (other.requests, other.left_open)


async def test_mixed_libraries_are_told_before_anything_is_sent(transport_lab: Lab) -> None:
    """The library's own transports are known by what they are derived from; nothing is counted as a call."""
    lab = transport_lab
    other = httpx2 if lab.http is httpx else httpx
    for inner in (other.MockTransport, other.AsyncHTTPTransport if lab.asynchronous else other.HTTPTransport):
        lab.build(inner(lambda _: pytest.fail("sent")) if inner is other.MockTransport else inner())
        with pytest.raises(ConfigurationError, match="must be of the client's own library"):
            await lab.send()
    assert [] == lab.kit.operations


async def test_a_transport_may_serve_both_libraries(transport_lab: Lab) -> None:
    """One that is derived from both is taken at its word."""
    lab = transport_lab

    class Both(httpx.BaseTransport, httpx2.BaseTransport, httpx.AsyncBaseTransport, httpx2.AsyncBaseTransport):
        def __getattribute__(self, name: str) -> Any:
            return getattr(lab.service, name)

    lab.build(Both())
    assert 200 == (await lab.send()).status_code


def test_a_request_of_no_library_needs_a_transport() -> None:
    """A sentence says so."""

    class Url:
        host, port, scheme, query, path = "h", None, "https", b"", "/"

    class Headers(dict[str, str]):
        raw: tuple[tuple[bytes, bytes], ...] = ()

    class Odd:
        method, url, extensions, content = "GET", Url(), {}, b""  # type: ignore[var-annotated]
        headers = Headers()

    with pytest.raises(ConfigurationError, match="must be given where a client is neither of httpx nor of httpx2"):
        ResilientTransport(pacing=None).handle_request(Odd())
    set_orchestrator(None)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"transport": object()}, "transport: must have the methods handle_request, close"),
        ({"config": {}}, "config: must be a ResilienceConfig"),
        (
            {"config": ResilienceConfig(retry=RetryConfig(retry_on_result=bool))},
            "config: must have no retry_on_result: an answer is judged by its status",
        ),
        (
            {"config": ResilienceConfig(hedge=HedgeConfig())},
            "config: must have no hedge: .*; hedge the async function that makes",
        ),
        (
            {"config": ResilienceConfig(idle_timeout=1.0)},
            r"ResilientTransport\.config\.idle_timeout: must be None: nothing cuts a plain",
        ),
        ({"config": ResilienceConfig(first_item_timeout=1.0)}, r"config\.first_item_timeout: must be None: .*, got 1\.0"),
        ({"resilience": 1}, "resilience: must be an AIServiceResilience or None"),
        ({"breaker_per": "hosts"}, "breaker_per: must be one of 'host', 'key'; did you mean 'host'"),
        ({"idempotency_header": "Idem Key"}, "idempotency_header: must be the name of a header, or None"),
        ({"terminal_events": {"/x": "[DONE]"}}, "terminal_events: must map ends of paths to tuples of event names"),
        ({"terminal_events": [1]}, "terminal_events: must map ends of paths to tuples of event names"),
        ({"buffer_bytes": -1}, "buffer_bytes: must be a whole number of at least 0"),
        ({"pacing": 1}, "pacing: must have the methods guard"),
    ],
)
def test_wrong_options_are_told(options: dict[str, Any], sentence: str) -> None:
    """Each by its name and its rule."""
    with pytest.raises(ConfigurationError, match=sentence):
        ResilientTransport(**options)


@pytest.mark.parametrize(
    ("kind", "inner", "methods"),
    [
        (AsyncResilientTransport, httpx.HTTPTransport, "handle_async_request, aclose"),
        (AsyncResilientTransport, ResilientTransport, "handle_async_request, aclose"),
        (ResilientTransport, httpx.AsyncHTTPTransport, "handle_request, close"),
        (ResilientTransport, AsyncResilientTransport, "handle_request, close"),
    ],
)
def test_an_async_transport_wants_an_async_one(kind: Any, inner: Any, methods: str) -> None:
    """A sync transport is none, nor the other way round."""
    with pytest.raises(ConfigurationError, match=rf"{kind.__name__}\.transport: must have the methods {methods}"):
        kind(inner())


def test_an_async_transport_names_itself() -> None:
    """It may have the time limits that a plain one must not have."""
    AsyncResilientTransport(config=ResilienceConfig(idle_timeout=1.0, first_item_timeout=1.0))
    with pytest.raises(ConfigurationError, match=r"AsyncResilientTransport\.buffer_bytes"):
        AsyncResilientTransport(buffer_bytes=-1)


async def test_a_client_of_the_other_kind_is_told(http: ModuleType) -> None:
    """At its first request, or where it is entered; closing it does no harm."""
    sentence = r"^ResilientTransport: is not for an async client: give it AsyncResilientTransport$"
    wrong: Any = ResilientTransport(pacing=None)
    client = http.AsyncClient(transport=wrong)
    with pytest.raises(ConfigurationError, match=sentence):
        await client.get("https://api.example.com/")
    await client.aclose()
    with pytest.raises(ConfigurationError, match=sentence):
        async with http.AsyncClient(transport=wrong):
            pass
    sentence = r"^AsyncResilientTransport: is not for a plain client: give it ResilientTransport$"
    wrong = AsyncResilientTransport(pacing=None)
    plain = http.Client(transport=wrong)
    with pytest.raises(ConfigurationError, match=sentence):
        plain.get("https://api.example.com/")
    plain.close()
    with pytest.raises(ConfigurationError, match=sentence), http.Client(transport=wrong):
        pass


async def test_failures_are_told_without_what_was_said(transport_lab: Lab) -> None:
    """The breaker's last failure keeps neither the response nor the request with its secrets."""
    lab = transport_lab
    lab.listen(CallFailed)
    lab.script(error(lab))
    await lab.send(headers={"authorization": "Bearer sk-canary"})
    failure = lab.kit.get_circuit_breaker("api.example.com").last_failure
    assert ("503", "ErrorResponse") == (str(failure), lab.events[0].error_type)
    assert not hasattr(failure, "response")


def test_the_config_is_the_default_one_where_none_is_given() -> None:
    """Three attempts, a breaker, a retry budget, and no deadline."""
    config = ResilientTransport()._options.config
    assert (3, True, None) == (config.retry and config.retry.max_attempts, config.retry_budget is not None, config.deadline)
    assert isinstance(config, ResilienceConfig)


# --- the transport beneath, and handshakes ---------------------------------------------------------------------------------


class Inner:
    """A transport that has to be entered."""

    def __init__(self, service: Any) -> None:
        self.service, self.is_open, self.closed = service, False, 0

    def __enter__(self) -> Any:
        self.is_open = True
        return self

    def __exit__(self, *error: object) -> None:
        self.is_open = False

    async def __aenter__(self) -> Any:
        return self.__enter__()

    async def __aexit__(self, *error: object) -> None:
        self.__exit__(*error)

    def handle_request(self, request: Any) -> Any:
        assert self.is_open
        return self.service.handle_request(request)

    async def handle_async_request(self, request: Any) -> Any:
        assert self.is_open
        return await self.service.handle_async_request(request)

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        self.close()


async def test_the_transport_beneath_is_entered_and_left(transport_lab: Lab) -> None:
    """As a client would do it; one that cannot be entered is closed, and so is each when the client is."""
    lab = transport_lab
    inner = Inner(lab.service)
    lab.build(inner)
    client = lab.client()
    if lab.asynchronous:
        async with client:
            assert 200 == (await client.get("https://api.example.com/")).status_code
        await lab.client().aclose()
    else:
        with client:
            assert 200 == client.get("https://api.example.com/").status_code
        lab.client().close()
    assert (False, 1) == (inner.is_open, inner.closed)


@pytest.mark.parametrize(
    "name", ["error", "answer", "broken", "error in a 200", "truncated stream", "stream that fails", "refused stream"]
)
async def test_each_answer_is_closed_once(transport_lab: Lab, name: str) -> None:
    """Whatever comes of it."""
    lab = transport_lab
    events = {"content-type": "text/event-stream"}
    failed = b"event: error\ndata: {}\n\n"
    lab.script(
        {
            "error": error(lab),
            "answer": lab.Answer(),
            "broken": lab.Answer(breaks=lab.http.ReadError("reset")),
            "error in a 200": answer(lab, json.dumps(ERROR).encode()),
            "truncated stream": lab.Answer(200, (b": hello\n\n",), events),
            "stream that fails": lab.Answer(200, (failed, failed), events),
            "refused stream": lab.Answer(200, (b"data: 1\n\n", failed), events),
        }[name]
    )
    closes = []
    plain = lab.service._stream

    def counting(given: Any) -> Any:
        stream = plain(given)
        kind, number = type(stream), len(closes)
        closes.append(0)
        close = kind.close

        def closing(self: Any) -> None:
            closes[number] += 1
            close(self)

        kind.close = closing
        return stream

    lab.service._stream = counting
    with contextlib.suppress(Exception):
        await lab.send()
    assert [1] * lab.requests == closes


CHALLENGES = {
    "digest": ("", 'Digest realm="a", nonce="1", qop="auth"', True),
    "stale": ('Digest username="me", nonce="1"', 'Digest realm="a", nonce="2", stale=true', True),
    "another nonce": ('Digest username="me", nonce="1"', 'Digest realm="a", nonce="2"', False),
    "negotiate": ("", "Negotiate", True),
    "a round": ("NTLM TlRMTVNTUAAB", "NTLM TlRMTVNTUAAC", True),
    "kerberos": ("Negotiate YII", "Negotiate oYG2", True),
    "another scheme": ("SCRAM-SHA-256 data=biws", "SCRAM-SHA-256 data=cj1h", True),
    "its own scheme": ("Kerberos YII", "Kerberos oYG2", True),
    "refused": ("NTLM TlRMTVNTUAAD", "NTLM", False),
}


@pytest.mark.parametrize("name", CHALLENGES)
async def test_a_step_of_a_handshake_latches_nothing(transport_lab: Lab, name: str) -> None:
    """The client goes on with the next one; where the 401 is a step for sure, it is no failure either."""
    lab = transport_lab
    reply, challenge, is_step = CHALLENGES[name]
    lab.build(pacing=Pacing(clock=lab.clock))
    unauthorized = lab.Answer(401, (b"",), {"www-authenticate": challenge})
    lab.script(unauthorized, unauthorized, lab.Answer())
    headers = {"authorization": reply} if reply else {}
    assert [401, 401, 200] == [(await lab.send(headers=headers)).status_code for _ in range(3)]
    assert (3 if is_step else 1) == lab.counted()["successful_calls"]


async def test_a_401_of_any_other_kind_latches(transport_lab: Lab) -> None:
    """A bearer token is refused for good, whatever else the service would take."""
    lab = transport_lab
    lab.build(pacing=Pacing(clock=lab.clock))
    lab.script(lab.Answer(401, (b"",), {"www-authenticate": "Negotiate, Digest"}))
    await lab.send(headers={"authorization": "Bearer wrong"})
    with pytest.raises(CredentialRefusedError):
        await lab.send(headers={"authorization": "Bearer wrong"})


async def test_digest_access_goes_through(transport_lab: Lab) -> None:
    """Httpx's own flow, with a nonce that is stale from one request to the next."""
    lab = transport_lab
    lab.build(pacing=Pacing(clock=lab.clock))

    def challenge(nonce: str) -> Any:
        return lab.Answer(401, (b"",), {"www-authenticate": f'Digest realm="a", nonce="{nonce}", qop="auth", stale=true'})

    auth = lab.http.DigestAuth("me", "secret")
    for nonce in ("1", "2", "3"):
        lab.script(challenge(nonce), lab.Answer())
        assert 200 == (await lab.send(auth=auth)).status_code
        assert 2 == lab.requests


# --- JSON that was promised ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("accept", "requests"), [("application/json", 3), ("*/*", 1), ("text/html, application/json", 1)])
async def test_a_page_is_an_error_for_who_accepts_json_only(transport_lab: Lab, accept: str, requests: int) -> None:
    """As SDKs do: asked for again, counted, and at last handed over as it is; to anybody else it may be the answer."""
    lab = transport_lab
    lab.listen(CallFailed)
    page = b"<html><title>Sign in</title></html>"
    lab.script(lab.Answer(200, (page,), {"content-type": "text/html; charset=utf-8"}))
    response = await lab.send(headers={"accept": accept})
    assert (200, page, requests) == (response.status_code, response.content, lab.requests)
    assert ["server_error"] * (requests == 3) == [event.kind.value for event in lab.events]


async def test_an_empty_answer_to_some_methods_is_one(transport_lab: Lab) -> None:
    """To HEAD, and to those that delete or replace; and with a status that says so."""
    lab = transport_lab
    empty = lab.Answer(200, (), {"content-type": "application/json"})
    for method in ("HEAD", "DELETE", "PUT"):
        lab.script(empty)
        await lab.send(method)
        assert 1 == lab.requests
    lab.script(lab.Answer(202, (), {"content-type": "application/json"}))
    await lab.send()
    assert {"total_calls": 4, "successful_calls": 4} == lab.counted()


@pytest.mark.parametrize("content_type", ["text/json", "text/plain; charset=utf-8", None])
async def test_json_under_another_content_type_is_judged(transport_lab: Lab, content_type: str | None) -> None:
    """Whoever accepts JSON alone takes the body for it, and an error in it is asked for again."""
    lab = transport_lab
    headers = {} if content_type is None else {"content-type": content_type}
    failed = lab.Answer(200, (b'{"base_resp": {"status_code": 1002, "status_msg": "rate limit exceeded(RPM)"}}',), headers)
    lab.script(failed, lab.Answer(200, (b'{"id": "1"}',), headers))
    response = await lab.send(headers={"accept": "application/json"})
    assert (b'{"id": "1"}', 2) == (response.content, lab.requests)


async def test_text_stays_text(transport_lab: Lab) -> None:
    """Neither an empty answer nor words under the content type of a text are errors."""
    lab = transport_lab
    for body in (b"", b"<p>", b"ok"):
        lab.script(lab.Answer(200, (body,), {"content-type": "text/plain"}))
        assert body == (await lab.send(headers={"accept": "application/json"})).content
        assert 1 == lab.requests
