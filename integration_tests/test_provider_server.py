"""The fake provider as a server: what httpx and httpx2 see, its record, its schedule, and that nothing of it is left behind."""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import ModuleType

import httpx
import httpx2
import pytest

from resilience_kit.classification import classify
from resilience_kit.errors import ConfigurationError
from resilience_kit.outcome import FailureKind
from resilience_kit.testing.provider import OK, REFUSE, FakeAIProvider, Fault, Outage, SeededFaults

pytest_plugins = ["pytester"]

CHAT = {"model": "gpt-fake", "messages": [{"role": "user", "content": "What is the answer?"}]}


@pytest.fixture
def provider() -> Iterator[FakeAIProvider]:
    """A provider for one test."""
    with FakeAIProvider() as running:
        yield running


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def http(request: pytest.FixtureRequest) -> ModuleType:
    """Either HTTP library; their interfaces are the same here."""
    return request.param


def post(http: ModuleType, provider: FakeAIProvider, **more: object) -> int:
    """One chat completion, its status raised when it is an error."""
    with http.Client(timeout=more.pop("timeout", 5.0)) as client:
        response = client.post(f"{provider.openai_url}/chat/completions", json=CHAT | more)
        response.raise_for_status()
        return response.status_code


STATUSES = [
    (Fault.rate_limited(0.25), 429, FailureKind.RATE_LIMIT, 0.25),
    (Fault.rate_limited(None), 429, FailureKind.RATE_LIMIT, 0.12),
    (Fault.insufficient_quota(), 429, FailureKind.QUOTA, None),
    (Fault.server_error(), 500, FailureKind.SERVER_ERROR, None),
    (Fault.unavailable(2), 503, FailureKind.OVERLOADED, 2.0),
    (Fault.overloaded(), 529, FailureKind.OVERLOADED, None),
]


@pytest.mark.parametrize(("fault", "status", "kind", "hint"), STATUSES)
def test_a_refusal_has_its_status_and_its_kind(
    http: ModuleType, provider: FakeAIProvider, fault: Fault, status: int, kind: FailureKind, hint: float | None
) -> None:
    """`raise_for_status` of either library gives what the classifier needs."""
    provider.faults = fault
    with pytest.raises(http.HTTPStatusError) as caught:
        post(http, provider)
    verdict = classify(caught.value)
    assert (status, kind, hint) == (caught.value.response.status_code, verdict.kind, verdict.retry_after)


