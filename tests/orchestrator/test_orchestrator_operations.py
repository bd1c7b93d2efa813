"""Operations: whose options they have, what changes live, what is told of them."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from datetime import datetime
from typing import ClassVar

import pytest

from resilience_kit import remaining_time, with_resilience
from resilience_kit.config import ResilienceConfig, ResilienceSettings
from resilience_kit.errors import CircuitBreakerOpenError, ConfigurationError, ServerError
from resilience_kit.events import CallSucceeded, OptionsIgnored, StateChanged, StrategyChanged
from resilience_kit.orchestrator import AIServiceResilience
from resilience_kit.policies.breaker import CircuitBreakerConfig, CircuitState
from resilience_kit.policies.retry import RetryConfig
from resilience_kit.testing import FakeClock


def fail(*_args):
    """Always."""
    raise ServerError


def attempts(kit, operation="op", **options):
    """How many attempts an operation makes."""
    calls = []

    def attempt():
        calls.append(1)
        raise ServerError

    with pytest.raises((ServerError, CircuitBreakerOpenError)):
        kit.with_resilience(operation, **options)(attempt)()
    return len(calls)


#: source -> the threshold that it brings. Each beats those after it.
SOURCES = {"live": 10, "operator": 8, "custom": 77, "argument": 3, "registered": 10, "override": 8, "preset": 5}


@pytest.mark.parametrize("highest", range(len(SOURCES)))
def test_precedence(highest, monkeypatch, clock):
    """set_strategy > operator > custom_config > strategy argument > registered > preset's override > preset's default."""
    names = list(SOURCES)[highest:]
    if "operator" in names:
        monkeypatch.setenv("RESILIENCE_OPERATION_OP", "conservative")
    custom = {"operation_overrides": {"op": "conservative"}} if "override" in names else None
    kit = AIServiceResilience(ResilienceSettings(preset="balanced", custom_config=custom), clock=clock)
    if "registered" in names:
        kit.register_operation("op", "critical")
    options = {}
    if "custom" in names:
        options["custom_config"] = ResilienceConfig(circuit_breaker=CircuitBreakerConfig(failure_threshold=77))
    if "argument" in names:
        options["strategy"] = "aggressive"
    kit.with_resilience("op", **options)(fail)
    if "live" in names:
        kit.set_strategy("op", "critical")
    assert SOURCES[names[0]] == kit.get_circuit_breaker("op").failure_threshold


def test_the_deadline_argument_beats_its_configs(kit, config, clock):
    """And None switches it off."""
    custom = config(deadline=2.0)
    assert 2 == attempts(kit, custom_config=custom)
    assert 3 == attempts(kit, custom_config=custom, deadline=50.0)
    assert 3 == attempts(kit, custom_config=custom, deadline=None)


def test_single_arguments_beat_their_configs(kit, config):
    """Idempotent and attempt_timeout."""
    assert 1 == attempts(kit, custom_config=config(), idempotent=False)
    assert 3 == attempts(kit, custom_config=config(idempotent=False), idempotent=True)


def test_set_strategy_is_obeyed_by_the_next_call(kit, clock):
    """By functions decorated before, and the breaker keeps its state and its failures."""
    calls = []

    @kit.with_resilience("op", "aggressive", deadline=None)
    def protected():
        calls.append(1)
        raise ServerError

    heard = []
    kit.add_listener(heard.append, StrategyChanged)
    with pytest.raises(ServerError):
        protected()
    assert (2, 2, 3) == (len(calls), kit.get_circuit_breaker("op").failure_count, kit.get_circuit_breaker("op").failure_threshold)
    kit.set_strategy("op", "critical")
    breaker = kit.get_circuit_breaker("op")
    assert (2, 10, 300.0) == (breaker.failure_count, breaker.failure_threshold, breaker.recovery_timeout)
    with pytest.raises(ServerError):
        protected()
    assert 2 + 7 == len(calls)
    breaker.force_open("test")
    kit.set_strategy("op", "balanced")
    assert (CircuitState.FORCED_OPEN, 5) == (breaker.state, breaker.failure_threshold)
    with pytest.raises(CircuitBreakerOpenError):
        protected()
    told = [(event.old, event.new) for event in heard]
    assert [("", "critical"), ("critical", "balanced")] == told


async def test_set_strategy_is_obeyed_by_execute_and_call(kit, clock):
    """Whose options come with each call."""
    for strategy, sleeps in (("aggressive", 1), ("conservative", 4)):
        kit.set_strategy("op", strategy)
        for call in (kit.execute_with_resilience, kit.call_with_resilience):
            clock.sleeps.clear()
            kit.get_circuit_breaker("op").reset()
            with pytest.raises(ServerError):
                await call(fail, "op", deadline=None)
            assert sleeps == len(clock.sleeps)


def test_a_shorter_deadline_of_a_live_strategy_shortens_the_attempt_timeout(kit, config):
    """A change while running never fails on what the code says."""
    protected = kit.with_resilience("op", custom_config=config(), attempt_timeout=20.0)(remaining_time)
    assert 20.0 == protected()
    kit.set_strategy("op", "aggressive")
    assert 10.0 == protected()


def test_register_operation_makes_the_operation(kit):
    """It is there before its first call; a code's own config still outranks it."""
    kit.register_operation("op", "critical")
    assert (["op"], 10) == (kit.operations, kit.get_circuit_breaker("op").failure_threshold)
    heard = []
    kit.add_listener(heard.append, OptionsIgnored)
    breaker = kit.get_circuit_breaker("op")
    kit.with_resilience("op", custom_config=ResilienceConfig(circuit_breaker=CircuitBreakerConfig(failure_threshold=77)))(fail)
    assert (breaker, 77, []) == (kit.get_circuit_breaker("op"), breaker.failure_threshold, heard)
    kit.register_operation("op", "aggressive")
    assert 77 == breaker.failure_threshold


