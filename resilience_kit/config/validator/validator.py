"""The validator for untrusted configurations.

Each text passes the same checks in the same order, and stops at the first that fails: its size; what JSON parsers accept
silently; its structure, copied into plain values; the schema; the consistency of the settings.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Final, cast

from pydantic import ValidationError

from resilience_kit._checks import did_you_mean
from resilience_kit.clock import SYSTEM_CLOCK, Clock
from resilience_kit.config.parsing import parsed_json, raise_violation
from resilience_kit.config.presets import Preset, get_preset
from resilience_kit.config.redaction import Location, dotted_path, redact_value
from resilience_kit.config.sanitize import UNTRUSTED, sanitize
from resilience_kit.config.schema_types import violations
from resilience_kit.config.templates import TEMPLATES, NearestTemplate, Template, get_template, nearest_template
from resilience_kit.config.text_models import CUSTOM, PRESET, Model
from resilience_kit.config.validator.client_rate_limiter import ClientRateLimiter, ClientRateLimits, RateLimitInfo
from resilience_kit.config.validator.consistency import check_consistency
from resilience_kit.config.validator.result import ValidationResult, invalid_result
from resilience_kit.config.validator.suggestions import suggestions_for
from resilience_kit.errors import REDACTED, ConfigurationError, Violation

_ROOT: Final = "configuration"
_MAX_VIOLATIONS: Final = 20


def _label(where: Location) -> str:
    return dotted_path(where) or _ROOT


class ResilienceConfigValidator:
    """Validates configurations and reports what is wrong with them. Never raises for the input to validate.

    `rates`: rate limits of one client. `preset`: the preset that the configurations will change; without it a configuration is
    valid if some preset accepts it, with a warning for each that would reject it. What is valid here is accepted as a
    `custom_config` of that preset. Ranges are those of `CustomConfig`, limits of size and structure those of `UNTRUSTED`.

    Messages repeat no value of a field that could hold a secret, and none that looks like one. Thread-safe. Raises
    ConfigurationError for a `preset` that does not exist.
    """

    def __init__(self, rates: ClientRateLimits | None = None, *, preset: str | None = None, clock: Clock = SYSTEM_CLOCK) -> None:
        self._rate_limiter = ClientRateLimiter(rates or ClientRateLimits(), clock)
        self._preset = None if preset is None else get_preset(preset)

    def validate_custom_config(self, config: Mapping[str, object]) -> ValidationResult:
        """Validate settings as RESILIENCE_CUSTOM_CONFIG takes them; at least one."""
        return _as_result(lambda: self._settings(_sanitized(config)))

    def validate_json_string(self, text: str | bytes) -> ValidationResult:
        """Validate settings in a JSON text of at most 4096 bytes in UTF-8."""
        return _as_result(lambda: self._settings(_read(text)))

    def validate_preset(self, preset: Mapping[str, object]) -> ValidationResult:
        """Validate a complete preset, as `Preset.to_dict()` returns it."""
        return _as_result(lambda: _validate(PRESET, _sanitized(preset), None))

    def validate_template_based_config(self, name: str, overrides: Mapping[str, object] | None = None) -> ValidationResult:
        """Validate the template of that name with `overrides`, which may be empty, over its settings."""
        return _as_result(lambda: self._validate_template(name, overrides))

    def validate_with_security_checks(self, data: object, client_identifier: str | None = None) -> ValidationResult:
        """Validate an untrusted text or mapping. With an identifier it counts against that client's limits, valid or not."""
        if client_identifier is not None and not (rate_check := self.check_rate_limit(client_identifier)):
            return rate_check
        return _as_result(lambda: self._settings(_read(data) if _is_text(data) else _sanitized(data)))

    def check_rate_limit(self, identifier: str) -> ValidationResult:
        """Count a request of this client. A request over the limits is invalid, has `retry_after`, and does not count."""
        client = _text(identifier)
        if client is None:
            return invalid_result([Violation("client_identifier", "must be text", REDACTED)])
        rejection = self._rate_limiter.admit(client)
        if rejection is None:
            return ValidationResult(is_valid=True)
        found = [Violation("client_identifier", f"validations of one client {rejection.rule}", REDACTED)]
        return invalid_result(found, [f"try again in {rejection.retry_after:.1f} s"], rejection.retry_after)

    def get_rate_limit_info(self, identifier: str) -> RateLimitInfo:
        """Return this client's remaining quota and the time of its next request, without counting one."""
        return self._rate_limiter.info(_text(identifier) or "")

    def reset_rate_limiter(self) -> None:
        """Forget all requests of all clients."""
        self._rate_limiter.reset()

    def get_configuration_templates(self) -> dict[str, Template]:
        """Return all templates by name."""
        return dict(TEMPLATES)

    def get_template(self, name: str) -> Template | None:
        """Return the template of that name, or None."""
        return get_template(_text(name))

    def suggest_template_for_config(self, config: Mapping[str, object]) -> str | None:
        """Return the name of the nearest template; None if none is near or the configuration is not valid."""
        found = self.nearest_template(config)
        return None if found is None else found.name

    def nearest_template(self, config: Mapping[str, object]) -> NearestTemplate | None:
        """Return the nearest template with its distance and the reason, or None."""
        result = self.validate_custom_config(config)
        return None if result.settings is None else nearest_template(result.settings)

    def _settings(self, content: object) -> ValidationResult:
        if content == {}:
            hint = f"begin with a template: {', '.join(TEMPLATES)}"
            return invalid_result([Violation(_ROOT, "must hold at least one setting", REDACTED)], [hint])
        return _validate(CUSTOM, content, self._preset)

    def _validate_template(self, name: object, overrides: object) -> ValidationResult:
        template = get_template(_text(name))
        if template is None:
            candidate = redact_value(_text(name))
            raise ConfigurationError(
                [Violation("template", "must be the name of a template" + did_you_mean(candidate, TEMPLATES), candidate)]
            )
        candidate = _validate_schema(
            CUSTOM, {} if overrides is None else _sanitized(overrides)
        )  # the limits apply to the input only
        return _validate_consistency(_merge_overrides(template.settings(), candidate), self._preset)


