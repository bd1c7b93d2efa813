"""The official openai and anthropic SDKs, protected: what the upstream received and what the caller saw."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import anthropic
import openai
import pytest

from resilience_kit import (
    AIServiceResilience,
    CircuitBreakerConfig,
    CircuitBreakerOpenError,
    CircuitState,
    DeadlineExceededError,
    FailureKind,
    ResilienceConfig,
    RetryConfig,
    idempotency_key,
    remaining_time,
)
from resilience_kit.errors import APITimeoutError, StreamInterruptedError
from resilience_kit.events import CallFailed, NestedRetry, RetryScheduled
from resilience_kit.testing.provider import OK, FakeAIProvider, Fault

ANSWER = "The answer is forty-two, as far as anybody knows."
LATE = 0.4  # seconds by which a busy machine may be late
QUICK = RetryConfig(max_attempts=3, base_delay=0.01, max_delay=0.02)

Create = Callable[..., Any]


class OpenAI:
    """Chat completions."""

    module = openai
    clients = (openai.OpenAI, openai.AsyncOpenAI)
    body: Mapping[str, Any] = {"model": "gpt-fake", "messages": [{"role": "user", "content": "What is the answer?"}]}

    def url(self, provider: FakeAIProvider) -> str:
        return provider.openai_url

    def create(self, client: Any) -> Create:
        return client.chat.completions.create

    def text(self, answer: Any) -> str:
        return answer.choices[0].message.content

    def piece(self, event: Any) -> str:
        return event.choices[0].delta.content or "" if event.choices else ""


class Anthropic:
    """Messages."""

    module = anthropic
    clients = (anthropic.Anthropic, anthropic.AsyncAnthropic)
    body: Mapping[str, Any] = {
        "model": "claude-fake",
        "max_tokens": 50,
        "messages": [{"role": "user", "content": "What is the answer?"}],
    }

    def url(self, provider: FakeAIProvider) -> str:
        return provider.anthropic_url

    def create(self, client: Any) -> Create:
        return client.messages.create

    def text(self, answer: Any) -> str:
        return answer.content[0].text

    def piece(self, event: Any) -> str:
        return event.delta.text if event.type == "content_block_delta" else ""


Sdk = OpenAI | Anthropic
Ask = Callable[[], Awaitable[str]]


class Bench:
    """One SDK, one kind of client, one provider, and operations on them."""

    def __init__(self, kit: AIServiceResilience, sdk: Sdk, provider: FakeAIProvider, *, asynchronous: bool) -> None:
        self.kit, self.sdk, self.provider, self.asynchronous = kit, sdk, provider, asynchronous

    def client(self, max_retries: int = 0) -> Any:
        """A client of the provider. That it does not load certificates, which it needs none of, makes it a good deal quicker."""
        transport = (self.sdk.module.DefaultHttpxClient, self.sdk.module.DefaultAsyncHttpxClient)[self.asynchronous]
        return self.sdk.clients[self.asynchronous](
            base_url=self.sdk.url(self.provider),
            api_key="any",
            max_retries=max_retries,
            timeout=5.0,
            http_client=transport(verify=False),
        )

    @asynccontextmanager
    async def asking(
        self, config: ResilienceConfig, *, max_retries: int = 0, operation: str = "ask", **more: Any
    ) -> AsyncIterator[Ask]:
        """A protected question; what is callable among `more` is asked for at each attempt."""
        client = self.client(max_retries)
        create, text, protect = self.sdk.create(client), self.sdk.text, self.kit.with_resilience(operation, custom_config=config)

        def given() -> dict[str, Any]:
            return {**self.sdk.body, **{name: value() if callable(value) else value for name, value in more.items()}}

        @protect
        async def ask_async() -> str:
            return text(await create(**given()))

        @protect
        def ask_plain() -> str:
            return text(create(**given()))

        async def ask() -> str:
            return await (ask_async() if self.asynchronous else asyncio.to_thread(ask_plain))

        try:
            yield ask
        finally:
            await client.close() if self.asynchronous else client.close()

    @asynccontextmanager
    async def streaming(self, config: ResilienceConfig) -> AsyncIterator[Callable[[list[str]], Awaitable[None]]]:
        """A protected stream; what it gives is put into a list."""
        client = self.client()
        create, piece, protect = self.sdk.create(client), self.sdk.piece, self.kit.with_resilience("stream", custom_config=config)

        @protect
        async def stream_async() -> AsyncIterator[str]:
            async with await create(**self.sdk.body, stream=True) as events:
                async for event in events:
                    if text := piece(event):
                        yield text

        @protect
        def stream_plain() -> Iterator[str]:
            with create(**self.sdk.body, stream=True) as events:
                for event in events:
                    if text := piece(event):
                        yield text

        async def read(into: list[str]) -> None:
            if self.asynchronous:
                async for text in stream_async():
                    into.append(text)  # noqa: PERF401 - the list is read when the stream has broken
            else:
                await asyncio.to_thread(lambda: [into.append(text) for text in stream_plain()])

        try:
            yield read
        finally:
            await client.close() if self.asynchronous else client.close()

    @property
    def counted(self) -> tuple[int, int, int]:
        """Successful and failed calls, and retries, of the only operation."""
        (numbers,) = self.kit.get_metrics()["operations"].values()
        return numbers["successful_calls"], numbers["failed_calls"], numbers["retry_attempts"]


@pytest.fixture(params=[OpenAI(), Anthropic()], ids=["openai", "anthropic"])
def sdk(request: pytest.FixtureRequest) -> Sdk:
    """Either SDK."""
    return request.param


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def bench(kit: AIServiceResilience, sdk: Sdk, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Either kind of client, against a provider of its own."""
    with FakeAIProvider() as provider:
        yield Bench(kit, sdk, provider, asynchronous=request.param)


