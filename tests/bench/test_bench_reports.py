"""One suite as text, JSON and a page that loads nothing."""

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest

from resilience_kit.bench import LeakReport, MemoryUse, PerformanceBenchmarker
from resilience_kit.bench.report.content import seconds, size
from resilience_kit.bench.report.plots import bars, histogram, trend_chart
from resilience_kit.errors import ConfigurationError

NASTY = '<script>alert("x")</script>&\x1b[31m'
USE = MemoryUse(calls=2, peak_bytes=4096, current_bytes=0, per_call_bytes=2048.0, kept_per_call_bytes=0.0, overhead=2.5)
LEAK = LeakReport(
    name=NASTY,
    leaks=True,
    bytes_per_call=1000.0,
    probability=0.0,
    calls=10,
    reason="still grows",
    rounds=(),
    readings=((0, 0), (5, 5000), (10, 10_000)),
)


@pytest.fixture
def full(bench, result, suite):
    """A suite with everything, and what a report takes beside it."""
    now = suite(
        result("quick", 1e-6, target=1e-3, memory=USE),
        result("slow", 2.0, target=1.0, warnings=("doubtful",)),
        result(NASTY, 1e-3),
        name=NASTY,
        environment={"python": NASTY},
    )
    before = suite(result("quick", 0.5e-6), result("gone"))
    return now, {
        "regressions": bench.detect_regressions(before, now),
        "trends": bench.analyze_performance_trends([before] * 3 + [now] * 4),
        "leaks": [LEAK],
    }


@pytest.mark.parametrize(
    ("value", "told"), [(0.0, "0 ns"), (1.5e-9, "1.5 ns"), (12.34e-6, "12.3 us"), (0.1, "100 ms"), (75.0, "75 s")]
)
def test_seconds_have_three_digits_and_a_unit(value, told):
    """From nanoseconds up."""
    assert told == seconds(value)


@pytest.mark.parametrize(("value", "told"), [(0, "0 B"), (-2048, "-2.0 KiB"), (1023, "1023 B"), (3 * 1024**2, "3.0 MiB")])
def test_sizes_have_a_unit(value, told):
    """Below zero, too."""
    assert told == size(value)


def test_the_text_tells_all(bench, full):
    """A headline, a line for each benchmark, remarks; nothing that a terminal would obey."""
    suite, more = full
    text = bench.generate_performance_report(suite, **more)
    lines = text.splitlines()
    assert lines[1].endswith("over their targets: slow")
    assert re.search(r"^quick +1 us +1 us +1 us +0 ns +0 +2.0 KiB +1 ms +1000x +pass$", text, re.MULTILINE)
    assert re.search(r"^slow +2 s .* over$", text, re.MULTILINE)
    for told in (
        "slow: doubtful",
        "tracking memory made calls 2.5 to 2.5 times slower; time was taken without it",
        "against the baseline: 1 of 1 figures have become worse",
        "quick: time 2.00 times the baseline's, slower (median 1 us, was 500 ns; this machine takes 1.00 times as long as",
        "gone: in the baseline only",
        "slow: not in the baseline",
        "gone: too few runs for a trend (3 of 4)",
        "still grows",
    ):
        assert told in text
    assert "\x1b" not in text


def test_a_bare_suite_has_no_remarks(bench, result, suite):
    """Three lines of head, a blank one, the table."""
    assert 6 == len(bench.generate_performance_report(suite(result())).splitlines())


def test_the_json_holds_what_the_suite_holds(bench, full):
    """And what was compared."""
    suite, more = full
    document = json.loads(bench.generate_performance_report(suite, "json", **more))
    assert json.loads(suite.to_json()) == {key: document[key] for key in suite.to_dict()}
    assert (True, "slower") == (
        document["regressions"]["comparisons"][0]["regressed"],
        document["trends"]["trends"][0]["verdict"],
    )
    assert 1000.0 == document["leaks"][0]["bytes_per_call"]
    assert suite.to_dict().keys() == json.loads(bench.generate_performance_report(suite, "json")).keys()


class Page(HTMLParser):
    """Every element, with what it refers to."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.references = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [value for name, value in attrs if name in {"src", "href", "xlink:href", "onload", "style"}]


def test_the_page_loads_nothing_and_runs_nothing(bench, full):
    """No script, no link, no address, and a policy that forbids them."""
    suite, more = full
    text = bench.generate_performance_report(suite, "html", **more)
    page = Page(text)
    assert ([], []) == (page.references, [tag for tag in page.tags if tag in {"script", "link", "img", "iframe", "object"}])
    assert "http" not in text.replace("http-equiv", "")
    assert "url(" not in text
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "default-src 'none'" in text


def test_the_page_has_its_plots(bench, full):
    """Targets, samples of each benchmark, trends, the leak; each well-formed."""
    suite, more = full
    plots = re.findall(r"<svg.*?</svg>", bench.generate_performance_report(suite, "html", **more), re.DOTALL)
    assert 1 + 3 + 4 + 1 == len(plots)
    assert all(ET.fromstring(plot.replace("\x1b", "")) is not None for plot in plots)


@pytest.mark.parametrize(
    "plot", [bars([]), histogram([]), trend_chart([]), histogram([(0.0, 3)]), trend_chart([(0, 0.0)]), trend_chart([(1, -5.0)])]
)
def test_plots_of_nothing_are_plots(plot):
    """Nothing is divided by zero."""
    assert "svg" == ET.fromstring(plot).tag


def test_no_time_at_all_has_no_bar(result):
    """A logarithm of zero is not asked for."""
    assert 'width="0.50"' in bars([result(median=0.0)])


def test_an_unknown_format_is_refused(bench, result, suite):
    """With the nearest name."""
    with pytest.raises(ConfigurationError, match=r"report.format: must be one of 'text', 'json', 'html'; did you mean 'html'\?"):
        bench.generate_performance_report(suite(result()), "htm")


def test_an_empty_suite_has_a_report(suite):
    """In every format."""
    bench = PerformanceBenchmarker()
    assert all(bench.generate_performance_report(suite(), each) for each in ("text", "json", "html"))