def test_the_first_options_of_a_breaker_stay(kit, config, caplog):
    """Who wants others is told, once; a site without a breaker wants none."""
    kit.with_resilience("op", custom_config=config(circuit_breaker=None))(fail)
    kit.with_resilience("op", custom_config=config(7))(fail)
    assert 7 == kit.get_circuit_breaker("op").failure_threshold
    for _ in range(2):
        kit.with_resilience("op", custom_config=config(9))(fail)
        kit.with_resilience("op", custom_config=config(7))(fail)
        kit.with_resilience("op", custom_config=config(circuit_breaker=None))(fail)
    assert 7 == kit.get_circuit_breaker("op").failure_threshold
    assert ["'op' is already in use with other circuit breaker options; those of its first use stay"] == caplog.messages


def test_functions_of_one_operation_share_its_breaker_and_numbers(kit, config):
    """And its retry budget; retries are each call site's own."""
    one, two = (kit.with_resilience("op", custom_config=config(2, retry=None))(fail) for _ in range(2))
    for each in (one, two):
        with pytest.raises(ServerError):
            each()
    with pytest.raises(CircuitBreakerOpenError):
        one()
    assert 3 == kit.get_metrics("op")["total_calls"]
    kept = [kit.with_resilience("b", "balanced")(fail) for _ in range(2)]
    assert 2 == len(kept)
    assert 1 == len({id(site.plan.budget) for site in kit._registry.sites if site.plan.operation.name == "b"})


def test_a_site_that_is_gone_is_not_renewed(kit):
    """Nothing holds the functions that somebody decorated (no dictionary that only grows)."""
    import gc

    for _ in range(3):
        kit.with_resilience("op")(fail)
    gc.collect()
    assert 0 == len(kit._registry.sites)


