"""The installed command as a shell runs it, and the doctor against real stores and in a bare environment."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest

from resilience_kit.cli.doctor.finding import Severity
from resilience_kit.cli.doctor.stores import inspect_stores

COMMAND = str(Path(sys.executable).with_name("resilience-kit"))
MAIN = "import sys; sys.argv[0] = 'resilience-kit'; from resilience_kit.cli import main; main()"


def shell(*arguments: str, given: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command with these variables added to a small environment."""
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **variables}
    return subprocess.run(
        [COMMAND, *arguments], input=given, capture_output=True, text=True, timeout=50, check=False, env=environment
    )


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A store that accepts connections on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def test_a_store_that_listens_is_reached(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that has gone is not."""
    port = listener.getsockname()[1]
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setenv("DATABASE_URL", f"postgresql://me:secret@127.0.0.1:{port}/app")
    here, _ = inspect_stores()
    listener.close()
    gone, _ = inspect_stores()
    assert (Severity.OK, f"127.0.0.1:{port} can be reached") == (here.severity, here.text)
    assert (Severity.PROBLEM, f"127.0.0.1:{port} cannot be reached: Connection refused") == (gone.severity, gone.text)


def test_a_host_that_is_none_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """A label that is too long never reaches the network."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("REDIS_URL", f"redis://{'x' * 70}/0")
    _, found = inspect_stores()
    assert Severity.PROBLEM is found.severity


def test_the_installed_command_answers() -> None:
    """Exit codes reach the shell, stdout holds the answer, stderr the mistakes."""
    good, wrong = shell("config", "diff", "simple", "critical"), shell("config", "diff", "simple", "critcal")
    assert (0, "") == (good.returncode, good.stderr)
    assert (2, "") == (wrong.returncode, wrong.stdout)
    assert "did you mean 'critical'?" in wrong.stderr
    assert 1 == shell("doctor", RESILIENCE_PRESET="wrong").returncode


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("config show >&-", 1, ""),
        ("doctor >&-", 1, ""),
        ("config show >&- 2>&-", 1, ""),
        ("config validate - <&-", 2, "resilience-kit: stdin is closed\n"),
        ("config validate - <&- >&-", 2, "resilience-kit: stdin is closed\n"),
        ("config show >/dev/full", 2, "resilience-kit: No space left on device\n"),
        ("--version >/dev/full", 2, "resilience-kit: No space left on device\n"),
        ("config validate <(echo deadline=5) >/dev/null", 0, ""),
    ],
)
def test_a_shell_may_close_and_replace_streams(line: str, code: int, said: str) -> None:
    """Without a traceback."""
    command = ["bash", "-c", f"{COMMAND} {line}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, stdin=subprocess.DEVNULL)
    assert (code, said) == (done.returncode, done.stderr)


def test_a_template_goes_through_a_pipe() -> None:
    """What one command prints, another one checks."""
    template = shell("config", "templates", "high_throughput").stdout
    assert "stdin: valid\n" == shell("config", "validate", "-", given=template).stdout


def test_doctor_in_json_has_no_other_byte() -> None:
    """Also when the kit has something to warn of."""
    done = shell("doctor", "--json", RESILIENCE_SOMETHING_ELSE="1")
    assert (0, "", 0) == (done.returncode, done.stderr, json.loads(done.stdout)["problems"])


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion_is_there_for_a_shell(name: str) -> None:
    """The script that calls the command back, as a shell's start-up file would ask for it."""
    done = shell(_RESILIENCE_KIT_COMPLETE=f"source_{name}")
    assert (0, True) == (done.returncode, f"_RESILIENCE_KIT_COMPLETE=complete_{name}" in done.stdout)


def test_bash_completes_a_template() -> None:
    """The script that bash is given works in bash."""
    script = """
    eval "$(_RESILIENCE_KIT_COMPLETE=source_bash resilience-kit)"
    COMP_WORDS=(resilience-kit config templates low) COMP_CWORD=3
    _resilience_kit_completion resilience-kit
    echo "${COMPREPLY[@]}"
    """
    environment = {"PATH": f"{Path(COMMAND).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=50, check=False, env=environment)
    assert "low_latency\n" == done.stdout


def needed(name: str, extras: frozenset[str] = frozenset()) -> Iterator[str]:
    """A distribution and all that it needs here, by name."""
    from packaging.requirements import Requirement

    yield name
    for text in distribution(name).requires or []:
        wanted = Requirement(text)
        if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in {"", *extras}):
            yield from needed(wanted.name, frozenset(wanted.extras))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the kit and what its extra `cli` needs, and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    root = Path(__file__).resolve().parent.parent
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*install, "--no-build-isolation", "--target", folder, root], check=True, timeout=120)
    for name in {*needed("ai-resilience-kit", frozenset({"cli"}))} - {"ai-resilience-kit"}:
        for path in {Path(str(file)).parts[0] for file in distribution(name).files or []} - {"..", "__pycache__"}:
            target = Path(str(distribution(name).locate_file(path)))
            if not (folder / path).exists():
                (folder / path).symlink_to(target)
    return folder


def test_doctor_in_a_bare_environment(bare: Path, tmp_path: Path) -> None:
    """Without extras there is nothing to mend, and every extra is named with its command."""
    program = f"import sys; sys.path += [{str(bare)!r}]; sys.argv[1:] = ['doctor', '--json']\n{MAIN}"
    command = [sys.executable, "-I", "-S", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, cwd=tmp_path, env={})
    assert (0, "") == (done.returncode, done.stderr)
    found = {(each["area"], each["subject"]): each for each in json.loads(done.stdout)["findings"]}
    assert "ok" == found["extras", "cli"]["severity"]
    assert ("info", "not installed: httpx") == (found["extras", "http"]["severity"], found["extras", "http"]["text"])
    assert "pip install 'ai-resilience-kit[http]', if it is wanted" == found["extras", "http"]["remedy"]
    assert [] == [area for area, _ in found if area == "clients"]


def test_doctor_in_a_full_environment() -> None:
    """With everything installed, every extra is there with its versions, and both SDKs are told of."""
    found = {(each["area"], each["subject"]): each for each in json.loads(shell("doctor", "--json").stdout)["findings"]}
    assert {"ok"} == {each["severity"] for (area, _), each in found.items() if area == "extras"}
    assert re.fullmatch(r"httpx \d.*", found["extras", "http"]["text"])
    assert {("clients", "openai"), ("clients", "anthropic")} <= {*found}
