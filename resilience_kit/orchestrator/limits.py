"""Which limiters an operation's calls are held to: those that were made of its configs, once, or those that were handed in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from resilience_kit.config import ResilienceConfig
from resilience_kit.events import OptionsIgnored
from resilience_kit.execution.plan import Operation
from resilience_kit.guards import Guard
from resilience_kit.policies.bulkhead import Bulkhead, BulkheadConfig
from resilience_kit.policies.rate_limit import RateLimitConfig, RateLimiter


def resolve_guards(operation: Operation, config: ResilienceConfig) -> tuple[Guard, ...]:
    """Every guard of a call site, in the order in which they are asked. Its operation's lock is held."""
    return (*config.guards, *_rate_limit(operation, config), *_bulkhead(operation, config))


def _rate_limit(operation: Operation, config: ResilienceConfig) -> Iterator[Guard]:
    """`cost` and `usage` are the call site's, all else is the operation's."""
    limit = config.rate_limit
    configs = limit if isinstance(limit, tuple) else (limit,) if isinstance(limit, RateLimitConfig) else ()
    if not configs:
        yield from () if limit is None else (limit,)  # type: ignore[misc]  # a tuple of configs is not empty
        return
    limiter = operation.limiters.get("rate limit")
    if limiter is None:
        limiter = operation.limiters["rate limit"] = RateLimiter(*configs, name=operation.name, clock=operation.clock)
        limiter.name = f"{operation.name} (rate limit)"  # in refusals, `name` stays the operation's, and `guard` is this
    same = limiter.configs == tuple(each.shared_part for each in configs)
    yield limiter.with_costs(*configs) if same else _report_options_conflict(operation, "rate limit", limiter)


def _bulkhead(operation: Operation, config: ResilienceConfig) -> Iterator[Guard]:
    limit = config.bulkhead
    if not isinstance(limit, BulkheadConfig):
        yield from () if limit is None else (limit,)
        return
    limiter = operation.limiters.get("bulkhead")
    if limiter is None:
        limiter = operation.limiters["bulkhead"] = Bulkhead(limit, operation.name, operation.clock)
        limiter.name = f"{operation.name} (bulkhead)"  # as above
    yield limiter if limiter.config == limit else _report_options_conflict(operation, "bulkhead", limiter)


def _report_options_conflict(operation: Operation, kind: str, limiter: Any) -> Any:
    """The limiter of the operation's first call site that wanted one; another that wants a different one is told once."""
    if kind not in operation.reported:
        operation.reported[kind] = None
        operation.events.enqueue(OptionsIgnored(operation=operation.name, options=f"{kind} options"))
    return limiter
