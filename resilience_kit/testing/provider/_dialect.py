"""The interface of a dialect: how one service's API parses a request and formats its responses. Modules implement it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Protocol

from resilience_kit.testing.provider._common import Reply
from resilience_kit.testing.provider.faults import Fault, FaultKind, ReceivedRequest
from resilience_kit.testing.provider.limits import LimitRejection, Quota

Body = Mapping[str, object]


class ParsedRequest:
    """A request as its dialect parses it. `wrong`: status and message for an invalid request."""

    def __init__(
        self,
        request: ReceivedRequest,
        dialect: Dialect,
        body: Body,
        make_reply: Callable[[str], str],
        wrong: tuple[int, str] | None = None,
    ) -> None:
        self.request, self.dialect, self.body, self.wrong = request, dialect, body, wrong
        self._make_reply = make_reply

    @property
    def path(self) -> str:
        return self.request.path

    @property
    def request_id(self) -> str:
        return f"req_{self.request.number:06d}"

    @property
    def model(self) -> str:
        return str(self.body.get("model", "fake-model"))

    @cached_property
    def reply(self) -> Reply:
        """Return the response's text and usage, computed once, at the first access."""
        prompt = self.dialect.prompt(self.body)
        return Reply.for_prompt(prompt, self._make_reply(prompt), self.dialect.max_tokens(self.body))


class Dialect(Protocol):
    """One service's API."""

    @property
    def STREAM_TYPE(self) -> str:  # noqa: N802 - a constant of the module
        """Return the content type of a streamed response."""

    def prompt(self, body: Body, /) -> str:
        """Return all the text that is sent to the model."""

    def max_tokens(self, body: Body, /) -> int | None:
        """Return the limit on the response, None without one."""

    def tokens(self, parsed: ParsedRequest, /) -> int:
        """Return the tokens that a tokens-per-minute limit counts for a request."""

    def streams(self, parsed: ParsedRequest, /) -> bool:
        """Return whether the response is streamed."""

    def completion(self, parsed: ParsedRequest, /) -> object:
        """Return a plain response."""

    def stream_events(self, parsed: ParsedRequest, /) -> list[bytes]:
        """Return a streamed response."""

    def stream_error(self, request_id: str, /) -> bytes:
        """Return the event of a stream that fails after its 200."""

    def headers(self, request_id: str, fault: Fault, quota: Quota | None, /) -> dict[str, str]:
        """Return the headers with request id and rate limits."""

    def hint(self, wait: float, /) -> float | None:
        """Return the wait in seconds as the service sends it when a limit is exceeded; None when it sends none."""

    def error(self, kind: FaultKind, request_id: str, rejection: LimitRejection | None, /) -> tuple[int, object] | None:
        """Return status and body of a fault; None for a fault without an error object."""

    def request_error(self, status: int, message: str, request_id: str, /) -> tuple[int, object]:
        """Return status and body for an invalid request. A `str` is HTML."""
