"""What a single line of the orchestrator decides, each at its edge."""

from __future__ import annotations

import asyncio
import gc
import inspect
import itertools
from datetime import UTC, datetime

import pytest

from resilience_kit import _fork
from resilience_kit.config import ResilienceConfig, ResilienceSettings
from resilience_kit.errors import ConfigurationError
from resilience_kit.events import CallSucceeded, OptionsIgnored, StrategyChanged
from resilience_kit.execution import timeouts
from resilience_kit.orchestrator import AIServiceResilience


def done(*_args, **_kwargs):
    """Always."""
    return "done"


def other(*_args, **_kwargs):
    """A fallback."""


class Parts:
    """Has the methods that are named."""

    def __init__(self, *names):
        for name in names:
            setattr(self, name, done)


CLOCK, STORE = ("monotonic", "nanoseconds", "sleep", "sleep_async", "call_later"), ("load", "save")


@pytest.mark.parametrize("missing", CLOCK)
def test_a_clock_has_all_of_its_methods(missing):
    """Each is named that is missing."""
    clock = Parts(*(name for name in CLOCK if name != missing))
    with pytest.raises(ConfigurationError, match=rf"\.clock: .*{missing}"):
        AIServiceResilience(ResilienceSettings(), clock=clock)


@pytest.mark.parametrize("missing", STORE)
def test_a_store_has_both_of_its_methods(missing):
    """Each is named that is missing."""
    store = Parts(*(name for name in STORE if name != missing))
    with pytest.raises(ConfigurationError, match=rf"\.store: .*{missing}"):
        AIServiceResilience(ResilienceSettings(), store=store)
    assert AIServiceResilience(ResilienceSettings(), store=Parts(*STORE)).is_healthy()


@pytest.mark.parametrize("by", ["call_with_resilience", "execute_with_resilience"])
async def test_a_site_is_kept_for_as_long_as_the_options_stay(kit, config, by):
    """The same options, by their identity, a deadline by its number."""
    base = {"custom_config": config(), "strategy": "balanced", "fallback": other, "deadline": 5.0}

    async def site(**options):
        given = getattr(kit, by)(done, "op", **(base | options))
        assert "done" == (await given if inspect.isawaitable(given) else given)
        return kit._ad_hoc_sites["op"]

    first = await site()
    assert (first, first) == (await site(), await site(deadline=float("5.0")))
    sites = [first]
    for options in ({"custom_config": config()}, {"strategy": "critical"}, {"fallback": None}, {"deadline": 6.0}):
        sites += [await site(**options), await site()]
    assert len(sites) == len(set(map(id, sites)))
    assert [5.0, 6.0] == [made.plan.deadline for made in sites[6:8]]


@pytest.mark.parametrize("deadline", [None, 5.0])
async def test_execute_awaits_what_is_no_coroutine(kit, config, deadline):
    """A future, on the short way and on the long one."""
    future = asyncio.get_running_loop().create_future()
    future.set_result("done")
    assert "done" == await kit.execute_with_resilience(lambda: future, "op", custom_config=config(), deadline=deadline)


@pytest.mark.parametrize("by", ["call_with_resilience", "execute_with_resilience"])
async def test_options_that_cannot_be_right_are_refused_with_each_call(kit, by):
    """As when decorating."""
    with pytest.raises(ConfigurationError, match=r"with_resilience\.fallback"):
        given = getattr(kit, by)(done, "op", fallback=3)
        await given


def test_the_first_change_of_strategy_tells_what_was_registered(kit):
    """With the operation's name."""
    heard = []
    kit.add_listener(heard.append, StrategyChanged)
    kit.register_operation("op", "critical")
    kit.set_strategy("op", "balanced")
    assert [StrategyChanged(operation="op", old="critical", new="balanced")] == heard


def test_a_registration_tells_at_once_whom_it_leaves_without_options(kit):
    """The first site names the breaker's options; the second one would have others from now on."""
    heard = []
    kit.add_listener(heard.append, OptionsIgnored)
    sites = [kit.with_resilience("op", custom_config=each)(done) for each in (ResilienceConfig(), None)]
    assert [] == heard
    kit.register_operation("op", "critical")
    assert [OptionsIgnored(operation="op", options="circuit breaker options")] == heard
    assert 2 == len(sites)


