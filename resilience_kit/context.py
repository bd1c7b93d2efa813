"""What a protected function may ask about the call that it runs in, and what a caller may say of the calls that it makes.

Carried by a context variable, so it reaches tasks started by the call and threads started with a copied context
(`asyncio.to_thread` and `in_thread=True` copy it, a bare `threading.Thread` does not).
"""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Iterable
from contextvars import ContextVar, Token
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeVar, overload
from urllib.parse import quote

from resilience_kit._checks import Checks
from resilience_kit._fork import ForkSafeLock

T = TypeVar("T")

_key_lock = ForkSafeLock()
#: Services limit idempotency keys, most of them to 255 characters.
MAX_KEY_LENGTH: Final = 255
_DIGEST_BYTES: Final = 16


class CallContext(Protocol):
    """One call under way."""

    def remaining(self) -> float | None:
        """Seconds until the nearest deadline around; None without one."""
        ...

    def remaining_for_nested_calls(self) -> float | None:
        """Seconds that the calls made within it have; None without a deadline."""
        ...

    def key(self) -> str:
        """Return the key, which is the same for all attempts of the call."""
        ...

    def key_prefix(self) -> str:
        """Return the prefix of the keys of calls made within this one."""
        ...

    def next_number(self, name: str) -> int:
        """Count one more call of `name` that is made within the present attempt, from 1."""
        ...

    def latest_number(self, name: str) -> int:
        """How many there have been so far in the present attempt."""
        ...

    def uncount(self, name: str, number: int) -> None:
        """Forget the call that was counted last, if it has this number: it is made anew under another object."""
        ...

    @property
    def context_id(self) -> int:
        """What the calls made within it know it by."""
        ...


class IdempotencyKeyHolder:
    """Derives the keys of the calls that are made within it, and makes an own one when it is first asked for. Thread-safe.

    The key of a call within another one is the outer key, its operation's name and its number among the calls of that operation
    in the present attempt of the outer call. So an outer call that is repeated, or a job that is run again, gives the same keys,
    and two calls in one attempt have two. Subclasses have `_key` and `_counts`, None at the start.
    """

    if TYPE_CHECKING:
        _key: str | None
        _counts: dict[str, int] | None

        def remaining(self) -> float | None:
            """See `CallContext`."""
            ...
    else:
        __slots__ = ()

    @property
    def context_id(self) -> int:
        """See `CallContext`."""
        return id(self)

    def key(self) -> str:
        """See `idempotency_key`."""
        with _key_lock:
            if self._key is None:
                self._key = str(uuid.uuid4())
            return self._key

    def remaining_for_nested_calls(self) -> float | None:
        """See `CallContext`."""
        return self.remaining()

    def key_prefix(self) -> str:
        """See `CallContext`."""
        return self.key()

    def next_number(self, name: str) -> int:
        """See `CallContext`."""
        with _key_lock:
            if self._counts is None:
                self._counts = {}
            number = self._counts[name] = self._counts.get(name, 0) + 1
            return number

    def latest_number(self, name: str) -> int:
        """See `CallContext`."""
        with _key_lock:
            return 0 if self._counts is None else self._counts.get(name, 0)

    def uncount(self, name: str, number: int) -> None:
        """See `CallContext`."""
        with _key_lock:
            if self._counts is not None and self._counts.get(name) == number:
                self._counts[name] = number - 1


def bounded_key(key: str) -> str:
    """Return `key`, or a digest of it where it is longer than services take or holds what no header may."""
    if len(key) <= MAX_KEY_LENGTH and key.isascii() and key.isprintable():
        return key
    return hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()


def nested_key(outer: CallContext, operation: str, number: int) -> str:
    """Derive the key of a call within `outer`: the `number`-th one of `operation` in its present attempt."""
    return bounded_key(f"{outer.key_prefix()}/{quote(operation, safe='')}/{number}")


def request_key(*parts: bytes, is_repetition: bool = False) -> str | None:
    """Derive the key of a request from the call around it and what is sent, in parts; None outside of a call.

    The same requests in one attempt are counted; one that `is_repetition` has the key of the one before it.
    """
    call = current_call.get()
    if call is None:
        return None
    digest = _digest_of(parts)
    name = f"request {digest.hex()}"
    number = max(1, call.latest_number(name)) if is_repetition else call.next_number(name)
    text = f"{call.key_prefix()}/{number}"
    return hashlib.blake2b(text.encode(errors="surrogatepass"), key=digest, digest_size=_DIGEST_BYTES).hexdigest()


class TrialObserver(Protocol):
    """Who has to know that what it runs was the trial call of a half-open circuit, and failed: a job, whom that must not cost."""

    def trial_failed(self, error: BaseException, seconds: float) -> None:
        """Handle a trial call that ended in `error`; the circuit stays open for `seconds`."""
        ...


current_call: ContextVar[CallContext | None] = ContextVar("resilience_kit_call", default=None)
trial_observer: ContextVar[TrialObserver | None] = ContextVar("resilience_kit_trial_observer", default=None)


def _digest_of(parts: Iterable[bytes]) -> bytes:
    """Digest texts that stand beside each other: no two lists of them have the same."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()


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
    remaining = None if call is None else call.remaining()
    if at_most is None:
        return remaining
    return at_most if remaining is None else min(remaining, at_most)


def idempotency_key() -> str | None:
    """Return a key that is the same for all attempts of the protected call around; None outside of one.

    Send it along where the service knows such keys, and a repeated request is carried out once. An operation has a key when it
    has a deadline, an attempt timeout or a guard, is configured with an `idempotency_key`, or runs inside a call or job that
    has one.

    Inside another call or a job it is derived from that one's: the outer key, the operation and the number of the call among
    those of the operation in the present attempt, so a job that is run again has the same keys. Calls that run concurrently have
    no stable order: configure those with `idempotency_key=` a function of their arguments.
    """
    call = current_call.get()
    return None if call is None else call.key()


class Priority(IntEnum):
    """Who is served first where calls queue, and who is refused last."""

    LOW = 0
    NORMAL = 1
    HIGH = 2


current_priority: ContextVar[Priority] = ContextVar("resilience_kit_priority", default=Priority.NORMAL)


def reset_context(variable: ContextVar[T], token: Token[T]) -> None:
    """Undo the `set` of a context variable that gave `token`.

    Nothing is done where that was in another context: a coroutine that the garbage collector closes ends in the collector's own.
    An error from here would take the place of its GeneratorExit, and be judged as a failure of the call.
    """
    with contextlib.suppress(ValueError):
        variable.reset(token)


class priority:  # noqa: N801 - a context manager, named as functions are
    """Gives the calls made within a `with` block a priority: "low", "normal" or "high".

    Where calls queue for a limit, higher ones go first, and lower ones are the first to be refused. As a context variable it
    reaches tasks started within the block, and threads with a copied context. Raises `ConfigurationError` for another name.
    """

    __slots__ = ("_level", "_tokens")

    def __init__(self, level: Literal["low", "normal", "high"] | Priority) -> None:
        self._level = _parse_priority(level)
        self._tokens: list[Token[Priority]] = []

    def __enter__(self) -> Priority:
        self._tokens.append(current_priority.set(self._level))
        return self._level

    def __exit__(self, *_: object) -> None:
        current_priority.reset(self._tokens.pop())


def _parse_priority(level: object) -> Priority:
    if isinstance(level, Priority):
        return level
    checks = Checks("priority")
    checks.one_of("level", level, [each.name.lower() for each in Priority])
    checks.raise_if_any()
    return Priority[str(level).upper()]
