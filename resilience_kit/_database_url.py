"""What people write into DATABASE_URL, as PostgreSQL's own library wants it, or a sentence about what is wrong with it.

A value passes through files, shells and other libraries' manuals before it comes here: with a carriage return of another
system's editor, in quotation marks that nobody took off, with SQLAlchemy's name of a driver. No sentence quotes it: names of
schemes and parameters are told where they are well known, and all else may be a part of a password.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl

_SHAPE: Final = "must be as postgresql://USER:PASSWORD@HOST/NAME"
_ESCAPES: Final = "write @, / and % in a password as %40, %2F, %25"
_INVISIBLE: Final = "\ufeff\u200b\u2060"
_QUOTES: Final = {'"': '"', "'": "'", "`": "`", "\u201c": "\u201d", "\u2018": "\u2019", "\u00ab": "\u00bb"}
_QUOTE_MARKS: Final = frozenset({*_QUOTES, *_QUOTES.values()})
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_SCHEME: Final = re.compile(r"(postgres(?:ql)?)(\+[\w.-]+)?://", re.IGNORECASE)
_ANY_SCHEME: Final = re.compile(r"[\w+.-]+:/")
_ASSIGNMENT: Final = re.compile(r"(?:export\s+|set\s+)?\w+\s*=\s*[\"'`]?\s*postgres(?:ql)?(?:\+\w+)?://", re.IGNORECASE)
_OTHER_SCHEMES: Final = frozenset(
    {"cockroachdb", "file", "http", "https", "jdbc", "mariadb", "mongodb", "mssql", "mysql", "mysql2", "oracle", "pgsql"}
    | {"postgis", "redis", "rediss", "sqlite", "sqlite3", "sqlserver", "tcp", "unix"}
)
#: Parameters that other drivers and frameworks take in a URL, and libpq does not.
_FOREIGN_PARAMETERS: Final = frozenset(
    {"async_fallback", "binary_parameters", "command_timeout", "connection_limit", "driver", "max_cacheable_statement_size"}
    | {"pgbouncer"}
    | {"pool_timeout", "prepared_statement_cache_size", "prepared_statement_name_func", "schema", "server_settings"}
    | {"socket_timeout", "ssl", "sslaccept", "statement_cache_size"}
)


def trimmed(text: str) -> str:
    """Take off what surrounds a value by accident: white space, line ends, a byte order mark, one pair of quotation marks."""
    text = _stripped(text)
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        text = _stripped(text[1:-1])
    return text


def _stripped(text: str) -> str:
    before = None
    while text != before:
        before, text = text, text.strip().strip(_INVISIBLE)
    return text


def clean_database_url(text: str) -> str:
    """Give the connection string that is meant, without surroundings and without the name of a driver."""
    text = trimmed(text)
    found = _SCHEME.match(text)
    if found is None:
        return text
    scheme = found[1].lower() if found[2] is None else "postgresql"
    return f"{scheme}://{text[found.end() :]}"


def database_url_rule(text: str) -> str:
    """Say what rule a cleaned connection string breaks that libpq refuses. The text itself is never repeated."""
    reason = _reason(text)
    return f"{_SHAPE}; {reason or _ESCAPES}"


def is_damaged(text: str) -> bool:
    """Whether a URL holds what libpq would take for a part of a name, and nobody means: a control character, a last quote."""
    return "://" in text and (_CONTROL.search(text) is not None or text[-1:] in _QUOTE_MARKS)


def _reason(text: str) -> str:
    if "://" in text and _CONTROL.search(text):
        return "there is a line break or another control character inside"
    if _ASSIGNMENT.match(text):
        return "it begins with the name of a variable: leave that and the = out"
    if text[:1] in _QUOTE_MARKS or ("://" in text and text[-1:] in _QUOTE_MARKS):
        return "there is a quotation mark at one end and none at the other"
    if found := _foreign_scheme(text):
        return found
    if "://" in text and " " in text:
        return "there is a space inside: write %20 for one that belongs there"
    return _foreign_parameter(text)


def _foreign_scheme(text: str) -> str:
    scheme = text.partition(":")[0].lower()
    family = scheme.partition("+")[0]
    if ":" in text and (scheme in _OTHER_SCHEMES or family in _OTHER_SCHEMES):
        return f"{family!r} is not PostgreSQL's scheme"
    if any(sign in text for sign in ("${", "$(", "{{")):
        return "a variable in it has not been filled in"
    return "it does not begin with PostgreSQL's scheme" if _ANY_SCHEME.match(text) and not _SCHEME.match(text) else ""


def _foreign_parameter(text: str) -> str:
    head, _, query = text.partition("?")
    if _SCHEME.match(text) is None or "@" in query:
        return ""
    names = [name for name, _ in parse_qsl(query, keep_blank_values=True) if name in _FOREIGN_PARAMETERS]
    if not head or not names:
        return ""
    remedy = "write sslmode=require" if names[0] == "ssl" else "leave it out"
    return f"{names[0]!r} is a parameter of another driver, which libpq does not know: {remedy}"
