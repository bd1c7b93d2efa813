"""The client of the joke API. Its circuit opens when the API is down, and then nobody asks it for a while."""

from __future__ import annotations

from typing import Any, Final

from pydantic import ValidationError

from resilience_kit import AIServiceResilience, CircuitBreakerConfig, ResilienceConfig
from resilience_kit.errors import ResourceNotFoundError, ServerError
from resilience_kit.http import AsyncAPIClient

from .models import Joke
from .settings import Settings

OPERATION: Final = "joke-api"


class JokeApi:
    """Asks for jokes. One attempt a call: the queue tries again, and it does so after a restart, too."""

    def __init__(self, settings: Settings, base_url: str, kit: AIServiceResilience) -> None:
        self._client = AsyncAPIClient(base_url, timeout=settings.api_timeout)
        self._ask = kit.with_resilience(OPERATION, custom_config=_protection(settings))(self._client.get)
        self._breaker = kit.get_circuit_breaker(OPERATION)
        self.close = self._client.close

    async def joke(self, *, joke_id: int | None = None, topic: str | None = None) -> Joke:
        """Fetch a joke by its number, of a topic, or any. Raises the kit's errors."""
        answer = await self._ask(_path(joke_id, topic))
        if answer == []:
            raise ResourceNotFoundError("the joke API has no jokes of this topic")
        try:
            return Joke.model_validate(answer[0] if isinstance(answer, list) else answer)
        except ValidationError:
            raise ServerError("the joke API answered with something that is no joke") from None

    def circuit(self) -> dict[str, Any]:
        """Whether the circuit is closed, open or half-open, and for how many seconds it stays open."""
        return {"circuit": self._breaker.state.value, "open_remaining": round(min(self._breaker.open_remaining, 1e6), 1)}


def _protection(settings: Settings) -> ResilienceConfig:
    return ResilienceConfig(
        retry=None,
        circuit_breaker=CircuitBreakerConfig(
            failure_threshold=settings.api_failures, recovery_timeout=settings.api_recovery_timeout
        ),
        deadline=settings.api_timeout,
    )


def _path(joke_id: int | None, topic: str | None) -> str:
    if joke_id is not None:
        return f"/jokes/{joke_id}"
    return "/jokes/random" if topic is None else f"/jokes/{topic}/random"
