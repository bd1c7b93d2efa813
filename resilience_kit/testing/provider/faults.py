"""Faults of requests: single faults, scripts, seeded rates and outages, as data.

A plan is any callable that takes a `ReceivedRequest` and returns a `Fault`, or None for a normal response. It runs in the
provider's own thread, one request at a time, so it needs no lock.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

from resilience_kit._checks import Checks


class FaultKind(StrEnum):
    """The kinds of faults of a response."""

    OK = "ok"
    RATE_LIMITED = "rate_limited"
    INSUFFICIENT_QUOTA = "insufficient_quota"
    SERVER_ERROR = "server_error"
    UNAVAILABLE = "unavailable"
    OVERLOADED = "overloaded"
    HANG = "hang"
    RESET = "reset"
    TRUNCATED = "truncated"
    UNFINISHED = "unfinished"
    ERROR_IN_BODY = "error_in_body"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one request. Made by its class methods; `OK` stands for no fault.

    `delay` seconds pass before the first byte of the response. `retry_after` is the hint of a 429, 503 or 529 in seconds, None
    for no header; a fraction is sent as `retry-after-ms`, with `retry-after` rounded up beside it. `after` counts the streamed
    events that are sent before a stream breaks; a plain response breaks half-way.
    """

    kind: FaultKind
    delay: float = 0.0
    retry_after: float | None = None
    after: int = 0

    def __post_init__(self) -> None:
        checks = Checks("Fault")
        checks.one_of("kind", self.kind, FaultKind)
        checks.seconds("delay", self.delay, zero=True)
        checks.optional_seconds("retry_after", self.retry_after, zero=True)
        checks.integer("after", self.after, 0)
        checks.raise_if_any()

    @classmethod
    def rate_limited(cls, retry_after: float | None = 1.0, *, delay: float = 0.0) -> Fault:
        """Respond with 429, too many requests."""
        return cls(FaultKind.RATE_LIMITED, delay, retry_after)

    @classmethod
    def insufficient_quota(cls, *, delay: float = 0.0) -> Fault:
        """Respond as for an exhausted account: 429 `insufficient_quota` (OpenAI), 400 with a low credit balance (Anthropic)."""
        return cls(FaultKind.INSUFFICIENT_QUOTA, delay)

    @classmethod
    def server_error(cls, *, delay: float = 0.0) -> Fault:
        """Respond with 500."""
        return cls(FaultKind.SERVER_ERROR, delay)

    @classmethod
    def unavailable(cls, retry_after: float | None = None, *, delay: float = 0.0) -> Fault:
        """Respond with 503."""
        return cls(FaultKind.UNAVAILABLE, delay, retry_after)

    @classmethod
    def overloaded(cls, retry_after: float | None = None, *, delay: float = 0.0) -> Fault:
        """Respond with 529, Anthropic's own status, on every path."""
        return cls(FaultKind.OVERLOADED, delay, retry_after)

    @classmethod
    def slow(cls, delay: float) -> Fault:
        """Delay a normal response by `delay` seconds."""
        return cls(FaultKind.OK, delay)

    @classmethod
    def hang(cls, after: int = 0) -> Fault:
        """Send nothing more until the client or the provider closes; a stream hangs after `after` events."""
        return cls(FaultKind.HANG, after=after)

    @classmethod
    def reset(cls, after: int = 0, *, delay: float = 0.0) -> Fault:
        """Reset the connection: before the first byte, or after `after` events of a stream."""
        return cls(FaultKind.RESET, delay, after=after)

    @classmethod
    def truncated(cls, after: int = 2, *, delay: float = 0.0) -> Fault:
        """Close the connection in the middle of the response, which the HTTP framing shows."""
        return cls(FaultKind.TRUNCATED, delay, after=after)

    @classmethod
    def unfinished(cls, after: int = 2, *, delay: float = 0.0) -> Fault:
        """End a stream early, without `[DONE]` or `message_stop`, in complete HTTP framing. Plain responses are normal."""
        return cls(FaultKind.UNFINISHED, delay, after=after)

    @classmethod
    def error_in_body(cls, after: int = 2, *, delay: float = 0.0) -> Fault:
        """Respond with 200 and an error object: as an event of the stream, or as the complete plain response."""
        return cls(FaultKind.ERROR_IN_BODY, delay, after=after)

    @classmethod
    def malformed(cls, *, delay: float = 0.0) -> Fault:
        """Respond with 200 and a body, or a first streamed event, that is no JSON."""
        return cls(FaultKind.MALFORMED, delay)


