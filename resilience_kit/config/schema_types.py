"""The settings that a configuration text may hold, with their ranges.

The ranges apply to texts. Code that builds a `RetryConfig` may use whatever that class allows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from typing_extensions import TypedDict

from resilience_kit._checks import did_you_mean
from resilience_kit.config.overlay import SETTING_NAMES, to_integer_if_exact, unknown_setting
from resilience_kit.config.parsing import in_file, raise_violation
from resilience_kit.config.presets import get_preset
from resilience_kit.config.redaction import Location, redact_value_at
from resilience_kit.config.strategies import ResilienceStrategy, strategy_named
from resilience_kit.errors import REDACTED, ConfigurationError, Violation

_S: Final[dict[str, Any]] = {"unit": "seconds"}
_MAX_OVERRIDES: Final = 10
MAX_NAME_LENGTH: Final = 200

STRICT: Final = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)

Strategy = Annotated[ResilienceStrategy, BeforeValidator(strategy_named)]
OperationName = Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH)]


@with_config(STRICT)
class PolicySettings(TypedDict, total=False):
    """Settings that stand for one option each."""

    retry_attempts: Annotated[
        int, Field(ge=1, le=10, description="attempts of a call, the first one included"), BeforeValidator(to_integer_if_exact)
    ]
    circuit_breaker_threshold: Annotated[
        int, Field(ge=1, le=20, description="failures in a row that open the circuit"), BeforeValidator(to_integer_if_exact)
    ]
    recovery_timeout: Annotated[float, Field(ge=10, le=300, json_schema_extra=_S, description="for which a circuit stays open")]
    base_delay: Annotated[float, Field(ge=0.1, le=10, json_schema_extra=_S, description="longest wait after the first attempt")]
    max_delay: Annotated[float, Field(ge=1, le=120, json_schema_extra=_S, description="longest wait between two attempts")]
    backoff_factor: Annotated[float, Field(ge=1, le=5, description="growth of that wait from attempt to attempt")]
    jitter: Annotated[Literal["full", "equal", "proportional", "none"], Field(description="how a wait is spread")]
    deadline: Annotated[float, Field(ge=1, le=600, json_schema_extra=_S, description="for a call, its waits included")]
    attempt_timeout: Annotated[float, Field(ge=1, le=600, json_schema_extra=_S, description="for one attempt")]


@with_config(STRICT)
class CustomConfig(PolicySettings, total=False):
    """Settings that replace those of a preset. What is not given stays as the preset has it."""

    default_strategy: Annotated[Strategy, Field(description="the strategy of operations that nobody names")]
    operation_overrides: Annotated[
        dict[OperationName, Strategy], Field(max_length=_MAX_OVERRIDES, description="strategies of single operations")
    ]


@with_config(STRICT)
class OperationSettings(PolicySettings, total=False):
    """A section of a configuration file for one operation: a strategy, and settings over its numbers."""

    strategy: Annotated[Strategy, Field(description="the strategy of this operation")]


def preset_named(name: object) -> str:
    """Return the canonical name of a preset or strategy; raise ConfigurationError for an unknown one."""
    return get_preset(name).name  # type: ignore[arg-type]  # other types are rejected there


@with_config(STRICT)
class FileConfig(CustomConfig, total=False):
    """What a configuration file may hold: the settings, and the preset that they change."""

    preset: Annotated[str, BeforeValidator(preset_named), Field(description="the preset that the settings change")]
    operations: Annotated[dict[OperationName, OperationSettings], Field(description="settings of single operations")]


def _not_empty(settings: CustomConfig) -> CustomConfig:
    return settings or raise_violation("", "must hold at least one setting")


SomeSettings = Annotated[CustomConfig, AfterValidator(_not_empty)]
_FILE: Final = TypeAdapter(FileConfig)


def file_settings(content: object, path: str) -> FileConfig:
    """Validate a file's content; raise one ConfigurationError with everything that is wrong in the file at `path`."""
    try:
        return _FILE.validate_python(content)
    except ValidationError as error:
        found = list(violations(error, lambda where: in_file(path, where)))
    raise ConfigurationError(found)


