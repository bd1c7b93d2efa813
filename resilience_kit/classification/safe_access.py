"""Reads foreign exceptions safely: attributes may raise, lie, be huge or do I/O."""

from __future__ import annotations

from collections.abc import Mapping

from resilience_kit.classification.body import LONGEST_TEXT

_BUFFERED_NAMES = ("_content", "content", "text", "_body", "body", "data")
_DEEPEST_CHAIN = 12


def attribute(owner: object, name: str) -> object:
    """Return the attribute, None if it is missing or cannot be read."""
    try:
        return getattr(owner, name, None)
    except Exception:  # noqa: BLE001 - httpx raises RuntimeError for a request that is not set, others anything
        return None


def call_or_value(owner: object, name: str) -> object:
    """Return the result of the method of this name, or the attribute itself; None if it raises (grpc has methods)."""
    value = attribute(owner, name)
    if not callable(value):
        return value
    try:
        return value()
    except Exception:  # noqa: BLE001 - the same
        return None


def message(exc: BaseException) -> str:
    """Return `str(exc)`, bounded and in lower case; empty if that raises."""
    try:
        return str(exc)[:LONGEST_TEXT].lower()
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the error
        return ""


def buffered_content(response: object) -> object:
    """Return the body that a response object already holds. Never reads from a socket: properties are not evaluated."""
    held = attribute(response, "__dict__")
    fixed = attribute(type(response), "__dict__")
    for name in _BUFFERED_NAMES:
        for space in (held, fixed):
            found = space.get(name) if isinstance(space, Mapping) else None
            if isinstance(found, (bytes, str, Mapping, list)) and found:
                return found
    return None


def is_bare_builtin(exc: BaseException) -> bool:
    """Return whether an error is a builtin one without cause or attributes, as most are, so that there is nothing to read."""
    return (
        type(exc).__module__ == "builtins"
        and exc.__cause__ is None
        and not exc.__dict__
        and not (exc.args and isinstance(exc.args[0], BaseException))
        and not isinstance(exc, BaseExceptionGroup)
    )


def cause(exc: BaseException, *, context: bool) -> BaseException | None:
    """Return the cause: the explicit one, one carried as an argument or reason, else (with `context`) the context."""
    carried = (exc.__cause__, attribute(exc, "reason"), attribute(exc, "os_error"), _last_attempt(exc), *_first_argument(exc))
    for error in carried:
        if isinstance(error, BaseException) and error is not exc:
            return error
    return exc.__context__ if context and not exc.__suppress_context__ else None


def chain(exc: BaseException, *, context: bool = False) -> list[BaseException]:
    """Return the error and its causes, at most twelve, each once."""
    found: list[BaseException] = [exc]
    if is_bare_builtin(exc) and (not context or exc.__context__ is None):
        return found
    while len(found) < _DEEPEST_CHAIN:
        beneath = cause(found[-1], context=context)
        if beneath is None or any(beneath is known for known in found):
            break
        found.append(beneath)
    return found


def _first_argument(exc: BaseException) -> tuple[object, ...]:
    args = attribute(exc, "args")
    return args[:1] if isinstance(args, tuple) else ()


def _last_attempt(exc: BaseException) -> object:
    """Return the error of the last attempt in a tenacity `RetryError`."""
    attempt = attribute(exc, "last_attempt")
    return None if attempt is None else call_or_value(attempt, "exception")
