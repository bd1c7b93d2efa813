"""Settings that change while calls are made: all at once or not at all, and nothing else is touched (invariant 75)."""

from __future__ import annotations

import _thread
import logging
import signal
import threading

import pytest

from resilience_kit import remaining_time
from resilience_kit.config import ResilienceConfig, ResilienceSettings
from resilience_kit.errors import CircuitBreakerOpenError, ConfigurationError, RateLimitError, ServerError
from resilience_kit.events import ConfigChange, ConfigRejected, ConfigReloaded
from resilience_kit.orchestrator import AIServiceResilience
from resilience_kit.orchestrator.reload import reload_and_log, reload_on_sighup, reload_quietly
from resilience_kit.policies.breaker import CircuitBreakerConfig, CircuitState


@pytest.fixture
def heard(kit):
    """The reloads and rejections of `kit`, in turn."""
    events = []
    kit.add_listener(events.append, ConfigReloaded, ConfigRejected)
    return events


def fail():
    """Always, in a way that may be retried and opens no circuit."""
    raise RateLimitError


def break_down():
    """Always, in a way that opens a circuit."""
    raise ServerError


def attempts(function):
    """How many attempts a call makes."""
    calls = []

    def attempt():
        calls.append(1)
        fail()

    with pytest.raises(RateLimitError):
        function(attempt)
    return len(calls)


async def test_the_next_call_obeys(kit, monkeypatch):
    """Functions decorated before, and calls whose options come with them; a named deadline has no attempt timeout."""
    protected = kit.with_resilience("op")(remaining_time)
    assert 12.0 == protected() == kit.call_with_resilience(remaining_time, "op")
    monkeypatch.setenv("RESILIENCE_CUSTOM_CONFIG", '{"deadline": 40}')
    assert 12.0 == protected()
    kit.reload()
    assert 40.0 == protected() == kit.call_with_resilience(remaining_time, "op")
    assert 40.0 == await kit.execute_with_resilience(remaining_time, "op")
    assert 40.0 == kit.settings.default.deadline


def test_a_call_under_way_ends_as_it_began(kit):
    """Its attempts are those of its own plan."""
    seen = []

    @kit.with_resilience("op")
    def protected():
        seen.append(remaining_time())
        kit.reload(ResilienceSettings(custom_config={"retry_attempts": 9, "deadline": 500}))
        fail()

    with pytest.raises(RateLimitError):
        protected()
    assert (3, True) == (len(seen), all(seconds <= 30.0 for seconds in seen))


def counts(kit, operation):
    """The counters of an operation; not its stamps."""
    return {name: number for name, number in kit.get_metrics(operation).items() if name.endswith(("_calls", "_attempts"))}


def test_state_counters_and_permits_survive(kit):
    """The breaker keeps its state and failures, the retry budget what is left, metrics what they counted."""
    custom = ResilienceConfig(circuit_breaker=CircuitBreakerConfig(failure_threshold=1), retry=None)
    kit.get_circuit_breaker("forced").force_open("test")
    with pytest.raises(ServerError):
        kit.call_with_resilience(break_down, "opened", custom_config=custom)
    assert 3 == attempts(lambda attempt: kit.call_with_resilience(attempt, "spent"))
    breakers = {name: kit.get_circuit_breaker(name) for name in kit.operations}
    states = {name: breaker.state for name, breaker in breakers.items()}
    counted = {name: counts(kit, name) for name in kit.operations}
    kit.reload(ResilienceSettings(preset="critical"))
    assert {"forced": CircuitState.FORCED_OPEN, "opened": CircuitState.OPEN, "spent": CircuitState.CLOSED} == states
    assert breakers == {name: kit.get_circuit_breaker(name) for name in kit.operations}
    assert states == {name: breaker.state for name, breaker in breakers.items()}
    assert counted == {name: counts(kit, name) for name in kit.operations}
    assert (490, 10) == (kit._registry.operations["spent"].budget.available_tokens, breakers["spent"].failure_threshold)


