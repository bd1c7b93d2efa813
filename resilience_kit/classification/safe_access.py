"""Looking at foreign exceptions without being hurt by them: attributes may raise, lie, be huge or do I/O."""

from __future__ import annotations

from collections.abc import Mapping

from resilience_kit.classification.body import LONGEST_TEXT

_BUFFERED_NAMES = ("_content", "content", "text", "_body", "body", "data")
_DEEPEST_CHAIN = 12


def attribute(owner: object, name: str) -> object:
    """The attribute, None when it is missing or cannot be read."""
    try:
        return getattr(owner, name, None)
    except Exception:  # noqa: BLE001 - httpx raises RuntimeError for a request that is not set, others anything
        return None


def call_or_value(owner: object, name: str) -> object:
    """What a method of this name returns, or the attribute itself, None when it raises (grpc has methods, others values)."""
    value = attribute(owner, name)
    if not callable(value):
        return value
    try:
        return value()
    except Exception:  # noqa: BLE001 - the same
        return None


def message(exc: BaseException) -> str:
    """`str(exc)`, bounded and in lower case, empty when that raises."""
    try:
        return str(exc)[:LONGEST_TEXT].lower()
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the error
        return ""


def buffered_content(response: object) -> object:
    """The body that a response object already holds. Never reads from a socket: properties are left alone."""
    held = attribute(response, "__dict__")
    fixed = attribute(type(response), "__dict__")
    for name in _BUFFERED_NAMES:
        for space in (held, fixed):
            found = space.get(name) if isinstance(space, Mapping) else None
            if isinstance(found, (bytes, str, Mapping, list)) and found:
                return found
    return None


def is_bare_builtin(exc: BaseException) -> bool:
    """Whether an error is a builtin one with nothing hung on it, so that there is nothing to look for. Most of them are."""
    return (
        type(exc).__module__ == "builtins"
        and exc.__cause__ is None
        and not exc.__dict__
        and not (exc.args and isinstance(exc.args[0], BaseException))
        and not isinstance(exc, BaseExceptionGroup)
    )


def cause(exc: BaseException, *, context: bool) -> BaseException | None:
    """The error beneath: the explicit cause, one carried as an argument or reason, else (when asked) the context."""
    carried = (exc.__cause__, attribute(exc, "reason"), attribute(exc, "os_error"), _last_attempt(exc), *_first_argument(exc))
    for error in carried:
        if isinstance(error, BaseException) and error is not exc:
            return error
    return exc.__context__ if context and not exc.__suppress_context__ else None


def chain(exc: BaseException, *, context: bool = False) -> list[BaseException]:
    """The error and what lies beneath, at most twelve, each once."""
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
    """What a tenacity `RetryError` gave up on."""
    attempt = attribute(exc, "last_attempt")
    return None if attempt is None else call_or_value(attempt, "exception")
