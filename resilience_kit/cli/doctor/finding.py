"""One result of a check."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum


class Severity(StrEnum):
    """The severity of a finding. Only a problem needs fixing."""

    OK = "ok"
    INFO = "info"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """A result of a check. `subject`: what was checked, within `area`. `remedy`: what to do about it, or empty."""

    area: str
    subject: str
    severity: Severity
    text: str
    remedy: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return the fields, ready for JSON."""
        return asdict(self)
