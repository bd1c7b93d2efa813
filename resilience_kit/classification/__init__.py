"""Classification of errors: what failed, and what that means for the next attempt.

    verdict = classify(error)                        any exception
    verdict = classify_response(429, headers, body)  an HTTP response
    verdict = response_error(200, headers, body)     an error under a success status, None for no error
    verdict = event_error(name, data)                the same for one server-sent event
    forget = register_classifier(MyError, verdict)    your own exceptions

The rules and their precedence are in `response` and `exceptions`; the meanings of the providers' codes and phrases are data, in
`providers` and `phrases`. Nothing here raises, waits, or imports a client library.
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
