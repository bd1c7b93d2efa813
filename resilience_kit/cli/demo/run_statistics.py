"""The figures of the report, computed from a recording."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from resilience_kit.cli.demo.recording import CallRecord, Recording, Side
from resilience_kit.cli.demo.scenario import Phase, Scenario

OUTAGE = frozenset({Phase.FAILING, Phase.REFUSING})
GOAL_OUTSIDE = 0.999
GOAL_UPSTREAM = 0.05
GOAL_BURST = 2.0
#: Seconds over which a rate is counted.
SECOND = 1.0
#: Seconds from which on a call has waited.
SLOW_CALL_THRESHOLD = 1.0


@dataclass(frozen=True, slots=True)
class ClientStatistics:
    """One side in one period; a call belongs to the period in which it was issued. Latencies are milliseconds."""

    calls: int
    answered: int
    p50_ms: float
    p95_ms: float
    sent: int
    received: int

    @property
    def success_rate(self) -> float:
        """The share of calls that succeeded; 1.0 without calls."""
        return self.answered / self.calls if self.calls else 1.0

    def as_dict(self) -> dict[str, object]:
        """Return the figures, ready for JSON."""
        return {
            "calls": self.calls,
            "answered": self.answered,
            "success_rate": round(self.success_rate, 5),
            "latency_ms": {"p50": round(self.p50_ms, 1), "p95": round(self.p95_ms, 1)},
            "upstream_sent": self.sent,
            "upstream_received": self.received,
        }


@dataclass(frozen=True, slots=True)
class Goals:
    """The goals of the demo.

    `outside`: success outside the outage. `upstream`: attempts during it, as a share of the plain client's. `burst`: the most
    attempts in any second after it, in multiples of the normal rate: a recovered service must not be overloaded.
    """

    outside: float
    upstream: float
    burst: float

    @property
    def met(self) -> bool:
        """Whether all goals were reached."""
        return self.outside >= GOAL_OUTSIDE and self.upstream <= GOAL_UPSTREAM and self.burst <= GOAL_BURST

    def as_dict(self) -> dict[str, object]:
        """Return the figures, ready for JSON."""
        return {
            "protected_success_outside_outage": {"measured": round(self.outside, 5), "at_least": GOAL_OUTSIDE},
            "upstream_during_outage_vs_plain": {"measured": round(self.upstream, 5), "at_most": GOAL_UPSTREAM},
            "burst_after_outage_vs_normal": {"measured": round(self.burst, 3), "at_most": GOAL_BURST},
            "met": self.met,
        }


def percentile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that at least `share` of all values do not exceed; 0.0 without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def client_statistics(side: Side, scenario: Scenario, phases: Iterable[Phase] = Phase) -> ClientStatistics:
    """Compute the figures of one side in some phases."""
    wanted = frozenset(phases)
    calls = [call for call in side.calls if scenario.phase(call.issued) in wanted]
    latencies = [call.latency * 1e3 for call in calls]
    return ClientStatistics(
        calls=len(calls),
        answered=sum(call.error is None for call in calls),
        p50_ms=percentile(latencies, 0.5),
        p95_ms=percentile(latencies, 0.95),
        sent=_within(side.sent, scenario, wanted),
        received=_within(side.received, scenario, wanted),
    )


def goals(recording: Recording) -> Goals:
    """Compute the goals from the run."""
    scenario = recording.scenario
    outside = client_statistics(recording.protected, scenario, frozenset(Phase) - OUTAGE)
    unprotected_sent, protected_sent = (
        client_statistics(side, scenario, OUTAGE).sent for side in (recording.unprotected, recording.protected)
    )
    return Goals(
        outside.success_rate, protected_sent / unprotected_sent if unprotected_sent else 0.0, burst(recording.protected, scenario)
    )


def burst(side: Side, scenario: Scenario) -> float:
    """Return the most attempts in any second after the outage, in multiples of the normal rate."""
    sent = sorted(at for at in side.sent if at >= scenario.outage[2])
    peak = max((bisect_left(sent, at + SECOND) - first for first, at in enumerate(sent)), default=0)
    return peak / SECOND / scenario.rate


@dataclass(frozen=True, slots=True)
class SlowCalls:
    """Calls that waited longer than `PATIENCE`: how many, the longest in seconds, and when the last of them was answered."""

    count: int
    longest: float
    until: float


def slow_calls(side: Side) -> SlowCalls:
    """Summarize the waits of calls that were answered late."""
    late = [call for call in side.calls if call.error is None and call.latency > SLOW_CALL_THRESHOLD]
    return SlowCalls(
        len(late), max((call.latency for call in late), default=0.0), max((call.ended for call in late), default=0.0)
    )


def errors(calls: Sequence[CallRecord]) -> dict[str, int]:
    """Count each error that reached the user, the most frequent first."""
    return dict(Counter(call.error for call in calls if call.error is not None).most_common())


def report(recording: Recording) -> dict[str, object]:
    """Return the whole report, ready for JSON."""
    scenario = recording.scenario
    start, refused_from, end = scenario.outage
    return {
        "seed": scenario.seed,
        "duration_s": scenario.duration,
        "calls_per_second": round(recording.unprotected.issued / scenario.duration, 1),
        "outage_s": {"start": start, "connections_refused_from": refused_from, "end": end},
        "worst_lag_ms": round(recording.max_lag * 1e3, 1),
        "clients": {side.name: _side_report(side, scenario) for side in recording.sides},
        "goals": goals(recording).as_dict(),
    }


def _side_report(side: Side, scenario: Scenario) -> dict[str, object]:
    return {
        "total": client_statistics(side, scenario).as_dict(),
        "outside_outage": client_statistics(side, scenario, frozenset(Phase) - OUTAGE).as_dict(),
        "during_outage": client_statistics(side, scenario, OUTAGE).as_dict(),
        "phases": {phase.value: client_statistics(side, scenario, [phase]).as_dict() for phase in Phase},
        "retries": side.retries,
        "burst_after_outage": round(burst(side, scenario), 3),
        "waited": {"calls": slow_calls(side).count, "longest_s": round(slow_calls(side).longest, 3)},
        "errors": errors(side.calls),
        "breaker": [{"at": round(move.at, 3), "state": move.state} for move in side.transitions],
    }


def _within(times: Iterable[float], scenario: Scenario, phases: frozenset[Phase]) -> int:
    return sum(scenario.phase(at) in phases for at in times)
