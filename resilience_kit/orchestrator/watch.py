"""Reloads when the configuration file changes. Needs watchfiles, the extra `watch`.

The folder is watched, not the file: an editor or `mv` replaces the file, and Kubernetes swaps a link beside it. The file is also
checked once a second, since some file systems report no changes.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final, Self

from resilience_kit._checks import Checks
from resilience_kit.errors import REDACTED, ConfigurationError
from resilience_kit.orchestrator.reload import Reloadable, reload_quietly

MISSING: Final = "needs watchfiles: pip install 'ai-resilience-kit[watch]'"
_NO_FILE: Final = "needs a file to watch: name it in RESILIENCE_CONFIG_FILE, or as config_file of the settings"
_POLL_INTERVAL: Final = 1.0
_JOIN_TIMEOUT: Final = 5.0

#: Device, inode, modification time and size of a file; None if it does not exist.
FileStamp = tuple[int, int, int, int] | None
#: Yields the changes in folders, an empty set at each poll without any, until the event is set.
FolderChanges = Callable[[Collection[Path], threading.Event], Iterator[Collection[object]]]


class ConfigWatch:
    """A daemon thread that reloads; `stop()`, or the end of a `with` block, ends it. A forked child has none."""

    def __init__(self, orchestrator: Reloadable, *, settle: float) -> None:
        checks = Checks("watch_config")
        checks.seconds("settle", settle)
        checks.raise_if_any()
        if orchestrator.settings.config_file is None:
            raise ConfigurationError([("watch_config", _NO_FILE, REDACTED)])
        self._stopping = threading.Event()
        follower = FileFollower(orchestrator, watch_folders(settle), self._stopping)
        self._thread = threading.Thread(target=follower.run, name="resilience_kit-config", daemon=True)
        atexit.register(self.stop)  # a thread inside watchfiles must not outlive the interpreter
        self._thread.start()

    def stop(self) -> None:
        """Stop watching. Waits for a reload in progress, except when called from it."""
        self._stopping.set()
        atexit.unregister(self.stop)
        if self._thread is not threading.current_thread():
            self._thread.join(_JOIN_TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def watch_folders(settle: float) -> FolderChanges:
    """Return a watcher of folders that reports changes after `settle` seconds without another one."""
    try:
        import watchfiles  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError([("watch_config", MISSING, REDACTED)]) from error

    def changes(folders: Collection[Path], stop: threading.Event) -> Iterator[Collection[object]]:
        return watchfiles.watch(
            *folders,
            watch_filter=None,
            step=max(1, int(settle * 1000)),
            debounce=int(settle * 20_000),
            stop_event=stop,
            rust_timeout=int(_POLL_INTERVAL * 1000),
            yield_on_timeout=True,
            raise_interrupt=False,
            recursive=False,
        )

    return changes


class FileFollower:
    """Follows one orchestrator's file through symbolic links until `stop` is set."""

    def __init__(self, orchestrator: Reloadable, changes: FolderChanges, stop: threading.Event) -> None:
        self._orchestrator, self._changes, self._stop = orchestrator, changes, stop
        self._path = Path(orchestrator.settings.config_file)
        self._last_stamp: FileStamp | str = "not yet"

    def run(self) -> None:
        """Watch the file's folders, which may change with a reload or with a link."""
        while not self._stop.is_set():
            folders = _folders(self._file())
            try:
                self._follow(folders)
            except OSError:  # a folder is gone, or cannot be watched
                self._check([])
                self._stop.wait(_POLL_INTERVAL)

    def _follow(self, folders: Collection[Path]) -> None:
        for changed in self._changes(folders, self._stop):
            self._check(changed)
            if _folders(self._file()) != folders:
                return

    def _check(self, changed: Collection[object]) -> None:
        stamp = _file_stamp(self._file())
        if changed or stamp != self._last_stamp:
            self._reload(stamp)

    def _reload(self, stamp: FileStamp) -> None:
        """Read the file and apply it, unless it changed meanwhile: then it is checked again."""
        try:
            settings = self._orchestrator.settings.reloaded()
        except ConfigurationError:
            settings = None  # read once more, so that the error is reported
        if _file_stamp(self._file()) == stamp:
            self._last_stamp = stamp
            reload_quietly(self._orchestrator, settings)

    def _file(self) -> Path:
        """Return the file that the settings name; the previous one if they no longer name any."""
        self._path = Path(self._orchestrator.settings.config_file or self._path)
        return self._path


def _folders(path: Path) -> set[Path]:
    """Return the folders in which the file, or the first link to it, would be replaced."""
    return {path.absolute().parent, path.resolve().parent}


def _file_stamp(path: Path) -> FileStamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
