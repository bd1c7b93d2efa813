"""The pages of docs/ whose blocks talk to a real server on loopback."""

from pathlib import Path
from runpy import run_path

import pytest

from resilience_kit import set_orchestrator

ROOT = Path(__file__).parent.parent
DOCS = run_path(str(ROOT / "tests" / "test_docs.py"))
PAGES = [page for page in DOCS["PAGES"] if DOCS["needs_server"](page)]


@pytest.mark.parametrize("page", PAGES, ids=DOCS["name"])
def test_the_python_blocks_of_a_page_run(
    page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A page's blocks run as one program and print what the text blocks after them say."""
    monkeypatch.chdir(tmp_path)
    set_orchestrator(None)
    DOCS["run"](page, monkeypatch, capsys)
    set_orchestrator(None)
