"""`AIServiceResilience`, the object that applications use: protects calls by the name of their operation.

`registry` holds the operations and makes the plans of call sites, `settings_reloader` replaces settings, `snapshots` reads
metrics and health.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from resilience_kit._callable_kinds import DRIVABLE_TYPES, is_awaitable, kind_of
from resilience_kit._checks import Checks
from resilience_kit._keyword_hints import suggests_keywords
from resilience_kit.clock import SYSTEM_CLOCK, Clock
from resilience_kit.config import (
    UNSET,
    ResilienceStrategy,
    check_operation,
)
from resilience_kit.config.call_options import CallOptions, CustomConfigOption, Seconds, Unset
from resilience_kit.config.resilience_config import BulkheadLimit, RateLimit
from resilience_kit.context import current_call
from resilience_kit.events import (
    ConfigChange,
    Event,
    EventStream,
    Listener,
)
from resilience_kit.execution import aio, streams, sync
from resilience_kit.execution.call import Call
from resilience_kit.execution.plan import CallPlan
from resilience_kit.log import attach_logging
from resilience_kit.orchestrator.clients import ClientOperations
from resilience_kit.orchestrator.registry import OperationRegistry
from resilience_kit.orchestrator.request import (
    AdHocCallSite,
    OperationCallSite,
    check_fallback,
    kind_when_awaited,
    wrap_function,
)
from resilience_kit.orchestrator.settings_reloader import SettingsReloader, validated_settings
from resilience_kit.orchestrator.snapshots import Snapshots
from resilience_kit.policies.breaker import BreakerStore, CircuitBreaker
from resilience_kit.policies.hedge import HedgeConfig

if TYPE_CHECKING:
    from resilience_kit.config.explain import Explanation
    from resilience_kit.orchestrator.watch import ConfigWatch

P = ParamSpec("P")
R = TypeVar("R")

_get_current_call = current_call.get
_MAX_REPORTED_ERRORS = 100


class AIServiceResilience:
    """Protects operations by name. Thread-safe; one instance serves threads and event loops together.

    `settings`: a `ResilienceSettings`; None reads the environment, and raises `ConfigurationError` for what is wrong there.
    `clock` is where all of its time comes from. `store` keeps the breakers' states over a restart. `events` is the stream that
    it emits on, one of its own when None.
    """

    @suggests_keywords("AIServiceResilience")
    def __init__(
        self,
        settings: Any = None,
        *,
        clock: Clock = SYSTEM_CLOCK,
        store: BreakerStore | None = None,
        events: EventStream | None = None,
    ) -> None:
        _check_parts(clock, store, events)
        self._events = EventStream() if events is None else events
        self._registry = OperationRegistry(validated_settings(settings), clock, store, self._events)
        attach_logging(self._events)
        self._reloader, self._snapshots = SettingsReloader(self._registry), Snapshots(self._registry)
        self._ad_hoc_sites: dict[str, AdHocCallSite] = {}
        self._get_ad_hoc_site = self._ad_hoc_sites.get
        self._hedged_ad_hoc_sites: dict[str, AdHocCallSite] = {}

    # --- protecting ------------------------------------------------------------------------------------------------------

    @suggests_keywords("with_resilience")
    def with_resilience(  # noqa: PLR0913 - one argument an option
        self,
        operation: str,
        strategy: ResilienceStrategy | str | None = None,
        custom_config: CustomConfigOption = None,
        fallback: Callable[..., Any] | None = None,
        *,
        deadline: Seconds = UNSET,
        attempt_timeout: Seconds = UNSET,
        idempotent: bool | None = None,
        rate_limit: RateLimit | Unset | None = UNSET,
        bulkhead: BulkheadLimit | Unset | None = UNSET,
        hedge: HedgeConfig | Unset | None = UNSET,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """A decorator for functions, async functions, generators and async generators; kind and signature stay.

        `deadline` and `attempt_timeout` are seconds and beat those of the config, None switches them off. `fallback` answers,
        with the call's own arguments, where an error would be the last word. `rate_limit`, `bulkhead` and `hedge` are as in
        `ResilienceConfig`: made of options, they are the operation's, whichever call site comes first. Raises
        `ConfigurationError` here and when decorating.
        """
        options = CallOptions(
            strategy=strategy,
            custom_config=custom_config,
            fallback=fallback,
            deadline=deadline,
            attempt_timeout=attempt_timeout,
            idempotent=idempotent,
            rate_limit=rate_limit,
            bulkhead=bulkhead,
            hedge=hedge,
        )
        options.validate()
        return functools.partial(self._wrap, check_operation(operation), options)

    def _wrap(self, operation: str, options: CallOptions, function: Callable[P, R]) -> Callable[P, R]:
        site = OperationCallSite(functools.partial(self._registry.make_plan, operation, options), operation, options)
        self._registry.rebuild_site(site)
        return wrap_function(site, function, options.fallback)

    @overload
    async def execute_with_resilience(
        self,
        f: Callable[..., Awaitable[R]],
        operation: str,
        *args: Any,
        strategy: ResilienceStrategy | str | None = None,
        custom_config: CustomConfigOption = None,
        fallback: Callable[..., Any] | None = None,
        deadline: Seconds = UNSET,
        hedge: HedgeConfig | Unset | None = UNSET,
        in_thread: bool = False,
        **kwargs: Any,
    ) -> R: ...

    @overload
    async def execute_with_resilience(
        self,
        f: Callable[..., R],
        operation: str,
        *args: Any,
        strategy: ResilienceStrategy | str | None = None,
        custom_config: CustomConfigOption = None,
        fallback: Callable[..., Any] | None = None,
        deadline: Seconds = UNSET,
        hedge: HedgeConfig | Unset | None = UNSET,
        in_thread: bool = False,
        **kwargs: Any,
    ) -> R: ...

    async def execute_with_resilience(  # noqa: PLR0913 - one argument an option
        self,
        f: Callable[..., Awaitable[R] | R],
        operation: str,
        *args: Any,
        strategy: ResilienceStrategy | str | None = None,
        custom_config: CustomConfigOption = None,
        fallback: Callable[..., Any] | None = None,
        deadline: Seconds = UNSET,
        hedge: HedgeConfig | Unset | None = UNSET,
        in_thread: bool = False,
        **kwargs: Any,
    ) -> R:
        """Call `f`, async or plain, with `args` and `kwargs`, as `with_resilience` would have it.

        A plain `f` runs in the loop's thread, or with `in_thread=True` in another one with a copy of the context; a thread
        cannot be stopped, so at the deadline the call returns while its thread goes on.
        """
        site = self._get_ad_hoc_site(operation) if hedge is UNSET else self._hedged_site(operation, hedge)
        if (
            site is None
            or site.custom_config is not custom_config
            or site.strategy is not strategy
            or site.fallback is not fallback
            or (site.deadline is not deadline and site.deadline != deadline)
        ):
            site = self._site_for(operation, strategy, custom_config, fallback, deadline, hedge)
        if fallback is not None:
            check_fallback(fallback, kind_when_awaited(f))
        if in_thread:
            f = functools.partial(asyncio.to_thread, f)  # type: ignore[assignment]  # a function of the same arguments
        plan: Any = site.plan
        token: Any = plan.fast_without_deadline and plan.admission_breaker.snapshot
        if token is False or token.needs_admission or _get_current_call() is not None:
            return await aio.run(site.current(), f, args, kwargs)  # type: ignore[no-any-return]
        started = plan.now()
        try:
            result: Any = f(*args, **kwargs) if kwargs else f(*args)
            if type(result) is CoroutineType or is_awaitable(result):
                result = await result
            elif type(result) in DRIVABLE_TYPES:
                plan.admission_breaker.release(token)
                return streams.drive_result(plan, f, args, kwargs, result)  # type: ignore[no-any-return]  # the same kind of generator
        except BaseException as error:  # noqa: BLE001 - the call's rules tell them apart
            failure = error
        else:
            plan.metrics.last_success = ended = plan.now()
            sample = ended - started
            shift = (sample | 8).bit_length() - 4
            plan.latency_buckets[(shift << 3) + (sample >> shift)] += 1
            if token.tracks_success:
                plan.report_success(token, sample)
            return result  # type: ignore[no-any-return]
        try:
            return await aio.drive(Call.from_first_attempt(plan, f, args, kwargs, token, started), failure)  # type: ignore[no-any-return]
        finally:
            del failure

    def call_with_resilience(  # noqa: PLR0913 - one argument an option
        self,
        f: Callable[..., R],
        operation: str,
        *args: Any,
        strategy: ResilienceStrategy | str | None = None,
        custom_config: CustomConfigOption = None,
        fallback: Callable[..., Any] | None = None,
        deadline: Seconds = UNSET,
        hedge: HedgeConfig | Unset | None = UNSET,
        **kwargs: Any,
    ) -> R:
        """Call a plain `f` with `args` and `kwargs`, as `with_resilience` would have it. The deadline does not interrupt it."""
        site = self._get_ad_hoc_site(operation) if hedge is UNSET else self._hedged_site(operation, hedge)
        if (
            site is None
            or site.custom_config is not custom_config
            or site.strategy is not strategy
            or site.fallback is not fallback
            or (site.deadline is not deadline and site.deadline != deadline)
        ):
            site = self._site_for(operation, strategy, custom_config, fallback, deadline, hedge)
        if fallback is not None:
            check_fallback(fallback, kind_of(f))
        plan: Any = site.plan
        token: Any = plan.fast_without_deadline and plan.admission_breaker.snapshot
        if token is False or token.needs_admission or _get_current_call() is not None:
            return sync.run(site.current(), f, args, kwargs)  # type: ignore[no-any-return]
        return sync.run_fast(plan, f, args, kwargs, token)  # type: ignore[no-any-return]

    def _site_for(  # noqa: PLR0913 - one argument an option
        self,
        operation: str,
        strategy: ResilienceStrategy | str | None,
        custom_config: CustomConfigOption,
        fallback: Callable[..., Any] | None,
        deadline: Seconds,
        hedge: HedgeConfig | Unset | None,
    ) -> AdHocCallSite:
        """The site for options that come with a call. The last one of each operation is kept, so options should not vary much."""
        copied_config = dict(custom_config) if isinstance(custom_config, Mapping) else custom_config
        options = CallOptions(strategy=strategy, custom_config=copied_config, fallback=fallback, deadline=deadline, hedge=hedge)
        options.validate()
        site = AdHocCallSite(functools.partial(self._registry.make_plan, check_operation(operation), options), operation, options)
        self._registry.rebuild_site(site)
        (self._ad_hoc_sites if hedge is UNSET else self._hedged_ad_hoc_sites)[operation] = site
        return site

    def _hedged_site(self, operation: str, hedge: HedgeConfig | Unset | None) -> AdHocCallSite | None:
        site = self._hedged_ad_hoc_sites.get(operation)
        return site if site is not None and site.options.hedge == hedge else None

    # --- operations ------------------------------------------------------------------------------------------------------

    def register_operation(self, operation: str, strategy: ResilienceStrategy | str) -> None:
        """Give an operation its strategy beforehand; it ranks with the preset's word for the operation."""
        self._registry.register_strategy(operation, strategy)

    def set_strategy(self, operation: str, strategy: ResilienceStrategy | str) -> None:
        """Change an operation's strategy now, over all else that was said of it. The breaker keeps its state."""
        self._registry.set_strategy(operation, strategy)

    def get_circuit_breaker(self, operation: str) -> CircuitBreaker:
        """The breaker of an operation, which is made when it was not in use yet; for a JSON client's name, the client's."""
        return self._registry.get_circuit_breaker(operation)

    @property
    def operations(self) -> list[str]:
        """The names of all operations in use or registered, those of JSON clients among them, sorted."""
        return sorted(self._snapshots.operation_names())

    @property
    def clients(self) -> ClientOperations:
        """The operations of the JSON clients whose numbers are shown here."""
        return self._registry.clients

    def attach_clients(self, clients: ClientOperations) -> None:
        """Show the numbers of these clients, too, and of those that join them."""
        self._registry.attach_clients(clients)

    def make_plan(self, name: str, options: CallOptions) -> CallPlan:
        """The plan of a call site of operation `name`, by everything that is known now."""
        return self._registry.make_plan(name, options)

    def rebuild_site(self, site: OperationCallSite) -> None:
        """Have `site` make its plan: now, and at each change of strategies or listeners for as long as it lives."""
        self._registry.rebuild_site(site)

    def detach_site(self, site: OperationCallSite) -> None:
        """Have nothing more to do with `site`."""
        self._registry.detach_site(site)

    # --- settings --------------------------------------------------------------------------------------------------------

    @property
    def settings(self) -> Any:
        """The `ResilienceSettings` that are in force."""
        return self._registry.settings

    def reload(self, settings: Any = None) -> tuple[ConfigChange, ...]:
        """Obey other settings from the next call on, and tell what changed; None reads the environment and the file anew.

        A call under way ends as it began. Breakers keep their states, operations their counters and retry budgets,
        `set_strategy` its word. What is wrong changes nothing: a `ConfigurationError`, and the first time a `ConfigRejected`.
        """
        return self._reloader.reload(settings)

    def watch_config(self, *, settle: float = 0.1) -> ConfigWatch:
        """Reload whenever the settings' file changes, in a thread of its own, until `.stop()` or the end of a `with` block.

        The file has to be quiet for `settle` seconds before it is read. Atomic replacement and Kubernetes' swapped links are
        seen. Needs the extra `watch`; a file has to be named. Raises `ConfigurationError`.
        """
        from resilience_kit.orchestrator.watch import ConfigWatch  # noqa: PLC0415 - its library is an extra

        return ConfigWatch(self, settle=settle)

    def explain(self, operation: str) -> Explanation:
        """Every option of an operation, with the source that decided it and what that overruled.

        The options are those of the operation's first call site, or of a bare call where it has none.
        """
        return self._registry.explain(operation)

    # --- reading ---------------------------------------------------------------------------------------------------------

    def get_metrics(self, operation: str | None = None) -> dict[str, Any]:
        """What happened, ready for JSON: everything, or one operation's numbers. Raises `ConfigurationError` for an unknown one.

        Every call ends in exactly one of successful, failed, rejected and cancelled; `success_rate` is 0.0 to 1.0, and 1.0
        before the first call.
        """
        return self._snapshots.metrics(operation)

    def reset_metrics(self, operation: str | None = None) -> None:
        """Count from zero again: one operation, or all. Breakers keep their states and totals."""
        self._snapshots.reset_metrics(operation)

    def is_healthy(self) -> bool:
        """Whether no circuit is open."""
        return not self._snapshots.open_circuits()

    def get_health_status(self) -> dict[str, Any]:
        """Which circuits are open or half-open, ready for JSON. Half-open counts as healthy, and so does nothing at all."""
        return self._snapshots.health()

    @property
    def events(self) -> EventStream:
        """The stream that this orchestrator emits on, for the `events=` of parts that belong to it."""
        return self._events

    def add_listener(self, listener: Listener, *types: type[Event], when: Callable[[], bool] | None = None) -> Callable[[], None]:
        """Send events to `listener`, those of `types` only when some are named; the function returned ends that.

        What transports, pacing, JSON clients, jobs and breakers that stand alone emit reaches the default orchestrator's. A
        listener runs in the thread of the call, outside every lock; what it raises is logged and changes nothing. Put a slow
        one into a `resilience_kit.events.QueuedListener`.
        """
        return self._events.add_listener(listener, *types, when=when)


def _check_parts(clock: object, store: object, events: object) -> None:
    checks = Checks("AIServiceResilience")
    checks.has_methods("clock", clock, "monotonic", "nanoseconds", "sleep", "sleep_async", "call_later", "wait", "wait_async")
    if store is not None:
        checks.has_methods("store", store, "load", "save")
    checks.instance("events", events, EventStream, type(None))
    checks.raise_if_any()
