"""Excerpts of requests and responses for errors: enough to act on, and nothing that could be a secret.

The message of a response is kept, the rest of its body is not, since services repeat whole requests in it. Values that were sent
in headers, queries or fields with the name of a secret, and everything that looks like a key, are redacted.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from resilience_kit._redaction import REDACTION_PLACEHOLDER, is_secret_name, redact_text
from resilience_kit.classification.body import LONGEST_BODY
from resilience_kit.classification.safe_access import attribute
from resilience_kit.http.headers import header_pairs

LONGEST_EXCERPT: Final = 300
_LONGEST_ID: Final = 128
_LONGEST_VALUE: Final = 4096
_MOST_VALUES: Final = 200
_DEEPEST: Final = 8
#: Shorter values are ordinary words, as in `limit=10`.
_SHORTEST_SECRET: Final = 6
#: Longer texts of a body are prompts or documents.
_LONGEST_NAME: Final = 40

_HARMLESS_HEADERS: Final = frozenset(
    {"accept", "accept-encoding", "connection", "content-type", "user-agent", "anthropic-version"}
)
_REQUEST_ID_HEADERS: Final = (
    "x-request-id",
    "request-id",
    "x-amzn-requestid",
    "apim-request-id",
    "x-ms-request-id",
    "x-goog-request-id",
    "cf-ray",
)
_MESSAGE_FIELDS: Final = (
    "message",
    "detail",
    "error_description",
    "error_message",
    "description",
    "title",
    "error",
    "msg",
    "type",
    "code",
)
_TAG: Final = re.compile(r"<(title|h1|h2)[^>]{0,200}>([^<]{0,400})", re.IGNORECASE)


def excerpt(body: object, secrets: Iterable[str] = ()) -> str | None:
    """Return the error message in a body, at most 300 characters; None without one."""
    message = _find_message(_parsed(body))
    return redacted(message, secrets)[:LONGEST_EXCERPT] or None if message else None


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """Return `text` on one line, without `secrets` and without what looks like one."""
    text = text[:_LONGEST_VALUE]
    for secret in sorted(set(secrets), key=len, reverse=True):
        text = text.replace(secret, REDACTION_PLACEHOLDER)
    return " ".join(redact_text(text).split())


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the request id that the service sent; `headers` have lower-case names."""
    found = next((headers[name] for name in _REQUEST_ID_HEADERS if headers.get(name)), "")
    return found[:_LONGEST_ID] if found.isprintable() and found else None


# --- the message of a body -----------------------------------------------------------------------------------------------


def _parsed(body: object) -> object:
    if isinstance(body, (bytes, bytearray)):
        body = bytes(body[:LONGEST_BODY]).decode("utf-8", "replace")
    if not isinstance(body, str):
        return body
    text = body[:LONGEST_BODY].strip()
    try:
        return json.loads(text) if text.startswith(("{", "[", '"')) else text
    except (ValueError, RecursionError):
        return ""


def _find_message(body: object, depth: int = _DEEPEST) -> str:
    """Return the text itself, the headings of a page, or the first text in a field that usually holds a message."""
    if isinstance(body, str):
        return " ".join(each[1] for each in _TAG.findall(body)) if body.startswith("<") else body
    if depth and isinstance(body, list):
        return next((message for each in body[:_DEEPEST] if (message := _find_message(each, depth - 1))), "")
    if depth and isinstance(body, Mapping):
        return next((message for name in _MESSAGE_FIELDS if (message := _find_message(body.get(name), depth - 1))), "")
    return ""


# --- what was sent -------------------------------------------------------------------------------------------------------


def secrets_of(base_url: str, headers: object, url: object, kwargs: Mapping[str, Any], client: Any = None) -> Iterator[str]:
    """Return the values of a request that must not be repeated. Bounded; called only for an error message.

    `client`: a client of httpx, whose own headers, parameters and cookies are included.
    """
    found = itertools.chain(_request_secrets(base_url, headers, url, kwargs), _client_secrets(client))
    return (text for text, _ in zip(found, range(_MOST_VALUES), strict=False) if len(text) >= _SHORTEST_SECRET)


def _request_secrets(base_url: str, headers: object, url: object, kwargs: Mapping[str, Any]) -> Iterator[str]:
    for address in (base_url, str(url)):
        yield from _url_secrets(address)
    yield from _header_secrets(headers)
    yield from _header_secrets(kwargs.get("headers"))
    for name in ("params", "auth", "cookies"):
        yield from _texts(kwargs.get(name))
    for name in ("json", "data"):
        yield from (text for key, text in _named_texts(kwargs.get(name)) if is_secret_name(key) or len(text) > _LONGEST_NAME)


def _client_secrets(client: Any) -> Iterator[str]:
    yield from _url_secrets(str(attribute(client, "base_url") or ""))
    yield from _header_secrets(attribute(client, "headers"))
    yield from _texts(attribute(client, "params"))
    jar = attribute(attribute(client, "cookies"), "jar")
    values = (attribute(cookie, "value") for cookie in (jar if isinstance(jar, Iterable) else ()))
    yield from (value for value in values if isinstance(value, str))


def _url_secrets(address: str) -> Iterator[str]:
    try:
        parts = urlsplit(address)
    except ValueError:
        return
    yield from (parts.username or "", parts.password or "", parts.query, parts.fragment)
    for pair in parts.query.split("&"):
        yield from (pair.partition("=")[2], unquote(pair.partition("=")[2]))


def _header_secrets(headers: object) -> Iterator[str]:
    for name, value in header_pairs(headers):
        if name.lower() not in _HARMLESS_HEADERS:
            yield value
            yield from value.split()[1:]


def _texts(value: object) -> Iterator[str]:
    return (text for _, text in _named_texts(value))


def _named_texts(value: object, name: str = "", depth: int = _DEEPEST) -> Iterator[tuple[str, str]]:
    """Yield every text in a value, with the name of its field."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, bytes):
        yield name, value.decode("utf-8", "replace")
    elif depth and isinstance(value, Mapping):
        for key, each in value.items():
            yield from _named_texts(each, str(key), depth - 1)
    elif depth and isinstance(value, (list, tuple)):
        for each in value:
            yield from _named_texts(each, name, depth - 1)
