"""The JSON clients: both follow one set of rules, so each rule is shown for both."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import pickle
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest

from resilience_kit import (
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitState,
    ConfigurationError,
    RetryConfig,
    classify,
    http,
)
from resilience_kit.errors import (
    AIServiceError,
    APIConnectionError,
    APITimeoutError,
    CredentialRefusedError,
    DeadlineExceededError,
    InvalidRequestError,
    QuotaExceededError,
    RateLimitError,
    RateLimitExceededError,
    ServerError,
)
from resilience_kit.events import CallFailed, CallSucceeded, Event, RetryScheduled
from resilience_kit.http import APIClient, AsyncAPIClient
from resilience_kit.http.pacing import Pacing
from resilience_kit.limits import RateLimitConfig, RateLimiter, TokenBucketRateLimiter
from resilience_kit.orchestrator import AIServiceResilience
from resilience_kit.testing import FakeClock

BASE = "https://api.example.com/v1"
RETRY = RetryConfig(max_attempts=3, base_delay=1.0, jitter=None)
Handler = Callable[[httpx.Request], httpx.Response]


class Script:
    """A service that answers as it is told, one word a request: a status, a response, an error, or a body as JSON."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):  # anew, since a response serves one client once
            return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)
        if type(answer) is int:
            return httpx.Response(answer, json={"error": {"message": f"this is a {answer}"}})
        return httpx.Response(200, json=answer)

    @property
    def keys(self) -> list[str | None]:
        """The idempotency keys that came in."""
        return [request.headers.get("idempotency-key") for request in self.requests]


class Face:
    """One of the two clients, made and used in the same words."""

    def __init__(self, kind: type, library: ModuleType = httpx) -> None:
        self.kind, self.library = kind, library
        self.is_async = kind is AsyncAPIClient

    def beneath(self, handler: Handler, **options: Any) -> Any:
        """A client of the library that asks `handler`."""
        kind = self.library.AsyncClient if self.is_async else self.library.Client
        return kind(transport=self.library.MockTransport(handler), **options)

    def run(self, handler: Handler, use: Callable[[Any], Any], **options: Any) -> Any:
        """What `use` makes of a client; errors pass."""
        return self.use(self.kind(BASE, client=self.beneath(handler), **options), use)

    def use(self, client: Any, use: Callable[[Any], Any]) -> Any:
        """What `use` makes of this client, which is closed afterwards."""
        if not self.is_async:
            with client:
                return use(client)

        async def main() -> Any:
            async with client:
                result = use(client)
                return await result if inspect.isawaitable(result) else result

        return asyncio.run(main())


@pytest.fixture(params=[AsyncAPIClient, APIClient], ids=["async", "sync"])
def face(request: pytest.FixtureRequest) -> Face:
    """Both clients, one after the other."""
    return Face(request.param)


@pytest.fixture
def clock() -> FakeClock:
    """Time that jumps."""
    return FakeClock()


def get(client: Any) -> Any:
    """A plain GET."""
    return client.get("/things")


def post(client: Any) -> Any:
    """A plain POST."""
    return client.post("/things", json={"name": "x"})


# --- initialisation and closing ------------------------------------------------------------------------------------------


def test_a_client_is_as_it_was_asked_for(face: Face) -> None:
    """The arguments are attributes; nothing is made before it is used."""
    headers = {"X-Team": "a"}
    client = face.kind(BASE, 5.0, headers)
    assert (BASE, 5.0, headers, None, False) == (client.base_url, client.timeout, client.headers, client._client, client._closed)
    assert (10.0, None) == (face.kind(BASE).timeout, face.kind(BASE).headers)
    assert f"<{face.kind.__name__} 'api.example.com'>" == repr(client)


