"""What the environment says: which preset, changed how, and what an operator wants for single operations.

The first source that speaks wins: arguments, RESILIENCE_* variables, the file of RESILIENCE_CONFIG_FILE, the preset. What each
of them said is kept, so that `explain` can tell it.
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PrivateAttr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from resilience_kit.config.custom import (
    CustomConfig,
    OperationSettings,
    SomeSettings,
    Strategy,
    file_settings,
    preset_named,
    violations,
)
from resilience_kit.config.echo import Where, place, shown
from resilience_kit.config.layers import Said, Word, of_application, together
from resilience_kit.config.near_names import spelled as _spelled
from resilience_kit.config.overlay import check_apart
from resilience_kit.config.presets import get_preset
from resilience_kit.config.resilience_config import ResilienceConfig
from resilience_kit.config.sources import Sources
from resilience_kit.config.strategies import ResilienceStrategy, strategy_named
from resilience_kit.config.text import MARK, in_file, read_file, refuse, strict_json
from resilience_kit.errors import NOT_SHOWN, ConfigurationError, Violation

_PREFIX: Final = "RESILIENCE_"
_OPERATION: Final = "OPERATION_"
_NAMES: Final = ("PRESET", "CUSTOM_CONFIG", "CONFIG_FILE", "ENABLED")
_SWITCH: Final = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_ALIKE: Final = 0.85

_logger = logging.getLogger("resilience_kit")
_warned_of: set[str] = set()
#: What the sources say, while settings are being made: pydantic-settings keeps only what they come to together.
_reading: ContextVar[Sources] = ContextVar("_reading", default=Sources())  # noqa: B039 - written to by nobody


def variable_of(operation: str) -> str:
    """The variable that names an operation's strategy: capitals, with _ for every other sign."""
    return _PREFIX + _OPERATION + _spelled(operation).upper()


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

    `preset`: the preset or strategy of the application. `custom_config`: settings over the preset's. `operation_overrides`: the
    operator's strategies for single operations, which beat the code's; names that spell the same variable are the same
    operation. `enabled`: false switches every protection off and leaves the counting. `config_file`: a .toml or .json file
    that holds a preset and settings. `operations`: what that file's sections say of single operations.

    Each but the last may come from a variable of the environment: RESILIENCE_PRESET, and RESILIENCE_OPERATION_<NAME>.

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
    operations: dict[str, OperationSettings] = {}

    _default: ResilienceConfig = PrivateAttr()
    _given: dict[str, Any] = PrivateAttr()
    _sources: Sources = PrivateAttr()
    _said: tuple[Said, ...] = PrivateAttr()
    _preset_words: Mapping[str, Sequence[tuple[str, ResilienceStrategy]]] = PrivateAttr()
    _operator_words: Mapping[str, Sequence[Word]] = PrivateAttr()
    _written_names: Mapping[str, str] = PrivateAttr()

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
        sources = Sources(arguments=given)
        token = _reading.set(sources)
        try:
            super().__init__(**given)
        except ValidationError as error:
            found += violations(error, lambda where: _written(where, given, os.environ))
        except ConfigurationError as error:
            found += error.errors
        finally:
            _reading.reset(token)
        found += [each for each in sources.broken_file if each not in found]
        found += _overruled(sources, known=found)
        if found:
            raise ConfigurationError(found)
        self._given = given
        _warn_of_strangers(os.environ)

    def reread(self) -> ResilienceSettings:
        """Settings of the same arguments, and of what the environment and the file say now."""
        return type(self)(**self._given)

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
        self._sources = sources = _reading.get()
        preset, parts = get_preset(self.preset), [(source, _valid(settings)) for source, settings in sources.custom_configs()]
        source = None if self.source_of("preset") == "default" else f"preset {preset.name}"
        self._said = of_application(preset, source, parts)
        self._default = together(self._said, "custom_config")
        self._preset_words = _words_of_presets([(source or "default", preset.operation_overrides), *_overrides_in(parts)])
        self._operator_words = sources.operator_words(_spelled)
        self._written_names = sources.written_names(_spelled)

    @property
    def default(self) -> ResilienceConfig:
        """What protects an operation that nobody says anything about."""
        return self._default

    @property
    def said(self) -> Sequence[Said]:
        """What makes up the default, weakest first."""
        return self._said

    def source_of(self, field: str) -> str:
        """Where `preset`, `enabled` or `config_file` was said; "default" when nobody did."""
        return self._sources.of(field)

    def written_name(self, operation: str) -> str:
        """An operation's name as the file writes it, the name itself where that does not speak of it."""
        return self._written_names.get(_spelled(operation), operation)

    def operator_words(self, operation: str) -> Sequence[Word]:
        """What the operator wants for this operation, weakest first: the file's words, a variable, an argument."""
        if not self.operation_overrides and not self.operations:
            return ()
        name = _spelled(operation)
        words = self._operator_words.get(name, ())
        strategy = self.operation_overrides.get(name)
        if strategy == next((each.strategy for each in reversed(words) if each.strategy is not None), None):
            return words
        changed = Word("ResilienceSettings(operation_overrides)", strategy and strategy_named(strategy))  # by model_copy
        return [*(each._replace(strategy=None) for each in words), changed]

    def named_operations(self) -> dict[str, str]:
        """The operations that variables, the file, arguments and custom settings name, each with the source that does.

        Those of a preset are not among them: it names operations that an application need not have.
        """
        found = {self._written_names.get(name, name): words[-1].source for name, words in self._operator_words.items() if words}
        for source, settings in self._sources.custom_configs():
            for name in _valid(settings).get("operation_overrides", {}):
                found.setdefault(name, f"{source}: operation_overrides.{name}")
        return found

    def operator_strategy(self, operation: str) -> ResilienceStrategy | None:
        """What the operator wants for this operation: a variable, or the file's word."""
        return self.operation_overrides.get(_spelled(operation)) if self.operation_overrides else None

    def preset_words(self, operation: str) -> Sequence[tuple[str, ResilienceStrategy]]:
        """What the preset and the settings over it say about this operation, with their sources, weakest first."""
        return self._preset_words.get(operation, ())

    def preset_strategy(self, operation: str) -> ResilienceStrategy | None:
        """What the preset, with the settings over it, says about this operation."""
        words = self.preset_words(operation)
        return words[-1][1] if words else None


