"""What a user of the command line did wrong, or what the system refused, in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class CliError(Exception):
    """Ends the command with its sentence on stderr and exit code 2."""


def describe_os_error(error: OSError, path: object = None) -> str:
    """What the system refused, after the path that it is about: `path`, or else the error's own."""
    about = error.filename if path is None else path
    why = error.strerror or str(error) or type(error).__name__
    return why if about is None else f"{about}: {why}"


@contextmanager
def for_option(option: str, path: object) -> Iterator[None]:
    """Make a Mistake about an option's path of what the system refuses, whatever other file it was about."""
    try:
        yield
    except OSError as error:
        raise CliError(f"{option}: {describe_os_error(error, path)}") from None