def test_the_client_beneath_is_made_of_httpx_at_its_first_use(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes from the module's attribute, gets base, timeout and headers once, and its request what was given."""
    made, asked = [], []

    class Beneath:
        def __init__(self, **options: Any) -> None:
            made.append(options)
            self.is_closed = False

        def request(self, *args: Any, **given: Any) -> Any:
            asked.append((args, given))
            response = httpx.Response(200, json={"a": 1}, request=httpx.Request("GET", BASE))
            return _soon(response) if face.is_async else response

        def close(self) -> None:
            self.is_closed = True

        async def aclose(self) -> None:
            self.is_closed = True

    monkeypatch.setattr(httpx, "AsyncClient" if face.is_async else "Client", Beneath)
    client = face.kind(BASE, headers={"X-Team": "a"})
    kept = []

    def use(client: Any) -> Any:
        kept.append(client._client)
        client._get_client()
        kept.append(client._client)
        return get(client)

    assert {"a": 1} == face.use(client, use)
    assert [{"base_url": BASE, "timeout": 10.0, "headers": {"X-Team": "a"}}] == made
    assert [(("GET", "/things"), {})] == asked
    assert (None, True, True, None) == (kept[0], kept[1].is_closed, client.closed, client._client)


async def _soon(value: Any) -> Any:
    return value


def test_threads_that_begin_together_share_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the others have made meanwhile is closed."""
    made: list[httpx.Client] = []
    together = threading.Barrier(4, timeout=10.0)
    kind = httpx.Client

    def make(**options: Any) -> httpx.Client:
        together.wait()
        made.append(kind(**options, transport=httpx.MockTransport(Script({}))))
        return made[-1]

    monkeypatch.setattr(httpx, "Client", make)
    with APIClient(BASE) as client, ThreadPoolExecutor(4) as pool:
        assert [{}] * 4 == list(pool.map(lambda _: get(client), range(4)))
        assert 1 == len([each for each in made if not each.is_closed])
    assert 4 == len([each for each in made if each.is_closed])


def test_leaving_the_context_closes_also_after_an_error(face: Face) -> None:
    """The exit calls `close`, which may be called again; a closed client refuses."""
    client = face.kind(BASE)
    closed = []
    close = client.close
    client.close = lambda: closed.append(True) or close()

    def fail(_: Any) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        face.use(client, fail)
    assert ([True], True) == (closed, client._closed)
    with pytest.raises(RuntimeError, match=f"this {face.kind.__name__} is closed; make another one"):
        face.use(client, get)


def test_a_client_that_was_handed_over_stays_open(face: Face) -> None:
    """Who made it closes it."""
    beneath = face.beneath(Script({}))
    face.use(face.kind(BASE, client=beneath), get)
    assert not beneath.is_closed


def test_a_client_that_is_forgotten_says_so(face: Face) -> None:
    """A ResourceWarning that tells how to close it; none for one that was not used, was closed, or was handed over."""

    async def forget_async(use: bool) -> None:
        client = AsyncAPIClient("http://127.0.0.1:9")
        if use:
            client._get_client()
        del client
        gc.collect()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def forget(use: bool) -> None:
        client = APIClient("http://127.0.0.1:9")
        if use:
            client._get_client()
        del client
        gc.collect()

    def warned(use: bool) -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            asyncio.run(forget_async(use)) if face.is_async else forget(use)
        return [str(each.message) for each in caught]

    advice = "`async with`, or await close()" if face.is_async else "`with`, or call close()"
    assert [f"unclosed <{face.kind.__name__} '127.0.0.1:9'>: use it in {advice}"] == warned(use=True)
    assert [] == warned(use=False)


async def test_a_forgotten_client_is_closed_by_its_loop() -> None:
    """Its connections do not outlive it for as long as the loop runs."""
    client = AsyncAPIClient("http://127.0.0.1:9")
    beneath = client._get_client()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del client
        gc.collect()
    await asyncio.sleep(0.0)
    await asyncio.sleep(0.0)
    assert beneath.is_closed


def test_without_httpx_a_client_takes_httpx2_or_says_what_to_install(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    """httpx2 is enough; with neither, a sentence names the extra. A client that was handed over needs none of them."""
    monkeypatch.setitem(sys.modules, "httpx", None)
    client = face.kind(BASE)
    assert "httpx2" == type(client._get_client()).__module__.partition(".")[0]
    face.use(client, lambda _: None)
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'ai-resilience-kit\[http\]'"):
        face.kind(BASE)._get_client()
    assert {} == face.run(Script({}), get)


def test_what_is_wrong_is_told_at_once_and_no_secret_with_it(face: Face) -> None:
    """Every field with its rule and what to do; neither addresses nor headers are repeated."""
    with pytest.raises(ConfigurationError) as caught:
        face.kind(
            "api.example.com/?key=sk-canary-1",
            timeout=-1.0,
            headers={"Authorization": "Bearer sk-canary-2\n"},
            client=object(),
            circuit_breaker=object(),
            retry_config=3,
            rate_limiter=object(),
            deadline=0.0,
            idempotency_header="no name",
            name=1,
            pacing=True,
            clock=object(),
        )
    fields = [violation.path.partition(".")[2] for violation in caught.value.errors]
    wanted = (
        "base_url timeout headers client circuit_breaker retry_config pacing deadline name clock rate_limiter idempotency_header"
    )
    assert wanted.split() == fields
    assert "must begin with http:// or https:// and name a host" in str(caught.value)
    assert "canary" not in repr(caught.value)
    for headers in (["a"], {"a": 1}):
        with pytest.raises(ConfigurationError, match="must map names to texts"):
            face.kind(BASE, headers=headers)
    for url in ("https://", "ftp://api.example.com", "", "http://[", None):
        with pytest.raises(ConfigurationError, match="base_url"):
            face.kind(url)


# --- requests ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_methods_send_json_and_give_json(face: Face, method: str, library: ModuleType) -> None:
    """Each of them, with either library: below the base, with our headers and what was given."""
    seen: list[Any] = []

    def answer(request: Any) -> Any:
        seen.append(request)
        return library.Response(200, json={"path": request.url.path})

    face = Face(face.kind, library)
    given = {"params": {"a": "1"}} if method in ("get", "delete") else {"json": {"b": 2}}
    found = face.run(answer, lambda client: getattr(client, method)("/things", **given), headers={"X-Team": "a"})
    assert {"path": "/v1/things"} == found
    (request,) = seen
    assert (method.upper(), "a", "Idempotency-Key" in request.headers) == (request.method, request.headers["X-Team"], False)
    assert ("a=1" if "params" in given else "") == request.url.query.decode()
    assert given.get("json") == (json.loads(request.content) if request.content else None)


def test_a_plain_get_reaches_the_client_beneath_as_it_is(face: Face) -> None:
    """One that has `request` and gives something with `raise_for_status` and `json` is enough."""
    asked = []

    class Response:
        def raise_for_status(self) -> None:
            asked.append("status")

        def json(self) -> Any:
            return _soon([1]) if face.is_async else [1]

    class Beneath:
        def request(self, *args: Any, **given: Any) -> Any:
            asked.append((args, given))
            return _soon(Response()) if face.is_async else Response()

    assert [1] == face.use(face.kind(BASE, headers={"X-Team": "a"}, client=Beneath()), get)
    assert [(("GET", "/things"), {}), "status"] == asked


def test_a_client_with_a_base_of_its_own_keeps_the_path(face: Face) -> None:
    """The same base is not put before it twice; another one loses to ours; a whole address stays."""
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200, json={})

    for base in ("", BASE, "https://other.example.com"):
        face.use(face.kind(BASE, client=face.beneath(answer, base_url=base)), get)
    face.run(answer, lambda client: client.get("https://other.example.com/x"))
    face.run(answer, lambda client: client.get(""))
    assert [f"{BASE}/things"] * 3 + ["https://other.example.com/x", BASE] == seen


def test_headers_of_a_call_beat_those_of_the_client(face: Face) -> None:
    """In any case of letters, and as pairs too."""
    service = Script({})
    for headers in ({"x-team": "b"}, [("x-team", "b")], httpx.Headers({"x-team": "b"})):
        face.run(service, lambda client, given=headers: client.get("/", headers=given), headers={"X-Team": "a", "X-More": "c"})
    assert [("b", "c")] * 3 == [(request.headers["x-team"], request.headers["x-more"]) for request in service.requests]


@pytest.mark.parametrize("status", [204, 205, 200])
def test_an_empty_answer_is_none(face: Face, status: int) -> None:
    """Whether by its status or by its body."""
    assert None is face.run(Script(httpx.Response(status, content=b"")), get)


def test_an_empty_answer_is_an_error_where_json_was_promised(face: Face) -> None:
    """By its content type: then it is the service's failure, and asked for again; to a DELETE it is an answer."""
    empty = {"content": b"", "headers": {"content-type": "application/json"}}
    with pytest.raises(ServerError, match=r"^The answer is empty \(GET api\.example\.com\)$"):
        face.run(Script(httpx.Response(200, **empty)), get)
    assert None is face.run(Script(httpx.Response(200, **empty)), lambda client: client.delete("/things/1"))
    service = Script(httpx.Response(200, **empty), {"a": 1})
    assert {"a": 1} == face.run(service, get, retry_config=RetryConfig(base_delay=0.0))


def test_a_body_that_is_no_json_is_the_services_fault(face: Face) -> None:
    """It is typed and retryable, and the body is not repeated."""
    with pytest.raises(ServerError, match=r"^The answer is no JSON \(GET api\.example\.com\)$") as caught:
        face.run(Script(httpx.Response(200, content=b"<html>sk-canary</html>")), get)
    assert (True, True) == (caught.value.__suppress_context__, classify(caught.value).retryable)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "overloaded", "type": "overloaded_error"}},
        {"type": "error"},
        {"base_resp": {"status_code": 1002, "status_msg": "rate limit exceeded(RPM)"}},
        {"object": "error", "message": "no"},
        [{"error": {"message": "overloaded"}}],
    ],
)
def test_a_good_status_with_an_error_as_body_is_an_error(face: Face, body: Any) -> None:
    """The body is nearer to the cause."""
    with pytest.raises(AIServiceError) as caught:
        face.run(Script(body), get)
    assert 200 == caught.value.status