def _overrides_in(parts: Sequence[tuple[str, Mapping[str, Any]]]) -> list[tuple[str, Mapping[str, ResilienceStrategy]]]:
    return [(source, settings.get("operation_overrides", {})) for source, settings in parts]


def _words_of_presets(
    said: Sequence[tuple[str, Mapping[str, ResilienceStrategy]]],
) -> Mapping[str, Sequence[tuple[str, ResilienceStrategy]]]:
    operations = {operation for _, overrides in said for operation in overrides}
    return {
        name: [(f"{source}: operation_overrides.{name}", overrides[name]) for source, overrides in said if name in overrides]
        for name in operations
    }


_SETTINGS: Final[TypeAdapter[CustomConfig]] = TypeAdapter(Annotated[SomeSettings, BeforeValidator(_parsed)])


def _valid(settings: object) -> Mapping[str, Any]:
    """One source's settings. Wrong ones that another source overrules are told by `_overruled`."""
    try:
        return _SETTINGS.validate_python(settings)
    except ValidationError:
        return {}


def _overruled(sources: Sources, known: Sequence[Violation]) -> Iterator[Violation]:
    """What is wrong in the variable's settings where the argument's hide it from pydantic."""
    if not {"custom_config"} <= sources.arguments.keys() & sources.variables.keys():
        return
    try:
        _SETTINGS.validate_python(sources.variables["custom_config"])
    except ValidationError as error:
        found = violations(error, lambda where: f"{_PREFIX}CUSTOM_CONFIG{place(tuple(filter(None, where)))}")
        yield from (each for each in found if each not in known)


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
        found["operation_overrides"] = {_spelled(name): value for name, value in operations.items() if name}
        _reading.get().variables.update(found)
        return found


class _File(_Source):
    """The file that an argument or a variable names. What is wrong with it is told beside all else."""

    def __call__(self) -> dict[str, Any]:
        path = self.current_state.get("config_file")
        if not path or not isinstance(path, str | os.PathLike):
            return {}
        try:
            return self._read(path)
        except ConfigurationError as error:
            _reading.get().broken_file = error.errors
            return {}

    def _read(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        settings: dict[str, Any] = {**file_settings(read_file(Path(path)), str(path))}
        found: dict[str, Any] = {name: settings.pop(name) for name in ("preset", "operation_overrides") if name in settings}
        sections = settings.pop("operations", {})
        _reading.get().heard_file(str(path), found | {"custom_config": settings, "operations": sections})
        return {
            **found,
            "operation_overrides": _strategies(found.get("operation_overrides", {}), sections, f"{path}: "),
            "operations": _by_variable(sections, f"{path}: operations"),
            **({"custom_config": settings} if settings else {}),
        }


def _strategies(overrides: Mapping[str, object], sections: Mapping[str, Any], path: str) -> object:
    """The strategies of a file's sections, and those it names beside them; a section's numbers have to go together."""
    found: Any = _by_variable(overrides, f"{path}operation_overrides")
    for name, section in sections.items():
        check_apart(section, f"{path}operations.{name}")
        strategy = section.get("strategy")
        if strategy is not None and found.setdefault(_spelled(name), strategy) != strategy:
            refuse(f"{path}operations.{name}.strategy", "must not differ from the operation_overrides of the same file")
    return found


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


def forget_warnings() -> None:
    """Let what is warned of once a process be warned of again."""
    _warned_of.clear()


def _strangers(variables: Mapping[str, str]) -> list[str]:
    """Variables that begin as ours do and are none of ours, nor nearly one."""
    others = [name for name in _ours(variables) if name not in _NAMES and not name.startswith(_OPERATION)]
    return [_PREFIX + name for name in others if not list(_close_to_one_of_ours(name))]


def _warn_of_strangers(variables: Mapping[str, str]) -> None:
    """Once a process for each: it may be another program's, or a setting that somebody believes in."""
    for name in _strangers(variables):
        if name not in _warned_of:
            _warned_of.add(name)
            known = ", ".join(_PREFIX + each for each in (*_NAMES, f"{_OPERATION}<NAME>"))
            _logger.warning("%s is no variable of resilience_kit and changes nothing; known: %s", name, known)


def _misspelt(variables: Mapping[str, str]) -> Iterator[Violation]:
    for name in variables:
        if name.startswith(MARK) and name[1:].upper().startswith(_PREFIX):
            rule = "has a byte order mark before its name: save the file that it comes from, such as .env, as UTF-8 without one"
            yield Violation(name[1:].upper(), rule, NOT_SHOWN)
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
    field, rest = str(where[0]), where[1:]
    if field in given and (not rest or rest[0] in given[field]):
        return field + place(rest)
    if field == "operation_overrides" and rest:
        return variable_of(str(rest[0]))
    if field.upper() in _ours(variables):
        return _PREFIX + field.upper() + place(rest)
    return in_file(str(given.get("config_file") or _ours(variables)["CONFIG_FILE"]), rest)
