"""What the environment says of jobs."""

from __future__ import annotations

import pytest

from resilience_kit.errors import ConfigurationError
from resilience_kit.jobs import ExponentialBackoffStrategy, JobSettings


def test_the_defaults_are_the_contracts() -> None:
    """A timeout of 300 s, 5 retries from 2 to 300 s, 10 jobs at once, a sweep every 15 s."""
    settings = JobSettings()
    assert ExponentialBackoffStrategy() == settings.strategy
    assert (300.0, 10, "* * * * * */15") == (settings.job_timeout, settings.worker_concurrency, settings.sweep_cron)
    assert 370.0 == settings.limit_of_a_run
    assert 570.0 == settings.limit_for(500.0)
    assert 370.0 == settings.limit_for(1.0)


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
    assert 311.0 == JobSettings(job_limit=311).limit_of_a_run


def test_three_heartbeats_are_enough_whatever_floats_say() -> None:
    """3 * 0.1 is more than 0.3."""
    assert 0.3 == JobSettings(heartbeat_interval=0.1, stalled_timeout=0.3, job_shutdown_grace=0.2).stalled_timeout
