"""`ResilienceSettings`: settings from arguments, `RESILIENCE_*` variables and the configuration file.

For each setting the first of these sources that has it wins: arguments, variables, the file of RESILIENCE_CONFIG_FILE, the
preset. The values of all sources are kept for `explain`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PrivateAttr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from resilience_kit.config.layers import ApplicationSource, OperationOverride, build_default, collect_application_sources
from resilience_kit.config.near_names import spelled as _spelled
from resilience_kit.config.overlay import validate_section
from resilience_kit.config.parsing import in_file, raise_violation, read_file, strict_json
from resilience_kit.config.presets import get_preset
from resilience_kit.config.redaction import Location, json_path, redact_value
from resilience_kit.config.resilience_config import ResilienceConfig
from resilience_kit.config.schema_types import (
    CustomConfig,
    OperationSettings,
    SomeSettings,
    Strategy,
    file_settings,
    preset_named,
    violations,
)
from resilience_kit.config.sources import Sources
from resilience_kit.config.strategies import ResilienceStrategy, strategy_named
from resilience_kit.config.variables import (
    OPERATION_PREFIX,
    PREFIX,
    VARIABLE_NAMES,
    misspelled_variables,
    prefixed_variables,
    variable_of,
    warn_of_unknown_variables,
)
from resilience_kit.errors import ConfigurationError, Violation

_BOOLEANS: Final = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}

#: The sources of the settings being made: pydantic-settings keeps only the merged values.
_current_sources: ContextVar[Sources] = ContextVar("_reading", default=Sources())  # noqa: B039 - never written to


def _parse_bool(value: object) -> bool:
    found = _BOOLEANS.get(value.lower()) if isinstance(value, str) else value
    if isinstance(found, bool):
        return found
    raise ConfigurationError([Violation("enabled", "must be true or false", redact_value(value))])


def _parse_json(value: object) -> object:
    return strict_json(value, "") if isinstance(value, str) else value


def _check_path(value: object) -> object:
    if isinstance(value, os.PathLike) or (isinstance(value, str) and value):
        return value
    raise ConfigurationError([Violation("config_file", "must be the path of a file", redact_value(value))])


def _check_operations(named: object) -> object:
    if not isinstance(named, Mapping) or not all(isinstance(name, str) and name for name in named):
        raise_violation("operation_overrides", "must map operation names to strategies")
    return named


class ResilienceSettings(BaseSettings):
    """The settings of one application. Immutable; read once, when made.

    `preset`: the preset or strategy of the application. `custom_config`: settings over the preset's. `operation_overrides`: the
    operator's strategies for single operations, which beat the code's; names that spell the same variable are the same
    operation. `enabled`: false switches every protection off and leaves the counting. `config_file`: a .toml or .json file
    that holds a preset and settings. `operations`: what that file's sections say of single operations.

    Each but the last may come from a variable of the environment: RESILIENCE_PRESET, and RESILIENCE_OPERATION_<NAME>.

    Raises ConfigurationError that lists each wrong value with its variable, its rule and the nearest valid name.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=False
    )

    preset: Annotated[str, BeforeValidator(preset_named)] = "simple"
    custom_config: Annotated[SomeSettings | None, BeforeValidator(_parse_json)] = None
    operation_overrides: Annotated[dict[str, Strategy], BeforeValidator(_check_operations)] = {}
    enabled: Annotated[bool, BeforeValidator(_parse_bool)] = True
    config_file: Annotated[Path | None, BeforeValidator(_check_path)] = None
    operations: dict[str, OperationSettings] = {}

    _default: ResilienceConfig = PrivateAttr()
    _provided: dict[str, Any] = PrivateAttr()
    _sources: Sources = PrivateAttr()
    _application_sources: tuple[ApplicationSource, ...] = PrivateAttr()
    _preset_overrides: Mapping[str, Sequence[tuple[str, ResilienceStrategy]]] = PrivateAttr()
    _operator_overrides: Mapping[str, Sequence[OperationOverride]] = PrivateAttr()
    _original_names: Mapping[str, str] = PrivateAttr()

    def __init__(
        self,
        *,
        preset: str | None = None,
        custom_config: Mapping[str, object] | str | None = None,
        operation_overrides: Mapping[str, ResilienceStrategy | str] | None = None,
        enabled: bool | None = None,
        config_file: str | os.PathLike[str] | None = None,
    ) -> None:
        arguments = {
            "preset": preset,
            "custom_config": _parse_or_keep_text(custom_config),
            "operation_overrides": _by_variable_spelling(operation_overrides),
            "enabled": enabled,
            "config_file": config_file,
        }
        provided: dict[str, Any] = {name: value for name, value in arguments.items() if value is not None}
        found = list(misspelled_variables(os.environ))
        sources = Sources(arguments=provided)
        token = _current_sources.set(sources)
        try:
            super().__init__(**provided)
        except ValidationError as error:
            found += violations(error, lambda where: _value_location(where, provided, os.environ))
        except ConfigurationError as error:
            found += error.errors
        finally:
            _current_sources.reset(token)
        found += [each for each in sources.file_violations if each not in found]
        found += _hidden_violations(sources, known=found)
        if found:
            raise ConfigurationError(found)
        self._provided = provided
        warn_of_unknown_variables(os.environ)

    def reloaded(self) -> ResilienceSettings:
        """Return new settings from the same arguments and the present environment and file."""
        return type(self)(**self._provided)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - _Environment reads RESILIENCE_OPERATION_<NAME>, too
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - not used
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - not used
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then variables, then the file."""
        return init_settings, _Environment(settings_cls), _File(settings_cls)

    def model_post_init(self, _context: object) -> None:
        """Combine the preset and the settings over it, once."""
        self._sources = sources = _current_sources.get()
        preset, parts = (
            get_preset(self.preset),
            [(source, _valid_settings(settings)) for source, settings in sources.custom_configs()],
        )
        source = None if self.source_of("preset") == "default" else f"preset {preset.name}"
        self._application_sources = collect_application_sources(preset, source, parts)
        self._default = build_default(self._application_sources, "custom_config")
        self._preset_overrides = _preset_overrides_by_operation(
            [(source or "default", preset.operation_overrides), *_overrides_in(parts)]
        )
        self._operator_overrides = sources.operator_overrides(_spelled)
        self._original_names = sources.original_names(_spelled)

    @property
    def default(self) -> ResilienceConfig:
        """The config of an operation without options of its own."""
        return self._default

    @property
    def application_sources(self) -> Sequence[ApplicationSource]:
        """The sources of the default, weakest first."""
        return self._application_sources

    def source_of(self, field: str) -> str:
        """Return the source of `preset`, `enabled` or `config_file`; "default" if no source has it."""
        return self._sources.source_of(field)

    def original_name(self, operation: str) -> str:
        """Return an operation's name as the file spells it, or unchanged if the file does not name it."""
        return self._original_names.get(_spelled(operation), operation)

    def operator_overrides(self, operation: str) -> Sequence[OperationOverride]:
        """Return the operator's overrides for this operation, weakest first: from the file, a variable, an argument."""
        if not self.operation_overrides and not self.operations:
            return ()
        name = _spelled(operation)
        overrides = self._operator_overrides.get(name, ())
        strategy = self.operation_overrides.get(name)
        if strategy == next((each.strategy for each in reversed(overrides) if each.strategy is not None), None):
            return overrides
        override = OperationOverride(
            "ResilienceSettings(operation_overrides)", strategy and strategy_named(strategy)
        )  # by model_copy
        return [*(each._replace(strategy=None) for each in overrides), override]

    def named_operations(self) -> dict[str, str]:
        """Return the operations named by variables, the file, arguments and custom settings, each with its source.

        Those of a preset are excluded: an application need not have them.
        """
        found = {
            self._original_names.get(name, name): overrides[-1].source
            for name, overrides in self._operator_overrides.items()
            if overrides
        }
        for source, settings in self._sources.custom_configs():
            for name in _valid_settings(settings).get("operation_overrides", {}):
                found.setdefault(name, f"{source}: operation_overrides.{name}")
        return found

    def operator_strategy(self, operation: str) -> ResilienceStrategy | None:
        """Return the operator's strategy for this operation: from a variable, or from the file."""
        return self.operation_overrides.get(_spelled(operation)) if self.operation_overrides else None

    def preset_overrides(self, operation: str) -> Sequence[tuple[str, ResilienceStrategy]]:
        """Return the strategies of the preset and the settings for this operation, with their sources, weakest first."""
        return self._preset_overrides.get(operation, ())

    def preset_strategy(self, operation: str) -> ResilienceStrategy | None:
        """Return the strategy of the preset, or of the settings over it, for this operation."""
        overrides = self.preset_overrides(operation)
        return overrides[-1][1] if overrides else None


