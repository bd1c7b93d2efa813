"""RESILIENCE_* variables: their names, and what to report of those that are misspelled or unknown."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator, Mapping
from typing import Final

from resilience_kit.config.near_names import spelled
from resilience_kit.config.parsing import BYTE_ORDER_MARK
from resilience_kit.errors import REDACTED, Violation

PREFIX: Final = "RESILIENCE_"
OPERATION_PREFIX: Final = "OPERATION_"
VARIABLE_NAMES: Final = ("PRESET", "CUSTOM_CONFIG", "CONFIG_FILE", "ENABLED")
_SIMILARITY: Final = 0.85

_logger = logging.getLogger("resilience_kit")
_warned_of: set[str] = set()


def variable_of(operation: str) -> str:
    """Return the variable for an operation's strategy: upper case, with _ for each character but letters and digits."""
    return PREFIX + OPERATION_PREFIX + spelled(operation).upper()


def prefixed_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the RESILIENCE_* variables, in upper case without prefix. Of two that differ in case, the upper-case one wins."""
    named = {name.upper(): variables[name] for name in sorted(variables, reverse=True)}
    return {name.removeprefix(PREFIX): value for name, value in named.items() if name.startswith(PREFIX)}


def reset_warnings() -> None:
    """Forget which warnings were logged, so that each can be logged again."""
    _warned_of.clear()


def _unknown_variables(variables: Mapping[str, str]) -> list[str]:
    """List the variables with the prefix that are unknown and not similar to a known one."""
    others = [
        name for name in prefixed_variables(variables) if name not in VARIABLE_NAMES and not name.startswith(OPERATION_PREFIX)
    ]
    return [PREFIX + name for name in others if not list(_suggest_known_variable(name))]


def warn_of_unknown_variables(variables: Mapping[str, str]) -> None:
    """Log each unknown variable once per process: it may belong to another program, or be a setting without effect."""
    for name in _unknown_variables(variables):
        if name not in _warned_of:
            _warned_of.add(name)
            known = ", ".join(PREFIX + each for each in (*VARIABLE_NAMES, f"{OPERATION_PREFIX}<NAME>"))
            _logger.warning("%s is no variable of resilience_kit and changes nothing; known: %s", name, known)


def misspelled_variables(variables: Mapping[str, str]) -> Iterator[Violation]:
    """Yield a violation for each variable whose name is nearly that of a known one."""
    for name in variables:
        if name.startswith(BYTE_ORDER_MARK) and name[1:].upper().startswith(PREFIX):
            rule = "has a byte order mark before its name: save the file that it comes from, such as .env, as UTF-8 without one"
            yield Violation(name[1:].upper(), rule, REDACTED)
    for name in prefixed_variables(variables):
        if name == OPERATION_PREFIX:
            yield Violation(PREFIX + name, "must end with the name of an operation", REDACTED)
        elif name not in VARIABLE_NAMES and not name.startswith(OPERATION_PREFIX):
            yield from _suggest_known_variable(name)


def _suggest_known_variable(name: str) -> Iterator[Violation]:
    stem, _, operation = name.partition("_")
    close = difflib.get_close_matches(name, VARIABLE_NAMES, 1, _SIMILARITY)
    if not close and difflib.get_close_matches(stem, [OPERATION_PREFIX.rstrip("_")], 1, _SIMILARITY):
        close = [OPERATION_PREFIX + (operation or "<NAME>")]
    if close:
        yield Violation(PREFIX + name, f"unknown variable; did you mean {PREFIX + close[0]!r}?", REDACTED)
