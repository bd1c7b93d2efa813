"""Those examples that talk to the fake provider."""

from pathlib import Path
from runpy import run_path

import pytest

EXAMPLES = run_path(str(Path(__file__).parent.parent / "tests" / "test_examples.py"))
WITH_SERVER = [example for example in EXAMPLES["EXAMPLES"] if EXAMPLES["needs_server"](example)]


@pytest.mark.parametrize("example", WITH_SERVER, ids=EXAMPLES["name"])
def test_an_example_prints_what_it_promises(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The program's output is the one in its docstring."""
    EXAMPLES["run"](example)
    assert EXAMPLES["promised"](example) == capsys.readouterr().out
