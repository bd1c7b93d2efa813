"""A token bucket to be asked by hand how long a caller has to wait."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeVar, overload

from resilience_kit._callable_kinds import is_awaitable
from resilience_kit._checks import Checks
from resilience_kit.clock import SYSTEM_CLOCK, Clock
from resilience_kit.policies.rate_limit import RateLimitConfig, RateLimiter

R = TypeVar("R")


class TokenBucketRateLimiter(RateLimiter):
    """`rate` tokens each `period` seconds, at most `max_tokens` of them at hand (None: `rate`). Also a `Guard`. Thread-safe.

    `acquire` books at once and does not wait, so whoever asks first goes first, and each waits by itself; `async with limiter:`
    and `with limiter:` wait for one token. As a guard of operations it has a line,
    in which those behind move up when a caller leaves; who books by `acquire` goes before that line.
    """

    def __init__(
        self,
        rate: float,
        period: float = 1.0,
        max_tokens: float | None = None,
        *,
        name: str = "rate limit",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        config = _config(rate, period, max_tokens)
        super().__init__(config, name=name, clock=clock)
        self.rate, self.period, self.max_tokens, self._clock = rate, period, config.capacity, clock
        self._bucket = self._token_buckets.buckets[0]

    @property
    def tokens(self) -> float:
        """Tokens at hand as of the last time that somebody asked for some; below zero for a debt. Settable."""
        return self._bucket.level

    @tokens.setter
    def tokens(self, tokens: float) -> None:
        checks = Checks("TokenBucketRateLimiter")
        checks.number("tokens", tokens)
        checks.raise_if_any()
        self._token_buckets.set_level(tokens)

    async def _refill(self) -> None:
        with self._token_buckets.lock:
            self._token_buckets.refill()

    async def acquire(self, tokens: float = 1.0) -> float:
        """Book `tokens`, and tell the seconds after which the caller may start: 0.0 when they were there."""
        return self._token_buckets.reserve(_checked(tokens))

    def try_acquire(self, tokens: float = 1.0) -> bool:
        """Take `tokens` if they are there, and tell whether they were."""
        return self._token_buckets.try_take(_checked(tokens))

    @overload
    async def execute(self, f: Callable[..., Awaitable[R]], *args: Any, **kwargs: Any) -> R: ...

    @overload
    async def execute(self, f: Callable[..., R], *args: Any, **kwargs: Any) -> R: ...

    async def execute(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Wait for a token, then call `f`, async or plain. A cancelled wait gives its token back."""
        async with self:
            result = f(*args, **kwargs)
            return await result if is_awaitable(result) else result

    async def __aenter__(self) -> Self:
        """Wait for a token. A cancelled wait gives it back."""
        wait = await self.acquire()
        if wait > 0.0:
            try:
                await self._clock.sleep_async(wait)
            except BaseException:
                self._token_buckets.refund((1.0,))
                raise
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def __enter__(self) -> Self:
        """Wait as above, in a thread."""
        wait = self._token_buckets.reserve(1.0)
        if wait > 0.0:
            try:
                self._clock.sleep(wait)
            except BaseException:
                self._token_buckets.refund((1.0,))
                raise
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _config(rate: float, period: float, max_tokens: float | None) -> RateLimitConfig:
    checks = Checks("TokenBucketRateLimiter")
    checks.positive("rate", rate)
    checks.seconds("period", period)
    if max_tokens is not None:
        checks.positive("max_tokens", max_tokens)
    checks.raise_if_any()
    return RateLimitConfig(rate=rate, period=period, burst=rate if max_tokens is None else max_tokens)


def _checked(tokens: float) -> float:
    if type(tokens) is not float or not 0.0 < tokens < math.inf:
        checks = Checks("TokenBucketRateLimiter")
        checks.positive("tokens", tokens)
        checks.raise_if_any()
    return tokens
