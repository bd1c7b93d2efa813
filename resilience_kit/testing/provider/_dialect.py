"""What a dialect is: how one service's API reads a request and words its answers. Its modules are the dialects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Protocol

from resilience_kit.testing.provider._common import Reply
from resilience_kit.testing.provider.faults import Fault, FaultKind, ReceivedRequest
from resilience_kit.testing.provider.limits import LimitRejection, Quota

Body = Mapping[str, object]


class ParsedRequest:
    """A request as its dialect reads it. `wrong`: status and message of a refusal when the request itself is wrong."""

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
        """The answer and its usage. The text is asked for once, when somebody wants to know."""
        prompt = self.dialect.prompt(self.body)
        return Reply.for_prompt(prompt, self._make_reply(prompt), self.dialect.max_tokens(self.body))


class Dialect(Protocol):
    """One service's API."""

    @property
    def STREAM_TYPE(self) -> str:  # noqa: N802 - a constant of the module
        """The content type of a streamed answer."""

    def prompt(self, body: Body, /) -> str:
        """All the text that is put to the model."""

    def max_tokens(self, body: Body, /) -> int | None:
        """The limit on the answer, None without one."""

    def tokens(self, parsed: ParsedRequest, /) -> int:
        """What a tokens-per-minute limit counts for a request."""

    def streams(self, parsed: ParsedRequest, /) -> bool:
        """Whether the answer is streamed."""

    def completion(self, parsed: ParsedRequest, /) -> object:
        """A plain answer."""

    def stream_events(self, parsed: ParsedRequest, /) -> list[bytes]:
        """A streamed answer."""

    def stream_error(self, request_id: str, /) -> bytes:
        """The event of a stream that fails after its 200."""

    def headers(self, request_id: str, fault: Fault, quota: Quota | None, /) -> dict[str, str]:
        """Request id and rate limits."""

    def hint(self, wait: float, /) -> float | None:
        """The wait in seconds as the service tells it when a limit is exceeded; None when it keeps it to itself."""

    def error(self, kind: FaultKind, request_id: str, rejection: LimitRejection | None, /) -> tuple[int, object] | None:
        """Status and body of a fault; None when the fault is not told by an error object."""

    def request_error(self, status: int, message: str, request_id: str, /) -> tuple[int, object]:
        """Status and body for a request that is itself wrong. A `str` is HTML."""
