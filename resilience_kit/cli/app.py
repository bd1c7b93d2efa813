"""The commands and their options. Each command imports the module that implements it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from resilience_kit._version import DISTRIBUTION, version
from resilience_kit.cli import completion
from resilience_kit.cli.errors import CliError, describe_os_error
from resilience_kit.errors import ResilienceError

NAME = "resilience-kit"
INTERRUPTED = 130
EXIT_CODES = (
    "Exit codes: 0, success; 1, a negative result (a file is not valid, the doctor found a problem, the bench a missed target or "
    "a regression); 2, an error on the command line, in the environment or in a file; 130, interrupted."
)
# typer vendors click under a changing name; this subclass is the public way to its base error.
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[2]

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else.")]

_BOTH: dict[str, object] = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(name=NAME, rich_markup_mode=None, pretty_exceptions_enable=False, epilog=EXIT_CODES, context_settings=_BOTH)
config = typer.Typer(rich_markup_mode=None)
app.add_typer(config, name="config", epilog=EXIT_CODES)
jobs = typer.Typer(rich_markup_mode=None)
app.add_typer(jobs, name="jobs", epilog=EXIT_CODES)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; every error of the user becomes one sentence on stderr."""
    try:
        code = int(app(list(arguments), prog_name=NAME, standalone_mode=False) or 0)
        sys.stdout.flush()
    except USAGE_ERROR as error:
        message = _with_help(error)
    except (CliError, ResilienceError) as error:
        message = str(error)
    except BrokenPipeError:
        raise
    except OSError as error:
        message = describe_os_error(error)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    else:
        return code
    typer.echo(f"{NAME}: {_collapse(message)}", err=True)
    return 2


def _with_help(error: Exception) -> str:
    message: str = error.format_message()  # type: ignore[attr-defined]  # see USAGE_ERROR
    command = getattr(getattr(error, "ctx", None), "command_path", NAME)
    return f"{message}{'' if message.endswith(('.', '?')) else '.'} See '{command} --help'."


def _collapse(message: str) -> str:
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in " ".join(message.split()))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{DISTRIBUTION} {version()}")
        raise typer.Exit


@app.callback()
def main_options(
    _version: Annotated[bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)] = False,
) -> None:
    """Keep AI service calls alive."""


@app.command()
def demo(
    quick: Annotated[bool, typer.Option("--quick", help="Take 8 seconds instead of 30.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON, and nothing else.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the random calls and faults.")] = 1,
    picture: Annotated[Path, typer.Option("--picture", help="File for the timeline (SVG).")] = Path("resilience-demo.svg"),
) -> None:
    """Send the same traffic through a plain client and through the kit, with an outage in the middle."""
    from resilience_kit.cli.demo.command import run_demo
    from resilience_kit.cli.demo.scenario import Scenario

    run_demo(Scenario.quick(seed) if quick else Scenario(seed=seed), picture=picture, as_json=json)


@app.command()
def doctor(
    stores: Annotated[bool, typer.Option("--stores", help="Connect to DATABASE_URL and REDIS_URL, too.")] = False,
    app: Annotated[
        str | None,
        typer.Option(
            "--app", metavar="MODULE[:ATTRIBUTE]", help="Import the application, and check names against its operations."
        ),
    ] = None,
    json: JsonOption = False,
) -> int:
    """Check the libraries, their pitfalls and the environment; exit code 1 if there is a problem."""
    from resilience_kit.cli.doctor.command import run_doctor
    from resilience_kit.cli.output import Output

    return run_doctor(Output(json), stores=stores, app=app)


@app.command()
def presets(
    environment: Annotated[
        str | None, typer.Option("--for", metavar="ENVIRONMENT", help="Recommend a preset for an environment of this name.")
    ] = None,
    json: JsonOption = False,
) -> int:
    """List the presets with their numbers, and recommend one for this environment."""
    from resilience_kit.cli.output import Output
    from resilience_kit.cli.presets import show_presets

    return show_presets(Output(json), environment)


