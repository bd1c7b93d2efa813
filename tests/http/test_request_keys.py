"""Inside a call or a job, what a transport or JSON client sends has keys that are the same when it is done again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from resilience_kit import RetryConfig
from resilience_kit.context import IdempotencyKeyHolder, current_call
from resilience_kit.errors import ServerError
from resilience_kit.http import APIClient, AsyncAPIClient


class _Job(IdempotencyKeyHolder):
    def __init__(self, key: str) -> None:
        self._key, self._counts = key, None

    def remaining(self) -> float | None:
        return None


@contextlib.contextmanager
def in_job(key: str = "job-1") -> Iterator[None]:
    """One run of a job."""
    token = current_call.set(_Job(key))
    yield
    current_call.reset(token)


async def sent_in(lab, key, *bodies, **given):
    """The keys of requests that are sent within one run of a job."""
    lab.script(lab.Answer())
    with in_job(key):
        for body in bodies:
            await lab.send(json=body, **given)
    return lab.keys


async def test_transport_key_in_a_job_is_the_same_in_its_next_run(transport_lab):
    """The same request has the same key; another one, the same one again and another job's have others."""
    lab = transport_lab
    first = await sent_in(lab, "job-1", {"a": 1}, {"a": 2}, {"a": 1})
    assert first == await sent_in(lab, "job-1", {"a": 1}, {"a": 2}, {"a": 1})
    assert 3 == len(set(first))
    assert not set(first) & set(await sent_in(lab, "job-2", {"a": 1}, {"a": 2}))
    assert all(len(key) == 32 for key in first)
    reordered = await sent_in(lab, "job-1", {"a": 2}, {"a": 1})
    assert [first[1], first[0]] == reordered  # so concurrent requests need no order


async def test_transport_key_is_the_same_in_each_attempt_of_the_call_around(transport_lab):
    """A call that is repeated sends what it has sent before under the key that it had."""
    lab = transport_lab
    lab.script(lab.Answer())
    attempts = []

    @lab.kit.with_resilience("ask", custom_config=lab.config(deadline=60.0))
    async def ask():
        attempts.append(1)
        await lab.send(json={"a": 1})
        await lab.send(json={"a": 2})
        if len(attempts) < 3:
            raise ServerError

    await ask()
    assert lab.keys[:2] * 3 == lab.keys
    assert lab.keys[0] != lab.keys[1]


async def test_transport_key_of_a_form_does_not_depend_on_its_boundary(transport_lab):
    """The parts of a form are separated by random text."""
    lab, keys = transport_lab, []
    for name in ("x", "x", "y"):
        lab.script(lab.Answer())
        with in_job():
            await lab.send(files={"file": (name, b"content")})
        keys += lab.keys
    assert keys[0] == keys[1] != keys[2]


async def test_transport_key_of_an_sdks_own_retry_is_that_of_its_first_request(transport_lab):
    """An SDK that retries by itself sends the same request with a count in a header."""
    lab = transport_lab
    lab.script(lab.Answer())
    with in_job():
        for count in ("0", "1", "2", "0"):
            await lab.send(json={"a": 1}, headers={"x-stainless-retry-count": count})
    assert lab.keys[0] == lab.keys[1] == lab.keys[2] != lab.keys[3]


async def test_transport_key_of_a_streamed_body_is_derived_too(transport_lab):
    """Of a body that is not in memory nothing is known but where it goes, and that it is the second one."""
    lab, runs = transport_lab, []

    async def pieces():
        yield b"piece"

    for _ in range(2):
        lab.script(lab.Answer())
        with in_job():
            for _ in range(2):
                await lab.send(content=pieces() if lab.asynchronous else iter([b"piece"]))
        runs.append(lab.keys)
    assert runs[0] == runs[1]
    assert 2 == len(set(runs[0]))


def _client_of(kind, keys):
    """A client over one that notes the keys of what it is to send."""

    class Client:
        def request(self, _method, _url, **given):
            keys.append(given["headers"]["Idempotency-Key"])
            return {}

    class AsyncClient:
        async def request(self, _method, _url, **given):
            keys.append(given["headers"]["Idempotency-Key"])
            return {}

    return kind("https://api.example.com", client=(Client if kind is APIClient else AsyncClient)(), retry_config=RetryConfig())


@pytest.mark.parametrize("kind", [APIClient, AsyncAPIClient])
async def test_client_key_in_a_job_is_the_same_in_its_next_run(kind):
    """As of the transports; what can be sent as JSON, form or bytes is told apart."""
    runs = []
    bodies = [{"json": {"a": 1}}, {"json": {"a": 2}}, {"json": {"a": 1}}, {"content": b"\xff"}, {"data": {b"k": "v"}}]
    for _ in range(2):
        keys: list[str] = []
        client = _client_of(kind, keys)
        with in_job():
            for given in bodies:
                result = client.request("POST", "/things", **given)
                if kind is AsyncAPIClient:
                    await result
        runs.append(keys)
    assert runs[0] == runs[1]
    assert len(bodies) == len(set(runs[0]))


@pytest.mark.parametrize("kind", [APIClient, AsyncAPIClient])
async def test_client_key_outside_of_a_call_is_random(kind):
    """Where nothing is around the request, nobody will do it again by the same key."""
    keys: list[str] = []
    client = _client_of(kind, keys)
    for _ in range(2):
        result = client.request("POST", "/things", json={})
        if kind is AsyncAPIClient:
            await result
    assert 2 == len(set(keys))
