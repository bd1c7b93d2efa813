"""Secrets planted in everything that a call carries come out nowhere: not in a record, an event, a figure or a repr of ours.

The user's own exception leaves as it is, with whatever its text holds; all that is looked at here is what the kit itself says.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import json
import logging
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
from circuitbreaker import CircuitBreakerMonitor

from resilience_kit import (
    AIServiceResilience,
    CircuitBreakerConfig,
    ConfigurationError,
    ResilienceConfig,
    RetryConfig,
)
from resilience_kit.config import ResilienceSettings
from resilience_kit.errors import (
    AIServiceError,
    FallbackExhaustedError,
    RateLimitError,
    Rejected,
    ResilienceError,
    StreamInterruptedError,
)
from resilience_kit.events import Event
from resilience_kit.outcome import Outcome
from resilience_kit.policies.breaker import SQLiteBreakerStore, StoredState, flush_stores
from resilience_kit.testing import FakeClock

CANARY = "sk-canary-7f3a"


class Response:
    """An HTTP answer with secrets in all its parts, as the client libraries have it."""

    status_code = 503
    headers: Mapping[str, str] = {"retry-after": "1", "set-cookie": CANARY, "authorization": f"Bearer {CANARY}"}
    content = json.dumps({"error": {"message": f"key {CANARY} is overloaded", "type": CANARY, "code": CANARY}}).encode()
    text = content.decode()
    url = f"https://example.test/v1?key={CANARY}"

    def json(self) -> object:
        """The body."""
        return json.loads(self.content)


class APIStatusError(Exception):
    """A client library's error, with the request and the response in it."""

    def __init__(self) -> None:
        super().__init__(f"503 for https://example.test/v1?key={CANARY}")
        self.response, self.status_code, self.body = Response(), 503, Response().json()
        self.request = {"headers": {"x-api-key": CANARY}}


class Sinks:
    """Everything that the kit has said, by where."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def add(self, where: str, text: object) -> None:
        """Keep what was said."""
        self.said.append((where, str(text)))

    def hear(self, event: Event) -> None:
        """A listener."""
        self.add("event", f"{event!r} {event}")

    @property
    def leaks(self) -> list[tuple[str, str]]:
        """Where the canary came out."""
        return [(where, text) for where, text in self.said if CANARY in text]


class Handler(logging.Handler):
    """Takes all that a record holds: message, arguments, extras, exception text."""

    def __init__(self, sinks: Sinks) -> None:
        super().__init__(logging.DEBUG)
        self._sinks = sinks

    def emit(self, record: logging.LogRecord) -> None:
        """One record."""
        self._sinks.add("log", f"{logging.Formatter().format(record)} {record.__dict__!r}")


@pytest.fixture
def sinks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sinks]:
    """Sinks on the kit's logger and the root logger, both at DEBUG."""
    found = Sinks()
    handler, loggers = Handler(found), [logging.getLogger("resilience_kit"), logging.getLogger()]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    yield found
    for logger, level in zip(loggers, levels, strict=True):
        logger.removeHandler(handler)
        logger.setLevel(level)


class BrokenStore:
    """A store whose errors hold a secret."""

    def load(self, name: str) -> StoredState | None:
        """Nothing yet."""
        return None

    def save(self, name: str, state: StoredState) -> None:
        """Never works."""
        raise OSError(f"cannot write to redis://:{CANARY}@host")


class Guard:
    """Refuses, or gives a permit."""

    name = "guard"
    wait = 0.0

    def __init__(self, *, refuses: bool) -> None:
        self._refuses = refuses

    def admit(self, cost: float = 1.0) -> Guard:
        """A permit, or a refusal."""
        if self._refuses:
            raise Rejected(self.name, 1.0)
        return self

    def fits(self, cost: float = 1.0) -> bool:
        """Worth asking."""
        return True

    def settle(self, outcome: Outcome) -> None:
        """Nothing to do."""


