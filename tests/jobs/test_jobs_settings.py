"""What the environment says of jobs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience_kit.errors import ConfigurationError
from resilience_kit.jobs import ExponentialBackoffStrategy, JobSettings


def test_the_defaults_are_the_contracts() -> None:
    """A timeout of 300 s, 5 retries from 2 to 300 s, 10 jobs at once, a sweep every 15 s."""
    settings = JobSettings()
    assert ExponentialBackoffStrategy() == settings.strategy
    assert (300.0, 10, "* * * * * */15") == (settings.job_timeout, settings.worker_concurrency, settings.sweep_cron)
    assert 370.0 == settings.default_run_limit
    assert 570.0 == settings.run_limit_for(500.0)
    assert 370.0 == settings.run_limit_for(1.0)


def test_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the contract's names."""
    values = {
        "API_BASE_URL": "http://127.0.0.1:1",
        "JOB_TIMEOUT": "30",
        "MAX_RETRIES": "7",
        "RETRY_BASE_DELAY": "0.5",
        "RETRY_MAX_DELAY": "60",
        "WORKER_CONCURRENCY": "3",
        "DATABASE_URL": "postgresql://me:canary@db/jobs",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    settings = JobSettings()
    assert ExponentialBackoffStrategy(7, 0.5, 60.0) == settings.strategy
    assert ("http://127.0.0.1:1", 30.0, 3) == (settings.api_base_url, settings.job_timeout, settings.worker_concurrency)
    assert settings.database_url is not None
    assert "postgresql://me:canary@db/jobs" == settings.database_url.get_secret_value()
    assert "canary" not in repr(settings)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"retry_base_delay": 10, "retry_max_delay": 5}, "retry_max_delay"),
        ({"job_limit": 310}, "job_limit"),
        ({"stalled_timeout": 29}, "stalled_timeout"),
        ({"job_shutdown_grace": 20.5}, "stalled_timeout"),
        ({"sweep_cron": "often"}, "sweep_cron"),
        ({"sweep_cron": "* * * * * * 2030"}, "sweep_cron"),
        ({"database_url": ""}, "database_url"),
        ({"job_timeout": 0}, "job_timeout"),
        ({"job_timeout": "nan"}, "job_timeout"),
        ({"max_retries": -1}, "max_retries"),
        ({"job_timeuot": 1}, "job_timeuot"),
    ],
)
def test_what_contradicts_is_refused(values: dict[str, object], where: str) -> None:
    """In a sentence that names the setting."""
    with pytest.raises(ConfigurationError, match=rf"^{where}: "):
        JobSettings(**values)


def test_all_that_is_wrong_is_told_at_once() -> None:
    """Contradictions are."""
    with pytest.raises(ConfigurationError) as caught:
        JobSettings(job_limit=1, stalled_timeout=25)
    assert ["job_limit", "stalled_timeout"] == [each.path for each in caught.value.errors]


def test_a_wrong_variable_is_named_and_its_value_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be a secret in the wrong place (invariant 76)."""
    monkeypatch.setenv("MAX_RETRIES", "canary")
    with pytest.raises(ConfigurationError, match=r"^MAX_RETRIES: must be a valid integer") as caught:
        JobSettings()
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:geheim@h/db",
        "postgresql://u:ge%heim@h/db",
        "postgresql://u:12/geheim@h/db",
        "postgresql://u:ge/heim@h/db",
        "postgresql://u:a?ge@heim@h/db",
        "postgresql://u:1?ge/heim@h/db",
        "postgresql://u:ge@heim@h/db",
        "postgresql://u:geheim/db",
        "geheim",
    ],
)
def test_a_malformed_connection_string_is_not_repeated(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused at once; libpq would quote its password, or look for a host of that name (invariant 76)."""
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(ConfigurationError, match=r"^DATABASE_URL: must be as postgresql://USER") as caught:
        JobSettings()
    assert "heim" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://",
        "postgres://u:ge%40h%2Feim@a:1,b/db",
        "postgresql://u:ge#h!ei?m@[::1]:5432/db?sslmode=require",
        "postgresql:///db?host=%2Frun&user=u@x",
        "postgresql://h/db?user=u@x",
        "host=a port=5432 password='a@b/c'",
    ],
)
def test_what_postgresql_takes_is_taken(url: str) -> None:
    """URIs and pairs."""
    settings = JobSettings(database_url=url)
    assert settings.database_url is not None
    assert url == settings.database_url.get_secret_value()


def test_a_limit_of_ones_own_is_obeyed() -> None:
    """When it leaves room."""
    assert 311.0 == JobSettings(job_limit=311).default_run_limit


def test_three_heartbeats_are_enough_whatever_floats_say() -> None:
    """3 * 0.1 is more than 0.3."""
    assert 0.3 == JobSettings(heartbeat_interval=0.1, stalled_timeout=0.3, job_shutdown_grace=0.2).stalled_timeout


def test_transient_failures_are_retried_for_a_day() -> None:
    """Unless the number of retries is set, and the time is not: whoever names one limit means that one."""
    assert 86_400.0 == JobSettings().strategy.give_up_after
    assert JobSettings(max_retries=5).strategy.give_up_after is None
    assert 3600.0 == JobSettings(max_retries=5, give_up_after=3600).strategy.give_up_after
    assert 0.0 == JobSettings(give_up_after=0).strategy.give_up_after


