"""What goes on in the process that was forked for one mutant, or to watch the tests: an ordinary pytest run from here on."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from importlib.machinery import ModuleSpec, SourceFileLoader
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import CodeType, FunctionType
from typing import NoReturn

import coverage
import pytest

PACKAGE = "resilience_kit"
#: In the place of a test's number, for lines that are run while modules are imported.
AT_IMPORT = -1
#: Seconds that a test may take, beyond ten times its usual ones, before it counts as hanging; and those of collection.
_PATIENCE, _COLLECTION = 5.0, 60.0
#: Functions that a module may use up while it is imported.
_NAMELESS = ("<lambda>", "<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")


def fork(log: Path, child: Callable[[], object]) -> int:
    """Runs `child` in a process of its own and gives the status that it ended with: 0 when no test failed."""
    pid = os.fork()
    if pid == 0:
        _run(log, child)
    _, status = os.waitpid(pid, 0)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # what a test forked itself
    return status


def hung(status: int) -> bool:
    """Whether the process was ended by its alarm."""
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM


def _run(log: Path, child: Callable[[], object]) -> NoReturn:
    code = 1
    try:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        signal.setitimer(signal.ITIMER_REAL, _COLLECTION)
        code = int(bool(child()))
    finally:
        sys.stdout.flush()
        os._exit(code)


def collect(session: pytest.Session, paths: Iterable[str]) -> None:
    """Collects anew, with the package's own plugin: what was imported before was without the package."""
    session.config.args[:] = paths
    session.config.pluginmanager.register(importlib.import_module(f"{PACKAGE}.testing.pytest_plugin"))
    session.config.hook.pytest_collection(session=session)


def run(session: pytest.Session) -> int:
    """Runs what is collected; the number of failed tests."""
    session.config.hook.pytest_runtestloop(session=session)
    session.config.hook.pytest_sessionfinish(session=session, exitstatus=0)
    return session.testsfailed


class Watch:
    """Notes which lines each test runs, how long it takes, and which modules all of them import."""

    def __init__(self, root: Path, file: Path) -> None:
        self._root, self._file, self._seconds = root, file, dict[str, float]()
        self._coverage = coverage.Coverage(data_file=None, config_file=False, source_pkgs=[PACKAGE])
        self._coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        self._coverage.switch_context(item.nodeid)
        started = time.perf_counter()
        try:
            return (yield)
        finally:
            self._seconds[item.nodeid] = time.perf_counter() - started
            self._coverage.switch_context("")

    def pytest_sessionfinish(self) -> None:
        self._coverage.stop()
        number = {test: place for place, test in enumerate(self._seconds)}
        data, lines = self._coverage.get_data(), {}
        for name in data.measured_files():
            contexts = data.contexts_by_lineno(name).items()
            place = Path(name).relative_to(self._root).as_posix()
            lines[place] = {line: [number.get(test, AT_IMPORT) for test in tests] for line, tests in contexts}
        modules = [name for name in sys.modules if name.partition(".")[0] not in {PACKAGE, "tests", "__main__"}]
        self._file.write_text(json.dumps({"seconds": self._seconds, "lines": lines, "modules": modules}))


class Judge:
    """Has each test killed that hangs, and tells `answer` the name of one that fails."""

    def __init__(self, seconds: dict[str, float], answer: int) -> None:
        self._seconds, self._answer = seconds, answer

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE + 10 * self._seconds[item.nodeid])
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            os.write(self._answer, report.nodeid.encode())


# --- two ways to put a mutant in ------------------------------------------------------------------------------------------


class Import:
    """Imports another source in place of the module's own. For a process that has not imported it."""

    def __init__(self, path: Path, root: Path, source: bytes) -> None:
        module = ".".join(path.relative_to(root).with_suffix("").parts)
        self._module, self._path, self._source = module.removesuffix(".__init__"), str(path), source

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        if name != self._module:
            return None
        return importlib.util.spec_from_file_location(name, self._path, loader=_Loader(name, self._path, self._source))


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, source: bytes) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, self.get_filename(fullname), "exec", dont_inherit=True)


Changed = dict[CodeType, CodeType]


def changed_functions(path: Path, source: bytes) -> Changed | None:
    """The code of functions before and after, when nothing else differs: what is put into live functions, which is quicker."""
    try:
        return dict(_changed(_original(path), _compiled(path, source)))
    except _AtImportError:
        return None


class _AtImportError(Exception):
    """What differs is run while the module is imported."""


def _changed(old: CodeType, new: CodeType, *, within: bool = False) -> Iterator[tuple[CodeType, CodeType]]:
    """Pairs of functions. What is `within` a changed one and does not match is made anew by that when it is called."""
    if old == new:
        return
    inner, now_inner = _inside(old), _inside(new)
    match = [code.co_name for code in inner] == [code.co_name for code in now_inner]
    fits = old.co_freevars == new.co_freevars if old.co_flags & CO_OPTIMIZED else match and _alone(old) == _alone(new)
    if not fits or (old.co_name in _NAMELESS and not within):
        if not within:
            raise _AtImportError
        return
    if old.co_flags & CO_OPTIMIZED:
        within = True
        yield old, new
    if match:
        for pair in zip(inner, now_inner, strict=True):
            yield from _changed(*pair, within=within)


@cache
def _original(path: Path) -> CodeType:
    return _compiled(path, path.read_bytes())


def _compiled(path: Path, source: bytes) -> CodeType:
    return compile(source, str(path), "exec", dont_inherit=True)


def _inside(code: CodeType) -> list[CodeType]:
    return [inner for inner in code.co_consts if isinstance(inner, CodeType)]


def _alone(code: CodeType) -> CodeType:
    """Without what is inside it, and without its places in the file, which reach to the last column of what is inside."""
    return code.replace(
        co_linetable=b"", co_consts=tuple(None if isinstance(each, CodeType) else each for each in code.co_consts)
    )


def live_functions(root: Path) -> list[FunctionType]:
    """All functions there are of the package."""
    gc.unfreeze()  # what is frozen is not told
    found = [each for each in gc.get_objects() if type(each) is FunctionType and each.__code__.co_filename.startswith(str(root))]
    gc.freeze()
    return found


def put_in(functions: Iterable[FunctionType], changed: Changed) -> None:
    """Have the live functions do what the mutant does."""
    for function in functions:
        function.__code__ = changed.get(function.__code__, function.__code__)