def _overrides_in(parts: Sequence[tuple[str, Mapping[str, Any]]]) -> list[tuple[str, Mapping[str, ResilienceStrategy]]]:
    return [(source, settings.get("operation_overrides", {})) for source, settings in parts]


def _preset_overrides_by_operation(
    by_source: Sequence[tuple[str, Mapping[str, ResilienceStrategy]]],
) -> Mapping[str, Sequence[tuple[str, ResilienceStrategy]]]:
    operations = {operation for _, overrides in by_source for operation in overrides}
    return {
        name: [(f"{source}: operation_overrides.{name}", overrides[name]) for source, overrides in by_source if name in overrides]
        for name in operations
    }


_SETTINGS: Final[TypeAdapter[CustomConfig]] = TypeAdapter(Annotated[SomeSettings, BeforeValidator(_parse_json)])


def _valid_settings(settings: object) -> Mapping[str, Any]:
    """Validate one source's settings; return none if they are wrong, which is reported elsewhere."""
    try:
        return _SETTINGS.validate_python(settings)
    except ValidationError:
        return {}


def _hidden_violations(sources: Sources, known: Sequence[Violation]) -> Iterator[Violation]:
    """Yield the violations of the variable's settings if an argument hides them from pydantic."""
    if not {"custom_config"} <= sources.arguments.keys() & sources.variables.keys():
        return
    try:
        _SETTINGS.validate_python(sources.variables["custom_config"])
    except ValidationError as error:
        found = violations(error, lambda where: f"{PREFIX}CUSTOM_CONFIG{json_path(tuple(filter(None, where)))}")
        yield from (each for each in found if each not in known)


