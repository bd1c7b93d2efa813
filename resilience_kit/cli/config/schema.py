"""`resilience-kit config schema`: what an editor or another program checks a file by."""

from __future__ import annotations

import json

from resilience_kit.cli.output import Output
from resilience_kit.config import json_schema
from resilience_kit.config.schema import SchemaName


def show_schema(output: Output, what: SchemaName) -> int:
    """The JSON Schema, which is JSON for people too. Raises ConfigurationError for an unknown `what`."""
    schema = json_schema(what)
    output.show(schema, json.dumps(schema, indent=2))
    return 0
