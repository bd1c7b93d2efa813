"""Methods of HTTP by what may be done with them."""

from __future__ import annotations

from typing import Final

#: RFC 9110, 9.2: methods that change nothing, and those that may be repeated.
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
IDEMPOTENT_METHODS: Final = SAFE_METHODS | {"PUT", "DELETE"}
#: Methods whose successful response has a body: an empty 200 is an error.
METHODS_WITH_BODY: Final = frozenset({"GET", "POST"})
