"""The models for validating untrusted texts, each with its rules as sentences.

`CustomConfig` defines the settings. `Preset` decides which of them a preset has, and which are required.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Final, NamedTuple, NotRequired, Required, cast, get_type_hints

from pydantic import Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from resilience_kit.config.presets import Preset
from resilience_kit.config.sanitize import UNTRUSTED
from resilience_kit.config.schema_types import (
    MAX_NAME_LENGTH,
    STRICT,
    CustomConfig,
    FileConfig,
    OperationName,
    OperationSettings,
    rule_of,
)

Text = Annotated[str, Field(max_length=UNTRUSTED.string)]


class Model(NamedTuple):
    """A model for a text: pydantic's adapter, and the rule of each field as a sentence."""

    adapter: TypeAdapter[Mapping[str, object]]
    rules: Mapping[str, str]


class _OfPreset(TypedDict):
    """The fields of a preset that are not settings."""

    name: Annotated[OperationName, Field(max_length=MAX_NAME_LENGTH, description="the name to choose it by")]
    description: Annotated[str, Field(max_length=UNTRUSTED.string, description="where it fits, in a sentence")]
    contexts: Annotated[list[Text], Field(max_length=UNTRUSTED.items, description="where it fits, in words")]


def _model(kind: object) -> Model:
    hints = get_type_hints(kind, include_extras=True)
    return Model(TypeAdapter(cast("Any", kind)), {name: rule_of(_bare(hint)) for name, hint in hints.items()})


def _bare(hint: Any) -> Any:
    return hint.__args__[0] if getattr(hint, "__origin__", None) in (Required, NotRequired) else hint


def _preset_model() -> object:
    hints = get_type_hints(CustomConfig, include_extras=True) | get_type_hints(_OfPreset, include_extras=True)
    made: Any = TypedDict  # whose fields have to be literal for mypy
    return with_config(STRICT)(
        made("PresetConfig", {each.name: _need(each, hints[each.name]) for each in dataclasses.fields(Preset)})
    )


def _need(field: dataclasses.Field[object], hint: Any) -> Any:
    missing = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    return Required[hint] if missing else NotRequired[hint]


CUSTOM: Final = _model(CustomConfig)
FILE: Final = _model(FileConfig)
OPERATION: Final = _model(OperationSettings)
PRESET: Final = _model(_preset_model())
