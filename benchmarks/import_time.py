"""What `import resilience_kit` costs, beside the libraries that it stands on: `python benchmarks/import_time.py`.

Every import happens in a process of its own, which tells how long it took; processes of the contenders take turns, so that
whatever slows the machine for a while slows all of them. docs/benchmarks/import-time.md tells what is compared.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence

from report import Spread, ratios, table

KIT, LIBRARIES, EMPTY = "resilience_kit", "the libraries", "nothing"
CONTENDERS = {
    KIT: "import resilience_kit",
    LIBRARIES: "import pydantic_settings, tenacity, circuitbreaker",
    "the room for settings": "import resilience_kit.config; resilience_kit.config.ResilienceSettings",
    EMPTY: "pass",
}
LIMIT = 1.3
WARM_UPS = 2
_PROGRAM = "from time import perf_counter_ns; began = perf_counter_ns(); {}; print(perf_counter_ns() - began)"


def import_time(statement: str) -> float:
    """Milliseconds that a statement takes in a new process, the interpreter's own start left aside."""
    command = [sys.executable, "-c", _PROGRAM.format(statement)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603 - our own program
    return int(done.stdout) / 1e6


def run(rounds: int) -> dict[str, list[float]]:
    """Return the samples of each contender, one a round; the first rounds fill the disk's caches and are left out."""
    samples: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for number in range(WARM_UPS + rounds):
        for name, statement in CONTENDERS.items():
            taken = import_time(statement)
            if number >= WARM_UPS:
                samples[name].append(taken)
    return samples


def to_markdown(samples: dict[str, list[float]]) -> str:
    """Medians, quartiles, and the ratio to the libraries, formed round by round."""
    lines = []
    for name, own in samples.items():
        cost, ratio = Spread.of_samples(own), ratios(own, samples[LIBRARIES])
        lines.append((name, f"{cost.mid:.1f}", f"{cost.low:.1f} - {cost.high:.1f}", f"{ratio.mid:.2f}"))
    return table(("import of", "ms", "quartiles", "ratio"), lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compare the cost of importing the kit with that of its libraries.")
    parser.add_argument("--rounds", type=int, default=21, help="processes of each contender (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print the samples as JSON")
    given = parser.parse_args(arguments)
    samples = run(max(1, given.rounds))
    print(json.dumps(samples) if given.json else to_markdown(samples))
    ratio = ratios(samples[KIT], samples[LIBRARIES]).mid
    print(f"\nresilience_kit / the libraries: {ratio:.2f}, at most {LIMIT}", file=sys.stderr)
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
