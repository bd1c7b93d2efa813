"""What a web application answers under /health and /metrics: a status code and a dictionary that is ready for JSON.

Prints:

    /health 200 {"healthy": true, "open": []}
    /health 503 {"healthy": false, "open": ["summarize"]}
    /metrics 200 ['circuit_breaker', 'operations', 'summary']
    /nothing 404 {}
"""

from __future__ import annotations

import json

from resilience_kit import get_orchestrator, with_resilience


@with_resilience("summarize")
def summarize(text: str) -> str:
    return f"summary of {text}"


def respond(path: str) -> tuple[int, dict[str, object]]:
    """Answer a request: call it from the framework of your choice."""
    kit = get_orchestrator()
    if path == "/health":
        status = kit.get_health_status()
        return 200 if status["healthy"] else 503, {"healthy": status["healthy"], "open": status["open_circuit_breakers"]}
    if path == "/metrics":
        return 200, kit.get_metrics()
    return 404, {}


def main() -> None:
    summarize("a report")
    health = respond("/health")
    print("/health", health[0], json.dumps(health[1]))
    get_orchestrator().get_circuit_breaker("summarize").force_open("maintenance")
    health = respond("/health")
    print("/health", health[0], json.dumps(health[1]))
    status, metrics = respond("/metrics")
    print("/metrics", status, sorted(json.loads(json.dumps(metrics))))
    print("/nothing", *respond("/nothing"))


if __name__ == "__main__":
    main()
