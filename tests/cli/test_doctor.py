"""`resilience-kit doctor`: what it finds, and that it finds it only where it is."""

from __future__ import annotations

import asyncio
import importlib.metadata
import socket
import sys
from importlib.metadata import Distribution, PackageNotFoundError

import circuitbreaker
import pytest
import tenacity

from resilience_kit.cli.doctor import jobs as doctor_jobs
from resilience_kit.cli.doctor import libraries, stores
from resilience_kit.cli.doctor.environment import inspect_environment
from resilience_kit.cli.doctor.finding import Finding, Severity
from resilience_kit.cli.doctor.jobs import inspect_jobs
from resilience_kit.cli.doctor.libraries import inspect_libraries
from resilience_kit.cli.doctor.pitfalls import PITFALLS, inspect_pitfalls
from resilience_kit.cli.doctor.stores import inspect_stores

FINE, NOTE, PROBLEM = Severity


def about(findings, subject: str) -> Finding:
    """The only finding about a subject."""
    (found,) = [each for each in findings if each.subject == subject]
    return found


def test_a_healthy_machine_has_nothing_to_mend(told) -> None:
    """Every area is looked at; the sum comes last."""
    code, out, err = told("doctor")
    lines = out.splitlines()
    assert (0, "", "nothing needs attention") == (code, err, lines[-1])
    assert {"libraries", "extras", "pitfalls", "environment"} <= {*lines}


def test_stores_are_left_alone_unless_asked_for(told, monkeypatch, network) -> None:
    """The variables are other programs' as well, and the kit uses no store."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://db/app")
    asked = network(ConnectionRefusedError(111, "Connection refused")).asked
    assert (0, []) == (told("doctor").code, asked)
    answer = told("doctor", "--stores", "--json")
    assert (1, [(("db", 5432), stores.CONNECT_TIMEOUT)]) == (answer.code, asked)


def test_problems_are_counted_and_make_the_exit_code(told, monkeypatch) -> None:
    """One and many, for people and for programs."""
    monkeypatch.setenv("RESILIENCE_PRESET", "wrong")
    one = told("doctor")
    assert (1, "1 problem found") == (one.code, one.out.splitlines()[-1])
    monkeypatch.setenv("REDIS_URL", "nonsense")
    two = told("doctor", "--stores")
    assert (1, "2 problems found") == (two.code, two.out.splitlines()[-1])
    answer = told("doctor", "--stores", "--json")
    assert (1, 2) == (answer.code, answer.json["problems"])
    assert {"area", "subject", "severity", "text", "remedy"} == {*answer.json["findings"][0]}


# --- libraries ---


class Kit(Distribution):
    """The kit's metadata, made up."""

    def __init__(self, *requires: str) -> None:
        self._requires = requires

    def read_text(self, filename: str) -> str | None:
        lines = ["Metadata-Version: 2.4", "Name: ai-resilience-kit", "Version: 9.9", "Provides-Extra: cli", "Provides-Extra: all"]
        return "\n".join([*lines, *(f"Requires-Dist: {each}" for each in self._requires)]) if filename == "METADATA" else None

    def locate_file(self, path):
        raise NotImplementedError


@pytest.fixture
def machine(monkeypatch):
    """A machine with libraries of these versions, and a kit that needs these."""

    def build(*requires: str, **versions: str) -> list[Finding]:
        def version(name: str) -> str:
            if name not in versions:
                raise PackageNotFoundError(name)
            return versions[name]

        monkeypatch.setattr(libraries, "version", version)
        monkeypatch.setattr(libraries, "distribution", lambda name: Kit(*requires))
        return list(inspect_libraries())

    return build


def test_libraries_are_held_against_the_kit_s_metadata(machine) -> None:
    """Supported, too old, too new, missing; a development version counts as what it is one of."""
    found = machine("a<3,>=1", "b>=2", "c<2", "d", a="2.0.dev1", b="1.9", c="2")
    assert Finding("libraries", "ai-resilience-kit", FINE, "9.9") == about(found, "ai-resilience-kit")
    assert Finding("libraries", "a", FINE, "2.0.dev1 (supported: >=1,<3)") == about(found, "a")
    assert Finding("libraries", "b", PROBLEM, "1.9 is not supported, >=2 is", "pip install 'b>=2'") == about(found, "b")
    assert Finding("libraries", "c", PROBLEM, "2 is not supported, <2 is", "pip install 'c<2'") == about(found, "c")
    assert Finding("libraries", "d", PROBLEM, "is not installed", "pip install 'd'") == about(found, "d")