def test_a_trial_under_way_keeps_its_permit(kit, clock):
    """A half-open breaker that gets other options still waits for its one trial."""
    breaker = kit.get_circuit_breaker("op")
    breaker.state = CircuitState.OPEN
    clock.advance(60.0)
    token = breaker.acquire()
    kit.reload(ResilienceSettings(preset="critical"))
    with pytest.raises(CircuitBreakerOpenError):
        breaker.acquire()
    breaker.on_success(token, 0.1)
    assert (CircuitState.CLOSED, 10) == (breaker.state, breaker.failure_threshold)


def test_each_source_keeps_its_rank(kit, monkeypatch):
    """What was set while running stays above what is read anew; arguments of the settings stay what they were."""
    kit.set_strategy("live", "aggressive")
    kit.register_operation("registered", "critical")
    code = kit.with_resilience("code", deadline=7.0)(remaining_time)
    kit.reload(ResilienceSettings(custom_config={"deadline": 50}))
    monkeypatch.setenv("RESILIENCE_OPERATION_REGISTERED", "balanced")
    kit.reload()
    assert [4.0, 12.0, 7.0, 50.0] == [
        kit.call_with_resilience(remaining_time, "live"),
        kit.call_with_resilience(remaining_time, "registered"),
        code(),
        kit.call_with_resilience(remaining_time, "other"),
    ]


def test_what_changed_is_told(kit, heard):
    """By operation, option, old and new value; sites of one operation that differ are told apart by what changes."""
    sites = [
        kit.with_resilience("a")(fail),
        kit.with_resilience("a", deadline=9.0)(fail),
        kit.with_resilience("b", custom_config=ResilienceConfig())(fail),
    ]
    kit.get_circuit_breaker("c")
    changes = kit.reload(ResilienceSettings(custom_config={"deadline": 40, "circuit_breaker_threshold": 7}))
    assert sorted(
        [
            ConfigChange("a", "circuit_breaker_threshold", 5, 7),
            ConfigChange("a", "deadline", 30.0, 40.0),
            ConfigChange("a", "attempt_timeout", 12.0, None),
            ConfigChange("c", "circuit_breaker_threshold", 5, 7),
            ConfigChange("c", "deadline", 30.0, 40.0),
            ConfigChange("c", "attempt_timeout", 12.0, None),
        ]
    ) == sorted(changes)
    assert ([ConfigReloaded(changes=changes)], 3) == (heard, len(sites))


def test_nothing_new_is_not_told(kit, heard):
    """Somebody touched the file."""
    assert ((), []) == (kit.reload(), heard)


def test_a_bad_reload_keeps_the_old_and_reports_once(kit, heard, monkeypatch, caplog):
    """Each badness once, until something good was read (invariant 75)."""
    old = kit.settings
    for name in ("critcal", "critcal", "balansed", "critcal"):
        monkeypatch.setenv("RESILIENCE_PRESET", name)
        with pytest.raises(ConfigurationError, match=f"RESILIENCE_PRESET: must be the name .* got {name!r}"):
            kit.reload()
    assert (old, 12.0, 2) == (kit.settings, kit.call_with_resilience(remaining_time, "op"), len(heard))
    monkeypatch.setenv("RESILIENCE_PRESET", "simple")
    kit.reload()
    monkeypatch.setenv("RESILIENCE_PRESET", "critcal")
    with pytest.raises(ConfigurationError):
        kit.reload()
    assert [ConfigRejected, ConfigRejected, ConfigReloaded, ConfigRejected] == [type(event) for event in heard]
    assert 3 == len([record for record in caplog.records if record.levelno == logging.ERROR])
    (error,) = heard[0].errors
    assert error.startswith("RESILIENCE_PRESET: must be the name of a preset or of a strategy; did you mean 'critical'?")


def test_endless_badness_is_not_remembered_for_ever(kit, heard, monkeypatch):
    """A file that is wrong in ever new ways does not fill the memory."""
    for number in range(250):
        monkeypatch.setenv("RESILIENCE_PRESET", f"x{number}")
        with pytest.raises(ConfigurationError):
            kit.reload()
    assert (250, True) == (len(heard), len(kit._reloader.reported_errors) <= 100)


