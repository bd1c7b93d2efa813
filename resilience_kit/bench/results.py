"""What a benchmark found out, as data that can be written to JSON and read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from resilience_kit.bench.json_reader import JsonReader
from resilience_kit.bench.measure.memory import MemoryUse
from resilience_kit.bench.measure.samples import MEASURES, Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkResult:
    """One benchmark. Times are seconds a call.

    `iterations`: timed samples; `loops`: calls in each of them. `distribution`: how many samples there are around which time.
    `memory`: None when it was not looked at. `calibration`: seconds that a fixed piece of work took between the samples;
    `cpu_share`: for what share of the time a processor was needed. `target`: seconds that 95 % of the samples have
    to stay within. `warnings`: why the figures may not be worth much.
    """

    name: str
    iterations: int
    loops: int
    time: Summary
    distribution: tuple[tuple[float, int], ...]
    memory: MemoryUse | None
    calibration: float
    cpu_share: float
    target: float | None = None
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
        return _result(JsonReader(data, path))


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkSuite:
    """Benchmarks that were run together. `timestamp`: when they began (ISO 8601, UTC); `duration`: seconds for all of it."""

    name: str
    timestamp: str
    duration: float
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
        reader = JsonReader(data, path)
        return cls(
            name=reader.text("name"),
            timestamp=reader.text("timestamp"),
            duration=reader.number("duration"),
            results=tuple(map(_result, reader.children("results"))),
            environment=reader.string_map("environment"),
        )


def _result(reader: JsonReader) -> BenchmarkResult:
    return BenchmarkResult(
        name=reader.text("name"),
        iterations=reader.integer("iterations"),
        loops=reader.integer("loops"),
        time=_summary(reader.child("time")),
        distribution=reader.pairs("distribution"),
        memory=_memory(reader.child("memory")) if reader.has("memory") else None,
        calibration=reader.number("calibration"),
        cpu_share=reader.number("cpu_share"),
        target=reader.optional_number("target"),
        warnings=reader.texts("warnings"),
    )


def _summary(reader: JsonReader) -> Summary:
    measures = {name: reader.number(name) for name in MEASURES}
    return Summary(count=reader.integer("count"), outliers=reader.integer("outliers"), exact=reader.flag("exact"), **measures)


def _memory(reader: JsonReader) -> MemoryUse:
    kept = reader.integer("current_bytes")
    calls = reader.integer("calls")
    return MemoryUse(
        calls=calls,
        peak_bytes=reader.integer("peak_bytes"),
        current_bytes=kept,
        per_call_bytes=reader.number("per_call_bytes"),
        kept_per_call_bytes=kept / calls if calls else 0.0,
        overhead=reader.number("overhead"),
    )
