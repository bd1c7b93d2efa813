"""`resilience-kit config schema`: prints a JSON Schema for editors and other programs."""

from __future__ import annotations

import json

from resilience_kit.cli.output import Output
from resilience_kit.config import json_schema
from resilience_kit.config.schema import SchemaName


def show_schema(output: Output, what: SchemaName) -> int:
    """Print the JSON Schema, with or without --json. Raises ConfigurationError for an unknown `what`."""
    schema = json_schema(what)
    output.show(schema, json.dumps(schema, indent=2))
    return 0
