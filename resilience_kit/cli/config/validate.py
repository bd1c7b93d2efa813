"""`resilience-kit config validate`: whether a file is right, before it does harm."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from rich.text import Text

from resilience_kit.cli.config.alone import no_variables
from resilience_kit.cli.mistake import Mistake
from resilience_kit.cli.output import Output, printable
from resilience_kit.config import ResilienceConfigValidator, ResilienceSettings, ValidationResult, get_preset
from resilience_kit.config.text import LARGEST, read_file
from resilience_kit.config.validator.logic import judged
from resilience_kit.config.validator.result import refused
from resilience_kit.config.validator.suggestions import suggested
from resilience_kit.errors import ConfigurationError

_STDIN = "stdin"


def validate(output: Output, file: Path, *, strict: bool) -> int:
    """Tell whether a file is valid by itself; 1 when it is not. `-` is stdin: JSON when it begins with a brace, else TOML.

    A file may hold all that RESILIENCE_CONFIG_FILE may name. `strict`: only what the validator takes from strangers. Raises
    Mistake where there is no file.
    """
    name = _STDIN if file == Path("-") else str(file)
    with _on_disk(file) as path:
        try:
            found = _strictly(path) if strict else _as_file(path)
        except ConfigurationError as error:
            wrong = [each._replace(path=each.path.replace(str(path), name, 1)) for each in error.errors]
            found = refused(wrong, suggested(wrong))
    output.show({"file": name, **found.to_dict()}, *_lines(name, found))
    return int(not found)


@contextmanager
def _on_disk(file: Path) -> Iterator[Path]:
    """The file itself, or one with what comes from stdin."""
    if file != Path("-"):
        if not file.is_file():
            raise Mistake(f"there is no file {str(file)!r}")
        yield file
        return
    text = sys.stdin.buffer.read(LARGEST + 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"stdin.{'json' if text.lstrip().startswith(b'{') else 'toml'}"
        path.write_bytes(text)
        yield path


def _as_file(path: Path) -> ValidationResult:
    """As an application would load it that no variable speaks to. Raises ConfigurationError."""
    with no_variables():
        settings = ResilienceSettings(config_file=path)
    warnings, suggestions = [], []
    for place, about, preset in _parts(settings):
        judgement = judged(about, get_preset(preset))
        warnings += [f"{place}{each}" for each in (*judgement.errors, *(caution.warning for caution in judgement.cautions))]
        suggestions += [f"{place}{caution.suggestion}" for caution in judgement.cautions]
    return ValidationResult(is_valid=True, warnings=warnings, suggestions=suggestions)


def _parts(settings: ResilienceSettings) -> Iterator[tuple[str, Mapping[str, object], str]]:
    """The numbers that are to go together: those for all operations, and each section's; and the preset below them."""
    if settings.custom_config:
        yield "", cast("Mapping[str, object]", settings.custom_config), settings.preset
    for name, section in settings.operations.items():
        yield f"operations.{name}.", cast("Mapping[str, object]", section), section.get("strategy", settings.preset)


def _strictly(path: Path) -> ValidationResult:
    """As the validator would judge it, put before strangers. Raises ConfigurationError for what is no JSON or TOML at all."""
    validator = ResilienceConfigValidator()
    if path.suffix.lower() == ".json":
        with path.open("rb") as file:
            return validator.validate_json_string(file.read(LARGEST))
    return validator.validate_custom_config(cast("Mapping[str, object]", read_file(path)))


def _lines(name: str, found: ValidationResult) -> Iterator[Text]:
    verdict = ("valid", "green") if found else ("not valid", "bold red")
    yield Text.assemble(f"{printable(name)}: ", verdict)
    for word, style, sentences in (
        ("error", "red", found.errors),
        ("warning", "yellow", found.warnings),
        ("suggestion", "cyan", found.suggestions),
    ):
        yield from (Text.assemble((f"{word:<12}", style), printable(each)) for each in sentences)