@pytest.mark.parametrize(
    "body",
    [
        {"error": None},
        {"errors": ["x"]},
        {"status": "failed"},
        ["error"],
        "error",
        5,
        None,
        [{"id": 1}, {"error": {"message": "x"}}],
    ],
)
def test_other_bodies_are_answers(face: Face, body: Any) -> None:
    """A job that failed is no failed request."""
    assert body == face.run(Script(httpx.Response(200, json=body)), get)


# --- retries -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use", [get, post], ids=["get", "post"])
def test_without_a_part_nothing_is_repeated(face: Face, use: Callable[[Any], Any]) -> None:
    """One request, no key."""
    service = Script(500, {})
    with pytest.raises(ServerError):
        face.run(service, use)
    assert [None] == service.keys


def test_a_safe_method_is_repeated_as_it_is(face: Face, clock: FakeClock) -> None:
    """A server's error and a broken connection, then the answer."""
    service = Script(500, httpx.ReadError("reset"), {"a": 1})
    assert {"a": 1} == face.run(service, get, retry_config=RETRY, clock=clock)
    assert ([None] * 3, [1.0, 2.0]) == (service.keys, clock.sleeps)


def test_an_unsafe_method_carries_one_key_in_all_of_its_attempts(face: Face, clock: FakeClock) -> None:
    """And another one in the next request (invariant 30)."""
    service = Script(500, httpx.ReadError("reset"), {}, 500, {})

    def both(client: Any) -> Any:
        if not face.is_async:
            return [post(client), post(client)]

        async def twice() -> None:
            await post(client)
            await post(client)

        return twice()

    face.run(service, both, retry_config=RETRY, clock=clock)
    first, second = service.keys[:3], service.keys[3:]
    assert (5, 1, 1) == (len(service.keys), len(set(first)), len(set(second)))
    assert None not in service.keys
    assert first[0] != second[0]


