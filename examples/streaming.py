"""A stream that is retried until its first item, and tells what had arrived when it breaks later.

Prints:

    Once upon a time there was a model.
    Once upon a time [broken after 2 pieces: APIConnectionError]
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from resilience_kit import ResilienceConfig, with_resilience
from resilience_kit.errors import APIConnectionError, StreamInterruptedError
from resilience_kit.testing import sequence

#: Ten seconds for the first piece, five between two.
CONFIG = ResilienceConfig.from_strategy("balanced").replace(first_item_timeout=10.0, idle_timeout=5.0)


async def pieces(*, fragile: bool) -> AsyncGenerator[str, None]:
    """Stand in for the stream of your client."""
    for number, piece in enumerate(("Once upon", " a time", " there was", " a model.")):
        if fragile and number > 1:
            raise APIConnectionError("reset in the middle")
        yield piece


connect = sequence(pieces, [APIConnectionError("reset before the first piece")])


@with_resilience("tell", custom_config=CONFIG)
async def tell(*, fragile: bool) -> AsyncGenerator[str, None]:
    async for piece in connect(fragile=fragile):
        yield piece


async def show(*, fragile: bool) -> None:
    try:
        async with aclosing(tell(fragile=fragile)) as story:
            async for piece in story:
                print(piece, end="")
        print()
    except StreamInterruptedError as error:
        print(f" [broken after {error.delivered} pieces: {type(error.__cause__).__name__}]")


def main() -> None:
    asyncio.run(show(fragile=False))
    asyncio.run(show(fragile=True))


if __name__ == "__main__":
    main()
