"""Replaces an orchestrator's settings while it runs, all at once or not at all."""

from __future__ import annotations

from typing import Any

from resilience_kit._fork import ForkSafeLock
from resilience_kit.errors import REDACTED, ConfigurationError
from resilience_kit.events import ConfigChange, ConfigRejected, ConfigReloaded
from resilience_kit.orchestrator.registry import OperationRegistry

_MAX_REPORTED_ERRORS = 100


class SettingsReloader:
    """Reloads the settings of one registry. Thread-safe: of two reloads, the one that read last takes effect."""

    def __init__(self, registry: OperationRegistry) -> None:
        self._registry = registry
        self.lock, self.reported_errors = ForkSafeLock(), set[tuple[str, ...]]()

    def reload(self, settings: Any = None) -> tuple[ConfigChange, ...]:
        """See `AIServiceResilience.reload`."""
        try:
            with self.lock:
                settings = self._registry.settings.reloaded() if settings is None else validated_settings(settings)
                changes = self._swap(settings)
        except ConfigurationError as error:
            self.report_rejected(tuple(map(str, error.errors)))
            raise
        self._registry.finish_changes()
        return changes

    def _swap(self, settings: Any) -> tuple[ConfigChange, ...]:
        """Apply `settings`. Equal ones emit an event only after a rejection."""
        if settings == self._registry.settings and not self.reported_errors:
            return ()
        changes = self._apply(settings)
        self.reported_errors.clear()
        self._registry.events.enqueue(ConfigReloaded(changes=changes))
        return changes

    def _apply(self, settings: Any) -> tuple[ConfigChange, ...]:
        """Resolve every config first, since one may be invalid only together with the code's options: then none is changed."""
        from resilience_kit.config.explain import changes  # noqa: PLC0415 - seldom needed

        registry = self._registry
        with registry.lock:
            call_sites = [(name, options) for name in registry.operations for options in registry.call_site_options(name)]
            old, new = ([registry.resolve(*site, each) for site in call_sites] for each in (registry.settings, settings))
            registry.settings = settings
            for name in registry.operations:
                registry.reconfigure(name)
            registry.unchecked_names.extend(registry.operations)
            registry.rebuild_sites()
        found = [
            ConfigChange(name, *change)
            for (name, _), before, after in zip(call_sites, old, new, strict=True)
            for change in changes(before, after)
        ]
        return tuple(each for number, each in enumerate(found) if each not in found[:number])

    def report_rejected(self, errors: tuple[str, ...]) -> None:
        """Emit `ConfigRejected` once for the same errors, until valid settings are read."""
        if errors not in self.reported_errors:
            full = len(self.reported_errors) >= _MAX_REPORTED_ERRORS
            self.reported_errors = {errors} if full else {*self.reported_errors, errors}
            self._registry.events.emit(ConfigRejected(errors=errors))


def validated_settings(settings: Any) -> Any:
    """Return `settings`, or for None those of the environment; raise ConfigurationError for any other object."""
    from resilience_kit.config import ResilienceSettings  # noqa: PLC0415 - pydantic-settings is slow to import

    if settings is None:
        return ResilienceSettings()
    if not isinstance(settings, ResilienceSettings):
        raise ConfigurationError([("settings", "must be a ResilienceSettings, or None for the environment's", REDACTED)])
    return settings
