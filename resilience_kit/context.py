"""What a protected function may ask about the call that it runs in, and what a caller may say of the calls that it makes.

Carried by a context variable, so it reaches tasks started by the call and threads started with a copied context
(`asyncio.to_thread` and `in_thread=True` copy it, a bare `threading.Thread` does not).
"""

from __future__ import annotations

import uuid
from contextvars import ContextVar, Token
from enum import IntEnum
from typing import TYPE_CHECKING, Literal, Protocol, overload

from resilience_kit._checks import Checks
from resilience_kit._fork import Mutex

_key_lock = Mutex()


class CallContext(Protocol):
    """One call under way."""

    def remaining(self) -> float | None:
        """Seconds until the nearest deadline around; None without one."""
        ...

    def key(self) -> str | None:
        """The same for all attempts of the call."""
        ...


class KeyHolder:
    """Makes a key when it is first asked for. Thread-safe. Subclasses have `_key`, None at the start."""

    if TYPE_CHECKING:
        _key: str | None
    else:
        __slots__ = ()

    def key(self) -> str:
        """See `idempotency_key`."""
        with _key_lock:
            if self._key is None:
                self._key = str(uuid.uuid4())
            return self._key


current_call: ContextVar[CallContext | None] = ContextVar("resilience_kit_call", default=None)


@overload
def remaining_time() -> float | None: ...


@overload
def remaining_time(at_most: float) -> float: ...


def remaining_time(at_most: float | None = None) -> float | None:
    """Seconds that the protected call around still has, never below 0.0; None outside of one and where there is no deadline.

    Hand it to whatever can be told how long it may take: a client's own timeout, a query's, a subprocess's. Most of them take
    None for "wait for ever", so tell what is the longest in any case: `timeout=remaining_time(at_most=60.0)`. The attempt
    timeout counts too, so for a plain function, which cannot be interrupted, this is the way to obey it.
    """
    call = current_call.get()
    left = None if call is None else call.remaining()
    if at_most is None:
        return left
    return at_most if left is None else min(left, at_most)


def idempotency_key() -> str | None:
    """A key that stays the same over all attempts of the protected call around; None outside of one.

    Send it along where the service knows such keys, and a repeated request is carried out once. An operation has a key when it
    has a deadline, an attempt timeout or a guard, or is configured with `idempotency_key=True`.
    """
    call = current_call.get()
    return None if call is None else call.key()


class Priority(IntEnum):
    """Who is served first where calls queue, and who is refused last."""

    LOW = 0
    NORMAL = 1
    HIGH = 2


current_priority: ContextVar[Priority] = ContextVar("resilience_kit_priority", default=Priority.NORMAL)


class priority:  # noqa: N801 - a context manager, named as functions are
    """Gives the calls made within a `with` block a priority: "low", "normal" or "high".

    Where calls queue for a limit, higher ones go first, and lower ones are the first to be refused. As a context variable it
    reaches tasks started within the block, and threads with a copied context. Raises `ConfigurationError` for another name.
    """

    __slots__ = ("_level", "_tokens")

    def __init__(self, level: Literal["low", "normal", "high"] | Priority) -> None:
        self._level = _priority_named(level)
        self._tokens: list[Token[Priority]] = []

    def __enter__(self) -> Priority:
        self._tokens.append(current_priority.set(self._level))
        return self._level

    def __exit__(self, *_: object) -> None:
        current_priority.reset(self._tokens.pop())


def _priority_named(level: object) -> Priority:
    if isinstance(level, Priority):
        return level
    checks = Checks("priority")
    checks.one_of("level", level, [each.name.lower() for each in Priority])
    checks.done()
    return Priority[str(level).upper()]
