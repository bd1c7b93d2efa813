"""The application's own orchestrator, which knows what the code asks for: `--app MODULE[:ATTRIBUTE]`."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import redirect_stdout
from functools import reduce
from pathlib import PurePath
from traceback import walk_tb
from types import ModuleType
from typing import Final

from resilience_kit.cli.mistake import Mistake
from resilience_kit.errors import ConfigurationError
from resilience_kit.orchestrator import AIServiceResilience
from resilience_kit.orchestrator.default import join_default, operations_of_default

#: The frames of `imported` and importlib.
_OURS: Final = 2


def orchestrator_of(app: str, operation: str) -> AIServiceResilience:
    """The orchestrator that a module's attribute holds, or the default one with the module's functions of that operation.

    Raises Mistake in a sentence. Of the module's own error only type and place are told, since its text may hold a secret; a
    ConfigurationError has none.
    """
    module, attribute = _module_of(app)
    return _orchestrator_in(module, attribute, app) if attribute else join_default(operation)


def operations_of(app: str) -> list[str]:
    """The names of the operations of an application's functions, called or not. Raises Mistake as `orchestrator_of` does."""
    module, attribute = _module_of(app)
    return _orchestrator_in(module, attribute, app).operations if attribute else operations_of_default()


def _module_of(app: str) -> tuple[ModuleType, str]:
    name, _, attribute = app.partition(":")
    if not name or name.startswith(".") or "/" in name or name.endswith(".py"):
        raise Mistake(f"--app: {app!r} must be MODULE or MODULE:ATTRIBUTE{_as_module(name)}")
    return imported(name), attribute


def _orchestrator_in(module: ModuleType, attribute: str, app: str) -> AIServiceResilience:
    try:
        found = reduce(getattr, attribute.split("."), module)
    except AttributeError:
        raise Mistake(f"--app: the module {module.__name__!r} has no {attribute!r}") from None
    if not isinstance(found, AIServiceResilience):
        raise Mistake(f"--app: {app!r} must be an AIServiceResilience, got {type(found).__name__}")
    return found


def _as_module(name: str) -> str:
    path = PurePath(name)
    return f"; did you mean {'.'.join(path.with_suffix('').parts).strip('/.')!r}?" if path.suffix == ".py" else ""


def imported(name: str) -> ModuleType:
    """The module, looked for in the current folder first. What it prints goes to stderr."""
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - a text, as in all of sys.path
    try:
        with redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise Mistake(f"--app: cannot import {name!r}: there is no module {error.name!r}") from None
    except ConfigurationError as error:
        raise Mistake(f"--app: cannot import {name!r}: {error}") from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a program's own code may raise anything
        raise Mistake(f"--app: cannot import {name!r}: it raises {type(error).__name__}{_line_of(error)}") from None
    finally:
        sys.path.pop(0)


def _line_of(error: BaseException) -> str:
    """Where it was raised, or where a text is no Python."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" at {error.filename}:{error.lineno}"
    places = [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)]
    places = [each for each in places[_OURS:] if not each[0].startswith("<")]
    return " at {}:{}".format(*places[-1]) if places else ""
