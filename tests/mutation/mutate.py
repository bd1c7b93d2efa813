"""Tells which small changes to the code no test notices: `make mutate`, or `python tests/mutation/mutate.py --help`.

One pytest process forks once for each mutant. The child puts the mutant in place of the original and goes on as an ordinary run,
of those tests only that run the changed statement. No file of the package is touched. What is known of a mutant stays in
.mutation/ until the function around it changes; of a survivor only until any test changes, unless survivors.md has a reason for
it. So a run that was broken off goes on where it was.
"""

from __future__ import annotations

import argparse
import ast
import gc
import hashlib
import importlib
import json
import os
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from child import (
    AT_IMPORT,
    PACKAGE,
    Changed,
    Import,
    Judge,
    Watch,
    changed_functions,
    collect,
    fork,
    hung,
    live_functions,
    put_in,
    run,
)
from mutants import Mutant, mutants
from page import KILLED, QUICK, ROOMS, SURVIVED, TIMED_OUT, Room, label, read, reasons_in, to_markdown

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".mutation"
REASONS = Path(__file__).with_name("survivors.md")
REPORT = ROOT / "docs" / "benchmarks" / "mutation.md"
#: What is asked last: tests that take more seconds, and all but so many variants of a parametrized one.
_SLOW, _VARIANTS = 0.1, 3
#: Files of tests that are collected before all others; and how many tests of a file are worth one that has noticed a mutant.
_FIRST_FILES, _WORTH = 3, 100
_SAVE_EVERY = 20
_OPTIONS = ("-x", "-q", "-s", "-pno:cacheprovider", "-pno:faulthandler", "-pno:resilience_kit", f"--basetemp={KEPT / 'tmp'}")

#: What a child does for a mutant, what it changes in live functions, its tests, and a descriptor for the answer.
Way = Callable[[Mutant, Changed | None, list[str], int], int]
Waiting = tuple["Results", Mutant, Changed | None]


