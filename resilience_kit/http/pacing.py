"""Paces all callers of a host with the same key together: what one of them learns applies to all.

A 429 with a hint pauses all callers until then. Rate limit headers slow callers down before a 429. After a refused credential or
a used-up account requests are rejected, except for a trial at intervals.

Usage by code that sends requests:

    guard = pacing.guard(request_of)          # for a plan: admits each attempt by the pacer of its own request
    pacer = pacing.for_host(host, credential) # or the pacer of one host and credential, itself a guard
    pacing.observe(response.headers)          # inside the attempt, as soon as the headers of a response are there, good or bad

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
    """The pacers of all hosts and keys that requests were sent with. Thread-safe; limited to `max_keys`.

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
        """Return the pacer of requests to `host` with `credential` for `model`.

        Models of one key have limits of their own and so pacers of their own; latches apply to all of them.
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
        """Return the pacer of a request of httpx or httpx2, or of any object with their `url` and `headers`."""
        return self.for_host(host_of(request.url), credential_of(request.headers, request.url), model_of(request))

    def guard(self, request_of: Callable[..., Any]) -> PacingGuard:
        """Return a guard for calls to many hosts and keys; `request_of` returns the request from the arguments of a call."""
        return PacingGuard(self, request_of)

    def observe(self, headers: Mapping[str, str]) -> None:
        """Take the headers of the response to the latest request of this task or thread."""
        permit = latest_permit()
        if permit is not None:
            permit.observe(headers)

    def reset(self, host: str, credential: str | None = None) -> None:
        """Reset a host and credential: after an account was paid or the rights of a credential were restored."""
        pair = (host, fingerprint(credential))
        with self._lock:
            pacers = [pace for key, pace in self._pacers.items() if key[:2] == pair]
        for pacer in pacers:
            pacer.reset()

    def reset_all(self) -> None:
        """Reset every host, credential and model. Queued requests continue."""
        with self._lock:
            pacers = list(self._pacers.values())
            self._pacers.clear()
            self._access_states.clear()
        for pacer in pacers:
            pacer.reset()

    def reset_after_fork(self) -> None:
        """Replace the lock in a forked child."""
        self._lock = threading.Lock()


class PacingGuard:
    """Admits each call by the pacer of its own request. Thread-safe."""

    name, kind = "pacing", GuardKind.PACING

    def __init__(self, pacing: Pacing, request_of: Callable[..., Any]) -> None:
        self._pacing, self._request_of = pacing, request_of
        self._events: EventStream | None = None

    def emit_on(self, events: EventStream) -> None:
        """Emit the events of its calls on the stream of their orchestrator, unless the pacing was given a stream."""
        if not self._pacing.has_own_stream:
            self._events = events

    def admit_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> PacerPermit:
        """See `HostPacer.admit`."""
        permit = self._pacing.for_request(self._request_of(*args, **kwargs)).admit()
        permit.events = self._events
        return permit

    def admit(self, cost: float = 1.0) -> PacerPermit:  # noqa: ARG002 - a guard's shape
        """Raise TypeError: the guard needs a request."""
        raise TypeError("this guard has to see the request: a driver asks it by admit_call")

    def fits(self, cost: float = 1.0) -> bool:  # noqa: ARG002 - the same
        """Return True: without a request the host is unknown."""
        return True


@functools.cache
def shared_pacing() -> Pacing:
    """Return the pacing of the process, created at the first use: all users of a key share its limits."""
    return Pacing()
