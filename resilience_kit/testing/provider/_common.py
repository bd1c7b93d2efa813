"""What the dialects share: the reply with its token counts, text out of messages, durations, and server-sent events.

A token is a word here, so that a test can count usage by hand.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer's text, whether `max_tokens` cut it, and the usage in tokens (words)."""

    text: str
    is_truncated: bool
    input_tokens: int

    @classmethod
    def for_prompt(cls, prompt: str, answer: str, max_tokens: int | None) -> Reply:
        """The answer to a prompt, at most `max_tokens` words of it."""
        words = answer.split(" ")
        kept = words if max_tokens is None else words[:max_tokens]
        return cls(" ".join(kept), len(kept) < len(words), max(1, len(prompt.split())))

    @property
    def chunks(self) -> list[str]:
        """The text in pieces that join to the whole."""
        first, *rest = self.text.split(" ")
        return [first, *(f" {word}" for word in rest)]

    @property
    def output_tokens(self) -> int:
        """How many words the answer has."""
        return len(self.chunks)

    @property
    def tokens(self) -> int:
        """Those of the prompt and of the answer."""
        return self.input_tokens + self.output_tokens


def text_of(part: object) -> str:
    """The text inside messages: strings, lists of parts, and mappings with `content` or `text`."""
    if isinstance(part, str):
        return part
    if isinstance(part, list):
        return " ".join(filter(None, map(text_of, part)))
    if isinstance(part, Mapping):
        return text_of(part.get("content", part.get("text")))
    return ""


def number(value: object) -> int | None:
    """A positive int, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def go_duration(seconds: float) -> str:
    """A span as OpenAI's headers write it, which are Go's durations: `12ms`, `6.2s`, `6m0s`. Rounded up to milliseconds."""
    milliseconds = ceil_milliseconds(seconds)
    if milliseconds < 1000:  # noqa: PLR2004 - a second's
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:g}s"
    return f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}" if minutes else text


def ceil_milliseconds(seconds: float) -> int:
    """Rounded up, but not for what floating point added."""
    return math.ceil(round(seconds * 1000, 3))


def encode(value: object) -> bytes:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


def data_event(value: object) -> bytes:
    """A server-sent event without a name."""
    return b"data: " + encode(value) + b"\n\n"


def named_event(name: str, value: Mapping[str, object]) -> bytes:
    """A server-sent event whose data repeats its name as `type`."""
    return b"event: " + name.encode() + b"\n" + data_event({"type": name, **value})