@pytest.mark.parametrize(
    "fault",
    [Fault.server_error(), Fault.unavailable(), Fault.overloaded(), Fault.reset(), Fault.truncated(), Fault.rate_limited(0.01)],
)
async def test_what_passes_by_itself_is_retried(bench: Bench, fault: Fault) -> None:
    """500, 503, 529, a reset, a cut answer and a rate limit: two of them, then the answer."""
    bench.provider.faults = [fault, fault, OK]
    async with bench.asking(ResilienceConfig(retry=QUICK)) as ask:
        assert ANSWER == await ask()
    assert (3, (1, 0, 2)) == (bench.provider.request_count, bench.counted)


async def test_retries_end(bench: Bench) -> None:
    """The SDK's own error leaves as it is, with a note that tells the attempts."""
    bench.provider.faults = Fault.unavailable()
    async with bench.asking(ResilienceConfig(retry=QUICK)) as ask:
        with pytest.raises(bench.sdk.module.InternalServerError) as caught:
            await ask()
    assert (3, (0, 1, 2)) == (bench.provider.request_count, bench.counted)
    (note,) = caught.value.__notes__
    assert note.startswith("resilience_kit: 'ask' failed after 3 attempts in 0.")


async def test_retry_after_is_obeyed(bench: Bench) -> None:
    """Neither attempt comes before the hint of the one before it, however short our own pauses (invariant 29)."""
    bench.provider.faults = [Fault.rate_limited(0.3), Fault.unavailable(0.2), OK]
    async with bench.asking(ResilienceConfig(retry=QUICK)) as ask:
        assert ANSWER == await ask()
    first, second = (later.at - earlier.at for earlier, later in pairwise(bench.provider.requests))
    assert (True, True) == (0.3 <= first < 0.3 + LATE, 0.2 <= second < 0.2 + LATE)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (ResilienceConfig(retry=QUICK), "the service asked to come back in 90.0 s"),
        (
            ResilienceConfig(retry=RetryConfig(max_retry_after=120.0), deadline=5.0),
            "the next attempt would begin after the deadline",
        ),
    ],
)
async def test_a_hint_that_is_too_long_is_not_slept(bench: Bench, config: ResilienceConfig, why: str) -> None:
    """Over max_retry_after or past the deadline: the error comes at once, and the note says why (invariants 26, 29)."""
    bench.provider.faults = Fault.rate_limited(90)
    begun = time.monotonic()
    async with bench.asking(config) as ask:
        with pytest.raises(bench.sdk.module.RateLimitError) as caught:
            await ask()
    assert time.monotonic() - begun < 2.0
    assert (1, (0, 1, 0)) == (bench.provider.request_count, bench.counted)
    assert caught.value.__notes__[0].endswith(why)


