"""The official OpenAI client, asynchronous, many calls at once, on a service that has a bad minute.

The service here is the fake provider; for the real one leave out `base_url`. Needs the extra `testing`, and openai.

Prints:

    20 of 20 answered
    a retry was needed: True
"""

from __future__ import annotations

import asyncio

from openai import AsyncOpenAI

from resilience_kit import ResilienceConfig, RetryConfig, get_orchestrator, with_resilience
from resilience_kit.testing import FakeAIProvider, Fault, SeededFaults

#: A strategy's numbers, with short waits for this example's sake.
CONFIG = ResilienceConfig.from_strategy("balanced").replace(retry=RetryConfig(max_attempts=6, base_delay=0.02))


class Assistant:
    """Asks a model. One client serves all calls; its own retries are off."""

    def __init__(self, base_url: str) -> None:
        self.client = AsyncOpenAI(base_url=base_url, api_key="any", max_retries=0)

    @with_resilience("assistant", custom_config=CONFIG)
    async def ask(self, question: str) -> str:
        """Ask one question."""
        answer = await self.client.chat.completions.create(model="any", messages=[{"role": "user", "content": question}])
        return answer.choices[0].message.content or ""


async def ask_all(base_url: str) -> None:
    assistant = Assistant(base_url)
    async with assistant.client:
        answers = await asyncio.gather(*(assistant.ask(f"Question {number}?") for number in range(20)))
    print(f"{sum(map(bool, answers))} of {len(answers)} answered")


def main() -> None:
    bad_minute = SeededFaults({Fault.rate_limited(0.02): 0.2, Fault.server_error(): 0.05}, seed=3)
    with FakeAIProvider(bad_minute) as provider:
        asyncio.run(ask_all(provider.openai_url))
    print("a retry was needed:", get_orchestrator().get_metrics("assistant")["retry_attempts"] > 0)


if __name__ == "__main__":
    main()
