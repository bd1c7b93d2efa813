"""The fake provider's limits, capacity and latencies, and its Perplexity and LightRAG, as real clients meet them."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import anthropic
import httpx
import httpx2
import openai
import pytest

from resilience_kit.classification import classify
from resilience_kit.outcome import FailureKind
from resilience_kit.testing import FakeClock
from resilience_kit.testing.provider import Capacity, FakeAIProvider, Fault, Outage, ProviderLimits, SeededLatency

ANSWER = "The answer is forty-two, as far as anybody knows."
CHAT = {"model": "gpt-fake", "messages": [{"role": "user", "content": "What is the answer?"}]}
#: Words of the question and of the answer.
USAGE = 4 + 9


@pytest.fixture
def clock() -> FakeClock:
    """Rules the limits, and moves only when it is told to."""
    return FakeClock(auto_advance=False)


@pytest.fixture
def provider(clock: FakeClock) -> Iterator[FakeAIProvider]:
    """Two requests and a hundred tokens a minute for each key."""
    with FakeAIProvider(limits=ProviderLimits(requests_per_minute=2, tokens_per_minute=100), clock=clock) as running:
        yield running


@pytest.fixture
def chat(provider: FakeAIProvider) -> Iterator[Callable[..., object]]:
    """A chat completion by the OpenAI SDK."""
    with openai.OpenAI(base_url=provider.openai_url, api_key="one", max_retries=0) as client:
        yield lambda **more: client.chat.completions.create(**CHAT | more)


def message(provider: FakeAIProvider, key: str = "one") -> anthropic.types.Message:
    """A message by the Anthropic SDK."""
    with anthropic.Anthropic(base_url=provider.anthropic_url, api_key=key, max_retries=0) as client:
        return client.messages.create(model="claude-fake", max_tokens=100, messages=CHAT["messages"])


def statuses(provider: FakeAIProvider, number: int, *, workers: int = 1, key: str = "one") -> Counter[int]:
    """How so many requests of as many threads end."""
    with httpx.Client(headers={"authorization": f"Bearer {key}"}, timeout=10.0) as client, ThreadPoolExecutor(workers) as pool:
        url = f"{provider.openai_url}/chat/completions"
        return Counter(pool.map(lambda _: client.post(url, json=CHAT).status_code, range(number)))


def test_openai_is_refused_with_a_hint_and_let_in_when_it_is_over(clock: FakeClock, chat: Callable[..., object]) -> None:
    """Two a minute: the third is told to wait thirty seconds, and a moment before they are over it is still refused."""
    chat()
    chat()
    with pytest.raises(openai.RateLimitError) as caught:
        chat()
    verdict = classify(caught.value)
    assert (FailureKind.RATE_LIMIT, True, 30.0) == (verdict.kind, verdict.retryable, verdict.retry_after)
    clock.advance(29.9)
    with pytest.raises(openai.RateLimitError, match="Please try again in 100ms"):
        chat()
    clock.advance(0.1)
    assert ANSWER == chat().choices[0].message.content


def test_anthropic_is_refused_with_a_hint_in_whole_seconds(clock: FakeClock, provider: FakeAIProvider) -> None:
    """Rounded up, so that whoever waits as told is let in."""
    message(provider)
    message(provider)
    clock.advance(9.5)
    with pytest.raises(anthropic.RateLimitError, match="2 requests per minute") as caught:
        message(provider)
    assert ("21", 21.0) == (caught.value.response.headers["retry-after"], classify(caught.value).retry_after)
    clock.advance(21)
    assert message(provider).content[0].text == ANSWER


def test_tokens_are_limited_too(provider: FakeAIProvider, chat: Callable[..., object]) -> None:
    """What counts is the usage that the answer tells; a chat larger than the limit is refused for good."""
    assert USAGE == chat().usage.total_tokens
    with pytest.raises(openai.RateLimitError, match=r"\(TPM\): Limit 100, Used 13, Requested 99") as caught:
        chat(messages=[{"role": "user", "content": "word " * 90}])
    assert 12 * 0.6 == pytest.approx(classify(caught.value).retry_after)
    with pytest.raises(openai.RateLimitError, match=r"Request too large .* Limit 100, Requested 129") as caught:
        chat(messages=[{"role": "user", "content": "word " * 120}])
    assert (False, None) == (classify(caught.value).retryable, classify(caught.value).retry_after)
    assert [None, 7.2, None] == [request.fault.retry_after for request in provider.requests]


def test_every_answer_tells_what_is_left(provider: FakeAIProvider) -> None:
    """Before the 429 comes, so that a client can slow down; streams tell it as well."""
    with openai.OpenAI(base_url=provider.openai_url, api_key="one", max_retries=0) as client:
        plain = client.chat.completions.with_raw_response.create(**CHAT)
        with client.chat.completions.with_streaming_response.create(**CHAT, stream=True) as streamed:
            headers = [plain.headers, streamed.headers]
    names = ("remaining-requests", "remaining-tokens", "reset-requests", "reset-tokens")
    assert [["1", "87", "30s", "7.8s"], ["0", "74", "1m0s", "15.6s"]] == [
        [given[f"x-ratelimit-{name}"] for name in names] for given in headers
    ]


def test_each_key_has_limits_of_its_own(provider: FakeAIProvider) -> None:
    """Whichever header it comes in; the same key is the same on every path."""
    assert Counter({200: 2, 429: 3}) == statuses(provider, 5)
    assert Counter({200: 2, 429: 3}) == statuses(provider, 5, key="two")
    with pytest.raises(anthropic.RateLimitError):
        message(provider)
    message(provider, "three")


def test_a_refusal_takes_nothing(clock: FakeClock, provider: FakeAIProvider) -> None:
    """Whoever goes on asking does not push back the time when the bucket has some again, and uses up no fault."""
    provider.faults = [Fault.server_error(), Fault.unavailable()]
    assert Counter({500: 1, 503: 1, 429: 20}) == statuses(provider, 22)
    clock.advance(30)
    assert Counter({200: 1, 429: 1}) == statuses(provider, 2)


def test_a_request_that_is_wrong_takes_nothing(clock: FakeClock) -> None:
    """Nor does a wrong key, an outage, or a look at LightRAG's health."""
    limits, outage = ProviderLimits(requests_per_minute=1), Outage(0.0, 1.0)
    with FakeAIProvider(limits=limits, outages=[outage], api_key="one", clock=clock) as provider:
        assert Counter({503: 3}) == statuses(provider, 3)
        clock.advance(2.0)
        assert Counter({401: 3}) == statuses(provider, 3, key="other")
        assert [200, 200] == [httpx.get(f"{provider.lightrag_url}/health").status_code for _ in range(2)]
        assert Counter({200: 1, 429: 1}) == statuses(provider, 2)