def test_settings_that_contradict_the_code_change_nothing(kit, heard):
    """They are wrong only for one function, whose mapping names a delay; the others stay as they were, too (invariant 72)."""
    first = kit.with_resilience("a")(remaining_time)
    second = kit.with_resilience("b", custom_config={"max_delay": 2.0})(remaining_time)
    with pytest.raises(ConfigurationError, match=r"custom_config\.max_delay: must be at least base_delay 4\.0"):
        kit.reload(ResilienceSettings(preset="conservative"))
    assert (12.0, 12.0, "simple", [ConfigRejected]) == (first(), second(), kit.settings.preset, [type(each) for each in heard])


def test_wrong_settings_are_a_sentence(kit):
    """What is no ResilienceSettings."""
    with pytest.raises(ConfigurationError, match="settings: must be a ResilienceSettings"):
        kit.reload({"preset": "critical"})


def test_switching_off_and_on_again(kit):
    """Protection ends with a reload and comes back with another, breaker state and all."""
    protected = kit.with_resilience("op")(remaining_time)
    kit.get_circuit_breaker("op").force_open("test")
    kit.reload(ResilienceSettings(enabled=False))
    assert None is protected()
    kit.reload(ResilienceSettings())
    with pytest.raises(CircuitBreakerOpenError):
        protected()


def test_a_function_decorated_while_off_gets_its_breaker_with_the_reload(clock):
    """With the options that it asked for."""
    kit = AIServiceResilience(ResilienceSettings(enabled=False), clock=clock)
    protected = kit.with_resilience("op", "aggressive")(lambda: 1)
    kit.reload(ResilienceSettings())
    assert (1, 3) == (protected(), kit.get_circuit_breaker("op").failure_threshold)


def test_a_listener_may_reload(kit):
    """Events are told outside every lock."""
    heard = []

    def again(event):
        heard.append(event)
        if len(heard) == 1:
            kit.reload(ResilienceSettings(preset="critical"))

    kit.add_listener(again, ConfigReloaded)
    kit.reload(ResilienceSettings(preset="aggressive"))
    assert (2, "critical") == (len(heard), kit.settings.preset)


# --- explain ---


def test_an_operation_explains_itself(kit):
    """By what its first call site asks for, and what was changed while running."""
    sites = [kit.with_resilience("op", deadline=7.0)(fail), kit.with_resilience("op", deadline=9.0)(fail)]
    explained = kit.explain("op")
    assert (7.0, "deadline argument", 2) == (explained["deadline"].value, explained["deadline"].source, len(sites))
    kit.set_strategy("op", "critical")
    kit.register_operation("other", "aggressive")
    sources = [(kit.explain(name)["strategy"].value, kit.explain(name)["strategy"].source) for name in ("op", "other", "new")]
    assert [("critical", "set_strategy"), ("aggressive", "register_operation"), ("balanced", "default")] == sources
    assert "new" not in kit.operations


def test_an_operation_that_is_off_explains_itself(clock):
    """Its call site is found although it has no breaker."""
    kit = AIServiceResilience(ResilienceSettings(enabled=False), clock=clock)
    site = kit.with_resilience("op", deadline=7.0)(fail)
    assert (7.0, "deadline argument") == kit.explain("op")["deadline"].overridden[0]
    assert site is not None


def test_only_operations_explain_themselves(kit):
    """A name is a name."""
    with pytest.raises(ConfigurationError, match="operation: must be a name"):
        kit.explain("")


# --- at a signal ---


class Recorder:
    """Counts reloads, and raises what it is told to."""

    settings = None

    def __init__(self, error=None):
        self.error, self.reloads = error, []

    def reload(self, settings=None):
        self.reloads.append(settings)
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize("error", [None, ConfigurationError([("a", "b", "c")])])
def test_a_quiet_reload_raises_nothing(error, caplog):
    """What is wrong with the settings was told already."""
    recorder = Recorder(error)
    reload_quietly(recorder, "settings")
    assert (["settings"], []) == (recorder.reloads, caplog.records)


