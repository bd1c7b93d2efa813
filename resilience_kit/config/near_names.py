"""Finds operation names in a configuration that match no operation and are similar to one: likely misspellings."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

#: How similar two names must be, and their least length: `qa` and `qb` may both be meant.
_SIMILARITY: Final = 0.8
_MIN_LENGTH: Final = 4


class NearName(NamedTuple):
    """`source` names an unknown operation `name`; `suggestion` is a known one with a similar name."""

    source: str
    name: str
    suggestion: str

    def __str__(self) -> str:
        return f"{self.source} names the operation {self.name!r}; did you mean {self.suggestion!r}?"


def spelled(operation: str) -> str:
    """Return an operation's name as a variable spells it, in lower case: with _ for each character but letters and digits."""
    return re.sub("[^A-Z0-9]", "_", operation.upper()).lower()


def near_names(named: Mapping[str, str], known: Iterable[str]) -> Iterator[NearName]:
    """Yield the names in `named` (name -> source) that are no `known` operation and similar to one.

    A known operation that `named` contains is not suggested. Names that differ in digits only, as `chat_3` and `chat_4`, are
    never taken for each other.
    """
    by_spelling = {spelled(each): each for each in known}
    named_spellings = {spelled(each) for each in named}
    free = [each for each in by_spelling if each not in named_spellings]
    for name, source in named.items():
        if spelled(name) not in by_spelling:
            suggestion = _closest_name(spelled(name), free)
            if suggestion:
                yield NearName(source, name, by_spelling[suggestion])


def _closest_name(name: str, known: Iterable[str]) -> str:
    candidates = [each for each in known if min(len(name), len(each)) >= _MIN_LENGTH and _letters(name) != _letters(each)]
    return next(iter(difflib.get_close_matches(name, candidates, 1, _SIMILARITY)), "")


def _letters(name: str) -> str:
    return re.sub("[0-9_]", "", name) if re.search("[0-9]", name) else name
