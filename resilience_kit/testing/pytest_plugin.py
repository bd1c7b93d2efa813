"""The pytest fixtures `fake_ai_provider` and `fresh_orchestrator`, found by pytest through the entry point `pytest11`.

    @pytest.mark.fake_ai_provider([Fault.rate_limited(0.1), OK])
    def test_summary(fake_ai_provider): ...

The mark takes what `FakeAIProvider` takes.

    pytestmark = pytest.mark.usefixtures("fresh_orchestrator")

starts each test of a module with fresh state. Nothing but pytest is imported until a test uses the fixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resilience_kit.orchestrator import AIServiceResilience
    from resilience_kit.testing.provider import FakeAIProvider


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark, so that strict marks accept it."""
    config.addinivalue_line("markers", "fake_ai_provider(faults, **options): how the `fake_ai_provider` of this test behaves")


@pytest.fixture
def fake_ai_provider(request: pytest.FixtureRequest) -> Iterator[FakeAIProvider]:
    """Yield a running `FakeAIProvider` for one test, with the arguments of the mark of the same name."""
    from resilience_kit.testing.provider import FakeAIProvider  # noqa: PLC0415 - cheap for tests that do not use it

    mark = request.node.get_closest_marker("fake_ai_provider")
    args, options = (mark.args, mark.kwargs) if mark else ((), {})
    with FakeAIProvider(*args, **options) as provider:
        yield provider


@pytest.fixture
def fresh_orchestrator() -> Iterator[AIServiceResilience]:
    """Yield a default orchestrator for one test, with a shared pacing and registries free of other tests' state."""
    from resilience_kit.testing.fresh import fresh_orchestrator as fresh  # noqa: PLC0415 - as above

    with fresh() as orchestrator:
        yield orchestrator
