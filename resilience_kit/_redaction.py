"""What of a foreign text may be repeated: one rule for errors, logs, the command line and jobs.

A secret is recognised in four ways: by how providers' keys begin; by a scheme of authorization before it; by the name that it
stands under, as in a header, a query or JSON; and as a long run of letters with a digit in it. A word that is no secret but
looks like one is the price: it is left out of a message, never of a request.
"""

from __future__ import annotations

import re
from typing import Final

REDACTION_PLACEHOLDER: Final = "..."

_LONGEST_NAME: Final = 64
_SECRET_NAME: Final = re.compile(
    r"api[_-]?key|secret|passw|passphrase|token|auth|credential|bearer|cookie|(private|access)[_-]?key", re.IGNORECASE
)

#: How keys begin. After a letter or a digit it is another word (`task-1`); the second line is words of every day as well.
_BEGINNINGS: Final = (
    r"(?<![A-Za-z0-9])(?:"
    r"(?:sk|pk|rk|csk|hf|r8|gh[oprsu]|github_pat|glpat|xox[a-z]|xapp|xai|gsk|pplx|tvly|nvapi|pcsk|whsec|dop_v1|lsv2|ek)[-_]"
    r"|(?:fw|key|pa|ak|tgp_v1|jina|vck|npm|lin_api)[-_](?=[A-Za-z_-]{0,40}\d)(?=[A-Za-z0-9_-]{12})"
    r"|(?-i:AKIA|ASIA)(?=[A-Z0-9])|(?-i:AIza|eyJ)|ya29\.|(?-i:SG)\.(?=[\w-]{16})|dapi(?=[0-9a-f]{8}))[^\s\"'<>,;)&]*"
)
_SCHEMES: Final = r"\b(?:bearer|basic|digest|negotiate)\s+[^\s\"'<>,;]+"
_ADDRESS: Final = r"(?<=://)[^/\s\"'<>]*(?=@)"
_PEM: Final = r"-----BEGIN.*"
_LONG_RUN: Final = r"(?<![A-Za-z0-9+/=_-])(?=[A-Za-z+/=_-]*\d)[A-Za-z0-9+/=_-]{20,}"
_SURE: Final = f"{_BEGINNINGS}|{_SCHEMES}|{_ADDRESS}|{_PEM}"
_SECRET_IN_PATHS: Final = re.compile(_SURE, re.IGNORECASE)
_SECRET: Final = re.compile(f"{_SURE}|{_LONG_RUN}", re.IGNORECASE)

_NAMES: Final = (
    r"(?:api[_-]?key|secret(?:[_-]?access)?(?:[_-]?key)?|passw(?:or)?d|passphrase|authorization|cookie"
    r"|(?:private|access|account)[_-]?key|(?:access|auth|api|refresh|id|session|bearer)[_-]?token|client[_-]?secret|(?<![a-z])pwd)"
)
_NO_VALUE: Final = r"(?![\"'\s]|\.\.\.|(?:is|are|was|has|must|may|should|not|of|for|in|to|required|missing|invalid|expected)\b)"
_VALUE: Final = r"[^\s\"'<>,;&)\\}]+"
#: The value of a header, a field of JSON or a setting whose name says that it holds a secret, and of a signed query.
_NAMED: Final = re.compile(
    rf"((?:{_NAMES}\\?[\"']?\s*(?:=>|[:=])|(?<![a-z0-9_-])token=|\bapi key provided:)\s*\\?[\"']?(?:(?:bearer|basic|token)\s+)?"
    rf"|[?&](?:key|token|sig|signature|auth|pwd|code|x-amz-[a-z]+|x-goog-[a-z]+)=){_NO_VALUE}{_VALUE}",
    re.IGNORECASE,
)
#: The same in quotation marks, whatever stands within them: a setting, JSON, a mapping or a pair of a header as Python shows it.
_QUOTED: Final = re.compile(
    rf"((?:{_NAMES}(?:\\?[\"'])?\s*(?:=>|[:=]|(?<=[\"']),)|(?<=[\"'])token\\?[\"']\s*(?:=>|:|,))\s*b?(\\?[\"'])){_NO_VALUE}"
    r"(?:(?!\2)[^\n])+(?=\2)",
    re.IGNORECASE,
)
_COOKIES: Final = re.compile(rf"(cookie\s*[:=]\s*){_NO_VALUE}{_VALUE}(?:;\s*[\w.-]+=(?:{_VALUE})?)+", re.IGNORECASE)


def is_secret_name(name: object) -> bool:
    """Return whether a setting, a header or a field of that name would hold a secret."""
    return isinstance(name, str) and _SECRET_NAME.search(name[:_LONGEST_NAME]) is not None


def contains_secret(text: str) -> bool:
    """Return whether a text holds something that looks like a secret."""
    return any(pattern.search(text) for pattern in (_SECRET, _NAMED, _QUOTED))


def redact_text(text: str, *, keep_paths: bool = False) -> str:
    """Return the text with three dots in place of everything that looks like a secret; the names of secrets stay.

    `keep_paths`: leave long runs, which the paths of files are; for texts of this program, such as a traceback.
    """
    for pattern in (_QUOTED, _COOKIES, _NAMED):
        text = pattern.sub(rf"\1{REDACTION_PLACEHOLDER}", text)
    return (_SECRET_IN_PATHS if keep_paths else _SECRET).sub(REDACTION_PLACEHOLDER, text)
