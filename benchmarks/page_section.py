"""Replace the sections of a page that programs write: what stands between two comments, the first of which names the program."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

END = "<!-- end of figures -->"
_PART = re.compile(r"(?P<head><!-- measured: (?P<what>\w+) -->\n).*?(?P<tail>\n<!-- end -->)", re.DOTALL)


def begin(program: str) -> str:
    """Return the comment that opens the section of a command, as in `python benchmarks/it.py --write docs/it.md`."""
    return f"<!-- figures: {program} -->"


def renew(page: Path, program: str, text: str) -> None:
    """Replace the program's section by `text`. Raises ValueError for a page without one."""
    before, found, rest = page.read_text(encoding="utf-8").partition(begin(program))
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"{page} needs a line {begin(program)!r} and a line {END!r} after it")
    page.write_text(f"{before}{begin(program)}\n\n{text.strip()}\n\n{END}{after}", encoding="utf-8")


def filled(page: str, sections: Mapping[str, str]) -> str:
    """Return the page with what stands between `<!-- measured: name -->` and `<!-- end -->` replaced by the section `name`."""
    return _PART.sub(lambda found: f"{found['head']}{sections[found['what']]}{found['tail']}", page)