def test_the_callers_own_key_is_sent(face: Face, clock: FakeClock) -> None:
    """Whatever it is, and no other beside it."""
    service = Script(500, {})
    use = lambda client: client.post("/", json={}, headers={"idempotency-key": "mine"})  # noqa: E731 - as `get` and `post`
    face.run(service, use, retry_config=RETRY, clock=clock)
    assert ["mine", "mine"] == service.keys


@pytest.mark.parametrize(
    ("failure", "attempts"),
    [
        (httpx.ConnectError("refused"), 2),
        (httpx.ConnectTimeout("connect"), 2),
        (httpx.PoolTimeout("pool"), 2),
        (429, 2),
        (500, 1),
        (httpx.ReadError("reset"), 1),
        (httpx.ReadTimeout("read"), 1),
    ],
    ids=str,
)
def test_without_a_key_only_what_was_surely_not_carried_out_is_repeated(
    face: Face, clock: FakeClock, failure: Any, attempts: int
) -> None:
    """A connection that was not made, and a 429 (invariant 30)."""
    service = Script(failure, {})
    with warnings.catch_warnings():
        try:
            face.run(service, post, retry_config=RETRY, clock=clock, idempotency_header=None)
        except AIServiceError:
            assert 1 == attempts
    assert [None] * attempts == service.keys


