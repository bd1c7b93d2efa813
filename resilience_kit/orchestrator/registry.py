"""Registry of one orchestrator: its operations, their strategies, and the call sites whose plans follow them.

An operation is made at its first use and belongs to all of its call sites: one breaker, one retry budget, one set of metrics. A
call site has options of its own. A change of strategy, settings or listeners gives the call sites new plans.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from resilience_kit._fork import register_fork_aware
from resilience_kit.clock import SYSTEM_CLOCK, Clock
from resilience_kit.config import ResilienceConfig, ResilienceStrategy, check_operation, strategy_named
from resilience_kit.config.call_options import CallOptions
from resilience_kit.config.layers import fold_layers
from resilience_kit.config.near_names import near_names, spelled
from resilience_kit.config.resolve import layers_for
from resilience_kit.events import CallRejected, CallSucceeded, EventStream, OptionsIgnored, StrategyChanged
from resilience_kit.execution.hedge import get_hedging
from resilience_kit.execution.plan import CallPlan, Operation, key_function
from resilience_kit.log import logger
from resilience_kit.metrics import OperationMetrics
from resilience_kit.orchestrator.clients import ClientOperations
from resilience_kit.orchestrator.limits import resolve_guards
from resilience_kit.orchestrator.request import OperationCallSite
from resilience_kit.policies.breaker import BreakerStore, CircuitBreaker, CircuitBreakerConfig
from resilience_kit.policies.breaker.persistence import PendingRestore
from resilience_kit.policies.retry_budget import RetryBudget

if TYPE_CHECKING:
    from resilience_kit.config.explain import Explanation


class OperationRegistry:
    """Holds the operations, strategies, settings and call sites of one orchestrator. Thread-safe.

    `settings`: a `ResilienceSettings`. `lock` guards all that is here; `finish_changes` must follow each use of it.
    """

    def __init__(self, settings: Any, clock: Clock, store: BreakerStore | None, events: EventStream) -> None:
        self.settings, self.events = settings, events
        self.clock, self._store = clock, store
        self.operations: dict[str, Operation] = {}
        self.sites: weakref.WeakSet[OperationCallSite] = weakref.WeakSet()
        self.loading: list[PendingRestore] = []
        #: Operations whose names have not been compared with the names in the settings.
        self.unchecked_names: list[str] = []
        self._first_options: dict[str, CallOptions] = {}
        self._registered_strategies: dict[str, ResilienceStrategy] = {}
        self._live_strategies: dict[str, ResilienceStrategy] = {}
        self.attach_clients(ClientOperations())
        self.reset_after_fork()
        self._listener_flags = self._read_listener_flags()
        _call_while_alive(self._listeners_changed, events.on_listeners_changed)
        register_fork_aware(self)

    def reset_after_fork(self) -> None:
        """Replace the lock in a forked child, where another thread may have held it."""
        self.lock = threading.RLock()

    # --- configs and plans -----------------------------------------------------------------------------------------------

    def resolve(self, name: str, options: CallOptions, settings: Any = None) -> ResilienceConfig:
        """Return the config of a call site under `settings`, by default those in force."""
        settings = self.settings if settings is None else settings
        return fold_layers(settings.default, layers_for(name, settings, options, **self._strategies_of(name)))

    def explain(self, operation: str) -> Explanation:
        """See `AIServiceResilience.explain`."""
        from resilience_kit.config.explain import explain  # noqa: PLC0415 - seldom needed

        name = check_operation(operation)
        with self.lock:
            settings, options, strategies = self.settings, self.call_site_options(name)[0], self._strategies_of(name)
        return explain(name, settings=settings, options=options, **strategies)

    def _strategies_of(self, name: str) -> dict[str, ResilienceStrategy | None]:
        return {"registered": self._registered_strategies.get(name), "live": self._live_strategies.get(name)}

    def make_plan(self, name: str, options: CallOptions) -> CallPlan:
        """Return the plan of a call site of operation `name` under the current settings and strategies."""
        config = self.resolve(name, options)
        operation = self.get_or_create_operation(name, config, options)
        breaker = config.circuit_breaker
        with self.lock:
            hedging, guards = get_hedging(operation, config.hedge), resolve_guards(operation, config)
        return CallPlan(
            operation=operation,
            retry=config.retry,
            breaker=None if breaker is None else operation.breaker,
            breaker_classifies=breaker is not None and breaker.expected_exception is not None,
            hedging=hedging,
            deadline=config.deadline,
            attempt_timeout=config.attempt_timeout,
            guards=guards,
            budget=None if config.retry_budget is None else operation.budget,
            idempotent=config.idempotent,
            has_idempotency_key=bool(config.idempotency_key),
            key_of=key_function(config.idempotency_key),
            waits_when_open=config.circuit_open == "wait",
            first_item_timeout=config.first_item_timeout,
            idle_timeout=config.idle_timeout,
            fallback=options.fallback,
        )

    # --- operations ------------------------------------------------------------------------------------------------------

    def get_or_create_operation(self, name: str, config: ResilienceConfig, options: CallOptions | None = None) -> Operation:
        """Return the operation, made if it is new. The first call site with a breaker decides that breaker's options."""
        with self.lock:
            operation = self.operations.get(name)
            if operation is None:
                self.unchecked_names.append(name)
                with self.clients.lock:  # a client and a function of one name, made at once, share their metrics
                    operation = self.operations[name] = self._new_operation(name, config)
            if options is not None and config.circuit_breaker is not None and name not in self._first_options:
                self._first_options[name] = options
                operation.breaker.reconfigure(config.circuit_breaker)
            if config.retry_budget is not None and operation.budget is None:
                operation.budget = RetryBudget(config.retry_budget)
            self._warn_on_conflict(operation, config)
        return operation

    def _new_operation(self, name: str, config: ResilienceConfig) -> Operation:
        options = config.circuit_breaker or CircuitBreakerConfig()
        clock = None if self.clock is SYSTEM_CLOCK else self.clock.monotonic  # None reads time.monotonic without a detour
        breaker = CircuitBreaker.from_config(options, name, clock=clock, events=self.events)
        loading = breaker.attach_store(self._store)
        if loading is not None:
            self.loading.append(loading)
        client = self.clients.get(name)
        metrics = OperationMetrics(self.clock) if client is None else client.metrics
        metrics.use_clock(self.clock)
        breaker.add_external_counters(successes=metrics.total_successes, rejections=metrics.total_fast_rejections)
        return Operation(name, breaker, metrics, self.events, self.clock)

    def _warn_on_conflict(self, operation: Operation, config: ResilienceConfig) -> None:
        """Report once that a call site's breaker options differ from those of the operation and are ignored."""
        if config.circuit_breaker is None or operation.breaker.matches_config(config.circuit_breaker):
            return
        if "options" not in operation.reported:
            operation.reported["options"] = None
            self.events.enqueue(OptionsIgnored(operation=operation.name, options="circuit breaker options"))

    def get_circuit_breaker(self, operation: str) -> CircuitBreaker:
        """Return the operation's breaker, made if it is new; for the name of a JSON client only, the client's."""
        name = check_operation(operation)
        known, client = self.operations.get(name), self.clients.get(name)
        of_client = None if client is None else client.breaker
        if known is None and of_client is not None:
            return of_client
        if known is None:
            with self.lock:  # else it could be made of settings that were replaced meanwhile
                known = self.get_or_create_operation(name, self.resolve(name, CallOptions()))
        self.finish_changes()
        return known.breaker

    def finish_changes(self) -> None:
        """Do what must not be done under the lock: wait for restored breaker states, log, and run listeners."""
        for loading in list(self.loading):
            loading.finish()
            with contextlib.suppress(ValueError):  # another thread has waited, too
                self.loading.remove(loading)
        if self.unchecked_names:
            self._warn_of_near_names()
        self.events.flush()

    def _warn_of_near_names(self) -> None:
        """Log once, for each operation in use that the settings do not name, what they name that is near it and not in use."""
        with self.lock:
            new, self.unchecked_names = self.unchecked_names, []
            in_use, settings = dict(self.operations), self.settings
        used = set(map(spelled, in_use))
        named = {name: source for name, source in settings.named_operations().items() if spelled(name) not in used}
        if not named:
            return
        for name in new:
            for near in near_names(named, (name,)):
                if near.source not in in_use[name].reported:
                    in_use[name].reported[near.source] = None
                    logger.warning("%s", near)

    # --- strategies ------------------------------------------------------------------------------------------------------

    def register_strategy(self, operation: str, strategy: ResilienceStrategy | str) -> None:
        """See `AIServiceResilience.register_operation`."""
        name, chosen = check_operation(operation), strategy_named(strategy, "strategy")
        with self.lock:
            self._registered_strategies[name] = chosen
            self._apply_strategy(name)
        self.finish_changes()

    def set_strategy(self, operation: str, strategy: ResilienceStrategy | str) -> None:
        """See `AIServiceResilience.set_strategy`."""
        name, chosen = check_operation(operation), strategy_named(strategy, "strategy")
        with self.lock:
            old = self._live_strategies.get(name) or self._registered_strategies.get(name)
            self._live_strategies[name] = chosen
            self._apply_strategy(name)
        self.events.enqueue(StrategyChanged(operation=name, old="" if old is None else old.value, new=chosen.value))
        self.finish_changes()

    def _apply_strategy(self, name: str) -> None:
        self.get_or_create_operation(name, self.reconfigure(name))
        self.rebuild_sites(name)

    def reconfigure(self, name: str) -> ResilienceConfig:
        """Return the operation's own config, after applying it to the operation's breaker."""
        config = self.resolve(name, self._first_options.get(name, CallOptions()))
        if name in self.operations and config.circuit_breaker is not None:
            self.operations[name].breaker.reconfigure(config.circuit_breaker)
        return config

    # --- call sites ------------------------------------------------------------------------------------------------------

    def rebuild_site(self, site: OperationCallSite) -> None:
        """Build the site's plan now, and again at each change of strategies, settings or listeners while the site lives."""
        with self.lock:  # else a plan of before a change could come after that of the change
            self.sites.add(site)
            site.rebuild()
        self.finish_changes()

    def rebuild_sites(self, name: str | None = None) -> None:
        """Build new plans for the call sites of an operation, or for all."""
        with self.lock:
            for site in list(self.sites):
                if name is None or site.operation == name:
                    site.rebuild()

    def detach_site(self, site: OperationCallSite) -> None:
        """Stop building plans for `site`."""
        with self.lock:
            self.sites.discard(site)
        site.invalidate()

    def call_site_options(self, name: str) -> list[CallOptions]:
        """Return the options of an operation's call sites, the first one's first; empty options if there is no call site."""
        first = self._first_options.get(name)
        others = [site.options for site in list(self.sites) if site.operation == name and site.options is not first]
        return [*([] if first is None else [first]), *others] or [CallOptions()]

    # --- listeners and clients -------------------------------------------------------------------------------------------

    def _listeners_changed(self) -> None:
        """Rebuild all plans if the presence of listeners changed; a plan caches it."""
        with self.lock:
            before, self._listener_flags = self._listener_flags, self._read_listener_flags()
            if self._listener_flags != before:
                self.rebuild_sites()
        self.finish_changes()

    def _read_listener_flags(self) -> tuple[bool, bool]:
        return self.events.may_have_listener(CallSucceeded), self.events.has_listener(CallRejected)

    def attach_clients(self, clients: ClientOperations) -> None:
        """Show the metrics and breakers of these clients, too, and of those that join them."""
        self.clients = clients
        clients.metrics_of = self.own_metrics

    def own_metrics(self, operation: str) -> OperationMetrics | None:
        """Return the metrics of an operation that is not only a client's; None for an unknown one."""
        known = self.operations.get(operation)
        metrics: Any = None if known is None else known.metrics
        return metrics  # type: ignore[no-any-return]  # the driver knows it by what it writes only


def _call_while_alive(method: Callable[[], object], registry: list[Callable[[], object]]) -> None:
    """Register a method for as long as its object lives: a stream may outlive many orchestrators."""
    weak = weakref.WeakMethod(method)

    def call() -> None:
        (weak() or _do_nothing)()

    registry.append(call)
    owner: Any = getattr(method, "__self__", None)
    weakref.finalize(owner, registry.remove, call).atexit = False  # a callback of `weak` would be a circle


def _do_nothing() -> None:
    """Stand in for a method whose object has just been collected."""
