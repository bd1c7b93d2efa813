"""The report of what a transport costs, from made-up figures; no server is started."""

import asyncio

import pytest


@pytest.fixture
def transport():
    """The program as a module."""
    import transport

    return transport


def rows_of(transport, ratio):
    """One kind of client, at 400 us a bare request."""
    taken = {transport.BARE: 400.0, transport.PLAIN: 404.0, transport.PACED: 400.0 * ratio}
    return [transport.Row("httpx.Client", taken, {transport.PLAIN: 1.01, transport.PACED: ratio})]


@pytest.mark.parametrize(("ratio", "code"), [(1.04, 0), (1.06, 1)])
def test_the_exit_code_tells_whether_the_goal_is_met(transport, monkeypatch, capsys, tmp_path, ratio, code):
    """Five percent is the limit; the page is written where it is wanted."""

    async def benchmark(*_):
        return rows_of(transport, ratio)

    monkeypatch.setattr(transport, "benchmark", benchmark)
    page = tmp_path / "page.md"
    page.write_text(f"before\n<!-- figures: {transport.PROGRAM} -->\nstale\n<!-- end of figures -->\n", encoding="utf-8")
    assert (code, 0) == (transport.main(["--check", "--write", str(page)]), transport.main(["--quick"]))
    row = f"| httpx.Client | 400 us | 404 us, +1.0 % | {400 * ratio:.0f} us, {(ratio - 1) * 100:+.1f} % |"
    assert row in page.read_text(encoding="utf-8").splitlines()
    assert row in capsys.readouterr().out


def test_contenders_take_turns(transport):
    """Each is first as often as the others, and compared with the bare one of its own round."""
    order = []

    def batch(name, seconds):
        async def run(number):
            order.append(name)
            return seconds * number

        return run

    batches = {transport.BARE: batch("a", 1.0), transport.PLAIN: batch("b", 1.1), transport.PACED: batch("c", 1.2)}
    row = asyncio.run(transport.measured("title", batches, transport.Scale(3, 2)))
    assert "abc" + "abc" + "bca" + "cab" == "".join(order)
    assert (2e6, {transport.PLAIN: 1.1, transport.PACED: 1.2}) == (row.microseconds[transport.BARE], pytest.approx(row.ratios))
