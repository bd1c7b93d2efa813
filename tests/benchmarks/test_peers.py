"""The comparison runs with the libraries that every checkout has, and finds out who does not do the job. No time is judged."""

import json
from contextlib import closing, suppress
from importlib import import_module
from pathlib import Path

import pytest

HERE = ("ai-resilience-kit", "circuitbreaker", "tenacity")


@pytest.fixture
def adapters(monkeypatch):
    """The module, with nothing but what every checkout has."""
    import adapters

    monkeypatch.setattr(adapters, "LIBRARIES", {name: adapters.LIBRARIES[name] for name in HERE})
    return adapters


@pytest.fixture
def peers(adapters, monkeypatch):
    """The program."""
    import peers

    monkeypatch.setattr(peers, "LIBRARIES", adapters.LIBRARIES)
    return peers


@pytest.fixture
def harness():
    """What measures, whose folder is on the path by now."""
    import harness

    return harness


@pytest.fixture
def contend(peers, adapters, harness):
    """Sets a decorator up as a contender of an event, sync."""

    def make(decorator, event):
        entry = adapters.Entry(name="some", job=adapters.Job.RETRY, make=lambda _: decorator)
        with closing(harness.Loop()) as loop:
            return peers.contender(entry, event, peers.ways(loop)[adapters.Kind.SYNC])

    return make


def test_a_quick_run_covers_every_row(peers, tmp_path, capsys):
    """Each contender reaches its callee as often as it should, or the run would not have ended well; the kit is in each row."""
    written = tmp_path / "run.json"
    assert 0 == peers.main(["--quick", "--runs=1", "--json", str(written)])
    rows = {row["title"]: {each["contender"] for each in row["figures"]} for row in json.loads(written.read_text())["rows"]}
    assert 14 == len(rows)
    assert all({"try/except", "kit"} < contenders for contenders in rows.values())
    assert "| breaker and retry: circuit open, async |" in capsys.readouterr().out


def test_several_runs_are_programs_of_their_own(peers, tmp_path, monkeypatch, capsys):
    """Each is started with the options that count for it, and what is told is their median."""
    only, written, started = "--only=breaker: success, sync", tmp_path / "run.json", []
    peers.main(["--quick", "--runs=1", only, "--json", str(written)])

    def run(command, **_):
        started.append(command[2:-2])
        Path(command[-2].removeprefix("--json=")).write_text(written.read_text())

    monkeypatch.setattr(peers.subprocess, "run", run)
    assert 0 == peers.main(["--quick", "--runs=2", only])
    assert [["--runs=1", only]] * 2 == started
    assert "runs 2" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(("rival", "code"), [(2.0, 0), (0.5, 1)])
def test_check_tells_by_the_exit_code_whether_the_kit_is_first(peers, tmp_path, rival, code):
    """A single contender that is ahead in a single run is enough to fail."""
    written = tmp_path / "run.json"
    peers.main(["--quick", "--runs=1", "--only=breaker: success, sync", "--json", str(written)])
    run = json.loads(written.read_text())
    for figure in run["rows"][0]["figures"]:
        figure["ratio"] = dict.fromkeys(("low", "mid", "high"), 1.0 if figure["contender"] == "kit" else rival)
    written.write_text(json.dumps(run))
    assert code == peers.main(["--merge", str(written), "--check"])


def test_a_library_that_is_missing_is_a_sentence(peers, adapters, monkeypatch):
    """The others are compared without it, and the report says so."""
    monkeypatch.setitem(adapters.LIBRARIES, "gone", lambda: iter(import_module("gone")))
    told = []
    report = peers.benchmark(peers.QUICK, told.append, "breaker: success, sync")
    assert told[0].startswith("gone is left out, since it is not there: No module named 'gone'. `make peers`")
    assert ("not installed", 1) == (report.environment["gone"], len(report.rows))


def test_a_page_is_not_written_from_a_part_or_a_quick_run(peers, capsys):
    """What is published comes from whole runs."""
    with pytest.raises(SystemExit):
        peers.main(["--write", ".", "--quick"])
    assert "--write is for whole runs" in capsys.readouterr().err


def test_a_contender_that_loses_the_result_is_found_out(contend, adapters, harness):
    """An answer of its own is not the job."""
    with pytest.raises(harness.MiscountError, match="some: the result is not the callee's"):
        contend(lambda function: lambda x: function(x) and None, adapters.Event.SUCCESS)


def test_a_contender_that_hides_the_last_error_is_found_out(contend, adapters, harness):
    """It would save the cost of raising."""

    def decorator(function):
        def wrapper(x):
            for _ in range(3):
                with suppress(ConnectionError):
                    return function(x)
            return None

        return wrapper

    with pytest.raises(harness.MiscountError, match="a call succeeded"):
        contend(decorator, adapters.Event.FAILS_ONCE)


def test_a_contender_with_fewer_attempts_is_found_out(contend, adapters, harness):
    """Two attempts are enough where one fails, and still not the job."""

    def decorator(function):
        def wrapper(x):
            try:
                return function(x)
            except ConnectionError:
                return function(x)

        return wrapper

    with pytest.raises(harness.MiscountError, match="some: 2 attempts, not 3"):
        contend(decorator, adapters.Event.FAILS_ONCE)


def test_a_circuit_that_does_not_open_is_found_out(contend, adapters, harness):
    """Its calls would reach the callee, which nobody's may."""

    def decorator(function):
        return function

    found = contend(decorator, adapters.Event.REFUSAL)
    with pytest.raises(harness.MiscountError, match="some: 3 calls reached the callee 3 times, not 0"):
        harness.measured(found, 3)


def test_the_kit_does_what_its_row_is_about(adapters):
    """In a row for breakers it has no retries, in one for retries no breaker; with both it is listed beside."""
    found = [(entry.name, str(entry.job)) for entry in adapters.kit()]
    assert [
        ("kit", "breaker"),
        ("kit", "retry"),
        ("kit", "breaker and retry"),
        ("kit, breaker and retry", "breaker"),
        ("kit, breaker and retry", "retry"),
    ] == found


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_what_piles_up_on_a_shared_error_is_cut(adapters, is_async):
    """A library that raises one error for all refusals would otherwise run out of memory before the rounds are over."""
    error = ConnectionError()

    def call(x):
        raise error

    async def call_async(x):
        call(x)

    measure = adapters.forgetful(lambda number: number, call_async if is_async else call)
    with suppress(ConnectionError):
        call(1)
    assert (True, 5, None) == (error.__traceback__ is not None, measure(5), error.__traceback__)