BREAKS = [
    (Fault.hang(), "ReadTimeout", FailureKind.TIMEOUT),
    (Fault.reset(), "ReadError", FailureKind.CONNECTION),
    (Fault.truncated(), "RemoteProtocolError", FailureKind.CONNECTION),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fault", "raised", "kind"), BREAKS)
def test_a_broken_connection_has_its_class_and_its_kind(
    http: ModuleType, provider: FakeAIProvider, fault: Fault, raised: str, kind: FailureKind, stream: bool
) -> None:
    """Hang, reset and truncation look to either library as those of a real network do."""
    provider.faults = fault
    with pytest.raises(getattr(http, raised)) as caught:
        post(http, provider, timeout=0.15, stream=stream)
    assert kind == classify(caught.value).kind


def test_connections_are_refused_for_a_while(http: ModuleType, provider: FakeAIProvider) -> None:
    """Nobody can connect while the port is closed, open connections are reset, and the same port answers afterwards."""
    port = provider.port
    with http.Client() as client:
        client.get(provider.url)
        with provider.refusing(), pytest.raises(http.ConnectError) as caught:
            client.get(provider.url)
        assert 404 == client.get(provider.url).status_code
    assert FailureKind.CONNECTION == classify(caught.value).kind
    assert (port, 2) == (provider.port, provider.total_connections)


async def test_async_clients_see_the_same(http: ModuleType) -> None:
    """`async with` works for the provider, and its thread serves the loop that waits for it."""
    async with FakeAIProvider([Fault.unavailable()]) as provider, http.AsyncClient() as client:
        answers = [await client.post(f"{provider.openai_url}/chat/completions", json=CHAT) for _ in range(2)]
    assert [503, 200] == [answer.status_code for answer in answers]


def test_a_stream_ends_with_done(http: ModuleType, provider: FakeAIProvider) -> None:
    """Every event is a data line, and the last is `[DONE]`; a stream that is not finished lacks it but ends cleanly."""

    def lines() -> list[str]:
        with http.stream("POST", f"{provider.openai_url}/chat/completions", json=CHAT | {"stream": True}) as response:
            return [line for line in response.iter_lines() if line]

    whole = lines()
    provider.faults = Fault.unfinished(after=4)
    assert ("data: [DONE]", 4) == (whole[-1], len(lines()))


def test_chunk_delay_paces_a_stream(http: ModuleType) -> None:
    """Twelve events with 10 ms between two of them take at least 0.11 s."""
    with FakeAIProvider(chunk_delay=0.01) as provider:
        begun = time.monotonic()
        post(http, provider, stream=True)
    assert 0.11 <= time.monotonic() - begun < 2.0


def test_every_request_is_on_record(provider: FakeAIProvider) -> None:
    """Time, path, fault, idempotency key and body are kept; headers and body stay out of the repr."""
    provider.faults = [Fault.server_error(), OK]
    for key in ("first", "second"):
        httpx.post(
            f"{provider.openai_url}/chat/completions",
            json=CHAT,
            headers={"Idempotency-Key": key, "Authorization": "Bearer sk-secret"},
        )
    first, second = provider.requests
    assert (1, "POST", "/v1/chat/completions", Fault.server_error(), "first") == (
        first.number,
        first.method,
        first.path,
        first.fault,
        first.idempotency_key,
    )
    assert (OK, CHAT, None) == (second.fault, second.json(), second.retry_count)
    assert 0.0 <= first.at <= second.at < 5.0
    assert "sk-secret" not in repr(first) + repr(provider.requests)


def test_clear_forgets_the_requests(provider: FakeAIProvider) -> None:
    """Counting starts anew."""
    httpx.get(provider.url)
    provider.clear()
    httpx.get(provider.url)
    assert (1, 1) == (provider.request_count, provider.requests[0].number)


def test_connections_are_counted(provider: FakeAIProvider) -> None:
    """Open ones while they are open, all of them for good."""
    with httpx.Client() as first, httpx.Client() as second:
        for client in (first, second, first):
            client.get(provider.url)
        assert (2, 2) == (provider.open_connections, provider.total_connections)
    assert wait_until(lambda: provider.open_connections == 0)
    assert 2 == provider.total_connections


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v1/chat/completions", b"", 405),
        ("POST", "/v1/nothing", b"{}", 404),
        ("POST", "/v1/chat/completions", b"{", 400),
        ("POST", "/v1/messages", b"[]", 400),
    ],
)
def test_a_wrong_request_is_refused_in_the_providers_words(
    provider: FakeAIProvider, method: str, path: str, body: bytes, status: int
) -> None:
    """The caller's own mistakes have their statuses and an error object."""
    response = httpx.request(method, provider.url + path, content=body)
    assert status == response.status_code
    assert "invalid_request_error" == response.json()["error"]["type"]


def test_an_outage_lasts_from_start_to_end() -> None:
    """Requests inside it meet its fault, those outside the script, which it does not use up."""
    with FakeAIProvider([Fault.server_error()], outages=[Outage(0.0, 0.2, Fault.unavailable())]) as provider:
        during = httpx.get(provider.url).status_code
        time.sleep(0.25)
        after = [httpx.get(provider.url).status_code for _ in range(2)]
    assert (503, [500, 404]) == (during, after)


def test_an_outage_can_refuse_connections() -> None:
    """The port closes and opens on schedule."""
    with FakeAIProvider(outages=[Outage(0.15, 0.4, REFUSE)]) as provider:
        before = httpx.get(provider.url).status_code
        assert wait_until(lambda: not connects(provider.port))
        closed = provider._now()
        assert wait_until(lambda: connects(provider.port))
        opened = provider._now()
    assert 404 == before
    assert (0.15, 0.4) == (pytest.approx(closed, abs=0.1), pytest.approx(opened, abs=0.1))


