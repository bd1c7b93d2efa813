"""Whether a row rises, and by how much."""

import random

import pytest

from resilience_kit.bench.measure.slopes import fall_probability, rise_probability, slope


def test_an_example_by_hand():
    """Ten numbers, 33 of 45 pairs rise: S = 21; no ties: var = 10 * 9 * 25 / 18 = 125; z = 20 / sqrt(125) = 1.789."""
    assert pytest.approx(0.03682, abs=1e-5) == rise_probability([1, 2, 4, 3, 6, 5, 8, 7, 12, 0])


def test_ties_make_the_variance_smaller():
    """Half zeros, half ones: S = 25, var = (2250 - 2 * 5 * 4 * 15) / 18 = 91.67."""
    assert pytest.approx(0.00609, abs=1e-4) == rise_probability([0] * 5 + [1] * 5)


@pytest.mark.parametrize("row", [[], [1], [2, 2, 2, 2]])
def test_what_cannot_rise_is_even(row):
    """No pair, or no difference in any."""
    assert (0.5, 0.5, 0.0) == (rise_probability(row), fall_probability(row), slope(row))


def test_a_fall_is_no_rise():
    """And the other way round."""
    assert (1.0, True) == (rise_probability(range(20, 0, -1)), fall_probability(range(20, 0, -1)) < 1e-6)


def test_noise_is_taken_for_a_trend_as_seldom_as_promised():
    """Of 2000 rows of noise about one in a hundred has a probability of at most 0.01."""
    draw = random.Random(5)
    found = sum(rise_probability([draw.random() for _ in range(20)]) <= 0.01 for _ in range(2000))
    assert 8 <= found <= 35


def test_wild_numbers_do_not_move_the_slope():
    """A quarter of the numbers are nonsense."""
    row = [3.0 * number for number in range(40)]
    row[::5] = [1e9] * 8
    assert pytest.approx(3.0, abs=0.1) == slope([3.0 * number for number in range(40)])
    assert 0.0 < slope(row) < 10.0
