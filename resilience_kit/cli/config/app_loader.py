"""Loads the application's orchestrator, which has the options of its call sites: `--app MODULE[:ATTRIBUTE]`."""

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

from resilience_kit.cli.errors import CliError
from resilience_kit.errors import ConfigurationError
from resilience_kit.orchestrator import AIServiceResilience
from resilience_kit.orchestrator.default import attach_pending_call_sites, default_operations

#: The frames of `load_module` and importlib.
_LOADER_FRAMES: Final = 2


def orchestrator_of(app: str, operation: str) -> AIServiceResilience:
    """Return the orchestrator in a module's attribute, or the default one with the module's functions of that operation.

    Raises CliError. An error of the module is reported by type and location only, since its text may hold a secret; that of a
    ConfigurationError holds none.
    """
    module, attribute = _module_of(app)
    return _orchestrator_in(module, attribute, app) if attribute else attach_pending_call_sites(operation)


def operations_of(app: str) -> list[str]:
    """List the operations of an application's functions, called or not. Raises CliError as `orchestrator_of` does."""
    module, attribute = _module_of(app)
    return _orchestrator_in(module, attribute, app).operations if attribute else default_operations()


def _module_of(app: str) -> tuple[ModuleType, str]:
    name, _, attribute = app.partition(":")
    if not name or name.startswith(".") or "/" in name or name.endswith(".py"):
        raise CliError(f"--app: {app!r} must be MODULE or MODULE:ATTRIBUTE{_module_hint(name)}")
    return load_module(name), attribute


def _orchestrator_in(module: ModuleType, attribute: str, app: str) -> AIServiceResilience:
    try:
        found = reduce(getattr, attribute.split("."), module)
    except AttributeError:
        raise CliError(f"--app: the module {module.__name__!r} has no {attribute!r}") from None
    if not isinstance(found, AIServiceResilience):
        raise CliError(f"--app: {app!r} must be an AIServiceResilience, got {type(found).__name__}")
    return found


def _module_hint(name: str) -> str:
    path = PurePath(name)
    return f"; did you mean {'.'.join(path.with_suffix('').parts).strip('/.')!r}?" if path.suffix == ".py" else ""


def load_module(name: str) -> ModuleType:
    """Import a module, from the current folder first. Its output goes to stderr. Raises CliError."""
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - a text, as in all of sys.path
    try:
        with redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise CliError(f"--app: cannot import {name!r}: there is no module {error.name!r}") from None
    except ConfigurationError as error:
        raise CliError(f"--app: cannot import {name!r}: {error}") from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - application code may raise anything
        raise CliError(f"--app: cannot import {name!r}: it raises {type(error).__name__}{_source_location(error)}") from None
    finally:
        sys.path.pop(0)


def _source_location(error: BaseException) -> str:
    """Return where the error was raised, or the location of a syntax error."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" at {error.filename}:{error.lineno}"
    locations = [(frame.f_code.co_filename, number) for frame, number in walk_tb(error.__traceback__)]
    locations = [each for each in locations[_LOADER_FRAMES:] if not each[0].startswith("<")]
    return " at {}:{}".format(*locations[-1]) if locations else ""