def test_limits_can_change_while_it_runs(provider: FakeAIProvider) -> None:
    """Assigned anew, every bucket is full; None takes them away."""
    assert Counter({200: 2, 429: 2}) == statuses(provider, 4)
    provider.limits = ProviderLimits(requests_per_minute=3)
    assert Counter({200: 3, 429: 1}) == statuses(provider, 4)
    provider.limits = None
    assert Counter({200: 4}) == statuses(provider, 4)


def test_a_rate_holds_over_time_under_many_threads() -> None:
    """600 a minute, of which a second's worth at once: ten at the beginning and ten a second, however many ask."""
    with FakeAIProvider(limits=ProviderLimits(requests_per_minute=600, burst_seconds=1.0)) as provider:
        begun, found = time.monotonic(), Counter[int]()
        while time.monotonic() - begun < 1.0:
            found += statuses(provider, 20, workers=4)
        lasted = provider.requests[-1].at - provider.requests[0].at
    assert found[200] == pytest.approx(10 + lasted * 10, abs=1)


# --- capacity -----------------------------------------------------------------------------------------------------------


def timed(provider: FakeAIProvider, number: int) -> float:
    """Seconds for so many requests at once."""
    begun = time.monotonic()
    assert Counter({200: number}) == statuses(provider, number, workers=number)
    return time.monotonic() - begun


