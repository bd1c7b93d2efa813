"""Run the test suites of other libraries against the kit: `make foreign`, or `make foreign ARGS="circuitbreaker httpx"`.

A suite is taken from the sdist of the version that requirements/foreign.txt pins, so that none of its code is kept here. A file
in suites/ tells what of it is run, by which shim the kit takes the place of what the suite tests, which lines are rewritten
because they use what is private to the original, and which tests are expected to fail, each with its reason. A test that fails
and is not expected to, one that passes and is expected to fail, and an expectation or a rewrite that fits nothing fail the run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import time
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LOCK = ROOT / "requirements" / "foreign.txt"
BUILD = ROOT / "build" / "foreign"
LONGEST_SUITE = 900.0


def main(names: list[str]) -> int:
    """Run the suites of these names, all without one; 1 when one of them did not end as expected."""
    suites = {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted(HERE.glob("suites/*.toml"))}
    unknown = [name for name in names if name not in suites]
    if unknown:
        sys.exit(f"no such suite: {', '.join(unknown)}; there are {', '.join(suites)}")
    chosen = {name: suites[name] for name in names or suites}
    download({suite["distribution"] for suite in chosen.values() if "distribution" in suite})
    failed = [name for name, suite in chosen.items() if not run(name, suite)]
    say(f"not as expected: {', '.join(failed)}" if failed else "all as expected")
    return int(bool(failed))


def download(distributions: set[str]) -> None:
    """Fetch the sdists that are not here yet, each checked against the hashes of the lock."""
    blocks = {block.split("==")[0].split("[")[0]: block for block in re.split(r"\n(?=\S)", LOCK.read_text(encoding="utf-8"))}
    missing = [name for name in sorted(distributions) if not _sdist(name).exists()]
    if not missing:
        return
    BUILD.mkdir(parents=True, exist_ok=True)
    requirements = BUILD / "sdists.txt"
    requirements.write_text("\n".join(blocks[name] for name in missing) + "\n", encoding="utf-8")
    options = ["--quiet", "--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--require-hashes"]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", *options]
    subprocess.run([*command, "--dest", str(BUILD), "--requirement", str(requirements)], check=True)


def run(name: str, suite: dict[str, Any]) -> bool:
    """Unpack a suite afresh, rewrite it, run it; prints a line, and the output of pytest where it did not end as expected."""
    folder = unpack(suite["distribution"], BUILD / name) if "distribution" in suite else ROOT
    unused = rewrite(folder, suite.get("rewrite", []))
    results = BUILD / f"{name}.xml"
    results.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-p", "shims.expectations"]
    command += ["-p", f"shims.{suite['shim']}"] if "shim" in suite else []
    command += ["-o", "addopts=", "-p", "no:cacheprovider", "-q", "--tb=short", f"--junitxml={results}", f"--rootdir={folder}"]
    begun = time.monotonic()
    ended = subprocess.run(
        [*command, *suite.get("options", []), *suite["tests"]],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(HERE), "FOREIGN_SUITE": str(HERE / "suites" / f"{name}.toml")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LONGEST_SUITE,
        check=False,
    )
    good = ended.returncode == 0 and not unused
    if not good:
        say(ended.stdout, *unused)
    say(f"{name:16} {counts(results)}, {time.monotonic() - begun:.0f} s{'' if good else ', NOT AS EXPECTED'}")
    return good


def say(*lines: str) -> None:
    """Print at once: a suite takes its time."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def counts(results: Path) -> str:
    """What became of the tests, in words."""
    if not results.exists():
        return "did not run"
    found = {"passed": 0, "failed as expected": 0, "failed or passed unexpectedly": 0, "skipped by the suite": 0}
    for case in ET.parse(results).iter("testcase"):
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            found["failed or passed unexpectedly"] += 1
        elif skipped is None:
            found["passed"] += 1
        else:
            found["failed as expected" if skipped.get("type") == "pytest.xfail" else "skipped by the suite"] += 1
    return ", ".join(f"{count} {what}" for what, count in found.items() if count)


def unpack(distribution: str, folder: Path) -> Path:
    """The folder of the sdist's sources, without its own library: the installed one is tested."""
    with tarfile.open(_sdist(distribution)) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.glob(f"{_file_name(distribution)}-*"))


def rewrite(folder: Path, changes: list[dict[str, str]]) -> list[str]:
    """Replace snippets; gives a sentence for each that is not there."""
    unused = []
    for change in changes:
        path = folder / change["file"]
        text = path.read_text(encoding="utf-8")
        if change["old"] not in text:
            unused.append(f"{change['file']} has no {change['old']!r}")
        path.write_text(text.replace(change["old"], change["new"]), encoding="utf-8")
    return unused


def _sdist(distribution: str) -> Path:
    version = re.search(rf"^{re.escape(distribution)}(?:\[[^]]*\])?==(\S+)", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    if version is None:
        sys.exit(f"{LOCK.name} does not pin {distribution}: run `make lock`")
    return BUILD / f"{_file_name(distribution)}-{version[1]}.tar.gz"


def _file_name(distribution: str) -> str:
    return re.sub(r"[-_.]+", "_", distribution)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
