"""What `import resilience_kit` gives, and what it does not load."""

from __future__ import annotations

import shlex
import subprocess
import sys
from importlib import metadata

import pytest

import resilience_kit
from resilience_kit import _version
from resilience_kit._version import install_command

OPTIONAL = ("httpx", "httpx2", "typer", "rich", "uvicorn", "h11", "pytest", "openai", "anthropic", "pydantic_settings")


def test_the_face_is_small_sorted_and_there():
    """At most 30 names."""
    names = resilience_kit.__all__
    assert sorted(names) == names
    assert len(names) <= 30
    assert all(getattr(resilience_kit, name) is not None for name in names)


def test_importing_it_loads_no_optional_library():
    """Nor makes an orchestrator, nor touches the logger's handlers."""
    code = (
        "import sys, logging, resilience_kit, resilience_kit.orchestrator.default as o\n"
        f"loaded = [name for name in {OPTIONAL} if name in sys.modules]\n"
        "assert not loaded, loaded\n"
        "assert o._default is None\n"
        "assert not logging.getLogger('resilience_kit').handlers\n"
    )
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


def test_the_version_is_that_of_the_distribution():
    """Read when it is asked for, so that the import does not pay for it; other names are no attributes."""
    code = "import sys, resilience_kit; assert 'importlib.metadata' not in sys.modules; print(resilience_kit.__version__)"
    loaded = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (f"{metadata.version('ai-resilience-kit')}\n", 0) == (loaded.stdout, loaded.returncode)
    with pytest.raises(AttributeError, match="module 'resilience_kit' has no attribute '__versions__'"):
        resilience_kit.__versions__  # noqa: B018 - the access is the test


def test_the_module_is_the_command_line():
    """`python -m resilience_kit` is `resilience-kit`."""
    told = subprocess.run([sys.executable, "-m", "resilience_kit", "--version"], check=False, capture_output=True, text=True)
    assert (f"ai-resilience-kit {resilience_kit.__version__}\n", "", 0) == (told.stdout, told.stderr, told.returncode)


def test_the_module_without_its_extra_names_a_command():
    """Of this interpreter and of the place that the kit was installed from; exit code 2."""
    code = (
        "import sys, runpy; sys.modules['typer'] = None; sys.argv = ['-m']\n"
        "runpy.run_module('resilience_kit', run_name='__main__')"
    )
    told = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert ("", 2) == (told.stdout, told.returncode)
    assert f"resilience-kit: typer is missing; {install_command('cli')}\n" == told.stderr


class Installed:
    """A distribution as pip left it."""

    def __init__(self, noted: str | None) -> None:
        self.noted = noted

    def read_text(self, _name: str) -> str | None:
        return self.noted


@pytest.mark.parametrize(
    ("noted", "expected"),
    [
        (None, "'ai-resilience-kit[cli]'"),
        ("no JSON", "'ai-resilience-kit[cli]'"),
        ("[]", "'ai-resilience-kit[cli]'"),
        ('{"url": "file:///home/me/my%20kit", "dir_info": {}}', "'/home/me/my kit[cli]'"),
        ('{"url": "file:///home/me/kit", "dir_info": {"editable": true}}', "-e '/home/me/kit[cli]'"),
        (
            '{"url": "file:///tmp/kit-1.0-py3-none-any.whl", "archive_info": {}}',
            "'ai-resilience-kit[cli] @ file:///tmp/kit-1.0-py3-none-any.whl'",
        ),
        ('{"url": "git@example.com:kit", "vcs_info": {}}', "'ai-resilience-kit[cli]'"),
    ],
)
def test_the_command_is_for_the_place_that_the_kit_came_from(monkeypatch, noted, expected):
    """A folder, a wheel, or the index; by the interpreter that runs, which may not be the first on the PATH."""
    monkeypatch.setattr(metadata, "distribution", lambda _name: Installed(noted))
    assert f"{shlex.quote(sys.executable)} -m pip install {expected}" == install_command("cli")


def test_a_folder_that_was_never_installed_has_a_command_too(monkeypatch, tmp_path):
    """The checkout itself; without one, the index, and a version that nobody knows."""

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    monkeypatch.setattr(_version, "__file__", str(tmp_path / "resilience_kit" / "_version.py"))
    monkeypatch.setattr(sys, "executable", "")
    assert ("python -m pip install 'ai-resilience-kit[cli]'", "0+unknown") == (install_command("cli"), _version.version())
    (tmp_path / "pyproject.toml").touch()
    assert f"python -m pip install '{tmp_path}[cli]'" == install_command("cli")
