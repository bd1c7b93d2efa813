"""Callers that go away, in real event loops: their cancellation is theirs, permits go back, and the counts add up."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from resilience_kit import (
    AIServiceResilience,
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitBreakerOpenError,
    CircuitState,
    DeadlineExceededError,
    ResilienceConfig,
    RetryConfig,
)
from resilience_kit.errors import APITimeoutError, Rejected
from resilience_kit.outcome import Outcome, OutcomeKind


@pytest.fixture(autouse=True)
def _ctrl_c_is_heard() -> Iterator[None]:
    """Also where the tests were started in the background, which makes a process deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Permits:
    """A guard that counts its permits, and now and then makes an attempt wait or refuses it."""

    name = "permits"

    def __init__(self, seed: int, longest_wait: float = 0.0, refusing: float = 0.0) -> None:
        self._random, self._longest, self._refusing = random.Random(seed), longest_wait, refusing
        self.in_use, self.settled = 0, Counter()

    def admit(self, cost: float = 1.0) -> Permit:
        """A permit, or a refusal."""
        if self._random.random() < self._refusing:
            raise Rejected(self.name)
        self.in_use += 1
        return Permit(self, self._random.random() * self._longest)

    def fits(self, cost: float = 1.0) -> bool:
        """Always worth asking."""
        return True


class Permit:
    """One permit, settled exactly once."""

    def __init__(self, guard: Permits, wait: float) -> None:
        self.guard, self.wait, self._open = guard, wait, True

    def settle(self, outcome: Outcome) -> None:
        """It comes back."""
        assert self._open, "settled twice"
        self._open = False
        self.guard.in_use -= 1
        self.guard.settled[outcome.kind] += 1


