"""Suggestions for fixing violations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from resilience_kit._redaction import is_secret_name
from resilience_kit.errors import Violation


def suggestions_for(found: Iterable[Violation]) -> Iterator[str]:
    """Yield the hints in violated rules, each once with its location, and advice about misplaced secrets."""
    yield from dict.fromkeys(each for violation in found for each in _suggestions(violation))


def _suggestions(violation: Violation) -> Iterator[str]:
    hint = violation.rule.partition("; ")[2]
    if hint.startswith("did you mean"):
        yield f"{violation.path}: {hint}"
    if is_secret_name(violation.path):
        yield f"{violation.path}: take it out; a configuration holds no secrets"
