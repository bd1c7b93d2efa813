"""The page is one file, and this is what a browser may do with it: run its own script, and speak to the service."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Final


def _source(tag: str) -> str:
    """Return the hash by which a browser recognizes the text within `tag`."""
    text = re.findall(rf"<{tag}>(.*?)</{tag}>", PAGE, re.DOTALL)[0]
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


PAGE: Final = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
POLICY: Final = (
    f"default-src 'none'; connect-src 'self'; img-src data:; script-src {_source('script')}; style-src {_source('style')}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
