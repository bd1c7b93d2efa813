"""What a call site asks for, and which of the four drivers carries it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

from resilience_kit._callable_kinds import CallableKind, kind_of
from resilience_kit._checks import Checks
from resilience_kit.config import UNSET, ResilienceConfig, ResilienceStrategy, strategy_named
from resilience_kit.config.layers import CUSTOM_RULE, RequestedOptions, Seconds, Unset
from resilience_kit.config.overlay import validate_settings
from resilience_kit.config.resilience_config import BulkheadLimit, RateLimit, check_limits, within
from resilience_kit.errors import REDACTED, ConfigurationError
from resilience_kit.execution import aio, streams, sync
from resilience_kit.execution.hedge import hedging_not_supported
from resilience_kit.execution.plan import CallPlan, CallSite
from resilience_kit.policies.hedge import HedgeConfig

P = ParamSpec("P")
R = TypeVar("R")

CustomConfigOption = ResilienceConfig | Mapping[str, object] | None

_DRIVERS: dict[CallableKind, Callable[[CallSite, Callable[..., Any]], Callable[..., Any]]] = {
    CallableKind.SYNC: sync.protect,
    CallableKind.ASYNC: aio.protect,
    CallableKind.GENERATOR: streams.protect_generator,
    CallableKind.ASYNC_GENERATOR: streams.protect_async_generator,
}


_DECORATOR_ORDER_HINT = "; put it on the method itself, below @staticmethod, @classmethod or @property"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """What a call site asks for, beside its operation's name."""

    strategy: ResilienceStrategy | str | None = None
    custom_config: CustomConfigOption = None
    fallback: Callable[..., Any] | None = None
    deadline: Seconds = UNSET
    attempt_timeout: Seconds = UNSET
    idempotent: bool | None = None
    rate_limit: RateLimit | Unset | None = UNSET
    bulkhead: BulkheadLimit | Unset | None = UNSET
    hedge: HedgeConfig | Unset | None = UNSET

    def validate(self) -> None:
        """Raise for what cannot be right under any settings."""
        checks = Checks("with_resilience")
        checks.optional_callable(
            "fallback", self.fallback, "the call's own arguments; for a fixed answer, a function that returns it"
        )
        if self.idempotent is not None:
            checks.flag("idempotent", self.idempotent)
        times = {"deadline": self.deadline, "attempt_timeout": self.attempt_timeout}
        provided = {name: seconds for name, seconds in times.items() if seconds is not UNSET}
        valid = [_check_seconds(checks, name, seconds) for name, seconds in provided.items()]
        if all(valid):
            _check_order(checks, **provided)
        limits = (None if limit is UNSET else limit for limit in (self.rate_limit, self.bulkhead))
        check_limits(checks, *limits)
        if self.hedge is not UNSET:
            checks.instance("hedge", self.hedge, HedgeConfig, type(None))
            if self.hedge is not None and self.idempotent is False:
                checks.add("hedge", "must be left out where idempotent is False: it sends a request twice", REDACTED)
        custom: object = self.custom_config
        if custom is not None and not isinstance(custom, ResilienceConfig | Mapping):
            checks.add(
                "custom_config", CUSTOM_RULE + _custom_config_hint(custom), REDACTED if isinstance(custom, str) else custom
            )
        checks.raise_if_any()
        if self.strategy is not None:
            strategy_named(self.strategy, "strategy")
        if isinstance(self.custom_config, Mapping):
            validate_settings(self.custom_config, "custom_config")

    def to_requested_options(
        self, *, registered: ResilienceStrategy | None = None, live: ResilienceStrategy | None = None
    ) -> RequestedOptions:
        """The same, for the rules that find a config, with what was changed while running."""
        return RequestedOptions(
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


class OperationCallSite(CallSite):
    """A call site that can be asked what it is for."""

    __slots__ = ("operation", "options")

    def __init__(self, make_plan: Callable[[], CallPlan], operation: str, options: CallOptions) -> None:
        super().__init__(make_plan)
        self.operation, self.options = operation, options


class AdHocCallSite(OperationCallSite):
    """The site of options that come with each call. A mapping is copied, since it may change between two calls."""

    __slots__ = ("custom_config", "deadline", "fallback", "strategy")

    def __init__(self, make_plan: Callable[[], CallPlan], operation: str, options: CallOptions) -> None:
        super().__init__(make_plan, operation, options)
        self.strategy, self.custom_config = options.strategy, options.custom_config
        self.fallback, self.deadline = options.fallback, options.deadline


def _check_seconds(checks: Checks, name: str, seconds: object) -> bool:
    """As `optional_seconds`, with what to write for a text of digits or a timedelta."""
    if isinstance(seconds, timedelta):
        checks.add(name, f"must be a finite number of seconds above 0; write {seconds.total_seconds()!r}", seconds)
        return False
    if isinstance(seconds, str) and seconds.strip().replace(".", "", 1).isdecimal():
        checks.add(name, f"must be a finite number of seconds above 0; write {seconds.strip()} without quotes", seconds)
        return False
    return checks.optional_seconds(name, seconds)


def _check_order(checks: Checks, deadline: float | None = None, attempt_timeout: float | None = None) -> None:
    if within(attempt_timeout, deadline) != attempt_timeout:
        checks.add("attempt_timeout", f"must not exceed deadline {deadline}", attempt_timeout)


def _custom_config_hint(custom_config: object) -> str:
    """What a text or a number in place of a config was meant for."""
    if isinstance(custom_config, int) and not isinstance(custom_config, bool):
        return f"; for so many attempts, ResilienceConfig(retry=RetryConfig(max_attempts={custom_config}))"
    if not isinstance(custom_config, str):
        return ""
    try:
        return f"; a strategy's name goes to strategy={strategy_named(custom_config).value!r}"
    except ConfigurationError:
        return "; a text of settings has to be parsed first, by json.loads"


def check_fallback(fallback: Callable[..., Any] | None, kind: CallableKind) -> None:
    """Raise for a fallback whose answer the function's callers could not take."""
    if fallback is None:
        return
    fallback_kind = kind_of(fallback)
    if fallback_kind is kind or (kind is CallableKind.ASYNC and fallback_kind is CallableKind.SYNC):
        return
    rule = f"must be {kind.value}{' or a plain one' if kind is CallableKind.ASYNC else ''}, as what it stands in for"
    raise ConfigurationError([("with_resilience.fallback", f"{rule}; this is {fallback_kind.value}", REDACTED)])


def _check_hedge(site: CallSite, kind: CallableKind) -> None:
    """Raise for a function whose slower request could not be cancelled."""
    options = site.options if isinstance(site, OperationCallSite) else CallOptions()
    custom = options.custom_config.hedge if isinstance(options.custom_config, ResilienceConfig) else None
    if kind is not CallableKind.ASYNC and (custom if options.hedge is UNSET else options.hedge) is not None:
        raise hedging_not_supported(f"{site.operation} ({kind.value})" if isinstance(site, OperationCallSite) else "")


def kind_when_awaited(function: Callable[..., Any]) -> CallableKind:
    """The kind of a call's answer when a plain function may stand for an async one."""
    kind = kind_of(function)
    return CallableKind.ASYNC if kind is CallableKind.SYNC else kind


def wrap_function(site: CallSite, function: Callable[P, R], fallback: Callable[..., Any] | None) -> Callable[P, R]:
    """`function`, of whichever kind, under the plan of `site`."""
    if not callable(function) or isinstance(function, type | staticmethod):
        what = "class" if isinstance(function, type) else type(function).__name__
        raise ConfigurationError(
            [("with_resilience", f"must decorate a function, not a {what}{_DECORATOR_ORDER_HINT}", REDACTED)]
        )
    kind = kind_of(function)
    check_fallback(fallback, kind)
    _check_hedge(site, kind)
    return _DRIVERS[kind](site, function)