def test_switched_off_everything_is_counted_still(clock):
    """RESILIENCE_ENABLED=false: no retry, no breaker, no time limit."""
    kit = AIServiceResilience(ResilienceSettings(enabled=False), clock=clock)
    for options in (
        {},
        {"strategy": "critical"},
        {"attempt_timeout": 1.0, "deadline": 2.0},
        {"custom_config": ResilienceConfig()},
    ):
        for _ in range(9):
            assert 1 == attempts(kit, **options)
    numbers = kit.get_metrics("op")
    assert (36, 36, CircuitState.CLOSED) == (numbers["total_calls"], numbers["failed_calls"], kit.get_circuit_breaker("op").state)
    assert None is kit.with_resilience("op", attempt_timeout=1.0, deadline=2.0)(remaining_time)()


# --- wrong input ---


@pytest.mark.parametrize("operation", ["", " ", None, 3, b"op", ["op"]])
async def test_an_operation_is_a_name(kit, operation):
    """A sentence, as early as it can be said."""
    sentence = "operation: must be a name: text that is not blank"
    from resilience_kit import with_resilience

    for use in (kit.with_resilience, with_resilience, kit.get_circuit_breaker):
        with pytest.raises(ConfigurationError, match=sentence):
            use(operation)
    for change in (kit.register_operation, kit.set_strategy):
        with pytest.raises(ConfigurationError, match=sentence):
            change(operation, "balanced")
    if not isinstance(operation, list):
        with pytest.raises(ConfigurationError, match=sentence):
            await kit.execute_with_resilience(fail, operation)
        with pytest.raises(ConfigurationError, match=sentence):
            kit.call_with_resilience(fail, operation)


async def test_an_unknown_strategy_is_answered_with_the_nearest(kit):
    """Wherever one is named."""
    from resilience_kit import with_resilience

    sentence = r"strategy: must be the name of a strategy; did you mean 'balanced'\?, got 'ballanced'"
    for use in (kit.with_resilience, with_resilience, kit.register_operation, kit.set_strategy):
        with pytest.raises(ConfigurationError, match=sentence):
            use("op", "ballanced")
    with pytest.raises(ConfigurationError, match=sentence):
        await kit.execute_with_resilience(fail, "op", strategy="ballanced")
    with pytest.raises(ConfigurationError, match=sentence):
        kit.call_with_resilience(fail, "op", strategy="ballanced")


@pytest.mark.parametrize("deadline", [0, -1.0, float("nan"), float("inf"), True, "5"])
async def test_a_deadline_is_a_number_of_seconds(kit, deadline):
    """Above zero, and no bool; said when decorating, by the module's decorator too."""
    from resilience_kit import with_resilience

    sentence = "deadline: must be a finite number of seconds above 0"
    for use in (kit.with_resilience, with_resilience):
        for name in ("deadline", "attempt_timeout"):
            with pytest.raises(ConfigurationError, match=sentence.replace("deadline", name)):
                use("op", **{name: deadline})
    with pytest.raises(ConfigurationError, match=sentence):
        await kit.execute_with_resilience(fail, "op", deadline=deadline)
    with pytest.raises(ConfigurationError, match=sentence):
        kit.call_with_resilience(fail, "op", deadline=deadline)


def test_everything_wrong_is_said_at_once(kit):
    """Each as path, rule and value."""
    with pytest.raises(ConfigurationError) as caught:
        kit.with_resilience("op", fallback=3, deadline=0, idempotent=1)
    assert ["fallback", "idempotent", "deadline"] == [error.path.rpartition(".")[2] for error in caught.value.errors]
    with pytest.raises(ConfigurationError, match=r"attempt_timeout: must not exceed deadline 2\.0, got 3\.0"):
        kit.with_resilience("op", deadline=2.0, attempt_timeout=3.0)
    with pytest.raises(ConfigurationError, match="custom_config"):
        kit.with_resilience("op", custom_config=3)(fail)
    with pytest.raises(ConfigurationError, match="did you mean 'retry_attempts'"):
        kit.with_resilience("op", custom_config={"retry_attemps": 3})(fail)


