"""The default listener: tells the logger `resilience_kit` what an operator wants to know, and nothing that could be a secret.

Settings that are refused are ERROR; state changes, final failures and misuse WARNING; recoveries, retries and reloads INFO;
refusals and waits DEBUG.
"""

from __future__ import annotations

import functools
import logging
import weakref
from collections.abc import Callable
from typing import Any

from resilience_kit._fork import ForkSafeLock
from resilience_kit._redaction import redact_text
from resilience_kit.errors import GuardKind
from resilience_kit.events import (
    AccessLatched,
    AccessRestored,
    CallDelayed,
    CallersParked,
    CallFailed,
    CallRejected,
    ConfigRejected,
    ConfigReloaded,
    Event,
    EventStream,
    HedgeSkipped,
    NestedRetry,
    OptionsIgnored,
    RetryScheduled,
    StateChanged,
    StrategyChanged,
    default_stream,
)
from resilience_kit.policies.breaker import CircuitState

logger = logging.getLogger("resilience_kit")
_MAX_CHANGES = 10
#: Seconds of a wait that an operator wants to know of.
_MIN_LOGGED_WAIT = 1.0
_lock, _logged = ForkSafeLock(), weakref.WeakSet[EventStream]()


def attach_logging(events: EventStream) -> None:
    """Log from `events`, as far as the logger's level asks for it. A second time changes nothing."""
    with _lock:
        if events in _logged:
            return
        _logged.add(events)
    for kind, (level, handler) in _LOGGED_EVENTS.items():
        events.add_listener(handler, kind, when=functools.partial(logger.isEnabledFor, level))


def _state_changed(event: StateChanged) -> None:
    level = logging.WARNING if CircuitState(event.new).opened else logging.INFO
    reason = redact_text(" ".join(event.reason.split()), keep_paths=True)  # a person's words may hold line breaks, and a key
    logger.log(level, "circuit %r: %s -> %s (%s)", event.operation, event.old, event.new, reason)


def _retry_scheduled(event: RetryScheduled) -> None:
    message = "%r: attempt %d failed (%s, %s); next one in %.3f s"
    logger.info(message, event.operation, event.attempt, event.error_type, event.kind.value, event.delay)


def _call_failed(event: CallFailed) -> None:
    message = "%r: failed after %d attempt%s in %.1f s (%s, %s): %s"
    plural, reason = "s"[: event.attempts != 1], " ".join(event.reason.split())  # a guard's name may hold line breaks
    logger.warning(message, event.operation, event.attempts, plural, event.duration, event.error_type, event.kind.value, reason)


def _call_delayed(event: CallDelayed) -> None:
    if event.seconds >= _MIN_LOGGED_WAIT:
        logger.debug("%r: waited %.1f s for its turn at %s", event.operation, event.seconds, _guard(event))


def _call_rejected(event: CallRejected) -> None:
    hint = "" if event.retry_after is None else f"; retry after {event.retry_after:.1f} s"
    logger.debug("%r: refused by %s%s", event.operation, _guard(event), hint)


def _hedge_skipped(event: HedgeSkipped) -> None:
    message = "%r: a slow call was not hedged, since %s has no place that is free at once; this is told once"
    logger.info(message, event.operation, _guard(event))


def _guard(event: CallDelayed | CallRejected | HedgeSkipped) -> str:
    """Return the kind and the name of a guard; an unnamed kind is omitted."""
    kind = "" if event.guard_kind is GuardKind.CUSTOM else event.guard_kind.replace("_", " ") + " "
    return f"{kind}{event.guard!r}"


def _host_throttled(event: CallersParked) -> None:
    logger.info("host %r asks for a pause of %.1f s; all its callers obey", event.operation, event.seconds)


def _access_suspended(event: AccessLatched) -> None:
    phrases = {"credential": "refuses the credential", "billing": "says that the account has no credit or quota left"}
    logger.warning("host %r %s; next trial in %.1f s", event.operation, phrases[event.why], event.retry_after)


def _access_resumed(event: AccessRestored) -> None:
    phrases = {"credential": "takes the credential", "billing": "serves the account"}
    logger.info("host %r %s again", event.operation, phrases[event.why])


def _strategy_changed(event: StrategyChanged) -> None:
    logger.info("%r: strategy changed from %s to %s", event.operation, event.old or "none", event.new)


def _config_reloaded(event: ConfigReloaded) -> None:
    changes = [f"{name!r} {field} {old} -> {new}" for name, field, old, new in event.changes[:_MAX_CHANGES]]
    more = len(event.changes) - len(changes)
    summary = "; ".join([*changes, *([f"and {more} more"] if more else [])])
    logger.info("configuration reloaded: %s", summary or "nothing changes for the operations in use")


def _config_rejected(event: ConfigRejected) -> None:
    logger.error("configuration not reloaded, the old one stays: %s", "; ".join(event.errors))


def _nested_retry_detected(event: NestedRetry) -> None:
    message = "%r: %s retries too, so this operation did not; %s"
    logger.warning(message, event.operation, event.inner, event.remedy)


def _options_conflict(event: OptionsIgnored) -> None:
    logger.warning("%r is already in use with other %s; those of its first use stay", event.operation, event.options)


#: The level at which each event is asked for, and the function that words it.
_LOGGED_EVENTS: dict[type[Event], tuple[int, Callable[[Any], None]]] = {
    StateChanged: (logging.WARNING, _state_changed),
    RetryScheduled: (logging.INFO, _retry_scheduled),
    CallFailed: (logging.WARNING, _call_failed),
    CallDelayed: (logging.DEBUG, _call_delayed),
    CallersParked: (logging.INFO, _host_throttled),
    AccessLatched: (logging.WARNING, _access_suspended),
    AccessRestored: (logging.INFO, _access_resumed),
    StrategyChanged: (logging.INFO, _strategy_changed),
    ConfigReloaded: (logging.INFO, _config_reloaded),
    ConfigRejected: (logging.ERROR, _config_rejected),
    CallRejected: (logging.DEBUG, _call_rejected),
    HedgeSkipped: (logging.INFO, _hedge_skipped),
    NestedRetry: (logging.WARNING, _nested_retry_detected),
    OptionsIgnored: (logging.WARNING, _options_conflict),
}

attach_logging(default_stream())
