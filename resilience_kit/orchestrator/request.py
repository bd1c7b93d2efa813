"""What a call site asks for, and which of the four drivers carries it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

from resilience_kit._checks import Checks
from resilience_kit._drive import aio, streams, sync
from resilience_kit._drive.hedge import refuse_hedge
from resilience_kit._drive.plan import CallSite, Plan
from resilience_kit._kinds import Kind, kind_of
from resilience_kit.config import NOT_GIVEN, ResilienceConfig, ResilienceStrategy, strategy_named
from resilience_kit.config.layers import CUSTOM_RULE, Asked, NotGiven, Seconds
from resilience_kit.config.overlay import check_settings
from resilience_kit.config.resilience_config import BulkheadLimit, RateLimit, check_limits, within
from resilience_kit.errors import NOT_SHOWN, ConfigurationError
from resilience_kit.policies.hedge import HedgeConfig

P = ParamSpec("P")
R = TypeVar("R")

Custom = ResilienceConfig | Mapping[str, object] | None

_PROTECT: dict[Kind, Callable[[CallSite, Callable[..., Any]], Callable[..., Any]]] = {
    Kind.SYNC: sync.protect,
    Kind.ASYNC: aio.protect,
    Kind.GENERATOR: streams.protect_generator,
    Kind.ASYNC_GENERATOR: streams.protect_async_generator,
}


_BELOW = "; put it on the method itself, below @staticmethod, @classmethod or @property"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a call site asks for, beside its operation's name."""

    strategy: ResilienceStrategy | str | None = None
    custom_config: Custom = None
    fallback: Callable[..., Any] | None = None
    deadline: Seconds = NOT_GIVEN
    attempt_timeout: Seconds = NOT_GIVEN
    idempotent: bool | None = None
    rate_limit: RateLimit | NotGiven | None = NOT_GIVEN
    bulkhead: BulkheadLimit | NotGiven | None = NOT_GIVEN
    hedge: HedgeConfig | NotGiven | None = NOT_GIVEN

    def check(self) -> None:
        """Raise for what cannot be right under any settings."""
        checks = Checks("with_resilience")
        checks.optional_callable(
            "fallback", self.fallback, "the call's own arguments; for a fixed answer, a function that returns it"
        )
        if self.idempotent is not None:
            checks.flag("idempotent", self.idempotent)
        times = {"deadline": self.deadline, "attempt_timeout": self.attempt_timeout}
        given = {name: seconds for name, seconds in times.items() if seconds is not NOT_GIVEN}
        good = [_check_seconds(checks, name, seconds) for name, seconds in given.items()]
        if all(good):
            _check_order(checks, **given)
        limits = (None if limit is NOT_GIVEN else limit for limit in (self.rate_limit, self.bulkhead))
        check_limits(checks, *limits)
        if self.hedge is not NOT_GIVEN:
            checks.instance("hedge", self.hedge, HedgeConfig, type(None))
            if self.hedge is not None and self.idempotent is False:
                checks.fail("hedge", "must be left out where idempotent is False: it sends a request twice", NOT_SHOWN)
        custom: object = self.custom_config
        if custom is not None and not isinstance(custom, ResilienceConfig | Mapping):
            checks.fail("custom_config", CUSTOM_RULE + _meant(custom), NOT_SHOWN if isinstance(custom, str) else custom)
        checks.done()
        if self.strategy is not None:
            strategy_named(self.strategy, "strategy")
        if isinstance(self.custom_config, Mapping):
            check_settings(self.custom_config, "custom_config")

    def asked(self, *, registered: ResilienceStrategy | None = None, live: ResilienceStrategy | None = None) -> Asked:
        """The same, for the rules that find a config, with what was changed while running."""
        return Asked(
            strategy=self.strategy,
            custom_config=self.custom_config,
            registered=registered,
            live=live,
            deadline=self.deadline,
            attempt_timeout=self.attempt_timeout,
            idempotent=self.idempotent,
            rate_limit=self.rate_limit,
            bulkhead=self.bulkhead,
            hedge=self.hedge,
        )


class Site(CallSite):
    """A call site that can be asked what it is for."""

    __slots__ = ("operation", "request")

    def __init__(self, make_plan: Callable[[], Plan], operation: str, request: Request) -> None:
        super().__init__(make_plan)
        self.operation, self.request = operation, request


def _check_seconds(checks: Checks, name: str, seconds: object) -> bool:
    """As `optional_seconds`, with what to write for a text of digits or a timedelta."""
    if isinstance(seconds, timedelta):
        checks.fail(name, f"must be a finite number of seconds above 0; write {seconds.total_seconds()!r}", seconds)
        return False
    if isinstance(seconds, str) and seconds.strip().replace(".", "", 1).isdecimal():
        checks.fail(name, f"must be a finite number of seconds above 0; write {seconds.strip()} without quotes", seconds)
        return False
    return checks.optional_seconds(name, seconds)


def _check_order(checks: Checks, deadline: float | None = None, attempt_timeout: float | None = None) -> None:
    if within(attempt_timeout, deadline) != attempt_timeout:
        checks.fail("attempt_timeout", f"must not exceed deadline {deadline}", attempt_timeout)


def _meant(custom_config: object) -> str:
    """What a text or a number in place of a config was meant for."""
    if isinstance(custom_config, int) and not isinstance(custom_config, bool):
        return f"; for so many attempts, ResilienceConfig(retry=RetryConfig(max_attempts={custom_config}))"
    if not isinstance(custom_config, str):
        return ""
    try:
        return f"; a strategy's name goes to strategy={strategy_named(custom_config).value!r}"
    except ConfigurationError:
        return "; a text of settings has to be parsed first, by json.loads"


def check_fallback(fallback: Callable[..., Any] | None, kind: Kind) -> None:
    """Raise for a fallback whose answer the function's callers could not take."""
    if fallback is None:
        return
    given = kind_of(fallback)
    if given is kind or (kind is Kind.ASYNC and given is Kind.SYNC):
        return
    rule = f"must be {kind.value}{' or a plain one' if kind is Kind.ASYNC else ''}, as what it stands in for"
    raise ConfigurationError([("with_resilience.fallback", f"{rule}; this is {given.value}", NOT_SHOWN)])


def _check_hedge(site: CallSite, kind: Kind) -> None:
    """Raise for a function whose slower request could not be cancelled."""
    request = site.request if isinstance(site, Site) else Request()
    custom = request.custom_config.hedge if isinstance(request.custom_config, ResilienceConfig) else None
    if kind is not Kind.ASYNC and (custom if request.hedge is NOT_GIVEN else request.hedge) is not None:
        raise refuse_hedge(f"{site.operation} ({kind.value})" if isinstance(site, Site) else "")


def kind_when_awaited(function: Callable[..., Any]) -> Kind:
    """The kind of a call's answer when a plain function may stand for an async one."""
    kind = kind_of(function)
    return Kind.ASYNC if kind is Kind.SYNC else kind


def protect(site: CallSite, function: Callable[P, R], fallback: Callable[..., Any] | None) -> Callable[P, R]:
    """`function`, of whichever kind, under the plan of `site`."""
    if not callable(function) or isinstance(function, type | staticmethod):
        what = "class" if isinstance(function, type) else type(function).__name__
        raise ConfigurationError([("with_resilience", f"must decorate a function, not a {what}{_BELOW}", NOT_SHOWN)])
    kind = kind_of(function)
    check_fallback(fallback, kind)
    _check_hedge(site, kind)
    return _PROTECT[kind](site, function)
