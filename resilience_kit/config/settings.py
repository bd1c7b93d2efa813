"""What the environment says: which preset, changed how, and what an operator wants for single operations.

The first source that speaks wins: arguments, RESILIENCE_* variables, the file of RESILIENCE_CONFIG_FILE, the preset.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PrivateAttr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from resilience_kit.config.custom import SomeSettings, Strategy, Where, file_settings, preset_named, violations
from resilience_kit.config.overlay import configured, overrides_of
from resilience_kit.config.presets import get_preset
from resilience_kit.config.resilience_config import ResilienceConfig
from resilience_kit.config.strategies import ResilienceStrategy
from resilience_kit.config.text import read_file, refuse, shown, strict_json
from resilience_kit.errors import NOT_SHOWN, ConfigurationError, Violation

_PREFIX: Final = "RESILIENCE_"
_OPERATION: Final = "OPERATION_"
_NAMES: Final = ("PRESET", "CUSTOM_CONFIG", "CONFIG_FILE", "ENABLED")
_SWITCH: Final = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_ALIKE: Final = 0.85


def variable_of(operation: str) -> str:
    """The variable that names an operation's strategy: capitals, with _ for every other sign."""
    return _PREFIX + _OPERATION + _spelled(operation).upper()


def _spelled(operation: str) -> str:
    return re.sub("[^A-Z0-9]", "_", operation.upper()).lower()


def _switch(value: object) -> bool:
    found = _SWITCH.get(value.lower()) if isinstance(value, str) else value
    if isinstance(found, bool):
        return found
    raise ConfigurationError([Violation("enabled", "must be true or false", shown(value))])


def _parsed(value: object) -> object:
    return strict_json(value, "") if isinstance(value, str) else value


def _path(value: object) -> object:
    if isinstance(value, os.PathLike) or (isinstance(value, str) and value):
        return value
    raise ConfigurationError([Violation("config_file", "must be the path of a file", shown(value))])


def _operations(named: object) -> object:
    if not isinstance(named, Mapping) or not all(isinstance(name, str) and name for name in named):
        refuse("operation_overrides", "must map operation names to strategies")
    return named


class ResilienceSettings(BaseSettings):
    """The settings of one application. Immutable; read once, when made.

    `preset`: a preset's or strategy's name (RESILIENCE_PRESET). `custom_config`: settings over the preset's (JSON in
    RESILIENCE_CUSTOM_CONFIG). `operation_overrides`: the operator's strategies for single operations, which beat the code's
    (RESILIENCE_OPERATION_<NAME>); names that spell the same variable are the same operation. `enabled`: False switches every
    protection off and leaves the counting (RESILIENCE_ENABLED). `config_file`: a .toml or .json file that holds a preset and
    settings (RESILIENCE_CONFIG_FILE).

    Raises ConfigurationError that lists each wrong value with its variable, its rule and the nearest valid name.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=False
    )

    preset: Annotated[str, BeforeValidator(preset_named)] = "simple"
    custom_config: Annotated[SomeSettings | None, BeforeValidator(_parsed)] = None
    operation_overrides: Annotated[dict[str, Strategy], BeforeValidator(_operations)] = {}
    enabled: Annotated[bool, BeforeValidator(_switch)] = True
    config_file: Annotated[Path | None, BeforeValidator(_path)] = None

    _default: ResilienceConfig = PrivateAttr()
    _preset_overrides: Mapping[str, ResilienceStrategy] = PrivateAttr()

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
            "custom_config": _or_text(custom_config),
            "operation_overrides": _by_variable(operation_overrides),
            "enabled": enabled,
            "config_file": config_file,
        }
        given: dict[str, Any] = {name: value for name, value in arguments.items() if value is not None}
        found = list(_misspelt(os.environ))
        try:
            super().__init__(**given)
        except ValidationError as error:
            found += violations(error, lambda where: _written(where, given, os.environ))
        except ConfigurationError as error:
            found += error.errors
        if found:
            raise ConfigurationError(found)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - ours reads RESILIENCE_OPERATION_<NAME>, too
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - not a source of ours
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - not a source of ours
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then variables, then the file."""
        return init_settings, _Environment(settings_cls), _File(settings_cls)

    def model_post_init(self, _context: object) -> None:
        """Put the preset and the settings over it together, once."""
        preset = get_preset(self.preset)
        settings: dict[str, object] = {**preset.settings(), **(self.custom_config or {})}
        overrides = overrides_of(settings, "custom_config")
        settings.pop("operation_overrides", None)
        self._preset_overrides = {**preset.operation_overrides, **overrides}
        self._default = configured(settings, "", ResilienceConfig(), "custom_config")

    @property
    def default(self) -> ResilienceConfig:
        """What protects an operation that nobody says anything about."""
        return self._default

    def operator_strategy(self, operation: str) -> ResilienceStrategy | None:
        """What the operator wants for this operation: a variable, or the file's word."""
        return self.operation_overrides.get(_spelled(operation)) if self.operation_overrides else None

    def preset_strategy(self, operation: str) -> ResilienceStrategy | None:
        """What the preset, with the settings over it, says about this operation."""
        return self._preset_overrides.get(operation)