def test_settings_are_settings():
    """Not a preset's name, nor a dictionary."""
    with pytest.raises(ConfigurationError, match="settings: must be a ResilienceSettings, or None for the environment's"):
        AIServiceResilience("production")


def test_the_environment_is_read_at_construction(monkeypatch):
    """A wrong variable is an error there, and not at the first call."""
    monkeypatch.setenv("RESILIENCE_PRESET", "prodction")
    with pytest.raises(ConfigurationError, match="did you mean 'production'"):
        AIServiceResilience()


# --- reading ---


def test_get_metrics_has_the_shape_that_was_agreed(kit, config, clock):
    """Exactly, and ready for JSON, without Infinity and NaN, also when a circuit is forced open."""
    protected = kit.with_resilience("op", custom_config=config(retry=None))(lambda: clock.advance(0.001))
    protected()
    kit.get_circuit_breaker("forced").force_open("test")
    numbers = kit.get_metrics()
    json.dumps(numbers, allow_nan=False)
    assert ["operations", "circuit_breaker", "summary"] == list(numbers)
    operation = numbers["operations"]["op"]
    assert {
        "total_calls": 1,
        "successful_calls": 1,
        "failed_calls": 0,
        "retry_attempts": 0,
        "rejected_calls": 0,
        "fallback_calls": 0,
        "cancelled_calls": 0,
        "success_rate": 1.0,
        "latency_ms": dict.fromkeys(("mean", "p50", "p95", "p99", "max"), pytest.approx(1.0, rel=0.06)),
        "last_success": operation["last_success"],
        "last_failure": None,
    } == operation
    assert abs((datetime.fromisoformat(operation["last_success"]) - datetime.now().astimezone()).total_seconds()) < 5
    assert {
        "state": "FORCED_OPEN",
        "failure_count": 0,
        "failure_threshold": 5,
        "recovery_timeout": 60.0,
        "open_remaining": None,
        "times_opened": 0,
    } == numbers["circuit_breaker"]["forced"]
    assert None is not datetime.fromisoformat(numbers["summary"].pop("timestamp"))
    assert {"total_operations": 2, "healthy_circuit_breakers": 1, "open_circuit_breakers": 1} == numbers["summary"]
    again = kit.get_metrics("op")
    assert {**operation, "last_success": again["last_success"]} == again


def test_health_is_whether_no_circuit_is_open(kit, clock):
    """Half-open counts as healthy, and so does nothing at all."""
    assert (True, True) == (kit.is_healthy(), kit.get_health_status()["healthy"])
    kit.get_circuit_breaker("a")
    kit.get_circuit_breaker("b").state = CircuitState.OPEN
    kit.get_circuit_breaker("c").state = CircuitState.HALF_OPEN
    status = kit.get_health_status()
    json.dumps(status)
    assert None is not datetime.fromisoformat(status.pop("timestamp"))
    assert {
        "healthy": False,
        "open_circuit_breakers": ["b"],
        "half_open_circuit_breakers": ["c"],
        "total_circuit_breakers": 3,
        "total_operations": 3,
    } == status
    assert not kit.is_healthy()
    kit.get_circuit_breaker("b").force_open("by hand")
    assert not kit.is_healthy()
    kit.get_circuit_breaker("b").reset()
    assert kit.is_healthy()


def test_numbers_start_again_from_zero(kit, config):
    """Of one operation or all; the breaker keeps its totals and its state."""
    for name in ("a", "b"):
        with pytest.raises(ServerError):
            kit.with_resilience(name, custom_config=config(1, retry=None))(fail)()
    kit.reset_metrics("a")
    assert (0, None, 1.0) == tuple(kit.get_metrics("a")[name] for name in ("total_calls", "last_failure", "success_rate"))
    assert 1 == kit.get_metrics("b")["total_calls"]
    kit.reset_metrics()
    assert 0 == kit.get_metrics("b")["total_calls"]
    assert (CircuitState.OPEN, 1) == (kit.get_circuit_breaker("a").state, kit.get_circuit_breaker("a").metrics["failure_count"])