RETRY = RetryConfig(max_attempts=3, base_delay=0.1)
CONFIGS = {
    "plain": ResilienceConfig(retry=RETRY, circuit_breaker=CircuitBreakerConfig(failure_threshold=2)),
    "deadline": ResilienceConfig(retry=RETRY, deadline=5.0),
    "full": ResilienceConfig(
        retry=RETRY, deadline=5.0, attempt_timeout=1.0, first_item_timeout=0.5, idle_timeout=0.5, idempotency_key=True,
        guards=(Guard(refuses=False),),
    ),
    "refused": ResilienceConfig(retry=RETRY, guards=(Guard(refuses=True),)),
    "final": ResilienceConfig(retry=None),
}  # fmt: skip
ENDS: dict[str, Callable[[], BaseException | None]] = {
    "success": lambda: None,
    "service error": APIStatusError,
    "connection": lambda: ConnectionError(f"refused for {CANARY}"),
    "rate limit": lambda: RateLimitError(f"slow down, {CANARY}", 0.5),
    "caller's mistake": lambda: KeyError(CANARY),
    "group": lambda: ExceptionGroup(CANARY, [APIStatusError(), ValueError(CANARY)]),
    "hang": lambda: None,
}


async def use(kit: AIServiceResilience, sinks: Sinks, operation: str, config: ResilienceConfig, end: str) -> None:
    """Calls of every kind, each with secrets in its arguments, that end in the same way."""

    def plain(prompt: str, *, api_key: str) -> str:
        if error := ENDS[end]():
            raise error
        return prompt + api_key

    async def asynchronous(prompt: str, *, api_key: str) -> str:
        if end == "hang":
            await asyncio.Event().wait()
        return plain(prompt, api_key=api_key)

    def stream(prompt: str, *, api_key: str) -> Iterator[str]:
        yield prompt
        yield plain(prompt, api_key=api_key)

    async def async_stream(prompt: str, *, api_key: str) -> AsyncIterator[str]:
        if config.idle_timeout or end != "hang":
            yield prompt
        yield await asynchronous(prompt, api_key=api_key)

    async def fallback(prompt: str, *, api_key: str) -> str:
        return prompt + api_key

    protect = kit.with_resilience(operation, custom_config=config)
    given: dict[str, str] = {"prompt": CANARY, "api_key": CANARY}

    async def all_of_stream() -> None:
        async for _ in protect(async_stream)(**given):
            pass

    async def cancelled() -> None:
        task = asyncio.ensure_future(protect(asynchronous)(**given))
        await asyncio.sleep(0)
        task.cancel(CANARY)
        await task

    ways: list[Callable[[], object]] = [
        protect(asynchronous),
        lambda **given: kit.execute_with_resilience(asynchronous, operation, custom_config=config, **given),
        kit.with_resilience(operation, custom_config=config, fallback=fallback)(asynchronous),
        lambda **_: all_of_stream(),
        lambda **_: cancelled(),
    ]
    if end != "hang":
        ways += [
            protect(plain),
            lambda **given: kit.call_with_resilience(plain, operation, custom_config=config, **given),
            lambda **given: list(protect(stream)(**given)),
        ]
    for way in ways:
        try:
            result = way(**given)
            if asyncio.iscoroutine(result):
                await result
        except BaseException as error:
            note_error(sinks, error)


def note_error(sinks: Sinks, error: BaseException) -> None:
    """What of an error is the kit's: all of its own errors, and the notes on the user's."""
    for note in getattr(error, "__notes__", []):
        sinks.add("note", note)
    if isinstance(error, ResilienceError | AIServiceError) and not isinstance(error, RateLimitError):
        error.__cause__ = error.__context__ = None  # the user's own
        sinks.add("error", f"{error} {error!r}")
        sinks.add("traceback", "".join(traceback.format_exception(error)))


