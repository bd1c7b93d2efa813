"""What a user of the command line did wrong, in a sentence."""

from __future__ import annotations


class Mistake(Exception):
    """Ends the command with its sentence on stderr and exit code 2."""