def test_an_extra_may_be_missing_and_must_not_be_wrong(machine) -> None:
    """What gathers other extras is not told; a library for another Python is not missed."""
    wanted = ("x>=2; extra == 'cli'", "y; extra == 'cli'", "z; python_version < '3' and extra == 'cli'", "q[cli]; extra == 'all'")
    assert Finding("extras", "cli", FINE, "x 2, y 1") == about(machine(*wanted, x="2", y="1"), "cli")
    missing = Finding("extras", "cli", NOTE, "not installed: y", "pip install 'ai-resilience-kit[cli]', if it is wanted")
    assert missing == about(machine(*wanted, x="2"), "cli")
    wrong = Finding("extras", "cli", PROBLEM, "not supported: x 1", "pip install 'ai-resilience-kit[cli]' --upgrade")
    assert wrong == about(machine(*wanted, x="1", y="1"), "cli")
    assert [] == [each for each in machine(*wanted) if each.subject == "all"]


def test_a_kit_that_was_never_installed_is_a_note(monkeypatch) -> None:
    """Run from a folder, it has no metadata."""

    def missing(name: str) -> Distribution:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(libraries, "distribution", missing)
    assert NOTE is about(inspect_libraries(), "ai-resilience-kit").severity


def test_clients_that_retry_by_themselves_are_told_where_they_are(machine) -> None:
    """With what to do about it."""
    assert "build them with max_retries=0 and leave retrying to the operation" == about(machine(openai="3.1"), "openai").remedy
    assert [] == [each for each in machine() if each.area == "clients"]


@pytest.mark.parametrize(("locked", "health"), [(True, FINE), (False, NOTE)])
def test_a_python_without_its_lock_is_a_note(locked, health, machine, monkeypatch) -> None:
    """Where the interpreter can be asked."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: locked, raising=False)
    assert health is about(machine(), "Python").severity


def test_the_metadata_is_that_of_the_distribution() -> None:
    """What the doctor reads is what pip reads."""
    assert importlib.metadata.distribution(libraries.DISTRIBUTION).requires


# --- traps ---


def test_the_installed_versions_hold_every_trap() -> None:
    """Each is fallen into."""
    assert [True] * 5 == [each.is_present() for each in PITFALLS]
    assert {(FINE, "circuitbreaker"), (FINE, "tenacity")} == {(each.severity, each.subject) for each in inspect_pitfalls()}


class Mended(circuitbreaker.CircuitBreaker):
    """A breaker without traps."""

    def __init__(self, failure_threshold=5, recovery_timeout=30, **options) -> None:
        super().__init__(failure_threshold=failure_threshold, recovery_timeout=recovery_timeout, **options)
        self._failure_threshold, self._inside = failure_threshold, False

    def call(self, function, *args):
        if self._inside:
            raise circuitbreaker.CircuitBreakerError(self)
        self._inside = True
        try:
            return super().call(function, *args)
        finally:
            self._inside = False

    def __enter__(self):
        if self.opened:
            raise circuitbreaker.CircuitBreakerError(self)
        return super().__enter__()


def test_a_trap_that_is_mended_is_not_told_as_one(monkeypatch) -> None:
    """With libraries that do as ours does, every look says so."""

    def no_retry(*_: object):
        return lambda state: isinstance(state.outcome.exception(), Exception)

    def before_delay(seconds: float):
        return lambda state: state.seconds_since_start + state.upcoming_sleep >= seconds

    monkeypatch.setattr(circuitbreaker, "CircuitBreaker", Mended)
    monkeypatch.setattr(tenacity, "retry_if_not_exception_type", no_retry)
    monkeypatch.setattr(tenacity, "stop_after_delay", before_delay)
    assert [False] * 5 == [each.is_present() for each in PITFALLS]
    assert all(each.text.startswith("fixed in this version: ") for each in inspect_pitfalls())


def test_looking_at_traps_leaves_nothing_behind() -> None:
    """No breaker in the library's monitor, and no event loop."""
    before = {each.name for each in circuitbreaker.CircuitBreakerMonitor.get_circuits()}
    list(inspect_pitfalls())
    assert before == {each.name for each in circuitbreaker.CircuitBreakerMonitor.get_circuits()}
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


# --- environment ---


def test_variables_are_named_without_their_values(monkeypatch) -> None:
    """In the order of the alphabet."""
    monkeypatch.setenv("RESILIENCE_PRESET", "production")
    monkeypatch.setenv("RESILIENCE_ENABLED", "off")
    found = list(inspect_environment())
    assert "RESILIENCE_ENABLED, RESILIENCE_PRESET" == about(found, "variables").text
    assert Finding("environment", "RESILIENCE_ENABLED", NOTE, "every protection is switched off") in found