def note_readings(sinks: Sinks, kit: AIServiceResilience) -> None:
    """All that can be asked of an orchestrator."""
    sinks.add("metrics", json.dumps([kit.get_metrics(), kit.get_health_status()]))
    sinks.add("repr", repr([kit, kit.settings, *CONFIGS.values()]))
    for name in kit.operations:
        breaker = kit.get_circuit_breaker(name)
        sinks.add("breaker", f"{breaker} {breaker!r} {breaker.describe()} {breaker.metrics} {breaker.add_listener!r}")
    for each in list(CircuitBreakerMonitor.get_circuits()):
        with contextlib.suppress(ReferenceError):  # a breaker of another test, collected meanwhile
            sinks.add("monitor", f"{each.name} {each.state} {each}")


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("config", CONFIGS)
def test_no_sink_holds_a_secret(sinks: Sinks, tmp_path: Path, config: str, end: str) -> None:
    """Success, failure, retries, refusals, time-outs, fallbacks, cancellations: what was said holds no secret (invariant 78)."""
    if end == "hang" and config in {"plain", "final"}:
        pytest.skip("without a limit a hang does not end")
    store = tmp_path / "breakers.db"
    kit = AIServiceResilience(clock=FakeClock(), store=SQLiteBreakerStore(store))
    kit.add_listener(sinks.hear)
    asyncio.run(use(kit, sinks, config, CONFIGS[config], end))
    assert flush_stores()
    note_readings(sinks, kit)
    if store.exists():
        sinks.add("store", store.read_bytes())
    assert [] == sinks.leaks
    assert {"event", "metrics", "repr", "breaker"} <= {where for where, _ in sinks.said}


def test_the_scan_sees_what_is_there(sinks: Sinks) -> None:
    """The sinks are no dead ends: a secret that is logged, said by an event or noted is found."""
    logging.getLogger("resilience_kit").debug("with %s", {"key": CANARY}, extra={"more": CANARY})
    sinks.hear(Event(operation=CANARY))
    error = KeyError()
    error.add_note(CANARY)
    note_error(sinks, error)
    note_error(sinks, Rejected(CANARY))
    assert {"log", "event", "note", "error", "traceback"} == {where for where, _ in sinks.leaks}


def test_helpers_that_fail_are_reported_without_their_words(sinks: Sinks) -> None:
    """A listener, a store and a loop's exception handler: the type of an error is logged, not its text (invariants 14, 78)."""

    def broken(event: Event) -> None:
        raise LookupError(CANARY)

    kit = AIServiceResilience(clock=FakeClock(), store=BrokenStore())
    kit.add_listener(broken)
    kit.add_listener(broken, when=lambda: True)
    asyncio.run(use(kit, sinks, "helpers", CONFIGS["plain"], "service error"))
    assert flush_stores()
    note_readings(sinks, kit)
    assert [] == sinks.leaks
    logged = [text for where, text in sinks.said if where == "log"]
    assert any("a listener failed on" in text and "LookupError" in text for text in logged)
    assert any("the store of circuit breaker 'helpers' failed (OSError)" in text for text in logged)


def test_a_nested_retry_names_operations_only(sinks: Sinks) -> None:
    """The mark that tells an outer operation of retries below carries a name and a time."""
    kit = AIServiceResilience(clock=FakeClock())
    kit.add_listener(sinks.hear)

    @kit.with_resilience("outer", custom_config=CONFIGS["deadline"])
    @kit.with_resilience("inner", custom_config=CONFIGS["deadline"])
    def call(api_key: str) -> None:
        raise APIStatusError

    with pytest.raises(APIStatusError) as caught:
        call(CANARY)
    note_error(sinks, caught.value)
    marks = {name: value for name, value in vars(caught.value).items() if "resilience" in name}
    sinks.add("mark", repr(marks))
    assert [] == sinks.leaks
    assert marks