class _Source(PydanticBaseSettingsSource):
    """A source that knows all its values at once."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - the base class's
        """One value, as the base class wants it."""
        return self().get(field_name), field_name, False


class _Environment(_Source):
    """The RESILIENCE_* variables."""

    def __call__(self) -> dict[str, Any]:
        ours = _ours(os.environ)
        found: dict[str, Any] = {name.lower(): ours[name] for name in _NAMES if name in ours}
        if "custom_config" in found:
            found["custom_config"] = _or_text(found["custom_config"])
        operations = {name.removeprefix(_OPERATION): value for name, value in ours.items() if name.startswith(_OPERATION)}
        return found | {"operation_overrides": {_spelled(name): value for name, value in operations.items() if name}}


class _File(_Source):
    """The file that an argument or a variable names."""

    def __call__(self) -> dict[str, Any]:
        path = self.current_state.get("config_file")
        if not path or not isinstance(path, str | os.PathLike):
            return {}
        settings: dict[str, Any] = {**file_settings(read_file(Path(path)), str(path))}
        found = {name: settings.pop(name) for name in ("preset", "operation_overrides") if name in settings}
        if "operation_overrides" in found:
            found["operation_overrides"] = _by_variable(found["operation_overrides"], f"{path}: operation_overrides")
        return found | ({"custom_config": settings} if settings else {})


def _ours(variables: Mapping[str, str]) -> dict[str, str]:
    """Our variables in capitals and without their prefix. Of two that differ in case only, the one in capitals counts."""
    named = {name.upper(): variables[name] for name in sorted(variables, reverse=True)}
    return {name.removeprefix(_PREFIX): value for name, value in named.items() if name.startswith(_PREFIX)}


def _or_text(value: object) -> object:
    """The settings in a JSON text, to be put over a file's. A text that is wrong stays text, and is refused later."""
    try:
        return _parsed(value)
    except ConfigurationError:
        return value


def _by_variable(named: object, path: str = "operation_overrides") -> object:
    if not isinstance(named, Mapping) or not all(isinstance(name, str) for name in named):
        return named
    found: dict[str, object] = {}
    for name, strategy in named.items():
        if found.setdefault(_spelled(name), strategy) != strategy:
            refuse(f"{path}.{name}", f"must not differ from another name of {variable_of(name)}")
    return found


def _misspelt(variables: Mapping[str, str]) -> Iterator[Violation]:
    for name in _ours(variables):
        if name == _OPERATION:
            yield Violation(_PREFIX + name, "must end with the name of an operation", NOT_SHOWN)
        elif name not in _NAMES and not name.startswith(_OPERATION):
            yield from _close_to_one_of_ours(name)


def _close_to_one_of_ours(name: str) -> Iterator[Violation]:
    word, _, operation = name.partition("_")
    close = difflib.get_close_matches(name, _NAMES, 1, _ALIKE)
    if not close and difflib.get_close_matches(word, [_OPERATION.rstrip("_")], 1, _ALIKE):
        close = [_OPERATION + (operation or "<NAME>")]
    if close:
        yield Violation(_PREFIX + name, f"is not a variable of ours; did you mean {_PREFIX + close[0]!r}?", NOT_SHOWN)


def _written(where: Where, given: Mapping[str, Any], variables: Mapping[str, str]) -> str:
    """Where a value was written: as an argument, in a variable or in the file."""
    field, rest = str(where[0]), [str(part) for part in where[1:]]
    if field in given and (not rest or where[1] in given[field]):
        return ".".join([field, *rest])
    if field == "operation_overrides" and rest:
        return variable_of(rest[0])
    if field.upper() in _ours(variables):
        return ".".join([_PREFIX + field.upper(), *rest])
    file = given.get("config_file") or _ours(variables)["CONFIG_FILE"]
    return f"{file}: {'.'.join(rest)}"
