"""Where a JSON client's credential goes, and which clients it may be given."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import httpx
import httpx2
import pytest

from resilience_kit import ConfigurationError
from resilience_kit.http import APIClient, AsyncAPIClient, Endpoint, EndpointConfig

BASE = "https://api.example.com/v1"
KEY = {"Authorization": "Bearer sk-canary"}
ELSEWHERE = [
    "http://api.example.com/v1",
    "https://api.example.com:8443/v1",
    "https://other.example/v1",
    "HTTPS://OTHER.EXAMPLE",
    "https://api.example.com@other.example/v1",
    "https://api.example.com\\@other.example/v1",
    "https://[broken",
]
HERE = [
    "things",
    "/things",
    "https://api.example.com/",
    "https://API.example.com:443/v2?x=http://other.example",
    "//other.example/",
]


class Service:
    """Answers everything, and remembers where it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.transport = httpx.MockTransport(self.answer)

    def answer(self, request: httpx.Request) -> httpx.Response:
        """The host and the credential are kept."""
        self.asked.append((request.url.host, request.headers.get("authorization")))
        return httpx.Response(200, json={})


@pytest.fixture
def service() -> Service:
    """One for each test."""
    return Service()


# --- credentials -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ELSEWHERE)
async def test_a_credential_stays_at_its_origin(service: Service, url: str) -> None:
    """Another scheme, host or port is refused in a sentence without the address, whoever holds the headers."""
    plain, asynchronous = httpx.Client(transport=service.transport), httpx.AsyncClient(transport=service.transport)
    own = httpx.Client(transport=service.transport, base_url=BASE, headers=KEY)
    sentence = (
        r"^APIClient\.url: must have the scheme, host and port of base_url, whose credential is in the headers; use another"
    )
    for client in (APIClient(BASE, headers=KEY, client=plain), APIClient(None, client=own)):
        for use in (client.get, lambda url, client=client: list(client.stream("GET", url))):
            with pytest.raises(ConfigurationError, match=sentence) as caught:
                use(url)
            assert "canary" not in repr(caught.value)
            assert "other.example" not in repr(caught.value)
    with pytest.raises(ConfigurationError, match=r"AsyncAPIClient\.url"):
        await AsyncAPIClient(BASE, headers=KEY, client=asynchronous).get(url)
    assert [] == service.asked


@pytest.mark.parametrize("url", HERE)
async def test_its_own_origin_may_be_written_out(service: Service, url: str) -> None:
    """Upper case and the scheme's own port change nothing; an address without a scheme is a path."""
    client = httpx.AsyncClient(transport=service.transport, base_url=BASE)
    await AsyncAPIClient(BASE, headers=KEY, client=client).get(url)
    assert [("api.example.com", "Bearer sk-canary")] == service.asked


async def test_what_is_no_credential_may_go_anywhere(service: Service) -> None:
    """So may a call that brings its own, and a client without an origin of its own."""
    inner = httpx.AsyncClient(transport=service.transport)
    await AsyncAPIClient(BASE, headers={"X-Team": "a"}, client=inner).get("http://other.example/")
    await AsyncAPIClient(BASE, headers=KEY, client=inner).get("http://other.example/", headers={"AUTHORIZATION": "theirs"})
    await AsyncAPIClient(None, headers=KEY, client=inner).get("http://other.example/")
    assert [None, "theirs", "Bearer sk-canary"] == [credential for _, credential in service.asked]


