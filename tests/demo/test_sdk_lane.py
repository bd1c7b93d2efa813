"""The lane that retries as the SDKs do: which errors, how often, after which waits."""

from __future__ import annotations

import httpx
import pytest

from resilience_kit.cli.demo import sdk

REQUEST = httpx.Request("POST", "http://service.test/")


def status(code: int, **headers: str) -> httpx.HTTPStatusError:
    """The error of an answer with this status; underscores in names of headers are hyphens."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.HTTPStatusError("", request=REQUEST, response=httpx.Response(code, headers=given, request=REQUEST))


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits, which take no time."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(sdk.asyncio, "sleep", sleep)
    return waits


@pytest.mark.parametrize(
    ("error", "retried"),
    [
        (httpx.ConnectError("refused"), True),
        (httpx.ReadTimeout("late"), True),
        *[(status(code), True) for code in (408, 409, 429, 500, 503, 529)],
        *[(status(code), False) for code in (400, 401, 404, 422)],
    ],
)
async def test_a_call_is_asked_three_times_at_most(error: httpx.HTTPError, retried: bool, slept: list[float]) -> None:
    """Two retries of what the SDKs retry, none of anything else; the last error leaves as it is."""
    asked, counted = [], []

    async def ask(number: int) -> None:
        asked.append(number)
        raise error

    with pytest.raises(type(error)) as raised:
        await sdk.with_sdk_retries(ask, lambda: counted.append(1))(7)
    assert raised.value is error
    assert ([7] * 3, 2, 2) == (asked, len(counted), len(slept)) if retried else ([7], 0, 0) == (asked, len(counted), len(slept))


async def test_an_answer_ends_the_retries(slept: list[float]) -> None:
    """The second attempt's answer is the call's."""
    answers = [status(500), "yes"]

    async def ask(_: int) -> object:
        if isinstance(answer := answers.pop(0), Exception):
            raise answer
        return answer

    assert "yes" == await sdk.with_sdk_retries(ask, lambda: None)(1)
    assert 1 == len(slept)


@pytest.mark.parametrize(("retry", "longest"), [(0, 0.5), (1, 1.0), (4, 8.0), (9, 8.0)])
def test_a_wait_doubles_up_to_eight_seconds_less_a_quarter(retry: int, longest: float) -> None:
    """Spread over the last quarter below its longest."""
    waits = [sdk.delay(retry, status(500)) for _ in range(200)]
    assert longest * 0.75 <= min(waits) < longest * 0.8
    assert longest * 0.95 < max(waits) <= longest


@pytest.mark.parametrize(
    ("hint", "obeyed"), [("7", True), ("0.1", True), ("120", True), ("121", False), ("0", False), ("soon", False)]
)
def test_a_hint_of_up_to_two_minutes_is_obeyed(hint: str, obeyed: bool) -> None:
    """Any other one is as none."""
    assert (
        (float(hint) == sdk.delay(0, status(429, retry_after=hint)))
        if obeyed
        else sdk.delay(0, status(429, retry_after=hint)) <= 0.5
    )
