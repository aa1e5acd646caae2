"""Test the geometry of the charts of the admin."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from pubsubcache.admin.charts import COLUMN, HEIGHT, LEAST, Chart, Series

START = datetime(2026, 3, 1, tzinfo=UTC)


def chart(*values: list[int], is_stacked: bool) -> Chart:
    series = [Series(f"series{place}", "things", numbers) for place, numbers in enumerate(values)]
    times = [START + timedelta(hours=hour) for hour in range(len(values[0]))]
    return Chart("id", "title", times, series, is_stacked=is_stacked)


@pytest.mark.parametrize("is_stacked", [True, False])
@pytest.mark.parametrize("values", [([0, 1, 10**9], [5, 0, 10**12]), ([1] * 24, [0] * 24), ([1, 2], [10**6, 10**6])])
def test_bars_stay_in_their_column_and_do_not_overlap(values: tuple[list[int], ...], is_stacked: bool) -> None:
    for place, column in enumerate(chart(*values, is_stacked=is_stacked).columns):
        boxes = [tuple(map(int, (bar.x, bar.y, bar.width, bar.height))) for bar in column.bars]
        assert len(boxes) == sum(bool(series[place]) for series in values)
        assert int(column.x) == place * COLUMN
        for x, y, width, height in boxes:
            assert place * COLUMN <= x < x + width <= (place + 1) * COLUMN
            assert 0 <= y < y + height <= HEIGHT
            assert height >= LEAST
        for one, other in pairwise(boxes):
            assert one[0] + one[2] <= other[0] or other[1] + other[3] <= one[1]


def test_a_chart_has_the_numbers_in_words_and_as_a_table() -> None:
    found = chart([1, 2000], [0, 5], is_stacked=True)
    assert "2,000 things, 5 things" in found.columns[1].title
    assert [numbers for _time, numbers in found.rows] == [["2,000", "5"], ["1", "0"]]
    assert found.top == "2,005"
    assert found.series[0].total == "2,001"


def test_a_chart_without_values_has_no_bars() -> None:
    found = chart([0, 0], is_stacked=False)
    assert not found.has_values
    assert all(column.bars == [] for column in found.columns)
