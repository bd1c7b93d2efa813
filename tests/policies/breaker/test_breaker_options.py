"""What a breaker is made of: arguments, class attributes, other names, and what is refused."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import circuitbreaker
import pytest

from resilience_kit.errors import ConfigurationError
from resilience_kit.events import EventStream
from resilience_kit.policies.breaker import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitState,
    EnhancedCircuitBreaker,
    FailureRateWindow,
    StoredState,
    flush_stores,
)


def test_defaults_are_the_library_s():
    """Five failures, thirty seconds, every Exception; sixty seconds in a CircuitBreakerConfig (contract 3)."""
    breaker = CircuitBreaker()
    assert (5, 30, True, None, None) == (
        breaker.failure_threshold, breaker.recovery_timeout, breaker.counts_as_failure(Exception()), breaker.name,
        breaker.fallback_function,
    )  # fmt: skip
    assert 60.0 == CircuitBreakerConfig().recovery_timeout
    assert isinstance(breaker, circuitbreaker.CircuitBreaker)
    assert CircuitBreaker is EnhancedCircuitBreaker


def test_the_first_five_go_by_position():
    """As in the library."""
    breaker = CircuitBreaker(1, 2.5, KeyError, "x", print)
    assert (1, 2.5, "x", print) == (breaker.failure_threshold, breaker.recovery_timeout, breaker.name, breaker.fallback_function)
    assert (True, False) == (breaker.counts_as_failure(KeyError()), breaker.counts_as_failure(ValueError()))


def test_recovery_time_is_another_name():
    """For the argument and the attribute; both at once are refused."""
    breaker = CircuitBreaker(recovery_time=7.0)
    assert (7.0, 7.0) == (breaker.recovery_timeout, breaker.recovery_time)
    with pytest.raises(
        ConfigurationError, match=r"CircuitBreaker\.recovery_time: is another name of recovery_timeout: give one of them, got 2"
    ):
        CircuitBreaker(recovery_timeout=1, recovery_time=2)


WRONG_SECONDS = [0, -1, True, math.nan, math.inf, "1", 10**400]
WRONG_WHOLE = [0, -1, True, 1.0, math.nan, "1"]


@pytest.mark.table(("field", "wrong"), [
    *((field, wrong) for field in ("recovery_timeout", "trial_lease", "max_recovery_timeout") for wrong in WRONG_SECONDS),
    *((field, wrong) for field in ("failure_threshold", "half_open_max_calls", "success_threshold") for wrong in WRONG_WHOLE),
    *(("expected_exception", wrong) for wrong in ("ValueError", b"x", 3, [], (), [int], KeyboardInterrupt, int, object())),
    *(("excluded_exceptions", wrong) for wrong in (ValueError, [ValueError], (int,), (ValueError(),), None)),
])  # fmt: skip
@pytest.mark.table("make", [CircuitBreaker, CircuitBreakerConfig])
def test_wrong_options_are_refused(make, field, wrong):
    """Zero, negative, NaN, infinite, bool and other kinds: a sentence with the field, never a default (invariant 19)."""
    with pytest.raises(ConfigurationError) as caught:
        make(**{field: wrong})
    assert [f"{make.__name__}.{field}"] == [error.path for error in caught.value.errors]


@pytest.mark.parametrize(("field", "wrong", "rule"), [
    ("name", 3, "must be a str or None"),
    ("fallback_function", "spare", "must be callable"),
    ("clock", 12.0, "must be a callable that gives monotonic seconds"),
])  # fmt: skip
def test_wrong_companions_are_refused(field, wrong, rule):
    """Also what is not among the options."""
    with pytest.raises(ConfigurationError) as caught:
        CircuitBreaker(**{field: wrong})
    assert f"CircuitBreaker.{field}: {rule}, got {wrong!r}" == str(caught.value)


@pytest.mark.parametrize("wrong", ["ValueError", b"x"])
def test_a_text_is_not_taken_for_a_list_of_classes(wrong):
    """The refusal shows what was given, and not its letters."""
    with pytest.raises(ConfigurationError) as caught:
        CircuitBreakerConfig(expected_exception=wrong)
    assert (
        "CircuitBreakerConfig.expected_exception: must be an exception class, some of them, or a predicate "
        f"(type, instance) -> bool, got {wrong!r}"
    ) == str(caught.value)


def test_all_mistakes_are_told_at_once():
    """One error lists every wrong field."""
    with pytest.raises(ConfigurationError) as caught:
        CircuitBreaker(0, -1, 3, 4, trial_lease=0, clock=5)
    paths = [error.path.removeprefix("CircuitBreaker.") for error in caught.value.errors]
    assert ["failure_threshold", "recovery_timeout", "trial_lease", "expected_exception", "name", "clock"] == paths


def test_the_maximum_is_not_below_the_first_open_time():
    """Growth goes upwards."""
    with pytest.raises(ConfigurationError, match=r"max_recovery_timeout: must be at least recovery_timeout 60.0, got 59"):
        CircuitBreakerConfig(max_recovery_timeout=59)
    assert 60 == CircuitBreakerConfig(max_recovery_timeout=60).max_recovery_timeout


@pytest.mark.parametrize("expected", [
    LookupError,
    [KeyError, IndexError],
    (kind for kind in (KeyError, IndexError)),
    {KeyError, IndexError},
    lambda kind, error: issubclass(kind, LookupError) and isinstance(error, kind),
])  # fmt: skip
def test_expectations_take_many_shapes(lab, expected):
    """A class, classes in any iterable (also one that can be read once), or a predicate of type and instance."""
    breaker = lab.breaker(expected_exception=expected)
    assert (True, True, False) == (
        breaker.counts_as_failure(KeyError()),
        breaker.counts_as_failure(IndexError()),
        breaker.counts_as_failure(ValueError()),
    )


def test_a_config_is_a_value():
    """Equal options are equal, and a list in it cannot be changed afterwards."""
    classes = [KeyError]
    config = CircuitBreakerConfig(expected_exception=classes)
    classes.append(ValueError)
    assert CircuitBreakerConfig(expected_exception=(KeyError,)) == config
    assert hash(config) == hash(CircuitBreakerConfig(expected_exception=(KeyError,)))


@pytest.mark.parametrize(
    "value", [CircuitBreakerConfig(), FailureRateWindow(size=5), StoredState(CircuitState.OPEN, 1, 2.0)], ids=type
)
def test_values_can_be_shared(value):
    """What is passed around cannot be changed by whoever holds it, and has no room for more than its fields."""
    for field in dataclasses.fields(value):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, getattr(value, field.name))
    assert not hasattr(value, "__dict__")


def test_options_are_named():
    """Nobody has to know their order; left out, they are these."""
    with pytest.raises(TypeError, match="positional"):
        CircuitBreakerConfig(5)
    assert CircuitBreakerConfig() == CircuitBreakerConfig(
        failure_threshold=5, recovery_timeout=60.0, expected_exception=None, excluded_exceptions=(), half_open_max_calls=1,
        success_threshold=1, trial_lease=60.0, window=None, max_recovery_timeout=None,
    )  # fmt: skip
    assert FailureRateWindow(9) == FailureRateWindow(9, "count", 0.5, None, None, 1.0)


def test_a_breaker_is_made_of_a_config(lab):
    """With the options of the config, the default expectation where it has none."""
    config = CircuitBreakerConfig(
        failure_threshold=3, recovery_timeout=4.0, half_open_max_calls=2, excluded_exceptions=(KeyError,)
    )
    breaker = CircuitBreaker.from_config(config, "x", clock=lab.clock)
    assert (3, 4.0, "x", True, False) == (
        breaker.failure_threshold, breaker.recovery_timeout, breaker.name,
        breaker.counts_as_failure(ValueError()), breaker.counts_as_failure(KeyError()),
    )  # fmt: skip
    assert breaker.matches_config(config)


def test_a_config_goes_with_companions(lab):
    """The store, the stream of events and the clock that come beside it are used."""
    heard, kept = [], {}
    store = SimpleNamespace(load=kept.get, save=kept.__setitem__)
    events = EventStream()
    events.add_listener(heard.append)
    breaker = CircuitBreaker.from_config(CircuitBreakerConfig(), "x", clock=lab.clock, store=store, events=events)
    breaker.force_open("told")
    assert flush_stores()
    assert ([("told", lab.clock.now)], ["x"]) == ([(event.reason, event.at) for event in heard], [*kept])


# --- class attributes ---


def only_keys(kind, error):
    """A predicate that is a plain function."""
    return issubclass(kind, KeyError)


class Strict(CircuitBreaker):
    FAILURE_THRESHOLD = 1
    RECOVERY_TIMEOUT = 3
    EXPECTED_EXCEPTION = only_keys

    def FALLBACK_FUNCTION(self, *args):  # noqa: N802 - the library's name
        return ("spare of", self.name, *args)


class Stricter(Strict):
    RECOVERY_TIMEOUT = 4


@pytest.mark.parametrize(("cls", "seconds"), [(Strict, 3), (Stricter, 4)])
def test_class_attributes_are_inherited(lab, cls, seconds):
    """All four, predicates among them, in subclasses and theirs; an argument beats them."""
    breaker = cls(name="x", clock=lab.clock)
    assert (1, seconds) == (breaker.failure_threshold, breaker.recovery_timeout)
    assert (True, False) == (breaker.counts_as_failure(KeyError()), breaker.counts_as_failure(ValueError()))
    wrapped = breaker(lab.boom)
    with pytest.raises(lab.Boom):
        wrapped()
    breaker.force_open("x")
    assert ("spare of", "x", 1) == wrapped(1)
    given = cls(9, 8, ValueError, fallback_function=print)
    assert (9, 8, True, print) == (
        given.failure_threshold,
        given.recovery_timeout,
        given.counts_as_failure(ValueError()),
        given.fallback_function,
    )


@pytest.mark.parametrize("expected", [KeyError, (KeyError, OSError), staticmethod(only_keys), only_keys])
def test_an_expected_class_attribute_takes_many_shapes(expected):
    """As the argument does, bound to nothing."""
    cls = type("Other", (type("Middle", (CircuitBreaker,), {"EXPECTED_EXCEPTION": expected}),), {})
    assert (True, False) == (cls().counts_as_failure(KeyError()), cls().counts_as_failure(ValueError()))


def test_wrong_class_attributes_are_refused():
    """A zero in a subclass is a zero."""
    with pytest.raises(ConfigurationError, match="failure_threshold: must be a whole number of at least 1, got 0"):
        type("Zero", (CircuitBreaker,), {"FAILURE_THRESHOLD": 0})()


def test_the_library_s_decorator_makes_ours(lab):
    """`circuit(cls=...)` of the library works with our class."""

    @circuitbreaker.circuit(failure_threshold=1, name="made", cls=CircuitBreaker)
    def fail():
        raise lab.Boom

    with pytest.raises(lab.Boom):
        fail()
    with pytest.raises(circuitbreaker.CircuitBreakerError, match="'made'; next trial in"):
        fail()
