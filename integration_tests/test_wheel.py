"""The sdist and its wheel, with the source away: they hold what they must, and what was installed works, typed and alone."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import textwrap
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: The part of tests/ that is run on the wheel here; `make dist` runs all of it.
SUITE = ["ground", "config", "orchestrator", "metrics", "demo", "testing_tools", "test_public_face.py", "test_examples.py"]
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, built with the hatchling that is installed."""
    folder = tmp_path_factory.mktemp("sdist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120, capture_output=True)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist, without an index."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, sdist]
    subprocess.run(command, check=True, timeout=120)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel and finds the libraries, but not the source.

    A path file inside the folder that the environment's own path file names is not read: the editable checkout stays out.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", scheme="venv", vars={"base": str(folder)}))
    libraries = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (packages / "libraries.pth").write_text("\n".join(libraries))
    subprocess.run([*PIP, "install", "--no-deps", "--no-index", "--target", packages, wheel], check=True, timeout=120)
    return Path(sysconfig.get_path("scripts", scheme="venv", vars={"base": str(folder)})) / "python"


@pytest.fixture(scope="module")
def installed(python: Path) -> Path:
    """The package, where the wheel was installed."""
    (found,) = python.parent.parent.rglob("resilience_kit/__init__.py")
    return found.parent


def run(python: Path, program: str, cwd: Path) -> str:
    """What a program prints, warnings being errors."""
    command = [python, "-I", "-W", "error", "-c", textwrap.dedent(program)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert ("", 0) == (done.stderr, done.returncode)
    return done.stdout


def source() -> set[str]:
    """The files of the package, as paths in the repository."""
    files = (ROOT / "resilience_kit").rglob("*")
    return {path.relative_to(ROOT).as_posix() for path in files if path.suffix in {".py", ".typed"}}


def test_the_sdist_holds_all_that_its_tests_look_at(sdist: Path) -> None:
    """Package, tests, documentation, examples and benchmarks; no caches, no environments, nothing that tools left behind."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    folders = {name.split("/")[0] for name in names if "/" in name}
    assert set() == source() - names
    assert {"tests", "integration_tests", "docs", "examples", "benchmarks", "requirements"} <= folders
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "pyproject.toml"} <= names
    assert [] == [name for name in names if "__pycache__" in name or name.startswith((".venv", ".git/", "dist/", ".coverage"))]


def test_a_part_of_the_suite_passes_on_the_wheel(sdist: Path, python: Path, installed: Path, tmp_path: Path) -> None:
    """Unpacked elsewhere and without the package beside them, the sdist's tests find the wheel, and pass."""
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    (unpacked / "resilience_kit").rename(tmp_path / "away")
    command = [python, "-m", "pytest", "--quiet", *(f"tests/{part}" for part in SUITE)]
    done = subprocess.run(
        command, cwd=unpacked, capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "CI": "1"}
    )
    assert 0 == done.returncode, done.stdout[-3000:]
    place = subprocess.run(
        [python, "-c", "import resilience_kit as it; print(it.__path__[0])"], cwd=unpacked, capture_output=True, check=True
    )
    assert str(installed) == place.stdout.decode().strip()


def test_it_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """Every module of the source is in it, and `py.typed`; no tests, no caches."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
        licences = [name for name in archive.namelist() if name.endswith("LICENSE")]
    assert source() == names
    assert 1 == len(licences)


def test_a_small_program_works(python: Path, installed: Path, tmp_path: Path) -> None:
    """Retries, a circuit that opens, metrics and the fake provider, from the wheel alone."""
    printed = run(
        python,
        """
        import asyncio, logging, httpx, resilience_kit
        from resilience_kit import CircuitBreakerConfig, Rejected, ResilienceConfig, RetryConfig
        from resilience_kit import get_orchestrator, with_resilience
        from resilience_kit.testing import FakeAIProvider, Fault, OK

        logging.disable(logging.CRITICAL)
        config = ResilienceConfig(retry=RetryConfig(base_delay=0.0), circuit_breaker=CircuitBreakerConfig(failure_threshold=3))

        with FakeAIProvider([Fault.unavailable(), OK, *[Fault.unavailable()] * 9]) as provider:

            @with_resilience("ask", custom_config=config)
            async def ask():
                async with httpx.AsyncClient() as client:
                    response = await client.post(provider.openai_url + "/embeddings", json={"input": "x"})
                return response.raise_for_status().status_code

            async def main():
                print(await ask())
                for _ in range(2):
                    try:
                        await ask()
                    except Rejected as refused:
                        print(str(refused)[:33])
                    except httpx.HTTPStatusError as error:
                        print(error.response.status_code)

            asyncio.run(main())
            print(provider.request_count, get_orchestrator().get_metrics("ask")["total_calls"])
        print(resilience_kit.__file__)
        """,
        tmp_path,
    )
    *lines, file = printed.splitlines()
    assert ["200", "503", "Circuit breaker is open: 'ask'; n", "5 3"] == lines
    assert str(installed / "__init__.py") == file


def test_the_face_is_light(python: Path, tmp_path: Path) -> None:
    """`import resilience_kit` loads no client, server, terminal or test library, and not pydantic-settings either."""
    printed = run(
        python,
        """
        import sys, resilience_kit
        heavy = "httpx httpx2 rich typer uvicorn h11 click pytest openai anthropic requests aiohttp botocore grpc".split()
        print([name for name in [*heavy, "pydantic_settings"] if name in sys.modules])
        print([name for name in resilience_kit.__all__ if not hasattr(resilience_kit, name)])
        """,
        tmp_path,
    )
    assert "[]\n[]\n" == printed


def test_every_room_can_be_entered_first(python: Path, installed: Path, tmp_path: Path) -> None:
    """No room needs another one to have been imported before it."""
    rooms = [f"resilience_kit.{path.stem}" for path in sorted(installed.glob("[!_]*")) if path.suffix in {"", ".py"}]
    printed = run(
        python,
        f"""
        import importlib, sys
        for room in {rooms!r}:
            for loaded in [each for each in sys.modules if each.split(".")[0] == "resilience_kit"]:
                del sys.modules[loaded]
            importlib.import_module(room)
        print("good")
        """,
        tmp_path,
    )
    assert ("good\n", True) == (printed, len(rooms) > 9)


def test_what_is_missing_is_named(python: Path, tmp_path: Path) -> None:
    """Without the extras the provider and the command line say which extra to install."""
    printed = run(
        python,
        """
        import sys
        sys.stderr = sys.stdout
        for name in ("uvicorn", "h11", "typer", "rich", "httpx"):
            sys.modules[name] = None
        from resilience_kit.testing import FakeAIProvider
        try:
            FakeAIProvider().start()
        except ValueError as error:
            print(error)
        from resilience_kit.cli import main
        try:
            main()
        except SystemExit as end:
            print(end.code != 0)
        """,
        tmp_path,
    )
    provider, command, failed = printed.splitlines()
    assert "pip install 'ai-resilience-kit[testing]'" in provider
    assert "pip install 'ai-resilience-kit[cli] @ file://" in command  # from where this one came
    assert "True" == failed