def test_a_body_that_is_used_up_is_sent_once(face: Face, clock: FakeClock) -> None:
    """A generator cannot be sent again, and an empty one must not be."""
    service = Script(500, {})

    async def pieces_async() -> Any:
        yield b"x"

    def use(client: Any) -> Any:
        return client.post("/", content=pieces_async() if face.is_async else iter([b"x"]))

    with pytest.raises(ServerError):
        face.run(service, use, retry_config=RETRY, clock=clock)
    assert [None] == service.keys


@pytest.mark.parametrize("data", [{"a": "b"}, {"a": ["b", "c"]}])
def test_a_form_is_sent_again(face: Face, clock: FakeClock, data: Any) -> None:
    """All that is kept can be."""
    service = Script(500, {})
    face.run(service, lambda client: client.post("/", data=data), retry_config=RETRY, clock=clock)
    assert 2 == len(service.requests)


def test_a_service_that_names_its_time_is_obeyed(face: Face, clock: FakeClock) -> None:
    """Not earlier than Retry-After, and not at all when it is too long (invariant 29)."""
    limited = httpx.Response(429, headers={"Retry-After": "17"}, json={})
    face.run(Script(limited, {}), get, retry_config=RETRY, clock=clock)
    assert [17.0] == clock.sleeps
    patient = httpx.Response(429, headers={"Retry-After": "600"}, json={})
    with pytest.raises(RateLimitError) as caught:
        face.run(Script(patient, {}), get, retry_config=RETRY, clock=clock)
    assert (600.0, [17.0]) == (caught.value.retry_after, clock.sleeps)


def test_the_answers_own_verdict_decides(face: Face, clock: FakeClock) -> None:
    """A 503 that says not to come again is not repeated, though its class would be; a 409 that says to is."""
    final = httpx.Response(503, headers={"x-should-retry": "false"}, json={})
    service = Script(final)
    with pytest.raises(ServerError):
        face.run(service, get, retry_config=RETRY, clock=clock)
    assert 1 == len(service.requests)
    service = Script(httpx.Response(409, headers={"x-should-retry": "true"}, json={}), {})
    face.run(service, get, retry_config=RETRY, clock=clock)
    assert 2 == len(service.requests)


def test_exceptions_named_by_the_user_are_ours(face: Face, clock: FakeClock) -> None:
    """`retry_exceptions` are compared with what the client raises."""
    config = RetryConfig(max_attempts=3, base_delay=0.0, retry_exceptions=(APIConnectionError,))
    service = Script(httpx.ReadError("reset"), 500, {})
    with pytest.raises(ServerError):
        face.run(service, get, retry_config=config, clock=clock)
    assert 2 == len(service.requests)


def test_an_answer_that_means_try_again_is_asked_for_again(face: Face, clock: FakeClock) -> None:
    """`retry_on_result` gets the parsed JSON; the last answer is returned when no attempt is left."""
    config = RetryConfig(base_delay=0.0, retry_on_result=lambda answer: answer["state"] == "queued")
    service = Script({"state": "queued"}, {"state": "done"})
    assert {"state": "done"} == face.run(service, get, retry_config=config, clock=clock)
    service = Script(*[{"state": "queued"}] * 9)
    assert {"state": "queued"} == face.run(service, get, retry_config=config, clock=clock)
    assert 3 == len(service.requests)


def test_an_operation_around_does_not_repeat_what_the_client_has(face: Face, clock: FakeClock) -> None:
    """Retries in two places multiply nothing (invariant 31)."""
    kit = AIServiceResilience(clock=clock)
    service = Script(500)
    protect = kit.with_resilience("outer", "balanced")
    with pytest.raises(ServerError):
        face.run(service, lambda client: protect(client.get)("/"), retry_config=RETRY, clock=clock)
    assert 3 == len(service.requests)


# --- breaker, limiter, pacing, deadline ----------------------------------------------------------------------------------


def test_the_breaker_sees_whole_requests(face: Face, clock: FakeClock) -> None:
    """Two requests of three attempts each are two failures; the third is refused, and nothing is sent."""
    breaker = CircuitBreaker(2, 30.0, name="api", clock=clock)
    service = Script(500)
    for _ in range(2):
        with pytest.raises(ServerError):
            face.run(service, get, retry_config=RETRY, circuit_breaker=breaker, clock=clock)
    with pytest.raises(CircuitBreakerOpenError, match="'api'; next trial in"):
        face.run(service, get, retry_config=RETRY, circuit_breaker=breaker, clock=clock)
    assert (6, CircuitState.OPEN) == (len(service.requests), breaker.state)


