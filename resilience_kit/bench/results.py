"""Results of benchmarks, written to JSON and read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

from pydantic import TypeAdapter

from resilience_kit.bench.json_reader import Amount, Count, validate
from resilience_kit.bench.measure.memory import MemoryUse
from resilience_kit.bench.measure.samples import Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkResult:
    """One benchmark. Times are seconds a call.

    `iterations`: timed samples; `loops`: calls in each of them. `distribution`: times and the number of samples around each.
    `memory`: None when it was not measured. `calibration`: seconds that a fixed piece of work took between the samples;
    `cpu_share`: the share of the time in which a processor was needed. `target`: the limit in seconds for 95 % of the samples.
    `warnings`: why the figures may be unreliable.
    """

    name: str
    iterations: Count
    loops: Count
    time: Summary
    distribution: tuple[tuple[Amount, Count], ...]
    memory: MemoryUse | None
    calibration: Amount
    cpu_share: Amount
    target: Amount | None = None
    warnings: tuple[str, ...] = ()

    @property
    def meets_target(self) -> bool:
        """Return whether the 95th percentile is within the target; true without one."""
        return self.target is None or self.time.p95 <= self.target

    @property
    def headroom(self) -> float | None:
        """Return how many times faster than the target the median is; None without a target or without a time."""
        return self.target / self.time.median if self.target is not None and self.time.median else None

    def to_dict(self) -> dict[str, object]:
        """Return a dictionary ready for JSON."""
        return {**asdict(self), "meets_target": self.meets_target, "headroom": self.headroom}

    @classmethod
    def from_dict(cls, data: Mapping[str, object], path: str = "") -> BenchmarkResult:
        """Return what `to_dict` wrote. Raises ConfigurationError that names every wrong field."""
        return validate(_RESULT, data, path)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkSuite:
    """Benchmarks that were run together. `timestamp`: when they began (ISO 8601, UTC); `duration`: seconds in total."""

    name: str
    timestamp: str
    duration: Amount
    results: tuple[BenchmarkResult, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def failed_targets(self) -> tuple[str, ...]:
        """Return the names of the benchmarks that missed their targets."""
        return tuple(result.name for result in self.results if not result.meets_target)

    @property
    def passed(self) -> bool:
        """Return whether every target is met."""
        return not self.failed_targets

    def __getitem__(self, name: str) -> BenchmarkResult:
        for result in self.results:
            if result.name == name:
                return result
        raise KeyError(name)

    def to_dict(self) -> dict[str, object]:
        """Return a dictionary ready for JSON."""
        results = [result.to_dict() for result in self.results]
        return {
            "name": self.name,
            "timestamp": self.timestamp,
            "duration": self.duration,
            "passed": self.passed,
            "failed_targets": list(self.failed_targets),
            "environment": dict(self.environment),
            "results": results,
        }

    def to_json(self, indent: int | None = None) -> str:
        """Return a JSON text, of one line without `indent`."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    @classmethod
    def from_dict(cls, data: object, path: str = "") -> BenchmarkSuite:
        """Return what `to_dict` wrote. Raises ConfigurationError that names every wrong field."""
        return validate(_SUITE, data, path)


_RESULT: Final = TypeAdapter(BenchmarkResult)
_SUITE: Final = TypeAdapter(BenchmarkSuite)
