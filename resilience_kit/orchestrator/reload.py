"""Reloads in the background: on a signal, and in the thread of a file watch."""

from __future__ import annotations

import _thread
import contextlib
import logging
import signal
import threading
from types import FrameType
from typing import Any, Protocol, Self

from resilience_kit.errors import REDACTED, ConfigurationError

_logger = logging.getLogger("resilience_kit")


class Reloadable(Protocol):
    """The part of an orchestrator that a reload uses."""

    @property
    def settings(self) -> Any:
        """Its `ResilienceSettings`."""
        ...

    def reload(self, settings: Any = None) -> object:
        """See `AIServiceResilience.reload`."""
        ...


def reload_quietly(orchestrator: Reloadable, settings: Any = None) -> None:
    """Reload without raising. Wrong settings have emitted an event; any other error is logged by its type."""
    try:
        orchestrator.reload(settings)
    except ConfigurationError:
        pass
    except Exception as error:  # noqa: BLE001 - no caller could handle it
        _logger.error("configuration not reloaded: %s", type(error).__name__)


def reload_and_log(orchestrator: Reloadable, name: str) -> None:
    """Reload without raising and log one line with the result, for the operator who sent the signal `name`."""
    try:
        changed = orchestrator.reload()
    except ConfigurationError as error:
        _logger.warning("%s: configuration not reloaded, the old one stays: %s", name, "; ".join(map(str, error.errors)))
    except Exception as error:  # noqa: BLE001 - no caller could handle it
        _logger.error("%s: configuration not reloaded: %s", name, type(error).__name__)
    else:
        _logger.info("%s: configuration read anew; %s", name, "it is in force" if changed else "nothing changes")


class ReloadOnSignal:
    """A signal handler that reloads. `stop()`, or the end of a `with` block, restores the previous handler."""

    def __init__(self, orchestrator: Reloadable, number: signal.Signals) -> None:
        self._orchestrator, self._number = orchestrator, number
        self._previous = signal.signal(number, self._handle)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        """Start a thread and take no lock: this interrupts the main thread, which may hold any of them."""
        with contextlib.suppress(RuntimeError):  # no thread is started while the interpreter ends
            _thread.start_new_thread(reload_and_log, (self._orchestrator, self._number.name))

    def stop(self) -> None:
        """Restore the previous handler, unless another one was installed since. Call it in the main thread."""
        if signal.getsignal(self._number) == self._handle:
            signal.signal(self._number, signal.SIG_DFL if self._previous is None else self._previous)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def reload_on_sighup(orchestrator: Reloadable) -> ReloadOnSignal:
    """Run `orchestrator.reload()` in its own thread on each SIGHUP and log one line each time.

    Replaces the process's handler of that signal. Raises ConfigurationError outside the main thread, where Python does not allow
    a handler to be set, on systems without the signal, and for an object without `reload`.
    """
    if not callable(getattr(orchestrator, "reload", None)):
        raise _configuration_error("needs an orchestrator, as get_orchestrator() gives", type(orchestrator).__name__)
    number = getattr(signal, "SIGHUP", None)
    if number is None:
        raise _configuration_error("needs a system that has the signal SIGHUP; call orchestrator.reload() instead")
    if threading.current_thread() is not threading.main_thread():
        raise _configuration_error("must be called in the main thread, the only one in which Python sets signal handlers")
    return ReloadOnSignal(orchestrator, number)


def _configuration_error(rule: str, got: object = REDACTED) -> ConfigurationError:
    return ConfigurationError([("reload_on_sighup", rule, got)])