class Ends:
    """How calls ended, as their callers saw it."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter(successful_calls=0, failed_calls=0, rejected_calls=0, cancelled_calls=0)

    async def of(self, call: Callable[[], object]) -> None:
        """One call, its end noted; a cancellation goes on its way."""
        try:
            await call()
        except Rejected:
            self.counts["rejected_calls"] += 1
        except asyncio.CancelledError:
            self.counts["cancelled_calls"] += 1
            raise
        except Exception:
            self.counts["failed_calls"] += 1
        else:
            self.counts["successful_calls"] += 1


BREAKER = CircuitBreakerConfig(failure_threshold=20, recovery_timeout=0.02, half_open_max_calls=2, success_threshold=2)
RETRY = RetryConfig(max_attempts=3, base_delay=0.002, max_delay=0.01)
STORMS = {
    "bare": ResilienceConfig(retry=RETRY, circuit_breaker=BREAKER),
    "with a deadline": ResilienceConfig(retry=RETRY, circuit_breaker=BREAKER, deadline=0.03),
    "with an attempt timeout": ResilienceConfig(retry=RETRY, circuit_breaker=BREAKER, deadline=0.05, attempt_timeout=0.01),
    "waiting for the circuit": ResilienceConfig(retry=RETRY, circuit_breaker=BREAKER, deadline=0.1, circuit_open="wait"),
    "with guards": ResilienceConfig(
        retry=RETRY, circuit_breaker=BREAKER, deadline=0.1, guards=(Permits(1, 0.005, 0.05), Permits(2))
    ),
}


WAYS = [("decorated", config) for config in STORMS]
WAYS += [(way, config) for way in ("executed", "streamed") for config in ("bare", "with an attempt timeout")]


@pytest.mark.parametrize(("way", "name"), WAYS)
async def test_a_storm_of_cancellations_leaves_nothing_taken(kit: AIServiceResilience, way: str, name: str) -> None:
    """2000 tasks cancelled at random moments: permits in use are 0, every call is counted once as it ended (invariants 4, 5)."""
    config, draw, ends = STORMS[name], random.Random(f"{name} {way}").random, Ends()

    async def callee() -> None:
        await asyncio.sleep(draw() * 0.01)
        in_an_outage = int(time.monotonic() * 25) % 4 == 0
        if in_an_outage or draw() < 0.2:
            raise ConnectionError
        await asyncio.sleep(0)

    @kit.with_resilience("storm", custom_config=config)
    async def stream() -> AsyncIterator[int]:
        await callee()
        yield 1
        yield 2

    async def streamed() -> None:
        async for _ in stream():
            pass

    call = {
        "decorated": kit.with_resilience("storm", custom_config=config)(callee),
        "executed": lambda: kit.execute_with_resilience(callee, "storm", custom_config=config),
        "streamed": streamed,
    }[way]

    async def one() -> None:
        await asyncio.sleep(draw() * 0.15)
        task = asyncio.create_task(ends.of(call))
        await asyncio.sleep(draw() * 0.03)
        if task.cancel():
            await asyncio.wait([task])

    async with asyncio.timeout(20):
        for _ in range(4):
            await asyncio.gather(*(one() for _ in range(500)))
    numbers = kit.get_metrics("storm")
    assert dict(ends.counts) == {end: numbers[end] for end in ends.counts}
    assert 0 == kit.get_circuit_breaker("storm").trials_in_flight
    for guard in config.guards:
        assert (0, True) == (guard.in_use, guard.settled[OutcomeKind.CANCELLED] > 0)
    assert min(ends.counts["cancelled_calls"], ends.counts["successful_calls"]) > 50
    assert (await _healed(kit, config)).closed


async def _healed(kit: AIServiceResilience, config: ResilienceConfig) -> CircuitBreaker:
    """The breaker, after the service has been well for a while (invariant 20)."""
    fine = kit.with_resilience("storm", custom_config=config)(_fine)
    until = time.monotonic() + 2.0
    breaker = kit.get_circuit_breaker("storm")
    while not breaker.closed and time.monotonic() < until:
        await asyncio.sleep(0.005)
        try:
            await fine()
        except Rejected:
            continue
    return breaker


async def _fine() -> None:
    await asyncio.sleep(0)


async def test_a_cancelled_trial_gives_way_to_the_next(kit: AIServiceResilience) -> None:
    """The circuit stays half-open, and the next caller is let in at once (invariant 3)."""
    config = ResilienceConfig(retry=None, circuit_breaker=CircuitBreakerConfig(recovery_timeout=0.05))
    begun = asyncio.Event()

    @kit.with_resilience("trial", custom_config=config)
    async def call(seconds: float) -> str:
        begun.set()
        await asyncio.sleep(seconds)
        return "well"

    breaker = kit.get_circuit_breaker("trial")
    breaker.state = "open"
    await asyncio.sleep(0.06)
    trial = asyncio.create_task(call(10))
    await begun.wait()
    with pytest.raises(CircuitBreakerOpenError, match="still under way"):
        await call(0)
    trial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trial
    assert (CircuitState.HALF_OPEN, 0) == (breaker.state, breaker.trials_in_flight)
    assert ("well", CircuitState.CLOSED) == (await call(0), breaker.state)


async def test_a_cancellation_ends_sleeps_at_once(kit: AIServiceResilience) -> None:
    """A caller that goes during a pause of a minute is gone within a tick, and the cancellation is not retried (invariant 28)."""
    attempts = 0

    @kit.with_resilience("pausing", custom_config=ResilienceConfig(retry=RetryConfig(base_delay=60.0, jitter=None)))
    async def call() -> None:
        nonlocal attempts
        attempts += 1
        raise ConnectionError

    task = asyncio.create_task(call())
    await asyncio.sleep(0.05)
    begun = time.monotonic()
    task.cancel("gone")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert time.monotonic() - begun < 0.05
    assert (("gone",), 1, 1) == (caught.value.args, attempts, kit.get_metrics("pausing")["cancelled_calls"])


@pytest.fixture(params=["deadline", "attempt_timeout"])
def limited(request: pytest.FixtureRequest) -> Callable[[float], ResilienceConfig]:
    """A config with one limit of either kind; only the first of them is on the light path."""
    return lambda seconds: ResilienceConfig(retry=None, circuit_breaker=CircuitBreakerConfig(), **{request.param: seconds})


def hang_for(kit: AIServiceResilience, config: ResilienceConfig) -> Callable[[], object]:
    """A protected call that takes for ever."""
    return kit.with_resilience("hung", custom_config=config)(asyncio.Event().wait)


async def test_the_outer_timeout_wins_when_it_is_first(kit: AIServiceResilience, limited: Callable) -> None:
    """A user's `asyncio.timeout` around the call ends in a plain TimeoutError, and says nothing about the service."""
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.05):
            await hang_for(kit, limited(10.0))()
    assert TimeoutError is type(caught.value)
    assert (1, 0) == (kit.get_metrics("hung")["cancelled_calls"], kit.get_circuit_breaker("hung").failure_count)
    assert 0 == asyncio.current_task().cancelling()


async def test_ours_wins_when_it_is_first(kit: AIServiceResilience, limited: Callable) -> None:
    """The kit's own limit leaves no cancellation behind: what follows in the same block runs on."""
    async with asyncio.timeout(10) as around:
        with pytest.raises((DeadlineExceededError, APITimeoutError)):
            await hang_for(kit, limited(0.05))()
        assert 0 == asyncio.current_task().cancelling()
        await asyncio.sleep(0.01)
    assert not around.expired()
    assert (1, 1) == (kit.get_metrics("hung")["failed_calls"], kit.get_circuit_breaker("hung").failure_count)


async def test_both_limits_in_one_tick(kit: AIServiceResilience, limited: Callable) -> None:
    """While the loop was blocked both have come due: the outer one is obeyed, whichever fired first."""
    loop, ends = asyncio.get_running_loop(), Counter()
    for outer in (0.02, 0.03, 0.04):
        try:
            async with asyncio.timeout(outer):
                loop.call_later(0.005, time.sleep, 0.08)
                await hang_for(kit, limited(0.03))()
        except TimeoutError as error:
            ends[type(error)] += 1
        assert 0 == asyncio.current_task().cancelling()
        await asyncio.sleep(0.01)  # no cancellation is left to come
    assert {TimeoutError: 3} == ends


