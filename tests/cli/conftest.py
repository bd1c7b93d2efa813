"""The command line in an environment of its own, in this process."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest
import typer.main

from resilience_kit import set_orchestrator
from resilience_kit.cli.app import run

_READ = {
    "APP_ENV",
    "ENVIRONMENT",
    "ENV",
    "CI",
    "HOSTNAME",
    "POD_NAMESPACE",
    "DATABASE_URL",
    "REDIS_URL",
    "NO_COLOR",
    "FORCE_COLOR",
}
_PREFIXES = ("RESILIENCE_", "KUBERNETES_", "_RESILIENCE_KIT_COMPLETE")


class Told(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """All of stdout as one JSON document."""
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    """Nothing of this machine is seen, and no test sees another's default orchestrator."""
    for name in list(os.environ):
        if name in _READ or name.upper().startswith(_PREFIXES):
            monkeypatch.delenv(name)
    monkeypatch.setattr(socket, "gethostname", lambda: "machine")
    set_orchestrator(None)
    yield
    set_orchestrator(None)


@pytest.fixture(scope="session", autouse=True)
def one_command():
    """Typer makes all commands anew for each command line, which takes longer than carrying it out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.main.get_command", cache(typer.main.get_command))
        yield


@pytest.fixture
def told(capsys) -> Callable[..., Told]:
    """Run a command line: `told("config", "show")`."""

    def tell(*arguments: str) -> Told:
        code = run(arguments)
        return Told(code, *capsys.readouterr())

    return tell


@pytest.fixture
def sentence(told) -> Callable[..., str]:
    """The one sentence of a mistake: exit code 2, nothing on stdout, no traceback."""

    def tell(*arguments: str) -> str:
        code, out, err = told(*arguments)
        assert (2, "", 1, True) == (code, out, err.count("\n"), err.endswith("\n"))
        return err.removeprefix("resilience-kit: ").removesuffix("\n")

    return tell
