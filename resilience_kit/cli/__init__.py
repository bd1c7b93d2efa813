"""The command `resilience-kit`. Its libraries come with the extra `demo`."""

from __future__ import annotations

import os
import sys

NEEDED = frozenset({"typer", "rich", "httpx"})


def main() -> None:
    """Run the command line; a mistake is one sentence on stderr and exit code 2."""
    try:
        from resilience_kit.cli.app import run  # noqa: PLC0415 - its libraries are an extra
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in NEEDED:
            raise
        sys.stderr.write(f"resilience-kit: {missing} is missing; pip install 'ai-resilience-kit[demo]'\n")
        sys.exit(2)
    try:
        sys.exit(run(sys.argv[1:]))
    except* BrokenPipeError:  # whoever read along has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the interpreter's last flush goes well
        sys.exit(1)
