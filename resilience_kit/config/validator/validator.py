"""The validator that may be put before strangers.

Each text goes through the same gates in the same order, and only what has passed one reaches the next: its size; what JSON
readers let through in silence; its structure, copied into plain values; the schema; how the settings go together.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Final, cast

from pydantic import ValidationError

from resilience_kit._checks import nearest
from resilience_kit.config.custom import violations
from resilience_kit.config.echo import Where, dotted, shown
from resilience_kit.config.models import CUSTOM, PRESET, Model
from resilience_kit.config.plain import STRANGER, plain
from resilience_kit.config.presets import Preset, get_preset
from resilience_kit.config.templates import TEMPLATES, NearestTemplate, Template, get_template, nearest_template
from resilience_kit.config.text import parsed_json, refuse
from resilience_kit.config.validator.door import Door, RateLimitInfo, RateLimits
from resilience_kit.config.validator.logic import judged
from resilience_kit.config.validator.result import ValidationResult, refused
from resilience_kit.config.validator.suggestions import suggested
from resilience_kit.errors import NOT_SHOWN, ConfigurationError, Violation
from resilience_kit.outcome import SYSTEM_CLOCK, Clock

_ROOT: Final = "configuration"
_MOST_TOLD: Final = 20


def _label(where: Where) -> str:
    return dotted(where) or _ROOT


class ResilienceConfigValidator:
    """Tells whether a configuration is valid, and what is wrong with it. Never raises for what it is given to validate.

    `rates`: how often one client may ask. `preset`: the preset that the configurations will change; without it a configuration
    is valid when it fits some preset, and warned of where another would refuse it. What is valid here is accepted as a
    `custom_config` of that preset. Ranges are those of `CustomConfig`, limits of size and structure those of `STRANGER`.

    Messages repeat no value of a field that could hold a secret, and none that looks like one. Thread-safe. Raises
    ConfigurationError for a `preset` that does not exist.
    """

    def __init__(self, rates: RateLimits | None = None, *, preset: str | None = None, clock: Clock = SYSTEM_CLOCK) -> None:
        self._door = Door(rates or RateLimits(), clock)
        self._preset = None if preset is None else get_preset(preset)

    def validate_custom_config(self, config: Mapping[str, object]) -> ValidationResult:
        """Settings as RESILIENCE_CUSTOM_CONFIG holds them; at least one."""
        return _settled(lambda: self._settings(_copied(config)))

    def validate_json_string(self, text: str | bytes) -> ValidationResult:
        """The same as a JSON text, of at most 4096 bytes in UTF-8."""
        return _settled(lambda: self._settings(_read(text)))

    def validate_preset(self, preset: Mapping[str, object]) -> ValidationResult:
        """A whole preset, as `Preset.to_dict()` gives it."""
        return _settled(lambda: _judged(PRESET, _copied(preset), None))

    def validate_template_based_config(self, name: str, overrides: Mapping[str, object] | None = None) -> ValidationResult:
        """The template of that name with `overrides` over its settings, of which there may be none."""
        return _settled(lambda: self._over_template(name, overrides))

    def validate_with_security_checks(self, data: object, client_identifier: str | None = None) -> ValidationResult:
        """A text or a mapping from a stranger. With an identifier the try counts against that client's rates, valid or not."""
        if client_identifier is not None and not (at_door := self.check_rate_limit(client_identifier)):
            return at_door
        return _settled(lambda: self._settings(_read(data) if _is_text(data) else _copied(data)))

    def check_rate_limit(self, identifier: str) -> ValidationResult:
        """Count a try of this client. Invalid when it comes too soon; then it does not count, and `retry_after` tells when."""
        client = _text(identifier)
        if client is None:
            return refused([Violation("client_identifier", "must be text", NOT_SHOWN)])
        refusal = self._door.admit(client)
        if refusal is None:
            return ValidationResult(is_valid=True)
        found = [Violation("client_identifier", f"validations of one client {refusal.rule}", NOT_SHOWN)]
        return refused(found, [f"try again in {refusal.retry_after:.1f} s"], refusal.retry_after)

    def get_rate_limit_info(self, identifier: str) -> RateLimitInfo:
        """What this client has left, and when it may ask again; counts nothing."""
        return self._door.info(_text(identifier) or "")

    def reset_rate_limiter(self) -> None:
        """Forget every try of every client."""
        self._door.reset()

    def get_configuration_templates(self) -> dict[str, Template]:
        """All templates by name."""
        return dict(TEMPLATES)

    def get_template(self, name: str) -> Template | None:
        """The template of that name, None when there is none."""
        return get_template(_text(name))

    def suggest_template_for_config(self, config: Mapping[str, object]) -> str | None:
        """The name of the nearest template; None when none is near, or the configuration is not valid."""
        found = self.nearest_template(config)
        return None if found is None else found.name

    def nearest_template(self, config: Mapping[str, object]) -> NearestTemplate | None:
        """The nearest template with its distance and the reason."""
        result = self.validate_custom_config(config)
        return None if result.settings is None else nearest_template(result.settings)

    def _settings(self, content: object) -> ValidationResult:
        if content == {}:
            hint = f"begin with a template: {', '.join(TEMPLATES)}"
            return refused([Violation(_ROOT, "must hold at least one setting", NOT_SHOWN)], [hint])
        return _judged(CUSTOM, content, self._preset)

    def _over_template(self, name: object, overrides: object) -> ValidationResult:
        template = get_template(_text(name))
        if template is None:
            given = shown(_text(name))
            raise ConfigurationError([Violation("template", "must be the name of a template" + nearest(given, TEMPLATES), given)])
        given = _by_schema(CUSTOM, {} if overrides is None else _copied(overrides))  # whose limits are for what is given
        return _go_together(_over(template.settings(), given), self._preset)


