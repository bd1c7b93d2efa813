"""The kit's own benchmarks: the cost of loading a configuration, building an orchestrator, protecting a call."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from resilience_kit.classification import classify
from resilience_kit.config import ResilienceSettings, get_preset
from resilience_kit.config.validator import ResilienceConfigValidator
from resilience_kit.errors import RateLimitError
from resilience_kit.orchestrator import AIServiceResilience

NAME: Final = "resilience_kit"
_CUSTOM: Final = {"retry_attempts": 4, "circuit_breaker_threshold": 8, "recovery_timeout": 90, "default_strategy": "balanced"}
_FILE: Final = 'preset = "production"\nretry_attempts = 4\ndeadline = 60\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A function to measure; `target`: the limit in seconds for 95 % of its samples, None for none."""

    name: str
    f: Callable[[], object]
    target: float | None = None


@contextmanager
def comprehensive() -> Iterator[tuple[Benchmark, ...]]:
    """Yield the benchmarks, with a configuration file that exists inside the block.

    Loading reads this process's environment, as an application does. Raises ConfigurationError when that is wrong.
    """
    with tempfile.TemporaryDirectory(prefix="resilience-bench-") as folder:
        file = Path(folder) / "resilience.toml"
        file.write_text(_FILE, encoding="utf-8")
        yield (*_load_benchmarks(file), *_call_benchmarks())


def _load_benchmarks(file: Path) -> tuple[Benchmark, ...]:
    validator = ResilienceConfigValidator()
    return (
        Benchmark(name="config_loading", f=lambda: ResilienceSettings(preset="production", custom_config=_CUSTOM), target=0.100),
        Benchmark(name="config_file_loading", f=lambda: ResilienceSettings(config_file=file), target=0.100),
        Benchmark(name="preset_access", f=lambda: get_preset("production"), target=0.010),
        Benchmark(name="validation", f=lambda: validator.validate_custom_config(_CUSTOM), target=0.050),
        Benchmark(name="service_init", f=AIServiceResilience, target=0.200),
    )


def _call_benchmarks() -> tuple[Benchmark, ...]:
    orchestrator, error = AIServiceResilience(), RateLimitError("429", retry_after=1.0)

    @orchestrator.with_resilience("bench")
    def protected() -> None:
        return

    @orchestrator.with_resilience("bench_async")
    async def protected_async() -> None:
        return

    return (
        Benchmark(name="protected_call", f=protected, target=0.010),
        Benchmark(name="protected_call_async", f=protected_async, target=0.010),
        Benchmark(name="classification", f=lambda: classify(error)),
    )


def environment() -> dict[str, str]:
    """Return the versions and the machine that the figures depend on."""
    try:
        package_version = version("ai-resilience-kit")
    except PackageNotFoundError:  # pragma: no cover - run from a folder that was never installed
        package_version = "unknown"
    return {
        "resilience_kit": package_version,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.system(),
        "machine": platform.machine(),
        "processors": str(os.cpu_count()),
    }
