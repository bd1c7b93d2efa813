"""The official SDKs above a transport, with streams that are cut at every byte: a short answer never passes for a whole one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from resilience_kit import AIServiceResilience, CircuitBreakerConfig, ResilienceConfig
from resilience_kit.errors import StreamInterruptedError
from resilience_kit.http import AsyncResilientTransport, ResilientTransport

EVENTS = {"content-type": "text/event-stream; charset=utf-8"}


def events(*data: Any, named: bool) -> str:
    """Events as a service sends them."""
    return "".join((f"event: {each['type']}\n" if named else "") + f"data: {json.dumps(each)}\n\n" for each in data)


def chunk(text: str = "", finish: str | None = None) -> dict[str, Any]:
    """A chunk of a chat completion."""
    delta = {"content": text} if text else {}
    return {"id": "1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


RESPONSE = {"id": "r", "object": "response", "output": [], "error": None, "tools": []}
PARTS: dict[str, list[Any]] = {
    "chat": [chunk("The "), chunk("answer"), chunk(finish="stop")],
    "responses": [
        {"type": "response.created", "sequence_number": 0, "response": {**RESPONSE, "status": "in_progress"}},
        {"type": "response.output_text.delta", "sequence_number": 1, "delta": "The ", "item_id": "i", "output_index": 0},
        {"type": "response.output_text.delta", "sequence_number": 2, "delta": "answer", "item_id": "i", "output_index": 0},
        {"sequence_number": 3, "type": "response.completed", "response": {**RESPONSE, "status": "completed"}},
    ],
    "messages": [
        {"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "m"}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "The "}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "answer"}},
        {"type": "message_stop"},
    ],
}


def text_of(name: str, *, named: bool) -> str:
    """The whole stream of a protocol."""
    return events(*PARTS[name], named=named) + ("data: [DONE]\n\n" if name == "chat" else "")


class Sdk:
    """One client of an SDK, over a transport of ours, whose answers are given."""

    def __init__(self, name: str, *, asynchronous: bool) -> None:
        self.name, self.asynchronous, self.body = name, asynchronous, b""
        kind = AsyncResilientTransport if asynchronous else ResilientTransport
        transport = kind(
            httpx2.MockTransport(self._answer),
            config=ResilienceConfig(retry=None, circuit_breaker=CircuitBreakerConfig(failure_threshold=10**6)),
            resilience=AIServiceResilience(),
            pacing=None,
        )
        module: Any = anthropic if name == "messages" else openai
        plain = module.DefaultAsyncHttpxClient if asynchronous else module.DefaultHttpxClient
        prefix = "Anthropic" if name == "messages" else "OpenAI"
        client = getattr(module, ("Async" if asynchronous else "") + prefix)
        self.client = client(api_key="any", max_retries=0, http_client=plain(transport=transport))

    def _answer(self, _request: httpx2.Request) -> httpx2.Response:
        body = self.body

        class Body(httpx2.SyncByteStream, httpx2.AsyncByteStream):
            def __iter__(self) -> Iterator[bytes]:
                yield from (body[at : at + 50] for at in range(0, len(body), 50))

            async def __aiter__(self) -> AsyncIterator[bytes]:
                for piece in self:
                    yield piece

        return httpx2.Response(200, headers=EVENTS, stream=Body())

    async def text(self, body: bytes) -> str:
        """The words of a stream."""
        self.body = body
        messages: list[Any] = [{"role": "user", "content": "What is the answer?"}]
        if self.name == "chat":
            source = self.client.chat.completions.create(model="m", messages=messages, stream=True)
        elif self.name == "responses":
            source = self.client.responses.create(model="m", input="What is the answer?", stream=True)
        else:
            source = self.client.messages.create(model="m", max_tokens=9, messages=messages, stream=True)
        if self.asynchronous:
            return "".join([self._word(event) async for event in await source])
        return "".join(map(self._word, source))

    def _word(self, event: Any) -> str:
        if self.name == "chat":
            return event.choices[0].delta.content or ""
        if self.name == "responses":
            return event.delta if event.type == "response.output_text.delta" else ""
        return event.delta.text if event.type == "content_block_delta" else ""


@pytest.fixture(params=["chat", "responses", "messages"])
def name(request: pytest.FixtureRequest) -> str:
    """Each protocol."""
    return request.param


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def sdk(name: str, request: pytest.FixtureRequest) -> Sdk:
    """Its SDK, of either kind."""
    return Sdk(name, asynchronous=request.param)


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
async def test_a_short_answer_never_passes_for_a_whole_one(sdk: Sdk, line_end: str) -> None:
    """At every byte: an error before the proof of the end, and from there on all the words."""
    whole = text_of(sdk.name, named=sdk.name != "chat").replace("\n", line_end).encode()
    ended = []
    for length in range(len(whole) + 1):
        try:
            assert "The answer" == await sdk.text(whole[:length])
        except (openai.OpenAIError, anthropic.AnthropicError, StreamInterruptedError):
            ended.append(False)
        else:
            ended.append(True)
    proof = next(at for at, is_whole in enumerate(ended) if is_whole)
    assert [False] * proof + [True] * (len(whole) + 1 - proof) == ended
    last = events(PARTS[sdk.name][-1], named=sdk.name != "chat").replace("\n", line_end).encode()
    assert whole.index(last) + len(last.rstrip()) == proof


async def test_a_stream_without_names_is_whole(sdk: Sdk) -> None:
    """The type stands in the data alone, and not at its beginning, as some gateways send it; spaces change nothing."""
    if sdk.name == "messages":
        pytest.skip("the SDK looks at names only")
    assert "The answer" == await sdk.text(text_of(sdk.name, named=False).encode())
    with pytest.raises(StreamInterruptedError):
        await sdk.text(events(*PARTS[sdk.name][:-1], named=False).encode())
