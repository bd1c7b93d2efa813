"""What the fake provider lets through, and how many it serves at a time: the rules, without a server."""

from __future__ import annotations

import asyncio
import statistics

import pytest

from resilience_kit.errors import ConfigurationError
from resilience_kit.testing.provider import Capacity, FakeAIProvider, ProviderLimits, SeededLatency
from resilience_kit.testing.provider._common import go_duration
from resilience_kit.testing.provider.limits import ConcurrencyLimiter, KeyLimiter, LimitReading, LimitRejection


def test_a_bucket_refills_all_the_time():
    """As OpenAI's headers show: one request of 5000 a minute used, and 12 ms until the bucket is full again."""
    meter = KeyLimiter(ProviderLimits(requests_per_minute=5000))
    assert (LimitReading("requests", 5000, 4999, pytest.approx(0.012)),) == meter.take("key", 1, 100.0).readings
    assert (LimitReading("requests", 5000, 4999, pytest.approx(0.012)),) == meter.take("key", 1, 100.012).readings


def test_a_minutes_worth_may_be_used_at_once_and_then_the_rate_holds():
    """60 a minute: 60 at once, then one a second, and a refusal tells when the next one is due."""
    meter = KeyLimiter(ProviderLimits(requests_per_minute=60))
    assert all(meter.take("key", 1, 0.0).rejection is None for _ in range(60))
    assert LimitRejection("requests", 60, 60, 1, pytest.approx(0.75)) == meter.take("key", 1, 0.25).rejection
    assert meter.take("key", 1, 1.0).rejection is None
    assert meter.take("key", 1, 1.5).rejection is not None


def test_a_short_burst_holds_the_minute_to_the_second():
    """With a tenth of a second's worth, ten a second get in one by one, exactly on time, for as long as one likes."""
    meter = KeyLimiter(ProviderLimits(requests_per_minute=600, burst_seconds=0.1))
    assert all(meter.take("key", 1, turn * 0.1).rejection is None for turn in range(10_000))
    assert meter.take("key", 1, 9_999 * 0.1 + 0.099).rejection is not None


def test_a_request_takes_from_every_bucket_or_from_none():
    """A refusal for tokens costs no request."""
    meter = KeyLimiter(ProviderLimits(requests_per_minute=2, tokens_per_minute=60))
    meter.take("key", 50, 0.0)
    refused = meter.take("key", 20, 0.0)
    assert LimitRejection("tokens", 60, 50, 20, pytest.approx(10.0)) == refused.rejection
    assert [1, 10] == [reading.remaining for reading in refused.readings]


def test_the_longest_wait_is_told():
    """When several buckets are empty, the one that takes longest decides."""
    meter = KeyLimiter(ProviderLimits(requests_per_minute=2, tokens_per_minute=60))
    meter.take("key", 50, 0.0)
    meter.take("key", 10, 0.0)
    assert ("requests", pytest.approx(30.0)) == told(meter.take("key", 1, 0.0).rejection)
    assert ("tokens", pytest.approx(40.0)) == told(meter.take("key", 40, 0.0).rejection)


def told(refusal: LimitRejection | None) -> tuple[str, float | None] | None:
    """Which bucket refused, and for how long."""
    return None if refusal is None else (refusal.unit, refusal.wait)


def test_a_request_larger_than_the_bucket_never_fits():
    """There is no wait to tell."""
    meter = KeyLimiter(ProviderLimits(tokens_per_minute=60))
    assert LimitRejection("tokens", 60, 0, 61, None) == meter.take("key", 61, 0.0).rejection


def test_each_key_has_buckets_of_its_own():
    """What one key uses up is not missed by another."""
    meter = KeyLimiter(ProviderLimits(requests_per_minute=1))
    assert [None, None, ("requests", 60.0)] == [told(meter.take(key, 1, 0.0).rejection) for key in ("one", "two", "one")]


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({}, ["requests_per_minute"]),
        ({"requests_per_minute": 0, "tokens_per_minute": -1}, ["requests_per_minute", "tokens_per_minute"]),
        ({"requests_per_minute": 1.5, "burst_seconds": 0.0}, ["requests_per_minute", "burst_seconds"]),
        ({"requests_per_minute": 60, "burst_seconds": 0.5}, ["burst_seconds"]),
    ],
)
def test_wrong_limits_are_all_named(given, fields):
    """A bucket has to hold one request at least, or nothing would ever get in."""
    with pytest.raises(ConfigurationError) as caught:
        ProviderLimits(**given)
    assert [f"ProviderLimits.{field}" for field in fields] == [error.path for error in caught.value.errors]