@pytest.mark.parametrize(
    ("preset", "app_env", "health"),
    [("simple", "", FINE), ("production", "prod", FINE), ("simple", "prod", NOTE), ("production", "who knows", FINE)],
)
def test_a_preset_that_does_not_fit_is_a_note(preset, app_env, health, monkeypatch) -> None:
    """With the variable to set; an environment that nobody knows is no reason."""
    monkeypatch.setenv("RESILIENCE_PRESET", preset)
    monkeypatch.setenv("APP_ENV", app_env)
    found = about(inspect_environment(), "preset")
    assert (health, health is NOTE) == (found.severity, "set RESILIENCE_PRESET=production, if that is so" == found.remedy)


def test_every_wrong_variable_is_a_problem(monkeypatch) -> None:
    """With its rule, and without its value."""
    monkeypatch.setenv("RESILIENCE_ENABLED", "maybe")
    monkeypatch.setenv("RESILIENCE_PRESETS", "simple")
    found = {each.subject: each.text for each in inspect_environment() if each.severity is PROBLEM}
    assert {"RESILIENCE_ENABLED", "RESILIENCE_PRESETS"} == {*found}
    assert "must be true or false" == found["RESILIENCE_ENABLED"]


def test_a_wrong_file_is_a_problem(monkeypatch, tmp_path) -> None:
    """The one that a variable names; with the place in it."""
    file = tmp_path / "a.toml"
    file.write_text("deadline = 0")
    monkeypatch.setenv("RESILIENCE_CONFIG_FILE", str(file))
    found = about(inspect_environment(), f"{file}: deadline")
    assert (PROBLEM, "must be a number of seconds from 1 to 600") == (found.severity, found.text)


def test_a_variable_that_changes_nothing_is_a_note(monkeypatch, capfd) -> None:
    """What the kit would log is a finding here, and is not said twice."""
    monkeypatch.setenv("RESILIENCE_OF_DOCTOR_TEST", "1")
    (found,) = [each for each in inspect_environment() if each.subject == "warning"]
    assert (NOTE, True) == (found.severity, found.text.startswith("RESILIENCE_OF_DOCTOR_TEST is no variable of resilience_kit"))
    assert ("", "") == capfd.readouterr()


# --- stores ---


class Connections:
    """Stands in for the network: connects, or fails as it is told to."""

    def __init__(self, error: BaseException | None) -> None:
        self._error, self.asked = error, []

    def create_connection(self, where, timeout):
        self.asked.append((where, timeout))
        if self._error is not None:
            raise self._error
        return socket.socket()


@pytest.fixture
def network(monkeypatch):
    """A network that answers in this way; what was asked of it."""

    def build(error: BaseException | None = None) -> Connections:
        made = Connections(error)
        monkeypatch.setattr(socket, "create_connection", made.create_connection)
        return made

    return build


def test_no_store_is_fine(network) -> None:
    """Nothing is asked."""
    asked = network().asked
    assert [(FINE, "not set")] * 2 == [(each.severity, each.text) for each in inspect_stores()]
    assert [] == asked


@pytest.mark.parametrize(
    ("url", "where", "place"),
    [
        ("postgresql://db/app", ("db", 5432), "db:5432"),
        ("postgresql://me:p%2Fw@DB.example:5433/app", ("db.example", 5433), "db.example:5433"),
        ("postgresql://[::1]:5434/app", ("::1", 5434), "[::1]:5434"),
    ],
)
def test_a_store_is_reached_at_host_and_port(url, where, place, network, monkeypatch) -> None:
    """The usual port where none is named; no other part of the URL is shown."""
    monkeypatch.setenv("DATABASE_URL", url)
    asked = network().asked
    assert Finding("stores", "DATABASE_URL", FINE, f"{place} can be reached") == about(inspect_stores(), "DATABASE_URL")
    assert [(where, stores.CONNECT_TIMEOUT)] == asked


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (TimeoutError("timed out"), "no answer within 1 s"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (OSError("something with a secret"), "OSError"),
        (UnicodeError("label too long"), "UnicodeError"),
    ],
)
def test_a_store_that_cannot_be_reached_is_a_problem(error, reason, network, monkeypatch) -> None:
    """With the reason."""
    network(error)
    monkeypatch.setenv("REDIS_URL", "redis://cache/0")
    found = about(inspect_stores(), "REDIS_URL")
    assert (PROBLEM, f"cache:6379 cannot be reached: {reason}") == (found.severity, found.text)


