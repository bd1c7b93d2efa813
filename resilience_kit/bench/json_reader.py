"""Read JSON files of results. Whatever is wrong in one raises a ConfigurationError that names the place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, from_json

from resilience_kit.errors import REDACTED, ConfigurationError, Violation

#: Bytes of one suite: thousands of benchmarks.
LARGEST = 16 * 1024 * 1024

Amount = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
SignedAmount = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]

_RULES = {
    "missing": "is missing",
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "float_type": "must be a finite number",
    "finite_number": "must be a finite number",
    "greater_than_equal": "must be a finite number of at least 0",
    "bool_type": "must be true or false",
    "tuple_type": "must be an array",
    "dataclass_type": "must be an object",
    "mapping_type": "must be an object",
}
T = TypeVar("T")


def read_file(path: Path) -> object:
    """Return the value in a JSON file. Raises ConfigurationError."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        _reject(str(path), f"must be readable: {error.strerror}")
    return parse_json(data, str(path))


def parse_json(data: bytes, path: str) -> object:
    """Return the value of a JSON text of at most 16 MiB. Raises ConfigurationError about `path`, and nothing else."""
    if len(data) > LARGEST:
        _reject(path, f"must be at most {LARGEST} bytes long")
    try:
        return from_json(data)
    except ValueError as error:
        _reject(path, f"must be JSON in UTF-8: {error}")


def validate(adapter: TypeAdapter[T], data: object, path: str) -> T:
    """Return `data` as the adapter's type. Raises ConfigurationError that lists everything wrong, as places below `path`."""
    try:
        return adapter.validate_python(dict(data) if isinstance(data, Mapping) else data)
    except ValidationError as error:
        found = list(_violations(error, path))
    raise ConfigurationError(found)


def _violations(error: ValidationError, path: str) -> Iterator[Violation]:
    for each in error.errors(include_url=False, include_input=False):
        steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in each["loc"])
        yield Violation(f"{path}{steps}".removeprefix("."), _rule(each), REDACTED)


def _rule(error: ErrorDetails) -> str:
    return _RULES.get(error["type"]) or error["msg"].replace("Input should", "must")


def _reject(path: str, rule: str) -> NoReturn:
    raise ConfigurationError([Violation(path, rule, REDACTED)])
