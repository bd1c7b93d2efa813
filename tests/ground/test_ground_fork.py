"""Who is renewed in a forked child."""

from __future__ import annotations

import gc
import threading

from resilience_kit import _fork


class Owner:
    """Something with a lock."""

    renewed = 0

    def reset_after_fork(self) -> None:
        self.renewed += 1


def test_the_living_are_renewed_and_nobody_is_kept_alive(monkeypatch):
    """Each once, also when registered twice (invariant 22); a real fork is in the breaker's tests."""
    monkeypatch.setattr(_fork, "_living", type(_fork._living)())
    kept, gone = Owner(), Owner()
    for owner in (kept, gone, kept):
        _fork.register_fork_aware(owner)
    del gone, owner
    gc.collect()
    _fork._reset_all()
    assert (1, 1) == (kept.renewed, len(_fork._living))


def test_a_mutex_is_reentrant_and_free_after_a_fork():
    """Its holder may come back; in a child nobody holds it, whichever thread did (invariant 22)."""
    mutex = _fork.ForkSafeLock()
    with mutex, mutex:
        pass
    holder = threading.Thread(target=mutex.__enter__)
    holder.start()
    holder.join()
    mutex.reset_after_fork()
    with mutex:
        pass
