"""What a web application answers to its platform: /livez, /readyz and /metrics, each a status code and a dictionary for JSON.

- **/livez** answers 200 whenever the process answers at all, whatever its providers do. A platform restarts what fails here, and
  no restart mends a provider: all replicas would be restarted again and again, would forget that their circuits are open, and
  would ask the service that is down anew each time.
- **/readyz** answers 503 while a circuit without which this service is of no use is open or forced open, and names it. A
  platform then sends no traffic to this replica, and leaves it running, so that its circuit can close. Circuits of other
  operations are told there, and do not make it fail: what has a fallback goes on.
- **/health** tells both for people, and never fails.

Prints:

    /livez 200 {"alive": true}
    /readyz 200 {"ready": true, "open": [], "critical": []}
    -- the extra is down
    /livez 200 {"alive": true}
    /readyz 200 {"ready": true, "open": ["illustrate"], "critical": []}
    -- what the service lives on is down
    /livez 200 {"alive": true}
    /readyz 503 {"ready": false, "open": ["illustrate", "summarize"], "critical": ["summarize"]}
    /health 200 {"alive": true, "ready": false, "open": ["illustrate", "summarize"], "critical": ["summarize"]}
    -- half-open: its trial calls need traffic
    /readyz 200 {"ready": true, "open": ["illustrate"], "critical": []}
    /metrics 200 ['circuit_breaker', 'operations', 'summary']
    /nothing 404 {}
"""

from __future__ import annotations

import json

from resilience_kit import get_orchestrator, with_resilience

#: Operations without which this service cannot do its work.
CRITICAL = frozenset({"summarize"})


@with_resilience("summarize")
def summarize(text: str) -> str:
    return f"summary of {text}"


@with_resilience("illustrate", fallback=lambda _text: "no picture today")
def illustrate(text: str) -> str:
    return f"picture of {text}"


def readiness() -> dict[str, object]:
    """Read from memory: a probe asks no provider, which would cost money and time each few seconds."""
    broken = get_orchestrator().get_health_status()["open_circuit_breakers"]
    critical = [operation for operation in broken if operation in CRITICAL]
    return {"ready": not critical, "open": broken, "critical": critical}


def respond(path: str) -> tuple[int, dict[str, object]]:
    """Answer a request: call it from the framework of your choice."""
    if path == "/livez":
        return 200, {"alive": True}
    if path == "/readyz":
        found = readiness()
        return 200 if found["ready"] else 503, found
    if path == "/health":
        return 200, {"alive": True, **readiness()}
    if path == "/metrics":
        return 200, get_orchestrator().get_metrics()
    return 404, {}


def show(path: str) -> None:
    status, body = respond(path)
    print(path, status, json.dumps(body))


def main() -> None:
    summarize("a report")
    show("/livez")
    show("/readyz")
    print("-- the extra is down")
    get_orchestrator().get_circuit_breaker("illustrate").force_open("an outage")
    show("/livez")
    show("/readyz")
    print("-- what the service lives on is down")
    circuit = get_orchestrator().get_circuit_breaker("summarize")
    circuit.force_open("an outage")
    show("/livez")
    show("/readyz")
    show("/health")
    print("-- half-open: its trial calls need traffic")
    circuit.state = "half_open"
    show("/readyz")
    status, metrics = respond("/metrics")
    print("/metrics", status, sorted(json.loads(json.dumps(metrics))))
    print("/nothing", *respond("/nothing"))


if __name__ == "__main__":
    main()
