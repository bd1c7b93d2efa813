"""What a benchmark found out, as data that can be written to JSON and read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

from pydantic import TypeAdapter

from resilience_kit.bench.json_reader import Amount, Whole, validate
from resilience_kit.bench.measure.memory import MemoryUse
from resilience_kit.bench.measure.samples import Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkResult:
    """One benchmark. Times are seconds a call.

    `iterations`: timed samples; `loops`: calls in each of them. `distribution`: how many samples there are around which time.
    `memory`: None when it was not looked at. `calibration`: seconds that a fixed piece of work took between the samples;
    `cpu_share`: for what share of the time a processor was needed. `target`: seconds that 95 % of the samples have
    to stay within. `warnings`: why the figures may not be worth much.
    """

    name: str
    iterations: Whole
    loops: Whole
    time: Summary
    distribution: tuple[tuple[Amount, Whole], ...]
    memory: MemoryUse | None
    calibration: Amount
    cpu_share: Amount
    target: Amount | None = None
    warnings: tuple[str, ...] = ()

    @property
    def meets_target(self) -> bool:
        """Whether the 95th percentile is within the target; true without one."""
        return self.target is None or self.time.p95 <= self.target

    @property
    def headroom(self) -> float | None:
        """How many times faster than the target the median is; None without a target or without a time."""
        return self.target / self.time.median if self.target is not None and self.time.median else None

    def to_dict(self) -> dict[str, object]:
        """Ready for JSON."""
        return {**asdict(self), "meets_target": self.meets_target, "headroom": self.headroom}

    @classmethod
    def from_dict(cls, data: Mapping[str, object], path: str = "") -> BenchmarkResult:
        """What `to_dict` wrote. Raises ConfigurationError with the place of what is wrong."""
        return validate(_RESULT, data, path)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkSuite:
    """Benchmarks that were run together. `timestamp`: when they began (ISO 8601, UTC); `duration`: seconds for all of it."""

    name: str
    timestamp: str
    duration: Amount
    results: tuple[BenchmarkResult, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def failed_targets(self) -> tuple[str, ...]:
        """The names of the benchmarks that did not meet their targets."""
        return tuple(result.name for result in self.results if not result.meets_target)

    @property
    def passed(self) -> bool:
        """Whether every target is met."""
        return not self.failed_targets

    def __getitem__(self, name: str) -> BenchmarkResult:
        for result in self.results:
            if result.name == name:
                return result
        raise KeyError(name)

    def to_dict(self) -> dict[str, object]:
        """Ready for JSON."""
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
        """As a JSON text; one line unless told otherwise."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    @classmethod
    def from_dict(cls, data: object, path: str = "") -> BenchmarkSuite:
        """What `to_dict` wrote. Raises ConfigurationError with the place of what is wrong."""
        return validate(_SUITE, data, path)


_RESULT: Final = TypeAdapter(BenchmarkResult)
_SUITE: Final = TypeAdapter(BenchmarkSuite)