@pytest.mark.parametrize("url", ["sqlite:///app.db", "postgresql:///app?host=/run/postgresql", "unix:///run/redis.sock"])
def test_a_store_without_a_host_is_fine(url, network, monkeypatch) -> None:
    """A file or a socket of this machine."""
    asked = network().asked
    monkeypatch.setenv("DATABASE_URL", url)
    assert "names no host, so there is nothing to reach" == about(inspect_stores(), "DATABASE_URL").text
    assert [] == asked


@pytest.mark.parametrize(
    "url",
    [
        "sk-canary",
        "redis://canary#more@host",
        "redis://me:12/canary@host",
        "redis://canary?x@host",
        "redis://host:canary",
        "redis://host:99999",
        "redis://[canary",
        "canary:6379",
    ],
)
def test_what_cannot_be_read_is_not_shown(url, network, monkeypatch) -> None:
    """A part of a password could stand where the host does."""
    asked = network().asked
    monkeypatch.setenv("REDIS_URL", url)
    found = about(inspect_stores(), "REDIS_URL")
    assert (PROBLEM, "cannot be read as a URL") == (found.severity, found.text)
    assert "canary" not in str(found.to_dict())
    assert [] == asked


# --- jobs ---


@pytest.fixture
def jobs_variables(monkeypatch):
    """Whether the extra is there, and no variable of this machine."""
    pytest.importorskip("procrastinate")
    pytest.importorskip("psycopg")
    for name in ("DATABASE_URL", "MAX_RETRIES", "GIVE_UP_AFTER", "JOBS_APP", "WORKER_CONCURRENCY", "API_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("jobs_variables")
def test_no_variable_of_jobs_is_fine() -> None:
    """The defaults rule."""
    assert [Finding("jobs", "variables", FINE, "none is set: the defaults apply")] == [*inspect_jobs()]


@pytest.mark.usefixtures("jobs_variables")
def test_variables_of_jobs_are_read_as_they_will_be(monkeypatch) -> None:
    """Each mistake is a problem; no value is shown, and a driver's name is none."""
    monkeypatch.setenv("DATABASE_URL", "mysql://me:canary@h/db")
    monkeypatch.setenv("WORKER_CONCURRENCY", "canary")
    found = [*inspect_jobs()]
    assert "DATABASE_URL, WORKER_CONCURRENCY" == about(found, "variables").text
    assert {"DATABASE_URL", "WORKER_CONCURRENCY"} == {each.subject for each in found if each.severity is PROBLEM}
    assert "'mysql' is not PostgreSQL's scheme" in about(found, "DATABASE_URL").text
    assert "canary" not in str(found)
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://me:canary@h/db")
    monkeypatch.setenv("WORKER_CONCURRENCY", "3")
    assert [FINE] == [each.severity for each in inspect_jobs()]


@pytest.mark.usefixtures("jobs_variables")
def test_variables_of_jobs_that_mean_more_than_they_say_are_noted(monkeypatch) -> None:
    """No database for other machines, and a limit that an outage would use up."""
    monkeypatch.setenv("MAX_RETRIES", "3")
    assert [("variables", FINE), ("DATABASE_URL", NOTE), ("MAX_RETRIES", NOTE)] == [
        (each.subject, each.severity) for each in inspect_jobs()
    ]


@pytest.mark.parametrize("given", [True, False])
def test_without_the_extra_only_the_workers_variable_matters(monkeypatch, *, given: bool) -> None:
    """The others may be other programs'."""
    monkeypatch.setattr(doctor_jobs, "find_spec", lambda _: None)
    monkeypatch.setenv("MAX_RETRIES", "x")
    if given:
        monkeypatch.setenv("JOBS_APP", "work:app")
    else:
        monkeypatch.delenv("JOBS_APP", raising=False)
    assert [("JOBS_APP", PROBLEM)] * given == [(each.subject, each.severity) for each in inspect_jobs()]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("postgresql+psycopg://me:canary@db/app", ("db", 5432)),
        ("'postgresql://me:canary@db/app'\r", ("db", 5432)),
        ("host=db port=5433 password='a b'", ("db", 5433)),
        ("host=/run/postgresql dbname=app", None),
        ("dbname=app", None),
    ],
)
def test_a_database_is_reached_however_its_url_is_written(text, where, network, monkeypatch) -> None:
    """As jobs read it."""
    monkeypatch.setenv("DATABASE_URL", text)
    asked = network().asked
    assert FINE == about(inspect_stores(), "DATABASE_URL").severity
    assert [where] * (where is not None) == [each for each, _ in asked]
