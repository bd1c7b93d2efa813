"""Names become operations here: each has one breaker, one retry budget and one set of numbers, whoever calls it.

An operation is made at its first use. Its call sites each have options of their own, resolved beforehand; a change of strategy
gives every site a new plan, and the breaker its new numbers.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import weakref
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from resilience_kit._callable_kinds import DRIVABLE_TYPES, is_awaitable, kind_of
from resilience_kit._checks import Checks, did_you_mean
from resilience_kit._fork import ForkSafeLock, register_fork_aware
from resilience_kit._keyword_hints import suggests_keywords
from resilience_kit.config import (
    UNSET,
    ResilienceConfig,
    ResilienceStrategy,
    check_operation,
    strategy_named,
)
from resilience_kit.config.layers import RequestedOptions, Seconds, Unset, fold_layers
from resilience_kit.config.near_names import near_names, spelled
from resilience_kit.config.resilience_config import BulkheadLimit, RateLimit
from resilience_kit.config.resolve import layers_for
from resilience_kit.context import current_call
from resilience_kit.errors import REDACTED, ConfigurationError
from resilience_kit.events import (
    CallRejected,
    CallSucceeded,
    ConfigChange,
    ConfigRejected,
    ConfigReloaded,
    Event,
    EventStream,
    Listener,
    OptionsIgnored,
    StrategyChanged,
)
from resilience_kit.execution import aio, streams, sync
from resilience_kit.execution.call import Call
from resilience_kit.execution.hedge import get_hedging
from resilience_kit.execution.plan import CallPlan, Operation, key_function
from resilience_kit.log import attach_logging, logger
from resilience_kit.metrics import OperationMetrics
from resilience_kit.orchestrator.clients import ClientOperations, rejection_rank
from resilience_kit.orchestrator.limits import resolve_guards
from resilience_kit.orchestrator.request import (
    CallOptions,
    CustomConfigOption,
    OperationCallSite,
    check_fallback,
    kind_when_awaited,
    wrap_function,
)
from resilience_kit.outcome import SYSTEM_CLOCK, Clock, Guard
from resilience_kit.policies.breaker import BreakerStore, CircuitBreaker, CircuitBreakerConfig, CircuitState
from resilience_kit.policies.breaker.persistence import PendingRestore
from resilience_kit.policies.hedge import HedgeConfig, Hedging
from resilience_kit.policies.retry_budget import RetryBudget

if TYPE_CHECKING:
    from resilience_kit.config.explain import Explanation
    from resilience_kit.orchestrator.watch import ConfigWatch

P = ParamSpec("P")
R = TypeVar("R")

_get_current_call = current_call.get
_MAX_REPORTED_ERRORS = 100


class _AdHocCallSite(OperationCallSite):
    """The site of options that come with each call. A mapping is copied, since it may change between two calls."""

    __slots__ = ("custom_config", "deadline", "fallback", "strategy")

    def __init__(self, make_plan: Callable[[], CallPlan], operation: str, options: CallOptions) -> None:
        super().__init__(make_plan, operation, options)
        self.strategy, self.custom_config = options.strategy, options.custom_config
        self.fallback, self.deadline = options.fallback, options.deadline


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
        self.settings = _validated_settings(settings)
        self._clock, self._store = clock, store
        self._events = EventStream() if events is None else events
        attach_logging(self._events)
        self._operations: dict[str, Operation] = {}
        self._loading: list[PendingRestore] = []
        #: Operations whose names are to be compared with those that the settings have for others.
        self._unchecked_names: list[str] = []
        self.attach_clients(ClientOperations())
        self._first_options: dict[str, CallOptions] = {}
        self._registered_strategies: dict[str, ResilienceStrategy] = {}
        self._live_strategies: dict[str, ResilienceStrategy] = {}
        self._sites: weakref.WeakSet[OperationCallSite] = weakref.WeakSet()
        self._ad_hoc_sites: dict[str, _AdHocCallSite] = {}
        self._get_ad_hoc_site = self._ad_hoc_sites.get
        self._hedged_ad_hoc_sites: dict[str, _AdHocCallSite] = {}
        self._lock = threading.RLock()
        self._reloading, self._reported_errors = ForkSafeLock(), set[tuple[str, ...]]()
        self._listener_flags = self._read_listener_flags()
        _call_while_alive(self._listeners_changed, self._events.on_listeners_changed)
        register_fork_aware(self)

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
        site = OperationCallSite(functools.partial(self.make_plan, operation, options), operation, options)
        self.rebuild_site(site)
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
    ) -> _AdHocCallSite:
        """The site for options that come with a call. The last one of each operation is kept, so options should not vary much."""
        copied_config = dict(custom_config) if isinstance(custom_config, Mapping) else custom_config
        options = CallOptions(strategy=strategy, custom_config=copied_config, fallback=fallback, deadline=deadline, hedge=hedge)
        options.validate()
        site = _AdHocCallSite(functools.partial(self.make_plan, check_operation(operation), options), operation, options)
        self.rebuild_site(site)
        (self._ad_hoc_sites if hedge is UNSET else self._hedged_ad_hoc_sites)[operation] = site
        return site

    def _hedged_site(self, operation: str, hedge: HedgeConfig | Unset | None) -> _AdHocCallSite | None:
        site = self._hedged_ad_hoc_sites.get(operation)
        return site if site is not None and site.options.hedge == hedge else None

    def rebuild_site(self, site: OperationCallSite) -> None:
        """Have `site` make its plan: now, and at each change of strategies or listeners for as long as it lives."""
        with self._lock:  # else a plan of before a change could come after that of the change
            self._sites.add(site)
            site.rebuild()
        self._after_lock()

    def make_plan(self, name: str, options: CallOptions) -> CallPlan:
        """The plan of a call site of operation `name`, by everything that is known now."""
        config = self._resolve(name, options, self.settings)
        operation = self._get_or_create_operation(name, config, options)
        breaker = config.circuit_breaker
        return CallPlan(
            operation=operation,
            retry=config.retry,
            breaker=None if breaker is None else operation.breaker,
            breaker_classifies=breaker is not None and breaker.expected_exception is not None,
            hedging=self._hedging(operation, config),
            deadline=config.deadline,
            attempt_timeout=config.attempt_timeout,
            guards=self._guards(operation, config),
            budget=None if config.retry_budget is None else operation.budget,
            idempotent=config.idempotent,
            has_idempotency_key=bool(config.idempotency_key),
            key_of=key_function(config.idempotency_key),
            waits_when_open=config.circuit_open == "wait",
            first_item_timeout=config.first_item_timeout,
            idle_timeout=config.idle_timeout,
            fallback=options.fallback,
        )

    def _hedging(self, operation: Operation, config: ResilienceConfig) -> Hedging | None:
        with self._lock:
            return get_hedging(operation, config.hedge)

    def _guards(self, operation: Operation, config: ResilienceConfig) -> tuple[Guard, ...]:
        with self._lock:
            return resolve_guards(operation, config)

    def _resolve(self, name: str, options: CallOptions, settings: Any) -> ResilienceConfig:
        return fold_layers(settings.default, layers_for(name, settings, self._requested_options(name, options)))

    def _requested_options(self, name: str, options: CallOptions) -> RequestedOptions:
        return options.to_requested_options(
            registered=self._registered_strategies.get(name), live=self._live_strategies.get(name)
        )

    # --- operations ------------------------------------------------------------------------------------------------------

    def _get_or_create_operation(self, name: str, config: ResilienceConfig, options: CallOptions | None = None) -> Operation:
        """The operation, made when it is not there. The first call site that wants a breaker says with which options."""
        with self._lock:
            operation = self._operations.get(name)
            if operation is None:
                self._unchecked_names.append(name)
                with self.clients.lock:  # of a client and a function of one name that come at once, both have the same numbers
                    operation = self._operations[name] = self._new_operation(name, config)
            if options is not None and config.circuit_breaker is not None and name not in self._first_options:
                self._first_options[name] = options
                operation.breaker.reconfigure(config.circuit_breaker)
            if config.retry_budget is not None and operation.budget is None:
                operation.budget = RetryBudget(config.retry_budget)
            self._warn_on_conflict(operation, config)
        return operation

    def _new_operation(self, name: str, config: ResilienceConfig) -> Operation:
        options = config.circuit_breaker or CircuitBreakerConfig()
        clock = None if self._clock is SYSTEM_CLOCK else self._clock.monotonic  # None reads time.monotonic without a detour
        breaker = CircuitBreaker.from_config(options, name, clock=clock, events=self._events)
        loading = breaker.attach_store(self._store)
        if loading is not None:
            self._loading.append(loading)
        client = self.clients.get(name)
        metrics = OperationMetrics(self._clock) if client is None else client.metrics
        metrics.use_clock(self._clock)
        breaker.add_external_counters(successes=metrics.total_successes, rejections=metrics.total_fast_rejections)
        return Operation(name, breaker, metrics, self._events, self._clock)

    def _after_lock(self) -> None:
        """What must not be done under the lock: waiting for the states of new breakers, and running listeners."""
        for loading in list(self._loading):
            loading.finish()
            with contextlib.suppress(ValueError):  # another thread has waited, too
                self._loading.remove(loading)
        if self._unchecked_names:
            self._warn_of_near_names()
        self._events.flush()

    def _warn_of_near_names(self) -> None:
        """Log once, for each operation in use that the settings do not name, what they name that is near it and not in use."""
        with self._lock:
            new, self._unchecked_names = self._unchecked_names, []
            in_use, settings = dict(self._operations), self.settings
        used = set(map(spelled, in_use))
        named = {name: source for name, source in settings.named_operations().items() if spelled(name) not in used}
        if not named:
            return
        for name in new:
            for near in near_names(named, (name,)):
                if near.source not in in_use[name].reported:
                    in_use[name].reported[near.source] = None
                    logger.warning("%s", near)

    def _warn_on_conflict(self, operation: Operation, config: ResilienceConfig) -> None:
        """Breaker options belong to the operation; a call site that wants others is told once that it does not get them."""
        if config.circuit_breaker is None or operation.breaker.matches_config(config.circuit_breaker):
            return
        if "options" not in operation.reported:
            operation.reported["options"] = None
            self._events.enqueue(OptionsIgnored(operation=operation.name, options="circuit breaker options"))

    def register_operation(self, operation: str, strategy: ResilienceStrategy | str) -> None:
        """Give an operation its strategy beforehand; it ranks with the preset's word for the operation."""
        name, chosen = check_operation(operation), strategy_named(strategy, "strategy")
        with self._lock:
            self._registered_strategies[name] = chosen
            self._apply_strategy(name)
        self._after_lock()

    def set_strategy(self, operation: str, strategy: ResilienceStrategy | str) -> None:
        """Change an operation's strategy now, over all else that was said of it. The breaker keeps its state."""
        name, chosen = check_operation(operation), strategy_named(strategy, "strategy")
        with self._lock:
            old = self._live_strategies.get(name) or self._registered_strategies.get(name)
            self._live_strategies[name] = chosen
            self._apply_strategy(name)
        self._events.enqueue(StrategyChanged(operation=name, old="" if old is None else old.value, new=chosen.value))
        self._after_lock()

    def _apply_strategy(self, name: str) -> None:
        self._get_or_create_operation(name, self._reconfigure(name))
        self._rebuild_sites(name)

    def _reconfigure(self, name: str) -> ResilienceConfig:
        """The operation's own config, which its breaker has to obey."""
        config = self._resolve(name, self._first_options.get(name, CallOptions()), self.settings)
        if name in self._operations and config.circuit_breaker is not None:
            self._operations[name].breaker.reconfigure(config.circuit_breaker)
        return config

    def _rebuild_sites(self, name: str | None = None) -> None:
        """Give the sites of an operation, or all, a new plan."""
        with self._lock:
            for site in list(self._sites):
                if name is None or site.operation == name:
                    site.rebuild()

    def _listeners_changed(self) -> None:
        """Plans hold what they know of listeners: where that stays, thousands of them stay, too."""
        with self._lock:
            before, self._listener_flags = self._listener_flags, self._read_listener_flags()
            if self._listener_flags != before:
                self._rebuild_sites()
        self._after_lock()

    def _read_listener_flags(self) -> tuple[bool, bool]:
        return self._events.may_have_listener(CallSucceeded), self._events.has_listener(CallRejected)

    def attach_clients(self, clients: ClientOperations) -> None:
        """Show the numbers of these clients, too, and of those that join them."""
        self.clients = clients
        clients.metrics_of = self._own_metrics

    def detach_site(self, site: OperationCallSite) -> None:
        """Have nothing more to do with `site`."""
        with self._lock:
            self._sites.discard(site)
        site.invalidate()

    def get_circuit_breaker(self, operation: str) -> CircuitBreaker:
        """The breaker of an operation, which is made when it was not in use yet; for a JSON client's name, the client's."""
        name = check_operation(operation)
        known, client = self._operations.get(name), self.clients.get(name)
        of_client = None if client is None else client.breaker
        if known is None and of_client is not None:
            return of_client
        if known is None:
            with self._lock:  # else it could be made of settings that were replaced meanwhile
                known = self._get_or_create_operation(name, self._resolve(name, CallOptions(), self.settings))
        self._after_lock()
        return known.breaker

    @property
    def operations(self) -> list[str]:
        """The names of all operations in use or registered, those of JSON clients among them, sorted."""
        return sorted(self._operation_names())

    # --- settings --------------------------------------------------------------------------------------------------------

    def reload(self, settings: Any = None) -> tuple[ConfigChange, ...]:
        """Obey other settings from the next call on, and tell what changed; None reads the environment and the file anew.

        A call under way ends as it began. Breakers keep their states, operations their counters and retry budgets,
        `set_strategy` its word. What is wrong changes nothing: a `ConfigurationError`, and the first time a `ConfigRejected`.
        """
        try:
            with self._reloading:  # so that of two, the one that read last is obeyed
                changes = self._swap_settings(self.settings.reloaded() if settings is None else _validated_settings(settings))
        except ConfigurationError as error:
            self._report_rejected(tuple(map(str, error.errors)))
            raise
        self._after_lock()
        return changes

    def _swap_settings(self, settings: Any) -> tuple[ConfigChange, ...]:
        """Nothing is told where nothing is new, unless it was thought to be."""
        if settings == self.settings and not self._reported_errors:
            return ()
        changes = self._apply_settings(settings)
        self._reported_errors.clear()
        self._events.enqueue(ConfigReloaded(changes=changes))
        return changes

    def _apply_settings(self, settings: Any) -> tuple[ConfigChange, ...]:
        """Finds every config beforehand: one may be wrong together with the code's options only, and then none is changed."""
        from resilience_kit.config.explain import changes  # noqa: PLC0415 - seldom needed

        with self._lock:
            call_sites = [(name, options) for name in self._operations for options in self._call_site_options(name)]
            old, new = ([self._resolve(*call_site, each) for call_site in call_sites] for each in (self.settings, settings))
            self.settings = settings
            for name in self._operations:
                self._reconfigure(name)
            self._unchecked_names.extend(self._operations)
            self._rebuild_sites()
        found = [
            ConfigChange(name, *change)
            for (name, _), before, after in zip(call_sites, old, new, strict=True)
            for change in changes(before, after)
        ]
        return tuple(each for number, each in enumerate(found) if each not in found[:number])

    def _call_site_options(self, name: str) -> list[CallOptions]:
        """What the call sites of an operation ask for, the first one's before the others'; nothing where there is none."""
        first = self._first_options.get(name)
        others = [site.options for site in list(self._sites) if site.operation == name and site.options is not first]
        return [*([] if first is None else [first]), *others] or [CallOptions()]

    def _report_rejected(self, errors: tuple[str, ...]) -> None:
        """Once for each badness, until something good is read."""
        if errors not in self._reported_errors:
            self._reported_errors = (
                {*self._reported_errors, errors} if len(self._reported_errors) < _MAX_REPORTED_ERRORS else {errors}
            )
            self._events.emit(ConfigRejected(errors=errors))

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
        from resilience_kit.config.explain import explain  # noqa: PLC0415 - seldom needed

        name = check_operation(operation)
        with self._lock:
            settings, requested = self.settings, self._requested_options(name, self._call_site_options(name)[0])
        return explain(name, settings=settings, requested=requested)

    # --- reading ---------------------------------------------------------------------------------------------------------

    def get_metrics(self, operation: str | None = None) -> dict[str, Any]:
        """What happened, ready for JSON: everything, or one operation's numbers. Raises `ConfigurationError` for an unknown one.

        Every call ends in exactly one of successful, failed, rejected and cancelled; `success_rate` is 0.0 to 1.0, and 1.0
        before the first call.
        """
        if operation is not None:
            return self._metrics(operation).snapshot()
        breakers = self._breakers()
        open_count = sum(breaker.opened for breaker in breakers.values())
        names = self._operation_names()
        return {
            "operations": {name: self._metrics(name).snapshot() for name in names},
            "circuit_breaker": {name: breaker.describe() for name, breaker in breakers.items()},
            "summary": {
                "total_operations": len(names),
                "healthy_circuit_breakers": len(breakers) - open_count,
                "open_circuit_breakers": open_count,
                "timestamp": _utc_timestamp(),
            },
        }

    def _operation_names(self) -> list[str]:
        """Its own operations and those of clients, each in the order of their first use."""
        return list(dict.fromkeys([*self._operations, *(client.name for client in self.clients.known)]))

    def _breakers(self) -> dict[str, CircuitBreaker]:
        """The breaker of each operation: its own, or that of a client of the same name where that one rejects more."""
        found = {each.name: each.breaker for each in list(self._operations.values())}
        for client in self.clients.known:
            breaker, own = client.breaker, found.get(client.name)
            if breaker is not None and (own is None or rejection_rank(breaker) > rejection_rank(own)):
                found[client.name] = breaker
        return found

    def reset_metrics(self, operation: str | None = None) -> None:
        """Count from zero again: one operation, or all. Breakers keep their states and totals."""
        for name in self.operations if operation is None else [operation]:
            self._metrics(name).reset()

    def _metrics(self, operation: str) -> OperationMetrics:
        client = self.clients.get(operation)
        metrics = self._own_metrics(operation) or (None if client is None else client.metrics)
        if metrics is None:
            known = did_you_mean(operation, self._operation_names())
            raise ConfigurationError([("operation", f"must be an operation in use{known}", operation)])
        return metrics

    def _own_metrics(self, operation: str) -> OperationMetrics | None:
        known = self._operations.get(operation)
        metrics: Any = None if known is None else known.metrics
        return metrics  # type: ignore[no-any-return]  # the driver knows it by what it writes only

    def is_healthy(self) -> bool:
        """Whether no circuit is open."""
        return not self._operations_in_state(CircuitState.OPEN, CircuitState.FORCED_OPEN)

    def get_health_status(self) -> dict[str, Any]:
        """Which circuits are open or half-open, ready for JSON. Half-open counts as healthy, and so does nothing at all."""
        opened = self._operations_in_state(CircuitState.OPEN, CircuitState.FORCED_OPEN)
        return {
            "healthy": not opened,
            "open_circuit_breakers": opened,
            "half_open_circuit_breakers": self._operations_in_state(CircuitState.HALF_OPEN),
            "total_circuit_breakers": len(self._breakers()),
            "total_operations": len(self._operation_names()),
            "timestamp": _utc_timestamp(),
        }

    def _operations_in_state(self, *states: CircuitState) -> list[str]:
        return [name for name, breaker in sorted(self._breakers().items()) if breaker.state in states]

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

    def reset_after_fork(self) -> None:
        """In a forked child: a lock that nobody holds."""
        self._lock = threading.RLock()


