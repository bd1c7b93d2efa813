"""Services and callers that mean harm, or do it: what they say is not repeated, and breaks nothing."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import httpx
import pytest

from resilience_kit.errors import DeadlineExceededError, InvalidRequestError, TransientAIError
from resilience_kit.http import AsyncAPIClient, response_stream
from resilience_kit.http.pacing import Pacing
from resilience_kit.http.rate_limit_headers import BucketReading, RemoteBucket, SendPosition
from resilience_kit.outcome import Outcome, OutcomeKind
from resilience_kit.testing import FakeClock

Lab = Any
BASE = "https://api.example.com"
EVENTS = {"content-type": "text/event-stream"}
DEEP = b"[" * 200_000


def beneath(answer: Any, **options: Any) -> httpx.AsyncClient:
    """A client whose every request gets this answer."""
    return httpx.AsyncClient(transport=httpx.MockTransport(answer), **options)


@pytest.mark.parametrize(
    "held",
    [
        {"headers": {"X-Api-Key": "canary-is-a-key"}},
        {"params": {"key": "canary-is-a-key"}},
        {"cookies": {"session": "canary-is-a-key"}},
        {"base_url": "https://canary-is-a-key:@api.example.com"},
        {"base_url": "https://u:canary-is-a-key@api.example.com"},
    ],
)
async def test_what_a_client_of_ones_own_holds_is_not_repeated_either(held: dict[str, Any]) -> None:
    """A service says in its error what it was sent (invariant 78)."""

    def echoes(_: httpx.Request) -> httpx.Response:
        return httpx.Response(400, json={"error": {"message": "no such key: canary-is-a-key"}})

    with pytest.raises(InvalidRequestError) as caught:
        await AsyncAPIClient(BASE, client=beneath(echoes, **held)).get("/x")
    assert "no such key: ..." == caught.value.excerpt
    assert "canary" not in str(caught.value)


async def test_a_client_of_another_make_need_hold_nothing() -> None:
    """Nor need what it holds be what httpx's do."""

    class Other:
        headers, params, cookies, base_url = 5, "x", object(), None

        async def request(self, *_: Any, **__: Any) -> Any:
            return httpx.Response(400, text="no", request=httpx.Request("GET", BASE))

    with pytest.raises(InvalidRequestError, match="no"):
        await AsyncAPIClient(BASE, client=Other()).get("/x")


