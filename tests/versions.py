"""`make versions`: tests/ on every interpreter of this machine that the kit supports, each in an environment of its own.

    python tests/versions.py [VERSION ...] [-- PYTEST_ARGUMENTS]

Interpreters are looked for on the PATH and among pyenv's; of several with one minor version the newest is taken. VERSION (such as
3.12) leaves the others out. All tests are run, also those marked slow; `make coverage` measures, this does not. Ends with a
table, and with exit code 1 when one of them failed or none was found.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
LOWEST = (3, 11)
_PARALLEL = ("-n", "auto", "--dist", "worksteal")
_QUESTION = (
    "import platform, sys\n"
    "has_gil = getattr(sys, '_is_gil_enabled', lambda: True)()\n"
    "print(*sys.version_info[:3], platform.python_implementation(), has_gil)"
)
_SUM = re.compile(r"^=*\s*((?:\d+ \w+(?:, )?)+) in [\d.]+s", re.MULTILINE)


class Interpreter(NamedTuple):
    """A CPython with its GIL."""

    version: tuple[int, int, int]
    path: str

    @property
    def minor(self) -> str:
        """As in `python3.12`."""
        return f"{self.version[0]}.{self.version[1]}"


class Run(NamedTuple):
    """How tests/ ended on one of them."""

    interpreter: Interpreter
    passed: bool
    told: str
    seconds: float


def candidates() -> Iterator[str]:
    """What may be an interpreter: pyenv's own first, since its shims answer for one version only."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()
    folders = [*sorted(pyenv.glob("versions/*/bin")), *map(Path, os.environ.get("PATH", "").split(os.pathsep))]
    for folder in folders:
        yield from map(str, sorted(folder.glob("python3.[0-9]*")))
    yield sys.executable


def asked(path: str) -> Interpreter | None:
    """What an interpreter says of itself; None for what does not run, or is another one."""
    try:
        answer = subprocess.run([path, "-c", _QUESTION], capture_output=True, text=True, timeout=60, check=True).stdout.split()
        *version, implementation, has_gil = answer
        found = Interpreter((int(version[0]), int(version[1]), int(version[2])), path)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return found if implementation == "CPython" and has_gil == "True" and found.version[:2] >= LOWEST else None


def interpreters(wanted: list[str]) -> list[Interpreter]:
    """The newest of each minor version, the lowest minor version first."""
    newest: dict[str, Interpreter] = {}
    for path in dict.fromkeys(each for each in candidates() if re.search(r"python(3\.\d+)?$", each)):
        found = asked(path)
        if found is not None and (not wanted or found.minor in wanted):
            known = newest.get(found.minor)
            if known is None or found.version > known.version:
                newest[found.minor] = found
    return sorted(newest.values())


def run(interpreter: Interpreter, arguments: list[str]) -> Run:
    """Make the environment, by the same rules as any other, and run tests/ in it."""
    venv = ROOT / f".venv-{interpreter.minor}"
    print(f"--- {interpreter.minor}: {interpreter.path}", flush=True)
    made = subprocess.run(
        [
            _make(),
            "--no-print-directory",
            f".venv-{interpreter.minor}/.dev-stamp",
            f"VENV=.venv-{interpreter.minor}",
            f"PYTHON={interpreter.path}",
        ],
        cwd=ROOT,
        check=False,
    )
    if made.returncode:
        return Run(interpreter, passed=False, told="its environment could not be made", seconds=0.0)
    begun = time.monotonic()
    child = subprocess.Popen(
        [venv / "bin" / "python", "-m", "pytest", *_PARALLEL, *(arguments or ["tests"])],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    lines = list(_shown(child))
    found = _SUM.findall("".join(lines[-5:]))
    return Run(interpreter, child.wait() == 0, found[-1] if found else "ended early", time.monotonic() - begun)


def _shown(child: subprocess.Popen[str]) -> Iterator[str]:
    for line in child.stdout or ():
        print(line, end="", flush=True)
        yield line


def _make() -> str:
    return os.environ.get("MAKE") or shutil.which("make") or "make"


def main(arguments: list[str]) -> int:
    """Run, and print the table."""
    wanted, _, given = " ".join(arguments).partition("--")
    found = interpreters(wanted.split())
    runs = [run(each, given.split()) for each in found]
    print("\n| Python | tests/ | seconds | how it ended |\n|---|---|---|---|")
    for each in runs:
        version = ".".join(map(str, each.interpreter.version))
        print(f"| {version} | {'passed' if each.passed else 'FAILED'} | {each.seconds:.0f} | {each.told} |")
    if not runs:
        print("no interpreter from 3.11 on was found" + (f" among {wanted}" if wanted else ""), file=sys.stderr)
    return 0 if runs and all(each.passed for each in runs) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