class Campaign:
    """Takes the place of pytest's collection, and forks there."""

    def __init__(self, rooms: list[str], *, quick: bool) -> None:
        self._rooms, self._quick = rooms, quick
        self._busy = False
        self._tests = _digest("tests", but=Path(__file__).parent)
        self._killers: defaultdict[str, Counter[str]] = defaultdict(Counter)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool | None:
        """Decides all mutants at the first question; None leaves the collection of each run to pytest."""
        if self._busy:
            return None
        self._busy = True
        KEPT.mkdir(exist_ok=True)
        self._watch_tests(session)
        todo = {name: Results(name, f"{self._tests}{QUICK * self._quick}") for name in self._rooms}
        waiting = [(results, *each) for results in todo.values() for each in self._undecided(results)]
        for path, test in (each for results in todo.values() for each in results.killers):
            self._killers[path][test] += 1
        if not self._quick:
            self._try([each for each in waiting if each[2] is None], partial(self._imported, session))
        collect(session, self._folders)
        self._functions, self._items = live_functions(ROOT / PACKAGE), {item.nodeid: item for item in session.items}
        self._try([each for each in waiting if each[2] is not None], partial(self._live, session))
        for results in todo.values():
            results.save()
        return True

    @property
    def _folders(self) -> list[str]:
        return sorted({folder for room in ROOMS.values() for folder in (*room.tests, *room.others)})

    def _watch_tests(self, session: pytest.Session) -> None:
        """One run of all tests as they are, unless there has been one already."""
        stamp, now = KEPT / "tests.stamp", f"{self._tests} {_digest(PACKAGE)}"
        if not stamp.exists() or stamp.read_text() != now:
            if fork(KEPT / "tests.log", partial(self._watched, session)):
                sys.exit(f"the tests fail without a mutant: see {KEPT / 'tests.log'}")
            stamp.write_text(now)
        known = json.loads((KEPT / "tests.json").read_text())
        self._seconds, self._lines, self._names = known["seconds"], known["lines"], list(known["seconds"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for module in known["modules"]:
                with suppress(ImportError):
                    importlib.import_module(module)

    def _undecided(self, results: Results) -> Iterator[tuple[Mutant, Changed | None]]:
        for path in results.room.files(ROOT / PACKAGE):
            original = path.read_bytes()
            for mutant in mutants(ROOT, path):
                if not results.knows(mutant):
                    yield mutant, changed_functions(path, mutant.applied(original))

    # --- the three kinds of children ---

    def _watched(self, session: pytest.Session) -> int:
        session.config.pluginmanager.register(Watch(ROOT, KEPT / "tests.json"))
        collect(session, self._folders)
        return run(session)

    def _imported(self, session: pytest.Session, mutant: Mutant, _: None, tests: list[str], answer: int) -> int:
        path = ROOT / mutant.path
        sys.meta_path.insert(0, Import(path, ROOT, mutant.applied(path.read_bytes())))
        collect(session, dict.fromkeys(map(_file, tests)))
        self._items = {item.nodeid: item for item in session.items}
        return self._chosen(session, tests, answer)

    def _live(self, session: pytest.Session, _: Mutant, changed: Changed, tests: list[str], answer: int) -> int:
        put_in(self._functions, changed)
        return self._chosen(session, tests, answer)

    def _chosen(self, session: pytest.Session, tests: list[str], answer: int) -> int:
        session.items[:] = [self._items[test] for test in tests if test in self._items]
        session.config.pluginmanager.register(Judge(self._seconds, answer))
        return run(session)

    # --- one mutant after the other ---

    def _try(self, waiting: list[Waiting], way: Way) -> None:
        gc.collect()
        gc.freeze()
        for place, (results, mutant, changed) in enumerate(waiting):
            results.add(mutant, *self._verdict(results.room, mutant, partial(way, mutant, changed)))
            sys.stderr.write(f"\r{place + 1} of {len(waiting)} ")

    def _verdict(self, room: Room, mutant: Mutant, way: Callable[[list[str], int], int]) -> tuple[str, str]:
        for tests in self._stages(room, mutant):
            reading, writing = os.pipe()
            status = fork(KEPT / "mutant.log", partial(way, tests, writing))
            os.close(writing)
            with os.fdopen(reading) as answer:
                by = answer.read()
            if status:
                self._killers[mutant.path][by] += 1
                return (TIMED_OUT, "") if hung(status) else (KILLED, by or "import")
        return SURVIVED, ""

    def _stages(self, room: Room, mutant: Mutant) -> Iterator[list[str]]:
        """The tests that run the statement, first those that have noticed most of the module's mutants so far, then by length.

        Last come those that run another one of its function: Python 3.11 does not tell what goes on in a coroutine that an error
        was thrown into. What is run at import may show its effect in any test; of those, the room's own are asked.
        """
        lines = self._lines.get(mutant.path, {})
        running = set(lines.get(str(mutant.line), [AT_IMPORT]))
        around = running.union(*(lines.get(str(line), ()) for line in _body_around(ROOT / mutant.path, mutant.line)))
        at_line, names = ({self._names[place] for place in places if place != AT_IMPORT} for places in (running, around))
        mine = {name for name in names if name.startswith(room.tests if self._quick else (*room.tests, *room.others))}
        if AT_IMPORT in running:
            mine.update(name for name in self._names if name.startswith(room.tests))
        killed, files = self._killers[mutant.path], Counter(map(_file, mine))
        for name, times in killed.items():
            files[_file(name)] += _WORTH * times
        first = {file for file, _ in files.most_common(_FIRST_FILES)}
        stages: list[list[str]] = [[], [], []]
        variants = Counter[str]()
        for name in sorted(mine, key=lambda name: (-killed[name], self._seconds[name])):
            variants[name.partition("[")[0]] += 1
            late = name not in at_line or self._seconds[name] > _SLOW or variants[name.partition("[")[0]] > _VARIANTS
            stages[2 if late else int(_file(name) not in first)].append(name)
        return filter(None, stages[: 2 if self._quick else 3])


class Results:
    """What is known of a room's mutants."""

    def __init__(self, name: str, tests: str) -> None:
        self.room = ROOMS[name]
        self._file, self._tests, self._reasons = KEPT / f"{name}.json", tests, reasons_in(REASONS.read_text())
        self._old = {each["key"]: each for each in json.loads(self._file.read_text())} if self._file.exists() else {}
        self._now: dict[str, dict[str, Any]] = {}

    def knows(self, mutant: Mutant) -> bool:
        """Whether there is a verdict that still holds."""
        old = self._old.get(mutant.key)
        if old is None or (old["verdict"] == SURVIVED and old["tests"] != self._tests and label(old) not in self._reasons):
            return False
        self._now[mutant.key] = {**old, "line": mutant.line}
        return True

    @property
    def killers(self) -> Iterator[tuple[str, str]]:
        """Paths and tests that noticed a mutant there."""
        return ((each["path"], each["by"]) for each in self._now.values() if each["verdict"] == KILLED)

    def add(self, mutant: Mutant, verdict: str, by: str) -> None:
        """Keep a verdict."""
        self._now[mutant.key] = {**asdict(mutant), "verdict": verdict, "by": by, "tests": self._tests}
        if len(self._now) % _SAVE_EVERY == 0:
            self._write(self._old | self._now)

    def save(self) -> None:
        """Keep what there is now, and no more."""
        self._write(self._now)

    def _write(self, results: dict[str, dict[str, Any]]) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(list(results.values()), indent=1))
        fresh.replace(self._file)


def _body_around(path: Path, line: int) -> range:
    """The lines of the innermost function around a line."""
    bodies = [body for body in _bodies(path) if line in body]
    return min(bodies, key=len, default=range(0))


@cache
def _bodies(path: Path) -> list[range]:
    nodes = ast.walk(ast.parse(path.read_bytes()))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [range(node.body[0].lineno, (node.end_lineno or 0) + 1) for node in functions]


def _file(test: str) -> str:
    return test.partition("::")[0]


def _digest(folder: str, but: Path | None = None) -> str:
    files = [path for path in sorted((ROOT / folder).rglob("*.py")) if path.parent != but]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def main() -> int:
    """Return 1 when a room has too many survivors, or a survivor without a reason."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", action="append", choices=ROOMS, help="a room; may be given more than once")
    parser.add_argument("--fresh", action="store_true", help="forget what is known")
    parser.add_argument("--quick", action="store_true", help="no slow tests, none of other rooms, nothing that runs at import")
    parser.add_argument("--report", action="store_true", help="try nothing, only write the report")
    options = parser.parse_args()
    rooms = options.only or list(ROOMS)
    if options.fresh:
        for room in rooms:
            (KEPT / f"{room}.json").unlink(missing_ok=True)
    os.chdir(ROOT)
    os.environ["CI"] = "true"  # the property tests take the same examples every time
    sys.path.insert(0, str(ROOT))
    if not options.report:
        pytest.main([*_OPTIONS, "tests"], plugins=[Campaign(rooms, quick=options.quick)])
    known = read(KEPT)
    made = {room: sum(1 for path in ROOMS[room].files(ROOT / PACKAGE) for _ in mutants(ROOT, path)) for room in known}
    text, wrong = to_markdown(known, reasons_in(REASONS.read_text()), made)
    REPORT.write_text(text)
    sys.stderr.writelines(f"{each}\n" for each in wrong)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