async def test_an_empty_account_is_not_asked_again(bench: Bench) -> None:
    """insufficient_quota and a low credit balance: one request, and nothing against the circuit."""
    heard: list[CallFailed] = []
    bench.kit.add_listener(heard.append, CallFailed)
    bench.provider.faults = Fault.insufficient_quota()
    async with bench.asking(ResilienceConfig(retry=QUICK, circuit_breaker=CircuitBreakerConfig(failure_threshold=1))) as ask:
        with pytest.raises(bench.sdk.module.APIStatusError):
            await ask()
    assert (1, [FailureKind.QUOTA]) == (bench.provider.request_count, [each.kind for each in heard])
    assert CircuitState.CLOSED is bench.kit.get_circuit_breaker("ask").state


async def test_a_wrong_key_is_not_asked_again(kit: AIServiceResilience, sdk: Sdk) -> None:
    """401 is the caller's trouble: one request, nothing against the circuit."""
    with FakeAIProvider(api_key="right") as provider:
        async with Bench(kit, sdk, provider, asynchronous=True).asking(ResilienceConfig(retry=QUICK)) as ask:
            with pytest.raises(sdk.module.AuthenticationError):
                await ask()
        assert (1, 0) == (provider.request_count, kit.get_circuit_breaker("ask").failure_count)


async def test_a_circuit_protects_the_service(bench: Bench) -> None:
    """With a threshold of 3, forty calls send three requests; after the open time one sends a trial."""
    bench.provider.faults = Fault.server_error()
    breaker = CircuitBreakerConfig(failure_threshold=3, recovery_timeout=0.3)
    async with bench.asking(ResilienceConfig(retry=None, circuit_breaker=breaker)) as ask:
        ends = [
            type(each).__name__
            for each in await asyncio.gather(*(_late(ask, 0.02 * n) for n in range(6)), return_exceptions=True)
        ]
        assert ["InternalServerError"] * 3 + ["CircuitBreakerOpenError"] * 3 == ends
        refused = await asyncio.gather(*(ask() for _ in range(34)), return_exceptions=True)
        assert {CircuitBreakerOpenError} == {type(each) for each in refused}
        assert 3 == bench.provider.request_count
        bench.provider.faults = OK
        await asyncio.sleep(0.35)
        assert ANSWER == await ask()
    assert (4, CircuitState.CLOSED) == (bench.provider.request_count, bench.kit.get_circuit_breaker("ask").state)


