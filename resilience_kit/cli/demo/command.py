"""The command `resilience-kit demo`: chooses the view, runs the traffic, writes the picture."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path

from rich.console import Console

from resilience_kit.cli.demo import traffic
from resilience_kit.cli.demo.recording import Recording
from resilience_kit.cli.demo.run_statistics import report
from resilience_kit.cli.demo.scenario import Scenario
from resilience_kit.cli.demo.svg import draw
from resilience_kit.cli.demo.terminal_view import TerminalView
from resilience_kit.cli.demo.text_view import TextView


def run_demo(scenario: Scenario, *, picture: Path, as_json: bool) -> None:
    """Run the demo: print a report and write a picture. Raises OSError at once if the file cannot be written."""
    with picture.open("a", encoding="utf-8"):
        pass  # half a minute of traffic is wasted when the picture has no place to go
    logging.getLogger("resilience_kit").addHandler(logging.NullHandler())
    recording = _run_silently(scenario) if as_json else _run_visibly(scenario)
    picture.write_text(draw(recording), encoding="utf-8")
    if as_json:
        _write_stdout(json.dumps({**report(recording), "picture": str(picture)}, indent=2))
    else:
        _write_stdout(f"timeline: {picture}")


def _run_silently(scenario: Scenario) -> Recording:
    return asyncio.run(traffic.run(scenario, lambda _recording: None))


def _run_visibly(scenario: Scenario) -> Recording:
    console = Console()
    with TerminalView(console) if console.is_terminal else TextView(_write_stdout) as view:
        recording = asyncio.run(traffic.run(scenario, view.show))
    view.finish(recording)
    return recording


def _write_stdout(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