def test_within_the_capacity_all_are_fast_and_beyond_it_they_wait() -> None:
    """Four at once take one latency, eight take two."""
    with FakeAIProvider(latency=0.4, capacity=4) as provider:
        assert timed(provider, 4) < 0.8 <= timed(provider, 8) < 1.6


def test_beyond_the_queue_there_is_a_529_at_once() -> None:
    """Two are served, two wait, the others are refused without a wait, and none of them uses up a fault."""
    with FakeAIProvider(latency=0.3, capacity=Capacity(2, max_queue=2)) as provider:
        begun = time.monotonic()
        assert Counter({200: 4, 529: 6}) == statuses(provider, 10, workers=10)
        assert 0.6 <= time.monotonic() - begun < 1.5
        refused = [request for request in provider.requests if request.fault.kind == "overloaded"]
        assert (6, 10) == (len(refused), provider.request_count)
        assert Counter({200: 2}) == statuses(provider, 2, workers=2)


def test_a_place_is_held_until_the_stream_is_out() -> None:
    """Whoever comes meanwhile waits for its last event, however it ends."""
    with FakeAIProvider(Fault.unfinished(after=6), chunk_delay=0.05, capacity=1) as provider:
        url, stream = f"{provider.openai_url}/chat/completions", CHAT | {"stream": True}
        begun = time.monotonic()
        with ThreadPoolExecutor(2) as pool:
            ends = list(pool.map(lambda _: (httpx.post(url, json=stream), time.monotonic() - begun)[1], range(2)))
    assert max(ends) - min(ends) >= 0.2


def test_clients_that_leave_free_their_place_and_their_turn() -> None:
    """One that is served and one that waits hang up; the next is served at once."""
    with FakeAIProvider(
        lambda request: Fault.hang() if request.number == 1 else None, capacity=Capacity(1, max_queue=1)
    ) as provider:

        def impatient(timeout: float) -> None:
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{provider.openai_url}/chat/completions", json=CHAT, timeout=timeout)

        with ThreadPoolExecutor(2) as pool:
            served = pool.submit(impatient, 3.0)
            while not provider.request_count:
                time.sleep(0.01)
            impatient(0.4)
            served.result()
        begun = time.monotonic()
        assert Counter({200: 3}) == statuses(provider, 3)
        assert time.monotonic() - begun < 0.5


def test_capacity_can_change_while_it_runs() -> None:
    """More places are taken at once by those who wait."""
    with FakeAIProvider(latency=0.3, capacity=1) as provider, ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(timed, provider, 6)
        while provider.request_count < 6:
            time.sleep(0.01)
        provider.capacity = Capacity(8)
        assert under_way.result() < 1.5
        assert Capacity(8) == provider.capacity
        provider.capacity = None
        assert timed(provider, 10) < 1.5


def test_stopping_does_not_wait_for_the_line() -> None:
    """A line of slow requests is dropped with the rest."""
    with FakeAIProvider(latency=30.0, capacity=1) as provider, ThreadPoolExecutor(3) as pool:
        hung = [pool.submit(httpx.post, f"{provider.openai_url}/chat/completions", json=CHAT, timeout=10) for _ in range(3)]
        while provider.request_count < 3:
            time.sleep(0.01)
        begun = time.monotonic()
        provider.stop()
        assert time.monotonic() - begun < 0.5
        assert [httpx.ReadError] * 3 == [type(each.exception()) for each in hung]


async def test_a_tail_is_met_by_its_share() -> None:
    """A tenth of the answers take twenty times as long."""
    latency = SeededLatency(0.02, tail=0.1, seed=3)
    slow = sum(latency.draw(turn) > 0.3 for turn in range(1, 41))
    async with FakeAIProvider(latency=latency) as provider, httpx.AsyncClient() as client:

        async def one() -> float:
            begun = time.monotonic()
            await client.post(f"{provider.openai_url}/chat/completions", json=CHAT)
            return time.monotonic() - begun

        took = [seconds for _ in range(4) for seconds in await asyncio.gather(*(one() for _ in range(10)))]
    assert slow == sum(seconds > 0.35 for seconds in took) > 0