def test_numbers_of_an_unknown_operation_are_an_error(kit):
    """With the nearest name."""
    kit.get_circuit_breaker("summarize")
    for read in (kit.get_metrics, kit.reset_metrics):
        with pytest.raises(ConfigurationError, match="must be an operation in use; did you mean 'summarize'"):
            read("sumarize")


def test_the_breakers_own_totals_agree(kit, config):
    """Successes and refusals that the driver counts are in them."""
    protected = kit.with_resilience("op", custom_config=config(1, retry=None))(lambda ok: None if ok else fail())
    protected(True)
    with pytest.raises(ServerError):
        protected(False)
    for _ in range(3):
        with pytest.raises(CircuitBreakerOpenError):
            protected(True)
    with pytest.raises(CircuitBreakerOpenError):
        kit.call_with_resilience(fail, "op", custom_config=config(1, retry=None))
    totals = kit.get_circuit_breaker("op").metrics
    assert (1, 1, 4) == (totals["success_count"], totals["failure_count"], totals["rejected_count"])
    assert 4 == kit.get_metrics("op")["rejected_calls"]


# --- listeners ---


def test_a_listener_of_successes_hears_every_one(kit, config):
    """From the next call on, until it leaves; also one that changes its mind."""
    interested = [True]
    protected = kit.with_resilience("op", custom_config=config())(lambda: None)
    protected()
    heard, wanted = [], []
    leave = kit.add_listener(heard.append, CallSucceeded)
    kit.add_listener(wanted.append, CallSucceeded, when=lambda: interested[0])
    protected()
    interested[0] = False
    protected()
    interested[0] = True
    leave()
    protected()
    assert (2, 2) == (len(heard), len(wanted))


def test_a_listener_that_is_not_interested_at_first_hears_later(kit, config):
    """Its interest is asked for at each event."""
    interested, heard = [False], []
    kit.add_listener(heard.append, CallSucceeded, when=lambda: interested[0])
    protected = kit.with_resilience("op", custom_config=config())(lambda: None)
    protected()
    interested[0] = True
    protected()
    assert 1 == len(heard)


def test_refusals_at_the_gate_are_told(kit, config, caplog):
    """To whoever listens when they begin, and at DEBUG when the level is set."""
    heard = []
    caplog.set_level(logging.DEBUG, "resilience_kit")
    protected = kit.with_resilience("op", custom_config=config())(lambda: None)
    kit.get_circuit_breaker("op").state = CircuitState.OPEN
    kit.add_listener(heard.append)
    for _ in range(70):
        with pytest.raises(CircuitBreakerOpenError):
            protected()
    assert 70 == len(heard)
    assert 70 == caplog.messages.count("'op': refused by circuit breaker 'op'; retry after 60.0 s")


def test_listeners_hear_of_circuits(kit, config):
    """Under the operation's name."""
    heard = []
    kit.add_listener(heard.append, StateChanged)
    with pytest.raises(ServerError):
        kit.with_resilience("op", custom_config=config(1))(fail)()
    (event,) = heard
    assert ("op", "closed", "open", 100.0) == (event.operation, event.old, event.new, event.at)


def test_a_listener_may_ask_other_threads_about_the_kit(kit, config):
    """No lock of the kit is held while it runs (invariant 14)."""
    answers = []

    def listener(_event):
        thread = threading.Thread(target=lambda: answers.append(kit.get_circuit_breaker("another")))
        thread.start()
        thread.join(5.0)
        answers.append(thread.is_alive())

    kit.add_listener(listener, OptionsIgnored, StrategyChanged)
    kit.with_resilience("op", custom_config=config(7))(fail)
    kit.with_resilience("op", custom_config=config(9))(fail)
    kit.set_strategy("op", "balanced")
    assert [False, False] == answers[1::2]


