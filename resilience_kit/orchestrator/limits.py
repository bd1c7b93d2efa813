"""Resolves the guards of a call site: limiters made once per operation from its config, or shared ones passed in."""

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
    """Return all guards of a call site in the order of admission. The caller holds the registry's lock."""
    return (*config.guards, *_rate_limit(operation, config), *_bulkhead(operation, config))


def _rate_limit(operation: Operation, config: ResilienceConfig) -> Iterator[Guard]:
    """Yield the rate limiter. `cost` and `usage` belong to the call site, all other options to the operation."""
    limit = config.rate_limit
    configs = limit if isinstance(limit, tuple) else (limit,) if isinstance(limit, RateLimitConfig) else ()
    if not configs:
        yield from () if limit is None else (limit,)  # type: ignore[misc]  # a tuple of configs is not empty
        return
    limiter = operation.limiters.get("rate limit")
    if limiter is None:
        limiter = operation.limiters["rate limit"] = RateLimiter(*configs, name=operation.name, clock=operation.clock)
        limiter.name = f"{operation.name} (rate limit)"  # a rejection has the operation as `name`, and this as `guard`
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
    """Return the operation's existing limiter, after reporting once that different options were ignored."""
    if kind not in operation.reported:
        operation.reported[kind] = None
        operation.events.enqueue(OptionsIgnored(operation=operation.name, options=f"{kind} options"))
    return limiter
