"""What a stream has delivered to its caller."""

from __future__ import annotations

from collections import deque
from typing import Any

_MAX_KEPT_ITEMS = 1000


class DeliveredItems:
    """What has reached the caller: how many items, and the last of them."""

    __slots__ = ("count", "last")

    def __init__(self) -> None:
        self.count = 0
        self.last: deque[Any] = deque(maxlen=_MAX_KEPT_ITEMS)

    def record(self, item: Any) -> Any:
        """One more."""
        self.count += 1
        self.last.append(item)
        return item
