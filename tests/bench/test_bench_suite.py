"""The kit's own benchmarks run and are held against their promises."""

import pytest

from resilience_kit.bench import PerformanceBenchmarker
from resilience_kit.errors import ConfigurationError

TARGETS = {
    "config_loading": 0.1,
    "config_file_loading": 0.1,
    "preset_access": 0.01,
    "validation": 0.05,
    "service_init": 0.2,
    "protected_call": 0.01,
    "protected_call_async": 0.01,
    "classification": None,
}


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    monkeypatch.delenv("RESILIENCE_PRESET", raising=False)


def test_the_suite_holds_every_promise():
    """Names and targets; the versions that the figures depend on."""
    suite = PerformanceBenchmarker().run_comprehensive_benchmark(iterations=2)
    assert TARGETS == {result.name: result.target for result in suite.results}
    assert {"resilience_kit", "python", "system", "machine", "processors"} == set(suite.environment)
    assert {2} == {result.iterations for result in suite.results}


async def test_the_suite_runs_inside_a_loop():
    """By its twin."""
    bench = PerformanceBenchmarker()
    suite = await bench.run_comprehensive_benchmark_async(iterations=2)
    assert list(TARGETS) == [result.name for result in suite.results] == [result.name for result in bench.to_suite().results]


def test_a_wrong_environment_is_told(monkeypatch):
    """With the benchmark that met it."""
    monkeypatch.setenv("RESILIENCE_ENABLED", "perhaps")
    with pytest.raises(ConfigurationError, match="RESILIENCE_ENABLED"):
        PerformanceBenchmarker().run_comprehensive_benchmark(iterations=1)
