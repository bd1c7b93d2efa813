"""The JSON Schema of what a configuration text may hold."""

from __future__ import annotations

from typing import Any, Final, Literal

from resilience_kit._checks import Checks
from resilience_kit.config.models import CUSTOM, FILE, PRESET
from resilience_kit.config.plain import STRANGER
from resilience_kit.config.templates import TEMPLATES

What = Literal["custom_config", "file", "preset", "template_overrides"]

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_LIMITS: Final = (
    f"Put before the validator, a text has at most {STRANGER.size} bytes, {STRANGER.depth} levels, {STRANGER.string} characters "
    f"in a string, {STRANGER.items} items in an array, {STRANGER.keys} keys in an object, and no control or format characters. "
    "base_delay must not exceed max_delay, and attempt_timeout must not exceed deadline."
)
_TITLES: Final = {
    "custom_config": "Settings over those of a preset",
    "file": "A configuration file",
    "preset": "A preset",
    "template_overrides": f"Settings over those of a template ({', '.join(TEMPLATES)})",
}


def json_schema(what: What = "custom_config") -> dict[str, Any]:
    """The schema (draft 2020-12) of a custom configuration, a file, a preset, or of what may be put over a template.

    What it accepts, the validator accepts too, but for the relations between settings and the limits of size, which `$comment`
    tells. Raises ConfigurationError for an unknown `what`.
    """
    checks = Checks("json_schema")
    checks.one_of("what", what, tuple(_TITLES))
    checks.done()
    model = {"file": FILE, "preset": PRESET}.get(what, CUSTOM)
    schema = model.adapter.json_schema() | {"$schema": _DRAFT, "title": _TITLES[what], "$comment": _LIMITS}
    return schema | ({"minProperties": 1} if what == "custom_config" else {})
