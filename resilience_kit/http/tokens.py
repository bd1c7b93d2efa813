"""Token limits: the most that a request may use, and the usage that its response reports.

    RateLimitConfig(rate=30_000, period=60.0, cost=tokens_at_most, usage=tokens_used)

Both accept the requests and responses of transports, of the JSON clients and of the official SDKs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from resilience_kit.classification.safe_access import attribute

#: OpenAI's names, old and new, which Anthropic and the Responses API share.
_OUTPUT_LIMIT_FIELDS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
#: Names of the same number; Anthropic counts what it reads from its cache, or writes there, beside the input.
_USAGE_FIELDS: Final = (
    ("input_tokens", "prompt_tokens"),
    ("output_tokens", "completion_tokens"),
    ("cache_creation_input_tokens",),
    ("cache_read_input_tokens",),
)
_TOTAL: Final = "total_tokens"
_DATA: Final = frozenset({"data", "file_data"})
_DATA_URL: Final = "data:"
_MAX_TOKENS: Final = 1e12


def max_tokens_estimate(request: object) -> float:
    """Return an upper estimate of the tokens of a request, for `cost`: the bytes of its text and its limit of output tokens.

    A token is at least one byte. Everything in the JSON of the body counts, names and tools too, each number as one; `n` choices
    count n times. Images, audio and files given as data count nothing, as their tokens do not follow from their size, nor does
    an output without a limit or a body that is no JSON: set `max_tokens`.

    `request`: of httpx or httpx2, one that a JSON client is asked for, or a mapping with its fields. Never raises.
    """
    body = _body(request)
    if not isinstance(body, Mapping):
        return 0.0
    answers = max(1.0, _number(body.get("n")) or 1.0)
    return _size(body) + answers * max(_number(body.get(name)) or 0.0 for name in _OUTPUT_LIMIT_FIELDS)


def tokens_used(response: object) -> float | None:
    """Return the tokens that a response reports as used, for `usage`; None if it does not.

    Input, output and what was read from or written to a cache. Output alone, as in one event of Anthropic, is not enough.
    `response`: the `ResponseSummary` of a transport, also of a stream; JSON; or an object of an SDK. Never raises.
    """
    usage = _field(response, "usage")
    total = _number(_field(usage, _TOTAL))
    if total is not None:
        return total
    input_tokens, *others = (_first_number(_field(usage, name) for name in names) for names in _USAGE_FIELDS)
    return None if input_tokens is None else input_tokens + sum(number or 0.0 for number in others)


def _body(request: object) -> object:
    if isinstance(request, Mapping):
        return request
    kwargs = attribute(request, "kwargs")
    if not isinstance(kwargs, Mapping):
        return _parsed(attribute(request, "content"))
    return kwargs["json"] if kwargs.get("json") is not None else _parsed(kwargs.get("content"))


def _parsed(text: object) -> object:
    try:
        return json.loads(text) if isinstance(text, str | bytes) else None
    except (ValueError, RecursionError):
        return None


def _size(body: object) -> int:
    """Bytes of all texts, and one for each other value."""
    size, pending = 0, [body]
    while pending:
        each = pending.pop()
        if isinstance(each, str):
            size += _length(each)
        elif isinstance(each, Mapping):
            pending += each
            pending += [value for name, value in each.items() if not (name in _DATA and isinstance(value, str))]
        elif isinstance(each, list | tuple):
            pending += each
        else:
            size += 1
    return size


def _length(text: str) -> int:
    if text.startswith(_DATA_URL):
        return 0
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _field(holder: Any, name: str) -> object:
    return holder.get(name) if isinstance(holder, Mapping) else attribute(holder, name)


def _first_number(values: Iterable[object]) -> float | None:
    return next((number for value in values if (number := _number(value)) is not None), None)


def _number(value: object) -> float | None:
    """Return a number of tokens; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        return None
    return float(min(value, _MAX_TOKENS))