def test_a_quiet_reload_tells_of_surprises(caplog):
    """By type: an error's text may hold a secret."""
    reload_quietly(Recorder(KeyError("sk-secret")))
    assert ["configuration not reloaded: KeyError"] == caplog.messages


@pytest.fixture
def handlers(monkeypatch):
    """The process's signal handlers, as `signal` would keep them."""
    kept = {}

    def put(number, handler):
        old, kept[number] = kept.get(number, signal.SIG_DFL), handler
        return old

    monkeypatch.setattr(signal, "signal", put)
    monkeypatch.setattr(signal, "getsignal", kept.get)
    return kept


@pytest.mark.parametrize("previous", [signal.SIG_IGN, print, None])
def test_sighup_is_handled_until_stopped(handlers, monkeypatch, previous):
    """In a thread of its own; then the handler before it is back."""
    started = []
    monkeypatch.setattr(_thread, "start_new_thread", lambda function, arguments: started.append((function, arguments)))
    handlers[signal.SIGHUP] = previous
    recorder = Recorder()
    with reload_on_sighup(recorder) as handle:
        handlers[signal.SIGHUP](signal.SIGHUP, None)
        assert ([(reload_and_log, (recorder, "SIGHUP"))], []) == (started, recorder.reloads)
    assert (previous or signal.SIG_DFL) == handlers[signal.SIGHUP]
    handle.stop()
    assert (previous or signal.SIG_DFL) == handlers[signal.SIGHUP]


def test_a_signal_while_the_interpreter_ends_is_passed_over(handlers, monkeypatch):
    """No thread can be started then."""

    def refuse(*_):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    reload_on_sighup(Recorder())
    handlers[signal.SIGHUP](signal.SIGHUP, None)


def test_a_later_handler_stays(handlers):
    """Whoever came after us is not thrown out."""
    handle = reload_on_sighup(Recorder())
    handlers[signal.SIGHUP] = print
    handle.stop()
    assert print is handlers[signal.SIGHUP]


def test_outside_the_main_thread_is_a_sentence():
    """Python allows no handler there."""
    caught = []

    def elsewhere():
        try:
            reload_on_sighup(Recorder())
        except ConfigurationError as error:
            caught.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert ["reload_on_sighup: must be called in the main thread, the only one in which Python sets signal handlers"] == caught


@pytest.mark.parametrize("wrong", [None, 5, "kit"])
def test_what_cannot_reload_is_refused_at_once(wrong):
    """Not in the middle of the night, when the signal comes."""
    with pytest.raises(ConfigurationError, match=f"needs an orchestrator, .* got '{type(wrong).__name__}'"):
        reload_on_sighup(wrong)


@pytest.mark.parametrize(
    ("error", "level", "said"),
    [
        (None, "INFO", "SIGHUP: configuration read anew; nothing changes"),
        (
            ConfigurationError([("a", "b", "c")]),
            "WARNING",
            "SIGHUP: configuration not reloaded, the old one stays: a: b, got 'c'",
        ),
        (KeyError("sk-secret"), "ERROR", "SIGHUP: configuration not reloaded: KeyError"),
    ],
)
def test_every_signal_is_answered_in_the_log(caplog, error, level, said):
    """Also when the same was told before."""
    caplog.set_level("INFO", "resilience_kit")
    recorder = Recorder(error)
    for _ in range(2):
        reload_and_log(recorder, "SIGHUP")
    assert [(level, said)] * 2 == [(each.levelname, each.getMessage()) for each in caplog.records]


def test_a_signal_that_changes_something_says_so(caplog):
    """Beside the line that tells what."""
    caplog.set_level("INFO", "resilience_kit")
    recorder = Recorder()
    recorder.reload = lambda: ("a change",)
    reload_and_log(recorder, "SIGHUP")
    assert ["SIGHUP: configuration read anew; it is in force"] == [each.getMessage() for each in caplog.records]


def test_without_the_signal_is_a_sentence(monkeypatch):
    """As on Windows."""
    monkeypatch.delattr(signal, "SIGHUP")
    with pytest.raises(ConfigurationError, match="needs a system that has the signal SIGHUP"):
        reload_on_sighup(Recorder())
