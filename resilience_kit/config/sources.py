"""The values of each source of the settings, before they are merged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from resilience_kit.config.layers import OperationOverride
from resilience_kit.config.strategies import ResilienceStrategy
from resilience_kit.errors import Violation

_ARGUMENT = "ResilienceSettings({})"


@dataclass(slots=True)
class Sources:
    """The values of the arguments, of the variables and of the file at `path`, by the settings' fields.

    Filled while settings are read, and unchanged afterwards. A value that another source overrides may be invalid.
    `file_violations`: why the file could not be used.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    file: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""
    file_violations: Sequence[Violation] = ()

    def set_file(self, path: str, values: Mapping[str, Any]) -> None:
        """Record the values of the file at `path`."""
        self.path, self.file = path, values

    def source_of(self, name: str) -> str:
        """Return the source that decides a field, "default" if none does."""
        if name in self.arguments:
            return _ARGUMENT.format(name)
        if name in self.variables:
            return f"RESILIENCE_{name.upper()}"
        return f"file {self.path}" if name in self.file else "default"

    def custom_configs(self) -> list[tuple[str, Any]]:
        """Return the settings over the preset's with their sources, weakest first."""
        by_source = [
            (f"file {self.path}", self.file.get("custom_config")),
            ("RESILIENCE_CUSTOM_CONFIG", self.variables.get("custom_config")),
            (_ARGUMENT.format("custom_config"), self.arguments.get("custom_config")),
        ]
        return [(source, settings) for source, settings in by_source if settings]

    def operator_overrides(self, spelled: Callable[[str], str]) -> dict[str, Sequence[OperationOverride]]:
        """Return the overrides of single operations, weakest first, by the name that `spelled` returns."""
        found: dict[str, list[OperationOverride]] = {}
        for name, override in self._operation_overrides():
            found.setdefault(spelled(name), []).append(override)
        return dict(found)

    def original_names(self, spelled: Callable[[str], str]) -> dict[str, str]:
        """Return the operation names in the file as written there, by the name that `spelled` returns."""
        named = self.file.get("operation_overrides", {})
        return {spelled(name): name for name in (*named, *self.file.get("operations", {}))}

    def _operation_overrides(self) -> list[tuple[str, OperationOverride]]:
        sections: Mapping[str, Mapping[str, Any]] = self.file.get("operations", {})
        in_file = f"file {self.path}: operation"
        return [
            *_named_overrides(self.file, lambda name: f"{in_file}_overrides.{name}"),
            *((name, _section_override(f"{in_file}s.{name}", section)) for name, section in sections.items()),
            *_named_overrides(self.variables, lambda name: f"RESILIENCE_OPERATION_{name.upper()}"),
            *_named_overrides(self.arguments, lambda _name: _ARGUMENT.format("operation_overrides")),
        ]


def _section_override(source: str, section: Mapping[str, Any]) -> OperationOverride:
    return OperationOverride(
        source, section.get("strategy"), {name: value for name, value in section.items() if name != "strategy"}
    )


def _named_overrides(values: Mapping[str, Any], source: Callable[[str], str]) -> list[tuple[str, OperationOverride]]:
    named = values.get("operation_overrides")
    if not isinstance(named, Mapping):
        return []
    return [
        (name, OperationOverride(source(name), ResilienceStrategy(value))) for name, value in named.items() if _is_strategy(value)
    ]


def _is_strategy(value: object) -> bool:
    try:
        return bool(ResilienceStrategy(value))  # type: ignore[arg-type]  # other types are rejected
    except ValueError:
        return False