def _settled(validate: Callable[[], ValidationResult]) -> ValidationResult:
    try:
        return validate()
    except ConfigurationError as error:
        return refused(error.errors, suggested(error.errors))


def _text(value: object) -> str | None:
    """Text without the methods that a subclass may bring along; None for what is no text."""
    return str.__str__(cast("str", value)) if issubclass(type(value), str) else None


def _is_text(data: object) -> bool:
    return issubclass(type(data), str | bytes | bytearray)


def _read(text: object) -> object:
    return _copied(parsed_json(_decoded(text), _ROOT, STRANGER))


def _decoded(data: object) -> str:
    """The text, when it is short enough; a long one is not looked at."""
    text = _text(data)
    raw = _bytes_of(data) if text is None else _encoded(text)
    if len(raw) > STRANGER.size:
        refuse(_ROOT, f"must be at most {STRANGER.size} bytes long")
    try:
        return raw.decode("utf-8", "strict" if text is None else "surrogatepass")
    except UnicodeDecodeError:
        refuse(_ROOT, "must be text in UTF-8")


def _encoded(text: str) -> bytes:
    return text[: STRANGER.size + 1].encode("utf-8", "surrogatepass")


def _bytes_of(data: object) -> bytes:
    if not _is_text(data):
        refuse(_ROOT, "must be text")
    return bytes(memoryview(cast("bytes", data))[: STRANGER.size + 1])


def _copied(value: object) -> object:
    copy, found = plain(value, STRANGER, _label)
    if found:
        raise ConfigurationError(found)
    return copy


def _over(settings: dict[str, object], overrides: Mapping[str, object]) -> dict[str, object]:
    operations, ours = overrides.get("operation_overrides"), settings.get("operation_overrides", {})
    if isinstance(operations, dict) and isinstance(ours, dict):
        overrides = {**overrides, "operation_overrides": {**ours, **operations}}
    return {**settings, **overrides}


def _judged(model: Model, content: object, preset: Preset | None) -> ValidationResult:
    return _go_together(_by_schema(model, content), preset)


def _go_together(settings: Mapping[str, object], preset: Preset | None) -> ValidationResult:
    errors, cautions = judged(settings, preset)
    if errors:
        raise ConfigurationError(each._replace(got=shown(each.got)) for each in errors)
    warnings, suggestions = [each.warning for each in cautions], [each.suggestion for each in cautions]
    return ValidationResult(is_valid=True, warnings=warnings, suggestions=suggestions, settings=settings)


def _by_schema(model: Model, content: object) -> Mapping[str, object]:
    try:
        return model.adapter.validate_python(content)
    except ValidationError as error:
        found = list(itertools.islice(violations(error, _label, model.rules), _MOST_TOLD + 1))
    if len(found) > _MOST_TOLD:
        found[-1] = Violation(_ROOT, "holds more mistakes than are told here", NOT_SHOWN)
    raise ConfigurationError(found)
