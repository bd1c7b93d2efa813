"""What is made of verdicts on mutants."""

from tests.mutation.page import Tally, label, reasons_in, to_markdown

MUTANT = {
    "path": "resilience_kit/policies/breaker/core.py",
    "function": "BreakerCore.try_acquire",
    "line": 9,
    "before": "a < `b`",
    "after": "a <= `b`",
    "verdict": "survived",
    "tests": "0a1b",
}


def test_a_label_has_no_line_number():
    """It stays the same while the file around it changes, and can be put between backticks."""
    assert "policies/breaker/core.py BreakerCore.try_acquire: a < 'b' -> a <= 'b'" == label(MUTANT)
    assert "x.py (module): 1 -> 2" == label({"path": "x.py", "function": "", "before": "1", "after": "2"})


def test_a_heading_is_the_reason_for_its_list():
    """As survivors.md is written."""
    text = f"# Title\n\n## Same value\n\n- `{label(MUTANT)}`\n- `other`\n\n## Slower only\n\n- `third`\n"
    assert {label(MUTANT): "Same value", "other": "Same value", "third": "Slower only"} == reasons_in(text)


def test_hanging_is_noticed():
    """The share counts it as killed; of no mutants, all were noticed."""
    fates = Tally.of([{"verdict": verdict} for verdict in ("killed", "killed", "timed out", "survived")])
    assert (4, 0.75, 1.0) == (fates.all, fates.share, Tally.of([]).share)


def test_a_survivor_needs_a_reason():
    """A survivor without a reason is reported, and so is a room with too many survivors, whatever the reasons."""
    killed = {**MUTANT, "verdict": "killed"}
    few, wrong = to_markdown({"breaker": [killed] * 99 + [MUTANT]}, {label(MUTANT): "Same value"}, {"breaker": 100})
    assert [] == wrong
    assert "| breaker | 100 | 100 | 99 | 0 | 1 | 99.0% | 0 | 95% |" in few
    _, unexplained = to_markdown({"breaker": [killed] * 99 + [MUTANT]}, {}, {"breaker": 100})
    assert [f"breaker: no reason for {label(MUTANT)}"] == unexplained
    _, too_many = to_markdown({"breaker": [killed] * 94 + [MUTANT] * 6}, {label(MUTANT): "Same value"}, {"breaker": 100})
    assert ["breaker: 94.0% noticed, and it must be 95%"] == too_many


def test_the_page_quotes_no_source_line():
    """The page holds the table alone; survivors.md names the mutants."""
    text, _ = to_markdown({"breaker": [MUTANT]}, {label(MUTANT): "Same value"}, {"breaker": 1})
    assert [] == [line for line in text.splitlines() if "core.py" in line]


def test_mutants_not_tried_are_reported():
    """An interrupted run is reported, and survivors of the quick tests alone are counted."""
    text, wrong = to_markdown({"retry": [{**MUTANT, "tests": "0a1b quick"}]}, {label(MUTANT): "Same value"}, {"retry": 3})
    assert ["retry: 2 of 3 mutants not tried"] == wrong
    assert "| retry | 3 | 1 | 0 | 0 | 1 | 0.0% | 1 |  |" in text