# --- races ---


def test_a_change_is_never_lost_to_a_plan_that_is_being_made(clock):
    """Threads decorate and add listeners while strategies change: afterwards all sites obey the last one."""
    kit = AIServiceResilience(ResilienceSettings(), clock=clock)
    kept, stop = [], threading.Event()

    def decorate():
        while not stop.is_set() and len(kept) < 400:
            kept.append(kit.with_resilience("op")(fail))
            kit.add_listener(lambda event: None)()

    threads = [threading.Thread(target=decorate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        for strategy in ("critical", "aggressive"):
            kit.set_strategy("op", strategy)
    stop.set()
    for thread in threads:
        thread.join()
    assert {2} == {site.plan.retry.max_attempts for site in kit._registry.sites}


def test_an_operation_is_made_once(clock):
    """Many threads use a new name at once: one breaker, one budget (invariant 9)."""
    kit = AIServiceResilience(ResilienceSettings(), clock=clock)
    barrier, found = threading.Barrier(16), []

    def use():
        barrier.wait()
        kit.call_with_resilience(lambda: None, "op", strategy="balanced")
        found.append((id(kit.get_circuit_breaker("op")), id(kit._registry.operations["op"].budget)))

    threads = [threading.Thread(target=use) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (16, 1, 16) == (len(found), len(set(found)), kit.get_metrics("op")["total_calls"])


def test_states_outlive_the_process(tmp_path):
    """With a store: another orchestrator begins where this one ended."""
    from resilience_kit.policies.breaker.store import StoredState

    class Store:
        kept: ClassVar[dict[str, StoredState]] = {}

        def load(self, name):
            return self.kept.get(name)

        def save(self, name, state):
            self.kept[name] = state

    store = Store()
    first, second = (AIServiceResilience(ResilienceSettings(), clock=FakeClock(), store=store) for _ in range(2))
    first.get_circuit_breaker("op").state = CircuitState.OPEN
    assert CircuitState.OPEN is second.get_circuit_breaker("op").state


def test_a_forked_child_may_use_it(kit):
    """Its lock is held by nobody there (invariant 22)."""
    holder = threading.Thread(target=kit._registry.lock.acquire)
    holder.start()
    holder.join()
    kit._registry.reset_after_fork()
    kit.get_circuit_breaker("op")


async def test_one_kit_serves_two_loops_and_threads(kit, config):
    """Under one operation."""
    protected = kit.with_resilience("op", custom_config=config(), deadline=5.0)(asyncio.sleep)
    thread = threading.Thread(target=lambda: asyncio.run(protected(0)))
    thread.start()
    await protected(0)
    thread.join()
    await protected(0)
    assert 3 == kit.get_metrics("op")["successful_calls"]
    assert isinstance(config().retry, RetryConfig)


def test_parts_that_cannot_do_their_work_are_refused():
    """A path is no store, a number no clock; both are told at once."""
    with pytest.raises(ConfigurationError) as told:
        AIServiceResilience(ResilienceSettings(), clock=5, store="breakers.db")
    assert ["AIServiceResilience.clock", "AIServiceResilience.store"] == [each.path for each in told.value.errors]


def test_an_unknown_setting_is_refused_when_decorating():
    """Not at the first call."""
    with pytest.raises(ConfigurationError, match="did you mean 'retry_attempts'"):
        with_resilience("op", custom_config={"retry_atempts": 2})


@pytest.mark.parametrize("name", ["a\nb", "x" * 201, "tab\there"])
def test_a_name_that_would_spoil_a_log_is_refused(kit, name):
    """Names end up in logs and labels."""
    with pytest.raises(ConfigurationError, match="must be printable and at most 200 characters"):
        kit.with_resilience(name)