def _as_result(validate: Callable[[], ValidationResult]) -> ValidationResult:
    try:
        return validate()
    except ConfigurationError as error:
        return invalid_result(error.errors, suggestions_for(error.errors))


def _text(value: object) -> str | None:
    """Return a text as a plain str, without methods of a subclass; None for other types."""
    return str.__str__(cast("str", value)) if issubclass(type(value), str) else None


def _is_text(data: object) -> bool:
    return issubclass(type(data), str | bytes | bytearray)


def _read(text: object) -> object:
    return _sanitized(parsed_json(_decoded(text), _ROOT, UNTRUSTED))


def _decoded(data: object) -> str:
    """Decode the text if it is short enough; a longer one is rejected unread."""
    text = _text(data)
    raw = _bytes_of(data) if text is None else _encoded(text)
    if len(raw) > UNTRUSTED.size:
        raise_violation(_ROOT, f"must be at most {UNTRUSTED.size} bytes long")
    try:
        return raw.decode("utf-8", "strict" if text is None else "surrogatepass")
    except UnicodeDecodeError:
        raise_violation(_ROOT, "must be text in UTF-8")


def _encoded(text: str) -> bytes:
    return text[: UNTRUSTED.size + 1].encode("utf-8", "surrogatepass")


def _bytes_of(data: object) -> bytes:
    if not _is_text(data):
        raise_violation(_ROOT, "must be text")
    return bytes(memoryview(cast("bytes", data))[: UNTRUSTED.size + 1])


def _sanitized(value: object) -> object:
    copy, found = sanitize(value, UNTRUSTED, _label)
    if found:
        raise ConfigurationError(found)
    return copy


def _merge_overrides(settings: dict[str, object], overrides: Mapping[str, object]) -> dict[str, object]:
    operations, template_operations = overrides.get("operation_overrides"), settings.get("operation_overrides", {})
    if isinstance(operations, dict) and isinstance(template_operations, dict):
        overrides = {**overrides, "operation_overrides": {**template_operations, **operations}}
    return {**settings, **overrides}


def _validate(model: Model, content: object, preset: Preset | None) -> ValidationResult:
    return _validate_consistency(_validate_schema(model, content), preset)


def _validate_consistency(settings: Mapping[str, object], preset: Preset | None) -> ValidationResult:
    errors, config_warnings = check_consistency(settings, preset)
    if errors:
        raise ConfigurationError(each._replace(got=redact_value(each.got)) for each in errors)
    warnings, suggestions = [each.warning for each in config_warnings], [each.suggestion for each in config_warnings]
    return ValidationResult(is_valid=True, warnings=warnings, suggestions=suggestions, settings=settings)


def _validate_schema(model: Model, content: object) -> Mapping[str, object]:
    try:
        return model.adapter.validate_python(content)
    except ValidationError as error:
        found = list(itertools.islice(violations(error, _label, model.rules), _MAX_VIOLATIONS + 1))
    if len(found) > _MAX_VIOLATIONS:
        found[-1] = Violation(_ROOT, "holds more mistakes than are told here", REDACTED)
    raise ConfigurationError(found)