async def test_an_endpoints_key_stays_at_its_origin(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its header is called; another address of the same service is none."""
    monkeypatch.setenv("EXAMPLE_KEY", "sk-canary")
    fields = {"provider": "example", "endpoint": "chat", "base_url": BASE, "api_key": "env:EXAMPLE_KEY"}
    inner = httpx.AsyncClient(transport=service.transport)
    of_client = Endpoint(
        EndpointConfig(**{**fields, "base_url": None}), httpx.AsyncClient(transport=service.transport, base_url=BASE)
    )
    named = Endpoint(EndpointConfig(**fields, api_key_header="Ocp-Apim-Subscription"), inner)
    whole = Endpoint(EndpointConfig(**{**fields, "endpoint": f"{BASE}/chat", "base_url": "http://other.example"}), inner)
    for endpoint in (of_client, named, whole):
        with pytest.raises(ConfigurationError, match=r"^Endpoint\.call\.url: must have the scheme, host and port of base_url"):
            await endpoint.call({"url": "http://other.example/"})
        with pytest.raises(ConfigurationError):
            endpoint.stream({"url": "http://other.example/"})
        await endpoint.call({"url": f"{BASE}/other"})
    await of_client.call({"url": "http://other.example/", "headers": {"authorization": "theirs"}})
    await Endpoint(EndpointConfig(**{**fields, "api_key": None}, headers={"X-Team": "a"}), inner).call(
        {"url": "http://o.example/"}
    )
    hosts = ["api.example.com"] * 3 + ["other.example", "o.example"]
    assert hosts == [host for host, _ in service.asked]


# --- names -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base_url", "name"),
    [
        (BASE, "api.example.com"),
        ("https://api.example.com:443/v1", "api.example.com"),
        ("http://api.example.com:443/v1", "api.example.com:443"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("HTTP://LocalHost:80", "localhost"),
    ],
)
def test_a_client_is_called_by_host_and_port(base_url: str, name: str) -> None:
    """As a transport's operation is: the scheme's own port is left out. One that is handed over has a base, too."""
    assert f"<APIClient {name!r}>" == repr(APIClient(base_url))
    assert f"<APIClient {name!r}>" == repr(APIClient(None, client=httpx.Client(base_url=base_url)))


def test_a_port_that_is_none_is_told() -> None:
    """Where the address is given."""
    with pytest.raises(ConfigurationError, match="base_url"):
        APIClient("http://api.example.com:99999")


# --- kinds of clients ------------------------------------------------------------------------------------------------------


class Request:
    """A function of one kind, in a client that says nothing else of itself."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.asked = answer, 0

    def request(self, *_: Any, **__: Any) -> Any:
        """One answer."""
        self.asked += 1
        return self.answer()


async def answer() -> dict[str, Any]:
    """What an async client gives."""
    return {"own": True}


class Entered:
    """An async client whose `request` is a plain function."""

    request = __aenter__ = __aexit__ = lambda *_: answer()


def test_a_client_of_the_other_kind_is_refused() -> None:
    """Where it is given, as far as it shows."""
    sentence = r"^APIClient\.client: must be a plain client, such as httpx\.Client; an async one is for AsyncAPIClient$"
    for wrong in (httpx.AsyncClient(), httpx2.AsyncClient(), AsyncAPIClient(BASE), AsyncMock(), Entered()):
        with pytest.raises(ConfigurationError, match=sentence):
            APIClient(BASE, client=wrong)
    sentence = r"^AsyncAPIClient\.client: must be an async client, such as httpx\.AsyncClient; a plain one is for APIClient$"
    for plain in (httpx.Client(), httpx2.Client(), APIClient(BASE)):
        with pytest.raises(ConfigurationError, match=sentence):
            AsyncAPIClient(BASE, client=plain)
    with pytest.raises(ConfigurationError, match=r"AsyncAPIClient\.client: must have the methods request"):
        AsyncAPIClient(BASE, client=object())


def test_a_client_of_the_other_kind_is_told_by_its_answer() -> None:
    """Where nothing shows before; the coroutine is closed, so that nobody is warned of it."""
    wrong = Request(answer)
    with pytest.raises(ConfigurationError, match=r"^APIClient\.client: must be a plain client"):
        APIClient(BASE, client=wrong).get("/things")
    plain = Request(lambda: {"own": True})
    with pytest.raises(ConfigurationError, match=r"^AsyncAPIClient\.client: must be an async client"):
        asyncio.run(AsyncAPIClient(BASE, client=plain).get("/things"))
    assert (1, 1) == (wrong.asked, plain.asked)


def test_whatever_has_the_right_request_will_do() -> None:
    """An async function, a plain one that gives an awaitable, mocks, and a client for both."""
    mock = AsyncMock()
    mock.request.return_value = {"own": True}
    both = MagicMock()
    both.request.return_value = {"own": True}
    for client in (mock, Request(answer), Entered()):
        assert {"own": True} == asyncio.run(AsyncAPIClient(BASE, client=client).get("/things"))
    for client in (both, Request(lambda: {"own": True})):
        assert {"own": True} == APIClient(BASE, client=client).get("/things")