async def test_json_that_is_too_deep_is_none() -> None:
    """As JSON, and in an event that may be an error."""

    def deep(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/x":
            return httpx.Response(200, content=DEEP)
        return httpx.Response(200, headers=EVENTS, content=b'data: {"error":' + DEEP + b"\n\n")

    client = AsyncAPIClient(BASE, client=beneath(deep))
    with pytest.raises(TransientAIError, match="no JSON"):
        await client.get("/x")
    assert 1 == len([event async for event in client.stream("POST", "/events")])


def test_a_client_outlives_an_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next loop gets connections of its own; while one runs there is one client beneath."""
    made = []

    class Beneath(httpx.AsyncClient):
        def __init__(self, **options: Any) -> None:
            made.append(self)
            super().__init__(transport=httpx.MockTransport(lambda _: httpx.Response(200, json=1)), **options)

    monkeypatch.setattr(httpx, "AsyncClient", Beneath)
    client = AsyncAPIClient(BASE)

    async def use(*, last: bool) -> list[int]:
        answers = [await client.get("/x"), await client.get("/x")]
        if last:
            await client.close()
        return answers

    assert [1, 1, 1, 1] == [*asyncio.run(use(last=False)), *asyncio.run(use(last=True))]
    assert (2, True) == (len(made), made[1].is_closed)


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("POST", 204)])
async def test_an_answer_without_a_body_is_no_broken_stream(transport_lab: Lab, method: str, status: int) -> None:
    """Whatever type the service says that it would be of."""
    lab = transport_lab
    lab.script(lab.Answer(status, (), EVENTS))
    response = await lab.send(method, f"{BASE}/v1/messages")
    assert (status, 1) == (response.status_code, lab.requests)


async def test_media_types_ignore_case(transport_lab: Lab) -> None:
    """An error in a 200 is one."""
    lab = transport_lab
    lab.script(lab.Answer(200, (b'{"error":{"type":"server_error"}}',), {"content-type": "Application/JSON"}), lab.Answer())
    await lab.send()
    assert 2 == lab.requests


async def test_a_request_after_a_redirect_is_as_good_as_any(transport_lab: Lab) -> None:
    """Its body is in memory, though the library does not say so."""
    lab = transport_lab
    lab.script(lab.Answer(302, (), {"location": "/b"}), lab.Answer(503), lab.Answer())
    response = await lab.send("GET", f"{BASE}/a", follow_redirects=True)
    assert (200, ["/a", "/b", "/b"]) == (response.status_code, [httpx.URL(sent.url).path for sent in lab.service.sent])


class Dripping:
    """Pieces of a body, a second apart."""

    def __init__(self, lab: Lab, piece: bytes = b" ") -> None:
        self.lab, self.piece, self.given = lab, piece, 0

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(1000):
            self.lab.clock.advance(1.0)
            self.given += 1
            yield self.piece


async def test_a_body_that_drips_does_not_outlast_the_deadline(http: ModuleType, make_lab: Any) -> None:
    """Also where nobody can cut the reading off: each piece alone came in time (invariant 26)."""
    lab = make_lab(http, asynchronous=False)
    lab.build(config=lab.config(deadline=5.0))
    body = Dripping(lab)
    lab.script(lab.Answer(200, body))
    with pytest.raises(DeadlineExceededError):
        await lab.send()
    assert (5, 1) == (body.given, lab.requests)


async def test_an_error_that_drips_is_told_as_far_as_it_came(http: ModuleType, make_lab: Any) -> None:
    """It is an answer."""
    lab = make_lab(http, asynchronous=False)
    lab.build(config=lab.config(deadline=5.0))
    lab.script(lab.Answer(400, Dripping(lab, b"no")))
    response = await lab.send()
    assert (400, "no" * 5) == (response.status_code, response.text)


async def test_a_dropped_stream_is_closed_from_the_outside(http: ModuleType, make_lab: Any) -> None:
    """The answer's own generator stays until its consumers have gone, else the loop would close it under their hands."""
    lab = make_lab(http, asynchronous=True)
    lab.script(lab.Answer(200, (b"data: 1\n\n",) * 3, EVENTS))
    client = lab.client()
    response = await client.send(client.build_request("GET", BASE), stream=True)
    pieces = response.aiter_bytes()
    await anext(pieces)
    response.extensions["me"] = pieces  # a circle, for the collector
    assert 1 == len(response_stream._open_bodies)
    del response, pieces
    gc.collect()
    await asyncio.sleep(0)
    gc.collect()
    assert {} == response_stream._open_bodies
    assert {"total_calls": 1, "cancelled_calls": 1} == lab.counted()


@pytest.mark.parametrize("limit", [0.4, 1e-7])
def test_a_limit_below_one_request_does_not_shut_out_for_ever(limit: float) -> None:
    """The units may be others than ours: when all of it is there, one goes."""
    told = BucketReading(limit, 0.0, 100.0, 160.0, limit / 60.0)
    bucket = RemoteBucket(told, SendPosition(0, 0, 0, 100.0, 1), 100.0, learns_cost=False)
    assert (160.0, 200.0) == (bucket.due_at(100.0, 1.0, 0.0, 0.1, 100.0), bucket.due_at(200.0, 1.0, 0.0, 0.1, 100.0))


@pytest.mark.parametrize("text", ["nan", "-1", "1e999", "inf", "9" * 400, "0, 0", "\u0665", ""])
def test_garbage_in_a_limits_headers_says_nothing(text: str) -> None:
    """The next request goes at once."""
    names = ("limit", "remaining", "reset")
    pace = Pacing(clock=FakeClock()).for_host("api.example.com", "key")
    permit = pace.admit()
    permit.observe({f"x-ratelimit-{name}-requests": text for name in names})
    permit.settle(Outcome(OutcomeKind.SUCCESS))
    assert pace.fits()