def test_an_operation_explains_itself_by_a_first_site_that_is_gone(kit):
    """Its breaker still has that one's options."""
    kit.with_resilience("op", deadline=9.0)(done)
    gc.collect()
    second = kit.with_resilience("op", deadline=20.0)(done)
    assert (9.0, "done") == (kit.explain("op")["deadline"].value, second())


def test_a_change_of_strategy_makes_no_plans_for_others(kit):
    """Sites of other operations keep theirs."""
    mine, others = (kit.with_resilience(name)(done) for name in ("op", "other"))
    plans = {site.operation: site.plan for site in kit._registry.sites}
    kit.set_strategy("op", "critical")
    after = {site.operation: site.plan for site in kit._registry.sites}
    assert ("done", "done") == (mine(), others())
    assert (False, True) == tuple(plans[name] is after[name] for name in ("op", "other"))


def test_a_listener_that_changes_nothing_makes_no_plans(kit):
    """One of strategies; the first one of successes does, a second one not."""
    protected = kit.with_resilience("op")(done)
    [site] = kit._registry.sites
    heard, plans = [], [site.plan]
    for kind in (StrategyChanged, CallSucceeded, CallSucceeded):
        kit.add_listener(heard.append, kind)
        plans.append(site.plan)
    assert [True, False, True] == [one is two for one, two in itertools.pairwise(plans)]
    assert "done" == protected()


def test_a_site_that_has_left_is_not_renewed(kit):
    """It makes its next plan itself."""
    protected = kit.with_resilience("op")(done)
    [site] = kit._registry.sites
    kit.detach_site(site)
    assert [] == list(kit._registry.sites)
    assert "done" == protected()


def test_a_breaker_that_is_asked_for_first_obeys_its_operations_settings(clock):
    """Those of its own name."""
    kit = AIServiceResilience(ResilienceSettings(custom_config={"operation_overrides": {"op": "critical"}}), clock=clock)
    assert 10 == kit.get_circuit_breaker("op").failure_threshold


def test_an_unknown_operation_is_told_by_path(kit):
    """With what was asked for."""
    with pytest.raises(ConfigurationError) as caught:
        kit.get_metrics("op")
    [error] = caught.value.errors
    assert ("operation", "must be an operation in use; known: none yet") == (error.path, error.rule)


def test_a_circuit_that_is_forced_open_is_open(kit):
    """Also in the health status."""
    kit.get_circuit_breaker("op").force_open("maintenance")
    assert ["op"] == kit.get_health_status()["open_circuit_breakers"]


def test_a_timestamp_has_its_time_zone(kit):
    """UTC."""
    stamp = datetime.fromisoformat(kit.get_health_status()["timestamp"])
    assert UTC.utcoffset(None) == stamp.utcoffset()
    assert abs((datetime.now(UTC) - stamp).total_seconds()) < 5


def test_a_hundred_badnesses_are_remembered(kit):
    """And none of them when one more comes."""
    for number in range(100):
        kit._reloader.report_rejected((str(number),))
    assert 100 == len(kit._reloader.reported_errors)
    kit._reloader.report_rejected(("100",))
    assert {("100",)} == kit._reloader.reported_errors


def test_plain_functions_run_in_the_loops_thread_and_a_file_is_given_time(kit):
    """Unless told otherwise: a tenth of a second, until it is quiet."""
    defaults = inspect.signature(kit.execute_with_resilience).parameters["in_thread"].default
    assert (False, 0.1) == (defaults, inspect.signature(kit.watch_config).parameters["settle"].default)


async def test_a_forked_child_has_locks_of_its_own(kit, clock):
    """And is in no loop; what it does first is done here without a fork (invariant 22)."""
    lock, cutter = kit._registry.lock, timeouts.scheduler_for(clock)
    assert cutter is timeouts._thread_state.scheduler
    _fork._reset_all()
    assert (False, None) == (kit._registry.lock is lock, timeouts._thread_state.scheduler)