def violations(
    error: ValidationError, label: Callable[[Location], str], rules: Mapping[str, str] | None = None
) -> Iterator[Violation]:
    """Convert pydantic's errors to violations. `label` formats a location; `rules` maps the known settings to their rules."""
    for each in error.errors(include_url=False):
        where = tuple(part for part in each["loc"] if part != "[key]")
        yield from _to_violations(each, where, label, RULES if rules is None else rules)


def _to_violations(
    error: ErrorDetails, where: Location, label: Callable[[Location], str], rules: Mapping[str, str]
) -> Iterable[Violation]:
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, ConfigurationError):
        return [_relocated(each, where, label) for each in cause.errors]
    if error["type"] in ("extra_forbidden", "invalid_key"):
        return [unknown_setting(label(where), where[-1], _known_at(where, rules))]
    if error["type"] == "missing":
        return [Violation(label(where), "is required", REDACTED)]
    return [Violation(label(where), _rule(where, error["input"], rules), redact_value_at(where, error["input"]))]


def _known_at(where: Location, rules: Mapping[str, str]) -> Collection[str]:
    """Return the names allowed where an unknown one was found."""
    if where[0] == "operations" and len(where) > 1:
        return OPERATION_SETTING_NAMES
    return SETTING_NAMES if where[0] == "custom_config" else rules


def _relocated(violation: Violation, where: Location, label: Callable[[Location], str]) -> Violation:
    if violation.path.startswith((".", "[")):  # inside a text that is the value
        return Violation(label(where) + violation.path, violation.rule, REDACTED)
    location = where or tuple(violation.path.split("."))
    return Violation(label(location), violation.rule, redact_value_at(location, violation.got))


def _rule(where: Location, value: object, rules: Mapping[str, str]) -> str:
    name = next((str(part) for part in where if part in rules), "")
    if name == "operations" and len(where) > 1:
        name = str(where[-1]) if where[-1] in OPERATION_SETTING_NAMES else ""
    rule = rules.get(name, "must be an object of settings")
    return rule + (did_you_mean(value, _JITTER_KINDS) if name == "jitter" else "")


def rule_of(hint: Any) -> str:
    """Return the rule of a field's annotation as a sentence."""
    kind, about = get_args(hint)[0], next(each for each in get_args(hint)[1:] if isinstance(each, FieldInfo))
    if kind in (int, float):
        return f"must be a {_unit(kind, about)} from {_bound(about, 'ge'):g} to {_bound(about, 'le'):g}"
    if get_origin(kind) is dict and get_args(kind)[1] is OperationSettings:
        return f"must map operation names of at most {MAX_NAME_LENGTH} characters to objects of settings"
    if get_origin(kind) is dict:
        return f"must map at most {_MAX_OVERRIDES} operation names of at most {MAX_NAME_LENGTH} characters to strategies"
    if get_origin(kind) is list:
        return f"must be a list of at most {_bound(about, 'max_length'):g} texts"
    if kind is str and any(hasattr(each, "max_length") for each in about.metadata):
        return f"must be text of at most {_bound(about, 'max_length'):g} characters"
    return "must be one of the known names"


def _unit(kind: type, about: FieldInfo) -> str:
    if kind is int:
        return "whole number"
    return "number of seconds" if about.json_schema_extra else "number"


def _bound(about: FieldInfo, side: str) -> float:
    return next(float(getattr(each, side)) for each in about.metadata if hasattr(each, side))


_JITTER_KINDS: Final = get_args(get_args(get_type_hints(PolicySettings, include_extras=True)["jitter"])[0])
#: Setting -> the rule that its value is held to, derived from the models above.
RULES: Final[Mapping[str, str]] = {name: rule_of(hint) for name, hint in get_type_hints(FileConfig, include_extras=True).items()}
#: What a file's section about one operation may hold.
OPERATION_SETTING_NAMES: Final = tuple(get_type_hints(OperationSettings))