def test_the_schedule_can_start_again() -> None:
    """`restart_schedule` moves the outages and the times on record to zero."""
    with FakeAIProvider(outages=[Outage(0.0, 0.15)]) as provider:
        time.sleep(0.2)
        late = httpx.get(provider.url).status_code
        provider.restart_schedule()
        early = httpx.get(provider.url).status_code
    assert (404, 503) == (late, early)
    assert provider.requests[1].at < 0.15 < provider.requests[0].at


def test_a_port_that_refuses_is_kept(provider: FakeAIProvider) -> None:
    """While connections are refused nobody else gets the port from the system."""
    with provider.refusing():
        taken = []
        for _ in range(50):
            taken.append(raw := socket.create_server(("127.0.0.1", 0)))
            assert raw.getsockname()[1] != provider.port
        for raw in taken:
            raw.close()


def test_it_starts_and_stops_at_once_even_with_hung_requests() -> None:
    """Both take less than half a second, and a hung client sees its connection go."""
    begun = time.monotonic()
    provider = FakeAIProvider(Fault.hang()).start()
    started = time.monotonic() - begun
    hung = [Failing(provider) for _ in range(5)]
    assert wait_until(lambda: provider.request_count == 5)
    begun = time.monotonic()
    provider.stop()
    stopped = time.monotonic() - begun
    assert [httpx.ReadError] * 5 == [client.outcome() for client in hung]
    assert (True, True) == (started < 0.5, stopped < 0.5)


def test_slow_and_streaming_requests_do_not_hold_up_the_end() -> None:
    """A pending delay and a paced stream are dropped, too."""
    with FakeAIProvider(lambda request: OK if request.json().get("stream") else Fault.slow(30), chunk_delay=30) as provider:
        clients = [Failing(provider), Failing(provider, stream=True)]
        assert wait_until(lambda: provider.request_count == 2)
        begun = time.monotonic()
    assert time.monotonic() - begun < 0.5
    assert [httpx.ReadError] * 2 == [client.outcome() for client in clients]


def test_nothing_is_left_behind() -> None:
    """Threads are as before, and no resource warning comes with the garbage collection (warnings are errors here)."""
    before = set(threading.enumerate())
    for _ in range(5):
        with FakeAIProvider(Fault.truncated()) as provider, pytest.raises(httpx.RemoteProtocolError):
            post(httpx, provider)
    gc.collect()
    assert before == set(threading.enumerate())


def test_a_stopped_provider_says_so() -> None:
    """The port is free after the end, and asking for it is an error with a remedy; stopping twice is nothing."""
    provider = FakeAIProvider()
    with pytest.raises(RuntimeError, match="is not running: use it in a `with`, or call start"):
        _ = provider.url
    with provider:
        port = provider.port
        with pytest.raises(RuntimeError, match=f"runs already, on port {port}"):
            provider.start()
    provider.stop()
    with FakeAIProvider(port=port) as again:
        assert port == again.port


def test_a_taken_port_is_an_error_and_leaves_no_thread() -> None:
    """The system's own error is raised."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        FakeAIProvider(port=taken.getsockname()[1]).start()
    assert not [thread for thread in threading.enumerate() if "fake-ai-provider" in thread.name]


def test_a_plan_that_raises_is_heard_of_at_the_end() -> None:
    """The request is answered with 500, and the plan's own error leaves the `with`."""

    def broken(_request: object) -> Fault:
        raise LookupError("no such fault")

    with pytest.raises(LookupError, match="no such fault"), FakeAIProvider(broken) as provider:
        assert 500 == httpx.get(provider.url).status_code