def test_the_breaker_recovers(face: Face, clock: FakeClock) -> None:
    """After its recovery timeout a trial closes it."""
    breaker = CircuitBreaker(1, 30.0, clock=clock)
    service = Script(500, {"a": 1})
    with pytest.raises(ServerError):
        face.run(service, get, circuit_breaker=breaker)
    clock.advance(30.0)
    assert {"a": 1} == face.run(service, get, circuit_breaker=breaker)
    assert CircuitState.CLOSED is breaker.state


def test_the_limiter_is_asked_for_each_attempt(face: Face, clock: FakeClock) -> None:
    """Three attempts take three tokens, and wait for the third."""
    limiter = TokenBucketRateLimiter(2, 10.0, clock=clock)
    retry = RetryConfig(max_attempts=3, base_delay=0.0)
    face.run(Script(500, 500, {}), get, retry_config=retry, rate_limiter=limiter, clock=clock)
    assert 5.0 == sum(clock.sleeps)


def test_a_wait_beyond_the_deadline_is_refused(face: Face, clock: FakeClock) -> None:
    """Nothing is sent for somebody who cannot wait."""
    limiter = TokenBucketRateLimiter(1, 10.0, clock=clock)
    service = Script({})
    face.run(service, get, rate_limiter=limiter, deadline=5.0, clock=clock)
    with pytest.raises(RateLimitExceededError):
        face.run(service, get, rate_limiter=limiter, deadline=5.0, clock=clock)
    assert (1, 0.0) == (len(service.requests), sum(clock.sleeps))


def test_a_limiter_may_look_at_the_request_and_at_its_answer(face: Face, clock: FakeClock) -> None:
    """Tokens per minute: an estimate is reserved, the usage in the answer is settled."""
    config = RateLimitConfig(
        rate=100,
        period=60.0,
        burst=100,
        cost=lambda asked: asked.kwargs["json"]["max_tokens"],
        usage=lambda answer: answer["used"],
    )
    limiter = RateLimiter(config, name="tokens", clock=clock)
    ask = lambda client: client.post("/", json={"max_tokens": 90})  # noqa: E731 - as `get` and `post`
    for _ in range(3):
        face.run(Script({"used": 5}), ask, rate_limiter=limiter, clock=clock)
    assert 0.0 == sum(clock.sleeps)


def test_an_async_limiter_needs_no_more_than_acquire(clock: FakeClock) -> None:
    """Whatever tells the seconds to wait; a sync client cannot ask it."""
    face, asked = Face(AsyncAPIClient), []

    class Limiter:
        async def acquire(self, tokens: float) -> float:
            asked.append(tokens)
            return 2.0 * (len(asked) > 1)

    limiter = Limiter()
    for _ in range(2):
        face.run(Script({}), get, rate_limiter=limiter, clock=clock)
    assert ([1.0, 1.0], [2.0]) == (asked, clock.sleeps)
    with pytest.raises(ConfigurationError, match="rate_limiter: must be a guard"):
        APIClient(BASE, rate_limiter=limiter)


def test_clients_of_one_key_share_their_pace(face: Face, clock: FakeClock) -> None:
    """What one of them was told parks the other; another key goes on."""
    pacing = Pacing(clock=clock)
    limited = httpx.Response(429, headers={"Retry-After": "7"}, json={})
    with pytest.raises(RateLimitError):
        face.run(Script(limited), get, pacing=pacing, headers={"Authorization": "Bearer a"}, clock=clock)
    face.run(Script({}), get, pacing=pacing, headers={"Authorization": "Bearer b"}, clock=clock)
    assert 0.0 == sum(clock.sleeps)
    face.run(Script({}), get, pacing=pacing, headers={"Authorization": "Bearer a"}, clock=clock)
    assert 7.0 == pytest.approx(sum(clock.sleeps))


