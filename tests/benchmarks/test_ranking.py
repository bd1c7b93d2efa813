"""Who is first, by how much, and what is drawn of it."""

import pytest


@pytest.fixture
def page_section():
    """Import the module that fills a page."""
    import page_section

    return page_section


@pytest.fixture
def ranking():
    """The module, whose folder is on the path by now."""
    import ranking

    return ranking


def row_of(title="retry: success, sync", **ratios):
    """A row of contenders by their ratios: the middle alone, or low, middle and high. A nanosecond is a thousandth of it."""
    from report import Figure, Row, Spread

    spreads = {
        name: Spread(*ratio) if isinstance(ratio, tuple) else Spread(ratio, ratio, ratio) for name, ratio in ratios.items()
    }
    figures = (
        Figure(contender=name, against="kit", cost=Spread(each.low * 1000, each.mid * 1000, each.high * 1000), ratio=each)
        for name, each in spreads.items()
    )
    return Row(title=title, figures=tuple(figures))


def test_places_follow_the_medians(ranking):
    """Whoever does not take part gets no place and takes none; equals share one."""
    row = row_of(floor=0.2, kit=1.0, b=3.0, a=3.0, c=4.0)
    assert {"kit": 1, "a": 2, "b": 2, "c": 4} == ranking.places(row, {"floor"})


@pytest.mark.parametrize(
    ("rival", "place", "verdict"), [((1.1, 1.3, 1.5), 1, "first"), ((0.9, 1.1, 1.3), 1, "first by median"), (0.8, 2, "not first")]
)
def test_the_first_in_each_run_is_told_from_the_first_by_median(ranking, rival, place, verdict):
    """One run that another contender has won is enough to say so."""
    told = ranking.standing(row_of(kit=1.0, slow=9.0, rival=rival), "kit", ())
    assert (place, 3, "rival", verdict) == (told.place, told.of, told.nearest, told.verdict)


def test_any_contender_that_wins_a_run_counts(ranking):
    """The nearest by median need not be the one that was ahead once."""
    told = ranking.standing(row_of(kit=1.0, nearest=(1.1, 1.2, 1.3), wavering=(0.9, 1.5, 2.1)), "kit", ())
    assert ("nearest", False) == (told.nearest, told.always)


def test_nobody_is_first_alone(ranking):
    """A row without another contender says nothing of the kit."""
    with pytest.raises(ValueError, match="retry: success, sync: kit has nobody to be compared with"):
        ranking.standing(row_of(floor=0.2, kit=1.0), "kit", {"floor"})


def test_the_tables_name_place_ratio_and_spread(ranking):
    """A reader of the standings finds the fastest other; one of the costs, everybody in order."""
    row = row_of(slow=(2.0, 2.5, 3.0), kit=1.0, floor=0.25)
    standings = ranking.standings_table([ranking.standing(row, "kit", {"floor"})])
    assert "| retry: success, sync | 1 of 2 | slow | 2.500 | 2.000 - 3.000 | first |" == standings.splitlines()[-1]
    assert [
        "| floor |  | 250 | 250 - 250 | 0.250 | 0.250 - 0.250 |",
        "| kit | 1 | 1 000 | 1 000 - 1 000 | 1.000 | 1.000 - 1.000 |",
        "| slow | 2 | 2 500 | 2 000 - 3 000 | 2.500 | 2.000 - 3.000 |",
    ] == ranking.costs_table(row, {"floor"}).splitlines()[2:]


def test_a_page_is_filled_between_its_marks(page_section):
    """The text around the figures is the page's own, and filling twice changes nothing."""
    page = "before\n<!-- measured: costs -->\nold\nfigures\n<!-- end -->\nafter\n"
    once = page_section.filled(page, {"costs": "| a | b |"})
    assert (
        "before\n<!-- measured: costs -->\n| a | b |\n<!-- end -->\nafter\n"
        == once
        == page_section.filled(once, {"costs": "| a | b |"})
    )


def test_an_empty_part_of_a_page_is_filled_too(page_section):
    """A new page needs the marks alone."""
    page = "<!-- measured: costs -->\n\n<!-- end -->"
    assert "<!-- measured: costs -->\nnew\n<!-- end -->" == page_section.filled(page, {"costs": "new"})


def test_sync_and_async_share_a_panel(ranking):
    """A contender has one line with both of its ratios, the cheapest on the whole first; one that has no async form has one."""
    sync, both = row_of("both: fails once, sync", a=4.0, b=3.0, c=1.5), row_of("both: fails once, async", a=1.0, b=3.0)
    panel = ranking.panels([sync, both])["both: fails once"]
    assert ["c", "a", "b"] == list(panel)
    assert {"sync": 4.0, "async": 1.0} == {kind: ratio.mid for kind, ratio in panel["a"].items()}


def test_the_panels_of_a_job_stand_in_one_column(ranking):
    """What stands before the colon decides the column."""
    import plot

    titles = ("retry: success, sync", "retry: fails once, sync", "breaker: success, sync")
    panels = ranking.panels([row_of(title, kit=1.0) for title in titles])
    assert {"retry": ["success", "fails once"], "breaker": ["success"]} == {
        job: list(column) for job, column in plot.columns(panels).items()
    }
