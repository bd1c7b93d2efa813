"""The report of import times, from made-up samples; no process is started."""

import pytest


@pytest.fixture
def import_time():
    """The program as a module."""
    import import_time

    return import_time


def samples_of(import_time, kit):
    """Five rounds in which the libraries take 100 ms."""
    return {name: [kit if name == import_time.KIT else 100.0] * 5 for name in import_time.CONTENDERS}


def test_ratios_are_told(import_time):
    """Each contender by the libraries."""
    assert "| resilience_kit | 90.0 | 90.0 - 90.0 | 0.90 |" in import_time.to_markdown(samples_of(import_time, 90.0))


@pytest.mark.parametrize(("kit", "code"), [(129.0, 0), (131.0, 1)])
def test_the_exit_code_tells_whether_the_goal_is_met(import_time, monkeypatch, capsys, kit, code):
    """1.3 is the limit; JSON holds the samples."""
    monkeypatch.setattr(import_time, "run", lambda _: samples_of(import_time, kit))
    assert (code, code) == (import_time.main([]), import_time.main(["--json"]))
    assert f"resilience_kit / the libraries: {kit / 100:.2f}, at most 1.3" in capsys.readouterr().err


def test_the_first_rounds_are_left_out(import_time, monkeypatch):
    """They fill the disk's cache."""
    taken = []
    monkeypatch.setattr(import_time, "import_time", lambda statement: taken.append(statement) or float(len(taken)))
    samples = import_time.run(3)
    assert ({3}, 5 * len(samples)) == ({len(each) for each in samples.values()}, len(taken))
