"""What a guard sees of a response that a transport has read. Decoded and parsed at the first access only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

#: Fields of events with the usage: an OpenAI chunk or Anthropic's `message_delta`, `message_start`, and the Responses API.
_USAGE_PATHS = ("message", "response")


class ResponseSummary:
    """A good response, for the `usage` of a `RateLimitConfig`. Read-only.

    `usage_events`: of a stream of events, the first and the last event with a usage, as text; None for any other response.
    """

    __slots__ = ("_body", "_headers", "_response_class", "_usage_events", "status_code")

    def __init__(
        self,
        status_code: int,
        headers: Mapping[str, str],
        response_class: Any,
        body: Sequence[bytes],
        usage_events: Sequence[str] | None = None,
    ) -> None:
        self.status_code = status_code
        self._headers, self._response_class, self._body, self._usage_events = headers, response_class, body, usage_events

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the response; names in any case."""
        return MappingProxyType(self._headers)

    @property
    def content(self) -> bytes:
        """The body without its encoding; empty of a stream of events, which is not kept."""
        body, encoding = b"".join(self._body), self._headers.get("content-encoding")
        if not encoding or not body:
            return body
        return bytes(self._response_class(self.status_code, headers={"content-encoding": encoding}, content=body).content)

    def json(self) -> Any:
        """Return the body as JSON. Raises ValueError if it is none, such as a stream of events."""
        return json.loads(self.content)

    @property
    def usage(self) -> Mapping[str, Any] | None:
        """The token usage in the response or in the events of its stream; None without one."""
        if self._usage_events is None:
            return _usage_of(_parsed(self.content))
        found: dict[str, Any] = {}
        for event in self._usage_events:
            usage = _usage_of(_parsed(event)) or {}
            found.update({name: value for name, value in usage.items() if value is not None})
        return found or None

    def __repr__(self) -> str:
        return f"<ResponseSummary {self.status_code}>"


def _parsed(text: str | bytes) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _usage_of(body: object) -> Mapping[str, Any] | None:
    return next((each for each in map(_usage, _usage_holders(body)) if isinstance(each, Mapping)), None)


def _usage(holder: object) -> object:
    return holder.get("usage") if isinstance(holder, Mapping) else None


def _usage_holders(body: object) -> Iterator[object]:
    yield body
    if isinstance(body, Mapping):
        yield from (body.get(name) for name in _USAGE_PATHS)