def test_a_refused_credential_is_not_tried_by_everybody(face: Face, clock: FakeClock) -> None:
    """The second request is refused; a new key starts clean, in the headers of a call as well."""
    pacing, service = Pacing(clock=clock), Script(401)
    for error in (PermissionError, CredentialRefusedError):
        with pytest.raises(AIServiceError if error is PermissionError else error):
            face.run(service, get, pacing=pacing, headers={"X-Api-Key": "old"}, clock=clock)
    use = lambda client: client.get("/", headers={"X-Api-Key": "new"})  # noqa: E731 - as `get` and `post`
    face.run(Script({}), use, pacing=pacing, headers={"X-Api-Key": "old"}, clock=clock)
    assert 1 == len(service.requests)


def test_a_deadline_bounds_the_timeouts_beneath(face: Face, clock: FakeClock) -> None:
    """The step cannot take longer than the call; a longer timeout of the caller's is shortened, httpx's own left alone."""
    service = Script({})

    def timeouts(**given: Any) -> float:
        face.run(service, lambda client: client.get("/", **given), deadline=4.0, clock=clock)
        return service.requests[-1].extensions["timeout"]["read"]

    assert [4.0, 3.0, 4.0, 4.0] == [timeouts(), timeouts(timeout=3.0), timeouts(timeout=None), timeouts(timeout=9)]
    assert 9.0 == timeouts(timeout=httpx.Timeout(9.0))


def test_a_deadline_ends_the_retries(face: Face, clock: FakeClock) -> None:
    """The last real error comes at once when the next wait does not fit (invariant 26)."""
    service = Script(500)
    with pytest.raises(ServerError):
        face.run(service, get, retry_config=RETRY, deadline=2.5, clock=clock)
    assert (2, [1.0]) == (len(service.requests), clock.sleeps)


async def test_a_hung_request_is_cut_off_at_the_deadline(clock: FakeClock) -> None:
    """Async requests are interrupted."""

    class Hangs:
        async def request(self, *_: Any, **__: Any) -> None:
            await clock.sleep_async(100.0)

    async with AsyncAPIClient(BASE, client=Hangs(), deadline=3.0, clock=clock) as client:
        with pytest.raises(DeadlineExceededError):
            await client.get("/")
    assert 3.0 == clock.monotonic()