class _Source(PydanticBaseSettingsSource):
    """A source that knows all its values at once."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - the base class's
        """Return one value, as the base class requires."""
        return self().get(field_name), field_name, False


class _Environment(_Source):
    """The RESILIENCE_* variables."""

    def __call__(self) -> dict[str, Any]:
        variables = prefixed_variables(os.environ)
        found: dict[str, Any] = {name.lower(): variables[name] for name in VARIABLE_NAMES if name in variables}
        if "custom_config" in found:
            found["custom_config"] = _parse_or_keep_text(found["custom_config"])
        operations = {
            name.removeprefix(OPERATION_PREFIX): value for name, value in variables.items() if name.startswith(OPERATION_PREFIX)
        }
        found["operation_overrides"] = {_spelled(name): value for name, value in operations.items() if name}
        _current_sources.get().variables.update(found)
        return found


class _File(_Source):
    """The file named by an argument or a variable. Its violations are reported together with all others."""

    def __call__(self) -> dict[str, Any]:
        path = self.current_state.get("config_file")
        if not path or not isinstance(path, str | os.PathLike):
            return {}
        try:
            return self._read(path)
        except ConfigurationError as error:
            _current_sources.get().file_violations = error.errors
            return {}

    def _read(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        settings: dict[str, Any] = {**file_settings(read_file(Path(path)), str(path))}
        found: dict[str, Any] = {name: settings.pop(name) for name in ("preset", "operation_overrides") if name in settings}
        sections = settings.pop("operations", {})
        _current_sources.get().set_file(str(path), found | {"custom_config": settings, "operations": sections})
        return {
            **found,
            "operation_overrides": _file_strategies(found.get("operation_overrides", {}), sections, f"{path}: "),
            "operations": _by_variable_spelling(sections, f"{path}: operations"),
            **({"custom_config": settings} if settings else {}),
        }


def _file_strategies(overrides: Mapping[str, object], sections: Mapping[str, Any], path: str) -> object:
    """Combine the strategies of a file's sections and of its `operation_overrides`; validate each section's numbers."""
    found: Any = _by_variable_spelling(overrides, f"{path}operation_overrides")
    for name, section in sections.items():
        validate_section(section, f"{path}operations.{name}")
        strategy = section.get("strategy")
        if strategy is not None and found.setdefault(_spelled(name), strategy) != strategy:
            raise_violation(f"{path}operations.{name}.strategy", "must not differ from the operation_overrides of the same file")
    return found


def _parse_or_keep_text(value: object) -> object:
    """Parse a JSON text of settings, to apply over a file's. An invalid text is returned as text and rejected later."""
    try:
        return _parse_json(value)
    except ConfigurationError:
        return value


def _by_variable_spelling(named: object, path: str = "operation_overrides") -> object:
    if not isinstance(named, Mapping) or not all(isinstance(name, str) for name in named):
        return named
    found: dict[str, object] = {}
    for name, strategy in named.items():
        if found.setdefault(_spelled(name), strategy) != strategy:
            raise_violation(f"{path}.{name}", f"must not differ from another name of {variable_of(name)}")
    return found


def _value_location(where: Location, provided: Mapping[str, Any], variables: Mapping[str, str]) -> str:
    """Return where a value was given: in an argument, a variable or the file."""
    field, rest = str(where[0]), where[1:]
    if field in provided and (not rest or rest[0] in provided[field]):
        return field + json_path(rest)
    if field == "operation_overrides" and rest:
        return variable_of(str(rest[0]))
    if field.upper() in prefixed_variables(variables):
        return PREFIX + field.upper() + json_path(rest)
    return in_file(str(provided.get("config_file") or prefixed_variables(variables)["CONFIG_FILE"]), rest)
