"""What the programs around jobs do with figures; no database is started."""

import asyncio
import importlib
import json

import pytest

pytest.importorskip("procrastinate", reason="the extra `jobs` is not installed")
pytest.importorskip("psycopg", reason="the extra `jobs` is not installed")


@pytest.fixture
def program():
    """A program by its name, found where its neighbours are."""
    return importlib.import_module


# --- chaos -------------------------------------------------------------------------------------------------------------------


def test_marks_and_rows_make_a_history(program, tmp_path):
    """Marks of all workers are counted; a poison job has a limit of its own, and may only fail (invariant 62)."""
    chaos = program("jobs_chaos")
    (tmp_path / "1.marks").write_text("begun 7 0 11\ndone 7 0 12\nbegun 8 0 13\n")
    (tmp_path / "2.marks").write_text("begun 8 1 14\n")
    (tmp_path / "2.log").write_text("Starting worker\n")
    rows = [(7, "plain", "succeeded", 1, ["deferred", "started", "succeeded"]), (8, "poison", "doing", 1, ["deferred"])]
    plain, poison = chaos.histories(rows, chaos.marks_in(tmp_path))
    assert (7, 1, 1, 9, 1) == (plain.job_id, plain.begun, plain.done, plain.limit, plain.started)
    assert (8, 2, 0, 3, {"failed"}) == (poison.job_id, poison.begun, poison.done, poison.limit, poison.ends)


@pytest.fixture
def outcome(program):
    """Of a run that went as badly as its faults say."""
    chaos = program("jobs_chaos")

    def made(*faults):
        rows = [(1, "poison", "failed", 3, ["deferred", *["started", "deferred_for_retry"] * 2, "started", "failed"])]
        tally = chaos.Tally(kills=5, acknowledged=[1])
        jobs = chaos.histories(rows, {("begun", 1): 2})
        return chaos.Outcome(tally=tally, jobs=jobs, faults=list(faults), drained=1.25, seed=3)

    return made


@pytest.mark.parametrize(("faults", "code"), [([], 0), (["job 1: lost"], 1)])
def test_the_exit_code_of_chaos_tells_of_faults(program, outcome, monkeypatch, capsys, tmp_path, faults, code):
    """Figures and faults are printed, and written where they are wanted."""
    chaos = program("jobs_chaos")

    async def play(plan, database, seed):
        assert (chaos.QUICK, "postgresql://any", 3) == (plan, database, seed)
        return outcome(*faults)

    monkeypatch.setattr(chaos, "play", play)
    monkeypatch.setattr(chaos, "_CONTEXT", type("Context", (), {"set_forkserver_preload": lambda *_: None})())
    asked = ["--quick", "--seed", "3", "--database", "postgresql://any", "--json", str(tmp_path / "figures")]
    assert code == chaos.main(asked)
    figures = json.loads((tmp_path / "figures").read_text())
    assert (1, 5, 3, 2, faults) == (
        figures["of these poison, each after 3 runs"],
        figures["workers killed"],
        figures["runs recorded"],
        figures["runs begun, by marks on disk"],
        figures["found"],
    )
    printed = capsys.readouterr().out
    assert "| workers killed | 5 |" in printed
    assert all(f"- {fault}" in printed for fault in faults)


def test_a_client_defers_as_many_jobs_as_are_wanted(program):
    """A refused one is counted, and another takes its place."""
    chaos, connector = program("jobs_chaos"), program("procrastinate.exceptions")
    asked = []

    class App:
        def configure_task(self, task):
            asked.append(task)
            return self

        async def defer_async(self, **_):
            if len(asked) == 2:
                raise connector.ConnectorException
            return len(asked)

    tally = chaos.Tally()
    plan = chaos.Plan(jobs=200, seconds=0.0, stopped=(0.0, 0.0), restarted=0.0, crashed=0.0, patience=0.0)
    asyncio.run(chaos.Client(App(), tally, chaos.Random(1)).defer(plan))
    assert (200, 1, 201) == (len(set(tally.acknowledged)), tally.refused, len(asked))
    assert set(chaos.SHARES) == set(asked)


# --- throughput --------------------------------------------------------------------------------------------------------------


def test_the_contenders_take_turns(program):
    """Who is first changes; a round after an emptying does not count."""
    throughput = program("jobs_throughput")
    row, order = throughput.Row("title"), []

    class Contender(str):
        __slots__ = ()

        async def empty(self):
            order.append("-")

    async def measure(contender):
        order.append(contender)
        return {"b": 100.0, "o": 90.0}[contender]

    asyncio.run(throughput.fill(row, measure, (Contender("b"), Contender("o")), 26))
    assert "-b-o" + "obbo" * 12 + "ob" + "-b-o" + "bo" + "--" == "".join(order)
    assert ([100.0] * 26, [90.0] * 26, 0.9, (0.9, 0.9)) == (row.bare, row.ours, row.ratio, row.spread)