async def test_a_cancelled_request_counts_nowhere(clock: FakeClock) -> None:
    """It passes as it is, and the breaker learns nothing (invariant 28)."""
    breaker = CircuitBreaker(1, clock=clock)

    class Hangs:
        async def request(self, *_: Any, **__: Any) -> None:
            await asyncio.Event().wait()

    async with AsyncAPIClient(BASE, client=Hangs(), circuit_breaker=breaker, retry_config=RETRY, clock=clock) as client:
        task = asyncio.create_task(client.get("/"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (CircuitState.CLOSED, 0) == (breaker.state, breaker.failure_count)


# --- what is told --------------------------------------------------------------------------------------------------------


def test_errors_of_others_leave_as_they_are(face: Face) -> None:
    """A bug of a client beneath is no failure of a service."""

    class Broken:
        def request(self, *_: Any, **__: Any) -> Any:
            raise KeyError("own")

    with pytest.raises(KeyError, match="own"):
        face.use(face.kind(BASE, client=Broken()), get)


def test_a_client_within_a_client_is_one(face: Face) -> None:
    """What gives JSON already is taken as it is, and its errors too."""
    inner = face.kind(BASE, client=face.beneath(Script({"a": 1}, 429)))
    outer = face.kind(BASE, client=inner)
    assert {"a": 1} == face.use(outer, get)
    again = face.kind(BASE, client=inner)
    with pytest.raises(RateLimitError):
        face.use(again, get)


def test_a_listener_hears_of_retries_and_ends(face: Face, clock: FakeClock) -> None:
    """Under the host's name, or the one that was given."""
    heard: list[Event] = []

    def use(client: Any) -> Any:
        client.add_listener(heard.append, RetryScheduled, CallSucceeded, CallFailed)
        return get(client)

    face.run(Script(500, {}), use, retry_config=RETRY, clock=clock)
    face.run(Script(500, {}), use, retry_config=RETRY, clock=clock, name="things")
    told = [(type(event).__name__, event.operation) for event in heard]
    expected = [(kind, name) for name in ("api.example.com", "things") for kind in ("RetryScheduled", "CallSucceeded")]
    assert expected == told


def test_errors_survive_pickling(face: Face) -> None:
    """With all that they tell."""
    answer = httpx.Response(429, headers={"retry-after": "3", "x-request-id": "req_1"}, json={"message": "slow down"})
    with pytest.raises(RateLimitError) as caught:
        face.run(Script(answer), get)
    error, copy = caught.value, pickle.loads(pickle.dumps(caught.value))
    told = "429 Too Many Requests from GET api.example.com: slow down (request req_1)"
    assert (told, 3.0, 429, "req_1", "slow down", error.verdict) == (
        str(copy), copy.retry_after, copy.status, copy.request_id, copy.excerpt, copy.verdict,
    )  # fmt: skip


def test_types_of_errors_that_users_name(face: Face) -> None:
    """The table of the contract, for errors that the client beneath raises itself as for those that are raised for a status."""

    def raised(status: int) -> type[Exception]:
        response = httpx.Response(status, json={}, request=httpx.Request("GET", f"{BASE}?key=sk-canary"))

        class Raises:
            def request(self, *_: Any, **__: Any) -> Any:
                response.raise_for_status()

        with pytest.raises(AIServiceError) as caught:
            face.use(face.kind(BASE, client=Raises()), get)
        assert (None, None) == (caught.value.__cause__, caught.value.__context__)
        with pytest.raises(AIServiceError) as again:
            face.run(Script(response), get)
        assert type(again.value) is type(caught.value)
        return type(caught.value)

    assert (QuotaExceededError, RateLimitError, InvalidRequestError) == (raised(402), raised(429), raised(422))


def test_a_timeout_and_a_refused_connection(face: Face) -> None:
    """Their words are the contract's; the error beneath is chained."""
    with pytest.raises(APIConnectionError, match=r"^Connection error: refused") as caught:
        face.run(Script(httpx.ConnectError("refused")), get)
    assert isinstance(caught.value.__cause__, httpx.ConnectError)
    with pytest.raises(APITimeoutError, match=r"^Request timed out: ReadTimeout"):
        face.run(Script(httpx.ReadTimeout("")), get)


# --- what is not told ----------------------------------------------------------------------------------------------------

CANARY = "canary-7f3a"


@pytest.mark.parametrize(
    "answer",
    [
        401,
        httpx.Response(422, json={"detail": [{"msg": "wrong", "input": CANARY}], "message": f"no key {CANARY}"}),
        httpx.Response(400, text=f"you sent Authorization: Bearer {CANARY} and {CANARY}-in-the-query"),
        httpx.LocalProtocolError(f"Illegal header value b'{CANARY}'"),
        httpx.InvalidURL(f"Invalid port: '{CANARY}'"),
        httpx.ConnectError("All connection attempts failed"),
        httpx.Response(200, text=CANARY),
    ],
    ids=str,
)
def test_no_secret_leaves_a_client(face: Face, answer: Any, caplog: pytest.LogCaptureFixture, clock: FakeClock) -> None:
    """Not in the error, its traceback, an event, a log record or a repr, wherever it was sent (invariant 78)."""
    caplog.set_level("DEBUG", "resilience_kit")
    said: list[str] = []

    def use(client: Any) -> Any:
        client.add_listener(lambda event: said.append(repr(event)))
        said.append(repr(client))
        return client.post(f"/things?q={CANARY}-in-the-query", json={"password": CANARY}, headers={"X-Other": CANARY})

    base = f"https://user:{CANARY}@api.example.com"
    beneath = face.beneath(Script(answer))
    client = face.kind(base, headers={"Authorization": f"Bearer {CANARY}"}, client=beneath, retry_config=RETRY, clock=clock)
    with pytest.raises(AIServiceError) as caught:
        face.use(client, use)
    error = caught.value
    said += [repr(error), str(error), str(error.excerpt), *error.__notes__, *(str(each) for each in vars(error).values())]
    said += [line for line in traceback.format_exception(error) if CANARY in line and "CANARY" not in line]
    said += [f"{record.getMessage()} {vars(record)}" for record in caplog.records]
    assert [] == [text for text in said if CANARY in text]


def test_the_room_has_no_other_names() -> None:
    """And what is made here comes from the module that users know."""
    assert httpx is http.httpx
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        http.nothing  # noqa: B018 - looked for


def test_httpx_is_not_loaded_before_it_is_used() -> None:
    """It takes as long to import as all the rest."""
    code = "import sys; from resilience_kit.http import APIClient; APIClient('http://a'); print('httpx' in sys.modules)"
    assert b"False\n" == subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