def test_wrong_capacities_and_latencies_are_all_named():
    """One sentence names each field."""
    with pytest.raises(ConfigurationError) as caught:
        Capacity(0, max_queue=-1)
    assert ["Capacity.max_concurrent", "Capacity.max_queue"] == [error.path for error in caught.value.errors]
    with pytest.raises(ConfigurationError) as caught:
        SeededLatency(-1.0, tail=2.0, factor=0.5, spread=-0.1)
    fields = ["median", "tail", "factor", "spread"]
    assert [f"SeededLatency.{field}" for field in fields] == [error.path for error in caught.value.errors]


@pytest.mark.parametrize(("field", "value"), [("limits", 5), ("capacity", "8"), ("capacity", 0)])
def test_the_provider_takes_limits_and_capacities_only(field, value):
    """Anything else is refused when it is given, and leaves what was there."""
    with pytest.raises(ConfigurationError):
        FakeAIProvider(**{field: value})
    provider = FakeAIProvider(capacity=2, limits=ProviderLimits(requests_per_minute=1))
    with pytest.raises(ConfigurationError):
        setattr(provider, field, value)
    assert (Capacity(2), ProviderLimits(requests_per_minute=1)) == (provider.capacity, provider.limits)


def test_the_tail_has_its_share_and_its_length():
    """Two in a hundred take twenty times as long, and the same seed draws the same."""
    drawn = [SeededLatency(0.01, seed=7).draw(turn) for turn in range(1, 10_001)]
    assert {0.01, 0.2} == set(drawn)
    assert 200 == pytest.approx(drawn.count(0.2), abs=50)
    again, other = SeededLatency(0.01, seed=7), SeededLatency(0.01, seed=8)
    assert drawn[:100] == [again(None) for _ in range(100)] != [other(None) for _ in range(100)]


def test_a_spread_leaves_the_median_where_it_is():
    """Half of the answers are faster than usual."""
    latency = SeededLatency(0.01, tail=0.0, spread=0.5)
    drawn = [latency.draw(turn) for turn in range(1, 4001)]
    assert 0.01 == pytest.approx(statistics.median(drawn), rel=0.05)
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.0001, "1ms"),
        (0.012000000000000001, "12ms"),
        (0.9999, "1s"),
        (6.2, "6.2s"),
        (360.0, "6m0s"),
        (3723.5, "1h2m3.5s"),
    ],
)
def test_spans_are_written_as_openai_does(seconds, text):
    """Go's durations, rounded up so that whoever waits as told waits long enough."""
    assert text == go_duration(seconds)


class Client:
    """A connection whose client may leave."""

    def __init__(self) -> None:
        self.connection_closed = asyncio.Event()

    async def wait_for_slot(self, slot):
        leaving = asyncio.ensure_future(self.connection_closed.wait())
        await asyncio.wait((slot, leaving), return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        return not self.connection_closed.is_set()


async def settled() -> None:
    """Let every other task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_places_are_given_in_the_order_of_arrival():
    """With two places the third waits for the first that leaves."""
    places, served = ConcurrencyLimiter(Capacity(2)), []

    async def visit(name: str) -> None:
        assert await places.acquire(Client())
        served.append(name)

    tasks = [asyncio.create_task(visit(name)) for name in "abcd"]
    await settled()
    assert ["a", "b"] == served
    places.release()
    await settled()
    assert ["a", "b", "c"] == served
    places.release()
    await asyncio.gather(*tasks)
    assert ["a", "b", "c", "d"] == served


async def test_a_client_that_leaves_the_line_holds_up_nobody():
    """Neither when it waits, nor when its turn comes at the moment it goes."""
    places, clients = ConcurrencyLimiter(Capacity(1)), [Client() for _ in range(4)]
    tasks = [asyncio.create_task(places.acquire(client)) for client in clients]
    await settled()
    clients[1].connection_closed.set()
    await settled()
    clients[2].connection_closed.set()
    places.release()
    assert [True, False, False, True] == await asyncio.gather(*tasks)


async def test_a_line_with_an_end_is_full():
    """Capacity and queue together; without an end it is never full, without a queue at once."""
    places = ConcurrencyLimiter(Capacity(1, max_queue=1))
    await places.acquire(Client())
    waiting = asyncio.create_task(places.acquire(Client()))
    before = places.is_full
    await settled()
    assert (False, True) == (before, places.is_full)
    places.capacity = Capacity(1)
    assert not places.is_full
    places.capacity = Capacity(2, max_queue=0)
    places.admit_waiting()
    assert await waiting
    assert places.is_full
    places.capacity = None
    assert not places.is_full
