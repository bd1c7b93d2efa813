"""The meanings of the providers' codes, as data.

Three strengths: a *firm* code is conclusive; a *soft* one outranks the status, but not a more precise message; a
*generic* one accompanies almost any error, or names only the layer that failed, and counts only when the status is not
informative. Spelling does not matter: case, separators and a final `Error` or `Exception` are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from functools import lru_cache

from resilience_kit.classification.providers import anthropic, aws, azure, gateways, google, local, openai, others
from resilience_kit.classification.providers.families import FAMILIES, LAYERS
from resilience_kit.classification.verdicts import SERVER_ERROR, TIMEOUT, TRANSIENT
from resilience_kit.outcome import Verdict

_LAYERED = (SERVER_ERROR, TRANSIENT)


class Strength(IntEnum):
    """The precedence of a code."""

    GENERIC = 1
    SOFT = 2
    FIRM = 3


def normalize_code(code: str) -> str:
    """Normalize a code: `com.amazon#ThrottlingException:http://x` and `throttling_error` both become `throttling`."""
    name = code.rpartition("#")[2].partition(":")[0].casefold()
    letters = "".join(sign for sign in name if sign.isalnum())
    return letters.removesuffix("exception").removesuffix("error") or letters


def _merged(tables: Iterable[Mapping[str, Verdict]], strength: Strength) -> dict[str, tuple[Strength, Verdict]]:
    return {normalize_code(code): (strength, verdict) for table in tables for code, verdict in table.items()}


_PROVIDERS = (openai, anthropic, azure, google, aws, gateways, others, local)
_CODES = {
    **_merged((openai.GENERIC, google.GENERIC, aws.GENERIC, gateways.GENERIC, others.GENERIC, local.GENERIC), Strength.GENERIC),
    **_merged((provider.SOFT for provider in _PROVIDERS), Strength.SOFT),
    **_merged((provider.FIRM for provider in _PROVIDERS), Strength.FIRM),
}


_LAYER_CODES = frozenset(map(normalize_code, (*gateways.GENERIC, "ModelErrorException")))


@lru_cache(maxsize=2048)
def lookup_code(code: str, provider: str | None = None) -> tuple[Strength, Verdict] | None:
    """Return the strength and verdict of a code, None for an unknown one."""
    normalized = normalize_code(code)
    if normalized.isdecimal():
        verdict = others.NUMBERS.get(provider or "", {}).get(normalized)
        return None if verdict is None else (Strength.SOFT, verdict)
    return _CODES.get(normalized) or _by_family(normalized)


def is_known_code(code: str) -> bool:
    """Return whether a table lists the code as a whole."""
    return normalize_code(code) in _CODES


@lru_cache(maxsize=2048)
def names_layer(code: str) -> bool:
    """Return whether a code names only the layer that failed, which may have passed on an error itself."""
    normalized = normalize_code(code)
    return normalized in _LAYER_CODES or any(layer in normalized for layer in LAYERS)


def _by_family(normalized: str) -> tuple[Strength, Verdict] | None:
    for parts, verdict in FAMILIES:
        if any(part in normalized for part in parts):
            layer = verdict in _LAYERED or (verdict is TIMEOUT and any(name in normalized for name in LAYERS))
            return Strength.GENERIC if layer else Strength.SOFT, verdict
    return None
