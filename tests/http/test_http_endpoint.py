"""Endpoints as data."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pydantic
import pytest

from resilience_kit import CircuitBreaker, CircuitBreakerOpenError, ConfigurationError, RetryConfig
from resilience_kit.errors import ServerError
from resilience_kit.http import AsyncAPIClient, Endpoint, EndpointConfig

BASE = "https://api.example.com/v1"


class Service:
    """Answers with statuses, one a request, then with what it was asked."""

    def __init__(self, *statuses: int) -> None:
        self.statuses, self.requests = list(statuses), list[httpx.Request]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        status = self.statuses.pop(0) if self.statuses else 200
        return httpx.Response(status, json={"asked": f"{request.method} {request.url}"})


def config(**fields: Any) -> EndpointConfig:
    """A good one, but for these fields."""
    return EndpointConfig(**{"provider": "example", "endpoint": "chat", "base_url": BASE, **fields})


def endpoint(service: Service, *, parts: dict[str, Any] | None = None, **fields: Any) -> Endpoint:
    """One whose requests go to `service`."""
    return Endpoint(config(**fields), client=httpx.AsyncClient(transport=httpx.MockTransport(service)), **(parts or {}))


# --- the data ------------------------------------------------------------------------------------------------------------


def test_an_endpoint_has_defaults() -> None:
    """What is not said is POST over HTTP, within ten seconds."""
    least = EndpointConfig(provider="example", endpoint="chat")
    assert ("http", None, "POST", 10.0, {}, {}, None, "Authorization") == (
        least.transport_type, least.base_url, least.method, least.timeout, least.headers, least.params, least.api_key,
        least.api_key_header,
    )  # fmt: skip
    with pytest.raises(pydantic.ValidationError):
        least.method = "GET"  # type: ignore[misc]  # frozen


def test_an_endpoint_may_be_stored_and_read_again() -> None:
    """It is data; there is no secret in it."""
    full = config(api_key="env:KEY", headers={"X-Api-Key": "env:OTHER", "X-Team": "a"}, params={"max_tokens": 5}, timeout=None)
    assert full == EndpointConfig.model_validate_json(full.model_dump_json())
    assert full == EndpointConfig.model_validate(full)
    assert full == EndpointConfig.model_validate(full.model_dump())


@pytest.mark.table(
    ("field", "value", "words"),
    [
        ("provider", "", "must be a name"),
        ("provider", None, "must be a name"),
        ("endpoint", "ftp://a", "must be a path below base_url, or a whole URL that begins with http:// or https://"),
        ("transport_type", "sdk", "must be 'http', got 'sdk'"),
        ("base_url", "api.example.com", "must begin with http:// or https:// and name a host"),
        ("base_url", "https://", "must begin with http://"),
        ("base_url", "https://a b", "must begin with http://"),
        ("base_url", "https://me:canary@a.example", "a credential belongs into api_key"),
        ("base_url", "https://a.example?access-token=canary", "a credential belongs into api_key"),
        ("endpoint", "https://canary@a.example/chat", "a credential belongs into api_key"),
        ("endpoint", "chat?page=1&%6Bey=canary", "a credential belongs into api_key"),
        ("method", "FETCH", "must be one of GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE, got 'FETCH'"),
        ("timeout", -1.0, "must be a finite number of seconds above 0, or None for no limit, got -1.0"),
        ("timeout", 0, "got 0"),
        ("timeout", float("nan"), "got nan"),
        ("timeout", True, "got True"),
        ("timeout", "10", "got '10'"),
        ("headers", {"X": "a\nb"}, "without line breaks"),
        ("headers", ["X"], "must map names to texts"),
        ("headers", {"Authorization": "Bearer sk-canary"}, "for a header with a credential the text is 'env:"),
        ("params", {"key": "sk-canary"}, "a credential belongs into api_key"),
        ("params", {"a": ["b"]}, "must map names to texts, numbers"),
        ("api_key", "sk-canary", "must name the variable that holds the key, as in 'env:OPENAI_API_KEY'"),
        ("api_key", "env:", "must name the variable"),
        ("api_key_header", "no name", "must be the name of a header"),
        ("metod", "GET", "is not a field; did you mean 'method'?"),
        ("sk-canary", 1, "is not a field"),
    ],
)
def test_a_wrong_field_is_told_in_a_sentence(field: str, value: Any, words: str) -> None:
    """Field, rule, what to do; a value that may hold a secret is not repeated, whichever door it comes in by."""
    fields = {"provider": "example", "endpoint": "chat", "base_url": BASE, field: value}
    for make in (lambda: EndpointConfig(**fields), lambda: EndpointConfig.model_validate(fields)):
        with pytest.raises(ConfigurationError) as caught:
            make()
        (violation,) = caught.value.errors
        assert words in str(violation)
        assert ("EndpointConfig" if "canary" in field else f"EndpointConfig.{field}") == violation.path
        assert "canary" not in repr(caught.value)
        assert caught.value.__suppress_context__


def test_all_wrong_fields_are_told_at_once() -> None:
    """Missing ones too; and what is no object of fields."""
    with pytest.raises(ConfigurationError) as caught:
        EndpointConfig(base_url="x", timeout=-1)
    assert ["provider", "endpoint", "base_url", "timeout"] == [each.path.rpartition(".")[2] for each in caught.value.errors]
    assert "EndpointConfig.provider: is required: it must be a name" in str(caught.value)
    with pytest.raises(ConfigurationError, match="EndpointConfig"):
        EndpointConfig.model_validate_json("[")
    with pytest.raises(ConfigurationError, match="EndpointConfig"):
        EndpointConfig.model_validate(5)


def test_an_endpoint_without_an_address_is_told() -> None:
    """Unless it is given a client that has one."""
    with pytest.raises(ConfigurationError, match=r"EndpointConfig\.base_url: must be given where"):
        Endpoint(config(base_url=None))
    with pytest.raises(ConfigurationError, match=r"Endpoint\.config: must be an EndpointConfig"):
        Endpoint({"provider": "example"})  # type: ignore[arg-type]  # what it must not be


# --- calls ---------------------------------------------------------------------------------------------------------------


async def test_a_call_is_the_config_and_the_request_together() -> None:
    """Method, address, headers and parameters; those of the call win."""
    service = Service()
    async with endpoint(service, params={"a": 1, "b": 2}, headers={"X-Team": "a", "X-More": "c"}) as chat:
        assert {"asked": f"POST {BASE}/chat?a=1&b=2"} == await chat.call()
        await chat.call({"method": "get", "params": {"b": 3}, "headers": {"X-Team": "b"}})
        await chat.call({"method": "PUT", "url": "other", "json": {"x": 1}})
    second, third = service.requests[1:]
    assert ("GET", "a=1&b=3", "b", "c") == (
        second.method, second.url.query.decode(), second.headers["x-team"], second.headers["x-more"],
    )  # fmt: skip
    assert ("PUT", "/v1/other", {"x": 1}) == (third.method, third.url.path, json.loads(third.content))


async def test_a_part_that_is_none_is_told() -> None:
    """A payload belongs under `json`."""
    chat = endpoint(Service())
    with pytest.raises(ConfigurationError, match=r"Endpoint\.call\.modle: is no part of a request.*under 'json'"):
        await chat.call({"modle": "gpt"})
    with pytest.raises(ConfigurationError, match="must be text, and so must url"):
        await chat.call({"method": 5})


async def test_the_key_comes_from_the_environment_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rotated key is obeyed; a missing one is told by its name; headers may refer to variables too."""
    service = Service()
    chat = endpoint(service, api_key="env:EXAMPLE_KEY", headers={"X-Api-Key": "env:EXAMPLE_OTHER"})
    own = endpoint(service, api_key="env:EXAMPLE_KEY", api_key_header="X-Goog-Api-Key")
    monkeypatch.setenv("EXAMPLE_OTHER", "o")
    with pytest.raises(ConfigurationError, match=r"EndpointConfig\.api_key: needs the variable 'EXAMPLE_KEY', which is not set"):
        await chat.call()
    for key in ("first", "second\n"):
        monkeypatch.setenv("EXAMPLE_KEY", key)
        await chat.call()
    await own.call()
    assert ["Bearer first", "Bearer second", None] == [request.headers.get("authorization") for request in service.requests]
    assert ("o", "second") == (service.requests[0].headers["x-api-key"], service.requests[2].headers["x-goog-api-key"])
    assert "first" not in repr(chat) + repr(chat.config)


