"""How deep a JSON or TOML text is nested, judged before it is parsed.

A parser has a limit of its own, which differs between interpreters and with the depth of the caller's stack, and past which it
raises RecursionError, or another error, or nothing at all.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Final

#: Deeper than this, no parser is asked: within it, all of them read a text from any reasonable stack.
MAX_PARSED_DEPTH: Final = 150
#: What is no bracket: strings, of which one that is not ended goes on to the end of the text, and all other signs.
_JSON_NON_BRACKETS: Final = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[^\[\]{}"]++', re.DOTALL)
_TOML_NON_BRACKETS: Final = re.compile(
    r'"""(?:[^"\\]++|\\.|"(?!""))*+(?:"""|\Z)|' + r"'''(?:[^']++|'(?!''))*+(?:'''|\Z)|"
    r'"(?:[^"\\\n]++|\\.)*+(?:"|(?=\n)|\\?\Z)|' + r"'[^'\n]*+(?:'|(?=\n)|\Z)|#[^\n]*+|[^\[\]{}\"'#]++",
    re.DOTALL,
)
_STEP: Final = {"[": 1, "{": 1, "]": -1, "}": -1}


def nesting_depth(text: str, limit: int, *, toml: bool = False) -> int:
    """Return how many brackets are open at most at one place of `text`; 0 where these are surely not more than `limit`."""
    if text.count("[") + text.count("{") <= limit:
        return 0
    brackets = (_TOML_NON_BRACKETS if toml else _JSON_NON_BRACKETS).sub("", text)
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0)
