"""What a protected function may ask about the call that it runs in.

Carried by a context variable, so it reaches tasks started by the call and threads started with a copied context
(`asyncio.to_thread` and `in_thread=True` copy it, a bare `threading.Thread` does not).
"""

from __future__ import annotations

import uuid
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol, overload

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
