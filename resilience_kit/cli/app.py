"""The commands and their options; what they do is in the rooms beside."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from resilience_kit.cli.demo.command import run_demo
from resilience_kit.cli.demo.scenario import Scenario
from resilience_kit.errors import ResilienceError

DISTRIBUTION = "ai-resilience-kit"
INTERRUPTED = 130
# typer carries click along under a changing name; the public way to its base error is through this subclass.
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(name="resilience-kit", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and give its exit code; every mistake of the user becomes one sentence on stderr."""
    try:
        return int(app(list(arguments), standalone_mode=False) or 0)
    except USAGE_ERROR as error:
        message: str = error.format_message()  # type: ignore[attr-defined]  # see USAGE_ERROR
    except (ResilienceError, OSError) as error:
        message = str(error)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    typer.echo(f"resilience-kit: {' '.join(message.split())}", err=True)
    return 2


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{DISTRIBUTION} {version(DISTRIBUTION)}")
        raise typer.Exit


@app.callback()
def resilience_kit(
    _version: Annotated[bool, typer.Option("--version", help="Tell the version.", callback=_show_version, is_eager=True)] = False,
) -> None:
    """Keeps AI service calls alive."""


@app.command()
def demo(
    quick: Annotated[bool, typer.Option("--quick", help="Take 8 seconds instead of 30.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON, and nothing else.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed is another row of calls and faults.")] = 1,
    picture: Annotated[Path, typer.Option("--picture", help="Where the timeline goes (SVG).")] = Path("resilience-demo.svg"),
) -> None:
    """Send the same traffic through a plain client and through the kit, with an outage in the middle."""
    run_demo(Scenario.quick(seed) if quick else Scenario(seed=seed), picture=picture, as_json=json)
