"""What is recorded of a run's error: its type and location, and with `error_details` its message and traceback."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, TracebackType
from typing import Any, Final

from resilience_kit._redaction import redact_text
from resilience_kit.errors import Rejected, ResilienceError

_MOST_LINKS: Final = 100
_LONGEST_DETAILS: Final = 20_000
_LONGEST_NAME: Final = 200
#: A virtual environment often lies in the folder of the code that uses it.
_LIBRARIES: Final = "site-packages/"


class JobArgumentsError(ResilienceError, TypeError):
    """The job's arguments are not those of its task's function; no further run of it could begin. Names only what is missing."""


def error_chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error itself, its causes, contexts and the members of groups, each once."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < _MOST_LINKS:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        gathered = each.exceptions if isinstance(each, BaseExceptionGroup) else ()
        waiting += [link for link in (*gathered, each.__cause__, each.__context__) if link is not None]


def rejection_in(error: BaseException, depth: int = 0) -> Rejected | None:
    """Return the rejection that the error stands for: itself, its cause, or the members of a group.

    Of several rejections return the one with the longest wait.
    """
    if isinstance(error, Rejected):
        return error
    if depth > _MOST_LINKS:
        return None
    if isinstance(error, BaseExceptionGroup):
        found = [rejection_in(each, depth + 1) for each in error.exceptions]
        refusals = [each for each in found if each is not None]
        return max(refusals, key=lambda each: each.retry_after or 0.0) if len(refusals) == len(found) else None
    return None if error.__cause__ is None else rejection_in(error.__cause__, depth + 1)


def location_of(error: BaseException, function: Callable[..., Any]) -> str:
    """Return `path:line` of the innermost frame in the package of the task's function, else of the innermost of all."""
    root = _root_of(function)
    errors = sorted(error_chain(error), key=lambda each: isinstance(each, BaseExceptionGroup))  # members have the location
    frames = [frame for each in errors for frame in _frames(each.__traceback__)[::-1]]
    own = (
        frame for frame in frames if root is not None and frame[0].startswith(root) and _LIBRARIES not in frame[0][len(root) :]
    )
    chosen = next(own, frames[0] if frames else None)
    return "" if chosen is None else clean(f"{chosen[0]}:{chosen[1]}")


def _frames(trace: TracebackType | None) -> list[tuple[str, int]]:
    """Yield file and line of each frame, the outermost first."""
    found = []
    while trace is not None:
        found.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    return found


def _root_of(function: Callable[..., Any]) -> str | None:
    """Return the folder of the function's top-level package, or of its file where it is in none."""
    code = _code_of(function)
    if code is None:
        return None
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    depth = (module.__name__ if module is not None else "").count(".")
    is_package = getattr(module, "__path__", None) is not None
    parents = Path(code.co_filename).parents
    above = depth - (0 if is_package else 1)
    return f"{parents[min(max(above, 0), len(parents) - 1)]}/" if len(parents) else None


def _code_of(function: Callable[..., Any]) -> CodeType | None:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code if isinstance(code, CodeType) else None


def details_of(error: BaseException) -> str:
    """Return message and traceback, redacted, and cut at the beginning where they are long."""
    text = "".join(traceback.format_exception(error)).rstrip()
    return clean(redact_text(text, keep_paths=True))[-_LONGEST_DETAILS:]


def clean(text: str) -> str:
    """Replace characters that PostgreSQL rejects in a text."""
    return text.encode("utf-8", "replace").decode().replace("\0", "?")


def name_of(error: BaseException) -> str:
    """Return the name of the error's type, safe to store."""
    return clean(type(error).__name__)[:_LONGEST_NAME]


def arguments_error(
    error: BaseException, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> JobArgumentsError | None:
    """Return a JobArgumentsError for the TypeError of a call that could not begin; None for one that the function raised.

    A decorator may pass more arguments than it gets, so the signature alone is not enough: the traceback has to end before
    the function.
    """
    if not isinstance(error, TypeError) or isinstance(error, JobArgumentsError):
        return None
    code = _code_of(function)
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is code:
            return None
        trace = trace.tb_next
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        found = JobArgumentsError(_mismatch(function, args, kwargs))
        found.__cause__ = error
        return found
    except ValueError:  # a builtin without a signature
        return None
    return None


def _mismatch(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return which arguments are missing, and how many are unexpected, without their names: those came with the job."""
    parameters = list(inspect.signature(function).parameters.values())[len(args) :]
    named = {each.name for each in parameters if each.kind in {each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY}}
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters)
    missing = [each.name for each in parameters if each.name in named - {*kwargs} and each.default is each.empty]
    unknown = 0 if takes_any else len({*kwargs} - named)
    parts = [f"missing: {', '.join(missing)}"] if missing else []
    parts += [f"{unknown} that it does not take"] if unknown else []
    return f"the job's arguments do not fit its function: {'; '.join(parts) or 'they cannot be passed by name'}"
