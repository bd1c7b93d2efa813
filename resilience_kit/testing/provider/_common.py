"""Shared by the dialects: the reply with its token counts, text out of messages, durations, and server-sent events.

A token is a word here, so that a test can count usage by hand.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reply:
    """The response's text, whether `max_tokens` cut it, and the usage in tokens (words)."""

    text: str
    is_truncated: bool
    input_tokens: int

    @classmethod
    def for_prompt(cls, prompt: str, answer: str, max_tokens: int | None) -> Reply:
        """Return the reply to a prompt, at most `max_tokens` words of it."""
        words = answer.split(" ")
        kept = words if max_tokens is None else words[:max_tokens]
        return cls(" ".join(kept), len(kept) < len(words), max(1, len(prompt.split())))

    @property
    def chunks(self) -> list[str]:
        """Return the text in pieces that join to the complete text."""
        first, *rest = self.text.split(" ")
        return [first, *(f" {word}" for word in rest)]

    @property
    def output_tokens(self) -> int:
        """Return the number of words of the reply."""
        return len(self.chunks)

    @property
    def tokens(self) -> int:
        """Return the tokens of prompt and reply."""
        return self.input_tokens + self.output_tokens


def text_of(part: object) -> str:
    """Return the text inside messages: strings, lists of parts, and mappings with `content` or `text`."""
    if isinstance(part, str):
        return part
    if isinstance(part, list):
        return " ".join(filter(None, map(text_of, part)))
    if isinstance(part, Mapping):
        return text_of(part.get("content", part.get("text")))
    return ""


def number(value: object) -> int | None:
    """Return a positive int, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def go_duration(seconds: float) -> str:
    """Format seconds as in OpenAI's headers, as Go's durations: `12ms`, `6.2s`, `6m0s`. Rounds up to milliseconds."""
    milliseconds = ceil_milliseconds(seconds)
    if milliseconds < 1000:  # noqa: PLR2004 - a second's
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:g}s"
    return f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}" if minutes else text


def ceil_milliseconds(seconds: float) -> int:
    """Round up to milliseconds, ignoring floating-point error."""
    return math.ceil(round(seconds * 1000, 3))


def encode(value: object) -> bytes:
    """Encode as compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


def data_event(value: object) -> bytes:
    """Return a server-sent event without a name."""
    return b"data: " + encode(value) + b"\n\n"


def named_event(name: str, value: Mapping[str, object]) -> bytes:
    """Return a server-sent event whose data repeats its name as `type`."""
    return b"event: " + name.encode() + b"\n" + data_event({"type": name, **value})
