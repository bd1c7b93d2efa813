"""The result of a validation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from resilience_kit.errors import Violation


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """The result of a validation; true if the configuration is valid.

    `errors`: sentences, each with location and rule. `warnings`: what is allowed but probably not intended. `suggestions`: what
    to write instead. `violations`: the errors as (path, rule, got). `settings`: what was read, as plain values; None if invalid
    or if nothing was read. `retry_after`: seconds, if the client exceeded its rate limit.
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
        """Return verdict, errors, warnings and suggestions, ready for JSON."""
        return {
            "is_valid": self.is_valid,
            "errors": list(self.errors),
            "warnings": list(self.warnings),
            "suggestions": list(self.suggestions),
        }


def invalid_result(
    found: Iterable[Violation], suggestions: Iterable[str] = (), retry_after: float | None = None
) -> ValidationResult:
    """Return an invalid result with every violation."""
    violations = tuple(found)
    return ValidationResult(
        is_valid=False,
        errors=[str(each) for each in violations],
        suggestions=list(suggestions),
        violations=violations,
        retry_after=retry_after,
    )