async def test_breaker_and_retries_are_those_of_the_client() -> None:
    """Two attempts, then the circuit opens."""
    service, breaker = Service(500, 500), CircuitBreaker(1, name="chat")
    parts = {"circuit_breaker": breaker, "retry_config": RetryConfig(max_attempts=2, base_delay=0.0)}
    chat = endpoint(service, parts=parts)
    with pytest.raises(ServerError):
        await chat.call()
    with pytest.raises(CircuitBreakerOpenError):
        await chat.call()
    assert 2 == len(service.requests)


async def test_a_whole_address_needs_no_base() -> None:
    """It may stand in the config, or in a call."""
    service = Service()
    chat = endpoint(service, endpoint=f"{BASE}/chat", base_url=None)
    assert {"asked": f"POST {BASE}/chat"} == await chat.call()
    own = Endpoint(config(endpoint=f"{BASE}/chat", base_url=None))
    await own.close()


async def test_clients_of_all_kinds_may_be_given() -> None:
    """A JSON client, whose base and headers serve; an httpx client with a base; whatever has `request`."""
    service, asked = Service(), []
    inner = AsyncAPIClient(BASE, headers={"X-Team": "a"}, client=httpx.AsyncClient(transport=httpx.MockTransport(service)))
    based = httpx.AsyncClient(transport=httpx.MockTransport(service), base_url=BASE)

    class Own:
        async def request(self, *args: Any, **given: Any) -> Any:
            asked.append((args, given))
            return {"own": True}

    for client in (inner, based):
        assert {"asked": f"GET {BASE}/chat"} == await Endpoint(config(base_url=None), client).call({"method": "GET"})
    assert {"own": True} == await Endpoint(config(), Own()).call({"method": "GET"})
    assert [(("GET", "chat"), {})] == asked
    assert "a" == service.requests[0].headers["x-team"]
    assert not inner.closed


