"""What a look at one thing found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How good a finding is. Only a problem is something to mend."""

    OK = "ok"
    INFO = "info"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """`subject`: what was looked at, in the area that `area` names. `remedy`: what to do about it, empty when nothing."""

    area: str
    subject: str
    severity: Severity
    text: str
    remedy: str = ""

    def to_dict(self) -> dict[str, str]:
        """Ready for JSON."""
        return asdict(self)
