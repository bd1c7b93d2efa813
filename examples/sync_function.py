"""A plain function under a strategy: retried, counted, refused while its service is down.

A plain function cannot be interrupted, so it hands the time that is left to whatever waits in it.

Prints:

    asking with a timeout of 5 s
    asking with a timeout of 5 s
    a short summary
    {'total_calls': 1, 'successful_calls': 1, 'retry_attempts': 1}
"""

from __future__ import annotations

from resilience_kit import get_orchestrator, remaining_time, with_resilience
from resilience_kit.testing import fails_then_succeeds


def post(prompt: str, *, timeout: float | None) -> str:
    """Stand in for your client's own call, which takes a timeout."""
    assert prompt
    print(f"asking with a timeout of {timeout:.0f} s")
    return answer()


answer = fails_then_succeeds(lambda: "a short summary", 1, ConnectionResetError("reset by peer"))


@with_resilience("summarize", strategy="aggressive", attempt_timeout=5.0)
def summarize(text: str) -> str:
    return post(f"Summarize: {text}", timeout=remaining_time(at_most=60.0))


def main() -> None:
    print(summarize("a long report"))
    numbers = get_orchestrator().get_metrics("summarize")
    print({name: numbers[name] for name in ("total_calls", "successful_calls", "retry_attempts")})


if __name__ == "__main__":
    main()
