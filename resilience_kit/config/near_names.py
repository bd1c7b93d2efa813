"""Operations that a configuration names, and nobody has: a name that is nearly that of another one is likely misspelt."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

#: How near two names are, and how short one may be: of `qa` and `qb`, either may be meant.
_SIMILARITY: Final = 0.8
_MIN_LENGTH: Final = 4


class NearName(NamedTuple):
    """`source` names an operation `name` that is not known; `suggestion` is the known one that is near."""

    source: str
    name: str
    suggestion: str

    def __str__(self) -> str:
        return f"{self.source} names the operation {self.name!r}; did you mean {self.suggestion!r}?"


def spelled(operation: str) -> str:
    """An operation's name as a variable spells it, in small letters: with _ for every sign that is no letter or digit."""
    return re.sub("[^A-Z0-9]", "_", operation.upper()).lower()


def near_names(named: Mapping[str, str], known: Iterable[str]) -> Iterator[NearName]:
    """Find the names in `named`, which maps each to its source, that are none of the `known` operations and near one of these.

    One that `named` has, too, was not misspelt. Names that differ in digits only are different ones, as `chat_3` and `chat_4`.
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
