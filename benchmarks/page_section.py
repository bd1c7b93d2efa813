"""The part of a page that a program renews: what stands between two comments, the first of which names the program."""

from __future__ import annotations

from pathlib import Path

END = "<!-- end of figures -->"


def renew(page: Path, program: str, text: str) -> None:
    """Put `text` in place of the program's last one. Raises ValueError for a page that has no place for it."""
    begin = f"<!-- figures: {program} -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"{page} needs a line {begin!r} and a line {END!r} after it")
    page.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{END}{after}", encoding="utf-8")
