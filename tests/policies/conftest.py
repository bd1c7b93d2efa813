"""For all policies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resilience_kit.errors import ConfigurationError


@pytest.fixture
def sentences() -> Callable[..., list[str]]:
    """What a ConfigurationError says, sentence by sentence."""

    def told(make: Callable[..., Any], *args: Any, **options: Any) -> list[str]:
        with pytest.raises(ConfigurationError) as caught:
            make(*args, **options)
        return [str(each) for each in caught.value.errors]

    return told
