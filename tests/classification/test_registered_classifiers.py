"""Verdicts that users give to their own exceptions."""

import threading

import pytest

from resilience_kit.classification import FailureKind, Verdict, classify, register_classifier, registry

MINE = Verdict(FailureKind.CONFLICT, retryable=True, counts_against_breaker=False, retry_after=1.0)
OTHER = Verdict(FailureKind.QUOTA, retryable=False, counts_against_breaker=False)


class Base(Exception):
    pass


class Child(Base):
    pass


@pytest.fixture(autouse=True)
def _clean_registry(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})


def test_one_line_registers_an_exception():
    """A registered verdict is what `classify` says, until it is removed; removing twice does nothing."""
    forget = register_classifier(Base, MINE)
    assert (MINE, MINE) == (classify(Base()), classify(Child()))
    forget()
    forget()
    assert FailureKind.UNKNOWN == classify(Base()).kind


def test_the_nearest_class_in_the_mro_wins():
    """A child's own registration beats the base's, whichever came first."""
    register_classifier(Child, OTHER)
    register_classifier(Base, MINE)
    assert (OTHER, MINE) == (classify(Child()), classify(Base()))


def test_a_registration_beats_everything_that_the_kit_knows():
    """Even a builtin timeout may be given another meaning."""
    register_classifier(TimeoutError, OTHER)
    assert OTHER == classify(TimeoutError())


def test_a_function_may_look_at_the_error_or_have_no_opinion():
    """None goes on to the next class and then to the kit's own rules; a function that raises has no opinion either."""
    register_classifier(Child, lambda exc: MINE if exc.args else None)
    register_classifier(Base, lambda exc: 1 / 0)
    register_classifier(TimeoutError, lambda exc: "nonsense")
    kinds = [classify(exc).kind for exc in (Child("x"), Child(), TimeoutError())]
    assert [FailureKind.CONFLICT, FailureKind.UNKNOWN, FailureKind.TIMEOUT] == kinds


def test_a_registered_cause_is_found():
    """The error beneath is asked too."""
    register_classifier(Base, MINE)
    exc = RuntimeError()
    exc.__cause__ = Base()
    assert MINE == classify(exc)


def test_a_later_registration_replaces_and_the_older_handle_is_void():
    """Removing what was replaced removes nothing."""
    forget = register_classifier(Base, MINE)
    register_classifier(Base, OTHER)
    forget()
    assert OTHER == classify(Base())


@pytest.mark.table(("exception_type", "verdict"), [(int, MINE), ("Base", MINE), (Base, True), (Base, None)])
def test_nonsense_is_refused(exception_type, verdict):
    """What is no exception class, verdict or callable raises TypeError with the value in its words."""
    with pytest.raises(TypeError, match="must be"):
        register_classifier(exception_type, verdict)


def test_threads_lose_no_registration():
    """Registrations from many threads all stay."""
    classes = [type(f"E{number}", (Exception,), {}) for number in range(64)]
    barrier = threading.Barrier(8)

    def register(some):
        barrier.wait()
        for cls in some:
            register_classifier(cls, MINE)

    threads = [threading.Thread(target=register, args=(classes[start::8],)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [MINE] * 64 == [classify(cls()) for cls in classes]