def _call_while_alive(method: Callable[[], object], registry: list[Callable[[], object]]) -> None:
    """Register a method for as long as its object lives: a stream may outlive many orchestrators."""
    weak = weakref.WeakMethod(method)

    def call() -> None:
        (weak() or _do_nothing)()

    registry.append(call)
    owner: Any = getattr(method, "__self__", None)
    weakref.finalize(owner, registry.remove, call).atexit = False  # a callback of `weak` would be a circle


def _do_nothing() -> None:
    """Stand in for a method whose object has died in this moment."""


def _utc_timestamp() -> str:
    return datetime.now(UTC).isoformat()


def _check_parts(clock: object, store: object, events: object) -> None:
    checks = Checks("AIServiceResilience")
    checks.has_methods("clock", clock, "monotonic", "nanoseconds", "sleep", "sleep_async", "call_later", "wait", "wait_async")
    if store is not None:
        checks.has_methods("store", store, "load", "save")
    checks.instance("events", events, EventStream, type(None))
    checks.raise_if_any()


def _validated_settings(settings: Any) -> Any:
    from resilience_kit.config import ResilienceSettings  # noqa: PLC0415 - pydantic-settings is slow to import

    if settings is None:
        return ResilienceSettings()
    if not isinstance(settings, ResilienceSettings):
        raise ConfigurationError([("settings", "must be a ResilienceSettings, or None for the environment's", REDACTED)])
    return settings
