"""The demo for real: a child process with the services, all clients, an outage, and the report."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import httpx
import httpx2
import openai
import pytest

from resilience_kit.cli.demo import sdk, traffic, upstream
from resilience_kit.cli.demo.recording import Recording
from resilience_kit.cli.demo.run_statistics import OUTAGE, client_statistics, report
from resilience_kit.cli.demo.scenario import Phase, Scenario


def test_all_clients_meet_the_same_traffic_and_outage() -> None:
    """The plain client fails through the outage; the kit opens, waits, closes again and answers every call."""
    looks: list[float] = []
    recording = asyncio.run(traffic.run(Scenario(duration=6.0, rate=40.0), lambda seen: looks.append(seen.now)))
    plain, retrying, kit = (client_statistics(side, recording.scenario, OUTAGE) for side in recording.sides)
    assert (
        {recording.unprotected.issued}
        == {side.issued for side in recording.sides}
        == {len(side.calls) for side in recording.sides}
    )
    assert [call.issued for call in sorted(recording.unprotected.calls, key=lambda call: call.issued)] == sorted(
        call.issued for call in recording.protected.calls
    )
    edge = plain.calls / 5  # on a busy machine a call issued at an edge of the outage may be sent on its other side
    assert plain.answered <= edge
    assert plain.sent == pytest.approx(plain.calls, abs=edge)
    assert retrying.sent > plain.sent
    assert (kit.calls, True) == (kit.answered, kit.sent < plain.sent / 4)
    assert ["open", "closed"] == [recording.protected.transitions[0].state, recording.protected.transitions[-1].state]
    assert len(looks) >= 10


def test_the_upstream_receives_what_is_not_refused() -> None:
    """Every attempt outside the refusing phase arrives (give or take those under way at its edges), none inside it does."""
    recording = asyncio.run(traffic.run(Scenario(duration=6.0, rate=40.0), lambda _seen: None))
    for side in recording.sides:
        refused = client_statistics(side, recording.scenario, [Phase.REFUSING])
        others = client_statistics(side, recording.scenario, frozenset(Phase) - {Phase.REFUSING})
        edge = others.sent / 20  # on a busy machine more of them are under way
        assert refused.received <= edge
        assert others.received == pytest.approx(others.sent, abs=edge)


def test_the_retries_are_those_of_the_orchestrator() -> None:
    """The orchestrator's count is the attempts beyond the first of each call."""
    recording = asyncio.run(traffic.run(Scenario(duration=1.5, rate=60.0), lambda _seen: None))
    assert len(recording.protected.sent) - recording.protected.issued == recording.protected.retries
    assert len(recording.unprotected.sent) == recording.unprotected.issued
    assert len(recording.sdk.sent) - recording.sdk.issued == recording.sdk.retries


@pytest.mark.parametrize("retry", range(6))
@pytest.mark.parametrize("hint", [None, "0.1", "7", "120", "121"])
def test_the_sdk_lane_waits_as_the_sdk_does(retry: int, hint: str | None) -> None:
    """The real client of openai, asked for its wait before the same retry of the same answer, stays in the same range."""
    headers = httpx2.Headers({} if hint is None else {"retry-after": hint})
    request = httpx.Request("POST", "http://service.test")
    error = httpx.HTTPStatusError("", request=request, response=httpx.Response(429, headers=dict(headers), request=request))
    client = openai.OpenAI(api_key="synthetic", base_url="http://service.test")
    assert sdk.RETRIES == client.max_retries
    options = openai._models.FinalRequestOptions(method="post", url="/")
    theirs = [client._calculate_retry_timeout(max(0, sdk.RETRIES - retry), options, headers) for _ in range(100)]
    ours = [sdk.delay(min(retry, sdk.RETRIES), error) for _ in range(100)]
    assert (min(ours), max(ours)) == pytest.approx((min(theirs), max(theirs)), rel=0.1)


def test_an_operators_variables_do_not_change_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are put aside, even wrong ones, and are there again afterwards."""
    monkeypatch.setenv("RESILIENCE_OPERATION_CHAT", "critical")
    monkeypatch.setenv("RESILIENCE_PRESET", "no such preset")
    recording = asyncio.run(traffic.run(Scenario(duration=0.6, rate=30.0), lambda _seen: None))
    assert recording.protected.issued == len(recording.protected.calls) > 0
    assert "no such preset" == traffic.os.environ["RESILIENCE_PRESET"]


def test_a_service_that_cannot_start_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without uvicorn the child tells its parent what to install."""
    (tmp_path / "uvicorn.py").write_text("raise ImportError('hidden')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ChildProcessError, match=r"needs uvicorn: pip install 'ai-resilience-kit\[testing\]'"):
        upstream.Upstream(Scenario(), 1).__enter__()


def test_a_service_that_dies_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child without a word is no reason to hang."""
    monkeypatch.setattr(upstream, "MODULE", "resilience_kit.errors")
    with pytest.raises(ChildProcessError, match="ended unexpectedly"):
        upstream.Upstream(Scenario(), 1).__enter__()


def test_no_child_outlives_a_run_that_is_broken_off() -> None:
    """The services end with the run, whatever ends it."""

    def break_off(seen: Recording) -> None:
        if seen.now > 0.3:
            raise RuntimeError("enough")

    started: list[subprocess.Popen[str]] = []

    class Watched(upstream.Upstream):
        def __enter__(self) -> upstream.Upstream:
            started.append(self._child)
            return super().__enter__()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traffic, "Upstream", Watched)
        with pytest.raises(ExceptionGroup):
            asyncio.run(traffic.run(Scenario(duration=5.0), break_off))
    assert [True] == [child.poll() is not None for child in started]


def test_the_quick_demo_takes_eight_seconds_and_reports(tmp_path: Path) -> None:
    """The command itself, without a terminal; the time has a margin for a busy machine."""
    picture = tmp_path / "picture.svg"
    begun = time.monotonic()
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            "from resilience_kit.cli import main; main()",
            "demo",
            "--quick",
            "--json",
            "--picture",
            str(picture),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert time.monotonic() - begun < 24.0
    said = json.loads(ended.stdout)
    assert (report(Recording(Scenario.quick())).keys() | {"picture"}) == said.keys()
    assert said["calls_per_second"] >= 100
    assert ("", True) == (ended.stderr, picture.stat().st_size > 10_000)