@pytest.mark.parametrize(
    "error",
    [
        StreamInterruptedError("op", 1, [f"answer with {CANARY}"]),
        FallbackExhaustedError("op", [ValueError(CANARY), APIStatusError()]),
    ],
)
def test_errors_that_carry_a_service_s_words_do_not_repeat_them(error: ResilienceError) -> None:
    """What was delivered and what failed can be asked for; neither `str` nor `repr` says it (invariant 78)."""
    assert CANARY not in f"{error} {error!r} {traceback.format_exception(error)}"


WRONG_SETTINGS: list[tuple[str, str]] = [
    ("RESILIENCE_CUSTOM_CONFIG", json.dumps({"api_key": CANARY})),
    ("RESILIENCE_CUSTOM_CONFIG", json.dumps({"deadline": {"key": CANARY}})),
    ("RESILIENCE_CUSTOM_CONFIG", '{"api_key": "' + CANARY),
    ("RESILIENCE_CUSTOM_CONFIG", json.dumps([CANARY])),
    ("RESILIENCE_CUSTOM_CONFG", CANARY),
]


@pytest.mark.parametrize(("variable", "value"), WRONG_SETTINGS)
def test_a_wrong_setting_does_not_repeat_what_may_be_a_secret(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """Values of unknown settings, of structures and of broken JSON are kept out of the error (invariant 76)."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        AIServiceResilience()
    assert CANARY not in f"{caught.value} {caught.value!r} {''.join(traceback.format_exception(caught.value))}"


@pytest.mark.parametrize("content", [f'api_key = "{CANARY}"', f'deadline = "{CANARY}', f"[{CANARY}]", f'preset = ["{CANARY}"]'])
def test_a_wrong_file_does_not_repeat_what_may_be_a_secret(tmp_path: Path, content: str) -> None:
    """The same of a configuration file; a setting's name may be shown, a value not."""
    file = tmp_path / "resilience.toml"
    file.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        ResilienceSettings(config_file=file)
    said = f"{caught.value} {''.join(traceback.format_exception(caught.value))}"
    assert CANARY not in said.replace(f"{CANARY!r}", "") or content.startswith("[")


@pytest.mark.parametrize(
    "build",
    [
        lambda: AIServiceResilience().with_resilience("op", custom_config={"api_key": CANARY}),
        lambda: AIServiceResilience(CANARY),
        lambda: ResilienceConfig().replace(api_key=CANARY),
        lambda: AIServiceResilience().with_resilience("op", custom_config={"api_key": CANARY})(len),
    ],
)
def test_wrong_arguments_do_not_repeat_what_may_be_a_secret(build: Callable[[], Callable]) -> None:
    """What was put into the wrong place by mistake is not said back."""
    with pytest.raises(ConfigurationError) as caught:
        build()(len)
    assert CANARY not in f"{caught.value} {caught.value!r}"


def test_nothing_keeps_a_secret_alive() -> None:
    """After the call neither a breaker nor an orchestrator holds the arguments, though the failure is remembered."""

    class Key:
        pass

    kit = AIServiceResilience(clock=FakeClock())

    @kit.with_resilience("op", custom_config=CONFIGS["plain"])
    def call(key: Key) -> None:
        raise ConnectionError("down")

    gc.collect()
    with pytest.raises(ConnectionError):
        call(Key())
    assert isinstance(kit.get_circuit_breaker("op").last_failure, ConnectionError)
    assert [] == [each for each in gc.get_objects() if type(each) is Key]


def test_a_printed_traceback_has_no_arguments() -> None:
    """What Python prints of a refusal are lines of source, not values."""
    kit = AIServiceResilience(clock=FakeClock())
    call = kit.with_resilience("op")(lambda api_key: None)
    kit.get_circuit_breaker("op").force_open("maintenance")
    printed = io.StringIO()
    try:
        call(CANARY)
    except Rejected as refused:
        traceback.print_exception(refused, file=printed)
    assert "Circuit breaker is open: 'op'; forced open: maintenance" in printed.getvalue()
    assert CANARY not in printed.getvalue()