async def _late(ask: Ask, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return await ask()


async def test_the_sdks_own_retries_are_noticed_and_not_multiplied(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A client that retries twice sends three requests a call, not nine; the remedy is told once, as event and warning."""
    heard: list[NestedRetry] = []
    bench.kit.add_listener(heard.append, NestedRetry)
    bench.provider.faults = Fault.rate_limited(0.01)
    config = ResilienceConfig(retry=QUICK, circuit_breaker=CircuitBreakerConfig(failure_threshold=50))
    with caplog.at_level(logging.WARNING, "resilience_kit"):
        async with bench.asking(config, max_retries=2) as ask:
            for _ in range(2):
                with pytest.raises(bench.sdk.module.RateLimitError):
                    await ask()
    assert [0, 1, 2, 0, 1, 2] == [request.retry_count for request in bench.provider.requests]
    assert (0, 2, 0) == bench.counted
    assert ["build the client with max_retries=0 and leave retrying to this operation"] == [each.remedy for each in heard]
    assert 1 == sum("max_retries=0" in record.getMessage() for record in caplog.records)


async def test_one_key_for_all_attempts(bench: Bench) -> None:
    """`idempotency_key()` sent as a header is the same at each attempt of a call, and another one for the next call."""
    bench.provider.faults = [Fault.server_error(), Fault.reset(), OK, Fault.server_error(), OK]
    config = ResilienceConfig(retry=QUICK, idempotency_key=True)
    async with bench.asking(config, extra_headers=lambda: {"Idempotency-Key": idempotency_key()}) as ask:
        await ask()
        await ask()
    first, *others = keys = [request.idempotency_key for request in bench.provider.requests]
    assert ([first, first, keys[3], keys[3]], 2) == (others, len(set(keys)))
    assert None not in keys


async def test_a_key_comes_with_a_deadline_too(bench: Bench) -> None:
    """The first attempt under a deadline is made lightly; its key is the one of the retries all the same."""
    bench.provider.faults = [Fault.server_error(), Fault.server_error(), OK]
    config = ResilienceConfig(retry=QUICK, deadline=10.0)
    async with bench.asking(config, extra_headers=lambda: {"Idempotency-Key": idempotency_key()}) as ask:
        await ask()
    assert (3, 1) == (bench.provider.request_count, len({request.idempotency_key for request in bench.provider.requests}))


async def test_what_must_not_happen_twice_is_not_repeated(bench: Bench) -> None:
    """Not idempotent and without a key: a 500 and a reset are final, a refused connection and a 429 are not (invariant 30)."""
    config = ResilienceConfig(retry=QUICK, idempotent=False, circuit_breaker=None)
    async with bench.asking(config) as ask:
        for fault in (Fault.server_error(), Fault.reset()):
            bench.provider.clear()
            bench.provider.faults = fault
            with pytest.raises(bench.sdk.module.APIError):
                await ask()
            assert 1 == bench.provider.request_count
        bench.provider.clear()
        bench.provider.faults = [Fault.rate_limited(0.01), OK]
        assert ANSWER == await ask()
        assert 2 == bench.provider.request_count
        with bench.provider.refusing(), pytest.raises(bench.sdk.module.APIConnectionError) as caught:
            await ask()
        assert "failed after 3 attempts" in caught.value.__notes__[0]


async def test_remaining_time_bounds_the_request_itself(bench: Bench) -> None:
    """A hung request is ended by the SDK at the deadline when it is told `remaining_time()`, in sync code, too (invariant 26)."""
    bench.provider.faults = Fault.hang()
    begun = time.monotonic()
    async with bench.asking(ResilienceConfig(retry=QUICK, deadline=0.4), timeout=remaining_time) as ask:
        with pytest.raises((bench.sdk.module.APITimeoutError, DeadlineExceededError)):
            await ask()
    assert 0.35 < time.monotonic() - begun < 0.4 + 2 * LATE
    assert 1 == bench.provider.request_count


async def test_remaining_time_knows_the_attempts_own_limit(bench: Bench) -> None:
    """With an attempt timeout `remaining_time()` is that of the attempt, so that even sync code gets its retries."""
    bench.provider.faults = [Fault.hang(), Fault.hang(), OK]
    config = ResilienceConfig(retry=QUICK, attempt_timeout=0.25, deadline=5.0)
    async with bench.asking(config, timeout=remaining_time) as ask:
        assert ANSWER == await ask()
    assert (3, (1, 0, 2)) == (bench.provider.request_count, bench.counted)


@pytest.fixture
def hung(kit: AIServiceResilience, sdk: Sdk) -> Iterator[Bench]:
    """Async clients only: plain code cannot be cut off."""
    with FakeAIProvider(Fault.hang()) as provider:
        yield Bench(kit, sdk, provider, asynchronous=True)


async def test_a_hang_is_cut_by_the_attempt_timeout(hung: Bench) -> None:
    """Each attempt has its limit, counts against the circuit, and is retried; the last one ends in our own time-out error."""
    heard: list[RetryScheduled] = []
    hung.kit.add_listener(heard.append, RetryScheduled)
    begun = time.monotonic()
    async with hung.asking(ResilienceConfig(retry=QUICK, attempt_timeout=0.2)) as ask:
        with pytest.raises(APITimeoutError, match=r"'ask': no answer within 0\.2 s"):
            await ask()
        assert 0.6 <= time.monotonic() - begun < 0.6 + 2 * LATE
        assert [FailureKind.TIMEOUT] * 2 == [each.kind for each in heard]
        assert (3, 3) == (hung.provider.request_count, hung.kit.get_circuit_breaker("ask").failure_count)
        hung.provider.faults = OK
        assert ANSWER == await ask()  # the client's connections are all right


async def test_a_hang_is_cut_by_the_deadline(hung: Bench) -> None:
    """The whole call ends on time, chained to the last real error (invariant 26)."""
    hung.provider.faults = [Fault.server_error(), Fault.hang()]
    begun = time.monotonic()
    async with hung.asking(ResilienceConfig(retry=QUICK, deadline=0.4)) as ask:
        with pytest.raises(DeadlineExceededError) as caught:
            await ask()
        assert 0.4 <= time.monotonic() - begun < 0.4 + LATE
        assert isinstance(caught.value.__cause__, hung.sdk.module.InternalServerError)
        assert (2, 2) == (hung.provider.request_count, hung.kit.get_circuit_breaker("ask").failure_count)
        assert ANSWER == await ask()


async def test_cut_requests_leave_no_connection_behind(hung: Bench) -> None:
    """Thirty hung requests, cut off: their connections are closed while the client lives on."""
    async with hung.asking(ResilienceConfig(retry=None, circuit_breaker=None, deadline=0.2)) as ask:
        ends = await asyncio.gather(*(ask() for _ in range(30)), return_exceptions=True)
        assert {DeadlineExceededError} == {type(each) for each in ends}
        until = time.monotonic() + 2.0
        while hung.provider.open_connections and time.monotonic() < until:
            await asyncio.sleep(0.01)
        assert 0 == hung.provider.open_connections


async def test_a_stream_comes_through_whole(bench: Bench) -> None:
    """Item by item, counted as one call."""
    got: list[str] = []
    async with bench.streaming(ResilienceConfig(retry=QUICK)) as read:
        await read(got)
    assert (ANSWER, (1, 0, 0)) == ("".join(got), bench.counted)


@pytest.mark.parametrize("fault", [Fault.rate_limited(0.01), Fault.unavailable(), Fault.reset(), Fault.truncated(after=0)])
async def test_a_stream_that_has_not_begun_is_retried(bench: Bench, fault: Fault) -> None:
    """Before the first item a repetition is unseen; afterwards every item comes once."""
    bench.provider.faults = [fault, fault, OK]
    got: list[str] = []
    async with bench.streaming(ResilienceConfig(retry=QUICK)) as read:
        await read(got)
    assert (ANSWER, 3, (1, 0, 2)) == ("".join(got), bench.provider.request_count, bench.counted)


@pytest.mark.parametrize("fault", [Fault.truncated(after=6), Fault.reset(after=6)])
async def test_a_stream_that_breaks_says_what_it_has_delivered(bench: Bench, fault: Fault) -> None:
    """StreamInterruptedError with the items delivered, its cause chained, one failure of the service, and no second request."""
    bench.provider.faults = fault
    got: list[str] = []
    async with bench.streaming(ResilienceConfig(retry=QUICK)) as read:
        with pytest.raises(StreamInterruptedError) as caught:
            await read(got)
    broken = caught.value
    assert got
    assert (got, len(got)) == (list(broken.partial), broken.delivered)
    assert isinstance(broken.__cause__, Exception)
    assert (1, 1, (0, 1, 0)) == (
        bench.provider.request_count,
        bench.kit.get_circuit_breaker("stream").failure_count,
        bench.counted,
    )


async def test_a_stream_that_stops_is_cut_off_when_idle(hung: Bench) -> None:
    """Silence in the middle ends after `idle_timeout`, with what came before; the connection is given back."""
    hung.provider.faults = Fault.hang(after=6)
    got: list[str] = []
    begun = time.monotonic()
    async with hung.streaming(ResilienceConfig(retry=QUICK, idle_timeout=0.2, deadline=5.0)) as read:
        with pytest.raises(StreamInterruptedError) as caught:
            await read(got)
        assert 0.2 <= time.monotonic() - begun < 0.2 + 2 * LATE
        assert isinstance(caught.value.__cause__, APITimeoutError)
        assert got == list(caught.value.partial) != []
        hung.provider.faults = OK
        await read(got)


async def test_a_stream_that_does_not_begin_is_cut_off(hung: Bench) -> None:
    """`first_item_timeout` ends each attempt, and another one is made."""
    hung.provider.faults = [Fault.hang(), Fault.hang(), OK]
    got: list[str] = []
    async with hung.streaming(ResilienceConfig(retry=QUICK, first_item_timeout=0.2)) as read:
        await read(got)
    assert (ANSWER, (1, 0, 2)) == ("".join(got), hung.counted)


async def test_the_deadline_of_a_stream_is_for_its_beginning(kit: AIServiceResilience, sdk: Sdk) -> None:
    """A stream that takes longer than the deadline, but begins in time, comes through whole."""
    with FakeAIProvider(chunk_delay=0.05) as provider:
        got: list[str] = []
        async with Bench(kit, sdk, provider, asynchronous=True).streaming(
            ResilienceConfig(deadline=0.4, idle_timeout=0.3)
        ) as read:
            begun = time.monotonic()
            await read(got)
    assert time.monotonic() - begun > 0.45
    assert ANSWER == "".join(got)


async def test_a_stream_left_half_way_is_neutral_and_gives_its_connection_back(hung: Bench) -> None:
    """Neither success nor failure; the provider sees the client go (invariant 15)."""
    hung.provider.faults = Fault.hang(after=6)
    client = hung.client()

    @hung.kit.with_resilience("left")
    async def stream() -> AsyncIterator[str]:
        async with await hung.sdk.create(client)(**hung.sdk.body, stream=True) as events:
            async for event in events:
                yield hung.sdk.piece(event)

    items = stream()
    await anext(items)
    await items.aclose()
    until = time.monotonic() + 2.0
    while hung.provider.open_connections and time.monotonic() < until:
        await asyncio.sleep(0.01)
    assert 0 == hung.provider.open_connections
    await client.close()
    numbers = hung.kit.get_metrics("left")
    assert (1, 1, 0) == (numbers["total_calls"], numbers["cancelled_calls"], hung.kit.get_circuit_breaker("left").failure_count)


async def test_fallback_answers_when_the_provider_does_not(hung: Bench) -> None:
    """The answer of a second provider takes the place of the first one's error."""
    hung.provider.faults = Fault.unavailable()
    with FakeAIProvider(answer="Second best.") as second:
        other = hung.sdk.clients[1](base_url=hung.sdk.url(second), api_key="any")

        async def fallback(prompt: str) -> str:
            assert "x" == prompt
            return hung.sdk.text(await hung.sdk.create(other)(**hung.sdk.body))

        client = hung.client()

        @hung.kit.with_resilience("ask", custom_config=ResilienceConfig(retry=QUICK), fallback=fallback)
        async def ask(prompt: str) -> str:
            return hung.sdk.text(await hung.sdk.create(client)(**hung.sdk.body))

        assert "Second best." == await ask("x")
        await other.close()
        await client.close()
    numbers = hung.kit.get_metrics("ask")
    assert (3, 1, 1, 0) == (
        hung.provider.request_count,
        numbers["failed_calls"],
        numbers["fallback_calls"],
        numbers["successful_calls"],
    )


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_sdk_method_itself_can_be_decorated(kit: AIServiceResilience, sdk: Sdk, asynchronous: bool) -> None:
    """A bound method of a client, whatever kind it seems to be, is retried and counted once."""
    with FakeAIProvider([Fault.unavailable(), Fault.unavailable(), OK]) as provider:
        client = sdk.clients[asynchronous](base_url=sdk.url(provider), api_key="any", max_retries=0)
        create = kit.with_resilience("create", custom_config=ResilienceConfig(retry=QUICK))(sdk.create(client))
        answer = create(**sdk.body)
        if asynchronous:
            answer = await answer
        assert ANSWER == sdk.text(answer)
        assert 3 == provider.request_count
        await client.close() if asynchronous else client.close()
    numbers = kit.get_metrics("create")
    assert (1, 2) == (numbers["total_calls"], numbers["retry_attempts"])
