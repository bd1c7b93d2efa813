"""The command `resilience-kit`. Needs the extra `cli`, and the extra `demo` for the demo."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO

from resilience_kit._version import install_command

#: Library -> the extra that installs it.
REQUIRED_EXTRAS = {
    "typer": "cli",
    "rich": "cli",
    "packaging": "cli",
    "httpx": "demo",
    "procrastinate": "jobs",
    "psycopg": "jobs",
    "uvicorn": "testing",
}


def main() -> None:
    """Run the command line; an error of the user is one sentence on stderr and exit code 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a character that the terminal lacks must not raise
    stdout_closed = sys.stdout is None
    if stdout_closed:
        sys.stdout = _open_null_device()
    if sys.stderr is None:
        sys.stderr = _open_null_device()
    try:
        sys.exit(_run(sys.argv[1:]) or int(stdout_closed))
    except* BrokenPipeError:  # the reader closed the pipe
        sys.exit(1)
    finally:
        _discard_unwritten_output()


def _discard_unwritten_output() -> None:
    """Discard what stdout cannot take, which was reported before, so that the interpreter's last flush succeeds."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_null_device() -> TextIO:
    """Open the null device in place of a stream that was closed at the start (`>&-`)."""
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - as long as the process


def _run(arguments: list[str]) -> int:
    try:
        from resilience_kit.cli.app import run  # noqa: PLC0415 - its libraries are an extra

        return run(arguments)
    except KeyboardInterrupt:  # while it was being imported
        return 130
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in REQUIRED_EXTRAS:
            raise
    sys.stderr.write(f"resilience-kit: {missing} is missing; {install_command(REQUIRED_EXTRAS[missing])}\n")
    return 2