def test_max_retries_of_the_environment_are_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of an argument are."""
    monkeypatch.setenv("MAX_RETRIES", "3")
    assert JobSettings().strategy.give_up_after is None
    monkeypatch.setenv("GIVE_UP_AFTER", "60")
    assert 60.0 == JobSettings().strategy.give_up_after


def test_the_grace_and_what_follows_it_fit_into_10_seconds() -> None:
    """After which `docker stop` kills (invariant 67)."""
    assert JobSettings().job_shutdown_grace <= 5.0


PLAIN = "postgresql://u:p%40w@h:5433/db"


@pytest.mark.parametrize(
    "scheme",
    [
        "postgresql+psycopg",
        "postgresql+psycopg2",
        "postgresql+asyncpg",
        "postgres+pg8000",
        "postgresql+psycopg-binary",
        "POSTGRESQL",
    ],
)
@pytest.mark.parametrize("around", ["{}", "{}\r", " {}\r\n", '"{}"', "'{}'\r\n", "\ufeff{}", "\u201c{}\u201d", '" {} "'])
def test_a_url_is_taken_as_people_write_it(scheme: str, around: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a driver's name, a line end of another system, in quotation marks."""
    monkeypatch.setenv("DATABASE_URL", around.format(PLAIN.replace("postgresql", scheme)))
    url = JobSettings().database_url
    assert url is not None
    assert PLAIN == url.get_secret_value()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://u:geheim@h/db", "'mysql' is not PostgreSQL's scheme"),
        ("mysql+pymysql://u:geheim@h/db", "'mysql' is not PostgreSQL's scheme"),
        ("sqlite:///geheim.db", "'sqlite' is not PostgreSQL's scheme"),
        ("jdbc:postgresql://h/db?password=geheim", "'jdbc' is not PostgreSQL's scheme"),
        ("https://u:geheim@h/db", "'https' is not PostgreSQL's scheme"),
        ("geheim://u:p@h/db", "it does not begin with PostgreSQL's scheme"),
        ("postgresql+psycopg:/u:geheim@h/db", "it does not begin with PostgreSQL's scheme"),
        ("${GEHEIM_URL}", "a variable in it has not been filled in"),
        (
            "postgresql+psycopg://u:geheim@h/db?driver=psycopg",
            "'driver' is a parameter of another driver, which libpq does not know: leave it out",
        ),
        ("'postgresql://u:geheim@h/db", "there is a quotation mark at one end and none at the other"),
        ('postgresql://u:geheim@h/db"', "there is a quotation mark at one end and none at the other"),
        ("postgresql://u:ge\rheim@h/db", "there is a line break or another control character inside"),
        ("DATABASE_URL=postgresql://u:geheim@h/db", "it begins with the name of a variable: leave that and the = out"),
        ('export DATABASE_URL="postgresql://u:geheim@h/db"', "it begins with the name of a variable: leave that and the = out"),
        (
            "postgresql+asyncpg://u:geheim@h/db?ssl=require",
            "'ssl' is a parameter of another driver, which libpq does not know: write sslmode=require",
        ),
        (
            "postgresql://u:geheim@h/db?pgbouncer=true",
            "'pgbouncer' is a parameter of another driver, which libpq does not know: leave it out",
        ),
        ("postgresql://u:geheim@h/db?geheim=1", "write @, / and % in a password as %40, %2F, %25"),
    ],
)
def test_a_url_is_refused_for_what_is_wrong_with_it(url: str, reason: str) -> None:
    """In one sentence, without any part of it that could be a secret (invariant 76)."""
    with pytest.raises(ConfigurationError) as caught:
        JobSettings(database_url=url)
    assert f"database_url: must be as postgresql://USER:PASSWORD@HOST/NAME; {reason}" == str(caught.value)
    assert "heim" not in str(caught.value)


@given(st.text(), st.sampled_from(["{}", "postgresql://u:{}@h/db", "postgresql+x://{}", "mysql://{}", '"{}', "host={}"]))
def test_any_url_is_taken_or_refused(text: str, place: str) -> None:
    """By no other error, and never with the password in it (invariants 72, 76)."""
    secret = f"geheim{text}geheim"
    said = ""
    try:
        JobSettings(database_url=place.format(secret))
    except ConfigurationError as error:
        said = str(error)
    assert "geheim" not in said


def test_every_setting_is_freed_of_what_surrounds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with line ends of another system damages all its lines."""
    for name, value in {"WORKER_CONCURRENCY": "3\r", "JOB_ALLOW_SYNC_TASKS": "true\r", "SWEEP_CRON": "'* * * * *'\r"}.items():
        monkeypatch.setenv(name, value)
    settings = JobSettings()
    assert (3, True, "* * * * *") == (settings.worker_concurrency, settings.job_allow_sync_tasks, settings.sweep_cron)


def test_a_wrong_url_hides_no_other_mistake() -> None:
    """All are told at once."""
    with pytest.raises(ConfigurationError) as caught:
        JobSettings(database_url="mysql://h/db", max_retries=-1)
    assert {"database_url", "max_retries"} == {each.path for each in caught.value.errors}
