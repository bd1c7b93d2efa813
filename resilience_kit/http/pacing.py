"""One pace for all callers of a host with a key: what one of them is told, the others need not learn.

A 429 with a hint parks everybody until then. Headers that say what is left slow callers down before the 429 comes. A refused
credential and a used-up account latch: after that one request in a while finds out whether it has changed.

How to use it, for whoever sends requests:

    guard = pacing.guard(request_of)          # for a plan: asks the pace of each call's own request, before each attempt
    pace = pacing.of(host, credential)        # or that of one host and credential, itself a guard
    pacing.heard(response.headers)            # inside the attempt, as soon as a response's head is there, good or bad

The drivers wait for a permit's turn and settle it; the verdict of a failure parks and latches. Keyed by host, a hash of the
key, salted anew in each process, and model; the key itself is not kept.
"""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakValueDictionary

from resilience_kit._fork import register_fork_aware
from resilience_kit.clock import SYSTEM_CLOCK, Clock
from resilience_kit.errors import GuardKind
from resilience_kit.events import ChildStream, EventStream
from resilience_kit.http.access_state import AccessState
from resilience_kit.http.credentials import credential_of, fingerprint, host_of, is_handshake_step, model_of
from resilience_kit.http.host_pacer import HostPacer, PacerPermit, latest_permit
from resilience_kit.http.pacing_config import PacingConfig

__all__ = ["HostPacer", "PacerPermit", "Pacing", "PacingConfig", "shared_pacing"]


class Pacing:
    """The paces of all hosts and keys that requests were sent with. Thread-safe; bounded by `max_keys`.

    Share one between clients: `shared_pacing()` is that of the process. `events`: the stream that latches and parking are
    emitted on; without it, that of the orchestrator whose call has caused them, which is the default one for most.
    """

    def __init__(
        self, config: PacingConfig | None = None, *, clock: Clock = SYSTEM_CLOCK, events: EventStream | None = None
    ) -> None:
        self.config, self.clock = config or PacingConfig(), clock
        self.events = ChildStream() if events is None else events
        self.has_own_stream = events is not None
        self._pacers: OrderedDict[tuple[str, bytes, str], HostPacer] = OrderedDict()
        self._access_states: WeakValueDictionary[tuple[str, bytes], AccessState] = WeakValueDictionary()
        self._lock = threading.Lock()
        register_fork_aware(self)

    def __len__(self) -> int:
        return len(self._pacers)

    def for_host(self, host: str, credential: str | None = None, model: str = "") -> HostPacer:
        """The pace of requests to `host` with `credential`, whichever header or parameter carries it, for `model`.

        Models of one key have limits of their own, so they have paces of their own; what latches holds for all of them.
        """
        key = (host, fingerprint(credential), model)
        with self._lock:
            pacer = self._pacers.get(key)
            if pacer is None:
                pacer = self._pacers[key] = self._create_pacer(
                    *key, has_credential=bool(key[1]) and not is_handshake_step(credential)
                )
                if len(self._pacers) > self.config.max_keys:
                    self._pacers.popitem(last=False)
            else:
                self._pacers.move_to_end(key)
        return pacer

    def _create_pacer(self, host: str, credential_hash: bytes, model: str, *, has_credential: bool) -> HostPacer:
        config, access_state = self.config, self._access_states.get((host, credential_hash))
        if access_state is None:
            access_state = AccessState(
                host, config.credential_retry_interval, config.billing_retry_interval, has_credential=has_credential
            )
            self._access_states[host, credential_hash] = access_state
        return HostPacer(f"{host} ({model})" if model else host, config, self.clock, self.events, access_state)

    def for_request(self, request: Any) -> HostPacer:
        """The pace of a request of httpx or httpx2, or of anything with their `url` and `headers`."""
        return self.for_host(host_of(request.url), credential_of(request.headers, request.url), model_of(request))

    def guard(self, request_of: Callable[..., Any]) -> PacingGuard:
        """A guard for calls of many hosts and keys; `request_of` finds the request among a call's arguments."""
        return PacingGuard(self, request_of)

    def observe(self, headers: Mapping[str, str]) -> None:
        """A response's head, good or bad, to the request that this task or thread was given a permit for last."""
        permit = latest_permit()
        if permit is not None:
            permit.observe(headers)

    def reset(self, host: str, credential: str | None = None) -> None:
        """Start clean with a pair: for an operator who has paid, or has had the credential's rights restored."""
        pair = (host, fingerprint(credential))
        with self._lock:
            pacers = [pace for key, pace in self._pacers.items() if key[:2] == pair]
        for pacer in pacers:
            pacer.reset()

    def reset_all(self) -> None:
        """Start clean with every host, credential and model. Those who wait go on."""
        with self._lock:
            pacers = list(self._pacers.values())
            self._pacers.clear()
            self._access_states.clear()
        for pacer in pacers:
            pacer.reset()

    def reset_after_fork(self) -> None:
        """In a forked child: a lock that nobody holds."""
        self._lock = threading.Lock()


class PacingGuard:
    """Asks, for each call, the pace of its own request. Thread-safe."""

    name, kind = "pacing", GuardKind.PACING

    def __init__(self, pacing: Pacing, request_of: Callable[..., Any]) -> None:
        self._pacing, self._request_of = pacing, request_of
        self._events: EventStream | None = None

    def emit_on(self, events: EventStream) -> None:
        """Emit what its calls cause on the stream of their orchestrator, unless the pacing was given a stream."""
        if not self._pacing.has_own_stream:
            self._events = events

    def admit_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> PacerPermit:
        """See `HostPacer.admit`."""
        permit = self._pacing.for_request(self._request_of(*args, **kwargs)).admit()
        permit.events = self._events
        return permit

    def admit(self, cost: float = 1.0) -> PacerPermit:  # noqa: ARG002 - a guard's shape
        """Not without a request. Raises TypeError."""
        raise TypeError("this guard has to see the request: a driver asks it by admit_call")

    def fits(self, cost: float = 1.0) -> bool:  # noqa: ARG002 - the same
        """True: nobody knows which host is meant."""
        return True


@functools.cache
def shared_pacing() -> Pacing:
    """That of the process, made when it is first asked for: whoever uses the same key shares its limits, knowing or not."""
    return Pacing()