@app.command()
def bench(  # noqa: PLR0913 - one argument an option
    iterations: Annotated[int, typer.Option("--iterations", min=1, help="Samples of each benchmark.")] = 100,
    baseline: Annotated[Path | None, typer.Option("--baseline", help="Compare with this saved run.")] = None,
    save: Annotated[Path | None, typer.Option("--save", help="Save this run, as a baseline (.json).")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a report with plots.")] = None,
    history: Annotated[Path | None, typer.Option("--history", help="Add this run to the file, and report trends.")] = None,
    json: JsonOption = False,
) -> int:
    """Measure the kit's overhead on this machine; exit code 1 if a target is missed or a result is worse than the baseline."""
    from resilience_kit.cli.bench import bench as measure
    from resilience_kit.cli.output import Output

    return measure(Output(json), iterations, baseline=baseline, save=save, html=html, history=history)


@config.callback()
def _config() -> None:
    """Show, explain, check and compare configurations."""


@config.command()
def show(json: JsonOption = False) -> int:
    """Show the options of all operations in this environment, with their sources."""
    from resilience_kit.cli.config.show import show as answer
    from resilience_kit.cli.output import Output

    return answer(Output(json))


@config.command()
def explain(  # noqa: PLR0913 - one argument an option
    operation: Annotated[str, typer.Argument(help="The operation's name.", autocompletion=completion.operations)],
    strategy: Annotated[
        str | None, typer.Option("--strategy", help="The strategy that the code passes.", autocompletion=completion.strategies)
    ] = None,
    custom_config: Annotated[
        str | None, typer.Option("--custom-config", metavar="JSON", help="The custom_config that the code passes.")
    ] = None,
    live: Annotated[
        str | None, typer.Option("--live", help="A strategy set at run time.", autocompletion=completion.strategies)
    ] = None,
    app: Annotated[
        str | None,
        typer.Option(
            "--app", metavar="MODULE[:ATTRIBUTE]", help="Import the application, and use its orchestrator or the default one."
        ),
    ] = None,
    json: JsonOption = False,
) -> int:
    """Explain each option of one operation: its value, the source that decided it, and the values that it overrode."""
    from resilience_kit.cli.config.explain import explain_of_app, explain_operation
    from resilience_kit.cli.output import Output

    if app is None:
        return explain_operation(Output(json), operation, strategy=strategy, custom_config=custom_config, live=live)
    if strategy is not None or custom_config is not None:
        raise CliError("--app tells what the code asks for: leave out --strategy and --custom-config")
    return explain_of_app(Output(json), operation, app, live=live)


@config.command()
def validate(
    file: Annotated[str, typer.Argument(help="A .toml or .json file; - for stdin.")],
    strict: Annotated[bool, typer.Option("--strict", help="Validate as untrusted input.")] = False,
    app: Annotated[
        str | None,
        typer.Option(
            "--app",
            metavar="MODULE[:ATTRIBUTE]",
            help="Import the application, and warn of names similar to its operations.",
        ),
    ] = None,
    json: JsonOption = False,
) -> int:
    """Validate a file, ignoring the environment; exit code 1 if it is not valid."""
    from resilience_kit.cli.config.validate import validate as answer
    from resilience_kit.cli.output import Output

    if strict and app is not None:
        raise CliError("--strict validates untrusted input, without an application: leave out --app")
    return answer(Output(json), file, strict=strict, app=app)


@config.command()
def schema(
    what: Annotated[
        Literal["custom_config", "file", "preset", "template_overrides"], typer.Option("--of", help="The text to describe.")
    ] = "file",
    json: JsonOption = False,  # noqa: ARG001 - every command has it; a schema is JSON anyway
) -> int:
    """Print the JSON Schema of a configuration file, or of another configuration text."""
    from resilience_kit.cli.config.schema import show_schema
    from resilience_kit.cli.output import Output

    return show_schema(Output(), what)


@config.command()
def templates(
    name: Annotated[str | None, typer.Argument(help="The template to print.", autocompletion=completion.templates)] = None,
    json: JsonOption = False,
) -> int:
    """List the templates, or print one of them."""
    from resilience_kit.cli.config.templates import list_templates, show_template
    from resilience_kit.cli.output import Output

    return list_templates(Output(json)) if name is None else show_template(Output(json), name)


_CONFIGURATION_HELP = "A preset, strategy, template or file."


@config.command()
def diff(
    a: Annotated[str, typer.Argument(help=_CONFIGURATION_HELP, autocompletion=completion.configurations)],
    b: Annotated[str, typer.Argument(help=_CONFIGURATION_HELP, autocompletion=completion.configurations)],
    json: JsonOption = False,
) -> int:
    """Show in which fields two configurations differ."""
    from resilience_kit.cli.config.diff import diff as answer
    from resilience_kit.cli.output import Output

    return answer(Output(json), a, b)


JobsAppOption = Annotated[str | None, typer.Option("--app", metavar="MODULE:ATTRIBUTE", help="The application from make_app().")]


@jobs.callback()
def _jobs() -> None:
    """Run workers and manage the queue, in the database of DATABASE_URL or an embedded one."""


@jobs.command()
def worker(
    app: JobsAppOption = None,
    queue: Annotated[list[str] | None, typer.Option("--queue", help="Serve this queue only; repeatable.")] = None,
    concurrency: Annotated[int | None, typer.Option("--concurrency", min=1, help="Number of jobs at once.")] = None,
    name: Annotated[str, typer.Option("--name", help="The worker's name in the log.")] = "worker",
    once: Annotated[bool, typer.Option("--once", help="End when the queue is empty.")] = False,
) -> int:
    """Run jobs until stopped by a signal; running jobs finish, or return to the queue."""
    from resilience_kit.cli.jobs import run_worker

    return run_worker(app, queues=queue or (), concurrency=concurrency, once=once, name=name)


@jobs.command()
def serve(
    service: Annotated[str, typer.Argument(metavar="MODULE:ATTRIBUTE", help="The ASGI application that defers jobs.")],
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 for any that is free.")] = 8000,
) -> int:
    """Serve a web application over the queue."""
    from resilience_kit.cli.jobs import serve as answer

    return answer(service, host, port)


@jobs.command()
def sweep(app: JobsAppOption = None, json: JsonOption = False) -> int:
    """Sweep stalled jobs now; exit code 1 if one was skipped."""
    from resilience_kit.cli.jobs import sweep as answer
    from resilience_kit.cli.output import Output

    return answer(Output(json), app)


@jobs.command("list")
def list_(
    status: Annotated[str | None, typer.Option("--status", help="Jobs of this status only.")] = None,
    task: Annotated[str | None, typer.Option("--task", help="Jobs of this task only.")] = None,
    job: Annotated[int | None, typer.Option("--job", metavar="ID", min=1, help="This job only, with its full error.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="The maximum number of jobs.")] = 20,
    json: JsonOption = False,
) -> int:
    """List the newest jobs, without their arguments, with type, file and line of their last errors."""
    from resilience_kit.cli.jobs import list_jobs
    from resilience_kit.cli.output import Output

    return list_jobs(Output(json), status=status, task=task, job_id=job, limit=limit)


@jobs.command()
def retry(job: Annotated[int, typer.Argument(metavar="ID", min=1, help="The job's id.")], json: JsonOption = False) -> int:
    """Retry a failed job once; exit code 1 if there is no such job, or it has not failed."""
    from resilience_kit.cli.jobs import retry as answer
    from resilience_kit.cli.output import Output

    return answer(Output(json), job)


@jobs.command("demo")
def jobs_demo(
    count: Annotated[int, typer.Option("--jobs", min=1, max=1000, help="Number of jobs.")] = 3, json: JsonOption = False
) -> int:
    """Show jobs that outlive an outage, on an embedded database."""
    from resilience_kit.cli.jobs_demo import demo as play
    from resilience_kit.cli.output import Output

    return play(Output(json), count)