def test_latency_may_depend_on_the_request() -> None:
    """A function of the request gives its seconds."""
    with FakeAIProvider(latency=lambda request: 0.2 if request.path == "/slow" else 0.0) as provider:
        times = []
        for path in ("/fast", "/slow"):
            begun = time.monotonic()
            httpx.get(provider.url + path)
            times.append(time.monotonic() - begun)
    assert (True, True) == (times[0] < 0.15, times[1] >= 0.2)


def test_the_answer_may_depend_on_the_prompt() -> None:
    """A function of the prompt gives the text."""
    with FakeAIProvider(answer=str.upper) as provider:
        answer = httpx.post(f"{provider.openai_url}/chat/completions", json=CHAT).json()
    assert "WHAT IS THE ANSWER?" == answer["choices"][0]["message"]["content"]


def test_requests_of_many_clients_are_all_counted() -> None:
    """Ten threads with twenty requests each: every one is on record once, under its own number."""
    with FakeAIProvider() as provider, httpx.Client() as client:
        threads = [threading.Thread(target=lambda: [client.get(provider.url) for _ in range(20)]) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert list(range(1, 201)) == [request.number for request in provider.requests]


def test_wrong_settings_are_all_named() -> None:
    """One sentence names each field, its rule and what was given."""
    with pytest.raises(ConfigurationError) as caught:
        FakeAIProvider(latency=-1, chunk_delay=float("nan"), port=-5)
    assert ["FakeAIProvider.latency", "FakeAIProvider.chunk_delay", "FakeAIProvider.port"] == [
        error.path for error in caught.value.errors
    ]


def test_seeded_faults_are_the_same_for_the_same_seed() -> None:
    """Two providers with one seed give the same statuses to the same number of requests; another seed does not."""

    def statuses(seed: int) -> list[int]:
        rates = SeededFaults({Fault.rate_limited(): 0.3, Fault.server_error(): 0.2}, seed)
        with FakeAIProvider(rates) as provider, httpx.Client() as client:
            return [client.get(provider.url).status_code for _ in range(60)]

    assert statuses(1) == statuses(1) != statuses(2)


def test_the_fixture_takes_the_marks_arguments(pytester: pytest.Pytester) -> None:
    """The plugin's fixture runs with the mark's faults, and without a mark with none."""
    pytester.makepyfile(
        """
        import httpx, pytest
        from resilience_kit.testing.provider import Fault

        def test_good(fake_ai_provider):
            assert httpx.get(fake_ai_provider.url).status_code == 404

        @pytest.mark.fake_ai_provider([Fault.unavailable()])
        def test_bad(fake_ai_provider):
            assert httpx.get(fake_ai_provider.url).status_code == 503
        """
    )
    result = pytester.runpytest_subprocess("--strict-markers")
    result.assert_outcomes(passed=2)


class Failing:
    """A client on a thread of its own that is expected to fail."""

    def __init__(self, provider: FakeAIProvider, **more: object) -> None:
        self._url, self._more = f"{provider.openai_url}/chat/completions", more
        self._raised: type[Exception] | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            httpx.post(self._url, json=CHAT | self._more, timeout=30)
        except httpx.HTTPError as error:
            self._raised = type(error)

    def outcome(self) -> type[Exception] | None:
        """What was raised, once it has ended."""
        self._thread.join()
        return self._raised


def wait_until(happens: object, seconds: float = 5.0) -> bool:
    """Whether something comes true in time."""
    limit = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > limit:
            return False
        time.sleep(0.005)
    return True


def connects(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_without_uvicorn_starting_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider can be imported and made; only its start needs the extra."""
    monkeypatch.delitem(sys.modules, "resilience_kit.testing.provider._server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn.config", None)
    with pytest.raises(ConfigurationError, match=r"needs uvicorn: pip install 'ai-resilience-kit\[testing\]'"):
        FakeAIProvider().start()


def test_importing_costs_no_server() -> None:
    """`resilience_kit.testing.provider` and the pytest plugin load neither uvicorn nor an HTTP client."""
    code = "import sys, resilience_kit.testing.provider, resilience_kit.testing.pytest_plugin; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"uvicorn", "h11", "httpx", "starlette"} & set(loaded)
