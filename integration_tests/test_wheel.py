"""The built wheel, with the source away: it imports, it works, it is typed, and it brings nothing that was not asked for."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import textwrap
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built with the hatchling that is installed, without an index."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--disable-pip-version-check", "--wheel-dir", folder, ROOT], check=True, timeout=120)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which it is installed."""
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*command, "--target", folder, wheel], check=True, timeout=120)
    return folder


def run(installed: Path, program: str, cwd: Path) -> str:
    """What a program prints that finds the installed wheel and the libraries, but not the source.

    `-S` leaves out the path files of site-packages, among them the one of the editable checkout.
    """
    paths = [str(installed), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    prologue = f"import sys; sys.path += {paths!r}\n"
    command = [sys.executable, "-I", "-S", "-W", "error", "-c", prologue + textwrap.dedent(program)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert ("", 0) == (done.stderr, done.returncode)
    return done.stdout


def test_it_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """Every module of the source is in it, and `py.typed`; no tests, no caches."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
        licences = [name for name in archive.namelist() if name.endswith("LICENSE")]
    source = {str(path.relative_to(ROOT)) for path in (ROOT / "resilience_kit").rglob("*") if path.suffix in {".py", ".typed"}}
    assert source == names
    assert 1 == len(licences)


def test_a_small_program_works(installed: Path, tmp_path: Path) -> None:
    """Retries, a circuit that opens, metrics and the fake provider, from the wheel alone."""
    printed = run(
        installed,
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
    assert str(installed / "resilience_kit" / "__init__.py") == file


def test_the_face_is_light(installed: Path, tmp_path: Path) -> None:
    """`import resilience_kit` loads no client, server, terminal or test library, and not pydantic-settings either."""
    printed = run(
        installed,
        """
        import resilience_kit
        heavy = "httpx httpx2 rich typer uvicorn h11 click pytest openai anthropic requests aiohttp botocore grpc".split()
        print([name for name in [*heavy, "pydantic_settings"] if name in sys.modules])
        print([name for name in resilience_kit.__all__ if not hasattr(resilience_kit, name)])
        """,
        tmp_path,
    )
    assert "[]\n[]\n" == printed


def test_every_room_can_be_entered_first(installed: Path, tmp_path: Path) -> None:
    """No room needs another one to have been imported before it."""
    rooms = [
        f"resilience_kit.{path.stem}"
        for path in sorted((installed / "resilience_kit").glob("[!_]*"))
        if path.suffix in {"", ".py"}
    ]
    printed = run(
        installed,
        f"""
        import importlib
        for room in {rooms!r}:
            for loaded in [each for each in sys.modules if each.split(".")[0] == "resilience_kit"]:
                del sys.modules[loaded]
            importlib.import_module(room)
        print("good")
        """,
        tmp_path,
    )
    assert ("good\n", True) == (printed, len(rooms) > 9)


def test_what_is_missing_is_named(installed: Path, tmp_path: Path) -> None:
    """Without the extras the provider and the command line say which extra to install."""
    printed = run(
        installed,
        """
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
    assert "pip install 'ai-resilience-kit[demo]'" in command
    assert "True" == failed
