"""JSON Schemas of configuration texts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal

from resilience_kit._checks import Checks
from resilience_kit.config.presets import PRESETS
from resilience_kit.config.sanitize import UNTRUSTED
from resilience_kit.config.strategies import ResilienceStrategy
from resilience_kit.config.templates import TEMPLATES
from resilience_kit.config.text_models import CUSTOM, FILE, PRESET

SchemaName = Literal["custom_config", "file", "preset", "template_overrides"]

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_LIMITS: Final = (
    f"Put before the validator, a text has at most {UNTRUSTED.size} bytes, {UNTRUSTED.depth} levels, "
    f"{UNTRUSTED.string} characters "
    f"in a string, {UNTRUSTED.items} items in an array, {UNTRUSTED.keys} keys in an object, and no control or format characters. "
    "base_delay must not exceed max_delay, and attempt_timeout must not exceed deadline."
)
_ANY_CASE: Final = "StrategyInAnyCase"
_TITLES: Final = {
    "custom_config": "Settings over those of a preset",
    "file": "A configuration file",
    "preset": "A preset",
    "template_overrides": f"Settings over those of a template ({', '.join(TEMPLATES)})",
}


def json_schema(what: SchemaName = "custom_config") -> dict[str, Any]:
    """Return the schema (draft 2020-12) of a custom configuration, a file, a preset, or of overrides of a template.

    It accepts the same texts as the validator, except for relations between settings and limits of size, which its `$comment`
    lists. Raises ConfigurationError for an unknown `what`.
    """
    checks = Checks("json_schema")
    checks.one_of("what", what, tuple(_TITLES))
    checks.raise_if_any()
    model = {"file": FILE, "preset": PRESET}.get(what, CUSTOM)
    schema: Any = _in_any_case(model.adapter.json_schema())
    schema["$defs"][_ANY_CASE] = {"type": "string", "pattern": _pattern(ResilienceStrategy)}
    if what == "file":
        names = [*PRESETS, *(each.value for each in ResilienceStrategy)]
        schema["properties"]["preset"] = schema["properties"]["preset"] | {
            "anyOf": [{"enum": names}, {"pattern": _pattern(names)}],
        }
    schema |= {"$schema": _DRAFT, "title": _TITLES[what], "$comment": _LIMITS}
    found: dict[str, Any] = schema | ({"minProperties": 1} if what == "custom_config" else {})
    return found


def _in_any_case(schema: Any) -> Any:
    """Return the schema with strategy names allowed in any case, as the validator accepts them."""
    if isinstance(schema, list):
        return [_in_any_case(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _in_any_case(each) for name, each in schema.items() if name != "$ref"}
    if "$ref" not in schema:
        return found
    refs = [schema["$ref"], *([f"#/$defs/{_ANY_CASE}"] if schema["$ref"].endswith("/ResilienceStrategy") else [])]
    return found | ({"anyOf": [{"$ref": each} for each in refs]} if len(refs) > 1 else {"$ref": refs[0]})


def _pattern(names: Iterable[str]) -> str:
    """Return a pattern for some names in any case; JSON Schema has no flags, and `$` would match before a last line break."""
    spelled = ("".join(f"[{sign.upper()}{sign}]" if sign.isalpha() else sign for sign in name) for name in names)
    return f"^({'|'.join(spelled)})(?![\\s\\S])"
