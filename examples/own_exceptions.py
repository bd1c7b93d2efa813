"""Tell the kit what the exceptions of your own client mean.

Prints:

    ModelIsLoadingError: overloaded, retryable: True, after 0.1 s
    TokenExpiredError: auth, retryable: False, after None s
    ready
"""

from __future__ import annotations

from resilience_kit import FailureKind, Verdict, classify, with_resilience
from resilience_kit.classification import register_classifier
from resilience_kit.testing import fails_then_succeeds


class GatewayError(Exception):
    """What our gateway answers, with its own hint."""

    def __init__(self, hint_ms: int | None = None) -> None:
        super().__init__(f"the gateway says {type(self).__name__}")
        self.hint_ms = hint_ms


class ModelIsLoadingError(GatewayError):
    """The model is not in memory yet."""


class TokenExpiredError(GatewayError):
    """Somebody has to log in again."""


def judge_loading(error: ModelIsLoadingError) -> Verdict:
    hint = None if error.hint_ms is None else error.hint_ms / 1000
    return Verdict(FailureKind.OVERLOADED, retryable=True, counts_against_breaker=False, retry_after=hint)


def main() -> None:
    register_classifier(ModelIsLoadingError, judge_loading)
    register_classifier(TokenExpiredError, Verdict(FailureKind.AUTH, retryable=False, counts_against_breaker=False))
    for error in (ModelIsLoadingError(100), TokenExpiredError()):
        verdict = classify(error)
        print(f"{type(error).__name__}: {verdict.kind}, retryable: {verdict.retryable}, after {verdict.retry_after} s")

    ask = with_resilience("ask", strategy="balanced")(fails_then_succeeds(lambda: "ready", 2, ModelIsLoadingError(100)))
    print(ask())


if __name__ == "__main__":
    main()