OK: Final = Fault(FaultKind.OK)
REFUSE: Final = "refuse"


@dataclass(frozen=True, slots=True)
class Outage:
    """An outage from `start` to `end`, in seconds since the schedule began: every request gets `mode`.

    The mode `REFUSE` closes the listening port and every connection; any other mode is a `Fault`. An outage takes precedence over
    every plan.
    """

    start: float
    end: float
    mode: Fault | Literal["refuse"] = field(default_factory=Fault.unavailable)

    def __post_init__(self) -> None:
        checks = Checks("Outage")
        checks.seconds("start", self.start, zero=True)
        checks.seconds("end", self.end)
        if self.mode != REFUSE:
            checks.instance("mode", self.mode, Fault)
        checks.raise_if_any()
        if self.end <= self.start:
            checks.add("end", "must come after start", self.end)
        checks.raise_if_any()

    def covers(self, at: float) -> bool:
        """Return whether a request at this time falls into the outage."""
        return self.start <= at < self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedRequest:
    """One request as it arrived. `number` counts from 1, `at` is in seconds since the schedule began.

    Headers have lower-case names. They and the body, which may hold a secret, are kept out of the `repr`.
    """

    number: int
    at: float
    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    fault: Fault = OK

    @property
    def idempotency_key(self) -> str | None:
        """Return the `idempotency-key` header, None without one."""
        return self.headers.get("idempotency-key")

    @property
    def retry_count(self) -> int | None:
        """Return the official SDKs' `x-stainless-retry-count` header, None without a number there."""
        text = self.headers.get("x-stainless-retry-count", "")
        return int(text) if text.isdecimal() else None

    def json(self) -> object:
        """Return the body as JSON. Raises ValueError when it is none."""
        return json.loads(self.body)


FaultPlan = Callable[[ReceivedRequest], Fault | None]


class SeededFaults:
    """A plan that gives each fault its share of requests: the same seed gives the same faults.

    `rates` maps a fault to its probability; the remaining requests get a normal response. Without `key` the n-th request draws
    the n-th fault. With `key` (a function of the request) each key has its own sequence of draws, so that a call gets the same
    fault whatever other calls there are, and a retry under the same key draws anew.
    """

    def __init__(
        self, rates: Mapping[Fault, float], seed: int = 0, *, key: Callable[[ReceivedRequest], str] | None = None
    ) -> None:
        checks = Checks("SeededFaults")
        for fault, rate in rates.items():
            checks.instance("rates", fault, Fault)
            checks.number("rates", rate, 0.0, 1.0)
        checks.raise_if_any()
        if sum(rates.values()) > 1.0 + 1e-9:
            checks.add("rates", "must sum up to at most 1", sum(rates.values()))
        checks.raise_if_any()
        self._rates, self._seed, self._key = dict(rates), seed, key
        self._seen: Counter[str] = Counter()

    def __call__(self, request: ReceivedRequest) -> Fault:
        """Draw the fault of this request."""
        key = self._key(request) if self._key else ""
        self._seen[key] += 1
        return self.draw(key, self._seen[key])

    def draw(self, key: str, number: int) -> Fault:
        """Return the fault of request number `number` (from 1) under `key`."""
        drawn = random.Random(f"{self._seed}/{key}/{number}").random()  # noqa: S311 - repeatable by intent, keeps no secret
        for fault, rate in self._rates.items():
            drawn -= rate
            if drawn < 0.0:
                return fault
        return OK


def as_plan(faults: Fault | Iterable[Fault] | FaultPlan) -> FaultPlan:
    """Return a plan, made of a fault for every request, or of one fault a request with normal responses afterwards."""
    if isinstance(faults, Fault):
        return lambda _request: faults
    if callable(faults):
        return faults
    return _Script(faults)


class _Script:
    def __init__(self, faults: Iterable[Fault]) -> None:
        script = tuple(faults)
        checks = Checks("FakeAIProvider")
        for fault in script:
            checks.instance("faults", fault, Fault)
        checks.raise_if_any()
        self._remaining: Iterator[Fault] = iter(script)

    def __call__(self, _request: ReceivedRequest) -> Fault:
        return next(self._remaining, OK)
