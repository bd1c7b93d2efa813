"""Errors of the command line: a mistake of the user, or an operation that the system refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class CliError(Exception):
    """Ends the command with its sentence on stderr and exit code 2."""


def describe_os_error(error: OSError, path: object = None) -> str:
    """Describe an OSError: `path`, by default the error's own, and the reason."""
    about = error.filename if path is None else path
    why = error.strerror or str(error) or type(error).__name__
    return why if about is None else f"{about}: {why}"


@contextmanager
def for_option(option: str, path: object) -> Iterator[None]:
    """Convert an OSError in the block to a `CliError` about an option's path."""
    try:
        yield
    except OSError as error:
        raise CliError(f"{option}: {describe_os_error(error, path)}") from None