@pytest.mark.parametrize(("ours", "code"), [(91.0, 0), (89.0, 1)])
def test_the_exit_code_tells_whether_the_goal_is_met(program, monkeypatch, capsys, tmp_path, ours, code):
    """Nine tenths of the bare one; the page keeps what stands around the figures."""
    throughput, page = program("jobs_throughput"), tmp_path / "page.md"

    async def benchmark(url, scale, only, tell):
        tell(url)
        return [throughput.Row("run", [100.0, 1000.0, 1000.0], [100.0, ours * 10, ours * 10])]

    monkeypatch.setattr(throughput, "benchmark", benchmark)
    page.write_text(f"before\n<!-- figures: {throughput.PROGRAM} -->\nstale\n<!-- end of figures -->\nafter\n", encoding="utf-8")
    assert code == throughput.main(["--quick", "--check", "--database", "postgresql://any", "--write", str(page)])
    written = page.read_text(encoding="utf-8")
    assert (True, True, False) == (written.startswith("before\n"), written.endswith("\nafter\n"), "stale" in written)
    assert f"| run | 1,000 | {ours * 10:.0f} | {ours / 100:.2f} |" in written
    assert "| run |" in capsys.readouterr().out


def test_a_page_without_a_place_for_figures_is_refused(program, tmp_path):
    """In a sentence that tells what it needs."""
    page = tmp_path / "page.md"
    page.write_text("nothing")
    with pytest.raises(ValueError, match="needs a line '<!-- figures: make it -->'"):
        program("page_section").renew(page, "make it", "text")


# --- stress ------------------------------------------------------------------------------------------------------------------


def test_the_backoff_holds(program, tmp_path, monkeypatch, capsys):
    """All seven, with few calculations, however long they take; the file tells what the table does."""
    backoff, file = program("stress_test_exponential_backoff"), tmp_path / "new" / "results.json"
    monkeypatch.setattr(backoff, "LONGEST_CALCULATION", float("inf"))
    assert 0 == backoff.main(["--tasks", "200", "--json", str(file)])
    tests = json.loads(file.read_text())["tests"]
    assert [True] * 7 == [each["passed"] for each in tests]
    assert "2 4 8 16 32" == tests[0]["figures"]["delays"]
    assert "7 of 7 passed" in capsys.readouterr().out


def test_a_test_that_fails_stops_no_other(program, tmp_path, capsys):
    """And the exit code is 1."""
    stress = program("stress")

    def fails(bar):
        bar.more(2)
        bar.done()
        stress.expect(False, "3 [of] 4")

    def breaks(_):
        raise KeyError("it")

    tests = {"fails": fails, "breaks": breaks, "holds": lambda _: {"number": 1234, "share": 0.12345, "much": 1234.5}}
    page = tmp_path / "page.md"
    page.write_text("<!-- figures: python benchmarks/it.py --write docs/benchmarks/jobs.md -->\n<!-- end of figures -->\n")
    asked = stress.arguments("about", tasks=7, quick=3, file="", given=["--json", str(tmp_path / "file"), "--write", str(page)])
    assert 1 == stress.run("it.py", "title", tests, asked)
    assert "| holds | passed | number: 1,234; share: 0.123; much: 1,234 |" in page.read_text().splitlines()
    found = [(each["passed"], each["trouble"]) for each in json.loads((tmp_path / "file").read_text())["tests"]]
    assert [(False, "3 [of] 4"), (False, "KeyError: 'it'"), (True, "")] == found
    printed = capsys.readouterr().out
    assert all(words in printed for words in ("3 [of] 4", "1,234", "0.123", "1 of 3 passed"))


def test_the_number_of_tasks(program, capsys):
    """As asked for, that of --quick, or the program's own."""
    stress = program("stress")

    def tasks(*given):
        return stress.arguments("about", tasks=10, quick=3, file="file", given=given).tasks

    assert (10, 3, 7, 7) == (tasks(), tasks("--quick"), tasks("--tasks", "7"), tasks("--quick", "--tasks", "7"))
    with pytest.raises(SystemExit):
        tasks("--tasks", "0")
    assert "must be at least 1" in capsys.readouterr().err


def test_the_share_of_values(program):
    """The last one where there are few, and 0 of none."""
    share_of = program("stress").share_of
    assert (99, 3, 3, 0.0) == (share_of([*range(100)], 0.99), share_of([1, 2, 3], 0.99), share_of([3], 1.0), share_of([], 0.5))


def run_of(start, end, outcome="retried"):
    """A run as the service tells it, in seconds after noon."""
    return {"started_at": f"2026-01-01T12:00:{start:09.6f}", "ended_at": f"2026-01-01T12:00:{end:09.6f}", "outcome": outcome}


def test_growing_delays_are_seen(program):
    """A base delay and its double between the starts of runs that failed; a run that cost no attempt is not counted."""
    pytest.importorskip("httpx")
    system = program("stress_test_system")
    late, good = run_of(1.0, 1.1), run_of(2.0, 2.1, "succeeded")
    assert system._grow([run_of(0.0, 0.1), run_of(0.2, 0.3), run_of(0.7, 0.8), good])
    assert system._grow([run_of(0.0, 0.1, "interrupted"), run_of(0.1, 0.2), run_of(0.4, 0.5), late])
    assert not system._grow([run_of(0.0, 0.1), run_of(0.15, 0.2), late])
    assert not system._grow([run_of(0.0, 0.1), run_of(0.7, 0.8), late, good])


def test_the_most_runs_at_once(program):
    """One that begins when another ends is not beside it."""
    pytest.importorskip("httpx")
    most = program("stress_test_system")._most_at_once
    assert (2, 1, 0) == (most([run_of(0, 2), run_of(1, 3), run_of(2, 4)]), most([run_of(0, 1), run_of(1, 2)]), most([]))
