"""What a validation found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from resilience_kit.errors import Violation


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """Whether something is valid, and what is to be said about it; true when it is valid.

    `errors`: sentences, each with place and rule. `warnings`: what is allowed and hardly meant. `suggestions`: what to write
    instead. `violations`: the errors as (path, rule, got). `settings`: what was read, as plain values; None when invalid, and
    where nothing was read. `retry_after`: seconds, when a client asked too often.
    """

    is_valid: bool
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    suggestions: list[str] = field(default_factory=list)
    violations: Sequence[Violation] = ()
    settings: Mapping[str, object] | None = None
    retry_after: float | None = None

    def __bool__(self) -> bool:
        return self.is_valid

    def to_dict(self) -> dict[str, object]:
        """Verdict, errors, warnings and suggestions, ready for JSON."""
        return {
            "is_valid": self.is_valid,
            "errors": list(self.errors),
            "warnings": list(self.warnings),
            "suggestions": list(self.suggestions),
        }


def invalid_result(
    found: Iterable[Violation], suggestions: Iterable[str] = (), retry_after: float | None = None
) -> ValidationResult:
    """An invalid result that tells of every violation."""
    violations = tuple(found)
    return ValidationResult(
        is_valid=False,
        errors=[str(each) for each in violations],
        suggestions=list(suggestions),
        violations=violations,
        retry_after=retry_after,
    )
