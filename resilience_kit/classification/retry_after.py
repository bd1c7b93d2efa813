"""Extracts the seconds that a service requests to wait.

In this order, the first usable value wins: `retry-after-ms`, `retry-after` (number or HTTP date), the reset of each
exhausted bucket (`x-ratelimit-*`, `ratelimit-*`, `anthropic-ratelimit-*`), a `RetryInfo` in the body, a bare number in
the body. Values that are malformed, negative, not finite or beyond seven days are ignored: a server that requests a
year is wrong, and any shorter value would be invented.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER = 7 * 24 * 3600.0
_MILLISECONDS = 1000.0
_EPOCH_SECONDS, _EPOCH_MILLISECONDS = 1e9, 1e11  # larger numbers are instants, not spans
_LONGEST_TEXT = 64

_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*", re.ASCII)
_SPAN = re.compile(r"(?:([0-9.]+)d)?(?:([0-9.]+)h)?(?:([0-9.]+)m(?!s))?(?:([0-9.]+)s)?(?:([0-9.]+)ms)?", re.ASCII)
_SPAN_UNITS = (86400.0, 3600.0, 60.0, 1.0, 0.001)
_BUCKET = re.compile(r"(?:x-)?ratelimit-remaining(-[a-z-]+)?|(anthropic-ratelimit-[a-z-]+)-remaining", re.ASCII)


def bounded(seconds: object) -> float | None:
    """Return `seconds` if it is a usable wait: a finite number from 0 to seven days."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= MAX_RETRY_AFTER:
        return None
    return float(seconds) + 0.0  # a negative zero becomes a plain one


def instant(value: object) -> float | None:
    """Return the seconds since the epoch of a datetime (naive means UTC), an RFC 3339 or HTTP date, or a number."""
    if isinstance(value, datetime):
        return _timestamp(value)
    if isinstance(value, str):
        return rfc3339(value) if value[:4].isdecimal() else http_date(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if abs(value) < _EPOCH_MILLISECONDS else None


def header_hint(headers: Mapping[str, str], now: object = None) -> float | None:
    """Return the wait that `retry-after-ms` or `retry-after` requests. `headers` has lower-case names."""
    milliseconds = _number(headers.get("retry-after-ms"))
    hint = None if milliseconds is None else bounded(milliseconds / _MILLISECONDS)
    return hint if hint is not None else _retry_after(headers, now)


def reset_hint(headers: Mapping[str, str], now: object = None) -> float | None:
    """Return the longest reset among the exhausted buckets; the others did not cause the rejection."""
    resets = [reset for reset in _exhausted(headers, now) if reset is not None]
    return max(resets, default=None)


def reset_of(text: str | None, headers: Mapping[str, str], now: object = None) -> float | None:
    """Return the seconds until a bucket is full again, from its reset header: a span, seconds, an instant or a date."""
    return _reset(text, headers, now)


def number(text: str | None) -> float | None:
    """Return a plain number of at least zero."""
    return _number(text)


def span(text: object) -> float | None:
    """Return the seconds of a Go or protobuf duration such as `6m0s`, `1h2m3.5s`, `120ms`, `45.8s`."""
    if not isinstance(text, str) or not 0 < len(text) <= _LONGEST_TEXT:
        return None
    match = _SPAN.fullmatch(text.strip())
    if match is None or match.lastindex is None:
        return None
    try:
        return bounded(math.fsum(float(part) * unit for part, unit in zip(match.groups("0"), _SPAN_UNITS, strict=True)))
    except ValueError:  # "1.2.3s"
        return None


def http_date(text: str) -> float | None:
    """Return the instant of an HTTP date in any of its three forms; without a zone it is UTC."""
    if ":" not in text or len(text) > _LONGEST_TEXT:
        return None
    try:
        return _timestamp(parsedate_to_datetime(text))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def rfc3339(text: str) -> float | None:
    """Return the instant of an RFC 3339 text such as `2026-11-21T00:02:51Z`."""
    try:
        return _timestamp(datetime.fromisoformat(text.strip()))
    except (ValueError, OverflowError):
        return None


def _retry_after(headers: Mapping[str, str], now: object) -> float | None:
    text = headers.get("retry-after")
    if text is None:
        return None
    seconds = _number(text)
    return bounded(seconds) if seconds is not None else _until(http_date(text), headers, now)


def _exhausted(headers: Mapping[str, str], now: object) -> Iterator[float | None]:
    for name, value in headers.items():
        if "ratelimit" in name and (match := _BUCKET.fullmatch(name)) and _number(value) == 0.0:
            reset = f"{match[2]}-reset" if match[2] else name.replace("remaining", "reset")
            yield _reset(headers.get(reset), headers, now)


def _reset(text: str | None, headers: Mapping[str, str], now: object) -> float | None:
    if text is None:
        return None
    number = _number(text)
    if number is None:
        seconds = span(text)
        return seconds if seconds is not None else _until(rfc3339(text), headers, now)
    if number < _EPOCH_SECONDS:
        return bounded(number)
    return _until(number if number < _EPOCH_MILLISECONDS else number / _MILLISECONDS, headers, now)


def _until(then: float | None, headers: Mapping[str, str], now: object) -> float | None:
    return None if then is None else bounded(max(0.0, then - _now(headers, now)))


def _now(headers: Mapping[str, str], now: object) -> float:
    """Return the reference time for a date: the caller's, else the response's own, else this machine's."""
    timestamp = instant(now)
    if timestamp is None:
        timestamp = http_date(headers.get("date", ""))
    return datetime.now(UTC).timestamp() if timestamp is None else timestamp


def _number(text: str | None) -> float | None:
    match = None if text is None or len(text) > _LONGEST_TEXT else _NUMBER.fullmatch(text)
    return None if match is None else float(match[1])


def _timestamp(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