async def test_a_cancellation_in_the_same_tick_is_not_swallowed(kit: AIServiceResilience, limited: Callable) -> None:
    """The deadline and the caller's `cancel()` come together: the task ends cancelled, not in our error."""
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(hang_for(kit, limited(0.03))())
    for block in (lambda: None, lambda: time.sleep(0.05)):
        loop.call_later(0.01, block)
    loop.call_later(0.02, task.cancel)  # due while the loop is blocked, as our own limit is
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (True, 1) == (task.cancelled(), kit.get_metrics("hung")["cancelled_calls"])


async def test_a_task_group_is_not_disturbed(kit: AIServiceResilience, limited: Callable) -> None:
    """A call of ours that is cut off inside a group fails alone; a sibling's failure cancels a call of ours."""
    async with asyncio.TaskGroup() as group:
        cut = group.create_task(_end_of(hang_for(kit, limited(0.03))))
        other = group.create_task(asyncio.sleep(0.06, "went on"))
    assert ("went on", True) == (other.result(), cut.result() in {"DeadlineExceededError", "APITimeoutError"})
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            ours = group.create_task(hang_for(kit, limited(10.0))())
            group.create_task(_failing())
    assert (True, [LookupError]) == (ours.cancelled(), [type(error) for error in caught.value.exceptions])


async def _end_of(call: Callable[[], object]) -> str:
    try:
        await call()
    except Exception as error:
        return type(error).__name__
    return "no error"


async def _failing() -> None:
    await asyncio.sleep(0.02)
    raise LookupError


async def test_a_task_that_was_cancelled_before_still_has_its_limits(kit: AIServiceResilience, limited: Callable) -> None:
    """Clean-up code that calls a service after its task was cancelled: our limit works, and the old cancellation stays."""

    async def cleaning_up() -> str:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            end = await _end_of(hang_for(kit, limited(0.03)))
            assert 1 == asyncio.current_task().cancelling()
            return end

    task = asyncio.create_task(cleaning_up())
    await asyncio.sleep(0)
    task.cancel()
    assert await task in {"DeadlineExceededError", "APITimeoutError"}


async def test_a_callee_that_answers_the_cut_with_an_error_of_its_own(kit: AIServiceResilience, limited: Callable) -> None:
    """What it raises instead is its own error; the cut leaves no cancellation behind."""

    @kit.with_resilience("stubborn", custom_config=limited(0.03))
    async def call() -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            raise LookupError from None

    with pytest.raises(LookupError):
        await call()
    assert 0 == asyncio.current_task().cancelling()
    await asyncio.sleep(0)


async def test_a_callee_that_finishes_in_spite_of_the_cut(kit: AIServiceResilience, limited: Callable) -> None:
    """A result that comes after all is returned, and no cancellation is left behind."""

    @kit.with_resilience("finishing", custom_config=limited(0.03))
    async def call() -> str:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            return "late"

    assert "late" == await call()
    assert 0 == asyncio.current_task().cancelling()
    await asyncio.sleep(0)


@pytest.mark.parametrize("deadline", [None, 10.0])
def test_ctrl_c_in_plain_code_passes_through(kit: AIServiceResilience, deadline: float | None) -> None:
    """A real SIGINT during a trial: the permit goes back, nothing is counted but a cancelled call, the next one is let in."""
    config = ResilienceConfig(circuit_breaker=CircuitBreakerConfig(recovery_timeout=0.05), deadline=deadline)

    @kit.with_resilience("interrupted", custom_config=config)
    def call(interrupt: bool) -> str:
        if interrupt:
            signal.raise_signal(signal.SIGINT)
            time.sleep(10)
        return "well"

    breaker = kit.get_circuit_breaker("interrupted")
    breaker.state = "open"
    time.sleep(0.06)
    with pytest.raises(KeyboardInterrupt):
        call(interrupt=True)
    assert (CircuitState.HALF_OPEN, 0) == (breaker.state, breaker.trials_in_flight)
    numbers = kit.get_metrics("interrupted")
    assert (1, 1, 0) == (numbers["total_calls"], numbers["cancelled_calls"], numbers["failed_calls"])
    assert ("well", CircuitState.CLOSED) == (call(interrupt=False), breaker.state)


def test_ctrl_c_ends_a_pause(kit: AIServiceResilience) -> None:
    """A signal in the midst of a pause of a minute ends it at once; no further attempt is made."""
    attempts = 0

    @kit.with_resilience("pausing", custom_config=ResilienceConfig(retry=RetryConfig(base_delay=60.0, jitter=None)))
    def call() -> None:
        nonlocal attempts
        attempts += 1
        raise ConnectionError

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    usual = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            call()
    finally:
        signal.signal(signal.SIGALRM, usual)
    assert time.monotonic() - begun < 0.3
    assert (1, 1) == (attempts, kit.get_metrics("pausing")["cancelled_calls"])