async def test_a_stream_has_the_same_parts() -> None:
    """Method, headers and the rest, as in a call."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=b"data: 1\n\n")

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    async with Endpoint(config(headers={"X-Team": "a"}), client) as chat:
        assert [1] == [event.json() async for event in chat.stream({"json": {}})]
    assert ("POST", "a") == (seen[0].method, seen[0].headers["x-team"])


@pytest.mark.parametrize(
    ("params", "query"),
    [
        (None, "b=1"),
        ({"b": 2}, "b=2"),
        ("a=1&a=&b=2", "a=1&a=&b=2"),
        ([("a", 1), ("a", 2)], "b=1&a=1&a=2"),
    ],
)
async def test_the_parameters_of_a_call_come_in_any_of_httpxs_forms(params: Any, query: str) -> None:
    """None of them is lost, and each goes before the endpoint's own of that name."""
    service = Service()
    async with endpoint(service, params={"b": 1}) as chat:
        await chat.call({} if params is None else {"params": params})
    assert query == service.requests[0].url.query.decode()


async def test_a_header_of_a_call_replaces_the_endpoints_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that gets two credentials may take either."""
    monkeypatch.setenv("KEY", "of-the-endpoint")
    service = Service()
    async with endpoint(service, api_key="env:KEY") as chat:
        await chat.call({"headers": {"authorization": "Bearer of-the-call"}})
    assert ["Bearer of-the-call"] == service.requests[0].headers.get_list("authorization")
