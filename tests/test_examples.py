"""examples/: each program prints what its docstring says."""

import textwrap
from collections.abc import Iterator
from pathlib import Path
from runpy import run_path

import pytest

from resilience_kit import classification, get_orchestrator, set_orchestrator
from resilience_kit.testing import no_waiting

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


def name(example: Path) -> str:
    """An example's name."""
    return example.stem


def needs_server(example: Path) -> bool:
    """Whether it starts the fake provider: such a one is run in integration_tests/test_examples_with_server.py."""
    return "FakeAIProvider" in example.read_text(encoding="utf-8")


def promised(example: Path) -> str:
    """What its docstring says that it prints."""
    _, _, rest = example.read_text(encoding="utf-8").partition("Prints:\n\n")
    return textwrap.dedent(rest.partition('"""')[0])


def run(example: Path) -> None:
    """Run it as `python examples/...` would, with an orchestrator of its own."""
    set_orchestrator(None)
    run_path(str(example), run_name="__main__")
    set_orchestrator(None)


@pytest.fixture(autouse=True)
def _no_classifier_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What an example registers is forgotten."""
    forgets = []
    register = classification.register_classifier
    monkeypatch.setattr(classification, "register_classifier", lambda *args: forgets.append(register(*args)))
    yield
    for forget in forgets:
        forget()


@pytest.mark.parametrize("example", [each for each in EXAMPLES if not needs_server(each)], ids=name)
@no_waiting()
def test_an_example_prints_what_it_promises(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The program's output is the one in its docstring."""
    run(example)
    assert promised(example) == capsys.readouterr().out


@pytest.mark.parametrize("state", ["open", "forced_open", "half_open", "closed"])
@pytest.mark.parametrize("operation", ["summarize", "illustrate"])
def test_liveness_never_fails_and_readiness_fails_for_a_critical_circuit_alone(operation: str, state: str) -> None:
    """The probes of the example, in every state of a circuit that the service lives on and of one that it does not."""
    set_orchestrator(None)
    program = run_path(str(next(example for example in EXAMPLES if example.stem == "metrics_endpoint")))
    breaker = get_orchestrator().get_circuit_breaker(operation)
    if state == "forced_open":
        breaker.force_open("by a test")
    else:
        breaker.state = state
    is_open = state in {"open", "forced_open"}
    unready = is_open and operation == "summarize"
    assert (200, {"alive": True}) == program["respond"]("/livez")
    assert (
        503 if unready else 200,
        {"ready": not unready, "open": [operation] if is_open else [], "critical": [operation] if unready else []},
    ) == program["respond"]("/readyz")
    assert 200 == program["respond"]("/health")[0]
    set_orchestrator(None)
