"""`resilience-kit config validate`: validates a configuration file."""

from __future__ import annotations

import codecs
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from rich.text import Text

from resilience_kit.cli.config.app_loader import operations_of
from resilience_kit.cli.config.isolated_environment import without_variables
from resilience_kit.cli.errors import CliError
from resilience_kit.cli.output import Output, format_value, printable
from resilience_kit.config import ResilienceConfigValidator, ResilienceSettings, ValidationResult, resolve
from resilience_kit.config.explain import BOUNDS, Explanation, explain
from resilience_kit.config.near_names import near_names
from resilience_kit.config.parsing import MAX_TEXT_BYTES, read_file
from resilience_kit.config.redaction import dotted_path
from resilience_kit.config.validator.consistency import ConfigWarning, config_warnings
from resilience_kit.config.validator.result import invalid_result
from resilience_kit.config.validator.suggestions import suggestions_for
from resilience_kit.errors import ConfigurationError

_STDIN = "stdin"


def validate(output: Output, file: str, *, strict: bool, app: str | None = None) -> int:
    """Validate a file, ignoring the environment; return 1 if it is not valid. `-` is stdin.

    Input from stdin, a pipe or a device is JSON if it begins with a brace, else TOML. A file may hold all that
    RESILIENCE_CONFIG_FILE may name. `app`: warn of names similar to operations of this application. `strict`: validate as
    untrusted input. Raises CliError if there is no such file.
    """
    name = _STDIN if file == "-" else file
    operations = None if app is None else operations_of(app)
    with _on_disk(file) as path:
        try:
            found = _validate_untrusted(path) if strict else _validate_file(path, operations)
        except ConfigurationError as error:
            wrong = [each._replace(path=each.path.replace(str(path), name, 1)) for each in error.errors]
            found = invalid_result(wrong, suggestions_for(wrong))
    output.show({"file": name, **found.to_dict()}, *_report_lines(name, found))
    return int(not found)


@contextmanager
def _on_disk(file: str) -> Iterator[Path]:
    """Yield the file, or a temporary one with the input from stdin, a pipe or a device."""
    if file != "-" and not _is_stream(file):
        yield Path(file)
        return
    text = _from_stdin() if file == "-" else _from_stream(file)
    with tempfile.TemporaryDirectory() as folder:
        is_json = text.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{")
        path = Path(folder) / f"stdin.{'json' if is_json else 'toml'}"
        path.write_bytes(text)
        yield path


def _is_stream(file: str) -> bool:
    """Return whether a file is a stream, whose name does not reveal its format. Raises CliError if it is no file."""
    if not file:
        raise CliError("the file's name is empty")
    try:
        mode = Path(file).stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the latter for a name that no file can have
        raise CliError(f"there is no file {file!r}") from None
    if stat.S_ISREG(mode):
        return file.startswith("/dev/")
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        return True
    raise CliError(f"{file!r} is a folder" if stat.S_ISDIR(mode) else f"{file!r} is a socket or a disk, and no file")


def _from_stdin() -> bytes:
    if sys.stdin is None:
        raise CliError("stdin is closed")
    return sys.stdin.buffer.read(MAX_TEXT_BYTES + 1)


def _from_stream(file: str) -> bytes:
    with Path(file).open("rb") as stream:
        return stream.read(MAX_TEXT_BYTES + 1)


def _validate_file(path: Path, operations: Sequence[str] | None) -> ValidationResult:
    """Load the file as an application without variables would. Raises ConfigurationError."""
    with without_variables():
        settings = ResilienceSettings(config_file=path)
        found = [*_file_warnings(settings), *_misspelled_operations(settings, operations or ())]
    return ValidationResult(
        is_valid=True, warnings=[each.warning for each in found], suggestions=[each.suggestion for each in found]
    )


def _misspelled_operations(settings: ResilienceSettings, operations: Sequence[str]) -> Iterator[ConfigWarning]:
    """Yield warnings of names in the file that are similar to the application's operations."""
    for near in near_names(settings.named_operations(), operations):
        location = near.source.partition(": ")[2] or near.source
        warning = f"{location}: the application has no operation {near.name!r}; did you mean {near.suggestion!r}?"
        yield ConfigWarning(warning, f"{location}: write {near.suggestion!r}, if that is meant")


def _file_warnings(settings: ResilienceSettings) -> Iterator[ConfigWarning]:
    """Yield warnings for all operations, then those that each section causes."""
    if settings.custom_config:
        yield from config_warnings(settings.default)
    for spelled, section in settings.operations.items():
        name = settings.original_name(spelled)
        found = [*_clamped_settings(explain(name, settings=settings)), *_section_warnings(name, section.keys(), settings)]
        location = dotted_path(("operations", name))
        yield from (ConfigWarning(f"{location}.{each.warning}", f"{location}.{each.suggestion}") for each in found)


def _clamped_settings(explained: Explanation) -> Iterator[ConfigWarning]:
    """Yield warnings of settings that were clamped."""
    for field in explained.fields:
        if field.note:
            bound, _ = BOUNDS[field.name]
            yield ConfigWarning(f"{field.name}: {field.note}, which is {format_value(field.value)}", f"{bound}: give it, too")


def _section_warnings(name: str, section: AbstractSet[str], settings: ResilienceSettings) -> Iterator[ConfigWarning]:
    """Yield warnings that the section causes. A section with only an attempt timeout causes none: most attempts end earlier."""
    if section == {"attempt_timeout"}:
        return
    without = settings.model_copy(update={"operations": {}, "operation_overrides": {}})
    known = {*config_warnings(resolve(name, settings=without))}
    yield from (each for each in config_warnings(resolve(name, settings=settings)) if each not in known)


def _validate_untrusted(path: Path) -> ValidationResult:
    """Validate a file as untrusted input. Raises ConfigurationError for a text that is neither JSON nor TOML."""
    validator = ResilienceConfigValidator()
    if path.suffix.lower() == ".json":
        with path.open("rb") as file:
            return validator.validate_json_string(file.read(MAX_TEXT_BYTES))
    return validator.validate_custom_config(cast("Mapping[str, object]", read_file(path)))


def _report_lines(name: str, found: ValidationResult) -> Iterator[Text]:
    verdict = ("valid", "green") if found else ("not valid", "bold red")
    yield Text.assemble(f"{printable(name)}: ", verdict)
    for label, style, sentences in (
        ("error", "red", found.errors),
        ("warning", "yellow", found.warnings),
        ("suggestion", "cyan", found.suggestions),
    ):
        yield from (Text.assemble((f"{label:<12}", style), printable(each)) for each in sentences)
