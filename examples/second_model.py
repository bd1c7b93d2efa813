"""A second model answers while the first is down, at no cost of waiting once its circuit is open.

Prints:

    small model: Question 1?
    small model: Question 2?
    small model: Question 3?
    the large model was asked 3 times; its circuit is open
"""

from __future__ import annotations

import asyncio

from resilience_kit import get_orchestrator, with_resilience
from resilience_kit.testing import after

large_model = after(lambda _question: "never", 0, ConnectionRefusedError("nobody listens"))


@with_resilience("small-model", strategy="aggressive")
async def ask_small(question: str) -> str:
    return f"small model: {question}"


@with_resilience("large-model", strategy="aggressive", fallback=ask_small)
async def ask(question: str) -> str:
    return large_model(question)


async def ask_all() -> None:
    for number in (1, 2, 3):
        print(await ask(f"Question {number}?"))


def main() -> None:
    asyncio.run(ask_all())
    breaker = get_orchestrator().get_circuit_breaker("large-model")
    print(f"the large model was asked {large_model.calls} times; its circuit is {breaker.state.value}")


if __name__ == "__main__":
    main()
