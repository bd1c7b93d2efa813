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

    `settings`: a `ResilienceSettings`; None reads the environment. `clock`: the source of all times and sleeps. `store`: keeps
    breaker states over a restart. `events`: the stream to emit on; None makes one. Raises `ConfigurationError` for wrong
    arguments or a wrong environment.
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
        """Decorate a function, async function, generator or async generator, keeping its kind and signature.

        `deadline` and `attempt_timeout` are seconds and override those of the config; None switches them off. `fallback` is
        called with the call's own arguments in place of raising the final error. `rate_limit`, `bulkhead` and `hedge` are as in
        `ResilienceConfig`: given as options, they belong to the operation, and its first call site decides them. Raises
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
        """Call `f`, async or plain, with `args` and `kwargs`, protected as by `with_resilience`.

        A plain `f` runs in the loop's thread, or with `in_thread=True` in another one with a copy of the context. A thread
        cannot be stopped: at the deadline the call returns while its thread keeps running.
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
        """Call a plain `f` with `args` and `kwargs`, protected as by `with_resilience`. The deadline does not interrupt it."""
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
        """Make the call site for options passed with a call. Only the last one of each operation is cached."""
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
        """Give an operation a strategy that ranks above the preset's for the operation and below the code's."""
        self._registry.register_strategy(operation, strategy)

    def set_strategy(self, operation: str, strategy: ResilienceStrategy | str) -> None:
        """Change an operation's strategy from the next call on, over every other source. The breaker keeps its state."""
        self._registry.set_strategy(operation, strategy)

    def get_circuit_breaker(self, operation: str) -> CircuitBreaker:
        """Return the breaker of an operation, made if it is new; for the name of a JSON client, the client's breaker."""
        return self._registry.get_circuit_breaker(operation)

    @property
    def operations(self) -> list[str]:
        """All operations in use or registered, those of JSON clients included, sorted by name."""
        return sorted(self._snapshots.operation_names())

    @property
    def clients(self) -> ClientOperations:
        """The operations of JSON clients whose metrics are shown here."""
        return self._registry.clients

    def attach_clients(self, clients: ClientOperations) -> None:
        """Show the metrics and breakers of these clients, too, and of those that join them."""
        self._registry.attach_clients(clients)

    def make_plan(self, name: str, options: CallOptions) -> CallPlan:
        """Return the plan of a call site of operation `name` under the current settings and strategies."""
        return self._registry.make_plan(name, options)

    def rebuild_site(self, site: OperationCallSite) -> None:
        """Build the site's plan now, and again at each change of strategies, settings or listeners while the site lives."""
        self._registry.rebuild_site(site)

    def detach_site(self, site: OperationCallSite) -> None:
        """Stop building plans for `site`."""
        self._registry.detach_site(site)

    # --- settings --------------------------------------------------------------------------------------------------------

    @property
    def settings(self) -> Any:
        """The `ResilienceSettings` in force."""
        return self._registry.settings

    def reload(self, settings: Any = None) -> tuple[ConfigChange, ...]:
        """Apply other settings from the next call on and return what changed; None reads the environment and the file again.

        A call in progress keeps its options. Breakers keep their states, operations their counters and retry budgets, and
        strategies of `set_strategy` stay in force. Wrong settings change nothing: they raise `ConfigurationError`, and the same
        errors emit `ConfigRejected` once.
        """
        return self._reloader.reload(settings)

    def watch_config(self, *, settle: float = 0.1) -> ConfigWatch:
        """Reload whenever the settings' file changes, in a separate thread, until `.stop()` or the end of a `with` block.

        The file is read after `settle` seconds without a change. Atomic replacement and the links that Kubernetes swaps are
        noticed. Raises `ConfigurationError` without the extra `watch`, or if the settings name no file.
        """
        from resilience_kit.orchestrator.watch import ConfigWatch  # noqa: PLC0415 - its library is an extra

        return ConfigWatch(self, settle=settle)

    def explain(self, operation: str) -> Explanation:
        """Return every option of an operation, with the source that decided it and the values that it overrode.

        The options are those of the operation's first call site, or of a bare call where it has none.
        """
        return self._registry.explain(operation)

    # --- reading ---------------------------------------------------------------------------------------------------------

    def get_metrics(self, operation: str | None = None) -> dict[str, Any]:
        """Return a snapshot of all metrics, or of one operation's, ready for JSON; raise `ConfigurationError` for an unknown one.

        Every call ends in exactly one of successful, failed, rejected and cancelled; `success_rate` is 0.0 to 1.0, and 1.0
        before the first call.
        """
        return self._snapshots.metrics(operation)

    def reset_metrics(self, operation: str | None = None) -> None:
        """Reset the counters of one operation, or of all. Breakers keep their states and totals."""
        self._snapshots.reset_metrics(operation)

    def is_healthy(self) -> bool:
        """Return whether no circuit is open."""
        return not self._snapshots.open_circuits()

    def get_health_status(self) -> dict[str, Any]:
        """Return which circuits are open or half-open, ready for JSON. Half-open counts as healthy, and so does no operation."""
        return self._snapshots.health()

    @property
    def events(self) -> EventStream:
        """The stream that this orchestrator emits on, to pass as `events=` to objects that belong to it."""
        return self._events

    def add_listener(self, listener: Listener, *types: type[Event], when: Callable[[], bool] | None = None) -> Callable[[], None]:
        """Send events to `listener`, all of them or only those of `types`, and return a function that removes it.

        Transports, pacing, JSON clients, jobs and standalone breakers emit on the default orchestrator's stream. A listener runs
        in the thread of the call, outside every lock; its errors are logged and have no effect. Wrap a slow one in a
        `resilience_kit.events.QueuedListener`.
        """
        return self._events.add_listener(listener, *types, when=when)


def _check_parts(clock: object, store: object, events: object) -> None:
    checks = Checks("AIServiceResilience")
    checks.has_methods("clock", clock, "monotonic", "nanoseconds", "sleep", "sleep_async", "call_later", "wait", "wait_async")
    if store is not None:
        checks.has_methods("store", store, "load", "save")
    checks.instance("events", events, EventStream, type(None))
    checks.raise_if_any()
