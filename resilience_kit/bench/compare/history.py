"""Files of runs: one suite as a baseline, many as a history of one JSON line each."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from resilience_kit._checks import Checks
from resilience_kit.bench.json_reader import LARGEST, parse_json, read_file
from resilience_kit.bench.results import BenchmarkSuite
from resilience_kit.errors import ConfigurationError

_SLACK = 1.25


def read_suite(path: str | os.PathLike[str]) -> BenchmarkSuite:
    """Return the suite in a JSON file. Raises ConfigurationError with the file and the field."""
    return BenchmarkSuite.from_dict(read_file(Path(path)), str(path))


def write_suite(suite: BenchmarkSuite, path: str | os.PathLike[str]) -> None:
    """Write a suite to a file, as a baseline, and replace the file atomically. Raises OSError."""
    _replace(Path(path), [suite.to_json(indent=1).encode() + b"\n"])


@dataclass(frozen=True, slots=True)
class HistoryData:
    """The runs in a history, oldest first, and a sentence about each line that could not be read."""

    suites: tuple[BenchmarkSuite, ...]
    problems: tuple[str, ...]


class History:
    """A file of runs, appended to, that keeps the newest `limit` of them.

    A line that cannot be read is reported and skipped. Each run is written at once, so several processes may append; a run that
    another process appends while old ones are being dropped can be lost.
    """

    def __init__(self, path: str | os.PathLike[str], *, limit: int = 1000) -> None:
        checks = Checks("History")
        checks.integer("limit", limit, 1)
        checks.raise_if_any()
        self._path, self._limit = Path(path), limit

    def append(self, suite: BenchmarkSuite) -> None:
        """Add a run; drop old ones when there are a quarter too many. Raises OSError."""
        line = suite.to_json().encode() + b"\n"
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            file.write(b"" if _ends_well(file) else b"\n")
            file.write(line)
        self._trim()

    def read(self) -> HistoryData:
        """Return all runs that can be read; none without a file. Raises OSError."""
        suites: list[BenchmarkSuite] = []
        problems: list[str] = []
        for number, line in self._newest():
            try:
                suites.append(self._suite(number, line))
            except ConfigurationError as error:
                problems.append(str(error))
        return HistoryData(tuple(suites), tuple(problems))

    def _suite(self, number: int, line: bytes) -> BenchmarkSuite:
        location = f"{self._path}, line {number}"
        return BenchmarkSuite.from_dict(parse_json(line, location), location)

    def _newest(self) -> deque[tuple[int, bytes]]:
        newest: deque[tuple[int, bytes]] = deque(maxlen=self._limit)
        if self._path.exists():
            with self._path.open("rb") as file:
                newest.extend((number, line) for number, line in enumerate(_lines(file), 1) if line.strip())
        return newest

    def _trim(self) -> None:
        with self._path.open("rb") as file:
            count = sum(1 for _ in _lines(file))
        if count > self._limit * _SLACK:
            _replace(self._path, [line.rstrip(b"\n") + b"\n" for _, line in self._newest()])


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file; of a line that is longer than any run, only the beginning."""
    while line := file.readline(LARGEST + 1):
        rest = line
        while not rest.endswith(b"\n") and (rest := file.readline(LARGEST)):
            pass
        yield line


def _ends_well(file: BinaryIO) -> bool:
    """Return whether the file ends with a complete line: a killed process may have left half of one."""
    if not file.seek(0, os.SEEK_END):
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _replace(path: Path, lines: list[bytes]) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(lines)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