# --- Perplexity and LightRAG ----------------------------------------------------------------------------------------------


def test_the_openai_sdk_talks_with_perplexity(provider: FakeAIProvider) -> None:
    """Its additions are there as extra fields; a stream ends without `[DONE]`, and the SDK reads it to the end."""
    provider.limits = None
    with openai.OpenAI(base_url=provider.perplexity_url, api_key="any", max_retries=0) as client:
        plain = client.chat.completions.create(**CHAT)
        chunks = list(client.chat.completions.create(**CHAT, stream=True))
    assert (ANSWER, ["https://example.com/forty-two"], 0.005) == (
        plain.choices[0].message.content,
        plain.citations,
        plain.usage.cost["request_cost"],
    )
    assert (ANSWER, "stop") == ("".join(chunk.choices[0].delta.content for chunk in chunks), chunks[-1].choices[0].finish_reason)
    assert "Forty-two, as far as anybody knows." == chunks[0].search_results[0]["snippet"]


def test_perplexity_limits_without_a_hint(provider: FakeAIProvider) -> None:
    """A 429 and nothing else; a refused key is HTML, a used-up quota is a 401 that is none."""
    with openai.OpenAI(base_url=provider.perplexity_url, api_key="one", max_retries=0) as client:
        for _ in range(2):
            client.chat.completions.create(**CHAT)
        with pytest.raises(openai.RateLimitError) as limited:
            client.chat.completions.create(**CHAT)
        provider.limits, provider.faults = None, Fault.insufficient_quota()
        with pytest.raises(openai.AuthenticationError) as quota:
            client.chat.completions.create(**CHAT)
    assert (FailureKind.RATE_LIMIT, None) == (classify(limited.value).kind, classify(limited.value).retry_after)
    assert FailureKind.QUOTA == classify(quota.value).kind
    with FakeAIProvider(api_key="right") as strict, openai.OpenAI(base_url=strict.url, api_key="x", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as key:
            client.chat.completions.create(**CHAT)
        assert FailureKind.AUTH == classify(key.value).kind


@pytest.mark.parametrize("http", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_lightrag_is_queried_filled_and_looked_after(http: object) -> None:
    """With its own key header; the health wants none."""
    with FakeAIProvider(api_key="right") as provider:
        assert "healthy" == http.get(f"{provider.lightrag_url}/health").json()["status"]
        with http.Client(base_url=provider.lightrag_url, headers={"X-API-Key": "right"}) as client:
            inserted = client.post("/documents/text", json={"text": "Forty-two.", "file_source": "it.txt"}).json()
            answer = client.post("/query", json={"query": "What is it?", "mode": "mix"}).json()
            with client.stream("POST", "/query/stream", json={"query": "What is it?"}) as stream:
                lines = [json.loads(line) for line in stream.iter_lines()]
            refused = http.post(f"{provider.lightrag_url}/query", json={"query": "What is it?"})
    assert ("success", "insert_req_000002") == (inserted["status"], inserted["track_id"])
    assert (ANSWER, answer["references"]) == (answer["response"], lines[0]["references"])
    assert ANSWER == "".join(line["response"] for line in lines[1:])
    assert (403, {"detail": "Invalid API Key"}) == (refused.status_code, refused.json())


def test_lightrag_breaks_as_others_do(provider: FakeAIProvider) -> None:
    """Truncation, resets and a line that is no JSON, over the same framing."""
    provider.limits = None
    url, query = f"{provider.lightrag_url}/query/stream", {"query": "What is it?"}
    provider.faults = [Fault.truncated(after=3), Fault.reset(), Fault.malformed()]
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(url, json=query)
    with pytest.raises(httpx.ReadError):
        httpx.post(url, json=query)
    with pytest.raises(json.JSONDecodeError):
        [json.loads(line) for line in httpx.post(url, json=query).text.splitlines() if line]
