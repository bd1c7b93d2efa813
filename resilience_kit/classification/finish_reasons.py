"""Verdicts of responses whose model stopped for a reason that makes them useless."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from resilience_kit.classification.providers import normalize_code
from resilience_kit.classification.verdicts import CONTENT_FILTER, CONTEXT_LENGTH, SERVER_ERROR
from resilience_kit.outcome import Verdict

_MAX_CHOICES = 8
_FINISH_KEYS = ("finish_reason", "finishReason", "stop_reason", "stopReason")

# Finish reasons that make a response useless.
FINISH_REASONS: dict[str, Verdict] = {
    "contentfilter": CONTENT_FILTER,
    "contentfiltered": CONTENT_FILTER,
    "safety": CONTENT_FILTER,
    "imagesafety": CONTENT_FILTER,
    "recitation": CONTENT_FILTER,
    "prohibitedcontent": CONTENT_FILTER,
    "blocklist": CONTENT_FILTER,
    "spii": CONTENT_FILTER,
    "refusal": CONTENT_FILTER,
    "guardrailintervened": CONTENT_FILTER,
    "sensitive": CONTENT_FILTER,
    "errortoxic": CONTENT_FILTER,
    "modelcontextwindowexceeded": CONTEXT_LENGTH,
    "modellength": CONTEXT_LENGTH,
    "errorlimit": CONTEXT_LENGTH,
    "error": SERVER_ERROR,
    "networkerror": SERVER_ERROR,
}


def finish_reason_verdict(top: Mapping[object, object]) -> Verdict | None:
    """Return the verdict of a finish reason or a refused prompt in a response that is no error, None without one."""
    feedback = top.get("promptFeedback") or top.get("prompt_feedback")
    if isinstance(feedback, Mapping) and (feedback.get("blockReason") or feedback.get("block_reason")):
        return CONTENT_FILTER
    incomplete = top.get("incomplete_details")
    reasons = [incomplete.get("reason")] if isinstance(incomplete, Mapping) else []
    for answer in (top, *choices(top)):
        reasons.extend(answer.get(key) for key in _FINISH_KEYS)
        message = answer.get("message")
        if isinstance(message, Mapping) and message.get("refusal"):
            return CONTENT_FILTER
    found = (FINISH_REASONS.get(normalize_code(reason) or reason) for reason in reasons if isinstance(reason, str))
    return next((verdict for verdict in found if verdict is not None), None)


def choices(top: Mapping[object, object]) -> Iterator[Mapping[object, object]]:
    """Yield the first choices of a model's response."""
    for key in ("choices", "candidates", "output"):
        answers = top.get(key)
        if isinstance(answers, list):
            yield from (answer for answer in answers[:_MAX_CHOICES] if isinstance(answer, Mapping))
