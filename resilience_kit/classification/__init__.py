"""What went wrong, and what it means for the next attempt.

    verdict = classify(error)                        any exception
    verdict = classify_response(429, headers, body)  an HTTP answer
    verdict = response_error(200, headers, body)     an error under a status of success, None for an answer
    verdict = event_error(name, data)                the same of one server-sent event
    forget = register_classifier(MyError, verdict)    your own exceptions, in one line

The rules and their order of authority stand in `response` and `exceptions`; what each provider's codes and words mean is data,
in `providers` and `wording`. Nothing here raises, waits, or imports a client library.
"""

from __future__ import annotations

from resilience_kit.classification.delivery import sdk_retry_count, transport_retry_count, was_not_sent
from resilience_kit.classification.exceptions import classify, classify_ai_exception
from resilience_kit.classification.registry import register_classifier
from resilience_kit.classification.response import classify_response
from resilience_kit.classification.success_errors import event_error, response_error
from resilience_kit.outcome import FailureKind, Verdict

__all__ = [
    "FailureKind",
    "Verdict",
    "classify",
    "classify_ai_exception",
    "classify_response",
    "event_error",
    "register_classifier",
    "response_error",
    "sdk_retry_count",
    "transport_retry_count",
    "was_not_sent",
]
